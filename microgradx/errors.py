"""Every error that a user can meet: what was wrong, the actual values, the next move."""

import math
import os
import reprlib
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from functools import wraps
from inspect import signature
from numbers import Real
from operator import index
from pathlib import Path
from typing import Protocol, SupportsIndex, TypeGuard, TypeVar
from unicodedata import category

F = TypeVar("F", bound=Callable[..., object])


def guess(given: str, valid: Iterable[str]) -> str:
    """ " Did you mean this?" where a name that there is resembles, contains or shortens the one given.

    >>> guess("learning_rate", ["lr", "beta"])
    ' Did you mean lr?'
    """
    names = {name.lower(): name for name in valid}
    asked = given.lower()
    near = get_close_matches(asked, names, 1)
    near = near or [name for name in names if asked and asked in name]
    near = near or [name for name in names if name in (initials(asked), asked[: max(3, len(name))])]
    return f" Did you mean {names[near[0]]}?" if near else ""


def few(names: Iterable[str], most: int = 12) -> str:
    """Names in a row, none too long, and how many there are beyond the first so many.

    >>> few(map(str, range(100)), 3)
    '0, 1, 2 and 97 more'
    """
    short = [name if len(name) <= 40 else f"{name[:37]}..." for name in names]
    return ", ".join(short[:most]) + f" and {len(short) - most} more" * (len(short) > most)


def undefined(name: str, known: Iterable[str]) -> str:
    """What is wrong with a name that a definition reads, in a sentence."""
    return f"{name!r} is defined nowhere.{guess(name, known)}"


def initials(name: str) -> str:
    """The first letters of a name's words; of one word nothing.

    >>> initials("learning_rate")
    'lr'
    """
    return "".join(part[:1] for part in name.split("_")) if "_" in name else ""


def one_of(what: str, given: str, valid: Iterable[str]) -> str:
    """The line that says what was given, what was probably meant, and what is valid.

    >>> one_of("optimizer", "adan", ["adam", "sgd"])
    "no optimizer 'adan'. Did you mean adam? Choose from adam, sgd."
    """
    names = list(valid)
    return f"no {what} {given!r}.{guess(given, names)} Choose from {', '.join(names)}."


class MicrogradxError(Exception):
    """The base of all errors of microgradx: `except mg.MicrogradxError` catches every one.

    >>> try:
    ...     mg.ones(2) @ mg.ones(3)
    ... except mg.MicrogradxError as error:
    ...     print(error)
    matmul: (2,) @ (3,) - the inner sizes differ: left has 2 columns, right has 3 rows.
    """


class ArgumentError(MicrogradxError, ValueError):
    """A value outside what a function takes; the message lists or describes the valid ones."""


class AbsentError(MicrogradxError, AttributeError):
    """An attribute of PyTorch's that is not there, and what to write instead."""


class ShapeError(MicrogradxError, ValueError):
    """Shapes that do not fit together."""


class DTypeError(MicrogradxError, TypeError):
    """A type that an operation cannot use: gradients of integers, a word where numbers are expected."""


class DeviceError(MicrogradxError, RuntimeError):
    """A device that is not there, or tensors on two devices."""


class SizeError(MicrogradxError, MemoryError):
    """Something larger than the memory that there is."""


class GradientError(MicrogradxError, RuntimeError):
    """A backward pass that cannot run: a freed graph, a value changed in place, no graph at all."""


class NonFiniteError(MicrogradxError, ArithmeticError):
    """A NaN or an infinity where a number was expected, and where it came from."""


class KernelError(MicrogradxError, RuntimeError):
    """A definition that cannot be turned into a kernel."""


class CaptureError(MicrogradxError, RuntimeError):
    """A step that cannot be compiled as it is written: the line, and what to write instead."""


class CompileError(MicrogradxError, RuntimeError):
    """A compiler pass that broke the program it worked on."""


class DataError(MicrogradxError, ValueError):
    """A data file or set that is malformed, missing or cannot be downloaded."""


class CheckpointError(MicrogradxError, ValueError):
    """A checkpoint or run folder that is damaged, cannot be written, or does not fit the model."""


class ClusterError(MicrogradxError, RuntimeError):
    """Processes that should train together and cannot: MPI is missing, or they were not started alike."""


