"""Module: parameters by name, the state of a model, training and evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from inspect import signature
from typing import NoReturn

import numpy as np
from numpy.typing import DTypeLike

from microgradx.eager.box import look
from microgradx.eager.devices import copy_into
from microgradx.eager.mode import mode
from microgradx.eager.tensor import Tensor
from microgradx.errors import ArgumentError, CheckpointError, checked, shown
from microgradx.familiar import absent, forgetting
from microgradx.primitives import Operand

structure = [0]
"""How often an attribute of any Module was set to something else: compiled steps look whether it moved."""


class Module:
    """A part of a model: Tensors and other Modules as attributes, and `forward`.

    Tensors that require gradients when the module gets them are parameters, also while they are frozen
    (`requires_grad_(False)`); other Tensors are buffers, saved but not trained. What was computed from
    parameters is neither. Modules and parameters may also stand in lists, tuples and dicts.

    >>> class Scale(nn.Module):
    ...     def __init__(self, n):
    ...         self.factor = mg.ones(n, requires_grad=True)
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> [(name, p.shape) for name, p in Scale(3).named_parameters()]
    [('factor', (3,))]
    """

    training = True

    def __setattr__(self, name: str, value: object) -> None:
        if name == "requires_grad":
            given, advice = f"{type(self).__name__}.requires_grad = {value}", f"requires_grad_({bool(value)})"
            raise ArgumentError(f"{given} would do nothing: a module has many parameters. Write .{advice}.")
        if isinstance(value, int | float):
            self.check_setting(name, value)
        if vars(self).get(name, structure) is not value:
            structure[0] += 1
        super().__setattr__(name, value)
        for _, x in contents(name, value):
            is_parameter(x)  # from now on, frozen or not

    def __getattr__(self, name: str) -> NoReturn:
        raise absent("module", name, type(self).__name__, self)

    def check_setting(self, name: str, value: float) -> None:
        """ArgumentError for a number that a layer of the library would not look at: a misspelt one."""
        kind = type(self)
        own = kind.__module__.startswith("microgradx.nn.") and not isinstance(self, Sequential)
        if name in vars(self) or hasattr(kind, name) or not own:
            return
        known = [*signature(kind).parameters]
        if name not in known:
            takes = ", ".join(known) or "nothing"
            raise ArgumentError(
                f"{kind.__name__}.{name} = {value!r} would do nothing: what it takes is {takes}."
            )

    def forward(self, *args: Operand) -> Operand:
        """What the module computes; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} must define forward().")

    def __call__(self, *args: Operand, **kwargs: Operand) -> Operand:
        """Compute `forward`; what it records knows that it belongs to this call."""
        outer = mode.within
        mode.within = self, outer
        try:
            return self.forward(*args, **kwargs)
        finally:
            mode.within = outer

    def children(self) -> Iterator[Module]:
        """The modules directly inside, without their names."""
        return (child for _, child in self.named_children())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside, by name; those in lists and dicts with their position or key."""
        return ((name, x) for name, x in held(self) if isinstance(x, Module))

    def modules(self) -> Iterator[Module]:
        """This module and all inside."""
        yield self
        for child in self.children():
            yield from child.modules()

    def named_tensors(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Every parameter and buffer with its full name, "0.weight"; a shared one once."""
        found: dict[int, tuple[str, Tensor]] = {}
        own = vars(self)
        for name, t in held(self):  # in a list or dict a Tensor that is not trained may be anything
            if isinstance(t, Tensor) and t.is_leaf and (name in own or is_parameter(t)):
                found.setdefault(id(t), (prefix + name, t))
        for name, child in self.named_children():
            for full, t in child.named_tensors(f"{prefix}{name}."):
                found.setdefault(id(t), (full, t))
        yield from found.values()

    @property
    def device(self) -> str:
        """Where its Tensors are, "cpu" or "cuda"."""
        return next((t.device for _, t in self.named_tensors()), "cpu")

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """The parameters with their names, the frozen ones among them."""
        return ((name, t) for name, t in self.named_tensors() if is_parameter(t))

    def parameters(self) -> Iterator[Tensor]:
        """The parameters, the frozen ones among them."""
        return (t for _, t in self.named_parameters())

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Train all parameters from now on, or (False) freeze them: optimizers leave them alone."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of every parameter and buffer, by name.

        Arrays of NumPy, on the host.
        """
        return {name: np.array(look(t, "state_dict()")) for name, t in self.named_tensors()}

    @checked
    def load_state_dict(self, state: Mapping[str, object], strict: bool = True) -> None:
        """Copy saved values in; names and shapes must fit, unless `strict=False` lets names differ.

        Raises CheckpointError and changes nothing where they do not fit.
        """
        if not isinstance(state, Mapping):
            raise CheckpointError(f"a state is a dict of arrays by their names, not {shown(state)}.")
        own = dict(self.named_tensors())
        missing, extra = own.keys() - state.keys(), state.keys() - own.keys()
        if strict and (missing or extra):
            names = f"missing {sorted(missing)}, not in the model {sorted(extra)}"
            raise CheckpointError(f"the state does not fit the model: {names}.")
        values = {name: plain(name, state[name]) for name in own if name in state}
        for name, value in values.items():
            if value.shape != (shape := own[name].shape):
                turned = " (its transpose: PyTorch's Linear keeps weights so)" * (value.shape == shape[::-1])
                raise CheckpointError(
                    f"{name}: saved as {value.shape}, here {shape}{turned}; build the same model."
                )
        for name, value in values.items():
            place = look(own[name], "load_state_dict()")
            copy_into(place, value.astype(place.dtype, casting="same_kind", copy=False))
            own[name]._version[0] += 1

    def train(self, mode: bool = True) -> Module:
        """Switch dropout on and batch statistics to the batch's own."""
        for module in self.modules():
            if module.training != mode:
                module.training = mode
        return self

    def eval(self) -> Module:  # noqa: A003
        """Switch dropout off and batch statistics to the running ones."""
        return self.train(False)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters. ArgumentError unless `set_to_none`."""
        forgetting(set_to_none)
        for parameter in self.parameters():
            parameter.grad = None

    @checked
    def to(self, target: DTypeLike) -> Module:
        """Convert all floating-point Tensors to a dtype, or move all to a device, in place.

        An optimizer is made after it, for the parameters as they are then.
        """
        for _, t in self.named_tensors():
            data = t.detach().to(target).data
            moved = type(data) is not type(t._data)
            if moved or (t.dtype.kind == "f" and t.dtype != data.dtype):
                t._data, t._grad, t._home = data, None, None
                t._version[0] += 1
        return self

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        if lines:
            return "\n  ".join([f"{type(self).__name__}(", *lines]) + "\n)"
        kinds = (int, float, str, tuple, type(None))
        settings = (f"{k}={v}" for k, v in vars(self).items() if isinstance(v, kinds) and k != "training")
        return f"{type(self).__name__}({', '.join(settings)})"


def contents(name: str, value: object) -> Iterator[tuple[str, object]]:
    """A value by its name; of lists, tuples and dicts what is in them: "blocks.0", "heads.left"."""
    if isinstance(value, list | tuple | dict):
        for key, x in value.items() if isinstance(value, dict) else enumerate(value):
            yield from contents(f"{name}.{key}", x)
    else:
        yield name, value


def held(module: Module) -> Iterator[tuple[str, object]]:
    """What a module holds by name, in lists, tuples and dicts too."""
    for name, value in vars(module).items():
        yield from contents(name, value)


def is_parameter(x: object) -> bool:
    """Whether a module counts something among its parameters: then it does so from now on, frozen or not."""
    if not isinstance(x, Tensor) or not x.is_leaf:
        return False
    x._trained = x._trained or x.requires_grad
    return x._trained


def plain(name: str, value: object) -> np.ndarray:
    """A saved value as an array. Other libraries' tensors are refused: they may keep weights transposed."""
    if not isinstance(value, np.ndarray | np.generic | Tensor | list | tuple | int | float):
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        advice = "value.detach().cpu().numpy() of PyTorch's; Linear weights, (out, in) there, with .T"
        raise CheckpointError(f"{name}: a state holds NumPy arrays, this is a {kind}. Write {advice}.")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise CheckpointError(f"{name}: {shown(value)} is no array: {error}.") from None
    if array.dtype.kind not in "fiub":
        raise CheckpointError(f"{name}: a state holds numbers, this is {shown(array)}.")
    return array


