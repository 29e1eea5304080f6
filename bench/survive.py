"""Training killed, stopped and spoiled on purpose, many times: how many faults were tried, how many survived.

    python -m bench survive --case "adam, compiled" --tries 30 --seed 0

A killed run goes on with `microgradx train --resume`, is killed again, and in the end is compared bit by bit
with one that nothing befell: weights, the optimizer's state, random numbers, losses and history.
"""

import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from bench import faults, measure
from microgradx.training import History, Run, checkpoints

METHOD = "Each fault hits a real run; it survives if what follows is bit for bit as if nothing had happened."

DIGITS = "--data=digits --model=64-32-10 --save-every=0.02 --epochs=40"
CASES = {
    "adam, compiled": f"{DIGITS} --dropout=0.2 --schedule=cosine",
    "adam, eager": f"{DIGITS} --dropout=0.2 --schedule=cosine --eager --epochs=8",
    "momentum, one-cycle": f"{DIGITS} --optimizer=momentum --schedule=one-cycle --dropout=0.5 --clip-norm=1",
    "adamw, plateau": f"{DIGITS} --optimizer=adamw --schedule=plateau --standardize",
    "lion, early stopping": f"{DIGITS} --optimizer=lion --lr=0.01 --dropout=0.1 --patience=5 --epochs=1000",
    "amsgrad, restarts": f"{DIGITS} --optimizer=adam --amsgrad --schedule=cosine-restarts --drop-last",
    "adafactor": f"{DIGITS} --optimizer=adafactor --dropout=0.1",
    "lamb, linear": f"{DIGITS} --optimizer=lamb --schedule=linear",
    "muon": f"{DIGITS} --optimizer=muon --no-bias --dropout=0.1",
    "lbfgs": "--data=moons --model=2-16-2 --optimizer=lbfgs --batch-size=800 --epochs=60 --save-every=0.02",
    "other threads": f"{DIGITS} --model=64-256-256-10 --batch-size=256 --dropout=0.2 --schedule=cosine",
}
"""Runs that are killed: options of `microgradx train`. Every other part of "other threads" has one thread."""

Count = tuple[int, int]
"""Faults tried, and survived."""


def options(parser: Any) -> None:
    """The command's own options."""
    parser.add_argument("--case", metavar="NAME", help="one of the rows; all without it")
    parser.add_argument("--tries", type=int, default=30, help="how often each fault, at the least")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and places")


server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["bench.survive", "microgradx.cli.train", "matplotlib.backends.backend_agg"])


def victim(arguments: list[str], ready: Connection, log: Path, operation: int | None, folder: Path) -> None:
    """`microgradx train` in a process that may die: it says when the training begins."""
    from microgradx.cli import main, train

    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell in the background ignores
    fit = train.fit

    def begun(*given: object, **more: object) -> object:
        ready.send(True)
        return fit(*given, **more)

    train.fit = begun
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = file
        if operation is not None:
            faults.die_before(operation, folder)
        main(["train", "--quiet", *arguments])


@contextmanager
def training(arguments: list[str], folder: Path, operation: int | None = None) -> Iterator[Any]:
    """A process that trains, once it has said so; whatever befalls, it does not outlive the block."""
    ready, there = server.Pipe()
    given = (arguments, there, folder.with_suffix(".log"), operation, folder)
    process = server.Process(target=victim, args=given, daemon=True)
    process.start()
    there.close()
    try:
        with suppress(EOFError):  # it has ended before
            ready.recv()
        yield process
    finally:
        process.kill()
        process.join()


def resumed(folder: Path, options: str, number: int = 0, name: str = "") -> list[str]:
    """The arguments that go on with a run, or that begin it where nothing of it was kept."""
    if not (folder / "config.json").exists():
        return [f"--out={folder}", *options.split()]
    every = [word for word in options.split() if word.startswith("--save-every")]
    return [f"--resume={folder}", *every, *[f"--threads={1 + number % 2}"] * (name == "other threads")]


def whole(options: str, folder: Path) -> tuple[float, float]:
    """A run that nothing befalls: seconds to its first epoch, had all been compiled, and to its last."""
    with training([f"--out={folder}", *options.split()], folder) as process:
        start = time.monotonic()
        while not (folder / "history.jsonl").exists() and process.is_alive():
            time.sleep(0.002)
        first = time.monotonic()
        process.join()
        assert process.exitcode == 0, folder.with_suffix(".log").read_text()
    run = Run(folder)
    return min(1.0, first - start), run.last.stat().st_mtime - run.config.stat().st_mtime


