"""Running a step once, eagerly, to find out what it does: the user's function becomes a Program."""

import sys
from collections.abc import Callable
from typing import Any

from microgradx.compiler.names import parameter_names
from microgradx.compiler.recorder import Recorder
from microgradx.kernels.random import drawn, generator
from microgradx.tape import mode


def capture(
    function: Callable[..., Any], args: list[Any], arrays: list[tuple[str, int]], things: list[Any]
) -> tuple:
    """Run a function once, eagerly, and take back what it did: (its result in Values, the Recorder).

    `arrays` are the names and positions of the arguments that are arrays; `things` are the objects that the
    function reaches, whose parameters have names.
    """
    recorder = Recorder(function.__name__, parameter_names(things))
    args = list(args)
    for name, i in arrays:
        args[i] = recorder.argument(name, args[i])
    code = getattr(function, "__code__", None)

    def leaving(frame: Any, event: str, _: Any) -> None:
        if event == "return" and frame.f_code is code:
            recorder.read_names(frame.f_locals)

    watch = sys.getprofile() is None  # a profiler at work is left alone
    start, before = generator._block, drawn.blocks
    try:
        if watch:
            sys.setprofile(leaving)
        with mode.having(recorder=recorder):
            result = function(*args)
        return recorder.finish(result), recorder
    finally:
        if watch:
            sys.setprofile(None)
        if generator._block == start + drawn.blocks - before:  # unless another thread has drawn, too
            generator._block = start
        for undo in reversed(recorder.undo):
            undo()
