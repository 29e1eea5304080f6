"""The examples in docstrings run, and every public name of these rooms has one that says what it takes."""

import doctest
import importlib
import inspect
import pkgutil

import numpy as np
import pytest

import microgradx as mg
from microgradx import data, nn, optim, training

ROOMS = optim, training, data
NAMES = vars(optim) | {"mg": mg, "np": np, "nn": nn, "optim": optim, "data": data, "training": training}


def public(room):
    """What a room offers: functions and classes of the package."""
    found = {n: x for n, x in vars(room).items() if not n.startswith("_") and callable(x)}
    return {n: x for n, x in found.items() if getattr(x, "__module__", "").startswith("microgradx.")}


def modules(room):
    yield room.__name__
    yield from (m.name for m in pkgutil.walk_packages(room.__path__, f"{room.__name__}."))


def examples(room):
    """The examples of a room, each docstring once."""
    finder, seen = doctest.DocTestFinder(), set()
    places = [(n, importlib.import_module(n)) for n in modules(room)]
    for name, place in [*places, *public(room).items()]:
        for test in finder.find(place, name, globs=dict(NAMES)):
            if test.examples and test.docstring not in seen:
                seen.add(test.docstring)
                yield pytest.param(test, id=test.name)


@pytest.mark.parametrize("example", [example for room in ROOMS for example in examples(room)])
def test_examples_print_what_they_say(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(example, out=lines.append)
    assert not runner.failures, "".join(lines)


@pytest.mark.parametrize(
    ("room", "name"), [(room, name) for room in ROOMS for name in public(room)], ids=lambda x: str(x)
)
def test_public_names_have_an_example(room, name):
    assert ">>> " in inspect.getdoc(getattr(room, name)), f"{room.__name__}.{name}"


def test_every_option_of_an_optimizer_or_schedule_has_a_meaning():
    made = [c for c in public(optim).values() if isinstance(c, type)]
    assert [c for c in made if "see the rule" in inspect.getdoc(c)] == []
