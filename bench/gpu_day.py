"""A day on a GPU in eight minutes: what is installed, then right, then fast, what matters most first.

`--seconds` is for everything; `--wheels FOLDER` takes what does not fit there from a folder of wheels, which
`--fetch` fills here, where there is a network. `--rehearse` runs it all with tiny sizes in Numba's simulator.
The tables are written after each part, under the card's name: a run that is cut leaves what it had.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench import wheels
from bench.measure import RESULTS
from bench.parts import Part, Row, Tables, all_of, row

BUDGET = 480.0
INSTALLED = Part("installed", "bench.gpu_day:installed", 60)
PACKAGES = [
    "numba", "llvmlite", "numba-cuda", "cuda-bindings", "cuda-core", "nvidia-nvjitlink", "nvidia-nvvm",
    "nvidia-cublas", "numpy", "scipy", "torch", "triton", "jax", "cupy-cuda13x", "pytest", "pytest-xdist",
]  # fmt: skip
"""Whose versions are written down."""


def parts() -> list[Part]:
    """In order of importance. Imported late: what they need may come from the wheels."""
    from bench import cuda

    return [
        cuda.BITS, cuda.SWEEPS, *cuda.FIRST_STEPS, cuda.LAUNCHES, cuda.SUITE, cuda.CURVE, cuda.SANITIZER,
        *cuda.MORE_STEPS[:2], cuda.PRODUCTS, cuda.TRAINING, *cuda.MORE_STEPS[2:],
    ]  # fmt: skip


def installed(quick: bool) -> Iterator[Row]:
    """The card, the driver, versions, and whether kernels can be compiled."""
    found = {name: wheels.installed(name) for name in PACKAGES}
    yield row("installed", "packages", note=", ".join(f"{name} {one or '-'}" for name, one in found.items()))
    tools = [name for name in ("nvidia-smi", "nvcc", "compute-sanitizer", "ncu") if shutil.which(name)]
    yield row("installed", "tools", ", ".join(tools) or "none", note=f"Python {sys.version.split()[0]}")
    if "nvidia-smi" in tools:
        asked = "--query-gpu=name,driver_version,memory.total,clocks.sm,clocks.mem"
        said = subprocess.run(["nvidia-smi", asked, "--format=csv,noheader"], capture_output=True, text=True)
        yield row("installed", "nvidia-smi", note=" ".join((said.stdout or said.stderr).split())[:200])
    from microgradx.cuda import build, cublas, describe, simulated

    name, advice = describe()
    yield row("installed", "device", "" if advice else name, note=f"{name}. {advice}" * bool(advice))
    compilers = ", ".join(build.compilers())
    state = "not tried in the simulator" if simulated() else build.trouble() or "they work"
    yield row("installed", "compilers", state, note=compilers)
    yield row("installed", "cuBLAS", "found" if cublas.find() else "none: our own kernels multiply matrices")


def options(parser: argparse.ArgumentParser) -> None:
    """What the command line takes."""
    parser.add_argument("--seconds", type=float, default=BUDGET, help="for everything together")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels for what does not fit")
    parser.add_argument("--fetch", action="store_true", help="only fill that folder, from the network")
    parser.add_argument("--python", default=wheels.PYTHON, help="the version that wheels are fetched for")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes, in Numba's simulator")
    parser.add_argument("--only", nargs="+", metavar="PART", help="parts whose names begin so")
    parser.add_argument("--out", type=Path, help="where tables are written")


def run(
    quick: bool = False, seconds: float = BUDGET, wheels: Path | None = None, fetch: bool = False,
    python: str = "", rehearse: bool = False, only: list[str] | None = None, out: Path | None = None,
) -> list[Row]:  # fmt: skip
    """All parts within the budget; returns the rows of all tables."""
    if fetch:
        return fetched(wheels, python)
    until, quick = time.monotonic() + seconds, quick or rehearse
    out = out or (Path(tempfile.mkdtemp()) if quick else RESULTS)
    environment = {"NUMBA_ENABLE_CUDASIM": "1"} if rehearse else {}
    tables: Tables = {}
    if wheels:
        target = Path(tempfile.mkdtemp(), "site")
        tables["wheels"] = carried(wheels, target, environment)
    left = lambda: max(until - time.monotonic(), 0)
    all_of([INSTALLED], quick, left(), lambda _: None, environment, tables)
    name, why = card(tables["installed"])
    write = partial(keep, name=name, quick=quick, out=out)
    write(tables)
    chosen = [p for p in parts() if not only or str(p).startswith(tuple(only))]
    if why:
        for part in chosen:
            tables.setdefault(part.table, []).append(part.missing(why))
    else:
        all_of(chosen, quick, left(), write, environment, tables)
    print(f"tables: {write(tables)}", flush=True)
    return [found for table in tables.values() for found in table]


def fetched(folder: Path | None, python: str) -> list[Row]:
    """The wheels, downloaded."""
    if folder is None:
        raise SystemExit("--fetch needs --wheels FOLDER, where they shall lie.")
    return wheels.fetch(folder, python or wheels.PYTHON)


def carried(folder: Path, target: Path, environment: dict[str, str]) -> list[Row]:
    """What was taken from the folder, for this process and for those of the parts."""
    found = wheels.install(folder, target)
    paths = [str(target), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    sys.path.insert(0, str(target))
    return found


def card(rows: list[Row]) -> tuple[str, str]:
    """The name of the GPU; and if there is none, why nothing can be measured."""
    device = next((r for r in rows if r["what"] == "device"), None)
    if device and device["ours"]:
        return device["ours"].split(",")[0], ""
    last = device or rows[-1]
    return "no GPU", last["note"].split(". ")[0] or "the first part did not end"


def keep(tables: Tables, name: str, quick: bool, out: Path) -> Path:
    """Write the tables that there are."""
    from bench import cuda

    title = f"The first day on a GPU: {name}" + " (a rehearsal: nothing here is a measurement)" * quick
    title += ", so nothing is measured" * (name == "no GPU")
    return cuda.keep(tables, f"gpu_day-{re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-')}", title, out)
