"""From the text of kernels to machine code of a GPU: Numba writes PTX, nvJitLink assembles it, no GPU needed.

A product and a sum are never contracted into one rounding (NVVM's option `-fma=0`), so that plain arithmetic
gives the CPU's bits; matrix products call `fma` where they want it. The only file that knows by what PTX is
written: numba-cuda, or with MICROGRADX_CUDA_COMPILER=mlir its successor numba-cuda-mlir.
"""

import hashlib
import importlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import FunctionType, ModuleType, SimpleNamespace

from microgradx.errors import ArgumentError, DeviceError, KernelError
from microgradx.extras import install
from microgradx.kernels.cache import locked, read, write

form = "1"  # of what is kept: raise it when the same source gives other code
missing = f"Install it with: {install('cuda')}"
compiling = threading.RLock()

MLIR = {
    "from numba import cuda": "from numba_cuda_mlir import cuda; experimental = cuda.experimental",
    "cuda.threadfence()": 'experimental.inline_ptx("membar.gl;")',
}
"""How a file is written for numba-cuda-mlir 0.6: it has no threadfence."""


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


def package() -> str:
    """The package whose `cuda` compiles: "numba", which numba-cuda extends, or "numba_cuda_mlir"."""
    chosen = os.environ.get("MICROGRADX_CUDA_COMPILER", "").lower()
    if chosen not in ("", "numba", "mlir"):
        raise ArgumentError(f'MICROGRADX_CUDA_COMPILER={chosen!r}: it is "numba" or "mlir".')
    return "numba_cuda_mlir" if chosen == "mlir" else "numba"


def module() -> ModuleType:
    """`numba.cuda`, which any missing or unfitting library keeps from being imported."""
    try:
        return importlib.import_module(f"{package()}.cuda")
    except Exception as error:  # of any kind
        raise DeviceError(
            f"CUDA: {package()}.cuda cannot be imported ({str(error).rstrip('.')}). {missing}."
        ) from None


def functions(source: str, label: str) -> dict[str, FunctionType]:
    """The functions of a file, which may call each other."""
    cuda = module()
    options: dict[str, object] = {"device": True}
    if package() == "numba_cuda_mlir":
        options["inline"] = "always"  # else it loses the shared arrays of functions that kernels call
        for usual, other in MLIR.items():
            source = source.replace(usual, other)
    names: dict[str, object] = {}
    exec(compile(source, f"<{label} on CUDA>", "exec"), names)
    raw = {key: value for key, value in names.items() if isinstance(value, FunctionType)}
    raw = {key: f for key, f in raw.items() if f.__code__.co_filename == f"<{label} on CUDA>"}
    for key, function in raw.items():
        names[key] = cuda.jit(**options)(function)
    return raw


def ptx(
    function: FunctionType, signature: str, *capabilities: tuple[int, int], lines: bool = False
) -> list[str]:
    """The PTX of a kernel, for each capability; `lines`: with the lines of its source."""
    module()
    make = by_mlir if package() == "numba_cuda_mlir" else by_numba
    try:
        with compiling:
            return make(function, signature.split(), capabilities, lines)
    except Exception as error:
        if not any(kind.__name__ == "NumbaError" for kind in type(error).__mro__):  # either package has one
            raise
        raise KernelError(f"Numba cannot compile the kernel `{function.__name__}`: {error}") from None


def by_numba(
    function: FunctionType, signature: list[str], capabilities: tuple[tuple[int, int], ...], lines: bool
) -> list[str]:
    """PTX by numba-cuda: its front end once, then NVVM for each capability."""
    import numba
    from numba.cuda import compiler, dispatcher  # their private parts know options that public ones lack
    from numba.cuda.cudadrv import nvvm

    capability = capabilities[0]
    options: dict[str, object] = {
        "debug": False, "lineinfo": lines, "device": False, "fastmath": False, "cc": capability, "opt": True,
        "abi": "numba", "abi_info": None, "forceinline": False, "launch_bounds": None, "lto": False,
    }  # fmt: skip
    asked = SimpleNamespace(compute_capability=capability)  # of a GPU, for functions that kernels call
    with replaced(dispatcher, "get_current_device", lambda: asked):
        front: ModuleType = compiler  # whose private parts are untyped
        types = [numba_type(t, numba.types) for t in signature]
        library, _ = front._compile_pyfunc_with_fixup(function, numba.void(*types), **options)
        parts = dict.fromkeys(library.llvm_strs)  # a function that two others call is there twice
        texts = [
            nvvm.compile_ir(list(parts), arch=f"compute_{major}{minor}", opt=3, fma=False)
            for major, minor in capabilities
        ]
    return [text.decode().strip("\0") for text in texts]


