"""NumPy's functions of Tensors: np.exp(t) is mg.exp(t), and what would drop a gradient is refused.

NumPy asks by two protocols: `__array_ufunc__` (NEP 13) for functions of single elements, `__array_function__`
(NEP 18) for all others.
"""

from collections.abc import Callable

import numpy as np

from microgradx import primitives, scalars
from microgradx.eager.arrays import as_operand
from microgradx.eager.box import Box, look
from microgradx.eager.devices import on_host
from microgradx.eager.mode import mode
from microgradx.errors import ArgumentError, GradientError
from microgradx.familiar import absences
from microgradx.primitives.core import SIZES, Operand
from microgradx.primitives.products import matmul

UFUNCS: dict[str, Callable[..., Operand]] = scalars.functions | {
    "matmul": lambda a, b: matmul(as_operand(a), as_operand(b)),
    "bitwise_and": scalars.logical_and,
    "bitwise_or": scalars.logical_or,
    "invert": scalars.logical_not,
    "isnan": lambda x: x != x,
    "isfinite": lambda x: scalars.absolute(x) < np.inf,
    "isinf": lambda x: scalars.absolute(x) == np.inf,
}
"""What computes the ufunc of a name."""

COUNTERPARTS = {"concatenate": "cat", "expand_dims": "unsqueeze", "broadcast_to": "expand", "amax": "max"}
COUNTERPARTS |= {"amin": "min", "ravel": "flatten", "take_along_axis": "gather"}
COUNTERPARTS |= {"vstack": "cat", "hstack": "cat", "dot": "matmul"}
"""What stands for a NumPy function of another name."""

# fmt: off
WITHOUT_GRADIENT = frozenset({
    "result_type", "can_cast", "allclose", "isclose", "array_equal", "array_equiv", "argmax", "argmin",
    "argsort", "any", "all", "count_nonzero", "nonzero", "zeros_like", "ones_like", "empty_like",
    "full_like", "array2string", "array_repr", "array_str", "save", "savez", "savetxt", "shares_memory",
    "may_share_memory", "copyto",
})
# fmt: on
"""NumPy functions whose results have no gradient to drop, or that hand values on as told."""


def array_ufunc(
    self: Box, ufunc: np.ufunc, method: str, *inputs: Operand, out: tuple[Operand, ...] | None = None,
    **options: object,
) -> Operand:  # fmt: skip
    """np.exp(t), array + t: the function of this library of that name; `array -= t` takes the values."""
    ours = UFUNCS.get(ufunc.__name__)
    called = method == "__call__"
    if called and ours is not None and out is None and not options:
        return ours(*inputs)
    if not called or out is None or any(isinstance(x, Box) for x in out):
        given = [*options, *["out"] * (out is not None)]
        call = f"np.{ufunc.__name__}" + f".{method}" * (not called)
        call += f" with {', '.join(given)}" if given else ""
        known = absences["mg"].get(ufunc.__name__ if called else "", "it with functions of mg")
        advice = f"Write {known}; or take the array: t.detach().numpy()"
        raise ArgumentError(f"{call} is not for tensors, whose gradients it would drop. {advice}.")
    if mode.record and any(isinstance(x, Box) and x.requires_grad for x in inputs):
        advice = "Use detach(), or do it inside `with mg.no_grad():`"
        raise GradientError(f"a change of an array would lose the gradient of what is put in. {advice}.")
    arrays = [on_host(look(x, "a change of an array")) if isinstance(x, Box) else x for x in inputs]
    return ufunc(*arrays, out=out, **options)


def array_function(
    self: Box, function: Callable[..., Operand], types: object, args: tuple[object, ...],
    kwargs: dict[str, object],
) -> Operand:  # fmt: skip
    """NumPy's other functions compute arrays; they are refused where they would drop a gradient."""
    name = function.__name__
    if name in SIZES:
        return function(*(one._data if isinstance(one, Box) else one for one in args), **kwargs)
    if mode.record and name not in WITHOUT_GRADIENT and any_requires_grad((args, kwargs)):
        known = primitives.operations.keys() | scalars.functions.keys()
        same = COUNTERPARTS.get(name, name if name in known else "")
        ours = f"mg.{same}" if same else absences["mg"].get(name, "").partition(": ")[0]
        advice = f"write {ours}, or " * bool(ours) + "take the array: t.detach().numpy()"
        call = f"{function.__module__}.{name}".replace("numpy", "np", 1)
        raise GradientError(f"{call} would drop the gradient of a tensor that requires it: {advice}.")
    return function(*as_arrays(args), **as_arrays(kwargs))


def any_requires_grad(given: object) -> bool:
    """Whether a Tensor among arguments, however nested, requires a gradient."""
    if isinstance(given, list | tuple | dict):
        return any(map(any_requires_grad, given.values() if isinstance(given, dict) else given))
    return isinstance(given, Box) and given.requires_grad


def as_arrays(given: Operand) -> Operand:
    """What NumPy's functions take, with the array inside for each Tensor."""
    if isinstance(given, Box):
        return on_host(look(given, "numpy()"))
    if isinstance(given, dict):
        return {name: as_arrays(one) for name, one in given.items()}
    return type(given)(map(as_arrays, given)) if type(given) in (list, tuple) else given
