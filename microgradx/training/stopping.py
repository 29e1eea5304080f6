"""A run stopped from outside: the first signal ends it after the step under way, the second at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

Handler = Callable[[int, FrameType | None], object] | int | None
"""What the system or Python does about a signal."""


class Terminated(SystemExit):
    """The system asked the process to end (SIGTERM): the run was saved, and the exit code is 143."""

    def __init__(self, where: str):
        super().__init__(where)
        self.code = 128 + signal.SIGTERM


class Stop:
    """Whether a signal has asked to stop: true once one has."""

    signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def end(self, where: str) -> NoReturn:
        """KeyboardInterrupt for Ctrl-C, Terminated for SIGTERM; each says where the run stands."""
        raise Terminated(where) if self.signal == signal.SIGTERM else KeyboardInterrupt(where)


@contextmanager
def interruptible(active: bool) -> Iterator[Stop]:
    """Inside, the first Ctrl-C or SIGTERM is only noted, so that the step under way ends well.

    The second does what it always did. Signals that the program ignores or handles by itself stay so.
    """
    asked = Stop()
    before: dict[signal.Signals, Handler] = {}

    def handle(number: int, _: object) -> None:
        asked.signal = number
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    if active and threading.current_thread() is threading.main_thread():
        usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
        for number, handler in usual.items():
            if (found := signal.getsignal(number)) in (handler, signal.SIG_DFL):
                before[number] = found
                signal.signal(number, handle)
    try:
        yield asked
    finally:
        restore()
