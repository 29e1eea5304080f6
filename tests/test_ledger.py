"""The ledger of an optimizer: what it writes down is what happened, to the bit, for every rule."""

import csv
import math
import sys
from contextlib import nullcontext

import naive
import numpy as np
import pytest

import microgradx as mg
from microgradx import data, nn, optim
from microgradx.compiler.run.ledger_outputs import readable
from microgradx.errors import ArgumentError
from microgradx.optim.ledgers.equations import HAT, equation, written
from microgradx.rules import rule, rules
from microgradx.training.step import training_step

every_rule = pytest.mark.parametrize("rule", rules.values(), ids=lambda rule: rule.name)
STEPS = 7


@pytest.fixture
def added():
    """Rules that a test declares are forgotten after it."""
    before = dict(rules)
    yield
    rules.clear()
    rules.update(before)


def parameters(dtype=np.float32):
    draw = np.random.default_rng(3)
    shapes = {"w": (6, 4), "b": (4,)}
    return {n: mg.tensor(draw.standard_normal(s), dtype, requires_grad=True) for n, s in shapes.items()}


def train(optimizer, tensors, steps=STEPS, each=lambda: None):
    """Steps with gradients of many scales; each is called before a step."""
    draw = np.random.default_rng(5)
    for _ in range(steps):
        for t in tensors.values():
            t.grad = mg.tensor(draw.standard_normal(t.shape) * 10.0 ** draw.integers(-3, 2, t.shape), t.dtype)
        each()
        optimizer.step()


# What is written down


@every_rule
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "maximize": True}], ids=["plain", "decay"])
def test_every_rule_is_written_down_as_it_happened(rule, options):
    if "weight_decay" in rule.hyperparameters:
        options = {k: v for k, v in options.items() if k != "weight_decay"}
    tensors, seen = parameters(), []
    optimizer = optim.Optimizer(tensors.items(), rule, **options)

    def look():
        state = {n: optimizer.state["w"][n].copy() for n in rule.state}
        seen.append({"p": tensors["w"].numpy().copy(), "g": tensors["w"].grad.numpy().copy()} | state)

    with optim.ledger(optimizer, watch={"w": ...}) as log:
        train(optimizer, tensors, each=look)
    look()
    account = log["w"]
    assert account.t.tolist() == list(range(1, STEPS + 1))
    for i in range(STEPS):
        now, then = seen[i], seen[i + 1]
        np.testing.assert_array_equal(account["p"][i], now["p"].ravel())
        np.testing.assert_array_equal(account["g"][i], now["g"].ravel())
        np.testing.assert_array_equal(account["update"][i], (then["p"] - now["p"]).ravel())
        for name in rule.state:  # computed from the rule's lines, with the bits of the compiled sweep
            np.testing.assert_array_equal(account[name][i], then[name].ravel(), name)
    for i in (0, STEPS - 1):
        p = account.records[i].trace(5)[len(account.records[i].equation.lines)][2]
        assert p == seen[i + 1]["p"].ravel()[5]
    text = account.explain((1, 1))
    assert f"w[1, 1] in step {STEPS} of {rule.name}" in text and "update" in text


def test_corrected_moments_rate_and_ratio_are_those_of_the_paper():
    tensors = parameters()
    optimizer = optim.Adam(tensors.items(), lr=0.01)
    start = tensors["w"].numpy().astype(np.float64)
    with optim.ledger(optimizer, watch="w") as log:
        train(optimizer, tensors)
    w = log["w"]
    g = w["g"].astype(np.float64)
    m = v = 0
    for i, t in enumerate(w.t):
        m, v = 0.9 * m + 0.1 * g[i], 0.999 * v + 0.001 * g[i] ** 2
        m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.999**t)
        np.testing.assert_allclose(w["m_hat"][i], m_hat, 1e-3, 1e-7)
        np.testing.assert_allclose(w["v_hat"][i], v_hat, 1e-4)
        np.testing.assert_allclose(w["effective_lr"][i], 0.01 / (np.sqrt(v_hat) + 1e-8), 1e-4)
        np.testing.assert_allclose(w["direction"][i], m_hat, 1e-3, 1e-7)
    np.testing.assert_allclose(w["ratio"][0], np.abs(w["update"][0] / start.ravel()), 1e-5)
    p, memory = start, {}
    for i in range(STEPS):
        np.testing.assert_allclose(w["p"][i], p.ravel(), 1e-3, 1e-5)
        p = p - 10 * (p - naive.adam(p, g[i].reshape(p.shape), i + 1, memory))  # naive's lr is 0.001


