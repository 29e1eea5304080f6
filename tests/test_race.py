"""Races and basins: ways against plain NumPy, PyTorch and exact solutions; what is drawn against the ways."""

import json
import os
import re
import sys

import naive
import numpy as np
import pytest
from PIL import Image, ImageSequence

import microgradx as mg
from microgradx.cuda import available
from microgradx.errors import ArgumentError
from microgradx.rules import rules
from microgradx.study import FIELD, Surface, basins, load_surface, race, surfaces
from microgradx.study.racing.basins import LEFT, arrivals, gather
from microgradx.study.racing.descent import LAYERS, descend, fair_lr, noise_of
from microgradx.study.racing.exact import exact, transition
from microgradx.study.racing.scene import Scene, palette
from microgradx.study.racing.style import COLORS, extent, style, view

ABLE = [rule for name, rule in rules.items() if name not in LAYERS]
QUADRATIC = [name for name, surface in surfaces.items() if surface.curvature is not None]


def himmelblau_slope(p):
    x, y = p
    a, b = x * x + y - 11, x + y * y - 7
    return np.array([4 * x * a + 2 * b, 2 * a + 4 * y * b])


def ids(rule):
    return rule.name


# Surfaces


@pytest.mark.parametrize("name", surfaces)
def test_a_surface_is_differentiated_right(name):
    surface = surfaces[name]
    points = np.random.default_rng(0).uniform(*np.reshape(surface.window, (2, 2)).T, size=(5, 2))
    assert mg.check_grad(surface.height, *points.T)


@pytest.mark.parametrize("name", [name for name, surface in surfaces.items() if surface.minima])
def test_minima_are_the_lowest_points(name):
    surface = surfaces[name]
    around = surface.heights(surface.grid(101, 101))
    for minimum in np.array(surface.minima, np.float64):
        assert surface.inside(minimum)
        assert surface.heights(minimum) == pytest.approx(surface.floor, abs=1e-12)
        assert surface.heights(minimum) <= around.min() + 1e-12
        slope = mg.grad(lambda p, surface=surface: surface.height(p[0], p[1]))(minimum)
        np.testing.assert_allclose(slope.numpy(), 0, atol=1e-12)


def test_a_window_grid_and_levels():
    surface = surfaces["valley"]
    grid = surface.grid(6, 4)
    assert grid.shape == (4, 6, 2) and surface.inside(grid).all()
    np.testing.assert_allclose(grid[0, :, 0], [-5, -3, -1, 1, 3, 5])
    np.testing.assert_allclose(grid[:, 0, 1], [-3, -1, 1, 3])
    assert not surface.inside(np.array([[6.1, 0], [0, -4.1], [np.nan, 0], [np.inf, 0]])).any()
    assert (np.diff(surface.levels()) > 0).all()


# Ways


@pytest.mark.parametrize("rule", ABLE, ids=ids)
def test_every_rule_goes_where_plain_numpy_goes(rule):
    lr = rule.hyperparameters["lr"]
    run = race("himmelblau", [rule], start=(-0.5, -1), lr={rule.name: lr}, steps=12)
    p, memory = np.array([-0.5, -1.0]), {}
    for t in range(1, 13):
        p = getattr(naive, rule.name)(p, himmelblau_slope(p), t, memory)
        np.testing.assert_allclose(run.racers[0].path[t], p, rtol=1e-9)


