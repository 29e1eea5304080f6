"""Adam and its family: the mean gradient, scaled per weight by the size of recent ones."""

from microgradx.rules.definition import rule
from microgradx.scalars import maximum, sign, sqrt, where


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
