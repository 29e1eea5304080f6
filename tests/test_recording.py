"""What a recorder learns of a step is the whole step: replayed with other inputs, it gives their results."""

import copy

import numpy as np
import pytest

import microgradx as mg
from microgradx import nn, optim
from microgradx.eager.listener import Listener
from microgradx.eager.mode import mode
from microgradx.eager.tensor import Tensor
from microgradx.errors import MicrogradxError
from microgradx.nn.module import structure
from microgradx.optim.base import optimizers


class LookError(MicrogradxError):
    """Somebody looked at values that will be others in the next call."""


class Recorder(Listener):
    """Writes down what happens, array by array; `replay` does it again from other inputs."""

    def __init__(self, *inputs):
        self.first, self.kept, self.live, self.program, self.heard = {}, [], set(), [], []
        self.live = {self.key(t) for t in inputs}

    def key(self, x):
        array = x._data if isinstance(x, Tensor) else x
        if id(array) not in self.first:
            self.first[id(array)] = array.copy()
            self.kept.append(array)  # so that its id stays its own
        return id(array)

    def traced(self, t):
        return id(t._data) in self.live

    def look(self, t, what):
        if self.traced(t):
            raise LookError(what)

    def move(self, source, target):
        """The value of one array is now that of another."""
        self.live = self.live | {target} if source in self.live else self.live - {target}
        self.program.append(lambda env: env.update({target: env[source]}))

    def alias(self, array, t):
        self.move(self.key(t), self.key(array))

    def replace(self, t, new):
        self.move(self.key(new), self.key(t))

    def overwrite(self, t, new):
        self.move(self.key(new), self.key(t))

    def shared(self, t):
        self.key(t)

    def record(self, op, args, params, out):
        def read(a):
            key = self.key(a) if isinstance(a, Tensor | np.ndarray) else None
            return (lambda env: a) if key is None else (lambda env: env[key])

        self.heard.append(op.name)
        known = any(isinstance(a, Tensor | np.ndarray) and self.key(a) in self.live for a in args)
        reads, key, dtype = [read(a) for a in args], self.key(out), out.dtype
        self.live = self.live | {key} if known else self.live - {key}

        def run(env):
            with np.errstate(all="ignore"):
                env[key] = np.asarray(op.forward(*[read(env) for read in reads], **params)).astype(dtype)

        self.program.append(run)

    def drawn(self, t, method, options):
        self.heard.append((method, options))
        self.live.add(self.key(t))

    def remember(self, array):
        self.key(array)

    def number(self, look, dtype):
        t = Tensor(np.array(look(), dtype))
        self.remember(t._data)
        return t

    def gradient(self, leaf, reset=False):
        self.heard.append("reset" if reset else "gradient")
        if not reset and leaf._grad is not None:
            self.live.add(self.key(leaf._grad))

    def gather(self, flat):
        for part in flat.parts:
            self.gradient(part.parameter)

    def state(self, owner, load=False):
        self.heard.append("state")

    def back(self, node, g):
        self.heard.append("back")

    def step(self, optimizer, flat, run):
        self.heard.append("step")

    def schedule(self, schedule):
        self.heard.append("schedule")

    def sweep(self, flat, run, more):
        self.heard.append("sweep")
        t, *carried = run[0].clock.values()
        numbers, update = dict(flat.hyperparameters), flat.update
        more = {name: self.key(x) if isinstance(x, Tensor) else x for name, x in more.items()}
        parts = [[self.key(a) for a in p.operands(update.rule)] for p in run]
        self.live.update(*parts)

        def again(env):
            own = {name: float(env[x]) if x in env else x for name, x in more.items()}
            for keys in parts:
                arrays = [env[key].flatten() for key in keys]
                update(*arrays, t=t + 1, carried=carried, **numbers, **own)
                env.update({k: a.reshape(env[k].shape) for k, a in zip(keys, arrays, strict=True)})

        self.program.append(again)

    def replay(self, inputs):
        """Every array's value in the end, after a run with other arrays in the place of the inputs."""
        env = dict(self.first)
        env.update({self.key(t): array for t, array in inputs})
        for run in self.program:
            run(env)
        return env


