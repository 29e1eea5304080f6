"""`microgradx kernels`: what the library's kernels, or those of a training step, move, compute and take."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from textwrap import shorten
from typing import NotRequired, TypedDict

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from microgradx.cli.options import OPTIMIZER, Value, needed, option
from microgradx.cli.terminal import columns, tell
from microgradx.compiler import jit
from microgradx.compiler.report.kernel_list import GPUS, Gpu, Kernel, library, of_step
from microgradx.compiler.report.machine_limits import limits
from microgradx.cuda import build, simulated
from microgradx.errors import one_of
from microgradx.nn import MLP
from microgradx.optim import optimizers
from microgradx.training.step import training_step


def gpu_of(text: str) -> Gpu:
    """A GPU of the table, in any spelling: `h100`, `RTX 4090`."""
    names = {name.lower(): gpu for name, gpu in GPUS.items()}
    if gpu := names.get(text.lower().replace(" ", "").replace("-", "")):
        return gpu
    raise ValueError(one_of("GPU", text, GPUS))


def capability_of(text: str) -> tuple[int, int]:
    """The two numbers of a compute capability: `9.0`."""
    major, minor = map(int, text.split("."))
    return major, minor


GPU = Value("gpu", gpu_of, choices=lambda: GPUS)
CAPABILITY = Value("capability", capability_of, "--capability {value}: give two numbers, such as 9.0.")
OPTIONS = [
    click.Argument(["name"], required=False),
    option("--model", "N-N-N", "The kernels of a training step of this network."),
    option("--optimizer", "NAME", "Of that step.", "adam", type=OPTIMIZER),
    option("--batch-size", "N", "Of that step.", 128),
    option("--device", "cpu|cuda", "Only the kernels of one."),
    option("--gpu", "NAME", f"Whose limits count, one of {', '.join(GPUS)}.", "H100", type=GPU),
    option("--capability", "X.Y", "To compile for.  [default: the GPU's]", type=CAPABILITY),
    option("--bias/--no-bias", None, "Whether the network's layers add a bias.", True),
    option("--json as_json", None, "Everything that is known of them, for programs."),
    option("--source show", None, "Print the text of the kernel NAME.", flag_value="source"),
    option("--ptx show", None, "Print its PTX, for the capability of the GPU.", flag_value="ptx"),
    option("--asm show", None, "Print its instructions, of processor or GPU.", flag_value="asm"),
]


@click.command(params=OPTIONS)
def kernels(
    name: str | None, model: list[int] | None, optimizer: str, batch_size: int, device: str | None, gpu: Gpu,
    capability: tuple[int, int] | None, bias: bool, show: str | None, as_json: bool,
) -> None:  # fmt: skip
    """List every kernel of the library, or of the training step of --model; or show the kernel NAME.

    Nothing is run, and no GPU is needed. A kernel's least time is what memory or arithmetic allows, whichever
    is longer: of the GPU by its data sheet, of this processor as measured.
    """
    devices = (device,) if device else ("cpu", "cuda")
    gpu = replace(gpu, capability=capability) if capability else gpu
    found = list(of(model, bias, optimizer, batch_size, devices, gpu) if model else library(devices))
    if name is None and show:
        raise click.UsageError(f"--{show} shows one kernel: name it. {valid(found)}")
    chosen = [kernel for kernel in found if name in (None, kernel.name)]
    if not chosen:
        raise click.UsageError(f"no kernel {name!r}. {valid(found)}")
    if show == "ptx":
        click.echo(chosen[-1].ptx(gpu.capability))
    elif show == "asm":
        click.echo(chosen[0].assembly(gpu.capability))
    elif show == "source":
        click.echo("\n\n\n".join(dict.fromkeys(kernel.source for kernel in chosen)))
    else:
        trouble = unknown(chosen)
        rows = [measured(kernel, gpu, trouble) for kernel in chosen]
        if as_json:
            click.echo(json.dumps({"gpu": asdict(gpu), "kernels": rows}, indent=2))
        else:
            table(rows, gpu, trouble)


def unknown(found: list[Kernel]) -> str:
    """Why nothing is known of what kernels take of a GPU; "" where it is, or where none is a GPU's."""
    if all(kernel.device == "cpu" for kernel in found):
        return ""
    return "the simulator replaces the compiler" if simulated() else build.trouble()


def valid(found: list[Kernel]) -> str:
    """The names that there are."""
    return f"The kernels are {', '.join(dict.fromkeys(kernel.name for kernel in found))}."


def of(
    sizes: list[int], bias: bool, name: str, rows: int, devices: tuple[str, ...], gpu: Gpu
) -> list[Kernel]:
    """The kernels of the training step of a network."""
    model = MLP(sizes, bias=bias)
    for full, parameter in model.named_parameters():
        place, _, last = full.partition(".")
        parameter.name = f"{last}_{place}"
    made = optimizers[name](model.named_parameters(), **needed(optimizers[name].options))
    batch = np.zeros((rows, sizes[0]), np.float32), np.zeros(rows, np.int64)
    made_of = jit(training_step(model, made))
    for instruction in made_of.captured(*batch).program.instructions:
        instruction.line = None  # this is no user's step
    return list(of_step(made_of, *batch, devices=devices, processors=gpu.processors))


