"""Derivatives of functions: grad, value_and_grad, hvp, hessian, and check_grad to trust them."""

from collections.abc import Callable, Iterator, Sequence
from functools import wraps

import numpy as np

from microgradx.eager.arrays import as_array
from microgradx.eager.devices import Shape, placed
from microgradx.eager.gradients import differentiate
from microgradx.eager.mode import mode
from microgradx.eager.tape import Edge
from microgradx.eager.tensor import Tensor, constant, wrap
from microgradx.errors import ArgumentError, GradientError, ShapeError, number, shown, switch, whole
from microgradx.kernels.cpu import operand
from microgradx.primitives import Operand
from microgradx.primitives.indexing import stack
from microgradx.primitives.shapes import reshape_to

Function = Callable[..., Operand]
"""Of arrays, numbers or Tensors to one Tensor, mostly of one number."""

Gradient = Operand  # a Tensor, or a tuple of them where `argnums` is several

Points = list[np.ndarray]
"""Where a function is looked at: an array per argument."""


def value_and_grad(
    f: Function, argnums: int | Sequence[int] = 0, create_graph: bool | None = None
) -> Callable[..., tuple[Tensor, Gradient]]:
    """A function that returns `(f(*args), gradient)` for a function f that returns one number.

    The gradient is with respect to the argument `argnums`, or a tuple of gradients for several. Arrays and
    numbers become Tensors. The gradients can be differentiated again where an argument requires gradients
    itself, as within another `grad`, or with `create_graph=True`. GradientError where f returns anything
    but one number, ArgumentError where it has no argument of that number.

    >>> mg.value_and_grad(lambda w, x: (w * x).sum())(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    (tensor(11., dtype=float64), tensor([3., 4.], dtype=float64))
    """
    check_callable("grad", f)
    positions = tuple(argnums) if isinstance(argnums, Sequence) else (argnums,)
    if not all(isinstance(i, int) for i in positions):
        raise ArgumentError(f"argnums is the position of an argument, or several, not {shown(argnums)}.")

    @wraps(f)
    def run(*args: Operand, **kwargs: object) -> tuple[Tensor, Gradient]:
        if positions and not -len(args) <= min(positions) <= max(positions) < len(args):
            raise ArgumentError(f"argnums={argnums} does not fit a call with {len(args)} arguments.")
        if not mode.record:
            raise GradientError("nothing is recorded under no_grad(); take gradients outside of it.")
        nested = any(isinstance(a, Tensor) and a.requires_grad for a in args)
        again = nested if create_graph is None else switch("create_graph", create_graph)
        points = list(args)
        for i in positions:
            points[i] = variable(points[i])
        value = f(*points, **kwargs)
        if not isinstance(value, Tensor) or value.size != 1:
            what = f"shape {value.shape}" if isinstance(value, Tensor) else f"type {type(value).__name__}"
            raise GradientError(f"grad needs a function that returns one number as a Tensor, not {what}.")
        grads = gradients(value, [points[i] for i in positions], create_graph=again)
        slope = tuple(grads) if isinstance(argnums, Sequence) else grads[0]
        return value if again else value.detach(), slope

    return run


def grad(
    f: Function, argnums: int | Sequence[int] = 0, create_graph: bool | None = None
) -> Callable[..., Gradient]:
    """A function that returns the gradient of f; see `value_and_grad`. Nests: `grad(grad(f))`.

    One gradient, of the argument's shape, or a tuple of them where `argnums` is a sequence. Errors are those
    of `value_and_grad`.

    >>> cube = lambda x: x**3
    >>> mg.grad(cube)(2.0), mg.grad(mg.grad(cube))(2.0)
    (tensor(12.), tensor(12.))
    """
    both = value_and_grad(f, argnums, create_graph)
    return wraps(f)(lambda *args, **kwargs: both(*args, **kwargs)[1])


def variable(x: Operand) -> Tensor:
    """A Tensor to differentiate with respect to: a new leaf, or x's view if it has a history."""
    if isinstance(x, Tensor) and x.requires_grad:
        return reshape_to(x, shape=x.shape)  # apart from x, which the function may also use
    return Tensor(x, requires_grad=True)


def gradients(y: Tensor, inputs: Sequence[Tensor], create_graph: bool = False) -> list[Tensor]:
    """The gradients of y with respect to `inputs`, zero where it does not depend on them."""
    edges: list[Edge] = [x._node or x for x in inputs]
    found: dict[Edge, Operand] = dict.fromkeys(edges)
    if y.requires_grad and found:
        differentiate(y, create_graph=create_graph, watch=found)
    pairs = zip(inputs, map(found.get, edges), strict=True)
    grads = [constant(nothing(x)) if g is None else g for x, g in pairs]
    return [g if isinstance(g, Tensor) else wrap(g) for g in grads]


def nothing(x: Tensor) -> Operand:
    """Zeros like a Tensor, where it is."""
    return placed(np.zeros(x.shape, x.dtype), x.device)


def hvp(f: Function, x: Operand, v: Operand) -> Tensor:
    """The product of the Hessian of f at x with v (of x's shape), by reverse over reverse.

    ShapeError where v has another shape. Pearlmutter (1994), Fast Exact Multiplication by the Hessian.

    >>> mg.hvp(lambda x: (x**3).sum(), np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    tensor([ 6., 12.], dtype=float64)
    """
    x = variable(x)
    g = grad(f)(x)
    v = v.to(x.dtype) if isinstance(v, Tensor) else constant(placed(as_array(v, x.dtype), x.device))
    if v.shape != x.shape:
        raise ShapeError(f"hvp: the vector has shape {v.shape}, the point {x.shape}; they must be equal.")
    return gradients((g * v).sum(), [x])[0]


