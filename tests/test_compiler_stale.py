"""Nothing stale: whatever a step reads and somebody changes is seen by the compiled step, or refused."""

import collections
import copy
import cProfile
import dataclasses
import functools
import sys
import types

import numpy as np
import pytest

import microgradx as mg
from microgradx import nn

pytestmark = pytest.mark.interpreted

X = np.array([1.0, 2.0], np.float32)


def jit(function, **options):
    """The step as this file compiles it."""
    return mg.jit(function, **{"audit": False, "interpret": True} | options)


def check(step, change, *values, x=X):
    """The compiled step beside the eager one: before, after the change, and as it was."""
    compiled = jit(step)
    for value in (values[0], values[0], *values[1:], values[0]):
        change(value)
        expected = step(mg.tensor(x))
        np.testing.assert_allclose(compiled(x).data, expected.data, 1e-6)


# Plain values: how the step reads a number, where it is kept


class Bag:
    """An object of the user's."""

    shared = 2.0

    def __init__(self, **values):
        self.__dict__.update(values)

    def factor(self):
        return self.number

    def outer(self):
        return self.factor()

    @property
    def doubled(self):
        return 2 * self.number

    @functools.cached_property
    def kept(self):
        return 1.0

    @classmethod
    def of_class(cls):
        return cls.shared

    @staticmethod
    def of_nothing():
        return BAG.number

    def __call__(self, x):
        return x * self.number

    def __getitem__(self, key):
        return self.number

    def __mul__(self, x):
        return x * self.number


class Slotted:
    __slots__ = ("number",)


class Child(Bag):
    pass


@dataclasses.dataclass
class Settings:
    number: float = 2.0


class Table(dict):
    pass


BAG, SLOTTED, SETTINGS = Bag(number=2.0), Slotted(), Settings()
SLOTTED.number = 2.0
DEEP = Bag(a=Bag(b=Bag(c=Bag(d=Bag(e=Bag(number=2.0))))))
SPACE = types.SimpleNamespace(number=2.0)
NUMBER = 2.0
LONG, LONG_DICT = [1.0] * 200, {i: 1.0 for i in range(200)}
DEQUE, TABLE, ROWS = collections.deque([2.0]), Table(number=2.0), [[1.0], [2.0]]
ARRAY, BIG = np.array([1.0, 2.0]), np.ones(200_000)
HELPERS = types.ModuleType("helpers_of_a_user")
exec("NUMBER = 2.0\ndef times(x):\n    return x * NUMBER\n", HELPERS.__dict__)
TIMES = [HELPERS.times]
BOUND = functools.partial(lambda x, bag: x * bag.number, bag=BAG)


def scaled(number):
    return lambda x: x * number[0]


CELL = [2.0]
MADE = {"f": scaled(CELL)}


def set_global(value):
    globals()["NUMBER"] = value


def deepest(value):
    DEEP.a.b.c.d.e.number = value


