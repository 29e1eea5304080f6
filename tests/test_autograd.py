"""Derivatives of functions: nesting, Hessians, and a check that catches wrong rules."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import microgradx as mg
from microgradx import scalars
from microgradx.errors import ArgumentError, DTypeError, GradientError, ShapeError


def rosenbrock(x):
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


POINT = np.array([0.5, -1.0, 2.0])


def rosenbrock_hessian(x):
    n = len(x)
    h = np.zeros((n, n))
    for i in range(n - 1):
        h[i, i] += 2 - 400 * (x[i + 1] - 3 * x[i] ** 2)
        h[i + 1, i + 1] += 200
        h[i, i + 1] = h[i + 1, i] = -400 * x[i]
    return h


def test_value_and_grad():
    value, g = mg.value_and_grad(rosenbrock)(POINT)
    assert type(value) is mg.Tensor and not value.requires_grad and not g.requires_grad
    assert value.item() == pytest.approx(rosenbrock(POINT)) and g.dtype == np.float64
    moved = [(rosenbrock(POINT + e) - rosenbrock(POINT - e)) / 2e-6 for e in np.eye(3) * 1e-6]
    np.testing.assert_allclose(g.data, moved, rtol=1e-6)


def test_arguments():
    f = lambda a, b, c=1.0: (a * b * b * c).sum()
    x, y = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    assert mg.grad(f)(x, y).tolist() == [9, 16]
    assert mg.grad(f, argnums=1)(x, y).tolist() == [6, 16]
    assert mg.grad(f, argnums=-1)(x, y, c=2.0).tolist() == [12, 32]
    a, b = mg.grad(f, argnums=(0, 1))(x, y)
    assert a.tolist() == [9, 16] and b.tolist() == [6, 16]
    assert mg.grad(f, argnums=[1])(x, y)[0].tolist() == [6, 16]
    assert mg.grad(lambda x, k: (x**k).sum())(x, 3).tolist() == [3, 12]


def test_python_numbers_and_arguments_with_history():
    assert mg.grad(mg.tanh)(0.5).item() == pytest.approx(1 - math.tanh(0.5) ** 2)
    w = mg.tensor([2.0], requires_grad=True)
    h = w * w
    g = mg.grad(lambda h: (h**3).sum())(h)
    assert g.item() == 48 and g.requires_grad
    g.backward()
    assert w.grad.item() == 6 * 4 * 2 * 2
    assert h.grad is None


def test_leaves_do_not_collect_what_grad_asks_for():
    w = mg.tensor([2.0], requires_grad=True)
    assert mg.grad(lambda x: (x * w).sum())(np.array([3.0])).item() == 2
    assert mg.grad(lambda v: (v * v).sum())(w).item() == 4
    assert w.grad is None


def test_derivatives_nest():
    f = lambda x: mg.sin(x) * mg.exp(-x)
    expected = [f(0.3)]
    for k in range(1, 6):  # the k-th derivative of Im e⁽ⁱ⁻¹⁾ˣ
        expected.append(((1j - 1) ** k * np.exp((1j - 1) * 0.3)).imag)
    g = f
    for k in range(1, 6):
        g = mg.grad(g)
        assert g(np.float64(0.3)).item() == pytest.approx(expected[k], rel=1e-12)


def test_inner_and_outer_derivatives_do_not_mix():
    inner = lambda x: mg.grad(lambda y: x * y * y)(x)  # 2x², where the inner derivative is of y alone
    assert mg.grad(inner)(3.0).item() == 12
    constant = mg.grad(lambda x: x * mg.grad(lambda y: y)(x.detach()))
    assert constant(5.0).item() == 1


def test_what_a_function_does_not_depend_on_has_gradient_zero():
    x = np.ones(3)
    assert mg.grad(lambda x: mg.ones(1))(x).tolist() == [0, 0, 0]
    assert mg.grad(lambda x, y: (y * y).sum())(x, mg.ones(2, requires_grad=True)).tolist() == [0, 0, 0]
    assert mg.grad(lambda x, y: (x * 2).sum(), argnums=(0, 1))(x, x)[1].tolist() == [0, 0, 0]
    assert mg.hessian(lambda x: (3 * x).sum())(x).tolist() == np.zeros((3, 3)).tolist()


def test_hessian_and_products():
    v = np.array([1.0, -2.0, 0.5])
    expected = rosenbrock_hessian(POINT)
    np.testing.assert_allclose(mg.hessian(rosenbrock)(POINT).data, expected, rtol=1e-12)
    np.testing.assert_allclose(mg.hvp(rosenbrock, POINT, v).data, expected @ v, rtol=1e-12)
    a = np.arange(9.0).reshape(3, 3)
    quadratic = lambda x: (x @ a * x).sum() / 2
    np.testing.assert_allclose(mg.hessian(quadratic)(POINT).data, (a + a.T) / 2)


def test_the_hessian_of_a_matrix_has_four_axes():
    x = np.random.default_rng(0).normal(size=(2, 3))
    h = mg.hessian(lambda x: (x**4).sum() / 12)(x)
    assert h.shape == (2, 3, 2, 3)
    np.testing.assert_allclose(h.data.reshape(6, 6), np.diag(x.reshape(-1) ** 2))
    assert mg.hessian(lambda x: mg.exp(2 * x))(0.0).item() == 4


def test_errors_of_grad():
    with pytest.raises(ArgumentError, match=r"argnums=2 does not fit a call with 1 arguments"):
        mg.grad(rosenbrock, argnums=2)(POINT)
    with pytest.raises(GradientError, match=r"returns one number as a Tensor, not shape \(3,\)"):
        mg.grad(lambda x: x * 2)(POINT)
    with pytest.raises(GradientError, match=r"not type float"):
        mg.grad(lambda x: 1.0)(POINT)
    with pytest.raises(DTypeError, match=r"this one is int64"):
        mg.grad(rosenbrock)(np.arange(3))
    with pytest.raises(ShapeError, match=r"hvp: the vector has shape \(2,\), the point \(3,\)"):
        mg.hvp(rosenbrock, POINT, np.ones(2))


def test_under_no_grad_there_is_nothing_to_differentiate():
    with mg.no_grad(), pytest.raises(GradientError, match=r"nothing is recorded under no_grad\(\)"):
        mg.grad(rosenbrock)(POINT)


# check_grad


@mg.primitive
def wrong(a, b):
    """a · b with a wrong derivative in one element of b"""
    return a * b


@wrong.vjp
def _(g, out, a, b):
    spoil = np.zeros(b.shape)
    spoil[-1] = 0.25
    return g * b, g * (a + spoil)


def test_check_grad_names_the_input_the_element_and_both_values():
    a, b = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    message = (
        r"derivative of order 1 of output \(1,\), input 1 of shape \(2,\), element \(1,\) = 4: "
        r"the rule gives 2.25, central differences 2(\.0000\d+)?\.$"
    )
    with pytest.raises(GradientError, match=message):
        mg.check_grad(wrong, a, b)


@mg.elementwise
def cubed(x):
    """x³"""
    return x * x * x


@cubed.slope
def _(x, y):
    return 2 * x * x


del scalars.functions["cubed"]  # the table stays as it was, for other tests


@pytest.mark.parametrize("x", [1.0, [1.0], [[1.0, 0.0]]], ids=str)
def test_check_grad_prints_the_numbers_that_one_expects(x):
    """Not those that random weights have made of them."""
    with pytest.raises(GradientError) as error:
        mg.check_grad(cubed, x)
    gives, central = str(error.value).split("the rule gives ")[1].rstrip(".").split(", central differences ")
    assert float(gives) == 2 and float(central) == pytest.approx(3, rel=1e-6)


def test_check_grad_catches_a_wrong_second_derivative():
    @mg.primitive
    def cube(x):
        return x**3

    @cube.vjp
    def _(g, out, x):
        return g * 3 * (np.asarray(x) ** 2)  # leaves the tape

    assert mg.check_grad(cube, POINT)
    words = r"derivative of order 2 of output \(0,\) by input 0, element \(0,\), input 0 of shape"
    with pytest.raises(GradientError, match=words) as error:
        mg.check_grad(cube, POINT, order=2)
    central = float(str(error.value).split("central differences ")[1].rstrip("."))
    assert central == pytest.approx(6 * POINT[0], rel=1e-4)


def test_check_grad_takes_other_arguments_as_they_are():
    assert mg.check_grad(lambda x, i: x[i], POINT, np.array([2, 2, 0]), order=2)
    assert mg.check_grad(lambda x: x * 2, np.float32(3))
    assert mg.check_grad(rosenbrock, POINT.astype(np.float32), order=2)
    assert mg.check_grad(mg.exp, np.zeros((0, 3)), order=2)


def test_check_grad_needs_a_tensor():
    with pytest.raises(
        GradientError, match=r"a function that returns one number as a Tensor, not type float"
    ):
        mg.check_grad(lambda x: 1.0, POINT)


def test_check_grad_sees_nan():
    with pytest.raises(GradientError, match=r"the rule gives"):
        mg.check_grad(mg.log, np.array([-1.0]))


# Random programs against central differences

UNARY = [mg.tanh, mg.sigmoid, mg.softplus, mg.sin, mg.gelu, mg.silu, mg.erf, mg.square, lambda x: -x]
UNARY += [lambda x: mg.exp(mg.tanh(x)), lambda x: mg.log(1 + x * x), lambda x: mg.softmax(x, axis=-1)]
UNARY += [lambda x: x - x.mean(axis=0, keepdims=True), lambda x: x.logsumexp(axis=-1, keepdims=True)]
UNARY += [lambda x: x[::-1], lambda x: x.T.reshape(x.shape), lambda x: mg.cumsum(x, axis=0)]
UNARY += [lambda x: x[[0, 0, -1]][: len(x)], lambda x: mg.cat([x[1:], x[:1]]), lambda x: x / (1 + x.var())]
BINARY = [lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / (2 + mg.tanh(b))]
BINARY += [lambda a, b: (a @ b.T) @ b / 8, lambda a, b: a + b.sum(axis=0), lambda a, b: mg.where(b > 9, a, b)]


def run(program, *inputs):
    """A pool of values grows by one per step; a step picks what to compute and from what."""
    pool = list(inputs)
    for unary, which, i, j in program:
        a, b = pool[i % len(pool)], pool[j % len(pool)]
        y = UNARY[which % len(UNARY)](a) if unary else BINARY[which % len(BINARY)](a, b)
        pool.append(mg.tanh(y) + 0 * inputs[0])  # kept in range, and of one shape
    return sum(pool[1:], start=pool[0]).mean()


steps = st.tuples(st.booleans(), st.integers(0, 99), st.integers(0, 9), st.integers(0, 9))


@settings(max_examples=50)
@given(st.lists(steps, min_size=1, max_size=8), st.integers(0, 2**16))
def test_random_programs(program, seed):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(2, 3, 2))
    f = lambda *xs: run(program, *xs)
    assert mg.check_grad(f, *inputs, rtol=1e-4, atol=1e-6)
    direction, other = rng.normal(size=(3, 2)), mg.Tensor(inputs[1])
    slope = lambda x: (mg.grad(f, create_graph=True)(x, other) * direction).sum()
    product = mg.hvp(lambda x: f(x, other), inputs[0], direction).data
    ends = [slope(mg.Tensor(inputs[0] + e * direction)).item() for e in (1e-5, -1e-5)]
    assert (product * direction).sum() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-3, abs=1e-5)