@pytest.mark.parametrize("name", ["sgd_momentum", "sgd_nesterov", "adam", "adagrad"])
def test_the_way_is_pytorchs(torch, name):
    momentum = {"momentum": 0.9, "nesterov": name == "sgd_nesterov"} if "sgd" in name else {}
    kind = {"sgd_momentum": "SGD", "sgd_nesterov": "SGD", "adam": "Adam", "adagrad": "Adagrad"}[name]
    run = race("beale", [name])
    racer = run.racers[0]
    p = torch.tensor(racer.path[0], requires_grad=True)
    optimizer = getattr(torch.optim, kind)([p], lr=racer.lr, **momentum)
    for here in racer.path[1:41]:
        optimizer.zero_grad()
        x, y = p
        ((1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2).backward()
        optimizer.step()
        np.testing.assert_allclose(here, p.detach().numpy(), rtol=1e-7)


@pytest.mark.parametrize("name", ["sgd_nesterov", "adam", "nadam"])
def test_compiled_from_many_starts_is_the_same_as_one_by_one(name):
    surface = surfaces["ravine"]
    starts, tilts = surface.grid(4, 3).reshape(-1, 2), noise_of(surface, 15, 0.5, seed=1)
    whole = descend(surface, rules[name], starts, tilts, lr=0.05, compiled=True)
    assert whole.shape == (16, 12, 2) and (whole[0] == starts).all()
    for i, start in enumerate(starts):
        alone = descend(surface, rules[name], start[None], tilts, lr=0.05)
        np.testing.assert_allclose(whole[:, i], alone[:, 0], rtol=1e-9, atol=1e-12)


def test_noise_is_the_same_for_all_and_drawn_from_the_seed():
    one, again, other = (race("ravine", ["sgd"], steps=5, seed=seed).racers[0].path for seed in (0, 0, 1))
    assert (one == again).all() and (one[1:] != other[1:]).all()
    noise = noise_of(surfaces["ravine"], 5, None, seed=0)
    quiet = race("ravine", ["sgd"], steps=1, noise=0).racers[0]
    np.testing.assert_allclose(one[1], quiet.path[1] - quiet.lr * noise[0])


@pytest.mark.parametrize("rule", ABLE, ids=ids)
def test_a_fair_learning_rate_goes_as_far_as_the_surface_says(rule):
    lr, p, way = fair_lr(rule, 0.01, 0.05), 0.0, []
    numbers = [0.0] * (len(rule.state) + len(rule.carried))
    for t in range(1, 101):  # down a slope of 1
        carried = dict(zip(rule.carried, numbers[len(rule.state) :], strict=True))
        p, *numbers = np.atleast_1d(rule(p, 1.0, *numbers[: len(rule.state)], t=t, lr=lr, **carried)).tolist()
        way.append(-p)
    if rule.name in {"sgd", "momentum", "sgd_momentum", "sgd_nesterov", "heavy_ball", "asgd"}:
        assert 0.003 < way[0] < 0.03
    elif rule.name != "rprop":  # whose lr is but the first step of one that grows
        assert way[-1] == pytest.approx(100 * 0.05, rel=0.05)


# Exact solutions


def test_gradient_descent_multiplies_by_one_minus_lr_times_curvature():
    solution = exact(rules["sgd"], np.diag([0.5, 3.0]), np.array([2.0, -1.0]), 20, lr=0.1)
    t = np.arange(21)
    np.testing.assert_allclose(solution, np.stack([2 * 0.95**t, -(0.7**t)], axis=1), rtol=1e-13)


@pytest.mark.parametrize("name", ["sgd_momentum", "heavy_ball", "momentum"])
def test_momentum_swings_as_a_damped_oscillator(name):
    """q_{t+1} = (1 + μ - lr λ) q_t - μ q_{t-1}, which is √μᵗ times a wave."""
    mu, value, lr = 0.9, 0.7, 0.3
    angle = np.arccos((1 + mu - lr * value) / (2 * np.sqrt(mu)))
    slope = ((1 - lr * value) / np.sqrt(mu) - np.cos(angle)) / np.sin(angle)  # from q₁ = (1 - lr λ) q₀
    t = np.arange(60)
    wave = np.sqrt(mu) ** t * (np.cos(angle * t) + slope * np.sin(angle * t))
    rate = lr / (1 - mu) if name == "momentum" else lr
    solution = exact(rules[name], np.diag([value, value]), np.array([1.0, 2.0]), 59, lr=rate)
    np.testing.assert_allclose(solution, np.stack([wave, 2 * wave], axis=1), atol=1e-13)


@pytest.mark.parametrize("rule", ABLE, ids=ids)
def test_only_linear_rules_have_an_exact_solution(rule):
    linear = rule.name in {"sgd", "momentum", "sgd_momentum", "sgd_nesterov", "heavy_ball"}
    assert (transition(rule, 0.5, lr=0.1) is not None) == linear


@pytest.mark.parametrize("name", QUADRATIC)
def test_the_caption_states_a_deviation_that_is_rounding(name):
    run = race(name)
    known = {racer.name: racer.deviation for racer in run.racers if racer.deviation is not None}
    assert known.keys() == {"sgd", "sgd_momentum", "sgd_nesterov"} and max(known.values()) < 1e-13
    stated = re.search(r"Largest deviation from the exact solution: (\S+) \((.*)\)\.", run.caption())
    assert float(stated[1]) == pytest.approx(max(known.values()), rel=0.1) and stated[2] == ", ".join(known)
    assert "exact" not in race(name, ["adam"], steps=3).caption()
    assert "exact" not in race(name, ["sgd"], steps=3, noise=0.1).caption()


# Who wins


def outcomes(name):
    return {racer.name: racer.outcome for racer in race(name).racers}


def test_on_the_saddle_sgd_stays_momentum_leaves_late_and_the_others_at_once():
    left = {name: int(text.split()[-1]) for name, text in outcomes("saddle").items() if "left" in text}
    assert left.keys() == set(FIELD) - {"sgd"}
    assert max(left[name] for name in ("adagrad", "rmsprop", "adam")) < min(left["sgd_momentum"], 40)


def test_the_hollow_holds_sgd_and_lets_momentum_through():
    found = outcomes("hollow")
    assert found["sgd"] == "stuck at -0.345"
    assert all(found[name].startswith("there at step") for name in ("sgd_momentum", "sgd_nesterov", "adam"))


def test_on_a_surface_of_ones_own_a_converged_racer_is_at_rest_not_stuck():
    bowl = Surface("bowl", lambda x, y: x * x + y * y + 0.25, (-1, 1, -1, 1), (0.5, 0.5), 0.3, 0.1)
    (racer,) = race(bowl, ["sgd"], steps=100).racers
    assert not bowl.minima and racer.outcome == "at rest at 0.25"


def test_arrival_is_the_step_from_which_it_stays_near():
    run = race("valley", ["sgd_momentum"])
    racer = run.racers[0]
    step = int(racer.outcome.split()[-1])
    far = np.hypot(*racer.path.T) > 0.015 * run.surface.diagonal
    assert far[step - 1] and not far[step:].any()


# Basins


def test_basins_of_gradient_descent():
    found = basins("himmelblau", ["sgd", "adam"], cells=12)
    surface, basin = found.surface, found.maps[0]
    np.testing.assert_array_equal(found.destinations, surface.minima)
    for row, column in np.ndindex(basin.where.shape):
        p = surface.grid(12, 12)[row, column]
        way = [p]
        for _ in range(found.steps):
            p = p - basin.lr * himmelblau_slope(p)
            way.append(p)
        gaps = np.hypot(*(way[-1] - surface.minima).T)
        near, k = 0.015 * surface.diagonal, basin.where[row, column]
        assert k == (gaps.argmin() if gaps.min() <= near else -1)
        outside = np.flatnonzero(np.hypot(*(np.array(way) - way[-1]).T) > near)
        assert basin.when[row, column] == (outside[-1] + 1 if len(outside) else 0)
    assert found.caption() == "100 steps from each of 12 × 12 starts."


def test_destinations_are_where_ends_lie_on_one_another():
    draw = np.random.default_rng(0)
    heap = [3, 1] + 1e-4 * draw.normal(size=(500, 2))
    creeping = np.stack([np.linspace(-5, -3, 2000), np.zeros(2000)], axis=1)
    known = np.array([[0.0, 0.0]])
    found = gather(np.concatenate([heap, creeping, np.zeros((9, 2))]), known, near=0.2)
    np.testing.assert_allclose(found, [[0, 0], [3, 1]], atol=1e-4)


def test_arrivals():
    way = np.array([[[0.0, 0]], [[5, 0]], [[1.2, 0]], [[1, 0]]])
    assert arrivals(np.concatenate([way, way * 0], axis=1), near=0.5).tolist() == [2, 0]


def test_who_leaves_the_saddle_does_so_at_the_step_of_the_closed_form():
    found = basins("saddle", ["sgd"], cells=5)
    basin = found.maps[0]
    y = found.surface.grid(5, 5)[..., 1]
    np.testing.assert_allclose(found.destinations, [[0, 0]], atol=1e-4)  # who starts on the ridge ends here
    on_the_ridge = y == 0
    assert (basin.where[on_the_ridge] == 0).all() and (basin.where[~on_the_ridge] == LEFT).all()
    steps = np.ceil(np.log(2 / np.abs(y[~on_the_ridge])) / np.log1p(basin.lr))
    np.testing.assert_array_equal(basin.when[~on_the_ridge], steps)
    assert basin.summary().startswith("20 % end at a marked point")


@pytest.mark.cuda
@pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1" and not available(),
    reason="needs a GPU, or NUMBA_ENABLE_CUDASIM=1 before Python starts",
)
def test_a_gpu_finds_the_same_basins():
    cpu, gpu = (basins("beale", ["sgd", "adam"], cells=4, steps=3, device=where) for where in ("cpu", "cuda"))
    for one, other in zip(cpu.maps, gpu.maps, strict=True):
        np.testing.assert_allclose(one.ends, other.ends, rtol=1e-12)
    assert race("ravine", ["adam"], steps=2, device="cuda").racers[0].path.shape == (3, 2)