RATES = {
    "sgd": "lr", "momentum": "lr", "sgd_nesterov": "lr", "rprop": "step", "lion": "lr", "adadelta": "lr",
    "adagrad": "rate / (√s + ε)", "rmsprop": "lr / (√v + ε)", "rmsprop_eps_inside": "lr / √(v + ε)",
    "adam": "lr / (√v̂ + ε)", "adamw": "lr / (√v̂ + ε)", "adamax": "rate / u", "radam": "lr · scale",
    "amsgrad": "lr / (√v̂_max + ε)", "nadam": "lr / (√v̂ + ε)", "heavy_ball": None, "lars": None, "lamb": None,
    "asgd": "η",
}  # fmt: skip


@pytest.mark.parametrize("name", RATES)
def test_the_effective_rate_is_read_from_the_last_line(name):
    found = equation(rules[name])
    assert (found.rate and written(found.rate.expression, found.symbol)) == RATES[name]


def test_a_rate_that_cannot_be_read_is_that_of_plain_descent():
    tensors = parameters()
    optimizer = optim.Optimizer(tensors.items(), rules["heavy_ball"])
    with optim.ledger(optimizer) as log:
        train(optimizer, tensors)
    w = log["w"]
    np.testing.assert_allclose(w["effective_lr"] * w["g"], -w["update"], 1e-5)


def test_a_users_own_rule_with_an_if_and_math_is_written_down(added):
    @rule
    def cautious(p, g, m, /, t, lr=1e-2, beta=0.9):
        """Steps only where the mean agrees with the gradient."""
        m = beta * m + (1 - beta) * g
        size = math.exp(-abs(m))
        step = m if m * g > 0 else 0 * m
        return p - lr * step * size, m

    tensors = parameters(np.float64)
    optimizer = optim.Optimizer(tensors.items(), cautious)
    with optim.ledger(optimizer, watch="b") as log:
        train(optimizer, tensors)
    b = log["b"]
    np.testing.assert_allclose(b["step"], np.where(b["m"] * b["g"] > 0, b["m"], 0))
    np.testing.assert_allclose(b["p"][-1] + b["update"][-1], tensors["b"].numpy(), 1e-12)
    assert "step ← m if m · g > 0 else 0 · m" in b.explain(0)


def test_what_the_layer_decides_is_written_down():
    tensors = parameters()
    optimizer = optim.LARS([tensors["w"]], lr=0.1)
    with optim.ledger(optimizer) as log:
        train(optimizer, tensors, 1)
    assert 0 < log["0"].records[0].known["trust"] < 1
    muon = optim.Muon([("w", tensors["w"])])
    with optim.ledger(muon) as log:
        train(muon, tensors, 1)
    assert "as the optimizer moves the whole parameter" in log["w"].explain()


def test_a_schedule_shows_in_the_steps():
    tensors = parameters()
    optimizer = optim.Adam(tensors.items(), lr=0.1)
    schedule = optim.StepLR(optimizer, 2)
    with optim.ledger(optimizer, watch={"b": 1}) as log:
        train(optimizer, tensors, 3, schedule.step)
    assert [record.known["lr"] for record in log["b"].records] == [0.1, 0.1 * 0.1, 0.1 * 0.1]


def test_a_parameter_without_a_gradient_keeps_its_own_count():
    tensors = parameters()
    optimizer = optim.Adam(tensors.items())
    with optim.ledger(optimizer) as log:
        train(optimizer, tensors, 2)
        optimizer.zero_grad()
        tensors["w"].grad = mg.ones(6, 4)
        optimizer.step()
    assert log["w"].t.tolist() == [1, 2, 3] and log["b"].t.tolist() == [1, 2]


