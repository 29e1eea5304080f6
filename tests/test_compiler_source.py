"""The emitted files are for reading: those of seven models stand in tests/snapshots, reviewed like code.

`MICROGRADX_SNAPSHOTS=write python -m pytest tests/test_compiler_source.py` writes them anew.
"""

import os
from pathlib import Path

import numpy as np
import pytest

import microgradx as mg
from microgradx import nn, optim
from microgradx.codegen.ir import loops, program
from microgradx.codegen.passes import schedule, validate
from microgradx.errors import ArgumentError, CompileError

SNAPSHOTS = Path(__file__).parent / "snapshots"


def line():
    weight, bias = mg.zeros(3, 1, requires_grad=True), mg.zeros(1, requires_grad=True)
    optimizer = optim.SGD([("weight", weight), ("bias", bias)], lr=0.1)

    def fit_line(x, y):
        optimizer.zero_grad()
        error = x @ weight + bias - y
        loss = (error * error).mean()
        loss.backward()
        optimizer.step()
        return loss

    return fit_line, (64, 3), (64, 1)


def classifier(model, make, *shapes, clip=None):
    optimizer = make(model.parameters())

    def train(x, y):
        optimizer.zero_grad()
        logits = model(x)
        loss = nn.cross_entropy(logits, y)
        loss.backward()
        if clip:
            optim.clip_grad_norm_(optimizer, clip)
        optimizer.step()
        return loss

    return train, *shapes


MODELS = {
    "line": line,
    "digits": lambda: classifier(nn.MLP([784, 128, 10]), optim.Adam, (128, 784), 128),
    "spiral": lambda: classifier(nn.MLP([2, 16, 16, 2], "tanh"), optim.Momentum, (100, 2), 100),
    "dropout": lambda: classifier(nn.MLP([64, 32, 10], dropout=0.5), optim.AdamW, (32, 64), 32, clip=1.0),
    "norms": lambda: classifier(
        nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.LayerNorm(16), nn.Linear(16, 3)),
        optim.Lion, (50, 8), 50,
    ),
    "deep": lambda: classifier(nn.MLP([64] * 5 + [10]), optim.Momentum, (128, 64), 128),
    "as_wide": lambda: classifier(  # as the batch is long; on several threads
        nn.Sequential(nn.Linear(784, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 10)),
        optim.Adam, (128, 784), 128,
    ),
}  # fmt: skip


class Residual(nn.Module):
    def __init__(self):
        self.norm, self.linear = nn.LayerNorm(16), nn.Linear(16, 16)

    def forward(self, x):
        """What the layer adds to x."""
        return x + mg.relu(self.linear(self.norm(x)))


class Again(nn.Module):
    def __init__(self, depth):
        self.linear, self.depth = nn.Linear(16, 16), depth

    def forward(self, x):
        """The same layer again and again."""
        for _ in range(self.depth):
            x = mg.tanh(self.linear(x))
        return x


def normed():
    return nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU())


DEEP = {
    "layers": lambda depth: nn.MLP([16] * (depth + 1)),
    "one layer": Again,
    "residual": lambda depth: nn.Sequential(*(Residual() for _ in range(depth))),
    "normed": lambda depth: nn.Sequential(*(normed() for _ in range(depth))),
}
"""Models of so many layers."""


@pytest.fixture
def step(request, monkeypatch):
    """The step of a model, written but not run: Numba need not compile what is only read."""
    monkeypatch.setenv("MICROGRADX_INTERPRET", "1")
    function, shape, targets = MODELS[request.param]()
    y = np.zeros(targets, np.float32 if isinstance(targets, tuple) else np.int64)
    compiled = mg.jit(function)
    compiled.captured(np.ones(shape, np.float32), y)
    return compiled


@pytest.mark.parametrize("step", MODELS, indirect=True)
def test_the_emitted_file_is_the_one_that_was_reviewed(step, request):
    path = SNAPSHOTS / f"{request.node.callspec.params['step']}.py"
    if os.environ.get("MICROGRADX_SNAPSHOTS") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(step.source)
    assert step.source == path.read_text(), "see the top of this file"


@pytest.mark.parametrize("step", MODELS, indirect=True)
def test_no_line_is_dead_and_no_name_is_invented_where_one_is_known(step):
    code = compile(step.source, "step", "exec")  # it is Python
    functions = [c for c in code.co_consts if hasattr(c, "co_code")]
    for function in functions:
        words = step.source.split(f"def {function.co_name}(")[1].split("\ndef ")[0]
        for name in function.co_varnames[: function.co_argcount]:
            assert len(words.split(name)) > 2, f"{name} is a parameter of {function.co_name}, and not used"
    assert max(map(len, step.source.splitlines())) < 140
    if "logits" in step.source:
        assert "weight_0" in step.source and "# test_compiler_source.py:" in step.source


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("model", DEEP)
def test_the_loops_of_a_deep_network_are_written_once(model, threaded, monkeypatch):
    monkeypatch.setenv("MICROGRADX_INTERPRET", "1")
    monkeypatch.setattr(schedule, "ALONE", 0.0 if threaded else 1e12)
    texts = []
    for depth in (6, 8):
        function, shape, targets = classifier(DEEP[model](depth), optim.Adam, (128, 16), 128)
        compiled = mg.jit(function)
        compiled.captured(np.ones(shape, np.float32), np.zeros(targets, np.int64))
        texts.append(compiled.source)
    shallow, deep = ([line.strip()[:4] for line in text.splitlines()] for text in texts)
    assert shallow.count("for ") == deep.count("for ")
    assert "_for(" in texts[1]