def test_a_basin_picture(tmp_path):
    found = basins("hollow", ["sgd"], cells=8, steps=60)
    found.save(tmp_path / "basins.png")
    with Image.open(tmp_path / "basins.png") as picture:
        seen = set(picture.convert("RGB").get_flattened_data())
    assert {(0, 114, 178), (213, 94, 0)} <= seen  # the first two colours, in the key


# Pictures and pages


@pytest.fixture(scope="module")
def run():
    return race("hollow", ["sgd", "sgd_momentum", "adam"], steps=40)


def test_an_animation(run, tmp_path):
    Scene(run.surface, run.racers, run.steps, run.caption()).animate(tmp_path / "race.gif", count=9)
    with Image.open(tmp_path / "race.gif") as film:
        times = [frame.info["duration"] for frame in ImageSequence.Iterator(film)]
        assert sum(times) == 8 * 40 + 2400 and film.info["loop"] == 0
        assert film.size == (960, 540)
        film.seek(film.n_frames - 1)
        last = film.convert("RGB")
    assert (tmp_path / "race.gif").stat().st_size < 1_000_000
    seen = set(last.get_flattened_data())
    assert {tuple(bytes.fromhex(color[1:])) for color in COLORS[:3]} <= seen


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_picture(run, suffix, tmp_path):
    run.save(tmp_path / f"race.{suffix}")
    assert (tmp_path / f"race.{suffix}").stat().st_size > 10_000