VALUES = {
    "global": (lambda x: x * NUMBER, set_global),
    "globals()": (lambda x: x * globals()["NUMBER"], set_global),
    "a method": (lambda x: x * BAG.factor(), lambda v: setattr(BAG, "number", v)),
    "a method of a method": (lambda x: x * BAG.outer(), lambda v: setattr(BAG, "number", v)),
    "a property": (lambda x: x * BAG.doubled, lambda v: setattr(BAG, "number", v)),
    "a static method": (lambda x: x * Bag.of_nothing(), lambda v: setattr(BAG, "number", v)),
    "a class method": (lambda x: x * Bag.of_class(), lambda v: setattr(Bag, "shared", v)),
    "a class attribute": (lambda x: x * BAG.shared, lambda v: setattr(Bag, "shared", v)),
    "a class attribute of a child": (lambda x: x * Child().shared, lambda v: setattr(Bag, "shared", v)),
    "a callable object": (lambda x: BAG(x), lambda v: setattr(BAG, "number", v)),
    "an item of an object": (lambda x: x * BAG["any"], lambda v: setattr(BAG, "number", v)),
    "an operator of an object": (lambda x: BAG * x, lambda v: setattr(BAG, "number", v)),
    "getattr": (lambda x: x * getattr(SPACE, "number"), lambda v: setattr(SPACE, "number", v)),  # noqa: B009
    "getattr by a name put together": (
        lambda x: x * getattr(SPACE, "num" + "ber"[:3]),
        lambda v: setattr(SPACE, "number", v),
    ),
    "vars": (lambda x: x * vars(SPACE)["number"], lambda v: setattr(SPACE, "number", v)),
    "__dict__": (lambda x: x * SPACE.__dict__["number"], lambda v: setattr(SPACE, "number", v)),
    "slots": (lambda x: x * SLOTTED.number, lambda v: setattr(SLOTTED, "number", v)),
    "a dataclass": (lambda x: x * SETTINGS.number, lambda v: setattr(SETTINGS, "number", v)),
    "asdict": (
        lambda x: x * dataclasses.asdict(SETTINGS)["number"],
        lambda v: setattr(SETTINGS, "number", v),
    ),
    "six levels down": (lambda x: x * DEEP.a.b.c.d.e.number, deepest),
    "item 150 of a list": (lambda x: x * LONG[150], lambda v: LONG.__setitem__(150, v)),
    "item 150 of a dict": (lambda x: x * LONG_DICT[150], lambda v: LONG_DICT.update({150: v})),
    "a sum of a list": (lambda x: x * sum(LONG), lambda v: LONG.__setitem__(3, v)),
    "a deque": (lambda x: x * DEQUE[0], lambda v: DEQUE.__setitem__(0, v)),
    "a class of dicts": (lambda x: x * TABLE["number"], lambda v: TABLE.update(number=v)),
    "a list in a list": (lambda x: x * ROWS[1][0], lambda v: ROWS[1].__setitem__(0, v)),
    "the length of a list": (lambda x: x * len(DEQUE), lambda v: DEQUE.extend([1.0] * int(v))),
    "an element of an array": (lambda x: x * float(ARRAY[1]), lambda v: ARRAY.__setitem__(1, v)),
    "the sum of an array": (lambda x: x * ARRAY.sum(), lambda v: ARRAY.__setitem__(0, v)),
    "an array through NumPy": (lambda x: x * float(np.mean(ARRAY)), lambda v: ARRAY.__setitem__(0, v)),
    "an array made into a tensor": (lambda x: x * mg.tensor(ARRAY), lambda v: ARRAY.__setitem__(0, v)),
    "arithmetic on an array": (lambda x: x * (ARRAY * 2), lambda v: ARRAY.__setitem__(0, v)),
    "a large array": (lambda x: x * float(BIG[150_000]), lambda v: BIG.__setitem__(150_000, v)),
    "a global of another file": (lambda x: HELPERS.times(x), lambda v: setattr(HELPERS, "NUMBER", v)),
    "the same of a function in a list": (lambda x: TIMES[0](x), lambda v: setattr(HELPERS, "NUMBER", v)),
    "a partial": (lambda x: BOUND(x), lambda v: setattr(BAG, "number", v)),
    "a closure of a function in a dict": (lambda x: MADE["f"](x), lambda v: CELL.__setitem__(0, v)),
    "map": (lambda x: next(map(BAG, [x])), lambda v: setattr(BAG, "number", v)),
    "a comprehension": (lambda x: [x * n for n in DEQUE][0], lambda v: DEQUE.__setitem__(0, v)),
    "the type of a number": (
        lambda x: x * 1 if isinstance(BAG.number, int) else x / 2,
        lambda v: setattr(BAG, "number", int(v) if v == 3 else v),
    ),  # fmt: skip
    "a truth": (lambda x: x if BAG.number > 2 else -x, lambda v: setattr(BAG, "number", v)),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_that_the_step_reads(name):
    check(*VALUES[name], 2.0, 3.0)


# Code that is put in the place of other code


class Layer(nn.Module):
    """A module of the user's."""

    def __init__(self, gain=2.0):
        self.gain = gain

    def forward(self, x):
        return self.twice(x) * self.gain

    def twice(self, x):
        return x * 2


class Other(Layer):
    def forward(self, x):
        return x - self.gain


LAYER = Layer()
FORWARD, TWICE, FACTOR, DOUBLED = Layer.forward, Layer.twice, Bag.factor, Bag.__dict__["doubled"]


def helper(x):
    return x * 2


def set_helper(value):
    globals()["helper"] = (lambda x: x * 2) if value == 2 else (lambda x: x * 3)


def either(target, name, first):
    """A change that puts another function in place of the first one."""
    return lambda v: setattr(target, name, first if v == 2 else lambda *_: 5.0)


def instance_forward(value):
    if value == 2:
        LAYER.__dict__.pop("forward", None)
    else:
        LAYER.forward = lambda x: x + 1


CODE = {
    "a helper": (lambda x: helper(x), set_helper),
    "a method of a class": (lambda x: x * BAG.factor(), either(Bag, "factor", FACTOR)),
    "a property of a class": (
        lambda x: x * BAG.doubled,
        lambda v: setattr(Bag, "doubled", DOUBLED if v == 2 else property(lambda self: 7.0)),
    ),
    "forward of a class": (
        lambda x: LAYER(x),
        lambda v: setattr(Layer, "forward", FORWARD if v == 2 else lambda self, x: x * 9),
    ),
    "a method called by forward": (
        lambda x: LAYER(x),
        lambda v: setattr(Layer, "twice", TWICE if v == 2 else lambda self, x: x * 9),
    ),
    "the class of a module": (
        lambda x: LAYER(x),
        lambda v: setattr(LAYER, "__class__", Layer if v == 2 else Other),
    ),  # fmt: skip
    "forward of an instance": (lambda x: LAYER(x), instance_forward),
    "a function in a list": (
        lambda x: TIMES[0](x),
        lambda v: TIMES.__setitem__(0, HELPERS.times if v == 2 else mg.exp),
    ),  # fmt: skip
    "an attribute of a module": (lambda x: LAYER(x), lambda v: setattr(LAYER, "gain", v)),
    "the defaults of a function": (
        lambda x: HELPERS.times(x),
        lambda v: setattr(HELPERS, "times", TIMES[0] if v == 2 else lambda x, n=v: x * n),
    ),
}


@pytest.mark.parametrize("name", CODE)
def test_code_that_is_replaced(name):
    step, change = CODE[name]
    try:
        check(step, change, 2.0, 3.0)
    finally:
        change(2.0)


def test_a_rule_defined_anew():
    @mg.primitive
    def twice(a):
        return np.multiply(a, 2)

    def step(x):
        return mg.grad(lambda z: twice(z).sum())(x)

    compiled = jit(step)
    for factor in (2.0, 3.0):
        twice.vjp(lambda g, out, a, factor=factor: g * factor)
        np.testing.assert_allclose(compiled(X).data, step(mg.tensor(X)).data)


@pytest.mark.parametrize("profiler", ["cProfile", "a function"])
def test_a_profiler_at_work_goes_on(profiler):
    step, change = VALUES["a method of a method"]
    compiled, profile, heard = jit(step), cProfile.Profile(), []
    tell = lambda frame, event, arg: heard.append(event)
    for value in (2.0, 3.0, 2.0):
        change(value)
        profile.enable() if profiler == "cProfile" else sys.setprofile(tell)
        try:
            found, at_work = compiled(X), sys.getprofile()
        finally:
            sys.setprofile(None)
            profile.disable()
        np.testing.assert_allclose(found.data, step(mg.tensor(X)).data)
        assert at_work is (profile if profiler == "cProfile" else tell)


# Models, wherever they are kept

KEPT = {
    "dict": lambda m: {"m": m},
    "list": lambda m: [m],
    "tuple": lambda m: (m,),
    "namespace": lambda m: types.SimpleNamespace(m=m),
    "object": lambda m: Bag(number=m),
    "dataclass": lambda m: Settings(m),
    "partial": lambda m: functools.partial(m),
    "bound method": lambda m: m.forward,
}


def first(kept, x):
    """What the model that is kept in something makes of x."""
    if isinstance(kept, dict | list | tuple):
        return next(iter(kept.values() if isinstance(kept, dict) else kept))(x)
    return (getattr(kept, "m", None) or getattr(kept, "number", None) or kept)(x)


def changed(model):
    """Ways to change a model, and whether it computes something else then."""
    yield lambda: setattr(model[0], "bias", None)
    yield lambda: setattr(model, "0", nn.Linear(2, 2))
    yield lambda: setattr(model[1], "p", 0.5)
    yield lambda: model.eval()
    yield lambda: setattr(model[0], "weight", mg.zeros(2, 2))


def follows(step, function, model):
    """A compiled step does what its function does, whatever becomes of the model."""
    step(X[None])
    for change in changed(model):
        change()
        ends = []
        for call in (step, function):
            mg.seed(0)
            ends.append(call(mg.tensor(X[None])).data)
        np.testing.assert_allclose(*ends, 1e-6)


@pytest.mark.parametrize("kind", KEPT)
def test_a_model_is_watched_wherever_it_is_kept(kind):
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0))
    kept = KEPT[kind](model)
    step = jit(lambda x: first(kept, x))
    follows(step, lambda x: first(kept, x), model)


