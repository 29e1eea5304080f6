"""The README's code runs as it stands, and its commands are those that continuous integration calls."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_code_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    checks = [
        "mg.check_grad(mish, [0.5, -1.0, 2.0], order=2)",
        "mg.check_grad(outer, [1.0, 2.0], [3.0, 4.0, 5.0])",
    ]
    checks += [
        "print(optimizer.source)",
        "print(mg.tape(tanh_loss))",
        "print(step.source)",
        "from microgradx.compiler.run.cuda_executable import written",
        "print(written(step.variant.captured, mg.cuda.Shape(), 132, 'graph')[0].text)",
    ]
    path = tmp_path / "readme.py"  # a real file: update rules are compiled from their text
    path.write_text("\n".join(blocks + checks), encoding="utf-8")
    command = [sys.executable, "-W", "error", str(path)]
    options = {"capture_output": True, "text": True, "cwd": tmp_path}
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, **options)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split("%")[0]) > 95
    for shown in re.findall(r"```py\n(.*?)```", TEXT, re.S):
        assert shown in done.stdout


def test_there_is_one_test_command_and_continuous_integration_calls_it():
    commands = re.findall(r"^python3 -m venv \.venv && .*pytest.*$", TEXT, re.M)
    assert len(commands) == 1
    pattern = re.search(r"grep -m 1 -E '(.*?)'", (ROOT / ".ci/run").read_text(encoding="utf-8"))
    assert pattern and re.search(pattern[1], commands[0])


def test_the_map_names_what_is_there():
    for name in re.findall(r"^\| (.*?) \|", TEXT, re.M):
        for path in re.findall(r"`([\w./]+)`", name):
            assert (ROOT / path).exists() or (ROOT / "microgradx" / path).exists(), path


def test_how_it_works_names_files_that_are_there_and_fits_a_screen():
    section = TEXT.split("## How it works\n")[1].split("\n## ")[0]
    paths = re.findall(r"`([\w/]+(?:\.py|/))`", section)
    assert len(paths) >= 10 and len(section.splitlines()) <= 30
    assert [
        path for path in paths if not (ROOT / path).exists() and not (ROOT / "microgradx" / path).exists()
    ] == []


def test_the_pictures_are_there_and_small():
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", TEXT)
    assert pictures and all((ROOT / path).stat().st_size < 1e6 for path in pictures)