def test_many_steps_fill_many_blocks_of_memory(monkeypatch):
    monkeypatch.setattr("microgradx.optim.ledgers.ledger.BLOCK", 1000)  # two steps of 5 rows of 20 numbers
    tensors = parameters()
    optimizer = optim.Adam(tensors.items())
    with optim.ledger(optimizer, watch=20) as log:
        train(optimizer, tensors)
    assert len({id(block.numbers.base) for block in log.pages[0].blocks}) == 4
    w = log["w"]
    np.testing.assert_array_equal(w["p"][:-1] + w["update"][:-1], w["p"][1:])


def test_every_and_the_end_of_the_block():
    tensors = parameters()
    optimizer = optim.SGD(tensors.items())
    with optim.ledger(optimizer, every=3) as log:
        train(optimizer, tensors)
    train(optimizer, tensors)
    assert log["w"].t.tolist() == [1, 4, 7] and optimizer.ledgers == []


# What to watch


@pytest.mark.parametrize(
    "watch, found",
    [
        (5, {"w": [0, 7, 14, 20], "b": [3]}),
        (1000, {"w": range(24), "b": range(4)}),
        ("b", {"b": range(4)}),
        (["b", "w"], {"w": range(24), "b": range(4)}),
        ("*", {"w": range(24), "b": range(4)}),
        ({"w": (2, 3)}, {"w": [11]}),
        ({"w": [(0, 0), (-1, -1)], "b": [1, 2]}, {"w": [0, 23], "b": [1, 2]}),
        ({"w": np.s_[1:3, 0]}, {"w": [4, 8]}),
        ({"b": np.array([True, False, False, True])}, {"b": [0, 3]}),
    ],
)
def test_what_can_be_watched(watch, found):
    log = optim.ledger(optim.SGD(parameters().items()), watch=watch)
    places = {n: [np.ravel_multi_index(i, one.shape) for i in one.indices] for n, one in log.accounts.items()}
    assert places == {name: list(which) for name, which in found.items()}


# Compiled steps


def compiled(zero_first=True, make=optim.Adam):
    mg.seed(1)
    model = nn.MLP([64, 8, 10])
    optimizer = make(model.named_parameters(), lr=1e-2)

    @mg.jit
    def step(x, y):
        if zero_first:
            optimizer.zero_grad()
        loss = nn.cross_entropy(model(x), y)
        loss.backward()
        optim.clip_grad_norm_(optimizer, 0.5)
        optimizer.step()
        if not zero_first:
            optimizer.zero_grad()
        return loss

    return model, optimizer, step


@pytest.mark.interpreted
@pytest.mark.parametrize("make", [optim.Adam, optim.LARS], ids=lambda make: make.__name__)
@pytest.mark.parametrize("zero_first", [True, False], ids=["gradients stay", "gradients go"])
def test_a_compiled_scan_is_written_down(zero_first, make):
    (x, y), _ = data.digits()
    x, y = x[:100], y[:100]  # three batches of 32, and a rest
    plain, _, step = compiled(zero_first, make)
    losses = step.scan(x, y, batch_size=32).numpy()
    model, optimizer, step = compiled(zero_first, make)
    with optim.ledger(optimizer) as log:
        watched = step.scan(x, y, batch_size=32).numpy()
        step(x[:32], y[:32])
    assert log["0.weight"].t.tolist() == [1, 2, 3, 4, 5]
    alone = zero_first and make is optim.Adam  # the others run line by line
    assert readable(step.variant.captured) == alone
    np.testing.assert_allclose(watched, losses, 1e-5)
    for one in log.accounts.values():
        np.testing.assert_array_equal(one["p"][:-1] + one["update"][:-1], one["p"][1:])
        for record in one.records:  # the rule makes what happened of what was read: g, too, is right
            p = [record.trace(i)[len(record.equation.lines)][2] for i in range(3)]
            np.testing.assert_allclose(p, record.numbers[-1, :3], 1e-6, 1e-9)
    step.scan(x, y, batch_size=32)
    assert log.steps == 5


OPTIMIZERS = {
    "momentum": lambda p: optim.SGD(p.items(), lr=0.1, momentum=0.9),
    "adam": lambda p: optim.Adam(p.items(), lr=0.1),
    "adamw": lambda p: optim.AdamW(p.items(), lr=0.1, weight_decay=0.1),
    "nadam": lambda p: optim.NAdam(p.items(), lr=0.1),  # carries a number from step to step
    "centered": lambda p: optim.RMSprop(p.items(), lr=0.1, centered=True, momentum=0.9),
    "groups": lambda p: optim.Adam([{"params": [("w", p["w"])]}, {"params": [("b", p["b"])], "lr": 0.1}]),
}


