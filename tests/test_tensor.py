"""Tensors: dtypes, creation, operators, indexing, NumPy's company, copies, and what errors say."""

import copy
import math
import pickle

import numpy as np
import pytest

import microgradx as mg
from microgradx import nn
from microgradx.errors import ArgumentError, DeviceError, DTypeError, GradientError, ShapeError

FLOATS = [np.float32, np.float64]

# What they are made from


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (1.5, np.float32), (3, np.int64), (True, np.bool_), ([1.0, 2.0], np.float32), ([1, 2], np.int64),
        ([[True], [False]], np.bool_), (np.ones(2), np.float64), (np.ones(2, np.float32), np.float32),
        (np.float64(2), np.float64), (np.arange(3, dtype=np.uint8), np.uint8), ([], np.float32),
        ([np.float32(1), 2.0], np.float32),
    ],
    ids=repr,
)  # fmt: skip
def test_dtypes_of_values(values, dtype):
    t = mg.tensor(values)
    assert t.dtype == dtype and t.shape == np.shape(values)
    np.testing.assert_array_equal(t.data, values)
    assert mg.tensor(values, dtype="float64").dtype == np.float64


def test_tensor_copies_and_keeps_its_hands_off():
    values = np.ones(3)
    t = mg.tensor(values)
    t.data += 1
    assert values.sum() == 3
    assert np.shares_memory(mg.Tensor(values).data, values)
    assert mg.tensor(t).data is not t.data and mg.tensor(t).tolist() == t.tolist()


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([[1, 2], [3]], ShapeError, r"do not form an array"),
        ("abc", DTypeError, r"tensors hold float32, float64, integers or booleans, not <U3"),
        ([1j], DTypeError, r"not complex128"),
        (np.ones(2, np.float16), DTypeError, r"not float16"),
        ([None], DTypeError, r"not object"),
    ],
)
def test_values_that_make_no_tensor(values, error, message):
    with pytest.raises(error, match=message):
        mg.tensor(values)


def test_wrong_dtypes_and_devices():
    with pytest.raises(DTypeError, match=r"'float33' is not a dtype; float32, float64, int64 and bool are"):
        mg.tensor(1.0, dtype="float33")
    with pytest.raises(
        DTypeError, match=r"only floating-point tensors can require gradients.* int64.*float32"
    ):
        mg.tensor([1, 2], requires_grad=True)
    for call in (lambda: mg.zeros(2, device="gpu"), lambda: mg.zeros(2).to("cuda:1")):
        with pytest.raises(DeviceError, match=r"device '.*': the devices are \"cpu\" and \"cuda\""):
            call()
    assert mg.ones(2, device="cpu").to("cpu").device == "cpu"


def test_creation():
    assert mg.zeros(2, 3).shape == mg.ones((2, 3)).shape == mg.rand(2, 3).shape == (2, 3)
    assert mg.zeros(()).shape == mg.zeros().shape == ()
    for make in (mg.zeros, mg.ones, mg.rand, mg.randn):
        assert make(3).dtype == np.float32
        t = make(3, dtype=np.float64, requires_grad=True)
        assert t.dtype == np.float64 and t.requires_grad
    assert mg.full((2,), 1.5).dtype == np.float32 and mg.full((2,), 7).dtype == np.int64
    np.testing.assert_array_equal(mg.eye(2, 3).data, np.eye(2, 3))
    assert mg.arange(5).dtype == np.int64 and mg.arange(0, 1, 0.25).dtype == np.float32
    assert mg.arange(2, 8, 3).tolist() == [2, 5]
    assert mg.arange(3, dtype=np.float64, requires_grad=True).requires_grad


def test_random_tensors_follow_the_seed():
    draws = []
    for _ in range(2):
        mg.seed(7)
        draws.append((mg.rand(4, 5), mg.randn(1000, dtype=np.float64)))
    for one, other in zip(*draws, strict=True):
        np.testing.assert_array_equal(one.data, other.data)
    u, n = draws[0]
    assert u.data.min() >= 0 and u.data.max() < 1
    assert abs(n.data.mean()) < 0.15 and abs(n.data.std() - 1) < 0.1


# Arithmetic


