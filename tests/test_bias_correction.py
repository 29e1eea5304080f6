"""Bias correction: the simulation against closed forms and plain NumPy, the trainings against PyTorch."""

import math
import re

import numpy as np
import pytest

from microgradx import data, nn
from microgradx.errors import ArgumentError
from microgradx.kernels.random import generator
from microgradx.study import distributions, moments, trainings
from microgradx.study.bias_correction.moments import close_from, reached, settled

# Moments


@pytest.mark.parametrize("name", distributions)
def test_the_stated_moments_are_those_of_the_distribution(name):
    gradients = distributions[name]
    g = gradients.draw(np.random.default_rng(0), 1_000_000)
    np.testing.assert_allclose([(g**k).mean() for k in (1, 2, 4)], gradients.powers, rtol=0.01)


@pytest.mark.parametrize("name", distributions)
def test_simulated_and_exact_agree_as_well_as_chance_allows(name):
    run = moments(name, steps=200, samples=2000, seed=1)
    for moment in (run.m, run.v):
        assert 0.5 < moment.deviation < 5  # in standard errors, the largest of 200
        assert (np.abs(moment.simulated / moment.correction - moment.target) < 0.2 * moment.target).all()


def test_the_exact_course_is_the_sum_that_the_paper_begins_with():
    """m_t = (1-β) Σ βᵗ⁻ⁱ gᵢ: its mean, and the standard error of that over the samples."""
    run = moments("normal", beta1=0.8, beta2=0.95, steps=30, samples=100)
    for moment, variance in (run.m, 1), (run.v, 6):  # of g, of g²
        for t in range(1, 31):
            weights = (1 - moment.beta) * moment.beta ** np.arange(t)
            assert moment.exact[t - 1] == pytest.approx(moment.target * weights.sum())
            assert moment.error[t - 1] == pytest.approx(math.sqrt(variance * (weights**2).sum() / 100))


def test_the_simulation_is_what_plain_numpy_averages():
    run = moments("uniform", steps=9, samples=128, seed=3)
    draw, m, v = np.random.default_rng(3), np.zeros(128), np.zeros(128)
    for t in range(1, 10):
        g = draw.uniform(0, 2, 128)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        assert run.m.simulated[t - 1] == pytest.approx(m.mean())
        assert run.v.simulated[t - 1] == pytest.approx(v.mean())
        plain, corrected = m / np.sqrt(v), (m / (1 - 0.9**t)) / np.sqrt(v / (1 - 0.999**t))
        assert run.stretch[t - 1] == pytest.approx(plain.sum() / corrected.sum(), rel=1e-5)


def test_the_step_is_stretched_most_at_the_twelfth():
    run = moments(steps=60, samples=100)
    np.testing.assert_allclose(run.stretch, run.stretch_exact, rtol=1e-5)
    assert run.stretch[0] == pytest.approx(math.sqrt(10), rel=1e-5)
    assert run.stretch.argmax() == 11 and run.stretch.max() == pytest.approx(6.5685, rel=1e-4)


@pytest.mark.parametrize("beta, step", [(0, 1), (0.9, 44), (0.99, 459), (0.999, 4603), (0.9999, 46050)])
def test_how_many_steps_it_takes_to_be_within_a_percent(beta, step):
    assert close_from(beta) == step and beta**step <= 0.01 and (step == 1 or beta ** (step - 1) > 0.01)


def test_courses_that_reach_and_settle():
    assert reached(np.array([0.5, 0.98, 0.995, 0.9])) == 3 and reached(np.array([0.5])) is None
    assert settled(np.array([3, 1.005, 1.2, 1.0, 1.0])) == 4 and settled(np.array([1.0, 2])) is None
    assert settled(np.ones(3)) == 1


def test_without_momentum_m_is_right_at_once():
    run = moments(beta1=0, beta2=0.9, samples=100)
    assert run.m.close == 1 and (run.m.exact == 1).all() and len(run.stretch) == 49


