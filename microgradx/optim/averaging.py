"""Averages of the weights along a run, which are often better than the last ones: EMA and SWA."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from microgradx.cuda import Array
from microgradx.eager.box import look
from microgradx.eager.mode import mode
from microgradx.eager.tensor import wrap
from microgradx.optim.checks import Parameters, State, compare, named
from microgradx.optim.flat import Data
from microgradx.optim.options import check


class Average:
    """a ← a + w · (p - a) at every update, the first of which copies; w = weight(updates before)."""

    def __init__(self, parameters: Parameters, weight: Callable[[int], float]):
        self.parameters = named(type(self).__name__, parameters, {})
        self.weight, self.updates = weight, 0
        self.averages = {name: p.data.copy() for name, p in self.parameters.items()}
        on_cpu = [a.nbytes for a in self.averages.values() if not isinstance(a, Array)]
        self.scratch = np.empty(max(on_cpu, default=0), np.uint8)

    def update(self) -> None:
        """Take the current weights into the average: after an optimizer's step, or once an epoch."""
        weight = self.weight(self.updates) if self.updates else 1.0
        for name, average in self.averages.items():
            if isinstance(average, Array):
                a, p = wrap(average), self.parameters[name].detach()
                average[...] = (a + weight * (p - a))._data
                continue
            step = self.scratch[: average.nbytes].view(average.dtype).reshape(average.shape)
            now = look(self.parameters[name], "an average of weights; update it outside the step")
            np.subtract(now, average, out=step)
            step *= average.dtype.type(weight)
            average += step
        self.updates += 1

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within `with average.applied():` the parameters hold the average, afterwards their own values."""
        kept = {name: parameter.data.copy() for name, parameter in self.parameters.items()}
        self.assign(self.averages)
        try:
            yield
        finally:
            self.assign(kept)

    def assign(self, values: dict[str, Data]) -> None:
        """Give the parameters new values, in place: an optimizer's flat buffers stay bound."""
        for name, parameter in self.parameters.items():
            look(parameter, "assignment of averages")[...] = values[name]
            parameter._version[0] += 1

    def state_dict(self) -> State:
        """A copy of the averages by name, and the number of updates."""
        return {"updates": self.updates, "averages": {name: np.array(a) for name, a in self.averages.items()}}

    def load_state_dict(self, state: State) -> None:
        """Continue from a `state_dict()` of the same parameters."""
        if mode.recorder is not None:
            mode.recorder.state(self, load=True)
        compare(type(self).__name__, state, self.state_dict())
        self.updates = state["updates"]
        for name, average in state["averages"].items():
            self.averages[name][...] = average


def constant(weight: float, updates: int) -> float:
    """The same for every update."""
    return weight


def mean_of_all(updates: int) -> float:
    """The share of the newest in the mean of all."""
    return 1 / (updates + 1)


class EMA(Average):
    """The exponential moving average of weights, a ← decay · a + (1 - decay) · p, in memory of their size.

    parameters: tensors or (name, tensor) pairs. decay: in [0, 1), or ArgumentError.

    >>> w = mg.tensor([1.0], requires_grad=True)
    >>> average = optim.EMA([w], decay=0.5)
    >>> average.update()
    >>> w.data = w.data + 2
    >>> average.update()
    >>> with average.applied():
    ...     w.item()
    2.0
    """

    def __init__(self, parameters: Parameters, decay: float = 0.999):
        check("EMA", {"decay": decay})
        super().__init__(parameters, partial(constant, 1 - decay))


class SWA(Average):
    """Stochastic weight averaging, the mean of all updates: Izmailov et al. (2018), arXiv 1803.05407.

    >>> w = mg.tensor([1.0], requires_grad=True)
    >>> average = optim.SWA([w])
    >>> for step in range(3):
    ...     w.data = w.data + 1
    ...     average.update()
    >>> average.averages["0"]
    array([3.], dtype=float32)
    """

    def __init__(self, parameters: Parameters):
        super().__init__(parameters, mean_of_all)
