"""Memory outside of a program that it reads, or leaves values in."""

from dataclasses import dataclass
from typing import Any


@dataclass(eq=False)
class Binding:
    """Memory outside of a program: what `kind` of `owner`, and the array that was there at the capture."""

    owner: Any
    kind: str  # one of KINDS, or the name of a part's state
    then: Any
    event: int = -1  # that finds a number

    def array(self) -> Any:
        """The array as it is now."""
        match self.kind:
            case "data":
                return self.owner._data
            case "grad":
                home, grad = self.owner._home, self.owner._grad
                return home if home is not None else self.then if grad is None else grad._data
            case "new":
                return self.then if self.owner._home is None else self.owner._home
            case "value":
                return self.owner.value
            case "constant" | "number" | "before":
                return self.then
        return self.owner.state[self.kind]

    def __repr__(self) -> str:
        return self.kind if self.kind in KINDS else f"state {self.kind}"


GRADIENTS = "grad", "new"
KINDS = "data", "grad", "new", "before", "value", "constant", "number"
"""Of a Tensor its data, the gradient that it has or gets, its data before the step; of a part its value."""
