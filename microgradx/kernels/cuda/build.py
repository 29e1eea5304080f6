"""From the text of kernels to machine code of a GPU: Numba writes PTX, nvJitLink assembles it, no GPU needed.

A product and a sum are never contracted into one rounding (NVVM's option `-fma=0`), so that plain arithmetic
gives the CPU's bits; matrix products call `fma` where they want it. The only file that compiles with
`numba.cuda`.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import FunctionType, SimpleNamespace
from typing import Any

from microgradx.errors import DeviceError, KernelError
from microgradx.kernels.cache import locked, read, write

form = "1"  # of what is kept: raise it when the same source gives other code
install = "Install it with: pip install 'microgradx[cuda]'"
compiling = threading.RLock()


@dataclass(frozen=True)
class Resources:
    """What a thread and a block of a kernel take, as the assembler says."""

    registers: int
    stack: int  # bytes
    spills: int  # bytes that registers did not suffice for, stored and loaded
    shared: int  # bytes


@dataclass(frozen=True)
class Built:
    """A kernel as machine code for one compute capability."""

    code: bytes
    entry: str  # the name of the kernel in it
    resources: Resources


def module() -> Any:
    """`numba.cuda`, which any missing or unfitting library keeps from being imported."""
    try:
        from numba import cuda
    except Exception as error:  # of any kind
        raise DeviceError(
            f"CUDA: numba.cuda cannot be imported ({str(error).rstrip('.')}). {install}."
        ) from None
    return cuda


def functions(source: str, label: str) -> dict[str, Any]:
    """The functions of a file, which may call each other."""
    cuda = module()
    names: dict[str, Any] = {}
    exec(compile(source, f"<{label} on CUDA>", "exec"), names)
    raw = {key: value for key, value in names.items() if isinstance(value, FunctionType)}
    raw = {key: f for key, f in raw.items() if f.__code__.co_filename == f"<{label} on CUDA>"}
    for key, function in raw.items():
        names[key] = cuda.jit(device=True)(function)
    return raw


def ptx(function: Any, signature: str, *capabilities: tuple[int, int], lines: bool = False) -> list[str]:
    """The PTX of a kernel, for each capability; `lines`: with the lines of its source."""
    module()
    import numba
    from numba.core.errors import NumbaError
    from numba.cuda import compiler  # its private parts know the option that its public ones lack
    from numba.cuda.cudadrv import nvvm

    capability = capabilities[0]
    types = [numba_type(t) for t in signature.split()]
    options: dict[str, Any] = {
        "debug": False, "lineinfo": lines, "device": False, "fastmath": False, "cc": capability, "opt": True,
        "abi": "numba", "abi_info": None, "forceinline": False, "launch_bounds": None, "lto": False,
    }  # fmt: skip
    try:
        with compiling, targeted(capability):
            front: Any = compiler
            library, _ = front._compile_pyfunc_with_fixup(function, numba.void(*types), **options)
            parts = dict.fromkeys(library.llvm_strs)  # a function that two others call is there twice
            texts = [
                nvvm.compile_ir(list(parts), arch=f"compute_{major}{minor}", opt=3, fma=False)
                for major, minor in capabilities
            ]
    except NumbaError as error:
        raise KernelError(f"Numba cannot compile the kernel `{function.__name__}`: {error}") from None
    return [text.decode().strip("\0") for text in texts]


@contextmanager
def targeted(capability: tuple[int, int]) -> Iterator[None]:
    """Within, Numba compiles functions that kernels call for this capability; it would ask for a GPU."""
    from numba.cuda import dispatcher

    usual = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    try:
        yield
    finally:
        dispatcher.get_current_device = usual


def numba_type(text: str) -> Any:
    """The type of a parameter: a number, a pointer such as `float32*`, or an array such as `int64[::1]`."""
    import numba

    if text.endswith("*"):
        return numba.types.CPointer(getattr(numba, text[:-1]))
    kind, _, rest = text.partition("[")
    return getattr(numba, kind)[::1] if rest else getattr(numba, kind)


def entry(text: str) -> str:
    """The name of the kernel in PTX."""
    found = re.search(r"\.entry (\w+)", text)
    assert found
    return found[1]


def assemble(text: str, capability: tuple[int, int], *more: str) -> tuple[bytes, str]:
    """Machine code (a cubin) of a kernel's PTX, and what the assembler says; `more` options for it."""
    try:
        from cuda.bindings import nvjitlink as linker
    except ImportError as error:
        raise DeviceError(f"CUDA: nvJitLink is missing ({error}). {install}.") from None
    options = [f"-arch=sm_{capability[0]}{capability[1]}", "-Xptxas=-v", "-fma=0", *more]
    handle = linker.create(len(options), options)
    try:
        data = text.encode()
        linker.add_data(handle, linker.InputType.PTX, data, len(data), "kernel.ptx")
        linker.complete(handle)
        code = bytearray(linker.get_linked_cubin_size(handle))
        linker.get_linked_cubin(handle, code)
        log = bytearray(linker.get_info_log_size(handle))
        linker.get_info_log(handle, log)
    except linker.nvJitLinkError as error:
        said = bytearray(linker.get_error_log_size(handle))
        linker.get_error_log(handle, said)
        raise KernelError(f"nvJitLink cannot assemble for {options[0]}: {error} {said.decode()}") from None
    finally:
        linker.destroy(handle)
    return bytes(code), log.decode(errors="replace")


