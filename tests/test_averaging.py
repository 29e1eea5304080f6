"""Averages of weights: their definition, the swap, and exact continuation."""

import numpy as np
import pytest

from microgradx import optim
from microgradx.eager.tensor import Tensor
from microgradx.errors import ArgumentError, CheckpointError

KINDS = {"EMA": lambda params: optim.EMA(params, decay=0.7), "SWA": optim.SWA}
every = pytest.mark.parametrize("kind", KINDS)


def walk(average, params, rng, steps):
    """Random values, each taken into the average; returns them."""
    taken = []
    for _ in range(steps):
        for p in params:
            p.data[...] = rng.normal(size=p.shape)
        taken.append([p.data.copy() for p in params])
        average.update()
    return taken


def parameters(shapes=((3, 2), ()), dtype=np.float64):
    return [Tensor(np.zeros(shape, dtype), requires_grad=True) for shape in shapes]


def test_ema_is_the_exponential_mean():
    params = parameters()
    average = optim.EMA(params, decay=0.7)
    taken = walk(average, params, np.random.default_rng(0), 5)
    for i, name in enumerate(("0", "1")):
        expected = taken[0][i]
        for values in taken[1:]:
            expected = 0.7 * expected + 0.3 * values[i]
        np.testing.assert_allclose(average.averages[name], expected, rtol=1e-14)


def test_swa_is_the_mean():
    params = parameters()
    average = optim.SWA(params)
    taken = walk(average, params, np.random.default_rng(0), 5)
    np.testing.assert_allclose(
        average.averages["0"], np.mean([values[0] for values in taken], axis=0), rtol=1e-13
    )


@pytest.mark.parametrize("decay", [None, 0.7])
def test_agrees_with_pytorch(decay):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `bench` brings it)")
    model = torch.nn.Linear(3, 2, dtype=torch.float64)
    utils = torch.optim.swa_utils
    oracle = utils.AveragedModel(model, multi_avg_fn=decay and utils.get_ema_multi_avg_fn(decay))
    p = Tensor(np.zeros((2, 3)), requires_grad=True)
    average = optim.EMA([p], decay) if decay else optim.SWA([p])
    for values in np.random.default_rng(0).normal(size=(5, 2, 3)):
        p.data[...] = values
        model.weight.data.copy_(torch.tensor(values))
        average.update()
        oracle.update_parameters(model)
    np.testing.assert_allclose(average.averages["0"], oracle.module.weight.detach().numpy(), rtol=1e-13)


@every
def test_swapped_in_and_back_even_after_an_error(kind):
    params = parameters(dtype=np.float32)
    optimizer = optim.SGD(params, lr=1.0)
    average = KINDS[kind](params)
    walk(average, params, np.random.default_rng(0), 3)
    own, version = params[0].data.copy(), params[0]._version[0]
    with pytest.raises(KeyError), average.applied():
        assert np.array_equal(params[0].data, average.averages["0"])
        raise KeyError
    assert np.array_equal(params[0].data, own)
    assert params[0]._version[0] > version
    assert np.shares_memory(params[0].data, optimizer.flats[0].values)


@every
def test_resumed_to_the_same_bits(kind):
    params, rng = parameters(dtype=np.float32), np.random.default_rng(0)
    average = KINDS[kind](params)
    walk(average, params, rng, 3)
    saved, position = average.state_dict(), rng.bit_generator.state
    walk(average, params, rng, 3)
    again = KINDS[kind](params)
    again.load_state_dict(saved)
    rng.bit_generator.state = position
    walk(again, params, rng, 3)
    assert all(np.array_equal(average.averages[name], again.averages[name]) for name in average.averages)
    assert average.averages["0"].dtype == np.float32


def test_state_that_does_not_fit_is_refused():
    saved = optim.SWA(parameters()).state_dict()
    with pytest.raises(
        CheckpointError,
        match=r"SWA: .* 0: saved \(3, 2\) float64, here \(4,\) float64; averages 1: saved .*here nothing",
    ):
        optim.SWA(parameters([(4,)])).load_state_dict(saved)


def test_decay_has_a_range():
    with pytest.raises(ArgumentError, match=r"EMA: decay must be in \[0, 1\), got 1.0"):
        optim.EMA(parameters(), decay=1.0)