def check(make, inputs, others, rtol=1e-4, atol=1e-5):
    """Run a step as it is and recorded: the same; replay it with other inputs: as if run with these.

    `make()` gives a function from inputs to a list of results, and the Tensors that it changes.
    """

    def run(inputs, recorder=None):
        mg.seed(7)
        step, changed = make()
        tensors = [mg.tensor(x) for x in inputs]
        if recorder is not None:
            recorder.live |= {recorder.key(t) for t in (*tensors, *changed)}
        mg.seed(8)
        with mode.having(recorder=recorder):
            results = step(*tensors)
        return [*results, *changed], tensors

    recorder = Recorder()
    recorded, tensors = run(inputs, recorder)
    expected, _ = run(inputs)
    for a, b in zip(recorded, expected, strict=True):
        np.testing.assert_allclose(a.data, b.data, 1e-5, 1e-6)
    env = recorder.replay(zip(tensors, others, strict=True))
    expected, _ = run(others)
    for a, b in zip(recorded, expected, strict=True):
        assert recorder.traced(a)
        np.testing.assert_allclose(env[id(a._data)], b.data, rtol, atol)
    return recorder.heard


def training(model, loss=nn.mse_loss, optimizer=lambda ps: optim.SGD(ps, lr=0.1), clip=lambda ps, o: None):
    """What `check` makes: a training step, with the parameters and buffers that it changes."""

    def make():
        network = model()
        update = optimizer(network.parameters())

        def step(x, y):
            update.zero_grad()
            value = loss(network(x), y)
            value.backward()
            total = clip(network.parameters(), update)
            update.step()
            return [value] if total is None or isinstance(total, float) else [value, total]

        return step, [t for _, t in network.named_tensors()]

    return make


rng = np.random.default_rng(0)


def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)


def pairs(y):
    """Inputs and other inputs of 6 rows, with targets from y()."""
    return (normal(6, 5), y()), (normal(6, 5), y())


LAYERS = [nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.GELU, nn.GELUTanh, nn.Softplus, nn.Sigmoid, nn.Tanh]
LAYERS += [nn.Softmax, nn.LogSoftmax, nn.Flatten, nn.Dropout]
LAYERS += [lambda: nn.LayerNorm(8), lambda: nn.BatchNorm1d(8), lambda: nn.Linear(8, 8, bias=False)]


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer(layer):
    model = lambda: nn.Sequential(nn.Linear(5, 8), layer(), nn.Linear(8, 3))
    heard = check(training(model), *pairs(lambda: normal(6, 3)))
    assert all(what in heard for what in ("reset", "affine", "mean", "back", "sum", "step", "sweep"))


def test_embeddings():
    model = lambda: nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(8, 3))
    words = lambda: (rng.integers(0, 7, (6, 2)), normal(6, 3))
    heard = check(training(model), words(), words())
    assert "getitem" in heard and "put" in heard


def test_dropout_draws_the_same_numbers_as_before():
    x = mg.ones(64, dtype=np.float64)
    recorder = Recorder()
    with mode.having(recorder=recorder):
        y = nn.Dropout(0.3)(x)
        mg.randn(2, 3)
    mg.seed(0)
    keep = mg.generator.uniform(64) >= 0.3
    np.testing.assert_array_equal(y.data, x.data * (keep / (1 - 0.3)))
    drawn = [what for what in recorder.heard if type(what) is tuple]
    assert drawn == [
        ("uniform", {"shape": (64,), "low": 0, "high": 1, "dtype": np.dtype(np.float32)}),
        ("normal", {"shape": (2, 3), "dtype": np.dtype(np.float32)}),
    ]


def labels(low=0, shape=(6,)):
    return lambda: rng.integers(low, 3, shape)


def chances():
    p = rng.uniform(0.1, 1, (6, 3)).astype(np.float32)
    return p / p.sum(1, keepdims=True)