def hessian(f: Function) -> Callable[[Operand], Tensor]:
    """A function that returns the matrix of second derivatives of f, of shape (*x.shape, *x.shape).

    Row by row, by `hvp`. GradientError where f returns anything but one number.

    >>> mg.hessian(lambda x: x[0] * x[1] ** 2)(np.array([1.0, 2.0]))
    tensor([[0., 4.],
           [4., 2.]], dtype=float64)
    """

    @wraps(f)
    def run(x: Operand) -> Tensor:
        x = variable(x)
        rows = [hvp(f, x, row) for row in np.eye(x.size).reshape(x.size, *x.shape)]
        return reshape_to(stack(rows), shape=x.shape + x.shape)

    return run


def check_grad(
    f: Function, *inputs: Operand, order: int = 1, eps: float = 1e-6, rtol: float = 1e-5, atol: float = 1e-7,
    seed: int = 0,
) -> bool:  # fmt: skip
    """Compare the derivatives of f with central differences in float64; True, or GradientError.

    f takes float arrays (others are passed on as they are) and returns one Tensor of any shape, which is
    weighted at random so that one number stands for the whole Jacobian. `order=2` also checks the
    derivative of the derivative. `eps` is the step of the differences, `atol` + `rtol` times the value what
    may differ. The error names the elements and both values, unweighted.

    >>> mg.check_grad(mg.tanh, np.array([-1.0, 0.5]), order=2)
    True
    """
    check_callable("check_grad", f)
    draw = np.random.default_rng(whole("seed", seed))
    order = whole("order", order, 1, 2)
    number("check_grad: eps", eps, "(0, inf)")
    number("check_grad: rtol", rtol, "[0, inf)")
    number("check_grad: atol", atol, "[0, inf)")
    arrays = [np.asarray(operand("check_grad", x)) for x in inputs]
    free = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
    points = [a.astype(np.float64) if i in free else a for i, a in enumerate(arrays)]
    shape = np.shape(f(*[Tensor(p) for p in points]))
    weights = draw.uniform(0.5, 1.5, shape)

    def total(*args: Operand) -> Tensor:
        return (f(*args) * weights).sum()

    def slope(*args: Operand) -> Operand:
        grads = grad(total, argnums=free, create_graph=True)(*args)
        return sum((g * d).sum() for g, d in zip(grads, directions, strict=True))

    directions = [draw.uniform(0.5, 1.5, points[i].shape) for i in free]
    compare(total, lambda: outputs(f, shape), points, free, 1, eps, rtol, atol)
    if order > 1:
        each = lambda: derivatives(f, shape, points, free)
        compare(slope, each, points, free, 2, eps, max(rtol, 1e-4), max(atol, 1e-6))
    return True


def outputs(f: Function, shape: Shape) -> Iterator[tuple[str, Function]]:
    """Each element of what f returns, as words and as a function."""
    for out in np.ndindex(shape):
        yield (f" of output {out}", lambda *args, out=out: f(*args)[out]) if shape else ("", f)


def derivatives(f: Function, shape: Shape, points: Points, free: list[int]) -> Iterator[tuple[str, Function]]:
    """Each first derivative of f, by every element of its inputs."""
    for words, one in outputs(f, shape):
        for i in free:
            slope = grad(one, argnums=i, create_graph=True)
            for at in np.ndindex(points[i].shape):
                name = f"{words} by input {i}, element {at}"
                yield name, lambda *args, slope=slope, at=at: slope(*args)[at] if at else slope(*args)


def compare(
    f: Function, parts: Callable[[], Iterator[tuple[str, Function]]], points: Points, free: list[int],
    order: int, eps: float, rtol: float, atol: float,
) -> None:  # fmt: skip
    """Check the gradient of f at the points, element by element; where it is wrong, name the part that is."""
    found = grad(f, argnums=free)(*[Tensor(p) for p in points]) if free else ()
    for i, g in zip(free, found, strict=True):
        for index in np.ndindex(points[i].shape):
            actual, expected = float(g.data[index]), difference(f, points, i, index, eps)
            if abs(actual - expected) <= atol + rtol * abs(expected):
                continue
            of = ""
            for words, part in parts():  # of which f is a sum with weights: the first that is wrong
                one = float(grad(part, argnums=i)(*[Tensor(p) for p in points]).data[index])
                other = difference(part, points, i, index, eps)
                if not abs(one - other) <= atol + rtol * abs(other):
                    of, actual, expected = words, one, other
                    break
            where = f"input {i} of shape {points[i].shape}, element {index} = {points[i][index]:.6g}"
            both = f"the rule gives {actual:.8g}, central differences {expected:.8g}"
            raise GradientError(f"check_grad: derivative of order {order}{of}, {where}: {both}.")


def difference(f: Function, points: Points, i: int, index: Shape, eps: float) -> float:
    """(f(x + ε) - f(x - ε)) / 2ε for one element."""
    ends = []
    for step in (eps, -eps):
        moved = [p.copy() if k == i else p for k, p in enumerate(points)]
        moved[i][index] += step
        ends.append(f(*[Tensor(p) for p in moved]).item())
    return (ends[0] - ends[1]) / (2 * eps)


def check_callable(name: str, value: object) -> None:
    """ArgumentError for what cannot be called."""
    if not callable(value):
        raise ArgumentError(f"{name} takes a function, not {shown(value)}.")
