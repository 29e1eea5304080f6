"""`microgradx graph`: what a small network computes, as the textbook's table, as a picture, step by step."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import click
import numpy as np

from microgradx import nn
from microgradx.cli.options import Whole, name_of, option
from microgradx.cli.recipe import activations
from microgradx.cli.terminal import columns, tell
from microgradx.eager.tensor import Tensor
from microgradx.kernels.random import generator
from microgradx.study import draw, tape
from microgradx.study.graphs.table import Step, Tape

OPTIONS = [
    option("--model", "N-N-N", "Layer sizes.", "2-4-1"),
    option("--activation", "NAME", "Between the layers.", "tanh", type=name_of("activation", activations)),
    option("--batch-size", "N", "Rows of random input.", 4),
    option("--seed", "N", "Of the weights and the data.", 0, type=int),
    option("--depth", "N", "So many levels of modules are open in the picture.", type=Whole(0)),
    option("--out", "FILE", "Write a picture: .svg, .png, .dot or .mmd (Mermaid)."),
    option("--step-by-step", None, "Replay the way back, one node at a time."),
]


@click.command(params=OPTIONS)
def graph(
    model: list[int], activation: str, batch_size: int, seed: int, depth: int | None, out: Path | None,
    step_by_step: bool,
) -> None:  # fmt: skip
    """Show one forward and backward pass of a network: step, operation, inputs, value, gradient.

    The loss is mean squared error for one output, cross entropy for several. In Python, mg.tape(loss) and
    mg.draw(loss) show the same of any tensor.
    """
    loss, names = computed(model, activation, batch_size, seed)
    if out:
        click.echo(f"written: {draw(loss, depth=depth, names=names).save(out)}")
    if step_by_step:
        replay(tape(loss, names=names).steps())
    elif not out:
        tell(listed(tape(loss, names=names), columns()))


def listed(found: Tape, width: int | None) -> str:
    """The table; in a terminal that it is too wide for, value and gradient stand below each name."""
    text = str(found)
    if width is None or max(map(len, text.splitlines())) <= width:
        return text
    lines = []
    for *what, value, gradient in found.rows():
        lines.append("  ".join(filter(None, what)))
        lines += [f"    {name} {cell}" for name, cell in (("value", value), ("gradient", gradient)) if cell]
    return "\n".join(lines)


def replay(steps: Iterable[Step]) -> None:
    """Print the steps; a terminal waits for a line after each, until its input ends."""
    waits = os.isatty(0) and os.isatty(1)
    for step in steps:
        click.echo(f"{step}\n")
        if waits and step.number < step.of:
            click.echo("Enter for the next step, q to end: ", nl=False)
            answer = sys.stdin.readline()  # lines, not keys: the terminal itself sees to Ctrl-C and Ctrl-D
            if answer.strip().lower() == "q":
                return
            if not answer:  # the end of the input
                waits = False
                click.echo()


def computed(sizes: list[int], activation: str, rows: int, seed: int) -> tuple[Tensor, dict[str, object]]:
    """The loss of a new network on random data, and what its parts are called."""
    generator.seed(seed)
    model = nn.MLP(sizes, activation)
    draws = np.random.default_rng(seed)
    x = draws.standard_normal((rows, sizes[0]), np.float32)
    y: np.ndarray
    if sizes[-1] > 1:
        y = draws.integers(sizes[-1], size=rows)
        loss = nn.cross_entropy(model(x), y)
    else:
        y = draws.standard_normal((rows, 1), np.float32)
        loss = nn.mse_loss(model(x), y)
    return loss, {"model": model, "x": x, "y": y, "loss": loss}