WEIGHT = np.array([0.5, 1.0, 2.0])
LOSSES = {
    "cross_entropy": (nn.cross_entropy, labels()),
    "sum": (lambda x, y: nn.cross_entropy(x, y, reduction="sum"), labels()),
    "weight": (lambda x, y: nn.cross_entropy(x, y, weight=WEIGHT), labels()),
    "ignore": (lambda x, y: nn.cross_entropy(x, y, ignore_index=0), labels()),
    "smooth": (lambda x, y: nn.cross_entropy(x, y, label_smoothing=0.1), labels()),
    "everything": (lambda x, y: nn.cross_entropy(x, y, WEIGHT, 1, label_smoothing=0.1), labels()),
    "soft": (lambda x, y: nn.cross_entropy(x, y, weight=WEIGHT, label_smoothing=0.1), chances),
    "pixels": (lambda x, y: nn.cross_entropy(mg.reshape(x, 3, 3, 2), y), labels(shape=(3, 2))),
    "nll_loss": (lambda x, y: nn.nll_loss(mg.log_softmax(x), y), labels()),
    "nll_weight": (lambda x, y: nn.nll_loss(mg.log_softmax(x), y, WEIGHT, 2), labels()),
    "mse_loss": (nn.mse_loss, chances),
    "l1_loss": (nn.l1_loss, chances),
    "huber_loss": (nn.huber_loss, chances),
    "bce": (nn.binary_cross_entropy_with_logits, chances),
    "bce_weight": (
        lambda x, y: nn.binary_cross_entropy_with_logits(x, y, WEIGHT, pos_weight=WEIGHT),
        chances,
    ),
    "kl_div": (lambda x, y: nn.kl_div(mg.log_softmax(x), y, "batchmean"), chances),
    "kl_div_log": (lambda x, y: nn.kl_div(mg.log_softmax(x), mg.log(y), log_target=True), chances),
}


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss(name):
    loss, targets = LOSSES[name]
    check(training(lambda: nn.MLP([5, 4, 3], "tanh"), loss), *pairs(targets))


def test_class_weights_may_be_traced():
    loss = lambda x, y: nn.cross_entropy(x, mg.tensor([0, 1, 2, 0, 1, 2]), weight=y)
    check(training(lambda: nn.MLP([5, 4, 3], "tanh"), loss), *pairs(lambda: np.abs(normal(3))))


@pytest.mark.parametrize("name", sorted(optimizers.keys() - {"lbfgs"}))  # which is refused
def test_every_optimizer(name):
    if name == "muon":
        model = lambda: nn.Linear(5, 3, bias=False)
    else:
        model = lambda: nn.MLP([5, 4, 3], "tanh")
    kind = optimizers[name]
    heard = check(training(model, optimizer=kind), *pairs(lambda: normal(6, 3)), rtol=1e-3, atol=1e-4)
    assert heard.index("step") < heard.index("sweep")


@pytest.mark.parametrize("options", [{"adjust_lr_fn": "match_rms_adamw"}, {"decoupled_weight_decay": False}])
def test_options_of_muon(options):
    make = training(lambda: nn.Linear(3, 3, bias=False), optimizer=lambda ps: optim.Muon(ps, **options))
    inputs = (normal(6, 3), normal(6, 3)), (normal(6, 3), normal(6, 3))
    check(make, *inputs, rtol=1e-3, atol=1e-4)


CLIPS = {
    "norm": lambda ps, o: optim.clip_grad_norm_(ps, 0.1),
    "flat": lambda ps, o: optim.clip_grad_norm_(o, 0.1),
    "enough": lambda ps, o: optim.clip_grad_norm_(o, 1e6),
    "inf": lambda ps, o: optim.clip_grad_norm_(o, 0.1, float("inf")),
    "1": lambda ps, o: optim.clip_grad_norm_(list(ps), 0.1, 1),
    "3": lambda ps, o: optim.clip_grad_norm_(o, 0.1, 3),
    "value": lambda ps, o: optim.clip_grad_value_(ps, 0.01),
    "all values": lambda ps, o: optim.clip_grad_value_(o, 0.01),
}


@pytest.mark.parametrize("name", CLIPS)
def test_clipping(name):
    make = training(lambda: nn.MLP([5, 4, 3], "tanh"), clip=CLIPS[name])

    def step_and_total():  # eager, the total is a number
        step, changed = make()
        return lambda x, y: step(x, y)[:1], changed

    check(step_and_total, *pairs(lambda: normal(6, 3)))


