"""The device of this process: the GPU, or Numba's simulator where NUMBA_ENABLE_CUDASIM=1 asks for it."""

import os
import sys
from functools import cache

from microgradx.cuda import nvidia, simulator
from microgradx.cuda.devices import Device
from microgradx.errors import DeviceError


def simulated() -> bool:
    """Whether kernels run in Numba's simulator."""
    if "numba" not in sys.modules:
        return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")
    from numba.core import config

    return bool(config.ENABLE_CUDASIM)  # type: ignore[attr-defined]  # made when Numba is imported


@cache
def device() -> Device:
    """The device; DeviceError where there is none, with what to do about it."""
    return simulator.Simulator() if simulated() else nvidia.Nvidia()


def available() -> bool:
    """Whether there is a device."""
    try:
        return bool(device())
    except DeviceError:
        return False


def describe() -> tuple[str, str]:
    """Where CUDA kernels run, and advice if they cannot."""
    try:
        return device().name, ""
    except DeviceError as error:
        text, _, advice = str(error).removeprefix("CUDA: ").partition(". ")
        return text, advice
