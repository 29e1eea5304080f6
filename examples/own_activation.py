"""An activation of your own: its definition and its slope, as arithmetic on one number.

It then works on numbers, arrays and tensors, has second derivatives, and is a choice for every network.
"""

import microgradx as mg
from microgradx import nn
from microgradx.scalars import exp, log1p, tanh


@mg.elementwise
def mish(x):
    """x · tanh(log(1 + eˣ)): arXiv 1908.08681"""
    return x * tanh(log1p(exp(x)))


@mish.slope
def _(x, y):
    t = tanh(log1p(exp(x)))
    return t + x * (1 - t * t) / (1 + exp(-x))


print("a number:", mish(1.0))
print("a tensor:", mish(mg.tensor([-1.0, 0.0, 1.0])))
print(
    "first and second derivatives agree with finite differences:", mg.check_grad(mish, [0.3, -0.7], order=2)
)
print(nn.MLP([2, 16, 2], activation=mish))
