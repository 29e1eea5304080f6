"""Other libraries' conventions: forms and conversions, along trajectories of plain NumPy and of PyTorch."""

import inspect
import math

import numpy as np
import pytest
from naive_libraries import steps as naive

from microgradx import nn, optim, rules
from microgradx.errors import ArgumentError
from microgradx.optim.conventions import conventions
from microgradx.optim.conventions.conversions import bridges
from microgradx.optim.conventions.libraries import L2, REQUIRED, families, forms

STEPS = 30
ROWS = [(family, library) for family, row in forms.items() for library in row]
PAIRS = [(family, a, b) for family, row in forms.items() for a in row for b in row if a != b]
APART = {
    "rmsprop": [{"torch", "mlx", "paper"}, {"keras", "optax"}],  # ε outside, inside the root
    "amsgrad": [{"paper", "torch", "keras"}, {"optax"}],  # the maximum of raw, of corrected v
}
"""Groups between which no numbers lead."""

given = {"α": 0.05, "η": 0.05, "learning_rate": 0.05, "β": 0.9, "μ": 0.9, "δ": 1e-3, "λ": 0.01}
"""For options that have no default."""


def gradients(t, size=6):
    """From very small, where ε counts, to large."""
    return np.random.default_rng(t).normal(size=size) * np.logspace(-5, 1, size)


def options_of(family, library):
    """The defaults, with values where there are none."""
    return {k: given[k] if v is REQUIRED else v for k, v in forms[family][library].defaults.items()}


def run(family, library, options_at):
    """The naive optimizer's weights, with options that may change from step to step: (STEPS, 6)."""
    p, memory, path = np.linspace(-2, 3, 6), {}, []
    known = inspect.signature(naive[family][library]).parameters
    fixed = {k: v for k, v in forms[family][library].fixed.items() if k in known}
    for t in range(1, STEPS + 1):
        p = naive[family][library](p, gradients(t), memory, t, **options_at(t), **fixed)
        path.append(p)
    return np.array(path)


def run_ours(rule, options_at, decoupled=False):
    """A rule of ours, as plain arithmetic in float64."""
    p, state = np.linspace(-2, 3, 6), [np.zeros(6) for _ in rule.state]
    path = []
    for t in range(1, STEPS + 1):
        options = options_at(t)
        g = gradients(t) + options.pop(L2, 0.0) * p
        if "weight_decay" not in rule.hyperparameters:
            decay = options.pop("weight_decay", 0.0)
            p = p * (1 - options["lr"] * decay) if decoupled else p
        new = rule(p, g, *state, t=t, **options)
        p, *state = new if isinstance(new, tuple) else (new,)
        path.append(p)
    return np.array(path)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-13)


def test_every_form_has_a_naive_step():
    assert {(family, library) for family in naive for library in naive[family]} >= set(ROWS)
    assert forms.keys() == families.keys()


@pytest.mark.parametrize(("family", "library"), ROWS)
def test_our_rule_takes_the_library_s_steps(family, library):
    form, options = forms[family][library], options_of(family, library)
    ours = run_ours(form.rule, lambda t: conventions.enter(form, options, t), form.decoupled)
    close(ours, run(family, library, lambda t: options))


@pytest.mark.parametrize("family", [family for family in forms if "torch" in forms[family]])
def test_both_kinds_of_weight_decay(family):
    """PyTorch's adds to the gradient, but for AdamW."""
    form, options = forms[family]["torch"], options_of(family, "torch") | {"weight_decay": 0.1}
    ours = run_ours(form.rule, lambda t: conventions.enter(form, options, t))
    close(ours, run(family, "torch", lambda t: options))
    found = optim.convert(form.rule, "torch", "microgradx", **options)
    assert found["weight_decay"] == 0.1
    assert optim.convert(form.rule, "microgradx", "torch", **found) == options
    if family in ("sgd", "momentum", "nesterov", "adadelta", "adam"):  # whose optax form differs in no more
        with pytest.raises(ArgumentError, match="L2 weight_decay would have to be 0, not 0.1"):
            optim.convert(form.rule, "torch", "optax", **options)


def apart(family, a, b):
    return any((a in group) != (b in group) for group in APART.get(family, []))


