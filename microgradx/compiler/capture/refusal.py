"""The error of a step that cannot be compiled: what is in the way, where, and what to write instead."""

from typing import NoReturn

from microgradx.codegen.ir.program import Line
from microgradx.compiler.capture.user_code import line_of, user_frame
from microgradx.errors import CaptureError


def refusal(what: str, advice: str, line: Line | None = None, name: str = "this step") -> CaptureError:
    """The error, with the user's line where one is to blame."""
    place = f"\n    {line.file}:{line.number}    {line.text}\n" if line else " "
    return CaptureError(f"{name} cannot be compiled, because {what}.{place}{advice}")


def refuse(what: str, advice: str) -> NoReturn:
    """Raise it for the user's line that runs now."""
    raise refusal(what, advice, line_of(user_frame()))
