"""What a compiled step took for fixed: the Python values that the user's code reads, watched for changes."""

import inspect
import os
import site
import sys
import sysconfig
import types
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from microgradx.nn import module as modules
from microgradx.nn.module import Module
from microgradx.optim import Optimizer, Schedule
from microgradx.tape import PACKAGE
from microgradx.tensor import Tensor

PLAIN = (int, float, complex, str, bytes, bool, type(None), np.generic, np.dtype, range)
SEEN = (Optimizer, Schedule, Tensor, np.ndarray, types.FunctionType, types.BuiltinFunctionType)
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
            self.note("self", f.__self__, all_names(f.__func__.__code__), known)
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
        for value in (*(f.__defaults__ or ()), *(f.__kwdefaults__ or {}).values()):
            self.note(f"a default of {f.__name__}", value, names, known)
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
                for key, inner in vars(m).items():
                    self.watch(f"{name}.{key}", inner, names | all_names(type(m).forward.__code__))
        else:
            self.watch(name, value, names)

    def watch(self, name: str, value: Any, names: set[str]) -> None:
        """Look into a value at every call, if it can change inside without being replaced."""
        if isinstance(value, (*PLAIN, *SEEN, Module)) or installed(value):
            return
        look = partial(inside, value, names)
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


def installed(value: Any) -> bool:
    """Whether a module or a class belongs to an installed package, whose attributes are not watched."""
    if isinstance(value, types.ModuleType):
        file = getattr(value, "__file__", None)  # those that are built in have a spec and no file
        return file.startswith(INSTALLED) if file else value.__spec__ is not None
    home = sys.modules.get(value.__module__) if isinstance(value, type) else None
    return home is not None and installed(home)


def inside(value: Any, names: set[str], depth: int = 4) -> Any:
    """What a step may read inside a value: items, and the attributes whose names stand in its code."""
    if isinstance(value, PLAIN):
        return print_of(value)
    if isinstance(value, (*SEEN, Module)) or depth == 0 or installed(value):
        return id(value)
    if isinstance(value, dict):
        return tuple((key, inside(x, names, depth - 1)) for key, x in list(value.items())[:100])
    if isinstance(value, list | tuple | set):
        return type(value), len(value), tuple(inside(x, names, depth - 1) for x in list(value)[:100])
    found = ((name, attribute(value, name)) for name in sorted(names))
    return id(value), tuple((name, inside(x, names, depth - 1)) for name, x in found if x is not None)


def attribute(value: Any, name: str) -> Any:
    """An attribute of an object, or of its class if that is the user's own; None for methods and the like."""
    found = inspect.getattr_static(value, name, None)
    if isinstance(found, types.MemberDescriptorType):  # of __slots__
        return getattr(value, name, None)
    if name in getattr(value, "__dict__", ()) or not installed(type(value)) or isinstance(value, type):
        return (
            None if isinstance(found, types.FunctionType | property | classmethod | staticmethod) else found
        )
    return None


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
