"""What each process of `mpiexec -n N python tests/ranks.py FOLDER JOB ...` does; a test does it alone, too.

Rank 0 leaves NAME-N.npz of every job: the losses, the weights, and whether all ranks have the same.
"""

import sys
import warnings
import zlib
from functools import partial
from pathlib import Path

import numpy as np

import microgradx as mg
from microgradx import nn, optim, training
from microgradx.data import moons
from microgradx.errors import ClusterError, TrainingWarning

TRAIN, TEST = moons(n=150, seed=1)
(X, Y), FEW = TRAIN, (TRAIN[0][:35], TRAIN[1][:35])  # batches of 16: the last has 3 rows
IGNORED = np.where(np.arange(len(Y)) % 3 == 0, -100, Y)
WEIGHTS = np.arange(len(Y)) % 5 + 0.5
CLASSES = partial(nn.cross_entropy, weight=np.array([1, 3], np.float32))

JOBS = {
    "plain": {},
    "uneven": {"train": (X[:33], Y[:33]), "clip_norm": 0.5},  # a last batch of one row
    "weighted": {"sample_weight": WEIGHTS, "plan": "cosine"},
    "ignored": {"train": (X, IGNORED)},
    "classes": {"loss": CLASSES, "train": (X, IGNORED)},
    "layers": {"optimizer": optim.LAMB, "batch_size": 50},
    "plateau": {"plan": "plateau", "patience": 1, "epochs": 4},
    "regression": {"loss": nn.mse_loss, "train": (X.astype(np.float64), X[:, :1] * X), "dtype": np.float64},
    "bits": {"dropout": 0.3, "reproducible": True, "train": FEW},
    "mean": {"norm": True},
    "skip": {"train": (np.where(np.arange(len(X))[:, None] == 5, np.inf, X), Y), "skip_nonfinite": True},
}  # fmt: skip


def made(optimizer=optim.Adam, plan=None, dropout=0.0, norm=False, dtype=np.float32, seed=0):
    """A model, its optimizer and a schedule."""
    mg.seed(seed)
    model = nn.MLP([2, 8, 2], dropout=dropout)
    if norm:
        model = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    model = model.to(dtype)
    optimizer = optimizer(model.named_parameters(), lr=0.02)
    return model, optimizer, optim.plans[plan](optimizer, 16) if plan else None


def train(cluster, train=TRAIN, epochs=2, **options):
    """A run's losses and its weights."""
    model, optimizer, schedule = made(
        **{
            name: options.pop(name)
            for name in ("optimizer", "plan", "dropout", "norm", "dtype")
            if name in options
        }
    )
    valid = None if "loss" in options else TEST
    options = {"batch_size": 16, "progress": False, "schedule": schedule} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)  # of steps that are left out
        history = mg.fit(model, optimizer, train, valid, epochs=epochs, cluster=cluster, **options)
    return (
        np.array(history["loss"]),
        np.concatenate([w.ravel() for w in model.state_dict().values()]),
        history,
    )


def job(name, comm=None):
    """A job by its name, on the processes of a communicator or alone."""
    options = dict(JOBS[name])
    reproducible = options.pop("reproducible", False)
    alone = comm is None
    cluster = training.Cluster(reproducible) if alone else training.MPICluster(comm, reproducible)
    return cluster, *train(cluster, **options)


def main(folder, names):
    """Do the jobs; those that are not of the table are below."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    for name in names:
        if name in OTHERS:
            OTHERS[name](folder, comm)
            continue
        _, losses, weights, _ = job(name, comm)
        same = len(set(comm.allgather(zlib.crc32(weights)))) == 1
        if comm.rank == 0:
            np.savez(folder / f"{name}-{comm.size}.npz", losses=losses, weights=weights, same=same)


def run(folder, comm):
    """A run folder with two epochs, and what all ranks found out when one had other data, weights, a rate."""
    train(training.MPICluster(comm), out=folder / "run", dropout=0.2)
    for what in ("weights", "data", "lr"):
        other = comm.rank == 1
        model, optimizer, _ = made(seed=int(other and what == "weights"))
        optimizer.param_groups[0]["lr"] = 0.5 if other and what == "lr" else 0.02
        x = X + 1 if other and what == "data" else X
        try:
            mg.fit(model, optimizer, (x, Y), cluster=training.MPICluster(comm), progress=False)
        except ClusterError as error:
            (folder / f"{what}-{comm.rank}.txt").write_text(str(error), encoding="utf-8")


def failing(folder, comm, how):
    """Rank 1 ends in the second epoch; the others wait for it."""

    def callback(history):
        if comm.rank == 1 and len(history) == 2:
            how()

    train(training.MPICluster(comm), callbacks=[callback], epochs=3)


OTHERS = {"run": run, "exit": partial(failing, how=partial(sys.exit, "of rank 1 alone"))}

if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
