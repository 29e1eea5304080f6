"""Options of commands: what a metavar stands for, and what an optimizer's signature declares."""

import inspect
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias, TypedDict, Unpack

import click
from click.shell_completion import CompletionItem

from microgradx.errors import ArgumentError, few, one_of, writable
from microgradx.optim import Optimizer, Schedule, optimizers, plans
from microgradx.optim.options import Option, Options

REQUIRED = inspect.Parameter.empty
"""The default of an option that has none."""


class Value(click.ParamType):  # type: ignore[type-arg]  # it takes one only in the newest click
    """What a function reads from a text, and what TAB offers; a ValueError of the function is the user's.

    `complaint` says what is wrong; {option}, {value} and {error} stand in it for what was typed and raised.
    """

    def __init__(
        self, name: str, read: Callable[[str], object], complaint: str = "{error}",
        choices: Callable[[], Iterable[str]] = tuple, files: bool = False,
    ):  # fmt: skip
        self.name, self.read, self.complaint = name, read, complaint
        self.choices, self.files = choices, files

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """What was read; a default that is no text stays as it is."""
        if not isinstance(value, str):
            return value
        try:
            return self.read(value)
        except ValueError as error:
            option = param.opts[0] if param else self.name
            complaint = self.complaint.format(option=option, value=few([value]), error=error)
            raise click.UsageError(complaint, ctx) from None

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that begin so, behind the last comma; files where there may be one."""
        before, comma, begun = incomplete.rpartition(",")
        fitting = (name for name in self.choices() if name.lower().startswith(begun.lower()))
        found = [CompletionItem(f"{before}{comma}{name}") for name in fitting]
        return found + [CompletionItem(incomplete, type="file")] * self.files


def name_of(what: str, registry: Callable[[], Iterable[str]], files: tuple[str, ...] = ()) -> Value:
    """A key of a registry, read when it is needed; or a file with one of the suffixes, or a folder."""

    def read(text: str) -> str:
        """The name as the registry has it, or the path from the root, so that it holds in any folder."""
        if text.lower() in registry():
            return text.lower()
        if files and (text.lower().endswith(files) or Path(text).is_dir()):
            return str(Path(text).absolute())
        raise ValueError(one_of(what, text, [*registry(), *(f"a {suffix} file" for suffix in files)]))

    return Value(what, read, choices=registry, files=bool(files))


def read_sizes(text: str) -> list[int]:
    """At least two positive integers, `784-128-10`, of a network that fits into memory."""
    sizes = [int(part) for part in text.split("-")]
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError
    count = sum((n + 1) * m for n, m in pairwise(sizes))
    if (needed := count * BYTES) > (most := memory()):
        each = f"{BYTES} for each of {count:,} numbers with gradient, optimizer's state and checkpoint"
        raise click.UsageError(
            f"--model {few([text])} needs about {needed:,} bytes ({each}); there are {most:,}: "
            "take smaller layers, or several small ones."
        )
    return sizes


BYTES = 32
"""What training takes for each weight: itself, its gradient, two numbers of Adam's, and a copy of these."""


def memory() -> int:
    """The bytes that this process may have: what others leave of the machine's, or a container has."""
    limits = [sys.maxsize]
    with suppress(OSError, ValueError):  # not everywhere
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        limits += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    with suppress(OSError, ValueError):  # "max": none
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return min(limits)


def named(text: str) -> Path:
    """A path that has a name: an empty one would be the folder where one stands."""
    if not text:
        raise ArgumentError("the path is empty: name one.")
    return Path(text)


class Whole(click.IntRange):
    """A whole number; so it is called in click's message."""

    name = "whole number"


