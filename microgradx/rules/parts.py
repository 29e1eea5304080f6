"""Averages of the weights, and the parts of optimizers that look at more than one number."""

from microgradx.rules.definition import rule
from microgradx.scalars import sqrt, where

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
