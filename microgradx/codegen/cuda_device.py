"""Lets Tensors be on "cuda": enters the GPU among the devices that the eager framework knows."""

from collections.abc import Callable
from importlib import import_module

import numpy as np

from microgradx import cuda, primitives
from microgradx.cuda import Array
from microgradx.eager.devices import Device, enter
from microgradx.kernels.addresses import Lender


class Cuda(Device):
    """The GPU, or Numba's simulator of one, which is begun when something is first put there."""

    name, array, interface = "cuda", Array, "__cuda_array_interface__"

    def place(self, array: np.ndarray) -> Array:
        """A copy there."""
        return Array.from_numpy(array)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        """A new array of any values, from the pool."""
        return Array.empty(shape, dtype)

    def draw(self, method: str, options: dict[str, object]) -> Array:
        """Fresh random numbers: the generator's own bits."""
        return Array.draw(method, options)

    def from_interface(self, x: object) -> Array:
        """The array of an object with a CUDA array interface."""
        return Array.from_interface(x)

    def from_dlpack(self, x: Lender) -> Array:
        """The array of an object that lends it by DLPack, after what its stream has to do before."""
        return Array.from_dlpack(x)

    def in_use(self) -> bool:
        """Whether it has been begun."""
        return bool(cuda.device.cache_info().currsize)


def first(name: str) -> Callable[..., Array]:
    """A function of `cuda_operations`, which takes its place: most programs have no use for that module."""

    def call(*args: object, **params: object) -> Array:
        made: Array = getattr(import_module("microgradx.codegen.cuda_operations"), name)(*args, **params)
        return made

    return call


primitives.executors[Array] = first("run")
Array.gather, Array.draw = first("gather"), first("draw")
enter(Cuda())
