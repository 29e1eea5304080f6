"""Optimizer updates, as arithmetic on the numbers of one parameter, from simple to subtle.

The signature is the specification: `p, g` are a parameter and its gradient; what stands between `g` and `/`
is the state, which starts at zero and is returned after p; then `t`, the step number, which starts at 1; a
rule that has no use for it may leave it out. What follows t without a default is a number carried from step
to step (it starts at zero, too, and is returned last); what has a default is a hyperparameter. A body is a
docstring, assignments and one return. What depends on neither p, g nor state is computed once per step, in
float64; the rest is in the parameters' own dtype.

Weight decay and maximising are not part of a rule, unless its paper makes them so: every sweep has them.
"""

from collections.abc import Callable

from microgradx.errors import KernelError
from microgradx.scalars import (
    Named,
    Operand,
    check_definition,
    clip,
    maximum,
    sign,
    signature_of,
    sqrt,
    where,
)

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
    """Declare an optimizer's update: see the beginning of this file for what a signature says.

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


# Gradient descent and momentum


@rule
def sgd(p, g, /, t, lr=1e-3):
    """Follow the gradient: p ← p - lr · g. Robbins & Monro (1951), A Stochastic Approximation Method."""
    return p - lr * g


@rule
def momentum(p, g, m, /, t, lr=1e-3, beta=0.9):
    """Follow the mean of recent gradients (averaging form).
        m ← βm + (1-β)g     p ← p - lr · m
    With lr · (1-β) for lr, the summing form, `sgd_momentum`, takes the same steps.
    """
    m = beta * m + (1 - beta) * g
    return p - lr * m, m


@rule
def sgd_momentum(p, g, v, /, t, lr=1e-3, momentum=0.9, dampening=0.0):
    """Follow the decaying sum of recent gradients (summing form, as in PyTorch).
        v ← μv + (1-d)g, but v ← g in the first step     p ← p - lr · v
    Sutskever et al. (2013), but with lr outside: http://proceedings.mlr.press/v28/sutskever13.html
    """
    fresh = 1 if t == 1 else 1 - dampening
    v = momentum * v + fresh * g
    return p - lr * v, v


@rule
def sgd_nesterov(p, g, v, /, t, lr=1e-3, momentum=0.9):
    """Follow the decaying sum as it will be after one more such gradient (summing form, as in PyTorch).
        v ← μv + g     p ← p - lr · (g + μv)
    Sutskever et al. (2013), but with lr outside: http://proceedings.mlr.press/v28/sutskever13.html
    """
    v = momentum * v + g
    return p - lr * (g + momentum * v), v


@rule
def heavy_ball(p, g, v, /, t, lr=1e-3, momentum=0.9):
    """Move on with the last step, a little slower (lr inside, as in Keras and scikit-learn).
        v ← μv - lr · g     p ← p + v
    Differs from the summing form when lr changes. Polyak (1964), Some methods of speeding up convergence.
    """
    v = momentum * v - lr * g
    return p + v, v


# Only the sign of the gradient


@rule
def rprop(p, g, g_old, step, /, t, lr=1e-2, etaminus=0.5, etaplus=1.2, step_min=1e-6, step_max=50.0):
    """A step size per weight: longer while the gradient keeps its sign, shorter when it turns.
        s ← clip(s · (η⁺, 1 or η⁻ as g · g' is above, at or below 0)), from s = lr     p ← p - s · sign(g)
    After a turn g counts as 0, so that the next step is neutral. Riedmiller & Braun (1993), as in PyTorch.
    """
    turn = g * g_old
    initial = lr if t == 1 else 0
    step = initial + step
    step = where(turn > 0, etaplus * step, where(turn < 0, etaminus * step, step))
    step = clip(step, step_min, step_max)
    g = where(turn < 0, 0, g)
    return p - sign(g) * step, g, step


@rule
def lion(p, g, m, /, t, lr=1e-4, beta1=0.9, beta2=0.99):
    """Every weight moves by lr; the mean gradient only says in which direction.
        p ← p - lr · sign(β₁m + (1-β₁)g)     m ← β₂m + (1-β₂)g
    Chen et al. (2023), Algorithm 2: https://arxiv.org/abs/2302.06675
    """
    p = p - lr * sign(beta1 * m + (1 - beta1) * g)
    return p, beta2 * m + (1 - beta2) * g


# A step size per weight, from the size of its gradients


@rule
def adagrad(p, g, s, /, t, lr=1e-2, lr_decay=0.0, initial_accumulator_value=0.0, eps=1e-10):
    """Divide by the root of the sum of all squared gradients: often-moved weights slow down.
        s ← s + g²     p ← p - lr / (1 + (t-1) · lr_decay) · g / (√s + ε)
    Duchi, Hazan & Singer (2011): https://jmlr.org/papers/v12/duchi11a.html. Options as in PyTorch.
    """
    initial = initial_accumulator_value if t == 1 else 0
    rate = lr / (1 + (t - 1) * lr_decay)
    s = s + initial + g * g
    return p - rate * g / (sqrt(s) + eps), s


@rule
def rmsprop(p, g, v, /, t, lr=1e-2, alpha=0.99, eps=1e-8):
    """Divide by the root of the mean of recent squared gradients.
        v ← αv + (1-α)g²     p ← p - lr · g / (√v + ε)
    Tieleman & Hinton (2012), lecture 6e. ε outside the root, as in PyTorch and MLX.
    """
    v = alpha * v + (1 - alpha) * g * g
    return p - lr * g / (sqrt(v) + eps), v


@rule
def rmsprop_eps_inside(p, g, v, /, t, lr=1e-3, alpha=0.9, eps=1e-7):
    """RMSprop with ε inside the root, as in Keras (these defaults) and optax.
    v ← αv + (1-α)g²     p ← p - lr · g / √(v + ε)
    """
    v = alpha * v + (1 - alpha) * g * g
    return p - lr * g / sqrt(v + eps), v


@rule
def rmsprop_centered(p, g, v, m, /, t, lr=1e-2, alpha=0.99, eps=1e-8):
    """Divide by the standard deviation of recent gradients.
        v ← αv + (1-α)g²     m ← αm + (1-α)g     p ← p - lr · g / (√(v - m²) + ε)
    Graves (2013), equations 38 to 41, with ε outside the root: https://arxiv.org/abs/1308.0850
    """
    v = alpha * v + (1 - alpha) * g * g
    m = alpha * m + (1 - alpha) * g
    return p - lr * g / (sqrt(maximum(v - m * m, 0)) + eps), v, m


@rule
def rmsprop_momentum(p, g, v, b, /, t, lr=1e-2, alpha=0.99, eps=1e-8, momentum=0.9):
    """RMSprop, then the summing form of momentum, as in PyTorch.
    v ← αv + (1-α)g²     b ← μb + g / (√v + ε)     p ← p - lr · b
    """
    v = alpha * v + (1 - alpha) * g * g
    b = momentum * b + g / (sqrt(v) + eps)
    return p - lr * b, v, b


@rule
def rmsprop_centered_momentum(p, g, v, m, b, /, t, lr=1e-2, alpha=0.99, eps=1e-8, momentum=0.9):
    """Centered RMSprop, then the summing form of momentum, as in PyTorch.
    v ← αv + (1-α)g²     m ← αm + (1-α)g     b ← μb + g / (√(v - m²) + ε)     p ← p - lr · b
    """
    v = alpha * v + (1 - alpha) * g * g
    m = alpha * m + (1 - alpha) * g
    b = momentum * b + g / (sqrt(maximum(v - m * m, 0)) + eps)
    return p - lr * b, v, m, b


@rule
def adadelta(p, g, v, d, /, t, lr=1.0, rho=0.9, eps=1e-6):
    """Steps in the weight's own unit: recent steps' size over recent gradients' size.
        v ← ρv + (1-ρ)g²     Δ = √(d + ε) / √(v + ε) · g     d ← ρd + (1-ρ)Δ²     p ← p - lr · Δ
    Zeiler (2012), Algorithm 1: https://arxiv.org/abs/1212.5701
    """
    v = rho * v + (1 - rho) * g * g
    delta = sqrt(d + eps) / sqrt(v + eps) * g
    return p - lr * delta, v, rho * d + (1 - rho) * delta * delta


# Adam and its family


@rule
def adam(p, g, m, v, /, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """Follow the mean gradient, scaled per weight by its recent size.
        m ← β₁m + (1-β₁)g     v ← β₂v + (1-β₂)g²
        p ← p - lr · m̂ / (√v̂ + ε)    where m̂ = m / (1-β₁ᵗ), v̂ = v / (1-β₂ᵗ)
    Kingma & Ba (2015), Algorithm 1: https://arxiv.org/abs/1412.6980
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    return p - lr * m_hat / (sqrt(v_hat) + eps), m, v


@rule
def adam_epsilon_hat(p, g, m, v, /, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-7):
    """Adam with ε beside the uncorrected root, as in Keras (these defaults) and scikit-learn (ε = 1e-8).
        m ← β₁m + (1-β₁)g     v ← β₂v + (1-β₂)g²     p ← p - lr √(1-β₂ᵗ) / (1-β₁ᵗ) · m / (√v + ε̂)
    Kingma & Ba (2015), just before section 2.1: https://arxiv.org/abs/1412.6980
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    rate = lr * sqrt(1 - beta2**t) / (1 - beta1**t)
    return p - rate * m / (sqrt(v) + eps), m, v


@rule
def adam_uncorrected(p, g, m, v, /, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """Adam without bias correction, MLX's default: step 1 is 3.2 times as long, step 12 even 6.6 times.
    m ← β₁m + (1-β₁)g     v ← β₂v + (1-β₂)g²     p ← p - lr · m / (√v + ε)
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    return p - lr * m / (sqrt(v) + eps), m, v


@rule
def amsgrad(p, g, m, v, v_max, /, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """Adam that never forgets the largest v: a rare large gradient keeps its effect.
        m, v as in Adam     v⁺ ← max(v⁺, v)     p ← p - lr · m̂ / (√(v⁺ / (1-β₂ᵗ)) + ε)
    Reddi, Kale & Kumar (2018): https://arxiv.org/abs/1904.09237. The maximum is of raw v, as in PyTorch.
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    v_max = maximum(v_max, v)
    m_hat = m / (1 - beta1**t)
    return p - lr * m_hat / (sqrt(v_max / (1 - beta2**t)) + eps), m, v, v_max


@rule
def amsgrad_corrected(p, g, m, v, v_max, /, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """AMSGrad with the maximum of bias-corrected v, as in optax.
    m, v as in Adam     v⁺ ← max(v⁺, v / (1-β₂ᵗ))     p ← p - lr · m̂ / (√v⁺ + ε)
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    v_max = maximum(v_max, v / (1 - beta2**t))
    m_hat = m / (1 - beta1**t)
    return p - lr * m_hat / (sqrt(v_max) + eps), m, v, v_max


@rule
def adamw(p, g, m, v, /, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=1e-2):
    """Adam, with weights that shrink on their own instead of through the gradient.
        p ← (1 - lr · λ) p, then Adam
    Loshchilov & Hutter (2019), Algorithm 2, λ times lr as in PyTorch: https://arxiv.org/abs/1711.05101
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    shrink = 1 - lr * weight_decay
    return p * shrink - lr * m_hat / (sqrt(v_hat) + eps), m, v


@rule
def adamax(p, g, m, u, /, t, lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """Adam, scaled by the largest recent gradient.
        m ← β₁m + (1-β₁)g     u ← max(β₂u, |g| + ε)     p ← p - lr / (1-β₁ᵗ) · m / u
    Kingma & Ba (2015), Algorithm 2: https://arxiv.org/abs/1412.6980. The ε inside is PyTorch's.
    """
    m = beta1 * m + (1 - beta1) * g
    u = maximum(beta2 * u, abs(g) + eps)
    rate = lr / (1 - beta1**t)
    return p - rate * m / u, m, u


@rule
def nadam(p, g, m, v, /, t, mu_product, lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8, momentum_decay=4e-3):
    """Adam that looks one step of momentum ahead, with a momentum μ that warms up.
        μₜ = β₁(1 - ½ · 0.96^(tψ))     m, v as in Adam
        p ← p - lr · [(1-μₜ) / (1-Πμ) · g + μₜ₊₁ / (1-Πμ·μₜ₊₁) · m] / (√v̂ + ε)
    Dozat (2016): https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ
    """
    mu = beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))
    mu_next = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
    mu_product = mu if t == 1 else mu_product * mu
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    now = (1 - mu) / (1 - mu_product)
    then = mu_next / (1 - mu_product * mu_next)
    ahead = now * g + then * m
    return p - lr * ahead / (sqrt(v / (1 - beta2**t)) + eps), m, v, mu_product


@rule
def radam(p, g, m, v, /, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """Adam that waits with scaling until v can be trusted, then grows into it.
        ρ∞ = 2/(1-β₂) - 1     ρ = ρ∞ - 2tβ₂ᵗ / (1-β₂ᵗ)     m, v as in Adam
        p ← p - lr · m̂ · (√((ρ-4)(ρ-2)ρ∞ / ((ρ∞-4)(ρ∞-2)ρ)) · √(1-β₂ᵗ) / (√v + ε) if ρ > 5 else 1)
    Liu et al. (2020), Algorithm 2: https://arxiv.org/abs/1908.03265. The place of ε is PyTorch's.
    """
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
    trust = (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho) if rho > 5 else 0
    trust = sqrt(trust) * sqrt(1 - beta2**t)
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    m_hat = m / (1 - beta1**t)
    scale = where(rho > 5, trust / (sqrt(v) + eps), 1)
    return p - lr * m_hat * scale, m, v


@rule
def adabelief(p, g, m, s, /, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-16):
    """Adam, scaled by how far gradients lie from their mean: long steps where the mean is believable.
        m ← β₁m + (1-β₁)g     s ← β₂s + (1-β₂)(g - m)² + ε     p ← p - lr · m̂ / (√ŝ + ε)
    Zhuang et al. (2020), Algorithm 2; ε as in the authors' package: https://arxiv.org/abs/2010.07468
    """
    m = beta1 * m + (1 - beta1) * g
    s = beta2 * s + (1 - beta2) * (g - m) * (g - m) + eps
    m_hat = m / (1 - beta1**t)
    s_hat = s / (1 - beta2**t)
    return p - lr * m_hat / (sqrt(s_hat) + eps), m, s


@rule
def yogi(p, g, m, v, /, t, lr=1e-2, beta1=0.9, beta2=0.999, eps=1e-3, initial_accumulator_value=1e-6):
    """Adam whose v moves towards g² by a step that depends on g² alone, so it falls slowly.
        m ← β₁m + (1-β₁)g     v ← v - (1-β₂) sign(v - g²) g²     p ← p - lr · m / (√v + ε)
    Zaheer et al. (2018), Algorithm 2: Adaptive Methods for Nonconvex Optimization. optax corrects the bias.
    """
    m = beta1 * m + (1 - beta1) * g
    initial = initial_accumulator_value if t == 1 else 0
    v = v + initial
    v = v - (1 - beta2) * sign(v - g * g) * g * g
    return p - lr * m / (sqrt(v) + eps), m, v


@rule
def adan(p, g, m, d, n, g_old, /, t, lr=1e-3, beta1=0.98, beta2=0.92, beta3=0.99, eps=1e-8):
    """Adam with Nesterov's look ahead, estimated from the change of the gradient.
        Δ = g - g'     m ← β₁m + (1-β₁)g     d ← β₂d + (1-β₂)Δ     n ← β₃n + (1-β₃)(g + β₂Δ)²
        p ← p - lr · (m̂ + β₂d̂) / (√n̂ + ε), hats divided by 1-βᵗ, and Δ = 0 in the first step
    Xie et al. (2022), https://arxiv.org/abs/2208.06677, with the authors' code's complements as β.
    """
    change = where(t > 1, g - g_old, 0)
    ahead = g + beta2 * change
    m = beta1 * m + (1 - beta1) * g
    d = beta2 * d + (1 - beta2) * change
    n = beta3 * n + (1 - beta3) * ahead * ahead
    direction = m / (1 - beta1**t) + beta2 * d / (1 - beta2**t)
    return p - lr * direction / (sqrt(n / (1 - beta3**t)) + eps), m, d, n, g


# Averages of the weights


@rule
def asgd(p, g, average, /, t, eta, lr=1e-2, lambd=1e-4, alpha=0.75, t0=1e6):
    """Gradient descent with a falling step, and the mean of all weights since step t0 beside it.
        p ← (1 - λη) p - η · g     a ← a + (p - a) / max(1, t-1-t₀)     η ← lr / (1 + λ · lr · t)^α, from lr
    Polyak & Juditsky (1992), Acceleration of stochastic approximation by averaging; details are PyTorch's.
    """
    eta = lr if t == 1 else eta
    mu = 1 / max(1, t - 1 - t0)
    shrink = 1 - lambd * eta
    p = p * shrink - eta * g
    return p, where(mu == 1, p, average + (p - average) * mu), lr / (1 + lambd * lr * t) ** alpha


# Parts of optimizers that look at a whole layer: norms and matrices come from outside


@rule
def lars(p, g, v, /, t, lr=1e-3, trust=1.0, momentum=0.9, weight_decay=1e-4):
    """Momentum with a step per layer in proportion to its weights: trust = η ‖p‖ / (‖g‖ + λ ‖p‖).
        v ← μv + lr · trust · (g + λp)     p ← p - v
    You, Gitman & Ginsburg (2017), Algorithm 1: https://arxiv.org/abs/1708.03888
    """
    rate = lr * trust
    v = momentum * v + rate * (g + weight_decay * p)
    return p - v, v


@rule
def lamb(p, g, m, v, direction, /, t, beta1=0.9, beta2=0.999, eps=1e-6, weight_decay=1e-2):
    """The direction r of LAMB; the step is then p ← p - lr · ‖p‖ / ‖r‖ · r, per layer.
        m, v as in Adam     r = m̂ / (√v̂ + ε) + λp
    You et al. (2020), Algorithm 2: https://arxiv.org/abs/1904.00962
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    return p, m, v, m_hat / (sqrt(v_hat) + eps) + weight_decay * p


@rule
def muon(p, g, m, direction, /, t, momentum=0.95, nesterov=True):
    """The direction of Muon before its matrix is made orthogonal (by Newton and Schulz's iteration).
        m ← μm + (1-μ)g     d = (1-μ)g + μm with Nesterov's look ahead, else m
    Jordan (2024): https://kellerjordan.github.io/posts/muon, in PyTorch's averaging form.
    """
    m = momentum * m + (1 - momentum) * g
    ahead = momentum if nesterov else 1
    return p, m, (1 - ahead) * g + ahead * m


@rule
def adafactor(p, g, /, t, lr=1e-2, weight_decay=0.0):
    """Adam with moments of rows and columns instead of numbers, and steps in proportion to the weights.
        V ← row · column / mean(row), which follow the means of G² by t^γ     U = G / √max(V, ε₁²)
        p ← (1 - lr λ) p, then P ← P - min(lr, 1/√t) · max(ε₂, rms(P)) / max(1, rms(U) / d) · U
    Shazeer & Stern (2018), Algorithm 4: https://arxiv.org/abs/1804.04235; γ, λ and ε₁ as in PyTorch.
    """
    shrink = 1 - lr * weight_decay
    return p * shrink


# Part of an optimizer that looks at all parameters together


@rule
def lbfgs(p, g, s, g_old, /, t, step=1.0):
    """Newton's step with the curvature that recent steps have met; s comes in as the direction -Hg.
        s ← step · s     p ← p + s     g' ← g
    Liu & Nocedal (1989), https://doi.org/10.1007/BF01589116: H comes from the last pairs (s, g - g').
    """
    s = step * s
    return p + s, s, g
