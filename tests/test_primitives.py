"""Array operations: every declared case against finite differences, layouts, dtypes and wording."""

import numpy as np
import pytest

import microgradx as mg
from microgradx import primitives
from microgradx.errors import ArgumentError, GradientError, ShapeError
from microgradx.primitives import operations

CASES = [(name, case) for name in operations for case in primitives.cases[name]]
WITHOUT_GRADIENT = {"any", "all", "argmax", "argmin", "one_hot"}

every_case = pytest.mark.parametrize(("name", "case"), CASES, ids=lambda x: x if type(x) is str else repr(x))


def draw(case, seed=0):
    """A float64 array per input, without zeros and without ties."""
    rng = np.random.default_rng(seed)
    return [rng.uniform(0.3, 2.0, shape) * rng.choice([-1, 1], shape) for shape in case.shapes]


def joined(result):
    """Pieces as one vector, so that a list of results can be checked like one."""
    if isinstance(result, list):
        return mg.cat([(k + 1) * piece.reshape(-1) for k, piece in enumerate(result)])
    return result


def gradients(name, case, arrays):
    """The value and the gradients of a weighted sum of it."""
    tensors = [mg.Tensor(a, requires_grad=True) for a in arrays]
    y = joined(case.call(operations[name], tensors))
    weights = np.linspace(1, 2, y.size).reshape(y.shape).astype(y.dtype)
    (y * weights).sum().backward()
    return [y.data, *(t.grad.data for t in tensors)]


@every_case
def test_rules_match_central_differences(name, case):
    assert mg.check_grad(lambda *xs: joined(case.call(operations[name], list(xs))), *draw(case), order=2)


def test_every_operation_with_a_gradient_has_cases():
    assert {name for name in operations if not primitives.cases[name]} == WITHOUT_GRADIENT


@every_case
def test_layouts_do_not_matter(name, case):
    arrays = draw(case)
    views = []
    for a in arrays:
        wide = np.zeros(tuple(2 * n for n in a.shape)[::-1])
        view = wide.T[(..., *(slice(None, None, -2),) * a.ndim)]
        view[...] = a
        views.append(view)
    for one, other in zip(gradients(name, case, views), gradients(name, case, arrays), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@every_case
def test_arrays_give_arrays_and_float32_stays(name, case):
    arrays = [a.astype(np.float32) for a in draw(case)]
    plain = case.call(operations[name], arrays)
    found = case.call(operations[name], [mg.Tensor(a) for a in arrays])
    pairs = zip(plain, found, strict=True) if isinstance(plain, list) else [(plain, found)]
    for a, t in pairs:
        assert isinstance(a, np.ndarray | np.generic) and type(t) is mg.Tensor
        assert a.dtype == t.dtype == np.float32
        np.testing.assert_array_equal(a, t.data)
    assert all(g.dtype == np.float32 for g in gradients(name, case, arrays))


@pytest.mark.parametrize(
    ("name", "case"), [(n, c) for n, c in CASES if len(c.shapes) > 1 == len(set(c.shapes))], ids=repr
)
def test_repeated_inputs(name, case):
    x = draw(case)[0]
    f = lambda x: joined(case.call(operations[name], [x] * len(case.shapes)))
    assert mg.check_grad(f, x, order=2)


NUMPY_NAMES = ["sum", "mean", "max", "min", "prod", "var", "std"]


@pytest.mark.parametrize("name", NUMPY_NAMES)
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), ()], ids=str)
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions_take_numpys_arguments(name, axis, keepdims):
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    expected = getattr(np, name)(x, axis=axis, keepdims=keepdims)
    found = getattr(mg.Tensor(x), name)(axis=axis, keepdims=keepdims)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.data, expected, rtol=1e-12, atol=1e-15)
    if axis != ():  # one element each: nothing to differentiate in var
        f = lambda x: operations[name](x, axis=axis, keepdims=keepdims)
        assert mg.check_grad(f, x, rtol=1e-4)


@pytest.mark.parametrize("name", ["sum", "mean", "max", "var", "logsumexp", "softmax", "matmul"])
def test_empty_arrays(name):
    x = mg.Tensor(np.zeros((3, 0), np.float32), requires_grad=True)
    y = x @ np.zeros((0, 2), np.float32) if name == "matmul" else operations[name](x, axis=0)
    y.sum().backward()
    assert x.grad.shape == (3, 0) and y.shape == ((3, 2) if name == "matmul" else y.shape)


