"""A step on a GPU: its kernels, the memory that they work in, and a graph that launches them all at once.

Everything that changes from step to step (learning rates, step counts, random counters, which rows) is read
from memory of the device, so that replaying the graph is a training step. A step of little work runs as one
kernel that makes any number of steps on its own, `epoch`: its blocks meet between stages.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import numpy as np

from microgradx.codegen.ir.loops import Buffer, View
from microgradx.codegen.ir.ops import Gather, Host
from microgradx.codegen.passes.launches import Library, Stage, operands, problem, stages
from microgradx.codegen.passes.lower import lower
from microgradx.codegen.passes.schedule import Schedule
from microgradx.codegen.passes.validate import validate_items
from microgradx.codegen.printers.cuda_file import Emitted, Writer
from microgradx.compiler.report.shown import show
from microgradx.compiler.run.compiled_step import Variant
from microgradx.compiler.run.hosted import notice
from microgradx.cuda import Array, device
from microgradx.cuda.devices import Launch, Pointer, Product, Shape, Vector
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
    variant: Variant, shape: Shape, most: int, how: str = "", library: bool = False
) -> tuple[Emitted, Schedule]:
    """The CUDA file of a captured step, wherever it was captured; no GPU is needed for it.

    Without a choice of `how`, a step of little work is one kernel, of `most` blocks at most.
    """
    program, items = variant.program, validate_items(lower(variant.program), "lowering")
    rows = {v.shape[:1] for v in program.arguments}
    read = {v.buffer.source: v.buffer for item in items for v, _ in item.reads() if v.buffer.source}
    inputs = [(b, source[1]) for source, b in read.items() if source[0] == "argument" and b.size]
    if len(rows) == 1 and rows != {()} and inputs:
        items = [Gather(None, [(b.view(), k) for b, k in inputs]), *items]
    hosted = any(isinstance(item, Host) for item in items)
    little = sum(item.flop for item in items) < SMALL
    how = "launches" if hosted else how or ("epoch" if little else "graph")
    one = how == "epoch"
    order, plan = stages(items, shape, cutting=not one, library=library and not one)
    return Writer(order, plan, variant.blocks, shape, variant.title).emit(how, most), plan


class CudaVariant(Variant):
    """A step compiled for a GPU, for some shapes, dtypes and values."""

    worthwhile = True
    constants: dict[int, Array]  # on the device, by the ids of those on the host
    how: str = ""  # "epoch", "graph" or "launches": set it before the first call to choose

    def make(self) -> None:
        """The kernels, made now."""
        self.refuse_mixture()
        gpu = device()
        made, self.plan = written(self, gpu.shape, gpu.blocks, self.how, bool(gpu.blas))
        notice(self.plan.items)
        self.compiled = made  # type: ignore[assignment]
        self.how, self.gathers = made.how, any(stage.gathers for stage in made.stages)
        show(program=self.program, stages=self.plan, source=made.text)
        label = "".join(c if c.isalnum() else "_" for c in self.program.name)
        self.kernels = gpu.load(made.text, made.signatures, label)
        self.workspace = gpu.memory(self.plan.arena)
        used = dict.fromkeys(v.buffer for item in self.plan.items for v, _ in [*item.reads(), *item.writes()])
        inputs = {b.source[1]: b for b in used if b.source and b.source[0] == "argument"}
        self.arguments_at = {k: Array.empty(b.shape, b.dtype) for k, b in inputs.items()}
        self.head = Array.empty((7,), np.int64)  # what HEAD names
        self.room, self.rows = 0, 0
        self.data: dict[int, Array] = {}
        self.constants = {}
        self.grow(1, 0)
        self.apart = False

    def adopt(self, other: Variant) -> None:
        """The same; what is constant may be other numbers in the same array now."""
        super().adopt(other)
        self.constants = {}
        self.apart = False

    def refuse_mixture(self) -> None:
        """DeviceError where the step uses tensors of two devices."""
        for value, binding in self.program.bound.items():
            owner = binding.owner
            if isinstance(owner, Tensor) and not isinstance(owner._data, Array):
                raise DeviceError(
                    f"{self.program.name}: {value.name} of shape {value.shape} is on the CPU, other tensors "
                    'on cuda. Move them together, for example with model.to("cuda").'
                )

    # Memory

    def grow(self, steps: int, rows: int) -> None:
        """Room for the numbers and results of so many steps, and for the order of so many rows."""
        if steps > self.room or rows > self.rows:
            self.room, self.rows = max(steps, self.room), max(rows, self.rows)
            assert self.compiled is not None
            self.numbers_at = Array.empty((self.room, self.compiled.width), self.compiled.number)  # type: ignore
            self.order_at = Array.empty((max(self.rows, 1),), np.int64)
            self.outs = [Array.empty((self.room, *v.shape), v.dtype) for v in self.program.outputs]
            self.prepared: dict[bool, Callable[[int], None]] = {}

    def bind(self) -> None:
        """Find the memory that the program works in."""
        self.begin()
        self.memory_of: dict[Any, Array] = {}
        for value, binding in self.program.bound.items():
            if binding.kind != "number":
                self.memory_of[value] = self.found(binding, value)
        self.end()
        self.written = [self.program.bound[home].owner for home in self.program.writes
                        if self.program.bound[home].kind == "data"]  # fmt: skip
        self.prepared = {}

    def located(self, array: Any) -> Any:
        """What is constant is on the host, and so is what a gradient begins with."""
        if type(array) is np.ndarray and id(array) not in self.constants:
            self.constants[id(array)] = Array.from_numpy(array)
        return self.constants.get(id(array), array)

    def pointer(self, key: Any) -> Pointer:
        """Where a parameter of a kernel points to."""
        gpu = device()
        if isinstance(key, str):
            known = {"numbers": self.numbers_at, "order": self.order_at, "status": gpu.faults}
            array: Pointer = known.get(key, self.head)
            kind = Vector if key == "gate" else Pointer
            return kind(array.memory, array.start + 8 * HEAD.get(key, 0), array.dtype)
        if key[0] == "data":
            return self.data[key[1]]
        buffer, offset = key
        array = self.array(buffer)
        return Pointer(array.memory, array.start + offset * buffer.dtype.itemsize, buffer.dtype)

    def array(self, buffer: Buffer) -> Array:
        """The memory of a buffer."""
        if buffer.source is None:
            return Array(self.workspace, buffer.shape, buffer.dtype, buffer.place)
        kind, which = buffer.source
        kinds: dict[str, Any] = {"argument": self.arguments_at, "bound": self.memory_of, "output": self.outs}
        return kinds[kind][which]

    def home(self, data: list[Any]) -> list[Any]:
        """Data for a scan, on the device."""
        return [Array.from_numpy(a) if isinstance(a, np.ndarray) else a for a in data]

    # Running

    def steps(self, arrays: list[Any], steps: int, order: np.ndarray | None) -> tuple[list, int]:
        """So many steps: the results, each (steps, *shape) on the device, which may still be at work."""
        gpu, made = device(), cast(Emitted, self.compile())
        self.ready()
        self.pull()
        width = self.program.arguments[0].shape[0] if self.gathers else 0
        self.grow(steps, steps * width if order is not None else 0)
        state = generator.state_dict()
        scanning = order is not None
        head = 0, state["block"], state["seed"] & 0xFFFFFFFF, state["seed"] >> 32, 0, steps, scanning
        shots = self.snapshot() if made.hosted else None
        numbers = self.numbers(steps)
        gpu.write(self.numbers_at.address, numbers.astype(made.number))
        gpu.write(self.head.address, np.array(head, np.int64))
        if order is None:
            for k, array in enumerate(arrays):
                if k in self.arguments_at:
                    self.arguments_at[k][...] = array
        else:
            gpu.write(self.order_at.address, np.ascontiguousarray(order[: steps * width]))
            moved = {k: a for k, a in enumerate(self.home(arrays)) if k in self.arguments_at}
            if {k: id(a) for k, a in self.data.items()} != {k: id(a) for k, a in moved.items()}:
                self.data = moved
                self.prepared.pop(True, None)
        if scanning not in self.prepared:
            self.prepared[scanning] = self.prepare(scanning)
        try:
            self.prepared[scanning](steps)
        except BaseException:
            if shots is not None:
                with suppress(Exception):
                    self.undo(shots)
            raise
        if self.blocks:
            generator._block = state["block"] + self.blocks * steps
        self.leave()
        return [out.first(steps).copy() for out in self.outs], steps

    def launch(self, stage: Stage | str) -> Callable[[], None]:
        """What puts a kernel, or a product of the library, into the queue."""
        if isinstance(stage, Stage) and isinstance(item := stage.items[0], Library):
            return device().product(Product(problem(item), tuple(map(self.pointer, operands(item)))))
        made, gpu = self.compiled, device()
        assert isinstance(made, Emitted)
        name, blocks = (stage, 1) if isinstance(stage, str) else (stage.name, stage.blocks)
        parameters = tuple(map(self.pointer, made.parameters[name]))
        return gpu.prepare(Launch(self.kernels[name], blocks, parameters))

    def prepare(self, scanning: bool) -> Callable[[int], None]:
        """What runs a number of steps."""
        gpu, made = device(), self.compiled
        assert isinstance(made, Emitted)
        if self.how == "epoch":
            return self.epoch(made, scanning)
        stages = [stage for stage in made.stages if scanning or not stage.gathers]
        work: list[Callable[[], None]] = [
            self.on_host(stage) if stage.hosted else self.launch(stage) for stage in stages
        ]
        if "advance" in made.signatures:
            work.append(self.launch("advance"))

        def once() -> None:
            for launch in work:
                launch()

        if self.how == "launches":
            return lambda steps: [once() for _ in range(steps)] and None
        graphs: dict[int, Callable[[], None]] = {}

        def several(count: int) -> Callable[[], None]:
            if count not in graphs:
                graphs[count] = gpu.capture(lambda: [once() for _ in range(count)] and None)
            return graphs[count]

        def run(steps: int) -> None:
            for count in [AHEAD] * (steps // AHEAD) + [1] * (steps % AHEAD):
                several(count)()

        return run

    def epoch(self, made: Emitted, scanning: bool) -> Callable[[int], None]:
        """What runs a number of steps as one launch."""
        parameters = [  # where nothing is gathered, there may be no data to point to
            self.head if key[0] == "data" and not scanning else self.pointer(key)
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
                    generator._block = block + self.blocks * done + part.draw
                result = part.call(*inputs)
                generator._block = block
                for out in part.outs:
                    seen(out)[...] = result

        return run
