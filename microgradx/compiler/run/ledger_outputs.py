"""An optimizer's ledger around a compiled step: what it watches is one more result of the step.

While a ledger is at work, the program also reads what it watches, before the rules run, into results that the
user does not see: scans stay compiled, and the emitted file shows it. What a step leaves is what the next one
begins with. Where memory does not tell what a rule did, the step runs line by line, with the same results.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from microgradx.codegen.ir.binding import GRADIENTS, Constant
from microgradx.codegen.ir.program import Instruction, Program, Update, Value, Watch, check
from microgradx.compiler.capture.captured import Captured
from microgradx.compiler.capture.events import Rows, SweepEvent
from microgradx.compiler.capture.pytree import Given
from microgradx.compiler.run.compiled_step import CompiledStep
from microgradx.eager.devices import Array
from microgradx.eager.tensor import wrap
from microgradx.optim import Optimizer
from microgradx.optim.flat import Flat
from microgradx.optim.ledgers.ledger import Ledger, Page
from microgradx.optim.options import Options

Start = tuple[Options, dict[str, float]]
"""What a rule starts from: hyperparameters and clock."""


def ledgers(captured: Captured) -> list[Ledger]:
    """The ledgers at work on the optimizers of a step."""
    optimizers = dict.fromkeys(sweep.optimizer for sweep in captured.sweeps)
    return [cast(Ledger, ledger) for optimizer in optimizers for ledger in optimizer.ledgers]


def readable(captured: Captured) -> bool:
    """Whether memory shows, before and after a step, all that its rules work on and make.

    Not so where gradients are gone at the end, where the step itself changes weights or gradients around the
    rule, where an optimizer steps twice, or where the step computes what its rule is given, as LARS does.
    """
    program, sweeps = captured.program, captured.sweeps
    parts = [id(part) for sweep in sweeps for part in sweep.run]
    updates = [(one, one.op) for one in program.instructions if isinstance(one.op, Update)]
    gradients = {b.owner: home for home, b in program.bound.items() if isinstance(b, GRADIENTS)}
    made = {value: k for k, one in enumerate(program.instructions) for value in one.outputs}
    if not len({*parts}) == len(parts) == len(updates):
        return False
    for update, op in updates:
        parameter = op.part.parameter
        p, g, *state = update.reads()
        home = gradients.get(parameter)
        read = {p, *state} <= program.bound.keys() and program.writes.get(p) in update.outputs
        known = made.get(g, -1) < first_update(program, op.flat)
        left = home is not None and program.writes.get(home, home) is g and captured.final.get(parameter)
        if not (read and known and left):
            return False
    return all(type(sweep.optimizer).advance is Optimizer.advance for sweep in sweeps)


def watched(step: CompiledStep) -> CompiledStep | None:
    """The step that also reads what ledgers at work watch: itself, where there are none.

    It is compiled once for as many numbers of the same parameters: which ones, it finds in memory. None where
    it could not read what the ledgers need.
    """
    if not any([sweep.optimizer.ledgers for sweep in step.captured.sweeps]):
        return step
    pages = [page for ledger in ledgers(step.captured) for page in ledger.pages]
    form = tuple(page.form for page in pages)
    if form not in step.twins:
        step.twins[form] = WatchedStep(step, pages) if readable(step.captured) else None
    return step.twins[form]


@dataclass(frozen=True)
class WatchedSweep(SweepEvent):
    """A rule runs, and notes say what it started from."""

    in_turns = True  # the notes of a step stand together
    notes: list[Start]

    def happen(self, steps: int) -> Rows:
        """The same, after a note."""
        self.bound()  # a schedule may have changed what it starts from
        self.notes.append(self.start())
        return super().happen(steps)


class WatchedStep(CompiledStep):
    """A step with one more result for each page of the ledgers at work."""

    def __init__(self, step: CompiledStep, pages: list[Page]):
        super().__init__(step.captured, step.kind)
        self.lock, self.most = step.lock, min(page.capacity for page in pages)
        self.notes: list[Start] = []
        self.seats = {id(part): k for k, sweep in enumerate(step.captured.sweeps) for part in sweep.run}
        self.positions: list[Array] = []  # where ledgers look: an array for each of their pages
        self.places: list[np.ndarray | None] = [None] * len(pages)  # that are in there
        plain = step.program
        bound, instructions, outputs = dict(plain.bound), [*plain.instructions], [*plain.outputs]
        program = replace(plain, bound=bound, instructions=instructions, outputs=outputs)
        for page in pages:
            places = np.empty_like(page.places)
            positions = Value("watched", places.shape, places.dtype)
            self.positions.append(wrap(places).to(page.flat.device)._data)
            bound[positions] = Constant(None, self.positions[-1])
            at = first_update(program, page.flat)
            instructions.insert(at, watching(program, page, positions))
            outputs.append(instructions[at].out)
        events = [self.noted(one) if isinstance(one, SweepEvent) else one for one in step.captured.events]
        self.captured = replace(step.captured, program=check(program, "watching"), events=events)

    def noted(self, sweep: SweepEvent) -> WatchedSweep:
        """The same event, with notes."""
        return WatchedSweep(**vars(sweep), notes=self.notes)

    def run(
        self, arrays: Sequence[Given], steps: int = 1, order: np.ndarray | None = None
    ) -> tuple[Sequence[Given], int]:
        """Steps under the eyes of ledgers: the user's own results, and how many steps were done."""
        books = ledgers(self.captured)
        pages = [page for ledger in books for page in ledger.pages]
        with self.lock:
            for k, page in enumerate(pages):
                if self.places[k] is not page.places:  # another ledger's than last time
                    self.positions[k][...] = self.places[k] = page.places
            self.notes.clear()
            outs, finished = self.go(arrays, steps, order, [page.room(steps) for page in pages])
            sweeps, own = len(self.captured.sweeps), len(self.program.outputs) - len(pages)
            notes = self.notes[len(self.notes) - finished * sweeps :]  # of those that went well
            starts = [notes[k : k + sweeps] for k in range(0, len(notes), sweeps)]
            found = iter(outs[own:])
            for ledger in books if finished else ():
                ledger.write(found, starts, self.seats)
        return outs[:own], finished


def first_update(program: Program, flat: Flat) -> int:
    """Where a program begins to update a flat buffer; its end, if it does not."""
    updates = (k for k, one in enumerate(program.instructions) if getattr(one.op, "flat", None) is flat)
    return next(updates, len(program.instructions))


def watching(program: Program, page: Page, positions: Value) -> Instruction:
    """The instruction that reads a page."""
    updates = {id(one.op.part): one for one in program.instructions if isinstance(one.op, Update)}
    pairs = zip(page.parts, page.accounts, strict=True)
    found = [(updates[id(part)], one.columns) for part, one in pairs if id(part) in updates]
    out = Value("ledger", page.shape, page.flat.dtype)
    inputs = [x for update, _ in found for x in update.inputs[: len(page.flat.arrays)]]
    line = found[0][0].line if found else None
    return Instruction(Watch([columns for _, columns in found]), (positions, *inputs), {}, (out,), line)
