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


def rsqrt(x):
    """1 / √x"""
    return float32(1) / sqrt(x)


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


def make_affine(start, stop, step, gathering, table):
    """Forward, for rows start to stop of 128."""
    order = block_at(table, 2, (1,), int64)
    arena = block_at(table, 0, (1,), uint8)
    x = block_at(table, 4, (128, 784), float32)
    y = block_at(table, 5, (128,), int64)
    all_x = block_at(table, 6, (128, 784), float32)
    all_y = block_at(table, 7, (128,), int64)
    affine_product = block(arena, 0, (128, 128), float32)
    weight_0 = block_at(table, 8, (784, 128), float32)
    bias_0 = block_at(table, 9, (128,), float32)
    affine = block(arena, 65536, (128, 128), float32)

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
            affine[i, j] = affine_product[i, j] + bias_0[j]


def forward(start, stop, table):
    """Forward, for rows start to stop of 128."""
    arena = block_at(table, 0, (1,), uint8)
    total = block(arena, 262144, (128,), float32)
    affine = block(arena, 65536, (128, 128), float32)
    centre = block(arena, 539648, (1, 128), float32)
    squares = block(arena, 262144, (128,), float32)
    centred = block(arena, 0, (128, 128), float32)
    spread = block(arena, 541184, (1, 128), float32)
    add_2 = block(arena, 540160, (1, 128), float32)
    rsqrt_1 = block(arena, 540672, (1, 128), float32)
    normal = block(arena, 196608, (128, 128), float32)
    weight_1 = block_at(table, 10, (128,), float32)
    bias_1 = block_at(table, 11, (128,), float32)
    relu_1 = block(arena, 131072, (128, 128), float32)

    # test_compiler_source.py:41  logits = model(x)
    for j in range(start, stop):
        total[j] = float32(0)
    for i in range(128):
        for j in range(start, stop):
            total[j] += affine[i, j]
    for i in range(start, stop):
        centre[0, i] = total[i] / float32(128)
    for j in range(start, stop):
        squares[j] = float32(0)
    for i in range(128):
        for j in range(start, stop):
            centred[i, j] = affine[i, j] - centre[0, j]
            squares[j] += centred[i, j] * centred[i, j]
    for i in range(start, stop):
        spread[0, i] = squares[i] / float32(128)
        add_2[0, i] = spread[0, i] + float32(1e-05)
        rsqrt_1[0, i] = rsqrt(add_2[0, i])
    for i in range(128):
        for j in range(start, stop):
            normal[i, j] = centred[i, j] * rsqrt_1[0, j]
            relu_1[i, j] = relu(normal[i, j] * weight_1[j] + bias_1[j])


def forward_and_back(start, stop, status, table):
    """Forward and gradients, for rows start to stop of 128."""
    arena = block_at(table, 0, (1,), uint8)
    logits_product = block(arena, 458752, (128, 10), float32)
    relu_1 = block(arena, 131072, (128, 128), float32)
    weight_3 = block_at(table, 12, (128, 10), float32)
    bias_3 = block_at(table, 13, (10,), float32)
    logits = block(arena, 524288, (128, 10), float32)
    exp_shifted = block(arena, 529408, (128, 10), float32)
    total_2 = block(arena, 541696, (128,), float32)
    y = block_at(table, 5, (128,), int64)
    labelled = block(arena, 542208, (128,), float32)
    positions = block_at(table, 14, (10,), int64)
    g_logits = block(arena, 534528, (128, 10), float32)
    g_relu_1 = block(arena, 65536, (128, 128), float32)
    g_add_3 = block(arena, 262144, (128, 128), float32)
    weight_1 = block_at(table, 10, (128,), float32)
    g_normal = block(arena, 327680, (128, 128), float32)
    rsqrt_1 = block(arena, 540672, (1, 128), float32)
    g_subtract_3 = block(arena, 393216, (128, 128), float32)

    # test_compiler_source.py:41  logits = model(x)
    matmul(logits_product, relu_1, weight_3, start, stop)
    for i in range(start, stop):
        top = float32(-inf)
        for j in range(10):
            logits[i, j] = logits_product[i, j] + bias_3[j]
            top = maximum(top, logits[i, j])
        # test_compiler_source.py:42  loss = nn.cross_entropy(logits, y)
        total_2_sum = float32(0)
        for j in range(10):
            exp_shifted[i, j] = exp(logits[i, j] - top)
            total_2_sum = plus(total_2_sum, exp_shifted[i, j])
        total_2[i] = total_2_sum
        labelled[i] = logits[i, within(y[i], 10, status)] - top
        # gradient of: test_compiler_source.py:42  loss = nn.cross_entropy(logits, y)
        for j in range(10):
            subtract_4 = exp_shifted[i, j] / total_2[i] - (float32(1) if y[i] == positions[j] else float32(0))
            g_logits[i, j] = subtract_4 * float32(0.0078125)
    # gradient of: test_compiler_source.py:41  logits = model(x)
    matmul_nt(g_relu_1, g_logits, weight_3, start, stop)
    for i in range(start, stop):
        for j in range(128):
            g_add_3[i, j] = g_relu_1[i, j] * (float32(1) if relu_1[i, j] > float32(0) else float32(0))
            g_normal[i, j] = g_add_3[i, j] * weight_1[j]
            g_subtract_3[i, j] = g_normal[i, j] * rsqrt_1[0, j]