OPERATORS = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
    "**": lambda a, b: a**b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b, "==": lambda a, b: a == b, "!=": lambda a, b: a != b,
}  # fmt: skip


@pytest.mark.parametrize("symbol", OPERATORS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_operators_are_numpys(symbol, dtype):
    f, a, b = OPERATORS[symbol], np.array([1, 2, 3], dtype), np.array([3, 2, 1], dtype)
    t = mg.tensor(a)
    for x, other in ((t, b), (t, mg.tensor(b)), (t, 2), (t, 2.0), (t, np.float32(2)), (t, np.float64(2))):
        y, plain = f(x, other), other.data if type(other) is mg.Tensor else other
        assert type(y) is mg.Tensor and y.dtype in (dtype, bool)
        np.testing.assert_allclose(y.data, f(a, plain), rtol=1e-6)
        z = f(other, x)
        assert type(z) is mg.Tensor and z.dtype in (dtype, bool)
        np.testing.assert_allclose(z.data, f(plain, a), rtol=1e-6)


@pytest.mark.parametrize("symbol", ["+", "-", "*", "/", "**"])
def test_lists_are_arrays_of_float32(symbol):
    f, x = OPERATORS[symbol], mg.tensor([1.0, 2.0], requires_grad=True)
    for y, expected in (
        (f(x, [3, 0.5]), f(x.data, np.float32([3, 0.5]))),
        (f((3, 0.5), x), f([3, 0.5], x.data)),
    ):
        assert y.dtype == np.float32
        np.testing.assert_allclose(y.data, expected)
        y.sum().backward()


def test_arrays_keep_their_dtype_beside_tensors():
    x32, x64 = mg.ones(2), mg.ones(2, dtype=np.float64)
    assert (x32 + x64).dtype == (x32 * np.ones(2)).dtype == (np.ones(2) * x32).dtype == np.float64
    assert (x32 + np.ones(2, np.float32)).dtype == np.float32
    assert (x32 + np.arange(2, dtype=np.int8)).dtype == np.float32
    assert (x32 @ np.ones((2, 2))).dtype == np.float64
    assert (x32 + mg.tensor([1, 2])).dtype in (np.float32, np.float64)


def test_integers():
    a, b = mg.tensor([7, 2]), mg.tensor([2, 2])
    assert (a + b).dtype == (a * 2).dtype == (a**2).dtype == np.int64
    assert (a / b).dtype == (a * 0.5).dtype == mg.exp(a).dtype == mg.sqrt(a).dtype == np.float32
    assert (a / b).tolist() == [3.5, 1]
    assert not (a / b).requires_grad
    w = mg.ones(2, requires_grad=True)
    (a * w).sum().backward()
    assert w.grad.tolist() == [7, 2] and w.grad.dtype == np.float32


def test_booleans():
    t = mg.tensor([1.0, 2.0, 3.0])
    low, high = t < 2, t > 2
    assert low.dtype == bool
    assert (low | high).tolist() == [True, False, True]
    assert (low & high).tolist() == [False] * 3 and (~low).tolist() == [False, True, True]
    assert (low.data & (t < 3)).tolist() == [True, False, False] and (True | low).tolist() == [True] * 3
    assert bool(mg.tensor(True)) and not mg.tensor(0.0)
    with pytest.raises(ShapeError, match=r"a tensor of shape \(3,\) is neither true nor false"):
        bool(t > 1)


def test_float32_stays_float32_through_a_program():
    x = mg.tensor([0.5, 1.5], requires_grad=True)
    y = 2 * x**3 - x / 3 + np.float64(0.1) * mg.exp(-x * 1.7) + math.pi
    y = mg.where(y > 1, y, 0.5 * y).mean() + y.std() + y.softmax().max() + mg.gelu(y).sum()
    y.backward(retain_graph=True)
    assert y.dtype == x.grad.dtype == np.float32
    g = mg.grad(lambda x: (mg.elu(x) * mg.gelu(x)).sum(), create_graph=True)(x)
    assert g.dtype == np.float32
    g.sum().backward()
    assert x.grad.dtype == np.float32


def test_matmul_takes_lists_arrays_and_tensors_on_either_side():
    x, m = mg.ones(3, requires_grad=True), np.ones((2, 3), np.float32)
    for y in (m @ x, x @ m.T, mg.tensor(m) @ x, m.tolist() @ x):
        assert type(y) is mg.Tensor and y.tolist() == [3, 3] and y.dtype == np.float32
    assert (x @ [1.0, 2.0, 3.0]).item() == 6


# Parts


def test_numbers_lists_and_lengths():
    t = mg.tensor([[1.0, 2.0]])
    assert (len(t), t.ndim, t.size, t.shape) == (1, 2, 2, (1, 2))
    assert [row.tolist() for row in t] == [[1, 2]] and [x.item() for x in t[0]] == [1, 2]
    assert float(t[0, 1]) == 2 and int(t[0, 1]) == 2 and type(t[0, 0].item()) is float
    assert f"{t[0, 0]:.2f}" == "1.00"
    assert [10, 20, 30][mg.tensor(1)] == 20
    with pytest.raises(ShapeError, match=r"item\(\) needs one element, this tensor of shape \(1, 2\) has 2"):
        t.item()
    with pytest.raises(ShapeError, match=r"without axes has no length"):
        len(mg.tensor(1.0))
    with pytest.raises(DTypeError, match=r"only an integer tensor can be an index, this one is float32"):
        [1, 2][mg.tensor(1.0)]


def test_numpy_takes_tensors():
    t = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(np.asarray(t), t.data)
    assert np.asarray(t, dtype=np.float64).dtype == np.float64
    assert np.shares_memory(np.asarray(t), t.data) and not np.shares_memory(np.array(t), t.data)
    assert t.numpy() is t.data
    np.testing.assert_array_equal(np.stack([t, t])[1], t.data)
    assert np.arange(5)[mg.tensor([1, 3])].tolist() == [1, 3]


def test_tensors_as_indices():
    t = mg.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], requires_grad=True)
    y = t[mg.tensor([0, 2, 0])]
    assert y.tolist() == [[1, 2], [5, 6], [1, 2]]
    y.sum().backward()
    assert t.grad.tolist() == [[2, 2], [0, 0], [1, 1]]
    assert t[t > 3].tolist() == [4, 5, 6] and t[mg.tensor(1), mg.tensor([0, 1])].tolist() == [3, 4]
    assert (
        t[[]].shape == (0, 2) and t[[True, False, True]].shape == (2, 2) and t[..., None].shape == (3, 2, 1)
    )


