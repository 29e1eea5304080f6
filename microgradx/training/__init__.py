"""Train a model, and keep what came out: `mg.fit`, run folders, checkpoints, history, metrics and figures."""

from microgradx.training.cluster import Cluster
from microgradx.training.evaluation import Evaluation, evaluate, outputs
from microgradx.training.history import History, tensorboard
from microgradx.training.loop import fit
from microgradx.training.metrics import accuracy, confusion_matrix, predictions
from microgradx.training.mpi import MPICluster
from microgradx.training.runs import Run

__all__ = [
    "Cluster", "Evaluation", "History", "MPICluster", "Run", "accuracy", "confusion_matrix", "evaluate",
    "fit", "outputs", "predictions", "tensorboard",
]  # fmt: skip
