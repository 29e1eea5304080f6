"""Every kernel of the library, or of a step, for the CPU and for GPUs: what it moves and computes; its text.

Nothing is run and no GPU is needed: what a kernel takes of a GPU is what the assembler says, and the least
time that it needs follows from the GPU's data sheet.
"""

import ast
import shutil
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from microgradx.codegen.ir.loops import Item
from microgradx.codegen.ir.ops import Gather, Host
from microgradx.codegen.passes.schedule import Schedule
from microgradx.compiler.report.machine_limits import limits
from microgradx.compiler.report.measure import what
from microgradx.compiler.run.cuda_executable import written
from microgradx.compiler.run.executable import Executable
from microgradx.compiler.run.step import Step
from microgradx.cuda import build, simulated
from microgradx.cuda.devices import Shape
from microgradx.cuda.sweep import bounds, loop
from microgradx.errors import ArgumentError, DeviceError
from microgradx.kernels import jit
from microgradx.kernels.loop_source import RuleLoop
from microgradx.kernels.texts import tree_of
from microgradx.rules import rules


@dataclass(frozen=True)
class Gpu:
    """A GPU by NVIDIA's data sheet: bytes/s of memory, FLOP/s of float32 outside of tensor cores."""

    name: str
    capability: tuple[int, int]
    bandwidth: float
    flops: float
    processors: int


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("T4", (7, 5), 320e9, 8.1e12, 40),
        Gpu("A100", (8, 0), 2039e9, 19.5e12, 108),
        Gpu("RTX3090", (8, 6), 936e9, 35.6e12, 82),
        Gpu("L4", (8, 9), 300e9, 30.3e12, 58),
        Gpu("RTX4090", (8, 9), 1008e9, 82.6e12, 128),
        Gpu("H100", (9, 0), 3350e9, 67e12, 132),
        Gpu("H200", (9, 0), 4800e9, 67e12, 132),
        Gpu("B200", (10, 0), 8000e9, 75e12, 148),
        Gpu("RTX5090", (12, 0), 1792e9, 104.8e12, 170),
    )
}
"""GPUs by name. From NVIDIA's data sheets of the T4, A100 (80 GB SXM), L4, H100 (SXM), H200 and HGX B200, and
the specifications of the GeForce RTX 3090, 4090 and 5090.
"""


@dataclass
class Kernel:
    """One kernel: what it does for `elements` results, and the file that it stands in."""

    name: str
    device: str
    what: str
    elements: int
    flop: float
    bytes: float
    file: str = field(repr=False)
    signatures: dict[str, str] = field(repr=False)

    def least(self, gpu: Gpu) -> tuple[float, str]:
        """The least seconds that its device needs, and what binds it: "memory" or "arithmetic".

        A kernel of CUDA on the GPU by its data sheet, one of the CPU on this machine as measured.
        """
        speed, flops = gpu.bandwidth, gpu.flops
        if self.device == "cpu":
            speed, flops = limits().bandwidth, limits().gemm
        moving, computing = self.bytes / speed, self.flop / flops
        return max(moving, computing), "memory" if moving >= computing else "arithmetic"

    @property
    def source(self) -> str:
        """The text of the kernel; on the CPU, where it is a part of a step's function, of the file."""
        found = [f for f in tree_of(self.file).body if isinstance(f, ast.FunctionDef) and f.name == self.name]
        return ast.get_source_segment(self.file, found[0]) or self.file if found else self.file

    def resources(self, capability: tuple[int, int]) -> build.Resources:
        """Registers, shared memory and spills on a GPU; DeviceError where nothing can be compiled."""
        return self.built(capability).resources

    def built(self, capability: tuple[int, int]) -> build.Built:
        """Machine code for a GPU, from the cache if it is there."""
        if self.device != "cuda":
            raise ArgumentError(f"{self.name} is a kernel of the CPU; registers are a GPU's.")
        entry = "sweep" if self.name not in self.signatures else self.name
        return build.build(self.file, self.signatures, capability, "listed")[entry]

    def ptx(self, capability: tuple[int, int]) -> str:
        """The kernel in the language of GPUs."""
        if self.device != "cuda":
            raise ArgumentError(f"{self.name} is a kernel of the CPU: it has --asm, no --ptx.")
        if simulated():
            raise DeviceError("the simulator replaces the compiler of GPUs: unset NUMBA_ENABLE_CUDASIM.")
        entry = "sweep" if self.name not in self.signatures else self.name
        function = build.functions(self.file, "listed")[entry]
        return build.ptx(function, self.signatures[entry], capability)[0]

    def assembly(self, capability: tuple[int, int]) -> str:
        """The processor's instructions: of this one, or of a GPU, which takes NVIDIA's disassembler."""
        if self.device == "cpu":
            exact: Collection[str] | None = None if "sweep" in self.signatures else set()
            module = jit.optimised(self.file, self.signatures, f"<{self.name}>", exact)
            return str(jit.machine().emit_assembly(module))
        tool = shutil.which("nvdisasm") or shutil.which("cuobjdump")
        if tool is None:
            raise DeviceError(
                "a GPU's instructions are shown by nvdisasm of NVIDIA's CUDA toolkit, which is not on the "
                "PATH; --ptx shows the step before them."
            )
        with TemporaryDirectory() as folder:
            file = Path(folder, "kernel.cubin")
            file.write_bytes(self.built(capability).code)
            options = ["-sass"] if "cuobjdump" in tool else []
            return subprocess.run([tool, *options, str(file)], capture_output=True, text=True).stdout


