"""The step `train`, line 39 of test_compiler_source.py, for x float32[128, 64], y int64[128].
"""

from math import inf
from numpy import float32, float64, int64, uint8
from microgradx.kernels.runtime import (
    block, block_at, claim, done, flat, join, leave, matmul, matmul_nt, matmul_tn, plus, ready,
    within
)
from microgradx.kernels.vector_math import exp, log

tiny = float32(1.1754943508222875e-38)  # state below it is slow: zero instead


def maximum(a, b):
    """The larger of two; NaN if either is; a tie gives each half of the slope"""
    return a if a > b or a != a else b


def relu(x):
    """max(x, 0), slope 0 at 0"""
    return maximum(x, float32(0))


def momentum(start, stop, ps, gs, ms, numbers, step, first):
    beta = float32(numbers[step, first + 0])
    one_minus_beta = float32(numbers[step, first + 1])
    lr = float32(numbers[step, first + 2])
    for i in range(start, stop):
        p, g, m = ps[i], gs[i], ms[i]
        m = beta * m + one_minus_beta * g
        ps[i] = p - lr * m
        ms[i] = float32(0) if abs(m) < tiny else m


def make_relu_for(start, stop, affine_product, x, weight, relu_2, bias):
    """Forward, 4 times, each for other arrays."""
    matmul(affine_product, x, weight, start, stop)
    for i in range(start, stop):
        for j in range(64):
            relu_2[i, j] = relu(affine_product[i, j] + bias[j])


def make_g_affine_for(start, stop, g_relu, g_affine, weight, g_affine_2, relu):
    """Gradients, 3 times, each for other arrays."""
    matmul_nt(g_relu, g_affine, weight, start, stop)
    for i in range(start, stop):
        for j in range(64):
            g_affine_2[i, j] = g_relu[i, j] * (float32(1) if relu[i, j] > float32(0) else float32(0))


def make_g_weight_and_g_bias_for(g_weight, relu, g_affine, g_bias):
    """Gradients, 4 times, each for other arrays."""
    matmul_tn(g_weight, relu, g_affine, 0, 64)
    for j in range(64):
        g_bias[j] = float32(0)
    for i in range(128):
        for j in range(64):
            g_bias[j] += g_affine[i, j]


