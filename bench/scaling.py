"""Training on several processes: measured with 1 and 2 here, and computed for up to 4,096 on two networks.

Measured: processes of one thread each; what runs on one process and what runs on two take turns in the same
two processes, of which the one without work sleeps. Beside it PyTorch's DistributedDataParallel over gloo.
Computed: the time of a step on p processes is the time that a process takes here for its rows, and that of an
allreduce of n bytes by the α-β model (Thakur, Rabenseifner & Gropp 2005, doi 10.1177/1094342005051521), with
γ the time to add a byte: a ring 2(p - 1)α + 2(p - 1)/p nβ + (p - 1)/p nγ, a tree log₂p (2α + 2nβ + nγ).
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from bench import measure
from bench.measure import duration
from bench.models import Network

NETWORKS = [Network((64, 64, 10)), Network((784, 128, 10)), Network((784, 1000, 1000, 10))]
ROWS = 128  # of a batch, and of each process where the batch grows with their number
WIRES = {"10 Gb/s Ethernet": (25e-6, 1 / 1.25e9), "100 Gb/s InfiniBand": (2e-6, 1 / 12.5e9)}
"""What a network takes: α, seconds a message, and β, seconds a byte. Typical numbers, not measured here."""
SIZES = [10**5, 10**6, 10**7, 10**8, 10**9]
RANKS = [2**k for k in range(13)]
GLOBAL = 8192  # rows of the batch that processes share, where it does not grow
PICTURE = measure.RESULTS / f"{time.strftime('%Y-%m-%d')}-scaling.png"
STEPS = 4  # of a burst
METHOD = (
    "Times are those of the fastest of 120 steps, in bursts of 4 that took turns: what else runs delays two "
    "processes that wait for each other more than one."
)

Contender = tuple[int, Callable[[], object], int]
"""On how many processes, what is done there, and how many steps that is."""


# In the processes


def worker(rounds: int) -> None:
    """All measurements, by rank 0 and rank 1 in turn and together; rank 0 prints them as JSON."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    found: dict[str, object] = {}
    for network in NETWORKS:
        contenders = {**ours(network, comm), **torchs(network, comm)}
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, contender in contenders.items():
                times[name] += burst(comm, *contender)
        found[str(network)] = {name: lowest(t) for name, t in times.items()}
    found["allreduce"] = {n: exchange(comm, n, rounds) for n in (4, 4096, 4 * 10**5, 4 * 10**6, 16 * 10**6)}
    found["apart"], found["beside"] = overlapped(comm, rounds)
    found["add"] = add()
    if comm.rank == 0:
        print("FOUND " + json.dumps(found), flush=True)


def lowest(times: list[float]) -> float:
    """Of the step that other work has disturbed least."""
    return min(times)


