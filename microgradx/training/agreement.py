"""What processes must have in common before they train together: versions, arguments, model, data."""

import re
from collections.abc import Sequence

from microgradx.kernels.random import generator
from microgradx.optim.flat import Data
from microgradx.training.identity import digest_of, made_of
from microgradx.training.runs import versions
from microgradx.training.trainer import Trainer


def facts(
    trainer: Trainer, train: Sequence[Data], valid: Sequence[Data] | None, **arguments: object
) -> dict[str, object]:
    """What is compared, each under the name that an error gives it."""
    model = trainer.model
    found: dict[str, object] = {f"the version of {name}": version for name, version in versions().items()}
    found |= {f"fit's {name}": value for name, value in arguments.items()}
    for name in ("batch_size", "clip_norm", "drop_last", "skip", "keep", "eager"):
        found[f"fit's {name}"] = getattr(trainer, name)
    found["reproducible"] = trainer.cluster.leaves * trainer.cluster.reproducible
    parts = {"model": model, "optimizer": trainer.optimizer, "schedule": trainer.schedule}
    found |= {f"the {name}": re.sub(r" at 0x\w+", "", repr(part)) for name, part in parts.items()}
    data = made_of(train, valid, trainer.loss)
    found |= {
        f"{name} of the training data" if name in ("x", "y") else name: told for name, told in data.items()
    }
    for name, tensor in model.named_tensors():
        found[f"the weights of {name}, in a digest,"] = digest_of(tensor._data)
    return found | {"the state of the random numbers": generator.state_dict()}
