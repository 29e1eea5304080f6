"""`microgradx doctor` and `cache`: a look at this machine and at the compiled kernels."""

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from microgradx.doctor import examine
from microgradx.kernels.cache import folder


@click.command()
def doctor() -> None:
    """Report versions, processor, BLAS, threads, CUDA and folders, and advise."""
    table = Table.grid(padding=(0, 2))
    findings = list(examine())
    for finding in findings:
        text = Text(finding.text)
        if finding.advice:
            text.append(f"\n-> {finding.advice}", "yellow")
        table.add_row(Text(finding.topic, "bold"), text)
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
    path = folder()
    if path is None:
        return
    files = [file for file in path.iterdir() if file.is_file()]
    text = f"{path}: {len(files)} files, {sum(file.stat().st_size for file in files) / 1e6:.2f} MB"
    if action == "clear":
        for file in files:
            file.unlink(missing_ok=True)
        text += ", cleared"
    click.echo(text)
