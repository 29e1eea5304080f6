"""Option types whose choices come from a registry, and the options that an optimizer's signature declares."""

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from microgradx.errors import one_of

REQUIRED = inspect.Parameter.empty
"""The default of an option that has none."""


def completed(names: Iterable[str], incomplete: str, files: bool = False) -> list[CompletionItem]:
    """What TAB offers: the names that begin so, behind the last comma; files where there may be one."""
    before, comma, begun = incomplete.rpartition(",")
    fitting = (name for name in names if name.lower().startswith(begun.lower()))
    found = [CompletionItem(f"{before}{comma}{name}") for name in fitting]
    return found + [CompletionItem(incomplete, type="file")] * files


class Name(click.ParamType):
    """A key of a registry, read when it is needed; or a file with one of the suffixes, or a folder."""

    def __init__(self, what: str, registry: Callable[[], Iterable[str]], files: tuple[str, ...] = ()):
        self.name, self.registry, self.files = what, registry, files

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as the registry has it, or the path from the root, so that it holds in any folder."""
        if value.lower() in self.registry():
            return value.lower()
        if self.files and (value.lower().endswith(self.files) or Path(value).is_dir()):
            return str(Path(value).absolute())
        more = (f"a {suffix} file" for suffix in self.files)
        raise click.UsageError(one_of(self.name, value, [*self.registry(), *more]), ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that begin so; files where there may be one."""
        return completed(self.registry(), incomplete, bool(self.files))


class Sizes(click.ParamType):
    """Layer sizes: `784-128-10`."""

    name = "sizes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """At least two positive integers."""
        parts = value.split("-")
        if len(parts) < 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
            raise click.UsageError(f"--model {value}: give the sizes of the layers, such as 64-128-10.", ctx)
        return [int(part) for part in parts]


class Like(click.ParamType):
    """A value of the same kind as a default: a number, several (`0.9,0.999`), or a word."""

    name = "value"

    def __init__(self, default: Any):
        self.default = default

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Of the default's type, a number if that is None; the optimizer says whether it is in range."""
        try:
            if isinstance(self.default, tuple):
                parts = [part.strip() for part in value.strip("()").split(",")]
                return tuple(None if part.lower() == "none" else float(part) for part in parts)
            kind = type(self.default)
            return kind(value) if kind in (int, str) else float(value)
        except ValueError:
            if self.default is None:
                return value
            option, like = param.opts[0] if param else self.name, typed(self.default)
            raise click.UsageError(f"{option} takes a value like {like}, got {value!r}.", ctx) from None


def metavar(default: Any) -> str:
    """What the help shows for a value of this kind: `X`, `X,X`."""
    return ",".join("X" for _ in default) if isinstance(default, tuple) else "X"


def typed(default: Any) -> str:
    """A default as it is typed: `0.9,0.999`."""
    parts = default if isinstance(default, tuple) else ()
    return ",".join("None" if part is None else f"{part:g}" for part in parts) if parts else f"{default}"


def hyperparameters(optimizer: str) -> list[click.Option]:
    """One option per hyperparameter of an optimizer, as its signature declares them."""
    from microgradx.optim import optimizers

    return [hyperparameter(name, default) for name, default in optimizers[optimizer].options.items()]


def hyperparameter(name: str, default: Any) -> click.Option:
    """The option of a hyperparameter: a switch, required, or with a default that the help shows."""
    flag = f"--{name.replace('_', '-')}"
    if default is False:
        return click.Option([flag, name], is_flag=True)
    if default is True:
        return click.Option([f"{flag}/--no-{flag[2:]}", name], default=None)
    if default is REQUIRED:
        return click.Option([flag, name], type=float, metavar="X", required=True, help="[required]")
    return click.Option(
        [flag, name], type=Like(default), metavar=metavar(default), help=f"[{typed(default)}]"
    )
