"""`microgradx optimizers`, `doctor` and `cache`: for looking."""

import inspect
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from microgradx.cli.options import Name, flat
from microgradx.errors import ArgumentError


def known() -> Mapping[str, Any]:
    """The optimizers, and the rules that are not an optimizer of that name."""
    from microgradx.optim import optimizers
    from microgradx.rules import rules

    return rules | optimizers


@click.command()
@click.argument("name", required=False, type=Name("optimizer", known))
def optimizers(name: str | None) -> None:
    """List the optimizers, or explain NAME: its equations, their source, and its hyperparameters."""
    from microgradx.optim import optimizers

    console = Console(highlight=False)
    if name:
        explain(console, known()[name])
        return
    table = Table("name", "what it does", "hyperparameters", box=None)
    for key, made in optimizers.items():
        table.add_row(f"[bold]{key}[/]", first_line(made), ", ".join(made.options))
    console.print(table)
    others = [key for key in known() if key not in optimizers]
    console.print(f"\nRules without a class of their own, or behind an option of one: {', '.join(others)}.")


def explain(console: Console, chosen: Any) -> None:
    """The docstrings of an optimizer and of its rule, or of a rule, and the defaults."""
    options = getattr(chosen, "options", None) or chosen.hyperparameters
    rule = chosen
    if isinstance(chosen, type):
        console.print(f"{chosen.__name__}: {inspect.cleandoc(chosen.__doc__ or '')}\n", markup=False)
        needed = {key: 1e-3 for key, default in options.items() if default is inspect.Parameter.empty}
        with suppress(ArgumentError):
            rule = chosen.choose(**options | needed)
    console.print(f"rule {rule.name}{rule.__signature__}\n", markup=False, style="bold")
    console.print(inspect.cleandoc(rule.__doc__ or ""), markup=False)
    table = Table("\noption", "\ndefault", box=None)
    for name, default in options.items():
        table.add_row(f"--{name.replace('_', '-')}", flat(default))
    console.print(table)


def first_line(thing: Any) -> str:
    """Of a docstring."""
    return inspect.cleandoc(thing.__doc__ or "").partition("\n")[0]


@click.command()
def doctor() -> None:
    """Report versions, processor, BLAS, threads, CUDA and folders, and advise."""
    from microgradx.doctor import examine

    table = Table.grid(padding=(0, 2))
    findings = list(examine())
    for finding in findings:
        advice = f"\n[yellow]-> {finding.advice}[/]" if finding.advice else ""
        table.add_row(f"[bold]{finding.topic}[/]", finding.text + advice)
    console = Console(highlight=False)
    console.print(table)
    count = sum(bool(finding.advice) for finding in findings)
    console.print(f"\n[yellow]{count} could be better[/]" if count else "\n[green]all well[/]")


@click.command()
@click.argument("action", required=False, type=click.Choice(["show", "clear"]), default="show")
def cache(action: str) -> None:
    """Show where compiled kernels are kept and how much they take, or clear them.

    Kernels that are missing are compiled again when they are needed.
    """
    from microgradx.kernels.jit import folder

    path = folder()
    files = [file for file in path.iterdir() if file.is_file()] if path and path.exists() else []
    text = f"{path}: {len(files)} files, {sum(file.stat().st_size for file in files) / 1e6:.2f} MB"
    if action == "clear":
        for file in files:
            file.unlink(missing_ok=True)
        text += ", cleared"
    click.echo(text)
