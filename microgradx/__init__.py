"""microgradx: a network, a loss and an optimizer as plain arithmetic, run by Numba.

    import microgradx as mg
    from microgradx import nn, optim, data

Functions take numbers, NumPy arrays or Tensors, and give back the same kind.
"""

from microgradx import errors, primitives, scalars
from microgradx.autograd import check_grad, grad, hessian, hvp, value_and_grad
from microgradx.errors import MicrogradxError
from microgradx.kernels.random import Generator, generator
from microgradx.primitives import Case, operation, primitive
from microgradx.primitives.indexing import cat, gather, one_hot, pad, split, stack
from microgradx.primitives.products import einsum, matmul
from microgradx.primitives.reductions import (
    argmax,
    argmin,
    cumsum,
    log_softmax,
    logsumexp,
    max,  # noqa: A004
    mean,
    min,  # noqa: A004
    prod,
    softmax,
    std,
    sum,  # noqa: A004
    var,
)
from microgradx.primitives.shapes import expand, flatten, permute, reshape, squeeze, transpose, unsqueeze
from microgradx.scalars import absolute as abs  # noqa: A004
from microgradx.scalars import (
    clip,
    cos,
    elementwise,
    elu,
    erf,
    exp,
    expm1,
    gelu,
    leaky_relu,
    log,
    log1p,
    maximum,
    minimum,
    relu,
    rsqrt,
    sigmoid,
    sign,
    silu,
    sin,
    softplus,
    sqrt,
    square,
    tanh,
    where,
)
from microgradx.tensor import (
    Tensor,
    arange,
    detect_anomaly,
    eye,
    full,
    no_grad,
    ones,
    rand,
    randn,
    tensor,
    zeros,
)


def seed(n: int) -> None:
    """Restart the random numbers of initialisation, dropout, `rand` and `randn` from a seed."""
    generator.seed(n)
