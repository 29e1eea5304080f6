"""Training steps on a GPU: ours, every way that they can run, against PyTorch's and JAX's.

A job is a network, a batch and a precision of its matrix products: float32, tf32 (operands of 10 bits, sums
of float32), or bf16, which our stack lacks: there its time with tf32 stands beside the peers' with bfloat16.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

import microgradx as mg
from bench import models
from bench.measure import duration
from bench.models import Network
from bench.parts import Part, Row, problem, row
from microgradx import nn, optim
from microgradx.compiler.run.cuda_executable import CudaExecutable
from microgradx.cuda import device, simulated
from microgradx.training.step import training_step

Call = Callable[[], object]
Timed = tuple[Call, Call, int]
"""What is called again and again, what waits for it, and the steps of a call."""


@dataclass(frozen=True)
class Job:
    """A network to train, and how many times as fast as PyTorch's ways a step shall be."""

    sizes: tuple[int, ...]
    batch: int
    precision: str = "float32"
    asked: dict[str, float] = field(default_factory=dict)

    def part(self) -> Part:
        """Measured in a process of its own: torch.compile takes most of the time."""
        wanted = ", ".join(f"{times:g} x {peer}" for peer, times in self.asked.items())
        options = {"sizes": self.sizes, "batch": self.batch, "precision": self.precision}
        options |= {"asked": self.asked} if self.asked else {}
        name = f"{Network(self.sizes)}, batch {self.batch}, {self.precision}"
        return Part("steps", "bench.cuda_steps:steps", 100 if self.asked else 60, options, wanted, name)


TINY, SMALL, WIDE, WIDEST = (2, 16, 16, 2), (784, 128, 10), (784, 1000, 1000, 10), (784, 4096, 4096, 10)
FIRST = [
    Job(SMALL, 128, asked={"eager": 8.0, "graph": 2.0, "compile": 1.5}),
    Job(WIDE, 128, asked={"graph": 1.2, "compile": 1.2}),
    Job(TINY, 128),
    Job(WIDEST, 4096, asked={"graph": 0.95}),
]
"""What matters most."""

MORE = [
    *(Job(WIDE, 128, kind) for kind in ("tf32", "bf16")),
    *(Job(WIDEST, 4096, kind) for kind in ("tf32", "bf16")),
    *(Job(sizes, 4096) for sizes in (SMALL, WIDE, TINY)),
    Job(WIDEST, 128),
    *(Job(sizes, 4096, kind) for kind in ("tf32", "bf16") for sizes in (SMALL, WIDE, TINY)),
    *(Job(sizes, 128, kind) for kind in ("tf32", "bf16") for sizes in (SMALL, WIDEST, TINY)),
]
"""The other sizes and precisions."""


def seconds(run: Call, wait: Call, calls: int, rounds: int = 7) -> float:
    """The median time of a call, of several rounds of many; everything queued is waited for."""
    run()
    wait()
    found = []
    for _ in range(1 if simulated() else rounds):
        start = time.perf_counter()
        for _ in range(calls):
            run()
        wait()
        found.append((time.perf_counter() - start) / calls)
    return statistics.median(found)


def torchs(precision: str = "float32") -> tuple[Any, str]:
    """PyTorch, with float32 products as exact as that, and where it computes."""
    import torch

    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
    return torch, "cuda" if torch.cuda.is_available() else "cpu"


def waiting(torch: Any, where: str) -> Call:
    """What waits for PyTorch's work."""
    return torch.cuda.synchronize if where == "cuda" else lambda: None


def trained(network: Network, where: str, rows: int, how: str) -> tuple[Any, Any, Any]:
    """A step of ours on a device, compiled, with its data there."""
    CudaExecutable.how = how
    mg.seed(0)
    model = network.built(nn).to(where)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    x, y = (mg.tensor(a, device=where) for a in network.data(rows))
    return mg.jit(training_step(model, optimizer)), x, y


