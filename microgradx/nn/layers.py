"""Layers: Linear, MLP, Dropout, normalisation, Embedding, and the activations as modules.

Names, arguments and defaults are PyTorch's, except that `Linear.weight` is (in_features, out_features).
"""

import math
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from inspect import signature
from typing import Any

import numpy as np

from microgradx import scalars
from microgradx.errors import ArgumentError, DTypeError, ShapeError
from microgradx.kernels.random import generator
from microgradx.nn.module import Module, Sequential, check_features
from microgradx.primitives.indexing import getitem
from microgradx.primitives.products import affine, matmul
from microgradx.primitives.reductions import log_softmax, mean, softmax, var
from microgradx.primitives.shapes import flatten, reshape
from microgradx.scalars import rsqrt
from microgradx.tensor import Tensor, wrap


def uniform(shape: tuple[int, ...], bound: float) -> Tensor:
    """A parameter drawn from U(-bound, bound)."""
    return Tensor(generator.uniform(shape, -bound, bound), requires_grad=True)


def check_size(layer: str, **sizes: int) -> None:
    """Raise ArgumentError for a size that is not a positive whole number."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
            raise ArgumentError(f"{layer}: {name} must be a positive whole number, not {size!r}.")


class Linear(Module):
    """x @ weight + bias: (..., in_features) -> (..., out_features).

    Both start uniform within ±1/√in_features, PyTorch's default (He et al. with a = √5, arXiv 1502.01852).
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        check_size("Linear", in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        bound = 1 / math.sqrt(in_features)
        self.weight = uniform((in_features, out_features), bound)
        self.bias = uniform((out_features,), bound) if bias else None

    def forward(self, x):
        """x @ weight + bias"""
        check_features("Linear", x, self.in_features)
        if self.bias is None:
            return matmul(x, self.weight)
        return affine(x, self.weight, self.bias) if x.ndim == 2 else matmul(x, self.weight) + self.bias

    def describe(self) -> str:
        """The sizes."""
        return f"{self.in_features}, {self.out_features}" + ("" if self.bias is not None else ", bias=False")


class Function(Module):
    """A function of one Tensor as a module; its constants may be set: `nn.LeakyReLU(0.2)`."""

    function: Callable[..., Any]
    defaults: dict[str, Any]

    def __init__(self, *values: Any, **constants: Any):
        if len(values) > len(self.defaults) or constants.keys() - self.defaults.keys():
            raise ArgumentError(f"{type(self).__name__} takes {', '.join(self.defaults) or 'no arguments'}.")
        self.constants = self.defaults | dict(zip(self.defaults, values, strict=False)) | constants

    def forward(self, x):
        """The function of x."""
        return type(self).function(x, **self.constants)

    def __reduce__(self):  # copies and pickles name the function: its class may have been made on the way
        return as_module, (type(self).function,), vars(self)

    def describe(self) -> str:
        """The constants."""
        return ", ".join(f"{name}={value}" for name, value in self.constants.items())


made: dict[Callable[..., Any], type[Function]] = {}
"""The module class of every function that has one."""


def layer(name: str, function: Callable[..., Any], **defaults: Any) -> type[Function]:
    """The module class of a function; what has a default in its signature can be set."""
    if function in made:
        return made[function]
    known = {p.name: p.default for p in signature(function).parameters.values() if p.default is not p.empty}
    body = {"function": function, "defaults": known | defaults, "__doc__": function.__doc__}
    made[function] = type(name, (Function,), body | {"__module__": __name__})
    return made[function]


ReLU = layer("ReLU", scalars.relu)
LeakyReLU = layer("LeakyReLU", scalars.leaky_relu)
ELU = layer("ELU", scalars.elu)
SiLU = layer("SiLU", scalars.silu)
GELU = layer("GELU", scalars.gelu)
GELUTanh = layer("GELUTanh", scalars.gelu_tanh)
Softplus = layer("Softplus", scalars.softplus)
Sigmoid = layer("Sigmoid", scalars.sigmoid)
Tanh = layer("Tanh", scalars.tanh)
Softmax = layer("Softmax", softmax)
LogSoftmax = layer("LogSoftmax", log_softmax)
Flatten = layer("Flatten", flatten, start=1)


def as_module(choice: "str | Callable[..., Any] | Module") -> Module:
    """The module of an activation given by name, as a function, or as a module already."""
    if isinstance(choice, Module):
        return choice
    if isinstance(choice, str):
        known = {name: f for name, f in scalars.functions.items() if len(f.inputs) == 1 and f.slopes}
        if choice not in known:
            near = get_close_matches(choice, known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            names = ", ".join(name for name, f in known.items() if f.activation)
            raise ArgumentError(f"no activation {choice!r}.{hint} There are {names}.")
        return layer(choice, known[choice])()
    return layer(getattr(choice, "__name__", "Function"), choice)()


class MLP(Sequential):
    """Linear layers of the given sizes with an activation, and dropout, between them.

    `nn.MLP([784, 128, 10])` has one hidden layer of 128. The last layer gives logits: no activation.
    """

    def __init__(self, sizes: Sequence[int], activation="relu", dropout: float = 0.0, bias: bool = True):
        if len(sizes) < 2:
            raise ArgumentError(
                f"MLP needs an input and an output size, such as [784, 10], not {list(sizes)}."
            )
        layers: list[Module] = []
        for n, m in zip(sizes, sizes[1:], strict=False):
            layers += [Linear(n, m, bias), as_module(activation)]
            layers += [Dropout(dropout)] if dropout else []
        super().__init__(*layers[: -2 if dropout else -1])


class Dropout(Module):
    """In training, zero elements with probability p and scale the others by 1/(1 - p): arXiv 1207.0580."""

    def __init__(self, p: float = 0.5):
        if not 0 <= p < 1:
            raise ArgumentError(f"Dropout: the probability must be at least 0 and below 1, not {p}.")
        self.p = p

    def forward(self, x):
        """x with some elements dropped; x itself in evaluation."""
        if not self.training or self.p == 0:
            return x
        keep = generator.uniform(x.shape) >= self.p
        return x * (keep / (1 - self.p)).astype(x.dtype)

    def describe(self) -> str:
        """The probability."""
        return f"p={self.p}"


class LayerNorm(Module):
    """(x - mean) / √(var + eps) · weight + bias over the last axes, those of `shape`: arXiv 1607.06450."""

    def __init__(self, shape: int | Sequence[int], eps: float = 1e-5, affine: bool = True):
        self.shape = tuple(shape) if isinstance(shape, Sequence) else (shape,)
        check_size("LayerNorm", **{f"shape[{i}]": n for i, n in enumerate(self.shape)})
        self.eps = eps
        self.weight = Tensor(np.ones(self.shape, np.float32), requires_grad=True) if affine else None
        self.bias = Tensor(np.zeros(self.shape, np.float32), requires_grad=True) if affine else None

    def forward(self, x):
        """x with mean 0 and variance 1 over the last axes, then scaled and shifted."""
        if tuple(x.shape[-len(self.shape) :]) != self.shape:
            raise ShapeError(
                f"LayerNorm: the last axes of the input must be {self.shape}, its shape is {x.shape}."
            )
        axes = tuple(range(-len(self.shape), 0))
        y = (x - mean(x, axes, True)) * rsqrt(var(x, axes, keepdims=True) + self.eps)
        return y if self.weight is None else y * self.weight + self.bias

    def describe(self) -> str:
        """The shape."""
        return f"{self.shape}, eps={self.eps}"


class BatchNorm1d(Module):
    """Each feature with mean 0 and variance 1 over the batch, then scaled and shifted: arXiv 1502.03167.

    (n, features) or (n, features, length). In evaluation the running statistics stand for the batch's;
    as in PyTorch they are r ← (1 - momentum) r + momentum · batch, with the unbiased variance.
    """

    def __init__(self, features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True):
        check_size("BatchNorm1d", features=features)
        self.features, self.eps, self.momentum = features, eps, momentum
        self.weight = Tensor(np.ones(features, np.float32), requires_grad=True) if affine else None
        self.bias = Tensor(np.zeros(features, np.float32), requires_grad=True) if affine else None
        self.running_mean = wrap(np.zeros(features, np.float32))
        self.running_var = wrap(np.ones(features, np.float32))

    def forward(self, x):
        """x normalised feature by feature."""
        if x.ndim not in (2, 3) or x.shape[1] != self.features:
            wanted = f"(n, {self.features}) or (n, {self.features}, length)"
            raise ShapeError(f"BatchNorm1d: the input must be {wanted}, its shape is {x.shape}.")
        axes = (0, 2)[: x.ndim - 1]
        across = (1, -1, 1)[: x.ndim]
        if self.training:
            n = x.size // self.features
            if n < 2:
                raise ShapeError(
                    f"BatchNorm1d: training needs two values per feature, the input is {x.shape}."
                )
            centre, spread = mean(x, axes, True), var(x, axes, keepdims=True)
            self.follow(self.running_mean, centre)
            self.follow(self.running_var, spread * (n / (n - 1)))
        else:
            centre, spread = reshape(self.running_mean, across), reshape(self.running_var, across)
        y = (x - centre) * rsqrt(spread + self.eps)
        return y if self.weight is None else y * reshape(self.weight, across) + reshape(self.bias, across)

    def follow(self, running: Tensor, batch: Tensor) -> None:
        """Move a running statistic towards the batch's."""
        running.data += self.momentum * (batch.data.reshape(-1) - running.data)

    def describe(self) -> str:
        """The features."""
        return f"{self.features}, eps={self.eps}, momentum={self.momentum}"


class Embedding(Module):
    """Rows of a table: integers of any shape -> (..., embedding_dim). Starts normal with deviation 1."""

    def __init__(self, num_embeddings: int, embedding_dim: int):
        check_size("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = Tensor(generator.normal((num_embeddings, embedding_dim)), requires_grad=True)

    def forward(self, index):
        """The rows that the integers name."""
        index = np.asarray(index)
        if index.dtype.kind not in "iu":
            raise DTypeError(f"Embedding: indices must be integers, these are {index.dtype}.")
        low, high, rows = index.min(initial=0), index.max(initial=-1), self.num_embeddings
        if low < 0 or high >= rows:
            raise ArgumentError(
                f"Embedding: {rows} rows allow indices 0 to {rows - 1}, here {low} to {high}."
            )
        return getitem(self.weight, index=index)

    def describe(self) -> str:
        """The sizes."""
        return f"{self.num_embeddings}, {self.embedding_dim}"