def make_loss_out(step, table):
    """Forward."""
    arena = block_at(table, 0, (1,), uint8)
    total_2 = block(arena, 541696, (128,), float32)
    labelled = block(arena, 542208, (128,), float32)
    total_3 = block(arena, 544256, (1,), float32)
    loss_out = block_at(table, 15, (1,), float32)

    # test_compiler_source.py:42  loss = nn.cross_entropy(logits, y)
    total_3_sum = float32(0)
    for i in range(128):
        total_3_sum = plus(total_3_sum, log(total_2[i]) - labelled[i])
    total_3[0] = total_3_sum
    loss_out[step] = total_3[0] / float32(128)


def back_and_update(start, stop, step, table):
    """Forward, gradients and adam on 1,664 parameters, for rows start to stop of 128."""
    numbers = block_at(table, 1, (1, 8), float64)
    arena = block_at(table, 0, (1,), uint8)
    g_weight_3 = block_at(table, 16, (128, 10), float32)
    relu_1 = block(arena, 131072, (128, 128), float32)
    g_logits = block(arena, 534528, (128, 10), float32)
    g_reshape_4 = block(arena, 524288, (128,), float32)
    g_reshape_3 = block(arena, 529408, (128,), float32)
    g_add_3 = block(arena, 262144, (128, 128), float32)
    normal = block(arena, 196608, (128, 128), float32)
    g_rsqrt_1 = block(arena, 542720, (128,), float32)
    g_normal = block(arena, 327680, (128, 128), float32)
    centred = block(arena, 0, (128, 128), float32)
    g_centre = block(arena, 543232, (128,), float32)
    g_subtract_3 = block(arena, 393216, (128, 128), float32)
    rsqrt_1 = block(arena, 540672, (1, 128), float32)
    add_2 = block(arena, 540160, (1, 128), float32)
    g_squares = block(arena, 543744, (1, 128), float32)
    g_mean_2 = block(arena, 540160, (128,), float32)
    g_centred = block(arena, 65536, (128, 128), float32)
    divide_3 = block(arena, 540672, (1, 128), float32)
    divide_4 = block(arena, 542720, (1, 128), float32)
    g_bias_0 = block_at(table, 17, (128,), float32)
    g_affine = block(arena, 458752, (128, 128), float32)
    bias_0 = block_at(table, 9, (128,), float32)
    bias_0_m = block_at(table, 18, (128,), float32)
    bias_0_v = block_at(table, 19, (128,), float32)
    weight_1 = block_at(table, 10, (128,), float32)
    weight_1_m = block_at(table, 20, (128,), float32)
    weight_1_v = block_at(table, 21, (128,), float32)
    bias_1 = block_at(table, 11, (128,), float32)
    bias_1_m = block_at(table, 22, (128,), float32)
    bias_1_v = block_at(table, 23, (128,), float32)
    weight_3 = block_at(table, 12, (128, 10), float32)
    weight_3_m = block_at(table, 24, (128, 10), float32)
    weight_3_v = block_at(table, 25, (128, 10), float32)
    centre = block(arena, 539648, (1, 128), float32)
    running_mean_1 = block_at(table, 26, (128,), float32)
    spread = block(arena, 541184, (1, 128), float32)
    running_var_1 = block_at(table, 27, (128,), float32)
    g_weight_1_home = block_at(table, 28, (128,), float32)
    g_bias_1_home = block_at(table, 29, (128,), float32)

    # gradient of: test_compiler_source.py:41  logits = model(x)
    matmul_tn(g_weight_3, relu_1, g_logits, start, stop)
    for j in range(start, stop):
        g_reshape_4[j] = float32(0)
        g_reshape_3[j] = float32(0)
    for i in range(128):
        for j in range(start, stop):
            g_reshape_4[j] += g_add_3[i, j]
            g_reshape_3[j] += g_add_3[i, j] * normal[i, j]
    for j in range(start, stop):
        g_rsqrt_1[j] = float32(0)
    for i in range(128):
        for j in range(start, stop):
            g_rsqrt_1[j] += g_normal[i, j] * centred[i, j]
    for j in range(start, stop):
        g_centre[j] = float32(0)
    for i in range(128):
        for j in range(start, stop):
            g_centre[j] += -g_subtract_3[i, j]
    for i in range(start, stop):
        g_add_2 = g_rsqrt_1[i] * (float32(-0.5) * rsqrt_1[0, i] / add_2[0, i])
        g_squares[0, i] = g_add_2 * float32(0.0078125)
    for j in range(start, stop):
        g_mean_2[j] = float32(0)
    for i in range(128):
        for j in range(start, stop):
            multiply_4 = g_squares[0, j] * centred[i, j]
            g_centred[i, j] = multiply_4 + multiply_4
            g_mean_2[j] += -g_centred[i, j]
    for i in range(start, stop):
        divide_3[0, i] = g_mean_2[i] / float32(128)
        divide_4[0, i] = g_centre[i] / float32(128)
    for j in range(start, stop):
        g_bias_0[j] = float32(0)
    for i in range(128):
        for j in range(start, stop):
            add_5 = g_subtract_3[i, j] + g_centred[i, j] + divide_3[0, j]
            g_affine[i, j] = add_5 + divide_4[0, j]
            g_bias_0[j] += g_affine[i, j]
    # test_compiler_source.py:46  optimizer.step()
    adam(
        start, stop, flat(bias_0), flat(g_bias_0), flat(bias_0_m), flat(bias_0_v), numbers,
        step, 0
    )
    adam(
        start, stop, flat(weight_1), flat(g_reshape_3), flat(weight_1_m), flat(weight_1_v),
        numbers, step, 0
    )
    adam(
        start, stop, flat(bias_1), flat(g_reshape_4), flat(bias_1_m), flat(bias_1_v), numbers,
        step, 0
    )
    adam(
        10 * start, 10 * stop, flat(weight_3), flat(g_weight_3), flat(weight_3_m),
        flat(weight_3_v), numbers, step, 0
    )
    # test_compiler_source.py:41  logits = model(x)
    for i in range(start, stop):
        add_1 = running_mean_1[i] + float32(0.1) * (centre[0, i] - running_mean_1[i])
        running_mean_1[i] = add_1
        subtract_2 = spread[0, i] * float32(1.007874) - running_var_1[i]
        running_var_1[i] = running_var_1[i] + float32(0.1) * subtract_2
        g_weight_1_home[i] = g_reshape_3[i]
        g_bias_1_home[i] = g_reshape_4[i]