def neutral(family, source, target):
    """Options of the source, with those that the target cannot express at what it always does."""
    inside = source in ("keras", "optax")
    start = ["initial_accumulator_value", "eps", "epsilon"] if inside else ["initial_accumulator_value"]
    lacks = {
        ("adagrad", "paper"): dict.fromkeys(start, 0.0),
        ("adagrad", "keras"): {} if inside else {"eps": 0.0, "δ": 0.0},
        ("rmsprop", "paper"): {"alpha": 0.9, "eps": 0.0},
        ("adadelta", "paper"): {"lr": 1.0, "learning_rate": 1.0},
        ("amsgrad", "paper"): {"eps": 0.0, "epsilon": 0.0},
        ("lion", "keras"): {"weight_decay": 0.0, "λ": 0.0},
    }
    lacks |= {("adagrad", "mlx"): lacks["adagrad", "paper"], ("adagrad", "optax"): lacks["adagrad", "keras"]}
    options = options_of(family, source)
    return options | {k: v for k, v in lacks.get((family, target), {}).items() if k in options}


@pytest.mark.parametrize(("family", "source", "target"), PAIRS)
def test_converted_hyperparameters_take_the_same_steps(family, source, target):
    own, options = families[family][0], neutral(family, source, target)
    if apart(family, source, target):
        with pytest.raises(ArgumentError, match="no hyperparameters give the steps of"):
            optim.convert(own, source, target, **options)
        return
    convert = lambda t: optim.convert(own, source, target, t, **options)
    assert convert(1).keys() == forms[family][target].defaults.keys()
    close(run(family, target, convert), run(family, source, lambda t: options))


def test_what_has_no_counterpart_is_refused():
    reasons = "would have to be|no number inside the root|differ, most at|the maximum of v is not"
    for family, source, target in PAIRS:
        options = options_of(family, source)
        if options != neutral(family, source, target):
            with pytest.raises(ArgumentError, match=reasons):
                optim.convert(families[family][0], source, target, **options)


@pytest.mark.parametrize("family", [family for family in forms if family != "adagrad"])
def test_there_and_back_again(family):
    """But for AdaGrad, where what was ε inside the root comes back in the initial value."""
    own = families[family][0]
    for _, a, b in (pair for pair in PAIRS if pair[0] == family and not apart(*pair)):
        options = neutral(family, a, b)
        for t in (1, 2, 7, 1000, math.inf):
            back = optim.convert(own, b, a, t, **optim.convert(own, a, b, t, **options))
            assert back.keys() == options.keys()
            found, wanted = (np.hstack([*each.values()]) for each in (back, options))
            np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_bridges_lead_both_ways():
    assert {(b, a) for a, b in bridges} == bridges.keys()
    assert all(name in rules.rules for pair in bridges for name in pair)


def test_averaging_is_summing_by_closed_form():
    kept = optim.convert("momentum", "microgradx", "torch", lr=0.5, beta=0.75, weight_decay=0.1)
    assert kept == {"lr": 0.125, "momentum": 0.75, "dampening": 0.0, "weight_decay": 0.1}
    assert optim.convert("momentum", "microgradx", "torch", lr=0.5, beta=0.75)["lr"] == 0.125
    found = optim.convert("momentum", "torch", "microgradx", lr=0.1, momentum=0.9)
    assert found == pytest.approx({"lr": 1.0, "beta": 0.9})
    averaged = run_ours(rules.momentum, lambda t: dict(found))
    close(averaged, run("momentum", "keras", lambda t: {"learning_rate": 0.1, "momentum": 0.9}))


def test_a_changed_lr_tells_the_places_of_lr_apart():
    """As the note says: inside the velocity, what has been gathered keeps its length."""
    falling = lambda name: lambda t: {name: 0.1 / t, "momentum": 0.9}
    outside = run("momentum", "torch", falling("lr"))
    inside = run("momentum", "keras", falling("learning_rate"))
    assert np.abs(outside - inside).max() > 0.1
    scaled = lambda t: {"learning_rate": 0.1 / t, "momentum": 0.9 * (t - 1) / t if t > 1 else 0.0}
    # μ · lr / (lr before) in the place of μ makes up for it; at t = 1 there is no velocity, whatever μ is
    memory, p, path = {"v": np.zeros(6)}, np.linspace(-2, 3, 6), []
    for t in range(1, STEPS + 1):
        memory["v"] = scaled(t)["momentum"] * memory["v"] - scaled(t)["learning_rate"] * gradients(t)
        p = p + memory["v"]
        path.append(p)
    close(np.array(path), outside)


