"""MICROGRADX_SHOW: a compiled step prints what becomes of it."""

import os
import sys

from microgradx.codegen.ir.program import Program
from microgradx.codegen.passes.schedule import Schedule
from microgradx.errors import ArgumentError

STAGES = "program", "stages", "source"


def dump(**stages: Program | Schedule | str) -> None:
    """Print what MICROGRADX_SHOW names: `program`, `stages` or `source`, or several."""
    for wanted in os.environ.get("MICROGRADX_SHOW", "").replace(",", " ").split():
        if wanted not in STAGES:
            raise ArgumentError(f"MICROGRADX_SHOW={wanted!r}: what can be shown is {', '.join(STAGES)}.")
        if wanted in stages:
            print(stages[wanted], file=sys.stderr)
