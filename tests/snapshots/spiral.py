"""The step `train`, line 39 of test_compiler_source.py, for x float32[100, 2], y int64[100].
"""

from math import inf
from numpy import float32, float64, int64, uint8
from microgradx.kernels.runtime import (
    block, block_at, flat, matmul, matmul_nt, matmul_tn, plus, within
)
from microgradx.kernels.vector_math import exp, log, tanh

tiny = float32(1.1754943508222875e-38)  # state below it is slow: zero instead


def maximum(a, b):
    """The larger of two; NaN if either is; a tie gives each half of the slope"""
    return a if a > b or a != a else b


def momentum(start, stop, ps, gs, ms, numbers, step, first):
    beta = float32(numbers[step, first + 0])
    one_minus_beta = float32(numbers[step, first + 1])
    lr = float32(numbers[step, first + 2])
    for i in range(start, stop):
        p, g, m = ps[i], gs[i], ms[i]
        m = beta * m + one_minus_beta * g
        ps[i] = p - lr * m
        ms[i] = float32(0) if abs(m) < tiny else m


def forward_and_back(step, gathering, status, table):
    """Forward and gradients."""
    order = block_at(table, 2, (1,), int64)
    arena = block_at(table, 0, (1,), uint8)
    x = block_at(table, 4, (100, 2), float32)
    y = block_at(table, 5, (100,), int64)
    all_x = block_at(table, 6, (100, 2), float32)
    all_y = block_at(table, 7, (100,), int64)
    affine_product = block(arena, 0, (100, 16), float32)
    weight_0 = block_at(table, 8, (2, 16), float32)
    bias_0 = block_at(table, 9, (16,), float32)
    tanh_1 = block(arena, 6400, (100, 16), float32)
    affine_2_product = block(arena, 0, (100, 16), float32)
    weight_2 = block_at(table, 10, (16, 16), float32)
    bias_2 = block_at(table, 11, (16,), float32)
    tanh_2 = block(arena, 12800, (100, 16), float32)
    logits_product = block(arena, 0, (100, 2), float32)
    weight_4 = block_at(table, 12, (16, 2), float32)
    bias_4 = block_at(table, 13, (2,), float32)
    logits = block(arena, 19200, (100, 2), float32)
    exp_shifted = block(arena, 25600, (100, 2), float32)
    total = block(arena, 32832, (100,), float32)
    labelled = block(arena, 32000, (100,), float32)
    total_2 = block(arena, 33280, (1,), float32)
    positions = block_at(table, 14, (2,), int64)
    g_logits = block(arena, 32000, (100, 2), float32)
    g_tanh_2 = block(arena, 0, (100, 16), float32)
    g_affine_2 = block(arena, 19200, (100, 16), float32)
    g_tanh_1 = block(arena, 0, (100, 16), float32)
    g_affine = block(arena, 25600, (100, 16), float32)
    loss_out = block_at(table, 15, (1,), float32)

    if gathering:
        for i in range(100):
            row = order[100 * step + i]
            for j in range(2):
                x[i, j] = all_x[row, j]
            y[i] = all_y[row]
    # test_compiler_source.py:41  logits = model(x)
    matmul(affine_product, x, weight_0, 0, 100)
    for i in range(100):
        for j in range(16):
            tanh_1[i, j] = tanh(affine_product[i, j] + bias_0[j])
    matmul(affine_2_product, tanh_1, weight_2, 0, 100)
    for i in range(100):
        for j in range(16):
            tanh_2[i, j] = tanh(affine_2_product[i, j] + bias_2[j])
    matmul(logits_product, tanh_2, weight_4, 0, 100)
    for i in range(100):
        top = float32(-inf)
        for j in range(2):
            logits[i, j] = logits_product[i, j] + bias_4[j]
            top = maximum(top, logits[i, j])
        # test_compiler_source.py:42  loss = nn.cross_entropy(logits, y)
        total_sum = float32(0)
        for j in range(2):
            exp_shifted[i, j] = exp(logits[i, j] - top)
            total_sum = plus(total_sum, exp_shifted[i, j])
        total[i] = total_sum
        labelled[i] = logits[i, within(y[i], 2, status)] - top
    total_2_sum = float32(0)
    for i in range(100):
        total_2_sum = plus(total_2_sum, log(total[i]) - labelled[i])
    total_2[0] = total_2_sum
    # gradient of: test_compiler_source.py:42  loss = nn.cross_entropy(logits, y)
    for i in range(100):
        for j in range(2):
            subtract_1 = exp_shifted[i, j] / total[i] - (float32(1) if y[i] == positions[j] else float32(0))
            g_logits[i, j] = subtract_1 * float32(0.01)
    # gradient of: test_compiler_source.py:41  logits = model(x)
    matmul_nt(g_tanh_2, g_logits, weight_4, 0, 100)
    for i in range(100):
        for j in range(16):
            g_affine_2[i, j] = g_tanh_2[i, j] * (float32(1) - tanh_2[i, j] * tanh_2[i, j])
    matmul_nt(g_tanh_1, g_affine_2, weight_2, 0, 100)
    for i in range(100):
        for j in range(16):
            g_affine[i, j] = g_tanh_1[i, j] * (float32(1) - tanh_1[i, j] * tanh_1[i, j])
    # test_compiler_source.py:42  loss = nn.cross_entropy(logits, y)
    loss_out[step] = total_2[0] / float32(100)


