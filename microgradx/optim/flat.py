"""Parameters of one dtype laid end to end, so that one sweep updates them all."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from microgradx.cuda import Array
from microgradx.eager.box import lent, overwrite, write
from microgradx.eager.mode import mode
from microgradx.eager.tensor import Tensor, wrap
from microgradx.errors import ArgumentError, DeviceError, NonFiniteError, ShapeError, SizeError
from microgradx.kernels.cpu import Sweep
from microgradx.optim.checks import State
from microgradx.optim.options import Group, Options
from microgradx.rules import Rule
from microgradx.scalars import Operand

Data = np.ndarray | Array
"""Memory of a parameter, on the CPU or a GPU."""

LINE = 64  # bytes: every parameter starts at a cache line of its own


@dataclass
class Part:
    """A parameter, its place in the flat arrays, and what is its own: views, and the numbers of its steps."""

    name: str
    parameter: Tensor
    place: slice
    value: Data
    gradient: Data
    state: dict[str, Data]
    clock: dict[str, float]  # t, the steps done, and what the rule carries: no gradient, no step
    given: Options = field(default_factory=dict)  # hyperparameters of its last step alone

    def operands(self, rule: Rule) -> list[Data]:
        """Value, gradient, and the state that a rule takes: an optimizer may keep more."""
        return [self.value, self.gradient, *(self.state[name] for name in rule.state)]

    def restore(self, saved: State) -> None:
        """Set the clock and the state."""
        self.clock = {name: saved[name] for name in self.clock}
        for name, view in self.state.items():
            view[...] = saved[name]


Run = list[Part]
"""Neighbours that step together."""


def span(run: Run) -> slice:
    """The place of a run in the flat arrays."""
    return slice(run[0].place.start, run[-1].place.stop)


def operand(array: Data) -> Operand:
    """An array to compute with: itself, or a Tensor around it on a GPU and while a recorder listens."""
    return array if mode.recorder is None and type(array) is not Array else wrap(array)


def store(place: Operand, new: Operand) -> None:
    """Put into an operand what was computed from it: an array has changed in place, a Tensor has not."""
    if new is not place:
        overwrite(place, new.to(place.dtype))


class Flat:
    """The values, gradients and states of some parameters: one array each, `parameter.data` a view.

    Backward writes gradients straight into their place (`parameter._home`). Gaps hold zeros.
    """

    update: Sweep  # the rule over these arrays, since `follow`
    arrays: tuple[Operand, ...]  # values, gradients and states
    hyperparameters: Options

    def __init__(self, group: Group, parameters: dict[str, Tensor]):
        first = next(iter(parameters.values()))
        self.group, self.dtype, self.device = group, first.dtype, first.device
        unit = LINE // self.dtype.itemsize
        *starts, self.size = accumulate((-(-p.size // unit) * unit for p in parameters.values()), initial=0)
        self.values, self.gradients = self.zeros(), self.zeros()
        self.parts: list[Part] = []
        for (name, p), start in zip(parameters.items(), starts, strict=True):
            place = slice(start, start + p.size)
            value, gradient = self.values[place], self.gradients[place]
            part = Part(name, p, place, value.reshape(p.shape), gradient.reshape(p.shape), {}, {"t": 0})
            self.adopt(part)
            self.parts.append(part)
        self.rule: Rule | None = None
        self.followed: Group = {}  # the options that hyperparameters were last taken from
        self.asked: object = None  # what else they ask for: the rule and its variant

    def zeros(self, shape: tuple[int, ...] | None = None) -> Data:
        """An array of a shape, or a flat one for all parameters, starting at a cache line."""
        shape = (self.size,) if shape is None else shape
        if self.device == "cuda":
            array = Array.from_numpy(np.zeros(shape, self.dtype))
        else:
            size = math.prod(map(int, shape)) * self.dtype.itemsize + LINE
            try:
                raw = np.zeros(size, np.uint8)
            except (MemoryError, ValueError):
                raise SizeError(
                    f"state of shape {shape} needs {size:,} bytes, which there are not."
                ) from None
            start = -raw.ctypes.data % LINE
            array = raw[start : start - LINE].view(self.dtype).reshape(shape)
        lent[id(array.base)] = array.base
        return array

    def number(self, look: Callable[[], float]) -> Operand:
        """A number as it is now; a recorder looks it up anew in every step."""
        return look() if mode.recorder is None else mode.recorder.number(look, self.dtype)

    def option(self, name: str) -> Operand:
        """A number among the group's options as it is now."""
        return self.number(lambda: self.group[name])

    def current(self) -> bool:
        """Whether options, and what the rule reads outside of itself, are as they were last taken over."""
        return (self.group == self.followed or self.moved()) and self.update.outside.holds()

    def moved(self) -> bool:
        """Take over another learning rate, where nothing else has changed, as schedules do at every step."""
        lr, known = self.group.get("lr"), self.hyperparameters
        if type(lr) is not float or not 0 <= lr < math.inf or "lr" not in known:
            return False
        if self.group != self.followed | {"lr": lr}:
            return False
        self.hyperparameters, self.followed = known | {"lr": lr}, dict(self.group)
        return True

    def follow(self, update: Sweep) -> None:
        """Step by this sweep from now on; its rule keeps the same state, or it is the first step."""
        old, rule = self.rule, update.rule
        if old is None or (old.state, old.carried) != (rule.state, rule.carried):
            if old and any(part.clock["t"] for part in self.parts):
                was = f"after steps of {old.name}, which keeps other state"
                raise ArgumentError(f"the options ask for the rule {rule.name} {was}; make a new optimizer.")
            state = {name: self.zeros() for name in rule.state}
            self.arrays = (self.values, self.gradients, *state.values())
            for part in self.parts:
                part.clock = {"t": 0} | dict.fromkeys(rule.carried, 0.0)
                part.state = {n: flat[part.place].reshape(part.value.shape) for n, flat in state.items()}
        self.update, self.rule, self.update_all = update, rule, update.bind(*self.arrays)

    def gather(self) -> list[Run]:
        """Bring values and gradients home; the runs of all parameters that have a gradient."""
        if mode.recorder is not None:
            mode.recorder.gather(self)
        runs: list[Run] = []
        clock = None  # of the run that goes on
        for part in self.parts:
            parameter, gradient = part.parameter, part.parameter._grad
            self.adopt(part)
            if gradient is None:
                clock = None
                continue
            if gradient._data is not part.gradient:
                write(part.gradient, gradient)
                parameter._grad = wrap(part.gradient)
            if part.clock != clock:
                runs.append([])
                clock = part.clock
            runs[-1].append(part)
        return runs

    def adopt(self, part: Part) -> None:
        """Take over the values of a parameter whose array is not ours, and bind it to ours."""
        now, view = part.parameter, part.value
        if now._data is view:
            return
        if now.shape != view.shape or now.dtype != self.dtype:
            was = f"parameter {part.name} of shape {view.shape} and {self.dtype}"
            raise ShapeError(f"{was} has become {now.shape} and {now.dtype}; make a new optimizer for it.")
        if now.device != self.device:
            moved = f"parameter {part.name} has moved from {self.device} to {now.device}"
            raise DeviceError(f"{moved}; make a new optimizer for it, after model.to(...).")
        write(view, now)
        now._data, now._home = view, part.gradient

    def sweep(self, run: Run, **more: Operand) -> None:
        """One step of a run; `more` are hyperparameters of the moment, numbers or (recorded) Tensors."""
        if mode.recorder is not None:
            if mode.recorder.sweep(self, run, more):
                return
            more = {name: x._data.item() if isinstance(x, Tensor) else x for name, x in more.items()}
        t, *before = run[0].clock.values()
        update = self.update_all
        if len(run) < len(self.parts):
            update = self.update.bind(*(array[span(run)] for array in self.arrays))
        carried = update(t=t + 1, carried=before, **self.hyperparameters, **more)
        clock = dict(zip(run[0].clock, (t + 1, *carried), strict=True))
        for part in run:
            part.clock, part.given = clock, more
            part.parameter._version[0] += 1

    def check_finite(self, run: Run) -> None:
        """Raise for the first parameter whose gradient has a NaN or an infinity."""
        with np.errstate(all="ignore"):
            if np.isfinite(np.asarray(self.gradients[span(run)]).sum()):
                return  # a NaN or an infinity would have shown in the sum
        for part in run:
            gradient = np.asarray(part.gradient)
            bad = np.argwhere(~np.isfinite(gradient))
            if len(bad):
                nans, first = np.isnan(gradient).sum(), tuple(bad[0].tolist())
                raise NonFiniteError(
                    f"the gradient of {part.name}, of shape {part.gradient.shape}, has {nans} NaN and "
                    f"{len(bad) - nans} infinite elements, the first at index {first}. Nothing has changed; "
                    "`with mg.detect_anomaly():` around the step shows where it begins."
                )
