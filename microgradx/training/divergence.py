"""Where numbers went wrong: a state to go back to, and a step under a magnifying glass.

A run repeats to the same bits, so nothing has to be watched while all is well: what diverged is done again.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from microgradx.eager.mode import detect_anomaly
from microgradx.errors import NonFiniteError
from microgradx.kernels.random import generator
from microgradx.nn import Module
from microgradx.optim import Optimizer, Schedule
from microgradx.training import checkpoints


class Snapshot:
    """What steps depend on, as it is now; `batch` says where in the epoch that is.

    path: a checkpoint of the same moment: then weights and states stay there, and nothing is copied.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        schedule: Schedule | None,
        batch: int,
        path: Path | None = None,
    ):
        self.model, self.optimizer, self.schedule, self.batch = model, optimizer, schedule, batch
        self.path, self.random = path, generator.state_dict()
        self.held = None if path else {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        self.progress = schedule.state_dict() if schedule is not None else None

    @property
    def state(self) -> checkpoints.State:
        """Weights and the optimizer's state. CheckpointError where they can no longer be read."""
        return self.held or checkpoints.load(self.path or "")

    def restore(self) -> None:
        """Go back."""
        state = self.state
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None and self.progress is not None:
            self.schedule.load_state_dict(self.progress)
        generator.load_state_dict(self.random)


def looked_at(step: Callable[[], object], model: Module, optimizer: Optimizer) -> str:
    """Do a step line by line and say what made the first number that is not finite: "" where all are.

    Looked at are every operation and its derivative, then gradients, then what the update leaves.
    """
    before, optimizer.check_finite = optimizer.check_finite, True
    try:
        with detect_anomaly():
            step()
    except NonFiniteError as error:
        return str(error)
    finally:
        optimizer.check_finite = before
    bad = [name for name, value in model.state_dict().items() if not np.isfinite(value).all()]
    return f"the update left numbers in {bad[0]} that are not finite." if bad else ""
