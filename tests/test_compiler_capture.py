"""What a captured step does not cover is an error with the user's line, or is noticed and captured anew."""

import gc
import os
import subprocess
import sys
import textwrap
import types
import warnings
import weakref
from collections import namedtuple

import numpy as np
import pytest

import microgradx as mg
from microgradx import nn, optim
from microgradx.errors import ArgumentError, CaptureError, CompileWarning, DTypeError, NonFiniteError
from microgradx.training.step import training_step

pytestmark = pytest.mark.interpreted(
    but=("test_a_forked_process_never_hangs", "test_a_label_out_of_range_ends_a_scan_by_pieces_where_it_is")
)

X = np.arange(12, dtype=np.float32).reshape(4, 3) / 10


def twice(step, *args):
    """What the first call and the second, compiled one return, as arrays."""
    return [step(*args).data, step(*args).data]


# Errors with the user's line


def branch(x):
    if x.sum() > 0:
        return x
    return -x


def item(x):
    return x * x.sum().item()


def to_float(x):
    return x * float(x.sum())


def printing(x):
    print(x)
    return x


def to_numpy(x):
    return x * np.asarray(x).sum()


def stacked(x):
    return mg.tensor([x.sum(), 1.0])


def mask(x):
    return x[x > 0.5]


def assignment(x):
    y = x * 2
    y[0] = 1.0
    return y


def while_loop(x):
    y = x * 1
    while y.max() < 10:
        y = y * 2
    return y


def listed(x):
    return mg.tensor(x.tolist())


REFUSED = {
    branch: "if x.sum() > 0:",
    item: "return x * x.sum().item()",
    to_float: "return x * float(x.sum())",
    printing: "print(x)",
    to_numpy: "return x * np.asarray(x).sum()",
    stacked: "return mg.tensor([x.sum(), 1.0])",
    mask: "return x[x > 0.5]",
    assignment: "y[0] = 1.0",
    while_loop: "while y.max() < 10:",
    listed: "return mg.tensor(x.tolist())",
}


@pytest.mark.parametrize("function", REFUSED, ids=lambda f: f.__name__)
def test_a_step_that_looks_at_values_is_refused(function):
    text = REFUSED[function]
    with pytest.raises(CaptureError) as error:
        mg.jit(function)(X)
    message = str(error.value)
    assert f"{__file__}:" in message and text in message
    number = int(message.split(f"{__file__}:")[1].split()[0])
    assert function.__code__.co_firstlineno < number <= function.__code__.co_firstlineno + 4
    assert any(word in message for word in ("where(", "outside of the step", "return the tensor"))
    assert mg.tensor(X).sum().item() > 0  # nothing is recorded any more


def test_a_refused_step_has_no_program_and_works_once_mended():
    looks = [True]

    @mg.jit
    def step(x):
        return x * x.sum().item() if looks[0] else x * x.sum()

    with pytest.raises(CaptureError, match="item"):
        step(X)
    with pytest.raises(CaptureError, match="step has not run yet"):
        step.source  # noqa: B018
    looks[0] = False
    np.testing.assert_allclose(twice(step, X), [X * X.sum()] * 2, 1e-6)


def test_numbers_drawn_outside_of_tensors():
    step = mg.jit(lambda x: x * mg.generator.uniform())
    with pytest.raises(CaptureError, match="random numbers that are not in a tensor.*mg.rand"):
        step(X)


@pytest.mark.parametrize("name", ["source", "program", "stages", "variant"])
def test_before_the_first_call_there_is_nothing_to_see(name):
    with pytest.raises(CaptureError, match="branch has not run yet; call it once"):
        getattr(mg.jit(branch), name)


