"""The user's code: its innermost frame, its lines, the names in it, and which files it is in."""

import contextlib
import linecache
import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from types import CodeType, FrameType, ModuleType

from microgradx.codegen.ir.program import Line
from microgradx.eager.mode import PACKAGE
from microgradx.kernels.texts import reading

PLACES = [PACKAGE, sysconfig.get_paths()["stdlib"] + os.sep, *site.getsitepackages()]
INSTALLED = (*PLACES, site.getusersitepackages(), "<frozen", "<__array_function__")
"""Where code lies that is not the user's."""
OURS = (PACKAGE, "<frozen", contextlib.__file__)
NAMED = (f"{PACKAGE}nn{os.sep}", f"{PACKAGE}primitives{os.sep}reductions")
"""Where the library's own code works on tensors as a user's does, with names that say what they are."""


def user_frame() -> FrameType:
    """The innermost frame outside of this package."""
    return frames()[0]


def frames() -> list[FrameType]:
    """The innermost frame outside of this package, and those of layers, losses and the like that it is in."""
    frame, within = sys._getframe(1), []
    while frame.f_back and frame.f_code.co_filename.startswith(OURS):
        if frame.f_code.co_filename.startswith(NAMED):
            within.append(frame)
        frame = frame.f_back
    return [frame, *reversed(within)]


def line_of(frame: FrameType) -> Line:
    """Where a frame stands in the user's code."""
    file, number = frame.f_code.co_filename, frame.f_lineno
    with reading:
        return Line(file, number, linecache.getline(file, number).strip())


def names_of(code: CodeType) -> frozenset[str]:
    """The names and words in a function, and in those inside it: what it can look up in other objects."""
    return frozenset(words(code))


def words(code: CodeType) -> Iterator[str]:
    """The same, one by one."""
    yield from code.co_names
    for constant in code.co_consts:
        for x in constant if isinstance(constant, tuple | frozenset) else (constant,):
            if isinstance(x, CodeType):
                yield from words(x)
            elif isinstance(x, str):
                yield x


def code_of(function: object) -> CodeType | None:
    """The code of a function or method; None where it is an object that can be called."""
    return getattr(getattr(function, "__func__", function), "__code__", None)


def installed(kind: type) -> bool:
    """Whether a class belongs to an installed package."""
    return found_installed(kind)


@cache
def found_installed(kind: type) -> bool:
    """The same, looked up once for each class."""
    home = sys.modules.get(kind.__module__)
    return home is not None and installed_module(home)


def installed_module(module: ModuleType) -> bool:
    """Whether a module does."""
    file = getattr(module, "__file__", None)  # those that are built in have a spec and no file
    return file.startswith(INSTALLED) if file else getattr(module, "__spec__", None) is not None


def written_by_user(frame: FrameType) -> bool:
    """Whether a function is in no installed package, nor made by one, as a dataclass's __init__ is."""
    file = frame.f_code.co_filename
    space = frame.f_globals
    if file.startswith("<"):
        file = space.get("__file__") or file
    return not (file.startswith(INSTALLED) or space.get("__name__", "").startswith("namedtuple_"))
