"""Which trials come next: all of a grid, rounds of successive halving, or what a search proposes.

A plan is a generator: it yields jobs and is sent their entries, in the order of the jobs. So it depends on
nothing but results, and a sweep that is resumed takes the same way as one that was never stopped.
"""

import statistics
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from microgradx.errors import ArgumentError, one_of
from microgradx.extras import install
from microgradx.training.trials.grid import Axis, Config, Range, combinations
from microgradx.training.trials.journal import Entry, Job, score

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Plan = Generator[list[Job], list[Entry], None]

GENERATION = 8
"""Configurations that a search proposes at once, whatever the number of workers: results follow from it."""


def whole(axes: Mapping[str, Axis], seeds: Sequence[int]) -> Plan:
    """Every combination with every seed."""
    yield [Job(config, seed) for config in combinations(axes) for seed in seeds]


def rungs(epochs: int, factor: int, count: int) -> list[int]:
    """After how many epochs so many configurations are compared: as often as it leaves one of each.

    >>> rungs(27, 3, 9), rungs(10, 3, 100)
    ([3, 9, 27], [1, 3, 10])
    """
    found = [epochs]
    while found[0] // factor >= 1 and factor ** len(found) <= count:
        found.insert(0, found[0] // factor)
    return found


def halving(axes: Mapping[str, Axis], seeds: Sequence[int], factor: int, epochs: int, states: Path) -> Plan:
    """Successive halving (Jamieson & Talwalkar 2016, arXiv 1502.07943): the best share goes on each time.

    All begin with few epochs; then one in `factor` goes on from its state, by the mean over the seeds.
    """
    left = combinations(axes)
    numbers = {Job(config, seed).key: k for k, (config, seed) in enumerate(
        (config, seed) for config in left for seed in seeds
    )}  # fmt: skip
    for rung in (stages := rungs(epochs, factor, len(left))):
        place = lambda config, seed: str(states / f"{numbers[Job(config, seed).key]}.safetensors")
        entries = yield [Job(c, seed, rung, place(c, seed)) for c in left for seed in seeds]
        means = [mean(entries[k * len(seeds) : (k + 1) * len(seeds)]) for k in range(len(left))]
        order = sorted(range(len(left)), key=lambda k: means[k])
        keep = max(1, len(left) // factor) if rung != stages[-1] else 0
        for k in order[keep:]:
            for seed in seeds:
                Path(place(left[k], seed)).unlink(missing_ok=True)
        left = [left[k] for k in sorted(order[:keep]) if means[k] < float("inf")]
        if not left:
            return


def mean(entries: Sequence[Entry], by: str = "loss") -> float:
    """The mean score of a configuration; infinite where a trial of it failed."""
    if any("failed" in entry for entry in entries):
        return float("inf")
    return statistics.fmean(score(entry["result"], by) for entry in entries)


def search(axes: Mapping[str, Axis], seeds: Sequence[int], sampler: str, trials: int, begin: int = 0) -> Plan:
    """What Optuna proposes, a generation at a time, told the means over the seeds; the first seed is its own.

    Nothing of it is kept: the same results let it propose the same again.
    """
    try:
        import optuna
    except ImportError:
        raise ArgumentError(f"A search needs Optuna: {install('optuna')}.") from None
    samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    if sampler not in samplers:
        raise ArgumentError(one_of("search", sampler, samplers))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=samplers[sampler](seed=begin))
    kinds = {name: distribution(name, axis) for name, axis in axes.items()}
    done: dict[str, float] = {}
    for first in range(0, trials, GENERATION):
        asked = [study.ask(kinds) for _ in range(min(GENERATION, trials - first))]
        configs = [typeable(trial.params) for trial in asked]
        fresh = {Job(config, 0).key: config for config in configs if Job(config, 0).key not in done}
        entries = yield [Job(config, seed) for config in fresh.values() for seed in seeds]
        for k, key in enumerate(fresh):
            done[key] = mean(entries[k * len(seeds) : (k + 1) * len(seeds)])
        for trial, config in zip(asked, configs, strict=True):
            value = done[Job(config, 0).key]
            failed = value == float("inf")
            state = optuna.trial.TrialState.FAIL if failed else None
            study.tell(trial, None if failed else value, state=state)


def typeable(config: Config) -> Config:
    """Numbers with six digits: as many as a person types."""
    return {name: float(f"{x:.6g}") if isinstance(x, float) else x for name, x in config.items()}


def distribution(name: str, axis: Axis) -> "BaseDistribution":
    """Optuna's word for what a name may be."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(axis, Range):
        return CategoricalDistribution(axis)
    if axis.count is not None:
        return CategoricalDistribution(axis.values(name))
    if axis.whole:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)
