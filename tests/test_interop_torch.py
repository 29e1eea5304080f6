"""A run that changes between PyTorch and here goes on as if it had stayed."""

import os
import re

import numpy as np
import pytest

import microgradx as mg
from microgradx import nn, optim
from microgradx.errors import CheckpointError, MicrogradxError
from microgradx.interop.torch import load_model, load_optimizer, model_state, optimizer_state, save_model

OPTIONS = {
    "SGD": [
        {"lr": 0.1, "momentum": 0.9},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ],
    "Rprop": [{}],
    "Adagrad": [{"lr_decay": 0.1}],
    "RMSprop": [{}, {"momentum": 0.9, "centered": True}],
    "Adadelta": [{}],
    "Adam": [{}, {"amsgrad": True, "betas": (0.8, 0.99), "weight_decay": 0.1}],
    "AdamW": [{}],
    "NAdam": [{}],
    "RAdam": [{}],
    "Adamax": [{}],
    "ASGD": [{"lambd": 0.1, "t0": 2}],
}
draw = np.random.default_rng(0)
x, y = draw.standard_normal((8, 5)).astype(np.float32), draw.integers(0, 3, 8)


def step(library, model, optimizer):
    """One step of either library."""
    inputs, labels = (mg.tensor(x), y) if library is nn else (library.from_numpy(x), library.from_numpy(y))
    loss = library.cross_entropy if library is nn else library.nn.functional.cross_entropy
    optimizer.zero_grad()
    loss(model(inputs), labels).backward()
    optimizer.step()


def built(n):
    return n.Sequential(n.Linear(5, 4), n.Tanh(), n.BatchNorm1d(4), n.LayerNorm(4), n.Linear(4, 3))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param(name, one, id=f"{name}-{i}")
        for name, rows in OPTIONS.items()
        for i, one in enumerate(rows)
    ],
)
def test_a_run_goes_on_here_and_back(name, options, torch):
    torch.manual_seed(0)
    stays, theirs, ours = built(torch.nn), built(torch.nn), built(nn)
    theirs.load_state_dict(stays.state_dict())
    staying, there = (getattr(torch.optim, name)(m.parameters(), **options) for m in (stays, theirs))
    here = getattr(optim, name)(ours.parameters(), **options | {"lr": 0.7})  # the state brings the right one
    for _ in range(9):
        step(torch, stays, staying)
    for _ in range(3):
        step(torch, theirs, there)
    load_model(ours, theirs.state_dict())
    load_optimizer(here, ours, there.state_dict())
    for _ in range(3):
        step(nn, ours, here)
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in model_state(ours).items()}, strict=False)
    there.load_state_dict(optimizer_state(here, ours))
    for _ in range(3):
        step(torch, theirs, there)
    for one, other in zip(theirs.parameters(), stays.parameters(), strict=True):
        np.testing.assert_allclose(one.detach(), other.detach(), rtol=2e-4, atol=2e-5)


def test_a_file_goes_both_ways(tmp_path, torch):
    from safetensors.torch import load_file, save_file

    theirs, ours, path = built(torch.nn), built(nn), tmp_path / "model.safetensors"
    save_file(theirs.state_dict(), path)
    load_model(ours, path)
    ours.eval(), theirs.eval()
    np.testing.assert_allclose(ours(mg.tensor(x)).numpy(), theirs(torch.from_numpy(x)).detach(), rtol=1e-5)
    save_model(ours, path)
    for name, array in load_file(path).items():
        assert torch.equal(array, theirs.state_dict()[name])


def test_what_does_not_fit_is_told():
    model = nn.Linear(5, 4)
    with pytest.raises(CheckpointError, match=r"\(4, 5\)"):
        load_model(model, {"weight": np.zeros((5, 4)), "bias": np.zeros(4)})
    lion = optim.Lion(model.parameters())
    with pytest.raises(CheckpointError, match="Lion: PyTorch has no such state to exchange; known are SGD, "):
        load_optimizer(lion, model, {"state": {}, "param_groups": []})
    state = {"state": {}, "param_groups": [{"params": [0]}]}
    with pytest.raises(CheckpointError, match=r"Adam has groups of \[2\] parameters, the state of \[1\]"):
        load_optimizer(optim.Adam(model.parameters()), model, state)
    adam = {"state": {0: {"step": 1, "exp_avg": 0, "exp_avg_sq": 0}}, "param_groups": [{"params": [0, 1]}]}
    with pytest.raises(
        CheckpointError, match="keeps momentum_buffer of a parameter, the state step, exp_avg"
    ):
        load_optimizer(optim.SGD(model.parameters(), lr=0.1, momentum=0.9), model, adam)
    with pytest.raises(CheckpointError, match=r"the state_dict\(\) of an optimizer, not None"):
        load_optimizer(optim.Adam(model.parameters()), model, None)


def changed(state, **values):
    """A PyTorch optimizer's state with other values for its first parameter."""
    return state | {"state": state["state"] | {0: state["state"][0] | values}}


@pytest.mark.parametrize("width", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize("file", [False, True])
def test_numbers_of_another_width_become_those_of_the_model(tmp_path, torch, width, file):
    from safetensors.torch import save_file

    theirs, ours = torch.nn.Linear(3, 2).to(getattr(torch, width)), nn.Linear(3, 2)
    state = dict(theirs.named_parameters()) if width == "bfloat16" and not file else theirs.state_dict()
    if file:
        save_file(theirs.state_dict(), path := tmp_path / "w.safetensors")
    load_model(ours, path if file else state)
    np.testing.assert_array_equal(ours.weight.numpy().T, theirs.weight.detach().float().numpy())


def test_what_cannot_be_exchanged_is_told(tmp_path, torch):
    model, theirs = nn.Linear(3, 2), torch.nn.Linear(3, 2)
    ours, other = optim.Adam(model.parameters()), torch.optim.Adam(theirs.parameters())
    theirs(torch.zeros(1, 3)).sum().backward()
    other.step()
    os.mkfifo(tmp_path / "pipe")
    state, good = theirs.state_dict(), other.state_dict()
    rows = [
        (lambda: save_model(model, tmp_path / "no" / "w"), "No such file or directory. Take another place"),
        (lambda: save_model(model, tmp_path), "cannot be written: there is a folder"),
        (lambda: save_model(model, 5), "save_model cannot take"),
        (lambda: load_model(model, tmp_path), "cannot be read: it is a folder, and must be a file"),
        (lambda: load_model(model, tmp_path / "pipe"), "cannot be read: it is a pipe"),
        (lambda: load_model(model, state | {5: state["bias"]}), "not in the model [5]"),
        (
            lambda: load_model(model, state | {"bias": "abc"}),
            "bias: a state holds NumPy arrays, this is a builtins.str",
        ),
        (lambda: load_model(model, theirs), "takes a state_dict or a .safetensors file, not Linear"),
        (lambda: load_model(model, {"weight": state["weight"].to("meta"), "bias": 0}), "cannot take"),
        (lambda: load_optimizer(ours, model, good | {"param_groups": 5}), "load_optimizer cannot take"),
        (lambda: load_optimizer(ours, model, changed(good, exp_avg="x")), "exp_avg_sq"),
        (lambda: load_optimizer(ours, model, changed(good, step=-1)), "step is a whole number of at least 0"),
    ]
    before = model.state_dict(), ours.state_dict()
    for call, text in rows:
        with pytest.raises(MicrogradxError, match=re.escape(text)):
            call()
    np.testing.assert_equal((model.state_dict(), ours.state_dict()), before)
    load_optimizer(ours, model, changed(good, exp_avg=good["state"][0]["exp_avg"].bfloat16()))
