"""The step `train`, line 39 of test_compiler_source.py, for x float32[128, 784], y int64[128].
"""

from math import inf, sqrt
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


def adam(start, stop, ps, gs, ms, vs, numbers, step, first):
    beta1 = float32(numbers[step, first + 0])
    one_minus_beta1 = float32(numbers[step, first + 1])
    beta2 = float32(numbers[step, first + 2])
    one_minus_beta2 = float32(numbers[step, first + 3])
    one_minus_beta1_to_t = float32(numbers[step, first + 4])
    one_minus_beta2_to_t = float32(numbers[step, first + 5])
    lr = float32(numbers[step, first + 6])
    eps = float32(numbers[step, first + 7])
    for i in range(start, stop):
        p, g, m, v = ps[i], gs[i], ms[i], vs[i]
        m = beta1 * m + one_minus_beta1 * g
        v = beta2 * v + one_minus_beta2 * g * g
        m_hat = m / one_minus_beta1_to_t
        v_hat = v / one_minus_beta2_to_t
        ps[i] = p - lr * m_hat / (sqrt(v_hat) + eps)
        ms[i] = float32(0) if abs(m) < tiny else m
        vs[i] = float32(0) if abs(v) < tiny else v


def forward_and_back(start, stop, step, gathering, status, table):
    """Forward and gradients, for rows start to stop of 128."""
    order = block_at(table, 2, (1,), int64)
    arena = block_at(table, 0, (1,), uint8)
    x = block_at(table, 4, (128, 784), float32)
    y = block_at(table, 5, (128,), int64)
    all_x = block_at(table, 6, (128, 784), float32)
    all_y = block_at(table, 7, (128,), int64)
    affine_product = block(arena, 0, (128, 128), float32)
    weight_0 = block_at(table, 8, (784, 128), float32)
    bias_0 = block_at(table, 9, (128,), float32)
    relu_1 = block(arena, 65536, (128, 128), float32)
    logits_product = block(arena, 196608, (128, 10), float32)
    weight_2 = block_at(table, 10, (128, 10), float32)
    bias_2 = block_at(table, 11, (10,), float32)
    logits = block(arena, 201728, (128, 10), float32)
    exp_shifted = block(arena, 206848, (128, 10), float32)
    total = block(arena, 217088, (128,), float32)
    labelled = block(arena, 217600, (128,), float32)
    positions = block_at(table, 12, (10,), int64)
    g_logits = block(arena, 211968, (128, 10), float32)
    g_relu_1 = block(arena, 0, (128, 128), float32)
    g_affine = block(arena, 131072, (128, 128), float32)

    if gathering:
        for i in range(start, stop):
            row = order[128 * step + i]
            for j in range(784):
                x[i, j] = all_x[row, j]
            y[i] = all_y[row]
    # test_compiler_source.py:41  logits = model(x)
    matmul(affine_product, x, weight_0, start, stop)
    for i in range(start, stop):
        for j in range(128):
            relu_1[i, j] = relu(affine_product[i, j] + bias_0[j])
    matmul(logits_product, relu_1, weight_2, start, stop)
    for i in range(start, stop):
        top = float32(-inf)
        for j in range(10):
            logits[i, j] = logits_product[i, j] + bias_2[j]
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
    matmul_nt(g_relu_1, g_logits, weight_2, start, stop)
    for i in range(start, stop):
        for j in range(128):
            g_affine[i, j] = g_relu_1[i, j] * (float32(1) if relu_1[i, j] > float32(0) else float32(0))


def make_loss_out(step, table):
    """Forward."""
    arena = block_at(table, 0, (1,), uint8)
    total = block(arena, 217088, (128,), float32)
    labelled = block(arena, 217600, (128,), float32)
    total_2 = block(arena, 0, (1,), float32)
    loss_out = block_at(table, 13, (1,), float32)

    # test_compiler_source.py:42  loss = nn.cross_entropy(logits, y)
    total_2_sum = float32(0)
    for i in range(128):
        total_2_sum = plus(total_2_sum, log(total[i]) - labelled[i])
    total_2[0] = total_2_sum
    loss_out[step] = total_2[0] / float32(128)