def how(given: object) -> str:
    """What to write instead of something that is no module, where that is known."""
    if isinstance(given, type) and issubclass(given, Module):
        return f", a class: write {given.__name__}(...)."
    if isinstance(given, list | tuple):
        return ": write Sequential(*modules)."
    if isinstance(given, dict):
        return ": write Sequential(*modules.values()), or keep the dict as an attribute of a module."
    if callable(given):
        return (
            ", a function: there is nn.ReLU() for mg.relu; for others write a module whose forward calls it."
        )
    return "."


class Sequential(Module):
    """Modules applied one after another; `model[0]`, `len(model)` and iteration work.

    Each takes what the one before gives. ArgumentError for what is no Module.

    >>> model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    >>> model(mg.ones(5, 2)).shape
    (5, 1)
    """

    def __init__(self, *modules: Module):
        for i, module in enumerate(modules):
            if not isinstance(module, Module):
                raise ArgumentError(f"Sequential takes modules; argument {i} is {shown(module)}{how(module)}")
            setattr(self, str(i), module)

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __len__(self) -> int:
        return len(list(self.children()))

    def __getitem__(self, index: int) -> Module:
        return list(self)[index]

    def forward(self, x: Operand) -> Operand:
        """x through every module in turn."""
        for module in vars(self).values():
            if isinstance(module, Module):
                x = module(x)
        return x
