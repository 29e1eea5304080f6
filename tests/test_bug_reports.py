"""What users of other libraries reported, tried here: what is right by hand, or by NumPy alone.

A row says where the report is and what was tried. `run(how)` computes it, eager (`how` is nothing) and
compiled (`how` is `mg.jit`); a step that is reported on is the function that `how` is given.
"""

import gzip
import math

import numpy as np
import pytest

import microgradx as mg
from microgradx import data, nn, optim
from microgradx.errors import ArgumentError, DataError, NonFiniteError, ShapeError

INF, NAN = math.inf, math.nan
HOW = {"eager": lambda function: function, "compiled": mg.jit}

# Gradients at ties, zeros, branch points and infinities: a function of an array, the array, its gradient

# fmt: off
GRADIENTS = {
    "pytorch/pytorch#56734 maximum of two at a tie": (lambda x: mg.maximum(x[0], x[1]), [2, 2], [0.5, 0.5]),
    "tensorflow/tensorflow#51681 reduce_max at a tie": (mg.max, [0.6, 0.6, 0.3], [0.5, 0.5, 0]),
    "pytorch/pytorch#7002 clamp at its ends": (lambda x: mg.clip(x, 0, 1).sum(), [-1, 0, 1, 2], [0, 1, 1, 0]),
    "tinygrad/tinygrad#229 max along an axis, ties": (
        lambda x: mg.max(x, axis=1).sum(), [[1, 1], [0, 3]], [[0.5, 0.5], [0, 1]]),
    "pytorch/pytorch#2421 norm of zero": (mg.norm, [0, 0, 0], [0, 0, 0]),
    "HIPS/autograd#151 norms of rows, one of them zero": (
        lambda x: mg.norm(x, axis=1).sum(), [[0, 0], [3, 4]], [[0, 0], [0.6, 0.8]]),
    "HIPS/autograd#586 squared norm of zero": (lambda x: mg.norm(x) ** 2, [0, 0], [0, 0]),
    "jax-ml/jax#21723 squared norm of one zero": (lambda x: mg.norm(x) ** 2, [0], [0]),
    "tensorflow/tensorflow#12071 norms of tiny numbers": (
        lambda x: mg.norm(x, axis=0).sum(), [[1, 0, 1e-16, 1e-19]], [[1, 0, 1, 1]]),
    "tensorflow/tensorflow#5562 squared norm of differences that vanish": (
        lambda x: mg.norm(mg.stack([x[0] - x[1], x[2] - x[3]])) ** 2, [1, 1, 2, 2], [0, 0, 0, 0]),
    "pytorch/pytorch#4320 std of equal numbers": (
        lambda x: mg.std(x, axis=0).sum(), [[1, 1], [1, 1]], [[0, 0], [0, 0]]),
    "tensorflow/tensorflow#2295 power of a clipped zero": (
        lambda x: (mg.clip(x, 0, 1) ** 2.4).sum(), [0, 0.5], [0, 2.4 * 0.5**1.4]),
    "pytorch/pytorch#27134 0**b by b": (
        lambda b: (np.array([0, 2], np.float32) ** b).sum(), [1, 1], [0, 2 * math.log(2)]),
    "torch/DEPRECEATED-torch7-distro#60 power of zero": (lambda x: (x**3).sum(), [0, 2], [0, 12]),
    "tracel-ai/burn#5533 product with a zero": (mg.prod, [2, 0, 3, 4], [0, 24, 0, 0]),
    "tracel-ai/burn#5533 product with two zeros": (mg.prod, [2, 0, 0], [0, 0, 0]),
    "apache/mxnet#17864 products of rows": (lambda x: mg.prod(x, axis=1).sum() * 9, [[4, 0]], [[0, 36]]),
    "pytorch/pytorch#1835 log sigmoid far out": (
        lambda x: -mg.softplus(-x).sum(), [-300, 0, 300], [1, 0.5, 0]),
    "tracel-ai/burn#5373 softplus of large numbers": (
        lambda x: mg.softplus(x).sum(), [20, 50, 100, 1e4], [1, 1, 1, 1]),
    "jeshraghian/snntorch#433 steep sigmoid": (lambda x: mg.sigmoid(25 * x).sum(), [-5, 0, 5], [0, 6.25, 0]),
    "FluxML/NNlib.jl#68 cross entropy of far logits": (
        lambda x: nn.cross_entropy(x, np.array([0])), [[-431, 279, 427]], [[-1, 0, 1]]),
    "FluxML/NNlib.jl#68 softmax of far logits": (
        lambda x: mg.softmax(x, axis=1).sum(), [[-1047, -981, 1891]], [[0, 0, 0]]),
    "pytorch/pytorch#49724 logsumexp beside -inf": (lambda x: mg.logsumexp(x, axis=0), [-INF, 1], [0, 1]),
    "jax-ml/jax#23842 logsumexp of a part": (
        lambda x: mg.logsumexp(mg.where(np.array([True, False]), x, -INF), axis=0), [0, 100], [1, 0]),
    "pytorch/pytorch#1631 gather of an index twice": (
        lambda x: (mg.gather(x, np.array([0, 0]), 0) * np.array([0.2, 0.3], np.float32)).sum(), [0.1], [0.5]),
    "pytorch/pytorch#1528 the first of an element taken twice": (lambda x: x[np.array([0, 0])][0], [1], [1]),
    "pymc-devs/pytensor#2242 repeated indices add up": (
        lambda x: x[np.array([1, 1, 0])].sum(), [1, 2, 3], [1, 2, 0]),
    "jax-ml/jax#347 where before sqrt, the safe way": (
        lambda x: mg.sqrt(mg.where((x * x).sum(1) > 0.5, (x * x).sum(1), 1.0)).sum(),
        [[3, 4], [0, 0]], [[0.6, 0.8], [0, 0]]),
}
# fmt: on


