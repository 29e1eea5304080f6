"""Numbers and functions outside of definitions may change: every executor goes on as plain Python does.

`@Rule` and `@Elementwise` are `@mg.rule` and `@mg.elementwise`, but unlisted. A row is a change that somebody
makes between steps; what it must lead to is computed from the definitions themselves, on plain numbers.
"""

import math
import sys
import types

import numpy as np
import pytest
from test_cuda import needs_cuda

import microgradx as mg
from microgradx import nn, optim, rules
from microgradx.errors import CompileWarning
from microgradx.kernels import sweep
from microgradx.kernels.free_variables import FreeVariables
from microgradx.rules import Rule
from microgradx.scalars import Elementwise

SCALE = INNER = SHIFT = SLOPE = 2.0
LIBRARY = types.ModuleType("library_of_a_user")
X = (1.0, 1.5)


@Rule
def by_global(p, g, /, t, lr=0.01):
    """Follow the gradient, scaled: p ← p - lr · s² · g"""
    return p - lr * SCALE * (SCALE * g)


@Elementwise
def inner(x):
    """s · x"""
    return x * INNER


@inner.slope
def _(x, y):
    return INNER


@Elementwise
def outer(x):
    """inner(x) + 1"""
    return inner(x) + 1


@outer.slope
def _(x, y):
    return inner(1)


@Elementwise
def shifted(x):
    """x + s, whose slope says nothing of s"""
    return x + SHIFT


@shifted.slope
def _(x, y):
    return 1


@Elementwise
def bent(x):
    """x²"""
    return x * x


@bent.slope
def _(x, y):
    return SLOPE * x


LIBRARY.bent = bent


@Rule
def by_function(p, g, /, t, lr=0.01):
    """Follow a function of the gradient: p ← p - lr · f(g)"""
    return p - lr * outer(g)


@Rule
def by_member(p, g, /, t, lr=0.01):
    """Follow another file's function of the gradient: p ← p - lr · f(g)"""
    return p - lr * LIBRARY.bent(g)


def closed(number):
    """A rule and a function around one variable, and what sets it."""

    def change(value):
        nonlocal number
        number = value

    @Rule
    def by_cell(p, g, /, t, lr=0.01):
        """Follow the gradient, scaled: p ← p - lr · s · g"""
        return p - lr * (number * g)

    @Elementwise
    def celled(x):
        """s · x"""
        return x * number

    @celled.slope
    def _(x, y):
        return number

    return by_cell, celled, change


by_cell, celled, set_cell = closed(2.0)


def set_global(name):
    return lambda value: globals().__setitem__(name, value)


@Elementwise
def later(x):
    """3x"""
    return x * 3


@later.slope
def _(x, y):
    return 3


FIRST = inner


def declared_anew(value):
    """Another function of the same name, as of a notebook's cell that runs again."""
    globals()["inner"] = FIRST if value == 2 else later


def slope_of(function, then=lambda x, *_: 7 * x, now=lambda x, *_: 3 * x):
    """A change that declares a slope anew."""
    return lambda value: function.slope(then if value == 2 else now)


def member(value):
    LIBRARY.bent = bent if value == 2 else celled


GD = rules.sgd
CHANGES = {  # the rule, the function, the change
    "a rule's global": (by_global, mg.square, set_global("SCALE")),
    "a rule's closure": (by_cell, mg.square, set_cell),
    "a global of a rule's function": (by_function, mg.square, set_global("INNER")),
    "a rule's function declared anew": (by_function, mg.square, declared_anew),
    "a rule's function of another file": (by_member, mg.square, member),
    "a global in the function alone": (GD, shifted, set_global("SHIFT")),
    "a function's global": (GD, inner, set_global("INNER")),
    "a closure of a function and its slope": (GD, celled, set_cell),
    "a global of a function's function": (GD, outer, set_global("INNER")),
    "a slope's global": (GD, bent, set_global("SLOPE")),
    "a slope declared anew": (GD, bent, slope_of(bent)),
    "the library's slope declared anew": (GD, mg.sin, slope_of(mg.sin)),
    "the same, reached by a module": (GD, nn.Tanh(), slope_of(mg.tanh)),
}
ORDER = 2.0, 3.0, 2.0


@pytest.fixture(autouse=True)
def slopes_stay():
    """Slopes are as they were afterwards."""
    known = [bent, mg.sin, mg.tanh]
    before = [f.slopes for f in known]
    yield
    for f, slope in zip(known, before, strict=True):
        f.slope(slope)


def plain(rule, function, change):
    """Losses and weights by the definitions on plain numbers."""
    function = mg.tanh if isinstance(function, nn.Module) else function
    w, found = [1.0, 2.0], []
    for value in ORDER:
        change(value)
        for t in (1, 2):
            loss = sum(function(p * x) for p, x in zip(w, X, strict=True))
            slopes = [function.slopes(p * x, function(p * x)) for p, x in zip(w, X, strict=True)]
            w = [rule(p, s * x, t) for p, s, x in zip(w, slopes, X, strict=True)]
            found.append([loss, *w])
    change(2.0)
    return found


