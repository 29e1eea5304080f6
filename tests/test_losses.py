"""Losses beside PyTorch's: values and gradients with every option, and what errors say."""

import itertools

import numpy as np
import pytest

import microgradx as mg
from microgradx import nn
from microgradx.errors import ArgumentError, DTypeError, ShapeError

pytestmark = pytest.mark.interpreted

REDUCTIONS = ["mean", "sum", "none"]
rng = np.random.default_rng(0)


def normal(*shape, dtype=np.float32):
    return rng.normal(size=shape).astype(dtype)


def compare(torch, name, prediction, target, **options):
    """Value and gradients of a loss beside PyTorch's function of the same name."""
    x = mg.Tensor(prediction, requires_grad=True)
    t = torch.tensor(prediction, requires_grad=True)
    y = getattr(nn, name)(x, target, **options)
    given = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    z = getattr(torch.nn.functional, name)(t, torch.tensor(np.asarray(target)), **given)
    assert y.shape == tuple(z.shape) and y.dtype == prediction.dtype
    tight = {"rtol": 1e-10, "atol": 1e-12} if prediction.dtype == np.float64 else {"rtol": 2e-5, "atol": 1e-6}
    np.testing.assert_allclose(y.data, z.detach().numpy(), **tight)
    weights = np.linspace(1, 2, y.size).reshape(y.shape).astype(y.dtype)
    y.backward(weights)
    z.backward(torch.tensor(weights))
    np.testing.assert_allclose(x.grad.data, t.grad.numpy(), **tight)
    as_tensor = getattr(nn, name)(mg.Tensor(prediction), mg.Tensor(target), **options)
    np.testing.assert_array_equal(as_tensor.data, y.data)


def pick(shape, high=5):
    return rng.integers(0, high, shape)


CLASSES = [((6, 5), (6,)), ((3, 5, 2), (3, 2)), ((2, 5, 3, 2), (2, 3, 2)), ((5,), ()), ((1, 5), (1,))]
WEIGHT = np.array([0.5, 1, 2, 0.25, 3], np.float32)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shapes", CLASSES, ids=str)
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_labels(torch, name, shapes, reduction):
    scores, labels = normal(*shapes[0]), pick(shapes[1])
    weight_and_ignore = [{}, {"weight": WEIGHT}, {"ignore_index": 1}, {"weight": WEIGHT, "ignore_index": 0}]
    if labels.ndim:
        labels.reshape(-1)[0] = 3  # at least one counts
        ignored = labels.copy()
        ignored.reshape(-1)[1:3] = -100
        compare(torch, name, scores, ignored, reduction=reduction)
    else:
        labels = np.array(3)
    for options in weight_and_ignore:
        compare(torch, name, scores, labels, reduction=reduction, **options)
    for dtype in (np.int32, np.uint8):
        x = mg.Tensor(scores)
        kinds = [getattr(nn, name)(x, k, reduction=reduction).data for k in (labels, labels.astype(dtype))]
        np.testing.assert_array_equal(*kinds)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shapes", CLASSES, ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_with_smoothing_and_with_probabilities(torch, shapes, reduction, smoothing):
    scores, labels = normal(*shapes[0], dtype=np.float64), np.asarray(pick(shapes[1]))
    labels.reshape(-1)[:1] = 3  # at least one has a weight, or PyTorch's gradient is NaN
    options = {"reduction": reduction, "label_smoothing": smoothing}
    p = np.abs(normal(*shapes[0], dtype=np.float64))
    for weight in ({}, {"weight": WEIGHT.astype(np.float64)}, {"weight": np.array([0, 1, 2, 0.25, 3])}):
        compare(torch, "cross_entropy", scores, labels, **options, **weight)
        compare(torch, "cross_entropy", scores, p, **options, **weight)
        if labels.size > 1:
            ignored = labels.copy()
            ignored.reshape(-1)[0] = -100
            compare(torch, "cross_entropy", scores, ignored, **options, **weight)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_batch_without_a_label_that_counts_has_no_gradient(torch, compiled):
    scores, labels = normal(3, 5), np.full(3, -100)
    options = [{}, {"weight": WEIGHT}, {"label_smoothing": 0.1}]
    rows = [("cross_entropy", kw) for kw in options] + [("nll_loss", kw) for kw in options[:2]]

    def step(x):
        return [mg.value_and_grad(lambda x, n=n, kw=kw: getattr(nn, n)(x, labels, **kw))(x) for n, kw in rows]

    found = (mg.jit(step) if compiled else step)(mg.tensor(scores))
    for (name, options), (loss, slope) in zip(rows, found, strict=True):
        given = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        t = torch.tensor(scores, requires_grad=True)
        theirs = getattr(torch.nn.functional, name)(t, torch.tensor(labels), **given)
        theirs.backward()
        assert np.isnan(loss.data) and theirs.isnan() and not slope.data.any() and not t.grad.any()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(4, 3), (5,), ()], ids=str)
