"""What cannot be watched is refused with the line; what a step changes itself is named; a second look."""

import collections
import copy
import ctypes
import datetime
import os
import random
import sys
import threading
import time
import types
import warnings
from functools import partial

import numpy as np
import pytest

import microgradx as mg
from microgradx import nn, optim
from microgradx.errors import (
    ArgumentError,
    CaptureError,
    CompileWarning,
    MicrogradxError,
    NonFiniteError,
    ShapeError,
)
from microgradx.training.step import training_step

pytestmark = pytest.mark.interpreted

X = np.array([1.0, 2.0], np.float32)
OWN, PYTHONS = np.random.default_rng(0), random.Random(0)
OLD = np.random.RandomState(0)
BAG = types.SimpleNamespace(rng=OWN)
NUMBERS = iter(range(1000))


class Noise:
    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __call__(self, x):
        return x + self.rng.normal()


NOISE = Noise()

FOREIGN = {
    "np.random": (lambda x: x * np.random.rand(), "np.random"),
    "np.random of a helper": (lambda x: noisy(x), "np.random"),
    "np.random.seed": (lambda x: x * (np.random.seed(3) or np.random.rand()), "np.random"),
    "a generator": (lambda x: x * OWN.normal(), "OWN"),
    "a generator in an object": (lambda x: x * BAG.rng.normal(), "rng"),
    "a generator in self": (lambda x: NOISE(x), "rng"),
    "an old generator": (lambda x: x * OLD.rand(), "OLD"),
    "random": (lambda x: x * random.random(), "draws random numbers"),
    "random.uniform": (lambda x: x * random.uniform(0, 1), "draws random numbers"),
    "a Random": (lambda x: x * PYTHONS.gauss(0, 1), "draws random numbers"),
    "random.choice": (lambda x: x * random.choice([1, 2]), "draws random numbers"),
    "time": (lambda x: x * time.time(), "looks at the clock"),
    "perf_counter": (lambda x: x * time.perf_counter(), "looks at the clock"),
    "datetime": (lambda x: x * datetime.datetime.now().second, "looks at the clock"),
    "os.environ": (lambda x: x * len(os.environ["PATH"]), "reads the environment"),
    "os.environ.get": (lambda x: x * len(os.environ.get("PATH", "")), "reads the environment"),
    "os.getenv": (lambda x: x * len(os.getenv("PATH", "")), "reads the environment"),
    "a file": (lambda x: x * size_of_this_file(), "opens a file"),
    "os.getpid": (lambda x: x * os.getpid(), "asks the operating system"),
    "an iterator": (lambda x: x * next(NUMBERS), "iterator"),
}


def noisy(x):
    return x + np.random.normal(size=2)


def size_of_this_file():
    with open(__file__, encoding="utf-8") as file:
        return len(file.read())


@pytest.mark.parametrize("name", FOREIGN)
def test_what_no_guard_can_watch_is_refused(name):
    function, what = FOREIGN[name]
    with pytest.raises(CaptureError, match=what) as error:
        mg.jit(function)(X)
    message = str(error.value)
    assert message.startswith("this step cannot be compiled, because it ") and f"{__file__}:" in message
    assert any(word in message for word in ("mg.rand", "outside of the step", "as an argument"))
    assert sys.getprofile() is None


def test_our_own_random_numbers_are_none_of_them():
    rng = mg.generator
    step = mg.jit(lambda x: x * mg.rand(2))
    before = rng.state_dict()
    found = [step(X).data for _ in range(3)]
    rng.load_state_dict(before)
    np.testing.assert_allclose(found, [(mg.tensor(X) * mg.rand(2)).data for _ in range(3)], 1e-6)


# What a step leaves outside, and what it changes itself


async def later(x):
    return x * 2


def generate(x):
    yield x * 2


