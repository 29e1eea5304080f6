"""A GPU: right first, then sweeps, steps, a whole training and products, against PyTorch and JAX.

Every part runs in a process of its own; one that fails or hangs is a row that says so, and the next goes on.
`--quick` is a rehearsal with tiny sizes, which measures nothing; in Numba's simulator there is nothing else.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import microgradx as mg
from bench.cuda_steps import FIRST, MORE, seconds, torchs, trained, waiting
from bench.measure import RESULTS, duration, write
from bench.models import Network
from bench.parts import ROOT, Part, Row, Tables, all_of, cell, problem, row
from microgradx import data, nn, optim
from microgradx.compiler.run.cuda_executable import CudaExecutable
from microgradx.cuda import Array, available, build, describe, device, simulated
from microgradx.cuda.devices import Launch
from microgradx.eager.tensor import wrap
from microgradx.kernels import sweep
from microgradx.rules import rules

SIZES = [(128, 784, 128), (1024, 1024, 1024), (4096, 4096, 4096), (784, 4096, 4096)]
"""Of the matrix products, (n, k) @ (k, m)."""


# Right first


def suite(quick: bool) -> Iterator[Row]:
    """The CUDA tests, on this device, with a row of how far they are."""
    options = ["-k", "launch_fits or two_devices"] if quick else []
    side = ["-n", "8"] if find_spec("xdist") and not quick else []  # most of the time is compilation
    command = [sys.executable, "-m", "pytest", *side, *options, "-m", "cuda", "-v", "-rfE", "-o", "addopts="]
    command += ["-W", "default"]  # what another version of a library warns of is no failure
    started = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    ) as process:
        assert process.stdout
        lines, said = [], started
        for line in process.stdout:
            lines.append(line)
            if time.monotonic() > said + 2:
                said = time.monotonic()
                yield verdict(lines, f"not all, {said - started:.0f} s")
    yield verdict(lines, lines[-1].strip("= \n") if lines else f"pytest ended with code {process.returncode}")


def verdict(lines: list[str], result: str) -> Row:
    """What a run of the tests says so far."""
    outcome = re.compile(r"\b(PASSED|FAILED|ERROR|SKIPPED)\b")
    found = [match[1] for line in lines if "%]" in line and (match := outcome.search(line))]
    failed = [line.split("tests/")[-1] for line in lines if re.search(r"\b(FAILED|ERROR)\b.*::", line)]
    short = [line for line in failed if " - " in line] or failed  # the summary at the end has the reasons
    counts = ", ".join(f"{found.count(kind)} {kind.lower()}" for kind in dict.fromkeys(found)) or "none yet"
    note = cell("; ".join([result, *short]), 900)
    return row("tests", "pytest -m cuda", counts, asked="all pass", note=note)


def bits(quick: bool) -> Iterator[Row]:
    """Every update rule, on both devices from the same numbers."""
    steps, size = (5, 9) if quick else (1000, 10_000)
    names, differing = list(rules)[: 3 if quick else None], []
    for k, name in enumerate(names):
        try:
            differing += [name] * (not same_bits(name, steps, size))
        except Exception as error:
            differing.append(f"{name} ({problem(error)})")
        so_far = f"{k + 1 - len(differing)} of {len(names)}" + f" ({k + 1} seen)" * (k + 1 < len(names))
        note = cell(", ".join(differing), 900) or "products and sums are not contracted: NVVM's -fma=0"
        yield row("bits", f"rules equal after {steps} steps", so_far, asked="all", note=note)


def same_bits(name: str, steps: int, size: int) -> bool:
    """Whether a rule gives the CPU's bits after so many steps."""
    rule, rng = rules[name], np.random.default_rng(5)
    p = rng.standard_normal(size).astype(np.float32)
    on_cpu = [p, *(np.zeros_like(p) for _ in rule.state)]
    on_gpu = [Array.from_numpy(a) for a in on_cpu]
    cpu, gpu = (sweep(rule, np.float32, device=where) for where in ("cpu", "cuda"))
    carried = other = ()
    for t in range(1, steps + 1):
        g = rng.standard_normal(size).astype(np.float32)
        carried = cpu(on_cpu[0], g, *on_cpu[1:], t=t, carried=carried)
        other = gpu(on_gpu[0], Array.from_numpy(g), *on_gpu[1:], t=t, carried=other)
    return all((a == b.numpy()).all() for a, b in zip(on_cpu, on_gpu, strict=True))


def few_steps(quick: bool) -> Iterator[Row]:
    """A sweep, and steps of a small network both as a graph and as one kernel: what is to be looked at."""
    network, batch = (Network((8, 6, 3)), 4) if quick else (Network((70, 40, 10)), 32)
    sweep(rules["adam"], np.float32, device="cuda")(*halves(9 if quick else 1000), t=1)
    for how in ("graph", "epoch"):
        step, x, y = trained(network, "cuda", 3 * batch, how)
        losses = step.scan(x, y, batch_size=batch).numpy()
        yield row("sanitizer", f"3 steps of {network}, {how}", f"losses {losses.round(3).tolist()}")