def run(way, make, dtype=np.float32, last=2, watch=1000, **options):
    """Eleven steps whose gradients are the data, to the bit however they run; the last label may be wrong."""
    tensors, draw = parameters(dtype), np.random.default_rng(5)
    optimizer = make(tensors)
    schedule = optim.StepLR(optimizer, 4, 0.5)
    table = mg.tensor([1.0, 2.0, 3.0], dtype)
    x, z = (draw.standard_normal((12, *t.shape)).astype(dtype) for t in tensors.values())
    y = np.array([0, 1, 2] * 3 + [1, last, 0])

    @mg.jit
    def step(x, z, y):
        optimizer.zero_grad()
        ((tensors["w"] * x[0]).sum() + (tensors["b"] * z[0]).sum() + table[y].sum()).backward()
        optimizer.step()
        schedule.step()
        return table[y]

    with optim.ledger(optimizer, watch, **options) as log:
        try:
            if way == "scan":
                found = step.scan(x, z, y, batch_size=1)
                assert found.shape == (12, 1)
            else:
                for k in range(12):
                    one = step if way == "calls" else step.function
                    one(*(mg.tensor(a[k : k + 1]) for a in (x, z, y)))
        except ArgumentError:
            assert last == 3
    return log, optimizer.state_dict(), {name: t.numpy() for name, t in tensors.items()}


def same(one, other):
    """Whether ledgers, states and weights have the same bits."""
    for log, wanted in zip(one[0].accounts.values(), other[0].accounts.values(), strict=True):
        assert [x.known for x in log.records] == [x.known for x in wanted.records]
        for record, then in zip(log.records, wanted.records, strict=True):
            np.testing.assert_array_equal(record.numbers, then.numbers)
    assert one[0].steps == other[0].steps
    np.testing.assert_equal(one[1:], other[1:])


@pytest.mark.interpreted(but=("adam-all", "nadam-float64", "groups-a label out of range"))
@pytest.mark.parametrize("options", [{}, {"every": 3}, {"last": 3}, {"dtype": np.float64}],
                         ids=["all", "every third", "a label out of range", "float64"])  # fmt: skip
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_scan_writes_down_what_single_steps_do(make, options):
    wanted = run("line by line", make, **options)
    assert len(wanted[0]["w"].t) == {"every": 4, "last": 10}.get(next(iter(options), ""), 12)
    for way in ("scan", "calls"):
        same(run(way, make, **options), wanted)


def test_a_long_scan_fills_many_blocks_of_memory(monkeypatch):
    wanted = run("line by line", optim_adam := OPTIMIZERS["adam"])
    monkeypatch.setattr("microgradx.optim.ledgers.ledger.BLOCK", 2000)  # three steps of 5 rows of 28 numbers
    for every in (1, 5):
        log, *_ = found = run("scan", optim_adam, every=every)
        blocks = log.pages[0].blocks
        if every == 1:
            same(found, wanted)
            assert [len(block.numbers) for block in blocks] == [3, 3, 3, 3]
        else:  # what is not due is not kept
            assert [block.numbers.base for block in blocks] == [None] * len(blocks)
            assert log["w"].t.tolist() == [1, 6, 11]


def test_training_has_the_same_bits_with_a_ledger_as_without():
    (x, y), _ = data.digits()

    def train(watch):
        mg.seed(1)
        model = nn.MLP([64, 128, 10])
        optimizer = optim.Adam(model.named_parameters())

        step = mg.jit(training_step(model, optimizer))

        with optim.ledger(optimizer, watch) if watch else nullcontext():
            losses = step.scan(x[:1000], y[:1000], batch_size=128)
        return losses.numpy(), model.state_dict(), optimizer.state_dict()

    np.testing.assert_equal(train(500), train(0))


