"""Nothing stale, in the corners of the language: descriptors, defaults, shadows, dispatch, contexts."""

import collections
import contextvars
import enum
import functools
import sys
import types
import weakref

import numpy as np
import pytest

import microgradx as mg

X = np.array([1.0, 2.0], np.float32)
CASES = {}


def case(make):
    """Add a row: a function that makes a step and what changes the number 2 that it multiplies by."""
    CASES[make.__name__.strip("_")] = make
    return make


class Thing:
    """An object of the user's."""

    number = 2.0


def put(space, name="number"):
    """A change that leaves a name out of a dict where its value is 2."""
    return lambda v: space.pop(name, None) if v == 2.0 else space.update({name: v})


@case
def a_context_variable():
    variable = contextvars.ContextVar("variable", default=2.0)
    return lambda x: x * variable.get(), variable.set


@case
def behind_a_weak_reference():
    thing = Thing()
    behind = weakref.ref(thing)
    return lambda x: x * behind().number, lambda v: setattr(thing, "number", v)


@case
def a_descriptor():
    class Descriptor:
        value = 2.0

        def __get__(self, instance, owner=None):
            return self.value

    class Holder:
        number = Descriptor()

    holder = Holder()
    return lambda x: x * holder.number, lambda v: setattr(vars(Holder)["number"], "value", v)


@case
def getattr_of_an_object():
    class Proxy:
        def __init__(self):
            self.inner = {"number": 2.0}

        def __getattr__(self, name):
            return self.inner[name]

    proxy = Proxy()
    return lambda x: x * proxy.number, lambda v: proxy.inner.update(number=v)


@case
def a_class_attribute_shadowed_in_a_child():
    class Child(Thing):
        pass

    child = Child()

    def change(v):
        if v != 2.0:
            Child.number = v
        elif "number" in vars(Child):
            del Child.number

    return lambda x: x * child.number, change


@case
def a_class_attribute_shadowed_in_the_object():
    thing = Thing()
    return lambda x: x * thing.number, put(vars(thing))


@case
def hasattr_():
    thing = types.SimpleNamespace()
    return lambda x: x * (thing.number if hasattr(thing, "number") else 2.0), put(vars(thing))


@case
def a_default_of_getattr():
    thing = types.SimpleNamespace()
    return lambda x: x * getattr(thing, "number", 2.0), put(vars(thing))


@case
def a_default_of_get():
    space = {}
    return lambda x: x * space.get("number", 2.0), put(space)


@case
def an_attribute_that_is_missed():
    thing = types.SimpleNamespace()

    def step(x):
        try:
            return x * thing.number
        except AttributeError:
            return x * 2.0

    return step, put(vars(thing))


@case
def the_defaults_of_a_helper():
    def helper(x, n=2.0):
        return x * n

    return lambda x: helper(x), lambda v: setattr(helper, "__defaults__", (v,))


@case
def the_keyword_defaults_of_a_helper():
    def helper(x, *, n=2.0):
        return x * n

    return lambda x: helper(x), lambda v: setattr(helper, "__kwdefaults__", {"n": v})


@case
def the_code_of_a_helper():
    def helper(x):
        return x * 2.0

    codes = {2.0: helper.__code__, 3.0: (lambda x: x * 3.0).__code__}
    return lambda x: helper(x), lambda v: setattr(helper, "__code__", codes[v])


@case
def an_attribute_of_a_function():
    def helper(x):
        return x * helper.number

    return lambda x: helper(x), lambda v: setattr(helper, "number", v)


@case
def single_dispatch():
    @functools.singledispatch
    def helper(x):
        return x * 2.0

    return lambda x: helper(x), lambda v: helper.register(mg.Tensor, lambda x: x * v)


@case
def a_variable_of_a_closure():
    number = 2.0

    def change(v):
        nonlocal number
        number = v

    return lambda x: x * number, change


@case
def a_function_made_by_the_step():
    numbers = [2.0]

    def outer():
        return lambda x: x * numbers[0]

    return lambda x: outer()(x), lambda v: numbers.__setitem__(0, v)


