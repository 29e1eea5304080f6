"""Random programs compiled and line by line: how many agree, what is refused, and every fault made small.

    python -m bench fuzz --programs 20000 --seed 0 --mode interpret --workers 2

A program is known by its seed. Programs run in processes that may die; then the next one goes on.
"""

import multiprocessing
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from bench import grammar
from bench.programs import Program
from bench.shrinking import shrink
from bench.verdicts import WAYS, Verdict, judge

RENEW = {"interpret": 2_000, "pieces": 2_000, "machine": 200}
"""Programs after which a process makes place for a new one: what it has compiled stays in its memory."""

METHOD = "Programs come from seeds; all that can be seen of each is compared, line by line and compiled."

PATIENCE = 120.0
"""Seconds that one program may take."""

SHOWN = 12
"""Faults of different kinds that are made small and printed."""


def options(parser: Any) -> None:
    """The command's own options."""
    parser.add_argument("--programs", type=int, default=2_000, help="how many programs")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first one")
    parser.add_argument("--mode", choices=list(WAYS), default="interpret", help="how steps run")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes at a time")


def serve(pipe: Connection, mode: str) -> None:
    """A worker: judges the programs of the seeds that it is sent."""
    while (seed := pipe.recv()) is not None:
        program, drawn = grammar.program(seed)
        pipe.send((judge(program, WAYS[mode]), drawn))


@dataclass
class Worker:
    """A process that judges programs, one at a time."""

    mode: str
    seed: int | None = None
    since: float = 0.0
    served: int = 0
    process: Any = None
    pipe: Any = None

    def give(self, seed: int) -> None:
        """Let it judge the program of a seed."""
        if self.process is None or self.served >= RENEW[self.mode]:
            self.start()
        self.seed, self.since, self.served = seed, time.monotonic(), self.served + 1
        self.pipe.send(seed)

    def start(self) -> None:
        """A new process in place of the old one."""
        self.stop()
        spawn = multiprocessing.get_context("spawn")
        self.pipe, there = spawn.Pipe()
        self.process = spawn.Process(target=serve, args=(there, self.mode), daemon=True)
        self.process.start()
        there.close()
        self.served = 0

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
        self.process = None

    def answer(self) -> tuple[Verdict, list[str]]:
        """What came of its program; a crash where the process has ended."""
        try:
            return self.pipe.recv()
        except EOFError:
            self.process.join()
            code, self.process = self.process.exitcode, None
            return Verdict("crash", f"the process ended with exit code {code}"), []

    def late(self) -> bool:
        """Whether its program takes too long."""
        return self.seed is not None and time.monotonic() - self.since > PATIENCE


def judged(seeds: range, mode: str, count: int) -> Iterator[tuple[int, Verdict, list[str]]]:
    """The verdict on the program of every seed, as they come, and the rules that it was drawn by."""
    workers, waiting = [Worker(mode) for _ in range(count)], iter(seeds)
    try:
        while True:
            for worker in workers:
                if worker.seed is None and (seed := next(waiting, None)) is not None:
                    worker.give(seed)
            busy = {worker.pipe: worker for worker in workers if worker.seed is not None}
            if not busy:
                return
            for pipe in wait(list(busy), timeout=1):
                worker = busy[pipe]
                seed, worker.seed = worker.seed, None
                yield seed, *worker.answer()
            for worker in filter(Worker.late, workers):
                worker.stop()
                seed, worker.seed = worker.seed, None
                yield seed, Verdict("hang", f"took more than {PATIENCE:.0f} s"), []
    finally:
        for worker in workers:
            worker.stop()


def attempt(pipe: Connection, program: Program, mode: str) -> None:
    """Judge one program, for somebody in another process."""
    pipe.send(judge(program, WAYS[mode]))


def apart(program: Program, mode: str) -> Verdict:
    """The verdict on a program in a process of its own, which may die."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=attempt, args=(there, program, mode), daemon=True)
    process.start()
    there.close()
    try:
        return here.recv() if here.poll(PATIENCE) else Verdict("hang")
    except EOFError:
        return Verdict("crash")
    finally:
        process.kill()
        process.join()


def smallest(seed: int, verdict: Verdict, mode: str) -> Program:
    """A program that fails as that of the seed does."""
    program, _ = grammar.program(seed)
    if verdict.kind in ("crash", "hang"):
        return shrink(program, lambda p: apart(p, mode).kind == verdict.kind, limit=40)
    return shrink(program, lambda p: judge(p, WAYS[mode]).alike(verdict), 60 if mode == "machine" else 400)


@dataclass
class Tally:
    """What has come of programs so far."""

    kinds: Counter = field(default_factory=Counter)
    rules: Counter = field(default_factory=Counter)
    found: dict[tuple[str, str], list[tuple[int, Verdict]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, seed: int, verdict: Verdict, drawn: list[str]) -> None:
        """Count one more."""
        self.kinds[verdict.kind] += 1
        self.rules.update(drawn)
        if verdict.kind != "same":
            self.found[verdict.kind, verdict.reason].append((seed, verdict))

    def rows(self) -> list[dict[str, object]]:
        """The counts as a table."""
        least = min(grammar.RULES, key=lambda name: self.rules[name])
        rows: list[tuple[str, object, str]] = [
            ("programs", self.kinds.total(), ""),
            ("lines in them", self.rules.total(), ""),
            ("rules", len(grammar.RULES), f"each drawn at least {self.rules[least]} times ({least})"),
        ]
        for kind in ("same", "differs", "error", "crash", "hang", "invalid"):
            rows.append((MEANING[kind], self.kinds[kind], ""))
        for (kind, why), cases in sorted(self.found.items(), key=lambda item: -len(item[1])):
            rows.append((MEANING[kind], len(cases), f"{why}, seed {cases[0][0]}".replace("|", "/")))
        return [dict(zip(("what", "number", "which"), row, strict=True)) for row in rows]


MEANING = {
    "same": "compiled as line by line",
    "differs": "another result",
    "error": "an internal error",
    "crash": "the process died",
    "hang": "no end",
    "refused": "refused",
    "unsteady": "left out: roundings decide, or the order of infinities",
    "invalid": "left out: fails line by line",
}
"""What the verdicts mean."""


def run(
    quick: bool = False, programs: int = 2_000, seed: int = 0, mode: str = "interpret", workers: int = 2
) -> list[dict[str, object]]:
    """What came of so many programs; faults are printed as they are met, and in small at the end."""
    count, tally, start = 100 if quick else programs, Tally(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MICROGRADX_CACHE"] = folder
        for done, (number, verdict, drawn) in enumerate(judged(range(seed, seed + count), mode, workers), 1):
            tally.add(number, verdict, drawn)
            if verdict.fault:
                print(f"  seed {number}: {MEANING[verdict.kind]}: {verdict.text}", flush=True)
            if done % max(count // 20, 50) == 0:
                seconds = time.monotonic() - start
                print(f"  {done} of {count}, {seconds:.0f} s, {dict(tally.kinds)}", flush=True)
        faults = [cases[0] for cases in tally.found.values() if cases[0][1].fault]
        for number, verdict in faults[:SHOWN]:
            print(f"\nseed {number}: {MEANING[verdict.kind]}: {verdict.text}", flush=True)
            print(smallest(number, verdict, mode), flush=True)
    return tally.rows()
