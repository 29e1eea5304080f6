"""What a definition reads from outside of itself: what was made of it is stale once that has changed.

A number that a rule or an elementwise function finds among the globals of its file, or in a closure, becomes
a number of the loop. `FreeVariables` remembers what was found, and looks again.
"""

import math
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from types import CellType, CodeType, ModuleType

from microgradx.kernels.keys import frozen
from microgradx.scalars import Elementwise


class Missing:
    """No value."""


MISSING = Missing()

Look = Callable[[str, object], object]
"""What stands behind a name, or else the second."""


def look_into(cell: CellType, _: str, default: object) -> object:
    """What a closure's variable holds."""
    try:
        return cell.cell_contents
    except ValueError:
        return default


def nested(code: CodeType) -> Iterator[CodeType]:
    """The functions written inside a function."""
    for x in code.co_consts:
        if isinstance(x, CodeType):
            yield x
            yield from nested(x)


def spelled(value: object) -> Hashable:
    """A number as a key; of others, which it is."""
    return frozen(value) if isinstance(value, int | float) else id(value)


def ours(module: str) -> bool:
    """Whether a module is the library's own."""
    return module.partition(".")[0] == "microgradx"


class FreeVariables:
    """What stands behind the names of a definition that are not its own, and of the elementwise functions
    that it calls; the library's own definitions do not change. Equal where the same was found: a key.
    """

    def __init__(self, function: Callable[..., object]):
        self.found: list[tuple[Look, str, object]] = []  # how and by which name, and what
        self.names: dict[str, object] = {}  # of the definition itself
        self.seen: set[object] = set()
        self.follow(function)
        self.names = {name: value for name, value in self.names.items() if value is not MISSING}
        self.key = tuple((name, spelled(value)) for _, name, value in self.found)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FreeVariables) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def follow(self, function: Callable[..., object]) -> None:
        """Look up the names in a definition."""
        code, space = getattr(function, "__code__", None), getattr(function, "__globals__", {})
        if code is None or function in self.seen or ours(space.get("__name__", "")):
            return
        first = not self.seen
        self.seen.add(function)
        names = {name: None for one in (code, *nested(code)) for name in one.co_names}
        places: list[tuple[Look, str]] = [(space.get, name) for name in names]
        cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
        places += [(partial(look_into, cell), name) for name, cell in cells]
        if first:
            self.names = {name: get(name, MISSING) for get, name in places}
        for get, name in places:
            value = self.note(get, name)
            if isinstance(value, ModuleType) and value is not math and not ours(value.__name__):
                for member in sorted(names.keys() & vars(value).keys()):
                    self.note(vars(value).get, member)

    def note(self, get: Look, name: str) -> object:
        """Remember what stands behind a name, and go on into an elementwise function."""
        value = get(name, MISSING)
        self.found.append((get, name, value))
        if isinstance(value, Elementwise):
            self.follow(value.function)
        return value

    def holds(self) -> bool:
        """Whether everything is as it was."""
        for get, name, value in self.found:
            now = get(name, MISSING)
            if now is not value and spelled(now) != spelled(value):
                return False
        return True

    def failing(self) -> str | None:
        """What is not as it was, in words."""
        for get, name, value in self.found:
            now = get(name, MISSING)
            if spelled(now) != spelled(value):
                then, now = ("nothing" if x is MISSING else repr(x) for x in (value, now))
                return f"{name}: {then} then, {now} now"
        return None
