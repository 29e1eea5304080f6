"""Sweeps: trials per second of processes and threads, against a plain loop of `mg.fit`.

Trainings of digits, 5 epochs: 8 learning rates, 2 optimizers, 3 seeds or 1. Times are of whole sweeps, with
the start of their processes and every line of the journal on the disk; compiled files were in the cache.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import microgradx as mg
from bench.measure import duration
from microgradx import data, nn, optim, training
from microgradx.cli.trial import Trial
from microgradx.kernels.thread_pool import set_threads, threads
from microgradx.training.trials.grid import read

METHOD = "Contenders take turns, a sweep each; medians."
GRID = {"lr": "1e-4..1e-1:log:8", "optimizer": "adam,lion"}
EPOCHS = 5
JOBS = [([64, 32, 10], 3, 3), ([64, 256, 256, 10], 1, 2)]  # network, seeds, rounds
WAYS: dict[str, dict[str, int]] = {
    "sweep, this process": {"processes": 0},
    "sweep, this process, 2 threads": {"processes": 0, "at_once": 2},
    "sweep, 1 process": {"processes": 1},
    "sweep, 1 process, 2 threads": {"processes": 1, "at_once": 2},
    "sweep, 2 processes": {"processes": 2},
    "sweep, 2 processes, 2 threads each": {"processes": 2, "at_once": 2},
}


def plain(model: list[int], seeds: int) -> list[float]:
    """The loop that a person writes."""
    train, test = data.digits()
    found = []
    for lr in read("lr", GRID["lr"]).values("lr"):
        for kind in (optim.Adam, optim.Lion):
            for seed in range(seeds):
                mg.seed(seed)
                network = nn.MLP(model)
                optimizer = kind(network.named_parameters(), lr=lr)
                options = {"epochs": EPOCHS, "batch_size": 32, "progress": False}
                found.append(mg.fit(network, optimizer, train, test, **options).best["valid_loss"])
    return found


def swept(model: list[int], seeds: int, **way: int) -> list[float]:
    """The same by a sweep."""
    trial = Trial((f"--model={'-'.join(map(str, model))}", f"--epochs={EPOCHS}"))
    before = threads()
    set_threads(1 if way.get("at_once") else before)
    with tempfile.TemporaryDirectory() as folder:
        options = {"seeds": seeds, "out": Path(folder) / "sweep", "progress": False}
        entries = training.sweep(trial, GRID, **options, **way).entries
    set_threads(before)
    key = lambda entry: (entry["config"]["lr"], entry["config"]["optimizer"], entry["seed"])
    return [entry["result"]["valid_loss"] for entry in sorted(entries, key=key)]


def run(quick: bool = False) -> list[dict[str, object]]:
    """A row per network and way."""
    rows: list[dict[str, object]] = []
    for model, seeds, rounds in [([64, 32, 10], 1, 1)] if quick else JOBS:
        ways: dict[str, Callable[[], list[float]]] = {"a loop of mg.fit": partial(plain, model, seeds)}
        ways |= {name: partial(swept, model, seeds, **way) for name, way in WAYS.items()}
        expected = plain(model, seeds)
        swept(model, 1, processes=0)  # both have been compiled now
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                start = time.perf_counter()
                found = way()
                taken[name].append(time.perf_counter() - start)
                assert found == expected, f"{name}: other bits than the loop's"
        first = statistics.median(taken["a loop of mg.fit"])
        for name, seconds in taken.items():
            middle = statistics.median(seconds)
            rows.append(
                {
                    "network": "-".join(map(str, model)),
                    "trials": len(expected),
                    "way": name,
                    "time": duration(middle),
                    "trials per second": f"{len(expected) / middle:.1f}",
                    "times the loop": f"{first / middle:.1f}",
                    "same bits": "yes",
                }
            )
    return rows
