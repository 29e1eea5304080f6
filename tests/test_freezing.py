"""Freezing and unfreezing: which Tensors are parameters, and what optimizers do with frozen ones."""

import copy
import pickle

import numpy as np
import pytest

import microgradx as mg
from microgradx import nn, optim
from microgradx.errors import ArgumentError, DTypeError, GradientError
from microgradx.optim import optimizers
from microgradx.optim.base import Optimizer
from microgradx.study import Histograms
from microgradx.study.graphs.graph import trace

pytestmark = pytest.mark.interpreted

X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(6, 4)
Y = np.array([0, 1, 2, 2, 1, 0])


def names(module):
    return [name for name, _ in module.named_parameters()]


def backward(model):
    model.zero_grad()
    nn.cross_entropy(model(mg.Tensor(X)), Y).backward()


# Which Tensors are parameters


def test_a_frozen_parameter_is_still_one_so_that_a_loop_can_unfreeze_it():
    model = nn.MLP([4, 5, 3])
    before = names(model)
    assert model[0].requires_grad_(False) is model[0] and names(model) == before
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]
    backward(model)
    assert [p.grad is None for p in model.parameters()] == [True, True, False, False]
    for p in model.parameters():
        p.requires_grad = True
    backward(model)
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_and_pickles_tell_frozen_parameters_from_buffers(copied):
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).requires_grad_(False)
    other = copied(model)
    assert names(other) == ["0.weight", "0.bias", "1.weight", "1.bias"] == names(model)
    assert not any(p.requires_grad for p in other.parameters())
    assert sorted(other.state_dict()) == sorted(model.state_dict()) and "1.running_mean" in other.state_dict()


def test_what_a_module_does_not_train_is_a_buffer_until_it_requires_gradients():
    module = nn.Linear(2, 2)
    module.scale = mg.ones(2)
    assert names(module) == ["weight", "bias"]
    module.scale.requires_grad_()
    assert names(module) == ["weight", "bias", "scale"]
    module.scale.requires_grad_(False)
    assert names(module) == ["weight", "bias", "scale"]
    module.scale = mg.ones(2)  # another Tensor
    assert names(module) == ["weight", "bias"]
    slope = nn.LeakyReLU(mg.tensor(0.1, requires_grad=True)).requires_grad_(False)
    assert names(slope) == ["negative_slope"]


def test_a_tensor_says_whether_it_can_require_gradients():
    t = mg.ones(2)
    assert t.requires_grad_() is t and t.requires_grad and not t.requires_grad_(False).requires_grad
    with pytest.raises(DTypeError, match=r"only floating-point tensors .* this one is int64"):
        mg.tensor([1, 2]).requires_grad_()
    y = t.requires_grad_() * 2
    assert y.requires_grad_() is y
    with pytest.raises(
        GradientError, match=r"a computed tensor requires gradients if its inputs do. Use detach"
    ):
        y.requires_grad_(False)


def test_an_attribute_that_would_do_nothing_is_an_error_that_names_the_method():
    layer = nn.Linear(2, 2)
    with pytest.raises(
        ArgumentError, match=r"Linear.requires_grad = False would .* \.requires_grad_\(False\)"
    ):
        layer.requires_grad = False
    assert all(p.requires_grad for p in layer.parameters())


# Lists, tuples and dicts


class Shelf(nn.Module):
    """Modules and parameters wherever one may put them."""

    def __init__(self):
        self.heads = {"left": nn.Linear(4, 3), "right": [nn.Linear(4, 3), (nn.Dropout(0.5), nn.Tanh())]}
        self.scales = [mg.ones(3, requires_grad=True), {"bias": mg.zeros(3, requires_grad=True)}]
        self.seen = [mg.zeros(3)]  # no parameter, and in a list no buffer either: there it may be anything

    def forward(self, x):
        right, (drop, tanh) = self.heads["right"]
        y = self.heads["left"](x) * self.scales[0] + self.scales[1]["bias"]
        return y + tanh(drop(right(x)))


def test_modules_and_parameters_in_lists_and_dicts_are_found():
    model = Shelf()
    found = ["heads.left.weight", "heads.left.bias", "heads.right.0.weight", "heads.right.0.bias"]
    assert sorted(names(model)) == sorted(["scales.0", "scales.1.bias", *found])
    assert sorted(model.state_dict()) == sorted(names(model))
    children = [name for name, _ in model.named_children()]
    assert children == ["heads.left", "heads.right.0", "heads.right.1.0", "heads.right.1.1"]
    assert not any(m.training for m in model.eval().modules()) and len(list(model.modules())) == 5
    assert "(heads.right.1.0): Dropout(p=0.5)" in repr(model)
    other = Shelf()
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(other.eval()(X), model(X))
    model.scales.append(mg.ones(3, requires_grad=True))
    assert "scales.2" in names(model)


@pytest.mark.parametrize("eager", [True, False], ids=["eager", "compiled"])
def test_what_stands_in_a_dict_is_trained(eager):
    model = Shelf()
    before = model.state_dict()
    mg.fit(model, optim.SGD(model.parameters(), lr=0.1), (X, Y), epochs=1, eager=eager, progress=False)
    assert all((before[name] != value).any() for name, value in model.state_dict().items())


# Optimizers


