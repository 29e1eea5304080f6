"""What stays NumPy's in a compiled step: said once, with its line and what to write instead."""

import warnings
from collections.abc import Iterable

from microgradx.codegen.ir.loops import Item
from microgradx.codegen.ir.ops import Host
from microgradx.errors import CompileWarning

said: set[tuple[str, type[Warning], str, int]] = set()
"""Which warnings were given, and for which lines: each is told once, whatever is compiled how often."""


def notice(items: Iterable[Item]) -> None:
    """Warn of the library's operations that run as NumPy code; one of the user's own is meant to."""
    for item in items:
        if isinstance(item, Host) and item.advice:
            where = f" in `{item.line}`" if item.line else ""
            what = f"{item.name}{where} runs as NumPy code in every step, between compiled parts"
            file, number = (item.line.file, item.line.number) if item.line else (__file__, 1)
            warning = f"{what}: {item.advice}.", CompileWarning, file, number
            if warning not in said:
                warnings.warn_explicit(*warning)
                said.add(warning)
