"""The step `train`, line 39 of test_compiler_source.py, for x float32[32, 64], y int64[32].
"""

from math import inf, sqrt
from numpy import float32, float64, int64, uint8
from microgradx.kernels.runtime import (
    block, block_at, flat, matmul, matmul_nt, matmul_tn, plus, within
)
from microgradx.kernels.vector_math import exp, log

tiny = float32(1.1754943508222875e-38)  # state below it is slow: zero instead


def maximum(a, b):
    """The larger of two; NaN if either is; a tie gives each half of the slope"""
    return a if a > b or a != a else b


def relu(x):
    """max(x, 0), slope 0 at 0"""
    return maximum(x, float32(0))


def square_float64(x):
    """x²"""
    return x * x


def adamw(start, stop, ps, gs, ms, vs, numbers, step, first):
    beta1 = float32(numbers[step, first + 0])
    one_minus_beta1 = float32(numbers[step, first + 1])
    beta2 = float32(numbers[step, first + 2])
    one_minus_beta2 = float32(numbers[step, first + 3])
    one_minus_beta1_to_t = float32(numbers[step, first + 4])
    one_minus_beta2_to_t = float32(numbers[step, first + 5])
    shrink = float32(numbers[step, first + 6])
    lr = float32(numbers[step, first + 7])
    eps = float32(numbers[step, first + 8])
    for i in range(start, stop):
        p, g, m, v = ps[i], gs[i], ms[i], vs[i]
        m = beta1 * m + one_minus_beta1 * g
        v = beta2 * v + one_minus_beta2 * g * g
        m_hat = m / one_minus_beta1_to_t
        v_hat = v / one_minus_beta2_to_t
        ps[i] = p * shrink - lr * m_hat / (sqrt(v_hat) + eps)
        ms[i] = float32(0) if abs(m) < tiny else m
        vs[i] = float32(0) if abs(v) < tiny else v


def philox(c0, c1, c2, c3, k0, k1):
    """Ten rounds that scramble a counter of four 32-bit words with a key of two: four random words.

    It holds words in 64-bit integers, where a product may wrap: the mask after the shift makes it right.
    """
    for _ in range(10):
        a = 0xD2511F53 * c0
        b = 0xCD9E8D57 * c2
        c0, c1 = ((b >> 32) & 0xFFFFFFFF) ^ c1 ^ k0, b & 0xFFFFFFFF
        c2, c3 = ((a >> 32) & 0xFFFFFFFF) ^ c3 ^ k1, a & 0xFFFFFFFF
        k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF
        k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def units(start, stop, out, block, k0, k1):
    """The same blocks as numbers in [0, 1): multiples of 2**-24, the high 24 bits of each word."""
    step = float32(2**-24)
    for i in range(start, stop):
        c = block + i
        a, b, c, d = philox(c & 0xFFFFFFFF, c >> 32, 0, 0, k0, k1)
        out[4 * i], out[4 * i + 1] = step * float32(a >> 8), step * float32(b >> 8)
        out[4 * i + 2], out[4 * i + 3] = step * float32(c >> 8), step * float32(d >> 8)


