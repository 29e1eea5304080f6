"""One step of each library's optimizers in plain NumPy, from its own documentation, not from ours.

Each takes the weight, its gradient, what the optimizer remembers, the step number from 1, and the library's
own options; it returns the new weight. `steps[family][library]` is the table.
"""

import numpy as np


def zeros(memory, name, g, start=0.0):
    return memory.setdefault(name, np.full_like(g, start))


# Plain gradient descent, momentum, Nesterov


def torch_sgd(p, g, memory, t, lr, momentum=0.0, dampening=0.0, nesterov=False, weight_decay=0.0):
    """g + λ p first; b_1 = g; b_t = momentum b + (1 - dampening) g; g + momentum b, or b."""
    g = g + weight_decay * p
    if momentum:
        first = "b" not in memory
        memory["b"] = g if first else momentum * memory["b"] + (1 - dampening) * g
        g = g + momentum * memory["b"] if nesterov else memory["b"]
    return p - lr * g


def keras_sgd(p, g, memory, t, learning_rate, momentum=0.0, nesterov=False):
    """velocity = momentum * velocity - learning_rate * g; w + velocity, or w + momentum * velocity - lr g."""
    if not momentum:
        return p - learning_rate * g
    v = memory["v"] = momentum * zeros(memory, "v", g) - learning_rate * g
    return p + momentum * v - learning_rate * g if nesterov else p + v


def sklearn_sgd(p, g, memory, t, learning_rate_init, momentum=0.0, nesterovs_momentum=True, solver="sgd"):
    """updates = momentum * velocity - lr * g, kept as velocity; with Nesterov once more."""
    update = memory["velocity"] = momentum * zeros(memory, "velocity", g) - learning_rate_init * g
    return p + (momentum * update - learning_rate_init * g if nesterovs_momentum else update)


def optax_sgd(p, g, memory, t, learning_rate, momentum=0.0, nesterov=False):
    """trace(decay): t = g + decay t; g + decay t with Nesterov."""
    trace = memory["trace"] = g + momentum * zeros(memory, "trace", g)
    return p - learning_rate * (g + momentum * trace if nesterov else trace)


def mlx_sgd(p, g, memory, t, learning_rate, momentum=0.0, nesterov=False):
    """v = μ v + g; w - λ v, or w - λ (g + μ v)."""
    v = memory["v"] = momentum * zeros(memory, "v", g) + g
    return p - learning_rate * (g + momentum * v if nesterov else v)


def polyak(p, g, memory, t, α, β):
    """x' = x - α ∇f(x) + β (x - x of before)."""
    before, memory["before"] = memory.get("before", p), p
    return p - α * g + β * (p - before)


def sutskever(p, g, memory, t, α, μ):
    """v = μ v - α ∇f(θ + μ v); θ + v. Here p = θ + μ v, where the gradient is."""
    v = zeros(memory, "v", g)
    θ = p - μ * v
    v = memory["v"] = μ * v - α * g
    return θ + v + μ * v


# A step size per weight


def mean_square(memory, g, rho):
    memory["square"] = rho * zeros(memory, "square", g) + (1 - rho) * np.square(g)
    return memory["square"]


def hinton(p, g, memory, t, α):
    """MeanSquare = 0.9 MeanSquare + 0.1 g²; divide the gradient by its root."""
    return p - α * g / np.sqrt(mean_square(memory, g, 0.9))


def torch_rmsprop(p, g, memory, t, lr, alpha, eps, weight_decay=0.0):
    g = g + weight_decay * p
    return p - lr * g / (np.sqrt(mean_square(memory, g, alpha)) + eps)


def keras_rmsprop(p, g, memory, t, learning_rate, rho, epsilon):
    return p - learning_rate * g / np.sqrt(mean_square(memory, g, rho) + epsilon)


def optax_rmsprop(p, g, memory, t, learning_rate, decay, eps):
    return p - learning_rate * (1 / np.sqrt(mean_square(memory, g, decay) + eps)) * g


def mlx_rmsprop(p, g, memory, t, learning_rate, alpha, eps):
    return torch_rmsprop(p, g, memory, t, learning_rate, alpha, eps)


def sum_squares(memory, g, start):
    memory["sum"] = zeros(memory, "sum", g, start) + np.square(g)
    return memory["sum"]


