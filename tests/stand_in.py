"""A driver that writes down what it is asked for, over the host's memory: no kernel runs on it."""

import ctypes
from types import SimpleNamespace

import numpy as np

from microgradx.cuda import device, nvidia

REFUSED = ["no memory"]


class Code(int):
    """A result code with the name that the driver gives it."""

    names = {0: "CUDA_SUCCESS", 2: "CUDA_ERROR_OUT_OF_MEMORY", 700: "CUDA_ERROR_ILLEGAL_ADDRESS",
             222: "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", 100: "CUDA_ERROR_NO_DEVICE",
             720: "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE"}  # fmt: skip
    name = property(lambda self: self.names[int(self)])


class Driver:
    """What `cuda.bindings.driver` has, over the host's memory; `calls` is everything that was asked for."""

    CUdevice_attribute = SimpleNamespace(
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR=9, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR=0,
        CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT=132,
    )  # fmt: skip
    CUstreamCaptureMode = staticmethod(int)

    def __init__(self, room=1 << 28, devices=1):
        self.calls: list[tuple] = []
        self.fail: dict[str, int] = {}  # codes of functions that go wrong
        self.held: dict[int, np.ndarray] = {}
        self.total, self.devices = room, devices
        self.capturing, self.graphs = False, []

    def __getattr__(self, name):
        if not name.startswith("cu"):
            raise AttributeError(name)

        def call(*args):
            self.calls.append((name, *args))
            if name in self.fail:
                return (Code(self.fail[name]),)
            results = self.results(name, args)
            return (Code(2),) if results == REFUSED else (Code(0), *results)

        return call

    def results(self, name, args):
        match name:
            case "cuDeviceGetCount":
                return [self.devices]
            case "cuDeviceGetAttribute":
                return [args[0]]
            case "cuDeviceGetName":
                return [b"A GPU\0\0"]
            case "cuMemAlloc" | "cuMemHostAlloc":
                if sum(a.size for a in self.held.values()) + args[0] > self.total:
                    return REFUSED
                memory = np.zeros(args[0], np.uint8)
                self.held[memory.ctypes.data] = memory
                return [memory.ctypes.data]
            case "cuMemFree":
                del self.held[args[0]]
            case "cuMemGetInfo":
                return [self.total - sum(a.size for a in self.held.values()), self.total]
            case "cuMemcpyHtoDAsync" | "cuMemcpyDtoHAsync" | "cuMemcpyDtoDAsync":
                ctypes.memmove(args[0], args[1], args[2])
            case "cuStreamBeginCapture":
                self.capturing = True
            case "cuStreamEndCapture":
                self.capturing = False
                return [f"graph {len(self.graphs)}"]
            case "cuGraphInstantiate":
                self.graphs.append(args[0])
                return [f"replay of {args[0]}"]
            case "cuModuleLoadData":
                return [("module", len(args[0]))]
            case "cuModuleGetFunction":
                return [args[1].decode()]
            case "cuDeviceGet" | "cuDevicePrimaryCtxRetain" | "cuStreamCreate" | "cuEventCreate":
                return [1000 + len(self.calls)]
        return []

    def names(self, since=0):
        """What was asked for, without the questions about contexts."""
        return [call[0] for call in self.calls[since:] if call[0] != "cuCtxSetCurrent"]


def put_in(monkeypatch, api=None):
    """The device over such a driver, which tensors are put on until `monkeypatch` is undone."""
    made = nvidia.Nvidia(api or Driver())
    device.cache_clear()
    monkeypatch.setattr(nvidia, "Nvidia", lambda: made)
    assert device() is made
    return made
