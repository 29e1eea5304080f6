"""A GPU, through NVIDIA's driver: memory, one stream, kernels launched from prepared parameters, graphs.

The stream waits for the legacy default stream and it for ours, so other libraries that share the GPU's
primary context (PyTorch, CuPy, Numba) see finished work. With MICROGRADX_CUDA_SYNC=1 every launch is waited
for, so that a fault names its kernel.
"""

import ctypes
import os
from collections import deque
from types import ModuleType
from typing import Any

import numpy as np

from microgradx.cuda import build, cublas
from microgradx.cuda.devices import Device, Kernel, Launch, Pointer, Vector, Work
from microgradx.errors import DeviceError
from microgradx.kernels.addresses import memory_at

STAGE = 1 << 23  # bytes of a pinned buffer: a copy through it goes on while kernels run
RELAXED = 2  # a mode of capturing

ADVICE = {
    "CUDA_ERROR_NO_DEVICE": "There is no NVIDIA GPU here, or CUDA_VISIBLE_DEVICES hides it. Use device='cpu'",
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "The driver's library and its kernel module differ: reboot",
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": "The toolkit is newer than the driver: update the driver",
    "CUDA_ERROR_NO_BINARY_FOR_GPU": "The kernel was made for another GPU: run `microgradx cache --clear`",
    "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE": "Other programs use the GPU: try again, or with less work",
}
FAULTS = {
    "CUDA_ERROR_ILLEGAL_ADDRESS", "CUDA_ERROR_LAUNCH_FAILED", "CUDA_ERROR_LAUNCH_TIMEOUT",
    "CUDA_ERROR_MISALIGNED_ADDRESS", "CUDA_ERROR_ILLEGAL_INSTRUCTION", "CUDA_ERROR_ASSERT",
}  # fmt: skip
FAULT = (
    "a kernel failed on the GPU, and nothing can run there any more in this process. Set "
    "MICROGRADX_CUDA_SYNC=1 to learn which one it is, then NUMBA_ENABLE_CUDASIM=1 to run the same step in "
    "Numba's simulator, where a wrong index is a Python error with its line"
)


