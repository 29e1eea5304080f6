"""Update rules over whole arrays of a device: one launch, whatever their number of parameters."""

from collections.abc import Callable
from functools import cached_property

import numpy as np

from microgradx.cuda.array import Array
from microgradx.cuda.current import device
from microgradx.cuda.devices import Launch
from microgradx.kernels import cpu, sweeps
from microgradx.kernels.cpu import Numbers
from microgradx.kernels.loop_source import RuleLoop

bounds, loop = "count", "range(cuda.grid(1), count, cuda.gridsize(1))"
most = 2048  # blocks; with more elements than threads, these stride through


class Sweep(cpu.Sweep):
    """An update rule over arrays of a device, in place, as one launch; called like the CPU's.

    NumPy's arrays are copied there and back.
    """

    def written(self, lifted: RuleLoop) -> str:
        """The text of the kernel."""
        return lifted.source(bounds, loop)

    @cached_property
    def run(self) -> Callable[..., None]:
        """The kernel, since it is first needed."""
        return self.load("int64", device().load)

    def bind(self, *arrays: np.ndarray | Array) -> Callable[..., Numbers]:
        """The update of these arrays, checked once."""
        gpu, size, cast = device(), self.check(arrays), self.dtype.type
        placed = [a if isinstance(a, Array) else Array.from_numpy(a) for a in arrays]
        blocks = max(1, min(-(-size // gpu.shape.block), most))

        def update(t: int, carried: Numbers = (), **hyperparameters: float) -> Numbers:
            [numbers], carried = self.numbers(t, carried, hyperparameters)
            gpu.prepare(Launch(self.run, blocks, (np.int64(size), *placed, *map(cast, numbers))))()
            for array, copy in zip(arrays, placed, strict=True):
                if array is not copy:
                    array[...] = copy.numpy()
            return carried

        return update


sweeps["cuda"] = Sweep