def test_of_too_many_variants_the_one_used_longest_ago_makes_room(monkeypatch):
    monkeypatch.setattr("microgradx.compiler.capture.recaptures.MANY", 3)
    step = mg.jit(lambda x, n: x * n)
    dropped = []
    for n in (0, 1, 2):
        step(X, n)
        dropped.append(weakref.ref(step.variant))
    step(X, 0)  # 1 has been used longest ago now
    with pytest.warns(CompileWarning, match="captured 3 times.*longest ago makes room.*pad batches"):
        step(X, 3)
    gc.collect()
    assert [ref() is None for ref in dropped] == [False, True, False]
    with warnings.catch_warnings():  # it is told once
        warnings.simplefilter("error")
        for n in (1, 0, 3, 2):
            assert np.array_equal(step(X, n).numpy(), X * n)
    assert sum(map(len, step.variants.values())) == 3


def test_only_functions():
    with pytest.raises(ArgumentError, match="jit takes a function, not int"):
        mg.jit(3)


def test_an_error_of_the_users_own_comes_through():
    @mg.jit
    def step(x):
        raise KeyError("mine")

    for _ in range(2):
        with pytest.raises(KeyError, match="mine"):
            step(X)


# Python values that change

FACTOR = 2.0
HELPER = types.SimpleNamespace(factor=2.0, inner=types.SimpleNamespace(factor=2.0))
module = types.ModuleType("of_a_user")
module.factor = 2.0
FACTORS, TABLE, NESTED, PAIR = [2.0], {"factor": 2.0}, {"a": [2.0]}, ([2.0], 1)
ARRAY = np.full(3, 2.0, np.float32)


class Holder:
    factor = 2.0


HOLDER = Holder()


def helper():
    return FACTOR


def set_global(n):
    global FACTOR
    FACTOR = n


def set_inside(n):
    HELPER.inner.factor = n


