"""What a program does not need: values that nobody reads, operations done twice, masks that never change."""

from collections.abc import Hashable

import numpy as np

from microgradx import scalars
from microgradx.codegen.ir.binding import Constant
from microgradx.codegen.ir.program import Instruction, Program, Update, Value, check
from microgradx.eager.devices import on_host
from microgradx.kernels.keys import frozen
from microgradx.primitives import Primitive, indexing, lift


def simplify(program: Program) -> Program:
    """The same results from fewer instructions; the checker runs after each pass."""
    for change in (positions, reduce, share, drop):
        change(program)
        check(program, change.__name__)
    return program


def positions(program: Program) -> None:
    """A fixed mask picks what the positions of its True elements pick: for these there are loops."""
    found: dict[Value, list[Value]] = {}
    for instruction in program.instructions:
        if instruction.op in (indexing.getitem, indexing.put):
            for x in [*instruction.reads()][1:]:
                binding = program.bound.get(x)
                if x not in found and x.dtype == bool and x.ndim and isinstance(binding, Constant):
                    found[x] = []
                    for axis, at in enumerate(np.nonzero(on_host(binding.array()))):
                        value = Value(f"{x.name}_at" + f"_{axis}" * (x.ndim > 1), at.shape, at.dtype)
                        program.bound[value] = Constant(None, at)
                        found[x].append(value)
            pick(instruction, found)


def pick(instruction: Instruction, found: dict[Value, list[Value]]) -> None:
    """Let an instruction index by positions, an array for each axis of a mask."""
    first, *arrays = instruction.reads()
    if not any(x in found for x in arrays):
        return
    parts: list[object] = []
    inputs = [first]
    index = instruction.params["index"]
    assert isinstance(index, tuple)  # that has a place for a mask
    for part in index:
        if not isinstance(part, indexing.Slot):
            parts.append(part)
            continue
        x = arrays[part.number]
        for at in found.get(x, [x]):
            parts.append(indexing.Slot(len(inputs) - 1))
            inputs.append(at)
    instruction.inputs, instruction.params = tuple(inputs), instruction.params | {"index": tuple(parts)}


def drop(program: Program) -> None:
    """Leave out what nobody reads."""
    needed = {*program.outputs, *program.writes.values()}
    kept = []
    for instruction in reversed(program.instructions):
        if isinstance(instruction.op, Update) or needed & {*instruction.outputs}:
            kept.append(instruction)
            needed |= {*instruction.reads()}
    program.instructions = kept[::-1]
    homes = {*program.writes}
    program.bound = {value: binding for value, binding in program.bound.items() if value in needed | homes}


def reduce(program: Program) -> None:
    """x · 1 is x, as where a gradient begins with 1."""
    instead: dict[Value, Value] = {}
    kept = []
    for instruction in program.instructions:
        substitute(instruction, instead)
        values = [*instruction.reads()]
        ones = [x for x in instruction.inputs if not isinstance(x, Value) and x == 1]
        same = len(values) == len(ones) == 1 and instruction.op is lift(scalars.multiply)
        if same and (values[0].shape, values[0].dtype) == (instruction.out.shape, instruction.out.dtype):
            instead[instruction.out] = values[0]
        else:
            kept.append(instruction)
    replace(program, kept, instead)


def substitute(instruction: Instruction, instead: dict[Value, Value]) -> None:
    """Let an instruction read other values."""
    instruction.inputs = tuple(instead.get(x, x) if isinstance(x, Value) else x for x in instruction.inputs)


def replace(program: Program, kept: list[Instruction], instead: dict[Value, Value]) -> None:
    """Keep some instructions, and values in the place of those that are gone."""
    program.instructions = kept
    program.outputs = [instead.get(value, value) for value in program.outputs]
    program.writes = {home: instead.get(value, value) for home, value in program.writes.items()}


def share(program: Program) -> None:
    """Compute the same operation on the same inputs once: the second output is the first."""
    known: dict[Hashable, Value] = {}
    instead: dict[Value, Value] = {}
    kept = []
    for instruction in program.instructions:
        substitute(instruction, instead)
        key = signature(instruction)
        if key is not None and key in known:
            instead[instruction.out] = known[key]
            continue
        if key is not None:
            known[key] = instruction.out
        kept.append(instruction)
    replace(program, kept, instead)


def signature(instruction: Instruction) -> Hashable:
    """What two instructions must have in common to give the same; None for one that is never the same."""
    if not isinstance(instruction.op, Primitive) or not instruction.op.__module__.startswith("microgradx."):
        return None  # a user's own operation may do more than compute
    try:
        params = frozenset((name, frozen(value)) for name, value in instruction.params.items())
        out, inputs = instruction.out, frozen(instruction.inputs)
        key = id(instruction.op), inputs, params, out.shape, out.dtype.name
        hash(key)
        return key
    except TypeError:
        return None