CODES = {signal.SIGKILL: (-9, 0), signal.SIGINT: (130, 0), signal.SIGTERM: (143, -15, 0)}
"""What a stopped process may end with: it may have ended before, or not yet begun to listen."""


def killed(name: str, tries: int, seed: int, place: Path, how: signal.Signals = signal.SIGKILL) -> Count:
    """Kill, or stop, a run at random moments, also while it writes, and compare what it ends with."""
    options, draw = CASES[name], random.Random(seed)
    first, span = whole(options, place / "whole")
    tried = survived = number = 0
    while tried < tries:
        folder, hits, good, ended = place / f"run{number}", 0, True, False
        while not ended:
            with training(resumed(folder, options, hits, name), folder) as process:
                left = tried + hits < tries
                process.join(draw.uniform(0, first + span / 6) if left else None)
                if process.is_alive():
                    os.kill(process.pid, how)
                    hits += 1
                else:
                    ended = True
                process.join()
                good &= process.exitcode in CODES[how]
        number += 1
        tried += hits
        if good and same_run(place / "whole", folder):
            survived += hits
        else:
            print(f"  {name}, {folder.name}: {folder.with_suffix('.log').read_text()}", flush=True)
    return tried, survived


def died_at_every_operation(tries: int, seed: int, place: Path) -> Count:
    """Kill a short run right before each thing it does to a file of its folder, first to last."""
    options = "--data=moons --model=2-4-2 --epochs=1 --eager --dropout=0.2"
    whole(options, place / "whole")
    tried = survived = 0
    while tried < 10 * tries:
        folder = place / f"run{tried}"
        with training(resumed(folder, options), folder, operation=tried) as process:
            process.join()
        if process.exitcode == 0:  # it does no more than that
            break
        tried += 1
        with training(resumed(folder, options), folder) as process:
            process.join()
        survived += process.exitcode == 0 and same_run(place / "whole", folder)
    return tried, survived


def same_run(one: Path, two: Path) -> bool:
    """Whether two folders hold the same run, apart from when and how fast it ran."""
    histories = [History.read(Run(folder).history).records for folder in (one, two)]
    for record in [record for records in histories for record in records]:
        del record["seconds"], record["samples_per_second"]
    pairs = [(Run(one).last, Run(two).last), (Run(one).best, Run(two).best)]
    return histories[0] == histories[1] and all(same(settled(a), settled(b)) for a, b in pairs)


def settled(path: Path) -> checkpoints.State:
    """What a checkpoint holds, apart from when and how fast it was made."""
    state = checkpoints.load(path)
    del state["position"]["seconds"], state["config"], state["record"]
    return state


def same(one: Any, two: Any) -> bool:
    """Whether two trees have the same bits."""
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, np.ndarray):
        return one.dtype == two.dtype and one.tobytes() == two.tobytes()
    return one == two


def cases() -> dict[str, Callable[[int, int, Path], Count]]:
    """Every row of the table, and what it tries."""
    kills = {f"kill -9: {name}": lambda *a, name=name: killed(name, *a) for name in CASES}
    stops = {
        f"{number.name}: adam, compiled": lambda *a, number=number: killed("adam, compiled", *a, number)
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    return kills | stops | {"kill -9 before each file operation": died_at_every_operation} | faults.FAULTS


def keep(rows: list[dict[str, object]], tries: int, seed: int) -> None:
    """Write the table as far as it goes."""
    note = f"Command: `python -m bench survive --tries {tries} --seed {seed}`. {METHOD}"
    measure.write("survive", (__doc__ or "").splitlines()[0], rows, note)


def run(
    quick: bool = False, case: str | None = None, tries: int = 30, seed: int = 0
) -> list[dict[str, object]]:
    """The table: faults tried, survived, lost, and the command of each row; one row alone writes no file."""
    known, count = cases(), 3 if quick else tries
    if case is not None and case not in known:
        raise SystemExit(f"no case {case!r}; there are {', '.join(known)}")
    rows: list[dict[str, object]] = []
    for name in [case] if case else known:
        with tempfile.TemporaryDirectory() as place:
            start = time.monotonic()
            tried, survived = known[name](count, seed, Path(place))
        again = f"`python -m bench survive --case '{name}' --tries {count} --seed {seed}`"
        row = {"fault": name, "tried": tried, "survived": survived, "lost": tried - survived}
        rows.append(row | {"command": again})
        print(f"  {name}: {survived} of {tried} survived, {time.monotonic() - start:.0f} s", flush=True)
        if not quick and not case:
            keep(rows, tries, seed)
    return rows
