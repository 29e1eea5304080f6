"""Arrays that share memory: what a change of one makes of the others, and where nobody can tell."""

from typing import Any

import numpy as np

from microgradx.codegen.ir.binding import Array, Before, Constant, Data, Home, Number
from microgradx.codegen.ir.program import Instruction, Program, Value
from microgradx.compiler.capture.refusals import refuse, stop
from microgradx.eager.tensor import lent
from microgradx.errors import CaptureError
from microgradx.kernels.addresses import overlaps, span


def root_of(array: Array) -> object:
    """What an array has in common with all views of the same memory."""
    return array if array.base is None else array.base


def dense(array: Any) -> bool:
    """Whether the elements of an array lie one after the other."""
    return array.flags.c_contiguous if isinstance(array, np.ndarray) else array.dense


def overlap(a: Any, b: Any) -> bool:
    """Whether two arrays have elements in the same memory, as far as their bounds tell."""
    both = isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
    return both and root_of(a) is root_of(b) and np.may_share_memory(a, b)


def renew(recorder: Any, array: np.ndarray, old: Value, value: Value) -> None:
    """An array holds another value than before: the views of it that the step has made are made again.

    Raises CaptureError where others share the memory, such as what `array` is itself a view of: their
    elements change, too, and no operation says to what.
    """
    instead, seen = {old: value}, set()
    made = {out: one for one in recorder.program.instructions for out in one.outputs}
    for view in [x for x in recorder.kept if overlap(x, array)]:
        before: Any = recorder.values.get(id(view))
        if id(view) in seen or before in (None, value):
            continue
        seen.add(id(view))
        one = made.get(before)
        if one is None or not instead.keys() & {*one.reads()}:
            what = f"it changes a tensor in place that shares memory with {before.name}"
            advice = (
                "Change the whole, as in p.data = where(mask, new, p), or change a clone() of one of them."
            )
            refuse(what, advice)
        out = Value(recorder.free(one.out.name), one.out.shape, one.out.dtype)
        inputs = tuple(instead.get(x, x) if isinstance(x, Value) else x for x in one.inputs)
        recorder.add(Instruction(one.op, inputs, one.params, (out,)))
        instead[one.out] = recorder.values[id(view)] = out


def keep_apart(program: Program) -> None:
    """Raise CaptureError where what a step changes in place lies in memory that it finds elsewhere, too.

    Compiled code reads and writes in the order that is best, which is right for arrays that are apart.
    """
    there = [(v, b.array()) for v, b in program.bound.items() if not isinstance(b, Number)]
    for a, b in overlaps(span(array, v.name, v in program.writes) for v, array in there if array.size):
        what = f"{a.name} and {b.name} share memory, and it changes {a.name} there"
        raise CaptureError(
            f"{program.name} cannot be compiled, because {what}. Give one a clone() of its own."
        )


def refuse_memory_that_changes(trace: Any, recorder: Any) -> None:
    """Raise CaptureError for an array that NumPy may read in the step, in memory that the step changes.

    A recording only notes what changes, or takes it back: NumPy sees there what no eager step would see.
    """
    program = recorder.program
    known = {id(b.then) for b in program.bound.values() if isinstance(b, Constant)}  # operations read them
    known |= {id(array) for array, _ in recorder.seen}  # of optimizers that have yet to step
    seen = [(r.it, r.path) for r in trace.records.values() if isinstance(r.it, np.ndarray)]
    spans = [span(array, path, True) for array, path in seen if array.size and id(array) not in known]
    written = [(program.bound[v].array(), v.name) for v in program.writes] if spans else []
    spans += [span(array, name, False) for array, name in written if array.size]
    for array, home in overlaps(spans):
        if not home.counts:
            what = f"{array.name} is an array in the memory of {home.name}, which the step changes"
            stop(trace, what, "Use the tensor itself, or look at the array outside of the step.", array.name)


def parts(recorder: Any) -> list[Any]:
    """The parameters of optimizers at work, and their places."""
    return [part for flat in recorder.flats.values() for part in flat.parts]


def own(recorder: Any, tensor: Any, array: Any) -> bool:
    """Whether an array is memory that a Tensor, or its gradient, has or gets outside of the step."""
    found = any(b.owner is tensor and b.then is array for b in recorder.program.bound.values())
    return found or any(p.parameter is tensor and p.value is array for p in parts(recorder))


def refuse_gradient(recorder: Any, leaf: Any) -> None:
    """Raise CaptureError where a gradient from outside is something else, too, or has a history."""
    name = recorder.names.get(id(leaf)) or leaf.name or "a leaf"
    array = leaf._grad._data
    known = recorder.values.get(id(array))
    if known is not None or (id(array.base) in lent and array is not leaf._home):
        whose = "an optimizer" if known is None else known.name
        what, advice = f"is in the memory of {whose}", "Give it a clone() of its own"
    elif leaf._grad._node is not None:
        what, advice = "has a history, which a compiled step does not go on with", "Use detach()"
    else:
        return
    refuse(f"the gradient of {name} {what}", f"{advice}.")


def settle(recorder: Any) -> None:
    """What Tensors hold after the step, and what the memory holds that they had before."""
    for tensor in recorder.replaced:
        recorder.program.writes[recorder.homes[id(tensor)]] = recorder.value(tensor)
    recorder.replaced = [tensor for tensor in recorder.replaced if not own(recorder, tensor, tensor._data)]
    follow(recorder)
    refuse_ties(recorder)


def follow(recorder: Any) -> None:
    """Find a home for what changes in place before its tensor gets other memory: others may look there."""
    program = recorder.program
    stepped = {id(part.value): part for part in parts(recorder)}
    for array in {id(array): array for array in recorder.changed}.values():
        home = recorder.origin.get(id(array))
        then = program.bound.get(home)
        if not isinstance(then, Data) or then.owner._data is array:
            continue
        part = stepped.get(id(array))
        place = Value(recorder.free(f"{home.name}_before"), home.shape, home.dtype)
        program.bound[place] = Home(part, array) if part else Before(then.owner, array)
        program.writes[place] = recorder.values[id(array)]


def refuse_ties(recorder: Any) -> None:
    """Raise CaptureError where a step leaves a tensor, or a gradient, in memory that is others', too.

    In eager steps they change together from then on.
    """
    program = recorder.program
    names = {id(b.owner): v.name for v, b in program.bound.items() if isinstance(b, Data)}
    there = [(b.then, v.name) for v, b in program.bound.items() if not isinstance(b, Number)]
    there += [(t._data, v.name) for v, t in zip(program.arguments, recorder.given, strict=True)]
    stand_ins = recorder.stand_ins
    there += [(stand_ins[id(array)], name) for array, name in there if id(array) in stand_ins]
    left = [(t._data, names[id(t)]) for t in recorder.replaced]
    for leaf in recorder.before:
        grad = leaf._grad
        if grad is not None and grad._data is not leaf._home and not own(recorder, leaf, grad._data):
            name = names.get(id(leaf)) or recorder.names.get(id(leaf)) or leaf.name or "a tensor"
            left.append((grad._data, f"the gradient of {name}"))
    spans = [span(array, name, k >= len(there)) for k, (array, name) in enumerate(there + left) if array.size]
    for a, b in overlaps(spans):
        what = f"it leaves {a.name} in the memory of {b.name}"
        raise CaptureError(
            f"{program.name} cannot be compiled, because {what}. Give it a clone() of its own."
        )
