"""A GPU: right first, then sweeps, steps, a whole training and products, against PyTorch in the same process.

Every part runs in a process of its own; one that fails or hangs is a row that says so, and the next goes on.
`--quick` is a rehearsal with tiny sizes, which measures nothing; in Numba's simulator there is nothing else.
"""

import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np

import microgradx as mg
from bench.measure import duration, write
from bench.models import Network
from microgradx import data, nn, optim
from microgradx.compiler.cuda.variant import CudaVariant
from microgradx.kernels import sweep
from microgradx.kernels.cuda import available, build, describe, device, simulated
from microgradx.kernels.cuda.device import Launch, pointer
from microgradx.rules import rules
from microgradx.tensor import wrap

Row = dict[str, object]
HEAD = "part", "what", "ours", "peer", "ratio", "asked", "note"

NETWORKS = [
    (Network((784, 128, 10)), 128, {"eager": 8.0, "graph": 2.0, "compile": 1.5}),
    (Network((784, 1000, 1000, 10)), 128, {"graph": 1.2}),
    (Network((784, 4096, 4096, 10)), 4096, {"graph": 0.95}),
    (Network((2, 16, 16, 2)), 100, {}),
]
"""Networks, batch, and how many times as fast as PyTorch a step shall be."""

SIZES = [(128, 784, 128), (1024, 1024, 1024), (4096, 4096, 4096), (784, 4096, 4096)]
"""Of the matrix products, (n, k) @ (k, m)."""


def row(
    part: str, what: object, ours: str = "", peer: str = "", ratio: float | None = None, asked: str = "",
    note: str = "",
) -> Row:  # fmt: skip
    """A line of the table; a ratio is the peer's time over ours."""
    shown = "" if ratio is None else f"{ratio:.2f}"
    return {
        "part": part,
        "what": what,
        "ours": ours,
        "peer": peer,
        "ratio": shown,
        "asked": asked,
        "note": note,
    }


def seconds(run: Callable[[], object], wait: Callable[[], object], calls: int, rounds: int = 7) -> float:
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


def torchs() -> tuple[Any, str]:
    """PyTorch, and where it computes."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    return torch, "cuda" if torch.cuda.is_available() else "cpu"


def waiting(torch: Any, where: str) -> Callable[[], object]:
    """What waits for PyTorch's work."""
    return torch.cuda.synchronize if where == "cuda" else lambda: None


# Right first


def suite(quick: bool) -> Iterator[Row]:
    """The CUDA tests, on this device."""
    options = ["-k", "launch_fits or two_devices"] if quick else []
    side = ["-n", "8"] if find_spec("xdist") and not quick else []  # most of the time is compilation
    command = [sys.executable, "-m", "pytest", *side, "-m", "cuda", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, cwd=Path(__file__).parents[1])
    lines = done.stdout.strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    result = lines[-1] if lines else done.stderr[-200:]
    yield row("tests", "pytest -m cuda", result, asked="all pass", note="; ".join(failed)[:400])


def bits(quick: bool) -> Iterator[Row]:
    """Every update rule, on both devices from the same numbers."""
    steps, size = (5, 9) if quick else (1000, 10_000)
    same, differing = 0, []
    for rule in list(rules.values())[: 3 if quick else None]:
        rng = np.random.default_rng(5)
        p = rng.standard_normal(size).astype(np.float32)
        on_cpu = [p, *(np.zeros_like(p) for _ in rule.state)]
        on_gpu = [device().array(a) for a in on_cpu]
        cpu, gpu = (sweep(rule, np.float32, device=where) for where in ("cpu", "cuda"))
        carried = other = ()
        for t in range(1, steps + 1):
            g = rng.standard_normal(size).astype(np.float32)
            carried = cpu(on_cpu[0], g, *on_cpu[1:], t=t, carried=carried)
            other = gpu(on_gpu[0], device().array(g), *on_gpu[1:], t=t, carried=other)
        if all((a == b.numpy()).all() for a, b in zip(on_cpu, on_gpu, strict=True)):
            same += 1
        else:
            differing.append(rule.name)
    yield row("bits", f"rules equal after {steps} steps", f"{same} of {same + len(differing)}", asked="all",
              note=", ".join(differing) or "products and sums are not contracted: NVVM's -fma=0")  # fmt: skip


