"""The step whose code the site shows."""

import numpy as np

import microgradx as mg
from microgradx import nn, optim

mg.seed(0)
model = nn.MLP([64, 128, 10])
optimizer = optim.Adam(model.parameters(), lr=1e-3)


def train(x, y):
    """Forward, backward, update."""
    optimizer.zero_grad()
    logits = model(x)
    loss = nn.cross_entropy(logits, y)
    loss.backward()
    optimizer.step()
    return loss


step = mg.jit(train, interpret=True)
step(np.zeros((32, 64), np.float32), np.zeros(32, np.int64))
