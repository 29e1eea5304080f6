"""From a schedule to the text of a Python file: one function per chain, and `run`, which calls them.

The file is for reading: names are the user's, a comment gives the user's line, loops do plain arithmetic.
"""

import inspect
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from microgradx.codegen.ir.loops import Buffer, Place, Source
from microgradx.codegen.ir.ops import Host
from microgradx.codegen.ir.tree import plus
from microgradx.codegen.passes.schedule import PIECE, Chain, Schedule
from microgradx.codegen.printers.cpu_printer import CpuPrinter
from microgradx.codegen.printers.file import DTYPES, dtype_name, wrapped_call
from microgradx.codegen.printers.function_names import called, does, left
from microgradx.codegen.printers.repeats import alike, arrays_of, bound, joined, numberless, renamed, words
from microgradx.codegen.printers.text import indent, times
from microgradx.errors import CompileError
from microgradx.kernels import philox
from microgradx.kernels.source import RESERVED, define, take_name

VECTORS = {"exp", "expm1", "tanh", "erf", "log", "log1p", "sin", "cos"}
"""Functions that microgradx.kernels.vector_math has, for float32 as arithmetic that becomes vectors."""

TAKEN = {
    "run", "step", "steps", "gate", "status", "table", "gathering", "numbers", "order", "random", "arena",
    "helping",
}  # fmt: skip
"""Names of `run`, and of what its functions share."""

WORDS = {"claim", "done", "join", "leave", "ready", "wait", "inside", "within", "plus"}
"""Words that a file may use beside those that `Bodies.vocabulary` collects."""

GIVEN = "step", "gathering", "status"
"""What `run` has for its functions, beside the table of addresses."""

SHARED = "start", "stop", *GIVEN, "numbers", "random", "order"
"""What those have for the functions of what comes again, beside its arrays."""

ENTRY = {
    "steps": "int64", "gathering": "int64", "gate": "int64*", "status": "int64*", "table": "int64*",
    "helping": "int64",
}  # fmt: skip
"""What `run` is given, as far as the file needs it, and the types."""


@dataclass
class Emitted:
    """A file, and what its `run` functions expect: sources of addresses, columns of numbers."""

    text: str
    segments: list[str | Host]  # names of functions, and Hosts between them
    addresses: list[Source]  # what the entries of the table point to
    columns: dict[int, int]  # first column of the numbers of an event
    width: int  # columns of numbers
    blocks: int  # of random numbers that a step takes
    entry: list[str]  # what `run` is given
    exact: set[str] = field(default_factory=set)  # functions whose arithmetic must not be contracted

    @property
    def types(self) -> str:
        """The types of what `run` is given."""
        return " ".join(ENTRY[name] for name in self.entry)