class CacheWarning(UserWarning):
    """The kernel cache cannot be used as asked; kernels still work, compiled anew where needed."""


class CompileWarning(UserWarning):
    """A step that cannot be compiled runs line by line instead, with the same results, slower."""


class TrainingWarning(UserWarning):
    """Something that trains nothing, such as an optimizer's step before any gradient."""


# At the boundary: whatever Python and NumPy say of an argument becomes an error of ours

FOREIGN = (
    TypeError, ValueError, AttributeError, LookupError, ArithmeticError, MemoryError, BufferError,
    RuntimeError,
)  # fmt: skip
"""What they raise about arguments; a NameError or an OSError speaks of something else."""


def refusal(name: str, given: Iterable[object], error: Exception) -> MicrogradxError:
    """What was said of the arguments of a function, as an error of ours that names it and shows them."""
    why, arguments = str(error).rstrip(" .") or type(error).__name__, list(given)
    shapes = [tuple(x.shape) for x in arguments if _has_shape(x)]
    kinds = {MemoryError: SizeError, TypeError: DTypeError, AttributeError: DTypeError}
    kind = next((ours for theirs, ours in kinds.items() if isinstance(error, theirs)), ArgumentError)
    if any(shapes) and isinstance(error, ValueError | IndexError):
        kind = ArgumentError if type(error) is IndexError else ShapeError
        return kind(f"{name} does not fit the shape{'s' * (len(shapes) > 1)} {_listed(shapes)}: {why}.")
    return kind(f"{name} cannot take {_listed(map(shown, arguments)) or 'this'}: {why}.")


class Shaped(Protocol):
    """An array or a tensor, of whichever library."""

    dtype: object
    shape: tuple[int, ...]


def _has_shape(x: object) -> TypeGuard[Shaped]:
    return hasattr(x, "dtype") and hasattr(x, "shape") and not isinstance(x, type)


def _listed(parts: Iterable[object]) -> str:
    return ", ".join(map(str, parts))


def whole(what: str, value: object, least: int = 0, most: float = math.inf) -> int:
    """A whole number as one of Python's, which does not wrap around; ArgumentError for anything else.

    >>> whole("a size", 3.0)
    Traceback (most recent call last):
    microgradx.errors.ArgumentError: a size is a whole number of at least 0, not 3.0.
    """
    try:
        number = index(value) if isinstance(value, SupportsIndex) else least - 1
    except TypeError:  # an array of floats
        number = least - 1
    if not least <= number <= most:
        span = f"from {least} to {most}" if most < math.inf else f"of at least {least}"
        raise ArgumentError(f"{what} is a whole number {span}, not {shown(value)}.")
    return number


def number(what: str, value: object, span: str) -> None:
    """ArgumentError for what is no number in an interval, such as "[0, 1)" or "(0, inf]"; True is none.

    >>> number("p", 1, "[0, 1)")
    Traceback (most recent call last):
    microgradx.errors.ArgumentError: p must be a number in [0, 1), got 1.
    """
    low, high = map(float, span[1:-1].split(","))
    real = isinstance(value, Real) and not isinstance(value, bool)
    ends = [low] * (span[0] == "[") + [high] * (span[-1] == "]")
    if not (real and (low < value < high or value in ends)):  # type: ignore[operator]
        above = f"{'of at least' if low in ends else 'above'} {low:g}"
        kind = f"number in {span}" if high < math.inf else f"{'finite ' * (high not in ends)}number {above}"
        raise ArgumentError(f"{what} must be a {kind}, got {shown(value)}.")


def switch(name: str, value: object) -> bool:
    """On or off; ArgumentError for what is neither, such as an array.

    >>> switch("verbose", "no")
    Traceback (most recent call last):
    microgradx.errors.ArgumentError: verbose is True or False, not 'no'.
    """
    if type(value) is not bool and (_has_shape(value) and value.shape or value not in (0, 1)):
        raise ArgumentError(f"{name} is True or False, not {shown(value)}.")
    return bool(value)


def shown(value: object) -> str:
    """A value in a few words: of an array its dtype and shape.

    >>> shown(list(range(100)))
    '[0, 1, 2, 3, 4, 5, ...]'
    """
    if _has_shape(value):
        return f"{value.dtype} {value.shape}"
    try:
        return reprlib.repr(value)
    except Exception:  # such as of a whole number with more digits than Python prints
        return f"a {type(value).__name__}"


