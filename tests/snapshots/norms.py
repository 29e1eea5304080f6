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
    mean = block(arena, 36352, (1, 16), float32)
    subtract_1 = block(arena, 0, (50, 16), float32)
    sum_1 = block(arena, 3200, (16,), float32)
    divide_1 = block(arena, 36544, (1, 16), float32)
    add_3 = block(arena, 36416, (1, 16), float32)
    rsqrt_1 = block(arena, 36480, (1, 16), float32)
    multiply_5 = block(arena, 12800, (50, 16), float32)
    weight_1 = block_at(table, 10, (16,), float32)
    bias_1 = block_at(table, 11, (16,), float32)
    relu_1 = block(arena, 6400, (50, 16), float32)
    subtract_5 = block(arena, 9600, (50, 16), float32)
    add_5 = block(arena, 35840, (50, 1), float32)
    rsqrt_2 = block(arena, 36096, (50, 1), float32)
    multiply_8 = block(arena, 3200, (50, 16), float32)
    weight_3 = block_at(table, 12, (16,), float32)
    bias_3 = block_at(table, 13, (16,), float32)
    add_6 = block(arena, 16000, (50, 16), float32)
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
    g_add_6 = block(arena, 19200, (50, 16), float32)
    sum_4 = block(arena, 36608, (16,), float32)
    sum_5 = block(arena, 36672, (16,), float32)
    g_subtract_6 = block(arena, 3200, (50, 16), float32)
    g_subtract_5 = block(arena, 22400, (50, 16), float32)
    g_add_4 = block(arena, 25600, (50, 16), float32)
    g_multiply_5 = block(arena, 28800, (50, 16), float32)
    g_subtract_4 = block(arena, 32000, (50, 16), float32)
    g_reshape_4 = block(arena, 6400, (16,), float32)
    g_reshape_3 = block(arena, 9600, (16,), float32)
    g_rsqrt_1 = block(arena, 3200, (16,), float32)
    g_mean = block(arena, 12800, (16,), float32)
    g_sum_1 = block(arena, 19200, (1, 16), float32)
    g_subtract_1 = block(arena, 3200, (50, 16), float32)
    g_mean_2 = block(arena, 0, (16,), float32)
    divide_9 = block(arena, 19200, (1, 16), float32)
    divide_10 = block(arena, 22400, (1, 16), float32)
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
        mean[0, i] = total[i] / float32(50)
    for i in range(50):
        for j in range(16):
            subtract_1[i, j] = affine[i, j] - mean[0, j]
    for j in range(16):
        sum_1[j] = float32(0)
    for i in range(50):
        for j in range(16):
            sum_1[j] += subtract_1[i, j] * subtract_1[i, j]
    for i in range(16):
        divide_1[0, i] = sum_1[i] / float32(50)
        add_3[0, i] = divide_1[0, i] + float32(1e-05)
        rsqrt_1[0, i] = rsqrt(add_3[0, i])
    for i in range(50):
        total_2 = float32(0)
        for j in range(16):
            multiply_5[i, j] = subtract_1[i, j] * rsqrt_1[0, j]
            relu_1[i, j] = relu(multiply_5[i, j] * weight_1[j] + bias_1[j])
            total_2 = plus(total_2, relu_1[i, j])
        mean_3 = total_2 / float32(16)
        sum_2 = float32(0)
        for j in range(16):
            subtract_5[i, j] = relu_1[i, j] - mean_3
            sum_2 = plus(sum_2, subtract_5[i, j] * subtract_5[i, j])
        add_5[i, 0] = sum_2 / float32(16) + float32(1e-05)
        rsqrt_2[i, 0] = rsqrt(add_5[i, 0])
        for j in range(16):
            multiply_8[i, j] = subtract_5[i, j] * rsqrt_2[i, 0]
            add_6[i, j] = multiply_8[i, j] * weight_3[j] + bias_3[j]
    matmul(logits_product, add_6, weight_4, 0, 50)
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
            subtract_7 = exp_shifted[i, j] / total_3[i] - (float32(1) if y[i] == positions[j] else float32(0))
            g_logits[i, j] = subtract_7 * float32(0.02)
    # gradient of: test_compiler_source.py:41  logits = model(x)
    matmul_nt(g_add_6, g_logits, weight_4, 0, 50)
    for j in range(16):
        sum_4[j] = float32(0)
        sum_5[j] = float32(0)
    for i in range(50):
        for j in range(16):
            sum_4[j] += g_add_6[i, j]
            sum_5[j] += g_add_6[i, j] * multiply_8[i, j]
    for i in range(50):
        g_rsqrt_2 = float32(0)
        g_mean_3 = float32(0)
        for j in range(16):
            g_multiply_8 = g_add_6[i, j] * weight_3[j]
            g_subtract_6[i, j] = g_multiply_8 * rsqrt_2[i, 0]
            g_rsqrt_2 = plus(g_rsqrt_2, g_multiply_8 * subtract_5[i, j])
            g_mean_3 = plus(g_mean_3, -g_subtract_6[i, j])
        g_add_5 = g_rsqrt_2 * (float32(-0.5) * rsqrt_2[i, 0] / add_5[i, 0])
        g_sum_2 = g_add_5 * float32(0.0625)
        g_mean_4 = float32(0)
        for j in range(16):
            multiply_10 = g_sum_2 * subtract_5[i, j]
            g_subtract_5[i, j] = multiply_10 + multiply_10
            g_mean_4 = plus(g_mean_4, -g_subtract_5[i, j])
        divide_5 = g_mean_4 / float32(16)
        divide_6 = g_mean_3 / float32(16)
        for j in range(16):
            add_8 = g_subtract_6[i, j] + g_subtract_5[i, j] + divide_5
            g_add_4[i, j] = (add_8 + divide_6) * (float32(1) if relu_1[i, j] > float32(0) else float32(0))
            g_multiply_5[i, j] = g_add_4[i, j] * weight_1[j]
            g_subtract_4[i, j] = g_multiply_5[i, j] * rsqrt_1[0, j]
    for j in range(16):
        g_reshape_4[j] = float32(0)
        g_reshape_3[j] = float32(0)
    for i in range(50):
        for j in range(16):
            g_reshape_4[j] += g_add_4[i, j]
            g_reshape_3[j] += g_add_4[i, j] * multiply_5[i, j]
    for j in range(16):
        g_rsqrt_1[j] = float32(0)
    for i in range(50):
        for j in range(16):
            g_rsqrt_1[j] += g_multiply_5[i, j] * subtract_1[i, j]
    for j in range(16):
        g_mean[j] = float32(0)
    for i in range(50):
        for j in range(16):
            g_mean[j] += -g_subtract_4[i, j]
    for i in range(16):
        g_add_3 = g_rsqrt_1[i] * (float32(-0.5) * rsqrt_1[0, i] / add_3[0, i])
        g_sum_1[0, i] = g_add_3 * float32(0.02)
    for i in range(50):
        for j in range(16):
            multiply_15 = g_sum_1[0, j] * subtract_1[i, j]
            g_subtract_1[i, j] = multiply_15 + multiply_15
    for j in range(16):
        g_mean_2[j] = float32(0)
    for i in range(50):
        for j in range(16):
            g_mean_2[j] += -g_subtract_1[i, j]
    for i in range(16):
        divide_9[0, i] = g_mean_2[i] / float32(50)
    for i in range(16):
        divide_10[0, i] = g_mean[i] / float32(50)
    for i in range(50):
        for j in range(16):
            add_10 = g_subtract_4[i, j] + g_subtract_1[i, j] + divide_9[0, j]
            g_affine[i, j] = add_10 + divide_10[0, j]
    # test_compiler_source.py:42  loss = nn.cross_entropy(logits, y)
    loss_out[step] = total_4[0] / float32(50)


