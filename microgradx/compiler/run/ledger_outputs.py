"""An optimizer's ledger around a compiled step: what it watches is one more result of the step.

While a ledger is at work, the program also reads what it watches, before the rules run, into results that the
user does not see: scans stay compiled, and the emitted file shows it. What a step leaves is what the next one
begins with. Where memory does not tell what a rule did, the step runs line by line, with the same results.
"""

from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np

from microgradx.codegen.ir.binding import GRADIENTS, Binding
from microgradx.codegen.ir.program import Instruction, Program, Update, Value, Watch, check
from microgradx.eager.tensor import wrap
from microgradx.optim import Optimizer


def at_work(variant: Any) -> list[Any]:
    """The ledgers at work on the optimizers of a step."""
    return [ledger for optimizer in variant.optimizers for ledger in optimizer.ledgers]


def readable(variant: Any) -> bool:
    """Whether memory shows, before and after a step, all that its rules work on and make.

    Not so where gradients are gone at the end, where the step itself changes weights or gradients around the
    rule, where an optimizer steps twice, or where the step computes what its rule is given, as LARS does.
    """
    program = variant.program
    sweeps = [event for event in variant.events if event[0] == "sweep"]
    parts = {id(part) for _, _, _, run, _ in sweeps for part in run}
    updates = [one for one in program.instructions if isinstance(one.op, Update)]
    gradients = {b.owner: home for home, b in program.bound.items() if b.kind in GRADIENTS}
    made = {value: k for k, one in enumerate(program.instructions) for value in one.outputs}
    if len(parts) != sum(len(run) for _, _, _, run, _ in sweeps) or len(updates) != len(parts):
        return False
    for update in updates:
        parameter = update.op.part.parameter
        p, g, *state = update.inputs
        home = gradients.get(parameter)
        read = {p, *state} <= program.bound.keys() and program.writes.get(p) in update.outputs
        known = made.get(g, -1) < first_update(program, update.op.flat)
        if not (read and known and variant.final.get(parameter) and program.writes.get(home, home) is g):
            return False
    return all(type(optimizer).advance is Optimizer.advance for _, optimizer, *_ in sweeps)


def watched(variant: Any) -> Any:
    """The variant that also reads what ledgers at work watch: itself, where there are none.

    It is compiled once for as many numbers of the same parameters: which ones, it finds in memory. None where
    it could not read what the ledgers need.
    """
    books = at_work(variant)
    if not books or not variant.readable:
        return None if books else variant
    pages = [page for ledger in books for page in ledger.pages]
    form = tuple(page.form for page in pages)
    if form not in variant.twins:
        variant.twins[form] = twin(variant, pages)
    return variant.twins[form]


def twin(variant: Any, pages: list[Any]) -> Any:
    """A variant with one more result for each page."""
    made, plain = copy(variant), variant.program
    bound, instructions, outputs = dict(plain.bound), [*plain.instructions], [*plain.outputs]
    made.program = replace(plain, bound=bound, instructions=instructions, outputs=outputs)
    made.compiled, made.positions = None, []
    for page in pages:
        places = np.empty_like(page.places)
        positions = Value("watched", places.shape, places.dtype)
        made.positions.append(wrap(places).to(page.flat.device)._data)
        bound[positions] = Binding(None, "constant", made.positions[-1])
        at = first_update(made.program, page.flat)
        instructions.insert(at, watching(made.program, page, positions))
        outputs.append(instructions[at].out)
    check(made.program, "watching")
    sweeps = [event for event in variant.events if event[0] == "sweep"]
    made.seats = {id(part): k for k, (*_, run, _) in enumerate(sweeps) for part in run}
    made.most, made.looked_at = min(page.capacity for page in pages), [None] * len(pages)
    return made


def first_update(program: Program, flat: Any) -> int:
    """Where a program begins to update a flat buffer; its end, if it does not."""
    updates = (k for k, one in enumerate(program.instructions) if getattr(one.op, "flat", None) is flat)
    return next(updates, len(program.instructions))


def watching(program: Program, page: Any, positions: Value) -> Instruction:
    """The instruction that reads a page."""
    updates = {id(one.op.part): one for one in program.instructions if isinstance(one.op, Update)}
    pairs = zip(page.parts, page.accounts, strict=True)
    found = [(updates[id(part)], one.columns) for part, one in pairs if id(part) in updates]
    out = Value("ledger", page.shape, page.flat.dtype)
    inputs = [x for update, _ in found for x in update.inputs[: len(page.flat.arrays)]]
    line = found[0][0].line if found else None
    return Instruction(Watch([columns for _, columns in found]), (positions, *inputs), {}, (out,), line)


def written_down(variant: Any, arrays: list[Any], steps: int, order: Any) -> tuple[list, int]:
    """Steps under the eyes of ledgers: the user's own results, and how many steps were done."""
    books, count = at_work(variant), len(variant.program.outputs) - len(variant.positions)
    variant.pages = [page for ledger in books for page in ledger.pages]
    for k, page in enumerate(variant.pages):
        if variant.looked_at[k] is not page.places:  # another ledger's than last time
            variant.positions[k][...] = variant.looked_at[k] = page.places
    try:
        outs, finished = variant.steps(arrays, steps, order)
    finally:
        variant.pages = ()  # the user decides how long a ledger is kept
    found = iter(outs[count:])
    for ledger in books if finished else ():
        ledger.write(found, variant.starts[:finished], variant.seats)
    return outs[:count], finished
