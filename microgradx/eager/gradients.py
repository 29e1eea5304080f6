"""Where a backward pass begins: the gradient of what follows, and whether the pass itself is recorded."""

from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from microgradx.eager.arrays import as_array
from microgradx.eager.box import Box, remembered
from microgradx.eager.devices import devices, is_array, placed
from microgradx.eager.mode import mode
from microgradx.eager.tape import Edge, Graph, Node, backward
from microgradx.errors import GradientError, ShapeError
from microgradx.primitives import Operand


def differentiate(
    y: Box, gradient: ArrayLike | None = None, *, retain_graph: bool = False, create_graph: bool = False,
    watch: dict[Edge, Operand] | None = None,
) -> None:  # fmt: skip
    """Run the tape backward from y, with the gradient of what follows (1 without); see `tape.backward`."""
    if not y.requires_grad:
        why = "it depends on no tensor with requires_grad=True, or was computed under no_grad()"
        raise GradientError(f"there is nothing to differentiate in this tensor: {why}.")
    if gradient is None and y.size != 1:
        advice = "use backward(gradient), or reduce it first, for example y.sum().backward()"
        raise GradientError(f"a tensor of shape {y.shape} needs the gradient of what follows: {advice}.")
    g: Operand = np.ones(y.shape, y.dtype) if gradient is None else as_array(gradient, y.dtype)
    if g.shape != y.shape:
        raise ShapeError(f"backward: the gradient has shape {g.shape}, the tensor {y.shape}.")
    run, start = mode.calm.copy().run, y._node or y
    graph: Graph | None = None
    check = mode.detect
    g = placed(g, y.device)
    if create_graph or mode.recorder is not None or any(device.in_use() for device in devices.values()):
        if not (create_graph and isinstance(gradient, Box)):
            g = y.around(g) if gradient is not None else remembered(y.around(g))
        else:
            g = gradient
        retain_graph = retain_graph or create_graph
        graph = partial(revive, type(y))
        # constants in slopes take the gradients' dtype; what a slope computes and does not use is no anomaly
        with mode.having(record=create_graph and mode.record, number=y.dtype, detect=False):
            run(backward, start, g, retain_graph=retain_graph, graph=graph, watch=watch, check=check)
    else:
        run(backward, start, g, retain_graph=retain_graph, graph=graph, watch=watch, check=check)


def revive(kind: type[Box], value: Operand, edge: Edge | None) -> Operand:
    """A saved array as the Tensor that it was, attached to the tape."""
    if isinstance(edge, Box):
        return edge
    if not is_array(value):
        return value
    t = kind.around(value)
    if isinstance(edge, Node):
        t._node, t.requires_grad = edge, True
    return t