class Emitter(CpuPrinter):
    """Writes one file."""

    def __init__(self, plan: Schedule, title: str, blocks: int):
        super().__init__(plan, blocks, title, TAKEN)
        self.addresses: list[Source] = [*map(Place, ("arena", "numbers", "order", "random"))]
        self.entry: list[str] = []
        self.given: dict[Chain, list[str]] = {}  # the parameters of a chain's function, but for its bounds
        self.written: dict[Chain, list[list[str]]] = {}  # the lines of a chain's items
        self.uses: dict[Chain, dict[str, None]] = {}  # the names in them
        self.repeated: list[str] = []  # functions of what comes again

    def emit(self, apart: bool = False) -> Emitted:
        """The whole file; `apart` has a function `run` for every stage, to measure it."""
        self.name_buffers()
        chains = [chain for chain in self.plan.chains if not isinstance(chain.items[0], Host)]
        for chain in chains:
            self.used, self.whole = {}, chain.pieces == 1
            self.written[chain], self.uses[chain] = self.texts(chain.items), self.used
        for places in alike(self.written, self.looks):
            self.call_instead(places)
        behind = dict(zip(self.plan.chains, left([c.items for c in self.plan.chains]), strict=True))
        texts = [self.chain(chain, called(chain.items, behind[chain])) for chain in chains]
        needed = {"steps"}.union(*self.given.values())
        needed |= {"status"} if any(item.checks for item in self.plan.items) else set()
        needed |= set() if self.plan.serial else {"gate", "helping"}
        self.entry = [name for name in ENTRY if name in needed]
        segments, runs = self.segments(apart)
        body = [*self.helpers(), *self.rule_texts, *self.random(), *self.repeated, *texts, *runs]
        text = self.file(body, self.sources(), {})
        return Emitted(
            text, segments, self.addresses, self.columns, self.width, self.blocks, self.entry, self.exact
        )

    def segments(self, apart: bool) -> tuple[list[str | Host], list[str]]:
        """Names of `run` functions, and Hosts between them; the texts of these functions."""
        segments: list[str | Host] = []
        runs: list[str] = []
        part: list[list[Chain]] = []
        for stage in [*self.plan.stages, None]:
            host = stage is not None and isinstance(stage[0].items[0], Host)
            if stage is None or host or apart:
                if part or (stage is None and not segments):
                    name = "run" if not runs else f"run_{len(runs) + 1}"
                    segments.append(name)
                    runs.append(self.run(name, part))
                part = []
            if stage is not None and host:
                segments += [item for chain in stage for item in chain.items if isinstance(item, Host)]
            elif stage is not None:
                part.append(stage)
        return segments, runs

    # Parts of the file

    def random(self) -> list[str]:
        """The generator, where it is used."""
        if "units" not in self.vocabulary:
            return []
        self.vocabulary.discard("units")
        return [inspect.getsource(f).rstrip() for f in (philox.philox, philox.units)]

    def sources(self) -> dict[str, set[str]]:
        """The modules that a file may import from, and which names."""
        return {
            "math": self.calls() - VECTORS,
            "numpy": DTYPES,
            "microgradx.kernels.runtime": self.vocabulary | WORDS,
            "microgradx.kernels.vector_math": self.calls() & VECTORS,
        }

    def chain(self, chain: Chain, name: str) -> str:
        """A function that takes some rows through the items of a chain, in memory that it finds itself."""
        lines = self.commented(chain.items, self.written[chain])
        written = {*words(lines)}  # not what an operand that fell away has used
        used = dict.fromkeys(word for word in self.uses[chain] if word in written)
        memory = self.memory(used)
        chain.name = self.name(name)
        given = [word for word in GIVEN if word in used]
        self.given[chain] = [*given, *["table"] * bool(memory)]
        bounds = ["start", "stop"] if chain.pieces > 1 else []
        rows = f", for rows start to stop of {chain.rows}" if bounds else ""
        doc = f'"""{does(chain.items).capitalize()}{rows}."""'
        return define(chain.name, [*bounds, *self.given[chain]], [doc, *memory, *[""] * bool(memory), *lines])

    # What comes again

    def call_instead(self, places: list[tuple[Chain, slice]]) -> None:
        """Write one function of the items that are the same in several places, and a call behind each."""
        chain, of = places[0]
        items, lines = chain.items[of], joined(self.written[chain][of])
        given = [word for word in SHARED if word in words(lines)]
        arrays = arrays_of(lines, self.looks)
        own = [*bound(lines), *arrays]
        taken = {*words(lines), *RESERVED} - {*own}
        names = {name: take_name(numberless(name), taken) for name in own}
        behind, _ = left([items, [item for item in self.plan.items if item not in items]])
        name = self.name(f"{numberless(called(items, behind))}_for")
        doc = f'"""{does(items).capitalize()}, {len(places)} times, each for other arrays."""'
        parameters = [*given, *(names[array] for array in arrays)]
        self.repeated.append(define(name, parameters, [doc, *renamed(lines, names)]))
        for chain, of in places:
            texts = self.written[chain]
            call = wrapped_call(name, [*given, *arrays_of(joined(texts[of]), self.looks)])
            texts[of] = [*[[]] * (len(items) - 1), call]

    def looks(self, name: str) -> tuple[Hashable, Hashable] | None:
        """What the block of a name looks like, and where it lies."""
        if name not in self.placed:
            return None
        buffer, _, shape = self.placed[name]
        place = buffer.place if buffer.source is None else buffer.source
        return (shape, buffer.dtype, buffer.stepped), place

    # The function that runs steps

    def run(self, name: str, stages: list[list[Chain]]) -> str:
        """`run`: in order on one thread, or by pieces that any number of threads take."""
        lines = [f'"""{self.does()}"""']
        checks = {k for k, stage in enumerate(stages) for c in stage for item in c.items if item.checks}
        if self.plan.serial:
            lines.append("for step in range(steps):" if stages else "pass")
            lines += ["    status[1] = step"] * bool(checks)
            for k, stage in enumerate(stages):
                for chain in stage:
                    lines += indent([f"# {does(chain.items)}", *self.call(chain, "0")])
                if k in checks:
                    lines += ["    if status[0] != 0:", "        return"]
        else:
            lines += self.tickets(stages, bool(checks))
        return define(name, self.entry, lines)

    def does(self) -> str:
        """The docstring of `run`."""
        if self.plan.serial:
            return "Run some steps, one after the other."
        return "Run some steps, piece by piece: any number of threads may call this at once."

    def call(self, chain: Chain, piece: str) -> list[str]:
        """The call of a chain for one of its pieces."""
        bounds = []
        if chain.pieces > 1:
            start = times(chain.piece, piece if piece == "piece" else f"({piece})")
            stop = f"{start} + {chain.piece}"
            bounds = [start, stop if chain.rows % chain.piece == 0 else f"min({stop}, {chain.rows})"]
        return wrapped_call(chain.name, [*bounds, *self.given[chain]])

    def tickets(self, stages: list[list[Chain]], checks: bool) -> list[str]:
        """The loop in which a thread takes pieces until none is left."""
        groups, total = grouped(stages)
        lines = ["ticket = join(gate, helping)", f"while ticket < {total} * steps:"]
        inner = [f"step, piece = ticket // {total}, ticket % {total}"]
        at = 0
        for k, (first, chains) in enumerate(groups):
            end = at + pieces_of(chains)
            inner.append("else:" if k == len(groups) - 1 and k else f"{'el' * (k > 0)}if piece < {end}:")
            before = plus([(total, "step")], first)
            work = [line for chain in chains for line in self.call(chain, plus([(1, "piece")], -at))]
            if checks:
                work = [f"if ready(gate, {before}, status):", *indent(["status[1] = step"] * (k == 0) + work)]
            else:
                work = [f"wait(gate, {before})", *work]
            inner += indent([f"# {about(chains)}", *work])
            at = end
        inner += ["done(gate)", "ticket = claim(gate)"]
        return [*lines, *indent(inner), f"leave(gate, {total} * steps, helping)"]

    def memory(self, names: Iterable[str]) -> list[str]:
        """Where the blocks lie that the chains use."""
        lines = []
        if "numbers" in names:
            lines.append(f"numbers = block_at(table, 1, (1, {max(self.width, 1)}), float64)")
        if "order" in names:
            lines.append("order = block_at(table, 2, (1,), int64)")
        if "random" in names:
            lines.append("random = block_at(table, 3, (3,), int64)")
        used = {name: self.placed[name] for name in names if name in self.placed}
        buffers = dict.fromkeys(buffer for buffer, *_ in used.values())
        if any(buffer.source is None for buffer in buffers):
            lines.append("arena = block_at(table, 0, (1,), uint8)")
        lines += map(self.home, buffers)
        for name, (buffer, offset, shape) in used.items():
            if name != buffer.name:
                lines.append(f"{name} = block({buffer.name}, {offset}, {shape or (1,)})")
        return lines

    def home(self, buffer: Buffer) -> str:
        """Where a buffer lies."""
        shape, kind = self.placed[buffer.name][2], dtype_name(buffer.dtype)
        full = (1, *shape) if buffer.stepped and shape else shape or (1,)
        if buffer.source is not None:
            return f"{buffer.name} = block_at(table, {self.address(buffer.source)}, {full}, {kind})"
        if buffer.place < 0:
            raise CompileError(
                f"the emitted file keeps {buffer.name}, which has no memory. Please report this."
            )
        return f"{buffer.name} = block(arena, {buffer.place}, {full}, {kind})"

    def address(self, source: Source) -> int:
        """Which entry of the table holds the address of something outside."""
        if source not in self.addresses:
            self.addresses.append(source)
        return self.addresses.index(source)


def grouped(stages: list[list[Chain]]) -> tuple[list[tuple[int, list[Chain]]], int]:
    """What threads take in turn: a chain's pieces, or several small chains as one piece.

    Returns the groups, each with the first ticket of its stage, and the number of tickets of a step.
    """
    groups: list[tuple[int, list[Chain]]] = []
    total = 0
    for stage in stages:
        first, small = total, list[Chain]()
        for chain in stage:
            if chain.pieces == 1 and sum(c.cost for c in small) + chain.cost < PIECE:
                small.append(chain)
            else:
                groups.append((first, [chain]))
                total += chain.pieces
        if small:
            groups.append((first, small))
            total += 1
    return groups, total


def pieces_of(chains: list[Chain]) -> int:
    """Into how many pieces a group is cut."""
    return chains[0].pieces if len(chains) == 1 else 1


def about(chains: list[Chain]) -> str:
    """What a group does, for the reader of `run`."""
    pieces = pieces_of(chains)
    cut = f": {chains[0].rows} rows in {pieces} pieces" if pieces > 1 else ""
    return "; ".join(does(chain.items) for chain in chains) + cut
