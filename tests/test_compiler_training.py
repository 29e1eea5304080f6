"""Training as compiled code: the numbers of eager training, all along, in everything that a run leaves."""

import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import special

import microgradx as mg
from microgradx import nn, optim
from microgradx.kernels import set_threads, threads
from microgradx.rules import Rule, rules
from microgradx.scalars import Elementwise
from microgradx.training.step import training_step

SIZE, CALLS = 6, 3  # rows of a batch, steps called one by one after the scan
rng = np.random.default_rng(0)
start = rng.bit_generator.state


@pytest.fixture(autouse=True)
def same_data():
    """Each row has its own data, whatever ran before it."""
    rng.bit_generator.state = start


def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)


def targets(n):
    return normal(n, 3)


def labels(n):
    y = rng.integers(0, 3, n)
    y[::SIZE] = 0  # a batch in which every label is ignored has a loss of 0 / 0
    return y


def chances(n):
    p = rng.uniform(0.1, 1, (n, 3)).astype(np.float32)
    return p / p.sum(1, keepdims=True)


def mlp():
    return nn.MLP([5, 8, 3], "tanh")


def sgd(parameters):
    return optim.SGD(parameters, lr=0.05, momentum=0.9)


def setup(model=mlp, loss=nn.mse_loss, optimizer=sgd, clip=lambda o: None, plan=lambda o: None):
    """What `train` makes: a model, its optimizer, perhaps a schedule, and the step that trains it."""

    def make():
        network = model()
        update = optimizer(network.parameters())
        schedule = plan(update)

        def step(x, y):
            update.zero_grad()
            value = loss(network(x), y)
            value.sum().backward()
            clip(update)
            update.step()
            if schedule:
                schedule.step()
            return value

        return SimpleNamespace(step=step, model=network, optimizer=update, plan=schedule)

    return make


def state(world):
    """All that training changes."""
    parameters = world.optimizer.parameters.items()
    return {
        "values": {name: p.data.copy() for name, p in parameters},
        "gradients": {name: None if p.grad is None else p.grad.data.copy() for name, p in parameters},
        "model": world.model.state_dict(),
        "optimizer": world.optimizer.state_dict(),
        "plan": getattr(world, "plan", None) and world.plan.state_dict(),
        "generator": mg.generator.state_dict(),
    }


def close(a, b, tolerance, where="state"):
    """Two states are the same up to a part of the largest number of each array."""
    if isinstance(a, dict | list | tuple):
        keys = a.keys() if isinstance(a, dict) else range(len(a))
        assert keys == (b.keys() if isinstance(b, dict) else range(len(b))), where
        for key in keys:
            close(a[key], b[key], tolerance, f"{where} {key}")
    elif isinstance(a, np.ndarray | float):
        assert type(a) is type(b) and np.shape(a) == np.shape(b), where
        atol = tolerance * np.max(np.abs(a), initial=0)
        np.testing.assert_allclose(b, a, tolerance, atol, err_msg=where)
        assert not isinstance(a, np.ndarray) or a.dtype == b.dtype, where
    else:
        assert a == b, where


def batches(data, size):
    return [[array[i : i + size] for array in data] for i in range(0, len(data[0]), size)]


def eager(step, data, size=SIZE):
    """A pass over the data in Python: the stacked losses."""
    return np.stack([step(*map(mg.tensor, batch)).data for batch in batches(data, size)])


def train(make, data, compiled):
    """A scan over the data and some calls from the same start: losses and state."""
    mg.seed(1)
    world = make()
    step = mg.jit(world.step) if compiled else world.step
    first = step.scan(*data, batch_size=SIZE).data if compiled else eager(step, data)
    then = eager(step, [array[: SIZE * CALLS] for array in data])
    return {"losses": first, "later": then, **state(world)}


def check(make, data, tolerance=1e-5):
    """Compiled training is eager training."""
    close(train(make, data, False), train(make, data, True), tolerance)


