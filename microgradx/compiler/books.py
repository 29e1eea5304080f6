"""An optimizer's ledger around a compiled step: what its rules worked on is read before and after it.

Compiled code knows nothing of ledgers. While one is at work, a scan goes step by step, and what the rules
start from and the gradients that the step leaves are read from where they are. Where that does not tell
what a rule did, the step runs line by line, with the same results.
"""

from typing import Any

from microgradx.compiler.program import Update
from microgradx.optim import Optimizer


def ledgers(events: list[tuple]) -> set[Any]:
    """The ledgers at work on the optimizers of a step."""
    return {ledger for kind, *event in events if kind == "sweep" for ledger in event[0].ledgers}


def unreadable(variant: Any) -> bool:
    """Whether a ledger is at work that could not read from outside what the step does."""
    return bool(ledgers(variant.events)) and not variant.readable


def readable(variant: Any) -> bool:
    """Whether memory shows, before and after a step, all that its rules work on and make.

    Not so where gradients are gone at the end, where the step itself changes weights or gradients around the
    rule, where a parameter steps twice, or where the step computes what its rule is given, as LARS does.
    """
    program = variant.program
    sweeps = [event for event in variant.events if event[0] == "sweep"]
    parts = {id(part) for _, _, _, run, _ in sweeps for part in run}
    updates = [one for one in program.instructions if isinstance(one.op, Update)]
    gradients = {b.owner: home for home, b in program.bound.items() if b.kind == "grad"}
    if len(parts) != sum(len(run) for _, _, _, run, _ in sweeps) or len(updates) != len(parts):
        return False
    for update in updates:
        parameter = update.op.part.parameter
        p, g, *state = update.inputs
        home = gradients.get(parameter)
        read = {p, *state} <= program.bound.keys() and program.writes.get(p) in update.outputs
        if not (read and variant.final.get(parameter) and program.writes.get(home, home) is g):
            return False
    return all(type(optimizer).advance is Optimizer.advance for _, optimizer, *_ in sweeps)


def written_down(variant: Any, arrays: list[Any], order: Any) -> tuple[list, int]:
    """One step of a variant, under the eyes of ledgers: the outputs, and how many steps were done."""
    variant.compile()
    variant.ready()
    watching = ledgers(variant.events)
    for ledger in watching:
        ledger.open()
    outs, finished = variant.steps(arrays, 1, order)
    for ledger in watching if finished else ():
        ledger.close()
    return outs, finished
