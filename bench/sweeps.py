"""An optimizer sweep for every rule: against PyTorch's optimizer and a bare loop over the same arrays.

Float32, all cores for each. PyTorch runs its fused form where it has one, else its foreach form, on one
tensor, the best case for it. The bare loop reads p, g and the state and writes p and the state, with one
addition per array: what memory alone allows. `cold` is the first sweep of a new process, which compiles it,
`warm` that of one which finds it on disk.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial

import numpy as np

from bench.measure import duration, race
from microgradx.kernels import cpu, jit, sweep, thread_pool
from microgradx.rules import rules

BESIDE = ("torch",)
SIZES = (10_000, 100_000, 1_800_000, 10_000_000, 50_000_000)
SEVERAL = (1_800_000, 50_000_000)  # the sizes for rules other than Adam

PEERS: dict[str, tuple[str, dict]] = {
    "sgd": ("SGD", {"fused": True}),
    "sgd_momentum": ("SGD", {"momentum": 0.9, "fused": True}),
    "sgd_nesterov": ("SGD", {"momentum": 0.9, "nesterov": True, "fused": True}),
    "rprop": ("Rprop", {}),
    "adagrad": ("Adagrad", {"fused": True}),
    "rmsprop": ("RMSprop", {}),
    "rmsprop_centered": ("RMSprop", {"centered": True}),
    "rmsprop_momentum": ("RMSprop", {"momentum": 0.9}),
    "rmsprop_centered_momentum": ("RMSprop", {"centered": True, "momentum": 0.9}),
    "adadelta": ("Adadelta", {}),
    "adam": ("Adam", {"fused": True}),
    "amsgrad": ("Adam", {"amsgrad": True, "fused": True}),
    "adamw": ("AdamW", {"fused": True}),
    "adamax": ("Adamax", {}),
    "nadam": ("NAdam", {}),
    "radam": ("RAdam", {}),
    "asgd": ("ASGD", {}),
}
"""PyTorch's optimizer for a rule."""


def numbers(count: int, size: int) -> list[np.ndarray]:
    """Arrays of small positive numbers, so that nothing is denormal."""
    first = np.random.default_rng(0).random(size, np.float32) + np.float32(0.1)
    return [first.copy() for _ in range(count)]


def ours(name: str, size: int) -> Callable[[], object]:
    """One sweep."""
    rule = rules[name]
    update = sweep(rule, np.float32).bind(*numbers(2 + len(rule.state), size))
    return lambda: update(t=10, carried=(0.5,) * len(rule.carried))


def torchs(name: str, size: int) -> Callable[[], object]:
    """One step of PyTorch's optimizer on one tensor."""
    import torch

    kind, options = PEERS[name]
    p, g = (torch.from_numpy(array) for array in numbers(2, size))
    parameter = torch.nn.Parameter(p)
    parameter.grad = g
    options = options if "fused" in options else options | {"foreach": True}
    return getattr(torch.optim, kind)([parameter], lr=1e-3, **options).step


def bare(name: str, size: int) -> Callable[[], object]:
    """The memory traffic of a sweep, and one addition per array that is written."""
    arrays = numbers(2 + len(rules[name].state), size)
    names = [f"x{i}" for i in range(len(arrays))]
    lines = [f"        {x}[i] = {x}[i] + x1[i]\n" for x in names if x != "x1"]
    source = f"def bare(start, stop, {', '.join(names)}):\n    for i in range(start, stop):\n{''.join(lines)}"
    signature = "int64 int64" + " float32*" * len(arrays)
    run = jit.load(source, {"bare": signature}, "bare")["bare"]
    addresses = [array.ctypes.data for array in arrays]
    piece = cpu.piece(size)

    def step(arrays=arrays) -> None:  # which keeps them alive
        if size * len(arrays) < cpu.alone:
            run(0, size, *addresses)
        else:
            thread_pool.split(lambda start, stop: run(start, stop, *addresses), size, piece)

    return step


def first(name: str, folder: str) -> float:
    """Seconds of a new process's first sweep, imports apart."""
    code = (
        "import time; from bench.sweeps import ours; start = time.perf_counter();"
        f"ours({name!r}, 4)(); print(time.perf_counter() - start)"
    )
    run = [sys.executable, "-c", code]
    return float(subprocess.check_output(run, env=os.environ | {"MICROGRADX_CACHE": folder}))


def run(quick: bool = False) -> list[dict[str, object]]:
    """A row per rule and size."""
    rows: list[dict[str, object]] = []
    for name in ("sgd", "adam", "lion") if quick else rules:
        with tempfile.TemporaryDirectory() as folder:
            cold, warm = first(name, folder), min(first(name, folder) for _ in range(3))
        sizes = SIZES if name == "adam" else SEVERAL
        for size in sizes[:-1] if quick else sizes:
            makers = {"ours": partial(ours, name, size), "bare": partial(bare, name, size)}
            if name in PEERS:
                makers["torch"] = partial(torchs, name, size)
            found = race(makers, seconds=1.0 if quick else 3.0, rounds=10 if quick else 15)
            rows.append(
                {
                    "rule": name,
                    "size": f"{size:,}",
                    "ours": duration(found["ours"]["median"]),
                    "bare loop": duration(found["bare"]["median"]),
                    "PyTorch": duration(found.get("torch", {}).get("median")),
                    "ours / bare": f"{found['bare']['ratio']:.2f}",
                    "ours / PyTorch": f"{found['torch']['ratio']:.2f}" if "torch" in found else "-",
                    "cold": duration(cold),
                    "warm": duration(warm),
                }
            )
    return rows
