"""What holds for a thread's Tensors at the moment; and the line of the user's code that runs."""

import contextlib
import contextvars
import linecache
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

PACKAGE = str(Path(__file__).parents[1]) + os.sep


class Mode(threading.local):
    """What holds for a thread's Tensors at the moment; changed by `no_grad` and `detect_anomaly`."""

    record = True
    detect = False
    recorder: Any = None  # learns every operation, while a compiler listens
    number = np.dtype(np.float32)  # what Python's numbers become
    within: Any = None  # the innermost call of a module that runs: (module, the call around it)

    def __init__(self) -> None:
        self.calm = contextvars.copy_context()  # where NumPy is silent: infinities and NaNs are results
        self.calm.run(np.seterr, all="ignore")

    @contextlib.contextmanager
    def having(self, **changes: Any):
        """Change attributes for the length of a `with` block (or of a decorated function)."""
        before = {name: getattr(self, name) for name in changes}
        self.__dict__.update(changes)
        try:
            yield
        finally:
            self.__dict__.update(before)


mode = Mode()


def no_grad():
    """Within `with mg.no_grad():` (or a function decorated with it) nothing is recorded."""
    return mode.having(record=False)


def detect_anomaly():
    """Find where a NaN or infinity is born: NonFiniteError names the operation and your line. Slow.

    Covers forward and backward; also notices changes of arrays that bypass the Tensor (through NumPy).
    """
    return mode.having(detect=True)


def user_line() -> str:
    """Where in the user's own code an operation was called: "file:line" and the text of the line."""
    frame = sys._getframe()
    while frame.f_back and frame.f_code.co_filename.startswith((PACKAGE, "<frozen", contextlib.__file__)):
        frame = frame.f_back
    file, line = frame.f_code.co_filename, frame.f_lineno
    return f"\n    {file}:{line}    {linecache.getline(file, line).strip()}"
