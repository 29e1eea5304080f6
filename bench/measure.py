"""Timing contenders against each other, and writing down what was found."""

import multiprocessing
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

pause = 0.05  # seconds before a burst: BLAS threads of the contender before spin that long for more work
RESULTS = Path(__file__).parent / "results"

Maker = Callable[[], Callable[[], object]]
"""Makes a contender in its own process: returns what is called again and again."""


def serve(make: Callable[[], Callable[[], object]], pipe) -> None:
    """A contender's process: make it, then time as many calls as are asked for."""
    run = make()
    for _ in range(5):  # compile, fill caches
        run()
    while count := pipe.recv():
        run()  # wake this process and its threads
        start = time.perf_counter()
        for _ in range(count):
            run()
        pipe.send((time.perf_counter() - start) / count)


def works(make: Maker, seconds: float) -> bool:
    """Whether a contender can be made, and run once, in so much time."""
    process = multiprocessing.get_context("spawn").Process(target=attempt, args=(make,), daemon=True)
    process.start()
    process.join(seconds)
    process.kill()
    return process.exitcode == 0


def attempt(make: Maker) -> None:
    """Make a contender and run it once."""
    make()()


def race(makers: Mapping[str, Maker], seconds: float = 2.0, rounds: int = 30) -> dict[str, dict[str, float]]:
    """Time contenders in turn, A B C A B C ..., each in a process of its own.

    Each gets as many bursts as the others, so that what disturbs the machine for a while disturbs all,
    and none suffers from the threads of another. `seconds` is the time for all of them together. Returns
    per name: median and best (seconds a call), and ratio, the first one's time over its own, by round.
    """
    spawn = multiprocessing.get_context("spawn")
    pipes, processes, calls = {}, [], {}
    for name, make in makers.items():
        pipes[name], there = spawn.Pipe()
        processes.append(spawn.Process(target=serve, args=(make, there), daemon=True))
        processes[-1].start()
        there.close()
    times: dict[str, list[float]] = {name: [] for name in makers}
    for name, pipe in pipes.items():
        pipe.send(3)
        calls[name] = max(1, round(seconds / rounds / len(makers) / pipe.recv()))
    for _ in range(rounds):
        for name, pipe in pipes.items():
            time.sleep(pause)
            pipe.send(calls[name])
            times[name].append(pipe.recv())
    for pipe, process in zip(pipes.values(), processes, strict=True):
        pipe.send(0)
        process.join()
    first = next(iter(makers))
    return {
        name: {
            "median": statistics.median(found),
            "best": min(found),
            "ratio": statistics.median(base / t for base, t in zip(times[first], found, strict=True)),
        }
        for name, found in times.items()
    }


def resident(what: str = "VmRSS") -> int:
    """Bytes of this process by one of Linux' counts: now, VmHWM at most, RssAnon without mapped files.

    Not ru_maxrss, in which a child begins at its parent's.
    """
    found = re.search(rf"{what}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(found[1]) if found else 0


def duration(seconds: float | None) -> str:
    """A time in the unit that suits it."""
    if seconds is None:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size or unit == "us":
            return f"{seconds / size:.3g} {unit}"
    return "-"


def versions(*names: str) -> str:
    """The installed versions of packages, "numpy 2.4, torch -"."""

    def one(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "-"

    return ", ".join(f"{name} {one(name)}" for name in names)


def table(rows: list[dict[str, object]]) -> str:
    """Rows as a Markdown table with aligned columns."""
    head = list(dict.fromkeys(key for row in rows for key in row))
    cells = [head, *([str(row.get(key, "")) for key in head] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


TURNS = "Contenders take turns; medians; compile time apart."


def write(
    name: str,
    title: str,
    rows: list[dict[str, object]] | Mapping[str, list],
    note: str = "",
    folder: Path = RESULTS,
) -> Path:
    """Keep a table as bench/results/DATE-NAME.md, with the machine, the versions and the command.

    Several tables, by name, are sections of the file.
    """
    note = note or f"Command: `python -m bench {name.split('-')[0]}`. {TURNS}"
    from microgradx.compiler.report.machine_limits import (
        processor,  # here: every contender's process imports this file
    )

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{date.today():%Y-%m-%d}-{name}.md"
    tables = rows if isinstance(rows, Mapping) else {"": rows}
    parts = (f"## {head}\n\n" * bool(head) + table(part) for head, part in tables.items() if part)
    path.write_text(
        f"# {title}\n\n{date.today():%Y-%m-%d}, {processor()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, {versions('numpy', 'numba', 'scipy', 'torch', 'jax')}.\n"
        f"{note}\n\n" + "\n\n".join(parts) + "\n"
    )
    return path