@pytest.mark.interpreted
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("report", GRADIENTS)
def test_gradients(report, how):
    function, x, right = GRADIENTS[report]
    with np.errstate(all="ignore"):
        gradient = HOW[how](lambda x: mg.value_and_grad(function)(x)[1])(np.array(x, np.float32))
    np.testing.assert_allclose(gradient.data, right, 1e-5, 1e-7)


# What a `where` leaves out still has a gradient, zero times infinity: there and here it is NaN

LEFT_OUT = {
    "pytorch/pytorch#187297": (lambda x: mg.where(x > 0, mg.sqrt(x), x).sum(), [-1, -4], "sqrt"),
    "pytorch/pytorch#68425": (lambda x: mg.where(x <= 0, mg.exp(x), 1 + x).sum(), [100], "exp"),
    "pytorch/pytorch#108618": (lambda x: mg.where(x > 2, mg.log(x), 2 * x).sum(), [0, 3], "log"),
    "pytorch/pytorch#52248": (lambda x: mg.where(np.array([False]), x / 0, 1.0).sum(), [2], "div"),
}


@pytest.mark.interpreted
@pytest.mark.parametrize("report", LEFT_OUT)
def test_what_a_where_leaves_out_is_found_by_name(report):
    function, x, operation = LEFT_OUT[report]
    gradient = mg.value_and_grad(function)
    x = np.array(x, np.float32)
    with np.errstate(all="ignore"):
        assert np.isnan(gradient(x)[1].data[0])
        np.testing.assert_array_equal(mg.jit(lambda x: gradient(x)[1])(x).data, gradient(x)[1].data)
        with mg.detect_anomaly(), pytest.raises(NonFiniteError, match=operation):
            gradient(x)


# Losses


def naive_cross_entropy(x, labels, weight=None, smoothing=0.0, ignored=-100):
    """Row by row, in float64, as its definition says."""
    x, classes = np.asarray(x, np.float64), len(x[0])
    weight = np.ones(classes) if weight is None else np.array(weight)
    total = norm = 0.0
    for row, label in zip(x, labels, strict=True):
        if label != ignored:
            log_p = row - row.max() - math.log(np.exp(row - row.max()).sum())
            smooth = (weight * log_p).sum() / classes
            total -= (1 - smoothing) * weight[label] * log_p[label] + smoothing * smooth
            norm += weight[label]
    return total / norm