HIDDEN = {
    "namespace": (lambda x: types.SimpleNamespace(y=x * 2), "a SimpleNamespace"),
    "object": (lambda x: partial(print, x * 2), "a partial"),
    "deep in an object": (lambda x: [3, {"a": types.SimpleNamespace(y=[{"z": x * 2}])}], "a SimpleNamespace"),
    "deque": (lambda x: collections.deque([x * 2]), "a deque"),
    "set": (lambda x: {x * 2}, "a set"),
    "key": (lambda x: {x * 2: 3}, "in a list"),
    "values of a dict": (lambda x: {"a": x * 2}.values(), "a dict_values"),
    "closure": (lambda x: (lambda y: lambda: y)(x * 2), "a function"),
    "method": (lambda x: (x * 2).numpy, "a method"),
    "array of objects": (lambda x: np.array([types.SimpleNamespace(y=x * 2)]), "a ndarray"),
    "generator": (generate, "a generator, which goes on once.*list of all"),
    "iterator": (lambda x: iter([x * 2]), "a list_iterator, which goes on once"),
    "coroutine": (later, "a coroutine, which goes on once"),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_a_result_that_no_later_call_would_make_anew(name):
    function, message = HIDDEN[name]
    with pytest.raises(CaptureError, match=f"(?s){message}"):
        mg.jit(function)(X)


def test_objects_of_outside_may_be_returned():
    model, bag = nn.Linear(2, 2), types.SimpleNamespace(kept=mg.ones(2), numbers=[1, 2])
    step = mg.jit(lambda x: (x * bag.kept, model, bag, bag.numbers.append))
    for _ in range(2):
        y, *others = step(X)
        np.testing.assert_array_equal(y.data, X)
        assert others[:2] == [model, bag]


class Keeper:
    def __init__(self):
        self.losses, self.by_name, self.last, self.i = [], {}, None, 0


def appended(keeper, x):
    keeper.losses.append(x * 2)


def by_name(keeper, x):
    keeper.by_name["loss"] = x * 2


def attribute(keeper, x):
    keeper.last = x * 2


def new_attribute(keeper, x):
    keeper.fresh = x * 2


@pytest.mark.parametrize("leave", [appended, by_name, attribute, new_attribute])
def test_a_tensor_of_one_step_is_not_left_outside(leave):
    keeper = Keeper()

    def step(x):
        leave(keeper, x)
        return x * 3

    with pytest.raises(CaptureError, match=r"leaves a tensor .*keeper\.") as error:
        mg.jit(step)(X)
    assert "Return the tensor" in str(error.value)


def test_a_counter_that_the_program_does_not_need_is_named_once_and_right():
    keeper = Keeper()

    def step(x):
        keeper.i += 1
        return x * 2

    compiled = mg.jit(step)
    compiled(X)
    with pytest.warns(CompileWarning, match=r"step changes what it reads itself, keeper\.i: 1 then, 2 now"):
        compiled(X)
    for _ in range(5):
        compiled(X)
    assert keeper.i == 7 and sum(map(len, compiled.variants.values())) == 1


def test_a_counter_that_the_program_needs_is_refused_by_name(monkeypatch):
    monkeypatch.setattr("microgradx.compiler.capture.recaptures.FEW", 2)
    keeper = Keeper()

    def step(x):
        keeper.i += 1
        return x * keeper.i

    compiled = mg.jit(step)
    assert [compiled(X).data[0] for _ in range(2)] == [1, 2]
    with pytest.raises(CaptureError, match=r"changes keeper\.i itself.*2 then, 3 now.*as an argument"):
        compiled(X)


def after_use(model, x):
    y = model(x)
    model.eval()
    return y


def for_a_while(model, x):
    model.eval()
    y = model(x)
    model.train()
    return y


def before_use(model, x):
    return model.train()(x)


def halved(model, x):
    y = model(x)
    model.momentum *= 0.5
    return y


CHANGED_MODULES = {  # the step, its module, and whether it changes what it has read
    "eval after use": (after_use, lambda: nn.Dropout(0.5), True),
    "eval for a while": (for_a_while, lambda: nn.Dropout(0.5), False),
    "train before use": (before_use, lambda: nn.Dropout(0.5), False),
    "momentum": (halved, lambda: nn.BatchNorm1d(2), True),
}


@pytest.mark.parametrize("name", CHANGED_MODULES)
def test_a_module_that_the_step_changes(name):
    """With evaluation between the calls, as training has it."""
    function, make, moves = CHANGED_MODULES[name]
    ends = []
    for way in (lambda step: step, mg.jit):
        model = make()
        step = way(lambda x, model=model: function(model, x))
        mg.seed(0)
        ends.append([])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CompileWarning)  # that it changes what it reads
            for training in (True, True, False, True):
                model.train(training)
                y = step(mg.tensor(np.arange(12.0).reshape(6, 2)))
                ends[-1] += [y.data, np.full((6, 2), model.training)]
    np.testing.assert_allclose(*ends, 1e-6)
    assert (step.variant.captured.moved is not None) == moves