@pytest.mark.interpreted
def test_ledgers_come_and_go_without_compiling_again():
    (x, y), _ = data.digits()
    _, optimizer, step = compiled()
    step(x[:32], y[:32])
    plain, source = step.variant, step.source
    indices = (1, 1), (20, 3), np.s_[20:23, 3]
    logs = [optim.ledger(optimizer, watch={"0.weight": index}) for index in indices]
    for log in [*logs, *logs]:
        with log:
            step.scan(x[:64], y[:64], batch_size=32)
    assert len(plain.twins) == 2  # one number, and three: where they are, a program need not know
    assert "ledger[step, 0, i] = " in step.source
    with logs[0], logs[1], logs[2]:
        assert step.scan(x[:64], y[:64], batch_size=32).shape == (2,)
    step(x[:32], y[:32])
    assert (step.variant, step.source) == (plain, source) and sum(map(len, step.variants.values())) == 1
    first, second, three = (log["0.weight"] for log in logs)
    assert first.t.tolist() == [2, 3, 8, 9, 14, 15] and three.t.tolist() == [6, 7, 12, 13, 14, 15]
    np.testing.assert_array_equal(three["g"][-2:, 0], second["g"][-2:, 0])


def test_two_optimizers_of_a_step_have_ledgers_of_their_own():
    def run(way):
        tensors = parameters()
        one, two = optim.Adam([("w", tensors["w"])]), optim.SGD([("b", tensors["b"])], momentum=0.9)

        def step(x):
            one.zero_grad()
            two.zero_grad()
            (tensors["w"] * x[0, 0] + tensors["b"] * x[0, 1]).sum().backward()
            one.step()
            two.step()

        x = np.arange(20, dtype=np.float32).reshape(10, 2)
        with optim.ledger(one) as log, optim.ledger(two, every=2) as other, optim.ledger(two, 2) as third:
            way(step)(x)
        return [log["w"], other["b"], third["b"]]

    def scanned(step):
        return lambda x: mg.jit(step).scan(x, batch_size=1)

    def each(step):
        return lambda x: [step(mg.tensor(x[k : k + 1])) for k in range(len(x))]

    for found, wanted in zip(run(scanned), run(each), strict=True):
        assert found.t.tolist() == wanted.t.tolist()
        for name in wanted.names:
            np.testing.assert_array_equal(found[name], wanted[name])


def test_an_optimizer_that_steps_twice_runs_line_by_line():
    w, b = (tensors := parameters()).values()
    optimizer = optim.Adam(tensors.items())

    @mg.jit
    def step(x):
        optimizer.zero_grad()
        (w * x[0]).sum().backward()
        optimizer.step()
        g, w.grad = w.grad, None
        (b * x[0]).sum().backward()
        optimizer.step()
        w.grad = g

    with optim.ledger(optimizer) as log:
        step.scan(np.ones((3, 1), np.float32), batch_size=1)
    assert not readable(step.variant.captured) and log.steps == 6 and log["b"].t.tolist() == [1, 2, 3]


@pytest.mark.parametrize("change", ["weights before", "weights after", "gradients after"])
def test_a_compiled_step_that_changes_things_around_the_rule_runs_line_by_line(change):
    (x, y), _ = data.digits()
    x, y = mg.tensor(x[:32]), y[:32]

    def run(way):
        mg.seed(1)
        model = nn.MLP([64, 4, 10])
        w, optimizer = model[0].weight, optim.Adam(model.named_parameters(), lr=1e-2)

        def step(x, y):
            optimizer.zero_grad()
            nn.cross_entropy(model(x), y).backward()
            if change == "weights before":
                w.data = w.detach() * 0.9
            optimizer.step()
            if change == "weights after":
                w.data = w.detach() * 0.9
            if change == "gradients after":
                w.grad = w.grad * 2

        step = way(step)
        with optim.ledger(optimizer, watch={"0.weight": (20, 3)}) as log:
            for _ in range(3):
                step(x, y)
        return log["0.weight"]

    eager, compiled = run(lambda step: step), run(mg.jit)
    for column in ("p", "g", "update"):
        np.testing.assert_allclose(compiled[column], eager[column], 1e-5)