def library(devices: tuple[str, ...] = ("cpu", "cuda"), elements: int = 1_000_000) -> Iterator[Kernel]:
    """The sweeps of all rules over a million parameters of float32."""
    for device in devices:
        for rule in rules.values():
            lifted = RuleLoop(rule, "float32", ())
            numbers = ["float32"] * len(lifted.numbers)
            arrays = ["float32*"] * len(lifted.arrays)
            if device == "cpu":
                text, types = lifted.source(), ["int64", "int64", *arrays, *numbers]
            else:
                text, types = lifted.source(bounds, loop), ["int64", *arrays, *numbers]
            each = operations("\n".join(lifted.loop))
            moved = 4 * (len(arrays) + len(arrays) - 1)  # all are read, all but the gradient written
            doc = (rule.__doc__ or "").strip().partition("\n")[0]
            yield Kernel(rule.name, device, doc, elements, each * elements, moved * elements, text,
                         {"sweep": " ".join(types)})  # fmt: skip


def operations(text: str) -> int:
    """Arithmetic operations in some statements; a function counts as one."""
    return sum(isinstance(node, ast.BinOp | ast.Call | ast.Compare) for node in ast.walk(tree_of(text)))


def of_step(
    step: Step[object], *args: object, devices: tuple[str, ...] = ("cpu", "cuda"), processors: int = 132
) -> Iterator[Kernel]:
    """The kernels of a step for such arguments: captured here, whatever device it is to run on."""
    compiled = step.captured(*args)
    if "cpu" in devices:
        made = Executable(compiled.captured)
        runs = dict.fromkeys((s for s in made.emitted.segments if isinstance(s, str)), made.emitted.types)
        for chain in made.plan.chains:
            if not isinstance(chain.items[0], Host):
                items = [item for item in chain.items if not isinstance(item, Gather)]
                yield kernel(chain.name, "cpu", items, made.plan, made.emitted.text, runs)
    if "cuda" in devices:
        emitted, plan = written(compiled.captured, Shape(), processors)
        stages = [stage for stage in emitted.stages if stage.emitted]
        if emitted.how == "epoch":
            items = [item for stage in stages for item in stage.items if not stage.gathers]
            yield kernel("epoch", "cuda", items, plan, emitted.text, emitted.signatures)
            return
        for stage in stages:
            yield kernel(stage.name, "cuda", stage.items, plan, emitted.text, emitted.signatures)


def kernel(
    name: str, device: str, items: list[Item], plan: Schedule, text: str, signatures: dict[str, str]
) -> Kernel:
    """A kernel by the work that it does: only what is in memory is moved, and each element once."""
    reads, writes = (
        {
            view.buffer: min(view.size, view.buffer.size) * view.dtype.itemsize
            for item in items
            for view, _ in (item.reads() if reading else item.writes())
            if view.buffer in plan.stored or view.buffer.source is not None
        }
        for reading in (True, False)
    )
    results = sum(size // buffer.dtype.itemsize for buffer, size in writes.items())
    does = "; ".join(dict.fromkeys(what(item) for item in items))
    moved = float(sum(reads.values()) + sum(writes.values()))
    return Kernel(name, device, does, results, sum(item.flop for item in items), moved, text, signatures)