def test_too_many_variants_name_the_guard_that_kept_failing(monkeypatch):
    monkeypatch.setattr("microgradx.compiler.capture.recaptures.MANY", 3)
    keeper = Keeper()
    step = mg.jit(lambda x: x * keeper.i)
    with pytest.warns(CompileWarning, match=r"captured 3 times.*What changed: keeper\.i \(3 times\)"):
        for keeper.i in range(5):
            step(X)


# Threads that call one step


def gathers(w, kept, x):
    (w * x[0]).sum().backward()


def adds(w, kept, x):
    with mg.no_grad():
        w += x[0]


def counts(w, kept, x):
    kept.data = kept + x[0]


@pytest.mark.parametrize("function", [gathers, adds, counts, lambda w, kept, x: x * 2])
@pytest.mark.parametrize("way", ["calls", "scan"])
def test_threads_that_call_a_fresh_step_lose_nothing(function, way):
    """Recording takes back what it did, and what one call finds is so until it ends."""
    w, kept = mg.zeros(2, requires_grad=True), mg.zeros(2)
    w.grad = mg.zeros(2)
    step = mg.jit(lambda x: function(w, kept, x), audit=7)
    start, failed = threading.Barrier(4), []

    def run():
        start.wait()
        try:
            if way == "scan":
                step.scan(np.tile(X, (20, 1)), batch_size=1)
            for _ in range(20 if way == "calls" else 0):
                step(X[None])
        except Exception as error:
            failed.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        crew = [threading.Thread(target=run) for _ in range(4)]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not failed
    np.testing.assert_array_equal(w.grad.data, 80 * X * (function is gathers))
    np.testing.assert_array_equal(w.numpy(), 80 * X * (function is adds))
    np.testing.assert_array_equal(kept.data, 80 * X * (function is counts))


def test_a_copy_of_a_step_waits_for_nobody():
    step = mg.jit(lambda x: x * 2)
    step(X)
    assert copy.copy(step.turn) is not step.turn and copy.deepcopy(step.variant.lock) is not step.variant.lock


# What optimizers and schedules hold


def trained(read, x=X):
    """A parameter before and after four steps, eager and compiled."""
    ends = []
    for compile_ in (lambda f: f, lambda f: mg.jit(f, audit=False)):
        w = mg.tensor([1.0, 1.0], requires_grad=True)
        optimizer = optim.SGD([w], lr=0.5)
        plan = optim.StepLR(optimizer, 1, 0.5)

        def step(x, lr, w=w, optimizer=optimizer, plan=plan):
            optimizer.zero_grad()
            loss = (w * x).sum() * read(optimizer, plan, lr)
            loss.backward()
            optimizer.step()
            return loss

        run = compile_(step)
        ends.append([])
        for k, lr in enumerate((0.5, 0.25, 0.5, 0.25)):
            if k == 2:
                plan.step()
            given = (x, lr) if run is not step else (mg.tensor(x), lr)
            ends[-1] += [run(*given).data.item(), *w.data.tolist()]
    return ends


def set_lr(optimizer, plan, lr):
    optimizer.param_groups[0]["lr"] = lr
    return 1.0


