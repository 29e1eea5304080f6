"""Layers: Linear, MLP, Dropout, Embedding, and the activations as modules; `norms` has the others.

Names, arguments and defaults are PyTorch's, except that `Linear.weight` is (in_features, out_features).
"""

import math
from collections.abc import Callable, Sequence
from inspect import Parameter, Signature, cleandoc, signature
from itertools import pairwise

import numpy as np

from microgradx import scalars
from microgradx.eager.creation import rand
from microgradx.eager.mode import mode
from microgradx.eager.tensor import Tensor
from microgradx.errors import (
    ArgumentError,
    DTypeError,
    ShapeError,
    afterwards,
    checked,
    number,
    shown,
    switch,
)
from microgradx.kernels.random import generator
from microgradx.nn.module import Module, Sequential
from microgradx.primitives import Operand, values
from microgradx.primitives.indexing import Slot, ends, getitem
from microgradx.primitives.products import affine, matmul
from microgradx.primitives.reductions import log_softmax, softmax
from microgradx.primitives.shapes import cast, flatten


def parameter(array: np.ndarray) -> Tensor:
    """A Tensor to be trained."""
    return Tensor(array, requires_grad=True)


def check_size(layer: str, **sizes: int) -> list[int]:
    """Sizes as Python's integers; ArgumentError for one that is not a positive whole number."""
    for name, size in sizes.items():
        if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
            raise ArgumentError(f"{layer}: {name} must be a positive whole number, not {shown(size)}.")
    return [int(size) for size in sizes.values()]


def check_array(layer: str, x: object) -> None:
    """Raise ArgumentError for an input without a shape, such as a list."""
    if not isinstance(x, Tensor) and not (hasattr(x, "__array__") and hasattr(x, "ndim")):
        value = (
            "" if mode.recorder else f" {shown(x)}"
        )  # there may be tensors in it, whose values nobody knows
        given = f"{type(x).__name__}{value}"
        raise ArgumentError(f"{layer} takes a tensor or an array, not the {given}: write mg.tensor(...).")