def pairs(y=targets, steps=200, dtype=np.float32):
    """Inputs and targets for so many steps, or the first ones of them where Python runs the compiled step."""
    rows = SIZE * (min(steps, 20) if "MICROGRADX_INTERPRET" in os.environ else steps)
    return normal(rows, 5).astype(dtype), y(rows)


# Every optimizer, loss and layer

L2, UP = {"weight_decay": 0.1}, {"maximize": True, "lr": 1e-4}
OPTIONS = {
    "sgd": [
        L2 | UP, {"momentum": 0.9, "dampening": 0.1}, {"momentum": 0.9, "nesterov": True} | L2,
        {"decoupled_weight_decay": True} | L2,
    ],
    "rmsprop": [{"centered": True}, {"momentum": 0.9} | L2, {"centered": True, "momentum": 0.5}],
    "adam": [L2, {"amsgrad": True}, {"bias_correction": False} | UP, {"betas": (0.5, 0.9), "eps": 1e-4}],
    "adamw": [{"amsgrad": True} | L2, {"decoupled_weight_decay": False}],
    "adagrad": [{"lr_decay": 0.1, "initial_accumulator_value": 0.1} | L2],
    "nadam": [{"decoupled_weight_decay": True} | L2],
    "radam": [{"decoupled_weight_decay": True} | L2],
    "lion": [{"decoupled_weight_decay": False} | L2],
    "muon": [{"nesterov": False, "adjust_lr_fn": "match_rms_adamw"}, {"decoupled_weight_decay": False}],
    "lars": [{"momentum": 0.5, "trust_coefficient": 0.01}],
    "lamb": [UP],
    "adafactor": [{"eps": (1e-3, 1e-2), "d": 2.0, "beta2_decay": -0.5, "lr": 0.5} | L2 | UP],
}  # fmt: skip


COMPILED = optim.optimizers.keys() - {"lbfgs"}  # which is refused


@pytest.mark.interpreted(but=("rmsprop-centered-momentum", "adafactor", "lamb", "muon"))
@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param(name, o, id="-".join([name, *o]))
        for name in sorted(COMPILED)
        for o in ({}, *OPTIONS.get(name, ()))
    ],
)
def test_every_optimizer(name, options):
    model = mlp if name != "muon" else lambda: nn.Linear(5, 3, bias=False)
    touchy = name in ("muon", "rprop", "lion") or "centered" in options  # a sign that flips is another run
    steps = 20 if touchy else 200
    check(setup(model, optimizer=lambda ps: optim.optimizers[name](ps, **options)), pairs(steps=steps))


WEIGHT = np.array([0.5, 1.0, 2.0])
LOSSES = {
    "cross_entropy": (nn.cross_entropy, labels),
    "sum": (lambda x, y: nn.cross_entropy(x, y, reduction="sum"), labels),
    "none": (lambda x, y: nn.cross_entropy(x, y, reduction="none"), labels),
    "weight": (lambda x, y: nn.cross_entropy(x, y, weight=WEIGHT), labels),
    "ignore": (lambda x, y: nn.cross_entropy(x, y, ignore_index=0, reduction="sum") / 6, labels),
    "ignore -1": (lambda x, y: nn.cross_entropy(x, y, ignore_index=-1), lambda n: labels(n) - (n % 2)),
    "smooth": (lambda x, y: nn.cross_entropy(x, y, label_smoothing=0.1), labels),
    "everything": (lambda x, y: nn.cross_entropy(x, y, WEIGHT, 1, label_smoothing=0.1), labels),
    "soft": (lambda x, y: nn.cross_entropy(x, y, WEIGHT, label_smoothing=0.1), chances),
    "nll_loss": (lambda x, y: nn.nll_loss(mg.log_softmax(x), y, WEIGHT, 2, "sum") / 6, labels),
    "nll_sum": (lambda x, y: nn.nll_loss(mg.log_softmax(x), y, reduction="sum"), labels),
    "mse_none": (lambda x, y: nn.mse_loss(x, y, reduction="none"), targets),
    "l1_loss": (nn.l1_loss, targets),
    "huber_loss": (lambda x, y: nn.huber_loss(x, y, delta=0.5), targets),
    "bce": (nn.binary_cross_entropy_with_logits, chances),
    "bce_weight": (
        lambda x, y: nn.binary_cross_entropy_with_logits(x, y, WEIGHT, "sum", pos_weight=WEIGHT), chances,
    ),
    "kl_div": (lambda x, y: nn.kl_div(mg.log_softmax(x), y, "batchmean"), chances),
    "kl_div_log": (lambda x, y: nn.kl_div(mg.log_softmax(x), mg.log(y), log_target=True), chances),
}  # fmt: skip


