"""What a run is made of: data and loss as a few words each, so that it goes on with these and no others."""

import platform
import re
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from types import CellType, CodeType

import numpy as np

from microgradx.eager.devices import on_host
from microgradx.eager.tensor import Tensor
from microgradx.errors import CheckpointError, DTypeError
from microgradx.kernels.keys import PLAIN
from microgradx.kernels.texts import meaning
from microgradx.optim import Optimizer
from microgradx.optim.flat import Data
from microgradx.training.files import Json

Made = Json
"""By name, in words: data, weights of the rows, classes, loss, and options of the optimizer."""

WHOLE = 1 << 26  # bytes: of larger arrays, which may be mapped from files, some rows are read
ROWS = 4096
DIGEST, VERSION = " of digest ", f"Python {'.'.join(platform.python_version_tuple()[:2])}"
IN_VERSION = re.compile(r" in Python (\d+\.\d+)")
DIGESTED = re.compile(rf"{DIGEST}\w+{IN_VERSION.pattern}")
OPTIONS, VALID = "options", "the validation data"


def made_of(
    train: Sequence[Data], valid: Sequence[Data] | None, loss: Callable[..., object],
    classes: Sequence[str] = (), optimizer: Optimizer | None = None, seed: int | None = None,
) -> Made:  # fmt: skip
    """What a run is made of, as JSON has it. train: x, y, and weights of the rows where there are any."""
    made: Made = {name: told(part) for name, part in zip(("x", "y"), train, strict=False)}
    made["sample_weight"] = told(train[2]) if len(train) > 2 else "none"
    made[VALID] = "none" if valid is None else " and ".join(map(told, valid))
    made["the loss"] = named(loss)
    made |= {"classes": list(classes)} if len(classes) else {}
    if optimizer is not None:
        made[OPTIONS] = [
            {name: group[name] for name in optimizer.defaults} for group in optimizer.param_groups
        ]
        for given, group in zip(made[OPTIONS], optimizer.param_groups, strict=True):
            given |= {"lr": group.get("initial_lr", group.get("lr"))}  # a schedule has moved lr already
        made[OPTIONS] = [{name: repr(value) for name, value in group.items()} for group in made[OPTIONS]]
        made[OPTIONS][0]["seed"] = repr(seed)
    return made


def same(before: Made, now: Made, folder: Path) -> None:
    """CheckpointError where a run would go on with other data or another loss than it began with."""
    for name in now:
        if name not in (OPTIONS, VALID) and name in before and not alike(before[name], now[name]):
            changed = f"{folder} is a run with {name} {words(before[name])}, now {words(now[name])}"
            advice = "Go on with what it began with, or begin a new run in another folder"
            raise CheckpointError(f"{changed}. {advice}.")


def alike(before: object, now: object) -> bool:
    """Whether two descriptions may be of the same: another Python has other instructions for one text."""
    was, new = (set(IN_VERSION.findall(str(made))) for made in (before, now))
    if was and new and was != new:
        return DIGESTED.sub("", str(before)) == DIGESTED.sub("", str(now))
    return before == now


def words(made: object) -> str:
    """A part of what a run is made of, in a line."""
    return ", ".join(map(str, made)) if isinstance(made, list) else str(made)


def kept(before: Made, now: Made) -> str:
    """The options that were given otherwise than a run has them: "lr 0.01, not 0.1"; "" for none."""
    groups = zip(before.get(OPTIONS, ()), now[OPTIONS], strict=False)
    return ", ".join(
        f"{name} {was[name]}, not {given[name]}"
        for was, given in groups
        for name in given
        if was.get(name, given[name]) != given[name] and given[name] != "None"
    )


def told(array: Data) -> str:
    """An array in words: its type, shape and a digest, of a very large one of rows from all over it."""
    given = array if isinstance(array, np.ndarray) else Tensor(array).numpy()
    if given.dtype.hasobject:
        raise DTypeError(f"data are arrays of numbers, not of {given.dtype}.")
    every = max(1, len(given) // ROWS) if given.nbytes > WHOLE else 1
    return f"{array.dtype} {tuple(array.shape)}{DIGEST}{digest_of(given[::every])}"


def digest_of(array: Data) -> str:
    """A word that arrays of other bits hardly have."""
    content = np.ascontiguousarray(on_host(array)).reshape(-1).view(np.uint8)
    return blake2b(content.data, digest_size=6).hexdigest()


def named(loss: object, seen: frozenset[int] = frozenset()) -> str:
    """A function in words: its name, what is bound to it, and of the user's own a digest of what it does."""
    if isinstance(loss, partial):
        bound = [*loss.args, *(x for pair in loss.keywords.items() for x in pair)]
        return f"{named(loss.func)}({', '.join(value_of(x, '', seen) for x in bound)})"
    loss = getattr(loss, "__func__", loss)
    name, home = getattr(loss, "__qualname__", type(loss).__qualname__), getattr(loss, "__module__", "")
    code = getattr(loss, "__code__", None)
    if f"{home}.".startswith("microgradx.") or id(loss) in seen:
        return name
    if not isinstance(code, CodeType):  # an object that can be called, and what it holds
        held = [] if hasattr(loss, "parameters") else getattr(loss, "__dict__", {}).items()  # a model learns
        held = [f"{key}={value!r}" for key, value in held if isinstance(value, PLAIN)]
        return f"{name}({', '.join(held)})" if held and not isinstance(loss, type) else name
    scope, defaults = getattr(loss, "__globals__", {}), getattr(loss, "__defaults__", None) or ()
    named_only = (getattr(loss, "__kwdefaults__", None) or {}).items()
    cells = (cell.cell_contents for cell in getattr(loss, "__closure__", None) or () if filled(cell))
    outside = [*cells, *(scope[word] for word in code.co_names if word in scope), *defaults, *named_only]
    read = [value_of(x, home, seen | {id(loss)}) for x in outside]
    text = f"{stable(meaning(code))} {read}".encode()
    return f"{name}{DIGEST}{blake2b(text, digest_size=6).hexdigest()} in {VERSION}"


def filled(cell: CellType) -> bool:
    """Whether a variable of a closure has a value yet."""
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def value_of(x: object, home: str, seen: frozenset[int]) -> str:
    """What a function of the module `home` reads, where it cannot change inside; of other things the type."""
    if isinstance(x, PLAIN):
        return repr(x)
    if isinstance(x, tuple):
        return f"({', '.join(value_of(part, home, seen) for part in x)})"
    if isinstance(x, np.ndarray | Tensor) and x.ndim and not x.dtype.hasobject:
        return told(x.numpy() if isinstance(x, Tensor) else x)
    if callable(x):
        return named(x, seen) if getattr(x, "__module__", "") == home else named(x, seen | {id(x)})
    return type(x).__qualname__


def stable(x: object) -> str:
    """Like repr, and of a set the same in every process."""
    if isinstance(x, frozenset):
        return f"{{{', '.join(sorted(map(stable, x)))}}}"
    return f"({', '.join(map(stable, x))})" if isinstance(x, list | tuple) else repr(x)