TOOLS = {"memcheck": "ERROR SUMMARY", "racecheck": "RACECHECK SUMMARY"}
"""Of compute-sanitizer, and the line that says what each has found."""


def sanitizer(quick: bool) -> Iterator[Row]:
    """A few steps under compute-sanitizer, where it is installed."""
    there = shutil.which("compute-sanitizer", path=f"{os.environ['PATH']}:/usr/local/cuda/bin")
    if not there:
        yield SANITIZER.missing("compute-sanitizer is not installed")
        return
    own = [sys.executable, "-m", "bench.parts", "bench.cuda:few_steps"]
    for tool, summary in TOOLS.items():
        with tempfile.TemporaryDirectory() as folder:
            found = Path(folder, "rows")
            command = [there, "--tool", tool, *own, str(found), json.dumps({"quick": quick}), "sanitizer"]
            done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
            rows = list(map(json.loads, found.read_text().splitlines())) if found.exists() else []
        said = [line.strip("= ") for line in done.stdout.splitlines() if line.startswith("====")]
        result = next((line for line in said if summary in line), f"no summary, code {done.returncode}")
        seen = [f"{r['what']} {r['note']}".strip() for r in rows]
        first = [] if " 0 " in result else said[:6]
        yield row("sanitizer", f"few steps under {tool}", result, asked="0 errors",
                  note=cell("; ".join(seen + first), 900))  # fmt: skip


def curve(quick: bool) -> Iterator[Row]:
    """1,000 steps on both devices, and compiled against eager."""
    network, steps, batch = (Network((8, 6, 3)), 6, 4) if quick else (Network((784, 128, 10)), 1000, 128)
    losses = {}
    for where, how in (("cpu", ""), ("cuda", "graph"), ("cuda", "epoch")):
        step, x, y = trained(network, where, steps * batch, how)
        losses[where, how] = step.scan(x, y, batch_size=batch).numpy()
    wanted = losses.pop(("cpu", ""))
    for (_, how), found in losses.items():
        worst = np.max(np.abs(found - wanted) / np.abs(wanted))
        early = np.max(np.abs(found - wanted)[:100] / wanted[:100])
        what, note = f"{network}, {steps} steps, {how} against the CPU", f"first 100 steps: {early:.1e}"
        yield row("loss curve", what, f"{worst:.1e}", asked="1e-3", note=note)
    step, x, y = trained(network, "cuda", batch, "graph")
    compiled = [step(x, y).item() for _ in range(5)]
    step, x, y = trained(network, "cuda", batch, "graph")
    eager = [step.function(x, y).item() for _ in range(5)]
    worst = np.max(np.abs(np.subtract(compiled, eager)) / np.abs(eager))
    yield row("eager", f"{network}, 5 steps compiled against eager", f"{worst:.1e}", asked="1e-5")


# Then fast