class Trainer:
    """A class with a jitted method."""

    def __init__(self, model):
        self.parts = {"model": model}

    @functools.partial(mg.jit, audit=False)
    def step(self, x):
        return self.parts["model"](x)


def test_a_model_of_a_jitted_method():
    trainer = Trainer(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0)))
    follows(trainer.step, trainer.parts["model"], trainer.parts["model"])


class Doubles:
    """Methods of one name, overridden and called by super()."""

    def __init__(self, factor=1.0):
        self.factor = factor

    double = functools.partial(mg.jit, audit=False)(lambda self, x: x * 2.0 * self.factor)
    triple = functools.partial(mg.jit, audit=False)(lambda self, x: x * 3.0 * self.factor)

    @mg.jit
    def step(self, x):
        return x + self.factor


class Overrides(Doubles):
    @mg.jit
    def step(self, x):
        return super().step(x) * 10.0


class Slots:
    __slots__ = ("factor",)

    @mg.jit
    def step(self, x):
        return x * self.factor


def of_slots(factor):
    thing = Slots()
    thing.factor = factor
    return thing


def a_shallow_copy():
    thing = Doubles(2.0)
    thing.step(X)
    other = copy.copy(thing)
    other.factor = 3.0
    return thing.step, other.step


def a_replaced_method():
    class Replaced(Doubles):
        step = mg.jit(lambda self, x: x * 2.0)

    thing = Replaced()
    thing.step(X)
    Replaced.step = mg.jit(lambda self, x: x * 5.0)
    return (thing.step,)