PLACES = {
    "global": (lambda x: x * FACTOR, set_global),
    "global of a helper": (lambda x: x * helper(), set_global),
    "attribute": (lambda x: x * HELPER.factor, lambda n: setattr(HELPER, "factor", n)),
    "attribute inside": (lambda x: x * HELPER.inner.factor, set_inside),
    "attribute of a class": (lambda x: x * Holder.factor, lambda n: setattr(Holder, "factor", n)),
    "through an instance": (lambda x: x * HOLDER.factor, lambda n: setattr(Holder, "factor", n)),
    "attribute of a module": (lambda x: x * module.factor, lambda n: setattr(module, "factor", n)),
    "list": (lambda x: x * FACTORS[0], lambda n: FACTORS.__setitem__(0, n)),
    "longer list": (lambda x: x * sum(FACTORS), lambda n: FACTORS.__setitem__(slice(None), [n - 1, 1])),
    "dict": (lambda x: x * TABLE["factor"], lambda n: TABLE.update(factor=n)),
    "list in a dict": (lambda x: x * NESTED["a"][0], lambda n: NESTED["a"].__setitem__(0, n)),
    "list in a tuple": (lambda x: x * PAIR[0][0], lambda n: PAIR[0].__setitem__(0, n)),
    "array": (lambda x: x * ARRAY, lambda n: ARRAY.fill(n)),
    "default of an argument": (lambda x, n=FACTORS: x * n[0], lambda n: FACTORS.__setitem__(0, n)),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_changed_value_is_noticed(name):
    function, change = PLACES[name]
    step = mg.jit(function)
    try:
        for n in (2.0, 3.0, 2.0):
            change(n)
            np.testing.assert_allclose(twice(step, X), [X * n] * 2, 1e-6)
    finally:
        change(2.0)
        FACTORS[:] = [2.0]


def test_a_changed_closure_is_noticed():
    factor = 2.0
    step = mg.jit(lambda x: x * factor)
    for factor in (2.0, 3.0, 2.0):
        np.testing.assert_allclose(twice(step, X), [X * factor] * 2, 1e-6)


def test_a_changed_tensor_or_function_of_a_closure_is_noticed():
    t, f = mg.tensor([1.0, 2.0, 3.0]), mg.sin
    step = mg.jit(lambda x: f(x) * t)
    twice(step, X)
    t = mg.tensor([3.0, 2.0, 1.0])
    np.testing.assert_allclose(twice(step, X), [np.sin(X) * t.data] * 2, 1e-6)
    f = mg.cos
    np.testing.assert_allclose(twice(step, X), [np.cos(X) * t.data] * 2, 1e-6)


class Scaled(nn.Module):
    """A module with settings of the user's own."""

    def __init__(self):
        self.factor, self.factors, self.settings = 2.0, [2.0], types.SimpleNamespace(factor=2.0)

    def forward(self, x):
        return x * self.factor * self.factors[0] * self.settings.factor


CHANGES = {
    "attribute": lambda m: setattr(m, "factor", 3.0),
    "list": lambda m: m.factors.__setitem__(0, 3.0),
    "attribute of an attribute": lambda m: setattr(m.settings, "factor", 3.0),
    "forward": lambda m: setattr(m, "forward", lambda x: x * 12),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_module_is_noticed(name):
    model = Scaled()
    step = mg.jit(lambda x: model(x))
    np.testing.assert_allclose(twice(step, X), [X * 8] * 2, 1e-6)
    CHANGES[name](model)
    np.testing.assert_allclose(twice(step, X), [X * 12] * 2, 1e-6)


def test_dropout_and_its_probability():
    model = nn.Dropout(0.5)
    step, ends = mg.jit(lambda x: model(x)), []
    for call in (model, step):
        mg.seed(0)
        model.train()
        found = []
        for p in (0.5, 0.2, 0.0, 0.9):
            model.p = p
            found += twice(call, mg.tensor(X))
        model.eval()
        ends.append([*found, *twice(call, mg.tensor(X))])
    np.testing.assert_allclose(*ends, 1e-6)


def test_a_layer_put_in_place_of_another_is_noticed():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    step = mg.jit(lambda x: model(x))
    for layer in (nn.Tanh(), nn.Linear(3, 2), nn.Flatten()):
        twice(step, X)
        setattr(model, "1", layer)
        np.testing.assert_allclose(twice(step, X), [model(mg.tensor(X)).data] * 2, 1e-5)


# Labels out of range


def classifier(kind=optim.Adam):
    model = nn.MLP([3, 8, 4])
    optimizer = kind(model.parameters())
    plan = optim.StepLR(optimizer, 2, 0.5)

    @mg.jit
    def step(x, y):
        optimizer.zero_grad()
        loss = nn.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        plan.step()
        return loss

    return step, lambda: repr([model.state_dict(), optimizer.state_dict(), plan.state_dict()])


@pytest.mark.parametrize("label", [4, -1, 1000])
def test_a_label_out_of_range_changes_nothing(label):
    step, state = classifier()
    good, bad = np.array([0, 1, 2, 3]), np.array([0, 1, label, 3])
    for _ in range(3):
        step(X, good)
    before = state()
    with pytest.raises(ArgumentError, match=f"cross_entropy: 4 classes allow labels 0 to 3, not .*{label}"):
        step(X, bad)
    assert state() == before
    assert np.isfinite(step(X, good).item())


@pytest.mark.parametrize("position", [2, 4, 9, 17])
def test_a_label_out_of_range_ends_a_scan_where_it_is(position):
    data = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 4, 40)
    mg.seed(0)
    step, expected = classifier()
    for i in range(position // 4):
        step(data[4 * i : 4 * i + 4], labels[4 * i : 4 * i + 4])
    mg.seed(0)
    scanned, state = classifier()
    labels[position] = 7
    with pytest.raises(ArgumentError, match="cross_entropy: 4 classes allow labels 0 to 3, not .* to 7"):
        scanned.scan(data, labels, batch_size=4)
    assert state() == expected()


def test_an_index_into_what_a_scan_has_changed_ends_it_where_it_is():
    w = mg.ones(3, requires_grad=True)
    optimizer = optim.SGD([w], lr=0.5)

    @mg.jit
    def step(x, i):
        optimizer.zero_grad()
        (w * x[0]).sum().backward()
        optimizer.step()
        return w.detach()[i]

    with pytest.raises(ArgumentError, match="index 3 is out of bounds"):
        step.scan(np.ones((6, 1)), np.array([0, 1, 2, 0, 3, 1]), batch_size=1)
    assert optimizer.state["0"]["t"] == 5 and w.data.tolist() == [1 - 5 * 0.5] * 3  # the last one eagerly


def test_an_index_of_an_embedding_out_of_range():
    table = nn.Embedding(5, 3)
    step = mg.jit(lambda i: table(i))
    good = np.array([0, 4])
    np.testing.assert_array_equal(twice(step, good), [table.weight.data[good]] * 2)
    with pytest.raises(ArgumentError, match="Embedding: 5 rows allow indices 0 to 4, not 0 to 5"):
        step(np.array([0, 5]))


# Ways of calling

Pair = namedtuple("Pair", "total rows")
RESULTS = {
    "tuple": lambda x: (x.sum(), x.sum(1)),
    "list": lambda x: [x.sum(), x.sum(1)],
    "dict": lambda x: {"total": x.sum(), "rows": x.sum(1)},
    "named tuple": lambda x: Pair(x.sum(), x.sum(1)),
    "nested": lambda x: {"a": [x.sum(), (x.sum(1), None)], "b": 3, "c": "text"},
    "nothing": lambda x: None,
    "number": lambda x: 3,
    "the argument": lambda x: x,
    "twice": lambda x: (x, x * 2, x),
    "a view": lambda x: (x.T, x[1:], x.reshape(2, 6)),
    "a constant": lambda x: (mg.ones(3), x.sum()),
    "a whole number": lambda x: mg.argmax(x, 1),
    "truth": lambda x: x > 0.3,
    "empty": lambda x: x[:0],
}


def plain(x):
    """A result with arrays in place of Tensors."""
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return [type(x).__name__, *map(plain, x)]
    return [x.data.copy(), x.dtype] if isinstance(x, mg.Tensor) else x


def same(a, b):
    """The same result, up to the order of a sum."""
    if isinstance(a, np.ndarray):
        np.testing.assert_allclose(a, b, 1e-6)
        return True
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return all(map(same, a, b)) and len(a) == len(b) if isinstance(a, list) else a == b


@pytest.mark.parametrize("name", RESULTS)
def test_results(name):
    step, kept = mg.jit(RESULTS[name]), []
    for x in (X, X, X[::-1].copy(), X):
        kept.append((step(x), plain(RESULTS[name](mg.tensor(x)))))
    assert all(same(plain(found), expected) for found, expected in kept)  # later calls leave them alone


CALLS = {
    "keywords": lambda f: f(x=X, n=2),
    "mixed": lambda f: f(X, n=2),
    "another order": lambda f: f(n=2, x=X),
    "default": lambda f: f(X),
    "tensor": lambda f: f(mg.tensor(X), 2),
    "strides": lambda f: f(np.repeat(X, 2, 0)[::2], 2),
    "transposed": lambda f: f(np.asfortranarray(X), 2),
    "read-only": lambda f: (
        f(np.broadcast_to(X[0], (4, 3)), 2) - f(np.broadcast_to(X[0], (4, 3)), 2) + f(X, 2)
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_ways_of_calling(name):
    @mg.jit
    def step(x, n=2):
        return x * n

    for _ in range(3):
        np.testing.assert_allclose(CALLS[name](step).data, 2 * X, 1e-6)


def test_wrong_arguments_are_pythons_own_error():
    step = mg.jit(lambda x: x * 2)
    for call in (lambda: step(), lambda: step(X, X), lambda: step(z=X)):
        with pytest.raises(TypeError):
            call()


def test_a_method_as_a_step():
    class Trainer:
        def __init__(self, factor):
            self.factor = factor

        @mg.jit
        def step(self, x):
            """Times the factor."""
            return x * self.factor

    trainers = [Trainer(2.0), Trainer(3.0)]
    for trainer in trainers:
        np.testing.assert_allclose(twice(trainer.step, X), [X * trainer.factor] * 2, 1e-6)
    trainers[0].factor = 5.0
    np.testing.assert_allclose(twice(trainers[0].step, X), [X * 5] * 2, 1e-6)
    assert Trainer.step.__doc__ == "Times the factor."


def test_a_step_keeps_its_name_and_is_a_step_already():
    step = mg.jit(branch)
    assert step.__name__ == "branch" and mg.jit(step) is step and "0 variants" in repr(step)


def test_shapes_dtypes_and_python_values_have_variants_of_their_own():
    step = mg.jit(lambda x, n=2, kind="sum": getattr(mg, kind)(x * n))
    calls = [(X,), (X[:2],), (X.astype(np.float64),), (X, 3), (X, 2.0), (X, True), (X, 2, "mean"), (X,)]
    for args in [*calls, *calls]:
        expected = getattr(np, args[2] if len(args) > 2 else "sum")(args[0] * (args[1] if args[1:] else 2))
        found = step(*args)
        assert found.item() == pytest.approx(expected, rel=1e-6) and found.dtype == args[0].dtype


# What may be inside

WEIGHTS = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)


def cube(x):
    return (x * x * mg.sin(x)).sum()


INSIDE = {
    "no_grad": mg.no_grad()(lambda x: nn.mse_loss(mg.tanh(x) @ mg.tensor(WEIGHTS), mg.zeros(4, 2))),
    "value_and_grad": lambda x: mg.value_and_grad(cube)(x)[1],
    "a gradient of a gradient": lambda x: mg.grad(lambda z: (mg.grad(cube)(z) ** 2).sum())(x),
    "hvp": lambda x: mg.hvp(cube, x, mg.ones(4, 3)),
    "hessian": lambda x: mg.hessian(cube)(x),
    "jit of jit": lambda x: mg.jit(cube)(x) * 2,
    "einsum": lambda x: mg.einsum("ij,jk->ik", x, WEIGHTS),
    "where": lambda x: mg.where(x > 0.5, x, -x),
    "sort of a loop": lambda x: sum((x[i] * i for i in range(4)), start=mg.zeros(3)),
}


@pytest.mark.parametrize("name", INSIDE)
def test_inside(name):
    step = mg.jit(INSIDE[name])
    for x in (X, X + 1, X):
        np.testing.assert_allclose(step(x).data, INSIDE[name](mg.tensor(x)).data, 1e-4, 1e-5)


def test_within_no_grad_and_outside():
    w = mg.tensor(WEIGHTS, requires_grad=True)

    @mg.jit
    def step(x):
        y = (x @ w).sum()
        if y.requires_grad:
            y.backward()
        return y

    for _ in range(2):
        with mg.no_grad():
            step(X)
        assert w.grad is None
    for n in (1, 2, 3):
        step(X)
        np.testing.assert_allclose(w.grad.data, n * np.tile(X.sum(0)[:, None], 2), 1e-5)


def test_a_nan_is_found_line_by_line():
    step = mg.jit(lambda x: mg.value_and_grad(lambda z: mg.sqrt(z - 1).sum())(x)[1])
    assert np.isnan(twice(step, X)[1]).any()
    with mg.detect_anomaly(), pytest.raises(NonFiniteError):
        step(X)
    assert np.isnan(step(X).data).any()


def test_a_result_has_no_history():
    w = mg.tensor(WEIGHTS, requires_grad=True)
    step = mg.jit(lambda x: (x @ w).sum())
    assert [step(X).requires_grad for _ in range(2)] == [False, False]


FORKING = """
import os, numpy as np, microgradx as mg
from microgradx import nn, optim
from microgradx.kernels import set_threads
set_threads(2)
model = nn.MLP([784, 64, 10])
optimizer = optim.Adam(model.parameters())
@mg.jit
def step(x, y):
    optimizer.zero_grad()
    loss = nn.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss
x, y = np.ones((128, 784), np.float32), np.arange(128) % 10
if {before}:
    step(x, y), step(x, y)
child = os.fork()
if not child:
    try:
        losses = [step(x, y).item() for _ in range(3)]
        assert losses[2] < losses[0], losses
    except mg.MicrogradxError as error:
        assert len(str(error)) > 20
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert step(x, y).item() > step(x, y).item()
print("good")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("before", [True, False])
def test_a_forked_process_never_hangs(before):
    text = textwrap.dedent(FORKING).replace("{before}", str(before))
    command = [sys.executable, "-W", "ignore", "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "good\n", done.stderr


def test_a_label_out_of_range_ends_a_scan_by_pieces_where_it_is():
    x = np.random.default_rng(0).random((640, 784), np.float32)
    y = np.random.default_rng(1).integers(0, 10, 640)
    mg.seed(0)
    model = nn.MLP([784, 64, 10])
    optimizer = optim.Adam(model.parameters())

    step = mg.jit(training_step(model, optimizer))

    y[3 * 128 + 5] = 10
    with pytest.raises(ArgumentError, match="10 classes allow labels 0 to 9"):
        step.scan(x, y, batch_size=128)
    assert step.stages.chains[0].pieces > 1
    assert {state["t"] for state in optimizer.state.values()} == {3}


# Numbers of other machines and sizes

BIG, BACK = np.array([1.0, 3.0], ">f8"), np.array([1, 0], ">i4")
KEPT = mg.tensor(BIG)
OTHER = {
    "argument": (lambda x: x * 2, BIG),
    "in a list": (lambda x: x[0] * 2, [BIG]),
    "tensor": (lambda x: x * KEPT, np.ones(2)),
    "constant tensor made inside": (lambda x: x * mg.tensor(BIG), np.ones(2)),
    "indices": (lambda x: x[BACK], np.arange(2.0)),
    "indices as an argument": (lambda i: mg.tensor([5.0, 7.0])[i], BACK),
}


@pytest.mark.parametrize("name", OTHER)
def test_numbers_in_another_machines_order_of_bytes(name):
    """After a call with this machine's own, of the same shape."""
    function, given = OTHER[name]
    own = [given[0].astype(float)] if isinstance(given, list) else given.astype(given.dtype.newbyteorder("="))
    step = mg.jit(function, audit=False)
    for x in (own, given, own):
        expected = function([mg.tensor(own[0])] if isinstance(given, list) else mg.tensor(own))
        np.testing.assert_array_equal(step(x).data, expected.data)
    assert repr(step).endswith(" 1 variants>")


def test_a_scan_over_data_in_another_machines_order_of_bytes():
    step = mg.jit(lambda x: x * 2)
    np.testing.assert_array_equal(step.scan(BIG, batch_size=1).data, [[2], [6]])


LONG = np.array([1, 2], np.longdouble)
WITHOUT_A_TYPE = {
    "constant in another order": (lambda x: x * BIG, np.ones(2), r"BIG is float64 in another.*np\.float64"),
    "long argument": (lambda x: x * 2, LONG, rf"x is {LONG.dtype}.*x\.astype\(np\.float64\)"),
    "long constant": (lambda x: x * LONG, np.ones(2), rf"a tensor holds no {LONG.dtype} numbers"),
    "long number": (lambda x: x * LONG[0], np.ones(2), rf"a tensor holds no {LONG.dtype} numbers"),
}


@pytest.mark.parametrize("name", WITHOUT_A_TYPE)
def test_arrays_that_machine_code_has_no_type_for(name):
    function, x, message = WITHOUT_A_TYPE[name]
    if LONG.itemsize == 8 and "long" in name:
        pytest.skip("longdouble is float64 here")
    with pytest.raises((CaptureError, DTypeError), match=f"(?s){message}"):
        mg.jit(function)(x)
