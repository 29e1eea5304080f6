"""The reference: a page per room, with every name that it offers, from its docstring."""

import inspect
import re
from collections import defaultdict
from functools import cache
from importlib import import_module
from types import ModuleType

import microgradx as mg
from microgradx import compiler, data, errors, kernels, nn, optim, primitives, study, training

ROOMS = mg, nn, optim, training, data, study, primitives, kernels, compiler
"""Rooms of which every public name has an example."""

OTHERS = "microgradx.interop.torch", "microgradx.interop.sklearn", "microgradx.cuda", "microgradx.errors"
WITHOUT_MEMBERS = optim.Optimizer, nn.Module, BaseException
"""What a class inherits from one of these is described there."""


def public(room: ModuleType) -> dict[str, object]:
    """What a room offers: functions and classes of the package."""
    names = getattr(room, "__all__", None) or [name for name in vars(room) if not name.startswith("_")]
    found = {name: getattr(room, name) for name in names}
    own = {n: x for n, x in found.items() if getattr(x, "__module__", "").split(".")[0] == "microgradx"}
    return {n: x for n, x in own.items() if callable(x)}


def written(room: ModuleType) -> dict[str, object]:
    """What is defined in a room itself, beside the index of others; of errors, the classes."""
    own = {n: x for n, x in public(room).items() if getattr(x, "__module__", "").startswith(room.__name__)}
    return {n: x for n, x in own.items() if room is not errors or is_error(x)}


def is_error(x: object) -> bool:
    """Whether it is a class of errors or warnings."""
    return isinstance(x, type) and issubclass(x, Exception)


def short(room: ModuleType) -> str:
    """What users call a room: mg, nn, interop.torch."""
    return "mg" if room is mg else room.__name__.removeprefix("microgradx.")


@cache
def described() -> dict[ModuleType, dict[str, object]]:
    """By room, the names on its page; what several offer stands in the first, errors with their like."""
    rooms = {room: public(room) for room in ROOMS} | {r: written(r) for r in map(import_module, OTHERS)}
    known: set[int] = set()
    for room, names in rooms.items():
        here = {
            n: x for n, x in names.items() if not isinstance(x, type) or x.__name__ == n
        }  # no second names
        kept = {n: x for n, x in here.items() if id(x) not in known and is_error(x) == (room is errors)}
        rooms[room] = kept
        known |= {id(x) for x in kept.values()}
    return rooms


@cache
def names() -> dict[str, str]:
    """How texts call what is described, with its full name: `mg.fit`, `training.fit`, `Run`."""
    full = {id(x): f"{room.__name__}.{n}" for room, page in described().items() for n, x in page.items()}
    found = {}
    for room in described():
        for name, x in public(room).items():
            if id(x) in full:
                found |= {f"{room.__name__}.{name}": full[id(x)], f"{short(room)}.{name}": full[id(x)]}
                if name[:1].isupper():
                    found.setdefault(name, full[id(x)])
    return found


def directive(room: ModuleType, name: str, x: object) -> list[str]:
    """The call of Sphinx's autodoc for one name."""
    kind = "autofunction" if not isinstance(x, type) else "autoexception" if is_error(x) else "autoclass"
    lines = [f".. {kind}:: {room.__name__}.{name}"]
    if kind == "autoclass" and (x in WITHOUT_MEMBERS or not issubclass(x, WITHOUT_MEMBERS)):  # type: ignore[arg-type]
        lines += ["   :members:", "   :member-order: bysource"]
    return [*lines, ""]


def page(room: ModuleType) -> str:
    """The page of a room, its names by the files in which they are."""
    groups = defaultdict(list)
    for name, x in described()[room].items():
        groups[getattr(x, "__module__", room.__name__)].append((name, x))
    about = inspect.getdoc(room) or ""
    lines = [f".. py:module:: {room.__name__}", "", title(short(room), "="), about.split("\n\n")[0], ""]
    for module, members in groups.items():
        if len(groups) > 1:
            about = inspect.getdoc(import_module(module)) or module
            lines += ["", title(re.split(r"[:;,.]\s|\.$", about.split("\n")[0])[0], "-")]
        lines += [line for name, x in members for line in directive(room, name, x)]
    return "\n".join(lines) + "\n"


def title(text: str, mark: str) -> str:
    """A heading of reStructuredText."""
    return f"{text}\n{mark * len(text)}\n"


def index() -> str:
    """The table of all names, with the first line of each."""
    lines = [
        "# Reference",
        "",
        "Functions take numbers, NumPy arrays or tensors.",
        "",
        "```{toctree}",
        ":hidden:",
        "",
    ]
    lines += [*(short(room) for room in described()), "```", ""]
    for room, page in described().items():
        lines += [f"## {short(room)}", "", "| | |", "|---|---|"]
        for name, x in page.items():
            first = (inspect.getdoc(x) or "").split("\n")[0].replace("|", r"\|")
            lines.append(f"| `{short(room)}.{name}` | {first} |")
        lines.append("")
    return "\n".join(lines)
