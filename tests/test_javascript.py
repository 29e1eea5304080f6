"""Rules and surfaces in JavaScript go where Python goes; the page that uses them, in a browser."""

import json
import shutil
import subprocess

import numpy as np
import pytest

import microgradx as mg
from microgradx.errors import KernelError
from microgradx.rules import Rule, rules
from microgradx.scalars import Elementwise, differentiable
from microgradx.study import Surface, race, surfaces
from microgradx.study.racing.descent import LAYERS, descend
from microgradx.study.racing.javascript import Script, number
from microgradx.study.racing.page import playground

ABLE = {name: rule for name, rule in rules.items() if name not in LAYERS}
START, LR, STEPS = (-0.5, -1.0), 0.003, 40


@pytest.fixture(scope="module")
def node():
    """Run a text of JavaScript: what it prints, as JSON."""
    program = shutil.which("node")
    if not program:
        pytest.skip("no node is installed (Debian's package nodejs has it)")

    def run(text):
        done = subprocess.run([program, "-"], input=text, capture_output=True, text=True, encoding="utf-8")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def ways(node):
    """Every rule's way on one surface, and Adam's on every surface: as the page computes them."""
    asked = f"{list(START)}, {LR}, {STEPS}, []"
    return node(
        f"{playground(surfaces['valley'], [], np.zeros((3, 2)))}\n"
        "const found = { rules: {}, surfaces: {} };"
        f"for (const k in rules) found.rules[k] = follow(rules[k], surfaces.himmelblau.slopes, {asked});"
        f"for (const k in surfaces) found.surfaces[k] = follow(rules.adam, surfaces[k].slopes, {asked});"
        "console.log(JSON.stringify(found));"
    )


def python(surface, rule):
    return descend(surface, rule, np.array([START]), np.zeros((STEPS, 2)), LR)[:, 0]