@pytest.mark.parametrize("name", [n for n, c in optimizers.items() if c is not Optimizer])
def test_an_optimizer_leaves_frozen_parameters_and_their_state_as_they_are(name):
    """As if it had been given the others alone."""
    results = []
    for whole in (True, False):
        mg.seed(1)
        model = nn.MLP([4, 5, 3], bias=name != "muon")
        model[0].requires_grad_(False)
        chosen = model.named_parameters() if whole else model[2].named_parameters()
        optimizer = optimizers[name](chosen, lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            backward(model)
            optimizer.step(lambda: 0.0)  # a closure for LBFGS
        results.append(model.state_dict())
        if whole:
            assert {n: s["t"] for n, s in optimizer.state.items()} == {
                n: 0 if n.startswith("0.") else 3 for n in names(model)
            }
    for key, value in results[0].items():  # LBFGS adds up over all parameters
        np.testing.assert_allclose(value, results[1][key], 1e-5 if name == "lbfgs" else 0)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_freezing_and_unfreezing_between_steps_beside_torch(torch, name):
    ours = nn.MLP([4, 5, 3])
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    theirs.load_state_dict({n: torch.tensor(np.array(v.T)) for n, v in ours.state_dict().items()})
    options = {"lr": 0.05, "weight_decay": 0.1} | ({"momentum": 0.9} if name == "SGD" else {})
    a = getattr(optim, name)(ours.parameters(), **options)
    b = getattr(torch.optim, name)(theirs.parameters(), **options)
    for step in range(6):
        ours[0].requires_grad_(step not in (2, 3))
        theirs[0].requires_grad_(step not in (2, 3))
        a.zero_grad()
        b.zero_grad()
        backward(ours)
        torch.nn.functional.cross_entropy(theirs(torch.tensor(X)), torch.tensor(Y)).backward()
        a.step()
        b.step()
        for key, value in theirs.state_dict().items():
            np.testing.assert_allclose(ours.state_dict()[key], value.numpy().T, rtol=1e-4, atol=1e-6)


def test_a_compiled_step_sees_that_a_layer_has_rested():
    """Adam's step count is each parameter's own: the program of before does not fit once they differ."""
    left = []
    for wrap in (lambda step: step, mg.jit):
        mg.seed(0)
        model = nn.MLP([4, 5, 3])
        optimizer = optim.Adam(model.parameters(), lr=0.05)

        @wrap
        def step(x, model=model, optimizer=optimizer):
            optimizer.zero_grad()
            loss = nn.cross_entropy(model(x), Y)
            loss.backward()
            optimizer.step()
            return loss

        for k in range(10):
            model[0].requires_grad_(k not in range(3, 8))  # nothing changes at the calls that are audited
            step(mg.Tensor(X))
        left.append(model.state_dict())
    for key, value in left[0].items():
        np.testing.assert_allclose(left[1][key], value, rtol=1e-5, atol=1e-6)


def test_a_buffer_is_still_refused():
    norm = nn.BatchNorm1d(3)
    with pytest.raises(ArgumentError, match=r"parameter 0 of shape \(3,\) does not require gradients"):
        optim.SGD([norm.running_mean])
    with pytest.raises(ArgumentError, match=r"does not require gradients"):
        optim.SGD([mg.ones(3)])


# Training


def freezer(model, epoch):
    """A callback that freezes the first layer after an epoch, and unfreezes it after the next."""

    def call(history):
        model[0].requires_grad_(len(history) != epoch)

    return call


def test_a_callback_of_fit_freezes():
    states = []
    model = nn.MLP([4, 5, 3])
    keep = lambda history: states.append(model.state_dict())
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    calls = [keep, freezer(model, 1)]
    mg.fit(model, optimizer, (X, Y), epochs=3, callbacks=calls, eager=True, progress=False)
    moved = [[(a[n] != b[n]).any() for n in names(model)] for a, b in zip(states, states[1:], strict=False)]
    assert moved == [[False, False, True, True], [True] * 4]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("eager", [True, False], ids=["eager", "compiled"])
def test_runs_averages_and_pictures_of_a_model_with_frozen_parameters(eager, tmp_path):
    def made():
        mg.seed(5)
        model = nn.MLP([4, 5, 3])
        model[0].requires_grad_(False)
        return model, optim.Adam(model.named_parameters(), lr=0.05), Histograms(model)

    options = {"eager": eager, "progress": False, "batch_size": 2}
    model, optimizer, histograms = made()
    start = model.state_dict()
    average = optim.EMA(model.named_parameters(), 0.5)
    calls = [histograms, lambda history: average.update()]
    mg.fit(model, optimizer, (X, Y), epochs=2, callbacks=calls, **options)
    np.testing.assert_array_equal(average.state_dict()["averages"]["0.weight"], start["0.weight"])
    assert (average.state_dict()["averages"]["2.weight"] != start["2.weight"]).any()
    histograms.plot(tmp_path / "histograms.png")
    parts = [made()[:2] for _ in range(2)]
    mg.fit(*parts[0], (X, Y), epochs=1, out=tmp_path / "run", **options)
    mg.fit(*parts[1], (X, Y), epochs=2, out=tmp_path / "run", resume=True, **options)
    assert (model.state_dict()["2.weight"] != start["2.weight"]).any()
    for name, value in parts[1][0].state_dict().items():
        np.testing.assert_array_equal(value, model.state_dict()[name])
    np.testing.assert_array_equal(model.state_dict()["0.weight"], start["0.weight"])


def test_a_graph_names_parameters_that_stand_in_a_list():
    model = Shelf().eval()
    model.heads["left"].requires_grad_(False)
    drawn = trace(model(mg.Tensor(X)).sum())
    found = {value.name for value in drawn if value.kind == "parameter"}
    assert {"scales.0", "heads.right.0.weight"} <= found
