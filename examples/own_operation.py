"""An array operation of your own: NumPy code and the rule of its vector-Jacobian product."""

import numpy as np

import microgradx as mg


@mg.primitive
def outer(a, b):
    """(n,), (m,) -> (n, m)"""
    return np.outer(a, b)


@outer.vjp
def _(g, out, a, b):
    return g @ b, g.T @ a  # arithmetic that also works on Tensors: second derivatives come for free


a, b = mg.tensor([1.0, 2.0], requires_grad=True), mg.tensor([3.0, 4.0, 5.0], requires_grad=True)
outer(a, b).sum().backward()
print("gradient of a:", a.grad, " of b:", b.grad)
print("checked to second order:", mg.check_grad(outer, [1.0, 2.0], [3.0, 4.0, 5.0], order=2))


@outer.vjp
def _(g, out, a, b):
    return g @ b, g.T @ a * 2  # a mistake


try:
    mg.check_grad(outer, [1.0, 2.0], [3.0, 4.0, 5.0])
except mg.MicrogradxError as error:
    print(error)
