"""norm, any and all, eager and compiled, beside NumPy and PyTorch."""

import numpy as np
import pytest

import microgradx as mg

pytestmark = pytest.mark.interpreted

X = np.array([[0.0, 3.0, -4.0], [0.0, 0.0, 0.0], [1.0, np.nan, 0.0]], np.float32)
AXES = [None, 0, 1, (0, 1)]


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("keepdims", [False, True])
def test_any_and_all_are_numpys(axis, keepdims):
    for name in ("any", "all"):
        expected = getattr(np, name)(X, axis, keepdims=keepdims)
        found = getattr(mg, name)(mg.tensor(X), axis, keepdims)
        assert found.dtype == bool
        compiled = mg.jit(lambda x, name=name: getattr(x, name)(axis, keepdims))(mg.tensor(X))
        np.testing.assert_array_equal(found.numpy(), expected)
        np.testing.assert_array_equal(compiled.numpy(), expected)
        np.testing.assert_array_equal(getattr(mg, name)(X, axis, keepdims), expected)
    assert bool(mg.tensor([0.0, 1.0]).any()) and not mg.tensor([0.0, 1.0]).all()
    assert not mg.zeros(0).any() and mg.zeros(0).all()


def test_the_gradient_of_a_norm_is_0_where_it_is_0(torch):
    rows = X[:2]
    theirs = torch.tensor(rows, requires_grad=True)
    torch.linalg.vector_norm(theirs, dim=1).sum().backward()

    def slope(x):
        x.norm(axis=1).sum().backward()
        return x.grad

    for run in (slope, mg.jit(slope)):
        found = run(mg.tensor(rows, requires_grad=True))
        np.testing.assert_allclose(found.numpy(), theirs.grad.numpy(), rtol=1e-6)
