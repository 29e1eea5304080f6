"""Whether a program does compiled what it does line by line, to how many digits, and why not."""

import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from traceback import extract_tb
from typing import Any
from unittest.mock import patch

import numpy as np

import microgradx as mg
from bench.programs import Program, play, scan, scans
from microgradx.codegen.passes import schedule
from microgradx.errors import CaptureError

TOLERANCES = {"float32": 2e-4, "float64": 1e-9}
STEADY = {"float32": 5e-7, "float64": 1e-14}


@dataclass(frozen=True)
class Verdict:
    """What came of a program: "same", "differs", "error", "refused", "unsteady" or "invalid", and why."""

    kind: str
    text: str = ""

    @property
    def fault(self) -> bool:
        """Whether something must be mended."""
        return self.kind in ("differs", "error", "crash", "hang")

    @property
    def reason(self) -> str:
        """The text without what is this program's own: numbers, and the names of values."""
        if self.kind in ("differs", "unsteady"):
            return "no gradient" if "None" in self.text else "another number"
        text = re.sub(r"`\w+`|\b(g_)?v\d+\w*|\(\d[\d, ]*\)|\d+", "#", self.text)
        return re.sub(r"broken: \S+ ", "broken: # ", text)

    def alike(self, other: "Verdict") -> bool:
        """Whether another program came to the same end for the same reason."""
        return (self.kind, self.reason) == (other.kind, other.reason)


def size(arrays: dict[str, Any]) -> float:
    """The largest finite number, within reason."""
    finite = [np.abs(x[np.isfinite(x)]).max(initial=0) for x in arrays.values() if is_float(x)]
    return min(max(finite, default=0.0), 1e4)


def is_float(x: Any) -> bool:
    """Whether it is an array of floats."""
    return x is not None and x.dtype.kind == "f"


def difference(expected: dict[str, Any], found: dict[str, Any], precision: str = "float64") -> str:
    """The first value that is another one, in words; nothing where all agree.

    `precision` is the dtype of the least precise numbers that the values were computed from.
    """
    if expected.keys() != found.keys():
        return f"other results: {sorted(expected.keys() ^ found.keys())}"
    scale = max(size(expected), 1e-3)
    for name, one in expected.items():
        other = found[name]
        if one is None or other is None:
            if one is not other:
                return f"{name} is {describe(other)}, not {describe(one)}"
        elif (one.shape, one.dtype) != (other.shape, other.dtype):
            return f"{name} is {describe(other)}, not {describe(one)}"
        elif one.dtype.kind != "f":
            if not np.array_equal(one, other):
                return f"{name}: {other.tolist()}, not {one.tolist()}"
        else:
            close = TOLERANCES[min(one.dtype.name, precision)]
            near = np.isclose(other, one, close, close * scale, equal_nan=True)
            if not near.all():
                where = tuple(int(i) for i in np.argwhere(~near)[0])
                return f"{name}{list(where)} is {other[where]}, not {one[where]}"
    return ""


def narrowest(arrays: dict[str, Any]) -> str:
    """The dtype of the least precise floats."""
    return min((x.dtype.name for x in arrays.values() if is_float(x)), default="float64")


def describe(x: Any) -> str:
    """The dtype and shape of an array."""
    return "None" if x is None else f"{x.dtype}{x.shape}"


def precision(program: Program) -> str:
    """The dtype of the least precise floats in a program, line by line."""
    names = " ".join(line.partition(" = ")[0] for line in program.body)
    return narrowest(play(replace(program, returns=names, ending="forward")))


def steady(program: Program, expected: dict[str, Any], dtype: str) -> bool:
    """Whether results stay what they are when the inputs change by a few roundings."""
    return not any(difference(expected, play(program, nudge=STEADY[dtype] * k), dtype) for k in (1, -1, 3))


def factored(program: Program) -> bool:
    """Whether infinities meet einsum, where NumPy at times multiplies a sum instead of summing products."""
    return any("odd" in line for line in program.setup) and any("einsum" in line for line in program.body)


def reason(error: Exception) -> str:
    """An error without the numbers and names in it, and the innermost of our lines that raised it."""
    own = [f for f in extract_tb(error.__traceback__) if "microgradx" in f.filename]
    place = f" ({own[-1].filename.rsplit('microgradx/', 1)[-1]}, {own[-1].name})" if own else ""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}{place}"


def judge(program: Program, way: Callable[..., Any]) -> Verdict:
    """Whether a program does compiled what it does line by line: step by step and, if it can, in a scan."""
    with patch.multiple(schedule, **CUT) if way is in_pieces else nullcontext():
        return verdict(program, way)


def verdict(program: Program, way: Callable[..., Any]) -> Verdict:
    """The same, for pieces as they are."""
    try:
        expected = play(program)
    except Exception as error:
        return Verdict("invalid", reason(error))
    for run in (play, scan) if scans(program) else (play,):
        try:
            found = run(program, way)
        except CaptureError as error:
            return Verdict("refused", reason(error))
        except Exception as error:
            return Verdict("error", reason(error))
        seen = expected if run is play else {k: v for k, v in expected.items() if k in found}
        if difference(seen, found):  # by how much may they differ?
            dtype = precision(program)
            if different := difference(seen, found, dtype):
                sure = steady(program, expected, dtype) and not factored(program)
                kind = "differs" if sure else "unsteady"
                return Verdict(kind, "in a scan, " * (run is scan) + different)
    return Verdict("same")


def interpreted(step: Callable[..., Any]) -> Any:
    """A compiled step that Python runs, with all accesses checked."""
    return mg.jit(step, interpret=True)


def in_pieces(step: Callable[..., Any]) -> Any:
    """The same, cut up for threads as if it were large."""
    return interpreted(step)


CUT = {"ALONE": 0.0, "PIECE": 0.01, "WIDE": 2}
"""Nanoseconds of work below which a step, or a piece of it, is not divided; the shortest axis to cut."""

WAYS: dict[str, Callable[..., Any]] = {"interpret": interpreted, "pieces": in_pieces, "machine": mg.jit}
"""How a step can be compiled."""