def test_extremes_and_sums_of_integers_and_booleans():
    x = mg.tensor([[3, 1], [2, 5]])
    assert (x.max().item(), x.min().item(), x.sum().item(), x.prod().item()) == (5, 1, 11, 30)
    assert x.mean().dtype == np.float32 and x.mean().item() == 2.75
    assert (x > 2).sum().item() == 2
    assert x.argmax().item() == 3 and x.argmin(axis=1).tolist() == [1, 0]


def test_softmax_of_large_numbers_and_infinities():
    x = np.array([[1e4, 0, -1e4], [0, -np.inf, 0]])
    np.testing.assert_allclose(mg.softmax(x), [[1, 0, 0], [0.5, 0, 0.5]])
    np.testing.assert_allclose(mg.logsumexp(x, axis=1), [1e4, np.log(2)])
    np.testing.assert_allclose(mg.log_softmax(x)[:, 0], [0, -np.log(2)])
    assert mg.logsumexp(np.full(3, -np.inf)) == -np.inf
    assert mg.logsumexp(np.array([np.inf, 0.0])) == np.inf
    t = mg.Tensor(x, requires_grad=True)
    mg.logsumexp(t, axis=1).sum().backward()
    np.testing.assert_allclose(t.grad.data, [[1, 0, 0], [0.5, 0, 0.5]])