@pytest.mark.parametrize("index", [3, (0, 2), [0, 5], mg.tensor([1.0]), np.ones(4, bool), (0, 0, 0), "a"])
def test_wrong_indices(index):
    with pytest.raises(ArgumentError, match=r"getitem does not fit the shapes? \(3, 2\)"):
        mg.ones(3, 2)[index]


def test_assignment():
    t = mg.zeros(2, 3)
    t[0, 1] = 5
    t[1] = mg.arange(3)
    assert t.tolist() == [[0, 5, 0], [0, 1, 2]]
    with pytest.raises(ShapeError, match=r"cannot assign shape \(2,\) into \(2, 3\)"):
        t[0] = np.ones(2)


def test_data_and_gradients_are_checked():
    x = mg.ones(2, requires_grad=True)
    x.data = [3, 4]
    assert x.dtype == np.float32 and x.tolist() == [3, 4]
    with pytest.raises(ShapeError, match=r"data of shape \(3,\) does not fit a computed tensor of \(2,\)"):
        (x * 2).data = np.ones(3)
    with pytest.raises(ShapeError, match=r"a gradient of shape \(3,\) does not fit a tensor of \(2,\)"):
        x.grad = np.ones(3)
    x.grad = np.ones(2)
    assert x.grad.dtype == np.float32
    x.grad = mg.ones(2, dtype=np.float64)
    assert x.grad.dtype == np.float32


def test_conversions():
    x = mg.ones(2, requires_grad=True)
    y = x.to("float64")
    assert y.dtype == np.float64 and x.to(np.float32) is x and x.to("cpu") is x
    (y * 2).sum().backward()
    assert x.grad.dtype == np.float32 and x.grad.tolist() == [2, 2]
    assert mg.tensor([1, 2]).to(np.float64).dtype == np.float64
    assert x.to(int).dtype == np.int64 and not x.to(int).requires_grad
    with pytest.raises(DTypeError, match=r"'red' is not a dtype"):
        x.to("red")