class Linear(Module):
    """x @ weight + bias: (..., in_features) -> (..., out_features).

    Both start uniform within ±1/√in_features, PyTorch's default (He et al. with a = √5, arXiv 1502.01852).

    weight: (in_features, out_features), bias: (out_features,), float32. ArgumentError for sizes below 1,
    ShapeError where the last axis of x has another size.

    >>> nn.Linear(3, 2)(mg.ones(5, 3)).shape
    (5, 2)
    """

    @checked
    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        sizes = check_size("Linear", in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features = sizes
        a = 1 / math.sqrt(in_features)
        self.weight = parameter(generator.uniform((in_features, out_features), -a, a))
        self.bias = parameter(generator.uniform(out_features, -a, a)) if switch("bias", bias) else None

    def forward(self, x: Operand) -> Operand:
        """x @ weight + bias"""
        n = self.in_features
        check_array("Linear", x)
        if x.ndim == 0 or x.shape[-1] != n:
            size, advice = math.prod(x.shape[1:]), ""
            if x.ndim > 2 and size == n:
                advice = " Put nn.Flatten() before it, or give x.reshape(len(x), -1)."
            elif x.ndim > 2:
                advice = f" nn.Flatten() before it makes rows of {size}: then this layer must take {size}."
            raise ShapeError(f"Linear: the last axis must have size {n}, the shape is {x.shape}.{advice}")
        if self.bias is None:
            return matmul(x, self.weight)
        return affine(x, self.weight, self.bias) if x.ndim == 2 else matmul(x, self.weight) + self.bias


class Function(Module):
    """A function of one Tensor as a module; its constants may be set: `nn.LeakyReLU(0.2)`.

    >>> nn.LeakyReLU(0.2)(mg.tensor([-1.0, 1.0]))
    tensor([-0.2,  1. ])
    """

    function: Callable[..., Operand]
    defaults: dict[str, object]

    def __init__(self, *values: object, **constants: object):
        if len(values) > len(self.defaults) or constants.keys() - self.defaults.keys():
            takes = ", ".join(self.defaults) or "no arguments"
            how = "".join(f": {afterwards[name]}" for name in constants if name in afterwards)
            raise ArgumentError(f"{type(self).__name__} takes {takes}{how}.")
        for name, value in (
            self.defaults | dict(zip(self.defaults, values, strict=False)) | constants
        ).items():
            setattr(self, name, value)

    def forward(self, x: Operand) -> Operand:
        """The function of x."""
        check_array(type(self).__name__, x)
        return type(self).function(x, *[getattr(self, name) for name in self.defaults])

    def __reduce__(self) -> tuple[object, ...]:  # names the function: its class may have been made on the way
        return as_module, (type(self).function,), vars(self)


made: dict[Callable[..., Operand], type[Function]] = {}
"""The module class of every function that has one."""


def layer(name: str, function: Callable[..., Operand], **defaults: object) -> type[Function]:
    """The module class of a function; its constants are those given, or what has a default."""
    if function not in made:
        optional = [p for p in signature(function).parameters.values() if p.default is not p.empty]
        optional = [p for p in optional if p.kind is not p.KEYWORD_ONLY]
        defaults = defaults or {p.name: p.default for p in optional}
        doc = cleandoc(function.__doc__ or "").partition("\n\n>>>")[0]  # the example is the function's
        for own, called in zip(optional, defaults, strict=False):  # softmax's axis is Softmax' dim
            doc = doc.replace(f"`{own.name}`", f"`{called}`")
        if (function.__module__ or "").startswith("microgradx."):
            call = f"mg.{function.__name__}({', '.join(['x', *map(repr, defaults.values())])})"
            doc += f"\n\n>>> x = mg.rand(2, 3)\n>>> bool((nn.{name}()(x) == {call}).all())\nTrue"

        def __init__(self: Function, *values: object, **constants: object) -> None:
            Function.__init__(self, *values, **constants)

        takes = {"self": Parameter.empty, **defaults}
        kind = Parameter.POSITIONAL_OR_KEYWORD
        __init__.__signature__ = Signature([Parameter(n, kind, default=d) for n, d in takes.items()])  # type: ignore[attr-defined]
        body = {"function": function, "defaults": defaults, "__init__": __init__, "__doc__": doc}
        made[function] = type(name, (Function,), body)
    return made[function]


ReLU = layer("ReLU", scalars.relu)
LeakyReLU = layer("LeakyReLU", scalars.leaky_relu)
ELU = layer("ELU", scalars.elu)
SiLU = layer("SiLU", scalars.silu)
GELU = layer("GELU", scalars.gelu)
GELUTanh = layer("GELUTanh", scalars.gelu_tanh)
Softplus = layer("Softplus", scalars.softplus)
Softsign = layer("Softsign", scalars.softsign)
Sigmoid = layer("Sigmoid", scalars.sigmoid)
Tanh = layer("Tanh", scalars.tanh)
Softmax = layer("Softmax", softmax, dim=-1)
LogSoftmax = layer("LogSoftmax", log_softmax, dim=-1)
Flatten = layer("Flatten", flatten, start_dim=1, end_dim=-1)


def as_module(choice: "str | Callable[..., Operand] | Module") -> Module:
    """The module of an activation given by name, as a function, or as a module already."""
    if isinstance(choice, Module):
        return choice
    if isinstance(choice, str):
        if choice not in scalars.functions:
            names = ", ".join(name for name, f in scalars.functions.items() if f.activation)
            raise ArgumentError(f"no activation {choice!r}; there are {names}.")
        choice = scalars.functions[choice]
    return layer(getattr(choice, "__name__", "Function"), choice)()


class MLP(Sequential):
    """Linear layers of the given sizes with an activation, and dropout, between them.

    `nn.MLP([784, 128, 10])` has one hidden layer of 128. The last layer gives logits: no activation.

    (..., sizes[0]) -> (..., sizes[-1]). activation: a name, a function of mg or of your own, or a Module.
    dropout: the probability after every activation. ArgumentError for sizes or names that are none.

    >>> nn.MLP([2, 16, 3], "tanh")
    MLP(
      (0): Linear(in_features=2, out_features=16)
      (1): Tanh()
      (2): Linear(in_features=16, out_features=3)
    )
    """

    @checked
    def __init__(
        self, sizes: Sequence[int], activation: str | Callable[..., Operand] | Module = "relu",
        dropout: float = 0.0, bias: bool = True,
    ):  # fmt: skip
        if isinstance(sizes, int):
            more = [n for n in (activation, dropout) if isinstance(n, int) and n]
            raise ArgumentError(f"MLP takes its sizes as one list: nn.MLP({[sizes, *more]}).")
        if len(sizes) < 2:
            raise ArgumentError(f"MLP needs input and output sizes, such as [784, 10], not {list(sizes)}.")
        layers: list[Module] = []
        for n, m in pairwise(sizes):
            layers += [Linear(n, m, bias), as_module(activation)]
            layers += [Dropout(dropout)] if dropout else []
        super().__init__(*layers[: -2 if dropout else -1])


class Dropout(Module):
    """In training, zero elements with probability p and scale the others by 1/(1 - p): arXiv 1207.0580.

    Of any shape; in evaluation x itself. ArgumentError where p is not in [0, 1).

    >>> nn.Dropout(0.5).eval()(mg.ones(3))
    tensor([1., 1., 1.])
    """

    @checked
    def __init__(self, p: float = 0.5):
        number("Dropout: p", p, "[0, 1)")
        self.p = p

    def forward(self, x: Operand) -> Operand:
        """x with some elements dropped; x itself in evaluation."""
        check_array("Dropout", x)
        if not self.training or self.p == 0:
            return x
        keep = rand(x.shape, dtype=np.float32, device=getattr(x, "device", None)) >= self.p
        return x * (cast(keep, dtype=x.dtype) * (1 / (1 - self.p)))


class Embedding(Module):
    """Rows of a table: integers of any shape -> (..., embedding_dim). Starts normal with deviation 1.

    weight: (num_embeddings, embedding_dim). DTypeError for what is no integer, ArgumentError for one that
    names no row.

    >>> nn.Embedding(10, 4)(mg.tensor([[1, 2, 3]])).shape
    (1, 3, 4)
    """

    @checked
    def __init__(self, num_embeddings: int, embedding_dim: int):
        sizes = check_size("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.num_embeddings, self.embedding_dim = sizes
        self.weight = parameter(generator.normal(sizes))

    @checked
    def forward(self, index: Operand) -> Operand:
        """The rows that the integers name."""
        settled, rows = values(index), self.num_embeddings
        index = index if settled is None else settled
        if index.dtype.kind not in "iu":
            raise DTypeError(f"Embedding: indices must be integers, these are {index.dtype}.")
        low, high = ends(settled)
        if low < 0 or high >= rows:
            raise ArgumentError(f"Embedding: {rows} rows allow indices 0 to {rows - 1}, not {low} to {high}.")
        return getitem(self.weight, index, index=(Slot(0),), strict=True)
