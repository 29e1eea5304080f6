"""What a program does not need: values that nobody reads, and operations done twice."""

from collections.abc import Hashable
from typing import Any

import numpy as np

from microgradx.compiler.program import Instruction, Program, Update, Value, check
from microgradx.primitives import Primitive, lift
from microgradx.scalars import functions


def simplify(program: Program) -> Program:
    """The same results from fewer instructions; the checker runs after each pass."""
    for change in (reduce, share, drop):
        change(program)
        check(program, change.__name__)
    return program


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
        same = len(values) == len(ones) == 1 and instruction.op is lift(functions["multiply"])
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
        inputs = tuple(frozen(x) for x in instruction.inputs)
        params = tuple(sorted((name, frozen(value)) for name, value in instruction.params.items()))
        key = (id(instruction.op), inputs, params, instruction.out.shape, instruction.out.dtype.name)
        hash(key)
        return key
    except TypeError:
        return None


def frozen(x: Any) -> Hashable:
    """Something that is equal where the values are: 1, 1.0 and True differ."""
    if isinstance(x, list | tuple):
        return type(x).__name__, tuple(map(frozen, x))
    if isinstance(x, np.ndarray):
        raise TypeError
    return (type(x).__name__, repr(x)) if not isinstance(x, Value) else id(x)
