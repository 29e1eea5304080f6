"""What a compiled step took for fixed: the Python values that the user's code reads, watched for changes."""

import os
import site
import sysconfig
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from microgradx.nn import module as modules
from microgradx.nn.module import Module
from microgradx.optim import Optimizer, Schedule
from microgradx.tape import PACKAGE
from microgradx.tensor import Tensor

PLAIN = (int, float, complex, str, bytes, bool, type(None), np.generic, np.dtype, range)
SEEN = (Optimizer, Schedule, Tensor, np.ndarray, types.ModuleType, types.FunctionType, type)
"""What a recording follows on its own, or what does not change by itself."""

INSTALLED = (PACKAGE, sysconfig.get_paths()["stdlib"] + os.sep, *site.getsitepackages())


class Guards:
    """The values that a function, and the user's functions that it calls, read from outside themselves."""

    def __init__(self, function: Callable[..., Any]):
        self.cells: list[tuple[Any, Any]] = []  # closures' variables and what they held
        self.globals: list[tuple[dict[str, Any], str, Any]] = []
        self.things: list[Any] = []
        self.loose: list[tuple[str, Callable[[], Any], Any]] = []  # what can change inside: name, look, print
        self.walk(function, set())
        self.modules = [x for x in self.things if isinstance(x, Module)]
        self.structure = list(map(print_of, self.modules))
        self.changes = modules.structure[0]

    def walk(self, f: Any, known: set[int]) -> None:
        """Note what a function reaches, and the functions among that."""
        if isinstance(f, types.MethodType):
            self.things.append(f.__self__)
            self.note("self", f.__self__, set(), known)
            f = f.__func__
        if (
            not isinstance(f, types.FunctionType)
            or id(f) in known
            or f.__code__.co_filename.startswith(INSTALLED)
        ):
            return
        known.add(id(f))
        names = all_names(f.__code__)
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # no value yet
                continue
            self.cells.append((cell, value))
            self.note(name, value, names, known)
        for name in names & f.__globals__.keys():
            self.globals.append((f.__globals__, name, f.__globals__[name]))
            self.note(name, f.__globals__[name], names, known)

    def note(self, name: str, value: Any, names: set[str], known: set[int]) -> None:
        """Note a value by the name that it is read by."""
        self.things.append(value)
        if isinstance(value, types.FunctionType | types.MethodType):
            self.walk(value, known)
        elif isinstance(value, Module):
            for m in value.modules():
                self.walk(type(m).forward, known)
        elif isinstance(value, list | dict | set):
            self.loose.append((name, lambda: print_of(value), print_of(value)))
        elif not isinstance(value, (*PLAIN, *SEEN, tuple)) and hasattr(value, "__dict__"):
            look = lambda: {k: print_of(v) for k, v in vars(value).items() if k in names}  # noqa: E731
            self.loose.append((name, look, look()))

    def hold(self) -> bool:
        """Whether everything is as it was."""
        for cell, value in self.cells:
            if cell.cell_contents is not value and print_of(cell.cell_contents) != print_of(value):
                return False
        for space, name, value in self.globals:
            now = space.get(name)
            if now is not value and print_of(now) != print_of(value):
                return False
        if self.changes != modules.structure[0]:
            if list(map(print_of, self.modules)) != self.structure:
                return False
            self.changes = modules.structure[0]
        return all(look() == then for _, look, then in self.loose)


def all_names(code: types.CodeType) -> set[str]:
    """The names that a function reads, those of functions inside it too."""
    inner = (all_names(c) for c in code.co_consts if isinstance(c, types.CodeType))
    return set(code.co_names).union(*inner)


def print_of(value: Any) -> Any:
    """Something that differs when a value does, as far as a step can depend on it unseen by a recording."""
    if isinstance(value, PLAIN):
        return type(value), repr(value)
    if isinstance(value, list | tuple | set) and len(value) < 100:
        return type(value), tuple(map(print_of, value))
    if isinstance(value, dict) and len(value) < 100:
        return tuple((key, print_of(x)) for key, x in value.items())
    if isinstance(value, Module):
        return id(value), tuple((m.training, own(m)) for m in value.modules())
    return id(value)


def own(module: Module) -> tuple:
    """The attributes of a module, modules inside and Tensors by identity."""
    inner = (Module, Tensor, np.ndarray)
    return tuple((k, id(v) if isinstance(v, inner) else print_of(v)) for k, v in vars(module).items())
