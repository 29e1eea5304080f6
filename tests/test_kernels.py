"""Kernels: elementwise functions on arrays, machine code kept on disk, threads, processes."""

import gc
import os
import re
import subprocess
import sys
import threading
import warnings
import weakref

import numpy as np
import pytest

from microgradx import kernels
from microgradx.errors import ArgumentError, CacheWarning, KernelError
from microgradx.kernels import cache, cpu, jit, sweep, thread_pool
from microgradx.kernels.loop_source import RuleLoop
from microgradx.rules import Rule, rules
from microgradx.scalars import Elementwise, functions, sigmoid, where

DOUBLE = """
def double(start, stop, xs):
    for i in range(start, stop):
        xs[i] = xs[i] + xs[i]
"""
SIGNATURE = {"double": "int64 int64 float32*"}


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """A cache folder that nothing is in, and a process that has loaded nothing."""
    monkeypatch.setenv("MICROGRADX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(jit, "loaded", {})
    monkeypatch.setattr(cache, "unusable", set())
    return tmp_path / "cache" / "kernels"


@pytest.fixture
def threads():
    yield kernels.set_threads
    kernels.set_threads(thread_pool.cores())


def double(source=DOUBLE):
    x = np.arange(5, dtype=np.float32)
    jit.load(source, SIGNATURE, "double")["double"](0, 5, x.ctypes.data)
    return x.tolist()


def test_machine_code_is_freed_with_its_last_function_and_loaded_again():
    functions = jit.load(DOUBLE, SIGNATURE, "double")
    library, expected = weakref.ref(functions["double"].library), double()
    assert jit.load(DOUBLE, SIGNATURE, "double")["double"].library is library()
    functions.clear()
    gc.collect()
    assert library() is None and double() == expected


def python(code, **environment):
    """Run code in a new process; its output."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


# Elementwise functions on arrays


@pytest.mark.parametrize("function", functions.values(), ids=lambda f: f.name)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_and_scalars_keep_their_dtype_and_agree_with_numbers(function, dtype):
    columns = function.domain.sample(30)
    if function.name.startswith("logical") or function.name == "where":
        columns = [
            [x > 0 for x in c] if i == 0 or function.name != "where" else c for i, c in enumerate(columns)
        ]
    arrays = [np.array(c) if isinstance(c[0], bool) else np.array(c, dtype) for c in columns]
    got = function(*arrays)
    assert got.dtype in (dtype, np.bool_)
    one = function(*[a[0] for a in arrays])
    assert isinstance(one, np.generic) and one.dtype == got.dtype and one == got[0]
    wanted = [function.function(*point) for point in zip(*[a.tolist() for a in arrays], strict=True)]
    np.testing.assert_allclose(got, wanted, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-6)


def test_a_choice_between_numbers_is_exact():
    condition = np.array([True, False])
    assert where(condition, 1, 0).dtype == np.int64
    assert where(condition, 1, 0.01).dtype == np.float64
    nested = where(condition, 1.2, where(condition, 0.5, 1))
    assert nested.tolist() == [1.2, 1]  # in float64: 1.2 is not rounded to float32 on the way
    assert where(np.bool_(True), 0.5, 1) == 0.5 and type(where(np.bool_(True), 0.5, 1)) is float
    assert where(condition, np.ones(2, np.float32), 0.01).dtype == np.float32


def test_an_overflow_on_the_way_to_a_finite_result_is_silent():
    assert sigmoid(np.float32(-200)) == 0
    assert sigmoid(np.array([-1e4, 1e4])).tolist() == [0, 1]


# Machine code


@pytest.mark.parametrize("rule", rules.values(), ids=lambda rule: rule.name)
def test_float32_loops_are_vectors_of_float32_without_a_double(rule):
    lifted = RuleLoop(rule, "float32", ())
    types = ["int64 int64", *["float32*"] * len(lifted.arrays), *["float32"] * len(lifted.numbers)]
    text = str(jit.optimised(lifted.source(), {"sweep": " ".join(types)}, "<test>"))
    assert "double" not in text
    assert re.search(r"<\d+ x float>", text)
    assert "fast" not in re.findall(r"f(?:add|mul|sub|div) (\w+)", text)  # nor any reordering


def test_a_function_is_compiled_once_and_then_read_from_disk(empty_cache, monkeypatch):
    assert double() == [0, 2, 4, 6, 8]
    assert sorted(path.suffix for path in empty_cache.iterdir()) == [".o", ".py"]
    (text,) = empty_cache.glob("*.py")
    assert text.read_text() == DOUBLE
    assert empty_cache.stat().st_mode & 0o077 == 0
    monkeypatch.setattr(jit, "loaded", {})
    monkeypatch.setattr(jit, "optimised", None)
    assert double() == [0, 2, 4, 6, 8]


def test_a_damaged_file_is_noticed_and_compiled_anew(empty_cache, monkeypatch):
    double()
    (path,) = empty_cache.glob("*.o")
    whole = path.read_bytes()
    for damage in (whole[:-1], whole[:100] + b"x" + whole[101:], b""):
        path.write_bytes(damage)
        monkeypatch.setattr(jit, "loaded", {})
        with pytest.warns(CacheWarning, match="is damaged and is compiled anew"):
            assert double() == [0, 2, 4, 6, 8]
        monkeypatch.setattr(jit, "loaded", {})
        assert double() == [0, 2, 4, 6, 8]  # without a warning


@pytest.mark.parametrize("why", ["a file in its place", "read-only", "open to others"])
def test_an_unusable_folder_gives_one_warning_and_kernels_still_work(empty_cache, monkeypatch, why):
    if why == "a file in its place":
        empty_cache.parent.write_text("not a folder")
    else:
        empty_cache.mkdir(parents=True)
        empty_cache.chmod(0o777 if why == "open to others" else 0o500)
    if why == "read-only":  # root may write everywhere
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.warns(CacheWarning, match="cannot be used: .*Set MICROGRADX_CACHE to a folder") as caught:
        assert double() == [0, 2, 4, 6, 8]
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert double(DOUBLE + "\n") == [0, 2, 4, 6, 8]


def test_the_key_covers_everything_the_code_depends_on(monkeypatch):
    import llvmlite
    import llvmlite.binding as llvm

    keys = [jit.fingerprint(DOUBLE, SIGNATURE), jit.fingerprint(DOUBLE + " ", SIGNATURE)]
    assert jit.fingerprint("    # spiral.py:7  y = 2 * x\n" + DOUBLE, SIGNATURE) == keys[0]  # but comments
    keys.append(jit.fingerprint(DOUBLE, {"double": "int64 int64 float64*"}))
    monkeypatch.setattr(jit, "form", "another")
    keys.append(jit.fingerprint(DOUBLE, SIGNATURE))
    monkeypatch.setattr(llvm, "get_host_cpu_name", lambda: "another")
    keys.append(jit.fingerprint(DOUBLE, SIGNATURE))
    monkeypatch.setattr(llvmlite, "__version__", "another")
    keys.append(jit.fingerprint(DOUBLE, SIGNATURE))
    read = jit.Path.read_text
    another = lambda self, encoding: read(self, encoding) + "#" * (self.name == "numba_target.py")
    monkeypatch.setattr(jit.Path, "read_text", another)
    keys.append(jit.fingerprint(DOUBLE, SIGNATURE))
    monkeypatch.setattr(jit.Path, "read_text", lambda self, encoding: "another Numba")
    keys.append(jit.fingerprint(DOUBLE, SIGNATURE))
    assert len(set(keys)) == len(keys)


def test_a_changed_callee_is_another_kernel():
    def plain(x):
        return x + x

    def squared(x):
        return x * x

    def uses(p, g, /, t):
        return p - shape(g)

    results = []
    for function in (plain, squared):
        function.__name__ = "shape"
        shape = Elementwise(function)
        p = np.ones(1, np.float32)
        kernels.cpu.Sweep(Rule(uses), "float32")(p, np.full(1, 3, np.float32), t=1)
        results.append(p[0])
    assert results == [1 - 6, 1 - 9]
    assert shape(3) == 9


def test_code_that_numba_cannot_compile_says_so():
    with pytest.raises(KernelError, match="Numba cannot compile `f`"):
        jit.load("def f(n):\n    return {}[n]\n", {"f": "int64"})
    with pytest.raises(KernelError, match="which exists only inside Numba"):
        jit.load(
            "def f(n, xs):\n    if n > 3:\n        raise ValueError\n    xs[0] = n\n", {"f": "int64 int64*"}
        )


# Processes


ADAM = """
import sys, numpy as np
from microgradx.kernels import sweep
from microgradx.rules import rules
a = [np.ones(4, np.float32) for _ in range(4)]
sweep(rules["adam"], np.float32)(*a, t=1)
print(a[0][0], "numba" in sys.modules, "numba.np.arraymath" in sys.modules)
"""


def test_processes_may_compile_the_same_kernel_at_once_and_a_later_one_never_imports_numba(tmp_path):
    """Nor does any of them import what Numba knows about arrays, which takes half a second."""
    answers = []
    work = lambda: answers.append(python(ADAM, MICROGRADX_CACHE=str(tmp_path)))
    both = [threading.Thread(target=work) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len(answers) == 2 and len({answer.split()[0] for answer in answers}) == 1
    assert "True" in {answer.split()[1] for answer in answers}
    assert {answer.split()[2] for answer in answers} == {"False"}
    assert sorted(path.suffix for path in (tmp_path / "kernels").iterdir()) == [".o", ".py"]
    assert python(ADAM, MICROGRADX_CACHE=str(tmp_path)).split() == [answers[0].split()[0], "False", "False"]


FORK = """
import os, numpy as np
from microgradx import kernels
from microgradx.kernels import cpu, jit, sweep
from microgradx.rules import rules
kernels.set_threads(2)
cpu.alone = 0

def result(name):
    rule = rules[name]
    a = [np.full(100_000, 0.5, np.float32) for _ in range(2 + len(rule.state))]
    sweep(rule, np.float32)(*a, t=1)
    assert np.all(a[0] == a[0][0])
    return a[0][0]

before = result("adam")
with jit.lock:  # as if another thread were compiling
    child = os.fork()
    if child == 0:
        good = result("adam") == before and result("lion") != 0
        os._exit(0 if good else 1)
assert os.waitpid(child, 0)[1] == 0
assert result("adam") == before
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_compiles_and_has_threads_of_its_own(tmp_path):
    python(FORK, MICROGRADX_CACHE=str(tmp_path))


# Threads


def test_two_python_threads_may_step_two_optimizers_at_once(threads, monkeypatch):
    threads(3)
    monkeypatch.setattr(cpu, "alone", 0)
    update = sweep(rules["adam"], np.float32)

    def train(seed, p):
        g = np.random.default_rng(seed).standard_normal(p.size).astype(np.float32)
        m, v = np.zeros_like(p), np.zeros_like(p)
        for t in range(1, 201):
            update(p, g, m, v, t=t)

    alone, together = (np.zeros((4, 5000), np.float32) for _ in range(2))
    for seed in range(4):
        train(seed, alone[seed])
    workers = [threading.Thread(target=train, args=(seed, together[seed])) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    np.testing.assert_array_equal(together, alone)


def test_every_element_is_visited_once_and_errors_come_back(threads):
    threads(3)
    for size, piece in [(0, 5), (1, 5), (5, 5), (6, 5), (1000, 7)]:
        seen = np.zeros(size, int)

        def visit(start, stop, seen=seen):
            seen[start:stop] += 1

        thread_pool.split(visit, size, piece)
        assert np.all(seen == 1)
    with pytest.raises(ZeroDivisionError):
        thread_pool.split(lambda start, stop: start // 0, 10, 2)


def test_the_number_of_threads_can_be_set(threads, monkeypatch):
    threads(2)
    assert kernels.threads() == 2
    with pytest.raises(ArgumentError, match=r"set_threads\(0\): the number of threads is an integer from 1"):
        threads(0)
    monkeypatch.setattr(thread_pool, "wanted", 0)
    monkeypatch.setenv("MICROGRADX_THREADS", "5")
    assert kernels.threads() == 5
    monkeypatch.setattr(thread_pool, "wanted", 0)
    monkeypatch.setenv("MICROGRADX_THREADS", "many")
    with pytest.raises(ArgumentError, match="MICROGRADX_THREADS='many'"):
        kernels.threads()
