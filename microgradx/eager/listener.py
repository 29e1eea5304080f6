"""Somebody who listens: what Tensors, the tape and optimizers tell while they work.

While a Listener is `mode.recorder`, everything that is done to Tensors is reported to it as it happens.
One that only wants to know overrides what it is told; one that wants to run the same again, with other
numbers, also answers the questions below: which values may differ then, and what stands for an array that
is not at hand.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np

from microgradx.primitives import Operand, Primitive

T = TypeVar("T")  # Tensor, which is defined above
Above = Any  # nodes, flat buffers, optimizers and schedules, too: who overrides a method says which it is


class Listener(Generic[T]):
    """Hears everything and does nothing.

    >>> class Names(Listener):
    ...     def record(self, op, args, params, out):
    ...         print(op.name, out.shape)
    >>> from microgradx.eager.mode import mode
    >>> x = mg.ones(2, 3)
    >>> with mode.having(recorder=Names()):
    ...     y = (x * 2).sum(0)
    multiply (2, 3)
    sum (3,)
    """

    device = "cpu"
    """Where the Tensors are that it hears of: set where one meets another device."""

    # Questions

    def traced(self, tensor: T) -> bool:
        """Whether what a Tensor holds may be other numbers the next time: then nobody may rely on them."""
        return False

    def stand_in(self, array: Operand) -> np.ndarray:
        """An array on the host to compute with, in the place of one on another device."""
        return np.zeros(array.shape, array.dtype)

    def number(self, look: Callable[[], float], dtype: np.dtype) -> float | T:
        """What an optimizer computes with in the place of a number, such as a learning rate."""
        return look()

    # Of Tensors

    def created(self, tensor: T) -> None:
        """A Tensor has been made of what a user gave."""

    def look(self, tensor: T, what: str) -> None:
        """Somebody outside wants to see the numbers in a Tensor; `what` he does, in words."""

    def shared(self, tensor: T) -> None:
        """Another Tensor is about to hold the same array."""

    def remember(self, array: np.ndarray) -> None:
        """An array of the library's own, which is the same every time."""

    def drawn(self, tensor: T, method: str, options: dict[str, object]) -> None:
        """A Tensor holds fresh random numbers, of a method of the generator."""

    def record(self, op: Primitive, args: tuple[Operand, ...], params: dict[str, object], out: T) -> None:
        """An operation has run."""

    def back(self, node: Above, g: Operand) -> None:
        """The gradient g of what a node made is complete: its rule runs next. None: the walk has ended."""

    def gradient(self, leaf: T, reset: bool = False) -> None:
        """Somebody reads a leaf's gradient, or (reset) is about to replace it unread."""

    # Of changes in place

    def keep(self, array: Operand) -> bool:
        """An array is about to change in place; whether its new numbers count."""
        return True

    def overwrite(self, tensor: T, new: T) -> None:
        """A Tensor's own array has been given the values of another."""

    def alias(self, array: Operand, tensor: T) -> None:
        """An array has been given the values of a Tensor."""

    def replace(self, tensor: T, new: T) -> None:
        """A Tensor is to hold another array from now on."""

    # Of optimizers

    def gather(self, flat: Above) -> None:
        """Values and gradients are about to come home to a flat buffer."""

    def step(self, optimizer: Above, flat: Above, run: list[Above]) -> None:
        """An optimizer is about to update some neighbours in a flat buffer."""

    def sweep(self, flat: Above, run: list[Above], more: dict[str, object]) -> bool:
        """A rule would run over some neighbours in a flat buffer; True: it need not."""
        return False

    def state(self, owner: Above, load: bool = False) -> None:
        """Somebody reads what an optimizer keeps, or is about to load the state of whatever has one."""

    def schedule(self, schedule: Above) -> None:
        """A schedule is about to go on."""
