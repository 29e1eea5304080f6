"""Optimizers that look at a parameter as a whole, at its norm or as a matrix: LARS, LAMB, Muon."""

import math
from typing import Any

from microgradx import rules
from microgradx.errors import ArgumentError
from microgradx.optim.clip import norm
from microgradx.optim.flat import Flat, Run, operand, store
from microgradx.optim.optimizer import Optimizer
from microgradx.scalars import maximum, where


class LARS(Optimizer):
    """Momentum whose every layer moves in proportion to its weights, by a trust as in `rules.lars`.

    trust = trust_coefficient · ‖p‖ / (‖g‖ + λ ‖p‖), or trust_coefficient where ‖p‖ or ‖g‖ is 0.
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
    """Adam's direction, rescaled so that ‖step‖ = lr · ‖p‖ in every layer (lr · ‖direction‖ where p = 0)."""

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
    a matrix is (inputs, outputs), as in `nn.Linear`: what PyTorch does to its transpose.
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
            scale = math.sqrt(max(1, outputs / inputs))
            if group["adjust_lr_fn"] == "match_rms_adamw":
                scale = 0.2 * math.sqrt(max(inputs, outputs))
            if group["decoupled_weight_decay"]:
                weights *= 1 - flat.option("lr") * flat.option("weight_decay")
            weights -= flat.option("lr") * scale * step
            store(place, weights)


def orthogonal(matrix: Any, coefficients: tuple, steps: int, eps: float) -> Any:
    """(n, m) -> (n, m), singular values near 1, by Newton and Schulz: x ← ax + b(xxᵀ)x + c(xxᵀ)²x"""
    a, b, c = coefficients
    x = matrix / maximum(norm(matrix), eps)
    x = x.T if matrix.shape[0] > matrix.shape[1] else x
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x