def forward_and_back(start, stop, step, gathering, status, table):
    """Forward and gradients, for rows start to stop of 128."""
    order = block_at(table, 2, (1,), int64)
    arena = block_at(table, 0, (1,), uint8)
    x = block_at(table, 4, (128, 64), float32)
    y = block_at(table, 5, (128,), int64)
    all_x = block_at(table, 6, (128, 64), float32)
    all_y = block_at(table, 7, (128,), int64)
    affine_product = block(arena, 0, (128, 64), float32)
    weight_0 = block_at(table, 8, (64, 64), float32)
    bias_0 = block_at(table, 9, (64,), float32)
    relu_1 = block(arena, 32768, (128, 64), float32)
    affine_2_product = block(arena, 0, (128, 64), float32)
    weight_2 = block_at(table, 10, (64, 64), float32)
    bias_2 = block_at(table, 11, (64,), float32)
    relu_2 = block(arena, 65536, (128, 64), float32)
    affine_3_product = block(arena, 0, (128, 64), float32)
    weight_4 = block_at(table, 12, (64, 64), float32)
    bias_4 = block_at(table, 13, (64,), float32)
    relu_3 = block(arena, 98304, (128, 64), float32)
    affine_4_product = block(arena, 0, (128, 64), float32)
    weight_6 = block_at(table, 14, (64, 64), float32)
    bias_6 = block_at(table, 15, (64,), float32)
    relu_4 = block(arena, 131072, (128, 64), float32)
    logits_product = block(arena, 294912, (128, 10), float32)
    weight_8 = block_at(table, 16, (64, 10), float32)
    bias_8 = block_at(table, 17, (10,), float32)
    logits = block(arena, 300032, (128, 10), float32)
    exp_shifted = block(arena, 305152, (128, 10), float32)
    total = block(arena, 315392, (128,), float32)
    labelled = block(arena, 315904, (128,), float32)
    positions = block_at(table, 18, (10,), int64)
    g_logits = block(arena, 310272, (128, 10), float32)
    g_relu_4 = block(arena, 0, (128, 64), float32)
    g_affine_4 = block(arena, 163840, (128, 64), float32)
    g_relu_3 = block(arena, 0, (128, 64), float32)
    g_affine_3 = block(arena, 196608, (128, 64), float32)
    g_relu_2 = block(arena, 0, (128, 64), float32)
    g_affine_2 = block(arena, 229376, (128, 64), float32)
    g_relu_1 = block(arena, 0, (128, 64), float32)
    g_affine = block(arena, 262144, (128, 64), float32)

    if gathering:
        for i in range(start, stop):
            row = order[128 * step + i]
            for j in range(64):
                x[i, j] = all_x[row, j]
            y[i] = all_y[row]
    # test_compiler_source.py:41  logits = model(x)
    make_relu_for(start, stop, affine_product, x, weight_0, relu_1, bias_0)
    make_relu_for(start, stop, affine_2_product, relu_1, weight_2, relu_2, bias_2)
    make_relu_for(start, stop, affine_3_product, relu_2, weight_4, relu_3, bias_4)
    make_relu_for(start, stop, affine_4_product, relu_3, weight_6, relu_4, bias_6)
    matmul(logits_product, relu_4, weight_8, start, stop)
    for i in range(start, stop):
        top = float32(-inf)
        for j in range(10):
            logits[i, j] = logits_product[i, j] + bias_8[j]
            top = maximum(top, logits[i, j])
        # test_compiler_source.py:42  loss = nn.cross_entropy(logits, y)
        total_sum = float32(0)
        for j in range(10):
            exp_shifted[i, j] = exp(logits[i, j] - top)
            total_sum = plus(total_sum, exp_shifted[i, j])
        total[i] = total_sum
        labelled[i] = logits[i, within(y[i], 10, status)] - top
        # gradient of: test_compiler_source.py:42  loss = nn.cross_entropy(logits, y)
        for j in range(10):
            subtract_1 = exp_shifted[i, j] / total[i] - (float32(1) if y[i] == positions[j] else float32(0))
            g_logits[i, j] = subtract_1 * float32(0.0078125)
    # gradient of: test_compiler_source.py:41  logits = model(x)
    matmul_nt(g_relu_4, g_logits, weight_8, start, stop)
    for i in range(start, stop):
        for j in range(64):
            g_affine_4[i, j] = g_relu_4[i, j] * (float32(1) if relu_4[i, j] > float32(0) else float32(0))
    make_g_affine_for(start, stop, g_relu_3, g_affine_4, weight_6, g_affine_3, relu_3)
    make_g_affine_for(start, stop, g_relu_2, g_affine_3, weight_4, g_affine_2, relu_2)
    make_g_affine_for(start, stop, g_relu_1, g_affine_2, weight_2, g_affine, relu_1)


def make_loss_out(step, table):
    """Forward."""
    arena = block_at(table, 0, (1,), uint8)
    total = block(arena, 315392, (128,), float32)
    labelled = block(arena, 315904, (128,), float32)
    total_2 = block(arena, 0, (1,), float32)
    loss_out = block_at(table, 19, (1,), float32)

    # test_compiler_source.py:42  loss = nn.cross_entropy(logits, y)
    total_2_sum = float32(0)
    for i in range(128):
        total_2_sum = plus(total_2_sum, log(total[i]) - labelled[i])
    total_2[0] = total_2_sum
    loss_out[step] = total_2[0] / float32(128)