def steps(
    quick: bool, sizes: tuple[int, ...], batch: int, precision: str = "float32",
    asked: dict[str, float] | None = None,
) -> Iterator[Row]:  # fmt: skip
    """A training step from data on the device: ours in a scan, every way, then the peers'."""
    network, batch = (Network((8, 6, 3)), 4) if quick else (Network(tuple(sizes)), batch)
    name = f"{network}, batch {batch}, {precision}"
    best = None
    for how in ("graph", "epoch", "launches"):
        if how == "epoch" and max(network.sizes[1:]) * batch > 2e4:
            continue  # one kernel is for little work
        try:
            time, note = ours(network, batch, precision, how, quick)
            best = min(time, best or time)
            yield row("step", f"{name}: {how}", duration(time), note=note)
        except Exception as error:
            yield row("step", f"{name}: {how}", note=problem(error))
    CudaExecutable.how = ""
    note = "ours is tf32: there is no bf16" if precision == "bf16" else ""
    for peer, make in PEERS.items():
        try:
            run, wait, count = make(network, batch, precision, quick)
            taken = seconds(run, wait, 2 if quick else max(1, 100 // count)) / count
            wanted = f"{asked[peer]:g}" if asked and peer in asked else ""
            times = duration(best), f"{NAMES[peer]} {duration(taken)}"
            yield row("step", name, *times, best and taken / best, wanted, note)
        except Exception as error:
            yield row("step", f"{name}: {NAMES[peer]}", note=problem(error))


def ours(network: Network, batch: int, precision: str, how: str, quick: bool) -> tuple[float, str]:
    """The time of a step of ours in a scan, and what else is to say."""
    count = 3 if quick else passes(network, batch)
    with mg.matmul_precision("highest" if precision == "float32" else "tf32"):
        step, x, y = trained(network, "cuda", batch * count, how)
        order = np.random.default_rng(0).permutation(batch * count)
        run = partial(step.scan, x, y, batch_size=batch, order=order)
        start = time.perf_counter()
        run()
        device().synchronize()
        first = time.perf_counter() - start
        each = seconds(run, device().synchronize, 1 if quick else 3) / count
        once = partial(step, x.data.first(batch), y.data.first(batch))
        alone = seconds(once, device().synchronize, 3 if quick else 100)
    note = f"first scan {duration(first)}, one call at a time {duration(alone)}"
    exact = precision != "float32" and not device().blas
    return each, note + "; float32: tf32 needs cuBLAS" * exact


def passes(network: Network, batch: int) -> int:
    """Steps of a scan: as many as give 16 million numbers of data, in sixteens, which a graph launches."""
    most = 2**24 // (batch * network.sizes[0]) // 16 * 16
    return max(16, min(192, most))


# Peers: what they need is imported when they are made


def torch_step(network: Network, batch: int, precision: str, capturable: bool = False) -> Call:
    """A step of PyTorch with fused Adam, with its data where it computes."""
    torch, where = torchs(precision)
    torch.manual_seed(0)
    x, y = (torch.from_numpy(a).to(where) for a in network.data(batch))
    model = network.built(torch.nn).to(where)
    options = {"capturable": True} if capturable and where == "cuda" else {}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True, **options)
    half = partial(torch.autocast, where, torch.bfloat16, precision == "bf16", cache_enabled=False)

    def step() -> object:
        optimizer.zero_grad()
        with half():
            loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def eager(network: Network, batch: int, precision: str, quick: bool) -> Timed:
    """PyTorch, operation by operation."""
    return torch_step(network, batch, precision), waiting(*torchs(precision)), 1


def graph(network: Network, batch: int, precision: str, quick: bool) -> Timed:
    """PyTorch's whole step as a CUDA graph."""
    torch, where = torchs(precision)
    if where != "cuda":
        raise NotOnGpu("PyTorch sees no GPU here")
    step = torch_step(network, batch, precision, capturable=True)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        step()
    return lambda kept=step: captured.replay(), torch.cuda.synchronize, 1  # its model is not to be freed


def compiled(mode: str, network: Network, batch: int, precision: str, quick: bool) -> Timed:
    """PyTorch's step by torch.compile, in one of its modes."""
    torch, where = torchs(precision)
    if where != "cuda":
        raise NotOnGpu("PyTorch sees no GPU here")
    step = torch.compile(torch_step(network, batch, precision, capturable=True), mode=mode)
    for _ in range(5):  # it compiles in the first, records graphs in the next
        step()
    return step, torch.cuda.synchronize, 1


def jax_here(precision: str) -> Any:
    """JAX, with matrix products of this precision, which leaves memory to others."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    kinds = {"float32": "float32", "tf32": "tensorfloat32", "bf16": "BF16_BF16_F32"}
    jax.config.update("jax_default_matmul_precision", kinds[precision])
    return jax


def jax_step(network: Network, batch: int, precision: str, quick: bool) -> Timed:
    """JAX's compiled step, its state donated; as with the others, many are queued before one waits."""
    jax = jax_here(precision)
    advance, state = models.jaxs(network)
    advance = jax.jit(advance, donate_argnums=0)
    x, y = map(jax.numpy.asarray, network.data(batch))

    def step() -> None:
        nonlocal state
        state, _ = advance(state, x, y)

    return step, lambda: jax.block_until_ready(state), 1


def jax_scan(network: Network, batch: int, precision: str, quick: bool) -> Timed:
    """JAX's steps as one compiled loop over shuffled rows, as ours in a scan."""
    jax_here(precision)
    from bench.compiled import jax_scan

    count = 3 if quick else passes(network, batch)
    return jax_scan(network, batch, count), lambda: None, count


class NotOnGpu(Exception):
    """PyTorch sees no GPU here."""


PEERS: dict[str, Callable[[Network, int, str, bool], Timed]] = {
    "eager": eager, "graph": graph, "jax": jax_step, "jax scan": jax_scan,
    "compile": partial(compiled, "default"), "autotuned": partial(compiled, "max-autotune"),
}  # fmt: skip
"""By what takes longest to prepare."""

NAMES = {
    "eager": "PyTorch eager", "graph": "PyTorch graph", "jax": "JAX step", "jax scan": "JAX scan",
    "compile": "torch.compile", "autotuned": "torch.compile, max-autotune",
}  # fmt: skip
