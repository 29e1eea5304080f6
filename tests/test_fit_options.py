"""fit's sample weights and the best weights back, and what it refuses to learn from."""

import re

import numpy as np
import pytest

import microgradx as mg
from microgradx import nn, optim
from microgradx.errors import ArgumentError, NonFiniteError, ShapeError, TrainingWarning

pytestmark = pytest.mark.interpreted

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(12, 3)).astype(np.float32), rng.integers(0, 2, 12)
WEIGHT = rng.integers(0, 4, 12)
WEIGHT[0] = 1


def trained(x, y, loss=nn.cross_entropy, outputs=2, **options):
    mg.seed(0)
    model = nn.MLP([3, 4, outputs])
    options = {"epochs": 3, "batch_size": 100, "progress": False} | options
    history = mg.fit(model, optim.SGD(model.parameters(), lr=0.5), (x, y), loss=loss, **options)
    return model, history


@pytest.mark.parametrize("eager", [True, False])
def test_a_weight_counts_a_row_so_often(eager):
    weighted, history = trained(X, Y, sample_weight=WEIGHT, eager=eager)
    repeated, same = trained(np.repeat(X, WEIGHT, axis=0), np.repeat(Y, WEIGHT), eager=eager)
    np.testing.assert_allclose(history["loss"], same["loss"], rtol=1e-5)
    for name, value in repeated.state_dict().items():
        np.testing.assert_allclose(weighted.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_weights_of_a_regression_and_of_batches():
    target = X[:, :2]
    ones = trained(X, target, nn.mse_loss, sample_weight=np.ones(12), batch_size=5)[1]
    none = trained(X, target, nn.mse_loss, batch_size=5)[1]
    np.testing.assert_allclose(ones["loss"], none["loss"], rtol=1e-5)


def changed(array, value, *at):
    array = array.astype(np.float32)
    array[at] = value
    return array


def with_lbfgs(batch_size):
    model = nn.MLP([3, 2])
    mg.fit(model, optim.LBFGS(model.parameters()), (X, Y), batch_size=batch_size, epochs=1, progress=False)


def frozen():
    model = nn.MLP([3, 2]).requires_grad_(False)
    mg.fit(model, optim.SGD(model.named_parameters()), (X, Y))


FINITE = "sample_weight must be 12 finite numbers of at least 0, one per row; got "
ROWS = [
    (lambda: trained(X, Y, sample_weight=np.ones(3)), ArgumentError, FINITE + "shape (3,)."),
    (lambda: trained(X, Y, sample_weight=-np.ones(12)), ArgumentError, FINITE + "-1.0 among them."),
    (lambda: trained(X, Y, sample_weight=np.full(12, np.nan)), ArgumentError, FINITE + "nan among them."),
    (lambda: trained(X, Y, sample_weight=np.zeros(12)), ArgumentError, "sample_weight is 0 for all rows"),
    (lambda: trained(X, Y, lambda a, b: nn.cross_entropy(a, b), sample_weight=WEIGHT), ArgumentError,
     "fit: with sample_weight the loss takes reduction='none', this one not. Write it as def loss(outputs, "),
    (lambda: trained(changed(X, np.nan, 7, 2), Y, eager=True), NonFiniteError,
     "the loss is nan in epoch 1, step 1 of 1. The data are not finite: x[7, 2] of train is nan, in 1 of 12"),
    (lambda: trained(X, X[:, :2], nn.mse_loss, eager=True, valid=(X, changed(X[:, :2], np.inf, 3, 0))),
     NonFiniteError, "y[3, 0] of valid is inf, in 1 of 12 rows. Mend or drop them."),
    (frozen, ArgumentError, "fit: all 2 parameters of the optimizer are frozen (0.weight, 0.bias): nothing "),
    (lambda: with_lbfgs(5), TrainingWarning, "each batch of 5 has its own. It is likely to diverge; a batch"),
]  # fmt: skip


ROWS += [
    (lambda given=given: trained(X, Y, **given), ArgumentError if kind is None else kind, text)
    for given, kind, text in (
        (
            {"callbacks": print},
            None,
            "callbacks is a list of functions that take the history, such as [yours]",
        ),
        ({"callbacks": [5]}, None, "take the history; 5 is none"),
        ({"callbacks": [lambda: 0]}, None, "take the history; <function"),
        ({"out": 5}, None, "out is the path of a folder, such as 'runs/first'; got 5"),
        ({"out": b"x"}, None, "got b'x'"),
        ({"out": "a\0b"}, None, "got 'a\\x00b'"),
        ({"classes": "ab"}, None, "each a text of its own, such as ['cat', 'dog']; got 'ab'"),
        ({"classes": ["a", "a"]}, None, "'a' is there twice"),
        ({"classes": [1, 2]}, None, "1 is no text"),
        ({"classes": ["a", "b", "c"]}, None, "the model tells 2 labels apart, and classes has 3: a, b, c"),
        ({"sample_weight": ["1"] * 12}, None, FINITE + "<U1 (12,)."),
        ({"sample_weight": [[1], [2, 3]]}, None, FINITE + "[[1], [2, 3]]."),
        ({"sample_weight": WEIGHT * 1j}, None, FINITE + "complex128 (12,)."),
        ({"sample_weight": np.full(12, 1e300)}, None, FINITE + "1e+300 among them."),
        ({"patience": 1.5}, None, "patience is a whole number of at least 1, not 1.5"),
        ({"epochs": True}, None, "epochs is a whole number of at least 1, not True"),
        ({"batch_size": 16.0}, None, "batch_size is a whole number of at least 1, not 16.0"),
        ({"save_every": -1}, None, "save_every must be a number of at least 0, got -1"),
        ({"save_every": np.nan}, None, "save_every must be a number of at least 0, got nan"),
        ({"clip_norm": True}, None, "clip_norm must be a number above 0, got True"),
        ({"eager": "no"}, None, "eager is True or False, not 'no'"),
        ({"config": [1]}, None, "config is a dict for config.json, such as {'note': 'first'}; got [1]"),
        ({"config": {(1, 2): 3}}, None, "config is kept as JSON, and cannot be: keys must be str"),
        ({"loss": lambda out: out}, None, "loss is called with outputs and targets, and <function"),
        ({"loss": lambda out, y: 1.0}, None, "the loss gives 1.0; it must give a tensor"),
        ({"loss": lambda out, y: (out.sum(), 1)}, None, "it must give a tensor"),
        ({"loss": lambda out, y: out}, ShapeError, "of shape (12, 2); it must give one number: write loss.m"),
        ({"loss": nn.mse_loss}, ShapeError, "labels go into cross_entropy, or as one_hot(labels, 2)"),
    )
]
NUMBERS = X[:, :1]
ROWS += [
    (lambda: trained(X, NUMBERS, outputs=1), ShapeError, "are of one class, and the loss is 0 whatever"),
    (lambda: trained(X, X[:, :2]), ArgumentError, "cross_entropy takes labels or probabilities, and y[0]"),
    (lambda: trained(X, NUMBERS, nn.binary_cross_entropy_with_logits, 1), ArgumentError,
     "takes targets from 0 to 1, and 1.304"),
]  # fmt: skip


@pytest.mark.parametrize("call, kind, text", ROWS, ids=[row[2][:60] for row in ROWS])
def test_what_cannot_be_learned_from_is_told(call, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        call()


def test_a_callback_may_say_so_in_the_words_of_numpy():
    assert len(trained(X, Y, callbacks=(lambda history: np.True_ for _ in range(1)))[1]) == 1


def test_all_rows_in_one_batch_need_no_advice():
    with_lbfgs(12)


def test_a_loss_may_be_made_of_gradients():
    model = nn.MLP([3, 2])

    def loss(outputs, y):
        slope = mg.grad(lambda x: model(x).sum())(X)
        return nn.cross_entropy(outputs, y) + mg.square(slope).sum()

    history = mg.fit(model, optim.SGD(model.parameters()), (X, Y), loss=loss, epochs=1, eager=True)
    assert np.isfinite(history["loss"]).all()


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("folder", [False, True])
def test_patience_leaves_the_best_weights(tmp_path, folder):
    def run(**more):
        states = []
        out = tmp_path / f"run-{len(list(tmp_path.iterdir()))}" if folder else None
        mg.seed(0)
        model = nn.MLP([3, 4, 2])
        keep = lambda history: states.append(model.state_dict()) and None
        adam = optim.Adam(model.parameters(), lr=0.5)
        history = mg.fit(
            model, adam, (X, Y), (X, 1 - Y), epochs=6, callbacks=[keep], progress=False, out=out, **more
        )
        best = history.best["epoch"]
        assert best < len(states)
        return model.state_dict(), states[best - 1], states[-1]

    for more, which in (
        ({"patience": 3}, 1),
        ({"patience": 3, "restore_best": False}, 2),
        ({"restore_best": True}, 1),
        ({}, 2),
    ):
        found = run(**more)
        for name, value in found[0].items():
            np.testing.assert_array_equal(value, found[which][name])


def test_a_schedule_is_one_of_the_optimizer_that_trains():
    model, data = nn.MLP([2, 2]), (np.zeros((4, 2), np.float32), np.zeros(4, int))
    adam, other = optim.Adam(model.parameters()), optim.SGD(nn.MLP([2, 2]).parameters(), lr=0.1)
    with pytest.raises(ArgumentError, match="the learning rate of another SGD.*StepLR\\(optimizer"):
        mg.fit(model, adam, data, schedule=optim.StepLR(other, 1))
    with pytest.raises(ArgumentError, match="schedule must be a schedule, such as .*, got 'cosine'"):
        mg.fit(model, adam, data, schedule="cosine")