@pytest.mark.interpreted(but=("huber_loss",))
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss(name):
    loss, y = LOSSES[name]
    check(setup(loss=loss, optimizer=lambda ps: optim.SGD(ps, lr=0.01)), pairs(y))


LAYERS = {
    **{f.__name__: f for f in (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.GELU, nn.GELUTanh, nn.Softplus)},
    **{f.__name__: f for f in (nn.Sigmoid, nn.Tanh, nn.Softmax, nn.LogSoftmax, nn.Flatten)},
    "Dropout": lambda: nn.Dropout(0.3),
    "LayerNorm": lambda: nn.LayerNorm(8),
    "LayerNorm without bias": lambda: nn.LayerNorm(8, bias=False),
    "BatchNorm1d": lambda: nn.BatchNorm1d(8),
    "plain BatchNorm1d": lambda: nn.BatchNorm1d(8, momentum=0.3, affine=False),
    "two dropouts": lambda: nn.Sequential(nn.Dropout(0.1), nn.Linear(8, 8, bias=False), nn.Dropout(0.5)),
}


@pytest.mark.interpreted(but=("GELU", "LayerNorm"))
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer(name):
    check(setup(lambda: nn.Sequential(nn.Linear(5, 8, bias=False), LAYERS[name](), nn.Linear(8, 3))), pairs())


def test_embeddings():
    model = lambda: nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(8, 3))
    x, y = pairs()
    check(setup(model, optimizer=optim.Adam), (rng.integers(0, 7, (len(x), 2)), y))


class Tied(nn.Module):
    """One matrix, there and back."""

    def __init__(self):
        self.inside, self.outside, self.last = nn.Linear(5, 4), nn.Linear(4, 5), nn.Linear(5, 3)
        self.outside.weight = self.inside.weight

    def forward(self, x):
        """Through the shared weight twice."""
        return self.last(mg.tanh(mg.tanh(self.inside(x)) @ self.outside.weight.T + self.outside.bias))


@mg.rule
def signed_momentum(p, g, m, /, t, seen, lr=1e-2, beta=0.9):
    """A user's own rule, with state, a step count and a carried number."""
    seen = seen + 1 / t
    m = beta * m + (1 - beta) * g
    return p - lr * m / (1 + seen), m, seen


del rules["signed_momentum"]  # which is the tests' own


def grouped(parameters):
    first, second, *rest = parameters
    groups = [{"params": [first], "lr": 0.02}, {"params": [second], "weight_decay": 0.1}, {"params": rest}]
    return optim.AdamW(groups, lr=0.002)


SETUPS = {
    "a tied weight": setup(Tied),
    "a BatchNorm twice": setup(lambda: nn.Sequential(*[nn.BatchNorm1d(5)] * 2, nn.Linear(5, 3))),
    "a deep network": setup(lambda: nn.MLP([5, 8, 8, 8, 8, 8, 3]), optimizer=optim.Adam),
    "groups": setup(optimizer=grouped),
    "a user's rule": setup(optimizer=lambda ps: optim.Optimizer(ps, signed_momentum, lr=0.1)),
    "its decay": setup(optimizer=lambda ps: optim.Optimizer(ps, signed_momentum, weight_decay=0.1)),
    "StepLR": setup(plan=lambda o: optim.StepLR(o, 7, 0.8)),
    "OneCycleLR": setup(plan=lambda o: optim.OneCycleLR(o, 0.1, 220)),
    "OneCycleLR of Adam": setup(optimizer=optim.Adam, plan=lambda o: optim.OneCycleLR(o, 0.01, 150)),
    "WarmUp": setup(plan=lambda o: optim.WarmUp(o, 9, after=optim.CosineAnnealingLR(o, T_max=50))),
    "clip_grad_norm_": setup(clip=lambda o: optim.clip_grad_norm_(o, 0.1)),
    "of parameters": setup(clip=lambda o: optim.clip_grad_norm_(list(o.parameters.values()), 0.1)),
    "the largest": setup(clip=lambda o: optim.clip_grad_norm_(o, 0.1, float("inf"))),
    "clip_grad_value_": setup(clip=lambda o: optim.clip_grad_value_(o, 0.01)),
    "clipped groups": setup(optimizer=grouped, clip=lambda o: optim.clip_grad_norm_(o, 0.1)),
}


