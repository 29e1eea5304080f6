"""Exact solutions on quadratic surfaces, of rules that are linear in a parameter, its gradient and its state.

Along an eigenvector of the curvature the gradient is λq, so such a rule takes (q, state) to M (q, state), and
after t steps it is at Mᵗ (q₀, 0). Gradient descent has M = 1 - lr·λ, every form of momentum a (2, 2) matrix.
"""

import numpy as np

from microgradx.rules import Rule


def transition(rule: Rule, curvature: float, **options: float) -> np.ndarray | None:
    """The matrix that one step multiplies (q, *state) by: (1 + s, 1 + s); None if the rule is not linear."""
    if rule.carried:
        return None

    def step(vector: np.ndarray, t: int) -> np.ndarray:
        q, *state = vector.tolist()
        return np.atleast_1d(rule(q, curvature * q, *state, t=t, **options))

    try:
        matrix = np.column_stack([step(unit, 2) for unit in np.eye(1 + len(rule.state))])
        probes = [size * np.linspace(1, 2, len(matrix)) for size in (-1, 3)]
        same = all(np.allclose(step(probe, t), matrix @ probe, 1e-9) for probe in probes for t in (1, 2, 50))
    except (ValueError, ArithmeticError):  # the root of a negative state, say
        return None
    return matrix if same else None


def exact(
    rule: Rule, curvature: np.ndarray, start: np.ndarray, steps: int, **options: float
) -> np.ndarray | None:
    """(2, 2), (2,) -> (steps + 1, 2): where a linear rule is after every step; None for another."""
    values, vectors = np.linalg.eigh(curvature)
    coordinates = []
    for value, q in zip(values.tolist(), vectors.T @ start, strict=True):
        matrix = transition(rule, value, **options)
        if matrix is None:
            return None
        powers = np.stack([np.linalg.matrix_power(matrix, t) for t in range(steps + 1)])
        coordinates.append(powers[:, 0, 0] * q)
    return np.stack(coordinates, axis=1) @ vectors.T
