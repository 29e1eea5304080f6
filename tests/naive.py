"""Slow plain-NumPy oracles of the update rules, written from the papers and PyTorch, not from `rules`.

Each takes the parameters, the gradient, the step number and a dict of what the optimizer remembers, and
returns the new parameters. Where rounding depends on the order of operations, the order is the rules'.
"""

import math

import numpy as np


def remember(memory, name, like):
    return memory.setdefault(name, np.zeros_like(like))


def mean(memory, name, new, beta):
    """An exponential moving average."""
    memory[name] = beta * remember(memory, name, new) + (1 - beta) * new
    return memory[name]


def mean_square(memory, name, new, beta):
    memory[name] = beta * remember(memory, name, new) + (1 - beta) * new * new
    return memory[name]


def flush(memory):
    """Denormal numbers become zero, after each step."""
    for name, value in memory.items():
        if isinstance(value, np.ndarray):
            small = np.abs(value) < np.finfo(value.dtype).tiny
            memory[name] = np.where(small, value.dtype.type(0), value)


def sgd(p, g, t, memory):
    return p - 1e-3 * g


def momentum(p, g, t, memory):
    return p - 1e-3 * mean(memory, "m", g, 0.9)


def sgd_momentum(p, g, t, memory):
    memory["v"] = g if t == 1 else 0.9 * memory["v"] + g
    return p - 1e-3 * memory["v"]


def sgd_nesterov(p, g, t, memory):
    memory["v"] = g if t == 1 else 0.9 * memory["v"] + g
    return p - 1e-3 * (g + 0.9 * memory["v"])


def heavy_ball(p, g, t, memory):
    memory["v"] = 0.9 * remember(memory, "v", p) - 1e-3 * g
    return p + memory["v"]


def rprop(p, g, t, memory):
    step = memory["step"] if t > 1 else np.full_like(p, 1e-2)
    product = g * remember(memory, "g_old", p)
    factor = np.ones_like(p)
    factor[product > 0] = 1.2
    factor[product < 0] = 0.5
    memory["step"] = np.clip(step * factor, p.dtype.type(1e-6), p.dtype.type(50))
    g = g.copy()
    g[product < 0] = 0
    memory["g_old"] = g
    return p - np.sign(g) * memory["step"]


def lion(p, g, t, memory):
    m = remember(memory, "m", p)
    memory["m"] = 0.99 * m + (1 - 0.99) * g
    return p - 1e-4 * np.sign(0.9 * m + (1 - 0.9) * g)


def adagrad(p, g, t, memory):
    memory["s"] = remember(memory, "s", p) + g * g
    return p - 1e-2 * g / (np.sqrt(memory["s"]) + 1e-10)


def rmsprop(p, g, t, memory):
    return p - 1e-2 * g / (np.sqrt(mean_square(memory, "v", g, 0.99)) + 1e-8)


def rmsprop_eps_inside(p, g, t, memory):
    return p - 1e-3 * g / np.sqrt(mean_square(memory, "v", g, 0.9) + 1e-7)


def deviation(g, memory):
    v, m = mean_square(memory, "v", g, 0.99), mean(memory, "m", g, 0.99)
    return np.sqrt(np.clip(v - m * m, 0, None)) + 1e-8


def rmsprop_centered(p, g, t, memory):
    return p - 1e-2 * g / deviation(g, memory)


def rmsprop_momentum(p, g, t, memory):
    root = np.sqrt(mean_square(memory, "v", g, 0.99)) + 1e-8
    memory["b"] = 0.9 * remember(memory, "b", p) + g / root
    return p - 1e-2 * memory["b"]


def rmsprop_centered_momentum(p, g, t, memory):
    root = deviation(g, memory)
    memory["b"] = 0.9 * remember(memory, "b", p) + g / root
    return p - 1e-2 * memory["b"]


def adadelta(p, g, t, memory):
    v = mean_square(memory, "v", g, 0.9)
    step = np.sqrt(remember(memory, "d", p) + 1e-6) / np.sqrt(v + 1e-6) * g
    mean_square(memory, "d", step, 0.9)
    return p - 1.0 * step


def moments(g, t, memory, beta1=0.9, beta2=0.999):
    """Adam's m and v, as they are and without bias."""
    m, v = mean(memory, "m", g, beta1), mean_square(memory, "v", g, beta2)
    return m, v, m / (1 - beta1**t), v / (1 - beta2**t)


def adam(p, g, t, memory):
    _, _, m_hat, v_hat = moments(g, t, memory)
    return p - 1e-3 * m_hat / (np.sqrt(v_hat) + 1e-8)


def adam_epsilon_hat(p, g, t, memory):
    m, v, _, _ = moments(g, t, memory)
    alpha_t = 1e-3 * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    return p - alpha_t * m / (np.sqrt(v) + 1e-7)


