"""The optimizers: PyTorch's names, keywords and defaults where it has them. A class only picks its rule.

An option with the name of a hyperparameter of the rule is that; every sweep can decay weights and maximize.
Other conventions, such as Keras's `rules.adam_epsilon_hat`, need no class: `Optimizer(params, rule)`.
"""

from collections.abc import Callable
from inspect import signature

from microgradx import rules
from microgradx.errors import ArgumentError
from microgradx.optim.base import Optimizer
from microgradx.optim.options import Option, Options, common, tuples
from microgradx.rules import Rule

Betas = tuple[float, float]


def optimizer(choose: Rule | Callable[..., Rule], name: str = "", **defaults: Option) -> type[Optimizer]:
    """Make an optimizer class, of a rule or (as a decorator) of a function from options to a rule.

    The options are the rule's hyperparameters, in PyTorch's tuples, or the function's; and the common ones,
    which the function takes as `**_`. `defaults` differ from the rule's own.

    >>> @mg.rule
    ... def halfway(p, g, /, t, lr=0.1):
    ...     \"\"\"Half a step.\"\"\"
    ...     return p - lr / 2 * g
    >>> optim.optimizer(halfway, "Halfway", lr=0.2)([mg.zeros(2, requires_grad=True)])
    Halfway(lr=0.2, weight_decay=0.0, decoupled_weight_decay=False, maximize=False)
    """
    doc, name = choose.__doc__, name or choose.__name__
    options: Options = {}
    if isinstance(choose, Rule):
        rule = choose
        choose = lambda **_: rule
        for key, default in rule.hyperparameters.items():
            option = tuples.get(key, key)
            options[option] = (*options.get(option, ()), default) if key in tuples else default
    else:
        parameters = signature(choose).parameters.values()
        options = {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}
    space = {"choose": staticmethod(choose), "options": options | common | options | defaults}
    return type(name, (Optimizer,), space | {"__doc__": doc, "__module__": "microgradx.optim"})


@optimizer
def SGD(
    lr: float = 1e-3, momentum: float = 0.0, dampening: float = 0.0, weight_decay: float = 0.0,
    nesterov: bool = False, **_: Option,
) -> Rule:  # fmt: skip
    """Gradient descent; momentum is of the summing form, v ← μv + g. `Momentum` is the averaging form.

    Robbins & Monro (1951); Sutskever et al. (2013): http://proceedings.mlr.press/v28/sutskever13.html
    """
    if not nesterov:
        return rules.sgd_momentum if momentum else rules.sgd
    if momentum == 0 or dampening != 0:
        given = f"momentum={momentum} and dampening={dampening}"
        raise ArgumentError(f"SGD: nesterov=True needs a momentum and no dampening, not {given}.")
    return rules.sgd_nesterov


@optimizer
def RMSprop(
    lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0.0,
    momentum: float = 0.0, centered: bool = False, **_: Option,
) -> Rule:  # fmt: skip
    """The gradient over the root of the mean of its recent squares.

    Tieleman & Hinton (2012), lecture 6e; centered and with momentum: Graves (2013), arXiv 1308.0850.
    """
    if centered:
        return rules.rmsprop_centered_momentum if momentum else rules.rmsprop_centered
    return rules.rmsprop_momentum if momentum else rules.rmsprop


@optimizer
def Adam(
    lr: float = 1e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0,
    amsgrad: bool = False, bias_correction: bool = True, **_: Option,
) -> Rule:  # fmt: skip
    """Follow the mean gradient, scaled per weight by its recent size. Kingma & Ba (2015), arXiv 1412.6980."""
    if amsgrad and not bias_correction:
        raise ArgumentError("Adam: there is no amsgrad=True with bias_correction=False; drop one of them.")
    if amsgrad:
        return rules.amsgrad
    return rules.adam if bias_correction else rules.adam_uncorrected


@optimizer
def AdamW(
    lr: float = 1e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 1e-2,
    amsgrad: bool = False, decoupled_weight_decay: bool = True, **_: Option,
) -> Rule:  # fmt: skip
    """Adam, with weights that shrink on their own instead of through the gradient.

    Loshchilov & Hutter (2019), arXiv 1711.05101.
    """
    if amsgrad:
        return rules.amsgrad
    return rules.adamw if decoupled_weight_decay else rules.adam


Momentum = optimizer(rules.momentum, "Momentum")
Adagrad = optimizer(rules.adagrad, "Adagrad")
Adadelta = optimizer(rules.adadelta, "Adadelta")
Adamax = optimizer(rules.adamax, "Adamax")
NAdam = optimizer(rules.nadam, "NAdam")
RAdam = optimizer(rules.radam, "RAdam")
Rprop = optimizer(rules.rprop, "Rprop")
ASGD = optimizer(rules.asgd, "ASGD")
Lion = optimizer(rules.lion, "Lion", decoupled_weight_decay=True)
AdaBelief = optimizer(rules.adabelief, "AdaBelief", decoupled_weight_decay=True)
Yogi = optimizer(rules.yogi, "Yogi")
Adan = optimizer(rules.adan, "Adan", decoupled_weight_decay=True)
