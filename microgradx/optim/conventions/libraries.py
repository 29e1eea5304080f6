"""What other libraries, and the papers, call our rules and how theirs differ: one `Form` each.

Read from their documentation and code: torch 2.13, Keras 3.15, scikit-learn 1.9, optax 0.2.8, MLX 0.32. A
form names the rule of ours that takes exactly its steps; `conversions` lead from one of our rules to another.
"""

from dataclasses import dataclass, field
from typing import Any

from microgradx import rules
from microgradx.optim.conventions import conversions
from microgradx.optim.conventions.conversions import Change, Options
from microgradx.rules import Rule

remarks = {"sklearn": "The penalty alpha, 1e-4 by default, adds alpha · p / rows to the gradient of weights."}
"""What holds for all optimizers of a library."""

REQUIRED = None
"""The default of an option that must be given."""

libraries = {
    "paper": "the paper", "torch": "PyTorch", "keras": "Keras", "sklearn": "scikit-learn",
    "optax": "optax", "mlx": "MLX", "microgradx": "microgradx",
}  # fmt: skip
"""The conventions by name."""

L2 = "L2 weight_decay"
"""Weight decay that is added to the gradient; our name for the other kind is weight_decay."""

shared: dict[str, dict[str, Any]] = {
    "paper": {"α": "lr", "β₁": "beta1", "β₂": "beta2", "ε": "eps", "λ": "weight_decay"},
    "torch": {"betas": ("beta1", "beta2"), "weight_decay": L2},
    "keras": {"learning_rate": "lr", "beta_1": "beta1", "beta_2": "beta2", "epsilon": "eps"},
    "sklearn": {"learning_rate_init": "lr", "beta_1": "beta1", "beta_2": "beta2", "epsilon": "eps"},
    "optax": {"learning_rate": "lr", "b1": "beta1", "b2": "beta2"},
    "mlx": {"learning_rate": "lr", "betas": ("beta1", "beta2")},
    "microgradx": {},
}
"""Their names of our hyperparameters, where they differ; a tuple of theirs holds several of ours."""


@dataclass(frozen=True)
class Form:
    """An optimizer as one library, or the paper, has it.

    `rule` takes the same steps, with `constant` hyperparameters that theirs does not have. `enter` and
    `leave` go from theirs, by our names, to the rule's and back, where more than names differs. `decoupled`:
    weights shrink by lr · weight_decay besides.
    """

    call: str
    rule: Rule
    defaults: Options  # by their names, in their order
    note: str = ""  # how it differs from the others
    names: dict[str, str] = field(default_factory=dict)  # theirs to ours, on top of the library's shared ones
    fixed: Options = field(default_factory=dict)  # what must be given to get this form
    formula: str = ""  # where it is not written as the rule's
    constant: Options = field(default_factory=dict)
    enter: Change = lambda options, t: options
    leave: Change = lambda options, t: options
    decoupled: bool = False


LR_INSIDE = (
    "lr is inside the velocity. While lr stays the same, the steps are those of the form with lr outside; "
    "after a change of lr, the velocity so far keeps its length here and is rescaled there."
)
RAW_ROOT = "ε stands beside the uncorrected root: at step t it acts like ε / √(1-β₂ᵗ) beside √v̂."
NO_CORRECTION = "Without bias_correction=True there is none: early steps are up to 3.2 times as long."
IN_ROOT = "ε stands inside the root, where it acts like √ε outside while v is small."
IN_SUM = "ε stands inside the root, so that it only adds to what the sum starts from."

DECAY = {"weight_decay": 0.0}
MLP = "sklearn.neural_network.MLPClassifier"
KERAS_SGD = {"learning_rate": 0.01, "momentum": 0.9}
SKLEARN_SGD = {"learning_rate_init": 1e-3, "momentum": 0.9}
SUM = {"learning_rate": REQUIRED, "momentum": 0.9}
NESTEROV = {"nesterov": True}
KERAS_ADAM = {"learning_rate": 1e-3, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}
OPTAX_ADAM = {"learning_rate": REQUIRED, "b1": 0.9, "b2": 0.999, "eps": 1e-8}
MLX_ADAM = {"learning_rate": REQUIRED, "betas": (0.9, 0.999), "eps": 1e-8}
AHEAD = "v ← μv - lr · g     p ← p + μv - lr · g"
ROOT_OF_SUM = "s ← s + g²     p ← p - lr · g / √(s + ε)"
MOMENTS = "m, v as in Adam     v⁺ ← max(v⁺, v)     "