class Nvidia(Device):
    """The first GPU, or the one that CUDA_VISIBLE_DEVICES names. `api`: the driver's functions."""

    def __init__(self, api: ModuleType | None = None):  # of cuda-bindings, or what stands in for it
        self.api = driver() if api is None else api
        self.last: deque[str] = deque(maxlen=3)  # names of the kernels launched last
        self.waiting = bool(os.environ.get("MICROGRADX_CUDA_SYNC", "").strip("0"))
        self.call("cuInit", 0)
        if not self.call("cuDeviceGetCount"):
            raise DeviceError(f"CUDA: no GPU found. {ADVICE['CUDA_ERROR_NO_DEVICE']}.")
        self.handle = self.call("cuDeviceGet", 0)
        self.context = self.call("cuDevicePrimaryCtxRetain", self.handle)
        self.enter()
        name = self.call("cuDeviceGetName", 128, self.handle)
        attribute = self.api.CUdevice_attribute
        ask = lambda what: self.call(
            "cuDeviceGetAttribute", getattr(attribute, f"CU_DEVICE_ATTRIBUTE_{what}"), self.handle
        )
        self.capability = ask("COMPUTE_CAPABILITY_MAJOR"), ask("COMPUTE_CAPABILITY_MINOR")
        self.blocks = ask("MULTIPROCESSOR_COUNT")
        known = (name if isinstance(name, bytes) else str(name).encode()).split(b"\0")[0].decode()
        self.name = f"{known}, compute capability {'.'.join(map(str, self.capability))}"
        self.stream = self.call("cuStreamCreate", 0)
        self.queue = int(self.stream)
        self.copies = self.call("cuStreamCreate", 1)  # not waiting for the others
        self.stages = [self.pinned(STAGE) for _ in range(2)]
        self.events = [self.call("cuEventCreate", 2) for _ in range(3)]  # without times
        super().__init__()
        if api is None and (library := cublas.find()):
            self.workspace = self.memory(cublas.WORKSPACE)
            self.blas = cublas.Blas(library, self.queue, self.workspace.address)

    def call(self, function: str, *args: object) -> Any:  # handles of the driver's, of a class each
        """A function of the driver: its result, or what its error means."""
        code, *results = getattr(self.api, function)(*args)
        if int(code):
            raise DeviceError(self.explain(function, code))
        return results[0] if results else None

    def explain(self, function: str, code: object) -> str:
        """The message for an error of the driver."""
        name = getattr(code, "name", str(code))
        if name in FAULTS:
            kernels = f" (launched last: {', '.join(self.last)})" if self.last else ""
            return f"CUDA: {name} in {function}: {FAULT}{kernels}."
        advice = ADVICE.get(name, "Run `microgradx doctor`, which explains what CUDA needs")
        return f"CUDA: {name} in {function}. {advice}."

    def enter(self) -> None:
        """Make the GPU's context the one of this Python thread."""
        self.call("cuCtxSetCurrent", self.context)

    # Memory

    def allocate(self, size: int) -> int | None:
        """An address; None where memory does not suffice."""
        self.enter()
        code, *found = self.api.cuMemAlloc(size)
        if getattr(code, "name", "") == "CUDA_ERROR_OUT_OF_MEMORY":
            return None
        if int(code):
            raise DeviceError(self.explain("cuMemAlloc", code))
        return int(found[0])

    def drop(self, address: int) -> None:
        """Give memory back to the driver."""
        self.call("cuMemFree", address)

    def room(self) -> tuple[int, int]:
        """Bytes free and bytes in all."""
        code, free, total = self.api.cuMemGetInfo()
        return (int(free), int(total)) if not int(code) else (0, 0)

    def pinned(self, size: int) -> np.ndarray:
        """Memory of the host that the GPU copies from by itself."""
        return memory_at(int(self.call("cuMemHostAlloc", size, 0)), size)

    def release(self, stream: int | None) -> None:
        """Let another stream wait for ours; the default stream (None, 0, 1) does by itself."""
        if stream not in (None, 0, 1, -1):
            self.enter()
            self.call("cuEventRecord", self.events[2], self.stream)
            self.call("cuStreamWaitEvent", stream, self.events[2], 0)

    def wait(self, stream: int | None) -> None:
        """Let our stream wait for another; it waits for the default stream by itself."""
        if stream not in (None, 0, 1, self.queue):
            self.enter()
            self.call("cuEventRecord", self.events[2], stream)
            self.call("cuStreamWaitEvent", self.stream, self.events[2], 0)

    def write(self, address: int, host: np.ndarray) -> None:
        """Copy from the host: small arrays at once, large ones through two pinned buffers.

        The copies have a stream of their own; ours waits for the last of them. So kernels that were queued
        before run meanwhile.
        """
        data = host.reshape(-1).view(np.uint8)
        if not data.size:
            return
        self.enter()
        if data.size <= 1 << 16:
            self.call("cuMemcpyHtoDAsync", address, data.ctypes.data, data.size, self.stream)
            return  # of pageable memory the driver has taken a copy when it returns
        self.call("cuEventRecord", self.events[2], self.stream)
        self.call("cuStreamWaitEvent", self.copies, self.events[2], 0)  # the memory may have had another use
        for k, start in enumerate(range(0, data.size, STAGE)):
            stage, event = self.stages[k % 2], self.events[k % 2]
            part = data[start : start + STAGE]
            self.call("cuEventSynchronize", event)
            stage[: part.size] = part
            self.call("cuMemcpyHtoDAsync", address + start, stage.ctypes.data, part.size, self.copies)
            self.call("cuEventRecord", event, self.copies)
            self.call("cuStreamWaitEvent", self.stream, event, 0)

    def read(self, host: np.ndarray, address: int) -> None:
        """Fill an array of the host, after all work in the queue."""
        if host.size:
            self.enter()
            self.call("cuMemcpyDtoHAsync", host.ctypes.data, address, host.nbytes, self.stream)
            self.synchronize()

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy bytes from one address to another."""
        if size:
            self.enter()
            self.call("cuMemcpyDtoDAsync", target, source, size, self.stream)

    # Kernels

    def load(self, source: str, signatures: dict[str, str], label: str) -> dict[str, Kernel]:
        """Compile, or read from the cache folder, and hand to the driver."""
        made = build.build(source, signatures, self.capability, label)
        self.enter()
        kernels = {}
        for kernel, built in made.items():
            module = self.call("cuModuleLoadData", built.code)
            kernels[kernel] = self.call("cuModuleGetFunction", module, built.entry.encode()), kernel
        return kernels

    def prepare(self, launch: Launch) -> Work:
        """Pack the parameters once; a launch is then a single call of the driver."""
        function, name = launch.kernel
        values = [value for x in launch.parameters for value in self.packed(x)]
        addresses = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
        kept = values, addresses, launch  # for as long as the launch may be repeated
        blocks, threads, packed = launch.blocks, self.shape.block, ctypes.addressof(addresses)
        how = "cuLaunchCooperativeKernel" if launch.together else "cuLaunchKernel"
        extra = () if launch.together else (0,)
        begin, stream, last = getattr(self.api, how), self.stream, self.last

        def run(kept: object = kept) -> None:
            last.append(name)
            (code,) = begin(function, blocks, 1, 1, threads, 1, 1, 0, stream, packed, *extra)
            if int(code):
                raise DeviceError(self.explain(f"the launch of {name}", code))
            if self.waiting:
                self.synchronize()

        return run

    def packed(self, x: Pointer | np.generic) -> list[Any]:  # numbers of ctypes, which share no class
        """A parameter as the driver reads it; of an array, as its kernel takes it apart."""
        if not isinstance(x, Pointer):
            kind: Any = x.dtype  # NumPy knows one type of ctypes for each
            return [np.ctypeslib.as_ctypes_type(kind)(x.item())]
        split = build.words(x.address, x.dtype.itemsize) if isinstance(x, Vector) else [x.address]
        return [ctypes.c_uint64(word) for word in split]

    def capture(self, work: Work) -> Work:
        """Record what `work` launches as a graph; it must neither allocate nor copy to or from the host."""
        self.enter()
        before, self.waiting = self.waiting, False
        self.call("cuStreamBeginCapture", self.stream, self.api.CUstreamCaptureMode(RELAXED))
        try:
            work()
        except BaseException:
            self.api.cuStreamEndCapture(self.stream)  # it must not stay open
            raise
        finally:
            self.waiting = before
        graph = self.call("cuStreamEndCapture", self.stream)
        replay = self.call("cuGraphInstantiate", graph, 0)
        self.call("cuGraphDestroy", graph)

        def run(kept: object = work) -> None:  # and with it the memory that the graph works in
            self.call("cuGraphLaunch", replay, self.stream)

        return run

    def synchronize(self) -> None:
        """Wait for all work in the queue."""
        self.enter()
        self.call("cuStreamSynchronize", self.stream)


def driver() -> ModuleType:
    """The functions of NVIDIA's driver; DeviceError where there is none."""
    try:
        from cuda.bindings import driver as api
    except Exception as error:  # of any kind, where a library does not fit
        raise DeviceError(f"CUDA: cuda.bindings cannot be imported ({error}). {build.missing}.") from None
    try:
        api.cuInit(0)
    except Exception:  # it loads the driver's library at the first call
        raise DeviceError(
            "CUDA: no NVIDIA driver (libcuda) can be loaded here. Use device='cpu', or set "
            "NUMBA_ENABLE_CUDASIM=1 before Python starts to run kernels, slowly, in Numba's simulator."
        ) from None
    return api
