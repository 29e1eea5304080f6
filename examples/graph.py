"""The graph behind a loss: the tape as a table, the way back one node at a time, a picture of it."""

import numpy as np

import microgradx as mg
from microgradx import nn

mg.seed(0)
model = nn.MLP([2, 4, 1], activation="tanh")
x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], np.float32)
y = np.array([[0.0], [1.0], [1.0], [0.0]], np.float32)
loss = nn.mse_loss(model(x), y)

print(mg.tape(loss), "\n")
for step in mg.tape(loss).steps():
    print(step)
print(
    "\nwritten:", mg.draw(loss).save("graph.svg")
)  # also .png, .dot and .mmd; a notebook shows mg.draw(loss)
loss.backward()  # now the graph is gone, and the gradients are where they always are