def forward_and_back(step, gathering, status, table):
    """Forward and gradients."""
    order = block_at(table, 2, (1,), int64)
    random = block_at(table, 3, (3,), int64)
    arena = block_at(table, 0, (1,), uint8)
    x = block_at(table, 4, (32, 64), float32)
    y = block_at(table, 5, (32,), int64)
    all_x = block_at(table, 6, (32, 64), float32)
    all_y = block_at(table, 7, (32,), int64)
    affine_product = block(arena, 0, (32, 32), float32)
    weight_0 = block_at(table, 8, (64, 32), float32)
    bias_0 = block_at(table, 9, (32,), float32)
    relu_1 = block(arena, 8192, (32, 32), float32)
    uniform = block(arena, 0, (32, 32), float32)
    multiply_1 = block(arena, 16384, (32, 32), float32)
    multiply_2 = block(arena, 12288, (32, 32), float32)
    logits_product = block(arena, 0, (32, 10), float32)
    weight_3 = block_at(table, 10, (32, 10), float32)
    bias_3 = block_at(table, 11, (10,), float32)
    logits = block(arena, 20480, (32, 10), float32)
    exp_shifted = block(arena, 21760, (32, 10), float32)
    total = block(arena, 23168, (32,), float32)
    labelled = block(arena, 23040, (32,), float32)
    total_2 = block(arena, 23360, (1,), float32)
    positions = block_at(table, 12, (10,), int64)
    g_logits = block(arena, 20480, (32, 10), float32)
    g_multiply_2 = block(arena, 0, (32, 32), float32)
    multiply_matrices_2 = block(arena, 21760, (32, 10), float32)
    sum_1 = block(arena, 23040, (10,), float32)
    g_affine = block(arena, 12288, (32, 32), float32)
    multiply_matrices = block(arena, 0, (64, 32), float32)
    sum_2 = block(arena, 8192, (32,), float32)
    sum_3 = block(arena, 16384, (1,), float64)
    sum_4 = block(arena, 20480, (1,), float64)
    sum_5 = block(arena, 23168, (1,), float64)
    sum_6 = block(arena, 23296, (1,), float64)
    concatenate = block(arena, 12288, (4,), float64)
    sum_7 = block(arena, 16384, (1,), float64)
    cast_6 = block(arena, 12288, (1,), float32)
    loss_out = block_at(table, 13, (1,), float32)

    if gathering:
        for i in range(32):
            row = order[32 * step + i]
            for j in range(64):
                x[i, j] = all_x[row, j]
            y[i] = all_y[row]
    # test_compiler_source.py:41  logits = model(x)
    matmul(affine_product, x, weight_0, 0, 32)
    for i in range(32):
        for j in range(32):
            relu_1[i, j] = relu(affine_product[i, j] + bias_0[j])
    units(0, 256, flat(uniform), random[0] + 256 * step, random[1], random[2])
    for i in range(32):
        for j in range(32):
            cast = float32(1) if uniform[i, j] >= float32(0.5) else float32(0)
            multiply_1[i, j] = cast * float32(2)
            multiply_2[i, j] = relu_1[i, j] * multiply_1[i, j]
    matmul(logits_product, multiply_2, weight_3, 0, 32)
    for i in range(32):
        top = float32(-inf)
        for j in range(10):
            logits[i, j] = logits_product[i, j] + bias_3[j]
            top = maximum(top, logits[i, j])
        # test_compiler_source.py:42  loss = nn.cross_entropy(logits, y)
        total_sum = float32(0)
        for j in range(10):
            exp_shifted[i, j] = exp(logits[i, j] - top)
            total_sum = plus(total_sum, exp_shifted[i, j])
        total[i] = total_sum
        labelled[i] = logits[i, within(y[i], 10, status)] - top
    total_2_sum = float32(0)
    for i in range(32):
        total_2_sum = plus(total_2_sum, log(total[i]) - labelled[i])
    total_2[0] = total_2_sum
    # gradient of: test_compiler_source.py:42  loss = nn.cross_entropy(logits, y)
    for i in range(32):
        for j in range(10):
            subtract_1 = exp_shifted[i, j] / total[i] - (float32(1) if y[i] == positions[j] else float32(0))
            g_logits[i, j] = subtract_1 * float32(0.03125)
    # gradient of: test_compiler_source.py:41  logits = model(x)
    matmul_nt(g_multiply_2, g_logits, weight_3, 0, 32)
    matmul_tn(multiply_matrices_2, multiply_2, g_logits, 0, 32)
    for j in range(10):
        sum_1[j] = float32(0)
    for i in range(32):
        for j in range(10):
            sum_1[j] += g_logits[i, j]
    for i in range(32):
        for j in range(32):
            g_affine[i, j] = g_multiply_2[i, j] * multiply_1[i, j] * (float32(1) if relu_1[i, j] > float32(0) else float32(0))
    matmul_tn(multiply_matrices, x, g_affine, 0, 64)
    for j in range(32):
        sum_2[j] = float32(0)
    for i in range(32):
        for j in range(32):
            sum_2[j] += g_affine[i, j]
    # test_compiler_source.py:45  optim.clip_grad_norm_(optimizer, clip)
    sum_3_sum = float64(0)
    for i in range(64):
        for j in range(32):
            square_1 = square_float64(abs(float64(multiply_matrices[i, j])))
            sum_3_sum = plus(sum_3_sum, square_1)
    sum_3[0] = sum_3_sum
    sum_4_sum = float64(0)
    for i in range(32):
        sum_4_sum = plus(sum_4_sum, square_float64(abs(float64(sum_2[i]))))
    sum_4[0] = sum_4_sum
    sum_5_sum = float64(0)
    for i in range(32):
        for j in range(10):
            square_3 = square_float64(abs(float64(multiply_matrices_2[i, j])))
            sum_5_sum = plus(sum_5_sum, square_3)
    sum_5[0] = sum_5_sum
    sum_6_sum = float64(0)
    for i in range(10):
        sum_6_sum = plus(sum_6_sum, square_float64(abs(float64(sum_1[i]))))
    sum_6[0] = sum_6_sum
    concatenate[0] = sqrt(sum_3[0])
    concatenate[1] = sqrt(sum_4[0])
    concatenate[2] = sqrt(sum_5[0])
    concatenate[3] = sqrt(sum_6[0])
    sum_7_sum = float64(0)
    for i in range(4):
        sum_7_sum = plus(sum_7_sum, square_float64(abs(concatenate[i])))
    sum_7[0] = sum_7_sum
    divide_1 = float64(1) / (sqrt(sum_7[0]) + float64(1e-06))
    where_1 = float64(1) if divide_1 >= float64(1) else divide_1
    cast_6[0] = float32(where_1)
    # test_compiler_source.py:42  loss = nn.cross_entropy(logits, y)
    loss_out[step] = total_2[0] / float32(32)