OPTIMIZERS = {
    "lr": lambda optimizer, plan, lr: optimizer.param_groups[0]["lr"],
    "lr set from an argument": set_lr,
    "get_last_lr": lambda optimizer, plan, lr: plan.get_last_lr()[0],
    "last_epoch": lambda optimizer, plan, lr: plan.last_epoch + 1.0,
    "step count": lambda optimizer, plan, lr: optimizer.state["0"]["t"] + 1.0,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_read_from_optimizers_and_schedules(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CompileWarning)  # that each step changes what it reads
        np.testing.assert_allclose(*trained(OPTIMIZERS[name]), 1e-6)


SAVED = {}
LOST = {
    "state": (lambda o, plan, ema: o.state["0"]["t"], "the state of Adam after its step.*Read it before"),
    "state_dict": (lambda o, plan, ema: o.state_dict(), "reads the state of Adam after its step"),
    "load": (lambda o, plan, ema: o.load_state_dict(SAVED["o"]), "loads a state of Adam.*Load it outside"),
    "load a schedule": (lambda o, plan, ema: plan.load_state_dict(SAVED["plan"]), "a state of StepLR"),
    "load averages": (lambda o, plan, ema: ema.load_state_dict(SAVED["ema"]), "a state of EMA"),
    "seed": (lambda o, plan, ema: mg.seed(3), "seeds random numbers.*Seed outside of the step"),
    "random": (lambda o, plan, ema: mg.generator.load_state_dict(SAVED["rng"]), "seeds random numbers"),
    "check_finite": (lambda o, plan, ema: setattr(o, "check_finite", True) or o.step(), "check_finite=True"),
}


@pytest.mark.parametrize("name", LOST)
def test_what_a_recording_would_do_once_is_refused(name):
    do, what = LOST[name]
    w = mg.tensor([1.0, 1.0], requires_grad=True)
    optimizer = optim.Adam([w], lr=0.5)
    plan, ema = optim.StepLR(optimizer, 1, 0.5), optim.EMA({"0": w}.items(), 0.5)
    SAVED.update(o=optimizer.state_dict(), plan=plan.state_dict(), ema=ema.state_dict())
    SAVED["rng"] = mg.generator.state_dict()

    @mg.jit
    def step(x):
        optimizer.zero_grad()
        (w * x).sum().backward()
        optimizer.step()
        do(optimizer, plan, ema)

    mg.rand(2)
    before = mg.generator.state_dict()
    with pytest.raises(CaptureError, match=f"(?s){what}"):
        step(X)
    assert mg.generator.state_dict() == before and w.data.tolist() == [1, 1]
    assert repr(optimizer.state_dict()) == repr(SAVED["o"]) and plan.last_epoch == 0


@pytest.mark.parametrize(
    ("kind", "when"), [(optim.Adam, ""), (optim.Adafactor, ""), (optim.Adam, "before"), (optim.Adam, "after")]
)
def test_state_is_read_before_the_step_and_never_written(kind, when):
    def run(way):
        w = mg.tensor([1.0, 1.0], requires_grad=True)
        optimizer = kind([w], lr=0.5)

        def step(x):
            state = optimizer.state["0"]
            optimizer.zero_grad()
            loss = (w * x).sum() * mg.tensor(state["v"]).sum()
            (w * x).sum().backward()
            if when == "before":
                state["v"][...] = 5.0
            optimizer.step()
            if when == "after":
                state["v"][...] = 5.0
            return loss + state["t"]

        step = way(step)
        return [step(mg.tensor(X * k)).item() for k in (1, 2, 3)], optimizer.state["0"]["v"].tolist()

    eager = run(lambda step: step)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CompileWarning)
        if not when:
            for a, b in zip(eager, run(mg.jit), strict=True):
                np.testing.assert_allclose(b, a, 1e-5)
        else:
            with pytest.raises(CaptureError, match="writes into the state of an optimizer.*Write there"):
                run(mg.jit)


