"""Matrix products and Einstein summation."""

import string
from functools import partial

import numpy as np

from microgradx.errors import ShapeError
from microgradx.primitives.core import Case, Operand, Shape, operation, primitive
from microgradx.primitives.shapes import expand_to, reshape_to, squeeze, transpose, unsqueeze


@primitive
def multiply_matrices(a: Operand, b: Operand) -> Operand:
    """(..., n, k) @ (..., k, m) -> (..., n, m)"""
    return np.matmul(a, b)


@multiply_matrices.vjp
def _(g: Operand, _out: Operand, a: Operand, b: Operand) -> tuple[Operand, Operand]:
    return lambda: multiply_matrices(g, transpose(b)), lambda: multiply_matrices(transpose(a), g)


MATRICES = (
    Case((2, 3), (3, 4)), Case((3,), (3,)), Case((2, 3), (3,)), Case((3,), (3, 2)), Case((5, 2, 3), (3, 2)),
    Case((2, 1, 2, 3), (4, 3, 1)), Case((0, 3), (3, 2)),
)  # fmt: skip


@operation(*MATRICES)
def matmul(a: Operand, b: Operand) -> Operand:
    """(..., n, k) @ (..., k, m) -> (..., n, m); a vector is a row on the left, a column on the right.

    ShapeError where the inner sizes differ.

    >>> mg.matmul(mg.tensor([[1.0, 2.0], [3.0, 4.0]]), mg.ones(2))
    tensor([3., 7.])
    """
    if a.ndim == 2 == b.ndim and a.shape[1] == b.shape[0]:
        return multiply_matrices(a, b)
    if 0 in (a.ndim, b.ndim):
        raise ShapeError(f"matmul: {a.shape} @ {b.shape} - a single number has no matrix product; use *.")
    columns, rows = a.shape[-1], b.shape[-2 if b.ndim > 1 else 0]
    if columns != rows:
        sizes = f"left has {columns} columns, right has {rows} rows"
        raise ShapeError(f"matmul: {a.shape} @ {b.shape} - the inner sizes differ: {sizes}.")
    out = multiply_matrices(unsqueeze(a, 0) if a.ndim == 1 else a, unsqueeze(b, 1) if b.ndim == 1 else b)
    ends = [axis for axis, x in ((-2, a), (-1, b)) if x.ndim == 1]
    return squeeze(out, tuple(ends)) if ends else out


@operation(Case((4, 3), (3, 2), (2,)), Case((0, 3), (3, 2), (2,)))
@primitive
def affine(x: Operand, weight: Operand, bias: Operand) -> Operand:
    """(n, k) @ (k, m) + (m,) -> (n, m): a linear layer in one operation."""
    y = np.matmul(x, weight)
    return np.add(y, bias, out=y if y.dtype == bias.dtype else None)


@affine.vjp
def _(g: Operand, _out: Operand, x: Operand, weight: Operand, _bias: Operand) -> tuple[Operand, ...]:
    return lambda: g @ weight.T, lambda: x.T @ g, lambda: g.sum(0)


@primitive
def contract(*operands: Operand, equation: str) -> Operand:
    """np.einsum of an explicit equation in which no operand repeats a letter."""
    return np.einsum(equation, *operands, optimize=len(operands) > 2)


@contract.vjp
def _(g: Operand, _out: Operand, *operands: Operand, equation: str) -> tuple[Operand, ...]:
    left, result = equation.split("->")
    terms = left.split(",")

    def gradient(k: int) -> Operand:
        others = [i for i in range(len(terms)) if i != k]
        left = ",".join([result, *(terms[i] for i in others)])
        known = "".join(c for c in terms[k] if c in left)
        d = contract(g, *(operands[i] for i in others), equation=f"{left}->{known}")
        d = reshape_to(d, shape=tuple(d.shape[known.index(c)] if c in known else 1 for c in terms[k]))
        # a letter that stands in this operand alone was summed over: its gradient repeats
        full = np.broadcast_shapes(d.shape, operands[k].shape)
        return d if d.shape == full else expand_to(d, shape=full)

    return tuple(partial(gradient, k) for k in range(len(terms)))


EQUATIONS: dict[str, list[Shape]] = {
    "ij,jk->ik": [(2, 3), (3, 4)], "ii->i": [(3, 3)], "ii": [(3, 3)], "ij->j": [(2, 3)],
    "ij,ij": [(2, 3), (2, 3)], "i,j->ij": [(2,), (3,)], "...ij,...jk->...ik": [(5, 2, 3), (5, 3, 4)],
    "ij,jk,k->i": [(2, 3), (3, 4), (4,)],
}  # fmt: skip


@operation(*[Case(*shapes, first=(equation,)) for equation, shapes in EQUATIONS.items()])
def einsum(equation: str, *operands: Operand) -> Operand:
    """Einstein summation, np.einsum with an equation; diagonals and ellipses included.

    ShapeError where the equation does not fit the shapes.

    >>> mg.einsum("i,j->ij", mg.tensor([1.0, 2.0]), mg.tensor([3.0, 4.0]))
    tensor([[3., 4.],
           [6., 8.]])
    """
    try:
        _, report = np.einsum_path(equation, *(np.empty(x.shape, bool) for x in operands))
    except ValueError as error:
        shapes = ", ".join(str(x.shape) for x in operands)
        raise ShapeError(
            f"einsum: {equation!r} does not fit the shapes {shapes}: {str(error).rstrip('.')}."
        ) from None
    # NumPy's report gives the equation in full: ellipses spelled out, the result explicit
    left, result = report.split("Complete contraction:")[1].split("\n")[0].replace(" ", "").split("->")
    terms, factors = left.split(","), list(operands)
    free = (c for c in string.ascii_letters if c not in left)
    for k, term in enumerate(terms):  # ii->i becomes ia,ia->i, with the identity matrix as second factor
        for i, c in enumerate(term):
            if c in term[:i]:
                other = next(free)
                terms[k] = terms[k][:i] + other + terms[k][i + 1 :]
                terms.append(c + other)
                factors.append(np.eye(factors[k].shape[i], dtype=factors[k].dtype))
    return contract(*factors, equation=",".join(terms) + "->" + result)
