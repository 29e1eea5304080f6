"""Every example runs, warnings included, and ends with what it promises."""

import runpy
from pathlib import Path

import pytest

from microgradx.data.sources import folders

EXAMPLES = Path(__file__).parent.parent / "examples"

promises = {
    "compiled": "of the held-out digits are right",
    "digits": "held-out accuracy 9",
    "fashion": "test accuracy 0.8",
    "gpu": "at first,",
    "ledger": "p ← p - lr · m̂ / (√v̂ + ε)",
    "graph": "written: graph.svg",
    "newton": "Hessian times (1, 0): tensor([ 802., -400.], dtype=float64)",
    "own_activation": "finite differences: True",
    "own_operation": "the rule gives",
    "own_optimizer": "def sweep(",
    "race": "sgd_momentum lr 0.05     there at step 57",
    "spiral": "of the held-out points are right",
}


def test_every_example_has_a_promise():
    """Lectures have tests of their own."""
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert promises.keys() == {name for name in names if not name.startswith("lecture_")}


@pytest.mark.slow
@pytest.mark.parametrize("name", promises)
def test_example(name, tmp_path, monkeypatch, capsys, registries):
    if name == "fashion" and not any(folder.is_dir() for folder in folders("fashion-mnist")):
        pytest.skip("Fashion-MNIST is not on this machine (Debian's package dataset-fashion-mnist has it)")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert promises[name] in capsys.readouterr().out