@pytest.mark.parametrize("step", ["as_wide"], indirect=True)
def test_batch_norm_waits_for_all_rows_once_in_each_direction(step):
    waits = {text.partition(", status")[0] for text in step.source.split("ready(gate, ")[1:]}
    assert len(waits) == 5


def owners(view, axis, rows):
    """Which rows touch each element of a buffer."""
    found = [set() for _ in range(view.buffer.size)]
    for index in np.ndindex(view.shape):
        at = view.offset + sum(i * s for i, s in zip(index, view.strides, strict=True))
        found[at].add(index[axis])
    return found


@pytest.mark.parametrize("shape", [(6,), (4, 6), (1, 6), (2, 3, 4), (4, 4)], ids=str)
def test_rows_share_out_a_buffer_as_is_said(shape):
    whole = loops.Buffer("x", shape, np.dtype(np.float32)).view()
    changes = [
        lambda x: x, np.transpose, lambda x: x[..., 1:], lambda x: x[1:], lambda x: x[..., ::2],
        lambda x: x[::-1], lambda x: np.broadcast_to(x, (3, *x.shape)), np.ravel,
    ]  # fmt: skip
    said = 0
    for change in changes:
        view = whole.through(change)
        for axis, rows in enumerate(view.shape):
            parts = view.parts(axis, rows)
            if parts is not None:
                said += 1
                for element, owner in enumerate(owners(view, axis, rows)):
                    assert owner <= {element // parts % rows}
            assert view.aligned(axis, rows) <= (parts is not None)
    assert said >= 2


@pytest.mark.parametrize(
    ("what", "words"), [("source", "def run("), ("program", "def fit_line("), ("stages", "stage 0")]
)
def test_one_switch_shows_the_machinery(what, words, monkeypatch, capsys):
    monkeypatch.setenv("MICROGRADX_SHOW", what)
    function, *shapes = line()
    mg.jit(function)(*(np.ones(shape, np.float32) for shape in shapes))
    assert words in capsys.readouterr().err


def test_a_switch_that_does_not_exist_is_named(monkeypatch):
    monkeypatch.setenv("MICROGRADX_SHOW", "everything")
    function, *shapes = line()
    with pytest.raises(
        ArgumentError, match="MICROGRADX_SHOW='everything': what can be shown is program, stages, source"
    ):
        mg.jit(function)(*(np.ones(shape, np.float32) for shape in shapes))


@pytest.mark.parametrize("name", ["flat", "adam", "run"])
def test_a_parameter_may_be_called_like_a_word_of_the_file(name):
    weight = mg.ones(3, 2, requires_grad=True)
    optimizer = optim.Adam([(name, weight)])

    def step(x):
        optimizer.zero_grad()
        weight.name = name
        (x @ weight).sum().backward()
        optimizer.step()

    mg.jit(step)(np.ones((4, 3), np.float32))
    assert weight.numpy() == pytest.approx(0.999)


@pytest.mark.parametrize("names", ["_0 _1 _2 _3", "i j k l", "x² y² z² a²", "relu stop status x_2"])
def test_layers_may_be_called_like_words_or_like_nothing(names, monkeypatch):
    monkeypatch.setenv("MICROGRADX_INTERPRET", "1")
    net = nn.Module()
    for name in names.split():
        setattr(net, name, mg.tensor(np.eye(8), requires_grad=True))

    def step(x):
        for name in names.split():
            x = mg.relu(x @ getattr(net, name))
        return x.sum()

    compiled = mg.jit(step)
    assert compiled(np.ones((4, 8))).item() == 32
    assert compiled.source.count("_for(") == 4 and "for j in range(8)" in compiled.source


# The checkers find what a broken pass leaves behind


@pytest.mark.parametrize("step", ["line"], indirect=True)
def test_the_checker_finds_a_broken_program(step):
    captured = step.program
    for broken, words in [
        (captured.instructions[1:], "is read before it is computed"),
        ([*captured.instructions, captured.instructions[-1]], "is computed twice"),
        (captured.instructions[:-1], "is needed at the end and never computed"),
    ]:
        other = program.Program(
            "broken", captured.arguments, captured.bound, broken, captured.outputs, captured.writes
        )
        with pytest.raises(CompileError, match=words):
            program.check(other, "a pass")


@pytest.mark.parametrize("step", ["digits"], indirect=True)
def test_the_checker_finds_stages_in_the_wrong_order(step):
    plan = step.stages
    for stages in (plan.stages[::-1], [[chain for stage in plan.stages for chain in stage]]):
        with pytest.raises(CompileError, match="is read"):
            validate.validate_schedule(schedule.Schedule(stages, plan.serial), "a pass")