def test_a_palette_fits_a_gif():
    assert len(palette(8)) % 3 == 0 and len(palette(8)) <= 3 * 256 and set(palette(8)) <= set(range(256))


def page_data(path):
    return json.loads(re.search(r"^const race = (.*);$", path.read_text(encoding="utf-8"), re.M)[1])


def test_a_page_needs_nothing_else_and_has_the_ways(run, tmp_path):
    path = tmp_path / "race.html"
    run.save(path)
    text, data = path.read_text(encoding="utf-8"), page_data(path)
    assert not re.search(r"https?://|<link|src=|@import|/\*[A-Z]+\*/", text)
    assert data["steps"] == 40 and data["logarithmic"] and data["caption"] == run.caption()
    assert (
        np.shape(data["grid"]) == (160, 160)
        and 0 <= np.min(data["grid"]) < np.max(data["grid"]) <= data["stripes"]
    )
    for entry, racer in zip(data["racers"], run.racers, strict=True):
        np.testing.assert_allclose(entry["path"], racer.path, atol=1e-4)
        np.testing.assert_allclose(10.0 ** np.array(entry["levels"]), racer.heights + 3, rtol=0.01, atol=1e-3)
        assert (entry["name"], entry["outcome"]) == (racer.name, racer.outcome)


def test_a_title_cannot_break_the_page(tmp_path):
    def strange(x, y):
        """</script><b>"""
        return x * x + y * y

    surface = Surface("strange", strange, (-1, 1, -1, 1), (0.5, 0.5), 0.1, 0.1)
    race(surface, ["sgd"], steps=3).save(tmp_path / "race.html")
    text = (tmp_path / "race.html").read_text(encoding="utf-8")
    assert text.count("</script>") == 1 and "<b>" not in text.split("<script>")[0]
    assert page_data(tmp_path / "race.html")["title"] == "</script><b>"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("lr", [0.02, 10.0, 1e200])
