"""LBFGS: Newton's steps without the Hessian, for a loss that is the same whenever it is evaluated.

    optimizer = optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        return loss

    loss = optimizer.step(closure)  # up to max_iter iterations; this is the loss before them

What takes time may be compiled, `closure = mg.jit(closure)`; how it goes on depends on what the loss is.
"""

import math

import numpy as np

from microgradx import rules
from microgradx.eager.mode import mode
from microgradx.eager.tensor import Tensor
from microgradx.errors import ArgumentError, DeviceError
from microgradx.optim.base import CLOSURE, Closure, Optimizer
from microgradx.optim.checks import State
from microgradx.optim.clip import CHUNK
from microgradx.optim.flat import Flat, Operand, Run
from microgradx.optim.options import Group
from microgradx.optim.wolfe import Point, strong_wolfe

CURVED = 1e-10  # y · s of a pair that is worth keeping, as in PyTorch


class LBFGS(Optimizer):
    """Minimizes for up to `max_iter` iterations per `step(closure)`, all parameters together, in one group.

    d = -Hg, where H is what the last `history_size` pairs of steps and gradient changes say of the inverse
    Hessian. Then p ← p + lr · d, or, with line_search_fn="strong_wolfe", as far as the loss says. A step ends
    early after `max_eval` evaluations (5/4 max_iter), where no number of the gradient is above
    `tolerance_grad`, and where an iteration changes no weight, or not the loss, by `tolerance_change`.
    As in PyTorch, but that a parameter without a gradient stays where it is. `step` raises ArgumentError
    without a closure; DeviceError on a GPU. Nocedal & Wright (2006), Algorithm 7.4.

    >>> w = mg.tensor([3.0, 4.0], requires_grad=True)
    >>> optimizer = optim.LBFGS([w], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = (w * w).sum()
    ...     loss.backward()
    ...     return loss
    >>> optimizer.step(closure).item()
    25.0
    >>> abs(w).max().item() < 1e-6
    True
    """

    options = dict(
        lr=1.0, max_iter=20, max_eval=None, tolerance_grad=1e-7, tolerance_change=1e-9, history_size=100,
        line_search_fn=None, maximize=False,
    )  # fmt: skip
    choose = staticmethod(lambda **_: rules.lbfgs)
    pairs: Operand = None  # (2, history_size, numbers): steps s and the gradient's changes y, newest last
    known: int | None = None  # how many there are; None: count them
    length = 1.0  # of the move under way, in directions

    def add_param_group(self, group: Group) -> None:
        """The one group there can be."""
        if self.param_groups:
            raise ArgumentError("LBFGS: all parameters move together, so there can be only one group.")
        super().add_param_group(group)
        if len(self.flats) > 1:
            kinds = " and ".join(f"{flat.dtype} on {flat.device}" for flat in self.flats)
            raise ArgumentError(f"LBFGS: all parameters move together, so they must be alike, not {kinds}.")

    def bind(self, flat: Flat) -> None:
        """Beside what its rule keeps: the pairs, of which every parameter sees its own part."""
        if flat.device != "cpu":
            raise DeviceError("LBFGS works on the CPU alone; make it after model.to('cpu').")
        super().bind(flat)
        rows = flat.group["history_size"]
        if self.pairs is not None and self.pairs.shape[1] == rows:
            return
        old = flat.zeros((2, rows, flat.size)) if self.pairs is None else self.pairs
        self.pairs, self.known = flat.zeros((2, rows, flat.size)), None
        kept = min(rows, old.shape[1])
        self.pairs[:, rows - kept :] = old[:, old.shape[1] - kept :]
        for part in flat.parts:
            for name, array in zip(("steps", "changes"), self.pairs, strict=True):
                part.state[name] = array[:, part.place].reshape(rows, *part.value.shape)

    def load_state_dict(self, saved: State) -> None:
        """Continue from a `state_dict()`, as every optimizer does."""
        super().load_state_dict(saved)
        self.known = None

    def step(self, closure: Closure | None = None) -> Tensor:
        """Iterate, and return the loss that the closure found at first."""
        if closure is None:
            raise ArgumentError(
                f"LBFGS.step() needs a closure: it evaluates the loss several times. {CLOSURE}"
            )
        if mode.recorder is not None:
            mode.recorder.step(self, self.flats[0], self.flats[0].parts)
        first = self.evaluate(closure)
        group, here = self.param_groups[0], self.look(first)
        self.jobs()
        most = (group["max_eval"] or group["max_iter"] * 5 // 4) - 1
        for left in reversed(range(group["max_iter"])):
            if largest(here.gradient) <= group["tolerance_grad"]:
                break
            there, count = self.iterate(closure, here, most, last=left == 0)
            most -= count
            if there is None or most <= 0 or abs(there.loss - here.loss) < group["tolerance_change"]:
                break
            here = there
        return first

    def iterate(self, closure: Closure, here: Point, most: int, last: bool) -> tuple[Point | None, int]:
        """Move once: the point to go on from, None if that is enough; and how many evaluations it took."""
        group, flat = self.param_groups[0], self.flats[0]
        values, gradients, s, g_old = flat.arrays
        first = not any(part.clock["t"] for part in flat.parts)
        d = self.direction(here.gradient)
        here = Point(0.0, here.loss, dot(here.gradient, d), here.gradient)
        if here.slope > -group["tolerance_change"]:
            s[...], g_old[...] = 0, here.gradient  # no step was taken
            return None, 0
        t, count = group["lr"] * (min(1.0, 1 / float(np.abs(here.gradient).sum())) if first else 1.0), 0
        if group["line_search_fn"] is not None:
            there, count = self.search(closure, here, d, t, most)
            gradients[...] = here.gradient * self.sign
            self.move(d, there.t)
            gradients[...] = there.gradient * self.sign
        else:
            self.move(d, t)
            if last:
                return None, 0
            there, count = self.look(self.evaluate(closure)), 1
        return (there if largest(s) > group["tolerance_change"] else None), count

    def search(self, closure: Closure, here: Point, d: np.ndarray, t: float, most: int) -> tuple[Point, int]:
        """How far to go along d: the point there, and the number of evaluations. The weights stay."""
        flat, start = self.flats[0], self.flats[0].values.copy()

        def look(t: float) -> Point:
            """The loss after a step of t · d."""
            flat.values[...] = start + t * d
            for part in flat.parts:
                part.parameter._version[0] += 1
            found = self.look(self.evaluate(closure))
            loss = math.inf if math.isnan(found.loss) else found.loss
            return Point(t, loss, dot(found.gradient, d), found.gradient)

        try:
            return strong_wolfe(look, here, t, largest(d), self.param_groups[0]["tolerance_change"], most)
        finally:
            flat.values[...] = start

    def move(self, d: np.ndarray, t: float) -> None:
        """p ← p + t · d, from the gradient that is in its place."""
        self.flats[0].arrays[2][...] = d
        self.length = t
        self.update(self.jobs())

    def advance(self, flat: Flat, run: Run) -> None:
        """One sweep along the direction."""
        flat.sweep(run, step=self.length)

    @property
    def sign(self) -> int:
        """Of the loss that is minimized."""
        return -1 if self.param_groups[0]["maximize"] else 1

    def look(self, loss: Tensor) -> Point:
        """What a closure has found: the loss, and all gradients as one vector, 0 where there is none."""
        if loss is None:
            raise ArgumentError(f"LBFGS: the closure returned None instead of the loss. {CLOSURE}")
        flat = self.flats[0]
        flat.gather()
        for part in flat.parts:
            if part.parameter._grad is None:
                part.gradient[...] = 0
        return Point(0.0, self.sign * float(loss), 0.0, self.sign * flat.arrays[1])

    @np.errstate(all="ignore")
    def direction(self, g: np.ndarray) -> np.ndarray:
        """-Hg, after the last step has become a pair. Nocedal & Wright (2006), Algorithm 7.4.

        A pair is kept as (s, y) / √(y · s), so that the ρ of the algorithm, 1 / (y · s), is 1.
        """
        flat = self.flats[0]
        _, _, s, g_old = flat.arrays
        steps, changes = self.pairs
        if self.known is None:
            self.known = int(changes.any(axis=1).sum())
        y = g - g_old
        curvature = dot(y, s)
        if curvature > CURVED:
            self.known = k = min(self.known + 1, len(steps))
            for pairs, new in ((steps, s), (changes, y)):
                pairs[-k:-1] = pairs[len(pairs) - k + 1 :].copy()
                pairs[-1] = new / math.sqrt(curvature)
        used = [(steps[-i], changes[-i]) for i in range(1, self.known + 1)]  # the newest first
        d, alphas = -g, []
        for s, y in used:
            alphas.append(dot(s, d))
            d -= alphas[-1] * y
        if used:
            d /= dot(used[0][1], used[0][1])
        for (s, y), alpha in zip(reversed(used), reversed(alphas), strict=True):
            d += (alpha - dot(y, d)) * s
        for part in flat.parts:
            if part.parameter._grad is None:  # it stays, and this teaches nothing of it
                d[part.place] = g_old[part.place] = 0
        return d


def dot(a: np.ndarray, b: np.ndarray) -> float:
    """a · b, in an order that does not depend on threads."""
    pieces = (slice(i, i + CHUNK) for i in range(0, a.size, CHUNK))
    return math.fsum(float(a[piece] @ b[piece]) for piece in pieces)


def largest(x: np.ndarray) -> float:
    """The largest |x|."""
    return float(np.max(np.abs(x), initial=0))