def test_the_total_norm_is_a_tensor():
    p = mg.tensor([3.0, 4.0], requires_grad=True)
    p.grad = [3.0, 4.0]
    recorder = Recorder(p)
    with mode.having(recorder=recorder):
        total = optim.clip_grad_norm_(p, 1.0)
        with pytest.raises(LookError, match="error_if_nonfinite=True"):
            optim.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
        assert optim.clip_grad_norm_([], 1.0) == 0
    assert total.item() == 5 and recorder.traced(total)
    np.testing.assert_allclose(p.grad.data, [0.6, 0.8], rtol=1e-5)


def test_gradients_add_up():
    def make():
        model = nn.MLP([5, 4, 3], "tanh")
        optimizer = optim.Adam(model.parameters())

        def step(x, y):
            model.zero_grad()
            for i in (slice(0, 3), slice(3, 6)):
                nn.mse_loss(model(x[i]), y[i]).backward()
            loose = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)  # without an optimizer
            (loose * y).sum().backward()
            (loose * loose * y).sum().backward()
            optimizer.step()
            return [loose.grad, model[0].weight.grad]

        return step, list(model.parameters())

    check(make, *pairs(lambda: normal(6, 3)))


def test_a_kept_gradient_is_read():
    p = mg.tensor([1.0, 2.0], requires_grad=True)
    p.grad = [1.0, 1.0]
    recorder = Recorder(p)
    with mode.having(recorder=recorder):
        (p * p).sum().backward(retain_graph=True)
        p.grad = None
    assert recorder.heard.index("gradient") < recorder.heard.index("reset")


def function(f):
    """What `check` makes of a function without memory."""
    return lambda: (lambda *inputs: f(*inputs), [])


def cube(x):
    return (x * x * mg.sin(x)).sum()


def penalised(x, y):
    """A gradient in the loss, as backward(create_graph=True) leaves it."""
    w = mg.tensor([1.0, 2.0, 0.5], requires_grad=True)
    ((x * w).sum(1).sigmoid()).sum().backward(create_graph=True)
    slope = w.grad
    w.grad = None
    (slope * slope * y).sum().backward()
    return [slope, w.grad]


