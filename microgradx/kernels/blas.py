"""Matrix products for compiled code: where SciPy's gemm lies, and one thread while pieces call it."""

import ctypes
import importlib.util
import os
import sys
from collections.abc import Callable
from contextlib import ContextDecorator
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # it is imported with the first product
    from threadpoolctl import LibController

symbols = {"microgradx_sgemm": "sgemm", "microgradx_dgemm": "dgemm"}
"""What compiled code calls, and what it is named in SciPy."""


@cache
def extension() -> ModuleType:
    """SciPy's `linalg.cython_blas`, its file alone: in 15 ms, where the import of scipy.linalg takes 250."""
    name = "scipy.linalg.cython_blas"
    if name in sys.modules:
        return sys.modules[name]
    try:
        scipy = Path(importlib.util.find_spec("scipy").origin).parent  # type: ignore[union-attr,arg-type]
        spec: Any = PathFinder.find_spec(name, [str(scipy / "linalg")])  # None fails below
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except (AttributeError, ImportError):  # such as Windows, where `import scipy` first names the libraries
        return importlib.import_module(name)


@cache
def register() -> None:
    """Tell LLVM's linker the addresses."""
    import llvmlite.binding as llvm

    python, capsule = ctypes.pythonapi, ctypes.py_object
    name = ctypes.PYFUNCTYPE(ctypes.c_char_p, capsule)(("PyCapsule_GetName", python))
    address = ctypes.PYFUNCTYPE(ctypes.c_void_p, capsule, ctypes.c_char_p)(("PyCapsule_GetPointer", python))
    for symbol, function in symbols.items():
        entry = extension().__pyx_capi__[function]
        llvm.add_symbol(symbol, address(entry, name(entry)))


@cache
def libraries() -> list["LibController"]:
    """threadpoolctl's controllers of the BLAS that SciPy calls: its own copy, else any but NumPy's own."""
    import numpy
    from threadpoolctl import ThreadpoolController

    extension()
    loaded = ThreadpoolController().select(user_api="blas").lib_controllers
    numpys = os.path.realpath(
        os.path.dirname(numpy.__file__)
    )  # its libraries: in numpy.libs or numpy/.dylibs
    scipys = os.path.join(os.path.dirname(numpys), "scipy")
    own = [library for library in loaded if library.filepath.startswith(scipys)]
    return own or [library for library in loaded if not library.filepath.startswith(numpys)]


@cache
def numpys() -> list["LibController"]:
    """Those of the BLAS that NumPy calls: its own copy, else whatever is there."""
    from threadpoolctl import ThreadpoolController

    loaded = ThreadpoolController().select(user_api="blas").lib_controllers
    scipys = {library.filepath for library in libraries()}
    return [library for library in loaded if library.filepath not in scipys] or loaded


def set_threads(library: "LibController", threads: int) -> None:
    """Set a library's threads from any thread; threadpoolctl heeds only the first one that asks."""
    getattr(library, "_real_set_num_threads", library.set_num_threads)(threads)


@dataclass
class Alone(ContextDecorator):
    """How many are in `one_thread`, and each library's number of threads when the first came."""

    libraries: Callable[[], list["LibController"]]
    inside: int = 0
    before: list[int] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.before = [library.get_num_threads() for library in self.libraries()]
                for library in self.libraries():
                    set_threads(library, 1)
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:  # the last gives the libraries their threads back
                for library, threads in zip(self.libraries(), self.before, strict=True):
                    set_threads(library, threads)

    def forget(self) -> None:
        """A forked child has none of the threads that were inside."""
        self.lock = Lock()
        if self.inside:
            self.inside = 1
            self.__exit__()


scipys_alone, numpys_alone = Alone(libraries), Alone(numpys)


def one_thread(numpy: bool = False) -> Alone:
    """Within, SciPy's BLAS, or NumPy's, computes on the thread that calls it, until the last has left.

    What several threads compute together has other bits for another number of them.
    """
    return numpys_alone if numpy else scipys_alone


def forget() -> None:
    """What a forked child begins with."""
    for alone in (scipys_alone, numpys_alone):
        alone.forget()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=forget)