class Facts(TypedDict):
    """What is known of a kernel; of one of a GPU also what it takes, None for what cannot be known here."""

    name: str
    device: str
    results: int
    flop: float
    bytes: float
    seconds: float
    bound_by: str
    what: str
    registers: NotRequired[int | None]
    shared_bytes: NotRequired[int | None]
    spilled_bytes: NotRequired[int | None]


def measured(kernel: Kernel, gpu: Gpu, trouble: str) -> Facts:
    """All that is known of a kernel, by name."""
    least, bound = kernel.least(gpu)
    facts: Facts = {
        "name": kernel.name, "device": kernel.device, "results": kernel.elements, "flop": kernel.flop,
        "bytes": kernel.bytes, "seconds": least, "bound_by": bound, "what": kernel.what,
    }  # fmt: skip
    if kernel.device == "cuda":
        taken = None if trouble else kernel.resources(gpu.capability)
        registers, shared, spills = (taken.registers, taken.shared, taken.spills) if taken else (None,) * 3
        facts |= {"registers": registers, "shared_bytes": shared, "spilled_bytes": spills}
    return facts


COLUMNS: dict[str, tuple[int, str, Callable[[Facts], str]]] = {
    "kernel": (0, "name", lambda k: k["name"]),
    "results": (4, "results", lambda k: f"{k['results']:,}"),
    "FLOP each": (6, "flop", lambda k: f"{k['flop'] / max(k['results'], 1):,.3g}"),
    "bytes each": (5, "bytes", lambda k: f"{k['bytes'] / max(k['results'], 1):,.3g}"),
    "FLOP/byte": (3, "flop", lambda k: f"{k['flop'] / k['bytes'] if k['bytes'] else 0:,.2f}"),
    "at best us": (0, "seconds", lambda k: f"{1e6 * k['seconds']:,.2f}"),
    "bound by": (2, "bound_by", lambda k: k["bound_by"]),
    "registers": (1, "registers", lambda k: known(k["registers"])),
    "shared B": (2, "shared_bytes", lambda k: known(k["shared_bytes"])),
    "spills B": (2, "spilled_bytes", lambda k: known(k["spilled_bytes"])),
}
"""What is said of a kernel: how soon it is left out where a terminal is narrow, its fact, and its text."""

LESS = [title for title, (soon, _, _) in COLUMNS.items() if soon]
LEFT = ("kernel", "bound by")


def known(number: int | None) -> str:
    """A number, or that it is not known."""
    return "?" if number is None else f"{number:,}"


def titles(rows: list[Facts], width: int) -> tuple[list[str], int]:
    """The columns that go beside each other in so many letters, and how many letters are left.

    The names of kernels stay whole, for they are what the next command wants.
    """
    there = [title for title, (_, name, _) in COLUMNS.items() if name in rows[0]]
    wide = {title: 2 + max(len(title), *(len(COLUMNS[title][2](row)) for row in rows)) for title in there}
    while sum(wide.values()) - 2 > width and (last := max(wide, key=lambda title: COLUMNS[title][0])) in LESS:
        del wide[last]
    return list(wide), width - sum(wide.values())


def table(rows: list[Facts], gpu: Gpu, trouble: str) -> None:
    """One line for every kernel, those of the processor and of the GPU apart, and what the columns mean."""
    width = columns() or 220
    for device in dict.fromkeys(row["device"] for row in rows):
        some = [row for row in rows if row["device"] == device]
        chosen, left = titles(some, width)
        lines = Table(box=None, pad_edge=False)
        for title in chosen:
            lines.add_column(title, justify="left" if title in LEFT else "right", no_wrap=True)
        if left >= 16:
            lines.add_column("what it does", no_wrap=True)
        for row in some:
            cells = [COLUMNS[title][2](row) for title in chosen]
            cells += [shorten(row["what"], left, placeholder=" ...")] if left >= 16 else []
            lines.add_row(*map(Text, cells))
        Console(highlight=False, width=width).print(lines)
        tell(limit_of(device, gpu))
        click.echo()
    tell(
        "at best us: the least time." + " A wider terminal shows more columns, --json all." * bool(columns())
    )
    if trouble:
        tell(f"registers, shared memory and spills are not known here: {trouble}")


def limit_of(device: str, gpu: Gpu) -> str:
    """What a kernel's least time follows from."""
    if device == "cuda":
        speeds = f"{gpu.bandwidth / 1e9:,.0f} GB/s and {gpu.flops / 1e12:,.1f} TFLOP/s in float32"
        capability = ".".join(map(str, gpu.capability))
        return f"limits: {gpu.name} by its data sheet, {speeds}, capability {capability}"
    here = limits()
    speeds = f"{here.bandwidth / 1e9:,.0f} GB/s and {here.gemm / 1e9:,.0f} GFLOP/s in float32"
    return f"limits: this processor as measured, {speeds}, {here.threads} threads"