def duchi(p, g, memory, t, η, δ):
    return p - η * g / (δ + np.sqrt(sum_squares(memory, g, 0)))


def torch_adagrad(p, g, memory, t, lr, lr_decay, initial_accumulator_value, eps, weight_decay):
    g = g + weight_decay * p
    root = np.sqrt(sum_squares(memory, g, initial_accumulator_value))
    return p - lr / (1 + (t - 1) * lr_decay) * g / (root + eps)


def keras_adagrad(p, g, memory, t, learning_rate, initial_accumulator_value, epsilon):
    return p - learning_rate * g / np.sqrt(sum_squares(memory, g, initial_accumulator_value) + epsilon)


def optax_adagrad(p, g, memory, t, learning_rate, initial_accumulator_value, eps):
    return keras_adagrad(p, g, memory, t, learning_rate, initial_accumulator_value, eps)


def mlx_adagrad(p, g, memory, t, learning_rate, eps):
    return p - learning_rate * g / (np.sqrt(sum_squares(memory, g, 0)) + eps)


def zeiler(p, g, memory, t, ρ, ε, lr=1.0):
    """RMS[x] = √(E[x²] + ε); Δ = -RMS[Δ] / RMS[g] · g."""
    root = np.sqrt(mean_square(memory, g, ρ) + ε)
    step = np.sqrt(zeros(memory, "steps", g) + ε) / root * g
    memory["steps"] = ρ * memory["steps"] + (1 - ρ) * np.square(step)
    return p - lr * step


def torch_adadelta(p, g, memory, t, lr, rho, eps, weight_decay):
    return zeiler(p, g + weight_decay * p, memory, t, rho, eps, lr)


def keras_adadelta(p, g, memory, t, learning_rate, rho, epsilon):
    return zeiler(p, g, memory, t, rho, epsilon, learning_rate)


def optax_adadelta(p, g, memory, t, learning_rate, rho, eps):
    return zeiler(p, g, memory, t, rho, eps, learning_rate)


# Adam and its family


def means(memory, g, beta1, beta2):
    memory["mean"] = beta1 * zeros(memory, "mean", g) + (1 - beta1) * g
    return memory["mean"], mean_square(memory, g, beta2)


def kingma(p, g, memory, t, α, β1, β2, ε):
    """Algorithm 1."""
    m, v = means(memory, g, β1, β2)
    return p - α * (m / (1 - β1**t)) / (np.sqrt(v / (1 - β2**t)) + ε)


def paper_adam(p, g, memory, t, α, ε, **betas):
    return kingma(p, g, memory, t, α, betas["β₁"], betas["β₂"], ε)


def torch_adamw(p, g, memory, t, lr, betas, eps, weight_decay):
    """p (1 - lr λ), then Adam."""
    return torch_adam(p * (1 - lr * weight_decay), g, memory, t, lr, betas, eps)


def torch_adam(p, g, memory, t, lr, betas, eps, weight_decay=0.0, amsgrad=False):
    """g + λ p first; denom = √v / √(1 - β₂ᵗ) + eps; AMSGrad keeps the maximum of v."""
    g = g + weight_decay * p
    m, v = means(memory, g, *betas)
    if amsgrad:
        v = memory["max"] = np.maximum(zeros(memory, "max", g), v)
    denominator = np.sqrt(v) / np.sqrt(1 - betas[1] ** t) + eps
    return p - lr / (1 - betas[0] ** t) * m / denominator


def keras_adam(p, g, memory, t, learning_rate, beta_1, beta_2, epsilon, weight_decay=0.0, amsgrad=False):
    """alpha = lr √(1 - β₂ᵗ) / (1 - β₁ᵗ); w - m alpha / (√v + epsilon); decay: w - w · wd · lr before it."""
    p = p - p * weight_decay * learning_rate
    m, v = means(memory, g, beta_1, beta_2)
    if amsgrad:
        v = memory["max"] = np.maximum(zeros(memory, "max", g), v)
    alpha = learning_rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
    return p - m * alpha / (np.sqrt(v) + epsilon)


def sklearn_adam(p, g, memory, t, learning_rate_init, beta_1, beta_2, epsilon, solver="adam"):
    return keras_adam(p, g, memory, t, learning_rate_init, beta_1, beta_2, epsilon)


