"""A step whose emitted file Python itself runs: for stepping through it, and with every access checked."""

from collections.abc import Callable, Sequence

import numpy as np

from microgradx.codegen.ir.loops import View
from microgradx.compiler.run.executable import Executable
from microgradx.eager.devices import Array
from microgradx.kernels import interpreter


class Interpreted(Executable):
    """A step without machine code: slow, the same loops, one piece after the other."""

    table: interpreter.Table

    def load(self, names: list[str], label: str) -> dict[str, Callable[..., None]]:
        """The entries of the file as they stand there."""
        return interpreter.load(self.emitted.text, names, label)

    def addresses(self, size: int) -> interpreter.Table:
        """A table of arrays that know how long they are."""
        return interpreter.Table(size)

    def run(
        self,
        arrays: Sequence[Array],
        steps: int,
        order: np.ndarray | None,
        numbers: np.ndarray,
        rooms: Sequence[np.ndarray] = (),
    ) -> tuple[list[np.ndarray], int]:
        """Some steps; what they leave in the arena is nobody's, and the table lets go of what it watched."""
        try:
            return super().run(arrays, steps, order, numbers, rooms)
        finally:
            self.table.forget()

    def execute(self, function: Callable[..., None], steps: int, gathering: bool) -> None:
        """Run a function of the file."""
        given = {
            "steps": steps, "gathering": int(gathering), "gate": self.table.begin(), "status": self.status,
            "table": self.table, "helping": 0,
        }  # fmt: skip
        with np.errstate(all="ignore"):
            function(*[given[name] for name in self.emitted.entry])

    def written(self, view: View) -> None:
        """What is not in the file writes a view: it is that value's now."""
        buffer = view.buffer
        if buffer.source is None and buffer.size:
            self.table.memory(0).give(buffer.name, slice(buffer.place, buffer.place + buffer.bytes))