families: dict[str, tuple[str, ...]] = {
    "sgd": ("sgd",),
    "momentum": ("momentum", "sgd_momentum", "heavy_ball"),
    "nesterov": ("sgd_nesterov",),
    "rmsprop": ("rmsprop", "rmsprop_eps_inside"),
    "adagrad": ("adagrad",),
    "adadelta": ("adadelta",),
    "adam": ("adam", "adam_epsilon_hat", "adam_uncorrected"),
    "adamw": ("adamw",),
    "amsgrad": ("amsgrad", "amsgrad_corrected"),
    "lion": ("lion",),
}
"""Which of our rules are forms of one optimizer."""

forms: dict[str, dict[str, Form]] = {
    "sgd": {
        "paper": Form("stochastic approximation", rules.sgd, {"α": REQUIRED}),
        "torch": Form("torch.optim.SGD", rules.sgd, {"lr": 1e-3, **DECAY}),
        "keras": Form("keras.optimizers.SGD", rules.sgd, {"learning_rate": 0.01}),
        "sklearn": Form(MLP, rules.sgd, {"learning_rate_init": 1e-3}, fixed={"solver": "sgd", "momentum": 0}),
        "optax": Form("optax.sgd", rules.sgd, {"learning_rate": REQUIRED}),
        "mlx": Form("mlx.optimizers.SGD", rules.sgd, {"learning_rate": REQUIRED}),
    },
    "momentum": {
        "paper": Form(
            "the heavy ball", rules.heavy_ball, {"α": REQUIRED, "β": REQUIRED}, LR_INSIDE, {"β": "momentum"},
            formula="p' ← p - αg + β (p - its value a step before)",
        ),
        "torch": Form(
            "torch.optim.SGD", rules.sgd_momentum, {"lr": 1e-3, "momentum": 0.9, "dampening": 0.0, **DECAY},
            "The velocity is a decaying sum, 1 / (1-μ) times as long as the mean; lr stands outside.",
        ),
        "keras": Form("keras.optimizers.SGD", rules.heavy_ball, KERAS_SGD, LR_INSIDE),
        "sklearn": Form(
            MLP, rules.heavy_ball, SKLEARN_SGD, LR_INSIDE,
            fixed={"solver": "sgd", "nesterovs_momentum": False},
        ),
        "optax": Form("optax.sgd", rules.sgd_momentum, SUM, "As PyTorch's, without dampening."),
        "mlx": Form(
            "mlx.optimizers.SGD", rules.sgd_momentum, SUM,
            "As PyTorch's; its dampening, left out here, dampens the first step, too.",
        ),
    },
    "nesterov": {
        "paper": Form(
            "Nesterov's accelerated gradient", rules.sgd_nesterov, {"α": REQUIRED, "μ": REQUIRED},
            "The gradient is taken ahead, at θ + μv; the other forms call that point p. " + LR_INSIDE,
            {"μ": "momentum"}, formula="v ← μv - α ∇f(θ + μv)     θ ← θ + v",
        ),
        "torch": Form(
            "torch.optim.SGD", rules.sgd_nesterov, {"lr": 1e-3, "momentum": 0.9, **DECAY}, fixed=NESTEROV
        ),
        "keras": Form(
            "keras.optimizers.SGD", rules.sgd_nesterov, KERAS_SGD, LR_INSIDE, fixed=NESTEROV, formula=AHEAD
        ),
        "sklearn": Form(
            MLP, rules.sgd_nesterov, SKLEARN_SGD, LR_INSIDE, fixed={"solver": "sgd"}, formula=AHEAD
        ),
        "optax": Form("optax.sgd", rules.sgd_nesterov, SUM, fixed=NESTEROV),
        "mlx": Form("mlx.optimizers.SGD", rules.sgd_nesterov, SUM, fixed=NESTEROV),
    },
    "rmsprop": {
        "paper": Form(
            "lecture 6e", rules.rmsprop, {"α": REQUIRED}, "There is no ε, and β is 0.9.",
            formula="v ← 0.9 v + 0.1 g²     p ← p - α · g / √v",
            constant={"alpha": 0.9, "eps": 0.0},
        ),
        "torch": Form(
            "torch.optim.RMSprop", rules.rmsprop, {"lr": 1e-2, "alpha": 0.99, "eps": 1e-8, **DECAY}
        ),
        "keras": Form(
            "keras.optimizers.RMSprop", rules.rmsprop_eps_inside,
            {"learning_rate": 1e-3, "rho": 0.9, "epsilon": 1e-7}, IN_ROOT, {"rho": "alpha"},
        ),
        "optax": Form(
            "optax.rmsprop", rules.rmsprop_eps_inside, {"learning_rate": REQUIRED, "decay": 0.9, "eps": 1e-8},
            IN_ROOT + " With eps_in_sqrt=False it stands outside.", {"decay": "alpha"},
        ),
        "mlx": Form(
            "mlx.optimizers.RMSprop", rules.rmsprop, {"learning_rate": REQUIRED, "alpha": 0.99, "eps": 1e-8}
        ),
    },
    "adagrad": {
        "paper": Form(
            "the diagonal form", rules.adagrad, {"η": REQUIRED, "δ": REQUIRED}, "", {"η": "lr", "δ": "eps"},
            formula="s ← s + g²     p ← p - η · g / (δ + √s)"
        ),
        "torch": Form(
            "torch.optim.Adagrad", rules.adagrad,
            {"lr": 1e-2, "lr_decay": 0.0, "initial_accumulator_value": 0.0, "eps": 1e-10, **DECAY},
        ),
        "keras": Form(
            "keras.optimizers.Adagrad", rules.adagrad,
            {"learning_rate": 1e-3, "initial_accumulator_value": 0.1, "epsilon": 1e-7},
            IN_SUM, formula=ROOT_OF_SUM, enter=conversions.joined, leave=conversions.parted,
        ),
        "optax": Form(
            "optax.adagrad", rules.adagrad,
            {"learning_rate": REQUIRED, "initial_accumulator_value": 0.1, "eps": 1e-7},
            IN_SUM, formula=ROOT_OF_SUM, enter=conversions.joined, leave=conversions.parted,
        ),
        "mlx": Form(
            "mlx.optimizers.Adagrad", rules.adagrad, {"learning_rate": REQUIRED, "eps": 1e-8},
            "The sum starts at zero.",
        ),
    },
    "adadelta": {
        "paper": Form(
            "Algorithm 1", rules.adadelta, {"ρ": 0.95, "ε": 1e-6}, "There is no learning rate: lr is 1.",
            {"ρ": "rho"},
        ),
        "torch": Form(
            "torch.optim.Adadelta", rules.adadelta, {"lr": 1.0, "rho": 0.9, "eps": 1e-6, **DECAY}
        ),
        "keras": Form(
            "keras.optimizers.Adadelta", rules.adadelta,
            {"learning_rate": 1e-3, "rho": 0.95, "epsilon": 1e-7},
            "Only the defaults differ: with that learning rate it moves a thousandth of the paper's way.",
        ),
        "optax": Form("optax.adadelta", rules.adadelta, {"learning_rate": REQUIRED, "rho": 0.9, "eps": 1e-6}),
        "mlx": Form(
            "mlx.optimizers.AdaDelta", rules.adadelta, {"learning_rate": REQUIRED, "rho": 0.9, "eps": 1e-6}
        ),
    },
    "adam": {
        "paper": Form("Algorithm 1", rules.adam, {"α": 1e-3, "β₁": 0.9, "β₂": 0.999, "ε": 1e-8}),
        "torch": Form(
            "torch.optim.Adam", rules.adam, {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, **DECAY}
        ),
        "keras": Form("keras.optimizers.Adam", rules.adam_epsilon_hat, KERAS_ADAM, RAW_ROOT),
        "sklearn": Form(
            MLP, rules.adam_epsilon_hat,
            {"learning_rate_init": 1e-3, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}, RAW_ROOT,
            fixed={"solver": "adam"},
        ),
        "optax": Form("optax.adam", rules.adam, OPTAX_ADAM),
        "mlx": Form("mlx.optimizers.Adam", rules.adam_uncorrected, MLX_ADAM, NO_CORRECTION),
    },
    "adamw": {
        "paper": Form(
            "Algorithm 2", rules.adamw, {"α": 1e-3, "β₁": 0.9, "β₂": 0.999, "ε": 1e-8, "λ": REQUIRED},
            "λ is not multiplied by α, only by the schedule: it is lr times the libraries' weight_decay.",
            formula="p ← p - η (α · m̂ / (√v̂ + ε) + λp), η from a schedule, 1 without",
            enter=lambda o, t: o | {"weight_decay": o["weight_decay"] / o["lr"]},
            leave=lambda o, t: o | {"weight_decay": o["weight_decay"] * o["lr"]},
        ),
        "torch": Form(
            "torch.optim.AdamW", rules.adamw,
            {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2},
            names={"weight_decay": "weight_decay"},
        ),
        "keras": Form(
            "keras.optimizers.AdamW", rules.adam_epsilon_hat, KERAS_ADAM | {"weight_decay": 4e-3}, RAW_ROOT,
            decoupled=True,
        ),
        "optax": Form(
            "optax.adamw", rules.adamw, OPTAX_ADAM | {"weight_decay": 1e-4},
            "Weights shrink in the same subtraction, not before it: only rounding differs.",
        ),
        "mlx": Form(
            "mlx.optimizers.AdamW", rules.adam_uncorrected, MLX_ADAM | {"weight_decay": 1e-2}, NO_CORRECTION,
            decoupled=True,
        ),
    },
    "amsgrad": {
        "paper": Form(
            "Algorithm 2", rules.amsgrad, {"α": REQUIRED, "β₁": 0.9, "β₂": 0.999},
            "There is neither bias correction nor ε.", formula=MOMENTS + "p ← p - α · m / √v⁺",
            constant={"eps": 0.0}, enter=conversions.from_uncorrected, leave=conversions.to_uncorrected,
        ),
        "torch": Form(
            "torch.optim.Adam", rules.amsgrad, {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, **DECAY},
            "The maximum is of raw v.", fixed={"amsgrad": True},
        ),
        "keras": Form(
            "keras.optimizers.Adam", rules.amsgrad, KERAS_ADAM, "The maximum is of raw v. " + RAW_ROOT,
            fixed={"amsgrad": True}, formula=MOMENTS + "p ← p - lr √(1-β₂ᵗ) / (1-β₁ᵗ) · m / (√v⁺ + ε)",
            enter=conversions.from_raw_root, leave=conversions.to_raw_root,
        ),
        "optax": Form(
            "optax.amsgrad", rules.amsgrad_corrected, OPTAX_ADAM,
            "The maximum is of bias-corrected v, in which the early, uncertain ones count more.",
        ),
    },
    "lion": {
        "paper": Form(
            "Algorithm 2", rules.lion, {"η": REQUIRED, "β₁": 0.9, "β₂": 0.99, "λ": 0.0}, "", {"η": "lr"},
            decoupled=True,
        ),
        "keras": Form(
            "keras.optimizers.Lion", rules.lion, {"learning_rate": 1e-3, "beta_1": 0.9, "beta_2": 0.99}
        ),
        "optax": Form(
            "optax.lion", rules.lion,
            {"learning_rate": REQUIRED, "b1": 0.9, "b2": 0.99, "weight_decay": 1e-3},
            "Weights shrink unless weight_decay=0.", decoupled=True,
        ),
        "mlx": Form(
            "mlx.optimizers.Lion", rules.lion,
            {"learning_rate": REQUIRED, "betas": (0.9, 0.99), "weight_decay": 0.0}, decoupled=True,
        ),
    },
}  # fmt: skip
"""The forms of each family, by library."""
