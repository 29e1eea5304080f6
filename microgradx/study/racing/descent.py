"""Ways down a surface: which rules can go there, how fast each may go, and where it is after every step.

Where no learning rate is given, a rule that follows the gradient gets one whose first step is, to a power of
ten, `surface.rate` · gradient; any other gets one that goes `surface.stride` a step on a constant slope,
but not less than a 25th of that, from which the steps of rprop grow.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from microgradx.compiler import jit
from microgradx.eager.creation import tensor
from microgradx.eager.tensor import Tensor
from microgradx.errors import ArgumentError, one_of
from microgradx.optim import Optimizer
from microgradx.rules import Rule, rules
from microgradx.study.racing.surfaces import Surface

FIELD = ("sgd", "sgd_momentum", "sgd_nesterov", "adagrad", "rmsprop", "adam")
"""Who races unless told otherwise."""

LAYERS = {"lars", "lamb", "muon", "adafactor", "lbfgs"}
"""Rules that leave the rest to their class: to norms, matrices or a history, which a point has not."""


def descend(
    surface: Surface,
    rule: Rule,
    starts: np.ndarray,
    tilts: np.ndarray,
    lr: float,
    device: str = "cpu",
    compiled: bool = False,
) -> np.ndarray:
    """(n, 2) starts, (steps, 2) of noise -> (steps + 1, n, 2): the way of one rule from all starts at once.

    Noise on a gradient is a tilt of the surface, so autograd adds it. `compiled` runs the whole way, from all
    starts, as one program without returning to Python.
    """
    x, y = (tensor(c.copy(), device=device, requires_grad=True) for c in starts.T)
    optimizer = Optimizer([x, y], rule, lr=lr)

    def step(tilt: Tensor) -> tuple[Tensor, Tensor]:
        optimizer.zero_grad()
        height = surface.height(x, y) + x * tilt[0, 0] + y * tilt[0, 1]
        height.sum().backward()
        optimizer.step()
        return x.detach(), y.detach()

    if compiled:
        xs, ys = jit(step).scan(tilts, batch_size=1)
        way = np.stack([xs.numpy(), ys.numpy()], axis=-1)
    else:
        points = (step(tensor(tilt[None], device=device)) for tilt in tilts)
        way = np.stack([np.stack([x.numpy(), y.numpy()], axis=-1) for x, y in points])  # copies
    return np.concatenate([starts[None], way])


def contestants(optimizers: Sequence[str | Rule]) -> list[Rule]:
    """The rules of these names, each once."""
    able = {name: rule for name, rule in rules.items() if name not in LAYERS}
    found = dict.fromkeys(one if isinstance(one, Rule) else able.get(one, one) for one in optimizers)
    if not found:
        raise ArgumentError(f"a race needs an optimizer. Choose from {', '.join(able)}.")
    for one in found:
        if one in LAYERS:
            needs = "norms or the matrix of a whole layer, or the history of all"
            raise ArgumentError(f"{one} needs {needs}; a racer is two numbers.")
        if not isinstance(one, Rule):
            raise ArgumentError(one_of("optimizer", str(one), able))
    return [one for one in found if isinstance(one, Rule)]


def learning_rates(
    surface: Surface, optimizers: Sequence[str | Rule], lr: Mapping[str, float] | None
) -> dict[Rule, float]:
    """The rules of these names, and the learning rate of each: as given, or as the surface makes it."""
    field, given = contestants(optimizers), dict(lr or {})
    if strange := given.keys() - {rule.name for rule in field}:
        names = ", ".join(rule.name for rule in field)
        raise ArgumentError(f"lr for {', '.join(sorted(strange))}: the optimizers of this race are {names}.")
    fair = lambda rule: fair_lr(rule, surface.rate, surface.stride)
    return {rule: given[rule.name] if rule.name in given else fair(rule) for rule in field}


def noise_of(surface: Surface, steps: int | None, noise: float | None, seed: int) -> np.ndarray:
    """(steps, 2): what is added to the gradients, which is part of the surface unless given."""
    steps = surface.steps if steps is None else steps
    noise = surface.noise if noise is None else noise
    if steps < 1 or not 0 <= noise < np.inf:
        raise ArgumentError(f"steps {steps}, noise {noise}: at least 1 step, and a noise of 0 or more.")
    return noise * np.random.default_rng(seed).normal(size=(steps, 2))


def fair_lr(rule: Rule, rate: float, stride: float) -> float:
    """The learning rate of a rule that was given none, from its way over constant slopes; see above."""
    if "lr" not in rule.hyperparameters:
        raise ArgumentError(f"{rule.name} has no hyperparameter lr, which a race sets.")
    flat, steep = (slope_way(rule, slope) for slope in (1.0, 100.0))
    if steep[-1] > 50 * flat[-1]:  # it follows the gradient
        return rate / 10.0 ** round(math.log10(flat[0]))
    return max(stride * len(flat) / flat[-1], stride / 25)


def slope_way(rule: Rule, slope: float, steps: int = 100) -> list[float]:
    """How far a rule has come down a constant slope after every step, as multiples of a small lr."""
    p, way, held = 0.0, [], len(rule.state)
    numbers = [0.0] * (held + len(rule.carried))
    for t in range(1, steps + 1):
        carried = dict(zip(rule.carried, numbers[held:], strict=True))
        p, *numbers = np.atleast_1d(rule(p, slope, *numbers[:held], t=t, lr=1e-3, **carried)).tolist()
        way.append(-p / 1e-3)
    return way
