"""What the files of all devices are made of: functions of items, rules, imports."""

import ast
import textwrap
from collections.abc import Iterable

import numpy as np

from microgradx import scalars
from microgradx.codegen.ir.loops import Item, Nest, Rows
from microgradx.codegen.ir.ops import Gather, Look, Matmul, Running, Scatter, Sweep, Uniform
from microgradx.codegen.passes.schedule import Schedule
from microgradx.codegen.passes.statements import of_nest
from microgradx.codegen.printers.function_names import last_line
from microgradx.codegen.printers.text import Text, indent
from microgradx.kernels import cpu
from microgradx.kernels.loop_source import RuleLoop, smallest
from microgradx.kernels.source import RESERVED, quoted, word, wrap
from microgradx.kernels.texts import tree_of

DTYPES = {"bool_", "float32", "float64"} | {
    f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
}
"""The dtypes of blocks and numbers."""

WORK = {
    Nest: "nest", Rows: "rows", Matmul: "matmul", Sweep: "sweep", Gather: "gather", Uniform: "uniform",
    Scatter: "scatter", Running: "running", Look: "look",
}  # fmt: skip
"""The methods of the printers that write each kind of work."""


class File(Text):
    """Writes the functions of a file, and remembers what they need from the rest of it."""

    sweeping: tuple[str, str, str]
    """The bounds, the loop and the place of the numbers of a rule."""

    def __init__(self, plan: Schedule, blocks: int, title: str, taken: Iterable[str]):
        super().__init__()
        self.plan, self.blocks, self.title = plan, blocks, title
        self.taken |= {*taken}
        self.rules: dict[cpu.Sweep, str] = {}
        self.rule_texts: list[str] = []
        self.exact: set[str] = set()  # functions whose arithmetic must not be contracted
        for item in plan.items:
            self.number_columns(item)

    def number_columns(self, item: Item) -> None:
        """Choose the columns of the numbers that an item reads of every step."""
        for view, _ in item.reads():
            if (event := view.buffer.number("number")) is not None:
                self.column(event, 1)
        if isinstance(item, Sweep):
            self.column(item.update.event, len(item.update.sweep.lifted.numbers))

    def name_buffers(self) -> None:
        """Give every buffer a name of its own."""
        views = (view for item in self.plan.items for view, _ in [*item.reads(), *item.writes()])
        for buffer in dict.fromkeys(view.buffer for view in views):
            buffer.name = self.name(buffer.name)

    # Functions

    def body(self, items: list[Item]) -> list[str]:
        """The lines of some items, with the user's lines before what they come from."""
        return self.commented(items, self.texts(items))

    def texts(self, items: list[Item]) -> list[list[str]]:
        """The lines of each item."""
        found: list[list[str]] = []
        for item in items:
            self.local = {}
            found.append(self.item(item))
        return found

    def commented(self, items: list[Item], texts: list[list[str]]) -> list[str]:
        """The lines of items together, with the user's lines before what they come from."""
        lines: list[str] = []
        said = None
        for item, written in zip(items, texts, strict=True):
            if item.line is not None and item.line != said:
                lines.append(f"# {item.line}")
            said = last_line(item) or said
            lines += written
        return lines

    def item(self, item: Item) -> list[str]:
        """The lines of one item."""
        how = next(method for kind, method in WORK.items() if isinstance(item, kind))
        return getattr(self, how)(item)

    def nest(self, item: Nest) -> list[str]:
        """The loops of a nest."""
        return self.lines(of_nest(item, self.plan.stored))

    # Functions that they call

    def rule(self, sweep: cpu.Sweep) -> str:
        """The function of a rule, written once; what it calls stands with what the loops call."""
        if sweep not in self.rules:
            library, lifted = self.library(sweep.dtype), sweep.lifted
            if library.suffix:
                lifted = RuleLoop(sweep.rule, lifted.dtype, sweep.options, library.suffix)
            name = sweep.rule.name
            taken = name in RESERVED or name in scalars.functions
            self.rules[sweep] = name = self.name(f"{name}_rule" if taken else name)
            self.rule_texts.append(lifted.loop_text(name, *self.sweeping))
            library.imports |= lifted.imports
            library.helpers |= lifted.helpers
            library.check()
            self.exact |= {name, *(f"{word(helper)}{library.suffix}" for helper in lifted.helpers)}
        return self.rules[sweep]

    def helpers(self) -> list[str]:
        """The elementwise functions that the loops call."""
        return [helper for typed in self.typed.values() for helper in typed.helpers.values()]

    def calls(self) -> set[str]:
        """What the elementwise functions and the numbers may use of `math`."""
        return {"inf", "nan", "sqrt"}.union(*(typed.imports for typed in self.typed.values()))

    # The file

    def file(self, body: list[str], sources: dict[str, set[str]], constants: dict[str, str]) -> str:
        """The whole text: of what modules offer and of constants, by name, what the body uses."""
        used = {n.id for part in body for n in ast.walk(tree_of(part)) if isinstance(n, ast.Name)}
        real = [typed for typed in self.typed.values() if typed.dtype.startswith("float")]
        constants = constants | {f"tiny{typed.suffix}": smallest(typed) for typed in real}
        found = {module: sorted(names & used) for module, names in sources.items()}
        lines = [imported(module, names) for module, names in found.items() if names]
        values = dict.fromkeys(value for name, value in constants.items() if name in used)
        heads = ["\n".join(part) for part in (lines, values) if part]
        return "\n\n\n".join(["\n\n".join([quoted(self.title), *heads]), *body]) + "\n"


def dtype_name(dtype: np.dtype) -> str:
    """A dtype in the text."""
    return "bool_" if dtype.kind == "b" else dtype.name


def imported(module: str, names: list[str]) -> str:
    """An import, on several lines where it is long."""
    line = f"from {module} import {', '.join(names)}"
    return line if len(line) <= 96 else wrap(f"from {module} import (", names, ")")


def wrapped_call(name: str, args: list[str]) -> list[str]:
    """A call, on several lines where it is long."""
    line = f"{name}({', '.join(args)})"
    if len(line) <= 96:
        return [line]
    return [f"{name}(", *indent(textwrap.wrap(", ".join(args), 88)), ")"]
