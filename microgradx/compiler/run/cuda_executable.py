"""A step on a GPU: its kernels, the memory that they work in, and a graph that launches them all at once.

Everything that changes from step to step (learning rates, step counts, random counters, which rows) is read
from memory of the device, so that replaying the graph is a training step. A step of little work runs as one
kernel that makes any number of steps on its own, `epoch`: its blocks meet between stages.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from microgradx.codegen.ir.loops import Buffer, Place, View
from microgradx.codegen.ir.ops import Host
from microgradx.codegen.ir.program import Value
from microgradx.codegen.passes.launches import Library, Stage, operands, problem, stages
from microgradx.codegen.passes.lower import lower
from microgradx.codegen.passes.schedule import Schedule
from microgradx.codegen.passes.validate import validate_items
from microgradx.codegen.printers.cuda_file import Emitted, Target, Writer
from microgradx.compiler.capture.arguments import tidy
from microgradx.compiler.capture.captured import Captured
from microgradx.compiler.run.dump import dump
from microgradx.compiler.run.executable import jit_label, with_rows
from microgradx.compiler.run.hosted import notice
from microgradx.compiler.run.memory import Memory
from microgradx.cuda import Array, device
from microgradx.cuda.devices import Launch, Pointer, Product, Shape, Vector
from microgradx.eager.devices import Array as AnyArray
from microgradx.eager.devices import on_host
from microgradx.eager.tensor import Tensor
from microgradx.errors import DeviceError
from microgradx.kernels.random import generator

SMALL = 2e6
"""Operations of a step below which its stages are parts of one kernel: launches would take longer."""

HEAD = {"clock": 0, "random": 1, "gate": 4, "count": 5}
"""Where in a step's own few integers each begins: what changes from call to call."""

AHEAD = 16
"""Steps that one graph launches: a launch of a graph costs a few microseconds of its own."""


def written(
    captured: Captured, shape: Shape, most: int, how: str = "", library: bool = False
) -> tuple[Emitted, Schedule]:
    """The CUDA file of a captured step, wherever it was captured; no GPU is needed for it.

    Without a choice of `how`, a step of little work is one kernel, of `most` blocks at most.
    """
    program = captured.program
    items = with_rows(program, validate_items(lower(program), "lowering"))
    hosted = any(isinstance(item, Host) for item in items)
    little = sum(item.flop for item in items) < SMALL
    how = "launches" if hosted else how or ("epoch" if little else "graph")
    one = how == "epoch"
    order, plan = stages(items, shape, cutting=not one, library=library and not one)
    return Writer(order, plan, captured.blocks, shape, captured.title).emit(how, most), plan


