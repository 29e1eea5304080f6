"""The step `train`, line 39 of test_compiler_source.py, for x float32[50, 8], y int64[50].
"""

from math import inf, sqrt
from numpy import float32, float64, int64, uint8
from microgradx.kernels.runtime import (
    block, block_at, flat, matmul, matmul_nt, matmul_tn, plus, within
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


def sign(x):
    """-1, 0 or 1"""
    return float32(1) if x > float32(0) else float32(-1) if x < float32(0) else float32(0) * x


def lion(start, stop, ps, gs, ms, numbers, step, first):
    lr = float32(numbers[step, first + 0])
    beta1 = float32(numbers[step, first + 1])
    one_minus_beta1 = float32(numbers[step, first + 2])
    beta2 = float32(numbers[step, first + 3])
    one_minus_beta2 = float32(numbers[step, first + 4])
    for i in range(start, stop):
        p, g, m = ps[i], gs[i], ms[i]
        p = p - lr * sign(beta1 * m + one_minus_beta1 * g)
        new_m = beta2 * m + one_minus_beta2 * g
        ps[i] = p
        ms[i] = float32(0) if abs(new_m) < tiny else new_m


def forward_and_back(step, gathering, status, table):
    """Forward and gradients."""
    order = block_at(table, 2, (1,), int64)
    arena = block_at(table, 0, (1,), uint8)
    x = block_at(table, 4, (50, 8), float32)
    y = block_at(table, 5, (50,), int64)
    all_x = block_at(table, 6, (50, 8), float32)
    all_y = block_at(table, 7, (50,), int64)
    affine_product = block(arena, 0, (50, 16), float32)
    weight_0 = block_at(table, 8, (8, 16), float32)
    bias_0 = block_at(table, 9, (16,), float32)
    affine = block(arena, 3200, (50, 16), float32)
    total = block(arena, 0, (16,), float32)
    centre = block(arena, 36352, (1, 16), float32)
    centred = block(arena, 0, (50, 16), float32)
    squares = block(arena, 3200, (16,), float32)
    spread = block(arena, 36544, (1, 16), float32)
    add_2 = block(arena, 36416, (1, 16), float32)
    rsqrt_1 = block(arena, 36480, (1, 16), float32)
    normal = block(arena, 12800, (50, 16), float32)
    weight_1 = block_at(table, 10, (16,), float32)
    bias_1 = block_at(table, 11, (16,), float32)
    relu_1 = block(arena, 6400, (50, 16), float32)
    centred_2 = block(arena, 9600, (50, 16), float32)
    add_4 = block(arena, 35840, (50, 1), float32)
    rsqrt_2 = block(arena, 36096, (50, 1), float32)
    normal_2 = block(arena, 3200, (50, 16), float32)
    weight_3 = block_at(table, 12, (16,), float32)
    bias_3 = block_at(table, 13, (16,), float32)
    add_5 = block(arena, 16000, (50, 16), float32)
    logits_product = block(arena, 19200, (50, 3), float32)
    weight_4 = block_at(table, 14, (16, 3), float32)
    bias_4 = block_at(table, 15, (3,), float32)
    logits = block(arena, 22400, (50, 3), float32)
    exp_shifted = block(arena, 25600, (50, 3), float32)
    total_3 = block(arena, 32000, (50,), float32)
    labelled = block(arena, 28800, (50,), float32)
    total_4 = block(arena, 36736, (1,), float32)
    positions = block_at(table, 16, (3,), int64)
    g_logits = block(arena, 35200, (50, 3), float32)
    g_add_5 = block(arena, 19200, (50, 16), float32)
    sum_2 = block(arena, 36608, (16,), float32)
    sum_3 = block(arena, 36672, (16,), float32)
    g_subtract_4 = block(arena, 3200, (50, 16), float32)
    g_centred_2 = block(arena, 22400, (50, 16), float32)
    g_add_3 = block(arena, 25600, (50, 16), float32)
    g_normal = block(arena, 28800, (50, 16), float32)
    g_subtract_3 = block(arena, 32000, (50, 16), float32)
    g_reshape_4 = block(arena, 6400, (16,), float32)
    g_reshape_3 = block(arena, 9600, (16,), float32)
    g_rsqrt_1 = block(arena, 3200, (16,), float32)
    g_centre = block(arena, 12800, (16,), float32)
    g_squares = block(arena, 19200, (1, 16), float32)
    g_centred = block(arena, 3200, (50, 16), float32)
    g_mean_2 = block(arena, 0, (16,), float32)
    divide_7 = block(arena, 19200, (1, 16), float32)
    divide_8 = block(arena, 22400, (1, 16), float32)
    g_affine = block(arena, 0, (50, 16), float32)
    loss_out = block_at(table, 17, (1,), float32)

    if gathering:
        for i in range(50):
            row = order[50 * step + i]
            for j in range(8):
                x[i, j] = all_x[row, j]
            y[i] = all_y[row]
    # test_compiler_source.py:41  logits = model(x)
    matmul(affine_product, x, weight_0, 0, 50)
    for i in range(50):
        for j in range(16):
            affine[i, j] = affine_product[i, j] + bias_0[j]
    for j in range(16):
        total[j] = float32(0)
    for i in range(50):
        for j in range(16):
            total[j] += affine[i, j]
    for i in range(16):
        centre[0, i] = total[i] / float32(50)
    for i in range(50):
        for j in range(16):
            centred[i, j] = affine[i, j] - centre[0, j]
    for j in range(16):
        squares[j] = float32(0)
    for i in range(50):
        for j in range(16):
            squares[j] += centred[i, j] * centred[i, j]
    for i in range(16):
        spread[0, i] = squares[i] / float32(50)
        add_2[0, i] = spread[0, i] + float32(1e-05)
        rsqrt_1[0, i] = rsqrt(add_2[0, i])
    for i in range(50):
        total_2 = float32(0)
        for j in range(16):
            normal[i, j] = centred[i, j] * rsqrt_1[0, j]
            relu_1[i, j] = relu(normal[i, j] * weight_1[j] + bias_1[j])
            total_2 = plus(total_2, relu_1[i, j])
        centre_2 = total_2 / float32(16)
        squares_2 = float32(0)
        for j in range(16):
            centred_2[i, j] = relu_1[i, j] - centre_2
            squares_2 = plus(squares_2, centred_2[i, j] * centred_2[i, j])
        add_4[i, 0] = squares_2 / float32(16) + float32(1e-05)
        rsqrt_2[i, 0] = rsqrt(add_4[i, 0])
        for j in range(16):
            normal_2[i, j] = centred_2[i, j] * rsqrt_2[i, 0]
            add_5[i, j] = normal_2[i, j] * weight_3[j] + bias_3[j]
    matmul(logits_product, add_5, weight_4, 0, 50)
    for i in range(50):
        top = float32(-inf)
        for j in range(3):
            logits[i, j] = logits_product[i, j] + bias_4[j]
            top = maximum(top, logits[i, j])
        # test_compiler_source.py:42  loss = nn.cross_entropy(logits, y)
        total_3_sum = float32(0)
        for j in range(3):
            exp_shifted[i, j] = exp(logits[i, j] - top)
            total_3_sum = plus(total_3_sum, exp_shifted[i, j])
        total_3[i] = total_3_sum
        labelled[i] = logits[i, within(y[i], 3, status)] - top
    total_4_sum = float32(0)
    for i in range(50):
        total_4_sum = plus(total_4_sum, log(total_3[i]) - labelled[i])
    total_4[0] = total_4_sum
    # gradient of: test_compiler_source.py:42  loss = nn.cross_entropy(logits, y)
    for i in range(50):
        for j in range(3):
            subtract_5 = exp_shifted[i, j] / total_3[i] - (float32(1) if y[i] == positions[j] else float32(0))
            g_logits[i, j] = subtract_5 * float32(0.02)
    # gradient of: test_compiler_source.py:41  logits = model(x)
    matmul_nt(g_add_5, g_logits, weight_4, 0, 50)
    for j in range(16):
        sum_2[j] = float32(0)
        sum_3[j] = float32(0)
    for i in range(50):
        for j in range(16):
            sum_2[j] += g_add_5[i, j]
            sum_3[j] += g_add_5[i, j] * normal_2[i, j]
    for i in range(50):
        g_rsqrt_2 = float32(0)
        g_centre_2 = float32(0)
        for j in range(16):
            g_normal_2 = g_add_5[i, j] * weight_3[j]
            g_subtract_4[i, j] = g_normal_2 * rsqrt_2[i, 0]
            g_rsqrt_2 = plus(g_rsqrt_2, g_normal_2 * centred_2[i, j])
            g_centre_2 = plus(g_centre_2, -g_subtract_4[i, j])
        g_add_4 = g_rsqrt_2 * (float32(-0.5) * rsqrt_2[i, 0] / add_4[i, 0])
        g_squares_2 = g_add_4 * float32(0.0625)
        g_mean_3 = float32(0)
        for j in range(16):
            multiply_5 = g_squares_2 * centred_2[i, j]
            g_centred_2[i, j] = multiply_5 + multiply_5
            g_mean_3 = plus(g_mean_3, -g_centred_2[i, j])
        divide_3 = g_mean_3 / float32(16)
        divide_4 = g_centre_2 / float32(16)
        for j in range(16):
            g_relu_1 = g_subtract_4[i, j] + g_centred_2[i, j] + divide_3 + divide_4
            g_add_3[i, j] = g_relu_1 * (float32(1) if relu_1[i, j] > float32(0) else float32(0))
            g_normal[i, j] = g_add_3[i, j] * weight_1[j]
            g_subtract_3[i, j] = g_normal[i, j] * rsqrt_1[0, j]
    for j in range(16):
        g_reshape_4[j] = float32(0)
        g_reshape_3[j] = float32(0)
    for i in range(50):
        for j in range(16):
            g_reshape_4[j] += g_add_3[i, j]
            g_reshape_3[j] += g_add_3[i, j] * normal[i, j]
    for j in range(16):
        g_rsqrt_1[j] = float32(0)
    for i in range(50):
        for j in range(16):
            g_rsqrt_1[j] += g_normal[i, j] * centred[i, j]
    for j in range(16):
        g_centre[j] = float32(0)
    for i in range(50):
        for j in range(16):
            g_centre[j] += -g_subtract_3[i, j]
    for i in range(16):
        g_add_2 = g_rsqrt_1[i] * (float32(-0.5) * rsqrt_1[0, i] / add_2[0, i])
        g_squares[0, i] = g_add_2 * float32(0.02)
    for i in range(50):
        for j in range(16):
            multiply_10 = g_squares[0, j] * centred[i, j]
            g_centred[i, j] = multiply_10 + multiply_10
    for j in range(16):
        g_mean_2[j] = float32(0)
    for i in range(50):
        for j in range(16):
            g_mean_2[j] += -g_centred[i, j]
    for i in range(16):
        divide_7[0, i] = g_mean_2[i] / float32(50)
        divide_8[0, i] = g_centre[i] / float32(50)
    for i in range(50):
        for j in range(16):
            add_9 = g_subtract_3[i, j] + g_centred[i, j] + divide_7[0, j]
            g_affine[i, j] = add_9 + divide_8[0, j]
    # test_compiler_source.py:42  loss = nn.cross_entropy(logits, y)
    loss_out[step] = total_4[0] / float32(50)


def back_and_update(step, table):
    """Forward, gradients and lion on 259 parameters."""
    numbers = block_at(table, 1, (1, 5), float64)
    arena = block_at(table, 0, (1,), uint8)
    g_weight_4 = block_at(table, 18, (16, 3), float32)
    add_5 = block(arena, 16000, (50, 16), float32)
    g_logits = block(arena, 35200, (50, 3), float32)
    g_bias_4 = block_at(table, 19, (3,), float32)
    g_weight_0 = block_at(table, 20, (8, 16), float32)
    x = block_at(table, 4, (50, 8), float32)
    g_affine = block(arena, 0, (50, 16), float32)
    g_bias_0 = block_at(table, 21, (16,), float32)
    weight_0 = block_at(table, 8, (8, 16), float32)
    weight_0_m = block_at(table, 22, (8, 16), float32)
    bias_0 = block_at(table, 9, (16,), float32)
    bias_0_m = block_at(table, 23, (16,), float32)
    weight_1 = block_at(table, 10, (16,), float32)
    g_reshape_3 = block(arena, 9600, (16,), float32)
    weight_1_m = block_at(table, 24, (16,), float32)
    bias_1 = block_at(table, 11, (16,), float32)
    g_reshape_4 = block(arena, 6400, (16,), float32)
    bias_1_m = block_at(table, 25, (16,), float32)
    weight_3 = block_at(table, 12, (16,), float32)
    sum_3 = block(arena, 36672, (16,), float32)
    weight_3_m = block_at(table, 26, (16,), float32)
    bias_3 = block_at(table, 13, (16,), float32)
    sum_2 = block(arena, 36608, (16,), float32)
    bias_3_m = block_at(table, 27, (16,), float32)
    weight_4 = block_at(table, 14, (16, 3), float32)
    weight_4_m = block_at(table, 28, (16, 3), float32)
    bias_4 = block_at(table, 15, (3,), float32)
    bias_4_m = block_at(table, 29, (3,), float32)
    centre = block(arena, 36352, (1, 16), float32)
    running_mean_1 = block_at(table, 30, (16,), float32)
    spread = block(arena, 36544, (1, 16), float32)
    running_var_1 = block_at(table, 31, (16,), float32)
    g_weight_1_home = block_at(table, 32, (16,), float32)
    g_bias_1_home = block_at(table, 33, (16,), float32)
    g_weight_3_home = block_at(table, 34, (16,), float32)
    g_bias_3_home = block_at(table, 35, (16,), float32)

    # gradient of: test_compiler_source.py:41  logits = model(x)
    matmul_tn(g_weight_4, add_5, g_logits, 0, 16)
    for j in range(3):
        g_bias_4[j] = float32(0)
    for i in range(50):
        for j in range(3):
            g_bias_4[j] += g_logits[i, j]
    matmul_tn(g_weight_0, x, g_affine, 0, 8)
    for j in range(16):
        g_bias_0[j] = float32(0)
    for i in range(50):
        for j in range(16):
            g_bias_0[j] += g_affine[i, j]
    # test_compiler_source.py:46  optimizer.step()
    lion(0, 128, flat(weight_0), flat(g_weight_0), flat(weight_0_m), numbers, step, 0)
    lion(0, 16, flat(bias_0), flat(g_bias_0), flat(bias_0_m), numbers, step, 0)
    lion(0, 16, flat(weight_1), flat(g_reshape_3), flat(weight_1_m), numbers, step, 0)
    lion(0, 16, flat(bias_1), flat(g_reshape_4), flat(bias_1_m), numbers, step, 0)
    lion(0, 16, flat(weight_3), flat(sum_3), flat(weight_3_m), numbers, step, 0)
    lion(0, 16, flat(bias_3), flat(sum_2), flat(bias_3_m), numbers, step, 0)
    lion(0, 48, flat(weight_4), flat(g_weight_4), flat(weight_4_m), numbers, step, 0)
    lion(0, 3, flat(bias_4), flat(g_bias_4), flat(bias_4_m), numbers, step, 0)
    # test_compiler_source.py:41  logits = model(x)
    for i in range(16):
        add_1 = running_mean_1[i] + float32(0.1) * (centre[0, i] - running_mean_1[i])
        running_mean_1[i] = add_1
        subtract_2 = spread[0, i] * float32(1.0204082) - running_var_1[i]
        running_var_1[i] = running_var_1[i] + float32(0.1) * subtract_2
        g_weight_1_home[i] = g_reshape_3[i]
        g_bias_1_home[i] = g_reshape_4[i]
        g_weight_3_home[i] = sum_3[i]
        g_bias_3_home[i] = sum_2[i]


def run(steps, gathering, status, table):
    """Run some steps, one after the other."""
    for step in range(steps):
        status[1] = step
        # forward and gradients
        forward_and_back(step, gathering, status, table)
        if status[0] != 0:
            return
        # forward, gradients and lion on 259 parameters
        back_and_update(step, table)