def trained(network: Network, where: str, rows: int, batch: int, how: str) -> tuple[Any, Any, Any]:
    """A step of ours on a device, compiled, with its data there."""
    CudaVariant.how = how
    mg.seed(0)
    model = network.built(nn).to(where)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)

    def step(x, y):
        optimizer.zero_grad()
        loss = nn.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    x, y = (mg.tensor(a, device=where) for a in network.data(rows))
    return mg.jit(step), x, y


def curve(quick: bool) -> Iterator[Row]:
    """1,000 steps on both devices, and compiled against eager."""
    network, steps, batch = (Network((8, 6, 3)), 6, 4) if quick else (Network((784, 128, 10)), 1000, 128)
    losses = {}
    for where, how in (("cpu", ""), ("cuda", "graph"), ("cuda", "epoch")):
        step, x, y = trained(network, where, steps * batch, batch, how)
        losses[where, how] = step.scan(x, y, batch_size=batch).numpy()
    wanted = losses.pop(("cpu", ""))
    for (_, how), found in losses.items():
        worst = np.max(np.abs(found - wanted) / np.abs(wanted))
        early = np.max(np.abs(found - wanted)[:100] / wanted[:100])
        what, note = f"{network}, {steps} steps, {how} against the CPU", f"first 100 steps: {early:.1e}"
        yield row("loss curve", what, f"{worst:.1e}", asked="1e-3", note=note)
    step, x, y = trained(network, "cuda", batch, batch, "graph")
    compiled = [step(x, y).item() for _ in range(5)]
    step, x, y = trained(network, "cuda", batch, batch, "graph")
    eager = [step.function(x, y).item() for _ in range(5)]
    worst = np.max(np.abs(np.subtract(compiled, eager)) / np.abs(eager))
    yield row("eager", f"{network}, 5 steps compiled against eager", f"{worst:.1e}", asked="1e-5")


# Then fast


