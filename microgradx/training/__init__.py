"""Train a model, and keep what came out: `mg.fit`, run folders, checkpoints, history, metrics and figures."""

from typing import TYPE_CHECKING

from microgradx import familiar

if TYPE_CHECKING:
    from microgradx.training.cluster import Cluster
    from microgradx.training.evaluation import Evaluation, evaluate, outputs
    from microgradx.training.history import History, tensorboard
    from microgradx.training.loop import fit
    from microgradx.training.metrics import accuracy, confusion_matrix, predictions, r_squared
    from microgradx.training.mpi import MPICluster
    from microgradx.training.runs import Run
    from microgradx.training.trials.sweep import Sweep, sweep

__all__ = [
    "Cluster", "Evaluation", "History", "MPICluster", "Run", "Sweep", "accuracy", "confusion_matrix",
    "evaluate", "fit", "outputs", "predictions", "r_squared", "sweep", "tensorboard",
]  # fmt: skip

HOMES = {
    "cluster": ["Cluster"],
    "evaluation": ["Evaluation", "evaluate", "outputs"],
    "history": ["History", "tensorboard"],
    "loop": ["fit"],
    "metrics": ["accuracy", "confusion_matrix", "predictions", "r_squared"],
    "mpi": ["MPICluster"],
    "runs": ["Run"],
    "trials.sweep": ["Sweep", "sweep"],
}
"""What is imported with the first use of a name: commands begin in half the time."""

__getattr__, __dir__ = familiar.of_package("training", __name__, HOMES)
