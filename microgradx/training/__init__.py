"""Train a model, and keep what came out: `mg.fit`, run folders, checkpoints, history, metrics and figures."""

from typing import TYPE_CHECKING

from microgradx.training.evaluation import Evaluation, evaluate, outputs
from microgradx.training.history import History, tensorboard
from microgradx.training.loop import fit
from microgradx.training.metrics import accuracy, confusion_matrix, predictions
from microgradx.training.runs import Run

if TYPE_CHECKING:
    from microgradx.training.trials.sweep import Sweep, sweep

__all__ = [
    "Evaluation", "History", "Run", "Sweep", "accuracy", "confusion_matrix", "evaluate", "fit", "outputs",
    "predictions", "sweep", "tensorboard",
]  # fmt: skip


def __getattr__(name: str) -> object:
    """Sweeps are imported with their first use: they bring processes and pipes, which few programs need."""
    if name not in ("Sweep", "sweep"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from microgradx.training.trials import sweep as module

    return getattr(module, name)
