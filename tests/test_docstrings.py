"""Examples in docstrings run, and give what they show."""

import doctest
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import microgradx as mg
from microgradx import data, nn, optim

ROOT = Path(mg.__file__).parents[1]
TEXTS = {path: path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("microgradx/**/*.py"))}
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts) for path, text in TEXTS.items() if ">>>" in text
]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
NAMES = {"mg": mg, "np": np, "nn": nn, "optim": optim, "data": data}
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


@pytest.mark.parametrize("name", [name.removesuffix(".__init__") for name in MODULES])
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = list(examples(import_module(name)))
    assert found, f"{name} has examples where nobody looks for them"
    report = []
    for example in found:
        mg.seed(0)
        doctest.DocTestRunner(optionflags=FLAGS).run(example, out=report.append)
    assert not report, "".join(report)