class CudaExecutable:
    """A step in machine code for a GPU, with the memory of its own: see `Executable`."""

    in_place = False  # arguments are copied to the device first
    late = False
    uploads = worthwhile = True
    how: str = ""  # "epoch", "graph" or "launches": set it before the first call to choose

    def __init__(self, captured: Captured):
        refuse_mixture(captured)
        gpu, program = device(), captured.program
        self.captured = captured
        self.emitted, self.plan = written(captured, gpu.shape, gpu.blocks, self.how, bool(gpu.blas))
        notice(self.plan.items)
        self.how, self.hosted = self.emitted.how, self.emitted.hosted
        self.undone = self.hosted  # whether it may stop half-way
        self.gathers = any(stage.gathers for stage in self.emitted.stages)
        dump(program=program, stages=self.plan, source=self.emitted.text)
        self.kernels = gpu.load(self.emitted.text, self.emitted.signatures, jit_label(program))
        self.workspace = gpu.memory(self.plan.arena)
        used = dict.fromkeys(v.buffer for item in self.plan.items for v, _ in [*item.reads(), *item.writes()])
        inputs = {k: buffer for buffer in used if (k := buffer.number("argument")) is not None}
        self.arguments_at = {k: Array.empty(b.shape, b.dtype) for k, b in inputs.items()}
        self.head = Array.empty((7,), np.int64)  # what HEAD names
        self.room, self.rows = 0, 0
        self.prepared: dict[bool, Callable[[int], None]] = {}
        self.data: dict[int, Array] = {}
        self.bound: dict[Value, Array] = {}
        self.grow(1, 0)

    # Memory

    def memory(self) -> Memory:
        """What it works on outside of itself; constants are uploaded, and what a gradient begins with."""
        constants: dict[int, Array] = {}  # on the device, by the ids of those on the host

        def locate(array: AnyArray) -> AnyArray:
            if isinstance(array, np.ndarray) and id(array) not in constants:
                constants[id(array)] = Array.from_numpy(array)
            return constants.get(id(array), array)

        return Memory(self.captured, self.captured.program.bound, locate)

    def attach(self, memory: Memory) -> None:
        """The arrays outside are elsewhere now."""
        self.bound = {value: array for value, array in memory.arrays.items() if isinstance(array, Array)}
        self.prepared = {}

    def grow(self, steps: int, rows: int) -> None:
        """Room for the numbers and results of so many steps, and for the order of so many rows."""
        made = self.emitted
        if steps > self.room or rows > self.rows:
            self.room, self.rows = max(steps, self.room), max(rows, self.rows)
            self.numbers_at = Array.empty((self.room, made.width), made.number)
            self.order_at = Array.empty((max(self.rows, 1),), np.int64)
            self.outs = [Array.empty((self.room, *v.shape), v.dtype) for v in self.captured.program.outputs]
            self.prepared = {}

    def pointer(self, key: Target) -> Pointer:
        """Where a parameter of a kernel points to."""
        gpu = device()
        if isinstance(key, str):
            known = {"numbers": self.numbers_at, "order": self.order_at, "status": gpu.faults}
            array = known.get(key, self.head)
            kind = Vector if key == "gate" else Pointer
            return kind(array.memory, array.start + 8 * HEAD.get(key, 0), array.dtype)
        if isinstance(key, Place):
            array = self.data[key.number]
            return Pointer(array.memory, array.start, array.dtype)
        buffer, offset = key
        array = self.array(buffer)
        return Pointer(array.memory, array.start + offset * buffer.dtype.itemsize, buffer.dtype)

    def array(self, buffer: Buffer) -> Array:
        """The memory of a buffer."""
        if buffer.source is None:
            return Array(self.workspace, buffer.shape, buffer.dtype, buffer.place)
        if isinstance(buffer.source, Value):
            return self.bound[buffer.source]
        where = self.arguments_at if buffer.source.kind == "argument" else self.outs
        return where[buffer.source.number]

    def carry(self, data: Sequence[AnyArray]) -> Sequence[Array]:
        """Data for a scan, on the device."""
        return [a if isinstance(a, Array) else Array.from_numpy(tidy(on_host(a))) for a in data]

    # Running

    def run(
        self,
        arrays: Sequence[AnyArray],
        steps: int,
        order: np.ndarray | None,
        numbers: np.ndarray,
        rooms: Sequence[np.ndarray] = (),
    ) -> tuple[list[Array], int]:
        """So many steps: results, each (steps, *shape) on the device, which may still be at work."""
        gpu, made, scanning = device(), self.emitted, order is not None
        width = self.captured.program.arguments[0].shape[0] if self.gathers else 0
        self.grow(steps, steps * width if scanning else 0)
        state = generator.state_dict()
        head = 0, state["block"], state["seed"] & 0xFFFFFFFF, state["seed"] >> 32, 0, steps, scanning
        gpu.write(self.numbers_at.address, np.ascontiguousarray(numbers[:, : made.width], made.number))
        gpu.write(self.head.address, np.array(head, np.int64))
        if order is None:
            for k, array in enumerate(arrays):
                if k in self.arguments_at:
                    self.arguments_at[k][...] = array
        else:
            gpu.write(self.order_at.address, np.ascontiguousarray(order[: steps * width]))
            moved = {k: a for k, a in enumerate(self.carry(arrays)) if k in self.arguments_at}
            if {k: id(a) for k, a in self.data.items()} != {k: id(a) for k, a in moved.items()}:
                self.data = moved
                self.prepared.pop(True, None)
        if scanning not in self.prepared:
            self.prepared[scanning] = self.prepare(scanning)
        self.prepared[scanning](steps)
        return [out.first(steps).copy() for out in self.outs], steps

    def launch(self, stage: Stage | str) -> Callable[[], None]:
        """What puts a kernel, or a product of the library, into the queue."""
        if isinstance(stage, Stage) and isinstance(item := stage.items[0], Library):
            return device().product(Product(problem(item), tuple(map(self.pointer, operands(item)))))
        made, gpu = self.emitted, device()
        name, blocks = (stage, 1) if isinstance(stage, str) else (stage.name, stage.blocks)
        parameters = tuple(map(self.pointer, made.parameters[name]))
        return gpu.prepare(Launch(self.kernels[name], blocks, parameters))

    def prepare(self, scanning: bool) -> Callable[[int], None]:
        """What runs a number of steps."""
        gpu, made = device(), self.emitted
        if self.how == "epoch":
            return self.epoch(made, scanning)
        stages = [stage for stage in made.stages if scanning or not stage.gathers]
        work: list[Callable[[], None]] = [
            self.on_host(stage) if stage.hosted else self.launch(stage) for stage in stages
        ]
        if "advance" in made.signatures:
            work.append(self.launch("advance"))

        def several(count: int) -> None:
            for launch in work * count:
                launch()

        if self.how == "launches":
            return several
        graphs: dict[int, Callable[[], None]] = {}

        def run(steps: int) -> None:
            for count in [AHEAD] * (steps // AHEAD) + [1] * (steps % AHEAD):
                if count not in graphs:
                    graphs[count] = gpu.capture(partial(several, count))
                graphs[count]()

        return run

    def epoch(self, made: Emitted, scanning: bool) -> Callable[[int], None]:
        """What runs a number of steps as one launch."""
        head = Pointer(self.head.memory, self.head.start, self.head.dtype)
        parameters = [  # where nothing is gathered, there may be no data to point to
            head if isinstance(key, Place) and not scanning else self.pointer(key)
            for key in made.parameters["epoch"]
        ]
        run = device().prepare(Launch(self.kernels["epoch"], made.together, tuple(parameters), True))
        return lambda steps: run()

    def on_host(self, stage: Stage) -> Callable[[], None]:
        """NumPy's or the user's own code between kernels: what it needs goes to the host and comes back."""

        def seen(view: View) -> Array:
            start = view.offset * view.dtype.itemsize
            array = self.array(view.buffer)
            return Array(array.memory, view.shape, view.dtype, array.start + start, view.strides)

        def run() -> None:
            for part in stage.items:
                assert isinstance(part, Host)
                inputs = [seen(x).numpy() if isinstance(x, View) else x for x in part.inputs]
                block = generator._block
                if part.draw is not None:
                    done = int(self.head.numpy()[0])
                    generator._block = block + self.captured.blocks * done + part.draw
                result = part.call(*inputs)
                generator._block = block
                for out in part.outs:
                    seen(out)[...] = result

        return run


def refuse_mixture(captured: Captured) -> None:
    """DeviceError where a step uses tensors of two devices."""
    for value, binding in captured.program.bound.items():
        owner = binding.owner
        if isinstance(owner, Tensor) and not isinstance(owner._data, Array):
            raise DeviceError(
                f"{captured.program.name}: {value.name} of shape {value.shape} is on the CPU, other tensors "
                'on cuda. Move them together, for example with model.to("cuda").'
            )
