"""`microgradx optimizers`, `doctor` and `cache`: for looking."""

import inspect
from collections.abc import Mapping
from typing import Any

import click

from microgradx.cli.options import REQUIRED, Name, typed


def known() -> Mapping[str, Any]:
    """The optimizers, and the rules that are not an optimizer of that name."""
    from microgradx.optim import optimizers
    from microgradx.rules import rules

    return rules | optimizers


@click.command()
@click.argument("name", required=False, type=Name("optimizer", known))
def optimizers(name: str | None) -> None:
    """List the optimizers with their equations, or explain NAME and its hyperparameters."""
    from microgradx.optim import optimizers

    if name:
        explain(known()[name])
        return
    for key, made in optimizers.items():
        first, *lines = inspect.cleandoc(rule_of(made).__doc__).splitlines()
        equations = [line for line in lines if line.startswith("    ")]
        click.echo("\n".join([f"{click.style(key, bold=True)}: {first}", *equations]))
    others = ", ".join(key for key in known() if key not in optimizers)
    click.echo(f"\nRules behind an option of these, or without a class of their own: {others}.")


def rule_of(chosen: Any) -> Any:
    """The rule that an optimizer follows by default; a rule itself."""
    if not isinstance(chosen, type):
        return chosen
    needed = {key: 1e-3 for key, default in chosen.options.items() if default is REQUIRED}
    return chosen.choose(**chosen.options | needed)


def explain(chosen: Any) -> None:
    """The docstrings of a rule and of the optimizer, where that says more; then the options and defaults."""
    rule = rule_of(chosen)
    text = inspect.cleandoc(rule.__doc__)
    more = [line for line in inspect.cleandoc(chosen.__doc__).splitlines() if line not in text]
    click.echo(f"{click.style(rule.name, bold=True)}{rule.__signature__}\n\n{text}\n")
    click.echo("".join(f"{line}\n" for line in more))
    for name, default in getattr(chosen, "options", rule.hyperparameters).items():
        click.echo(f"--{name.replace('_', '-'):<24} {'required' if default is REQUIRED else typed(default)}")


@click.command()
def doctor() -> None:
    """Report versions, processor, BLAS, threads, CUDA and folders, and advise."""
    from rich.console import Console
    from rich.table import Table

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
    from microgradx.kernels.cache import folder

    path = folder()
    files = [file for file in path.iterdir() if file.is_file()] if path else []
    text = f"{path}: {len(files)} files, {sum(file.stat().st_size for file in files) / 1e6:.2f} MB"
    if action == "clear":
        for file in files:
            file.unlink(missing_ok=True)
        text += ", cleared"
    click.echo(text)
