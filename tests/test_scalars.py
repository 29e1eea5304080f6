"""Elementwise functions: slopes, shapes and layouts, and the same values from every executor."""

import math
import re
from math import tanh as mtanh

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import microgradx as mg
from microgradx import nn, scalars
from microgradx.errors import ArgumentError, GradientError, MicrogradxError
from microgradx.kernels.source import obstacle
from microgradx.scalars import Domain

every = list(scalars.functions.values())
smooth = list(scalars.differentiable())
several_inputs = [op for op in smooth if len(op.inputs) > 1]


def by_name(op):
    return op.name


def draw(op, *shapes, seed=0):
    """One float64 array per input, from the function's domain."""
    size = max(math.prod(shape) for shape in shapes)
    columns = op.domain.sample(max(size, 1), seed)
    shapes = shapes * len(columns) if len(shapes) == 1 else shapes
    return [np.array(c[: math.prod(shape)]).reshape(shape) for c, shape in zip(columns, shapes, strict=True)]


@pytest.mark.parametrize("op", smooth, ids=by_name)
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 2)], ids=str)
def test_slopes_match_central_differences(op, shape):
    assert mg.check_grad(op, *draw(op, shape), order=2)


@pytest.mark.parametrize("op", several_inputs, ids=by_name)
@pytest.mark.parametrize("shapes", [((2, 1), (1, 3)), ((3,), (2, 3)), ((2, 2), ()), ((), (1, 3))], ids=str)
def test_slopes_with_broadcasting(op, shapes):
    shapes = ((1, 1), *shapes)[-len(op.inputs) :]
    assert mg.check_grad(op, *draw(op, *shapes), order=2)


@pytest.mark.parametrize("op", several_inputs, ids=by_name)
def test_slopes_of_repeated_inputs(op):
    lows, highs = zip(*op.domain.intervals, strict=True)
    x = np.linspace(max(lows) + 0.1, min(highs) - 0.1, 4)
    assert mg.check_grad(lambda x: op(*[x] * len(op.inputs)), x, order=2)


LAYOUTS = {
    "transposed": lambda a: a.T,
    "sliced": lambda a: a[1::2, ::3],
    "reversed": lambda a: a[::-1, ::-1],
    "repeated": lambda a: np.broadcast_to(a[0], (3, *a[0].shape)),
}


