"""From the text of loops to machine code, kept on disk.

`load(source, signatures)` compiles functions over pointers with Numba, once: the object file stays in the
cache folder beside the readable source, under a name that covers everything it depends on. A later process
loads it in milliseconds, without importing Numba. The only room that compiles.
"""

import ctypes
import hashlib
import importlib.util
import os
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from microgradx.errors import KernelError
from microgradx.kernels import blas
from microgradx.kernels.cache import locked, read, write
from microgradx.kernels.source import Names

if TYPE_CHECKING:  # LLVM is loaded with the first kernel
    from llvmlite.binding import ModuleRef, TargetMachine

form = "4"  # of the object files: raise it when what is done below to the same source changes

ctypes_of: dict[str, type[ctypes.c_int64 | ctypes.c_float | ctypes.c_double]] = {
    "int64": ctypes.c_int64, "float32": ctypes.c_float, "float64": ctypes.c_double,
}  # fmt: skip
"""Types in a signature; with a `*` behind, such as `float32*` or `uint32*`, a pointer."""

loaded: WeakValueDictionary[str, "Library"] = WeakValueDictionary()
"""The machine code that is in use, by its fingerprint."""

lock = threading.RLock()

if hasattr(os, "register_at_fork"):  # not on Windows; a child must not inherit another thread's lock
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)


def load(
    source: str, signatures: dict[str, str], label: str = "kernel", exact: Collection[str] | None = None
) -> dict[str, Callable[..., None]]:
    """The functions of `source` named in `signatures`, compiled; they return nothing and release the GIL.

    `source` is a whole Python file; a signature lists the types of a function's parameters, such as
    "int64 int64 float32* float32". Functions without one are compiled into their callers. Indices are not
    checked. `label` begins the file's name. Where `exact` is given, the source may use functions of
    `runtime`, and a * b + c may be rounded once, not twice, except in the functions that `exact` names.
    """
    key = fingerprint(source, signatures, exact)
    with lock:
        library = loaded.get(key)
        if library is None:
            name = f"{label}_{key[:16]}"
            with locked(name):  # another process may be compiling it just now
                code = read(f"{name}.o")
                if code is None:
                    path = write(f"{name}.py", source.encode()) or f"<{name}>"
                    code = machine().emit_object(optimised(source, signatures, path, exact))
                    write(f"{name}.o", code, digest=True)
            library = loaded[key] = Library(code)
        return library.functions(signatures)


def fingerprint(source: str, signatures: dict[str, str], exact: Collection[str] | None = None) -> str:
    """A digest of all that machine code depends on: source, compilers, processor.

    Comments are no part of it: they say where in the user's code a line comes from, and the same step, called
    from another line or cell, or below a line more, is the same code.
    """
    import llvmlite
    import llvmlite.binding as llvm

    numba = importlib.util.find_spec("numba")  # its version without the quarter of a second of its import
    if numba is None or numba.origin is None:
        raise KernelError("kernels are compiled by Numba, which is not installed: pip install numba")
    version = Path(numba.origin).with_name("_version.py").read_text(encoding="utf-8")
    cpu = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    code = "\n".join(line for line in source.split("\n") if not line.lstrip().startswith("#"))
    parts = [form, llvmlite.__version__, version, *cpu, code, repr(sorted(signatures.items()))]
    files = ["numba_target.py"]
    if exact is not None:
        files += ["runtime.py", "blas.py", "small_matmul.py", "vector_math.py", "intrinsics.py"]
        parts.append(repr(sorted(exact)))
    parts += [Path(__file__).with_name(file).read_text(encoding="utf-8") for file in files]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def optimised(
    source: str, signatures: dict[str, str], path: str, exact: Collection[str] | None = None
) -> "ModuleRef":
    """LLVM's module with one function per signature, as Numba and LLVM's optimiser leave it."""
    import llvmlite.binding as llvm
    import numba
    from numba.core.errors import NumbaError

    from microgradx.kernels import numba_target

    names: Names = {"__name__": Path(path).stem}
    exec(compile(source, path, "exec"), names)
    for name, value in list(names.items()):
        if getattr(getattr(value, "__code__", None), "co_filename", "") == path:
            contract = exact is not None and name not in exact
            names[name] = numba_target.function(value, name in signatures, contract)
    if exact is not None:
        blas.register()  # Numba links what it compiles
    module = llvm.parse_assembly("")
    done: set[numba_target.Text] = set()
    for name, signature in signatures.items():
        types = [
            numba.types.CPointer(getattr(numba, t[:-1])) if t.endswith("*") else getattr(numba, t)
            for t in signature.split()
        ]
        try:
            names[name].text(types).link(module, done)
        except NumbaError as error:
            raise KernelError(f"{path}: Numba cannot compile `{name}`: {error}") from None
    close(module, signatures, unrolled=exact is None)
    for f in module.functions:
        known = f.name.startswith("llvm.") or f.name in blas.symbols or hasattr(ctypes.CDLL(None), f.name)
        if f.is_declaration and not known:
            raise KernelError(f"{path}: needs `{f.name}`, which exists only inside Numba.")
    return module


def close(module: "ModuleRef", entries: Collection[str], unrolled: bool) -> None:
    """Optimise a module that is called at its entries alone.

    Only so is a function that cannot fail known not to, and what its callers would do about it goes away.
    Where loops are to be unrolled, the functions become part of their callers first.
    """
    import llvmlite.binding as llvm

    for f in module.functions:
        if not f.is_declaration and f.name not in entries:
            f.linkage = "internal"
            if unrolled:
                f.add_function_attribute("alwaysinline")
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = True
    options.loop_unrolling = unrolled  # or else a short loop becomes one vector
    builder = llvm.create_pass_builder(machine(), options)
    for _ in range(2):  # what one round finds out about a function helps its callers in the next
        builder.getModulePassManager().run(module, builder)
        if not any(f.name.startswith("numba_") for f in module.functions):
            break


def machine() -> "TargetMachine":
    """LLVM's description of this processor, at full optimisation."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    return llvm.Target.from_default_triple().create_target_machine(cpu=cpu, features=features, opt=3)


class Library:
    """An object file in this process's memory, for as long as one of its functions is there."""

    def __init__(self, code: bytes):
        import llvmlite.binding as llvm

        if b"microgradx_" in code:
            blas.register()
        self.engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine())
        self.engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self.engine.finalize_object()

    def functions(self, signatures: dict[str, str]) -> dict[str, Callable[..., None]]:
        """Its functions, each of which keeps the machine code where it is."""
        found: dict[str, Callable[..., None]] = {}
        for name, signature in signatures.items():
            types = [ctypes.c_void_p if t.endswith("*") else ctypes_of[t] for t in signature.split()]
            function = ctypes.CFUNCTYPE(None, *types)(self.engine.get_function_address(name))
            function.library = self  # type: ignore[attr-defined]
            found[name] = function
        return found
