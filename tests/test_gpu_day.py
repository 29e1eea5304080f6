"""A day on a GPU, rehearsed: parts that hang or crash, a budget, no GPU, wheels that travel."""

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from bench import gpu_day, wheels
from bench.parts import Part, all_of
from microgradx.cuda import available, simulated

FAULTY = """
import ctypes, os, subprocess, sys, time
from bench.parts import row

def fine(quick):
    yield row("fine", "counted", "1 so far")
    yield row("fine", "counted", "2")

def hangs(quick):
    yield row("hangs", "before", "was found")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield row("hangs", "child", str(child.pid))
    time.sleep(60)

def crashes(quick):
    yield row("crashes", "before", "was found")
    ctypes.string_at(0)

def raises(quick):
    yield row("raises", "before", "was found")
    raise ValueError("a | in a cell")
"""


@pytest.fixture
def environment(tmp_path):
    (tmp_path / "faulty_parts.py").write_text(FAULTY)
    return {"PYTHONPATH": str(tmp_path)}


def test_a_part_that_hangs_or_crashes_costs_no_other_its_table(environment):
    names = "hangs", "crashes", "raises", "fine"
    parts = [Part(name, f"faulty_parts:{name}", 2 if name == "hangs" else 30) for name in names]
    seen = []
    tables = all_of(parts, True, 60, lambda tables: seen.append(dict(tables)), environment)
    assert [len(kept) for kept in seen] == [1, 2, 3, 4]
    assert [row["ours"] for row in tables["fine"]] == ["2"]  # in the place of "1 so far"
    for name in names[:3]:
        assert tables[name][0]["ours"] == "was found"
    line = Path("/proc", tables["hangs"][1]["ours"], "cmdline")
    assert not line.exists() or not line.read_text()  # what it had started has ended with it
    notes = {name: tables[name][-1]["note"] for name in names[:3]}
    assert notes["hangs"].startswith("its 2 s were up")
    assert "ended with code -11: Fatal Python error: Segmentation fault" in notes["crashes"]
    assert notes["raises"] == "ValueError: a / in a cell"


def test_the_budget_is_kept(environment):
    parts = [Part(f"{k}", "faulty_parts:hangs", 30, asked="2 x") for k in range(3)]
    start = time.monotonic()
    tables = all_of(parts, True, 4, lambda tables: None, environment)
    assert time.monotonic() - start < 8
    assert "its 4 s were up" in tables["0"][-1]["note"]
    assert [tables[k][0]["ours"] for k in "12"] == ["not measured"] * 2
    assert tables["2"][0]["note"] == "the 4 s for all parts were up"
    assert tables["2"][0]["asked"] == "2 x"


@pytest.mark.skipif(simulated() or available(), reason="there is a GPU here, or the simulator")
def test_without_a_gpu_the_tables_say_so(tmp_path):
    rows = gpu_day.run(seconds=60, out=tmp_path)
    measured = [row for row in rows if row["part"] != "installed"]
    assert len(measured) == len(gpu_day.parts())
    assert {row["ours"] for row in measured} == {"not measured"}
    assert len({row["note"] for row in measured}) == 1  # what is missing
    (path,) = tmp_path.iterdir()
    assert path.name.endswith("-gpu_day-no-GPU.md")
    text = path.read_text()
    assert text.startswith("# The first day on a GPU: no GPU, so nothing is measured\n")
    assert "784-128-10, batch 128, float32" in text
    assert "2 x graph" in text


@pytest.mark.cuda
@pytest.mark.slow
@pytest.mark.skipif(not simulated(), reason="needs NUMBA_ENABLE_CUDASIM=1 before Python starts")
def test_a_rehearsal_in_the_simulator(tmp_path, monkeypatch):
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    (tmp_path / "out").mkdir()
    rows = gpu_day.run(rehearse=True, out=tmp_path / "tables", only=["bits", "sanitizer"])
    assert [row["ours"] for row in rows if row["part"] == "bits"] == ["3 of 3"]
    (path,) = (tmp_path / "tables").iterdir()
    assert "a rehearsal: nothing here is a measurement" in path.read_text()
    assert (tmp_path / "out" / path.name).read_text() == path.read_text()


# Wheels


def wheel(folder, name, version, files):
    """A wheel of a few files, as pip takes it."""
    about = f"{name}-{version}.dist-info"
    files = files | {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{about}/RECORD"])
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in (files | {f"{about}/RECORD": record}).items():
            archive.writestr(path, text)


def test_what_does_not_fit_comes_from_the_folder(tmp_path, monkeypatch):
    files = {"fresh_one.py": "x = 2\n", "fresh.pth": "import fresh_one\n", "shared_name/one.py": ""}
    wheel(tmp_path / "wheels", "fresh_one", "2.0", files)
    wheel(tmp_path / "wheels", "other_one", "1.0", {"shared_name/other.py": ""})
    wheel(tmp_path / "wheels", "pytest", "99.0", {"elsewhere.py": ""})
    carried = {"fresh-one": (">=2,<3", "2.0"), "pytest": (">=8", "99.0"), "numpy": ("<1", "0.9")}
    carried |= {"other-one": (">=1", "1.0"), "no-one": (">=1", "1")}
    monkeypatch.setattr(wheels, "CARRIED", carried)
    rows = {row["what"]: row for row in wheels.install(tmp_path / "wheels", tmp_path / "target")}
    assert rows["fresh-one"]["note"] == "from the folder; none is installed, >=2,<3 is wanted"
    assert rows["pytest"]["note"] == "installed"
    assert "<1 is wanted; no wheel of it" in rows["numpy"]["note"]
    assert rows["no-one"]["ours"] == "missing"
    code = "import site, sys, shared_name.one, shared_name.other\n"
    code += "print('fresh_one' in sys.modules, site.getsitepackages()[0])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(tmp_path / "target")})  # fmt: skip
    assert done.stdout.split() == ["True", str(tmp_path / "target")], done.stderr


def test_what_travels_is_what_the_library_asks_for():
    asked = wheels.requirements()
    for name, (fits, version) in wheels.CARRIED.items():
        assert SpecifierSet(fits).contains(version)
        if name in asked:
            assert SpecifierSet(fits) == SpecifierSet(asked[name])


def test_fetching_needs_a_folder():
    with pytest.raises(SystemExit, match="--wheels FOLDER"):
        gpu_day.run(fetch=True)
