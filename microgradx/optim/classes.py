"""The optimizers: PyTorch's names, keywords and defaults where it has them. A class only picks its rule.

An option with the name of a hyperparameter of the rule is that; every sweep can decay weights and maximize.
Other conventions, such as Keras's `rules.adam_epsilon_hat`, need no class: `Optimizer(params, rule)`.
"""

from microgradx import rules
from microgradx.errors import ArgumentError
from microgradx.optim.base import optimizer


@optimizer
def SGD(lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, **_):
    """Gradient descent; momentum is of the summing form, v ← μv + g. `Momentum` is the averaging form."""
    if not nesterov:
        return rules.sgd_momentum if momentum else rules.sgd
    if momentum == 0 or dampening != 0:
        given = f"momentum={momentum} and dampening={dampening}"
        raise ArgumentError(f"SGD: nesterov=True needs a momentum and no dampening, not {given}.")
    return rules.sgd_nesterov


@optimizer
def RMSprop(lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False, **_):
    """The gradient over the root of the mean of its recent squares."""
    if centered:
        return rules.rmsprop_centered_momentum if momentum else rules.rmsprop_centered
    return rules.rmsprop_momentum if momentum else rules.rmsprop


@optimizer
def Adam(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False, bias_correction=True, **_):
    """Follow the mean gradient, scaled per weight by its recent size."""
    if amsgrad and not bias_correction:
        raise ArgumentError("Adam: there is no amsgrad=True with bias_correction=False; drop one of them.")
    if amsgrad:
        return rules.amsgrad
    return rules.adam if bias_correction else rules.adam_uncorrected


@optimizer
def AdamW(
    lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False, decoupled_weight_decay=True, **_
):
    """Adam, with weights that shrink on their own instead of through the gradient."""
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
