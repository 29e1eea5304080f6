"""The step `fit_line`, line 25 of test_compiler_source.py, for x float32[64, 3], y float32[64, 1].
"""

from numpy import float32, float64, int64, uint8
from microgradx.kernels.runtime import block, block_at, flat, matmul, matmul_tn, plus


def sgd(start, stop, ps, gs, numbers, step, first):
    lr = float32(numbers[step, first + 0])
    for i in range(start, stop):
        p, g = ps[i], gs[i]
        ps[i] = p - lr * g


def forward_back_and_update(step, gathering, table):
    """Forward, gradients and sgd on 4 parameters."""
    numbers = block_at(table, 1, (1, 1), float64)
    order = block_at(table, 2, (1,), int64)
    arena = block_at(table, 0, (1,), uint8)
    x = block_at(table, 4, (64, 3), float32)
    y = block_at(table, 5, (64, 1), float32)
    all_x = block_at(table, 6, (64, 3), float32)
    all_y = block_at(table, 7, (64, 1), float32)
    multiply_matrices = block(arena, 0, (64, 1), float32)
    weight = block_at(table, 8, (3, 1), float32)
    bias = block_at(table, 9, (1,), float32)
    error = block(arena, 256, (64, 1), float32)
    g_error = block(arena, 512, (64, 1), float32)
    total = block(arena, 0, (1,), float32)
    sum_1 = block(arena, 256, (1,), float32)
    g_leaf = block_at(table, 10, (3, 1), float32)
    loss_out = block_at(table, 11, (1,), float32)
    g_leaf_home_2 = block_at(table, 12, (1,), float32)

    if gathering:
        for i in range(64):
            row = order[64 * step + i]
            for j in range(3):
                x[i, j] = all_x[row, j]
            for j in range(1):
                y[i, 0] = all_y[row, j]
    # test_compiler_source.py:27  error = x @ weight + bias - y
    matmul(multiply_matrices, x, weight, 0, 64)
    for i in range(64):
        error[i, 0] = multiply_matrices[i, 0] + bias[0] - y[i, 0]
        multiply_2 = float32(0.015625) * error[i, 0]
        g_error[i, 0] = multiply_2 + multiply_2
    # test_compiler_source.py:28  loss = (error * error).mean()
    total_sum = float32(0)
    for i in range(64):
        total_sum = plus(total_sum, error[i, 0] * error[i, 0])
    total[0] = total_sum
    # gradient of: test_compiler_source.py:27  error = x @ weight + bias - y
    sum_1_sum = float32(0)
    for i in range(64):
        sum_1_sum = plus(sum_1_sum, g_error[i, 0])
    sum_1[0] = sum_1_sum
    matmul_tn(g_leaf, x, g_error, 0, 3)
    # test_compiler_source.py:30  optimizer.step()
    sgd(0, 3, flat(weight), flat(g_leaf), numbers, step, 0)
    sgd(0, 1, flat(bias), flat(sum_1), numbers, step, 0)
    # test_compiler_source.py:28  loss = (error * error).mean()
    loss_out[step] = total[0] / float32(64)
    g_leaf_home_2[0] = sum_1[0]


def run(steps, gathering, table):
    """Run some steps, one after the other."""
    for step in range(steps):
        # forward, gradients and sgd on 4 parameters
        forward_back_and_update(step, gathering, table)
