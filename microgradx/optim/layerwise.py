"""Optimizers that look at a parameter as a whole, at its norm or as a matrix: LARS, LAMB, Muon, Adafactor."""

import math

import numpy as np

from microgradx import rules
from microgradx.errors import ArgumentError
from microgradx.optim.base import Optimizer
from microgradx.optim.clip import norm
from microgradx.optim.flat import Data, Flat, Operand, Part, Run, operand, store
from microgradx.scalars import maximum, sqrt, where


class LARS(Optimizer):
    """Momentum whose every layer moves in proportion to its weights, by a trust as in `rules.lars`.

    trust = trust_coefficient · ‖p‖ / (‖g‖ + λ ‖p‖), or trust_coefficient where ‖p‖ or ‖g‖ is 0.
    You, Gitman & Ginsburg (2017), arXiv 1708.03888.
    """

    options = dict(lr=1.0, momentum=0.9, weight_decay=1e-4, trust_coefficient=1e-3, maximize=False)
    choose = staticmethod(lambda **_: rules.lars)

    def advance(self, flat: Flat, run: Run) -> None:
        """One sweep per parameter, each with a trust of its own."""
        for part in run:
            weights, slope = norm(operand(part.value)), norm(operand(part.gradient))
            zero = (weights == 0) | (slope == 0)
            ratio = where(zero, 1, weights) / where(zero, 1, slope + flat.option("weight_decay") * weights)
            flat.sweep([part], trust=flat.option("trust_coefficient") * ratio)


class LAMB(Optimizer):
    """Adam's direction, rescaled so that ‖step‖ = lr · ‖p‖ in every layer (lr · ‖direction‖ where p = 0).

    You et al. (2020), arXiv 1904.00962.
    """

    options = dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=1e-2, maximize=False)
    choose = staticmethod(lambda **_: rules.lamb)

    def advance(self, flat: Flat, run: Run) -> None:
        """One sweep for all directions, then a scaled step per parameter."""
        flat.sweep(run)
        for part in run:
            places = weights, direction = operand(part.value), operand(part.state["direction"])
            length = norm(direction)
            ratio = norm(weights) / where(length == 0, 1, length)
            direction *= flat.option("lr") * where(ratio == 0, 1, ratio)
            weights -= direction
            store(places[0], weights)
            store(places[1], direction)


class Muon(Optimizer):
    """Momentum whose step is made orthogonal, so that every direction of a matrix moves alike; matrices only.

    As in PyTorch, except that the iteration runs in the parameter's own dtype instead of bfloat16, and that
    a matrix is (inputs, outputs), as in `nn.Linear`: what PyTorch does to its transpose. ArgumentError for a
    parameter that is no matrix. Jordan et al. (2024), https://kellerjordan.github.io/posts/muon/
    """

    options = dict(
        lr=1e-3, weight_decay=0.1, momentum=0.95, nesterov=True, ns_coefficients=(3.4445, -4.7750, 2.0315),
        eps=1e-7, ns_steps=5, adjust_lr_fn=None, decoupled_weight_decay=True, maximize=False,
    )  # fmt: skip
    choose = staticmethod(lambda **_: rules.muon)

    def bind(self, flat: Flat) -> None:
        """Matrices only."""
        for part in flat.parts:
            if part.value.ndim != 2:
                what = f"parameter {part.name} of shape {part.value.shape}"
                raise ArgumentError(f"Muon: {what} is not a matrix; train it with AdamW, say.")
        super().bind(flat)

    def advance(self, flat: Flat, run: Run) -> None:
        """One sweep for all directions, then an orthogonal step per matrix."""
        flat.sweep(run)
        group = flat.group
        for part in run:
            place = weights = operand(part.value)
            direction = operand(part.state["direction"])
            step = orthogonal(direction, group["ns_coefficients"], group["ns_steps"], group["eps"])
            inputs, outputs = weights.shape
            scale = math.sqrt(max(1, outputs / max(inputs, 1)))
            if group["adjust_lr_fn"] == "match_rms_adamw":
                scale = 0.2 * math.sqrt(max(inputs, outputs))
            if group["decoupled_weight_decay"]:
                weights *= 1 - flat.option("lr") * flat.option("weight_decay")
            weights -= flat.option("lr") * scale * step
            store(place, weights)


