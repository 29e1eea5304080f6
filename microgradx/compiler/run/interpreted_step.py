"""A step whose emitted file Python itself runs: for stepping through it, and with every access checked."""

from collections.abc import Callable
from typing import Any

import numpy as np

from microgradx.codegen.ir.loops import View
from microgradx.codegen.printers.cpu_file import Emitted
from microgradx.compiler.run.compiled_step import Variant
from microgradx.kernels import interpreter


class InterpretedVariant(Variant):
    """A variant that runs without machine code: slow, the same loops, one piece after the other."""

    def functions(self, made: Emitted, names: list[str], label: str) -> dict[str, Callable[..., None]]:
        """The entries of an emitted file as they stand there."""
        return interpreter.load(made.text, names, label)

    def addresses(self, size: int) -> Any:
        """A table of arrays that know how long they are."""
        return interpreter.Table(size)

    def steps(self, arrays: list[np.ndarray], steps: int, order: np.ndarray | None) -> tuple[list, int]:
        """Some steps, for which memory begins as nobody's."""
        self.compile()
        self.table.forget()
        return super().steps(arrays, steps, order)

    def execute(self, function: Callable[..., None], steps: int, gathering: bool) -> None:
        """Run a function of the file."""
        with np.errstate(all="ignore"):
            function(steps, int(gathering), self.table.begin(), self.status, self.table)

    def seen(self, view: View, written: bool = False) -> np.ndarray:
        """A view as NumPy's array, to be read or `written` by what is not in the file."""
        buffer = view.buffer
        if written and buffer.source is None and buffer.size:
            self.table.memory(0).give(buffer.name, slice(buffer.place, buffer.place + buffer.bytes))
        return super().seen(view, written)
