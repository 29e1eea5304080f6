"""microgradx: a network, a loss and an optimizer as plain arithmetic, run by Numba.

    import microgradx as mg
    from microgradx import nn, optim, data

Functions take numbers, NumPy arrays or Tensors, and give back the same kind.
"""

from typing import TYPE_CHECKING

from microgradx import errors, primitives, rules, scalars
from microgradx import familiar
from microgradx.errors import MicrogradxError
from microgradx import cuda
from microgradx.cuda.cublas import matmul_precision
from microgradx.kernels.random import Generator, generator
from microgradx.primitives import Case, operation, primitive
from microgradx.primitives.indexing import cat, gather, one_hot, pad, split, stack
from microgradx.primitives.products import einsum, matmul
from microgradx.primitives.reductions import (
    all, any, argmax, argmin, cumsum, log_softmax, logsumexp, max, mean, min, norm, prod, softmax, std, sum,
    var,
)  # fmt: skip
from microgradx.primitives.shapes import expand, flatten, permute, reshape, squeeze, transpose, unsqueeze
from microgradx.rules import rule
from microgradx.scalars import absolute as abs
from microgradx.scalars import (
    clip, cos, elementwise, elu, erf, exp, expm1, gelu, gelu_tanh, leaky_relu, log, log1p, maximum, minimum,
    relu, rsqrt, sigmoid, sign, silu, sin, softplus, softsign, sqrt, square, tanh, where,
)  # fmt: skip
from microgradx.eager.mode import detect_anomaly, no_grad
from microgradx.eager.tensor import Tensor
from microgradx.eager.creation import arange, eye, from_dlpack, full, ones, rand, randn, tensor, zeros  # isort: skip
from microgradx.eager.autograd import check_grad, grad, hessian, hvp, value_and_grad  # isort: skip
from microgradx import data, nn, optim  # isort: skip
from microgradx import codegen  # isort: skip  # Tensors on "cuda"

if TYPE_CHECKING:
    from microgradx.compiler import jit
    from microgradx.study import draw, tape
    from microgradx.training import fit

__all__ = [
    "__version__", "abs", "all", "any", "arange", "argmax", "argmin", "Case", "cat", "check_grad", "clip",
    "cos", "cuda", "cumsum", "data", "detect_anomaly", "draw", "einsum", "elementwise", "elu", "erf",
    "errors", "exp", "expand", "expm1", "eye", "fit", "flatten", "from_dlpack", "full", "gather", "gelu",
    "gelu_tanh", "Generator", "generator", "grad", "hessian", "hvp", "jit", "leaky_relu", "log", "log1p",
    "log_softmax", "logsumexp", "matmul", "matmul_precision", "max", "maximum", "mean", "MicrogradxError",
    "min", "minimum", "nn", "no_grad", "norm", "one_hot", "ones", "operation", "optim", "pad", "permute",
    "primitive", "primitives", "prod", "rand", "randn", "relu", "reshape", "rsqrt", "rule", "rules",
    "scalars", "seed", "sigmoid", "sign", "silu", "sin", "softmax", "softplus", "softsign", "split",
    "sqrt", "square", "squeeze", "stack", "std", "sum", "tanh", "tape", "Tensor", "tensor", "transpose",
    "unsqueeze", "value_and_grad", "var", "where", "zeros",
]  # fmt: skip

__version__ = "0.1.0"


def seed(n: int) -> None:
    """Restart the random numbers of initialisation, dropout, shuffling, `rand` and `randn` from a seed.

    >>> mg.seed(0)
    >>> a = mg.rand(3)
    >>> mg.seed(0)
    >>> bool((mg.rand(3) == a).all())
    True
    """
    generator.seed(n)


HOMES = {"compiler": ["compiler", "jit"], "training": ["fit", "training"], "study": ["draw", "study", "tape"]}
__getattr__, __dir__ = familiar.of_package("mg", __name__, HOMES)