def adam_uncorrected(p, g, t, memory):
    m, v, _, _ = moments(g, t, memory)
    return p - 1e-3 * m / (np.sqrt(v) + 1e-8)


def amsgrad(p, g, t, memory):
    _, v, m_hat, _ = moments(g, t, memory)
    memory["v_max"] = np.maximum(remember(memory, "v_max", p), v)
    return p - 1e-3 * m_hat / (np.sqrt(memory["v_max"] / (1 - 0.999**t)) + 1e-8)


def amsgrad_corrected(p, g, t, memory):
    _, _, m_hat, v_hat = moments(g, t, memory)
    memory["v_max"] = np.maximum(remember(memory, "v_max", p), v_hat)
    return p - 1e-3 * m_hat / (np.sqrt(memory["v_max"]) + 1e-8)


def adamw(p, g, t, memory):
    return adam(p * (1 - 1e-3 * 1e-2), g, t, memory)


def adamax(p, g, t, memory):
    m = mean(memory, "m", g, 0.9)
    memory["u"] = np.maximum(0.999 * remember(memory, "u", p), np.abs(g) + 1e-8)
    return p - 2e-3 / (1 - 0.9**t) * m / memory["u"]


def nadam(p, g, t, memory):
    mu, mu_next = (0.9 * (1 - 0.5 * 0.96 ** (k * 4e-3)) for k in (t, t + 1))
    product = memory["mu_product"] = memory.get("mu_product", 1.0) * mu
    m, _, _, v_hat = moments(g, t, memory)
    ahead = (1 - mu) / (1 - product) * g + mu_next / (1 - product * mu_next) * m
    return p - 2e-3 * ahead / (np.sqrt(v_hat) + 1e-8)


def radam(p, g, t, memory):
    _, v, m_hat, _ = moments(g, t, memory)
    longest = 2 / (1 - 0.999) - 1
    length = longest - 2 * t * 0.999**t / (1 - 0.999**t)
    if length <= 5:
        return p - 1e-3 * m_hat
    top, bottom = (length - 4) * (length - 2) * longest, (longest - 4) * (longest - 2) * length
    scale = math.sqrt(top / bottom) * math.sqrt(1 - 0.999**t) / (np.sqrt(v) + 1e-8)
    return p - 1e-3 * m_hat * scale


def adabelief(p, g, t, memory):
    m = mean(memory, "m", g, 0.9)
    memory["s"] = 0.999 * remember(memory, "s", p) + (1 - 0.999) * (g - m) * (g - m) + 1e-16
    return p - 1e-3 * (m / (1 - 0.9**t)) / (np.sqrt(memory["s"] / (1 - 0.999**t)) + 1e-16)


def yogi(p, g, t, memory):
    m = mean(memory, "m", g, 0.9)
    v = memory.get("v", np.full_like(p, 1e-6))
    memory["v"] = v - (1 - 0.999) * np.sign(v - g * g) * g * g
    return p - 1e-2 * m / (np.sqrt(memory["v"]) + 1e-3)


def adan(p, g, t, memory):
    change = g - memory.get("g_old", g)
    memory["g_old"] = g
    m, d = mean(memory, "m", g, 0.98), mean(memory, "d", change, 0.92)
    n = mean_square(memory, "n", g + 0.92 * change, 0.99)
    direction = m / (1 - 0.98**t) + 0.92 * d / (1 - 0.92**t)
    return p - 1e-3 * direction / (np.sqrt(n / (1 - 0.99**t)) + 1e-8)


def asgd(p, g, t, memory):
    eta = memory.get("eta", 1e-2)
    memory["eta"] = 1e-2 / (1 + 1e-4 * 1e-2 * t) ** 0.75
    p = p * (1 - 1e-4 * eta) - eta * g
    memory["average"] = p  # until step t0, a million
    return p


def lars(p, g, t, memory):
    memory["v"] = 0.9 * remember(memory, "v", p) + 1e-3 * 1.0 * (g + 1e-4 * p)
    return p - memory["v"]


def lamb(p, g, t, memory):
    _, _, m_hat, v_hat = moments(g, t, memory)
    memory["direction"] = m_hat / (np.sqrt(v_hat) + 1e-6) + 1e-2 * p
    return p


def muon(p, g, t, memory):
    m = mean(memory, "m", g, 0.95)
    memory["direction"] = (1 - 0.95) * g + 0.95 * m
    return p


def adafactor(p, g, t, memory):
    return p * (1 - 1e-2 * 0.0)


def lbfgs(p, g, t, memory):
    memory["s"] = 1.0 * remember(memory, "s", p)
    memory["g_old"] = g
    return p + memory["s"]