METHODS = {
    "two lambdas": (lambda: (Doubles().double, Doubles().triple), [X * 2, X * 3]),
    "super": (lambda: (Overrides().step, Doubles().step), [(X + 1) * 10, X + 1]),
    "slots": (lambda: (of_slots(2.0).step, of_slots(3.0).step), [X * 2, X * 3]),
    "a shallow copy": (a_shallow_copy, [X + 2, X + 3]),
    "a replaced method": (a_replaced_method, [X * 5]),
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_every_object_has_a_step_of_its_own(name):
    make, wanted = METHODS[name]
    for step, result in zip(make(), wanted, strict=True):
        np.testing.assert_array_equal(step(X).data, result)
        np.testing.assert_array_equal(step.function(mg.tensor(X)).data, result)


def test_a_method_keeps_its_step():
    thing, slots = Doubles(), of_slots(1.0)
    assert thing.double is thing.double and slots.step is slots.step is not of_slots(1.0).step


CALLABLE = {
    "module": lambda m: m,
    "partial": lambda m: functools.partial(lambda a, x: a(x), m),
    "object": lambda m: Holder(m),
    "bound method": lambda m: m.forward,
}


class Holder:
    def __init__(self, model):
        self.model = model

    def __call__(self, x):
        return self.model(x)


@pytest.mark.parametrize("kind", CALLABLE)
def test_whatever_can_be_called_can_be_compiled(kind):
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0))
    function = CALLABLE[kind](model)
    step = jit(function)
    assert "0 variants" in repr(step)
    follows(step, function, model)