def back_and_update(step, table):
    """Gradients and momentum on 17,280 parameters."""
    numbers = block_at(table, 1, (1, 3), float64)
    arena = block_at(table, 0, (1,), uint8)
    g_weight_8 = block_at(table, 20, (64, 10), float32)
    relu_4 = block(arena, 131072, (128, 64), float32)
    g_logits = block(arena, 310272, (128, 10), float32)
    g_weight_6 = block_at(table, 21, (64, 64), float32)
    relu_3 = block(arena, 98304, (128, 64), float32)
    g_affine_4 = block(arena, 163840, (128, 64), float32)
    g_bias_6 = block_at(table, 22, (64,), float32)
    g_weight_4 = block_at(table, 23, (64, 64), float32)
    relu_2 = block(arena, 65536, (128, 64), float32)
    g_affine_3 = block(arena, 196608, (128, 64), float32)
    g_bias_4 = block_at(table, 24, (64,), float32)
    g_weight_2 = block_at(table, 25, (64, 64), float32)
    relu_1 = block(arena, 32768, (128, 64), float32)
    g_affine_2 = block(arena, 229376, (128, 64), float32)
    g_bias_2 = block_at(table, 26, (64,), float32)
    g_weight_0 = block_at(table, 27, (64, 64), float32)
    x = block_at(table, 4, (128, 64), float32)
    g_affine = block(arena, 262144, (128, 64), float32)
    g_bias_0 = block_at(table, 28, (64,), float32)
    weight_0 = block_at(table, 8, (64, 64), float32)
    weight_0_m = block_at(table, 29, (64, 64), float32)
    bias_0 = block_at(table, 9, (64,), float32)
    bias_0_m = block_at(table, 30, (64,), float32)
    weight_2 = block_at(table, 10, (64, 64), float32)
    weight_2_m = block_at(table, 31, (64, 64), float32)
    bias_2 = block_at(table, 11, (64,), float32)
    bias_2_m = block_at(table, 32, (64,), float32)
    weight_4 = block_at(table, 12, (64, 64), float32)
    weight_4_m = block_at(table, 33, (64, 64), float32)
    bias_4 = block_at(table, 13, (64,), float32)
    bias_4_m = block_at(table, 34, (64,), float32)
    weight_6 = block_at(table, 14, (64, 64), float32)
    weight_6_m = block_at(table, 35, (64, 64), float32)
    bias_6 = block_at(table, 15, (64,), float32)
    bias_6_m = block_at(table, 36, (64,), float32)
    weight_8 = block_at(table, 16, (64, 10), float32)
    weight_8_m = block_at(table, 37, (64, 10), float32)

    # gradient of: test_compiler_source.py:41  logits = model(x)
    matmul_tn(g_weight_8, relu_4, g_logits, 0, 64)
    make_g_weight_and_g_bias_for(g_weight_6, relu_3, g_affine_4, g_bias_6)
    make_g_weight_and_g_bias_for(g_weight_4, relu_2, g_affine_3, g_bias_4)
    make_g_weight_and_g_bias_for(g_weight_2, relu_1, g_affine_2, g_bias_2)
    make_g_weight_and_g_bias_for(g_weight_0, x, g_affine, g_bias_0)
    # test_compiler_source.py:46  optimizer.step()
    momentum(0, 4096, flat(weight_0), flat(g_weight_0), flat(weight_0_m), numbers, step, 0)
    momentum(0, 64, flat(bias_0), flat(g_bias_0), flat(bias_0_m), numbers, step, 0)
    momentum(0, 4096, flat(weight_2), flat(g_weight_2), flat(weight_2_m), numbers, step, 0)
    momentum(0, 64, flat(bias_2), flat(g_bias_2), flat(bias_2_m), numbers, step, 0)
    momentum(0, 4096, flat(weight_4), flat(g_weight_4), flat(weight_4_m), numbers, step, 0)
    momentum(0, 64, flat(bias_4), flat(g_bias_4), flat(bias_4_m), numbers, step, 0)
    momentum(0, 4096, flat(weight_6), flat(g_weight_6), flat(weight_6_m), numbers, step, 0)
    momentum(0, 64, flat(bias_6), flat(g_bias_6), flat(bias_6_m), numbers, step, 0)
    momentum(0, 640, flat(weight_8), flat(g_weight_8), flat(weight_8_m), numbers, step, 0)


def back_and_update_bias_8(step, table):
    """Gradients and momentum on 10 parameters."""
    numbers = block_at(table, 1, (1, 3), float64)
    arena = block_at(table, 0, (1,), uint8)
    g_bias_8 = block_at(table, 38, (10,), float32)
    g_logits = block(arena, 310272, (128, 10), float32)
    bias_8 = block_at(table, 17, (10,), float32)
    bias_8_m = block_at(table, 39, (10,), float32)

    # gradient of: test_compiler_source.py:41  logits = model(x)
    for j in range(10):
        g_bias_8[j] = float32(0)
    for i in range(128):
        for j in range(10):
            g_bias_8[j] += g_logits[i, j]
    # test_compiler_source.py:46  optimizer.step()
    momentum(0, 10, flat(bias_8), flat(g_bias_8), flat(bias_8_m), numbers, step, 0)


def run(steps, gathering, gate, status, table, helping):
    """Run some steps, piece by piece: any number of threads may call this at once."""
    ticket = join(gate, helping)
    while ticket < 4 * steps:
        step, piece = ticket // 4, ticket % 4
        if piece < 2:
            # forward and gradients: 128 rows in 2 pieces
            if ready(gate, 4 * step, status):
                status[1] = step
                forward_and_back(64 * piece, 64 * piece + 64, step, gathering, status, table)
        elif piece < 3:
            # gradients and momentum on 17,280 parameters
            if ready(gate, 4 * step + 2, status):
                back_and_update(step, table)
        else:
            # forward; gradients and momentum on 10 parameters
            if ready(gate, 4 * step + 2, status):
                make_loss_out(step, table)
                back_and_update_bias_8(step, table)
        done(gate)
        ticket = claim(gate)
    leave(gate, 4 * steps, helping)