@pytest.mark.parametrize("array", ["state", "parameter", "part of it"])
def test_arrays_in_memory_that_the_step_changes_are_not_read_by_numpy(array):
    w = mg.tensor([1.0, 1.0], requires_grad=True)
    optimizer = optim.Adam([w], lr=0.5)
    kept = {"state": optimizer.state["0"]["v"], "parameter": w.numpy(), "part of it": w.numpy()[1:]}[array]

    @mg.jit
    def step(x):
        optimizer.zero_grad()
        (w * x).sum().backward()
        optimizer.step()
        return w * float(kept.sum())

    with pytest.raises(
        CaptureError, match="kept is an array in the memory of .*\\n.*kept.sum.*\\nUse the tensor"
    ):
        step(X)
    assert w.data.tolist() == [1, 1]


def test_check_finite_is_seen_after_the_capture():
    w = mg.tensor([1.0, 1.0], requires_grad=True)
    optimizer = optim.SGD([w], lr=0.5)

    @partial(mg.jit, audit=False)
    def step(x):
        optimizer.zero_grad()
        (w * x).sum().backward()
        optimizer.step()

    step(X)
    optimizer.check_finite = True
    with pytest.raises(CaptureError, match="check_finite=True looks at gradients"):
        step(X)


def test_fit_with_check_finite_goes_on_line_by_line():
    model = nn.Sequential(nn.Linear(2, 2))
    optimizer = optim.SGD(model.parameters(), lr=0.1, check_finite=True)
    x, y = np.full((4, 2), np.nan, np.float32), np.arange(4) % 2
    told = pytest.warns(CompileWarning, match="fit goes on line by line.* check_finite=True")
    with told, pytest.raises(NonFiniteError, match="the gradient of"):
        mg.fit(model, optimizer, (x, y), epochs=1, batch_size=4, progress=False)


def test_a_learning_rate_read_in_a_scan_is_each_steps_own():
    w = mg.tensor([1.0], requires_grad=True)
    optimizer = optim.SGD([w], lr=0.5)
    plan = optim.StepLR(optimizer, 1, 0.5)

    @mg.jit
    def step(x):
        optimizer.zero_grad()
        (w * x).sum().backward()
        optimizer.step()
        lr = optimizer.param_groups[0]["lr"]
        plan.step()
        return x.sum() * lr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CompileWarning)
        found = step.scan(np.ones((3, 1), np.float32), batch_size=1)
    np.testing.assert_allclose(found.data, [0.5, 0.25, 0.125], 1e-6)


# Freezing


def test_freezing_after_a_step_has_run_and_back():
    ends = []
    for compile_ in (lambda f: f, lambda f: mg.jit(f, audit=False)):
        mg.seed(0)
        model = nn.MLP([2, 3, 1])
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x, model=model, optimizer=optimizer):
            optimizer.zero_grad()
            loss = model(x).sum()
            loss.backward()
            optimizer.step()
            return loss

        run, weight = compile_(step), next(iter(model.parameters()))
        for trained in (True, True, False, False, True):
            weight.requires_grad = trained
            run(mg.tensor(X[None]))
        ends.append(np.concatenate([a.ravel() for a in model.state_dict().values()]))
    np.testing.assert_allclose(*ends, 1e-6)


FIT = {
    "freeze": lambda model, loss: setattr(model[0].weight, "requires_grad", False),
    "Dropout.p": lambda model, loss: setattr(model[1], "p", 0.9),
    "bias": lambda model, loss: setattr(model[0], "bias", None),
    "a layer": lambda model, loss: setattr(model, "1", nn.Tanh()),
    "BatchNorm eps": lambda model, loss: setattr(model[2], "eps", 10.0),
    "a constant of the loss": lambda model, loss: setattr(loss, "gamma", 3.0),
}


class Loss:
    gamma = 1.0

    def __call__(self, outputs, y):
        return nn.cross_entropy(outputs, y) * self.gamma