def test_who_leaves_for_infinity_leaves_the_picture(lr, tmp_path):
    run = race("rosenbrock", ["sgd", "adam"], lr={"sgd": lr}, steps=30)
    racer = run.racers[0]
    assert racer.outcome == f"left at step {racer.last}"
    path, levels = view(run.surface, racer)
    assert (
        np.isfinite(path).all()
        and np.isfinite(levels).all()
        and np.isfinite(extent(run.surface, run.racers)).all()
    )
    assert not run.surface.inside(path[-1]) and np.abs(path).max() < 50
    run.save(tmp_path / "race.html")
    run.save(tmp_path / "race.png")


def test_without_matplotlib_a_picture_says_what_to_install(run, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ArgumentError, match=r"Pictures need matplotlib: pip install matplotlib"):
        run.save(tmp_path / "race.png")
    run.save(tmp_path / "race.html")


def test_many_racers_look_different_and_fit():
    looks = [style(i) for i in range(64)]
    assert len(set(looks)) == 64 and {color for color, _ in looks[:8]} == set(COLORS)
    run = race("hollow", ABLE[:20], steps=2)
    scene = Scene(run.surface, run.racers, run.steps, run.caption())
    assert scene.chart.get_position().height * scene.figure.get_figheight() > 1.25  # inches


# The command


def test_the_command_makes_a_page(command, tmp_path):
    options = "--surface saddle --optimizers sgd,adam --lr adam=0.1 --steps 25 --out r.html"
    code, out, errors = command(f"race {options}")
    assert (code, errors) == (0, "") and out.startswith("A saddle, ") and out.endswith("in r.html\n")
    assert re.search(r"adam +lr 0\.1 +left at step 21\n", out) and "Largest deviation" in out
    assert [racer["name"] for racer in page_data(tmp_path / "r.html")["racers"]] == ["sgd", "adam"]


def test_the_command_makes_basins(command, tmp_path):
    code, out, _ = command("race --basins --surface himmelblau --optimizers sgd --cells 6")
    assert code == 0 and "6 × 6 starts" in out and (tmp_path / "basins.png").exists()


OWN = '''
import math

import numpy as np

import microgradx as mg


def eggs(x, y):
    """A box for eggs"""
    return mg.sin(3 * x) * mg.cos(3 * y)


def flat(x, y):
    return 3.0


def broken(x, y):
    return x.nothing


def mathematical(x, y):
    return math.sin(x) + y * y


def numerical(x, y):
    return np.sinc(x) + y * y


def loose(x, y):
    return mg.sin(x.detach()) + y.detach()


def silent(x, y):
    x * y


def whole(x, y):
    return (x * y).sum()


@mg.rule
def half(p, g, /, t, lr=1.0):
    """Half of gradient descent."""
    return p - 0.5 * lr * g
'''


@pytest.mark.slow
def test_a_picture_is_replaced_only_where_that_was_asked_for_and_is_said(command, tmp_path):
    arguments = ["--surface=valley", "--optimizers=sgd", "--steps=3"]
    names = [command("race", *arguments)[1].splitlines()[-1] for _ in range(2)]
    assert names == ["in race.gif", "in race-2.gif"]
    named = [command("race", *arguments, "--out=my.png")[1].splitlines()[-1] for _ in range(2)]
    assert named == ["in my.png", "in my.png, in place of the one before"]
    assert {path.name for path in tmp_path.iterdir()} == {"race.gif", "race-2.gif", "my.png"}


