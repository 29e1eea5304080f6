"""Two commits side by side, in turns on one machine: what became slower or faster beyond noise.

`--commits OLD [NEW]`; without NEW it is the working tree as it stands. Both are driven by the benchmarks of
the working tree, through the public interface. Every job runs in several pairs of new processes, for a
process's memory lies where it fell; a verdict needs all pairs to agree, each by more than `--noise`.
"""

import argparse
import io
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import startup
from bench.measure import duration, race, works

ROOT = Path(__file__).parent.parent
METHOD = "The two take turns, in pairs of new processes; time of the best burst; kernels compiled before."
JOBS = [((2, 16, 16, 2), 100, 100), ((784, 128, 10), 128, 100), ((784, 1000, 1000, 10), 128, 25)]
"""Sizes, batch, and steps in a scan."""

KINDS = ["scan", "call", "eager"]

FIRST_STEP = """
import time
start = time.perf_counter()
import microgradx as mg
from microgradx import nn, optim
mg.seed(0)
model = nn.MLP([784, 128, 10])
optimizer = optim.Adam(model.parameters(), lr=1e-3)
@mg.jit
def step(x, y):
    optimizer.zero_grad()
    loss = nn.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss
step(mg.zeros(128, 784).numpy(), mg.zeros(128).numpy().astype("int64")).item()
print(time.perf_counter() - start)
"""


def checked_out(commit: str, folder: Path) -> Path:
    """The package as a commit has it, in a new folder; without one, as it stands in the working tree."""
    if not commit:
        shutil.copytree(
            ROOT / "microgradx", folder / "microgradx", ignore=shutil.ignore_patterns("__pycache__")
        )
        return folder
    command = ["git", "-C", str(ROOT), "archive", commit, "microgradx"]
    archive = subprocess.run(command, capture_output=True)
    if archive.returncode:
        raise SystemExit(f"no commit {commit!r} with a microgradx: {archive.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def contender(tree: Path, kind: str, sizes: tuple[int, ...], batch: int, count: int) -> Callable[[], object]:
    """A job of one commit. Called in a process of its own, before anything there imports the package."""
    sys.path.insert(0, str(tree))
    os.environ["MICROGRADX_CACHE"] = str(tree / "cache")
    from bench import compiled, models, steps

    network = models.Network(sizes)
    if kind == "scan":
        return compiled.scan(network, batch, count)
    run = compiled.call(network, batch) if kind == "call" else steps.ours(network, batch)
    for _ in range(1000 if max(sizes) < 1000 else 100):  # past the second looks at what a step took for fixed
        run()
    return run


def first_step(tree: Path, cache: Path) -> float:
    """Seconds from before the import to the end of the first compiled step, in a new process."""
    return startup.timed(f"import sys; sys.path.insert(0, {str(tree)!r})\n{FIRST_STEP}", str(cache))


def compared(what: str, pairs: list[tuple[float, float]], noise: float) -> dict[str, object]:
    """A row: times of both, the ratio new / old of every pair, and what they agree on."""
    old, new = (min(times) for times in zip(*pairs, strict=True))
    ratios = sorted(b / a for a, b in pairs)
    verdict = "slower" if ratios[0] > 1 + noise else "faster" if ratios[-1] < 1 - noise else ""
    return {
        "job": what, "old": duration(old), "new": duration(new),
        "new / old": f"{statistics.median(ratios):.2f}",
        "pairs": " ".join(f"{ratio:.2f}" for ratio in ratios), "verdict": verdict,
    }  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    """What the command line takes."""
    parser.add_argument("--commits", nargs="+", default=["HEAD"], metavar="COMMIT", help="OLD, or OLD NEW")
    parser.add_argument("--pairs", type=int, default=5, help="of new processes for each job")
    parser.add_argument("--noise", type=float, default=0.05, help="a change of less says nothing")


def run(
    quick: bool = False, commits: list[str] | None = None, pairs: int = 5, noise: float = 0.05
) -> list[dict[str, object]]:
    """A row per job: times of both commits, their ratio, and a verdict where all pairs of processes agree."""
    both = zip(("old", "new"), [*(commits or ["HEAD"]), ""], strict=False)
    rows, pairs = [], 1 if quick else pairs
    with tempfile.TemporaryDirectory() as folder:
        trees = [checked_out(commit, Path(folder, name)) for name, commit in both]
        for kind in KINDS:
            for sizes, batch, count in JOBS[:1] if quick else JOBS:
                makers = {tree.name: partial(contender, tree, kind, sizes, batch, count) for tree in trees}
                what = f"{'-'.join(map(str, sizes))}, {kind}"
                if not all(works(make, 300) for make in makers.values()):  # this compiles, too
                    rows.append({"job": what, "verdict": "does not run in both"})
                    continue
                found = [race(makers, seconds=1 if quick else 4, rounds=10) for _ in range(pairs)]
                each = count if kind == "scan" else 1
                times = [(one["old"]["best"] / each, one["new"]["best"] / each) for one in found]
                rows.append(compared(what, times, noise))
        cold = [tuple(first_step(tree, tree / f"empty-{i}") for tree in trees) for i in range(pairs)]
        full = [tuple(first_step(tree, tree / "empty-0") for tree in trees) for _ in range(pairs)]
        rows.append(compared("first step, empty cache", cold, noise))
        rows.append(compared("first step, full cache", full, noise))
    return rows
