"""Examples in docstrings run, and give what they show."""

import doctest
import inspect
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import microgradx as mg
from docs.api import ROOMS, public
from microgradx import data, nn, optim, study, training

ROOT = Path(mg.__file__).parents[1]
TEXTS = {path: path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("microgradx/**/*.py"))}
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts) for path, text in TEXTS.items() if ">>>" in text
]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
NAMES = {"mg": mg, "np": np, "nn": nn, "optim": optim, "data": data, "training": training, "study": study}
"""What an example may use without importing it, beside what its module has."""


def examples(module):
    """The examples of a module's functions, classes and methods, and of its operations and rules."""
    names = {**vars(module), **NAMES}
    yield from doctest.DocTestFinder(exclude_empty=True).find(module, extraglobs=names)
    for name, x in vars(module).items():
        own = getattr(x, "__module__", "") == module.__name__ and not isinstance(x, type)
        known = hasattr(x, "__code__") or hasattr(x, "__wrapped__")  # to the finder
        if own and not known and ">>>" in (x.__doc__ or ""):
            yield doctest.DocTestParser().get_doctest(x.__doc__, dict(names), name, module.__file__, 0)


@pytest.mark.interpreted
@pytest.mark.parametrize("name", [name.removesuffix(".__init__") for name in MODULES])
def test_examples(name, tmp_path, monkeypatch, registries):
    monkeypatch.chdir(tmp_path)
    if name.endswith("sklearn"):
        pytest.importorskip("sklearn", reason="scikit-learn is in the extra 'sklearn'")
    found = list(examples(import_module(name)))
    assert found, f"{name} has examples where nobody looks for them"
    report = []
    for example in found:
        mg.seed(0)
        doctest.DocTestRunner(optionflags=FLAGS).run(example, out=report.append)
    assert not report, "".join(report)


FOUND = [getattr(x, "__annotations__", {}).get("return") for x in public(study).values()]
"""What the functions of `study` give back: their examples show what it is like."""

SHOWN = [(room, name) for room in ROOMS for name, x in public(room).items() if {name, x}.isdisjoint(FOUND)]


@pytest.mark.parametrize(("room", "name"), SHOWN, ids=lambda x: getattr(x, "__name__", x))
def test_public_names_have_an_example(room, name):
    assert ">>> " in inspect.getdoc(getattr(room, name)), f"{room.__name__}.{name}"


def test_signatures_name_the_types_of_arrays_instead_of_spelling_them_out():
    """`help(mg.fit)` fits a screen: NumPy's ArrayLike alone is ten lines where annotations are no strings."""
    long = []
    for room in ROOMS:
        for name, x in public(room).items():
            own = [f for f in vars(x).values() if inspect.isfunction(f)] if isinstance(x, type) else [x]
            signatures = [str(inspect.signature(f)) for f in own if callable(f)]
            long += [f"{room.__name__}.{name}" for text in signatures if "numpy._typing" in text]
    assert long == []


def test_every_option_of_an_optimizer_or_schedule_has_a_meaning():
    made = [c for c in public(optim).values() if isinstance(c, type)]
    assert [c for c in made if "see the rule" in inspect.getdoc(c)] == []
