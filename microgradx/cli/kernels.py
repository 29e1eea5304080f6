"""`microgradx kernels`: what the library's kernels, or those of a training step, move, compute and take."""

from dataclasses import replace
from typing import Any

import click
import numpy as np
from click.shell_completion import CompletionItem
from rich.console import Console
from rich.table import Table

from microgradx.cli.options import REQUIRED, Name, Sizes, completed
from microgradx.compiler import jit
from microgradx.compiler.report.kernel_list import GPUS, Gpu, Kernel, library, of_step
from microgradx.compiler.report.machine_limits import limits
from microgradx.cuda import build, simulated
from microgradx.errors import one_of
from microgradx.nn import MLP
from microgradx.optim import optimizers
from microgradx.training.step import training_step

optimizer = Name("optimizer", lambda: optimizers)


class GpuName(click.ParamType):
    """A GPU of the table, in any spelling: `h100`, `RTX 4090`."""

    name = "gpu"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Gpu:
        """The GPU; the valid names where there is none."""
        if isinstance(value, Gpu):
            return value
        names = {name.lower(): gpu for name, gpu in GPUS.items()}
        if gpu := names.get(value.lower().replace(" ", "").replace("-", "")):
            return gpu
        raise click.UsageError(one_of("GPU", value, GPUS), ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """As the table spells them."""
        return completed(GPUS, incomplete)


class Capability(click.ParamType):
    """A compute capability: `9.0`."""

    name = "capability"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Its two numbers."""
        major, _, minor = str(value).partition(".")
        if not (major.isdecimal() and minor.isdecimal()):
            raise click.UsageError(f"--capability {value}: give two numbers, such as 9.0.", ctx)
        return int(major), int(minor)


@click.command()
@click.argument("name", required=False)
@click.option(
    "--model", type=Sizes(), metavar="N-N-N", help="The kernels of a training step of this network."
)
@click.option("--optimizer", type=optimizer, default="adam", help="Of that step.  [default: adam]")
@click.option("--batch-size", type=click.IntRange(1), default=128, show_default=True, help="Of that step.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Only the kernels of one.")
@click.option("--gpu", type=GpuName(), default="H100", metavar="NAME",
              help=f"Whose limits count.  [default: H100] One of {', '.join(GPUS)}.")  # fmt: skip
@click.option("--capability", type=Capability(), metavar="X.Y", help="To compile for.  [default: the GPU's]")
@click.option("--bias/--no-bias", default=True, help="Whether the network's layers add a bias.")
@click.option("--source", "show", flag_value="source", help="Print the text of the kernel NAME.")
@click.option("--ptx", "show", flag_value="ptx", help="Print its PTX, for the capability of the GPU.")
@click.option("--asm", "show", flag_value="asm", help="Print its instructions, of this processor or the GPU.")
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
    options: dict[str, Any] = needed(name)
    made = optimizers[name](model.named_parameters(), **options)
    batch = np.zeros((rows, sizes[0]), np.float32), np.zeros(rows, np.int64)
    made_of = jit(training_step(model, made))
    for instruction in made_of.captured(*batch).program.instructions:
        instruction.line = None  # this is no user's step
    return list(of_step(made_of, *batch, devices=devices, processors=gpu.processors))


def needed(name: str) -> dict[str, float]:
    """The options that an optimizer has no default for."""
    return {key: 1e-3 for key, default in optimizers[name].options.items() if default is REQUIRED}


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
