"""What other libraries, and the papers, call our rules and how theirs differ: a table, one `Form` each.

Read from their documentation and code: torch 2.13, Keras 3.15, scikit-learn 1.9, optax 0.2.8, MLX 0.32. A
form names the rule of ours that takes exactly its steps; `conversions` lead from one of our rules to another.
"""

import re
from ast import literal_eval
from dataclasses import dataclass, field

from microgradx import rules
from microgradx.optim.conventions import conversions as to
from microgradx.optim.conventions.conversions import Change
from microgradx.optim.options import Options
from microgradx.rules import Rule

remarks = {"sklearn": "The penalty alpha, 1e-4 by default, adds alpha · p / rows to the gradient of weights."}
"""What holds for all optimizers of a library."""

REQUIRED = None
"""The default of an option that must be given."""

L2 = "L2 weight_decay"
"""Weight decay that is added to the gradient; our name for the other kind is weight_decay."""

libraries = {
    "paper": "the paper", "torch": "PyTorch", "keras": "Keras", "sklearn": "scikit-learn",
    "optax": "optax", "mlx": "MLX", "microgradx": "microgradx",
}  # fmt: skip
"""The conventions by name."""

homes = {
    "torch": "torch.optim.", "keras": "keras.optimizers.", "sklearn": "sklearn.neural_network.",
    "optax": "optax.", "mlx": "mlx.optimizers.",
}  # fmt: skip
"""Where a library has its optimizers."""

Names = dict[str, str | tuple[str, ...]]

shared: dict[str, Names] = {
    "paper": {"α": "lr", "β₁": "beta1", "β₂": "beta2", "ε": "eps", "λ": "weight_decay"},
    "torch": {"betas": ("beta1", "beta2"), "weight_decay": L2},
    "keras": {"learning_rate": "lr", "beta_1": "beta1", "beta_2": "beta2", "epsilon": "eps"},
    "sklearn": {"learning_rate_init": "lr", "beta_1": "beta1", "beta_2": "beta2", "epsilon": "eps"},
    "optax": {"learning_rate": "lr", "b1": "beta1", "b2": "beta2"},
    "mlx": {"learning_rate": "lr", "betas": ("beta1", "beta2")},
}
"""Their names of our hyperparameters, where they differ; a tuple of theirs holds several of ours."""


@dataclass(frozen=True)
class Form:
    """An optimizer as one library, or the paper, has it.

    `rule` takes the same steps, with `constant` hyperparameters that theirs does not have. `change` leads
    from the rule's hyperparameters to theirs, by our names, where more than names differs. `decoupled`:
    weights shrink by lr · weight_decay besides.
    """

    library: str
    call: str
    rule: Rule
    defaults: Options  # by their names, in their order
    names: Names  # theirs, and ours where they differ
    fixed: Options = field(default_factory=dict)  # what must be given to get this form
    note: str = ""  # how it differs from the others
    formula: str = ""  # where it is not written as the rule's
    constant: Options = field(default_factory=dict)
    change: Change = to.same
    decoupled: bool = False

    def ours(self, name: str) -> tuple[str, ...]:
        """Our names of one of its options."""
        found = self.names.get(name, name)
        return found if isinstance(found, tuple) else (found,)


OPTION = re.compile(r"([^\s,=]+)(?:=(\(.*?\)|[^,]+))?")
"""A name, and what follows `=`: brackets hold several numbers."""


def form(library: str, call: str, rule: Rule, note: str = "", *, formula: str = "",
         constant: Options | None = None, change: Change = to.same, decoupled: bool = False, **names: str,
) -> Form:  # fmt: skip
    """A row of the table: `Call(required, option=default, *, fixed=value)`, as their documentation has it."""
    called, _, inside = call.removesuffix(")").partition("(")
    options, fixed = (
        {name: literal_eval(value) if value else REQUIRED for name, value in OPTION.findall(part)}
        for part in inside.partition("*, ")[::2]
    )
    called, known = homes.get(library, "") + called, shared[library] | names
    return Form(
        library, called, rule, options, known, fixed, note, formula, constant or {}, change, decoupled
    )


LR_INSIDE = (
    "lr is inside the velocity. While lr stays the same, the steps are those of the form with lr outside; "
    "after a change of lr, the velocity so far keeps its length here and is rescaled there."
)
RAW_ROOT = "ε stands beside the uncorrected root: at step t it acts like ε / √(1-β₂ᵗ) beside √v̂."
NO_CORRECTION = "Without bias_correction=True there is none: early steps are up to 3.2 times as long."
IN_ROOT = "ε stands inside the root, where it acts like √ε outside while v is small."
IN_SUM = "ε stands inside the root, so that it only adds to what the sum starts from."
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