def test_losses_of_numbers(torch, shape, reduction):
    x, t = normal(*shape) * 2, normal(*shape)
    for name in ("mse_loss", "l1_loss", "huber_loss"):
        compare(torch, name, x, t, reduction=reduction)
        compare(torch, name, x, x.copy(), reduction=reduction)  # the kink
    compare(torch, "huber_loss", x, t, reduction=reduction, delta=0.3)
    at_delta = np.full(shape, 0.5, np.float32)
    compare(torch, "huber_loss", at_delta, 0 * at_delta, reduction=reduction, delta=0.5)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_binary_cross_entropy(torch, reduction):
    name, x = "binary_cross_entropy_with_logits", normal(4, 3) * 3
    t = rng.uniform(size=(4, 3)).astype(np.float32)
    weight, pos_weight = np.array([[1], [2], [0], [0.5]], np.float32), np.array([0.5, 2, 1], np.float32)
    for options in ({}, {"weight": weight}, {"pos_weight": pos_weight}):
        compare(torch, name, x, t, reduction=reduction, **options)
        compare(torch, name, x, np.round(t), reduction=reduction, **options)
    compare(torch, name, x, t, reduction=reduction, weight=weight, pos_weight=pos_weight)
    far = np.array([-1000, -100, 0, 100, 1000], np.float32)
    for target in (np.zeros(5, np.float32), np.ones(5, np.float32)):
        compare(torch, name, far, target, reduction=reduction)


@pytest.mark.filterwarnings("ignore:reduction")  # PyTorch warns that its mean is not the divergence
@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
@pytest.mark.parametrize("log_target", [False, True])
def test_divergence(torch, reduction, log_target):
    log_p, target = mg.log_softmax(normal(4, 3)), mg.softmax(normal(4, 3))
    target = np.log(target) if log_target else target
    if not log_target:
        target[0, 0] = 0  # 0 log 0 = 0
    compare(torch, "kl_div", log_p, target, reduction=reduction, log_target=log_target)


def test_cross_entropy_of_large_logits():
    x = mg.tensor([[1e4, 0.0], [-1e4, 0.0], [1e38, -1e38]], requires_grad=True)
    losses = nn.cross_entropy(x, [1, 0, 0], reduction="none")
    assert losses.tolist() == [1e4, 1e4, 0]
    losses.sum().backward()
    np.testing.assert_allclose(x.grad.data, [[1, -1], [-1, 1], [0, 0]], atol=1e-7)


def test_cross_entropy_where_nothing_counts():
    x = mg.tensor([[1.0, 2.0]], requires_grad=True)
    assert np.isnan(nn.cross_entropy(x, [-100]).item())
    assert nn.cross_entropy(x, [-100], reduction="sum").item() == 0