@pytest.mark.parametrize("name", FIT)
def test_fit_sees_what_a_callback_changes(name):
    x, y, ends = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32), np.arange(8) % 2, []
    for eager in (True, False):
        mg.seed(0)
        model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.1), nn.BatchNorm1d(2))
        optimizer, loss = optim.SGD(model.parameters(), lr=0.1), Loss()
        change = lambda history, model=model, loss=loss: FIT[name](model, loss)
        history = mg.fit(
            model, optimizer, (x, y), epochs=3, batch_size=4, loss=loss, callbacks=[change], eager=eager,
            progress=False, seed=1,
        )  # fmt: skip
        ends.append([record["loss"] for record in history])
    np.testing.assert_allclose(*ends, 1e-5)


# A second look


def unseen():
    """A value that no guard finds: it comes out of a frame that Python's profiler does not show."""
    return float(np.frombuffer(memoryview(STORE), np.float64)[0])


STORE = ctypes.create_string_buffer(np.array([2.0]).tobytes(), 8)


def test_a_second_look_finds_what_no_guard_sees():
    def step(x):
        factor = unseen()
        return x * factor

    compiled, blind = mg.jit(step, audit=True), mg.jit(step, audit=False)
    for one in (compiled, blind):
        assert one(X).data.tolist() == [2, 4]
    STORE[0:8] = np.array([3.0]).tobytes()
    assert blind(X).data.tolist() == [2, 4]
    with pytest.warns(CompileWarning, match=r"step has become another step.* 3.0 now and 2.0 then .*factor"):
        assert compiled(X).data.tolist() == [3, 6]
    assert compiled(X).data.tolist() == [3, 6]
    STORE[0:8] = np.array([2.0]).tobytes()


@pytest.mark.parametrize(("audit", "looks"), [(None, 4), (True, 10), (5, 2), (False, 0), (0, 0)])
def test_how_often_a_step_is_looked_at(audit, looks):
    step, counts = mg.jit(lambda x: x * 2, audit=audit), [0]
    plain = step.record
    step.record = lambda call, again=False: counts.__setitem__(0, counts[0] + again) or plain(call, again)
    for _ in range(11):
        step(X)
    assert counts[0] == looks


@pytest.mark.parametrize("audit", [-1, 0.5, "often"])
def test_how_often_must_be_a_number(audit):
    with pytest.raises(ArgumentError, match="audit must be"):
        mg.jit(lambda x: x, audit=audit)


def test_a_tensor_that_the_step_makes_is_new_in_every_call():
    def step(x):
        total = mg.zeros(2)
        total.data = total + x
        return total * 1.0

    compiled = mg.jit(step, audit=False)
    assert [compiled(X).data.tolist() for _ in range(3)] == [[1, 2]] * 3


def test_one_that_it_changes_in_place_is_refused():
    def step(x):
        total = mg.zeros(2, requires_grad=True)
        with mg.no_grad():
            total += x
        return total * 1.0

    with pytest.raises(CaptureError, match=r"makes a tensor of an array, and changes .* in place"):
        mg.jit(step)(X)


def lower_rates(optimizer):
    for rate in (0.1, 0.01):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()


def decay(optimizer):
    optimizer.step()
    optimizer.param_groups[0]["weight_decay"] = 0.5


@pytest.mark.parametrize("change, key", [(lower_rates, "lr"), (decay, "weight_decay")])
def test_options_changed_after_a_step_by_them_are_refused(change, key):
    p = mg.tensor([1.0, 2.0], requires_grad=True)
    optimizer = optim.SGD([p], lr=0.1)

    def step():
        optimizer.zero_grad()
        (p * p).sum().backward()
        change(optimizer)

    with pytest.raises(CaptureError, match=f"changes {key} of an optimizer after a step by it"):
        mg.jit(step)()


