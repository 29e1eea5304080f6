"""`microgradx doctor`: a look at this machine, and advice."""

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from microgradx.cli.terminal import own
from microgradx.doctor import examine


@click.command()
def doctor() -> None:
    """Report versions, processor, BLAS, threads, CUDA and folders, and advise."""
    table = Table.grid(padding=(0, 2))
    findings = list(examine())
    for finding in findings:
        text = Text(finding.text)
        if finding.advice:
            text.append(f"\n-> {own(finding.advice)}", "yellow")
        table.add_row(Text(finding.topic, "bold"), text)
    console = Console(highlight=False)
    console.print(table)
    count = sum(bool(finding.advice) and finding.fault for finding in findings)
    console.print(f"\n[yellow]{count} could be better[/]" if count else "\n[green]all well[/]")
