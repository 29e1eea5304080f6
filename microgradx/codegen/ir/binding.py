"""Memory outside of a program that it reads, or leaves values in: whose it is, and how it is found again."""

from collections.abc import Callable
from dataclasses import dataclass

from microgradx.eager.devices import Array
from microgradx.eager.tensor import Tensor
from microgradx.optim.flat import Part


@dataclass(eq=False, repr=False)
class Binding:
    """Memory outside of a program: whose it is, and the array that was there at the capture."""

    owner: object
    then: Array

    def array(self) -> Array:
        """The array as it is now."""
        return self.then

    def __repr__(self) -> str:
        return type(self).__name__.lower()


class Constant(Binding):
    """An array that nobody owns: as it was at the capture."""

    owner: None


class Data(Binding):
    """The data of a Tensor."""

    owner: Tensor

    def array(self) -> Array:
        """The array that the Tensor has now."""
        return self.owner._data


class Before(Binding):
    """The data that a Tensor has before the step gives it another array."""

    owner: Tensor


class Grad(Binding):
    """The gradient that a leaf has when the step begins."""

    owner: Tensor

    def array(self) -> Array:
        """In an optimizer's memory, or wherever it is now."""
        home, grad = self.owner._home, self.owner._grad
        return home if home is not None else self.then if grad is None else grad._data


class New(Binding):
    """The gradient that a leaf gets."""

    owner: Tensor

    def array(self) -> Array:
        """In an optimizer's memory, or the step's own."""
        return self.then if self.owner._home is None else self.owner._home


GRADIENTS = Grad, New


class Home(Binding):
    """The place of a parameter's values in an optimizer's flat array."""

    owner: Part

    def array(self) -> Array:
        """The view of it."""
        return self.owner.value

    def __repr__(self) -> str:
        return "value"


@dataclass(eq=False, repr=False)
class State(Binding):
    """The place of a state of a parameter's, such as Adam's m."""

    owner: Part
    name: str

    def array(self) -> Array:
        """The view of it."""
        return self.owner.state[self.name]

    def __repr__(self) -> str:
        return f"state {self.name}"


@dataclass(eq=False, repr=False)
class Number(Binding):
    """A Python number, looked up before every step: in the column of an event."""

    owner: Callable[[], float]
    event: int