def test_more_parameters_between_calls():
    ends = []
    for way in (lambda step: step, lambda step: mg.jit(step, audit=False)):
        p, q = (mg.tensor(x, requires_grad=True) for x in ([1.0, 2.0], [3.0, 4.0]))
        optimizer = optim.SGD([("p", p)], lr=0.1)

        @way
        def step(p=p, q=q, optimizer=optimizer):
            q.grad = None
            optimizer.zero_grad()
            (p * q).sum().backward()
            optimizer.step()

        step()
        optimizer.add_param_group({"params": [("q", q)]})
        step()
        ends.append([p.tolist(), q.tolist()])
    assert ends[0] == ends[1] != [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "batches", [[[0, 1], [9, 0]], [[0, 1], [1, 0], [2, 9]]], ids=["one call", "in a scan"]
)
def test_an_index_out_of_range_leaves_no_half_step(batches):
    """The rows are read and their gradients written: two checks of one index."""
    ends = []
    for compiled in (False, True):
        table = mg.tensor([0.0, 1.0, 2.0, 3.0], requires_grad=True)
        count, optimizer = mg.tensor([0.0]), optim.Adam([table], lr=0.1)

        def step(i, table=table, count=count, optimizer=optimizer):
            optimizer.zero_grad()
            (table[i] ** 2).sum().backward()
            optimizer.step()
            count.data = count + 1

        call = mg.jit(step) if compiled else step
        with pytest.raises(ArgumentError, match="index 9"):
            if compiled and len(batches) > 2:
                call.scan(np.concatenate(batches), batch_size=2)
            else:
                for batch in batches:
                    call(mg.Tensor(np.array(batch)))
        ends.append([table.tolist(), count.tolist(), optimizer.state_dict()["state"]])
    assert repr(ends[0]) == repr(ends[1])


def test_a_second_look_changes_nothing():
    ends = []
    for audit in (True, False):
        mg.seed(0)
        model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 1))
        optimizer = optim.Adam(model.parameters(), lr=0.1)
        plan = optim.StepLR(optimizer, 2, 0.5)

        @partial(mg.jit, audit=audit)
        def step(x, model=model, optimizer=optimizer, plan=plan):
            optimizer.zero_grad()
            loss = model(x).sum()
            loss.backward()
            optimizer.step()
            plan.step()
            return loss

        x = np.arange(8, dtype=np.float32).reshape(4, 2)
        losses = [step(x).item() for _ in range(4)]
        ends.append(repr([losses, model.state_dict(), optimizer.state_dict(), plan.state_dict()]))
    assert ends[0] == ends[1]


# Arguments that hold arrays

NESTED = {
    "list": lambda a: [a],
    "tuple": lambda a: (a, 1),
    "dict": lambda a: {0: a},
    "nested": lambda a: [[a, 2], 3],
    "defaultdict": lambda a: collections.defaultdict(list, {0: a}),
}


@pytest.mark.parametrize("kind", NESTED)
def test_arrays_inside_arguments_are_arguments(kind):
    step = mg.jit(lambda b: mg.tensor(b[0] if kind != "nested" else b[0][0]).sum())
    for part in (X, X + 1, X[:1], X * 5):
        assert step(NESTED[kind](part)).item() == part.sum()
    assert sum(map(len, step.variants.values())) == 2


def test_arguments_by_keyword_alone():
    def step(x, *, n):
        return x * n

    compiled = mg.jit(step)
    for n in (2, 3, 2):
        np.testing.assert_array_equal(compiled(X, n=n).data, X * n)


def added(x, y=1.0):
    return x * 2 + y


def summed(x, kind="all"):
    return x["data"].sum() if kind == "named" else x.sum()


