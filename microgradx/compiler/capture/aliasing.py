"""Arrays that share memory: what a change of one makes of the others, and where nobody can tell."""

import numpy as np

from microgradx.codegen.ir.binding import Before, Data, Home, Number
from microgradx.codegen.ir.program import Instruction, Program, Value
from microgradx.compiler.capture.recording import Recording, root_of
from microgradx.compiler.capture.refusal import refusal, refuse
from microgradx.eager.box import lent
from microgradx.eager.devices import Array
from microgradx.eager.tensor import Tensor
from microgradx.kernels.addresses import overlaps, span


def dense(array: Array) -> bool:
    """Whether the elements of an array lie one after the other."""
    return array.flags.c_contiguous if isinstance(array, np.ndarray) else array.dense


def overlap(a: Array, b: Array) -> bool:
    """Whether two arrays have elements in the same memory, as far as their bounds tell."""
    both = isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and root_of(a) is root_of(b)
    return both and np.may_share_memory(a, b)


def renew(recording: Recording, array: Array, old: Value, value: Value) -> None:
    """An array holds another value than before: the views of it that the step has made are made again.

    Raises CaptureError where others share the memory, such as what `array` is itself a view of: their
    elements change, too, and no operation says to what.
    """
    near = recording.arrays.near[id(root_of(array))]
    views = [one for one in near if one.value not in (None, value) and overlap(one.array, array)]
    if not views:
        return
    instead = {old: value}
    made = {out: one for one in recording.program.instructions for out in one.outputs}
    for view in views:
        before = view.value
        assert before is not None
        one = made.get(before)
        if one is None or not instead.keys() & {*one.reads()}:
            what = f"it changes a tensor in place that shares memory with {before.name}"
            advice = (
                "Change the whole, as in p.data = where(mask, new, p), or change a clone() of one of them."
            )
            refuse(what, advice)
        out = Value(recording.names.free(one.out.name), one.out.shape, one.out.dtype)
        inputs = tuple(instead.get(x, x) if isinstance(x, Value) else x for x in one.inputs)
        recording.add(Instruction(one.op, inputs, one.params, (out,)))
        instead[one.out] = view.value = out


def keep_apart(program: Program) -> None:
    """Raise CaptureError where what a step changes in place lies in memory that it finds elsewhere, too.

    Compiled code reads and writes in the order that is best, which is right for arrays that are apart.
    """
    there = [(v, b.array()) for v, b in program.bound.items() if not isinstance(b, Number)]
    for a, b in overlaps(span(array, v.name, v in program.writes) for v, array in there if array.size):
        what = f"{a.name} and {b.name} share memory, and it changes {a.name} there"
        raise refusal(what, "Give one a clone() of its own.", name=program.name)


def own(recording: Recording, tensor: Tensor, array: Array) -> bool:
    """Whether an array is memory that a Tensor, or its gradient, has or gets outside of the step."""
    found = any(b.owner is tensor and b.then is array for b in recording.program.bound.values())
    return found or any(p.parameter is tensor and p.value is array for p in recording.parts)


def refuse_gradient(recording: Recording, leaf: Tensor, grad: Tensor) -> None:
    """Raise CaptureError where a gradient from outside is something else, too, or has a history."""
    known = recording.arrays.of(grad._data).value
    if known is not None or (id(grad._data.base) in lent and grad._data is not leaf._home):
        whose = "an optimizer" if known is None else known.name
        what, advice = f"is in the memory of {whose}", "Give it a clone() of its own"
    elif grad._node is not None:
        what, advice = "has a history, which a compiled step does not go on with", "Use detach()"
    else:
        return
    refuse(f"the gradient of {recording.names.of(leaf, 'a leaf')} {what}", f"{advice}.")


def settle(recording: Recording) -> None:
    """What Tensors hold after the step, and what the memory holds that they had before."""
    for tensor in recording.replaced:
        home = recording.tensors.of(tensor).home
        assert home is not None
        recording.program.writes[home] = recording.value(tensor)
    recording.replaced = [tensor for tensor in recording.replaced if not own(recording, tensor, tensor._data)]
    follow(recording)
    refuse_ties(recording)


def follow(recording: Recording) -> None:
    """Find a home for what changes in place before its tensor gets other memory: others may look there."""
    program = recording.program
    stepped = {id(part.value): part for part in recording.parts}
    for array in {id(array): array for array in recording.changed}.values():
        known, then = recording.arrays.of(array), recording.binding(array)
        if not isinstance(then, Data) or then.owner._data is array:
            continue
        assert known.home is not None and known.value is not None
        part = stepped.get(id(array))
        place = Value(recording.names.free(f"{known.home.name}_before"), known.home.shape, known.home.dtype)
        program.bound[place] = Home(part, array) if part else Before(then.owner, array)
        program.writes[place] = known.value


def refuse_ties(recording: Recording) -> None:
    """Raise CaptureError where a step leaves a tensor, or a gradient, in memory that is others', too.

    In eager steps they change together from then on.
    """
    program = recording.program
    names = {id(b.owner): v.name for v, b in program.bound.items() if isinstance(b, Data)}
    there = [(b.then, v.name) for v, b in program.bound.items() if not isinstance(b, Number)]
    there += [(t._data, v.name) for v, t in zip(program.arguments, recording.given, strict=True)]
    hosts = [(recording.arrays.of(array).stand_in, name) for array, name in there]
    there += [(array, name) for array, name in hosts if array is not None]
    left = [(t._data, names[id(t)]) for t in recording.replaced]
    for leaf in recording.before:
        grad = leaf._grad
        if grad is not None and grad._data is not leaf._home and not own(recording, leaf, grad._data):
            name = names.get(id(leaf)) or recording.names.of(leaf, "a tensor")
            left.append((grad._data, f"the gradient of {name}"))
    spans = [span(array, name, k >= len(there)) for k, (array, name) in enumerate(there + left) if array.size]
    for a, b in overlaps(spans):
        what = f"it leaves {a.name} in the memory of {b.name}"
        raise refusal(what, "Give it a clone() of its own.", name=program.name)