def by_mlir(
    function: FunctionType, signature: list[str], capabilities: tuple[tuple[int, int], ...], lines: bool
) -> list[str]:
    """PTX by numba-cuda-mlir 0.6, kept from asking for a GPU and from contracting (no options yet)."""
    from numba_cuda_mlir import cuda, mlir_optimization, tools, types
    from numba_cuda_mlir.numba_cuda.cudadrv import nvvm

    def by_nvvm(gpu: object, options: dict[str, str], **more: object) -> bytes:
        """NVVM for GPUs before 10.0, whose own call is in C."""
        unit = nvvm.CompilationUnit({"arch": options["chip"].replace("sm", "compute"), **exact})
        unit.add_module(usual(gpu, options, gen_llvmir=True))
        unit.lazy_add_module(nvvm.LibDevice().get())
        return unit.compile()

    usual, options = mlir_optimization._call_llvm70_capi, mlir_optimization._nvvm_options
    exact = {"opt": 3, "fma": False}
    void = types.void(*(numba_type(t, types) for t in signature))
    found = []
    for capability in capabilities:
        with (
            replaced(tools, "_cached_cc", capability),
            replaced(mlir_optimization, "_call_llvm70_capi", by_nvvm),
            replaced(mlir_optimization, "_nvvm_options", lambda *a, **k: options(*a, **k) | exact),
        ):
            found.append(cuda.compile_ptx(function, void, lineinfo=lines, cc=capability)[0].strip("\0"))
    return found


@contextmanager
def replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """Within, an attribute has another value."""
    usual = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, usual)


def numba_type(text: str, types: ModuleType) -> object:
    """The type of a parameter: a number, a pointer such as `float32*`, or an array such as `int64[::1]`."""
    if text.endswith("*"):
        return types.CPointer(getattr(types, text[:-1]))
    kind, _, rest = text.partition("[")
    return getattr(types, kind)[::1] if rest else getattr(types, kind)


def words(address: int, itemsize: int) -> list[int]:
    """An array of one element as parameters of a kernel: each compiler takes it apart in its own way."""
    if package() == "numba_cuda_mlir":
        return [address, address, 0, 1, 1]  # twice where, offset, size, stride in elements
    return [0, 0, 1, itemsize, address, 1, itemsize]  # two owners, elements, where, shape, stride


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
        raise DeviceError(f"CUDA: nvJitLink is missing ({error}). {missing}.") from None
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
    parts = [form, package(), *compilers(), repr(capability), source, repr(sorted(signatures.items()))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def trouble() -> str:
    """Why no kernel can be compiled here; empty if one can."""
    source = "from numba import cuda\ndef kernel(x):\n    x[cuda.grid(1)] = 0\n"
    try:
        (text,) = ptx(functions(source, "trial")["kernel"], "float32*", (9, 0))
        assemble(text, (9, 0))
    except Exception as error:  # of any kind: a library is missing, or does not fit another
        absent = [name.removeprefix("no ") for name in compilers() if name.startswith("no ")]
        if absent:
            return f"without {', '.join(absent)} no kernel of a GPU can be compiled. {missing}"
        return f"{' '.join(str(error).split())[:200]}" + f" {missing}" * (missing not in str(error))
    return ""


@cache
def compilers() -> tuple[str, ...]:
    """The versions of what compiles, without importing it."""
    found = []
    front = "numba-cuda-mlir" if package() == "numba_cuda_mlir" else "numba-cuda"
    for name in ("numba", front, "cuda-bindings", "nvidia-nvvm", "nvidia-nvjitlink"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return tuple(found)
