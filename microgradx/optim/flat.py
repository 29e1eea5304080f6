"""Parameters of one dtype laid end to end, so that one sweep updates them all."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np

from microgradx.errors import ArgumentError, NonFiniteError, ShapeError
from microgradx.tensor import Tensor, wrap

LINE = 64  # bytes: every parameter starts at a cache line of its own


class Flat:
    """The values, gradients and states of some parameters: one array each, `parameter.data` a view.

    Backward writes gradients straight into their place (`parameter._home`). Gaps between parameters hold
    zeros. Every parameter has its own clock, the number of its steps and what the rule carries along,
    because a parameter without gradient does not step.
    """

    def __init__(self, parameters: dict[str, Tensor]):
        self.names, self.parameters = list(parameters), list(parameters.values())
        self.dtype = self.parameters[0].dtype
        unit = LINE // self.dtype.itemsize
        self.starts = [0]
        for parameter in self.parameters:
            self.starts.append(self.starts[-1] + -(-parameter.size // unit) * unit)
        self.values, self.gradients = self.zeros(), self.zeros()
        self.views, self.homes = self.split(self.values), self.split(self.gradients)
        self.clocks: list[tuple[int, tuple[float, ...]]] = [(0, ())] * len(self.parameters)
        self.update: Any = None
        for bound in zip(self.parameters, self.views, self.homes, strict=True):
            self.adopt(*bound)

    def zeros(self) -> np.ndarray:
        """A flat array for all parameters, starting at a cache line."""
        size = self.starts[-1] * self.dtype.itemsize
        raw = np.zeros(size + LINE, np.uint8)
        start = -raw.ctypes.data % LINE
        return raw[start : start + size].view(self.dtype)

    def split(self, flat: np.ndarray) -> list[np.ndarray]:
        """A view of a flat array in each parameter's shape."""
        return [
            flat[start : start + parameter.size].reshape(parameter.shape)
            for start, parameter in zip(self.starts, self.parameters, strict=False)
        ]

    def follow(self, update: Any, hyperparameters: dict[str, Any]) -> None:
        """Step by this sweep from now on; its rule keeps the same state, or it is the first step."""
        old, rule = self.update and self.update.rule, update.rule
        if old is None or (old.state, old.carried) != (rule.state, rule.carried):
            if any(t for t, _ in self.clocks):
                raise ArgumentError(
                    f"the options ask for the rule {rule.name} after steps of {old.name}, which keeps other "
                    "state; make a new optimizer."
                )
            self.state = {name: self.zeros() for name in rule.state}
            self.arrays = (self.values, self.gradients, *self.state.values())
            self.clocks = [(0, (0.0,) * len(rule.carried))] * len(self.parameters)
        self.update, self.update_all = update, update.bind(*self.arrays)
        self.hyperparameters = hyperparameters

    def gather(self) -> list[tuple[int, int]]:
        """Bring values and gradients home; the runs of neighbours that step together, as (first, end)."""
        waiting = False
        for parameter, view, home in zip(self.parameters, self.views, self.homes, strict=True):
            if parameter._data is not view:
                self.adopt(parameter, view, home)
            gradient = parameter._grad
            if gradient is None:
                waiting = True
            elif gradient._data is not home:
                home[...] = gradient._data
                parameter._grad = wrap(home)
        clocks = self.clocks
        if not waiting and clocks.count(clocks[0]) == len(clocks):
            return [(0, len(clocks))]
        keys = [None if p._grad is None else clock for p, clock in zip(self.parameters, clocks, strict=True)]
        runs = [(key, list(run)) for key, run in groupby(range(len(keys)), keys.__getitem__)]
        return [(run[0], run[-1] + 1) for key, run in runs if key is not None]

    def adopt(self, parameter: Tensor, view: np.ndarray, home: np.ndarray) -> None:
        """Take over the values of a parameter whose array is not ours, and bind it to ours."""
        if parameter.shape != view.shape or parameter.dtype != self.dtype:
            raise ShapeError(
                f"a parameter of shape {view.shape} and {self.dtype} has become {parameter.shape} and "
                f"{parameter.dtype}; make a new optimizer for it."
            )
        view[...] = parameter._data
        parameter._data, parameter._home = view, home

    def sweep(self, first: int, end: int, **more: Any) -> None:
        """One step of the parameters first to end - 1, which have one clock."""
        t, carried = self.clocks[first]
        update = self.update_all
        if end - first < len(self.parameters):
            update = self.update.bind(*(a[self.starts[first] : self.starts[end]] for a in self.arrays))
        carried = update(t=t + 1, carried=carried, **self.hyperparameters, **more)
        self.clocks[first:end] = [(t + 1, carried)] * (end - first)
        for parameter in self.parameters[first:end]:
            parameter._version[0] += 1

    def check_finite(self, first: int, end: int) -> None:
        """Raise for the first parameter whose gradient has a NaN or an infinity."""
        with np.errstate(all="ignore"):
            if np.isfinite(self.gradients[self.starts[first] : self.starts[end]].sum()):
                return  # a NaN or an infinity would have shown in the sum
        for name, gradient in zip(self.names[first:end], self.homes[first:end], strict=True):
            bad = ~np.isfinite(gradient)
            if bad.any():
                nans = int(np.isnan(gradient).sum())
                raise NonFiniteError(
                    f"the gradient of {name}, of shape {gradient.shape}, has {nans} NaN and "
                    f"{int(bad.sum()) - nans} infinite elements, the first at index "
                    f"{tuple(map(int, np.argwhere(bad)[0]))}. Parameters and state are as before; "
                    "`with mg.detect_anomaly():` around the step shows where it begins."
                )

    def each(self, state: str, first: int, end: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The values and one state of each parameter."""
        return zip(self.views[first:end], self.split(self.state[state])[first:end], strict=True)

    def records(self) -> dict[str, dict[str, Any]]:
        """By parameter name: the step count `t`, the state (views) and the carried numbers."""
        found: dict[str, dict[str, Any]] = {}
        for name, (t, carried) in zip(self.names, self.clocks, strict=True):
            found[name] = {"t": t} | dict(zip(self.update.rule.carried, carried, strict=True))
        for state, flat in self.state.items():
            for name, view in zip(self.names, self.split(flat), strict=True):
                found[name][state] = view
        return found

    def restore(self, saved: dict[str, dict[str, Any]]) -> None:
        """Set what `records` gives."""
        for name, own in self.records().items():
            for state in self.state:
                own[state][...] = saved[name][state]
        numbers, carried = [saved[name] for name in self.names], self.update.rule.carried
        self.clocks = [(int(n["t"]), tuple(float(n[name]) for name in carried)) for n in numbers]