@case
def a_generator_function():
    numbers = [2.0]

    def each():
        yield from numbers

    return lambda x: x * sum(each()), lambda v: numbers.__setitem__(0, v)


@case
def a_method_that_super_calls():
    class Parent:
        def number(self):
            return 2.0

    class Child(Parent):
        def number(self):
            return super().number()

    child = Child()
    return lambda x: x * child.number(), lambda v: setattr(Parent, "number", lambda self: v)


@case
def a_bound_method_in_a_list():
    class Scaled(Thing):
        def times(self, x):
            return x * self.number

    scaled = Scaled()
    functions = [scaled.times]
    return lambda x: functions[0](x), lambda v: setattr(scaled, "number", v)


@case
def a_partial_method():
    class Scaled(Thing):
        def times(self, factor, x):
            return x * self.number * factor

        once = functools.partialmethod(times, 1.0)

    scaled = Scaled()
    return lambda x: scaled.once(x), lambda v: setattr(scaled, "number", v)


@case
def an_attribute_of_a_metaclass():
    class Meta(type):
        number = 2.0

    class Made(metaclass=Meta):
        pass

    return lambda x: x * Made.number, lambda v: setattr(Meta, "number", v)


@case
def a_member_of_an_enumeration():
    kinds = enum.Enum("Kinds", {"two": 2.0, "three": 3.0})
    thing = types.SimpleNamespace(kind=kinds.two)
    return lambda x: x * thing.kind.value, lambda v: setattr(thing, "kind", kinds(v))


@case
def a_module_imported_in_the_step():
    module = sys.modules["module_of_a_user"] = types.ModuleType("module_of_a_user")

    def step(x):
        from module_of_a_user import number

        return x * number

    return step, lambda v: setattr(module, "number", v)


@case
def a_chain_of_dicts():
    behind = {"number": 2.0}
    chain = collections.ChainMap({}, behind)
    return lambda x: x * chain["number"], lambda v: behind.update(number=v)


@case
def a_view_of_a_dict():
    behind = {"number": 2.0}
    view = types.MappingProxyType(behind)
    return lambda x: x * view["number"], lambda v: behind.update(number=v)


@case
def a_default_dict():
    space = collections.defaultdict(lambda: 2.0)
    return lambda x: x * space["number"], put(space)


@case
def an_object_in_a_set():
    thing = Thing()
    things = {thing}
    return lambda x: x * next(iter(things)).number, lambda v: setattr(thing, "number", v)


@case
def an_object_that_is_a_key():
    thing = Thing()
    things = {thing: None}
    return lambda x: x * [one.number for one in things][0], lambda v: setattr(thing, "number", v)


@case
def an_array_in_the_place_of_another():
    thing = types.SimpleNamespace(w=np.full(2, 2.0, np.float32))
    return lambda x: x * thing.w, lambda v: setattr(thing, "w", np.full(2, v, np.float32))


@case
def an_array_in_a_list():
    arrays = [np.zeros(2), np.full(2, 2.0)]
    return lambda x: x * float(arrays[1][0]), lambda v: arrays[1].fill(v)


@case
def a_tensor_in_the_place_of_another():
    space = {"w": mg.tensor([2.0, 2.0])}
    return lambda x: x * space["w"], lambda v: space.update(w=mg.tensor([v, v]))


@case
def the_data_of_a_tensor():
    t = mg.tensor([2.0, 2.0])
    return lambda x: x * t, lambda v: setattr(t, "data", np.full(2, v, np.float32))


@pytest.mark.filterwarnings("ignore:.*changes what it reads itself")  # a default dict
@pytest.mark.parametrize("name", CASES)
def test_a_change_is_seen(name):
    step, change = CASES[name]()
    compiled = mg.jit(step, audit=False, interpret=True)
    for value in (2.0, 2.0, 3.0, 2.0, 3.0):
        change(value)
        np.testing.assert_allclose(compiled(X).data, step(mg.tensor(X)).data, 1e-6)
    assert sum(map(len, compiled.variants.values())) <= 2
    change(2.0)
