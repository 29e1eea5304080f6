"""Layers that normalise: LayerNorm by rows, BatchNorm1d by features; arguments and defaults are PyTorch's."""

from collections.abc import Sequence

import numpy as np

from microgradx.eager.mode import no_grad
from microgradx.eager.tensor import wrap
from microgradx.errors import ShapeError, checked, number, switch
from microgradx.nn.layers import check_array, check_size, parameter
from microgradx.nn.module import Module
from microgradx.primitives import Operand
from microgradx.primitives.reductions import mean, var
from microgradx.primitives.shapes import reshape
from microgradx.scalars import rsqrt


class Norm(Module):
    """Subtract a mean, divide by a deviation, then scale by `weight` and shift by `bias`."""

    @checked
    def __init__(self, shape: tuple[int, ...], eps: float, affine: bool, bias: bool = True):
        shape = tuple(check_size(type(self).__name__, **{f"shape[{i}]": n for i, n in enumerate(shape)}))
        number(f"{type(self).__name__}: eps", eps, "[0, inf)")
        self.eps, affine, bias = eps, switch("affine", affine), switch("bias", bias)
        self.weight = parameter(np.ones(shape, np.float32)) if affine else None
        self.bias = parameter(np.zeros(shape, np.float32)) if affine and bias else None

    def normalise(self, x: Operand, centre: Operand, spread: Operand, across: tuple[int, ...]) -> Operand:
        """(x - centre) / √(spread + eps) · weight + bias, these in a shape that runs across x."""
        normal = (x - centre) * rsqrt(spread + self.eps)
        scaled = normal if self.weight is None else normal * reshape(self.weight, across)
        return scaled if self.bias is None else scaled + reshape(self.bias, across)


class LayerNorm(Norm):
    """Mean 0 and variance 1 over the last axes, those of `normalized_shape`: arXiv 1607.06450.

    weight and bias, of that shape, scale and shift where `elementwise_affine`. ShapeError where the last axes
    of x have other sizes, ArgumentError for sizes below 1.

    >>> nn.LayerNorm(2, elementwise_affine=False)(mg.tensor([[1.0, 3.0]]))
    tensor([[-0.999995,  0.999995]])
    """

    @checked
    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True,
        bias: bool = True,
    ):  # fmt: skip
        shape = tuple(normalized_shape) if isinstance(normalized_shape, Sequence) else (normalized_shape,)
        super().__init__(shape, eps, elementwise_affine, bias)
        self.normalized_shape = shape

    def forward(self, x: Operand) -> Operand:
        """x normalised row by row."""
        shape = self.normalized_shape
        check_array("LayerNorm", x)
        if x.shape[-len(shape) :] != shape:
            raise ShapeError(f"LayerNorm: the last axes must be {shape}, the shape is {x.shape}.")
        axes = tuple(range(-len(shape), 0))
        return self.normalise(x, mean(x, axes, True), var(x, axes, keepdims=True), shape)


class BatchNorm1d(Norm):
    """Each feature with mean 0 and variance 1 over the batch, (n, features) or (n, features, length).

    In evaluation running statistics stand for the batch's; as in PyTorch they are r ← (1 - momentum) r +
    momentum · batch, with the unbiased variance. arXiv 1502.03167.

    weight and bias, (features,), scale and shift where `affine`. ShapeError for x of another shape, or in
    training of one row.

    >>> nn.BatchNorm1d(1, affine=False)(mg.tensor([[1.0], [3.0]]))
    tensor([[-0.999995],
           [ 0.999995]])
    """

    @checked
    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True):
        super().__init__((num_features,), eps, affine)
        number("BatchNorm1d: momentum", momentum, "[0, 1]")
        self.num_features, self.momentum = int(num_features), momentum
        self.running_mean = wrap(np.zeros(num_features, np.float32))
        self.running_var = wrap(np.ones(num_features, np.float32))

    @checked
    def forward(self, x: Operand) -> Operand:
        """x normalised feature by feature."""
        c = self.num_features
        check_array("BatchNorm1d", x)
        if x.ndim not in (2, 3) or x.shape[1] != c:
            raise ShapeError(f"BatchNorm1d: the input must be (n, {c}) or (n, {c}, length), not {x.shape}.")
        across = (1, -1, 1)[: x.ndim]
        if not self.training:
            centre, spread = reshape(self.running_mean, across), reshape(self.running_var, across)
            return self.normalise(x, centre, spread, across)
        axes, n = (0, 2)[: x.ndim - 1], x.size // c
        if n < 2:
            what = f"training needs two values per feature, the input is {x.shape}"
            raise ShapeError(f"BatchNorm1d: {what}. fit(..., drop_last=True) leaves a last short batch out.")
        centre, spread = mean(x, axes, True), var(x, axes, keepdims=True)
        with no_grad():
            for average, batch in (self.running_mean, centre), (self.running_var, spread * (n / (n - 1))):
                average.data = average + self.momentum * (reshape(batch, -1) - average)
        return self.normalise(x, centre, spread, across)