def test_an_error_inside_a_step_leaves_no_line():
    tensors = parameters()
    optimizer = optim.Adam(tensors.items(), check_finite=True)
    with optim.ledger(optimizer) as log:
        train(optimizer, tensors, 2)
        tensors["b"].grad = mg.full((4,), float("nan"))
        with pytest.raises(mg.MicrogradxError, match="the gradient of b"):
            optimizer.step()
        train(optimizer, tensors, 1)
    assert log["b"].t.tolist() == [1, 2, 3] and np.isfinite(log["b"]["g"]).all()


def test_a_label_out_of_range_leaves_the_lines_before_it():
    mg.seed(0)
    x, y = np.random.randn(32, 4).astype(np.float32), np.arange(32) % 3
    y[17] = 7  # in the fifth batch
    model = nn.MLP([4, 5, 3])
    optimizer = optim.Adam(model.named_parameters())
    wrong = pytest.raises(ArgumentError, match="3 classes allow labels 0 to 2, not 0 to 7")
    with optim.ledger(optimizer, watch="2.bias") as log, wrong:
        for i in range(0, 32, 4):
            optimizer.zero_grad()
            nn.cross_entropy(model(mg.tensor(x[i : i + 4])), y[i : i + 4]).backward()
            optimizer.step()
    account = log["2.bias"]
    assert account.t.tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal((account["p"] + account["update"])[-1], model.state_dict()["2.bias"])


def test_fit_is_written_down():
    train, _ = data.digits()
    model = nn.MLP([64, 8, 10])
    optimizer = optim.Adam(model.named_parameters())
    with optim.ledger(optimizer, watch=50) as log:
        mg.fit(model, optimizer, train, epochs=1, batch_size=256)
    assert log.steps == math.ceil(len(train[0]) / 256) == len(log["0.weight"].t)


# Reading


def test_explain_prints_the_equation_with_its_numbers(capsys):
    w = mg.tensor([[0.5, -2.0]], requires_grad=True)
    optimizer = optim.AdamW([("w", w)], lr=0.25, betas=(0.5, 0.75), eps=0.0, weight_decay=0.5)
    with optim.ledger(optimizer) as log:
        for _ in range(2):
            w.grad = mg.tensor([[0.5, -1.0]])
            optimizer.step()
    log.explain("w", (0, 1), step=1)
    assert capsys.readouterr().out.replace(HAT, "") == (
        "w[0, 1] in step 1 of adamw: "
        "Adam, with weights that shrink on their own instead of through the gradient.\n\n"
        "  lr = 0.25   β₁ = 0.5   β₂ = 0.75   ε = 0   λ = 0.5\n"
        "  p = -2   g = -1   m = 0   v = 0\n\n"
        "  m ← β₁ · m + (1 - β₁) · g\n    = 0.5 · 0 + (1 - 0.5) · (-1)\n    = -0.5\n"
        "  v ← β₂ · v + (1 - β₂) · g²\n    = 0.75 · 0 + (1 - 0.75) · (-1)²\n    = 0.25\n"
        "  m ← m / (1 - β₁ᵗ)\n    = -0.5 / (1 - 0.5¹)\n    = -1\n"
        "  v ← v / (1 - β₂ᵗ)\n    = 0.25 / (1 - 0.75¹)\n    = 1\n"
        "  shrink ← 1 - lr · λ\n         = 1 - 0.25 · 0.5\n         = 0.875\n"
        "  p ← p · shrink - lr · m / (√v + ε)\n    = -2 · 0.875 - 0.25 · (-1) / (√1 + 0)\n    = -1.5\n\n"
        "  update 0.5, 25.000% of the weight; effective lr 0.25 = lr / (√v + ε)\n"
    )


