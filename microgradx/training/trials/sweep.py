"""Many trainings: `training.sweep(trial, {"lr": "1e-4..1e-1:log:8", "optimizer": "adam,sgd"}, seeds=5)`.

With a folder every result is on the disk as soon as it is there; killed at any moment and called again with
`resume=True`, the same call loses no more than the trials that were under way.

sweep.json    what is tried, and how
trials.jsonl  a line per trial that has ended, well or not
states/       with halving: where trials stand that may go on
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from microgradx.errors import FOREIGN, ArgumentError, CheckpointError, MicrogradxError, one_of, whole
from microgradx.kernels.thread_pool import cores
from microgradx.palette import Place
from microgradx.training.files import held, replace
from microgradx.training.runs import versions
from microgradx.training.stopping import Stop, interruptible
from microgradx.training.trials import maps, plans
from microgradx.training.trials.attempt import Trial
from microgradx.training.trials.crew import Crew, Executors, Processes
from microgradx.training.trials.grid import Axis, Grid, Range, Value, read, size
from microgradx.training.trials.journal import Entry, Fits, Job, Journal, damaged, described
from microgradx.training.trials.results import Results
from microgradx.training.trials.watch import Watch

MOST = 10_000
"""Trials that nobody asks for by accident."""

SEARCHES = "tpe", "random"


@dataclass
class Plan:
    """What is tried: all that a sweep's trials and their order follow from."""

    grid: dict[str, str | list[Value]]
    seeds: list[int]
    epochs: int | None = None  # with halving
    halving: int | None = None
    search: str | None = None
    trials: int | None = None  # configurations that a search proposes
    about: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.grid:
            raise ArgumentError("a sweep needs something to vary, such as lr=1e-4..1e-1:log:8.")
        own = {"seed"} | ({"epochs", "folder"} if self.halving is not None else set())
        if taken := sorted(own & self.grid.keys()):
            raise ArgumentError(f"{taken[0]} is decided by the sweep: leave it out of the grid.")
        if (self.halving is not None) and (self.search is not None):
            raise ArgumentError("halving compares what a grid has, a search proposes: take one of them.")
        if self.halving is not None and whole("halving", self.halving, 2) and self.epochs is None:
            raise ArgumentError("halving needs the number of epochs that the best are trained for.")
        if self.search is not None and self.search not in SEARCHES:
            raise ArgumentError(one_of("search", self.search, SEARCHES))
        if (self.search is None) != (self.trials is None):
            raise ArgumentError("a search needs a number of trials, and trials are those of a search.")
        if self.trials is not None:
            whole("trials", self.trials, 1)
        if len(set(self.seeds)) < len(self.seeds) or not self.seeds:
            raise ArgumentError(f"seeds are at least one, each once, not {self.seeds}.")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The plan of the sweep in a folder; CheckpointError where there is none, or one without sense."""
        about = described(folder)
        try:
            plan = cls(**{name: about[name] for name in cls.__dataclass_fields__})
            lists = all(isinstance(given, str | list) for given in plan.grid.values())
            seeds = all(type(seed) is int for seed in plan.seeds)
            epochs = (plan.epochs is None) == (plan.halving is None) and whole("epochs", plan.epochs or 1, 1)
            if lists and seeds and epochs and isinstance(plan.about, dict) and plan.axes and plan.count:
                return plan
        except (MicrogradxError, *FOREIGN):
            pass
        raise damaged(folder)

    @property
    def axes(self) -> dict[str, Axis]:
        """What each name may be."""
        return {name: read(name, given) for name, given in self.grid.items()}

    @property
    def stages(self) -> list[int]:
        """With halving, the epochs after which configurations are compared."""
        return plans.rungs(self.epochs or 1, self.halving or 2, size(self.axes))

    @property
    def configurations(self) -> int:
        """How many there are."""
        return self.trials or size(self.axes)

    @property
    def count(self) -> int:
        """How many trainings there are at the most; with halving each round counts."""
        count = self.configurations
        if self.halving:
            rounds = [count]
            for _ in self.stages[1:]:
                rounds.append(max(1, rounds[-1] // self.halving))
            count = sum(rounds)
        return count * len(self.seeds)

    def bound(self, most: int) -> None:
        """ArgumentError where there are more trainings than that."""
        if self.count > most:
            asked = f"a sweep of {self.count:,} trainings, more than {most:,}"
            raise ArgumentError(f"{asked}: leave some out, or ask for so many with most={self.count}.")

    def fitting(self) -> Fits:
        """What tells the entries of this sweep from those of another."""
        members = {name: member(name, axis) for name, axis in self.axes.items()}
        seeds = set(self.seeds)
        rounds = set(self.stages) if self.halving else {None}

        def fits(entry: Entry) -> bool:
            """Whether its configuration, seed and epochs are among those that are tried."""
            config = entry["config"]
            if config.keys() != members.keys() or entry["seed"] not in seeds:
                return False
            return entry.get("epochs") in rounds and all(members[name](config[name]) for name in config)

        return fits

    def jobs(self, folder: Path | None) -> plans.Plan:
        """The trials, round by round."""
        if self.halving and self.epochs:
            assert folder is not None
            return plans.halving(self.axes, self.seeds, self.halving, self.epochs, folder / "states")
        if self.search and self.trials:
            return plans.search(self.axes, self.seeds, self.search, self.trials)
        return plans.whole(self.axes, self.seeds)

    def keep(self, folder: Path, resume: bool) -> None:
        """Describe the sweep in its folder; one that is resumed must be the same."""
        path, now = folder / "sweep.json", asdict(self)
        if path.exists():
            before = json.loads(json.dumps(asdict(Plan.read(folder))))
            if not resume:
                raise ArgumentError(f"{folder} already holds a sweep: resume it, or choose another folder.")
            if other := [name for name in now if before.get(name) != json.loads(json.dumps(now[name]))]:
                raise CheckpointError(f"{folder} holds a sweep with another {', '.join(other)}.")
            return
        replace(path, f"{json.dumps(now | {'versions': versions()}, indent=2)}\n".encode())


def text(value: object) -> str:
    """A value as a line of the journal has it."""
    return json.dumps(value, sort_keys=True)


def member(name: str, axis: Axis) -> Callable[[object], bool]:
    """What tells the values of an axis, as they are and as a search writes them, from others."""
    if isinstance(axis, Range) and axis.count is None:
        ends = [axis.low, axis.high, *(float(f"{end:.6g}") for end in (axis.low, axis.high))]
        return lambda value: type(value) in (int, float) and min(ends) <= value <= max(ends)  # type: ignore[operator]
    values = axis.values(name) if isinstance(axis, Range) else axis
    written = plans.typeable({str(k): value for k, value in enumerate(values)}).values()
    known = {*map(text, values), *map(text, written)}
    return lambda value: text(value) in known


class Sweep(Results):
    """The trials of a sweep, and its folder if it has one.

    `standings` are the configurations from the best to the worst, `best` is the first; `table()` and `map()`
    are texts, `plot(file)` draws. `Sweep.read(folder)` reads one, also while it goes on. `by="accuracy"` puts
    them in another order.

    >>> entries = [{"config": {"lr": lr}, "seed": 0, "result": {"loss": lr}} for lr in (2, 1)]
    >>> found = training.Sweep({"lr": [1, 2]}, entries)
    >>> [standing.config for standing in found.standings], found.best.mean
    ([{'lr': 1}, {'lr': 2}], 1.0)
    """

    @classmethod
    def read(cls, folder: str | Path, by: str = "loss") -> Self:
        """The sweep in a folder; CheckpointError where there is none."""
        plan = Plan.read(Path(folder))
        journal = Journal(Path(folder) / "trials.jsonl", plan.fitting())
        return cls(plan.grid, [*journal.entries.values()], Path(folder), plan.about, by)

    def map(self, axes: Sequence[str] = (), width: int = 80) -> str:
        """Two names, and a number for each pair of their values: those given, or that matter most."""
        return maps.text(self, axes, width)

    def plot(self, place: Place, axes: Sequence[str] = ()) -> None:
        """The same as a heat map, a PNG; of one name a line. Needs the extra `plot`."""
        maps.plot(self, place, axes)


def sweep(
    trial: Trial,
    grid: Grid,
    *,
    seeds: int | Sequence[int] = 1,
    out: str | Path | None = None,
    resume: bool = False,
    processes: int | None = None,
    at_once: int = 1,
    limit: float | None = None,
    epochs: int | None = None,
    halving: int | None = None,
    search: str | None = None,
    trials: int | None = None,
    most: int = MOST,
    executor: Executor | None = None,
    progress: bool = True,
    about: dict[str, object] | None = None,
) -> Sweep:
    """Train with every combination of some options, and find out which is best.

    trial: (seed=..., **options) -> a loss, or a record of JSON with "loss" or "valid_loss", as
        `mg.fit(...).best`. With several processes a function of a module. Every trial has random numbers of
        its own, so that a trial which seeds them has the same result in any company.
    grid: for every option its values, or a text: `1e-4..1e-1:log:8` by equal factors, `0..0.5:lin:3` evenly,
        `adam,sgd` one by one.
    seeds: how many, from 0 on, or which; a configuration is judged by its mean.
    out: the folder of the sweep, resume: go on with what is in it; trials that have ended, well or not, are
        not done again. Those whose process died are tried a second time.
    processes: how many, all cores without; 0 for this one. at_once: trials at a time in each, in threads.
    limit: seconds for a trial; its process is killed soon after. Threads cannot be.
    halving, epochs: all begin with few epochs, and the best one in `halving` goes on each time, up to
        `epochs`. `trial` is then also given `epochs`, how far to train, and `folder`, a path of its own, at
        which it finds what it left there: `mg.fit(..., epochs=epochs, out=folder, resume=True)`.
    search, trials: let Optuna propose so many configurations, by "tpe" or at "random"; ranges need no number
        then. Needs the extra `optuna`.
    most: more trainings than that are refused.
    executor: one of `concurrent.futures` that works instead, such as MPI's, `processes` at a time.
    about: more for `sweep.json`.

    A trial that fails, by an error, a loss that is not finite, the limit, or the end of its process, is
    written down with its reason. ArgumentError for what cannot be tried, CheckpointError for a folder that is
    another sweep's, or in use. Ctrl-C ends it at once, but for threads.

    >>> def trial(lr, seed):
    ...     return (lr - 0.1) ** 2 + seed / 1000
    >>> found = training.sweep(trial, {"lr": "0.01..1:log:3"}, seeds=2, processes=0, progress=False)
    >>> found.best.config, found.best.mean, len(found.entries)
    ({'lr': 0.1}, 0.0005, 6)
    """
    numbers = list(range(whole("seeds", seeds, 1))) if isinstance(seeds, int) else list(seeds)
    listed = {name: given if isinstance(given, str) else list(given) for name, given in grid.items()}
    plan = Plan(listed, numbers, epochs if halving else None, halving, search, trials, about or {})
    plan.bound(most)
    folder = Path(out) if out is not None else None
    if folder is None and (resume or halving):
        raise ArgumentError("halving and resuming need the folder of the sweep: sweep(..., out=FOLDER).")
    count = cores() if processes is None else whole("processes", processes)
    at_once = whole("at_once", at_once, 1)

    def crew() -> Crew:
        """Who works, once there is something to do."""
        lanes = min(count * at_once, plan.count)
        if executor is not None:
            return Executors(executor, max(1, count), trial)
        if not count:
            return Executors(ThreadPoolExecutor(at_once), at_once, trial)
        return Processes(trial, -(-lanes // at_once), at_once, max(1, cores() // lanes), limit)

    with held(folder) if folder else nullcontext():
        if folder:
            plan.keep(folder, resume)
            if halving:
                (folder / "states").mkdir(exist_ok=True)
        journal = Journal(folder / "trials.jsonl" if folder else None, plan.fitting() if folder else None)
        journal.mend()
        with Watch(plan.count, progress) as watch:
            work(plan.jobs(folder), journal, crew, watch)
    return Sweep(plan.grid, [*journal.entries.values()], folder, plan.about)


def work(plan: plans.Plan, journal: Journal, hire: Callable[[], Crew], watch: Watch) -> None:
    """All trials that are left, round by round; the crew comes when there is something to do."""
    with interruptible(True) as stop, ExitStack() as end:
        crew = None
        for jobs in rounds(plan, journal):
            left = deque(job for job in jobs if job.key not in journal.entries)
            watch.told([journal.entries[job.key] for job in jobs if job.key in journal.entries])
            if left and crew is None:
                crew = hire()
                end.callback(crew.close)
            if left and crew is not None:
                work_off(left, crew, journal, watch, stop)


def rounds(plan: plans.Plan, journal: Journal) -> Iterator[list[Job]]:
    """The jobs of a plan, which is told what became of them."""
    with suppress(StopIteration):
        jobs = next(plan)
        while True:
            yield jobs
            jobs = plan.send([journal.entries[job.key] for job in jobs])


def work_off(left: deque[Job], crew: Crew, journal: Journal, watch: Watch, stop: Stop) -> None:
    """The trials of a round, until each has an entry; one whose process died is tried once more."""
    running = 0
    while left or running:
        while left and crew.free > 0:
            crew.begin(left.popleft())
            running += 1
        for job, entry in crew.ended():
            running -= 1
            if entry is None:
                left.appendleft(job)
            elif entry.get("failed") == "died" and not journal.deaths[job.key]:
                journal.add(job.entry({"died": entry["why"]}))
                left.append(job)
            else:
                journal.add(entry)
                watch.told([entry])
        if stop:
            stop.end(f"stopped after {watch.done} of {watch.count} trials")
