"""From values to a picture's boxes: a large graph folds by module, and what is oldest into one box."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from microgradx.study.graphs.graph import Call, Value
from microgradx.study.graphs.numbers import shape_of, short

LIMIT = 40
"""A picture with more boxes than this folds, as long as there is a module to fold."""

MOST = 150
"""No picture has more boxes than this: what is oldest becomes one."""


@dataclass(eq=False)
class Box:
    """What is drawn as one: a value, or several that were folded."""

    values: list[Value] = field(default_factory=list)
    call: Call | None = None  # the module around it
    folded: Call | None = None  # the module that it stands for

    @property
    def kind(self) -> str:
        """The kind of its value; "folded" for several."""
        return self.values[0].kind if len(self.values) == 1 and not self.folded else "folded"

    @property
    def title(self) -> str:
        """What its value is called, or the module."""
        first = self.values[0]
        if self.folded:
            return self.folded.title
        if self.kind == "folded":
            return f"{len(self.values):,} earlier values"
        named = first.name.rpartition(".")[2] if first.kind == "parameter" else first.name
        return f"{named} = {first.formula}" if first.op else named

    @property
    def about(self) -> str:
        """The shape of a value; of a folded module how much it is."""
        shape = shape_of(self.values[-1].data)
        if self.kind != "folded":
            return shape
        operations = sum(value.kind == "operation" for value in self.values)
        parameters = sum(value.data.size for value in self.values if value.kind == "parameter")
        counts = {"operation": operations, "parameter": parameters}
        words = [f"{n:,} {noun}{'s' * (n != 1)}" for noun, n in counts.items() if n]
        return ", ".join([*words, f"gives {shape}"] if shape else words)

    @property
    def lines(self) -> list[tuple[str, str]]:
        """What is written in it, by role: title, about, value and gradient, those of the last value."""
        found = [("title", self.title), ("about", self.about)]
        last = self.values[-1]
        found.append(("value", short(last.data)))
        if last.gradient is not None:
            found.append(("gradient", short(last.gradient)))
        return [(role, text) for role, text in found if text]


@dataclass
class Arrow:
    """Values go from one box to another, and perhaps their gradient comes back."""

    tail: Box
    head: Box
    back: bool


def fold(values: list[Value], depth: int | None = None) -> tuple[list[Box], list[Arrow]]:
    """The boxes and arrows of a picture in which modules are open so many levels deep.

    Without a depth as many levels are open as fit into LIMIT boxes.
    """
    if depth is None:
        deepest = max((len(value.path) for value in values), default=0)
        made = [grouped(values, level) for level in range(deepest, -1, -1)]
        boxes = next((boxes for boxes in made if len(boxes) <= LIMIT), made[-1])
    else:
        boxes = grouped(values, depth)
    if len(boxes) > MOST:
        aged = sorted(boxes, key=lambda box: max(value.step for value in box.values))
        early, late = aged[: 1 - MOST], set(aged[1 - MOST :])
        gone = Box([value for box in early for value in box.values])
        boxes = [gone, *(box for box in boxes if box in late)]
    return boxes, list(arrows(boxes))


def grouped(values: list[Value], depth: int) -> list[Box]:
    """A box for every value, but one for all within a call that lies deeper."""
    boxes: dict[object, Box] = {}
    for value in values:
        path = value.path
        folded = path[depth] if len(path) > depth else None
        around = path[depth - 1] if folded and depth else value.call if not folded else None
        box = boxes.setdefault(folded or value, Box([], around, folded))
        box.values.append(value)
    return list(boxes.values())


def arrows(boxes: list[Box]) -> Iterator[Arrow]:
    """One arrow between two boxes, however many values go there."""
    place = {value: box for box in boxes for value in box.values}
    found: dict[tuple[Box, Box], bool] = {}
    for head in boxes:
        for value in head.values:
            for source in value.sources:
                tail = place[source]
                if tail is not head:
                    back = source.gradient is not None and value.gradient is not None
                    found[tail, head] = found.get((tail, head), False) or back
    for (tail, head), back in found.items():
        yield Arrow(tail, head, back)