def back_and_update_bias_3(step, table):
    """Gradients and adam on 10 parameters."""
    numbers = block_at(table, 1, (1, 8), float64)
    arena = block_at(table, 0, (1,), uint8)
    g_bias_3 = block_at(table, 30, (10,), float32)
    g_logits = block(arena, 534528, (128, 10), float32)
    bias_3 = block_at(table, 13, (10,), float32)
    bias_3_m = block_at(table, 31, (10,), float32)
    bias_3_v = block_at(table, 32, (10,), float32)

    # gradient of: test_compiler_source.py:41  logits = model(x)
    for j in range(10):
        g_bias_3[j] = float32(0)
    for i in range(128):
        for j in range(10):
            g_bias_3[j] += g_logits[i, j]
    # test_compiler_source.py:46  optimizer.step()
    adam(0, 10, flat(bias_3), flat(g_bias_3), flat(bias_3_m), flat(bias_3_v), numbers, step, 0)


def back_and_update_weight_0(start, stop, step, table):
    """Gradients and adam on 100,352 parameters, for rows start to stop of 784."""
    numbers = block_at(table, 1, (1, 8), float64)
    arena = block_at(table, 0, (1,), uint8)
    g_weight_0 = block_at(table, 33, (784, 128), float32)
    x = block_at(table, 4, (128, 784), float32)
    g_affine = block(arena, 458752, (128, 128), float32)
    weight_0 = block_at(table, 8, (784, 128), float32)
    weight_0_m = block_at(table, 34, (784, 128), float32)
    weight_0_v = block_at(table, 35, (784, 128), float32)

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
    while ticket < 28 * steps:
        step, piece = ticket // 28, ticket % 28
        if piece < 2:
            # forward: 128 rows in 2 pieces
            if ready(gate, 28 * step, status):
                status[1] = step
                make_affine(64 * piece, 64 * piece + 64, step, gathering, table)
        elif piece < 6:
            # forward: 128 rows in 4 pieces
            if ready(gate, 28 * step + 2, status):
                forward(32 * (piece - 2), 32 * (piece - 2) + 32, table)
        elif piece < 9:
            # forward and gradients: 128 rows in 3 pieces
            if ready(gate, 28 * step + 6, status):
                forward_and_back(43 * (piece - 6), min(43 * (piece - 6) + 43, 128), status, table)
        elif piece < 17:
            # forward, gradients and adam on 1,664 parameters: 128 rows in 8 pieces
            if ready(gate, 28 * step + 9, status):
                back_and_update(16 * (piece - 9), 16 * (piece - 9) + 16, step, table)
        elif piece < 18:
            # forward; gradients and adam on 10 parameters
            if ready(gate, 28 * step + 9, status):
                make_loss_out(step, table)
                back_and_update_bias_3(step, table)
        else:
            # gradients and adam on 100,352 parameters: 784 rows in 10 pieces
            if ready(gate, 28 * step + 18, status):
                back_and_update_weight_0(80 * (piece - 18), min(80 * (piece - 18) + 80, 784), step, table)
        done(gate)
        ticket = claim(gate)
    leave(gate, 28 * steps, helping)
