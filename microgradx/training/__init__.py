"""Train a model, and keep what came out: `mg.fit`, run folders, checkpoints, history, metrics and figures."""

from microgradx.training.evaluation import Evaluation, evaluate, outputs
from microgradx.training.history import History, tensorboard
from microgradx.training.loop import fit
from microgradx.training.metrics import accuracy, confusion_matrix, predictions
from microgradx.training.runs import Run
from microgradx.training.trials.sweep import Sweep, sweep

__all__ = [
    "Evaluation", "History", "Run", "Sweep", "accuracy", "confusion_matrix", "evaluate", "fit", "outputs",
    "predictions", "sweep", "tensorboard",
]  # fmt: skip