@pytest.mark.parametrize("name", ABLE)
def test_every_rule_goes_where_python_goes(ways, name):
    path = np.array(ways["rules"][name]["path"])
    np.testing.assert_allclose(path, python(surfaces["himmelblau"], rules[name]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", surfaces)
def test_every_surface_is_the_same(ways, name):
    path, found = python(surfaces[name], rules["adam"]), ways["surfaces"][name]
    np.testing.assert_allclose(found["path"], path, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found["heights"], surfaces[name].heights(path), rtol=1e-9, atol=1e-12)


def test_elementwise_functions_are_the_same(node):
    script, asked, expected = Script(), {}, {}
    for f in differentiable():
        points = np.array(f.domain.sample(5)).T.tolist()
        if f.name == "erf":
            points += [[x] for x in (0.0, -0.0, 1e-300, 1e-9, 2.5, -5.9, 5.999, 6.0, -30.0)]
        asked[f.name] = f"[{', '.join(f'{script.call(f)}({str(p)[1:-1]})' for p in points)}]"
        expected[f.name] = [float(f(*p)) for p in points]
    table = ", ".join(f"{name}: {values}" for name, values in asked.items())
    edges = "[erf(NaN), erf(Infinity), erf(-Infinity), 1 / erf(-0)].map(String)"
    found = node(f"{script}\nconsole.log(JSON.stringify({{ {table}, edges: {edges} }}));")
    assert found.pop("edges") == ["NaN", "1", "-1", "-Infinity"]
    assert found.keys() == expected.keys() and len(found) > 20
    for name, values in expected.items():
        rtol = 1e-14 if name == "erf" else 1e-9
        np.testing.assert_allclose(found[name], values, rtol=rtol, atol=1e-12 * (name != "erf"), err_msg=name)


SCALE = 3.0


def strange(p, g, var, new, /, t, count, lr=1e-3, hot=True, far=float("inf")):
    """Names that JavaScript keeps for itself, numbers from outside, carried numbers, keywords, choices."""
    new = mg.leaky_relu(g, negative_slope=0.25) + mg.where((g > -1) & (g < far), SCALE, abs(-g) ** 2)
    var = var + new if hot else -var
    return p - lr * var / max(1, count), var, new, count + 1


def test_a_rule_of_ones_own(node):
    rule, script = Rule(strange), Script()
    text = script.rule(rule)
    calls = [(0.5, g, 0.1, 0.2, 3, 2.0, 0.5) for g in (-2.0, -0.5, 0.0, 4.0)]
    found = node(
        f"{script}\nconst own = {text}, calls = {[list(call) for call in calls]};"
        "console.log(JSON.stringify(calls.map((call) => own.update(...call))));"
    )
    for call, values in zip(calls, found, strict=True):
        *args, t, count, lr = call
        np.testing.assert_allclose(values, rule(*args, t=t, count=count, lr=lr), rtol=1e-12)


def test_numbers_keep_their_digits():
    assert [number(x) for x in (0.1, 1e-300, 3, True, np.float64(1 / 3))] == [
        "0.1", "1e-300", "3.0", "1.0", "0.3333333333333333",
    ]  # fmt: skip
    assert [number(x) for x in (np.inf, -np.inf, np.nan)] == ["Infinity", "(-Infinity)", "NaN"]


@Elementwise
def saw(x):
    """x modulo 1, which JavaScript rounds otherwise"""
    return x % 1.0


@saw.slope
def _(x, y):
    return 1


def teeth(x, y):
    """A surface that is not said in JavaScript"""
    return saw(x) + y * y


def test_what_has_no_words_leaves_a_page_without_controls(tmp_path):
    run = race(Surface("teeth", teeth, (-1, 1, -1, 1), (0.5, 0.5), 0.1, 0.1), ["sgd"], steps=3)
    with pytest.raises(KernelError, match=r"`x % 1\.0` cannot be compiled; JavaScript"):
        Script().surface(teeth)
    ground = playground(run.surface, run.racers, run.tilts).split("const surfaces")[1]
    assert "valley" in ground and "teeth" not in ground
    run.save(tmp_path / "race.html")


# In a browser


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 400])
def test_the_page_in_a_browser(chromium, tmp_path, width):
    run, complaints = race("hollow", ["sgd", "adam"], steps=60), []
    run.save(tmp_path / "race.html")
    with chromium.new_page(viewport={"width": width, "height": 900}, reduced_motion="reduce") as page:
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto((tmp_path / "race.html").as_uri())

        def paths():
            return [np.array(path) for path in page.evaluate("race.racers.map((racer) => racer.path)")]

        def fits():
            return page.evaluate("document.documentElement.scrollWidth <= innerWidth")

        assert fits()
        page.evaluate("run()")
        for path, racer in zip(paths(), run.racers, strict=True):  # what it opened with
            np.testing.assert_allclose(path, racer.path, rtol=1e-9, atol=1e-12)
        page.locator("#surface").select_option("beale")
        page.locator("#more").select_option("lion")
        page.locator("#twice").click()
        page.locator("table input[type=number]").nth(1).fill("0.25")
        page.locator("#map").click(position={"x": 60, "y": 80})
        assert page.locator("h1").inner_text() == surfaces["beale"].about and fits()
        start = page.evaluate("start")
        chosen = race("beale", ["sgd", "adam", "lion"], start, {"sgd": 8e-3, "adam": 0.25, "lion": 0.12})
        for path, racer in zip(paths(), chosen.racers, strict=True):
            inside = min(len(path), racer.last)
            np.testing.assert_allclose(path[:inside], racer.path[:inside], rtol=1e-6, atol=1e-9)
        page.locator("h1").click()
        for key, step in (("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1)):
            page.keyboard.press(key)
            assert page.locator("#step").inner_text() == f"step {step}"
        assert page.locator(".help").inner_text().startswith("Space plays and pauses")
    assert not complaints
