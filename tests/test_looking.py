"""Looking at a run: the learning-rate finder, histograms, filters and mistakes."""

import copy

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import microgradx as mg
from microgradx import data, nn, optim, study
from microgradx.errors import ArgumentError
from microgradx.kernels.random import generator
from microgradx.study.inspection import grid, quantiles
from microgradx.study.lr_finder import Rates, smoothed

pytestmark = pytest.mark.usefixtures("undrawn")


def small(optimizer=optim.Adam, **options):
    mg.seed(0)
    model = nn.MLP([64, 16, 10])
    return model, optimizer(model.parameters(), **options)


def pixels(path):
    """The shades of grey of a picture."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


def test_the_finder_leaves_everything_as_it_was():
    (x, y), _ = data.digits()
    model, optimizer = small()
    before = model.state_dict(), optimizer.state_dict(), generator.state_dict()
    found = study.find_lr(model, optimizer, (x, y), steps=60, batch_size=32)
    after = model.state_dict(), optimizer.state_dict(), generator.state_dict()
    for name, value in before[0].items():
        np.testing.assert_array_equal(after[0][name], value)
    assert after[1]["param_groups"] == before[1]["param_groups"]
    assert after[2] == before[2]
    assert 1e-3 < found.suggestion < 0.2
    assert found.rates[0] == pytest.approx(1e-6)
    assert np.all(np.diff(found.rates) > 0)
    assert len(found.rates) == len(found.losses) == len(found.smooth) <= 60
    assert "try" in str(found)


def test_the_suggestion_is_where_the_loss_falls_fastest():
    rates = np.geomspace(1e-4, 1e2, 61)
    losses = 2 - 1 / (1 + np.exp(-3 * (np.log(rates) - np.log(0.1))))  # a step down at 0.1
    assert Rates(rates, losses, losses).suggestion == pytest.approx(0.1, rel=0.3)


def test_the_average_has_no_start():
    np.testing.assert_allclose(smoothed(np.full(5, 3.0)), 3.0)
    series = np.random.default_rng(0).standard_normal(6)
    weights = 0.8 ** np.arange(6)[::-1]
    assert smoothed(series)[-1] == pytest.approx(np.average(series, weights=weights))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": 1.0, "high": 0.1}, "0 < low < high and at least 10 steps, got 1.0, 0.1 and 150"),
        ({"steps": 3}, "at least 10 steps"),
        ({"low": 1e30, "high": 1e38}, "explodes at a rate of 1e\\+30; start lower"),
    ],
)
def test_wrong_searches(options, message):
    (x, y), _ = data.digits()
    with pytest.raises(ArgumentError, match=message):
        study.find_lr(*small(optim.SGD, lr=0.1), (x * 1e20, y), **options)


def test_histograms_follow_training(tmp_path):
    (x, y), _ = data.digits()
    model, optimizer = small()
    first = model.state_dict()["0.weight"]
    histograms = study.Histograms(model)
    mg.fit(model, optimizer, (x[:128], y[:128]), epochs=2, progress=False, callbacks=[histograms])
    kept = histograms.kept
    assert kept["epoch"] == [0, 1, 2]
    assert kept["weights"][0]["0.weight"] == quantiles(first)
    last = np.sort(model.state_dict()["2.bias"])
    np.testing.assert_allclose(kept["weights"][-1]["2.bias"], last, rtol=1e-3)
    assert kept["gradients"][0]["0.weight"] == [] and any(kept["gradients"][-1]["0.weight"])
    histograms.plot(tmp_path / "h.png")
    assert pixels(tmp_path / "h.png").shape[1] > 800
    with pytest.raises(ArgumentError, match="no parameter 'w'; the model has 0.weight, 0.bias"):
        histograms.plot(tmp_path / "h.png", ["w"])


def test_histograms_of_a_resumed_run_are_those_of_one_that_was_not(tmp_path):
    (x, y), _ = data.digits()

    def train(epochs, path, **options):
        model, optimizer = small()
        histograms = study.Histograms(model, path, bool(options))
        options |= {"out": path.parent, "callbacks": [histograms], "progress": False, "seed": 0}
        mg.fit(model, optimizer, (x[:128], y[:128]), epochs=epochs, **options)
        return histograms.kept

    whole, parts = tmp_path / "whole" / "h.jsonl", tmp_path / "parts" / "h.jsonl"
    kept = train(3, whole)
    train(2, parts)
    assert train(2, parts, resume=True).records == kept.records[:3]  # nothing was left to do
    with open(parts, "a", encoding="utf-8") as file:
        file.write('{"epoch": 3, "wei')  # as a crash leaves it
    assert train(3, parts, resume=True).records == kept.records
    assert parts.read_text() == whole.read_text()
    parts.unlink()
    assert train(4, parts, resume=True)["epoch"] == [4]  # and not the first weights of a new model


@pytest.mark.parametrize("values", [[[], [0.0, 0.0]], [[], []], [[1e-9, -1e-3, 1.0], [np.nan, np.inf]]])
def test_any_histogram_can_be_drawn(values, tmp_path):
    histograms = study.Histograms(nn.MLP([2, 1]))
    histograms.kept.records = [
        {"epoch": epoch, "weights": {"weight": found}, "gradients": {"weight": found}}
        for epoch, found in zip((3, 5), values, strict=True)
    ]
    histograms.parameters = {"weight": None}
    histograms.plot(tmp_path / "h.png")


def test_quantiles_and_grids():
    assert quantiles(np.arange(10_000)[::-1])[::399] == [0.0, 9999.0]
    assert quantiles(np.array([3.0, 1.0])) == [1.0, 3.0]
    for count in (1, 7, 48, 64):
        rows, columns = grid(count)
        assert rows * columns >= count > (rows - 1) * columns


def test_filters_and_mistakes(tmp_path):
    split = data.digits()
    (x, y), (xt, yt) = split
    model, optimizer = small()
    mg.fit(model, optimizer, (x, y), epochs=1, progress=False)
    study.filters(model, (8, 8), tmp_path / "f.png")
    count = study.mistakes(model, xt, yt, (8, 8), tmp_path / "m.png", split.classes)
    predicted = model(mg.Tensor(xt)).numpy().argmax(1)
    assert count == (predicted != yt).sum()
    with open(tmp_path / "open.png", "wb") as file:
        study.filters(model, (8, 8), file)
    for name in ("f.png", "m.png", "open.png"):
        assert len(np.unique(pixels(tmp_path / name))) > 20
    right = study.mistakes(model, xt[predicted == yt], yt[predicted == yt], (8, 8), tmp_path / "none.png")
    assert right == 0
    with pytest.raises(
        ArgumentError, match=r"images of shape \(7, 7\) have 49 pixels, the first layer is \(64, 16\)"
    ):
        study.filters(model, (7, 7), tmp_path / "f.png")
    with pytest.raises(ArgumentError, match="are no images of shape"):
        study.mistakes(model, xt, yt, (3, 3), tmp_path / "m.png")
    assert copy.deepcopy(model).training


def cut_off(drawing):
    """The texts of a figure, its ticks apart, that reach over its edges."""
    drawing.draw_without_rendering()
    texts = [ax.yaxis.label for ax in drawing.axes] + [ax.title for ax in drawing.axes] + drawing.texts
    boxes = {text.get_text(): text.get_window_extent() for text in texts}
    (width, height) = drawing.bbox.size
    return [text for text, box in boxes.items() if min(box.min) < 0 or box.x1 > width or box.y1 > height]


@pytest.mark.slow
def test_no_title_is_cut_off(tmp_path, monkeypatch):
    drawn, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda f, *a, **k: (drawn.append(f), save(f, *a, **k)))
    (x, y), _ = data.digits()
    names = ["T-shirt/top", "Ankle boot"] * 5
    for units in (1, 100):
        study.filters(nn.MLP([64, units]), (8, 8), tmp_path / "f.png")
    study.filters(nn.MLP([64, 10]), (8, 8), tmp_path / "f.png", most=2)
    for rows in (1, 100):
        study.mistakes(nn.MLP([64, 10]), x[:rows], y[:rows], (8, 8), tmp_path / "m.png", names)
    model = nn.MLP([2, 1])
    model(mg.zeros((1, 2))).sum().backward()
    study.Histograms(model).plot(tmp_path / "h.png")
    grid = {"beta1": (0.0, 0.9), "beta2": (0.99, 0.9999), "rates": (1e-3, 1e-2, 1e-1)}
    more = {"sizes": (64, 10), "epochs": 1, "seeds": 1, "chance": 2.3}
    study.Trainings(np.full((2, 2, 2, 3), 0.03), **grid, **more).save(tmp_path / "t.png")
    assert len(drawn) == 7 and [cut_off(drawing) for drawing in drawn] == [[]] * 7


def test_the_commands(command, tmp_path):
    code, out, err = command("find-lr --model 64-8-10 --steps 40 --out rates.png")
    assert code == 0, err
    assert "try" in out and "--optimizer adam --lr" in out
    assert pixels("rates.png").shape[1] > 500
    code, out, err = command("train --epochs 1 --model 64-8-10 --out run --quiet --histograms --eager")
    assert code == 0 and "histograms.jsonl, histograms.png" in out, err
    assert command("train --resume run --epochs 2 --quiet --histograms")[0] == 0
    assert len((tmp_path / "run" / "histograms.jsonl").read_text().splitlines()) == 3
    code, out, err = command("look run")
    assert code == 0, err
    assert "held-out images are wrong" in out
    assert {path.name for path in (tmp_path / "run").glob("*.png")} >= {"filters.png", "mistakes.png"}
    assert command("train --data moons --epochs 1 --out moons --quiet --eager")[0] == 0
    code, _, err = command("look moons")
    assert code == 1 and "moons has no images to show" in err
    code, _, err = command("train --resume moons --histograms")
    assert code == 2 and "no epoch was trained since they were asked for" in err


# The Adam paper's experiments


def test_the_adam_papers_experiments_are_run_and_resumed(tmp_path):
    from microgradx.study.adam_paper import LOGISTIC, Laboratory

    said = []
    (x, y), _ = data.digits()
    laboratory = Laboratory((x[:256], y[:256]), tmp_path, epochs=3, search_epochs=1, seeds=2, say=said.append)
    found = laboratory.run(LOGISTIC)
    assert all(costs.shape == (2, 3) for costs in found.costs.values())
    for name, costs in found.costs.items():
        assert np.all(costs[:, -1] < costs[:, 0]), name  # it learns
        assert found.rates[name] in found.searched[name]
        assert not np.array_equal(costs[0], costs[1])  # seeds differ
    count = len(said)
    again = Laboratory((x[:256], y[:256]), tmp_path, epochs=3, search_epochs=1, seeds=2, say=said.append)
    repeated = again.run(LOGISTIC)
    assert len(said) == count  # nothing ran a second time
    assert repeated.rates == found.rates
    for name, costs in found.costs.items():
        np.testing.assert_array_equal(repeated.costs[name], costs)
    one = next((tmp_path / "section-6.1").glob("Adam_*seed1*.json"))
    one.unlink()  # as if it had been interrupted there
    Laboratory((x[:256], y[:256]), tmp_path, 3, 1, 2, said.append).run(LOGISTIC)
    assert len(said) == count + 1
    found.plot(tmp_path / "p.png")
    assert pixels(tmp_path / "p.png").shape[1] > 500
    assert "holds here" in found.table() or "does not hold here" in found.table()


def test_what_the_paper_claims_is_judged_by_numbers():
    from microgradx.study.adam_paper import (
        ADADELTA,
        ADAGRAD,
        ADAM,
        LOGISTIC,
        NESTEROV,
        NETWORK,
        RMSPROP,
        Findings,
    )

    ones = {one.name: np.ones((2, 3)) for one in (ADAM, NESTEROV, ADAGRAD, RMSPROP, ADADELTA)}
    rates, grid = dict.fromkeys(ones, 0.1), dict.fromkeys(ones, (0.1,))
    better = ones | {ADAM.name: np.full((2, 3), 0.5)}
    assert Findings(NETWORK, rates, better, grid).agrees
    assert not Findings(NETWORK, rates, ones, grid).agrees
    worse = ones | {ADAGRAD.name: np.full((2, 3), 1.5)}
    assert Findings(LOGISTIC, rates, worse, grid).agrees
    assert not Findings(LOGISTIC, rates, better, grid).agrees  # AdaGrad is as fast as Nesterov there
    assert "That holds here" in Findings(LOGISTIC, rates, worse, grid).table()


def test_a_rate_that_falls_as_the_root():
    from microgradx.study.adam_paper import LOGISTIC, NESTEROV, Laboratory

    (x, y), _ = data.digits()
    laboratory = Laboratory((x[:128], y[:128]), None, 2)
    (first, second) = laboratory.train(LOGISTIC, NESTEROV, 0.05, 0, 2)
    generator.seed(0)
    model = nn.MLP([64, 10])
    w, b, speed = *(p.numpy().astype(np.float64) for p in model.parameters()), [0.0, 0.0]
    costs = []
    for t in (1, 2):  # by hand: one batch is all rows, so their order does not matter
        logits = x[:128] @ w + b
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        costs.append(-np.log(p[np.arange(128), y[:128]]).mean())
        p[np.arange(128), y[:128]] -= 1
        slopes = [x[:128].T @ p / 128, p.sum(0) / 128]
        speed = [0.9 * s + g for s, g in zip(speed, slopes, strict=True)]
        moves = [g + 0.9 * s for s, g in zip(speed, slopes, strict=True)]
        w, b = (old - 0.05 / np.sqrt(t) * move for old, move in zip((w, b), moves, strict=True))
    np.testing.assert_allclose([first, second], costs, rtol=1e-5)
