"""Update rules: every executor gives the bits that the definition gives; every rule is covered by the registry."""

import inspect

import naive
import numpy as np
import pytest

from microgradx.errors import ArgumentError, DTypeError, KernelError, ShapeError
from microgradx.kernels import cpu, pool, sweep
from microgradx.rules import Rule, rule, rules
from microgradx.scalars import sqrt, where

every_rule = pytest.mark.parametrize("rule", rules.values(), ids=lambda rule: rule.name)
STEPS, SIZE = 1000, 200  # more elements than one piece of a parallel sweep


def gradients(dtype=np.float32, steps=STEPS, size=SIZE):
    """Random gradients of many scales, some zero and some so small that their squares underflow."""
    rng = np.random.default_rng(7)
    scale = 10.0 ** rng.integers(-30, 3, size)
    scale[: size // 2] = 1
    g = rng.standard_normal((steps, size)) * scale
    g[rng.random((steps, size)) < 0.05] = 0
    return g.astype(dtype)


def start(rule, dtype=np.float32, size=SIZE):
    p = np.random.default_rng(3).standard_normal(size).astype(dtype)
    return p, [np.zeros(size, dtype) for _ in rule.state]


def run_sweep(rule, update, dtype=np.float32, steps=STEPS):
    p, state = start(rule, dtype)
    g, carried = np.empty_like(p), ()
    for t, new in enumerate(gradients(dtype, steps), 1):
        g[:] = new
        carried = update(p, g, *state, t=t, carried=carried)
    return [p, *state]


def run_definition(rule, which, dtype=np.float32, steps=STEPS):
    """The rule called with arrays or scalars, state flushed as every executor does."""
    p, state = start(rule, dtype)
    p, state = p[which], [s[which] for s in state]
    carried = [0.0] * len(rule.carried)
    tiny, zero = np.finfo(dtype).tiny, dtype(0)
    for t, g in enumerate(gradients(dtype, steps), 1):
        results = rule(p, g[which], *state, t, *carried)
        p, *rest = results if isinstance(results, tuple) else (results,)
        state = [np.where(np.abs(s) < tiny, zero, s)[()] for s in rest[: len(state)]]
        carried = rest[len(state) :]
    return [p, *state]


def assert_same_bits(got, wanted, what):
    for name, a, b in zip(("p", "first state", "second state", "third", "fourth"), got, wanted, strict=False):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype, f"{what}: {name} is {a.dtype}"
        np.testing.assert_array_equal(a, b, err_msg=f"{what}: {name}")


@pytest.fixture
def threads():
    yield pool.set_threads
    pool.set_threads(pool.cores())


@every_rule
def test_same_bits_from_every_executor(rule, threads, monkeypatch):
    threads(1)
    serial = run_sweep(rule, sweep(rule, np.float32))

    p, _ = start(rule)
    memory: dict = {}
    with np.errstate(under="ignore"):
        for t, g in enumerate(gradients(), 1):
            p = getattr(naive, rule.name)(p, g, t, memory)
            naive.flush(memory)
    assert_same_bits(serial, [p, *(memory[name] for name in rule.state)], "the NumPy oracle")

    wanted = [a[:1] for a in serial]
    assert_same_bits([np.atleast_1d(x) for x in run_definition(rule, 0)], wanted, "plain numbers")

    threads(3)
    monkeypatch.setattr(cpu, "alone", 0)
    assert_same_bits(run_sweep(rule, sweep(rule, np.float32)), serial, "three threads")


@every_rule
def test_float64_matches_the_definition(rule):
    compiled = run_sweep(rule, sweep(rule, np.float64), np.float64, steps=100)
    assert_same_bits(compiled, run_definition(rule, slice(None), np.float64, steps=100), "float64")
