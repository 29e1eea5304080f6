"""An optimizer's ledger around a compiled step: what its rules worked on is read before and after it.

Compiled code knows nothing of ledgers. While one is at work, a scan goes step by step, and what the rules
start from and the gradients that the step leaves are read from where they are. Where that does not tell
what a rule did, the step runs line by line, with the same results.
"""

from typing import Any

from microgradx.optim import Optimizer


def ledgers(events: list[tuple]) -> set[Any]:
    """The ledgers at work on the optimizers of a step."""
    return {ledger for kind, *event in events if kind == "sweep" for ledger in event[0].ledgers}


def unreadable(variant: Any) -> bool:
    """Whether a ledger is at work that could not read from outside what the step does.

    So it is where gradients are gone at its end, a parameter steps twice, or a step computes what its rule is
    given, as LARS does.
    """
    if not ledgers(variant.events):
        return False
    sweeps = [event for event in variant.events if event[0] == "sweep"]
    parts = [part for _, _, _, run, _ in sweeps for part in run]
    plain = all(type(optimizer).advance is Optimizer.advance for _, optimizer, *_ in sweeps)
    left = all(variant.final.get(part.parameter) for part in parts)
    return not plain or not left or len({id(part) for part in parts}) < len(parts)


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