LOGITS = np.array([[0.5, -1, 2], [3, 0.1, -2], [0, 0, 0.5], [1, 2, 3]], np.float32)
LABELS = np.array([2, 1, 0, 1])
WEIGHT = np.array([0.2, 1.0, 3.0], np.float32)
LOSSES = {
    "pytorch/pytorch#22957 a weighted mean": {"weight": WEIGHT},
    "pytorch/pytorch#104776 weights and smoothing": {"weight": WEIGHT, "label_smoothing": 0.1},
    "fastai/fastai#1814 smoothing over few classes": {"label_smoothing": 0.3},
    "pytorch/pytorch#63004 an ignored label that is a class": {"ignore_index": 1},
    "pytorch/pytorch#12670 an ignored label that is none": {"ignore_index": 1, "weight": WEIGHT},
}


@pytest.mark.interpreted
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("report", LOSSES)
def test_cross_entropy(report, how):
    options = LOSSES[report]
    loss = HOW[how](lambda x: nn.cross_entropy(x, LABELS, **options))(LOGITS)
    names = {"label_smoothing": "smoothing", "ignore_index": "ignored"}
    right = naive_cross_entropy(LOGITS, LABELS, **{names.get(k, k): v for k, v in options.items()})
    assert loss.item() == pytest.approx(right, rel=1e-5)


@pytest.mark.interpreted
@pytest.mark.parametrize("how", HOW)
def test_all_labels_ignored_leave_the_weights_alone(how):
    """pytorch/pytorch#70348, #75181, #116349: the mean of nothing is NaN, its gradient 0."""
    step = HOW[how](mg.value_and_grad(lambda x: nn.cross_entropy(x, np.full(4, -100))))
    loss, gradient = step(LOGITS)
    assert math.isnan(loss.item()) and not gradient.data.any()


@pytest.mark.interpreted
@pytest.mark.parametrize("how", HOW)
def test_smoothed_labels_are_met_exactly(how):
    """pytorch/pytorch#148884: with two classes and ε = 0.1 the best is 0.95, its loss the entropy."""
    x = np.log(np.array([[0.95, 0.05]], np.float32))
    step = HOW[how](mg.value_and_grad(lambda x: nn.cross_entropy(x, np.array([0]), label_smoothing=0.1)))
    loss, gradient = step(x)
    assert loss.item() == pytest.approx(-0.95 * math.log(0.95) - 0.05 * math.log(0.05), rel=1e-5)
    np.testing.assert_allclose(gradient.data, 0, atol=1e-7)


@pytest.mark.interpreted
@pytest.mark.parametrize("how", HOW)
def test_a_label_that_is_no_class_is_named(how):
    """pytorch/pytorch#12670: -4 among the labels gave a number, another one each time."""
    with pytest.raises(ArgumentError, match="3 classes allow labels 0 to 2, not -4 to 2"):
        HOW[how](lambda x, y: nn.cross_entropy(x, y))(LOGITS, np.array([0, -4, 1, 2]))


# Optimizers: parameters with gradients that are known, against the update by hand


def adam(p, gradients, lr=0.1, betas=(0.9, 0.999), decay=0.0):
    """Kingma & Ba, Algorithm 1, with decoupled decay, for one number."""
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
        p = p * (1 - lr * decay)
        p -= lr * m / (1 - betas[0] ** t) / (math.sqrt(v / (1 - betas[1] ** t)) + 1e-8)
    return p


class Two:
    """Two parameters, 1 and 2; a loss of 3a - 5b has the gradients 3 and -5."""

    def __init__(self):
        self.a, self.b = (mg.tensor([x], requires_grad=True) for x in (1.0, 2.0))

    def named(self, order="ab"):
        return [(name, getattr(self, name)) for name in order]

    def step(self, how, optimizer, **slopes):
        used = [(slope, getattr(self, name)) for name, slope in (slopes or {"a": 3.0, "b": -5.0}).items()]

        @how
        def step():
            optimizer.zero_grad()
            sum((slope * p).sum() for slope, p in used).backward()
            optimizer.step()

        return step

    def values(self):
        return [self.a.item(), self.b.item()]


def unused(how):
    """The second parameter has no gradient: it must not decay."""
    two = Two()
    optimizer = optim.AdamW(two.named(), lr=0.1, weight_decay=0.5)
    step = two.step(how, optimizer, a=3.0)
    step(), step()
    return two.values()


def no_more_used(how):
    """Momentum from earlier must not move what has no gradient now."""
    two = Two()
    optimizer = optim.Adam(two.named(), lr=0.1)
    both, one = two.step(how, optimizer), two.step(how, optimizer, a=3.0)
    both(), both(), one()
    return two.values()


