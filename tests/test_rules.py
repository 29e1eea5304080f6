"""Update rules: every executor gives the definition's bits; every rule is covered by the registry."""

import inspect

import naive
import numpy as np
import pytest

import microgradx as mg
from microgradx.errors import ArgumentError, DTypeError, KernelError, ShapeError
from microgradx.kernels import cpu, sweep, thread_pool
from microgradx.kernels.loop_source import RuleLoop
from microgradx.rules import Rule, rule, rules
from microgradx.scalars import Elementwise, sign, sqrt, where

every_rule = pytest.mark.parametrize("rule", rules.values(), ids=lambda rule: rule.name)
STEPS, SIZE = 1000, 200  # more elements than one piece of a parallel sweep


def gradients(dtype=np.float32, steps=STEPS, size=SIZE):
    """Random gradients of many scales, some zero and some so small that their squares underflow."""
    rng = np.random.default_rng(7)
    scale = 10.0 ** rng.integers(-30, 3, size)
    scale[: size // 2] = 1
    g = rng.standard_normal((steps, size)) * scale
    g[rng.random((steps, size)) < 0.05] = 0
    return g.astype(dtype)


def start(rule, dtype=np.float32, size=SIZE):
    p = np.random.default_rng(3).standard_normal(size).astype(dtype)
    return p, [np.zeros(size, dtype) for _ in rule.state]


def run_sweep(rule, update, dtype=np.float32, steps=STEPS):
    p, state = start(rule, dtype)
    g, carried = np.empty_like(p), ()
    for t, new in enumerate(gradients(dtype, steps), 1):
        g[:] = new
        carried = update(p, g, *state, t=t, carried=carried)
    return [p, *state]


def run_definition(rule, which, dtype=np.float32, steps=STEPS):
    """The rule called with arrays or scalars, state flushed as every executor does."""
    p, state = start(rule, dtype)
    p, state = p[which], [s[which] for s in state]
    carried = [0.0] * len(rule.carried)
    tiny, zero = np.finfo(dtype).tiny, dtype(0)
    for t, g in enumerate(gradients(dtype, steps), 1):
        results = rule(p, g[which], *state, t, *carried)
        p, *rest = results if isinstance(results, tuple) else (results,)
        state = [np.where(np.abs(s) < tiny, zero, s)[()] for s in rest[: len(state)]]
        carried = rest[len(state) :]
    return [p, *state]


def assert_same_bits(got, wanted, what):
    for name, a, b in zip(("p", "first state", "second state", "third", "fourth"), got, wanted, strict=False):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype, f"{what}: {name} is {a.dtype}"
        np.testing.assert_array_equal(a, b, err_msg=f"{what}: {name}")


@pytest.fixture
def threads():
    yield thread_pool.set_threads
    thread_pool.set_threads(thread_pool.cores())


@every_rule
def test_same_bits_from_every_executor(rule, threads, monkeypatch):
    threads(1)
    serial = run_sweep(rule, sweep(rule, np.float32))

    p, _ = start(rule)
    memory: dict = {}
    with np.errstate(under="ignore"):
        for t, g in enumerate(gradients(), 1):
            p = getattr(naive, rule.name)(p, g, t, memory)
            naive.flush(memory)
    assert_same_bits(serial, [p, *(memory[name] for name in rule.state)], "the NumPy oracle")

    wanted = [a[:1] for a in serial]
    assert_same_bits([np.atleast_1d(x) for x in run_definition(rule, 0)], wanted, "plain numbers")

    threads(3)
    monkeypatch.setattr(cpu, "alone", 0)
    assert_same_bits(run_sweep(rule, sweep(rule, np.float32)), serial, "three threads")


@every_rule
def test_float64_matches_the_definition(rule):
    compiled = run_sweep(rule, sweep(rule, np.float64), np.float64, steps=100)
    assert_same_bits(compiled, run_definition(rule, slice(None), np.float64, steps=100), "float64")


def test_the_oracle_has_a_row_for_every_rule():
    assert [name for name in rules if not hasattr(naive, name)] == []


@pytest.mark.parametrize("decay", [None, "l2", "decoupled"])
@pytest.mark.parametrize("maximize", [False, True])
def test_maximize_and_decay_come_before_the_rule(maximize, decay):
    adam = rules["adam"]
    p, (m, v) = start(adam)
    wanted, memory = p.copy(), {}
    update = sweep(adam, np.float32, maximize=maximize, decay=decay)
    for t, g in enumerate(gradients(steps=20), 1):
        update(p, g.copy(), m, v, t=t, **({"weight_decay": 0.1} if decay else {}))
        g = -g if maximize else g
        if decay == "l2":
            g = g + 0.1 * wanted
        elif decay == "decoupled":
            wanted = wanted * (1 - 1e-3 * 0.1)
        wanted = naive.adam(wanted, g, t, memory)
        naive.flush(memory)
    assert_same_bits([p], [wanted], "adam")


@every_rule
@pytest.mark.parametrize("decay", ["l2", "decoupled"])
def test_the_names_of_a_decay_are_in_no_rules_way(rule, decay):
    if "weight_decay" not in rule.hyperparameters:
        assert "weight_decay" in RuleLoop(rule, "float32", (decay,)).once_text()


@every_rule
def test_state_never_holds_denormal_numbers(rule):
    p, state = start(rule, size=64)
    g, carried = np.full_like(p, 1e-3), ()
    update = sweep(rule, np.float32)
    for t in range(1, 1500):
        carried = update(p, g, *state, t=t, carried=carried)
        g *= np.float32(0.9)  # itself denormal in the end
    for name, values in zip(rule.state, state, strict=True):
        assert not np.any((values != 0) & (np.abs(values) < np.finfo(np.float32).tiny)), name


@pytest.mark.parametrize("rule", [r for r in rules.values() if r.name != "adafactor"], ids=lambda r: r.name)
def test_a_nan_gradient_stays_visible(rule):  # Adafactor takes the gradient beside its rule
    p, state = start(rule, size=8)
    g = np.ones_like(p)
    g[3] = np.nan
    carried = sweep(rule, np.float32)(p, g, *state, t=1)
    sweep(rule, np.float32)(p, g, *state, t=2, carried=carried)
    assert np.isnan(np.stack([p, *state])).any(axis=0).tolist() == [i == 3 for i in range(8)]


def test_a_late_step_is_corrected_in_float64():
    p, g, m, v = (np.ones(1, np.float32) for _ in range(4))
    sweep(rules["adam"], np.float32)(p, g, m, v, t=10**6, lr=0.5, beta2=0.999999)
    factor = np.float32(1 - 0.999999**1e6)
    assert p[0] == np.float32(1) - np.float32(0.5) / (np.sqrt(1 / factor) + np.float32(1e-8))


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_an_empty_array_is_no_work(name):
    assert (
        sweep(rules[name], np.float32)(*[np.empty(0, np.float32)] * (2 + len(rules[name].state)), t=1) == ()
    )


@every_rule
def test_the_text_is_the_rule_and_is_python(rule):
    source = sweep(rule, np.float32).source
    names: dict = {}
    exec(compile(source, rule.name, "exec"), names)
    assert inspect.cleandoc(rule.__doc__).splitlines()[0] in names["__doc__"]
    assert set(inspect.signature(names["sweep"]).parameters) >= {"start", "stop", "ps", "gs"}
    assert "float64" not in source.replace("in float64", "")
    assert all(len(line) <= 110 for line in source.splitlines())


@every_rule
def test_a_rule_says_what_it_does_with_an_equation(rule):
    doc = inspect.getdoc(rule)
    assert ". " in doc or ".\n" in doc or ":" in doc
    assert "←" in doc
    assert len(inspect.getsource(rule.function).splitlines()) <= 22


# A rule of one's own


def test_a_rule_of_ones_own_may_use_numbers_and_functions_from_outside():
    scale = 0.5

    def mine(p, g, m, /, t, steps, lr=1e-2):
        """p ← p - ½ lr √|m|"""
        steps = steps + 1
        m = where(steps > 1, m + g, g)
        return p - scale * lr * sqrt(abs(m)), m, steps

    p, g, m = (np.full(5, value, np.float32) for value in (1, 4, 0))
    update = sweep(Rule(mine), np.float32)
    carried = update(p, g, m, t=1)
    carried = update(p, g, m, t=2, carried=carried)
    assert carried == (2.0,)
    assert m.tolist() == [8] * 5
    step = [np.float32(0.5 * 1e-2) * np.sqrt(np.float32(size)) for size in (4, 8)]
    assert p[0] == np.float32(1) - step[0] - step[1]
    assert "float32(0.5)" in update.source or "scale * lr" in update.source


def test_any_docstring_and_several_statements_can_be_written_out():
    def inner(x, power=2.0):
        """(x / 2) to a power"""
        half = x / 2
        return half**power

    bent = Elementwise(inner)

    def odd(p, g, /, t, lr=1e-2):
        r'''p \ and three """ of them'''
        return p - bent(g, power=3) - bent(g)

    p, g = np.zeros(2, np.float32), np.full(2, 4, np.float32)
    update = sweep(Rule(odd), np.float32)
    update(p, g, t=1)
    assert p.tolist() == [-12, -12]
    assert r"p \\ and three ''' of them" in update.source
    assert "half = x / float32(2)" in update.source


def test_declaring_a_rule_puts_it_into_the_registry():
    @rule
    def halves(p, g, /, t):
        """p ← p / 2"""
        return p / 2

    assert rules.pop("halves") is halves
    assert halves(8.0, 0.0, t=1) == 4.0
    assert repr(halves) == "<rule halves(p, g, /, t)>"


def no_slash(p, g, t, lr=1e-3):
    return p - lr * g


def carries_without_t(p, g, /, c, lr=1e-3):
    return p - lr * g, c


def t_from_outside(p, g, /, lr=1e-3):
    return p - lr * g / t


t = 3.0


@pytest.mark.parametrize("function", [carries_without_t, t_from_outside, no_slash])
def test_a_signature_that_is_not_a_rules(function):
    with pytest.raises(KernelError, match="parameters must be p, g and the state, then `/`, then t"):
        Rule(function)


def loops(p, g, /, t):
    for _ in range(3):
        p = p - g
    return p


def prints(p, g, /, t):
    return print(p - g)


def text(p, g, /, t):
    return p - g * kind


def too_few(p, g, m, /, t):
    return p - g


def twice(p, g, /, t, lr=1e-3):
    p = p - lr * g
    lr = 2 * t
    return p - lr * g


def per_element(p, g, /, t, lr=1e-3):
    lr = lr * g
    return p - lr


def taken(p, g, /, t):
    start = 2 * g
    return p - start


def branches(p, g, /, t, lr=0.1):
    if g > 0:
        return p - lr
    return p + lr


kind = "text"
refusals = {
    loops: "only `name = expression`.",
    branches: r"only `name = expression`, and where\(condition, a, b\) instead of if",
    prints: r"`print\(p - g\)` cannot be compiled; it may call elementwise functions",
    text: "`kind` cannot be compiled; it may use its parameters, numbers",
    too_few: "it must return the new p, m",
    twice: "`lr` has been used per element: rename this",
    per_element: "`lr` is the same for all elements: rename this",
    taken: "start: these names are taken by the loop",
}


@pytest.mark.parametrize("function", refusals, ids=lambda f: f.__name__)
def test_a_body_that_cannot_be_compiled_says_which_line_and_what_to_do(function):
    with pytest.raises(KernelError, match=f"(?s){function.__name__}: .*{refusals[function]}"):
        sweep(Rule(function), np.float32)


def test_a_lambda_is_told_to_be_a_definition():
    with pytest.raises(KernelError, match=r"a lambda has no name .* write a definition"):
        sweep(Rule(lambda p, g, /, t, lr=0.1: p - lr * g), np.float32)


def test_a_definition_without_source_says_where_to_put_it():
    names: dict = {}
    exec("def typed(p, g, /, t):\n    return p - g", names)
    with pytest.raises(
        KernelError, match="typed: its source text cannot be read.*Put the definition into a file"
    ):
        sweep(Rule(names["typed"]), np.float32)


def test_a_file_that_changed_under_a_running_process_is_noticed(tmp_path, monkeypatch):
    path = tmp_path / "moving.py"
    path.write_text("def moving(p, g, /, t):\n    return p - g\n")
    monkeypatch.syspath_prepend(tmp_path)
    import moving

    path.write_text("def moving(p, g, /, t):\n    return p + g\n")
    with pytest.raises(KernelError, match="moving: its file has changed since it was imported"):
        sweep(Rule(moving.moving), np.float32)


# What a sweep is called with


def call(*arrays, **keywords):
    return sweep(rules["momentum"], np.float32)(*arrays, t=1, **keywords)


def test_arguments_that_do_not_fit_are_refused():
    a = np.zeros(4, np.float32)
    with pytest.raises(ArgumentError, match="momentum: takes the arrays p, g, m; 2 were given"):
        call(a, a)
    with pytest.raises(DTypeError, match="momentum: g is float64; this sweep is for float32"):
        call(a, a.astype(float), a)
    with pytest.raises(ShapeError, match=r"1-D arrays of one size, not p \(4,\), g \(3,\), m \(4,\)"):
        call(a, a[:3], a)
    with pytest.raises(ArgumentError, match="momentum: m must be contiguous and writeable; copy it first"):
        call(a, a, np.zeros(8, np.float32)[::2])
    with pytest.raises(
        ArgumentError, match=r"rule momentum\(p, .*: no step with t=1, {'gamma': 0.9}: .*gamma"
    ):
        call(a, a, a, gamma=0.9)
    with pytest.raises(DTypeError, match="parameters are int64; a sweep is made for float32 and float64"):
        sweep(rules["sgd"], np.int64)
    with pytest.raises(ArgumentError, match="decay 'l1': the kinds are None, 'l2' and 'decoupled'"):
        sweep(rules["sgd"], np.float32, decay="l1")
    with pytest.raises(ArgumentError, match="adamw has a weight decay of its own; leave out decay='l2'"):
        sweep(rules["adamw"], np.float32, decay="l2")
    with pytest.raises(ArgumentError, match="muon has no lr, which decoupled weight decay is scaled by"):
        sweep(rules["muon"], np.float32, decay="decoupled")
    with pytest.raises(ArgumentError, match="device 'tpu': the devices are 'cpu' and 'cuda'"):
        sweep(rules["sgd"], np.float32, device="tpu")


def test_functions_may_be_called_by_the_name_of_the_package():
    @rule
    def by_package(p, g, v, /, t, lr=0.1, beta=0.9):
        v = beta * v + (1 - beta) * g * g
        return p - lr / mg.sqrt(1 - beta**t) * mg.sign(g) * mg.sqrt(v), v

    @rule
    def by_name(p, g, v, /, t, lr=0.1, beta=0.9):
        v = beta * v + (1 - beta) * g * g
        return p - lr / sqrt(1 - beta**t) * sign(g) * sqrt(v), v

    results = []
    for same in (by_package, by_name):
        p, g, v = (np.linspace(-1, 1, 7, dtype=np.float32) for _ in range(3))
        v *= v
        sweep(same, np.float32)(p, g, v, t=3)
        results.append(p)
    np.testing.assert_array_equal(*results)
    assert rules.pop("by_package") and rules.pop("by_name")  # as it was


def test_a_whole_power_is_machine_code_of_its_own():
    @mg.rule
    def squaring(p, g, /, lr=0.5):
        """p ← p - lr · g²"""
        return p - lr * g**2

    rules.pop("squaring")
    p, g = np.ones(5, np.float32), np.full(5, 3, np.float32)
    sweep(squaring, "float32")(p, g, t=1)
    np.testing.assert_array_equal(p, -3.5)
