"""fit's sample weights and the best weights back."""

import numpy as np
import pytest

import microgradx as mg
from microgradx import nn, optim
from microgradx.errors import ArgumentError

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


@pytest.mark.parametrize(
    ("weight", "got"),
    [(np.ones(3), r"shape \(3,\)"), (-np.ones(12), "-1.0 among"), (np.full(12, np.nan), "nan among")],
)
def test_weights_that_do_not_fit(weight, got):
    with pytest.raises(ArgumentError, match=f"sample_weight must be 12 finite numbers .*; got {got}"):
        trained(X, Y, sample_weight=weight)


def test_a_loss_without_reduction_says_so():
    with pytest.raises(ArgumentError, match="takes reduction='none'"):
        trained(X, Y, lambda a, b: nn.cross_entropy(a, b), sample_weight=WEIGHT, eager=True)


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