@pytest.mark.interpreted(but=("a deep network", "a user's rule", "OneCycleLR", "clip_grad_norm_"))
@pytest.mark.parametrize("name", SETUPS)
def test_setups(name):
    check(SETUPS[name], pairs())


@pytest.mark.interpreted(but=("adam",))
@pytest.mark.parametrize("name", ["adam", "sgd", "lamb", "muon"])
def test_double_precision(name):
    model = lambda: (nn.MLP([5, 8, 3], "tanh") if name != "muon" else nn.Linear(5, 3, bias=False)).to(
        np.float64
    )
    data = [array.astype(np.float64) for array in pairs(steps=50)]
    check(setup(model, optimizer=optim.optimizers[name]), data, 1e-12)


def test_normalisation_and_dropout_in_double_precision():
    layers = lambda: [
        nn.Linear(5, 8, bias=False),
        nn.BatchNorm1d(8),
        nn.Dropout(0.2),
        nn.LayerNorm(8),
        nn.Linear(8, 3),
    ]
    data = [array.astype(np.float64) for array in pairs(steps=50)]
    check(setup(lambda: nn.Sequential(*layers()).to(np.float64)), data, 1e-12)


# Gradients that add up


def accumulating(often):
    """Steps of two backward passes, and gradients that are forgotten every so many calls or never."""

    def make():
        model = mlp()
        optimizer = sgd(model.parameters())

        def step(x, y):
            if often:
                model.zero_grad()
            for i in (slice(0, 2), slice(2, 6)):
                value = nn.mse_loss(model(x[i]), y[i])
                value.backward()
            optimizer.step()
            return value

        return SimpleNamespace(step=step, model=model, optimizer=optimizer)

    return make


@pytest.mark.interpreted(but=("True",))
@pytest.mark.parametrize("often", [True, False])
def test_backward_passes_accumulate(often):
    check(accumulating(often), pairs(steps=12))


def test_gradients_accumulate_over_calls():
    def run(compiled):
        mg.seed(1)
        model = mlp()
        optimizer = sgd(model.parameters())

        def step(x, y):
            value = nn.mse_loss(model(x), y)
            value.backward()
            return value

        step, losses = mg.jit(step) if compiled else step, []
        for i, batch in enumerate(batches(data, SIZE)):
            losses.append(step(*map(mg.tensor, batch)).data)
            if i % 3 == 2:
                optimizer.step()
                optimizer.zero_grad()
        return {"losses": np.array(losses), **state(SimpleNamespace(model=model, optimizer=optimizer))}

    data = pairs(steps=20)
    close(run(False), run(True), 1e-5)


# State stays the user's


def slower(world, kept):
    world.optimizer.param_groups[0]["lr"] = 0.001


def decayed(world, kept):
    world.optimizer.param_groups[0]["weight_decay"] = 0.2


def loaded(world, kept):
    world.optimizer.load_state_dict(kept["optimizer"])
    world.model.load_state_dict(kept["model"])


def replaced(world, kept):
    world.model[0].weight.data = np.full((5, 8), 0.1, np.float32)


def written(world, kept):
    world.model[0].weight.data[:] = 0.1


def assigned(world, kept):
    world.model[1].bias.grad = np.ones(8, np.float32)


def evaluated(world, kept):
    world.model.eval()