@pytest.mark.parametrize("library", forms["adamw"])
def test_adamw_under_a_schedule_is_converted_with_the_lr_of_each_step(library):
    options = lambda t: {"lr": 0.05 / t, "weight_decay": 0.1}
    convert = lambda t: optim.convert("adamw", "microgradx", library, t, **options(t))
    close(run("adamw", library, convert), run_ours(rules.adamw, options))


def test_the_schedule_of_the_paper_multiplies_the_decay_too():
    """With α and λ from the first lr, η falls as lr does here: λ must not be converted anew."""
    fixed = optim.convert("adamw", "microgradx", "paper", lr=0.05, weight_decay=0.1)
    assert fixed["λ"] == pytest.approx(0.005)
    p, memory, path = np.linspace(-2, 3, 6), {}, []
    for t in range(1, STEPS + 1):
        p = p + (naive["adamw"]["paper"](p, gradients(t), memory, t, **fixed) - p) / t
        path.append(p)
    close(np.array(path), run_ours(rules.adamw, lambda t: {"lr": 0.05 / t, "weight_decay": 0.1}))


def test_amsgrad_keeps_its_two_forms_apart():
    """The maximum of raw v, and that of corrected v: our two rules, and neither has the other's numbers."""
    for rule, library in (("amsgrad", "torch"), ("amsgrad_corrected", "optax")):
        there = optim.convert(rule, "microgradx", library, lr=0.05)
        assert optim.convert(rule, library, "microgradx", **there)["lr"] == 0.05
        close(
            run("amsgrad", library, lambda t, o=there: o), run_ours(rules.rules[rule], lambda t: {"lr": 0.05})
        )
    for rule, library in (("amsgrad", "optax"), ("amsgrad_corrected", "torch")):
        for source, target in (("microgradx", library), (library, "microgradx")):
            with pytest.raises(ArgumentError, match=r"the maximum of v is not the maximum of v / \(1-β₂ᵗ\)"):
                optim.convert(rule, source, target, **{"learning_rate": 0.05} if source == "optax" else {})
    raw, corrected = (run_ours(rules.rules[name], lambda t: {"lr": 0.05}) for name in families["amsgrad"])
    assert np.abs(raw - corrected).max() > 1e-2


def test_the_places_of_epsilon_in_rmsprop_differ_by_a_factor_of_root_2_at_most():
    v, eps = np.logspace(-20, 5, 500), 1e-4
    ratio = (np.sqrt(v) + eps) / np.sqrt(v + eps**2)
    assert ratio.max() == pytest.approx(math.sqrt(2), rel=1e-3) and ratio.min() >= 1
    assert v[ratio.argmax()] == pytest.approx(eps**2, rel=0.2)


def test_early_steps_without_bias_correction_are_3_2_times_as_long():
    p, g = 0.0, 1.0
    plain = rules.adam_uncorrected(p, g, 0.0, 0.0, t=1, eps=0.0)[0]
    assert plain / rules.adam(p, g, 0.0, 0.0, t=1, eps=0.0)[0] == pytest.approx(0.1 / math.sqrt(0.001))


@pytest.mark.parametrize(
    ("family", "source"), [(f, a) for f, a, b in PAIRS if b == "torch" and not apart(f, a, b)]
)
def test_pytorch_itself_takes_the_steps_of_the_others(torch, family, source):
    own, options = families[family][0], options_of(family, source)
    form = forms[family]["torch"]
    convert = lambda t: optim.convert(own, source, "torch", t, **options) | form.fixed
    p = torch.nn.Parameter(torch.linspace(-2, 3, 6, dtype=torch.float64))
    optimizer = getattr(torch.optim, form.call.rpartition(".")[2])([p], **convert(1))
    path = []
    for t in range(1, STEPS + 1):
        optimizer.param_groups[0].update(convert(t))
        p.grad = torch.from_numpy(gradients(t))
        optimizer.step()
        path.append(p.detach().numpy().copy())
    close(np.array(path), run(family, source, lambda t: options))