def optax_adam(p, g, memory, t, learning_rate, b1, b2, eps, weight_decay=0.0):
    """updates = mu_hat / (√nu_hat + eps), + weight_decay · p, times -learning_rate."""
    m, v = means(memory, g, b1, b2)
    update = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return p - learning_rate * (update + weight_decay * p)


def mlx_adam(p, g, memory, t, learning_rate, betas, eps, weight_decay=0.0):
    """No bias correction by default."""
    m, v = means(memory, g, *betas)
    return p * (1 - learning_rate * weight_decay) - learning_rate * m / (np.sqrt(v) + eps)


def loshchilov(p, g, memory, t, α, ε, λ, **betas):
    """Algorithm 2 with η = 1: θ - (α m̂ / (√v̂ + ε) + λ θ)."""
    return kingma(p, g, memory, t, α, betas["β₁"], betas["β₂"], ε) - λ * p


def reddi(p, g, memory, t, α, **betas):
    """Algorithm 2: v̂ = max(v̂, v); x - α m / √v̂."""
    m, v = means(memory, g, betas["β₁"], betas["β₂"])
    memory["max"] = np.maximum(zeros(memory, "max", g), v)
    return p - α * m / np.sqrt(memory["max"])


def optax_amsgrad(p, g, memory, t, learning_rate, b1, b2, eps):
    """The maximum of bias-corrected nu."""
    m, v = means(memory, g, b1, b2)
    memory["max"] = np.maximum(zeros(memory, "max", g), v / (1 - b2**t))
    return p - learning_rate * (m / (1 - b1**t)) / (np.sqrt(memory["max"]) + eps)


def chen(p, g, memory, t, η, λ, **betas):
    """Algorithm 2: c = β₁ m + (1 - β₁) g; θ - η (sign(c) + λ θ); m = β₂ m + (1 - β₂) g."""
    m = zeros(memory, "m", g)
    c = betas["β₁"] * m + (1 - betas["β₁"]) * g
    memory["m"] = betas["β₂"] * m + (1 - betas["β₂"]) * g
    return p - η * (np.sign(c) + λ * p)


def keras_lion(p, g, memory, t, learning_rate, beta_1, beta_2):
    return chen(p, g, memory, t, learning_rate, 0.0, **{"β₁": beta_1, "β₂": beta_2})


def optax_lion(p, g, memory, t, learning_rate, b1, b2, weight_decay):
    return chen(p, g, memory, t, learning_rate, weight_decay, **{"β₁": b1, "β₂": b2})


def mlx_lion(p, g, memory, t, learning_rate, betas, weight_decay):
    return chen(p, g, memory, t, learning_rate, weight_decay, **dict(zip(("β₁", "β₂"), betas, strict=True)))


sgds = {"torch": torch_sgd, "keras": keras_sgd, "sklearn": sklearn_sgd, "optax": optax_sgd, "mlx": mlx_sgd}
adams = {"torch": torch_adam, "keras": keras_adam, "optax": optax_adam, "mlx": mlx_adam}

steps = {
    "sgd": {"paper": lambda p, g, memory, t, α: p - α * g, **sgds},
    "momentum": {"paper": polyak, **sgds},
    "nesterov": {"paper": sutskever, **sgds},
    "rmsprop": {"paper": hinton, "torch": torch_rmsprop, "keras": keras_rmsprop, "optax": optax_rmsprop,
                "mlx": mlx_rmsprop},
    "adagrad": {"paper": duchi, "torch": torch_adagrad, "keras": keras_adagrad, "optax": optax_adagrad,
                "mlx": mlx_adagrad},
    "adadelta": {"paper": zeiler, "torch": torch_adadelta, "keras": keras_adadelta, "optax": optax_adadelta,
                 "mlx": optax_adadelta},
    "adam": {"paper": paper_adam, "sklearn": sklearn_adam, **adams},
    "adamw": {"paper": loshchilov, **adams, "torch": torch_adamw},
    "amsgrad": {"paper": reddi, "torch": torch_adam, "keras": keras_adam, "optax": optax_amsgrad},
    "lion": {"paper": chen, "keras": keras_lion, "optax": optax_lion, "mlx": mlx_lion},
}  # fmt: skip
