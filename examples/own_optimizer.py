"""An optimizer of your own: the update of one number, compiled into a loop over all parameters.

What stands between g and / is its state, what has a default a hyperparameter.
"""

import numpy as np

import microgradx as mg
from microgradx import data, nn, optim
from microgradx.kernels import sweep
from microgradx.scalars import sqrt


@mg.rule
def adacentre(p, g, m, s, /, t, lr=3e-3, beta=0.9, gamma=0.99, eps=1e-6):
    """Follow the mean gradient, scaled by how far gradients stray from it."""
    m = beta * m + (1 - beta) * g
    s = gamma * s + (1 - gamma) * (g - m) * (g - m)
    return p - lr * (m / (1 - beta**t)) / (sqrt(s / (1 - gamma**t)) + eps), m, s


print(sweep(adacentre, np.float32).source)  # the file that Numba compiles

(x, y), (x_test, y_test) = data.moons(n=500, seed=0)
mg.seed(0)
model = nn.MLP([2, 16, 2])
optimizer = optim.Optimizer(model.parameters(), adacentre, lr=1e-2)
for _ in range(200):
    optimizer.zero_grad()
    loss = nn.cross_entropy(model(mg.tensor(x)), y)
    loss.backward()
    optimizer.step()
print(f"loss {loss.item():.4f}")
