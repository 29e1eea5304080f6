"""How every operation on Tensors runs: on the arrays inside, then onto the tape if a gradient is wanted.

Tensors enter themselves here into the tables in which `scalars` and `primitives` look up who runs an
operation, and every operation of the tables becomes a method.
"""

from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature

import numpy as np

from microgradx import primitives, scalars
from microgradx.eager.arrays import as_array
from microgradx.eager.box import settled
from microgradx.eager.devices import device_of, is_array, placed
from microgradx.eager.mode import mode
from microgradx.eager.recording import record
from microgradx.eager.tape import Edge, inspect_values
from microgradx.eager.tensor import Tensor, wrap
from microgradx.errors import DeviceError, DTypeError, unexpected
from microgradx.kernels.cpu import operand, plain
from microgradx.primitives import Operand, Primitive, lift
from microgradx.scalars import Elementwise


def apply(op: Primitive, *args: Operand, **params: object) -> Tensor:
    """Run an operation on the arrays inside the Tensors; record it if any of them wants a gradient."""
    arrays: list[Operand] = []
    edges: list[Edge | None] = []
    wanted, forward, away = False, op.forward, False
    for a in args:
        edge: Edge | None = None
        if type(a) is Tensor:
            if a.requires_grad:
                edge, wanted = a._node or a, True
            a = a._data
            away = away or type(a) is not np.ndarray
        elif isinstance(a, np.generic):
            a = a.item()  # NumPy's single numbers count as Python's: they promote nothing
        elif isinstance(a, list | tuple):
            a = as_array(a)
        elif type(a) not in plain and not is_array(a):
            a = operand(op.name, a)
        arrays.append(a)
        edges.append(edge)
    if away:
        forward, arrays = on_device(op, args, arrays)
    try:
        value = mode.calm.copy().run(forward, *arrays, **params)
    except Exception as error:
        told = op.explained(arrays, params, error)
        if told is error:
            raise
        raise told from error
    out = wrap(value)
    if out._data.dtype.char != "f":
        out._data = promoted(op, arrays, params, out._data)
    data = out._data
    base = data if data.base is None else data.base
    for a in args:  # the output may be a view, or the input itself: changing one changes the other
        if type(a) is Tensor and (base is a._data or base is a._data.base):
            out._version = a._version
    if wanted and mode.record and data.dtype.kind == "f":
        record(op, args, arrays, edges, params, out)
    if mode.detect:
        inspect_values(op, list(map(np.asarray, arrays)), np.asarray(data))
    if mode.recorder is not None:
        mode.recorder.record(op, args, params, out)
    return out


def promoted(op: Primitive, arrays: list[Operand], params: dict[str, object], data: Operand) -> Operand:
    """A result other than float32 in the dtype that it should have.

    Of small integers NumPy computes functions in 16 bits, of others in 64; here they give `mode.number`.
    """
    if data.dtype.kind not in "fiub" or data.dtype.char == "g":
        raise DTypeError(f"{op.name}: a tensor holds no {data.dtype} numbers, which this would give.")
    if data.dtype.char == "e":
        arrays = [a.astype(mode.number) if isinstance(a, np.ndarray) else a for a in arrays]
        data = np.asarray(mode.calm.copy().run(op.forward, *arrays, **params), mode.number)
    wide = type(data) is np.ndarray and data.dtype.char == "d" != mode.number.char and "dtype" not in params
    if wide and not any(isinstance(a, np.ndarray) and a.dtype.char == "d" for a in arrays):
        data = data.astype(mode.number)
    return data


def on_device(
    op: Primitive, args: Sequence[Operand], arrays: list[Operand]
) -> tuple[Callable[..., Operand], list[Operand]]:
    """How to run an operation on another device's arrays, and the arrays to run it on."""
    far = [a for a in arrays if is_array(a) and type(a) is not np.ndarray]
    if mode.recorder is not None:  # it needs shapes; what the arrays hold stays where it is
        stand_in, there = mode.recorder.stand_in, {id(a) for a in far}
        return op.forward, [stand_in(a) if id(a) in there else a for a in arrays]
    tensors = [a for a in args if type(a) is Tensor]
    if any(t.ndim and type(t._data) is np.ndarray for t in tensors):
        where = ", ".join(f"{t.shape} on {t.device}" for t in tensors)
        advice = 'Move them together, for example with x.to("cuda") or model.to("cuda")'
        raise DeviceError(f"{op.name}: the tensors are on two devices: {where}. {advice}.")
    run, device = primitives.executors[type(far[0])], device_of(far[0])
    return partial(run, op), [placed(a, device) if is_array(a) else a for a in arrays]


def apply_elementwise(function: Elementwise, *args: Operand, **constants: Operand) -> Tensor:
    """Run and record an elementwise function."""
    if constants or len(args) != len(function.inputs):
        args, constants = function.bind(args, constants)
    return apply(lift(function), *args, **constants)


scalars.recorders[Tensor] = apply_elementwise
primitives.executors[Tensor] = apply
primitives.readers[Tensor] = settled


def method(function: Callable[..., Operand]) -> Callable[..., Operand]:
    """An operation as a method: t.exp() is exp(t)."""

    def call(self: Tensor, *args: object, **kwargs: object) -> Operand:
        try:
            return function(self, *args, **kwargs)
        except TypeError as error:
            raise unexpected(error, kwargs, signature(function).parameters) from None

    call.__doc__ = function.__doc__
    return call


for _name, _function in (scalars.functions | primitives.operations | {"abs": scalars.absolute}).items():
    takes_one = not any(case.first or case.as_list for case in primitives.cases.get(_name, ()))
    if takes_one and not hasattr(Tensor, _name):
        setattr(Tensor, _name, method(_function))
