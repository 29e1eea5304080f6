"""What stays NumPy's in a compiled step: named exceptions, which are seen wherever one looks."""

import gc
import warnings
from functools import partial

import numpy as np
import pytest

import microgradx as mg
from microgradx import optim, primitives, scalars
from microgradx.codegen.ir.ops import Host
from microgradx.codegen.passes import lowerings  # noqa: F401 - which fills the table of lowerings
from microgradx.codegen.passes.lower import lower
from microgradx.codegen.passes.lower import lowerings as table
from microgradx.compiler.run import hosted, variants
from microgradx.errors import CompileWarning
from microgradx.kernels.random import generator
from microgradx.primitives import Primitive, indexing
from microgradx.primitives.core import ElementwisePrimitive

pytestmark = pytest.mark.interpreted(
    but=("test_the_report_times_what_is_not_compiled_and_leaves_everything_as_it_was",)
)

EXCEPTIONS = {"moved": "takes a tensor to another device, where there is no step of two devices"}
"""Operations of the library that have no lowering, and why."""

rng = np.random.default_rng(0)


@mg.primitive
def doubled(x):
    """2x, in NumPy"""
    return 2 * x


@doubled.vjp
def _(g, out, x):
    return 2 * g


@pytest.fixture
def fresh(monkeypatch):
    """No warning has been given yet."""
    monkeypatch.setattr(hosted, "said", set())


def hosts(function, *arrays):
    """The parts of a step that are NumPy's."""
    variant = mg.jit(function).captured(*arrays)
    return [item for item in lower(variant.program) if isinstance(item, Host)]


# All operations are compiled


def test_every_operation_has_a_lowering_or_is_a_named_exception():
    """Elementwise functions need none: their text is compiled."""
    own = [x for x in gc.get_objects() if issubclass(type(x), Primitive)]
    own = [x for x in own if x.__module__.startswith("microgradx.")]
    assert len(own) > 20
    without = {x.__name__ for x in own if not isinstance(x, ElementwisePrimitive) and x not in table}
    assert without == EXCEPTIONS.keys()


@pytest.mark.parametrize("name", scalars.functions)
def test_every_function_is_compiled(name):
    function = scalars.functions[name]
    logical = name.startswith("logical")
    arrays = [np.abs(rng.normal(size=(3, 4))) + 0.5 for _ in function.inputs]
    wants = function.slopes is not None

    def step(*xs):
        xs = [mg.Tensor(0.5, requires_grad=wants) + x for x in xs] if not logical else [x > 0 for x in xs]
        y = function(*xs)
        if wants:
            y.sum().backward()
        return y

    assert hosts(step, *arrays) == []


CASES = [(name, case) for name, cases in primitives.cases.items() for case in cases]


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{name}-{case!r}" for name, case in CASES])
def test_every_operation_is_compiled(name, case):
    arrays = [rng.normal(size=shape) for shape in case.shapes]

    def step(*xs):
        xs = [mg.Tensor(0.5, requires_grad=True) + x for x in xs]
        y = case.call(primitives.operations[name], xs)
        for part in y if isinstance(y, list) else [y]:
            if part.requires_grad:
                part.backward(mg.ones(part.shape), retain_graph=True)
        return y

    assert hosts(step, *arrays) == []