def frozen(how):
    """requires_grad = False, after steps, with decay."""
    two = Two()
    optimizer = optim.AdamW(two.named(), lr=0.1, weight_decay=0.5)
    two.step(how, optimizer)()
    two.b.requires_grad = False
    step = two.step(how, optimizer)
    step(), step()
    return two.values()


def zero_gradient(how):
    """A gradient of zeros is a gradient: the weight decays."""
    two = Two()
    two.step(how, optim.SGD(two.named(), lr=0.1, weight_decay=0.5), a=3.0, b=0.0)()
    return two.values()


def other_betas(how):
    """Resumed with the saved betas, whatever the constructor was given."""
    two, again = Two(), Two()
    first = optim.AdamW(two.named(), lr=0.1, betas=(0.5, 0.6), weight_decay=0.5)
    step = two.step(how, first)
    step(), step()
    second = optim.AdamW(again.named(), lr=0.7)
    again.a.data[:], again.b.data[:] = two.values()
    second.load_state_dict(first.state_dict())
    again.step(how, second)()
    return again.values()


def empty_state(how):
    """A state saved before the first step, and read: the first step is still the first."""
    two = Two()
    optimizer = optim.Adam(two.named(), lr=0.1)
    optimizer.load_state_dict(optimizer.state_dict())
    two.step(how, optimizer)()
    return two.values()


def other_order(how):
    """A state goes to parameters by their names."""
    two, again = Two(), Two()
    one, other = optim.Adam([{"params": two.named()}], lr=0.1), optim.Adam(again.named("ba"), lr=0.1)
    step = two.step(how, one)
    step(), step()
    saved = one.state_dict()
    saved["param_groups"][0]["param_names"].reverse()
    again.a.data[:], again.b.data[:] = two.values()
    other.load_state_dict(saved)
    again.step(how, other)()
    return again.values()


def tied(how):
    """A weight that two layers share gets both gradients, and one step."""
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data[:] = 3.0
    model = nn.Sequential(layer, layer)
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    @how
    def step():
        optimizer.zero_grad()
        model(np.ones((1, 1), np.float32)).sum().backward()  # w², slope 2w
        optimizer.step()

    step()
    return [layer.weight.item()]


def in_two_groups(how):
    """A parameter that a later group has, too, stays in the first, and steps once."""
    two = Two()
    groups = [{"params": two.named("a")}, {"params": two.named("ab"), "lr": 0.5}]
    two.step(how, optim.SGD(groups, lr=0.1))()
    return two.values()


def over_global_norm(how):
    """Gradients 3 and 4 together have norm 5."""
    two = Two()
    optimizer = optim.SGD(two.named(), lr=1.0)

    @how
    def step():
        optimizer.zero_grad()
        (3 * two.a + 4 * two.b).sum().backward()
        optim.clip_grad_norm_(optimizer, 1.0)
        optimizer.step()

    step()
    return two.values()


def huge_gradients(how):
    """Squares that overflow float32 do not make the norm infinite."""
    w = mg.tensor(np.zeros(128, np.float32), requires_grad=True)
    optimizer = optim.SGD([w], lr=1.0)

    @how
    def step():
        optimizer.zero_grad()
        (w * 1e30).sum().backward()
        optim.clip_grad_norm_(optimizer, 2.0)
        optimizer.step()

    step()
    return w.data[:1]


def accumulated(how):
    """Several backward calls add up, also those of the last, smaller batch."""
    two = Two()
    optimizer = optim.SGD(two.named(), lr=0.1)

    @how
    def add(x):
        (two.a * x).sum().backward()

    optimizer.zero_grad()
    for batch in ([1, 2, 3], [4, 5, 6], [7]):
        add(np.array(batch, np.float32))
    optimizer.step()
    return two.values()


def fit_in_parts(how):
    """Three calls of fit with one optimizer are one of three epochs; full batches, a mean by weights."""
    model = nn.Linear(1, 1, bias=False)
    model.weight.data[:] = 2.0
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    rows = np.array([[1], [2]], np.float32), np.zeros((2, 1), np.float32)
    options = {"loss": nn.mse_loss, "batch_size": 2, "progress": False, "eager": how is HOW["eager"]}
    for _ in range(3):
        mg.fit(model, optimizer, rows, epochs=1, sample_weight=np.array([3, 1]), **options)
    return [model.weight.item()]