def test_a_surface_and_a_rule_of_ones_own(command, tmp_path, monkeypatch):
    monkeypatch.delitem(rules, "half", raising=False)
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    chosen = "--surface own.py:eggs --optimizers sgd,half --lr sgd=0.05 --lr half=0.1"
    code, out, errors = command(f"race {chosen} --window -3,3,-2,2 --start 1,1 --steps 9 --out own.html")
    rules.pop("half", None)
    assert (code, errors) == (0, "") and out.startswith("A box for eggs")
    data = page_data(tmp_path / "own.html")
    assert data["window"] == [-3, 3, -2, 2] and not data["logarithmic"]
    first, second = data["racers"]
    assert first["path"] == second["path"]
    x, y = 1.0, 1.0
    for _ in range(9):
        slope = 3 * np.cos(3 * x) * np.cos(3 * y), -3 * np.sin(3 * x) * np.sin(3 * y)
        x, y = x - 0.05 * slope[0], y - 0.05 * slope[1]
    np.testing.assert_allclose(first["path"][-1], [x, y], atol=1e-4)


@pytest.mark.parametrize(
    "args, message",
    [
        (["--surface", "hill"], "no surface 'hill'. Did you mean hollow? Choose from valley, saddle, hollow"),
        (["--surface", "none.py:f"], "no file none.py: --surface takes my_file.py:function."),
        (["--surface", "own.py:egg"], "own.py has no function 'egg'; it has eggs, flat, broken"),
        (["--surface", "own.py:flat"], "own.py:flat returns a value of type float, not a Tensor. It takes"),
        (["--surface", "own.py:mathematical"], "computes with mg.sin, mg.exp, ..., not math's or NumPy's."),
        (
            ["--surface", "own.py:numerical"],
            "own.py:numerical fails at x, y = -1.4, 1.2: GradientError: np.sinc would drop the gradient",
        ),
        (["--surface", "own.py:loose"], "loose returns a Tensor that was not computed from x and y."),
        (["--surface", "own.py:silent"], "silent returns a value of type NoneType, not a Tensor."),
        (["--surface", "own.py:whole"], "whole returns shape () where x and y have shape (2,)."),
        (["--surface", "bad.py:f"], "bad.py cannot be run: ZeroDivisionError: division by zero"),
        (["--surface", "own.py:broken"], "own.py:broken fails at x, y = -1.4, 1.2: AttributeError"),
        (["--optimizers", "sgd,adm"], "no optimizer 'adm'. Did you mean adam? Choose from sgd, momentum"),
        (["--optimizers", ","], "a race needs an optimizer. Choose from"),
        (["--optimizers", "lamb"], "lamb needs norms or the matrix of a whole layer"),
        (["--lr", "adam"], "--lr takes values like adam=0.1, got 'adam'."),
        (["--lr", "lion=1"], "lr for lion: the optimizers of this race are sgd, sgd_momentum"),
        (["--lr", "sgd=-1"], "lr"),
        (["--start", "1"], "--start takes 2 numbers like 1.5,-2, got '1'."),
        (["--start", "9,9"], "start (9, 9) is outside of the window, x from -3 to 3.6"),
        (["--window", "1,0,0,1"], "it is left < right and bottom < top"),
        (
            ["--out", "race.mp4"],
            "race.mp4: pictures are .png, .svg or .pdf; only a race can be .gif or .html.",
        ),
        (["--basins", "--start", "0,0"], "--basins starts from everywhere: leave out --start."),
    ],
)
def test_a_wrong_option_says_what_is_right(command, monkeypatch, tmp_path, args, message):
    monkeypatch.delitem(rules, "half", raising=False)
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    (tmp_path / "bad.py").write_text("1 / 0", encoding="utf-8")
    code, _, errors = command("race", "--steps", "2", *args)
    rules.pop("half", None)
    assert code == 2 and message in errors and errors.startswith("error: ") and errors.count("\n") == 1


def test_a_surface_by_its_name_through_another_window():
    surface = load_surface("beale", (-1, 1, 0, 3))
    assert surface.window == (-1, 1, 0, 3) and surface.height is surfaces["beale"].height
    assert surface.minima == () and load_surface("himmelblau", (0, 5, 0, 5)).minima == ((3, 2),)