def back_and_update(step, table):
    """Gradients and adamw on 2,410 parameters."""
    numbers = block_at(table, 1, (1, 9), float64)
    arena = block_at(table, 0, (1,), uint8)
    multiply_matrices = block(arena, 0, (64, 32), float32)
    cast_6 = block(arena, 12288, (1,), float32)
    g_weight_0 = block_at(table, 14, (64, 32), float32)
    sum_2 = block(arena, 8192, (32,), float32)
    g_bias_0 = block_at(table, 15, (32,), float32)
    multiply_matrices_2 = block(arena, 21760, (32, 10), float32)
    g_weight_3 = block_at(table, 16, (32, 10), float32)
    sum_1 = block(arena, 23040, (10,), float32)
    g_bias_3 = block_at(table, 17, (10,), float32)
    weight_0 = block_at(table, 8, (64, 32), float32)
    weight_0_m = block_at(table, 18, (64, 32), float32)
    weight_0_v = block_at(table, 19, (64, 32), float32)
    bias_0 = block_at(table, 9, (32,), float32)
    bias_0_m = block_at(table, 20, (32,), float32)
    bias_0_v = block_at(table, 21, (32,), float32)
    weight_3 = block_at(table, 10, (32, 10), float32)
    weight_3_m = block_at(table, 22, (32, 10), float32)
    weight_3_v = block_at(table, 23, (32, 10), float32)
    bias_3 = block_at(table, 11, (10,), float32)
    bias_3_m = block_at(table, 24, (10,), float32)
    bias_3_v = block_at(table, 25, (10,), float32)

    # test_compiler_source.py:45  optim.clip_grad_norm_(optimizer, clip)
    for i in range(64):
        for j in range(32):
            g_weight_0[i, j] = multiply_matrices[i, j] * cast_6[0]
    for i in range(32):
        g_bias_0[i] = sum_2[i] * cast_6[0]
        for j in range(10):
            g_weight_3[i, j] = multiply_matrices_2[i, j] * cast_6[0]
    for i in range(10):
        g_bias_3[i] = sum_1[i] * cast_6[0]
    # test_compiler_source.py:46  optimizer.step()
    adamw(
        0, 2048, flat(weight_0), flat(g_weight_0), flat(weight_0_m), flat(weight_0_v), numbers,
        step, 0
    )
    adamw(0, 32, flat(bias_0), flat(g_bias_0), flat(bias_0_m), flat(bias_0_v), numbers, step, 0)
    adamw(
        0, 320, flat(weight_3), flat(g_weight_3), flat(weight_3_m), flat(weight_3_v), numbers,
        step, 0
    )
    adamw(0, 10, flat(bias_3), flat(g_bias_3), flat(bias_3_m), flat(bias_3_v), numbers, step, 0)


def run(steps, gathering, status, table):
    """Run some steps, one after the other."""
    for step in range(steps):
        status[1] = step
        # forward and gradients
        forward_and_back(step, gathering, status, table)
        if status[0] != 0:
            return
        # gradients and adamw on 2,410 parameters
        back_and_update(step, table)