def test_clone_and_detach():
    x = mg.ones(2, requires_grad=True)
    c, d = x.clone(), x.detach()
    assert not np.shares_memory(c.data, x.data) and np.shares_memory(d.data, x.data)
    assert c.requires_grad and not d.requires_grad and x.is_leaf and not c.is_leaf
    c.sum().backward()
    assert x.grad.tolist() == [1, 1]
    assert mg.tensor([1, 2]).clone().dtype == np.int64
    b = mg.tensor([True, False]).clone()
    assert b.dtype == bool


def test_representations():
    assert repr(mg.tensor([1.0, 2.0])) == "tensor([1., 2.])"
    assert repr(mg.tensor([1, 2])) == "tensor([1, 2], dtype=int64)"
    assert repr(mg.zeros(0, 3)) == "tensor([], shape=(0, 3))"
    assert repr(mg.zeros(2, 600)).endswith("0.]], shape=(2, 600))")
    x = mg.tensor([1.0], requires_grad=True)
    assert repr(x) == "tensor([1.], requires_grad=True)"
    assert repr(mg.exp(x * 0)) == "tensor([1.], from=exp)"
    assert str(mg.tensor(2.5)) == f"{mg.tensor(2.5)}" == "tensor(2.5)"


def test_there_are_no_subclasses():
    with pytest.raises(DTypeError, match=r"Tensor has no subclasses; put Tensors into an nn.Module"):
        type("Parameter", (mg.Tensor,), {})


def test_every_operation_of_one_array_is_a_method():
    x = np.array([[0.5, 0.25], [0.75, 1.0]])
    t = mg.Tensor(x)
    for name in ["exp", "log", "sqrt", "sigmoid", "gelu", "sum", "mean", "max", "std", "softmax", "abs"]:
        np.testing.assert_array_equal(getattr(t, name)().data, getattr(mg, name)(x))
    assert t.maximum(0.6).data.min() == 0.6 and t.reshape(4).shape == t.flatten().shape == (4,)
    assert t.transpose(0, 1).tolist() == t.T.tolist() == t.permute(1, 0).tolist() == x.T.tolist()
    assert t.cumsum(0).tolist() == np.cumsum(x, 0).tolist() and t.matmul(t).tolist() == (x @ x).tolist()
    assert t.unsqueeze(0).squeeze().shape == (2, 2) and [p.shape for p in t.split(2)] == [(1, 2)] * 2


# Copies


def test_leaves_can_be_copied_and_pickled():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    for y in (copy.deepcopy(x), pickle.loads(pickle.dumps(x)), copy.copy(x)):
        assert y is not x and y.tolist() == [1, 2] and y.requires_grad and y.grad.tolist() == [2, 4]
        y.grad = None
        (y * 3).sum().backward()
        assert y.grad.tolist() == [3, 3] and x.grad.tolist() == [2, 4]
    y = copy.deepcopy(x)
    y.data += 1
    assert x.tolist() == [1, 2]


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, pickle.dumps], ids=lambda f: f.__name__)
def test_computed_tensors_are_not_copied_with_their_history(copied):
    x = mg.ones(2, requires_grad=True)
    with pytest.raises(GradientError, match=r"computed.*detach\(\)"):
        copied(x * 2)
    with mg.no_grad():
        copied(x * 2)


def test_models_and_functions_can_be_pickled():
    model = nn.MLP([3, 4, 2], activation="tanh", dropout=0.1).eval()
    x = np.ones((2, 3), np.float32)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert repr(other) == repr(model) and not other.training
        np.testing.assert_array_equal(other(x).data, model(x).data)
    for f in (mg.relu, mg.abs, mg.matmul, mg.sum, mg.max):
        assert pickle.loads(pickle.dumps(f)) is f


def test_a_choice_between_single_numbers_is_a_copy():
    a, b = mg.tensor(1.0), mg.tensor(2.0)
    chosen = mg.where(mg.tensor(True), a, b)
    a.data += 5
    assert chosen.item() == 1
