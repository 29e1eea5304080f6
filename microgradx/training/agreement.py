"""What processes must have in common before they train together: versions, arguments, model, data."""

import re

import numpy as np

from microgradx.data import Shards
from microgradx.kernels.random import generator
from microgradx.optim.flat import Data
from microgradx.training.parallel import digest_of
from microgradx.training.runs import versions
from microgradx.training.trainer import Trainer

SAMPLED = 64
"""Rows of a data set that are compared: of one that is larger than memory no process reads all."""


def facts(trainer: Trainer, valid: tuple[Data, Data] | None, **arguments: object) -> dict[str, object]:
    """What is compared, each under the name that an error gives it."""
    model, optimizer = trainer.model, trainer.optimizer
    found: dict[str, object] = {f"the version of {name}": version for name, version in versions().items()}
    found |= {f"fit's {name}": value for name, value in arguments.items()}
    for name in ("batch_size", "clip_norm", "drop_last", "skip", "keep", "eager"):
        found[f"fit's {name}"] = getattr(trainer, name)
    found["reproducible"] = trainer.cluster.leaves * trainer.cluster.reproducible
    parts = {"model": model, "optimizer": optimizer, "schedule": trainer.schedule}
    found |= {f"the {name}": re.sub(r" at 0x\w+", "", repr(part)) for name, part in parts.items()}
    found["the loss"] = getattr(trainer.loss, "__name__", type(trainer.loss).__name__)
    found |= {
        f"{part} of the training data": described(x) for part, x in zip("xyw", trainer.train, strict=False)
    }
    found |= {
        f"{part} of the validation data": described(x) for part, x in zip("xy", valid or (), strict=False)
    }
    digests = {
        f"the weights of {name}, in a digest,": digest_of([t._data]) for name, t in model.named_tensors()
    }
    return found | digests | {"the state of the random numbers": generator.state_dict()}


def described(part: Data) -> str:
    """An array in words: dtype, shape, and a digest of some rows all over it."""
    rows = np.unique(np.linspace(0, len(part) - 1, SAMPLED, dtype=np.int64))
    digest = digest_of([part[rows]]) if isinstance(part, np.ndarray | Shards) else ""
    return f"{part.dtype} {part.shape}, digest {digest}"
