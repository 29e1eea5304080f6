"""What the values of a program are called: the user's variables and parameters, and the user's lines."""

import contextlib
import linecache
import sys
from typing import Any

from microgradx.codegen.ir.program import Line
from microgradx.codegen.ir.tree import AXES
from microgradx.eager.mode import PACKAGE
from microgradx.errors import CaptureError
from microgradx.kernels import source
from microgradx.kernels.source import reading
from microgradx.nn import Module

RESERVED = source.RESERVED | set(AXES)
"""Names that emitted code has a use for."""


def user_frame() -> Any:
    """The innermost frame outside of this package."""
    frame: Any = sys._getframe(1)
    outside = (PACKAGE, "<frozen", contextlib.__file__)
    while frame.f_back and frame.f_code.co_filename.startswith(outside):
        frame = frame.f_back
    return frame


def line_of(frame: Any) -> Line:
    """Where a frame stands in the user's code."""
    file, number = frame.f_code.co_filename, frame.f_lineno
    with reading:
        return Line(file, number, linecache.getline(file, number).strip())


def unfit(what: str, line: Line, advice: str) -> CaptureError:
    """The error of a step that cannot be compiled as it is written."""
    place = f"    {line.file}:{line.number}    {line.text}"
    return CaptureError(f"this step cannot be compiled, because {what}.\n{place}\n{advice}")


def local_name(x: Any) -> str | None:
    """What the user calls a Tensor or array: the name of a variable in the frame, or a global of it."""
    frame = user_frame()
    for space in (frame.f_locals, frame.f_globals):
        for name, value in list(space.items()):
            if value is x and not name.startswith("_"):
                return name
    return None


def parameter_names(things: list[Any]) -> dict[int, str]:
    """Names for the parameters and buffers of the modules among some objects: weight_0, hidden_weight."""
    names: dict[int, str] = {}
    modules = [x for x in things if isinstance(x, Module)]
    for module in modules:
        for full, tensor in module.named_tensors():
            *path, last = full.split(".")
            digits = [part for part in path if part.isdigit()]
            words = [part for part in path if not part.isdigit()]
            names.setdefault(id(tensor), "_".join([*words, last, *digits]))
    return names
