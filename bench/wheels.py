"""Wheels that travel with a benchmark to a machine without a network, for what does not fit there.

`fetch` downloads them here into a folder, `install` puts there into a folder of their own what that machine's
Python lacks. What is large is left out: llvmlite, NVVM and NVRTC are 60 to 90 MB each; NVVM comes with a
toolkit, and cuBLAS with PyTorch.
"""

import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.parts import ROOT, Row, cell, row

LIMIT = 60 << 20  # bytes: 64 MiB may travel, our own files among them
PYTHON = "3.12"  # of the machine that they are for
PLATFORMS = [f"manylinux_2_{k}_x86_64" for k in (28, 27, 24, 17, 12)] + ["manylinux2014_x86_64"]

CARRIED = {
    "platformdirs": (">=4", "4.14.8"),
    "safetensors": (">=0.5", "0.8.0"),
    "threadpoolctl": (">=3.5", "3.8.0"),
    "numba-cuda": (">=0.30.2,<0.31", "0.30.4"),
    "cuda-bindings": (">=13,<14", "13.5.0"),
    "cuda-core": (">=0.5.1,<2", "1.2.2"),
    "cuda-pathfinder": (">=1.5,<2", "1.9.1"),
    "nvidia-cuda-runtime": (">=13.0,<14", "13.0.96"),
    "nvidia-nvjitlink": (">=13.0,<13.1", "13.0.88"),
}
"""Packages: the versions that do, and the one that travels."""

FIRST = """import site
usual = site.getsitepackages
site.getsitepackages = lambda prefixes=None: [{folder!r}, *usual(prefixes)]  # for NVIDIA's libraries
site.addsitedir({folder!r})  # numba-cuda puts itself in front of Numba's own by a .pth file
"""


def fetch(folder: Path, python: str = PYTHON) -> list[Row]:
    """Download all that is carried; SystemExit where it is more than may travel."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", python, "--implementation", "cp", "-d", str(folder)]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    subprocess.run([*command, *(f"{name}=={one}" for name, (_, one) in CARRIED.items())], check=True)
    sizes = {path.name: path.stat().st_size for path in sorted(folder.glob("*.whl"))}
    if sum(sizes.values()) > LIMIT:
        raise SystemExit(f"the wheels in {folder} are {sum(sizes.values()):,} bytes, {LIMIT:,} may travel")
    found = [row("wheels", name, f"{size / 2**20:.1f} MiB") for name, size in sizes.items()]
    together = f"{sum(sizes.values()) / 2**20:.1f} MiB"
    return [*found, row("wheels", "together", together, note=f"for Python {python}")]


def install(folder: Path, target: Path) -> list[Row]:
    """Put into `target`, a new folder, what this Python lacks; with it on PYTHONPATH, that comes first."""
    from packaging.specifiers import SpecifierSet

    found, taken = [], {}
    for name, (fits, _) in CARRIED.items():
        there = installed(name)
        if there and SpecifierSet(fits).contains(there, prereleases=True):
            found.append(row("wheels", name, there, note="installed"))
            continue
        lack = f"{there or 'none'} is installed, {fits} is wanted"
        wheel = next(iter(sorted(folder.glob(f"{name.replace('-', '_')}-*.whl"))), None)
        if wheel:
            taken[name] = wheel
            found.append(row("wheels", name, wheel.name.split("-")[1], note=f"from the folder; {lack}"))
        else:
            found.append(row("wheels", name, there or "missing", note=f"{lack}; no wheel of it in {folder}"))
    if taken:  # in one go: pip leaves a folder alone that is there already, and several share `cuda`
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile"]
        command += ["--no-cache-dir", "--target", str(target), *map(str, taken.values())]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            found.append(row("wheels", "pip", "failed", note=cell(done.stderr[-900:], 900)))
    target.mkdir(parents=True, exist_ok=True)
    (target / "sitecustomize.py").write_text(FIRST.format(folder=str(target)))
    return found


def installed(name: str) -> str:
    """The installed version of a package; empty if there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def requirements() -> dict[str, str]:
    """What the library itself asks for, and its extra `cuda`."""
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["cuda"]]
    return {r.name: str(r.specifier) for r in map(Requirement, asked)}
