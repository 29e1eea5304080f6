"""An emitted file that Python itself runs: the same results, and every fault an error that names its line."""

import sys

import numpy as np
import pytest

import microgradx as mg
from microgradx import nn, optim
from microgradx.codegen.ir import loops
from microgradx.codegen.passes import validate
from microgradx.codegen.passes.schedule import Chain, Schedule
from microgradx.errors import CaptureError, CompileError, CompileWarning
from microgradx.kernels import interpreter

# Emitted files with one fault each in `run`, where x is float32[2, 3] outside, y and z are in the arena

HEAD = """
from numpy import float32, int64, uint8
from microgradx.kernels.runtime import block, block_at, claim, done, flat, inside, matmul, wait, within


def run(steps, gathering, gate, status, table):
    arena = block_at(table, 0, (1,), uint8)
    x = block_at(table, 1, (2, 3), float32)
    y = block(arena, 0, (2, 3), float32)
    z = block(arena, 0, (2, 3), float32)
    # user.py:7  y = x + 1
"""

FAULTS = {
    "past the end": ("y[2, 0] = float32(1)", r"y\[2, 0\] is outside of its 6 elements, \(2, 3\), in `run`"),
    "past a row": ("y[0, 3] = x[0, 0]", r"y\[0, 3\] is outside"),
    "before the beginning": ("y[0, 0] = x[-1, 0]", r"x\[-1, 0\] is outside"),
    "past the arena": (
        "w = block(arena, 64, (9,), float32)",
        "9 elements from 64 on do not fit into the 96 of",
    ),
    "never written": ("x[0, 0] = y[1, 1]", "y is read where nobody has written"),
    "overwritten": (
        "y[0, 0] = x[0, 0]; z[0, 0] = x[0, 1]; x[0, 0] = y[0, 0]",
        "y is read where z has written",
    ),
    "another dtype": ("w = block_at(table, 1, (2, 3), int64)", r"entry 1 is float32\[6\], not int64\(2, 3\)"),
    "shapes of a product": ("matmul(y, x, x, 0, 2)", r"makes y \(2, 3\) of \(2, 3\) and \(2, 3\)"),
    "rows of a product": (
        "matmul(y, x, block(x, 0, (3, 3)), 0, 3)",
        "9 elements from 0 on do not fit into the 6 of x",
    ),
    "rows that are not there": (
        "matmul(block(x, 0, (2, 2)), block(x, 0, (2, 1)), block(x, 0, (1, 2)), 0, 3)",
        "x has 2 rows, a product works on 0 to 3",
    ),
    "a race": (
        "while (ticket := claim(gate)) < 2:\n        wait(gate, 0)\n        x[0, 0] = float32(ticket)\n"
        "        done(gate)",
        "piece 1 writes what another piece writes in x at the same time",
    ),
    "a read in a race": (
        "while (ticket := claim(gate)) < 2:\n        wait(gate, 0)\n        x[0, ticket] = x[0, 1 - ticket]\n"
        "        done(gate)",
        "piece 1 reads what another piece writes|piece 1 writes what another piece reads",
    ),
    "nobody comes": ("claim(gate); wait(gate, 1)", "piece 0 waits for piece 1, of which 0 are finished"),
}


def execute(body):
    run = interpreter.load(f"{HEAD}    {body}\n", ["run"])["run"]
    table = interpreter.Table(2)
    table[0], table[1] = np.zeros(96, np.uint8), np.zeros((2, 3), np.float32)
    run(1, 0, table.begin(), np.zeros(2, np.int64), table)
    return table.arrays


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_emitted_code_is_an_error_that_names_it(fault):
    body, words = FAULTS[fault]
    with pytest.raises(CompileError, match=words) as raised:
        execute(body)
    message = str(raised.value)
    assert "It computes: user.py:7  y = x + 1" in message and "report this" in message
    assert body.splitlines()[0].split(";")[0].split(" = ")[0] in message or "\n" in body


def test_a_fault_in_what_is_called_names_the_line_of_the_call():
    head = HEAD.replace("def run(", "def fill(y):\n    y[2, 0] = float32(1)\n\n\ndef run(")
    run = interpreter.load(f"{head}    fill(y)\n", ["run"])["run"]
    table = interpreter.Table(2)
    table[0], table[1] = np.zeros(96, np.uint8), np.zeros((2, 3), np.float32)
    with pytest.raises(CompileError, match="in `fill`(.|\n)*It computes: user.py:7  y = x \\+ 1"):
        run(1, 0, table.begin(), np.zeros(2, np.int64), table)


def test_what_is_right_is_no_fault():
    arena, x = execute(
        "y[1, 2] = float32(3); x[1, 2] = y[1, 2]; z[1, 2] = x[1, 2]; x[0, 0] = z[1, 2] + x[0, 1]"
    )
    assert x[1, 2] == x[0, 0] == 3


