"""One trial, from its job to what it has come to; whatever goes wrong in it is a result, too."""

import json
import math
import time
from collections.abc import Callable, Mapping

from microgradx.errors import MicrogradxError, NonFiniteError
from microgradx.kernels.random import generator
from microgradx.training.trials.journal import Ended, Entry, Job, Result, judged

Trial = Callable[..., object]
"""(seed=..., **config) -> the loss, or a record that has one, as `mg.fit(...).best`; with halving also
`epochs`, how far to train, and `folder`, where its own state lies that it goes on from."""


def attempt(trial: Trial, job: Job) -> Entry:
    """What became of a trial: its line for the journal. Random numbers are its own."""
    more = {} if job.epochs is None else {"epochs": job.epochs, "folder": job.folder}
    start = time.perf_counter()
    with generator.apart():
        try:
            ended: Ended = {"result": record(trial(**job.config, seed=job.seed, **more))}
        except NonFiniteError as error:
            ended = failure("diverged", str(error).partition("\n")[0])
        except MemoryError as error:
            ended = failure("memory", str(error) or "out of memory")
        except TimeoutError as error:
            ended = failure("limit", str(error) or "out of time")
        except MicrogradxError as error:
            ended = failure("error", str(error))
        except Exception as error:
            ended = failure("error", f"{type(error).__name__}: {error}")
    return job.entry(ended, time.perf_counter() - start)


def failure(kind: str, why: str) -> Ended:
    """How a failed trial is written down: "diverged", "memory", "limit", "died" or "error", and why."""
    return {"failed": kind, "why": " ".join(why.split())[:400]}


def record(found: object) -> Result:
    """What a trial measured, as JSON has it; NonFiniteError where its loss is not a number."""
    given = dict(found) if isinstance(found, Mapping) else {"loss": found}
    measured = {str(name): plain(value) for name, value in given.items()}
    value = judged(measured)
    if not math.isfinite(value):
        raise NonFiniteError(f"its loss is {value}.")
    json.dumps(measured)  # a TypeError says what cannot be written down
    return measured


def plain(value: object) -> object:
    """A number of NumPy's or a tensor as one of Python's."""
    return value.item() if hasattr(value, "item") else value
