"""From a schedule to the text of a Python file: one function per chain, and `run`, which calls them.

The file is for reading: names are the user's, a comment gives the user's line, loops do plain arithmetic.
"""

import inspect
from dataclasses import dataclass, field
from typing import Any

from microgradx.codegen.ir.loops import Buffer
from microgradx.codegen.ir.ops import Host
from microgradx.codegen.passes.schedule import PIECE, Chain, Schedule
from microgradx.codegen.printers.cpu_printer import Bodies, dtype_name, indent, times, wrapped_call
from microgradx.codegen.printers.expressions import plus
from microgradx.codegen.printers.function_names import called, last_line, left
from microgradx.errors import CompileError
from microgradx.kernels import philox
from microgradx.kernels.source import define, quoted

VECTORS = {"exp", "expm1", "tanh", "erf", "log", "log1p", "sin", "cos"}
"""Functions that microgradx.kernels.vector_math has, for float32 as arithmetic that becomes vectors."""

DTYPES = {"bool_", "float32", "float64"} | {
    f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
}
"""The dtypes of blocks and numbers."""

WORDS = {"claim", "done", "wait", "inside", "within", "plus"}
"""Words that a file may use beside those that `Bodies.vocabulary` collects."""

RUN = "int64 int64 int64* int64* int64*"
"""The types of `run(steps, gathering, gate, status, table)`."""


@dataclass
class Emitted:
    """A file, and what its `run` functions expect: sources of addresses, columns of numbers."""

    text: str
    segments: list[Any]  # names of functions, and Hosts between them
    addresses: list[Any]  # what the entries of the table point to
    columns: dict[int, int]  # first column of the numbers of an event
    width: int  # columns of numbers
    blocks: int  # of random numbers that a step takes
    exact: set[str] = field(default_factory=set)  # functions whose arithmetic must not be contracted


