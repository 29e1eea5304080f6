"""The vocabulary of compiled steps: blocks of memory, matrix products, tickets, one BLAS thread."""

import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from microgradx.errors import KernelError
from microgradx.kernels import blas, cache, jit, small_matmul, thread_pool

WORDS = (
    "from numpy import bool_, float32, float64, int32, int64, uint8, uint32\n"
    "from microgradx.kernels.runtime import (\n"
    "    block, claim, done, fail, inside, join, leave, matmul, matmul_nt, matmul_tn, wait\n)\n\n\n"
)


@pytest.fixture(autouse=True)
def folder(tmp_path_factory, monkeypatch):
    """A cache folder for the whole run, so that no test meets another version's code."""
    monkeypatch.setenv("MICROGRADX_CACHE", str(tmp_path_factory.getbasetemp() / "compiled"))
    monkeypatch.setattr(jit, "loaded", {})


def compiled(text, types, exact=(), words=WORDS):
    """The function `run` of a source."""
    return jit.load(words + textwrap.dedent(text), {"run": types}, "test", exact)["run"]


def address(array):
    return array.ctypes.data


# Blocks


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "uint32", "uint8", "bool_"])
@pytest.mark.parametrize("shape", [(1,), (5,), (3, 4), (1, 1), (0, 3), (2, 3, 4)], ids=str)
def test_a_block_reads_and_writes_as_an_array_does(dtype, shape):
    names = "ijk"[: len(shape)]
    loops = "".join(
        f"{'    ' * (depth + 1)}for {name} in range({size}):\n"
        for depth, (name, size) in enumerate(zip(names, shape, strict=True))
    )
    index = ", ".join(names)
    body = f"{'    ' * (len(shape) + 1)}out[{index}] = a[{index}]\n"
    run = compiled(
        f"def run(out_, arena):\n"
        f"    out = block(out_, 0, {shape})\n"
        f"    a = block(arena, 64, {shape}, {dtype})\n{loops}{body}",
        f"{dtype.replace('bool_', 'uint8')}* uint8*",
    )
    x = np.random.default_rng(0).integers(0, 2 if dtype == "bool_" else 200, shape).astype(dtype)
    arena = np.zeros(64 + x.nbytes, np.uint8)
    arena[64:] = x.ravel().view(np.uint8)
    out = np.full(shape, 7, dtype)
    run(address(out), address(arena))
    np.testing.assert_array_equal(out, x)


def test_a_boolean_block_holds_truth():
    run = compiled(
        """
        def run(bits_, count_):
            bits, count = block(bits_, 0, (4,), bool_), block(count_, 0, (1,))
            for i in range(4):
                if bits[i]:
                    count[0] += 1
                bits[i] = not bits[i]
        """,
        "uint8* int64*",
    )
    bits, count = np.array([0, 1, 2, 255], np.uint8), np.zeros(1, np.int64)
    run(address(bits), address(count))
    assert bits.tolist() == [1, 0, 0, 0] and count[0] == 3


def test_a_block_is_a_view_of_another_at_an_offset():
    run = compiled(
        """
        def run(x_, i):
            x = block(x_, 2, (4, 5))
            rows = block(x, 5 * i, (2, 5))
            flat = block(rows, 0, (10,))
            for j in range(10):
                flat[j] = rows[j // 5, j % 5] + j
            block(x, 0, (2,), int32)[1] = 7
        """,
        "float32* int64",
    )
    x = np.zeros(22, np.float32)
    run(address(x), 2)
    assert x[12:].tolist() == list(range(10)) and x[:12].view(np.int32).tolist() == [0, 0, 0, 7, *[0] * 8]


@pytest.mark.parametrize("index", ["x[0]", "x[0, 0, 0]", "x[0.5, 0]", "x[0:1, 0]"])
def test_an_index_is_one_integer_for_each_axis(index):
    with pytest.raises(KernelError, match="Numba cannot compile `run`"):
        compiled(f"def run(x_):\n    x = block(x_, 0, (2, 3))\n    {index} = 1\n", "float32*")