class Number(click.FloatRange):
    """A number that is one: no NaN."""

    name = "number"

    def convert(self, value: float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        found: float = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is not a valid number.", param, ctx)
        return found


Kind: TypeAlias = "click.IntRange | click.FloatRange | click.Choice[str] | Value"

KINDS: dict[str, Kind] = {
    "N": Whole(min=1),
    "X": Number(0, min_open=True),
    "N-N-N": Value("sizes", read_sizes, "--model {value}: give the sizes of the layers, such as 64-128-10."),
    "FILE": Value("file", writable, files=True),
    "FOLDER": Value("folder", partial(writable, folder=True), files=True),
    "RUN": Value("path", named, files=True),
    "cpu|cuda": click.Choice(["cpu", "cuda"]),
}
"""What a metavar stands for, unless an option says otherwise; without one an option is a switch."""

SHARE = Number(0, 1, max_open=True)
SEED = Whole(0, 2**64 - 1)
OPTIMIZER = name_of("optimizer", lambda: optimizers)


def read_plan(text: str) -> str:
    """A schedule as it stands in a recipe: `step:gamma=0.5`; whether it has such options is known later."""
    name, colon, options = text.partition(":")
    if name.lower() not in plans:
        raise ValueError(one_of("schedule", name, plans))
    return name.lower() + colon + options


PLAN = Value("schedule", read_plan, choices=lambda: plans)


class More(TypedDict, total=False):
    """What click's options take besides: a type in place of the metavar's, ..."""

    type: "Kind | type[str] | type[int]"
    multiple: bool
    flag_value: str


def option(
    flag: str, metavar: str | None, text: str, default: Option = None, **more: Unpack[More]
) -> click.Option:
    """An option whose help shows its default.

    Behind a space the flag may say what the command's parameter is called: "--clear empty".
    """
    switch = metavar is None and not more
    kind = KINDS.get(metavar or "")
    asked = {"type": kind, "metavar": metavar, "default": default, "is_flag": switch, **more}
    # click's keywords, of a type each, and what it takes for granted left to it
    given: dict[str, Any] = {k: v for k, v in asked.items() if v is not None and v is not False}
    return click.Option(flag.split(), help=text, show_default=default is not None and not switch, **given)


RUN = click.Argument(["run"], type=KINDS["RUN"])
LAST = option("--last", None, "Use the last weights, not those of the best epoch.")


SWITCHES = {"1": True, "true": True, "0": False, "false": False}


def like(default: Option, name: str = "value") -> Value:
    """A value of the same kind as a default: a number, several (`0.9,0.999`), or a word."""

    def read(text: str) -> object:
        if isinstance(default, tuple | list):
            parts = [part.strip() for part in text.strip("()").split(",")]
            return tuple(None if part.lower() == "none" else float(part) for part in parts)
        try:
            if isinstance(default, bool):
                return SWITCHES[text.lower()]
            return type(default)(text) if type(default) in (int, str) else float(text)
        except KeyError:
            raise ValueError(text) from None
        except ValueError:
            if default is None:
                return text
            raise

    return Value(name, read, f"{{option}} takes a value like {typed(default)}, got {{value!r}}.")


def typed(default: Option) -> str:
    """A default as it is typed: `0.9,0.999`."""
    parts = default if isinstance(default, tuple | list) else ()
    return ",".join("None" if part is None else f"{part:g}" for part in parts) if parts else f"{default}"


def needed(options: Mapping[str, Option]) -> Options:
    """A value for every hyperparameter of these that has no default."""
    return {name: 1e-3 for name, default in options.items() if default is REQUIRED}


def hyperparameters(optimizer: str) -> list[click.Option]:
    """One option per hyperparameter of an optimizer, as its signature declares them."""
    return [hyperparameter(name, default) for name, default in optimizers[optimizer].options.items()]


def hyperparameter(name: str, default: Option) -> click.Option:
    """The option of a hyperparameter: a switch, required, or with a default that the help shows."""
    flag = f"--{name.replace('_', '-')}"
    if default is False:
        return click.Option([flag, name], is_flag=True)
    if default is True:
        return click.Option([f"{flag}/--no-{flag[2:]}", name], default=None)
    if default is REQUIRED:
        return click.Option([flag, name], type=float, metavar="X", required=True, help="[required]")
    metavar = ",".join("X" for _ in default) if isinstance(default, tuple) else "X"
    return click.Option([flag, name], type=like(default), metavar=metavar, help=f"[{typed(default)}]")


def planned(text: str, optimizer: Optimizer, steps: int, spare: Callable[[], Optimizer]) -> Schedule:
    """The schedule `NAME:OPTION=VALUE:...` of an optimizer, over so many steps.

    `spare` makes an optimizer of the same kind, whose schedule says what the options are: one that an
    optimizer has had may have changed its momentum.
    """
    name, *parts = text.split(":")
    if not parts:
        return plans[name](optimizer, steps)
    like_it = plans[name](spare(), steps)
    options, given = dict(like_it.options), dict[str, str]()
    for part in parts:
        key, _, value = part.partition("=")
        if key not in options:
            raise ArgumentError(one_of(f"option of the schedule {name}", key, options))
        if key in given:
            raise ArgumentError(
                f"{key} of --schedule {name} is given twice, {given[key]} and {value}: leave one."
            )
        if "=" in value:
            apart = part.replace(",", ":")
            raise ArgumentError(f"--schedule {name}:{part}: options stand apart by colons: {name}:{apart}.")
        given[key] = value
        options[key] = like(options[key], f"{key} of --schedule {name}").convert(value, None, None)
    return type(like_it)(optimizer, **options)