def plain(text: str, but: str = "") -> str:
    """A text without what a terminal obeys or hides, written as Python writes it; `but` for what may stay.

    >>> print(plain("a\\x1b[31mb"))
    a\\x1b[31mb
    """
    if text.isprintable():
        return text
    kept = set(but)
    return "".join(
        x if x.isprintable() or x in kept or category(x) in SHOWN else x.encode("unicode_escape").decode()
        for x in text
    )


SHOWN = ("Zs", "Co", "Cn", "Cs")
"""Spaces of other scripts, letters that are newer than this Python, and bytes of names of files."""


def writable(path: str | os.PathLike[str], folder: bool = False) -> Path:
    """The path of a file that is to be written, or of a `folder`; ArgumentError where it cannot be.

    A folder is made with those above it; a file needs one that is there.
    """
    if not os.fspath(path):
        raise ArgumentError(f"the name of the {'folder' if folder else 'file'} is empty: name one.")
    path = Path(path)
    try:
        if path.is_dir() != folder and path.exists():
            what = "is a file, a folder is wanted" if folder else "is a folder, a file is wanted"
            raise ArgumentError(f"{path} {what}: name another{'' if folder else f', such as {path}/NAME'}.")
        above = (path, *path.parents) if folder else path.parents
        there = next(p for p in above if p.exists() or not folder)
        if not there.exists():
            raise ArgumentError(
                f"{path}: there is no folder {there}. Make it (mkdir -p {there}), or name another."
            )
        if not there.is_dir():
            raise ArgumentError(f"{path}: {there} is a file, no folder: name another place.")
        if not os.access(path if path.exists() else there, os.W_OK):
            raise ArgumentError(f"{path} cannot be written by this user: name another place.")
    except OSError as error:  # such as of a name that is too long
        raise ArgumentError(f"{shown(str(path))} is no place to write to: {error.strerror}.") from None
    return path


def checked(function: F, prepare: Callable[[tuple[object, ...]], tuple[object, ...]] | None = None) -> F:
    """A public function that calls no code of the user's: what goes wrong inside is said of its arguments.

    `prepare` makes of the positional arguments what the function takes. A call that does not fit the
    signature stays the TypeError that Python makes of it.
    """

    @wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        try:
            return function(*(args if prepare is None else prepare(args)), **kwargs)
        except MicrogradxError:
            raise
        except FOREIGN as error:
            name = function.__qualname__.removesuffix(".__init__").removesuffix(".__new__")
            raise explained(name, function, args, kwargs, error) from error

    return call  # type: ignore[return-value]


def explained(
    name: str, function: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object],
    error: Exception,
) -> Exception:  # fmt: skip
    """The refusal of a call; the error itself where the call does not fit the signature."""
    takes = signature(function)
    try:
        takes.bind(*args, **kwargs)
    except TypeError:
        return unexpected(error, kwargs, takes.parameters)
    own = next(iter(takes.parameters), "") in ("self", "cls")
    return refusal(name, [*args[own:], *kwargs.values()], error)


keywords = {"dim": "axis", "keepdim": "keepdims", "unbiased": "ddof", "correction": "ddof"}
keywords |= {"device": "target", "dtype": "target"}  # of to()
"""Arguments by PyTorch's names, and by ours."""

afterwards = {
    "device": 'what is made has .to("cuda")',
    "dtype": "what is made has .to(np.float64)",
    "inplace": "leave it out, nothing is changed in place",
    "out": "leave it out, the result is returned",
}
"""Those that there is another way for."""


def unexpected(error: Exception, given: Iterable[str], takes: Collection[str]) -> Exception:
    """The error about a keyword that a function does not take, with what to write, where that is known."""
    text = str(error)
    if text.endswith((" here.", *afterwards.values())):  # it has been told
        return error
    for name in given:
        if name not in takes and keywords.get(name) in takes:
            return TypeError(f"{error}: write {keywords[name]}= here.")
        if name not in takes and f"'{name}'" in text and name in afterwards:
            return TypeError(f"{error}: {afterwards[name]}")
    return error