SCANNED = np.ones((4, 3), np.float32)
SCAN = partial(mg.jit(lambda x: (x * 2).sum()).scan, SCANNED)
WRONG = {
    "None": (lambda: mg.jit(added)(None), "added: unsupported operand .* Its argument x is None. Where"),
    "a string": (lambda: mg.jit(summed)("abc"), "'str' object has no attribute 'sum'. Its argument x"),
    "an object": (lambda: mg.jit(added)(object()), "Its argument x is a object"),
    "a list": (lambda: mg.jit(summed)([[1.0, 2.0]]), "Its argument x is a list"),
    "a generator": (lambda: mg.jit(added)(i for i in X), "Its argument x is a generator"),
    "None by keyword": (lambda: mg.jit(added)(X, y=None), "Its argument y is None"),
    "None in a dict": (lambda: mg.jit(summed)({"data": None}, "named"), r"Its argument x\['data'\] is None"),
    "line by line": (lambda: mg.jit(added, fallback="eager")(None), "Its argument x is None"),
    "no array": (lambda: mg.jit(nn.Linear(3, 1))(memoryview(SCANNED)), "not the memoryview"),
    "tensors in a dict": (lambda: mg.jit(nn.Linear(2, 1))({"x": X}), "a tensor or an array, not the dict"),
    "masked": (lambda: mg.jit(added)(np.ma.array(X, mask=[0, 1])), "takes no masked arrays: write x.filled"),
    "strings": (lambda: mg.jit(added)(np.array(["a"])), "tensors hold float32, .*, not <U1"),
    "half": (lambda: mg.jit(added)(X.astype(np.float16)), "tensors hold float32, .*, not float16"),
    "a batch of True": (lambda: SCAN(batch_size=True), "a positive whole number, not True"),
    "a batch of halves": (lambda: SCAN(batch_size=0.5), "a positive whole number, not 0.5"),
    "an order of floats": (lambda: SCAN(batch_size=2, order=[0.5, 1]), "must be integers in a row.*float32"),
    "a mask as order": (lambda: SCAN(batch_size=2, order=SCANNED[:, 0] > 0), "must be integers .* not bool"),
    "an order in rows": (lambda: SCAN(batch_size=2, order=[[0, 1]]), r"not int64 of shape \(1, 2\)"),
    "an order of words": (lambda: SCAN(batch_size=2, order="ab"), "not <U2"),
    "a large order": (lambda: SCAN(batch_size=1, order=np.uint64([2**63])), "it has 9223372036854775808"),
    "no data": (lambda: mg.jit(added).scan(batch_size=2), "arrays of as many rows, not none"),
    "data of None": (lambda: mg.jit(added).scan(None, batch_size=2), "not object"),
    "ragged data": (lambda: mg.jit(added).scan([[1], [1, 2]], batch_size=2), "do not form an array"),
    "rows of two lengths": (lambda: SCAN(X, batch_size=2), r"as many rows, not \(4, 3\), \(2,\)"),
    "masked data": (lambda: mg.jit(added).scan(np.ma.array(X), batch_size=1), "takes no masked arrays"),
    "interpret": (lambda: mg.jit(added, interpret="yes"), "interpret is True, False or None, not 'yes'"),
    "fallback": (lambda: mg.jit(added, fallback=True), "fallback is None or 'eager', not True"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_named(name):
    call, message = WRONG[name]
    with pytest.raises(MicrogradxError, match=message):
        call()


def test_a_call_that_does_not_fit_is_pythons_own_error():
    with pytest.raises(TypeError, match=r"added\(\) got an unexpected keyword argument 'z'"):
        mg.jit(added)(X, z=1)
    assert mg.jit(max)(2, 3) == 3  # written in C, it does not say what it takes


def test_objects_of_the_users_own_keep_their_errors():
    with pytest.raises(AttributeError, match="'types.SimpleNamespace' object has no attribute 'sum'"):
        mg.jit(summed)(types.SimpleNamespace())


@pytest.mark.parametrize("way", [lambda step: step, mg.jit], ids=["eager", "compiled"])
def test_an_empty_batch_leaves_the_parameters_alone(way):
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    step = way(training_step(model, optimizer, nn.mse_loss))

    before = model.weight.numpy()
    with pytest.raises(ShapeError, match=r"mean over nothing, .* \(0, 1\). Leave such batches out, or"):
        step(mg.Tensor(np.zeros((0, 2), np.float32)), mg.Tensor(np.zeros((0, 1), np.float32)))
    np.testing.assert_array_equal(model.weight.numpy(), before)
