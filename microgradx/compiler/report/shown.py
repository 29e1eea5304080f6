"""What a compiled step shows of itself: MICROGRADX_SHOW, and the head of its file."""

import os
import sys
from collections.abc import Callable
from typing import Any

from microgradx.codegen.ir.program import Program
from microgradx.errors import ArgumentError


def show(**stages: Any) -> None:
    """Print what MICROGRADX_SHOW names: `program`, `stages` or `source`, or several."""
    for wanted in os.environ.get("MICROGRADX_SHOW", "").replace(",", " ").split():
        if wanted not in SHOWN:
            raise ArgumentError(f"MICROGRADX_SHOW={wanted!r}: what can be shown is {', '.join(SHOWN)}.")
        if wanted in stages:
            print(stages[wanted], file=sys.stderr)


SHOWN = "program", "stages", "source"


def title_of(function: Callable[..., Any], program: Program) -> str:
    """The first lines of the emitted file."""
    code = getattr(function, "__code__", None)
    where = f", line {code.co_firstlineno} of {code.co_filename.rpartition('/')[2]}" if code else ""
    arguments = ", ".join(f"{v.name} {v.dtype}{list(v.shape)}" for v in program.arguments)
    return f"The step `{program.name}`{where}, for {arguments or 'no arguments'}.\n"