def trained(world, kept):
    world.model.train()


def reseeded(world, kept):
    mg.seed(5)


def without_gradients(world, kept):
    world.optimizer.zero_grad()


def more_dropout(world, kept):
    world.model[2].p = 0.7


def by_hand(world, kept):
    for p in world.model.parameters():
        p.data = p.data * 0.9


CHANGES = [
    [slower], [decayed], [loaded], [replaced], [written], [assigned], [evaluated, trained], [reseeded],
    [without_gradients], [more_dropout], [by_hand], [slower, replaced, loaded, evaluated, by_hand],
]  # fmt: skip


@pytest.mark.interpreted(but=("slower-replaced-loaded-evaluated-by_hand",))
@pytest.mark.parametrize("changes", CHANGES, ids=lambda c: "-".join(f.__name__ for f in c))
def test_what_a_user_changes_between_calls_counts(changes):
    def run(compiled):
        mg.seed(1)
        world = make()
        step = mg.jit(world.step) if compiled else world.step
        kept, losses = state(world), []
        for change in [lambda *_: None, *changes]:
            change(world, kept)
            losses += [step(*map(mg.tensor, batch)).data for batch in batches(data, SIZE)]
        return {"losses": np.stack(losses), **state(world)}

    layers = lambda: [nn.Linear(5, 8, bias=False), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 3)]
    make, data = setup(lambda: nn.Sequential(*layers())), pairs(steps=4)
    close(run(False), run(True), 1e-5)