def trained(rule, function, change, compiled, device="cpu"):
    """The same by an optimizer that goes on, line by line or compiled."""
    w = mg.tensor([1.0, 2.0], device=device, requires_grad=True)
    optimizer, x, found = optim.Optimizer([w], rule, lr=0.01), mg.tensor(X, device=device), []

    def step(x):
        optimizer.zero_grad()
        loss = function(w * x).sum()
        loss.backward()
        optimizer.step()
        return loss

    interpret = None if device == "cuda" else True
    step = mg.jit(step, interpret=interpret, audit=False) if compiled else step
    for value in ORDER:
        change(value)
        for _ in range(2):
            found.append([step(x).item(), *w.numpy().tolist()])
    change(2.0)
    return found, step


def check(name, compiled, device="cpu"):
    rule, function, change = CHANGES[name]
    defaults = rule if rule is not GD else lambda *args: GD(*args, lr=0.01)
    found, step = trained(rule, function, change, compiled, device)
    np.testing.assert_allclose(found, plain(defaults, function, change), rtol=1e-5, atol=1e-6)
    return step


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seen_by_the_next_step(name, compiled):
    step = check(name, compiled)
    assert not compiled or "2 variants" in repr(step)  # what was made for the first value serves again


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", ["a rule's global", "a global of a function's function"])
def test_a_change_is_seen_on_a_gpu(name, compiled):
    check(name, compiled, "cuda")


def test_a_number_that_machine_code_was_made_with():
    step = mg.jit(lambda x: shifted(x), audit=False)
    for value in (2.0, 3.0, 2.0):
        set_global("SHIFT")(value)
        np.testing.assert_array_equal(step(np.ones(2, np.float32)).data, np.float32(1 + value))
    set_global("SHIFT")(2.0)


def test_a_rule_declared_anew_is_for_new_optimizers():
    def again(p, g, /, t, lr=0.01):
        """Stand still: p ← p"""
        return p - 0 * g

    again.__name__ = "by_global"
    w = mg.tensor([1.0], requires_grad=True)
    old = optim.Optimizer([w], by_global)
    new = optim.Optimizer([w], Rule(again))
    for optimizer, moved in ((old, 0.04), (new, 0.0)):
        before = w.item()
        w.grad = mg.tensor([1.0])
        optimizer.step()
        np.testing.assert_allclose(before - w.item(), moved, atol=1e-6)


VALUES = {  # what stands there then and now, and whether that is the same
    "equal numbers": (2.0, float("2"), True),
    "NaN": (math.nan, float("nan"), True),
    "an integer and a float": (2, 2.0, False),
    "a truth and a number": (True, 1, False),
    "two zeros": (0.0, -0.0, False),
    "two lists": ([1], [1], False),
}


@pytest.mark.parametrize("name", VALUES)
def test_what_counts_as_the_same(name, monkeypatch):
    then, now, same = VALUES[name]
    monkeypatch.setitem(globals(), "SCALE", then)
    outside = FreeVariables(by_global.function)
    monkeypatch.setitem(globals(), "SCALE", now)
    assert outside.holds() is (FreeVariables(by_global.function) == outside) is same
    assert (outside.failing() is None) is same
    assert same or outside.failing() == f"SCALE: {then!r} then, {now!r} now"


def test_the_library_s_own_definitions_are_not_looked_at():
    for rule in rules.rules.values():
        if rule.__module__.startswith("microgradx."):
            assert not FreeVariables(rule.function).found


def test_a_sweep_is_made_once_for_a_value(monkeypatch):
    made = []
    for value in (2.0, 3.0, 2.0):
        monkeypatch.setitem(globals(), "SCALE", value)
        made.append(sweep(by_global, "float32"))
    assert made[0] is made[2] is not made[1]
    assert made[1].outside.failing() == "SCALE: 3.0 then, 2.0 now"


def test_a_step_that_needs_too_many_variants_names_the_number(monkeypatch):
    w = mg.tensor([1.0], requires_grad=True)
    optimizer = optim.Optimizer([w], by_global)
    monkeypatch.setattr(sys.modules["microgradx.compiler.capture.recaptures"], "MANY", 2)

    @mg.jit(interpret=True, audit=False)
    def step():
        optimizer.zero_grad()
        (w * w).sum().backward()
        optimizer.step()

    with pytest.warns(CompileWarning, match=r"What changed: SCALE \(2 times\)"):
        for value in (2.0, 3.0, 4.0):
            monkeypatch.setitem(globals(), "SCALE", value)
            step()