def sweeps(quick: bool) -> Iterator[Row]:
    """Adam over many parameters, against a copy of the same bytes and PyTorch's fused Adam."""
    gpu, adam = device(), sweep(rules["adam"], np.float32, device="cuda")
    torch, where = torchs()
    for size in (1000,) if quick else (10**5, 10**6, 10**7, 10**8, 10**9):
        try:
            arrays = [gpu.full((size,), np.float32, 0.5) for _ in range(4)]
        except mg.MicrogradxError as error:
            yield row("sweep", f"{size:.0e} parameters", note=str(error)[:120])
            continue
        update = adam.bind(*arrays)
        calls = 3 if quick else max(5, min(500, 2 * 10**8 // size))
        ours = seconds(partial(update, t=3, lr=1e-3), gpu.synchronize, calls)
        moved = 28 * size  # p, g, m and v are read, p, m and v written
        target, source = arrays[0].first(size // 2), arrays[1].first(size // 2)
        copying = seconds(lambda t=target, s=source: gpu.copy(t, s), gpu.synchronize, calls)
        speed, limit = moved / ours, 4 * size / copying  # half an array is read and written
        rates = f"{speed / 1e9:,.0f} GB/s", f"copy {limit / 1e9:,.0f} GB/s"
        asked, note = "0.90" if size >= 10**7 else "", "ratio: ours over the copy's"
        yield row("sweep", f"Adam, {size:.0e}: bandwidth", *rates, speed / limit, asked, note)
        del update, target, source, arrays
        gpu.trim()
        try:
            p = torch.full((size,), 0.5, device=where, requires_grad=True)
            p.grad = torch.full((size,), 0.5, device=where)
            fused = torch.optim.Adam([p], lr=1e-3, fused=True)
            peer = seconds(fused.step, waiting(torch, where), calls)
            yield row("sweep", f"Adam, {size:.0e}: time", duration(ours), f"PyTorch fused {duration(peer)}",
                      peer / ours, "1.0" if size >= 10**7 else "")  # fmt: skip
            del p, fused
        except RuntimeError as error:
            yield row("sweep", f"Adam, {size:.0e}: PyTorch", note=str(error)[:120])
        if where == "cuda":
            torch.cuda.empty_cache()
    size, many = (100, 3) if quick else (10**5, 200)
    arrays = [gpu.full((size,), np.float32, 0.5) for _ in range(4)]
    numbers = tuple(map(np.float32, adam.numbers(3, (), {"lr": 1e-3})[0]))
    launch = gpu.prepare(
        Launch(adam.run, -(-size // gpu.shape.block), (np.int64(size), *map(pointer, arrays), *numbers))
    )
    replay = gpu.capture(lambda: [launch() for _ in range(many)] and None)
    each = seconds(replay, gpu.synchronize, 3 if quick else 20) / many
    yield row("sweep", f"Adam, {size:.0e}, inside a graph", duration(each), asked="5 us")


def peers(network: Network, batch: int, quick: bool) -> dict[str, Callable[[], object]]:
    """A step of PyTorch: eager with fused Adam, as a whole-step graph, and by torch.compile."""
    torch, where = torchs()
    x, y = (torch.from_numpy(a).to(where) for a in network.data(batch))

    def made(capturable: bool = False) -> tuple[Any, Callable[[], object]]:
        torch.manual_seed(0)
        model = network.built(torch.nn).to(where)
        options = {"capturable": True} if capturable and where == "cuda" else {}
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True, **options)

        def step() -> object:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return model, step

    found = {"eager": made()[1]}
    if where != "cuda":
        return found
    _, step = made(capturable=True)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    found["graph"] = lambda kept=step: graph.replay()  # its model is not to be freed
    if not quick:
        found["compile"] = torch.compile(made(capturable=True)[1], mode="max-autotune")
    return found


def steps(quick: bool) -> Iterator[Row]:
    """A training step, from data on the device: ours in a scan, every way, against PyTorch's."""
    torch, where = torchs()
    for network, batch, asked in NETWORKS[:1] if quick else NETWORKS:
        network, batch, count = (Network((8, 6, 3)), 4, 3) if quick else (network, batch, 200)
        if network.sizes[1] > 2000:
            count = 20
        best: dict[str, float] = {}
        for how in ("graph", "epoch", "launches"):
            if how == "epoch" and network.sizes[1] > 500:
                continue
            try:
                step, x, y = trained(network, "cuda", batch * count, batch, how)
                order = np.random.default_rng(0).permutation(batch * count)
                start = time.perf_counter()
                run = partial(step.scan, x, y, batch_size=batch, order=order)
                run()
                device().synchronize()
                first = time.perf_counter() - start
                best[how] = seconds(run, device().synchronize, 1 if quick else 3) / count
                alone = seconds(partial(step, x.data.first(batch), y.data.first(batch)), device().synchronize,
                                3 if quick else 100)  # fmt: skip
                note = f"first scan {duration(first)}, one call at a time {duration(alone)}"
                yield row("step", f"{network}, batch {batch}: {how}", duration(best[how]), note=note)
            except Exception as error:
                yield row("step", f"{network}: {how}", note=problem(error))
        ours = min(best.values(), default=float("nan"))
        try:
            contenders = peers(network, batch, quick)
        except Exception as error:
            yield row("step", f"{network}: PyTorch", note=problem(error))
            continue
        for name, run in contenders.items():
            try:
                peer = seconds(run, waiting(torch, where), 3 if quick else 100)
                times = duration(ours), f"PyTorch {name} {duration(peer)}"
                wanted = f"{asked[name]:g}" if name in asked else ""
                yield row("step", f"{network}, batch {batch}", *times, peer / ours, wanted)
            except Exception as error:
                yield row("step", f"{network}: PyTorch {name}", note=problem(error))
    CudaVariant.how = ""


def training(quick: bool) -> Iterator[Row]:
    """Ten epochs of 784-128-10 with the data on the device."""
    try:
        split = data.fashion_mnist()
        name = "Fashion-MNIST"
    except mg.MicrogradxError:
        split, name = data.synthetic_digits(), "synthetic digits, for want of Fashion-MNIST's files"
    (x, y), (xt, yt) = split
    if quick:
        x, y, xt, yt = x[:64], y[:64], xt[:32], yt[:32]
    x, y = x.reshape(len(x), -1), y
    xt = xt.reshape(len(xt), -1)
    sizes = [x.shape[1], 8 if quick else 128, int(y.max()) + 1]
    epochs, found = (1 if quick else 10), {}
    for where in ("cpu", "cuda"):
        mg.seed(0)
        model = nn.MLP(sizes).to(where)
        optimizer = optim.Adam(model.parameters(), lr=1e-3)
        options: dict[str, Any] = {"batch_size": 32 if quick else 128, "progress": False, "seed": 1}
        if not quick:  # compile before the clock runs
            other = nn.MLP(sizes).to(where)
            mg.fit(other, optim.Adam(other.parameters()), (x, y), (xt, yt), epochs=1, **options)
            mg.seed(0)
            model.load_state_dict(nn.MLP(sizes).state_dict())
        history = mg.fit(model, optimizer, (x, y), (xt, yt), epochs=epochs, **options)
        found[where] = sum(record["seconds"] for record in history), list(history)[-1]["valid_accuracy"]
    (on_cpu, right), (on_gpu, also) = found["cpu"], found["cuda"]
    what, times = (
        f"{name}, {len(x):,} rows, {epochs} epochs",
        (duration(on_gpu), f"our CPU {duration(on_cpu)}"),
    )
    note = f"accuracy {also:.2%}, on the CPU {right:.2%}"
    yield row("training", what, *times, on_cpu / on_gpu, "0.5 s", note)


def products(quick: bool) -> Iterator[Row]:
    """Our tiled matrix product (and cuBLAS, if it is there) against PyTorch's."""
    torch, where = torchs()
    gpu = device()
    blas = gpu.blas
    for n, k, m in [(5, 7, 3)] if quick else SIZES:
        work = 2 * n * k * m
        rng = np.random.default_rng(0)
        a, b = rng.standard_normal((n, k)).astype(np.float32), rng.standard_normal((k, m)).astype(np.float32)
        x, y = wrap(gpu.array(a)), wrap(gpu.array(b))
        left, right = torch.from_numpy(a).to(where), torch.from_numpy(b).to(where)
        calls = 2 if quick else max(5, min(200, 10**12 // work))
        peer = seconds(lambda: torch.mm(left, right), waiting(torch, where), calls)  # noqa: B023
        for kind, chosen in (("tiled", None), *([("cuBLAS", blas)] if blas else [])):
            gpu.blas = chosen
            try:
                ours = seconds(lambda: x @ y, gpu.synchronize, calls)  # noqa: B023
                worst = np.max(np.abs((x @ y).numpy() - a.astype(np.float64) @ b)) / np.sqrt(k)
                rates = f"{work / ours / 1e12:.1f} TFLOP/s", f"PyTorch {work / peer / 1e12:.1f}"
                note = f"error {worst:.0e} times the root of the inner size"
                yield row("product", f"{n} x {k} x {m}, {kind}", *rates, peer / ours, note=note)
            except Exception as error:
                yield row("product", f"{n} x {k} x {m}, {kind}", note=problem(error))
        gpu.blas = blas


def launches(quick: bool) -> Iterator[Row]:
    """What it takes to begin: a launch, an eager operation, the replay of a graph, a copy to the host."""
    gpu, calls = device(), 5 if quick else 2000
    x = mg.tensor(np.ones(100, np.float32), device="cuda")
    source = "from numba import cuda\ndef nothing(x):\n    if cuda.grid(1) < 0:\n        x[0] = 0\n"
    kernel = gpu.load(source, {"nothing": "float32*"}, "nothing")["nothing"]
    run = gpu.prepare(Launch(kernel, 1, (pointer(x.data),)))
    yield row("launch", "a prepared kernel", duration(seconds(run, gpu.synchronize, calls)))
    replay = gpu.capture(lambda: [run() for _ in range(20)] and None)
    yield row(
        "launch", "a kernel of twenty in a graph", duration(seconds(replay, gpu.synchronize, calls) / 20)
    )
    yield row("launch", "an eager operation", duration(seconds(lambda: x * 2, gpu.synchronize, calls)))
    yield row("launch", "item()", duration(seconds(lambda: x[0].item(), gpu.synchronize, calls)))


def problem(error: Exception) -> str:
    """An error in a cell."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".replace("|", "/")


PARTS = [bits, curve, sweeps, steps, training, products, launches, suite]
LIMIT = 150.0  # seconds for a part: one that hangs must not cost the others their turn


def serve(name: str, quick: bool, queue: Any) -> None:
    """A part in a process of its own: a fault of the GPU ends no other."""
    try:
        for found in globals()[name](quick):
            queue.put(found)
    except Exception as error:
        queue.put(row(name, "failed", note=problem(error)))
    queue.put(None)


def rows_of(part: Callable[[bool], Iterator[Row]], quick: bool) -> Iterator[Row]:
    """The rows of a part, until it ends or its time is up."""
    if simulated():
        yield from part(quick)
        return
    spawn = multiprocessing.get_context("spawn")
    queue: Any = spawn.Queue()
    process = spawn.Process(target=serve, args=(part.__name__, quick, queue), daemon=True)
    process.start()
    end = time.perf_counter() + LIMIT * (3 if part is suite else 1)
    while process.is_alive() or not queue.empty():
        try:
            found = queue.get(timeout=1)
        except Empty:
            if time.perf_counter() > end:
                process.kill()
                yield row(part.__name__, "failed", note="its time was up")
                return
            continue
        if found is None:
            return
        yield found
    yield row(part.__name__, "failed", note=f"its process ended with code {process.exitcode}")


def run(quick: bool = False) -> list[Row]:
    """All parts; the table is written after each, and also into the folder $OUT, if that is set."""
    if not available():
        raise SystemExit(". ".join(filter(None, describe())))
    if simulated():
        if not quick:
            raise SystemExit("nothing is measured in the simulator: rehearse with --quick.")
        sys.setswitchinterval(1e-4)  # its threads wait for each other
    what = describe()[0] + (" (a rehearsal: nothing here is a measurement)" if quick else "")
    rows = [row("device", what, note=f"{', '.join(build.compilers())}; driver {version()}")]
    for part in PARTS:
        start = time.perf_counter()
        for found in rows_of(part, quick):
            print(" ".join(str(cell) for cell in found.values() if cell), flush=True)
            rows.append(found)
        print(f"  [{part.__name__}: {time.perf_counter() - start:.1f} s]", flush=True)
        if not quick:
            path = write("cuda", (__doc__ or "").splitlines()[0], rows)
            if out := os.environ.get("OUT"):
                shutil.copy(path, out)
    return rows


def version() -> str:
    """The driver's version, as CUDA counts."""
    api = getattr(device(), "api", None)
    return str(api.cuDriverGetVersion()[1]) if api else "none"
