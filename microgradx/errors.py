"""Every error that a user can meet: what was wrong, the actual values, the next move."""

from collections.abc import Iterable
from difflib import get_close_matches


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
    """The base of all errors of microgradx: `except mg.MicrogradxError` catches every one."""


class ArgumentError(MicrogradxError, ValueError):
    """A value outside what a function takes; the message lists or describes the valid ones."""


class AbsentError(MicrogradxError, AttributeError):
    """An attribute of PyTorch's that is not there, and what to write instead."""


class ShapeError(MicrogradxError, ValueError):
    """Shapes that do not fit together."""


class DTypeError(MicrogradxError, TypeError):
    """A number type that an operation cannot use, such as gradients of integers."""


class DeviceError(MicrogradxError, RuntimeError):
    """A device that is not there, or tensors on two devices."""


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


class CacheWarning(UserWarning):
    """The kernel cache cannot be used as asked; kernels still work, compiled anew where needed."""


class CompileWarning(UserWarning):
    """A step that cannot be compiled runs line by line instead, with the same results, slower."""


class TrainingWarning(UserWarning):
    """Something that trains nothing, such as an optimizer's step before any gradient."""