table: dict[str, list[Form]] = {
    "sgd": [
        form("paper", "stochastic approximation(α)", rules.sgd),
        form("torch", "SGD(lr=1e-3, weight_decay=0.0)", rules.sgd),
        form("keras", "SGD(learning_rate=0.01)", rules.sgd),
        form("sklearn", "MLPClassifier(learning_rate_init=1e-3, *, solver='sgd', momentum=0)", rules.sgd),
        form("optax", "sgd(learning_rate)", rules.sgd),
        form("mlx", "SGD(learning_rate)", rules.sgd),
    ],
    "momentum": [
        form("paper", "the heavy ball(α, β)", rules.heavy_ball, LR_INSIDE,
             formula="p' ← p - αg + β (p - its value a step before)", β="momentum"),
        form("torch", "SGD(lr=1e-3, momentum=0.9, dampening=0.0, weight_decay=0.0)", rules.sgd_momentum,
             "The velocity is a decaying sum, 1 / (1-μ) times as long as the mean; lr stands outside."),
        form("keras", "SGD(learning_rate=0.01, momentum=0.9)", rules.heavy_ball, LR_INSIDE),
        form("sklearn",
             "MLPClassifier(learning_rate_init=1e-3, momentum=0.9, "
             "*, solver='sgd', nesterovs_momentum=False)",
             rules.heavy_ball, LR_INSIDE),
        form("optax", "sgd(learning_rate, momentum=0.9)", rules.sgd_momentum,
             "As PyTorch's, without dampening."),
        form("mlx", "SGD(learning_rate, momentum=0.9)", rules.sgd_momentum,
             "As PyTorch's; its dampening, left out here, dampens the first step, too."),
    ],
    "nesterov": [
        form("paper", "Nesterov's accelerated gradient(α, μ)", rules.sgd_nesterov,
             "The gradient is taken ahead, at θ + μv; the other forms call that point p. " + LR_INSIDE,
             formula="v ← μv - α ∇f(θ + μv)     θ ← θ + v", μ="momentum"),
        form("torch", "SGD(lr=1e-3, momentum=0.9, weight_decay=0.0, *, nesterov=True)", rules.sgd_nesterov),
        form("keras", "SGD(learning_rate=0.01, momentum=0.9, *, nesterov=True)", rules.sgd_nesterov,
             LR_INSIDE, formula=AHEAD),
        form("sklearn", "MLPClassifier(learning_rate_init=1e-3, momentum=0.9, *, solver='sgd')",
             rules.sgd_nesterov, LR_INSIDE, formula=AHEAD),
        form("optax", "sgd(learning_rate, momentum=0.9, *, nesterov=True)", rules.sgd_nesterov),
        form("mlx", "SGD(learning_rate, momentum=0.9, *, nesterov=True)", rules.sgd_nesterov),
    ],
    "rmsprop": [
        form("paper", "lecture 6e(α)", rules.rmsprop, "There is no ε, and β is 0.9.",
             formula="v ← 0.9 v + 0.1 g²     p ← p - α · g / √v", constant={"alpha": 0.9, "eps": 0.0}),
        form("torch", "RMSprop(lr=0.01, alpha=0.99, eps=1e-8, weight_decay=0.0)", rules.rmsprop),
        form("keras", "RMSprop(learning_rate=1e-3, rho=0.9, epsilon=1e-7)", rules.rmsprop_eps_inside, IN_ROOT,
             rho="alpha"),
        form("optax", "rmsprop(learning_rate, decay=0.9, eps=1e-8)", rules.rmsprop_eps_inside,
             IN_ROOT + " With eps_in_sqrt=False it stands outside.", decay="alpha"),
        form("mlx", "RMSprop(learning_rate, alpha=0.99, eps=1e-8)", rules.rmsprop),
    ],
    "adagrad": [
        form("paper", "the diagonal form(η, δ)", rules.adagrad,
             formula="s ← s + g²     p ← p - η · g / (δ + √s)", η="lr", δ="eps"),
        form("torch",
             "Adagrad(lr=0.01, lr_decay=0.0, initial_accumulator_value=0.0, eps=1e-10, weight_decay=0.0)",
             rules.adagrad),
        form("keras", "Adagrad(learning_rate=1e-3, initial_accumulator_value=0.1, epsilon=1e-7)",
             rules.adagrad, IN_SUM, formula=ROOT_OF_SUM, change=to.eps_in_root),
        form("optax", "adagrad(learning_rate, initial_accumulator_value=0.1, eps=1e-7)", rules.adagrad,
             IN_SUM, formula=ROOT_OF_SUM, change=to.eps_in_root),
        form("mlx", "Adagrad(learning_rate, eps=1e-8)", rules.adagrad, "The sum starts at zero."),
    ],
    "adadelta": [
        form("paper", "Algorithm 1(ρ=0.95, ε=1e-6)", rules.adadelta, "There is no learning rate: lr is 1.",
             ρ="rho"),
        form("torch", "Adadelta(lr=1.0, rho=0.9, eps=1e-6, weight_decay=0.0)", rules.adadelta),
        form("keras", "Adadelta(learning_rate=1e-3, rho=0.95, epsilon=1e-7)", rules.adadelta,
             "Only the defaults differ: with that learning rate it moves a thousandth of the paper's way."),
        form("optax", "adadelta(learning_rate, rho=0.9, eps=1e-6)", rules.adadelta),
        form("mlx", "AdaDelta(learning_rate, rho=0.9, eps=1e-6)", rules.adadelta),
    ],
    "adam": [
        form("paper", "Algorithm 1(α=1e-3, β₁=0.9, β₂=0.999, ε=1e-8)", rules.adam),
        form("torch", "Adam(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)", rules.adam),
        form("keras", "Adam(learning_rate=1e-3, beta_1=0.9, beta_2=0.999, epsilon=1e-7)",
             rules.adam_epsilon_hat, RAW_ROOT),
        form("sklearn",
             "MLPClassifier(learning_rate_init=1e-3, beta_1=0.9, beta_2=0.999, epsilon=1e-8, "
             "*, solver='adam')",
             rules.adam_epsilon_hat, RAW_ROOT),
        form("optax", "adam(learning_rate, b1=0.9, b2=0.999, eps=1e-8)", rules.adam),
        form("mlx", "Adam(learning_rate, betas=(0.9, 0.999), eps=1e-8)", rules.adam_uncorrected,
             NO_CORRECTION),
    ],
    "adamw": [
        form("paper", "Algorithm 2(α=1e-3, β₁=0.9, β₂=0.999, ε=1e-8, λ)", rules.adamw,
             "λ is not multiplied by α, only by the schedule: it is lr times the libraries' weight_decay.",
             formula="p ← p - η (α · m̂ / (√v̂ + ε) + λp), η from a schedule, 1 without",
             change=to.decay_apart),
        form("torch", "AdamW(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)", rules.adamw,
             weight_decay="weight_decay"),
        form("keras", "AdamW(learning_rate=1e-3, beta_1=0.9, beta_2=0.999, epsilon=1e-7, weight_decay=4e-3)",
             rules.adam_epsilon_hat, RAW_ROOT, decoupled=True),
        form("optax", "adamw(learning_rate, b1=0.9, b2=0.999, eps=1e-8, weight_decay=1e-4)", rules.adamw,
             "Weights shrink in the same subtraction, not before it: only rounding differs."),
        form("mlx", "AdamW(learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)",
             rules.adam_uncorrected, NO_CORRECTION, decoupled=True),
    ],
    "amsgrad": [
        form("paper", "Algorithm 2(α, β₁=0.9, β₂=0.999)", rules.amsgrad,
             "There is neither bias correction nor ε.", formula=MOMENTS + "p ← p - α · m / √v⁺",
             constant={"eps": 0.0}, change=to.uncorrected),
        form("torch", "Adam(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, *, amsgrad=True)",
             rules.amsgrad, "The maximum is of raw v."),
        form("keras", "Adam(learning_rate=1e-3, beta_1=0.9, beta_2=0.999, epsilon=1e-7, *, amsgrad=True)",
             rules.amsgrad, "The maximum is of raw v. " + RAW_ROOT,
             formula=MOMENTS + "p ← p - lr √(1-β₂ᵗ) / (1-β₁ᵗ) · m / (√v⁺ + ε)", change=to.raw_root),
        form("optax", "amsgrad(learning_rate, b1=0.9, b2=0.999, eps=1e-8)", rules.amsgrad_corrected,
             "The maximum is of bias-corrected v, in which the early, uncertain ones count more."),
    ],
    "lion": [
        form("paper", "Algorithm 2(η, β₁=0.9, β₂=0.99, λ=0.0)", rules.lion, decoupled=True, η="lr"),
        form("keras", "Lion(learning_rate=1e-3, beta_1=0.9, beta_2=0.99)", rules.lion),
        form("optax", "lion(learning_rate, b1=0.9, b2=0.99, weight_decay=1e-3)", rules.lion,
             "Weights shrink unless weight_decay=0.", decoupled=True),
        form("mlx", "Lion(learning_rate, betas=(0.9, 0.99), weight_decay=0.0)", rules.lion, decoupled=True),
    ],
}  # fmt: skip
forms = {family: {row.library: row for row in rows} for family, rows in table.items()}
"""The forms of each family, by library."""