def test_losses_have_second_derivatives():
    x, labels = rng.normal(size=(4, 3)), np.array([0, 2, 1, 1])
    t = rng.uniform(size=(4, 3))
    assert mg.check_grad(lambda x: nn.cross_entropy(x, labels, label_smoothing=0.1), x, order=2)
    assert mg.check_grad(lambda x: nn.nll_loss(x, labels, weight=t[0]), x, order=2)
    for loss in (nn.mse_loss, nn.huber_loss, nn.binary_cross_entropy_with_logits, nn.kl_div):
        assert mg.check_grad(lambda x, loss=loss: loss(x, t), x, order=2)
        assert mg.check_grad(lambda t, loss=loss: loss(mg.Tensor(x), t), t)  # targets may want gradients too
    assert mg.check_grad(lambda t: nn.cross_entropy(mg.Tensor(x), t), t)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: nn.cross_entropy(x, [0, 1]), ShapeError,
         r"cross_entropy: labels of shape \(2,\) do not fit predictions of shape \(3, 4\)"),
        (lambda x: nn.cross_entropy(x, [[0], [1], [2]]), ShapeError,
         r"labels of shape \(3, 1\) do not fit predictions of shape \(3, 4\). Write labels.reshape\(-1\)"),
        (lambda x: nn.cross_entropy(x, [0, 4, 1]), ArgumentError,
         r"cross_entropy: 4 classes allow labels 0 to 3, not 0 to 4"),
        (lambda x: nn.nll_loss(x, [0, -1, 1]), ArgumentError,
         r"nll_loss: 4 classes allow labels 0 to 3, not -1 to 1"),
        (lambda x: nn.nll_loss(x, [0.0, 1.0, 2.0]), DTypeError,
         r"nll_loss: labels must be integers, these are float64"),
        (lambda x: nn.cross_entropy(x, [0, 1, 2], reduction="avg"), ArgumentError,
         r"reduction must be one of mean, sum, none, not 'avg'"),
        (lambda x: nn.cross_entropy(x, [0, 1, 2], label_smoothing=2), ArgumentError,
         r"label_smoothing must be between 0 and 1, not 2"),
        (lambda x: nn.cross_entropy(x, [0, 1, 2], weight=[1, 2]), ShapeError,
         r"cross_entropy: 4 classes need as many weights, here \(2,\)"),
        (lambda x: nn.mse_loss(x, np.zeros(3)), ShapeError,
         r"mse_loss: the prediction has shape \(3, 4\), the target \(3,\)"),
        (lambda x: nn.cross_entropy(x[:0], []), DTypeError, r"labels must be integers, these are float"),
        (lambda x: nn.cross_entropy(x[:0], np.zeros(0, int)), ShapeError, r"over nothing, .* \(0,\)"),
        (lambda x: nn.l1_loss(x[:0], np.zeros((0, 4))), ShapeError, r"take reduction=\"sum\""),
        (lambda x: nn.kl_div(x[:0], np.zeros((0, 4)), reduction="batchmean"), ShapeError, r"over nothing"),
        (lambda x: nn.huber_loss(x, x, delta=0), ArgumentError, r"delta must be positive, not 0"),
    ],
)  # fmt: skip
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call(mg.zeros(3, 4))


def test_float32_stays():
    x = mg.Tensor(normal(4, 5), requires_grad=True)
    weights = [None, [0.5, 1, 2, 1, 1], np.ones(5)]
    for weight, smoothing, reduction in itertools.product(weights, [0.0, 0.1], REDUCTIONS):
        for labels in (np.array([0, 1, -100, 4]), np.full((4, 5), 0.2)):
            y = nn.cross_entropy(x, labels, weight, label_smoothing=smoothing, reduction=reduction)
            assert y.dtype == np.float32
    for loss in (nn.mse_loss, nn.l1_loss, nn.huber_loss, nn.kl_div, nn.binary_cross_entropy_with_logits):
        assert loss(x, np.full((4, 5), 0.5)).dtype == loss(x, mg.full((4, 5), 1)).dtype == np.float32