def test_the_table_goes_to_csv_and_parquet(tmp_path):
    tensors = parameters()
    optimizer = optim.Adam(tensors.items())
    with optim.ledger(optimizer, watch={"w": [(0, 1), (5, 3)], "b": 2}) as log:
        train(optimizer, tensors, 3)
    log.save(tmp_path / "steps.csv")
    with open(tmp_path / "steps.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9 and rows[3] | {"parameter": "w", "index": "5,3", "step": "2"} == rows[3]
    for column in ("p", "g", "m", "v_hat", "effective_lr", "update", "ratio"):
        assert np.float32(rows[3][column]) == log["w"][column][1, 1]
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is in the extra 'parquet'")
    log.save(tmp_path / "steps.parquet")
    found = parquet.read_table(tmp_path / "steps.parquet").to_pydict()
    assert list(found) == list(rows[0])
    assert found["m"][3] == log["w"]["m"][1, 1] and found["index"][3] == "5,3"


def test_pictures_are_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is in the extra 'plot'")
    tensors = parameters()
    optimizer = optim.Adam(tensors.items())
    with optim.ledger(optimizer) as log:
        train(optimizer, tensors)
    log.picture(tmp_path / "all.png")
    log.picture(tmp_path / "one.png", "w", (1, 2))
    assert all((tmp_path / name).read_bytes()[:4] == b"\x89PNG" for name in ("all.png", "one.png"))


def test_many_parameters_are_drawn_as_far_as_curves_can_be_told_apart(tmp_path, monkeypatch):
    figures = pytest.importorskip("matplotlib.figure", reason="matplotlib is in the extra 'plot'")
    drawn, save = [], figures.Figure.savefig
    monkeypatch.setattr(figures.Figure, "savefig", lambda f, *a, **k: (drawn.append(f), save(f, *a, **k)))
    tensors = {f"w{i}": mg.tensor([1.0, 2.0], requires_grad=True) for i in range(15)}
    optimizer = optim.SGD(tensors.items())  # whose rate is the same everywhere
    with optim.ledger(optimizer) as log:
        train(optimizer, tensors)
    log.picture(tmp_path / "many.png")
    assert "the first 12 of 15 parameters" in drawn[0].get_suptitle()
    rate = drawn[0].axes[0]
    looks = {(line.get_color(), line.get_linestyle()) for line in rate.get_lines()}
    assert len(looks) == 12 and rate.get_ylim()[0] == 0 and rate.get_yscale() == "linear"


# Errors


def adam_log(**options):
    return optim.ledger(optim.Adam(parameters().items()), **options)


def plain_log(**options):
    return optim.ledger(optim.Adam(parameters().values()), **options)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: optim.ledger("adam"), "ledger: it takes an optimizer, not str."),
        (lambda: adam_log(every=0), "every must be a whole number of at least 1, got 0."),
        (lambda: adam_log(watch=0), "watch must be at least 1 number, got 0."),
        (lambda: adam_log(watch="weight"), "no parameter 'weight'; there are w, b."),
        (lambda: adam_log(watch={"w": (9, 9)}), r"w of shape \(6, 4\): \(9, 9\) picks nothing"),
        (lambda: adam_log(watch="b")["w"], "no 'w' in this ledger; it watches b."),
        (lambda: plain_log()["w"], "it watches 0, 1. Names such as 0.weight come from an optimizer of model"),
        (lambda: plain_log(watch="w"), "no parameter 'w'; there are 0, 1. Names such as 0.weight come from"),
        (lambda: adam_log().explain("w"), "w: no step was written down yet. Train inside the ledger's"),
        (lambda: adam_log().explain("w", 3), r"w of shape \(6, 4\) has no number at 3."),
        (lambda: adam_log(watch={"b": 1}).explain("b", 3), r"b\[3\] is not watched; watched are \(1,\)."),
        (lambda: adam_log()["w"]["m"], "w has no column 'm'; it has no steps yet."),
        (lambda: adam_log().picture("x.png"), "nothing to draw: no step was written down yet"),
        (lambda: adam_log().save("x.txt"), "x.txt: a ledger is saved as .csv or .parquet."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(wrong, message):
    with pytest.raises(ArgumentError, match=message):
        wrong()


def test_missing_steps_columns_and_extras_are_said(monkeypatch, tmp_path):
    tensors = parameters()
    optimizer = optim.Adam(tensors.items())
    with optim.ledger(optimizer) as log:
        train(optimizer, tensors)
    with pytest.raises(ArgumentError, match="not written down at step 99; the ledger has steps 1 to 7"):
        log.explain("w", (0, 0), step=99)
    with pytest.raises(ArgumentError, match="no column 's'; it has p, g, m, v, m_hat, v_hat, direction, eff"):
        log["w"]["s"]
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ArgumentError, match="pip install pyarrow, or save as .csv"):
        log.save(tmp_path / "x.parquet")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ArgumentError, match="Pictures need matplotlib"):
        log.picture(tmp_path / "x.png")
