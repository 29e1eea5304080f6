"""What an update rule is: its signature says what a parameter, its state and its options are."""

from collections.abc import Callable

from microgradx.errors import KernelError
from microgradx.scalars import Named, Operand, check_definition, signature_of

rules: dict[str, "Rule"] = {}
"""Every rule by its name: tests, benchmarks and the list of optimizers are made from this table."""


class Rule(Named):
    """An optimizer's update of one number: called with numbers (or NumPy arrays) it computes them."""

    def __init__(self, function: Callable[..., Operand]):
        self.function = function
        self.name = self.__name__ = function.__name__
        self.__module__ = function.__module__ or "__main__"  # exec knows no module
        self.__doc__, self.__signature__ = function.__doc__, signature_of(function)
        parameters = list(self.__signature__.parameters.values())
        first = [q.name for q in parameters if q.kind is q.POSITIONAL_ONLY]
        rest = parameters[len(first) :]
        self.timed = bool(rest) and str(rest[0]) == "t"
        needed = [q.name for q in rest[self.timed :] if q.default is q.empty]
        code = function.__code__
        if first[:2] != ["p", "g"] or (
            not self.timed and (needed or "t" in code.co_names + code.co_freevars)
        ):
            order = "p, g and the state, then `/`, then t, carried numbers, and hyperparameters with defaults"
            raise KernelError(
                f"rule {self.name}{self.__signature__}: its parameters must be {order}; "
                "t may be left out where nothing is carried and t is not in it."
            )
        self.state, self.carried = tuple(first[2:]), tuple(needed)
        self.hyperparameters = {q.name: q.default for q in rest if q.default is not q.empty}

    def __repr__(self) -> str:
        return f"<rule {self.name}{self.__signature__}>"

    def __call__(self, *args: Operand, **kwargs: Operand) -> Operand:
        """The new p, then the new state, then the carried numbers; t may be given to every rule."""
        if not self.timed:
            kwargs.pop("t", None)
            args = args[: 2 + len(self.state)]
        return self.function(*args, **kwargs)


def rule(function: Callable[..., Operand]) -> Rule:
    """Declare an optimizer's update: see the beginning of this package for what a signature says.

    Numbers that it finds outside of itself, globals or a closure's, are those of the moment of every step;
    another value means another kernel, so what changes often should be a hyperparameter. An optimizer keeps
    the rule that it was given: declared anew, as in a notebook's cell run again, it is for new optimizers.

    KernelError where a signature is no rule's, ArgumentError for what is no definition.

    >>> @mg.rule
    ... def signed(p, g, /, t, lr=0.1):
    ...     return p - lr * mg.sign(g)
    >>> signed(1.0, 5.0, t=1)
    0.9
    >>> w = mg.ones(2, requires_grad=True)
    >>> w.sum().backward()
    >>> optim.Optimizer([w], signed).step()
    >>> w
    tensor([0.9, 0.9], requires_grad=True)
    """
    if isinstance(function, Rule):
        return function
    check_definition("rule", function)
    rules[function.__name__] = Rule(function)
    return rules[function.__name__]
