"""Option types whose choices come from a registry, and the options that an optimizer's signature declares."""

import ast
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any

import click


def one_of(what: str, given: str, valid: Iterable[str]) -> str:
    """The line that says what was given, what is valid, and what was probably meant."""
    names = list(valid)
    near = get_close_matches(given.lower(), names, 1)
    guess = f" Did you mean {near[0]}?" if near else ""
    return f"no {what} {given!r};{guess} choose from {', '.join(names)}."


class Name(click.ParamType):
    """A key of a registry, which is imported when it is needed."""

    def __init__(self, what: str, registry: Callable[[], Iterable[str]], files: tuple[str, ...] = ()):
        self.name, self.registry, self.files = what, registry, files

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as it is in the registry, or the path of a file."""
        if value.lower() in self.registry():
            return value.lower()
        if value.lower().endswith(self.files or ("\0",)):
            return value
        more = [f"a {suffix} file" for suffix in self.files]
        raise click.UsageError(one_of(self.name, value, [*self.registry(), *more]), ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """The help shows the choices, so this is short."""
        return "|".join(["NAME", *(f"FILE{suffix}" for suffix in self.files)])


class Sizes(click.ParamType):
    """Layer sizes: `784-128-10`."""

    name = "SIZES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """At least two positive integers."""
        parts = value.split("-")
        if len(parts) < 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
            raise click.UsageError(f"--model {value}: give the sizes of the layers, such as 64-128-10.", ctx)
        return [int(part) for part in parts]


class Like(click.ParamType):
    """A value of the same kind as a default: a number, several (`0.9,0.999`), a switch, a word, or none."""

    def __init__(self, default: Any):
        self.default = default
        self.name = "N,N" if isinstance(default, tuple) else "BOOL" if isinstance(default, bool) else "N"
        if default is None or isinstance(default, str):
            self.name = "VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value, of the default's type; whether it is in range is for the optimizer to say."""
        if not isinstance(value, str):
            return value
        try:
            if isinstance(self.default, bool):
                return {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}[
                    value.lower()
                ]
            if isinstance(self.default, tuple):
                return tuple(float(part) for part in value.strip("()").split(","))
            if isinstance(self.default, int):
                return int(value)
            if isinstance(self.default, float):
                return float(value)
        except (ValueError, KeyError):
            option = param.opts[0] if param else self.name
            wanted = f"a value like {flat(self.default)}"
            raise click.UsageError(f"{option} takes {wanted}, got {value!r}.", ctx) from None
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return value


def flat(default: Any) -> str:
    """A default as it is typed: `0.9,0.999`, `false`."""
    if isinstance(default, tuple):
        return ",".join(f"{part:g}" for part in default)
    return str(default).lower() if isinstance(default, bool) else f"{default}"


def hyperparameters(optimizer: str) -> list[click.Option]:
    """One option per hyperparameter of an optimizer, as its signature declares them."""
    from microgradx.optim import optimizers

    return [
        click.Option(
            [f"--{name.replace('_', '-')}", name],
            type=Like(default),
            help=f"[default: {flat(default)}]",
        )
        for name, default in optimizers[optimizer].options.items()
    ]