def momentum_by_hand(w=2.0, v=0.0):
    for _ in range(3):
        v = 0.5 * v + 2 * w * (3 * 1 + 1 * 4) / (3 + 1)  # Σ weight x² 2w / Σ weight
        w -= 0.1 * v
    return w


STEPS = {
    "KellerJordan/Muon#54": (unused, [adam(1, [3] * 2, decay=0.5), 2]),
    "pytorch/pytorch#150610": (unused, [adam(1, [3] * 2, decay=0.5), 2]),
    "tensorflow/swift-apis#421": (no_more_used, [adam(1, [3] * 3), adam(2, [-5] * 2)]),
    "ahrefs/ocannl#673": (frozen, [adam(1, [3] * 3, decay=0.5), adam(2, [-5], decay=0.5)]),
    "pytorch/pytorch#38581": (zero_gradient, [1 - 0.1 * (3 + 0.5 * 1), 2 - 0.1 * 0.5 * 2]),
    "tenstorrent/tt-metal#53212": (
        other_betas,
        [adam(p, [g] * 3, betas=(0.5, 0.6), decay=0.5) for p, g in ((1, 3), (2, -5))],
    ),
    "pytorch/pytorch#2647": (empty_state, [adam(1, [3]), adam(2, [-5])]),
    "pytorch/torchtitan#4382": (empty_state, [adam(1, [3]), adam(2, [-5])]),
    "piergiaj/pytorch-i3d#38": (other_order, [adam(1, [3] * 3), adam(2, [-5] * 3)]),
    "torch/torch7#716": (tied, [3 - 0.1 * 2 * 3]),
    "deepspeedai/DeepSpeed#195": (in_two_groups, [1 - 0.1 * 3, 2 + 0.5 * 5]),
    "volcengine/veGiantModel#6": (in_two_groups, [1 - 0.1 * 3, 2 + 0.5 * 5]),
    "keras-team/keras#13575": (over_global_norm, [1 - 0.6, 2 - 0.8]),
    "tensorflow/tensorflow#29108": (over_global_norm, [1 - 0.6, 2 - 0.8]),
    "deepmodeling/deepmd-kit#5519": (huge_gradients, [-2 / math.sqrt(128)]),
    "accumulation over a smaller last batch": (accumulated, [1 - 0.1 * 28, 2]),
    "scikit-learn/scikit-learn#6091": (fit_in_parts, [momentum_by_hand()]),
    "scikit-learn/scikit-learn#30155": (fit_in_parts, [momentum_by_hand()]),
}


@pytest.mark.interpreted
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("report", STEPS)
def test_steps(report, how):
    run, right = STEPS[report]
    np.testing.assert_allclose(run(HOW[how]), right, 1e-5)


def test_gradients_that_are_not_finite_stop_a_clip():
    """pytorch/pytorch#46849: an infinite norm scaled all gradients to 0 or NaN."""
    two = Two()
    optimizer = optim.SGD(two.named(), lr=0.1)
    two.a.grad, two.b.grad = mg.tensor([INF]), mg.tensor([1.0])
    with pytest.raises(NonFiniteError, match="norm of the gradients is inf; nothing was scaled"):
        optim.clip_grad_norm_(optimizer, 1.0, error_if_nonfinite=True)
    assert two.b.grad.item() == 1.0


@pytest.mark.parametrize("name", ["Adam", "AdaBelief", "Yogi"])
def test_no_gradient_at_all_moves_nothing(name):
    """google-deepmind/optax#1754, #1752: 0 / (√0 + ε), and a clip of nothing to nothing, were NaN."""
    two = Two()
    optimizer = getattr(optim, name)(two.named(), lr=0.1)
    two.a.grad, two.b.grad = mg.zeros(1), mg.zeros(1)
    assert optim.clip_grad_norm_(optimizer, 0.0) == 0
    optimizer.step()
    assert two.values() == [1, 2]


def test_each_parameter_counts_its_own_steps():
    """zeke-xie/adaptive-inertia-adai#3: a count in common went on twice in a layer of two parameters."""
    layer = nn.Linear(2, 2)
    optimizer = optim.Adam(layer.named_parameters())
    layer(np.ones((1, 2), np.float32)).sum().backward()
    optimizer.step()
    assert [state["t"] for state in optimizer.state.values()] == [1, 1]