def burst(comm, ranks: int, run: Callable[[], object], steps: int) -> list[float]:
    """Seconds a step, on rank 0 alone or on both; who has nothing to do sleeps."""
    comm.Barrier()
    found = []
    for _ in range(STEPS // steps if comm.rank < ranks else 0):
        start = time.perf_counter()
        run()
        found.append((time.perf_counter() - start) / steps)
    done = comm.Ibarrier()
    while not done.Test():
        time.sleep(0.001)
    return found or [0.0]


def ours(network: Network, comm) -> dict[str, Contender]:
    """Steps of `fit`: on one process for batches of three sizes, and on two."""
    import microgradx as mg
    from microgradx import nn, optim, training
    from microgradx.kernels.thread_pool import set_threads
    from microgradx.training.parallel import Parallel
    from microgradx.training.trainer import Trainer

    cluster, made = training.MPICluster(comm), {}
    set_threads(1)
    jobs = {"1": (1, ROWS), "1 half": (1, ROWS // 2), "1 apart": (1, ROWS)}
    for label, (ranks, rows) in (jobs | {"strong": (2, ROWS), "weak": (2, 2 * ROWS)}).items():
        mg.seed(0)
        model = network.built(nn)
        optimizer = optim.Adam(model.named_parameters(), lr=1e-3)
        steps = (
            STEPS if network is NETWORKS[0] and label in ("1", "1 half") else 1
        )  # a scan's own start counts
        given = model, optimizer, network.data(steps * rows), rows, nn.cross_entropy, None, None, None, False
        trainer = Trainer(*given, cluster=cluster if ranks == 2 else training.Cluster())
        if label == "1 apart":  # as two processes do it, and nobody to wait for
            trainer.parallel = Parallel(trainer.cluster, model, optimizer, nn.cross_entropy, None, None)
        run = lambda t=trainer, n=steps * rows: t.steps_over(np.arange(n), 0)
        if comm.rank < ranks:
            run()
        made[label] = ranks, run, steps
        if label == "1 apart" and comm.rank == 0:
            made["update"] = 1, trainer.parallel.update, 1
        elif label == "1 apart":
            made["update"] = 1, int, 1  # that rank 1 does not come to
    return made


def torchs(network: Network, comm) -> dict[str, Contender]:
    """The same in PyTorch; nothing where it is not installed."""
    try:
        import torch
        from torch import distributed
    except ImportError:
        return {}
    torch.set_num_threads(1)
    if not distributed.is_initialized():
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(comm.bcast(free_port()))}
        distributed.init_process_group("gloo", rank=comm.rank, world_size=comm.size)
    made = {}
    for label, ranks, rows in [("1", 1, ROWS), ("strong", 2, ROWS // 2), ("weak", 2, ROWS)]:
        torch.manual_seed(0)
        model = network.built(torch.nn)
        if ranks == 2:
            model = torch.nn.parallel.DistributedDataParallel(model)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        x, y = map(torch.from_numpy, network.data(rows))

        def run(model=model, optimizer=optimizer, x=x, y=y):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()

        if comm.rank < ranks:
            run()
        made[f"PyTorch {label}"] = ranks, run, 1
    return made


def free_port() -> int:
    """A port that nobody listens at."""
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def exchange(comm, n: int, rounds: int) -> float:
    """Seconds of an allreduce of n bytes."""
    from mpi4py import MPI

    array, times = np.zeros(n // 4, np.float32), []
    for _ in range(10 * rounds):
        comm.Barrier()
        start = time.perf_counter()
        comm.Allreduce(MPI.IN_PLACE, array)
        times.append(time.perf_counter() - start)
    return lowest(times)


def overlapped(comm, rounds: int) -> tuple[float, float]:
    """Seconds of an allreduce of 7 MB and of products, one behind the other and at the same time."""
    from mpi4py import MPI

    array, a = np.zeros(1_800_000, np.float32), np.ones((600, 600), np.float32)
    work = lambda: [a @ a for _ in range(12)]
    apart, beside = [], []
    with threadpool_limits(1):
        for _ in range(4 * rounds):
            comm.Barrier()
            start = time.perf_counter()
            comm.Allreduce(MPI.IN_PLACE, array)
            work()
            apart.append(time.perf_counter() - start)
            comm.Barrier()
            start = time.perf_counter()
            request = comm.Iallreduce(MPI.IN_PLACE, array)
            work()
            request.Wait()
            beside.append(time.perf_counter() - start)
    return lowest(apart), lowest(beside)


def add() -> float:
    """γ: seconds to add a byte of gradients to others."""
    a, b, times = np.zeros(10**7, np.float32), np.ones(10**7, np.float32), []
    for _ in range(9):
        start = time.perf_counter()
        a += b
        times.append(time.perf_counter() - start)
    return lowest(times) / a.nbytes


# The model


def allreduce(kind: str, p: int, n: float, wire: str, gamma: float) -> float:
    """Seconds of an allreduce of n bytes on p processes."""
    alpha, beta = WIRES[wire]
    if p == 1:
        return 0.0
    if kind == "ring":
        return 2 * (p - 1) * alpha + (p - 1) / p * n * (2 * beta + gamma)
    return np.log2(p) * (2 * alpha + n * (2 * beta + gamma))


def step(kind: str, p: int, parameters: int, rows: float, wire: str, here: dict[str, float]) -> float:
    """Seconds of a step on p processes of so many rows each."""
    compute = here["fixed"] + parameters * (rows * here["row"] + here["update"])
    return compute + allreduce(kind, p, 4 * parameters, wire, here["add"])


def fitted(found: dict) -> dict[str, float]:
    """From what was measured: a fixed time a step, that of a parameter and row, that of its update, γ."""
    large, small = found[str(NETWORKS[-1])], found[str(NETWORKS[0])]
    parameters = size(NETWORKS[-1])
    row, update = (large["1"] - large["update"]) / ROWS / parameters, large["update"] / parameters
    fixed = max(small["1 apart"] - small["1"], 5e-5)
    return {"fixed": fixed, "row": row, "update": update, "add": found["add"]}


def alone(network: Network, t: dict[str, float], exchanged: dict[str, float]) -> float:
    """A step of two processes that nobody delays: its parts, as one process and an allreduce take them."""
    sizes = sorted(map(int, exchanged))
    sharing = np.interp(4 * size(network), sizes, [exchanged[str(n)] for n in sizes])
    return t["1 half"] + max(t["1 apart"] - t["1"], 0) + exchanged["4"] + float(sharing)


def size(network: Network) -> int:
    """The parameters of a network."""
    return sum(w.size + b.size for w, b in network.weights())


def speed_ups(kind: str, parameters: int, wire: str, weak: bool, here: dict[str, float]) -> list[float]:
    """How often one process's time fits into that of p, for the same rows, for all p of RANKS."""
    rows = lambda p: ROWS if weak else GLOBAL / p
    alone = step(kind, 1, parameters, rows(1), wire, here)
    return [(p if weak else 1) * alone / step(kind, p, parameters, rows(p), wire, here) for p in RANKS]


def overlap(kind: str, parameters: int, wire: str, here: dict[str, float]) -> float:
    """The most that sharing gradients while others are computed could gain, where processes still pay."""
    ratios = [1.0]
    found = speed_ups(kind, parameters, wire, False, here)
    for p in RANKS[1 : int(np.argmax(found)) + 1]:
        whole = step(kind, p, parameters, GLOBAL / p, wire, here)
        backward = parameters * GLOBAL / p * here["row"] * 2 / 3
        hidden = min(backward, allreduce(kind, p, 4 * parameters, wire, here["add"]))
        ratios.append(whole / (whole - hidden))
    return max(ratios)


def simulated(here: dict[str, float]) -> list[dict[str, object]]:
    """A row per model and network: up to how many processes each pays, and what is gained there."""
    rows = []
    for wire in WIRES:
        for parameters in SIZES:
            row: dict[str, object] = {"network": wire, "parameters": f"{parameters:,}"}
            for weak in (False, True):
                for kind in ("ring", "tree"):
                    found = speed_ups(kind, parameters, wire, weak, here)
                    half = max(p for p, s in zip(RANKS, found, strict=True) if s >= p / 2)
                    best = int(np.argmax(found))
                    head = f"{'weak' if weak else 'strong'}, {kind}"
                    row[head] = f"{half:,}; {RANKS[best]:,} ({times(found[best])}x)"
            row["overlap could gain"] = f"{overlap('ring', parameters, wire, here):.2f}x"
            rows.append(row)
    return rows


def times(ratio: float) -> str:
    """A speed-up in three digits."""
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"


def draw(here: dict[str, float], path: Path) -> None:
    """Speed-up over processes, a panel for each network and way to scale, a line per model; ring and tree."""
    from microgradx.palette import BLUE, INK, RED, frame, keep, panels

    colors = ["#8c6bb1", BLUE, "#2a9d8f", "#e9a227", RED]
    drawing, axes = panels(2, 2, 9.6, 7.2)
    for i, wire in enumerate(WIRES):
        for j, weak in enumerate((False, True)):
            ax = axes[i][j]
            ax.plot(RANKS, RANKS, color=INK, lw=0.8, ls=":")
            for parameters, color in zip(SIZES, colors, strict=True):
                for kind, dashes in (("ring", "-"), ("tree", "--")):
                    label = f"$10^{{{len(str(parameters)) - 1}}}$" if kind == "ring" else None
                    found = speed_ups(kind, parameters, wire, weak, here)
                    ax.plot(RANKS, found, dashes, color=color, lw=1.6, label=label)
            ax.set_xscale("log", base=2)
            ax.set_yscale("log", base=2)
            ax.set_ylim(0.25, 2 * RANKS[-1])
            how = f"{ROWS} rows each" if weak else f"{GLOBAL:,} rows in all"
            frame(ax, f"{wire}, {how}: times as fast as one", "processes")
            if not i and not j:
                ax.legend(title="parameters", fontsize=8, frameon=False)
                ax.text(
                    0.98,
                    0.93,
                    "— ring   - - tree   ··· ideal",
                    transform=ax.transAxes,
                    ha="right",
                    fontsize=8,
                )
    keep(drawing, path)


# The benchmark


def run(quick: bool = False) -> list[dict[str, object]]:
    """Measure, compute, write the tables and the figure; the rows are those that were measured."""
    mpiexec = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if mpiexec is None:
        raise SystemExit("scaling: no mpiexec; pip install -e '.[mpi]' brings one")
    command = [mpiexec, "-n", "2", sys.executable, "-m", "bench.scaling", "3" if quick else "30"]
    told = subprocess.run(command, capture_output=True, text=True)
    line = next((line for line in told.stdout.splitlines() if line.startswith("FOUND ")), None)
    if line is None:
        raise SystemExit(f"scaling: {told.stderr or told.stdout}")
    found = json.loads(line.removeprefix("FOUND "))
    rows: list[dict[str, object]] = []
    for network in NETWORKS:
        t = found[str(network)]
        row: dict[str, object] = {"network": network, "parameters": f"{size(network):,}", "batch": ROWS}
        for who in ("", "PyTorch "):
            if f"{who}1" in t:
                name = "PyTorch's" if who else "ours"
                row |= {
                    f"{name}, 1": duration(t[f"{who}1"]),
                    f"{name}, 2": duration(t[f"{who}strong"]),
                    f"{name}, 2, twice the rows": duration(t[f"{who}weak"]),
                    f"speed-up, {name}": f"{t[f'{who}1'] / t[f'{who}strong']:.2f}",
                    f"weak, {name}": f"{2 * t[f'{who}1'] / t[f'{who}weak']:.2f}",
                }
        row["ours, 1, gradient and update apart"] = duration(t["1 apart"])
        row["ours, 2, computed"] = duration(alone(network, t, found["allreduce"]))
        rows.append(row)
    here = fitted(found)
    if quick:
        return rows
    draw(here, PICTURE)
    exchanged = [
        {"bytes": f"{int(n):,}", "allreduce of 2 processes here": duration(t)}
        for n, t in found["allreduce"].items()
    ]
    method = __doc__.partition("\n\n")[2].strip()
    per_row, per_update, per_byte = (1e12 * here[name] for name in ("row", "update", "add"))
    numbers = (
        'In the first table "2, computed" adds what half the rows, Python and the allreduce take, without '
        f"delays by other work. The last is computed with {duration(here['fixed'])} a step for Python, "
        f"{per_row:.3g} ps a parameter and row, {per_update:,.0f} ps a parameter for its update, and γ = "
        f"{per_byte:.3g} ps a byte; a process is one core as measured here. Strong: {GLOBAL:,} rows are "
        f"shared; weak: {ROWS} rows each. A cell says up to how many processes each keeps half of its speed "
        "or more; then the number that is fastest, and how often as fast as one."
    )
    note = f"Command: `python -m bench scaling`. {METHOD} {method}\n\n{numbers}\n\n![]({PICTURE.name})"
    exchanged.append(
        {
            "bytes": "7,200,000 and products of about as long",
            "allreduce of 2 processes here": f"{duration(found['apart'])} one after the other, "
            f"{duration(found['beside'])} at the same time",
        }
    )
    tables = {
        "Measured: time per step on 1 and 2 processes of one thread": rows,
        "Allreduce": exchanged,
        "Computed: where it stops paying": simulated(here),
    }
    print(f"written to {measure.write('scaling', 'Training on several processes', tables, note)}")
    return rows


def keep() -> None:
    """`run` has written its tables."""


if __name__ == "__main__":
    worker(int(sys.argv[1]))