@pytest.mark.parametrize(
    "options, message",
    [
        ({"gradients": "cauchy"}, r"no gradients 'cauchy'. Choose from normal, uniform, sparse\."),
        ({"beta2": 1.0}, r"beta1 0.9, beta2 1.0: both are at least 0 and below 1\."),
        ({"samples": 1}, r"samples 1, steps None: at least 100 samples and 1 step\."),
    ],
)
def test_a_wrong_option_says_what_is_right(options, message):
    with pytest.raises(ArgumentError, match=message):
        moments(**options)


# Trainings


@pytest.fixture(scope="module")
def small():
    """A sweep of a tenth of a second, after compiling."""
    before = generator.state_dict()
    run = trainings((0.9,), (0.99, 0.999, 0.9999), (1e-3, 1e-2, 3e-2), hidden=8, epochs=3, seeds=1)
    assert generator.state_dict() == before
    return run


@pytest.mark.parametrize("correction", [False, True])
def test_a_training_is_pytorchs(torch, small, correction):
    generator.seed(0)
    weights = nn.MLP([64, 8, 10]).state_dict()
    (x, y), _ = data.digits()
    orders = [generator.permutation(len(x)) for _ in range(3)]
    parameters = [torch.tensor(np.array(array), requires_grad=True) for array in weights.values()]
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    t = 0
    for order in orders:
        losses = []
        for rows in (order[i : i + 32] for i in range(0, len(x), 32)):
            t += 1
            w1, b1, w2, b2 = parameters
            logits = torch.relu(torch.tensor(x[rows]) @ w1 + b1) @ w2 + b2
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor(y[rows]))
            losses.append(loss.item())
            low, square = (1 - 0.9**t, 1 - 0.999**t) if correction else (1, 1)
            with torch.no_grad():
                for p, g, (m, v) in zip(
                    parameters, torch.autograd.grad(loss, parameters), moments, strict=True
                ):
                    m += 0.1 * (g - m)
                    v += 0.001 * (g * g - v)
                    p -= 1e-2 * (m / low) / ((v / square).sqrt() + 1e-8)
    assert small.losses[int(correction), 0, 1, 1] == pytest.approx(np.mean(losses), rel=0.02)


def test_the_correction_saves_large_beta2_at_large_rates(small):
    """Kingma & Ba, section 6.4: without it β₂ close to 1 makes training unstable."""
    without, corrected = small.losses[:, 0]
    assert corrected[2, 2] < 0.3 < 1 < without[2, 2] and without[0, 2] < 0.3
    assert "It matters most at β₁ = 0.9, β₂ = 0.9999, lr = 0.03" in small.caption()
    assert len(small.table()) == 4 and small.chance == pytest.approx(math.log(10))


# The command


@pytest.fixture
def command(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    return command


def test_the_command_prints_a_table_and_draws(command, tmp_path):
    code, out, errors = command("bias", "--samples", "500", "--beta2", "0.99")
    assert (code, errors) == (0, "") and (tmp_path / "bias.png").stat().st_size > 20_000
    assert re.search(r"m of E\[g\], β 0\.9 .* step 44 +step \d\d", out)
    assert re.search(r"v of E\[g²\], β 0\.99 .* step 459 +step 4\d\d", out)
    assert max(map(len, out.splitlines())) <= 80 and "…" not in out and out.endswith("in bias.png\n")


def test_the_command_trains(command, monkeypatch, small, tmp_path):
    asked = {}
    monkeypatch.setattr("microgradx.cli.bias.trainings", lambda **options: asked.update(options) or small)
    code, out, _ = command("bias", "--training", "--epochs", "3", "--seeds", "1", "--out", "sweep.svg")
    assert code == 0 and asked == {"epochs": 3, "seeds": 1}
    assert "lr without" in out and "It matters most at" in out
    assert (tmp_path / "sweep.svg").stat().st_size > 20_000


def test_the_command_knows_the_distributions(command):
    code, _, errors = command("bias", "--gradients", "cauchy")
    assert code == 2 and "'normal', 'uniform', 'sparse'" in errors and errors.count("\n") == 1