def test_loops_over_blocks_become_vectors_and_nothing_of_numba_is_left():
    text = """
    def relu(start, stop, h, b):
        for i in range(start, stop):
            for j in range(128):
                z = h[i, j] + b[j]
                h[i, j] = z if z > float32(0) else float32(0)

    def run(start, stop, h_, b_, status):
        relu(start, stop, block(h_, 0, (64, 128)), block(b_, 0, (128,)))
        relu(inside(start, 64, status), stop, block(h_, 0, (64, 128)), block(b_, 0, (128,)))
    """
    module = jit.optimised(
        WORDS + textwrap.dedent(text), {"run": "int64 int64 float32* float32* int64*"}, "<test>", ()
    )
    assert "x float>" in str(module)
    assert {f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")} == set()


def test_a_function_of_blocks_is_one_for_all_that_lie_apart_and_another_where_memory_is_shared():
    text = """
    def after(out, x):
        for i in range(1, 64):
            out[i] = x[i - 1] + float32(1)

    def both(out, x, y):
        after(out, x)
        after(y, y)
        after(block(out, 0, (64,)), block(out, 0, (64,)))

    def run(arena):
        a, b = block(arena, 0, (64,), float32), block(arena, 256, (64,), float32)
        c, d = block(arena, 512, (64,), float32), block(arena, 768, (64,), float32)
        after(a, b)
        after(b, c)
        after(c, c)
        both(c, d, b)
        both(d, a, d)
    """
    module = jit.optimised(WORDS + textwrap.dedent(text), {"run": "uint8*"}, "<test>", ())
    [apart] = [f for f in module.functions if "after" in f.name]  # the other is a part of its callers now
    parameters = str(apart).partition("{")[0].split(",")
    assert ["noalias" in p for p in parameters if "%arg." in p] == [True, True]
    arena = np.zeros(256, np.float32)
    compiled(text, "uint8*")(address(arena))
    a, b, c, d = np.zeros((4, 64), np.float32)

    def after(out, x):
        for i in range(1, 64):
            out[i] = x[i - 1] + 1

    for out, x in [(a, b), (b, c), (c, c), (c, d), (b, b), (c, c), (d, a), (d, d), (d, d)]:
        after(out, x)
    np.testing.assert_array_equal(arena.reshape(4, 64), [a, b, c, d])


# Matrix products

PRODUCTS = {
    "matmul": ((lambda m, n, k: (m, k)), (lambda m, n, k: (k, n)), lambda a, b: a @ b),
    "matmul_nt": ((lambda m, n, k: (m, k)), (lambda m, n, k: (n, k)), lambda a, b: a @ b.T),
    "matmul_tn": ((lambda m, n, k: (k, m)), (lambda m, n, k: (k, n)), lambda a, b: a.T @ b),
}
SIZES = [
    (7, 5, 3),
    (1, 1, 1),
    (13, 1, 9),
    (1, 17, 2),
    (6, 4, 0),
    (6, 0, 4),
    (33, 65, 130),
    (70, 2, 16),
    (40, 24, 9),
]


def rows_of(name, dtype, size, note=""):
    """A product of rows, and the shapes of a and b; a note makes it compiled anew."""
    left, right, _ = PRODUCTS[name]
    m, n, k = size
    a_shape, b_shape = left(m, n, k), right(m, n, k)
    run = compiled(
        f"""
        # {note}
        def run(out, more, a_, b_, start, stop):
            a, b = block(a_, 0, {a_shape}), block(b_, 0, {b_shape})
            {name}(block(out, 0, ({m}, {n})), a, b, start, stop)
            {name}(block(more, 0, ({m}, {n})), a, b, start, stop, True)
        """,
        f"{' '.join([dtype + '*'] * 4)} int64 int64",
    )
    return run, a_shape, b_shape


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("size", "vector"),
    [(size, None) for size in SIZES] + [(size, vector) for size in SIZES[-3:] for vector in (32, 16, 0)],
    ids=str,
)
def test_matrix_products_of_rows(name, dtype, size, vector, monkeypatch):
    if vector:  # the bytes of another processor's: LLVM makes of them what this one has
        monkeypatch.setattr(small_matmul, "vector", lambda: vector)
        monkeypatch.setattr(small_matmul, "fits", lambda turned, m, n, k, width: n * k > 0)
    elif vector == 0:
        monkeypatch.setattr(small_matmul, "fits", lambda *sizes: False)
    run, a_shape, b_shape = rows_of(name, dtype, size, vector)
    m, n, k = size
    product = PRODUCTS[name][2]
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(a_shape).astype(dtype), rng.standard_normal(b_shape).astype(dtype)
    for start, stop in [(0, m), (m // 3, m - m // 4), (m // 2, m // 2)]:
        out, more = np.full((m, n), np.nan, dtype), np.ones((m, n), dtype)
        run(*map(address, (out, more, a, b)), start, stop)
        wanted = np.full((m, n), np.nan)
        wanted[start:stop] = product(a.astype(float), b.astype(float))[start:stop]
        close = {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-13}
        np.testing.assert_allclose(out, wanted, **close)
        np.testing.assert_allclose(more, 1 + np.nan_to_num(wanted), **close)


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("size", [(100, 2, 16), (100, 16, 16), (128, 10, 64), (70, 100, 30)], ids=str)
def test_a_row_of_a_small_product_has_the_same_bits_in_any_range(name, size):
    run, *shapes = rows_of(name, "float32", size)
    m, n, _ = size
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype("float32") for shape in shapes)
    once, pieces, more, unused = (np.zeros((m, n), "float32") for _ in range(4))
    run(*map(address, (once, more, a, b)), 0, m)
    for start, stop in [(0, 1), (1, 14), (14, 15), (15, m)]:
        run(*map(address, (pieces, unused, a, b)), start, stop)
    assert once.tobytes() == pieces.tobytes() and more.tobytes() == unused.tobytes()


def test_large_products_and_those_of_narrow_vectors_are_left_to_blas():
    assert small_matmul.fits("NN", 100, 16, 16, 4) and small_matmul.fits("TN", 100, 1, 128, 4)
    assert not small_matmul.fits("NN", 100, 1000, 1000, 4) and not small_matmul.fits("NN", 100, 1, 128, 4)
    assert not small_matmul.fits("NT", 16, 16, 16, 4)  # few rows to turn b for


def test_blocks_that_do_not_fit_are_no_product():
    text = "def run(x):\n    matmul(block(x, 0, (2, 3)), block(x, 0, (2, 4)), block(x, 0, (3, 3)), 0, 2)\n"
    with pytest.raises(KernelError, match=r"a matrix product NN cannot make Block\(float32, \(2, 3\)\)"):
        compiled(text, "float32*")


# Tickets

STEPS = """
def run(steps, gate, total_, x_, helping):
    total, x = block(total_, 0, (1,)), block(x_, 0, (3, 1000))
    ticket = join(gate, helping)
    while ticket < 4 * steps:
        step, piece = ticket // 4, ticket % 4
        if piece < 3:
            wait(gate, 4 * step)
            for i in range(1000):
                x[piece, i] = 3 * x[piece, i] + total[0] + piece
        else:
            wait(gate, 4 * step + 3)
            for i in range(1000):
                total[0] += x[0, i] ^ x[1, i] ^ x[2, i]
        done(gate)
        ticket = claim(gate)
    leave(gate, 4 * steps, helping)
"""


def many_steps(threads, steps=300):
    run = compiled(STEPS, "int64 int64* int64* int64* int64")
    gate, total, x = thread_pool.gate(), np.zeros(1, np.int64), np.arange(3000)
    thread_pool.together(lambda helping: run(steps, *map(address, (gate, total, x)), helping), threads - 1)
    return total[0], x.sum(), gate[8]


def test_pieces_wait_for_each_other_on_any_number_of_threads():
    results = {many_steps(threads) for threads in (1, 2, 4) for _ in range(5)}
    assert len(results) == 1 and results.pop()[2] == 4 * 300


def test_a_helper_that_comes_late_finds_nothing_to_do():
    run = compiled(STEPS, "int64 int64* int64* int64* int64")
    gate, total, x = thread_pool.gate(), np.zeros(1, np.int64), np.arange(3000)
    arguments = 5, *map(address, (gate, total, x))
    run(*arguments, 0)
    before = total[0], x.copy(), gate[8]
    calls = thread_pool.bell[0]
    run(*arguments, 1)  # nor does it wait for ever for another call
    assert before[0] == total[0] and before[2] == gate[8] == 20 and np.array_equal(before[1], x)
    assert calls == thread_pool.bell[0] == gate[2]


def test_together_works_here_and_on_helpers_and_their_errors_are_reported(monkeypatch):
    seen, reported, all_here = set(), [], threading.Barrier(3, timeout=60)
    monkeypatch.setattr(threading, "excepthook", lambda error: reported.append(error.exc_type))

    def work(helping):
        all_here.wait()
        seen.add(threading.current_thread())
        if threading.current_thread().name == "microgradx":
            raise ZeroDivisionError

    for _ in range(2):  # a helper survives its error
        thread_pool.together(work, 2)
        thread_pool.together(lambda helping: all_here.wait(), 2)
    assert threading.current_thread() in seen and len(seen) >= 2
    assert reported == [ZeroDivisionError] * 4
    with pytest.raises(ZeroDivisionError):
        thread_pool.together(lambda helping: 1 // helping, 0)


# Rows


def test_an_index_is_counted_from_the_end_and_fails_outside():
    run = compiled(
        """
        def run(i, j, out, status_):
            status = block(status_, 0, (1,))
            out[0] = inside(i, 5, status)
            out[1] = inside(int32(j), 5, status)
        """,
        "int64 int64 int64* int64*",
    )
    for i, j, wanted in [(0, 4, [0, 4, 0]), (-1, -5, [4, 0, 0]), (5, 1, [0, 1, 1]), (2, -6, [2, 0, 1])]:
        out, status = np.zeros(2, np.int64), np.zeros(1, np.int64)
        run(i, j, address(out), address(status))
        assert [*out, *status] == wanted


# Machine code


@pytest.mark.parametrize("exact", [(), ("sum",)], ids=str)
def test_products_and_sums_may_be_rounded_once_but_not_where_bits_count(exact):
    run = compiled(
        """
        def sum(a, b, c):
            return a * b + c

        def run(x):
            x[3] = sum(x[0], x[1], x[2])
        """,
        "float64*",
        exact,
    )
    e = 2.0**-30
    x = np.array([1 + e, 1 - e, -1, 0])  # the product is 1 - e**2, which rounds to 1
    run(address(x))
    once = fused(*x[:3])
    assert x[3] == (0 if exact else once)


def fused(a, b, c):
    """a * b + c with one rounding, on processors that have the instruction."""
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    has = features.get("fma", False) or features.get("neon", False)
    return -(2.0**-60) if has else a * b + c


def test_the_key_covers_the_vocabulary_and_what_is_exact(monkeypatch):
    source, types = "def run(n):\n    pass\n", {"run": "int64"}
    keys = [jit.fingerprint(source, types, exact) for exact in (None, (), ("f",))]
    monkeypatch.setattr(jit.Path, "read_text", lambda self, encoding: "another")
    keys.append(jit.fingerprint(source, types, ()))
    assert len(set(keys)) == len(keys)


PROCESS = f"""
import sys
import numpy as np
from microgradx.kernels import blas, jit
source = '''{WORDS}def run(out, a, b):
    matmul_nt(block(out, 0, (2, 2)), block(a, 0, (2, 3)), block(b, 0, (2, 3)), 0, 2)
'''
run = jit.load(source, {{"run": "float32* float32* float32*"}}, "process", ())["run"]
a, b, out = np.arange(6, dtype="f4"), np.array([0, 2, 4, 1, 3, 5], "f4"), np.zeros(4, "f4")
with blas.one_thread():
    run(out.ctypes.data, a.ctypes.data, b.ctypes.data)
print(out.tolist(), "numba" in sys.modules, "scipy.linalg" in sys.modules)
import scipy.linalg
assert np.allclose(scipy.linalg.blas.sgemm(1, a.reshape(2, 3), b.reshape(2, 3).T), out.reshape(2, 2))
"""


def test_a_second_process_loads_it_without_numba_and_without_scipy_linalg(tmp_path):
    for imported in (True, False):
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", PROCESS],
            env=os.environ | {"MICROGRADX_CACHE": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert run.stdout.strip() == f"[10.0, 13.0, 28.0, 40.0] {imported} False", run.stderr


def test_a_changed_object_of_the_cache_is_compiled_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROGRADX_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "unusable", set())
    text, types = "def run(x):\n    block(x, 0, (1,))[0] = 5\n", "int64*"
    x = np.zeros(1, np.int64)
    compiled(text, types)(address(x))
    (path,) = (tmp_path / "kernels").glob("*.o")
    path.write_bytes(path.read_bytes()[:-1])
    monkeypatch.setattr(jit, "loaded", {})
    x[0] = 0
    with pytest.warns(cache.CacheWarning):
        compiled(text, types)(address(x))
    assert x[0] == 5


# One thread


@pytest.fixture
def two_threads():
    """SciPy's BLAS, set to two threads."""
    before = [library.get_num_threads() for library in blas.libraries()]
    for library in blas.libraries():
        blas.set_threads(library, 2)
    yield lambda: [library.get_num_threads() for library in blas.libraries()]
    for library, threads in zip(blas.libraries(), before, strict=True):
        blas.set_threads(library, threads)


def test_one_thread_is_undone_by_whoever_leaves_last(two_threads):
    two = two_threads()
    entered, leave = threading.Event(), threading.Event()

    def other():
        with blas.one_thread():
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    with blas.one_thread():
        assert set(two_threads()) == {1}
        thread.start()
        entered.wait(60)
    assert set(two_threads()) == {1}
    leave.set()
    thread.join()
    assert two_threads() == two
    with pytest.raises(ZeroDivisionError), blas.one_thread():
        _ = 1 // 0
    assert two_threads() == two


def test_numpys_own_blas_is_left_alone():
    from threadpoolctl import ThreadpoolController

    ours = {library.filepath for library in blas.libraries()}
    others = [x for x in ThreadpoolController().lib_controllers if x.filepath not in ours]
    before = [library.get_num_threads() for library in others]
    with blas.one_thread():
        assert [library.get_num_threads() for library in others] == before
    assert ours and not any("numpy.libs" in path for path in ours)


def test_where_the_file_alone_cannot_be_loaded_scipy_is_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "scipy.linalg.cython_blas", raising=False)
    monkeypatch.setattr(blas, "PathFinder", None)
    assert blas.extension.__wrapped__().__pyx_capi__.keys() >= set(blas.symbols.values())


FORK = """
import os, threading
from microgradx.kernels import blas
for library in blas.libraries():
    blas.set_threads(library, 2)
entered, leave = threading.Event(), threading.Event()

def other():
    with blas.one_thread():
        entered.set()
        leave.wait(60)

thread = threading.Thread(target=other)
thread.start()
entered.wait(60)
child = os.fork()
if child == 0:
    with blas.one_thread():
        one = [library.get_num_threads() for library in blas.libraries()]
    two = [library.get_num_threads() for library in blas.libraries()]
    os._exit(0 if set(one) == {1} and set(two) == {2} else 1)
assert os.waitpid(child, 0)[1] == 0
leave.set()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_all_its_blas_threads():
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=120)
