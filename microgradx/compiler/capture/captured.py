"""What a capture found: a program, what happens beside it, and what it took for fixed."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from weakref import ref

from microgradx.codegen.ir.binding import Before, Constant, Data
from microgradx.codegen.ir.program import Program
from microgradx.compiler.capture.events import Event, SweepEvent
from microgradx.compiler.capture.guards import Guards
from microgradx.compiler.capture.refusal import refusal
from microgradx.eager.tensor import Tensor
from microgradx.optim.flat import Flat

Tie = tuple[ref[Tensor], Tensor]
"""Two Tensors that share an array."""


@dataclass(frozen=True)
class Captured:
    """A step as it was recorded."""

    title: str  # the first lines of its file
    program: Program
    result: object  # what the function returned, with Values in place of Tensors
    device: str
    blocks: int  # of random numbers that it draws
    events: list[Event]  # what happens beside the program, in order
    buffers: list[Flat]  # of the optimizers at work
    replaced: list[Tensor]  # those that hold another array after the step
    found: dict[Tensor, bool]  # whether leaves had a gradient
    final: dict[Tensor, bool]  # and whether they have one after the step
    ties: list[Tie]
    guards: Guards | None = None  # what it took for fixed; None of a second look
    moved: str | None = None  # what of that the step itself changes
    housed: list[bool] = field(init=False)  # which parameters are where their optimizers work

    def __post_init__(self) -> None:
        object.__setattr__(self, "housed", self.at_home())

    @cached_property
    def sweeps(self) -> list[SweepEvent]:
        """The steps of optimizers."""
        return [event for event in self.events if isinstance(event, SweepEvent)]

    @cached_property
    def in_turns(self) -> bool:
        """Whether its events take turns at every step."""
        return any(event.in_turns for event in self.events)

    @cached_property
    def before(self) -> list[Before]:
        """The memory of Tensors that hold another array after the step, where it changes, too."""
        return [b for b in self.program.bound.values() if isinstance(b, Before)]

    @cached_property
    def written(self) -> dict[int, tuple[Tensor, str]]:
        """The Tensors that hold other values after the step, and their names, by id."""
        there = ((home, self.program.bound.get(home)) for home in self.program.writes)
        return {id(b.owner): (b.owner, home.name) for home, b in there if isinstance(b, Data)}

    def refuse_written(self, given: list[Tensor]) -> None:
        """Raise CaptureError where an argument is a Tensor that the step changes: the argument would, too."""
        for tensor in given:
            if id(tensor) in self.written:
                what = f"an argument is {self.written[id(tensor)][1]}, which it changes"
                raise refusal(what, "Pass a clone() of it.", name=self.program.name)

    def at_home(self) -> list[bool]:
        """Which parameters are where their optimizers work now: else views see no steps."""
        return [part.parameter._data is part.value for flat in self.buffers for part in flat.parts]

    def replaces(self, tensor: Tensor) -> bool:
        """Whether a Tensor holds another array after the step."""
        return any(tensor is one for one in self.replaced)

    def steady(self) -> bool:
        """Whether it leaves the world as it found it, but for numbers: fit for many steps at a time."""
        after = [not self.replaces(part.parameter) for flat in self.buffers for part in flat.parts]
        gradients = all(self.final[leaf] == had for leaf, had in self.found.items())
        return gradients and not self.before and self.housed == after

    def fits(self) -> bool:
        """Whether the world is as it was at the capture, as far as the program depends on it."""
        return (
            self.moved is None  # else the function must run, to change what it changes
            and self.finds_gradients()
            and (self.guards is None or self.guards.hold())
            and all([event.follows() for event in self.events])
            and self.tied()
            and self.at_home() == self.housed
        )

    def finds_gradients(self) -> bool:
        """Whether leaves have gradients, and none with a history, where they had them at the capture."""
        return all(
            [
                leaf._grad is not None and leaf._grad._node is None if had else leaf._grad is None
                for leaf, had in self.found.items()
            ]
        )

    def tied(self) -> bool:
        """Whether Tensors that shared an array with another one still do, but for those that are gone."""
        return all([(t := one()) is None or t._data is owner._data for one, owner in self.ties])

    def failing(self) -> str | None:
        """What is not as it was, in words: what the step reads, or the rules of its optimizers."""
        failed = self.guards.failing() if self.guards else None
        return failed or next(filter(None, (event.failing() for event in self.events)), None)

    def adopt(self, other: "Captured") -> "Captured":
        """The same program, with what another capture of it took for fixed: constants may be elsewhere."""
        pairs = zip(self.program.bound.items(), other.program.bound.values(), strict=True)
        bound = {v: theirs if isinstance(ours, Constant | Data) else ours for (v, ours), theirs in pairs}
        return replace(other, program=replace(self.program, bound=bound))