def sweeps(quick: bool) -> Iterator[Row]:
    """Adam over many parameters, against a copy of the same bytes and PyTorch's fused Adam."""
    gpu, adam = device(), sweep(rules["adam"], np.float32, device="cuda")
    torch, where = torchs()
    yield copies(10**3 if quick else 10**9)
    for size in (1000,) if quick else (10**7, 10**8, 10**6, 10**5, 10**9):
        try:
            arrays = halves(size)
        except mg.MicrogradxError as error:
            yield row("sweep", f"{size:.0e} parameters", note=str(error)[:120])
            continue
        update = adam.bind(*arrays)
        calls = 3 if quick else max(5, min(500, 2 * 10**8 // size))
        ours = seconds(partial(update, t=3, lr=1e-3), gpu.synchronize, calls)
        moved = 28 * size  # p, g, m and v are read, p, m and v written
        target, source = arrays[0].first(size // 2), arrays[1].first(size // 2)
        copying = seconds(copying_to(target, source), gpu.synchronize, calls)
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
    arrays = halves(size)
    numbers = tuple(map(np.float32, adam.numbers(3, (), {"lr": 1e-3})[0][0]))
    launch = gpu.prepare(Launch(adam.run, -(-size // gpu.shape.block), (np.int64(size), *arrays, *numbers)))
    replay = gpu.capture(lambda: [launch() for _ in range(many)] and None)
    each = seconds(replay, gpu.synchronize, 3 if quick else 20) / many
    yield row("sweep", f"Adam, {size:.0e}, inside a graph", duration(each), asked="5 us")


def copying_to(target: Array, source: Array) -> Callable[[], None]:
    """What copies one array to another on the device."""
    return partial(device().copy, target.address, source.address, source.nbytes)


def halves(size: int) -> list[Array]:
    """Four arrays of a number that is not zero, made on the device but for the first."""
    first = Array.from_numpy(np.full((size,), 0.5, np.float32))
    return [first, *(first.copy() for _ in range(3))]


def copies(size: int) -> Row:
    """The bandwidth of a copy on the device, of so many bytes read and written, ours and PyTorch's."""
    gpu, (torch, where) = device(), torchs()
    source = Array.from_numpy(np.full((size // 4,), 0.5, np.float32))
    target = source.copy()
    ours = 2 * size / seconds(copying_to(target, source), gpu.synchronize, 10)
    one, other = (torch.full((size // 4,), 0.5, device=where) for _ in range(2))
    peer = 2 * size / seconds(lambda: other.copy_(one), waiting(torch, where), 10)
    rates = f"{ours / 1e9:,.0f} GB/s", f"PyTorch {peer / 1e9:,.0f} GB/s"
    return row("sweep", f"a copy of {size:.0e} bytes", *rates, ours / peer, note="bytes read and written")


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
        x, y = wrap(Array.from_numpy(a)), wrap(Array.from_numpy(b))
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
    run = gpu.prepare(Launch(kernel, 1, (x.data,)))
    yield row("launch", "a prepared kernel", duration(seconds(run, gpu.synchronize, calls)))
    replay = gpu.capture(lambda: [run() for _ in range(20)] and None)
    yield row(
        "launch", "a kernel of twenty in a graph", duration(seconds(replay, gpu.synchronize, calls) / 20)
    )
    yield row("launch", "an eager operation", duration(seconds(lambda: x * 2, gpu.synchronize, calls)))
    yield row("launch", "item()", duration(seconds(lambda: x[0].item(), gpu.synchronize, calls)))
    network, batch, count = (Network((2, 3, 2)), 4, 3) if quick else (Network((2, 16, 16, 2)), 100, 1001)
    step, x, y = trained(network, "cuda", batch * count, "epoch")
    taken = {}
    for steps in (1, count):
        rows = np.arange(batch * steps)
        scan = partial(step.scan, x, y, batch_size=batch, order=rows)
        taken[steps] = seconds(scan, gpu.synchronize, 1 if quick else 5)
    each = (taken[count] - taken[1]) / (count - 1)
    note = f"a scan of 1 step takes {duration(taken[1])}, of {count} {duration(taken[count])}"
    what = f"{network}, batch {batch}, persistent"
    yield row("launch", f"{what}: a step", duration(each), asked="5 us", note=note)
    begin = duration(taken[1] - each)
    yield row("launch", f"{what}: to begin a scan", begin, note="a scan of one, less a step")
    CudaExecutable.how = ""


BITS = Part("bits", "bench.cuda:bits", 90, asked="all")
CURVE = Part("loss curve", "bench.cuda:curve", 60, asked="1e-3")
SWEEPS = Part("sweeps", "bench.cuda:sweeps", 60, asked="0.90 of a copy's bandwidth")
TRAINING = Part("training", "bench.cuda:training", 60, asked="0.5 s")
PRODUCTS = Part("products", "bench.cuda:products", 60)
LAUNCHES = Part("launches", "bench.cuda:launches", 30)
SUITE = Part("tests", "bench.cuda:suite", 150, asked="all pass")
SANITIZER = Part("sanitizer", "bench.cuda:sanitizer", 60, asked="0 errors")
FIRST_STEPS, MORE_STEPS = ([job.part() for job in jobs] for jobs in (FIRST, MORE))
PARTS = [BITS, CURVE, SWEEPS, *FIRST_STEPS, TRAINING, PRODUCTS, LAUNCHES, SUITE, *MORE_STEPS]


def keep(tables: Tables, name: str, title: str, folder: Path = RESULTS) -> Path:
    """Write all tables that there are, also into the folder $OUT, if that is set."""
    path = write(name, title, tables, folder=folder)
    if out := os.environ.get("OUT"):
        shutil.copy(path, out)
    return path


def run(quick: bool = False) -> list[Row]:
    """All parts; the tables are written after each."""
    if not available():
        raise SystemExit(". ".join(filter(None, describe())))
    if simulated() and not quick:
        raise SystemExit("nothing is measured in the simulator: rehearse with --quick.")
    title = f"{(__doc__ or '').splitlines()[0]} {describe()[0]}"
    what = describe()[0] + (" (a rehearsal: nothing here is a measurement)" if quick else "")
    about = [row("device", what, note=f"{', '.join(build.compilers())}; driver {version()}")]
    write_down = (lambda tables: None) if quick else partial(keep, name="cuda", title=title)
    tables = all_of(PARTS, quick, 3600, write_down, tables={"device": about})
    return [found for table in tables.values() for found in table]


def version() -> str:
    """The driver's version, as CUDA counts."""
    api = getattr(device(), "api", None)
    return str(api.cuDriverGetVersion()[1]) if api else "none"