# Schedules: learning rates as steps of plain descent under a slope of 1


def rates(how, make, steps, lr=1.0):
    """How far each step goes, the schedule inside the step; `lr` is set by hand before the first."""
    w = mg.tensor(np.zeros(1, np.float64), requires_grad=True)
    optimizer = optim.SGD([w], lr=1.0)
    schedule = make(optimizer)

    @how
    def step():
        optimizer.zero_grad()
        w.sum().backward()
        optimizer.step()
        schedule.step()

    if lr != 1.0:
        optimizer.param_groups[0]["lr"] = lr
    places = [0.0]
    for _ in range(steps):
        step()
        places.append(w.item())
    return -np.diff(places)


def half_cosine(t, length):
    return (1 + math.cos(math.pi * t / length)) / 2


def constant_then_constant(o):
    return optim.SequentialLR(o, [optim.ConstantLR(o, 0.5, 2), optim.ConstantLR(o, 0.2, 10)], [2])


def resumed(make, after):
    """A schedule that goes on from the state of another."""

    def build(optimizer):
        first = make(optimizer)
        for _ in range(after):
            first.step()
        optimizer.param_groups[0].update(lr=1.0)  # the optimizer's state is not loaded
        second = make(optimizer)
        second.load_state_dict(first.state_dict())
        return second

    return build


RATES = {
    "pytorch/pytorch#72874 first of two": (
        lambda o: optim.SequentialLR(o, [optim.ConstantLR(o, 1.0), optim.ConstantLR(o, 0.1)], [3]),
        [1, 1, 1, 0.1, 0.1],
    ),
    "pytorch/pytorch#67586 warm up, then decay": (
        lambda o: optim.SequentialLR(o, [optim.LinearLR(o, 0.5, 1.0, 2), optim.ExponentialLR(o, 0.9)], [2]),
        [0.5, 0.75, 1, 0.9, 0.81],
    ),
    "pytorch/pytorch#196243 one around another": (
        lambda o: optim.SequentialLR(o, [constant_then_constant(o)], []),
        [0.5, 0.5, 0.2, 0.2],
    ),
    "pytorch/pytorch#185872 a milestone at 0": (
        lambda o: optim.SequentialLR(o, [optim.ConstantLR(o, 0.1), optim.ExponentialLR(o, 0.5)], [0]),
        [1, 0.5, 0.25],
    ),
    "pytorch/pytorch#132745 several at once in a sequence": (
        lambda o: optim.SequentialLR(
            o,
            [
                optim.ChainedScheduler([optim.ExponentialLR(o, 0.5), optim.ConstantLR(o, 0.5, 1)]),
                optim.StepLR(o, 9),
            ],
            [2],
        ),
        [0.5, 0.5, 1, 1],
    ),
    "pytorch/pytorch#68820 several at once, the first step": (
        lambda o: optim.ChainedScheduler([optim.LinearLR(o, 0.4, 1.0, 3), optim.MultiStepLR(o, [4])]),
        [0.4, 0.6, 0.8, 1, 0.1],
    ),
    "pytorch/pytorch#40362 three phases": (
        lambda o: optim.OneCycleLR(
            o,
            1.0,
            9,
            pct_start=3 / 9,
            three_phase=True,
            div_factor=2,
            final_div_factor=10,
            anneal_strategy="linear",
            cycle_momentum=False,
        ),
        [0.5, 0.75, 1, 0.75, 0.5, 0.3875, 0.275, 0.1625, 0.05],
    ),  # fmt: skip
    "pytorch/pytorch#60265 half a wave, resumed": (
        resumed(lambda o: optim.CosineAnnealingLR(o, 10), 4),
        [half_cosine(t, 10) for t in (4, 5, 6)],
    ),
    "pytorch/pytorch#65342 the same, made anew": (
        resumed(lambda o: optim.CosineAnnealingLR(o, 1000), 7),
        [half_cosine(t, 1000) for t in (7, 8)],
    ),
    "pytorch/pytorch#29697 resumed between milestones": (
        resumed(lambda o: optim.MultiStepLR(o, [2, 6]), 4),
        [0.1, 0.1, 0.01],
    ),
    "Lightning-AI/pytorch-lightning#4655 resumed after one": (
        resumed(lambda o: optim.MultiStepLR(o, [3]), 4),
        [0.1, 0.1],
    ),
}