FUNCTIONS = {
    "value_and_grad": lambda x, y: [*mg.value_and_grad(cube)(x), mg.grad(lambda x: (y * y).sum())(x) + 0 * x],
    "hvp": lambda x, y: [mg.hvp(cube, x, y)],
    "hessian": lambda x, y: [mg.hessian(cube)(x)],
    "grad of grad": lambda x, y: [mg.grad(lambda z: (mg.grad(cube)(z) * y).sum())(x)],
    "rows": lambda x, y: [*mg.value_and_grad(lambda z: (z[mg.argmax(y, 1)] * y[:, :1]).sum())(x)],
    "gather": lambda x, y: [mg.gather(x, mg.argmax(y, 1, True), 1), mg.one_hot(mg.argmax(y, 1), 3) * 2],
    "prod": lambda x, y: [*mg.value_and_grad(lambda z: mg.prod(z * y, 1).sum())(x)],
    "max": lambda x, y: [*mg.value_and_grad(lambda z: (mg.max(z, 1) * mg.min(y)).sum())(x)],
    "cumsum": lambda x, y: [*mg.value_and_grad(lambda z: (mg.cumsum(z, 0) * y).std())(x)],
    "cat": lambda x, y: [*mg.value_and_grad(lambda z: (mg.pad(mg.cat([z, y]), 1) ** 3).sum())(x)],
    "einsum": lambda x, y: [*mg.value_and_grad(lambda z: mg.einsum("ij,kj->ik", z, y).var())(x)],
    "copies": lambda x, y: [mg.tensor(x), Tensor(x, np.float64), x.clone(), x.detach(), x.T],
    "given": lambda x, y: [mg.value_and_grad(cube)(x.to(np.float64))[1]],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    check(function(FUNCTIONS[name]), (normal(3, 3), normal(3, 3)), (normal(3, 3), normal(3, 3)))


def test_gradients_within_a_loss():
    inputs = [(normal(4, 3), normal(3)) for _ in range(2)]
    check(function(penalised), *inputs)


def test_a_start_for_backward():
    def f(x, y):
        w = mg.tensor(np.ones((3, 3)), requires_grad=True)
        (x @ w.to(np.float32)).backward(y)
        return [w.grad]

    check(function(f), (normal(3, 3), normal(3, 3)), (normal(3, 3), normal(3, 3)))


LOOKS = [
    ("data", lambda t: t.data),
    ("data", lambda t: setattr(t, "data", t.data - 1)),
    ("numpy", lambda t: t.numpy()),
    ("item", lambda t: t.item()),
    ("item", lambda t: bool(t > 0)),
    ("item", float),
    ("item", int),
    ("item", lambda t: f"{t:.2f}"),
    ("printing", lambda t: f"{t}"),
    ("tolist", lambda t: t.tolist()),
    ("copying or pickling", copy.deepcopy),
    ("conversion to an array", np.asarray),
    ("conversion to an array", lambda t: mg.tensor([t, t])),
    ("conversion to an array", lambda t: mg.one_hot(mg.argmax(t.reshape(1), 0))),
    ("conversion to an array", lambda t: mg.pad(mg.ones(2), 1, value=t)),
    ("a boolean mask as an index", lambda t: mg.ones(1)[t.reshape(1) > 0]),
    ("assignment to elements", lambda t: t.__setitem__((), 1.0)),
    ("assignment to elements", lambda t: mg.zeros(2).__setitem__(0, t)),
]


@pytest.mark.parametrize("what, look", LOOKS)
def test_looking_is_refused(what, look):
    t = mg.tensor(2.0)
    with mode.having(recorder=Recorder(t)):
        with pytest.raises(LookError, match=what):
            look(t)
        look(mg.tensor(3.0))
    look(t)


def test_an_integer_is_refused_as_an_index_of_a_list():
    t = mg.tensor(1)
    with mode.having(recorder=Recorder(t)), pytest.raises(LookError, match="item"):
        [1, 2, 3][t]
    assert [1, 2, 3][t] == 2


def test_states_and_averages_stay_outside():
    model = nn.Linear(2, 1)
    average, state = optim.EMA(model.parameters()), model.state_dict()
    outside = [average.update, model.state_dict, lambda: model.load_state_dict(state)]
    outside += [lambda: average.assign(average.averages)]
    with mode.having(recorder=Recorder(*model.parameters())):
        for call in outside:
            with pytest.raises(LookError):
                call()


def test_schedules_say_that_they_go_on():
    p = mg.ones(2, requires_grad=True)
    optimizer = optim.SGD([p], lr=1.0)
    schedules = [optim.StepLR(optimizer, 1, 0.5), optim.ReduceLROnPlateau(optimizer)]
    recorder = Recorder(p)
    with mode.having(recorder=recorder):
        schedules[0].step()
        schedules[1].step(1.0)
    assert recorder.heard == ["schedule"] * 2 and optimizer.param_groups[0]["lr"] == 0.5


def test_new_parameter_values_are_brought_home():
    def make():
        model = nn.Linear(5, 3)
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x, y):
            optimizer.zero_grad()
            model.weight.data = model.weight.detach() * 0.5
            model.bias.grad = y.sum(0)
            nn.mse_loss(model(x), y).backward()
            optimizer.step()
            return [model.bias.grad]

        return step, list(model.parameters())

    check(make, *pairs(lambda: normal(6, 3)))


def test_models_count_their_changes():
    model = nn.MLP([2, 3, 1], dropout=0.1)
    changes = []
    for change in (
        model.train, model.eval, model.eval, lambda: setattr(model[2], "p", 0.2),
        lambda: setattr(model[2], "p", model[2].p), lambda: model(mg.ones(1, 2)),
    ):  # fmt: skip
        before = structure[0]
        change()
        changes.append(structure[0] > before)
    assert changes == [False, True, False, True, False, False]
