"""Weights and optimizer states, from PyTorch and to it: a run begun there goes on here, and back.

Names, orders and options are the same in both; `Linear` keeps its weight the other way round, and PyTorch
has other names for what an optimizer remembers. Nothing but `optimizer_state` imports PyTorch.

>>> model, copy = nn.Linear(3, 2), nn.Linear(3, 2)
>>> model_state(model)["weight"].shape  # as PyTorch keeps it
(2, 3)
>>> load_model(copy, model_state(model))
>>> bool((copy.weight == model.weight).all())
True
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from microgradx import nn
from microgradx.data.reading import regular
from microgradx.eager.tensor import Tensor
from microgradx.errors import CheckpointError, checked, shown, whole
from microgradx.optim import Optimizer
from microgradx.training.files import replace

ADAM = {"exp_avg": "m", "exp_avg_sq": "v", "max_exp_avg_sq": "v_max", "mu_product": "mu_product"}
STATES = {
    "SGD": {"momentum_buffer": "v"},
    "Rprop": {"prev": "g_old", "step_size": "step"},
    "Adagrad": {"sum": "s"},
    "RMSprop": {"square_avg": "v", "grad_avg": "m", "momentum_buffer": "b"},
    "Adadelta": {"square_avg": "v", "acc_delta": "d"},
    **dict.fromkeys(["Adam", "AdamW", "NAdam", "RAdam"], ADAM),
    "Adamax": {"exp_avg": "m", "exp_inf": "u"},
    "ASGD": {"ax": "average", "eta": "eta"},
}
"""By class: PyTorch's names for the state of a parameter, and ours."""

State = Mapping[str, ArrayLike]