def trained(interpret, threads_of=None):
    """Losses and weights of steps, one by one and in a scan, of a network with everything in it."""
    mg.seed(3)
    model = nn.Sequential(
        nn.Linear(5, 8, bias=False), nn.BatchNorm1d(8), nn.GELU(), nn.Dropout(0.3), nn.Linear(8, 3)
    )
    optimizer = optim.AdamW(model.parameters(), lr=0.01)

    @mg.jit(interpret=interpret)
    def step(x, y):
        optimizer.zero_grad()
        loss = nn.cross_entropy(model(x), y)
        loss.backward()
        optim.clip_grad_norm_(optimizer, 1.0)
        optimizer.step()
        return loss

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 5)).astype(np.float32), rng.integers(0, 3, 50)
    losses = [step(x[:16], y[:16]).item() for _ in range(3)]
    losses += step.scan(x, y, batch_size=16, order=rng.permutation(50)).tolist()
    return losses, [p.numpy().copy() for p in model.parameters()]


def test_an_interpreted_step_trains_like_machine_code():
    (losses, weights), (ours, found) = trained(False), trained(True)
    np.testing.assert_allclose(ours, losses, rtol=1e-5)
    for a, b in zip(weights, found, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6)


def test_a_debugger_sees_the_lines_of_the_emitted_file():
    step, seen = mg.jit(lambda x: (x * 2).sum(), interpret=True), []

    def trace(frame, event, _):
        if (
            "/kernels/" in frame.f_code.co_filename
            and "lambda" in frame.f_code.co_filename
            and event == "line"
        ):
            seen.append(frame.f_lineno)
        return trace

    step(np.ones(3, np.float32))
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        step(np.ones(3, np.float32))
    finally:
        sys.settrace(before)
    text = step.source.splitlines()
    assert any("range(3)" in text[number - 1] for number in seen)


def test_the_environment_asks_for_it(monkeypatch):
    for value, kind in (("1", "Interpreted"), ("0", "Executable")):
        monkeypatch.setenv("MICROGRADX_INTERPRET", value)
        step = mg.jit(lambda x: x + 1)
        assert step(np.ones(2, np.float32)).tolist() == [2, 2]
        assert type(step.variant.executable).__name__ == kind


def test_what_cannot_be_compiled_goes_on_line_by_line_where_one_asks_for_it():
    def step(x):
        return x * 2 if x.sum().item() > 0 else x

    with pytest.raises(CaptureError, match="looks at a tensor's value"):
        mg.jit(step)(np.ones(2, np.float32))
    ready = mg.jit(step, fallback="eager")
    with pytest.warns(CompileWarning, match=r"step goes on line by line: this step cannot be compiled"):
        assert ready(np.ones(2, np.float32)).tolist() == [2, 2]
    assert ready(-np.ones(2, np.float32)).tolist() == [-1, -1]  # it is told once
    np.testing.assert_array_equal(ready.scan(np.eye(4, dtype=np.float32), batch_size=2).shape, (2, 2, 4))
    with pytest.raises(mg.errors.ArgumentError, match="fallback is None or 'eager', not 'numpy'"):
        mg.jit(step, fallback="numpy")


# Validators: what a broken pass leaves behind


def nest(out, *args, domain=(2, 3)):
    """A loop around one sum of operands."""
    return loops.Nest(None, domain, [loops.Compute(out, mg.scalars.add, args)])


def memory(name, shape=(2, 3), source=None):
    return loops.Buffer(name, shape, np.dtype(np.float32), source).view()


X, Y, Z = memory("x", source=("argument", 0)), memory("y"), memory("z")
READ = loops.Read(X)
STRETCHED = loops.View(Y.buffer, 1, (3, 1), (2, 3))

BROKEN = {
    "y is read before it is written": [nest(Z, loops.Read(Y), READ)],
    "a view of y reaches from 1 to 6, it has 6 elements": [nest(STRETCHED, READ, READ)],
    "x is read as (2, 3) in loops over (3, 2)": [nest(memory("y", (3, 2)), READ, READ, domain=(3, 2))],
    "y is (2, 3) for loops over (6,)": [nest(Y, 1.0, 2.0, domain=(6,))],
    "the loops run over (2, 1), cut along axis 0": [nest(memory("y", (2, 1)), 1.0, 2.0, domain=(2, 1))],
    "axis 2 is none of (2, 3)": [nest(Y, loops.Index(2), READ)],
    "it reduces axes (2,) of (2, 3)": [loops.Nest(None, (2, 3), [loops.Reduce(Y, "sum", READ, (2,))])],
}


@pytest.mark.parametrize("words", BROKEN)
def test_a_broken_loop_is_named(words):
    with pytest.raises(CompileError, match="after a pass, the step is broken: ") as raised:
        validate.validate_items(BROKEN[words], "a pass")
    assert words in str(raised.value) and "fallback='eager'" in str(raised.value)


def test_live_buffers_that_share_memory_are_named():
    items = [
        nest(Y, READ, READ),
        nest(Z, READ, READ),
        nest(memory("out", source=("output", 0)), READ, loops.Read(Y)),
    ]
    plan = Schedule([[Chain(2, items, 2)]], serial=True, stored={Y.buffer, Z.buffer})
    Y.buffer.place, Z.buffer.place = 0, 64
    assert validate.validate_schedule(plan, "a pass") is plan
    Z.buffer.place = 8
    with pytest.raises(CompileError, match="y and z are needed at once and share memory"):
        validate.validate_schedule(plan, "a pass")
