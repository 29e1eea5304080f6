"""Arrays that share memory: what a change of one makes of the others, and where nobody can tell."""

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from microgradx.compiler.names import line_of, unfit, user_frame
from microgradx.compiler.program import Instruction, Value
from microgradx.errors import CaptureError


@dataclass(eq=False)
class Binding:
    """Memory outside of a program: what `kind` of `owner`, and the array that was there at the capture."""

    owner: Any
    kind: str  # "data" or "grad" of a Tensor, "constant" array, or the name of a part's state
    then: Any
    event: int = -1  # that finds a number

    def array(self) -> Any:
        """The array as it is now."""
        match self.kind:
            case "data":
                return self.owner._data
            case "grad":
                home, grad = self.owner._home, self.owner._grad
                return home if home is not None else self.then if grad is None else grad._data
            case "constant" | "number":
                return self.then
        return self.owner.state[self.kind]

    def __repr__(self) -> str:
        return self.kind if self.kind in ("data", "grad", "constant", "number") else f"state {self.kind}"


def root_of(array: np.ndarray) -> np.ndarray:
    """The array whose memory it is."""
    return array if array.base is None else array.base


def overlap(a: Any, b: Any) -> bool:
    """Whether two arrays have elements in the same memory, as far as their bounds tell."""
    both = isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
    return both and root_of(a) is root_of(b) and np.may_share_memory(a, b)


def renew(recorder: Any, array: np.ndarray, old: Value, value: Value) -> None:
    """An array holds another value than before: the views of it that the step has made are made again.

    Raises CaptureError where others share the memory, such as what `array` is itself a view of: their
    elements change, too, and no operation says to what.
    """
    instead, seen = {old: value}, {id(array)}
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
            raise unfit(what, line_of(user_frame()), advice)
        out = Value(recorder.free(one.out.name), one.out.shape, one.out.dtype)
        inputs = tuple(instead.get(x, x) if isinstance(x, Value) else x for x in one.inputs)
        recorder.add(Instruction(one.op, inputs, one.params, (out,)))
        instead[one.out] = recorder.values[id(view)] = out


def keep_apart(variant: Any) -> None:
    """Raise CaptureError where what a step changes in place lies in memory that it finds elsewhere, too.

    Compiled code reads and writes in the order that is best, which is right for arrays that are apart.
    """
    program, rooms = variant.program, defaultdict(list)
    for value, binding in program.bound.items():
        owner, lent = binding.owner, binding.kind == "grad" and binding.owner._grad is None
        if isinstance(array := binding.array(), np.ndarray) and not lent:
            written = value in program.writes and not any(owner is t for t in variant.replaced)
            rooms[id(root_of(array))].append((value.name, array, written))
    for room in rooms.values():
        for (a, here, writes), (b, there, changes) in combinations(room, 2):
            if (writes or changes) and np.may_share_memory(here, there):
                what = f"{a} and {b} share memory, and it changes {a if writes else b} there"
                raise CaptureError(
                    f"{program.name} cannot be compiled, because {what}. Give one a clone() of its own."
                )


def still_tied(variant: Any) -> bool:
    """Whether tensors that shared an array with another one at the capture still do."""
    variant.ties = [tie for tie in variant.ties if tie[0]() is not None]  # those of the step itself are gone
    return all(t()._data is owner._data for t, owner in variant.ties)


def rooms(variant: Any) -> set[int]:
    """The arrays, by their ids, whose memory the step changes."""
    pairs = zip(variant.bound, variant.kept, strict=True)
    return {id(root_of(array)) for (_, _, home), array in pairs if home in variant.program.writes}


def borrowed(variant: Any, arrays: list[Any]) -> bool:
    """Whether arguments lie in memory that the step changes, as that of step(p.detach()) does."""
    return any(id(root_of(array)) in variant.rooms for array in arrays)


def refuse_ties(recorder: Any) -> None:
    """Raise where a step reads a tensor that it leaves in memory of another, and changes that in place."""
    program, bound = recorder.program, recorder.program.bound
    read = {value for one in program.instructions for value in one.reads()} | {*program.outputs}
    for tensor in recorder.replaced:
        home, array = recorder.homes[id(tensor)], tensor._data
        if home not in read:
            continue
        first = bound.get(recorder.origin.get(id(array)))
        others = any(t._data is array and t is not tensor for t in recorder.replaced)
        others = others or (first is not None and first.owner is not tensor)
        before = bound[home].then  # where the next step finds the other's memory
        if any(
            overlap(array, a) and (others or a is not array) or others and overlap(before, a)
            for a in recorder.changed
        ):
            what = f"it leaves {home.name} in the memory of another tensor, which it changes in place"
            raise CaptureError(
                f"{program.name} cannot be compiled, because {what}. Give it a clone(): t.data = p.clone()."
            )
