"""Rules, elementwise functions and steps typed at a prompt, in notebooks' cells, for `python -c` and exec.

What is declared anew is what runs: two cells of each pair differ by what a cache could take for the same.
"""

import ast
import json
import math
import os
import subprocess
import sys
from functools import lru_cache, partial, wraps
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import hosts
import numpy as np
import pytest

import microgradx as mg
from microgradx import optim
from microgradx.errors import ArgumentError, KernelError
from microgradx.kernels.texts import definition

HEAD = """\
import microgradx as mg, numpy as np
from microgradx import optim
x = np.array([2.0], np.float32)
def stepped(rule):
    w = mg.tensor([2.0], requires_grad=True)
    w.sum().backward()
    optim.Optimizer([w], rule).step()
    return w.item()

print()
"""
CELLS = {  # each prints one number
    "rule": """\
@mg.rule
def mine(p, g, m, /, lr=0.5):
    \"\"\"p ← p - lr · g\"\"\"
    m = m + g
    return p - lr * m, m

print('=>', stepped(mine))
""",
    "rule, declared anew": """\
@mg.rule
def mine(p, g, m, /, lr=0.5):
    \"\"\"p ← p - lr · g\"\"\"
    m = m + g
    return -p - lr * m, m

print('=>', stepped(mine))
""",
    "elementwise": """\
@mg.elementwise
def cube(x): return x * x * x

@mg.jit
def step(x):
    return cube(x) + 1.0

print('=>', step(x).item())
""",
    "elementwise, declared anew": """\
@mg.elementwise
def cube(x): return x * x * -x

print('=>', step(x).item())
""",
    "step, declared anew": """\
@mg.jit
def step(x):
    return cube(x) + 2.0

print('=>', step(x).item())
""",
    "a lambda": "step = mg.jit(lambda x: cube(x) * 0.5); print('=>', step(x).item())\n",
    "a method": """\
class Model(mg.nn.Module):
    def __init__(self): self.scale = 3.0
    @mg.jit
    def step(self, x): return cube(x) * self.scale

model = Model(); print('=>', model.step(x).item())
""",
}
WANTED = [1.5, -2.5, 9.0, -7.0, -6.0, -4.0, -24.0]
NEEDS = {"ipython": "IPython", "jupyter": "ipykernel", "marimo": "marimo", "prompt": "termios"}


@pytest.mark.slow
@pytest.mark.interpreted
@pytest.mark.parametrize("host", ["prompt", "ipython", "jupyter", "marimo", "python -c"])
def test_what_is_typed_runs(host, tmp_path):
    if host in NEEDS and not find_spec(NEEDS[host]):
        pytest.skip(f"{NEEDS[host]} is not installed (the extra 'dev' brings it)")
    cells = [HEAD, *CELLS.values()]
    command, given = [sys.executable, str(Path(__file__).with_name("hosts.py")), host], json.dumps(cells)
    if host == "python -c":
        command, given = [sys.executable, "-c", "\n".join(cells)], ""
    root = str(Path(mg.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": root, "HOME": str(tmp_path), "IPYTHONDIR": str(tmp_path)}
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, env=environment)
    if done.returncode == hosts.UNKNOWN:
        pytest.skip(f"this {host} compiles its cells in another way")
    found = [float(line[2:]) for line in done.stdout.splitlines() if line.startswith("=> ")]
    assert found == WANTED, done.stdout + done.stderr


def test_text_that_exec_was_given_is_refused_with_what_to_do(registries):
    space = {"mg": mg}
    exec("@mg.elementwise\ndef quartered(x): return x / 4", space)
    assert space["quartered"](mg.tensor([2.0])).item() == 0.5  # line by line it needs no text
    with pytest.raises(
        KernelError, match="quartered: its source text .* file or a notebook cell: text from exec"
    ):
        mg.jit(space["quartered"])(np.ones(2, np.float32))


def typed_before(monkeypatch, *lines):
    """Let a prompt's history be these lines."""
    history = SimpleNamespace(
        get_current_history_length=lambda: len(lines), get_history_item=lambda k: lines[k - 1]
    )
    monkeypatch.setitem(sys.modules, "readline", history)


VERSIONS = ["x * 2", "x * 2.0", "-x * 2", "x * -2", "x + 2", "2 * x", "abs(x) * 2", "where(x > 0, x, 2)"]


@pytest.mark.parametrize("k", range(len(VERSIONS)))
def test_of_many_versions_at_the_prompt_the_own_one_is_found(k, monkeypatch):
    lines = [f"def many(x): return {text}" for text in VERSIONS]
    typed_before(monkeypatch, "x = 1", *lines, "def many(x):", "    return x")
    space = {"where": mg.where}
    exec(compile(lines[k], "<stdin>", "exec"), space)
    [statement] = definition(space["many"]).body
    assert ast.unparse(statement) == f"return {VERSIONS[k]}"


def doubling(function):
    @wraps(function)
    def inner(*args, **options):
        return 2 * function(*args, **options)

    return inner


def plain(p, g, /, lr=0.1):
    return p - lr * g


class Family:
    factor = 3.0

    def scaled(self, x):
        return x * self.factor

    def tripled(self, x):
        return x * 3.0

    def descends(self, p, g, /, lr=0.5):
        return p - lr * g


def stepped(rule):
    w = mg.tensor([2.0], requires_grad=True)
    w.sum().backward()
    optim.Optimizer([w], rule).step()
    return w.item()


def compiled(function):
    return mg.jit(mg.elementwise(function))(np.array([2.0], np.float32)).item()


ODD = {
    "partial rule": (
        stepped,
        lambda: mg.rule(partial(plain, lr=0.2)),
        "rule takes a definition of .* not a partial",
    ),
    "partial": (
        compiled,
        lambda: partial(pow, 2),
        "elementwise takes a definition of .* numbers can be its defaults",
    ),
    "built-in": (compiled, lambda: math.sqrt, "not a builtin_function_or_method"),
    "ufunc": (compiled, lambda: np.sqrt, "not a ufunc"),
    "cached": (compiled, lambda: lru_cache(Family().tripled), "not a _lru_cache_wrapper"),
    "lambda": (compiled, lambda: lambda x: x * 2, "a lambda has no name .* write a definition"),
    "lambda rule": (stepped, lambda: mg.rule(lambda p, g, /, lr=0.5: p - lr * g), "a lambda has no name"),
    "decorated": (
        compiled,
        lambda: doubling(Family().tripled),
        "what its decorator does is not compiled; leave",
    ),
    "decorated rule": (
        stepped,
        lambda: mg.rule(doubling(plain)),
        "what its decorator does is not compiled; leave",
    ),
    "star": (compiled, lambda: lambda *x: x, r"instead of `\*x`, name its parameters"),
    "method's self": (
        compiled,
        lambda: Family().scaled,
        "`self.factor` cannot be compiled; it may use its param",
    ),
    "method": (compiled, lambda: Family().tripled, 6.0),
    "method rule": (stepped, lambda: mg.rule(Family().descends), 1.5),
    "rule again": (stepped, lambda: mg.rule(mg.rule(plain)), 1.9),
    "again": (compiled, lambda: mg.elementwise(Family().tripled), 6.0),
}


@pytest.mark.interpreted
@pytest.mark.parametrize("case", ODD)
def test_what_is_no_plain_definition_works_or_is_refused(case, registries):
    run, make, wanted = ODD[case]
    if isinstance(wanted, float):
        assert run(make()) == pytest.approx(wanted)
        return
    with pytest.raises((ArgumentError, KernelError), match=wanted):
        run(make())