def turned(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that PyTorch keeps transposed, by name."""
    own = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in own}


def turning(model: nn.Module) -> Callable[[Tensor, ArrayLike], np.ndarray]:
    """What makes of a parameter's array here the one of PyTorch, and back; numbers stay as they are."""
    other = set(map(id, turned(model).values()))

    def turn(parameter: Tensor, values: ArrayLike) -> np.ndarray:
        array = np.asarray(numbers(values))
        return array.T if id(parameter) in other and array.ndim else array

    return turn


@checked
def model_state(model: nn.Module) -> dict[str, np.ndarray]:
    """A copy of a model's weights and buffers by name, shaped as PyTorch has them."""
    other = turned(model)
    return {name: x.T.copy() if name in other else x for name, x in model.state_dict().items()}


@checked
def load_model(model: nn.Module, state: State | str | Path) -> None:
    """Take the weights and buffers of a PyTorch model: its state_dict, or a .safetensors file of it.

    Numbers of another width, such as bfloat16, become those of the model. CheckpointError where names or
    shapes differ, or where the file cannot be read; then nothing changed.
    """
    given = read(Path(state)) if isinstance(state, str | Path) else state
    if not isinstance(given, Mapping):
        raise CheckpointError(f"load_model takes a state_dict or a .safetensors file, not {shown(given)}.")
    arrays = {name: numbers(x) for name, x in given.items() if not str(name).endswith("num_batches_tracked")}
    for name in turned(model).keys() & arrays.keys():
        arrays[name] = np.asarray(arrays[name]).T
    model.load_state_dict(arrays)


def numbers(x: object) -> object:
    """A tensor of PyTorch as an array, bfloat16, which NumPy does not have, as float32; all else as it is."""
    if isinstance(x, np.ndarray) or not hasattr(x, "detach"):
        return x
    tensor = x.detach()
    if hasattr(tensor, "cpu"):
        tensor = tensor.cpu()
    if str(tensor.dtype) == "torch.bfloat16":
        tensor = tensor.float()
    return tensor.numpy()


def read(path: Path) -> dict[str, object]:
    """The arrays in a .safetensors file; CheckpointError where it is none, or cannot be read."""
    try:
        with regular(path) as file:
            found = deserialize(file.read())
        return {name: array(entry) for name, entry in found}
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from None
    except (SafetensorError, KeyError, ValueError, MemoryError) as error:
        raise CheckpointError(f"{path} cannot be read as .safetensors: {error}.") from None


class Stored(TypedDict):
    """An array as safetensors gives it."""

    dtype: str
    shape: list[int]
    data: bytes


def array(entry: Stored) -> np.ndarray:
    """An array in a file; bfloat16 is the upper half of float32. KeyError for a type that NumPy lacks."""
    if entry["dtype"] == "BF16":
        upper = np.frombuffer(entry["data"], "<u2").astype("<u4") << 16
        return upper.view("<f4").reshape(entry["shape"])
    return np.frombuffer(entry["data"], TYPES[entry["dtype"]]).reshape(entry["shape"])


TYPES = {"BOOL": "?"} | {
    f"{letter}{8 * size}": f"<{kind}{size}"
    for letter, kind, sizes in (("F", "f", (2, 4, 8)), ("I", "i", (1, 2, 4, 8)), ("U", "u", (1, 2, 4, 8)))
    for size in sizes
}
"""What .safetensors calls the types that NumPy has."""


@checked
def save_model(model: nn.Module, path: str | Path) -> None:
    """Write `model_state(model)` as a .safetensors file, for PyTorch's `load_state_dict(load_file(path))`.

    The file is written whole or not at all; CheckpointError where it cannot be.
    """
    arrays = {name: np.ascontiguousarray(x) for name, x in model_state(model).items()}
    replace(Path(path), save(arrays))


def names_of(optimizer: Optimizer) -> dict[str, str]:
    """What PyTorch calls the state of an optimizer. CheckpointError for one that PyTorch does not have."""
    if optimizer.name not in STATES:
        known = ", ".join(STATES)
        raise CheckpointError(f"{optimizer.name}: PyTorch has no such state to exchange; known are {known}.")
    return STATES[optimizer.name]


@checked
def load_optimizer(optimizer: Optimizer, model: nn.Module, state: Mapping[str, object]) -> None:
    """Go on as a PyTorch optimizer of the same class, with its state_dict, over the parameters of `model`.

    Both have the same groups, of as many parameters; options that both know are taken over. CheckpointError
    where something does not fit; then nothing changed.
    """
    new, names, turn = optimizer.state_dict(), names_of(optimizer), turning(model)
    if not isinstance(state, Mapping) or not {"state", "param_groups"} <= state.keys():
        raise CheckpointError(f"load_optimizer takes the state_dict() of an optimizer, not {shown(state)}.")
    theirs: dict[int, State] = state["state"]  # type: ignore[assignment]  # as PyTorch writes it
    groups: list[dict[str, object]] = state["param_groups"]  # type: ignore[assignment]
    sizes = [[len(group["params"]) for group in part] for part in (optimizer.param_groups, groups)]  # type: ignore[arg-type]
    if sizes[0] != sizes[1]:
        raise CheckpointError(
            f"{optimizer.name} has groups of {sizes[0]} parameters, the state of {sizes[1]}."
        )
    for ours, group, saved in zip(optimizer.param_groups, new["param_groups"], groups, strict=True):
        options = {name: numbers(value) for name, value in saved.items() if name in group}
        group |= {name: x.item() if isinstance(x, np.ndarray) else x for name, x in options.items()}
        for name, parameter, index in zip(ours["param_names"], ours["params"], saved["params"], strict=True):  # type: ignore[call-overload]
            if index not in theirs:  # it has not had a gradient yet
                continue
            found = {foreign: value for foreign, value in theirs[index].items() if value is not None}
            known = {foreign for foreign, own in names.items() if own in new["state"][name]}
            if strange := sorted(found.keys() - known - {"step", "mu"}) or sorted(known - found.keys()):
                kept = ", ".join(sorted(known)) or "nothing"
                what = f"{optimizer!r} keeps {kept} of a parameter, the state {', '.join(found)}"
                raise CheckpointError(f"{what}: {strange[0]} does not fit. Make both of one class.")
            kept = new["state"][name] | {"t": whole("step", int(np.asarray(numbers(found.get("step", 1)))))}
            for foreign, own in names.items():
                if own in kept and foreign in found:
                    array = turn(parameter, found[foreign])
                    kept[own] = array if array.ndim else float(array)
            new["state"][name] = kept
    optimizer.load_state_dict(new)


@checked
def optimizer_state(optimizer: Optimizer, model: nn.Module) -> dict[str, object]:
    """A state_dict for the PyTorch optimizer of the same class, over the parameters in the same order."""
    import torch

    names, turn, state = names_of(optimizer), turning(model), optimizer.state_dict()
    index, entries, groups = 0, {}, []
    for ours, group in zip(optimizer.param_groups, state["param_groups"], strict=True):
        numbers = []
        for name, parameter in zip(ours["param_names"], ours["params"], strict=True):
            kept = state["state"][name]
            if kept["t"]:
                entry = {"step": torch.tensor(float(kept["t"]))}
                for foreign, own in names.items():
                    if own in kept:
                        entry[foreign] = torch.tensor(np.ascontiguousarray(turn(parameter, kept[own])))
                if "t0" in group:  # ASGD's weight of the next average, which follows from the step
                    entry["mu"] = torch.tensor(1 / max(1, kept["t"] - group["t0"]))
                entries[index] = entry
            numbers.append(index)
            index += 1
        options = {name: value for name, value in group.items() if name not in ("param_names", "rule")}
        groups.append(options | {"params": numbers})
    return {"state": entries, "param_groups": groups}
