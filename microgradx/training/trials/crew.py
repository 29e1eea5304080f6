"""Who works: processes of this machine, each a few trials at a time, or any `concurrent.futures` executor.

The standard pool of processes breaks whole when one of them dies, and leaves orphans when its parent is
killed; here a dead one takes only its own trials with it, and all end with the parent, however it ends.
"""

import multiprocessing
import os
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from multiprocessing import connection
from multiprocessing.connection import Connection

from microgradx.errors import ArgumentError
from microgradx.kernels.thread_pool import set_threads
from microgradx.training.trials.attempt import Trial, attempt, failure
from microgradx.training.trials.journal import Entry, Job

PATIENCE = 0.2
"""Seconds to wait for results before looking for signals and limits."""

GRACE = 1.25, 1.0
"""A process is killed after so many times the limit and seconds more: a trial may end by itself before."""

spawn = multiprocessing.get_context("spawn")


class Executors:
    """Any executor of so many workers: threads of this process, or MPI's."""

    def __init__(self, executor: Executor, workers: int, trial: Trial):
        self.executor, self.workers, self.trial = executor, workers, trial
        self.running: dict[Future[Entry], Job] = {}

    @property
    def free(self) -> int:
        """How many more jobs can be begun now: as many as there are workers."""
        return self.workers - len(self.running)

    def begin(self, job: Job) -> None:
        """Submit it."""
        self.running[self.executor.submit(attempt, self.trial, job)] = job

    def ended(self) -> Iterator[tuple[Job, Entry | None]]:
        """What has ended, after a short wait; an executor that is broken raises."""
        done, _ = wait(self.running, PATIENCE, FIRST_COMPLETED)
        for future in done:
            yield self.running.pop(future), future.result()

    def close(self) -> None:
        """Wait for those under way: a thread cannot be stopped."""
        self.executor.shutdown(cancel_futures=True)


class Worker:
    """A process, and what it works on since when."""

    def __init__(self, trial: bytes, lanes: int, threads: int):
        self.pipe, there = spawn.Pipe()
        self.process = spawn.Process(target=serve, args=(there, trial, lanes, threads), daemon=True)
        with undisturbed():
            self.process.start()
        there.close()
        self.running: dict[str, tuple[Job, float]] = {}
        self.ready = False

    def begins(self) -> None:
        """It is there: what it was given before begins now."""
        self.ready, now = True, time.monotonic()
        self.running = {key: (job, now) for key, (job, _) in self.running.items()}

    def end(self) -> None:
        """Kill it: it holds nothing that could be lost but what it works on."""
        self.process.kill()
        self.process.join()
        self.pipe.close()

    @property
    def killed(self) -> bool:
        """Whether a dead one ended by a signal, such as for the memory that it took."""
        self.process.join()
        return (self.process.exitcode or 0) < 0

    @property
    def how(self) -> str:
        """How a dead one ended."""
        return f"{'by signal' if self.killed else 'with exit code'} {abs(self.process.exitcode or 0)}"


class Processes:
    """Up to so many processes, each with `lanes` trials at a time; a dead one is replaced when need be.

    limit: seconds for a trial; soon after them it is killed, and with it its process.
    """

    def __init__(self, trial: Trial, count: int, lanes: int, threads: int, limit: float | None):
        try:
            self.trial = pickle.dumps(trial)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            what = f"other processes cannot have this trial ({error})"
            raise ArgumentError(f"{what}: give a function of a module, or processes=0.") from None
        self.count, self.lanes, self.threads, self.limit = count, lanes, threads, limit
        self.workers: list[Worker] = []

    @property
    def free(self) -> int:
        """In all processes, those that have not been started yet among them."""
        return self.count * self.lanes - sum(len(worker.running) for worker in self.workers)

    def begin(self, job: Job) -> None:
        """Give it to the process that has least to do; start one rather than let it share."""
        busy = lambda worker: len(worker.running)
        if len(self.workers) < self.count and all(map(busy, self.workers)):
            self.workers.append(Worker(self.trial, self.lanes, self.threads))
        worker = min(self.workers, key=busy)
        worker.running[job.key] = job, time.monotonic()
        with suppress(OSError):  # it has died, which `ended` finds out
            worker.pipe.send(job)

    def ended(self) -> Iterator[tuple[Job, Entry | None]]:
        """Results, deaths and trials out of time; None for a trial that has to be done again."""
        ready = connection.wait([worker.pipe for worker in self.workers], PATIENCE)
        for worker in [worker for worker in self.workers if worker.pipe in ready]:
            try:
                while worker.pipe.poll():
                    entry = worker.pipe.recv()
                    if entry is None:
                        worker.begins()
                        continue
                    job = Job(entry["config"], entry["seed"], entry.get("epochs"))
                    yield worker.running.pop(job.key)[0], entry
            except (EOFError, OSError):
                yield from self.dead(worker)
        yield from self.late()

    def dead(self, worker: Worker) -> Iterator[tuple[Job, Entry | None]]:
        """Take over from a process that has died: nobody knows which of its trials it was."""
        if not worker.ready and not worker.killed:
            advice = 'call it in a file, below `if __name__ == "__main__":`, or give processes=0'
            raise ArgumentError(f"a worker ended {worker.how} before it began to work: {advice}.")
        self.workers.remove(worker)
        for job, since in worker.running.values():
            ended = failure("died", f"its process ended {worker.how}.")
            yield job, job.entry(ended, time.monotonic() - since)
        worker.end()

    def late(self) -> Iterator[tuple[Job, Entry | None]]:
        """Kill processes whose trials take too long; what else they did is done again."""
        if self.limit is None:
            return
        now, longest = time.monotonic(), GRACE[0] * self.limit + GRACE[1]
        for worker in [worker for worker in self.workers if worker.ready]:
            late = [key for key, (_, since) in worker.running.items() if now - since > longest]
            if not late:
                continue
            worker.end()
            self.workers.remove(worker)
            for key, (job, since) in worker.running.items():
                ended = failure("limit", f"it took longer than {self.limit:g} s.")
                yield job, job.entry(ended, now - since) if key in late else None

    def close(self) -> None:
        """Kill them all: none is left behind."""
        for worker in self.workers:
            worker.end()


Crew = Executors | Processes
"""Takes jobs while it is free, and tells what became of them."""


@contextmanager
def undisturbed() -> Iterator[None]:
    """A process that is started inside never hears of Ctrl-C, not even while it starts."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve(pipe: Connection, trial: bytes, lanes: int, threads: int) -> None:
    """What a process does: trials, `lanes` at a time, until its parent is no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this process
    warnings.simplefilter("ignore")
    few_threads(threads)
    work, turn = pickle.loads(trial), threading.Lock()

    def answer(job: Job) -> None:
        try:
            entry = attempt(work, job)
            with turn:
                pipe.send(entry)
        except BaseException:  # no parent, or an end that no trial may catch
            os._exit(1)

    pipe.send(None)
    with ThreadPoolExecutor(lanes) as pool:
        while True:
            try:
                pool.submit(answer, pipe.recv())
            except (EOFError, OSError):
                os._exit(0)


def few_threads(threads: int) -> None:
    """Let kernels and BLAS of this process use so many threads: several processes share the cores."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads)
    set_threads(threads)
