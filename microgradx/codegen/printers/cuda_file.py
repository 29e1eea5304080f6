"""From stages to the text of a CUDA file: one kernel per stage, with the names of the CPU's file."""

from dataclasses import dataclass, field

import numpy as np

from microgradx.codegen.ir.loops import Buffer, Place
from microgradx.codegen.passes.launches import Stage
from microgradx.codegen.passes.schedule import Schedule
from microgradx.codegen.printers.cuda_printer import CudaPrinter
from microgradx.codegen.printers.file import DTYPES, wrapped_call
from microgradx.codegen.printers.function_names import called, left
from microgradx.codegen.printers.text import indent
from microgradx.cuda.devices import Shape
from microgradx.kernels.source import define

MOST = 2048  # blocks of a launch: what is more, they stride through

FIXED = ("numbers", "order", "random", "status", "clock", "gate", "count")
"""Parameters that are no values of the program."""

ADVANCE = """def advance(clock):
    if cuda.grid(1) == 0:
        clock[0] += 1"""

Target = str | Place | tuple[Buffer, int]
"""What a parameter of a kernel points to: a name in FIXED, the data of a scan, or an element of a buffer."""

TAKEN = {"advance", "turn", "parts", "rows", "epoch", "e", "r", "c", "p", "cuda"}
TAKEN |= {"BLOCK", "TILE", "ROW", "STEP", "PER"}


@dataclass
class Emitted:
    """A CUDA file, and what its kernels expect."""

    text: str
    signatures: dict[str, str]
    parameters: dict[str, list[Target]]  # by kernel
    columns: dict[int, int]  # first column of the numbers of an event
    width: int  # columns of numbers
    number: str = "float32"  # the dtype of the numbers
    stages: list[Stage] = field(default_factory=list)
    together: int = 1  # blocks of `epoch`
    how: str = "launches"

    @property
    def hosted(self) -> bool:
        """Whether a part of it runs on the host."""
        return any(stage.hosted for stage in self.stages)


class Writer(CudaPrinter):
    """Writes one file."""

    def __init__(self, stages: list[Stage], plan: Schedule, blocks: int, shape: Shape, title: str):
        super().__init__(plan, blocks, shape, title, TAKEN | {"step", *FIXED})
        self.stages = stages
        self.used_by: dict[str, list[str]] = {}  # the parameters of each kernel

    def emit(self, how: str = "launches", most: int = 1) -> Emitted:
        """The whole file, for steps run as "launches", as a "graph" of them, or as one kernel, "epoch".

        An epoch has `most` blocks at most.
        """
        self.small = epoch = how == "epoch"
        self.name_buffers()
        behind = left([stage.items for stage in self.stages])
        kernels = [
            self.kernel(stage, called(stage.items, after))
            for stage, after in zip(self.stages, behind, strict=True)
            if stage.emitted
        ]
        stages = [stage for stage in self.stages if stage.emitted]
        entries = {stage.name: self.used_by[stage.name] for stage in stages}
        together = min(max((stage.blocks for stage in stages), default=1), most)
        if epoch:
            entries = {"epoch": self.everything(stages, together)}
            kernels.append(self.epoch(stages, entries["epoch"], together))
        elif any("clock" in used for used in entries.values()):
            entries["advance"] = ["clock"]
            kernels.append(ADVANCE)
        for name in ("inside", "within"):
            if name in self.imports:
                self.word(name)
        body = [*self.helpers(), *self.rule_texts, *self.words.values(), *kernels]
        number = "float64" if any("float64(numbers[" in part for part in body) else "float32"
        sources = {"math": self.calls(), "numba": {"cuda"}, "numpy": DTYPES}
        text = self.file(body, sources, dict.fromkeys(["BLOCK", "TILE"], self.shape.text()))
        signatures = {k: " ".join(self.type(name, number) for name in used) for k, used in entries.items()}
        parameters = {k: [self.source(name) for name in used] for k, used in entries.items()}
        return Emitted(
            text, signatures, parameters, self.columns, max(self.width, 1), number, self.stages, together, how
        )

    def everything(self, stages: list[Stage], together: int) -> list[str]:
        """The parameters of all stages."""
        names = ["count", "clock", *(["gate"] if together > 1 else [])]
        return list(dict.fromkeys([*names, *(name for stage in stages for name in self.used_by[stage.name])]))

    def epoch(self, stages: list[Stage], names: list[str], together: int) -> str:
        """The kernel that runs steps by itself: its blocks meet between stages.

        `count` is how many steps, and whether rows are gathered for them.
        """
        if together > 1:
            meet = ["turn += 1", f"{self.word('meet')}(gate, turn)"]
        else:
            meet = ["cuda.syncthreads()"]
        inner: list[str] = []
        for stage in stages:
            call = [*wrapped_call(stage.name, self.used_by[stage.name]), *meet]
            inner += ["if count[1] != 0:", *indent(call)] if stage.gathers else call
        inner += ["if cuda.grid(1) == 0:", "    clock[0] += 1", *meet]
        doc = '"""Run some steps, one after the other, without leaving the GPU."""'
        turn = ["turn = 0"] if together > 1 else []
        return define("epoch", names, [doc, *turn, "for _ in range(count[0]):", *indent(inner)])

    def type(self, name: str, number: str) -> str:
        """The type of a parameter."""
        if name in FIXED:
            return {"numbers": f"{number}*", "gate": "int64[::1]"}.get(name, "int64*")
        return pointer_to(self.pointers[name][0].dtype)

    def source(self, name: str) -> Target:
        """What a parameter is bound to."""
        if name in FIXED:
            return name
        buffer, offset = self.pointers[name]
        data = buffer.number("data")
        return (buffer, offset) if data is None else Place("data", data)

    # Parts of the file

    def kernel(self, stage: Stage, name: str) -> str:
        """The function of a stage."""
        self.used, self.wanted = {}, 1
        lines = self.body(stage.items)
        names = [name for name in self.used if name != "step"]
        stage.lines += dict.fromkeys(str(item.line) for item in stage.items if item.line is not None)
        if "clock" in names:
            lines = ["step = clock[0]", *lines]
        stage.name, stage.blocks = self.name(name), min(self.wanted, MOST)
        self.used_by[stage.name] = names
        return define(stage.name, names, lines)


def pointer_to(dtype: np.dtype) -> str:
    """The type of a parameter that points to elements of a dtype; Numba has none for booleans."""
    return "uint8*" if dtype.kind == "b" else f"{dtype.name}*"