@pytest.mark.parametrize("op", smooth, ids=by_name)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_do_not_matter(op, layout):
    views = [LAYOUTS[layout](a) for a in draw(op, (4, 6))]
    results = []
    for arrays in (views, [np.array(v, order="C") for v in views]):
        tensors = [mg.Tensor(a, requires_grad=True) for a in arrays]
        y = op(*tensors)
        (y * np.arange(y.size).reshape(y.shape)).sum().backward()
        results.append([y.data, *(t.grad.data for t in tensors if t.grad is not None)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14)


@pytest.mark.parametrize("op", every, ids=by_name)
def test_all_executors_agree(op):
    columns = op.domain.sample(20, seed=1)
    if op.name.startswith("logical"):
        columns = [[x > 0 for x in column] for column in columns]
    points = list(zip(*columns, strict=True))
    numbers = [op(*point) for point in points]
    assert all(type(n) in (int, float, bool) for n in numbers)
    exact = np.array(numbers)
    for dtype, rtol in ((np.float64, 1e-13), (np.float32, 2e-5)):
        dtype = bool if exact.dtype == bool and op.name.startswith("logical") else dtype
        kind = bool if exact.dtype == bool else dtype
        arrays = [np.array(c, dtype) for c in columns]
        singles = [op(*(a[i] for a in arrays)) for i in range(len(points))]
        found = op(*arrays)
        result = op(*map(mg.Tensor, arrays))
        for values in (found, np.array(singles), result.data):
            assert values.dtype == kind
            np.testing.assert_allclose(values, exact, rtol=rtol, atol=rtol)
        assert type(found) is np.ndarray and type(result) is mg.Tensor


@pytest.mark.parametrize("op", smooth, ids=by_name)
def test_float32_stays_float32(op):
    tensors = [mg.Tensor(a.astype(np.float32), requires_grad=True) for a in draw(op, (5,))]
    y = op(*tensors)
    y.sum().backward()
    assert y.dtype == np.float32
    assert all(t.grad is None or t.grad.dtype == np.float32 for t in tensors)


@pytest.mark.parametrize("op", smooth, ids=by_name)
def test_integers_are_taken(op):
    values = [np.array([1, 2, 2])] * len(op.inputs)
    y = op(*map(mg.tensor, values))
    exact = np.array([op(*point) for point in zip(*(v.tolist() for v in values), strict=True)])
    assert y.dtype in (np.float32, np.int64) and not y.requires_grad
    np.testing.assert_allclose(y.data, exact, rtol=1e-6)


@pytest.mark.parametrize("op", several_inputs, ids=by_name)
@pytest.mark.parametrize("place", [0, 1])
def test_arrays_and_numbers_beside_a_tensor(op, place):
    arrays = [a.astype(np.float32) for a in draw(op, (3,))]
    place = place - 2  # of the last two inputs: the first of three is a condition
    for others in (arrays, [float(a[0]) for a in arrays], [a[0] for a in arrays]):
        inputs = list(others)
        inputs[place] = x = mg.Tensor(arrays[place], requires_grad=True)
        y = op(*inputs)
        assert type(y) is mg.Tensor and y.dtype == np.float32 and y.requires_grad
        y.sum().backward()
        assert x.grad.shape == (3,)


def test_slopes_stay_finite_far_out():
    x = mg.tensor([-1000.0, -100.0, 100.0, 1000.0], requires_grad=True)
    for op in (f for f in smooth if f.activation):
        x.grad = None
        op(x).sum().backward()
        assert np.isfinite(op(x).data).all() and np.isfinite(x.grad.data).all(), op.name


@pytest.mark.parametrize("name", ["relu", "absolute", "sign", "tanh", "maximum", "minimum", "gelu", "sqrt"])
def test_nan_passes_through(name):
    op = scalars.functions[name]
    for position in range(len(op.inputs)):
        inputs = [1.0] * len(op.inputs)
        inputs[position] = math.nan
        assert math.isnan(op(*inputs))
        assert np.isnan(op(*map(np.asarray, inputs)))


def test_constants_by_position_name_and_none():
    x = mg.tensor([-1.0, 0.5, 3.0])
    np.testing.assert_allclose(mg.leaky_relu(x, 0.5).data, [-0.5, 0.5, 3])
    np.testing.assert_allclose(x.leaky_relu(negative_slope=0.5).data, [-0.5, 0.5, 3])
    np.testing.assert_allclose(mg.clip(x, None, 1.0).data, [-1, 0.5, 1])
    np.testing.assert_allclose(mg.clip(x.data, 0, 1), [0, 0.5, 1])
    assert mg.clip(5, max=2) == 2 and mg.elu(-1.0, alpha=2.0) == pytest.approx(2 * math.expm1(-1))
    assert mg.check_grad(lambda x: mg.elu(x, alpha=2.0), np.array([-1.0, -0.3, 2.0]), order=2)
    assert mg.check_grad(lambda x: mg.clip(x, -1, 1), np.array([-2.0, -0.3, 2.0]), order=2)


def test_wrong_calls_show_the_signature():
    with pytest.raises(ArgumentError, match=r"elu\(x, alpha=1.0\) was called as elu\(…, slope=…\)"):
        mg.elu(1.0, slope=2)
    with pytest.raises(ArgumentError, match=r"maximum\(a, b\) was called as maximum\(…\)"):
        mg.maximum(mg.tensor([1.0]))
    with pytest.raises(ArgumentError, match=r"exp\(x\) was called as exp\(…, …\)"):
        mg.exp(np.ones(2), 3)
    with pytest.raises(ArgumentError, match=r"clip: min must be a number or an array, not a tensor"):
        mg.clip(mg.ones(2), mg.ones(2), 3.0)
    assert repr(mg.elu) == "<elementwise elu(x, alpha=1.0)>"


def test_a_condition_may_be_any_number():
    x = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = mg.where(np.array([0, 2, -1]), x, 10 * x)
    y.sum().backward()
    np.testing.assert_array_equal(y.data, [10, 2, 3])
    np.testing.assert_array_equal(x.grad.data, [10, 1, 1])


def test_a_function_of_ones_own(registries):
    @mg.elementwise(kinks=(0,), domain=(-2.0, 2.0), activation=True)
    def bent_tanh(x, bend=0.5):
        """tanh, less steep on the left"""
        return mg.where(x > 0, mg.tanh(x), bend * mg.tanh(x))

    x = np.array([-1.0, 0.5, 2.0])
    with pytest.raises(GradientError, match=r"bent_tanh has no slope. Declare one with @bent_tanh.slope"):
        bent_tanh(mg.Tensor(x, requires_grad=True)).sum().backward()

    @bent_tanh.slope
    def _(x, y, bend):
        return mg.where(x > 0, 1 - y * y, bend - y * y / bend)

    assert bent_tanh(-1.0) == pytest.approx(-0.5 * math.tanh(1))
    np.testing.assert_allclose(bent_tanh(x, 1.0), np.tanh(x))
    assert mg.check_grad(bent_tanh, x, order=2)
    assert scalars.functions["bent_tanh"] is bent_tanh
    assert nn.MLP([2, 3, 1], activation="bent_tanh")[1](mg.Tensor(x)).shape == (3,)


def test_mistakes_in_ones_own_functions(registries):
    @mg.elementwise
    def folded(x, scale=1.0):
        return scale * x if x > 0 else -x

    assert folded(-2.0) == 2
    with pytest.raises(
        ArgumentError, match=r"folded: its definition branches .* write where\(condition, a, b\)"
    ):
        folded(mg.ones(3))
    with pytest.raises(
        ArgumentError, match=r"folded: a slope takes \(x, output, scale\), not this one: .*'other'"
    ):

        @folded.slope
        def _(x, y, other, scale):
            return scale


def test_a_slope_without_source_text(registries):
    space = {"mg": mg}
    text = "@mg.elementwise\ndef cube(x):\n    return x * x * x\ncube.slope(lambda x, y: 3 * x * x)"
    exec(text, space)
    assert mg.check_grad(space["cube"], np.array([-1.0, 0.5]), order=2)


def test_a_wrong_slope_is_caught(registries):
    @mg.elementwise
    def shifted(x):
        return x * x + 1

    shifted.slope(lambda x, y: x)
    with pytest.raises(
        GradientError, match=r"order 1 of output \(0,\), input 0 of shape \(2,\), element \(0,\) = 1.*gives"
    ):
        mg.check_grad(shifted, np.array([1.0, 2.0]))


@given(st.integers(0, 2**31), st.integers(1, 30))
def test_samples_keep_their_distance(seed, count):
    domain = Domain(((-1.0, 1.0), (0.0, 2.0)), kinks=(0,))
    columns = domain.sample(count, seed)
    assert [len(c) for c in columns] == [count, count]
    for a, b in zip(*columns, strict=True):
        assert -1 <= a <= 1 and 0 <= b <= 2 and abs(a - b) >= 0.05 and min(abs(a), abs(b)) >= 0.05


TABLE = np.array([1.0, 2.0, 3.0], np.float32)
HALF = np.float32(0.5)


def rounded(x):
    return round(x)


def smaller(x):
    return min(x, 1)


def early(x):
    if x > 0:
        return x
    return 0 * x


def changing(x):
    x += 1
    return x


def looped(x):
    y = 0
    for _ in range(3):
        y = y + x
    return y


def collected(x):
    return [x for _ in range(2)][0]


def turned(x):
    return turned_again(x - 1)  # noqa: F821


def from_a_table(x):
    return x * TABLE[0]


def word(x):
    return "a"


def nothing(x):
    x * 2


def pair(x):
    return x, x


def summed(x):
    return mg.sum(x)


def product(x):
    return x @ x


def called(x):
    return smaller(x)


def remaining(x):
    return math.remainder(x, 2)


def too_large(x):
    return x * 10**400


def counting(x):
    above = x > 0
    return x * (above + (x < 2))


def of_a_condition(x):
    return mg.exp(x > 0)


def opposite(x):
    return mg.where(~(x > 0), x, 1.0)


def guarded(x):
    try:
        return 1 / x
    except ZeroDivisionError:
        return 0.0


def named_inside(x):
    return (y := x * 2) + y


@pytest.mark.parametrize(
    "definition, of_arrays, compiled",
    [
        (rounded, "`round(x)` is not for arrays", "x - x % 1 rounds down"),
        (smaller, "`min(x, 1)` is not for arrays", "write mg.minimum(a, b)"),
        (early, "where(condition, a, b) instead of if", "where(condition, a, b) instead of if"),
        (changing, "`x += 1` is not for arrays", "`x = x + 1` instead of `x += 1`"),
        (looped, None, "terms one by one instead of a loop"),
        (collected, None, "may be arithmetic on numbers"),
        (turned, "turned calls itself", "turned calls itself"),
        (from_a_table, None, "`TABLE[0]` cannot be compiled"),
        (word, "word gives 'a'; its definition must return a number", "`'a'` cannot be compiled"),
        (nothing, "nothing gives None", "the last statement must be the return"),
        (pair, "pair gives the shape (2, 3) for (3,)", None),
        (summed, "summed gives the shape () for (3,)", "`mg.sum(x)` cannot be compiled"),
        (product, "product gives the shape () for (3,)", "may be arithmetic on numbers"),
        (called, "`smaller(x)` is not for arrays", "decorate smaller with @mg.elementwise"),
        (remaining, "`math.remainder(x, 2)` is not for arrays", "those of math"),
        (counting, "`above + (x < 2)` computes with conditions", None),
        (of_a_condition, "`mg.exp(x > 0)` computes with conditions", None),
        (guarded, "where(condition, a, b) instead of try", "the last statement must be the return"),
        (named_inside, None, "`(y := (x * 2))` cannot be compiled"),
        (opposite, "`~(x > 0)` computes with conditions", "write the opposite condition"),
        (too_large, "`10 ** 400` is not for arrays; it has no value", "int too large to convert to float"),
    ],
)  # fmt: skip
def test_a_definition_works_on_arrays_and_compiled_or_the_error_says_what_to_write(
    definition, of_arrays, compiled, registries, monkeypatch
):
    function = mg.elementwise(definition)
    monkeypatch.setitem(globals(), "turned_again", function)
    for x in (TABLE, mg.tensor(TABLE)):
        if of_arrays is None:
            np.testing.assert_allclose(np.asarray(function(x)), [definition(n) for n in TABLE.tolist()])
        else:
            with pytest.raises(MicrogradxError, match=re.escape(of_arrays)):
                function(x)
    assert (compiled or "None") in str(obstacle(function))
    assert TABLE.tolist() == [1, 2, 3]


def everyday(x):
    a = math.hypot(x, 2) + mtanh(x) * np.pi + np.exp(-x) * HALF + math.sqrt(2) * x**2
    return np.where(x > 0, a, math.atan2(x, 1) - math.log1p(math.fabs(x))) + 10**20 * 1e-20


def constant(x):
    return 3


def test_math_and_numpy_inside_a_definition_are_the_same_on_numbers_arrays_and_compiled(registries):
    x = np.array([-1.5, 0.0, 0.25, 3.0], np.float32)
    functions = [mg.elementwise(everyday), mg.elementwise(constant)]
    expected = [[function(n) for n in x.tolist()] for function in functions]
    for run in (lambda x: [f(x) for f in functions], mg.jit(lambda x: [f(mg.tensor(x)) for f in functions])):
        for found, numbers in zip(run(x), expected, strict=True):
            np.testing.assert_allclose(np.asarray(found), numbers, rtol=1e-6)
    assert functions[0](x).dtype == np.float32
