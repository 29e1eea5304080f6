"""Optimizers, schedules and averages, copied and pickled: the copy goes on as the original does."""

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

import microgradx as mg
from microgradx import nn, optim, rules

COPIES = [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]


@mg.rule
def shove(p, g, m, /, t, lr=0.1, beta=0.5):
    """m ← βm + g     p ← p - lr · m"""
    m = beta * m + g
    return p - lr * m, m


del rules.rules["shove"]  # the table stays as it was, for other tests


MADE = [
    lambda p: optim.Optimizer(p, shove, beta=0.75),
    lambda p: optim.Adam(p, lr=0.1, amsgrad=True),
    lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    lambda p: optim.Optimizer(p, rules.nadam, lr=0.1, weight_decay=0.1),
    lambda p: optim.Muon([one for one in p if one[1].ndim == 2], lr=0.1),
    lambda p: optim.Adafactor(p, lr=0.1),
    lambda p: optim.LBFGS(p, lr=0.5, max_iter=3, history_size=2),
    lambda p: optim.AdamW([{"params": p[:1], "lr": 0.5}, {"params": p[1:], "betas": (0.5, 0.5)}]),
]
X, Y = np.eye(4, 3, dtype=np.float32), np.array([0, 1, 1, 0])


def evaluate(model, optimizer):
    optimizer.zero_grad()
    loss = nn.cross_entropy(model(X), Y)
    loss.backward()
    return loss


def go_on(model, optimizer, schedule, average):
    for _ in range(3):
        optimizer.step(partial(evaluate, model, optimizer))
        schedule.step()
        average.update()
    return model.state_dict() | average.state_dict()["averages"]


@pytest.mark.parametrize("again", COPIES, ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("make", MADE)
def test_a_copy_goes_on_as_the_original(make, again):
    mg.seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = make(list(model.named_parameters()))
    parts = model, optimizer, optim.StepLR(optimizer, 2), optim.EMA(model.named_parameters(), 0.5)
    go_on(*parts)
    twin = again(parts)
    before = model.state_dict()
    theirs = go_on(*twin)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])  # the original has not moved
    ours = go_on(*parts)
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)
    assert twin[1].param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    assert twin[2].optimizer is twin[1]


class Counting(optim.Adam):
    """An optimizer of the user's own, which keeps more."""

    calls = 0

    def step(self, closure=None):
        self.calls += 1
        return super().step(closure)


del optim.optimizers["counting"]  # the table stays as it was, for other tests


@pytest.mark.parametrize("again", COPIES, ids=["deepcopy", "pickle"])
def test_a_class_of_ones_own_keeps_what_it_had(again):
    optimizer = Counting([mg.ones(2, requires_grad=True)])
    optimizer.seen = {"loss": 3.0}
    optimizer.parameters["0"].grad = mg.ones(2)
    optimizer.step()
    twin = again(optimizer)
    assert (type(twin), twin.calls, twin.seen) == (Counting, 1, {"loss": 3.0})
    assert vars(twin).keys() == vars(optimizer).keys()


class Trained(nn.Module):
    """A model with a jitted method, and steps that it keeps itself."""

    def __init__(self):
        self.layer = nn.Linear(3, 2)
        self.kept, self.same = mg.jit(self.plain, audit=False), self.step

    def plain(self, x):
        return self.layer(x) * 2.0

    @mg.jit
    def step(self, x):
        return self.layer(x)


@mg.jit
def doubled(x):
    return x * 2.0


@pytest.mark.interpreted
@pytest.mark.parametrize("again", COPIES, ids=["deepcopy", "pickle"])
def test_a_copy_has_steps_of_its_own(again):
    model = Trained()
    wanted = [step(X).data.copy() for step in (model.step, model.kept, model.same)]
    assert [*model.state_dict()] == ["layer.weight", "layer.bias"]
    other = again(model)
    assert repr(other) == repr(model) and [*other.state_dict()] == [*model.state_dict()]
    for parameter in other.parameters():
        parameter.data = parameter.detach() * 4.0
    for name, result in zip(("step", "kept", "same"), wanted, strict=True):
        np.testing.assert_array_equal(getattr(other, name)(X).data, result * 4)
        np.testing.assert_array_equal(getattr(model, name)(X).data, result)
    assert other.kept.options == model.kept.options and again(doubled) is doubled


def made_inside():
    @mg.rule
    def inner(p, g, /, lr=0.1):
        return p - lr * g

    del rules.rules["inner"]
    return inner


def jitted_inside():
    return mg.jit(lambda x: x * 2.0)


@pytest.mark.parametrize(
    "thing", [shove, rules.adam, mg.exp, mg.matmul, made_inside()], ids=lambda x: x.__name__
)
def test_what_has_a_name_is_copied_by_it(thing):
    assert copy.copy(thing) is copy.deepcopy(thing) is thing
    if thing.__name__ != "inner":
        assert pickle.loads(pickle.dumps(thing)) is thing


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            made_inside,
            "is not what .*test_copies.inner stands for. Give it a name of its own at the top of a",
        ),
        (jitted_inside, "local object|<lambda>"),
        (
            lambda: type("Bare", (optim.Optimizer,), {}),
            r"makes it of a rule; or take Optimizer\(params, rule\)",
        ),
        (lambda: mg.ones(2, requires_grad=True) * 2, r"cannot be .* pickled with its history; use clone\(\)"),
    ],
)
def test_what_has_no_name_for_a_pickle_is_refused(make, message):
    with pytest.raises((pickle.PicklingError, AttributeError, mg.MicrogradxError), match=message):
        pickle.dumps(make())


FORKED = """
import os, threading, time, numpy as np, microgradx as mg
inside, go_on = threading.Event(), threading.Event()

@mg.primitive
def slow(x):
    if threading.current_thread() is not threading.main_thread():
        inside.set()
        go_on.wait(20)
    return x * 2

step = mg.jit(lambda x: slow(x) + 1.0)
x = np.ones(3, np.float32)
step(x)
thread = threading.Thread(target=step, args=(x,))
thread.start()
assert inside.wait(20)
child = os.fork()
if not child:
    os._exit(0 if step(x).data.tolist() == [3, 3, 3] else 1)
assert os.waitpid(child, 0)[1] == 0
go_on.set()
thread.join()
print("good")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_while_a_thread_is_inside_a_step():
    command = [sys.executable, "-W", "ignore", "-c", FORKED]
    environment = os.environ | {"MICROGRADX_INTERPRET": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.stdout == "good\n", done.stderr


def trained(parts, queue):
    """Steps of a model that was used before, in this process or another: numba/numba#7872 hung."""
    try:
        queue.put(go_on(*parts))
    except BaseException as error:
        queue.put(repr(error))


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # of JAX, if another test has imported it
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_goes_on_after_threads_were_used(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"there is no {method} here")
    context = multiprocessing.get_context(method)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    parts = model, optimizer, optim.StepLR(optimizer, 2), optim.EMA(model.named_parameters(), 0.5)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda k: (mg.ones((300, 300)) @ mg.ones((300, 300))).sum().item(), range(8)))
    go_on(*parts)
    queue = context.SimpleQueue()
    process = context.Process(target=trained, args=(parts, queue))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12: fork beside threads
        process.start()
    theirs, ours = queue.get(), go_on(*parts)
    process.join(20)
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)
