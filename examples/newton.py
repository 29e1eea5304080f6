"""Second derivatives: Newton's method on Rosenbrock's valley, and a Hessian-vector product."""

import numpy as np

import microgradx as mg


def rosenbrock(x):
    """(1 - x)² + 100 (y - x²)², smallest at (1, 1)"""
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


x = np.array([-1.2, 1.0])  # float64: NumPy arrays keep their dtype
for step in range(7):
    value, gradient = mg.value_and_grad(rosenbrock)(x)
    print(f"step {step}   f({x[0]:9.6f}, {x[1]:9.6f}) = {value.item():.3e}")
    x = x - np.linalg.solve(mg.hessian(rosenbrock)(x).numpy(), gradient.numpy())

print("Hessian times (1, 0):", mg.hvp(rosenbrock, x, [1.0, 0.0]))