@pytest.mark.interpreted
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("report", RATES)
def test_learning_rates(report, how):
    make, right = RATES[report]
    np.testing.assert_allclose(rates(HOW[how], make, len(right)), right, 1e-9, 1e-12)


@pytest.mark.interpreted
@pytest.mark.parametrize("how", HOW)
def test_a_rate_set_by_hand_holds_until_the_schedule_goes_on(how):
    found = rates(HOW[how], lambda o: optim.StepLR(o, 2), 4, lr=7.0)
    np.testing.assert_allclose(found, [7, 1, 0.1, 0.1])


@pytest.mark.interpreted
@pytest.mark.parametrize("how", HOW)
def test_a_group_that_came_later_follows(how):
    """pytorch/pytorch#79888: it kept the learning rate that it began with."""
    two = Two()
    optimizer = optim.SGD(two.named("a"), lr=1.0)
    schedule = optim.StepLR(optimizer, 2, gamma=0.5)

    @HOW[how]
    def step():
        optimizer.zero_grad()
        (two.a + two.b).sum().backward()
        optimizer.step()
        schedule.step()

    for k in range(8):
        if k == 3:
            optimizer.add_param_group({"params": two.named("b"), "lr": 0.5})
        step()
    np.testing.assert_allclose(
        two.values(), [1 - 2 * (1 + 0.5 + 0.25 + 0.125), 2 - (0.5 + 2 * (0.25 + 0.125))]
    )


@pytest.mark.parametrize(
    ("report", "metrics", "options", "right"),
    [
        ("pytorch/pytorch#11305 by patience", [3, 3, 3, 3], {"patience": 1}, [1, 1, 0.1, 0.1]),
        (
            "pytorch/pytorch#11305 by the threshold",
            [9, 8, 7],
            {"patience": 0, "threshold": 0.5},
            [1, 0.1, 0.01],
        ),
        (
            "keras-team/keras#8828",
            [1] * 4,
            {"patience": 0, "factor": 0.1, "min_lr": 0.03},
            [1, 0.1, 0.03, 0.03],
        ),
    ],
)
def test_plateaus(report, metrics, options, right):
    optimizer = optim.SGD([mg.zeros(1, requires_grad=True)], lr=1.0)
    schedule = optim.ReduceLROnPlateau(optimizer, **options)
    found = []
    for metric in metrics:
        schedule.step(metric)
        found += schedule.get_last_lr()
    assert found == pytest.approx(right)


def test_a_plateau_lowers_groups_that_came_later():
    """pytorch/pytorch#20997 and #79888: the new group raised IndexError, or stayed as it was."""
    optimizer = optim.SGD([mg.zeros(1, requires_grad=True)], lr=1.0)
    schedule = optim.ReduceLROnPlateau(optimizer, patience=0)
    schedule.step(1.0)
    optimizer.add_param_group({"params": [mg.zeros(1, requires_grad=True)], "lr": 0.5})
    schedule.step(1.0)
    assert schedule.get_last_lr() == pytest.approx([0.1, 0.05])


# Layers, training, deep chains


@pytest.mark.interpreted
@pytest.mark.parametrize("how", HOW)
def test_a_batch_of_one_leaves_running_statistics_alone(how):
    """FluxML/Flux.jl#1992, torch/nn#1271: its unbiased variance is 0 / 0, and stayed NaN for ever."""
    layer = nn.BatchNorm1d(2)
    step = HOW[how](lambda x: layer(x))
    with pytest.raises(ShapeError, match="two values per feature.* drop_last=True"):
        step(np.ones((1, 2), np.float32))
    assert layer.running_var.data.tolist() == [1, 1]
    x = np.array([[1, 5], [3, 5]], np.float32)  # pytorch/pytorch#60528: biased inside, unbiased outside
    np.testing.assert_allclose(step(x).data, (x - [2, 5]) / np.sqrt([1 + 1e-5, 1e-5]), 1e-5)
    np.testing.assert_allclose(layer.running_var.data, [0.9 + 0.1 * 2, 0.9], 1e-6)