def back_and_update(step, table):
    """Gradients and momentum on 354 parameters."""
    numbers = block_at(table, 1, (1, 3), float64)
    arena = block_at(table, 0, (1,), uint8)
    g_weight_4 = block_at(table, 16, (16, 2), float32)
    tanh_2 = block(arena, 12800, (100, 16), float32)
    g_logits = block(arena, 32000, (100, 2), float32)
    g_bias_4 = block_at(table, 17, (2,), float32)
    g_weight_2 = block_at(table, 18, (16, 16), float32)
    tanh_1 = block(arena, 6400, (100, 16), float32)
    g_affine_2 = block(arena, 19200, (100, 16), float32)
    g_bias_2 = block_at(table, 19, (16,), float32)
    g_weight_0 = block_at(table, 20, (2, 16), float32)
    x = block_at(table, 4, (100, 2), float32)
    g_affine = block(arena, 25600, (100, 16), float32)
    g_bias_0 = block_at(table, 21, (16,), float32)
    weight_0 = block_at(table, 8, (2, 16), float32)
    weight_0_m = block_at(table, 22, (2, 16), float32)
    bias_0 = block_at(table, 9, (16,), float32)
    bias_0_m = block_at(table, 23, (16,), float32)
    weight_2 = block_at(table, 10, (16, 16), float32)
    weight_2_m = block_at(table, 24, (16, 16), float32)
    bias_2 = block_at(table, 11, (16,), float32)
    bias_2_m = block_at(table, 25, (16,), float32)
    weight_4 = block_at(table, 12, (16, 2), float32)
    weight_4_m = block_at(table, 26, (16, 2), float32)
    bias_4 = block_at(table, 13, (2,), float32)
    bias_4_m = block_at(table, 27, (2,), float32)

    # gradient of: test_compiler_source.py:41  logits = model(x)
    matmul_tn(g_weight_4, tanh_2, g_logits, 0, 16)
    for j in range(2):
        g_bias_4[j] = float32(0)
    for i in range(100):
        for j in range(2):
            g_bias_4[j] += g_logits[i, j]
    matmul_tn(g_weight_2, tanh_1, g_affine_2, 0, 16)
    for j in range(16):
        g_bias_2[j] = float32(0)
    for i in range(100):
        for j in range(16):
            g_bias_2[j] += g_affine_2[i, j]
    matmul_tn(g_weight_0, x, g_affine, 0, 2)
    for j in range(16):
        g_bias_0[j] = float32(0)
    for i in range(100):
        for j in range(16):
            g_bias_0[j] += g_affine[i, j]
    # test_compiler_source.py:46  optimizer.step()
    momentum(0, 32, flat(weight_0), flat(g_weight_0), flat(weight_0_m), numbers, step, 0)
    momentum(0, 16, flat(bias_0), flat(g_bias_0), flat(bias_0_m), numbers, step, 0)
    momentum(0, 256, flat(weight_2), flat(g_weight_2), flat(weight_2_m), numbers, step, 0)
    momentum(0, 16, flat(bias_2), flat(g_bias_2), flat(bias_2_m), numbers, step, 0)
    momentum(0, 32, flat(weight_4), flat(g_weight_4), flat(weight_4_m), numbers, step, 0)
    momentum(0, 2, flat(bias_4), flat(g_bias_4), flat(bias_4_m), numbers, step, 0)


def run(steps, gathering, status, table):
    """Run some steps, one after the other."""
    for step in range(steps):
        status[1] = step
        # forward and gradients
        forward_and_back(step, gathering, status, table)
        if status[0] != 0:
            return
        # gradients and momentum on 354 parameters
        back_and_update(step, table)
