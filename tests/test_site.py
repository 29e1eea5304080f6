"""The site: pairs of code give the same numbers, public names have a place, and faults in pages are found."""

import importlib.util
import multiprocessing
import os
import re
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

for needed in ("sphinx", "latex2mathml", "bs4"):
    pytest.importorskip(needed, reason="the site's generator is in the extra 'docs'")

from docs import api, checks, lectures, pairs, prose  # noqa: E402

PAGES = {"pytorch": "torch", "jax": "jax", "numpy": "numpy"}
ROWS = [
    pytest.param(page, row, id=f"{page}-{k}-{row.theirs.splitlines()[-1][:40]}")
    for page in PAGES
    for k, row in enumerate(pairs.rows(f"from_{page}"))
]


def value(code, name, folder):
    """What the last line of a piece of code is worth, in a file of its own: rules are compiled from text."""
    *lines, last = code.rstrip().split("\n")
    path = folder / f"{name}.py"
    path.write_text("\n".join([*lines, f"found = {last}"]), encoding="utf-8")
    names = {"__name__": name}
    exec(compile(path.read_text(encoding="utf-8"), path, "exec"), names)  # noqa: S102 - that is what it tests
    return names["found"]


def compare(theirs, ours):
    """AssertionError unless two values, in lists or not, are the same numbers."""
    if isinstance(theirs, list | tuple):
        assert len(theirs) == len(ours)
        for one, other in zip(theirs, ours, strict=True):
            compare(one, other)
    elif isinstance(theirs, str):
        assert theirs == ours
    else:
        arrays = (x.detach().numpy() if hasattr(x, "detach") else np.asarray(x) for x in (ours, theirs))
        np.testing.assert_allclose(*(array.astype(float) for array in arrays), rtol=2e-5, atol=2e-6)


@pytest.fixture(scope="module")
def process():
    """A process of its own: where JAX is loaded, forks of later tests would be warned of."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def both(page, row, folder):
    """Run both sides of a row in a folder, and compare."""
    os.chdir(folder)
    start = pairs.start(page)
    theirs = value(f"{start.theirs}\n{row.theirs}", "theirs", folder)
    compare(theirs, value(f"{start.ours}\n{row.ours}", "ours", folder))


@pytest.mark.interpreted
@pytest.mark.parametrize(("page", "row"), ROWS)
def test_both_sides_of_a_row_have_the_same_value(page, row, tmp_path, process):
    for library in {PAGES[page], *re.findall(r"^import (\w+)$", row.theirs, re.M)}:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed: it is in the extra 'bench'")
    process.submit(both, f"from_{page}", row, tmp_path).result(timeout=300)


def test_a_row_that_differs_is_seen():
    for one, other in (
        (1.0, 1.001),
        ([1.0, [2.0]], [1.0, [3.0]]),
        ([1.0], [1.0, 1.0]),
        (np.ones(2), np.ones(3)),
    ):
        with pytest.raises(AssertionError):
            compare(one, other)


@pytest.mark.parametrize(("page", "least"), [("pytorch", 30), ("jax", 15), ("numpy", 12)])
def test_pages_have_rows(page, least):
    assert len(pairs.rows(f"from_{page}")) >= least


def test_every_public_name_has_a_place():
    pages = "".join(api.page(room) for room in api.described())
    for full in set(api.names().values()):
        assert re.search(rf"^\.\. auto\w+:: {re.escape(full)}$", pages, re.M), full
    assert api.names()["training.fit"] == api.names()["mg.fit"] == "microgradx.fit"
    assert api.names()["Run"] == "microgradx.training.Run"


DOCSTRING = """The product of `a`s, a * b_ |c|: arXiv 1412.6980.
    m ← βm     p ← p - m

size, axis: how many,
    and where
other: not a parameter

>>> 1

1
"""


def test_our_docstrings_as_restructured_text():
    assert prose.restructured(DOCSTRING.split("\n"), {"size", "axis"}) == [
        r"The product of ``a``\ s, a \* b\_ \|c\|: `arXiv 1412.6980 <https://arxiv.org/abs/1412.6980>`__.",
        *("", "::", "", "   m ← βm", "   p ← p - m", ""),
        *("``size``, ``axis``", "   how many, and where", ""),
        *("other: not a parameter", ""),
        *(">>> 1", ""),
        *("1", ""),
    ]


def test_faults_of_pages_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "undescribed", lambda site: ["mg.new"])
    (tmp_path / "a.html").write_text(
        """<p id="here"><a href="b.html#there"></a><a href="b.html#nowhere"></a><a href="#here"></a>
        <a href="c.html"></a><a href="https://elsewhere.org"></a><img src="https://elsewhere.org/a.png">
        <img src="data:image/png;base64,AA=="><marimo-slider></marimo-slider>"""
    )
    (tmp_path / "b.html").write_text('<h1 id="there">B</h1>')
    assert checks.faults(tmp_path) == [
        "a.html points to b.html#nowhere, which has no such anchor",
        "a.html points to c.html, which is not there",
        "a.html fetches https://elsewhere.org/a.png",
        "a.html has an element <marimo-slider> that no browser knows",
        "no page describes mg.new",
    ]


SHOWN = {
    """<marimo-accordion data-labels='["open"]'><div><b>x</b></div></marimo-accordion>""": (
        "<details><summary>open</summary><b>x</b></details>"
    ),
    """<marimo-ui-element><marimo-slider data-initial-value='0.5' data-label='"&lt;span&gt;lr&lt;/span&gt;"'>
    </marimo-slider></marimo-ui-element>""": '<p class="control">lr <kbd>0.5</kbd></p>',
    """<marimo-ui-element><marimo-code-editor data-initial-value='"a &lt; b"'></marimo-code-editor>
    </marimo-ui-element>""": "<pre>a &lt; b</pre>",
    "<img src='data:image/png;base64,AAAA'>": (
        '<img alt="A figure of the lecture" src="_static/709e80c88487.png"/>'
    ),
}
"""What marimo writes, and what the site has for it."""


@pytest.mark.parametrize("text", SHOWN)
def test_what_lectures_show_becomes_html(text, tmp_path):
    assert lectures.html(text, tmp_path).split("\n")[1] == SHOWN[text]


def test_formulas_of_lectures_become_mathml(tmp_path):
    shown = lectures.html("<marimo-tex>||(x^2||)</marimo-tex>", tmp_path)
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in shown and "marimo" not in shown
