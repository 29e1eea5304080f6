"""What holds for a thread's Tensors at the moment; and the line of the user's code that runs."""

import contextlib
import contextvars
import linecache
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from microgradx.eager.listener import Listener

Within = tuple[object, "Within | None"]
"""A call of a module that runs, and the call around it."""

PACKAGE = str(Path(__file__).parents[1]) + os.sep


class Mode(threading.local):
    """What holds for a thread's Tensors at the moment; changed by `no_grad` and `detect_anomaly`."""

    record = True
    detect = False
    recorder: Listener[Any] | None = None  # who is told of everything; of Tensors, defined above
    number: np.dtype = np.dtype(np.float32)  # what Python's numbers become
    within: Within | None = None  # the call of a module that runs, and the call around it

    def __init__(self) -> None:
        self.calm = contextvars.copy_context()  # where NumPy is silent: infinities and NaNs are results
        self.calm.run(np.seterr, all="ignore")

    @contextlib.contextmanager
    def having(self, **changes: object) -> Iterator[None]:
        """Change attributes for the length of a `with` block (or of a decorated function)."""
        before = {name: getattr(self, name) for name in changes}
        self.__dict__.update(changes)
        try:
            yield
        finally:
            self.__dict__.update(before)


mode = Mode()


def no_grad() -> contextlib._GeneratorContextManager[None]:
    """Within `with mg.no_grad():` (or a function decorated with it) nothing is recorded.

    >>> x = mg.ones(2, requires_grad=True)
    >>> with mg.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """
    return mode.having(record=False)


def detect_anomaly() -> contextlib._GeneratorContextManager[None]:
    """Find where a NaN or infinity is born: NonFiniteError names the operation and your line. Slow.

    Covers forward and backward; also notices changes of arrays that bypass the Tensor (through NumPy).
    A frequent one, as in PyTorch and JAX: what a `where` leaves out has the gradient 0 · slope, NaN where the
    slope is infinite. So inside where(x > 0, sqrt(x), 0) write sqrt(where(x > 0, x, 1)).

    >>> with mg.detect_anomaly():
    ...     mg.log(mg.zeros(2))
    Traceback (most recent call last):
    microgradx.errors.NonFiniteError: log produced -inf from finite inputs: 2 of 2 elements, ...
    """
    return mode.having(detect=True)


def user_line() -> str:
    """Where in the user's own code an operation was called: "file:line" and the text of the line."""
    frame = sys._getframe()
    while frame.f_back and frame.f_code.co_filename.startswith((PACKAGE, "<frozen", contextlib.__file__)):
        frame = frame.f_back
    file, line = frame.f_code.co_filename, frame.f_lineno
    return f"\n    {file}:{line}    {linecache.getline(file, line).strip()}"