ROWS, SOME = np.array([True, False, True, False]), np.array([True, False, True])
MASKS = {
    "rows": ((4, 3), lambda x: x[ROWS]),
    "elements": ((4, 3), lambda x: x[np.outer(ROWS, SOME)]),
    "columns": ((4, 3), lambda x: x[:, SOME]),
    "between slices": ((4, 3, 5), lambda x: x[1:, SOME, ::2]),
    "beside a number": ((4, 3, 5), lambda x: x[1, SOME]),
    "beside a new axis": ((4, 3), lambda x: x[None, :, SOME]),
    "beside integers": ((4, 3, 5), lambda x: x[ROWS, np.array([0, 1])]),
    "apart from integers": ((4, 5, 3), lambda x: x[np.array([0, 1]), :, SOME]),
    "behind an ellipsis": ((4, 5, 3), lambda x: x[..., SOME]),
    "of none": ((4, 3), lambda x: x[np.zeros(4, bool)]),
    "of all": ((4, 3), lambda x: x[np.ones((4, 3), bool)]),
    "a list": ((4, 3), lambda x: x[[True, False, True, True]]),
    "twice": ((4, 3), lambda x: x[ROWS][np.array([True, False])]),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_fixed_mask_is_compiled_and_right(name):
    shape, pick = MASKS[name]
    x = mg.Tensor(rng.normal(size=shape), requires_grad=True)

    def step(scale):
        x.grad = None
        y = pick(x) * scale
        (y * y).sum().backward()
        return y

    expected = step(mg.tensor(2.0))
    gradient = x.grad.numpy().copy()
    compiled = mg.jit(step)
    np.testing.assert_array_equal(compiled(mg.tensor(2.0)), expected)
    np.testing.assert_array_equal(x.grad, gradient)
    assert not compiled.variant.executable.hosted


def test_a_mask_that_does_not_fit_is_an_error_as_without_compiling():
    x = mg.ones(4, 3)
    step = lambda scale: (x * scale)[SOME]
    with pytest.raises(mg.errors.ArgumentError) as eager:
        step(mg.tensor(2.0))
    with pytest.raises(mg.errors.ArgumentError) as compiled:
        mg.jit(step)(mg.tensor(2.0))
    assert str(eager.value) == str(compiled.value) and "boolean" in str(eager.value)


# What is not compiled is said


SLOW = {
    "normal": (lambda x: x + mg.randn(3), r"normal in .*mg.randn.* draw it outside .* or take mg.rand"),
    "float64": (lambda x: x + mg.rand(3, dtype="float64"), r"uniform in .*float64.* mg.rand in float32"),
    "clip": (lambda x: mg.clip(x, min=np.zeros(3, np.float32)), r"clip in .*maximum\(x, low\)"),
    "a lone boolean": (lambda x: x[np.array(True)], r"getitem in .* index with None"),
}  # fmt: skip


@pytest.mark.parametrize("name", SLOW)
def test_a_slow_operation_is_named_with_its_line_and_what_to_write_instead(name, fresh):
    function, words = SLOW[name]
    step = mg.jit(function)
    with pytest.warns(CompileWarning, match=words) as told:
        step(np.ones(3, np.float32))
    (warning,) = told
    assert warning.filename == __file__ and "test_hosted.py:" in str(warning.message)
    assert "runs as NumPy code in every step, between compiled parts" in str(warning.message)


def test_an_operation_of_the_library_without_a_lowering_is_named(monkeypatch, fresh):
    monkeypatch.delitem(table, indexing.concatenate)
    step = mg.jit(lambda x: mg.cat([x, x + 1]))
    with pytest.warns(
        CompileWarning, match=r"concatenate in .* compute it outside of the step, or report it"
    ):
        y = step(np.ones(3, np.float32))
    np.testing.assert_array_equal(y, [1, 1, 1, 2, 2, 2])


def test_a_line_is_told_once(fresh):
    def step(x):
        return x * mg.randn(1)

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for rows in (2, 3, 4):  # each a variant
            mg.jit(step)(np.ones(rows, np.float32))
    assert len(told) == 1


def test_an_operation_of_the_users_own_is_meant_to_run_as_numpy(fresh):
    step = mg.jit(lambda x: doubled(x) + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(step(np.ones(3, np.float32)), [3, 3, 3])
    assert step.variant.executable.hosted


# It is seen in the stages and in the report


def test_arrays_that_an_operation_runs_on_are_no_facts_but_those_that_it_finds_are(fresh, monkeypatch):
    """A parameter that the step updates asks for no new capture; a table that somebody changes does."""
    table = np.full(3, 2.0)

    @mg.primitive
    def scaled(x, by):
        return x * by * table

    @scaled.vjp
    def _(g, out, x, by):
        return g * by * table, g * x * table

    def run(way):
        table[:] = 2.0
        weight = mg.tensor(np.ones(3), requires_grad=True)
        optimizer = optim.SGD([weight], lr=0.1)

        def train(x):
            optimizer.zero_grad()
            loss = scaled(x, weight).sum()
            loss.backward()
            optimizer.step()
            return loss

        step, found = way(train), []
        for k in range(4):
            table[:] = 2.0 if k < 3 else 3.0
            found.append(step(np.arange(3.0)).item())
        return found

    captures, capture = [], variants.capture
    monkeypatch.setattr(variants, "capture", lambda *a: captures.append(a) or capture(*a))
    assert run(partial(mg.jit, audit=False)) == run(lambda f: lambda x: f(mg.tensor(x)))
    assert len(captures) == 2


@pytest.fixture
def slow(fresh):
    """A compiled step with an operation of the user's and one of NumPy's; its optimizer and parameter."""
    weight = mg.ones(300, 40, requires_grad=True)
    optimizer = optim.Adam([("weight", weight)])

    @mg.jit
    def step(x):
        optimizer.zero_grad()
        y = doubled(x @ weight)
        noise = mg.randn(64, 40)
        loss = (y * noise).sum()
        loss.backward()
        optimizer.step()
        return loss

    with pytest.warns(CompileWarning):
        step(np.ones((64, 300), np.float32))
    return step, optimizer, weight


def test_stages_name_everything(slow):
    text = str(slow[0].stages)
    assert "doubled, NumPy's" in text and "normal, NumPy's" in text
    assert ": ," not in text and all(name.strip(":") for name in text.split("stage")[1:])


def test_the_report_times_what_is_not_compiled_and_leaves_everything_as_it_was(slow):
    step, optimizer, weight = slow
    before = weight.numpy().copy(), optimizer.state_dict(), generator.state_dict(), weight.grad.numpy().copy()
    report = step.report()
    rows = {row.name: row for row in report.rows}
    assert rows["y"].what == "doubled, your own" and rows["noise"].what == "normal, NumPy"
    assert rows["y"].hosted and rows["noise"].seconds > 0 and not rows["weight"].hosted
    assert report.step_seconds > rows["y"].seconds + rows["noise"].seconds
    for array, now in zip((before[0], before[3]), (weight.numpy(), weight.grad.numpy()), strict=True):
        np.testing.assert_array_equal(now, array)
    assert generator.state_dict() == before[2]
    assert optimizer.state_dict()["state"]["weight"]["t"] == before[1]["state"]["weight"]["t"] == 1
