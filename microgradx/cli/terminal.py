"""Text for a terminal: lines break between words, never inside a path; files and pipes get them whole."""

import re
import shutil
import sys
from textwrap import TextWrapper

import click

from microgradx.errors import plain

REMEDIES = {
    "bound the gradients with clip_norm": "bound the gradients with --clip-norm",
    "train it with AdamW, say": "leave the biases out with --no-bias, or take another optimizer",
    "with drop_last=True": "with --drop-last: take a smaller --batch-size",
    "resume it, or choose another folder": "--resume goes on with it; or choose another folder for --out",
    "say how many, as in": "say how many (a --search needs no number), as in",
    "Use device='cpu', or set": "Use --device cpu, or set",
    "regression=True, or `microgradx train --loss mse_loss`": "--loss mse_loss",
}
"""What errors of the library advise, and how that is said to the command."""


def tell(text: str, bold: str = "", color: str | None = None, err: bool = False) -> None:
    """Print lines, with what is `bold` in them in bold, if they are for a terminal."""
    text, bold = plain(text, but="\n\t"), plain(bold, but="\n\t")
    shown = fitted(text, columns(err))
    click.echo(shown.replace(bold, click.style(bold, color, bold=True), 1) if bold else shown, err=err)


def columns(err: bool = False) -> int | None:
    """The width of the terminal that the output goes to; None for a file or a pipe."""
    stream = sys.stderr if err else sys.stdout
    return shutil.get_terminal_size().columns if stream.isatty() else None


def fitted(text: str, width: int | None) -> str:
    """The lines of a text, each broken between words where it is longer; a word or a path stays whole."""
    if width is None:
        return text
    lines = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())]
        whole = len(line) <= width or line.startswith(COMMAND)
        fill = TextWrapper(
            max(width, 20), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        lines += [line] if whole else fill.wrap(line)
    return "\n".join(lines)


COMMAND = "  microgradx "
"""How a line begins that is to be copied: it is left whole."""


def own(message: str) -> str:
    """A message of the library in the words of the command."""
    for theirs, ours in REMEDIES.items():
        message = message.replace(theirs, ours)
    message = re.sub(r"ask for so many with most=\d+", "ask for so many with --many", message)
    return re.sub(r"\n    \S*[/\\]click[/\\].*", "", message)  # a line of the user's, who has none here
