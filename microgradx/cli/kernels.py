"""`microgradx kernels`: what the library's kernels, or those of a training step, move, compute and take."""

from dataclasses import replace
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from microgradx.cli.options import OPTIMIZER, Value, needed, option
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
    option("--source show", None, "Print the text of the kernel NAME.", flag_value="source"),
    option("--ptx show", None, "Print its PTX, for the capability of the GPU.", flag_value="ptx"),
    option("--asm show", None, "Print its instructions, of processor or GPU.", flag_value="asm"),
]


@click.command(params=OPTIONS)
def kernels(
    name: str | None, model: list[int] | None, optimizer: str, batch_size: int, device: str | None, gpu: Gpu,
    capability: tuple[int, int] | None, bias: bool, show: str | None,
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
    if name is None:
        table(found, gpu)
        return
    chosen = [kernel for kernel in found if kernel.name == name]
    if not chosen:
        raise click.UsageError(f"no kernel {name!r}. {valid(found)}")
    if show == "ptx":
        click.echo(chosen[-1].ptx(gpu.capability))
    elif show == "asm":
        click.echo(chosen[0].assembly(gpu.capability))
    elif show == "source":
        click.echo("\n\n\n".join(dict.fromkeys(kernel.source for kernel in chosen)))
    else:
        table(chosen, gpu)


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
    options: dict[str, Any] = needed(optimizers[name].options)
    made = optimizers[name](model.named_parameters(), **options)
    batch = np.zeros((rows, sizes[0]), np.float32), np.zeros(rows, np.int64)
    made_of = jit(training_step(model, made))
    for instruction in made_of.captured(*batch).program.instructions:
        instruction.line = None  # this is no user's step
    return list(of_step(made_of, *batch, devices=devices, processors=gpu.processors))


def table(found: list[Kernel], gpu: Gpu) -> None:
    """One line for every kernel, and what the columns mean."""
    trouble = build.trouble() if any(kernel.device == "cuda" for kernel in found) and not simulated() else ""
    if simulated():
        trouble = "the simulator replaces the compiler"
    head = ["kernel", "device", "results", "FLOP each", "bytes each", "FLOP/byte", "at best us", "bound by"]
    head += ["registers", "shared B", "spills B", "what it does"]
    lines = Table(*head, box=None, pad_edge=False)
    for column in lines.columns[2:7] + lines.columns[8:11]:
        column.justify = "right"
    for kernel in found:
        each = max(kernel.elements, 1)
        least, bound = kernel.least(gpu)
        taken = ["", "", ""] if kernel.device == "cpu" else resources(kernel, gpu, trouble)
        lines.add_row(
            kernel.name, kernel.device, f"{kernel.elements:,}", f"{kernel.flop / each:,.3g}",
            f"{kernel.bytes / each:,.3g}", f"{kernel.intensity:,.2f}",
            f"{1e6 * least:,.2f}", bound, *taken,
            kernel.what[:70],
        )  # fmt: skip
    Console(highlight=False, width=None if Console().is_terminal else 220).print(lines)
    kinds = {kernel.device for kernel in found}
    if "cuda" in kinds:
        speeds = f"{gpu.bandwidth / 1e9:,.0f} GB/s and {gpu.flops / 1e12:,.1f} TFLOP/s in float32"
        capability = ".".join(map(str, gpu.capability))
        click.echo(f"\nlimits: {gpu.name} by its data sheet, {speeds}, capability {capability}")
    if "cpu" in kinds:
        here = limits()
        speeds = f"{here.bandwidth / 1e9:,.0f} GB/s and {here.gemm / 1e9:,.0f} GFLOP/s in float32"
        click.echo(f"limits: this processor as measured, {speeds}, {here.threads} threads")
    if trouble:
        click.echo(f"registers, shared memory and spills are not known here: {trouble}")


def resources(kernel: Kernel, gpu: Gpu, trouble: str) -> list[str]:
    """What a kernel takes of the GPU, as the assembler says."""
    if trouble:
        return ["?", "?", "?"]
    taken = kernel.resources(gpu.capability)
    return [str(taken.registers), f"{taken.shared:,}", str(taken.spills)]
