"""Gradient descent, momentum, and a step size for every weight."""

from microgradx.rules.definition import rule
from microgradx.scalars import clip, maximum, sign, sqrt, where

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