def back_and_update(start, stop, step, table):
    """Gradients and adam on 1,408 parameters, for rows start to stop of 128."""
    numbers = block_at(table, 1, (1, 8), float64)
    arena = block_at(table, 0, (1,), uint8)
    g_weight_2 = block_at(table, 14, (128, 10), float32)
    relu_1 = block(arena, 65536, (128, 128), float32)
    g_logits = block(arena, 211968, (128, 10), float32)
    g_bias_0 = block_at(table, 15, (128,), float32)
    g_affine = block(arena, 131072, (128, 128), float32)
    bias_0 = block_at(table, 9, (128,), float32)
    bias_0_m = block_at(table, 16, (128,), float32)
    bias_0_v = block_at(table, 17, (128,), float32)
    weight_2 = block_at(table, 10, (128, 10), float32)
    weight_2_m = block_at(table, 18, (128, 10), float32)
    weight_2_v = block_at(table, 19, (128, 10), float32)

    # gradient of: test_compiler_source.py:41  logits = model(x)
    matmul_tn(g_weight_2, relu_1, g_logits, start, stop)
    for j in range(start, stop):
        g_bias_0[j] = float32(0)
    for i in range(128):
        for j in range(start, stop):
            g_bias_0[j] += g_affine[i, j]
    # test_compiler_source.py:46  optimizer.step()
    adam(
        start, stop, flat(bias_0), flat(g_bias_0), flat(bias_0_m), flat(bias_0_v), numbers,
        step, 0
    )
    adam(
        10 * start, 10 * stop, flat(weight_2), flat(g_weight_2), flat(weight_2_m),
        flat(weight_2_v), numbers, step, 0
    )


def back_and_update_bias_2(step, table):
    """Gradients and adam on 10 parameters."""
    numbers = block_at(table, 1, (1, 8), float64)
    arena = block_at(table, 0, (1,), uint8)
    g_bias_2 = block_at(table, 20, (10,), float32)
    g_logits = block(arena, 211968, (128, 10), float32)
    bias_2 = block_at(table, 11, (10,), float32)
    bias_2_m = block_at(table, 21, (10,), float32)
    bias_2_v = block_at(table, 22, (10,), float32)

    # gradient of: test_compiler_source.py:41  logits = model(x)
    for j in range(10):
        g_bias_2[j] = float32(0)
    for i in range(128):
        for j in range(10):
            g_bias_2[j] += g_logits[i, j]
    # test_compiler_source.py:46  optimizer.step()
    adam(0, 10, flat(bias_2), flat(g_bias_2), flat(bias_2_m), flat(bias_2_v), numbers, step, 0)


def back_and_update_weight_0(start, stop, step, table):
    """Gradients and adam on 100,352 parameters, for rows start to stop of 784."""
    numbers = block_at(table, 1, (1, 8), float64)
    arena = block_at(table, 0, (1,), uint8)
    g_weight_0 = block_at(table, 23, (784, 128), float32)
    x = block_at(table, 4, (128, 784), float32)
    g_affine = block(arena, 131072, (128, 128), float32)
    weight_0 = block_at(table, 8, (784, 128), float32)
    weight_0_m = block_at(table, 24, (784, 128), float32)
    weight_0_v = block_at(table, 25, (784, 128), float32)

    # gradient of: test_compiler_source.py:41  logits = model(x)
    matmul_tn(g_weight_0, x, g_affine, start, stop)
    # test_compiler_source.py:46  optimizer.step()
    adam(
        128 * start, 128 * stop, flat(weight_0), flat(g_weight_0), flat(weight_0_m),
        flat(weight_0_v), numbers, step, 0
    )


def run(steps, gathering, gate, status, table, helping):
    """Run some steps, piece by piece: any number of threads may call this at once."""
    ticket = join(gate, helping)
    while ticket < 16 * steps:
        step, piece = ticket // 16, ticket % 16
        if piece < 2:
            # forward and gradients: 128 rows in 2 pieces
            if ready(gate, 16 * step, status):
                status[1] = step
                forward_and_back(64 * piece, 64 * piece + 64, step, gathering, status, table)
        elif piece < 5:
            # gradients and adam on 1,408 parameters: 128 rows in 3 pieces
            if ready(gate, 16 * step + 2, status):
                back_and_update(43 * (piece - 2), min(43 * (piece - 2) + 43, 128), step, table)
        elif piece < 15:
            # gradients and adam on 100,352 parameters: 784 rows in 10 pieces
            if ready(gate, 16 * step + 2, status):
                back_and_update_weight_0(80 * (piece - 5), min(80 * (piece - 5) + 80, 784), step, table)
        else:
            # forward; gradients and adam on 10 parameters
            if ready(gate, 16 * step + 2, status):
                make_loss_out(step, table)
                back_and_update_bias_2(step, table)
        done(gate)
        ticket = claim(gate)
    leave(gate, 16 * steps, helping)