class Emitter(Bodies):
    """Writes one file."""

    def __init__(self, plan: Schedule, title: str, blocks: int):
        super().__init__(plan, blocks)
        self.title = title
        self.write.taken |= set(
            [
                "run",
                "step",
                "steps",
                "gate",
                "status",
                "table",
                "gathering",
                "numbers",
                "order",
                "random",
                "arena",
            ]
        )
        self.addresses: list[Any] = [("arena",), ("numbers",), ("order",), ("random",)]
        self.functions: dict[Chain, tuple[str, list[str]]] = {}

    def emit(self, apart: bool = False) -> Emitted:
        """The whole file; `apart` has a function `run` for every stage, to measure it."""
        for buffer in dict.fromkeys(v.buffer for i in self.plan.items for v, _ in [*i.reads(), *i.writes()]):
            buffer.name = self.write.name(buffer.name)
        chains = self.plan.chains
        behind = left([chain.items for chain in chains])
        texts = [
            self.chain(chain, called(chain.items, after))
            for chain, after in zip(chains, behind, strict=True)
            if not isinstance(chain.items[0], Host)
        ]
        segments: list[Any] = []
        runs: list[str] = []
        part: list[list[Chain]] = []
        for stage in [*self.plan.stages, None]:
            host = stage is not None and isinstance(stage[0].items[0], Host)
            if stage is None or host or apart:
                if part or (stage is None and not segments):
                    name = "run" if not runs else f"run_{len(runs) + 1}"
                    runs.append(self.run(name, part))
                    segments.append(name)
                part = []
            if stage is not None and host:
                segments += [item for chain in stage for item in chain.items]
            elif stage is not None:
                part.append(stage)
        body = [*self.helpers(), *self.rule_texts, *self.random(), *texts, *runs]
        heads = self.heads(body, self.sources(), {})
        text = "\n\n\n".join(["\n\n".join([quoted(self.title), *heads]), *body]) + "\n"
        return Emitted(
            text, segments, self.addresses, self.write.columns, self.write.width, self.blocks, self.exact
        )

    # Parts of the file

    def random(self) -> list[str]:
        """The generator, where it is used."""
        if "units" not in self.vocabulary:
            return []
        self.vocabulary.discard("units")
        return [inspect.getsource(f).rstrip() for f in (philox.philox, philox.units)]

    def sources(self) -> dict[str, set[str]]:
        """The modules that a file may import from, and which names."""
        words = self.vocabulary | WORDS
        return {
            "math": self.calls() - VECTORS,
            "numpy": DTYPES,
            "microgradx.kernels.runtime": words,
            "microgradx.kernels.vector_math": self.calls() & VECTORS,
        }

    def chain(self, chain: Chain, name: str) -> str:
        """A function that takes some rows through the items of a chain."""
        self.write.used = {}
        self.whole = chain.pieces == 1
        lines: list[str] = []
        said = None
        for item in chain.items:
            written = self.item(item)
            if item.line is not None and item.line != said:
                lines.append(f"# {item.line}")
            said = last_line(item) or said
            lines += written
        parameters = [] if self.whole else ["start", "stop"]
        names = list(self.write.used)
        chain.name = self.write.name(name)
        self.functions[chain] = chain.name, names
        return define(chain.name, [*parameters, *names], lines)

    # The function that runs steps

    def run(self, name: str, stages: list[list[Chain]]) -> str:
        """`run`: in order on one thread, or by pieces that any number of threads take."""
        names = {n for stage in stages for chain in stage for n in self.functions[chain][1]}
        lines = [f'"""{self.does()}"""', *self.memory(names)]
        checks = {k for k, stage in enumerate(stages) for c in stage for item in c.items if item.checks}
        if self.plan.serial:
            lines.append("for step in range(steps):" if stages else "pass")
            lines += ["    status[1] = step"] * bool(checks)
            for k, stage in enumerate(stages):
                for chain in stage:
                    lines += indent(self.call(chain, "0"))
                if k in checks:
                    lines += ["    if status[0] != 0:", "        return"]
        else:
            lines += self.tickets(stages, bool(checks))
        return define(name, ["steps", "gathering", "gate", "status", "table"], lines)

    def does(self) -> str:
        """The docstring of `run`."""
        if self.plan.serial:
            return "Run some steps, one after the other."
        return "Run some steps, piece by piece: any number of threads may call this at once."

    def call(self, chain: Chain, piece: str) -> list[str]:
        """The call of a chain for one of its pieces."""
        name, names = self.functions[chain]
        bounds = []
        if chain.pieces > 1:
            start = times(chain.piece, piece)
            stop = f"{start} + {chain.piece}"
            bounds = [start, stop if chain.rows % chain.piece == 0 else f"min({stop}, {chain.rows})"]
        return wrapped_call(name, [*bounds, *names])

    def tickets(self, stages: list[list[Chain]], checks: bool) -> list[str]:
        """The loop in which a thread takes pieces until none is left."""
        groups: list[
            tuple[int, list[Chain]]
        ] = []  # (first ticket of the stage, chains in one piece or one chain)
        total = 0
        for stage in stages:
            first = total
            small: list[Chain] = []
            for chain in stage:
                if chain.pieces == 1 and sum(c.cost for c in small) + chain.cost < PIECE:
                    small.append(chain)
                else:
                    groups.append((first, [chain]))
                    total += chain.pieces
            if small:
                groups.append((first, small))
                total += 1
        lines = ["ticket = claim(gate)", f"while ticket < {total} * steps:"]
        inner = [f"step, piece = ticket // {total}, ticket % {total}"]
        at = 0
        for k, (first, chains) in enumerate(groups):
            pieces = chains[0].pieces if len(chains) == 1 else 1
            end = at + pieces
            inner.append("else:" if k == len(groups) - 1 and k else f"{'el' * (k > 0)}if piece < {end}:")
            body = [f"wait(gate, {plus([(total, 'step')], first)})"]
            piece = "piece" if at == 0 else f"(piece - {at})"
            work = [line for chain in chains for line in self.call(chain, piece)]
            if checks:
                work = ["if status[0] == 0:", *(["    status[1] = step"] * (k == 0)), *indent(work)]
            inner += indent(body + work)
            at = end
        inner += ["done(gate)", "ticket = claim(gate)"]
        return [*lines, *indent(inner), f"wait(gate, {total} * steps)"]

    def memory(self, names: set[str]) -> list[str]:
        """Where the blocks lie that the chains use."""
        lines = []
        if "numbers" in names:
            lines.append(f"numbers = block_at(table, 1, (1, {max(self.write.width, 1)}), float64)")
        if "order" in names:
            lines.append("order = block_at(table, 2, (1,), int64)")
        if "random" in names:
            lines.append("random = block_at(table, 3, (3,), int64)")
        for data, (k, out) in self.data.items():
            if data in names:
                entry, kind = self.address(("data", k)), dtype_name(out.dtype)
                lines.append(f"{data} = block_at(table, {entry}, {out.shape}, {kind})")
        used = {name: what for name, what in self.write.blocks.items() if name in names}
        buffers = dict.fromkeys(buffer for buffer, *_ in used.values())
        if any(buffer.source is None for buffer in buffers):
            lines.append("arena = block_at(table, 0, (1,), uint8)")
        for buffer in buffers:
            lines.append(self.place(buffer))
        for name, (buffer, offset, shape) in used.items():
            if name != buffer.name:
                lines.append(f"{name} = block({buffer.name}, {offset}, {shape or (1,)})")
        return lines

    def place(self, buffer: Buffer) -> str:
        """Where a buffer lies."""
        shape, kind = self.write.blocks[buffer.name][2], dtype_name(buffer.dtype)
        full = (1, *shape) if buffer.stepped and shape else shape or (1,)
        if buffer.source is not None:
            return f"{buffer.name} = block_at(table, {self.address(buffer.source)}, {full}, {kind})"
        if buffer.place < 0:
            raise CompileError(
                f"the emitted file keeps {buffer.name}, which has no memory. Please report this."
            )
        return f"{buffer.name} = block(arena, {buffer.place}, {full}, {kind})"

    def address(self, source: Any) -> int:
        """Which entry of the table holds the address of something outside."""
        if source not in self.addresses:
            self.addresses.append(source)
        return self.addresses.index(source)
