"""Steps that are methods, one for each object, and what of a step goes into a copy or a pickle."""

import sys
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from microgradx.eager.mode import mode


class Named(Protocol):
    """A step, as far as it counts here."""

    name: str


S = TypeVar("S", bound=Named)


class Kept(Generic[S]):
    """A step that an object keeps for one of its methods; copies of the object make their own."""

    def __init__(self, step: S | None = None, origin: S | None = None, instance: object = None):
        self.step, self.origin, self.instance = step, origin, instance

    def __reduce__(self) -> tuple[type["Kept[S]"], tuple[()]]:
        return Kept, ()


def step_of(origin: S, instance: object, make: Callable[[], S], others: dict[int | str, object]) -> S:
    """The step that an object has for a method, `origin` in its class: made when it is first wanted.

    It stays in the object, to live as long as that does; in `others` for an object of __slots__ alone.
    What a shallow copy finds there is another object's, and an overridden or replaced method's another's.
    """
    own = getattr(instance, "__dict__", None)
    space, key = (
        (own, f"_jit_{origin.name}_{id(origin)}") if isinstance(own, dict) else (others, id(instance))
    )
    there = space.get(key)
    if isinstance(there, Kept) and there.origin is origin and there.instance is instance and there.step:
        return there.step
    step = make()
    if mode.recorder is None:  # a step that is being recorded leaves nothing behind
        space[key] = Kept(step, origin, instance)
    return step


def global_name(step: object) -> str | None:
    """The name under which a module holds a step, that of its function: it was made by a decorator."""
    name, found = vars(step).get("__qualname__", ""), sys.modules.get(vars(step).get("__module__", ""))
    for part in name.split("."):
        found = getattr(found, part, None)
    return name if found is step else None
