"""The lines of one item of work: loops around statements, calls of products, rules and the generator."""

import ast
import math
import textwrap
from collections import Counter
from operator import itemgetter
from typing import Any

import numpy as np

from microgradx import scalars
from microgradx.codegen.ir.loops import Buffer, Item, Nest, Read, Reduce, Rows, Statement, View, operands
from microgradx.codegen.ir.ops import Gather, Look, Matmul, Running, Scatter, Sweep, Uniform
from microgradx.codegen.passes.fuse import arguments, one_per_row
from microgradx.codegen.passes.schedule import Schedule
from microgradx.codegen.printers.expressions import AXES, Expression, Expressions, plus, wrapped
from microgradx.kernels.loop_source import RuleLoop, smallest
from microgradx.kernels.source import RESERVED, tree_of, word, wrap

RESULT = {"argmax": np.dtype(np.int64), "argmin": np.dtype(np.int64)}
"""The dtype of a reduction, where it is not that of its elements."""


class Bodies:
    """Writes the bodies of the functions of a file, and remembers what they need from the rest of it."""

    sweeping = "start, stop", "range(start, stop)", "step, first"
    """The bounds, the loop and the place of the numbers of a rule."""

    def __init__(self, plan: Schedule, blocks: int):
        self.plan, self.blocks = plan, blocks
        self.write = Expressions()
        self.rules: dict[Any, str] = {}
        self.rule_texts: list[str] = []
        self.vocabulary: set[str] = {"block", "block_at"}
        self.exact: set[str] = set()
        self.together: list[Nest] = []  # the nests of the group under way
        self.numbers_of_rows: set[Buffer] = set()  # numbers of the row that a loop is at
        self.data: dict[str, tuple[int, View]] = {}  # what a scan gathers rows from
        self.whole = True  # whether the function under way does all rows

    def range(self, n: int, cut: bool) -> str:
        """The range of a loop: the rows of a piece along the axis that is cut."""
        return "range(start, stop)" if cut and not self.whole else f"range({n})"

    def item(self, item: Item) -> list[str]:
        """The lines of one item."""
        self.write.local = {}  # what the loops before know is in memory, if anybody else needs it
        match item:
            case Nest():
                return self.nest(item)
            case Matmul(out=out, a=a, b=b, form=form):
                name = {"nn": "matmul", "nt": "matmul_nt", "tn": "matmul_tn"}[form]
                self.vocabulary.add(name)
                blocks = [self.write.block(v.buffer, v.offset, v.shape) for v in (out, a, b)]
                bounds = f"0, {out.shape[0]}" if self.whole else "start, stop"
                return [f"{name}({', '.join(blocks)}, {bounds})"]
            case Sweep():
                return self.sweep(item)
            case Rows():
                return self.group(item)
            case Gather():
                return self.gather(item)
            case Uniform():
                return self.uniform(item)
            case Scatter():
                return self.scatter(item)
            case Running(out=out, arg=arg):
                return self.running(out, arg)
            case Look():
                return self.look(item)
        raise TypeError(item)

    def gather(self, item: Gather) -> list[str]:
        """Copy the rows that the order names."""
        lines = [f"row = {self.write.use('order')}[{item.rows} * {self.write.use('step')} + i]"]
        for out, k in item.outs:
            data = f"all_{out.buffer.name}"
            self.write.taken.add(self.write.use(data))
            self.data[data] = k, out
            at = list(AXES[: out.ndim])
            body = [f"{self.write.element(out, at)} = {data}[{', '.join(['row', *at[1:]])}]"]
            lines += self.plain_loops(out.shape[1:], at[1:], body)
        return [
            f"if {self.write.use('gathering')}:",
            *indent([f"for i in {self.range(item.rows, True)}:", *indent(lines)]),
        ]

    def sweep(self, item: Sweep) -> list[str]:
        """Call the rule's loop."""
        update = item.update
        lifted = update.sweep.lifted
        name = self.rule(update.sweep)
        p = item.arrays[0]
        self.vocabulary.add("flat")
        blocks = [f"flat({self.write.block(v.buffer, v.offset, v.shape)})" for v in item.arrays]
        row = p.size // max(item.rows, 1)
        bounds = f"0, {p.size}" if self.whole else f"{times(row, 'start')}, {times(row, 'stop')}"
        first = self.write.column(update.event, len(lifted.numbers))
        if lifted.numbers:
            self.write.use("numbers")
            self.write.use("step")
            self.write.imports.add(lifted.dtype)
        return wrapped_call(
            name, [bounds, *blocks, *(["numbers", "step", str(first)] if lifted.numbers else [])]
        )

    def rule(self, sweep: Any) -> str:
        """The function of a rule, written once; what it calls stands with what the loops call."""
        if sweep not in self.rules:
            library, lifted = self.write.library(sweep.dtype), sweep.lifted
            if library.suffix:
                lifted = RuleLoop(sweep.rule, lifted.dtype, sweep.options, library.suffix)
            name = sweep.rule.name
            taken = name in RESERVED or name in scalars.functions
            self.rules[sweep] = name = self.write.name(f"{name}_rule" if taken else name)
            self.rule_texts.append(lifted.loop_text(name, *self.sweeping))
            library.imports |= lifted.imports
            library.helpers |= lifted.helpers
            library.check()
            self.exact |= {name, *(f"{word(helper)}{library.suffix}" for helper in lifted.helpers)}
        return self.rules[sweep]

    def uniform(self, item: Uniform) -> list[str]:
        """Call the generator."""
        self.vocabulary.add("units")
        out = item.out
        self.vocabulary.add("flat")
        name = f"flat({self.write.block(out.buffer)})"
        self.write.use("random")
        self.write.use("step")
        blocks = -(-out.size // 4)
        row = out.size // max(item.rows, 1) // 4
        bounds = f"0, {blocks}" if self.whole else f"{times(row, 'start')}, {times(row, 'stop')}"
        at = plus([(1, "random[0]"), (self.blocks, "step")], item.draw.block)
        return [f"units({bounds}, {name}, {at}, random[1], random[2])"]

    def scatter(self, item: Scatter) -> list[str]:
        """Add one after the other."""
        at = list(AXES[: len(item.domain)])
        places = [self.write.operand(p, at)[0] for p in item.at]
        value = self.write.cast(self.write.operand(item.value, at), item.out.dtype)[0]
        body = [f"{self.write.element(item.out, places)} += {value}"]
        return self.plain_loops(item.domain, at, body)

    def running(self, out: View, arg: View) -> list[str]:
        """Sum up along the last axis."""
        at = list(AXES[: arg.ndim])
        value = self.write.cast(self.write.operand(Read(arg), at), out.dtype)[0]
        body = [f"for {at[-1]} in range({arg.shape[-1]}):", f"    so_far += {value}",
                f"    {self.write.element(out, at)} = so_far"]  # fmt: skip
        body = [f"so_far = {self.write.number(0, out.dtype)}", *body]
        return self.plain_loops(arg.shape[:-1], at[:-1], body)

    def look(self, item: Look) -> list[str]:
        """Copy what a ledger watches."""
        lines = []
        for columns, rows in item.parts:
            places = item.positions.through(itemgetter(columns))
            at, body = self.write.element(places, ["i"]), []
            for row, array in rows:
                out = item.out.through(itemgetter((row, columns)))
                body.append(f"{self.write.element(out, ['i'])} = {self.write.element(array, [at])}")
            lines += self.over_all(places.size, body)
        return lines

    def over_all(self, n: int, body: list[str]) -> list[str]:
        """A loop over numbers in a row; none around a single one."""
        return self.plain_loops([n], ["i"], body) if n > 1 else body

    # Parts of the file

    def helpers(self) -> list[str]:
        """The elementwise functions that the loops call."""
        return [helper for typed in self.write.typed.values() for helper in typed.helpers.values()]

    def heads(self, body: list[str], sources: dict[str, set[str]], constants: dict[str, str]) -> list[str]:
        """Imports and constants: of what modules offer and of constants, by name, what the body uses."""
        used = {n.id for part in body for n in ast.walk(tree_of(part)) if isinstance(n, ast.Name)}
        real = [typed for typed in self.write.typed.values() if typed.dtype.startswith("float")]
        constants = constants | {f"tiny{typed.suffix}": smallest(typed) for typed in real}
        found = {module: sorted(names & used) for module, names in sources.items()}
        lines = [imported(module, names) for module, names in found.items() if names]
        values = dict.fromkeys(value for name, value in constants.items() if name in used)
        return ["\n".join(part) for part in (lines, values) if part]

    def calls(self) -> set[str]:
        """What the elementwise functions and the numbers may use of `math`."""
        return {"inf", "nan", "sqrt"}.union(*(typed.imports for typed in self.write.typed.values()))

    # Nests

    def group(self, rows: Rows) -> list[str]:
        """One loop over rows around the rest of several nests."""
        self.write.local = {}
        self.enter(rows.nests)
        lines, said = [], rows.line
        for nest in rows.nests:
            lines += [f"# {nest.line}"] * (nest.line not in (None, said))
            said = nest.line or said
            lines += self.nest(nest, inside=True)
            local = self.write.local  # of the next nest's elements only the row's numbers are known
            self.write.local = {b: x for b, x in local.items() if b in self.numbers_of_rows}
        self.enter([])
        return [f"for i in {self.range(rows.rows, True)}:", *indent(lines)]

    def enter(self, nests: list[Nest]) -> None:
        """Begin with the nests of a group: numbers of its row live in variables; none: leave it."""
        self.together, self.numbers_of_rows = nests, one_per_row(nests) - self.plan.stored

    def nest(self, nest: Nest, inside: bool = False) -> list[str]:
        """Loops around statements; sums along the last axes are kept in variables."""
        at = list(AXES[: len(nest.domain)])
        reduces = [s for s in nest.statements if isinstance(s, Reduce)]
        axes = reduces[0].axes if reduces else ()
        kept = [a for a in range(len(nest.domain)) if a not in axes]
        trailing = all(a < b for a in kept for b in axes)
        if not inside:
            self.write.local = {}
        body = self.statements(nest, at, trailing)
        outer = [0] if inside else []
        if not reduces:
            return self.loops(nest, at, [a for a in kept if a not in outer], body)
        before, after = [], []
        for s in reduces:
            before += self.begin(s, trailing, at, kept)
            after += self.end(s, at, kept) if trailing else []
        inner = [a for a in kept if a not in outer]
        if trailing:
            return self.loops(nest, at, inner, [*before, *self.loops(nest, at, axes, body), *after])
        every = [a for a in range(len(nest.domain)) if a not in outer]
        return self.loops(nest, at, inner, before) + self.loops(nest, at, every, body)

    def begin(self, s: Reduce, trailing: bool, at: list[str], kept: list[int]) -> list[str]:
        """What a reduction begins with."""
        if not trailing:
            return [f"{self.write.element(s.out, [at[a] for a in kept])} = {self.start(s)}"]
        name = self.accumulator(s)
        return [f"{name} = {self.start(s)}", *([f"{name}_at = 0"] if s.kind.startswith("arg") else [])]

    def end(self, s: Reduce, at: list[str], kept: list[int]) -> list[str]:
        """Where the result of a reduction goes."""
        result = self.accumulator(s) + "_at" * s.kind.startswith("arg")
        if s.out.buffer in self.numbers_of_rows:
            self.write.local[s.out.buffer] = result, 0, s.out.dtype
            return []
        place = self.write.element(s.out, [at[a] for a in kept])
        return [f"{place} = {self.write.cast((result, 0, RESULT.get(s.kind, s.out.dtype)), s.out.dtype)[0]}"]

    def accumulator(self, s: Reduce) -> str:
        """The variable that a reduction is taken up in."""
        name = s.out.buffer.name
        return (
            name
            if s.out.buffer in self.numbers_of_rows
            else f"{name}_sum"
            if s.kind == "sum"
            else f"{name}_so_far"
        )

    def start(self, s: Reduce) -> str:
        """What a reduction begins with."""
        dtype = s.out.dtype if not s.kind.startswith("arg") else dtype_of(s.arg)
        if s.kind in ("sum", "prod"):
            return self.write.number(0 if s.kind == "sum" else 1, dtype)
        low = s.kind.endswith("max")
        if dtype.kind == "f":
            return self.write.number(-np.inf if low else np.inf, dtype)
        if dtype.kind == "b":
            return str(not low)
        return repr(int(np.iinfo(dtype).min if low else np.iinfo(dtype).max))

    def statements(self, nest: Nest, at: list[str], trailing: bool) -> list[str]:
        """The statements of a nest, for one element."""
        lines = []
        uses = readings(self.together or [nest])
        behind: dict[Buffer, set[Buffer]] = {}  # the memory that an expression written where it is used reads
        for k, s in enumerate(nest.statements):
            if isinstance(s, Reduce):
                lines += self.reduce(s, at, trailing, nest)
                continue
            args = [self.write.operand(a, at) for a in s.args]
            value = self.write.function(s.function, args, s.constants, s.out.dtype)
            buffer = s.out.buffer
            reads = set().union(*(behind.get(v.buffer, {v.buffer}) for v in operands(s.args)))
            behind[buffer] = set()
            if buffer in self.plan.stored:
                place = self.write.element(s.out, at)
                lines.append(f"{place} = {value[0]}")
                behind[buffer] = {buffer}
                if s.out.whole and uses.get(buffer):
                    self.write.local[buffer] = (place, 0, s.out.dtype)
            elif (
                uses.get(buffer) == 1
                and short(value, buffer)
                and lasts(nest.statements[k + 1 :], buffer, reads)
            ):
                self.write.local[buffer] = value
                behind[buffer] = reads
            else:
                lines.append(f"{buffer.name} = {value[0]}")
                self.write.local[buffer] = (buffer.name, 0, s.out.dtype)
        return lines

    def reduce(self, s: Reduce, at: list[str], trailing: bool, nest: Nest) -> list[str]:
        """Take one more element into a reduction."""
        kept = [a for a in range(len(nest.domain)) if a not in s.axes]
        dtype = dtype_of(s.arg) if s.kind.startswith("arg") else s.out.dtype
        value = self.write.cast(self.write.operand(s.arg, at), dtype)
        so_far = self.accumulator(s) if trailing else self.write.element(s.out, [at[a] for a in kept])
        old: Expression = (so_far, 0, dtype)
        if s.kind in ("sum", "prod"):
            if s.kind == "sum" and trailing and dtype.kind == "f":
                return [self.add(so_far, value[0])]
            return [f"{so_far} {'+' if s.kind == 'sum' else '*'}= {value[0]}"]
        if s.kind in ("max", "min"):
            function = scalars.maximum if s.kind == "max" else scalars.minimum
            return [f"{so_far} = {self.write.call(function, [old, value], {}, dtype)}"]
        index = plus([(math.prod(nest.domain[b] for b in s.axes if b > a), at[a]) for a in s.axes], 0)
        sign = ">" if s.kind == "argmax" else "<"
        first = " and ".join(f"{at[a]} == 0" for a in s.axes)
        value = (wrapped(value, 5), 0, dtype)
        better = f"{value[0]} {sign} {so_far} or ({first})"
        if dtype.kind == "f":
            better += f" or ({value[0]} != {value[0]} and {so_far} == {so_far})"
        return [f"if {better}:", f"    {so_far} = {value[0]}", f"    {so_far}_at = {index}"]

    def add(self, so_far: str, value: str) -> str:
        """Take one more number into a sum, in any order."""
        self.vocabulary.add("plus")
        return f"{so_far} = plus({so_far}, {value})"

    def loops(self, nest: Nest, at: list[str], axes: Any, body: list[str]) -> list[str]:
        """Loops over some axes of a domain around some lines."""
        for axis in sorted(axes, reverse=True):
            bounds = self.range(nest.domain[axis], axis == nest.axis)
            body = [f"for {at[axis]} in {bounds}:", *indent(body)]
        return body

    def plain_loops(self, domain: Any, at: list[str], body: list[str]) -> list[str]:
        """Loops over all of a domain."""
        for n, variable in zip(reversed(domain), reversed(at), strict=True):
            body = [f"for {variable} in range({n}):", *indent(body)]
        return body


def readings(nests: list[Nest]) -> Counter[Buffer]:
    """How often the statements of some nests read each buffer."""
    return Counter(view.buffer for nest in nests for arg in nest.args() for view in operands((arg,)))


def short(value: Expression, buffer: Buffer) -> bool:
    """Whether an expression may stand where it is used, without a name of its own."""
    return len(value[0]) < 50 and not buffer.named


def lasts(later: list[Statement], buffer: Buffer, reads: set[Buffer]) -> bool:
    """Whether all that a value was computed from is still in memory where later statements use the value."""
    for s in later:
        if any(view.buffer is buffer for view in operands(arguments(s))):
            return True
        if s.out.buffer in reads:
            return False
    return False


def dtype_of(arg: Any) -> np.dtype:
    """The dtype of an operand that is an array."""
    return arg.view.dtype


def dtype_name(dtype: np.dtype) -> str:
    """A dtype in the text."""
    return "bool_" if dtype.kind == "b" else dtype.name


def indent(lines: list[str]) -> list[str]:
    """One level further in."""
    return ["    " + line for line in lines]


def imported(module: str, names: list[str]) -> str:
    """An import, on several lines where it is long."""
    line = f"from {module} import {', '.join(names)}"
    return line if len(line) <= 96 else wrap(f"from {module} import (", names, ")")


def times(factor: int, name: str) -> str:
    """`3 * name`, or the name."""
    return name if factor == 1 else f"{factor} * {name}"


def wrapped_call(name: str, args: list[str]) -> list[str]:
    """A call, on several lines where it is long."""
    line = f"{name}({', '.join(args)})"
    if len(line) <= 96:
        return [line]
    return [f"{name}(", *indent(textwrap.wrap(", ".join(args), 88)), ")"]
