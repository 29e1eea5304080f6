"""`microgradx cache`: where the compiled kernels are, and how much they take."""

import time

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from microgradx.cli.options import option
from microgradx.kernels.cache import clear, entries, folder, limit

FEW = 3
"""How many kernels are listed."""


CLEAR = option("--clear empty", None, "Remove them; what is needed again is compiled again.")


@click.command(params=[CLEAR])
def cache(empty: bool) -> None:
    """Show where compiled kernels are kept and how much they take, or clear them."""
    path = folder()
    if path is None:
        return
    kept = entries()
    if empty:
        click.echo(f"removed {plural(len(kept), 'kernel')}, {clear() / 1e6:.2f} MB, from {path}")
        return
    size = f"{sum(size for _, size, _ in kept) / 1e6:.2f} MB of at most {limit() / 1e6:g} MB"
    rows = {"folder": str(path), "kernels": str(len(kept)), "size": size, "latest": few(kept)}
    if len(kept) > FEW:
        rows["largest"] = few(sorted(kept, key=lambda entry: -entry[1]))
    table = Table.grid(padding=(0, 2))
    for topic, text in rows.items():
        if text:
            table.add_row(Text(topic, "bold"), Text(text, overflow="fold"))
    Console(highlight=False).print(table)


def few(kept: list[tuple[str, int, float]]) -> str:
    """The first kernels, a line each."""
    return "\n".join(f"{size / 1e3:8,.1f} kB  {name}, {ago(used)}" for name, size, used in kept[:FEW])


def plural(n: int, noun: str) -> str:
    """`1 hour`, `2 hours`."""
    return f"{n} {noun}{'s' * (n != 1)}"


def ago(moment: float) -> str:
    """How long ago a moment was: `2 hours ago`."""
    seconds = time.time() - moment
    for unit, length in {"day": 86_400, "hour": 3600, "minute": 60}.items():
        if seconds >= length:
            return f"{plural(int(seconds // length), unit)} ago"
    return "just now"