def back_and_update(step, table):
    """Forward, gradients and lion on 259 parameters."""
    numbers = block_at(table, 1, (1, 5), float64)
    arena = block_at(table, 0, (1,), uint8)
    g_weight_4 = block_at(table, 18, (16, 3), float32)
    add_6 = block(arena, 16000, (50, 16), float32)
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
    sum_5 = block(arena, 36672, (16,), float32)
    weight_3_m = block_at(table, 26, (16,), float32)
    bias_3 = block_at(table, 13, (16,), float32)
    sum_4 = block(arena, 36608, (16,), float32)
    bias_3_m = block_at(table, 27, (16,), float32)
    weight_4 = block_at(table, 14, (16, 3), float32)
    weight_4_m = block_at(table, 28, (16, 3), float32)
    bias_4 = block_at(table, 15, (3,), float32)
    bias_4_m = block_at(table, 29, (3,), float32)
    mean = block(arena, 36352, (1, 16), float32)
    running_mean_1 = block_at(table, 30, (16,), float32)
    divide_1 = block(arena, 36544, (1, 16), float32)
    running_var_1 = block_at(table, 31, (16,), float32)
    g_weight_1_home = block_at(table, 32, (16,), float32)
    g_bias_1_home = block_at(table, 33, (16,), float32)
    g_weight_3_home = block_at(table, 34, (16,), float32)
    g_bias_3_home = block_at(table, 35, (16,), float32)

    # gradient of: test_compiler_source.py:41  logits = model(x)
    matmul_tn(g_weight_4, add_6, g_logits, 0, 16)
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
    lion(0, 16, flat(weight_3), flat(sum_5), flat(weight_3_m), numbers, step, 0)
    lion(0, 16, flat(bias_3), flat(sum_4), flat(bias_3_m), numbers, step, 0)
    lion(0, 48, flat(weight_4), flat(g_weight_4), flat(weight_4_m), numbers, step, 0)
    lion(0, 3, flat(bias_4), flat(g_bias_4), flat(bias_4_m), numbers, step, 0)
    # test_compiler_source.py:41  logits = model(x)
    for i in range(16):
        add_1 = running_mean_1[i] + float32(0.1) * (mean[0, i] - running_mean_1[i])
        running_mean_1[i] = add_1
        subtract_3 = divide_1[0, i] * float32(1.0204082) - running_var_1[i]
        running_var_1[i] = running_var_1[i] + float32(0.1) * subtract_3
        g_weight_1_home[i] = g_reshape_3[i]
        g_bias_1_home[i] = g_reshape_4[i]
        g_weight_3_home[i] = sum_5[i]
        g_bias_3_home[i] = sum_4[i]


def run(steps, gathering, gate, status, table):
    """Run some steps, one after the other."""
    for step in range(steps):
        status[1] = step
        # forward and gradients
        forward_and_back(step, gathering, status, table)
        if status[0] != 0:
            return
        # forward, gradients and lion on 259 parameters
        back_and_update(step, table)
