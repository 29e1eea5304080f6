"""What users hand over, checked: parameters, and states that were saved."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from microgradx.eager.tensor import Tensor
from microgradx.errors import ArgumentError, CheckpointError, shown
from microgradx.kernels.addresses import overlaps, span

State = dict[str, Any]  # of a `state_dict`: numbers, words, arrays, and dicts and lists of these
Parameters = Iterable[Tensor] | Iterable[tuple[str, Tensor]]


def listed(owner: str, given: object) -> list[object]:
    """Parameters or groups as a list; ArgumentError for what is none."""
    if isinstance(given, Tensor):
        raise ArgumentError(f"{owner}: one tensor given where several are expected; put it into a list.")
    if isinstance(given, str | dict) or not isinstance(given, Iterable) or isinstance(given, np.ndarray):
        what = f"{owner}: the parameters are a {type(given).__name__}, {shown(given)}"
        raise ArgumentError(f"{what}; pass a list of tensors, such as model.parameters().")
    return list(given)


def named(owner: str, given: Parameters, taken: dict[str, Tensor]) -> dict[str, Tensor]:
    """New parameters by name, from tensors (named by position) or (name, tensor) pairs; `taken` are known."""
    found = dict(taken)
    known = {id(parameter) for parameter in taken.values()}
    for item in listed(owner, given):
        name, parameter = item if isinstance(item, tuple) and len(item) == 2 else (str(len(known)), item)
        what = f"{owner}: parameter {name}"
        if not isinstance(parameter, Tensor):
            kind = type(parameter).__name__
            raise ArgumentError(f"{what} is a {kind}, not a tensor; pass model.parameters().")
        if id(parameter) in known:
            continue
        what += f" of shape {parameter.shape}"
        if not parameter.is_leaf:
            raise ArgumentError(f"{what} was computed from other tensors; pass those that it comes from.")
        if not (parameter.requires_grad or parameter._trained):  # of a module, a frozen one may come along
            raise ArgumentError(f"{what} does not require gradients; set requires_grad, or leave it out.")
        if name in found:
            raise ArgumentError(f"{what} has the name of another one; names must differ.")
        found[name] = parameter
        known.add(id(parameter))
    refuse_shared_memory(owner, found)
    return {name: parameter for name, parameter in found.items() if name not in taken}


def refuse_shared_memory(owner: str, parameters: dict[str, Tensor]) -> None:
    """ArgumentError for parameters with elements in the same memory: each gets a place of its own."""
    spans = [span(p._data, name, True) for name, p in parameters.items() if p.size]
    for a, b in overlaps(spans):
        one, other = (parameters[s.name]._data for s in (b, a))
        if not isinstance(one, np.ndarray) or np.shares_memory(one, other):
            what = f"{owner}: parameters {b.name} and {a.name} share memory, and would not any longer"
            raise ArgumentError(f"{what}. Pass one tensor for both, or give each a clone() of its own.")


def beside_options(state: State) -> State:
    """What two states of an optimizer must have in common: not the options, which may differ."""
    groups = [{key: group[key] for key in ("rule", "param_names")} for group in state["param_groups"]]
    return state | {"param_groups": groups}


def compare(owner: str, saved: State, here: State) -> None:
    """Raise a CheckpointError that names where two states differ in more than their numbers."""
    if not isinstance(saved, dict):
        raise CheckpointError(f"{owner}: a state is a dict, not {shown(saved)}.")
    saved, here = outline(saved), outline(here)
    keys = [key for key in saved | here if saved.get(key) != here.get(key)]
    if keys:
        pairs = [f"{key}: saved {saved.get(key, 'nothing')}, here {here.get(key, 'nothing')}" for key in keys]
        raise CheckpointError(
            f"{owner}: the saved state does not fit ({len(keys)} differences). {'; '.join(pairs[:5])}. "
            "Build everything as it was when the state was saved."
        )


def outline(state: object, path: str = "") -> dict[str, str]:
    """Path by path what a state holds: words, and the shapes and dtypes of arrays."""
    if isinstance(state, dict | list | tuple):
        items = state.items() if isinstance(state, dict) else enumerate(state)
        return {k: v for key, value in items for k, v in outline(value, f"{path} {key}".strip()).items()}
    if isinstance(state, np.ndarray):
        return {path: f"{state.shape} {state.dtype}"}
    return {path: state if isinstance(state, str) else "a number"}