class Adafactor(Optimizer):
    """Adam's second moment in the memory of a row and a column of each matrix, and no first moment.

    As in PyTorch: the last two axes are factored, vectors keep all of v; lr bounds the relative step 1/√t;
    eps = (ε₁, ε₂), where None is the resolution of the dtype. A matrix is (inputs, outputs) here.
    Shazeer & Stern (2018), arXiv 1804.04235.
    """

    options = dict(lr=1e-2, beta2_decay=-0.8, eps=(None, 1e-3), d=1.0, weight_decay=0.0, maximize=False)
    choose = staticmethod(lambda **_: rules.adafactor)

    def bind(self, flat: Flat) -> None:
        """Beside what its rule keeps, which is nothing: moments, of other shapes than the parameters'."""
        super().bind(flat)
        for part in flat.parts:
            part.state = part.state or {
                n: flat.zeros(shape) for n, shape in moments(part.value.shape).items()
            }

    def advance(self, flat: Flat, run: Run) -> None:
        """One sweep that decays all weights, then a step per parameter."""
        part, ulp = run[0], float(np.finfo(flat.dtype).eps)
        fresh = flat.number(lambda: (part.clock["t"] + 1) ** flat.group["beta2_decay"])
        rate = flat.number(lambda: min(flat.group["lr"], (part.clock["t"] + 1) ** -0.5))
        tiny = flat.number(lambda: ulp if flat.group["eps"][0] is None else flat.group["eps"][0])
        least, bound = flat.number(lambda: flat.group["eps"][1]), flat.option("d")
        with np.errstate(all="ignore"):
            sizes = [rms(operand(part.value)) for part in run]  # before they decay
            flat.sweep(run)
            for one, size in zip(run, sizes, strict=True):
                if not one.value.size:  # no row has a mean
                    continue
                place = weights = operand(one.value)
                g = operand(one.gradient)
                u = g / sqrt(maximum(second_moment(one, g, fresh, tiny), tiny * tiny))
                u *= rate * maximum(least, size) / maximum(1, rms(u) / bound)
                weights += u if flat.group["maximize"] else -u
                store(place, weights)


def moments(shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shapes of the means of g² that are kept of a parameter."""
    if len(shape) < 2:
        return {"v": shape}
    return {"row": (*shape[:-1], 1), "column": (*shape[:-2], 1, shape[-1])}


def second_moment(part: Part, g: Operand, fresh: Operand, tiny: Operand) -> Operand:
    """The mean of recent g²; of a matrix, the product of its rows' and columns' means over that of all."""
    squares = g * g
    if g.ndim < 2:
        return moved(part.state["v"], squares, fresh)
    row = moved(part.state["row"], squares.mean(axis=-1, keepdims=True), fresh)
    column = moved(part.state["column"], squares.mean(axis=-2, keepdims=True), fresh)
    return row * column / maximum(row.mean(axis=-2, keepdims=True), tiny)


def moved(mean: Data, new: Operand, fresh: Operand) -> Operand:
    """m ← m + fresh · (new - m)"""
    place = m = operand(mean)
    m += fresh * (new - m)
    store(place, m)
    return m


def rms(x: Operand) -> Operand:
    """√(Σ x² / n) of all elements."""
    return norm(x) / math.sqrt(max(x.size, 1))


def orthogonal(matrix: Operand, coefficients: tuple[float, float, float], steps: int, eps: float) -> Operand:
    """(n, m) -> (n, m), singular values near 1, by Newton and Schulz: x ← ax + b(xxᵀ)x + c(xxᵀ)²x"""
    a, b, c = coefficients
    x = matrix / maximum(norm(matrix), eps)
    x = x.T if matrix.shape[0] > matrix.shape[1] else x
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x
