"""Training on several processes that speak MPI: `mpiexec -n 4 microgradx train`, or `-n 4 python train.py`.

Needs the extra `mpi`, which is asked for only where a launcher has started several processes, or where
`cluster=` was given. A process that fails alone ends all with its reason, so that none waits for it for ever.
"""

import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, NoReturn

import numpy as np

from microgradx.errors import ArgumentError, ClusterError, MicrogradxError, shown
from microgradx.extras import install
from microgradx.kernels import thread_pool
from microgradx.training.cluster import Cluster, T

if TYPE_CHECKING:
    from mpi4py.MPI import Comm, Intracomm

LAUNCHED = {"PMI_RANK": "PMI_SIZE", "OMPI_COMM_WORLD_RANK": "OMPI_COMM_WORLD_SIZE", "PMIX_RANK": ""}
"""What an MPI launcher tells its processes: MPICH's and Slurm's, Open MPI's, and those that speak PMIx."""

PATIENCE = 3.0
"""Seconds that a process which has failed waits for the others to fail alike, before it ends all."""

TOGETHER = "_microgradx_together"
"""The mark of an error that all processes have met."""


class MPICluster(Cluster):
    """All processes that mpiexec has started, or those of a communicator of mpi4py's.

    reproducible: see `Cluster`; the number of processes must then divide the number of parts.

    Unless MICROGRADX_THREADS or `set_threads` says otherwise, processes of one machine share its cores.
    ArgumentError for a number of processes that does not fit, ClusterError where mpi4py is missing.

    >>> mg.fit(model, optimizer, train, cluster=training.MPICluster(reproducible=True))  # doctest: +SKIP
    """

    settled: ClassVar[bool] = False  # whether errors outside of `together` are heard
    inside: ClassVar[int] = 0  # how many `together` the process is in

    def __init__(self, comm: "Comm | None" = None, reproducible: bool | int = False):
        world = imported()
        given = world if comm is None else comm
        self.rank, self.size = given.Get_rank(), given.Get_size()
        super().__init__(reproducible)
        if self.leaves % self.size or (self.reproducible and self.size & (self.size - 1)):
            fit = ", ".join(str(2**k) for k in range(self.leaves.bit_length()))
            what = f"{self.leaves} parts of a batch on {self.size} processes"
            raise ArgumentError(f"reproducible: {what}: take {fit} processes, or more parts.")
        self.comm, self.faults = given.Dup(), given.Dup()  # apart from what the user sends
        if self.size > 1 and not MPICluster.settled:
            self.settle()
            MPICluster.settled = True

    def settle(self) -> None:
        """Share the cores of a machine, and see to it that an error outside of `fit` is heard, too."""
        from mpi4py import MPI

        near = self.comm.Split_type(MPI.COMM_TYPE_SHARED)
        cores = thread_pool.cores()
        if "MICROGRADX_THREADS" not in os.environ and thread_pool.wanted in (0, cores):
            thread_pool.set_threads(max(1, cores // near.Get_size()))
        near.Free()
        usual, leave = sys.excepthook, sys.exit

        def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            self.failed(error)
            if self.rank == 0:
                usual(kind, error, trace)
            if isinstance(error, KeyboardInterrupt):
                raise SystemExit(130)  # else Python ends by the signal, which mpiexec takes for a fault

        def ended(code: object = None) -> NoReturn:
            if code not in (None, 0) and not self.inside:
                self.failed(SystemExit(code))
            leave(code)  # type: ignore[arg-type]

        sys.excepthook, sys.exit = hook, ended

    # What ranks say to each other

    def lead(self, do: Callable[[], T]) -> T:
        """See `Cluster`."""
        made: tuple[T | None, Exception | None] = None, None
        if self.rank == 0:
            try:
                made = do(), None
            except Exception as error:
                made = None, error
        value, problem = self.comm.bcast(made)
        if problem is not None:
            raise (made[1] or problem)
        return made[0] if self.rank == 0 else value  # type: ignore[return-value]

    def in_turn(self, do: Callable[[], T]) -> T:
        """See `Cluster`."""
        try:
            made = do() if self.rank == 0 else None
        finally:
            self.comm.Barrier()  # what ends rank 0 ends the others alike
        return do() if self.rank else made  # type: ignore[return-value]

    def sum(self, arrays: list[np.ndarray]) -> None:
        """See `Cluster`: by MPI's own order of additions, or by pairs of ranks, in one order."""
        from mpi4py import MPI

        for array in arrays:
            if not self.reproducible:
                self.comm.Allreduce(MPI.IN_PLACE, array)
                continue
            there, apart = np.empty_like(array), 1
            while apart < self.size:  # a + b and b + a have the same bits
                other = self.rank ^ apart
                self.comm.Sendrecv(array, other, recvbuf=there, source=other)
                array += there
                apart *= 2

    def most(self, *numbers: float) -> tuple[float, ...]:
        """See `Cluster`."""
        from mpi4py import MPI

        found = np.array(numbers, np.float64)
        self.comm.Allreduce(MPI.IN_PLACE, found, MPI.MAX)
        return tuple(found.tolist())

    def texts(self, text: str) -> list[str]:
        """See `Cluster`."""
        return self.comm.allgather(text)

    def agree(self, facts: Callable[[], Mapping[str, object]]) -> None:
        """See `Cluster`."""
        first, *others = self.comm.allgather(dict(facts()))
        for rank, other in enumerate(others, 1):
            for name in (name for name in first if other.get(name) != first[name]):
                values = f"rank 0 has {first[name]}, rank {rank} {other.get(name)}"
                raise ClusterError(f"{name} must be the same for all processes: {values}.")

    # Faults

    @contextmanager
    def together(self) -> Iterator[None]:
        """See `Cluster`."""
        MPICluster.inside += 1
        try:
            with warnings.catch_warnings():
                if self.rank:  # rank 0 says it
                    warnings.simplefilter("ignore")
                yield
        except BaseException as error:
            self.failed(error)
            raise
        finally:
            MPICluster.inside -= 1

    def failed(self, error: BaseException) -> None:
        """Wait a moment for the others to fail, too; where they do not, say why this one has, and end all."""
        if isinstance(error.__cause__, KeyboardInterrupt):
            error = error.__cause__  # of which click makes an error of its own
        if self.size == 1 or getattr(error, TOGETHER, False):
            return
        all_here, since = self.faults.Ibarrier(), time.monotonic()
        while not (met := all_here.Test()) and time.monotonic() - since < PATIENCE:
            time.sleep(0.01)
        if not met:
            say(f"rank {self.rank} of {self.size} ended: {reason(error)}")
            self.comm.Abort(code_of(error))
        error.__dict__[TOGETHER] = True
        texts = self.faults.allgather(reason(error))
        if self.rank == 0:
            for rank, text in enumerate(texts):
                if text not in texts[:rank] and rank:
                    say(f"rank {rank} of {self.size}: {text}")


def reason(error: BaseException) -> str:
    """What an error says; where nobody has written it for the user, with the lines that led there."""
    if written := getattr(error, "format_message", None):  # click's, of a command line
        return str(written())
    if isinstance(error, MicrogradxError | KeyboardInterrupt | SystemExit):
        return f"{type(error).__name__}: {error}"
    return "".join(traceback.format_exception(error)).rstrip()


def code_of(error: BaseException) -> int:
    """The exit code of a process that ends by an error."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    code = error.code if isinstance(error, SystemExit) else getattr(error, "exit_code", 1)
    return code if isinstance(code, int) and code else 1


def say(text: str) -> None:
    """A line on the true standard error, also of a process that is told to be silent."""
    print(text, file=sys.__stderr__, flush=True)


def launched() -> tuple[int, int] | None:
    """The rank and, where it is known, the number of processes that an MPI launcher started, else 0."""
    for rank, size in LAUNCHED.items():
        if os.environ.get(rank, "").isdecimal():
            return int(os.environ[rank]), int(os.environ.get(size) or 0)
    return None


def imported() -> "Intracomm":
    """All processes, as mpi4py has them; ClusterError where it is missing or finds no MPI."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        rank, size = launched() or (0, 1)
        if rank:
            time.sleep(1)  # rank 0 says it, and ends all; here is what only this one lacks
        where = f"rank {rank} of {size or 'several'}: " if rank or size > 1 else ""
        how = f"{install('mpi')} brings it, and an mpiexec"
        raise ClusterError(f"{where}training on several processes needs mpi4py ({error}): {how}.") from None
    return MPI.COMM_WORLD


@cache
def world(reproducible: bool | int) -> MPICluster:
    """All processes, found once; ClusterError where the launcher's MPI is not mpi4py's."""
    made, (_, size) = MPICluster(reproducible=reproducible), launched() or (0, 1)
    if size > 1 == made.size:
        what = f"the launcher started {size} processes, and mpi4py's MPI finds itself alone"
        raise ClusterError(f"{what}: take the mpiexec of that MPI, or build mpi4py for the launcher's.")
    return made


def cluster_of(given: Cluster | None = None, reproducible: bool | int = False) -> Cluster:
    """The cluster that was given, else all processes that mpiexec has started, or this one alone.

    A worker of mpi4py.futures is alone: it was given a task of its own. ArgumentError for what is no cluster,
    ClusterError where several processes were started and mpi4py is missing.
    """
    if given is not None and not isinstance(given, Cluster):
        how = "training.Cluster() for this process alone, or training.MPICluster()"
        raise ArgumentError(f"fit: cluster must be {how}, got {shown(given)}.")
    if given is not None:
        return given
    if (started := launched()) is None or started[1] == 1 or "mpi4py.futures" in sys.modules:
        return Cluster(reproducible)
    return world(reproducible)
