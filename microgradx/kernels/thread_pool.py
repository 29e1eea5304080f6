"""Threads that share the elements of a loop: compiled code releases the GIL, so plain threads will do.

Every caller's work is its own, so two Python threads may call at once; a caller works too, and waits only
for pieces that a helper has begun. A forked child starts helpers of its own.
"""

import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from itertools import count
from queue import SimpleQueue

import numpy as np

from microgradx.errors import ArgumentError
from microgradx.kernels.addresses import address


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


wanted = 0  # threads, the caller included; 0 until first needed
crew: list[threading.Thread] = []
jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
bell = np.zeros(8, np.int64)  # counts the calls of `together`, for helpers that are still awake
bell_at = address(bell)


def threads() -> int:
    """How many threads a kernel may use: `set_threads`, else MICROGRADX_THREADS, else the process's cores.

    ArgumentError where that variable holds something else than a number from 1.

    >>> 1 <= threads()
    True
    """
    if not wanted:
        text = os.environ.get("MICROGRADX_THREADS", "")
        if text and not (text.isdecimal() and int(text)):
            raise ArgumentError(f"MICROGRADX_THREADS={text!r}: the number of threads is an integer from 1.")
        set_threads(int(text or cores()))
    return wanted


def set_threads(n: int) -> None:
    """Let kernels use n threads from now on; 1 is serial. Results are the same bits for every n.

    ArgumentError below 1.

    >>> before = threads()
    >>> set_threads(2)
    >>> threads()
    2
    >>> set_threads(before)
    """
    global wanted
    if n < 1:
        raise ArgumentError(f"set_threads({n}): the number of threads is an integer from 1.")
    wanted = n


def split(run: Callable[[int, int], None], size: int, piece: int) -> None:
    """Call run(start, stop) for pieces of range(size), on all threads; return when all are done."""
    starts = count(0, piece)  # taking the next is atomic
    done: SimpleQueue[BaseException | None] = SimpleQueue()

    def work() -> None:
        for start in starts:
            if start >= size:
                return
            try:
                run(start, min(start + piece, size))
                done.put(None)
            except BaseException as error:
                done.put(error)

    call(work, threads() - 1)
    work()
    for _ in range(0, size, piece):
        if error := done.get():
            raise error


def gate() -> np.ndarray:
    """(16,) int64, where the pieces of a call are claimed and the next call is heard: see `runtime`."""
    words = np.zeros(16, np.int64)
    words[1] = bell_at
    return words


def together(run: Callable[[int], None], helpers: int) -> None:
    """Call run(0) here, and run(1) on up to `helpers` other threads; return when the call here does.

    For compiled steps whose pieces are claimed one by one: they wait for all pieces themselves, and a helper
    that comes late, even after the return, must find none left. So the gate of a call is its own memory,
    which `run` keeps alive.
    """
    call(partial(run, 1), helpers)
    run(0)


def call(work: Callable[[], None], extra: int) -> None:
    """Let so many helpers call work(); they are started when first needed."""
    for _ in range(len(crew), extra):
        crew.append(threading.Thread(target=serve, args=(jobs,), daemon=True, name="microgradx"))
        crew[-1].start()
    for _ in range(extra):
        jobs.put(work)


def serve(jobs: SimpleQueue[Callable[[], None]]) -> None:
    """What a helper does all its life; an error is reported as of a thread that ends by it."""
    while True:
        try:
            jobs.get()()
        except BaseException:
            threading.excepthook(threading.ExceptHookArgs([*sys.exc_info(), threading.current_thread()]))


def forget() -> None:
    """Only the forking thread lives on in a child."""
    global jobs
    crew.clear()
    jobs = SimpleQueue()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=forget)