@pytest.mark.interpreted
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("patience", [1, 9])
def test_the_best_weights_come_back_however_training_ends(patience, how):
    """keras-team/keras#12511, #16876, tensorflow/tensorflow#35634: only where patience had run out."""
    model = nn.Linear(1, 1, bias=False)
    model.weight.data[:] = 1.0
    rows = np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32)
    optimizer = optim.SGD(model.parameters(), lr=1.1)  # w ← -1.2 w: each epoch is worse than the last
    options = {"loss": nn.mse_loss, "progress": False, "eager": how == "eager", "patience": patience}
    mg.fit(model, optimizer, rows, rows, epochs=4, **options)
    assert model.weight.item() == pytest.approx(-1.2)


@pytest.mark.interpreted
@pytest.mark.parametrize(("how", "depth"), [("eager", 20_000), ("compiled", 200)])
def test_a_deep_chain_needs_no_deep_stack(how, depth):
    """pytorch/pytorch#46669, karpathy's micrograd: a chain as long was too deep for recursion."""

    def chain(x):
        for _ in range(depth):
            x = x + 1e-4 * x
        return x.sum()

    gradient = HOW[how](lambda x: mg.value_and_grad(chain)(x)[1])(np.ones(2))
    np.testing.assert_allclose(gradient.data, (1 + 1e-4) ** depth, 1e-9)


@pytest.mark.parametrize("make", [optim.EMA, optim.SWA])
def test_averages_go_on_where_they_were(make):
    """lightly-ai/lightly-train#892, m2lines/Samudra#282, ai2cm/ace#819: the count of updates began anew."""
    p = mg.tensor([1.0], requires_grad=True)
    average, values = make([("p", p)]), [1.0, 3.0, 8.0, 2.0]
    for k, value in enumerate(values):
        if k == 2:
            saved, average = average.state_dict(), make([("p", p)])
            average.load_state_dict(saved)
        p.data[:] = value
        average.update()
    right = values[0]
    for n, value in enumerate(values[1:], 1):
        right += (value - right) * (0.001 if make is optim.EMA else 1 / (n + 1))
    with average.applied():
        assert p.item() == pytest.approx(right, rel=1e-6)
    assert p.item() == 2.0  # atomistic-machine-learning/schnetpack#785: training goes on with its own


# Caches that are older than what they were made from


SCALE = 2.0


@mg.elementwise
def inner(x):
    return x * 10


@mg.elementwise
def outer(x):
    return inner(x) * SCALE


for made in (inner, outer):
    del mg.scalars.functions[made.name]  # the table stays as it was, for other tests


@pytest.mark.interpreted
@pytest.mark.parametrize("how", HOW)
def test_what_a_function_calls_may_change(how, monkeypatch):
    """numba/numba#9483, #1833, #4211, #8359: a cached function kept what it called, and globals."""
    step = HOW[how](lambda x: outer(x))
    x = np.ones(2, np.float32)
    assert step(mg.tensor(x)).data.tolist() == [20, 20]
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    assert step(mg.tensor(x)).data.tolist() == [30, 30]

    @mg.elementwise
    def inner(x):
        return x * 7

    del mg.scalars.functions["inner"]
    monkeypatch.setitem(globals(), "inner", inner)
    assert step(mg.tensor(x)).data.tolist() == [21, 21]


# Readers of data


def test_a_mark_at_the_beginning_of_a_file_is_no_part_of_a_name(tmp_path):
    """pandas-dev/pandas#4793, #13497: before a quoted name, too."""
    path = tmp_path / "own.csv"
    path.write_text('\ufeff"width","kind"\n' + "".join(f"{n},{n % 2}\n" for n in range(10)), "utf-8")
    assert data.load(path, label="kind").columns == ("width",)


@pytest.mark.parametrize(
    ("report", "content"),
    [
        ("datapythonista/mnist#19", b""),
        ("datapythonista/mnist#17", b"\x00\x00\x08\x01\x00\x00\x00\x09" + bytes(5)),
        ("pytorch/vision#541", gzip.compress(b"", mtime=0)),
        ("tensorflow/tensorflow#170", b"<html>404</html>"),
        (
            "deeplearning4j/deeplearning4j#3670",
            gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x02ab", mtime=0)[:-4],
        ),
    ],
)
def test_a_broken_file_of_pictures_is_named(report, content, tmp_path):
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match="train-labels-idx1-ubyte"):
        data.read_idx(path)
