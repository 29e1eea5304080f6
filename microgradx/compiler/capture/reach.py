"""What code can read: the names in it, which files are the user's own, and what values look like."""

import collections
import os
import site
import sys
import sysconfig
import types
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from microgradx.eager.mode import PACKAGE
from microgradx.eager.tensor import Tensor
from microgradx.kernels.free_variables import MISSING, look_into
from microgradx.nn import Module

PLAIN = (int, float, complex, str, bytes, bool, type(None), np.generic, np.dtype, range, slice, type(...))
"""Values that cannot change inside."""

DICTS = (dict, types.MappingProxyType)
CONTAINERS = (list, tuple, *DICTS, set, frozenset, collections.deque)

PLACES = [PACKAGE, sysconfig.get_paths()["stdlib"] + os.sep, *site.getsitepackages()]
INSTALLED = (*PLACES, site.getusersitepackages(), "<frozen", "<__array_function__")
"""Where code lies that is not the user's."""

EVERY = {"vars", "__dict__", "getattr", "asdict", "astuple", "attrgetter", "replace", "eval", "exec"}
"""Names that stand for any attribute."""


def names_of(code: types.CodeType) -> frozenset[str]:
    """The names and words in a function, and in those inside it: what it can look up in other objects."""
    return frozenset(words(code))


def words(code: types.CodeType) -> Iterator[str]:
    """The same, one by one."""
    yield from code.co_names
    for constant in code.co_consts:
        for x in constant if isinstance(constant, tuple | frozenset) else (constant,):
            if isinstance(x, types.CodeType):
                yield from words(x)
            elif isinstance(x, str):
                yield x


def code_of(function: Any) -> types.CodeType | None:
    """The code of a function or method; None where it is an object that can be called."""
    return getattr(getattr(function, "__func__", function), "__code__", None)


def installed(kind: Any) -> bool:
    """Whether a class belongs to an installed package."""
    return at_home(kind)


@cache
def at_home(kind: Any) -> bool:
    """The same, looked up once for each class."""
    home = sys.modules.get(kind.__module__)
    return home is not None and installed_module(home)


def installed_module(module: types.ModuleType) -> bool:
    """Whether a module does."""
    file = getattr(module, "__file__", None)  # those that are built in have a spec and no file
    return file.startswith(INSTALLED) if file else getattr(module, "__spec__", None) is not None


def space_of(x: Any) -> dict[str, Any]:
    """The attributes of an object's own."""
    try:
        space = object.__getattribute__(x, "__dict__")
    except AttributeError:
        return {}
    return space if isinstance(space, dict) else {}


def print_of(value: Any) -> Any:
    """Something that differs when a value does: plain values whatever they hold, others by what they are."""
    if isinstance(value, PLAIN):
        return type(value), repr(value)
    if isinstance(value, tuple | frozenset):
        return type(value), tuple(map(print_of, value))
    if isinstance(value, list | set):
        return type(value), len(value), tuple(map(print_of, value))
    if isinstance(value, dict):
        return type(value), tuple((print_of(key), print_of(x)) for key, x in value.items())
    return Same(value)


class Same:
    """An object that is equal to itself alone, and lives as long as somebody compares with it."""

    __slots__ = ("it",)

    def __init__(self, it: Any):
        self.it = it

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Same) and other.it is self.it

    def __hash__(self) -> int:
        return id(self.it)


def settled(value: Any) -> bool:
    """Whether a value is plain through and through: equal ones are as good."""
    return isinstance(value, PLAIN) or (isinstance(value, tuple | frozenset) and all(map(settled, value)))


def told(value: Any) -> str:
    """A value in a message."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {value.shape}"
    if isinstance(value, Module):
        return f"a {type(value).__name__}"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if value is MISSING:
        return "nothing"
    if isinstance(value, types.FunctionType):
        return f"the function {value.__name__} of line {value.__code__.co_firstlineno}"
    text = repr(value) if isinstance(value, PLAIN) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def written_by_user(frame: Any) -> bool:
    """Whether a function is in no installed package, nor made by one, as a dataclass's __init__ is."""
    file = frame.f_code.co_filename
    space = frame.f_globals
    if file.startswith("<"):
        file = space.get("__file__") or file
    return not (file.startswith(INSTALLED) or space.get("__name__", "").startswith("namedtuple_"))


def fits(f: types.FunctionType, own: dict[str, Any]) -> bool:
    """Whether a function's closure holds some values."""
    cells = zip(f.__code__.co_freevars, f.__closure__ or (), strict=True)
    return all(look_into(cell, "", MISSING) is own.get(name, MISSING) for name, cell in cells)


def context(variable: Any, _: str, default: Any) -> Any:
    """What a context variable holds."""
    return variable.get(default)


def behind(reference: Any, _: str, default: Any) -> Any:
    """What a weak reference leads to."""
    return reference()
