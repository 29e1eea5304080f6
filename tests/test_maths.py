"""Vectors of exp, tanh, ...: against float64, rounded."""

import math
import re
import textwrap

import numpy as np
import pytest
from scipy.special import erf

from microgradx.kernels import jit, vector_math

EXACT = {name: getattr(np, name) for name in ("exp", "expm1", "tanh", "log", "log1p", "sin", "cos")} | {
    "erf": erf
}


@pytest.fixture(autouse=True)
def folder(tmp_path_factory, monkeypatch):
    """A cache folder for the whole run, so that no test meets another version's code."""
    monkeypatch.setenv("MICROGRADX_CACHE", str(tmp_path_factory.getbasetemp() / "maths"))


def source(name, size, dtype="float32"):
    """A file that applies a function to an array, and the types of its `run`."""
    text = f"""
        from microgradx.kernels.runtime import block
        from microgradx.kernels.vector_math import {name}


        def run(out_, x_):
            out, x = block(out_, 0, ({size},)), block(x_, 0, ({size},))
            for i in range({size}):
                out[i] = {name}(x[i])
    """
    return textwrap.dedent(text), {"run": f"{dtype}* {dtype}*"}


def apply(name, x, exact=()):
    out = np.empty_like(x)
    run = jit.load(*source(name, x.size, x.dtype.name), "test", exact)["run"]
    run(out.ctypes.data, x.ctypes.data)
    return out


def points():
    """A million numbers of every exponent and sign, NaN and inf among them, and as many of everyday sizes."""
    rng = np.random.default_rng(0)
    every = np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32).view(np.float32)
    corners = np.array(
        [0, 1, np.inf, np.nan, 1e-45, 2**-126, 88.72284, 103.98, 0.625, 0.92, math.pi, math.pi / 2]
    )
    corners = np.nextafter(corners[:, None], np.array([-np.inf, 0, np.inf]), dtype=np.float32).ravel()
    days = [rng.uniform(-110, 110, 300_000), 3 * rng.standard_normal(700_000)]
    return np.concatenate([every, corners, -corners, *days]).astype(np.float32)


def errors(got, exact):
    """How far apart, in ulps; inf where one is NaN, infinite or negative and the other is not."""
    near = exact.astype(np.float32)
    same = (got == near) & (np.signbit(got) == np.signbit(near)) | np.isnan(got) & np.isnan(near)
    with np.errstate(invalid="ignore"):
        distance = abs(got - exact) / abs(np.spacing(near))
    return np.where(np.isfinite(got) & np.isfinite(near) & (got != 0), distance, np.where(same, 0, np.inf))


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.filterwarnings("ignore:.*encountered in")
def test_the_largest_error_is_the_one_that_is_stated(name):
    x = points()
    stated = float(re.search(r"within ([\d.]+) ulp", getattr(vector_math, name).__doc__)[1])
    wrong = errors(apply(name, x), EXACT[name](x.astype(np.float64)))
    assert wrong.max() <= stated, f"{name}({x[wrong.argmax()]!r}) is {wrong.max():.2f} ulp off"
    assert wrong.max() > stated - 0.5


@pytest.mark.parametrize("name", EXACT)
def test_loops_become_vectors_that_need_nothing_else(name):
    module = jit.optimised(*source(name, 65536), "<test>", ())
    if name not in ("sin", "cos"):  # whose table only some processors can gather from
        assert re.search(r"<\d+ x float>", str(module))
    assert {f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")} == set()


@pytest.mark.parametrize("name", EXACT)
def test_in_float64_and_in_python_they_are_libms(name):
    x = np.random.default_rng(0).uniform(0.1, 3, 100)
    wanted = [getattr(math, name)(v) for v in x]
    np.testing.assert_array_max_ulp(apply(name, x), np.array(wanted), 1)
    assert [getattr(vector_math, name)(v) for v in x] == wanted


def test_the_bits_do_not_depend_on_what_the_caller_may_fuse():
    x = np.random.default_rng(0).standard_normal(10_000).astype(np.float32)
    assert all(apply(name, x).tobytes() == apply(name, x, ["run"]).tobytes() for name in EXACT)