def test_scikit_learn_itself():
    stochastic = pytest.importorskip("sklearn.neural_network._stochastic_optimizers")
    for family, made in {
        "adam": lambda p: stochastic.AdamOptimizer(p),
        "momentum": lambda p: stochastic.SGDOptimizer(p, 1e-3, nesterov=False, momentum=0.9),
        "nesterov": lambda p: stochastic.SGDOptimizer(p, 1e-3, nesterov=True, momentum=0.9),
    }.items():
        p = np.linspace(-2, 3, 6)
        optimizer, path = made([p]), []
        for t in range(1, STEPS + 1):
            optimizer.update_params([p], [gradients(t)])
            path.append(p.copy())
        close(np.array(path), run(family, "sklearn", lambda t, f=family: options_of(f, "sklearn")))


def path_of(update):
    """The weights along a library's own steps, in float32."""
    p, path = np.linspace(-2, 3, 6).astype(np.float32), []
    for t in range(1, STEPS + 1):
        p = np.asarray(update(p, gradients(t).astype(np.float32)), np.float32)
        path.append(p)
    return np.array(path)


def made(form, options, module):
    """The library's optimizer, with all that the form needs."""
    return getattr(module, form.call.rpartition(".")[2])(**options | form.fixed)


def of(library):
    return pytest.mark.parametrize("family", [family for family in forms if library in forms[family]])


def almost(found, family, library):
    options = options_of(family, library)
    np.testing.assert_allclose(found, run(family, library, lambda t: options), rtol=1e-3, atol=2e-4)


@of("optax")
def test_optax_itself(family):
    optax = pytest.importorskip("optax", reason="optax is not installed")
    rule, state = made(forms[family]["optax"], options_of(family, "optax"), optax), None

    def update(p, g):
        nonlocal state
        state = rule.init(p) if state is None else state
        change, state = rule.update(g, state, p)
        return optax.apply_updates(p, change)

    almost(path_of(update), family, "optax")


@of("mlx")
def test_mlx_itself(family):
    mlx = pytest.importorskip("mlx.core", reason="MLX is not installed")
    optimizers = pytest.importorskip("mlx.optimizers", reason="MLX is not installed")
    rule = made(forms[family]["mlx"], options_of(family, "mlx"), optimizers)
    update = lambda p, g: rule.apply_gradients({"p": mlx.array(g)}, {"p": mlx.array(p)})["p"]
    almost(path_of(update), family, "mlx")


@of("keras")
def test_keras_itself(family, monkeypatch, torch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    rule = made(forms[family]["keras"], options_of(family, "keras"), keras.optimizers)
    weight = keras.Variable(np.linspace(-2, 3, 6).astype(np.float32))

    def update(p, g):
        rule.apply([keras.ops.convert_to_tensor(g)], [weight])
        return weight.numpy().copy()

    almost(path_of(update), family, "keras")


# What a person reads


def test_explain_prints_formula_difference_and_both_directions(capsys):
    optim.explain("adam", "keras")
    out = capsys.readouterr().out
    assert out.startswith("adam in Keras: keras.optimizers.Adam\n")
    assert "p ← p - lr √(1-β₂ᵗ) / (1-β₁ᵗ) · m / (√v + ε̂)" in out and "Ours, rules.adam:" in out
    assert "acts like ε / √(1-β₂ᵗ) beside √v̂" in out
    assert (
        "optim.Optimizer(params, rules.adam_epsilon_hat, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-07)" in out
    )
    assert "keras.optimizers.Adam(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-08)" in out
    assert f"in step 1: epsilon={1e-8 * math.sqrt(0.001):.6g}" in out


def test_explain_takes_an_optimizer_with_its_numbers(capsys):
    model = nn.MLP([2, 3, 1])
    optim.explain(optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1), "paper")
    out = capsys.readouterr().out
    assert "λ=0.001)" in out and "adamw in the paper: Algorithm 2" in out
    decoupled = optim.Optimizer(
        model.parameters(), rules.adam, lr=0.01, weight_decay=0.1, decoupled_weight_decay=True
    )
    optim.explain(decoupled, "optax")
    assert (
        "optax.adamw(learning_rate=0.01, b1=0.9, b2=0.999, eps=1e-08, weight_decay=0.1)"
        in capsys.readouterr().out
    )
    optim.explain(optim.SGD(model.parameters(), lr=0.5, momentum=0.75), "keras")
    assert "keras.optimizers.SGD(learning_rate=0.5, momentum=0.75)" in capsys.readouterr().out


