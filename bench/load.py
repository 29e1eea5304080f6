"""Load: long runs, many threads, processes and models at once, and data larger than memory.

    python -m bench load --only calls

Each trial runs in a process of its own and is told what failed, by name: memory that grows, steps that get
slower, counters that drift, other bits than one after the other, a kernel that is missing.
"""

import gc
import hashlib
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import microgradx as mg
from bench import models
from bench.measure import RESULTS, duration, resident, write
from microgradx import data, nn, optim
from microgradx.data.idx import idx_header
from microgradx.kernels import cache

METHOD = (
    "Each trial in a process of its own. Memory is what is resident, after a tenth of the steps and at the "
    "end; of mapped files what is not the file's (the kernel drops such pages when it likes). Time per step "
    "is the processor's, the lowest decile of short bursts, in the first and the last tenth; it counts as "
    "longer where a fixed piece of work beside it is not. Failed counts what is not as promised."
)
GROWTH = 4e6
"""Bytes that a trial may gain: the free lists and arenas of Python and of malloc breathe by that much."""

CODE = 1e7
"""Bytes that a process keeps of each program that it has compiled: it may be wanted again."""

SLOWER = 1.25
"""How much longer a step may take at the end: this machine is shared."""


@dataclass
class Found:
    """What a trial measured, and what of it is not as promised."""

    steps: str
    memory: tuple[float, float] = (0, 0)
    times: tuple[float, float] | None = None
    pace: tuple[float, float] = (1, 1)  # of the machine: what the same work took then
    counters: str = ""
    failed: list[str] = field(default_factory=list)

    def check(self, holds: bool, otherwise: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.failed.append(otherwise)

    def flat(self, quick: bool, most: float = GROWTH) -> "Found":
        """Check memory, and the time per step where there was enough of it to tell."""
        start, end = self.memory
        self.check(end - start < most, f"memory grew by {(end - start) / 1e6:.1f} MB")
        if self.times is not None and not quick:
            ratio = self.times[1] / self.times[0] / (self.pace[1] / self.pace[0])
            self.check(ratio < SLOWER, f"a step takes {ratio:.2f} times as long at the end")
        return self


def clock() -> float:
    """Seconds that this process has computed, its threads together: what others do to the machine apart."""
    return time.process_time()


def ends(times: list[float]) -> tuple[float, float]:
    """The lowest decile of the first tenth of some times, and of the last."""
    tenth = max(1, len(times) // 10)
    return float(np.quantile(times[:tenth], 0.1)), float(np.quantile(times[-tenth:], 0.1))


# One model for a million steps


class Soaked:
    """A step with all that counts: Adam, a schedule, dropout."""

    def __init__(self, sizes: tuple[int, ...] = (8, 16, 3), batch: int = 16):
        mg.seed(0)
        draw = np.random.default_rng(0)
        self.x = draw.normal(size=(64 * batch, sizes[0])).astype(np.float32)
        self.y = draw.integers(0, sizes[-1], 64 * batch)
        layers = nn.Linear(*sizes[:2]), nn.ReLU(), nn.Dropout(0.1), nn.Linear(*sizes[1:])
        self.model, self.batch, self.done = nn.Sequential(*layers), batch, 0
        self.optimizer = optim.Adam(self.model.parameters(), lr=1e-3)
        self.schedule = optim.CosineAnnealingLR(self.optimizer, T_max=1000)
        self.random = mg.generator.state_dict()["block"]

    def step(self, x, y):
        """A step of training."""
        self.optimizer.zero_grad()
        loss = nn.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss

    def rows(self) -> slice:
        """The next batch."""
        start = self.done % 64 * self.batch
        return slice(start, start + self.batch)

    def calls(self, step: Callable[..., object], count: int) -> None:
        """So many steps, one by one."""
        for _ in range(count):
            rows = self.rows()
            step(self.x[rows], self.y[rows])
            self.done += 1

    def scan(self, step: Any, count: int) -> None:
        """The same in scans of 64."""
        for _ in range(count // 64):
            step.scan(self.x, self.y, batch_size=self.batch)
            self.done += 64

    def state(self) -> str:
        """A digest of the bits of weights and optimizer."""
        return digest(self.model, self.optimizer)

    def drift(self) -> list[str]:
        """The counters that are not what so many steps make of them, in exact numbers."""
        clocks = {part.clock["t"] for flat in self.optimizer.flats for part in flat.parts}
        blocks = mg.generator.state_dict()["block"] - self.random
        each = -(-self.batch * self.model[0].bias.size // 4)  # Philox gives four numbers a block
        rate = optim.CosineAnnealingLR.lr(1e-3, self.done, T_max=1000)
        wanted: dict[str, tuple[object, object]] = {
            "t": (clocks, {self.done}),
            "schedule": (self.schedule.state_dict()["last_epoch"], self.done),
            "lr": (self.optimizer.param_groups[0]["lr"], rate),
            "random blocks": (blocks, each * self.done),
        }
        return [
            f"{name} is {is_} instead of {ought}" for name, (is_, ought) in wanted.items() if is_ != ought
        ]


def digest(model: Any, optimizer: Any) -> str:
    """Of all bits of a model and its optimizer."""
    total = hashlib.sha256()
    for flat in optimizer.flats:
        for array in flat.arrays:
            total.update(array.tobytes())
    for name, array in model.state_dict().items():
        total.update(name.encode() + array.tobytes())
    return total.hexdigest()


def soak(way: str, count: float, quick: bool, sizes: tuple[int, ...] = (8, 16, 3), batch: int = 16) -> Found:
    """So many steps of one model: memory, time per step, counters."""
    world = Soaked(sizes, batch)
    run = {
        "eager": partial(world.calls, world.step),
        "calls": partial(world.calls, mg.jit(world.step)),
        "scan": partial(world.scan, mg.jit(world.step)),
    }[way]
    run(64)  # compile
    burst = 6400 if way == "scan" and not quick else 64
    bursts = max(10, -(-int(count) // burst))
    times, still, start = [], [], 0.0
    for k in range(bursts):
        if k == bursts // 10:
            gc.collect()
            start = resident()
        before = clock()
        run(burst)
        between = clock()
        sum(range(20_000))  # as long at the end as at the start, but for the machine
        times.append((between - before) / burst)
        still.append(clock() - between)
    gc.collect()
    deciles = ends(times)
    found = Found(f"{world.done:,} steps", (start, resident()), deciles)
    found.pace = ends(still)
    found.failed += world.drift()
    found.counters = f"t, schedule {world.done:,}, random blocks: exact"
    return found.flat(quick)


# Many at once


def trained(seed: int, steps: int) -> str:
    """The bits of a model of its own after some steps, by calls and by a scan."""
    draw = np.random.default_rng(seed)
    x, y = draw.normal(size=(steps * 8, 6)).astype(np.float32), draw.integers(0, 3, steps * 8)
    model = nn.MLP([6, 12, 3])
    for p in model.parameters():
        p.data = draw.normal(size=p.shape).astype(np.float32)
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    step = mg.jit(models.training(model, optimizer))
    for k in range(steps):
        step(x[8 * k : 8 * k + 8], y[8 * k : 8 * k + 8])
    step.scan(x, y, batch_size=8)
    return digest(model, optimizer)


def threads(count: int, quick: bool) -> Found:
    """So many threads with a model each, all at once, against one after the other."""
    steps = 20 if quick else 500
    apart = [trained(seed, steps) for seed in range(count)]
    gc.collect()
    start, together, gate = resident(), [""] * count, threading.Barrier(count)

    def one(seed: int) -> None:
        gate.wait()
        together[seed] = trained(seed, steps)

    crew = [threading.Thread(target=one, args=(seed,)) for seed in range(count)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    gc.collect()
    found = Found(f"{count} threads and models, {2 * steps:,} steps each", (start, resident()))
    other = sum(a != b for a, b in zip(apart, together, strict=True))
    found.check(other == 0, f"{other} of {count} models have other bits")
    found.counters = f"the same bits in {count - other} of {count}"
    return found.flat(quick, 16e6 + count * 0.5e6)  # malloc keeps an arena for the threads of each core


PROCESS = """
import sys, time
from pathlib import Path
from bench.load import trained
(Path(sys.argv[1]) / sys.argv[2]).touch()
while len(list(Path(sys.argv[1]).iterdir())) < int(sys.argv[3]):
    time.sleep(0.001)
print(trained(0, 10))
"""


def processes(count: int, quick: bool) -> Found:
    """So many processes that compile the same step into one empty cache."""
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as gate:
        environment = os.environ | {"MICROGRADX_CACHE": place}

        def start(number: int, wait: int) -> "subprocess.Popen[str]":
            command = [sys.executable, "-W", "error", "-c", PROCESS, gate, str(number), str(wait)]
            return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)

        several = [start(k, count) for k in range(count)]
        bits = {process.communicate(timeout=300)[0] for process in several}
        codes = [process.returncode for process in several]
        os.environ["MICROGRADX_CACHE"] = place
        kept = cache.entries()
        folder = cache.folder()
        files = sorted(path.name for path, _ in cache.files(folder)) if folder else []
        objects = [name for name in files if name.endswith(".o")]
        found = Found(f"{count} processes, an empty cache")
        found.check(codes == [0] * count, f"they end with {codes}")
        found.check(len(bits) == 1, f"{len(bits)} different results")
        damaged = [name for name in objects if cache.read(name) is None]
        found.check(not damaged and len(objects) == len(kept) > 0, f"damaged or missing: {damaged or files}")
        found.check(not [n for n in files if n.endswith((".lock", ".tmp"))], f"left behind: {files}")
        before = [(name, (folder / name).stat().st_mtime_ns) for name in objects] if folder else []
        again = start(count, 0)
        found.check({again.communicate(timeout=300)[0]} == bits, "a later process has other bits")
        after = sorted(path.name for path, _ in cache.files(folder)) if folder else []
        found.check(after == files and bool(before), "a later process had to compile")
    found.counters = f"all end, 1 result, {len(objects)} kernels whole, nothing left to compile"
    return found


def dropped(compiled: bool, count: int, quick: bool, width: int = 0) -> Found:
    """So many models, each made, stepped once and let go; `width`: no two of one shape."""
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(16, 32)).astype(np.float32), draw.integers(0, 4, 16)
    alive: list[Any] = []

    def one(size: int) -> None:
        model = nn.MLP([32, size, 4])
        step = models.training(model, optim.Adam(model.parameters()))
        (mg.jit(step) if compiled else step)(x, y)
        alive.append(weakref.ref(model))

    start, times = 0.0, []
    for k in range(count):
        if k == count // 10:
            gc.collect()
            start = resident()
        before = clock()
        one(64 + width * k)
        times.append(clock() - before)
    gc.collect()
    found = Found(f"{count:,} models", (start, resident()), None if width else ends(times))
    left = sum(reference() is not None for reference in alive)
    found.check(left == 0, f"{left} models are still there")
    found.counters = f"{count - left:,} of {count:,} models gone"
    if width:
        each = (found.memory[1] - start) / (count - count // 10)
        found.counters += f"; code, LLVM's and Numba's memory of it {each / 1e6:.1f} MB a shape"
    return found.flat(quick, GROWTH + CODE * count * bool(width))


# Data larger than memory


def sparse(place: Path, kind: str, rows: int, width: int) -> np.ndarray:
    """A mapped file of so many rows that takes no disk: zeros, but for the first rows."""
    start = np.random.default_rng(0).normal(size=(min(rows, 256), width)).astype(np.float32)
    if kind == "npy":
        array = np.lib.format.open_memmap(place / "x.npy", "w+", np.float32, (rows, width))
        array[: len(start)] = start
        del array
        return np.load(place / "x.npy", mmap_mode="r")
    with open(place / "x.idx", "wb") as file:
        file.write(idx_header(np.broadcast_to(np.float32(0), (rows, width))))
        file.write(start.astype(">f4").tobytes())
        file.truncate(file.tell() + 4 * width * (rows - len(start)))
    return data.read_idx(place / "x.idx", mapped=True)


def streamed(way: str, kind: str, size: float, quick: bool, every: int = 8, width: int = 16384) -> Found:
    """A pass over some rows of a file of so many bytes, with little memory to allocate."""
    rows, most = int(size // (4 * width)), min(5e8, size / 2)
    with tempfile.TemporaryDirectory() as place:
        x = sparse(Path(place), kind, rows, width)
        y, used = np.arange(rows) % 10, np.arange(0, rows, every)
        model = nn.Linear(width, 10)
        optimizer = optim.SGD(model.parameters(), lr=1e-4)
        step = mg.jit(models.training(model, optimizer))
        step.scan(np.array(x[:256]), y[:256], batch_size=128)  # compile
        gc.collect()
        start = resident("RssAnon")
        with room(most):
            before = time.perf_counter()
            if way == "fit":
                warnings.simplefilter("error")  # it would say that it goes on line by line
                mg.fit(
                    model,
                    optimizer,
                    (x[: len(used)], y[: len(used)]),
                    (x[-256:], y[-256:]),
                    epochs=1,
                    progress=False,
                )
            else:
                step.scan(x, y, batch_size=128, order=used)
            seconds = time.perf_counter() - before
        found = Found(f"{size / 1e9:.3g} GB, {len(used):,} of {rows:,} rows", (start, resident("RssAnon")))
    found.counters = f"no more than {most / 1e6:.0f} MB allowed, {size / every / seconds / 1e9:.2f} GB/s"
    return found.flat(quick, most)


@contextmanager
def room(size: float) -> Iterator[None]:
    """Inside, this process can allocate so many bytes more; files that it maps do not count."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (int(resident("VmData") + size), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@dataclass(frozen=True)
class Trial:
    """What is tried, how much of it, and how much where there is little time."""

    what: str
    run: Callable[..., Found]
    many: float
    few: float

    def row(self, name: str, quick: bool) -> dict[str, object]:
        """Try it in a new process, and say what came of it."""
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            try:
                found = process.submit(self.run, self.few if quick else self.many, quick).result()
            except Exception as error:  # of whatever kind: it is what the trial found
                found = Found("", failed=[f"{type(error).__name__}: {error}"])
        start, end = (f"{size / 1e6:.1f}" for size in found.memory)
        return {
            "tried": self.what,
            "how much": found.steps,
            "memory": f"{start} -> {end} MB" if found.memory[1] else "-",
            "time per step": " -> ".join(map(duration, found.times)) if found.times else "-",
            "counters and bits": found.counters,
            "failed": "; ".join([str(len(found.failed)), *found.failed]),
            "command": f"`python -m bench load --only {name}`",
        }


WIDE: dict[str, Any] = {"sizes": (784, 256, 10), "batch": 128}

TRIALS = {
    "calls": Trial("compiled steps, called one by one", partial(soak, "calls"), 1e6, 1280),
    "scan": Trial("compiled steps, in scans of 64", partial(soak, "scan"), 1e6, 1280),
    "helpers": Trial("compiled steps on all threads", partial(soak, "calls", **WIDE), 1e4, 640),
    "eager": Trial("steps line by line", partial(soak, "eager"), 1e5, 640),
    "threads": Trial("threads at once, a compiled model each", threads, 64, 8),
    "processes": Trial("processes at once, an empty kernel cache", processes, 8, 3),
    "models": Trial("models made, stepped line by line, dropped", partial(dropped, False), 1000, 50),
    "compiled-models": Trial("models made, stepped compiled, dropped", partial(dropped, True), 200, 10),
    "shapes": Trial("the same, no two of one shape: code stays", partial(dropped, True, width=1), 30, 10),
    "scan-npy": Trial("a scan over a mapped .npy", partial(streamed, "scan", "npy", every=1), 30e9, 3e8),
    "scan-idx": Trial("a scan over a mapped IDX, big-endian", partial(streamed, "scan", "idx"), 30e9, 3e8),
    "fit-npy": Trial("fit, shuffled, a mapped .npy", partial(streamed, "fit", "npy"), 30e9, 3e8),
    "fit-idx": Trial("fit, shuffled, a mapped IDX", partial(streamed, "fit", "idx"), 30e9, 3e8),
}  # fmt: skip
"""Everything that is tried, by its name on the command line."""


def options(parser: Any) -> None:
    """The command's own options."""
    parser.add_argument(
        "--only", nargs="+", choices=TRIALS, default=[], help="try these alone, and keep no table"
    )
    parser.add_argument("--workers", type=int, default=1, help="trials at a time")


def run(quick: bool = False, only: Sequence[str] = (), workers: int = 1) -> list[dict[str, object]]:
    """A row per trial; the table is written when all were tried."""

    def tried(name: str) -> dict[str, object]:
        row = TRIALS[name].row(name, quick)
        print(f"  {row}", flush=True)
        return row

    with ThreadPoolExecutor(workers) as pool:
        rows = list(pool.map(tried, only or TRIALS))
    if not quick and not only:
        keep(rows)
    return rows


def keep(rows: list[dict[str, object]], folder: Path = RESULTS) -> Path:
    """Write the table of all trials."""
    failed = sum(row["failed"] != "0" for row in rows)
    title = f"Load: {len(rows)} trials, {failed} failed"
    return write("load", title, rows, f"Command: `python -m bench load`. {METHOD}", folder)