def resources(text: str, log: str) -> Resources:
    """What a kernel takes: registers and stack by the assembler's log, shared memory by its PTX."""

    def number(pattern: str) -> int:
        found = re.search(pattern, log)
        return int(found[1]) if found else 0

    spilled = number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads")
    shared = sum(int(size) for size in re.findall(r"\.shared \.align \d+ \.b8 \w+\[(\d+)\];", text))
    return Resources(number(r"Used (\d+) registers"), number(r"(\d+) bytes stack frame"), spilled, shared)


def build(
    source: str, signatures: dict[str, str], capability: tuple[int, int], label: str
) -> dict[str, Built]:
    """The kernels of a file as machine code, from the cache folder if they are there."""
    key = fingerprint(source, signatures, capability)
    name = f"{label}_cuda_{key[:16]}"
    with compiling, locked(name):
        if (kept := read(f"{name}.cubin")) is None:
            write(f"{name}.py", source.encode())
            raw = functions(source, label)
            made = {}
            for kernel, signature in signatures.items():
                (text,) = ptx(raw[kernel], signature, capability)
                code, log = assemble(text, capability)
                made[kernel] = Built(code, entry(text), resources(text, log))
            write(f"{name}.cubin", packed(made), digest=True)
            return made
    return unpacked(kept)


def packed(made: dict[str, Built]) -> bytes:
    """Kernels as one file: what they are, then their code, one behind the other."""
    about = {kernel: [len(b.code), b.entry, vars(b.resources)] for kernel, b in made.items()}
    return json.dumps(about).encode() + b"\0" + b"".join(b.code for b in made.values())


def unpacked(kept: bytes) -> dict[str, Built]:
    """The kernels in such a file."""
    head, _, code = kept.partition(b"\0")
    made, start = {}, 0
    for kernel, (size, symbol, found) in json.loads(head).items():
        made[kernel] = Built(code[start : start + size], symbol, Resources(**found))
        start += size
    return made


def fingerprint(source: str, signatures: dict[str, str], capability: tuple[int, int]) -> str:
    """A digest of all that machine code depends on."""
    parts = [form, *compilers(), repr(capability), source, repr(sorted(signatures.items()))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def trouble() -> str:
    """Why no kernel can be compiled here; empty if one can."""
    source = "from numba import cuda\ndef kernel(x):\n    x[cuda.grid(1)] = 0\n"
    try:
        (text,) = ptx(functions(source, "trial")["kernel"], "float32*", (9, 0))
        assemble(text, (9, 0))
    except Exception as error:  # of any kind: a library is missing, or does not fit another
        return f"{' '.join(str(error).split())[:200]}" + f" {install}" * (install not in str(error))
    return ""


@cache
def compilers() -> tuple[str, ...]:
    """The versions of what compiles, without importing it."""
    found = []
    for package in ("numba", "numba-cuda", "cuda-bindings", "nvidia-nvvm", "nvidia-nvjitlink"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return tuple(found)