def test_prod_with_zeros():
    for x in ([2.0, 0.0, 3.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]):
        assert mg.check_grad(mg.prod, np.array(x), order=2)
    x = np.array([[[0.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [5.0, 6.0]]])
    for axis in (0, 1, (0, 2), None):
        assert mg.check_grad(lambda x, axis=axis: mg.prod(x, axis=axis), x, order=2)


def test_getitem_adds_up_repeated_indices():
    x = np.arange(6.0).reshape(2, 3)
    indices = [
        1, -1, (0, 1), slice(None, None, -1), (..., 0), None, np.array([0, 0, 1]), [1, 1],
        (np.array([0, 1, 1]), np.array([2, 0, 0])), x > 2, (slice(None), np.array([True, False, True])),
        (np.array([[0], [1]]), np.array([0, 2])), (np.array([1, 1]), slice(0, 2)), [], (0, [1, 1]),
        np.zeros((2, 3), bool),
    ]  # fmt: skip
    for index in indices:
        assert mg.check_grad(lambda t, index=index: t[index] * 2, x, order=2)
        expected = x[index] if not (isinstance(index, list) and not index) else x[np.zeros(0, int)]
        np.testing.assert_array_equal(mg.Tensor(x)[index].data, expected)


def test_memory_is_shared_where_numpy_shares_it():
    x = mg.tensor(np.arange(6.0).reshape(2, 3))
    for view in (x.T, x.reshape(3, 2), x[0], x.expand(2, 2, 3), x.squeeze(), x.flatten(), x.split(2)[1]):
        assert np.shares_memory(view.data, x.data)


ERRORS = {
    "matmul inner": (lambda x: x @ np.ones((2, 2)), r"\(2, 3\) @ \(2, 2\) .* left has 3 columns"),
    "matmul 0-d": (lambda x: mg.matmul(x, mg.tensor(1.0)), r"\(2, 3\) @ \(\) .* use \*"),
    "matmul batch": (
        lambda x: mg.ones(2, 2, 3) @ mg.ones(3, 3, 2),
        r"fit the shapes \(2, 2, 3\), \(3, 3, 2\)",
    ),
    "add": (lambda x: x + np.ones(4), r"add does not fit the shapes \(2, 3\), \(4,\): .*[^ .]\.$"),
    "axis": (lambda x: x.sum(axis=2), r"sum .*axis 2 is out of bounds"),
    "flatten": (lambda x: x.flatten(start_dim=4), r"axis \(4, -1\) is out of range .* 2 axes"),
    "reshape": (lambda x: x.reshape(4, -1), r"^reshape .* array of size 6 into shape \(4,"),
    "reshape twice": (lambda x: x.reshape(-1, -1), r"^reshape .*can only specify one unknown"),
    "permute": (lambda x: x.permute(0, 0), r"^permute .*\(2, 3\): repeated axis"),
    "expand": (lambda x: x.expand(2, 4), r"^expand .*\(2,3\)  and requested shape \(2,4\)"),
    "expand fewer": (lambda x: x.expand(3), r"^expand .*\(2, 3\): .*more dimensions"),
    "cat": (lambda x: mg.cat([x, x.T]), r"cat: the shapes \(2, 3\), \(3, 2\) differ beside axis 0"),
    "stack": (lambda x: mg.stack([x, x.T]), r"the shapes \(1, 2, 3\), \(1, 3, 2\) differ"),
    "split": (lambda x: x.split(2, axis=1), r"axis 1 of \(2, 3\) does not divide into 2 equal parts"),
    "max": (lambda x: x[:0].max(axis=0), r"max .*\(0, 3\).* zero-size"),
    "gather shape": (lambda x: x.gather([0], 0), r"gather: the index of shape \(1,\) does not fit \(2, 3\)"),
    "einsum": (lambda x: mg.einsum("ij,jk", x, x), r"einsum: 'ij,jk' does not fit the shapes \(2, 3\)"),
    "setitem": (lambda x: x.__setitem__(0, np.ones(2)), r"\(2,\)"),
}


@pytest.mark.parametrize("what", ERRORS)
def test_shape_errors_name_the_shapes(what):
    call, message = ERRORS[what]
    with pytest.raises(ShapeError, match=message):
        call(mg.ones(2, 3))


def test_wrong_values_name_the_valid_ones():
    x = mg.ones(2, 3)
    with pytest.raises(ArgumentError, match=r"gather: axis 1 has size 3, the indices run from 0 to 3"):
        mg.gather(x, np.array([[0, 3]]), 1)
    with pytest.raises(ArgumentError, match=r"one_hot: 3 classes allow labels 0 to 2, here 0 to 5"):
        mg.one_hot(np.array([0, 5]), num_classes=3)
    with pytest.raises(ArgumentError, match=r"one_hot: labels must be integers, these are float32"):
        mg.one_hot(x)
    with pytest.raises(ArgumentError, match=r"cat: the list is empty"):
        mg.cat([])
    with pytest.raises(ArgumentError, match=r"pad: widths must not be negative"):
        mg.pad(x, -1)
    with pytest.raises(ArgumentError, match=r"getitem does not fit .*\(2, 3\): index 5"):
        x[5]


def test_wrong_calls_show_the_signature():
    for call in (lambda x: x.sum(0, True, 3), lambda x: x.sum(0, axis=1), lambda x: mg.sum(x.data, 0, 1, 2)):
        with pytest.raises(ArgumentError, match=r"sum: more arguments than sum\(x, axis=None"):
            call(mg.ones(2, 3))
    np.testing.assert_array_equal(mg.cumsum(np.ones((2, 3)), 0), [[1] * 3, [2] * 3])
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'dim'"):
        mg.ones(2).sum(dim=0)


def test_one_hot_on_arrays_and_tensors():
    labels = np.array([[1, 0], [2, 2]])
    np.testing.assert_array_equal(mg.one_hot(labels), np.eye(3, dtype=np.float32)[labels])
    assert mg.one_hot(mg.tensor(labels), 5, dtype=np.float64).dtype == np.float64
    assert mg.one_hot(mg.tensor(labels), 5).shape == (2, 2, 5)


# Operations of one's own


@mg.primitive
def outer(a, b, *, scale=1.0):
    """(n,), (m,) -> (n, m)"""
    return scale * np.outer(a, b)


@outer.vjp
def _(g, out, a, b, scale):
    return scale * (g @ b), scale * (g.T @ a)


def test_an_operation_of_ones_own():
    a, b = np.array([1.0, 2.0]), np.array([3.0, 4.0, 5.0])
    assert mg.check_grad(lambda a, b: outer(a, b, scale=3.0), a, b, order=2)
    np.testing.assert_array_equal(outer(a, b), np.outer(a, b))
    assert repr(outer) == "<Primitive outer(a, b, *, scale=1.0)>"


def test_an_operation_without_a_rule():
    @mg.primitive
    def middle(x):
        return np.median(x)

    y = middle(mg.tensor([1.0, 5.0, 2.0], requires_grad=True))
    assert y.item() == 2
    with pytest.raises(GradientError, match=r"middle has no vjp. Declare one with @middle.vjp"):
        y.backward()

    @middle.vjp
    def _(g, out, x):
        return g * (x == out)

    x = mg.tensor([1.0, 5.0, 2.0], requires_grad=True)
    middle(x).backward()
    np.testing.assert_array_equal(x.grad.data, [0, 0, 1])


def test_mistakes_in_ones_own_operations():
    @mg.primitive
    def picky(x, *, limit=1.0):
        raise ValueError("one's own words")

    with pytest.raises(ValueError, match=r"^one's own words$"):
        picky(mg.ones(2))
    with pytest.raises(ArgumentError, match=r"picky: a rule takes \(g, out, x, limit\), not this one: "):

        @picky.vjp
        def _(g, x, limit):
            return g


def test_an_operation_may_use_tensors_inside():
    @mg.primitive
    def inside(x):
        t = mg.tensor(x, requires_grad=True)
        (t**3).sum().backward()
        return t.grad.numpy()

    inside.vjp(lambda g, out, x: g * 6 * x)
    assert mg.check_grad(inside, np.array([1.0, -2.0]), order=2)


def test_an_operation_without_source_text():
    space = {"mg": mg, "np": np}
    text = "@mg.primitive\ndef cube(x):\n    return x**3\ncube.vjp(lambda g, out, x: 3 * g * x * x)"
    exec(text, space)
    assert space["cube"].reads >= {0, "out"}
    assert mg.check_grad(space["cube"], np.array([-1.0, 0.5]), order=2)


def test_a_lambda_over_several_lines():
    cube = mg.primitive(lambda x: x**3)
    cube.vjp(
        lambda g, out, x: g
        * 3
        * x**2
    )  # fmt: skip
    assert mg.check_grad(lambda x: cube(x * 1), np.array([-1.0, 0.5]), order=2)


def test_what_a_rule_reads():
    from microgradx.primitives import lift
    from microgradx.primitives.indexing import concatenate, getitem
    from microgradx.primitives.products import multiply_matrices

    reads = {
        multiply_matrices: {0, 1}, mg.sum: set(), mg.mean: set(), concatenate: set(),
        getitem: set(range(1, getitem.arity)), mg.softmax: {"out"}, mg.max: {0, "out"},
        lift(mg.exp): {"out"}, lift(mg.sin): {0}, lift(mg.relu): {"out"}, lift(mg.scalars.add): set(),
        lift(mg.scalars.multiply): {0, 1},
    }  # fmt: skip
    assert {op.name: set(op.reads) for op in reads} == {op.name: r for op, r in reads.items()}


def leaves_and_results(f, points):
    """The gradients of f at leaves, and at results: of these nothing is at hand that a rule does not read."""
    found = []
    for middle in (lambda t: t, lambda t: 1.0 * t):
        tensors = [mg.Tensor(point, requires_grad=True) for point in points]
        f(*map(middle, tensors)).sum().backward()
        found.append([t.grad for t in tensors])
    return zip(*found, strict=True)


@every_case
def test_rules_read_no_more_than_they_say(name, case):
    for one, other in leaves_and_results(
        lambda *xs: joined(case.call(operations[name], list(xs))), draw(case)
    ):
        np.testing.assert_array_equal(one.data, other.data)


@pytest.mark.parametrize("function", [*mg.scalars.differentiable()], ids=lambda function: function.name)
def test_slopes_read_no_more_than_they_say(function):
    for one, other in leaves_and_results(function, function.domain.sample(5)):
        assert one is other is None or one.tolist() == other.tolist()


def test_a_rule_with_the_wrong_results_says_so():
    def double(a, b):
        return 2 * a + 2 * b

    x = mg.tensor([1.0, 2.0], requires_grad=True)
    one_short = mg.primitive(double)
    one_short.vjp(lambda g, out, a, b: (2 * g,))
    with pytest.raises(GradientError, match=r"double: its rule gave 1 gradients for 2 inputs"):
        one_short(x, x).sum().backward()
    misshapen = mg.primitive(double)
    misshapen.vjp(lambda g, out, a, b: (g, np.ones(3)))
    with pytest.raises(GradientError, match=r"double: .*gradient of shape \(3,\) for an input of shape"):
        misshapen(x, x).sum().backward()
