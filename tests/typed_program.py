"""What a user writes, for type checkers: mypy --strict must find these types in the installed wheel."""

from typing import assert_type

import numpy as np

import microgradx as mg
from microgradx import data, nn, optim
from microgradx.compiler import Step
from microgradx.training import History

train, test = data.digits()
model = nn.MLP([64, 32, 10])
optimizer = optim.Adam(model.parameters(), lr=1e-3)


@mg.jit
def step(x: mg.Tensor, y: mg.Tensor) -> mg.Tensor:
    """A training step."""
    optimizer.zero_grad()
    logits: mg.Tensor = model(x)  # a module of your own may give anything
    loss = nn.cross_entropy(logits, y)
    loss.backward()
    optimizer.step()
    return assert_type(loss, mg.Tensor)


assert_type(step, Step[mg.Tensor])
assert_type(2 * -mg.tensor([1.0]) @ mg.tensor([1.0]) + 3, mg.Tensor)
assert_type(mg.tensor([1.0]).sum(), mg.Tensor)
assert_type(mg.tensor([1.0]).numpy(), np.ndarray)
assert_type(mg.fit(model, optimizer, train, test), History)