def test_the_printed_optimizers_of_ours_can_be_made():
    params = list(nn.MLP([2, 3, 1]).parameters())
    for family, library in ROWS:
        text = conventions.explanation(families[family][0], library)
        (code,) = [line for line in text.splitlines() if line.startswith("    optim.Optimizer(")]
        eval(code.strip(), {"optim": optim, "rules": rules, "params": params})


def test_a_rule_that_only_its_paper_describes(capsys):
    optim.explain("nadam")
    assert "Dozat (2016)" in capsys.readouterr().out
    optim.explain(rules.momentum, "microgradx")
    assert "m ← βm + (1-β)g" in capsys.readouterr().out


def decaying(rule, decoupled):
    params = nn.MLP([2, 3, 1]).parameters()
    return optim.Optimizer(params, rule, weight_decay=0.1, decoupled_weight_decay=decoupled)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: optim.explain("adamm"), "no rule or optimizer 'adamm'; there are sgd, "),
        (
            lambda: optim.explain("adam", "caffe"),
            "no convention 'caffe'; there are paper, torch, keras, sklearn",
        ),
        (
            lambda: optim.explain("nadam", "keras"),
            "nadam is not described for 'keras'; described for it: none but",
        ),
        (
            lambda: optim.explain(decaying(rules.adam_epsilon_hat, True), "keras"),
            "adam_epsilon_hat with decoupled weight decay has no name of its own elsewhere",
        ),
        (lambda: optim.explain(decaying(rules.lion, False), "mlx"), "lion with L2 weight decay has no name"),
        (lambda: optim.explain("lion", "torch"), "described for it: paper, keras, optax, mlx."),
        (
            lambda: optim.convert("sgd", "keras", "torch", momentum=0.9),
            'momentum is \'momentum\' here: write convert("momentum", "keras", "torch", momentum=0.9)',
        ),
        (
            lambda: optim.convert("adam", "keras", "mlx", amsgrad=True),
            'write convert("amsgrad", "keras", "mlx")',
        ),
        (lambda: optim.convert("adam", "optax", "torch"), "optax.adam has no default for learning_rate"),
        (
            lambda: optim.convert("adam", "torch", "keras", epsilon=1),
            "has no epsilon; it has lr, betas, eps, weight_decay.",
        ),
        (lambda: optim.convert("adam", "torch", "keras", step=0), "step must be at least 1, got 0"),
        (
            lambda: optim.convert("adam", "torch", "keras", lr=-1),
            "torch.optim.Adam: lr must be a number of at",
        ),
        (
            lambda: optim.convert("adam", "torch", "keras", betas=(0.9,)),
            "betas must be 2 numbers, got (0.9,)",
        ),
        (
            lambda: optim.convert("rmsprop", "torch", "keras"),
            "no hyperparameters give the steps of torch.optim.RMSprop in keras.optimizers.RMSprop: √v + ε "
            "and √(v + ε²) differ, most at v = ε², where the steps differ by a factor of √2. Here, "
            "Optimizer(params, rules.rmsprop, ...) takes them.",
        ),
        (
            lambda: optim.convert("adamw", "paper", "torch", α=0, λ=1),
            "Algorithm 2 in torch.optim.AdamW: they",
        ),
        (
            lambda: optim.convert("momentum", "torch", "keras", dampening=0.5),
            "dampening would have to be 0, not 0.5",
        ),
    ],
)
def test_errors(call, words):
    with pytest.raises(ArgumentError) as error:
        call()
    assert words in str(error.value)
