"""Optimizer updates, as arithmetic on the numbers of one parameter, from simple to subtle.

The signature is the specification: `p, g` are a parameter and its gradient; what stands between `g` and `/`
is the state, which starts at zero and is returned after p; then `t`, the step number, which starts at 1; a
rule that has no use for it may leave it out. What follows t without a default is a number carried from step
to step (it starts at zero, too, and is returned last); what has a default is a hyperparameter. A body is a
docstring, assignments and one return. What depends on neither p, g nor state is computed once per step, in
float64; the rest is in the parameters' own dtype.

Weight decay and maximising are not part of a rule, unless its paper makes them so: every sweep has them.
"""

from microgradx.rules.definition import Rule, rule, rules
from microgradx.rules.descent import (
    adadelta, adagrad, heavy_ball, lion, momentum, rmsprop, rmsprop_centered, rmsprop_centered_momentum,
    rmsprop_eps_inside, rmsprop_momentum, rprop, sgd, sgd_momentum, sgd_nesterov,
)  # fmt: skip
from microgradx.rules.adam_family import (
    adabelief, adam, adam_epsilon_hat, adam_uncorrected, adamax, adamw, adan, amsgrad, amsgrad_corrected,
    nadam, radam, yogi,
)  # fmt: skip
from microgradx.rules.parts import adafactor, asgd, lamb, lars, lbfgs, muon