@pytest.mark.interpreted
def test_eager_and_compiled_calls_take_turns():
    def run(compiled):
        mg.seed(1)
        world = make()
        steps = [world.step, mg.jit(world.step) if compiled else world.step]
        losses = [steps[i // 2 % 2](*map(mg.tensor, b)).data for i, b in enumerate(batches(data, SIZE))]
        return {"losses": np.array(losses), **state(world)}

    make, data = setup(lambda: nn.MLP([5, 8, 3], dropout=0.2), optimizer=optim.Adam), pairs(steps=24)
    close(run(False), run(True), 1e-5)


@pytest.mark.interpreted
def test_two_steps_share_a_model():
    def run(compiled):
        mg.seed(1)
        world = make()
        evaluate = mg.no_grad()(lambda x, y: nn.mse_loss(world.model(x), y))
        step, look = map(mg.jit, (world.step, evaluate)) if compiled else (world.step, evaluate)
        losses = [(step(*map(mg.tensor, b)).data, look(*b if compiled else map(mg.tensor, b)).data)
                  for b in batches(data, SIZE)]  # fmt: skip
        return {"losses": np.array(losses), **state(world)}

    make, data = setup(optimizer=optim.Adam), pairs(steps=12)
    close(run(False), run(True), 1e-5)


# Passes over data


@pytest.mark.parametrize("rows", [50, 3, 6, 0])
@pytest.mark.parametrize("order", [None, np.random.default_rng(1).permutation])
def test_scan_takes_every_row(rows, order):
    data = [array[:rows] for array in pairs(steps=10)]
    order = order and order(rows)
    picked = data if order is None else [array[order] for array in data]
    ends = []
    for compiled in (False, True):
        mg.seed(1)
        world = make_scanned()
        if compiled:
            losses = mg.jit(world.step).scan(*data, batch_size=SIZE, order=order)
            losses = [] if losses is None else losses.data
        else:
            losses = [world.step(*map(mg.tensor, batch)).data for batch in batches(picked, SIZE)]
        ends.append({"losses": np.array(losses), **state(world)})
    close(*ends, 1e-5)


make_scanned = setup()


def test_scan_repeats_and_leaves_out_rows():
    data, order = pairs(steps=10), rng.integers(0, 20, 45)
    ends = []
    for compiled in (False, True):
        mg.seed(1)
        world = make_scanned()
        picked = [array[order] for array in data]
        losses = (
            mg.jit(world.step).scan(*data, batch_size=SIZE, order=order).data if compiled
            else eager(world.step, picked)
        )  # fmt: skip
        ends.append({"losses": losses, **state(world)})
    close(*ends, 1e-5)


def large():
    layers = lambda: (nn.Linear(784, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2))
    model = lambda: nn.Sequential(*layers(), nn.Linear(64, 10))  # cut by rows, by columns and by rows again
    return setup(model, nn.cross_entropy, lambda ps: optim.Adam(ps, lr=1e-3))


def digits(rows):
    local = np.random.default_rng(3)
    return local.uniform(0, 1, (rows, 784)).astype(np.float32), local.integers(0, 10, rows)


def pass_over(make, data, **options):
    """A scan with batches of 128, from the same start."""
    mg.seed(1)
    world = make()
    return {"losses": mg.jit(world.step).scan(*data, batch_size=128, **options).data, **state(world)}


@pytest.mark.slow
def test_a_large_model_on_any_number_of_threads():
    before, results = threads(), []
    data, make = digits(128 * 40), large()
    for n in (1, 2, 2, 3):
        set_threads(n)
        try:
            results.append(pass_over(make, data))
        finally:
            set_threads(before)
    for other in results[1:]:
        close(results[0], other, 0)
    mg.seed(1)
    world = make()
    losses = eager(world.step, data, 128)
    close({"losses": losses, **state(world)}, results[0], 1e-4)


def test_python_threads_train_models_of_their_own():
    def run(seed, results):
        local = np.random.default_rng(seed)
        model = nn.MLP([5, 8, 3], "tanh")
        for p in model.parameters():
            p.data = local.normal(size=p.shape).astype(np.float32)
        optimizer = optim.Adam(model.parameters())

        step = mg.jit(training_step(model, optimizer, nn.mse_loss))

        step(data[0][:SIZE], data[1][:SIZE])
        results[seed] = [step.scan(*data, batch_size=SIZE).data for _ in range(5)] + [
            p.data.copy() for p in model.parameters()
        ]

    data, apart, together = pairs(), {}, {}
    for seed in range(4):
        run(seed, apart)
    crew = [threading.Thread(target=run, args=(seed, together)) for seed in range(4)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    close(apart, together, 0)


def blend(a, b, c):
    """a b + c"""
    return a * b + c


blend = Elementwise(blend)


def blended(p, g, m, v, /, t, lr=1e-2, beta=0.9):
    """A rule that calls functions: one that could be contracted, and one with a number of its own."""
    m = blend(beta, m, (1 - beta) * g)
    v = blend(beta, v, mg.square(mg.leaky_relu(g)))
    return blend(-lr, m / (v + 1e-3), p), m, v


def test_functions_of_two_dtypes_stay_apart_in_one_step():
    """Each keeps its precision, and an optimizer of both the bits of line by line."""
    a, b = rng.normal(size=40), normal(40)
    starts = normal(40).astype(np.float64), normal(40)

    def trained(way):
        weights = [mg.tensor(w, requires_grad=True) for w in starts]
        optimizer = optim.Optimizer(weights, Rule(blended))

        @way
        def step(a, b):
            optimizer.zero_grad()
            sums = [(w * x).sum() for w, x in zip(weights, (a, b), strict=True)]
            (sums[0] + sums[1].to("float64")).backward()
            optimizer.step()
            return mg.gelu(a), mg.gelu(b)

        shapes = [step(mg.tensor(a), mg.tensor(b)) for _ in range(5)][-1]
        states = [value.copy() for state in optimizer.state.values() for value in (state["m"], state["v"])]
        return step, shapes, [*(w.numpy() for w in weights), *states]

    step, shapes, found = trained(mg.jit)
    exact = [special.erf(x / np.sqrt(2)) * x / 2 + x / 2 for x in (a, b.astype(float))]
    for shape, expected, error in zip(shapes, exact, (1e-15, 1e-6), strict=True):
        np.testing.assert_allclose(shape.numpy(), expected, rtol=error, atol=error)
    for here, there in zip(found, trained(lambda step: step)[-1], strict=True):
        np.testing.assert_array_equal(here, there)
    assert "def gelu_float32(x)" in step.source and "tiny_float32" in step.source
