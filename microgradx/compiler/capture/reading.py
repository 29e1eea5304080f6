"""What the user's code can read: values are followed along the names in it, and noted for guards."""

import contextvars
import random
import sys
import types
import weakref
from collections.abc import Collection, Mapping
from functools import partial

import numpy as np

from microgradx.compiler.capture.guards import Record, behind, clocks_of, context, items_of, watch_array
from microgradx.compiler.capture.impure import Generator, state_of
from microgradx.compiler.capture.namespace import parameter_names
from microgradx.compiler.capture.plain_values import CONTAINERS, DICTS, PLAIN, settled, space_of
from microgradx.compiler.capture.user_code import installed, installed_module, names_of
from microgradx.eager.tensor import Tensor
from microgradx.kernels.free_variables import MISSING, look_into, nested
from microgradx.nn import Module
from microgradx.optim import Optimizer, Schedule
from microgradx.primitives import Primitive
from microgradx.scalars import Elementwise

LEFT = (*PLAIN, Tensor, types.BuiltinFunctionType, types.CodeType)
"""What a recording follows on its own, or what does not change by itself."""
NOTHING = compile("", "<nothing>", "exec")
"""Code without a name in it."""

EVERY = {"vars", "__dict__", "getattr", "asdict", "astuple", "attrgetter", "replace", "eval", "exec"}
"""Names that stand for any attribute."""


class Reading:
    """What some code could read, so far."""

    def __init__(self, root: types.CodeType | None, names: dict[int, str]):
        self.root, self.names = root, names  # of the step; of Tensors by id: the parameters' full names
        self.records: dict[int, Record] = {}
        self.done: set[tuple[int, types.CodeType]] = set()
        self.functions: dict[types.CodeType, list[types.FunctionType]] = {}
        self.ran: dict[types.CodeType, frozenset[str]] = {}
        self.sources: list[tuple[Generator, str, object]] = []  # random generators: which, path, state before

    def record(self, x: object, path: str) -> Record:
        """The record of an object."""
        if id(x) not in self.records:
            self.records[id(x)] = Record(x, path)
        return self.records[id(x)]

    def follow(self, x: object, code: types.CodeType, path: str) -> None:
        """Code can read a value: note what it can find in it."""
        if isinstance(x, LEFT) or (id(x), code) in self.done:
            return
        self.done.add((id(x), code))
        match x:
            case np.ndarray():
                record = self.record(x, path)
                if record.look is None:
                    record.look = watch_array(x)
            case types.ModuleType():
                if not installed_module(x):
                    self.attributes(x, code, path)
            case types.FunctionType():
                self.function(x)
                self.attributes(x, code, path)
                self.follow(vars(x).get("registry"), code, path)  # of functools.singledispatch
            case weakref.ref():
                get = partial(behind, x)
                self.record(x, path).slot("get", get, x(), path)
                self.follow(x(), code, f"{path}()")
            case contextvars.ContextVar():
                get = partial(context, x)
                self.record(x, path).slot("get", get, get("", MISSING), path)
            case types.MethodType():
                self.follow(x.__func__, code, path)
                self.follow(x.__self__, code, path.rpartition(".")[0] or path)
            case property() | staticmethod() | classmethod():
                self.follow(getattr(x, "fget", None) or getattr(x, "__func__", None), code, path)
            case partial():
                for part in (x.func, x.args, x.keywords):
                    self.follow(part, code, path)
            case type():
                if not installed(x):
                    self.classes(x, self.wanted(code), path, code)
            case bytearray():
                self.record(x, path).look = partial(bytes, x), bytes(x)
            case np.random.Generator() | np.random.RandomState() | random.Random():
                self.record(x, path)
                self.sources.append((x, path, state_of(x)))
            case Primitive() | Elementwise():
                self.operation(x, path)
            case _:
                self.thing(x, code, path)

    def wanted(self, code: types.CodeType) -> frozenset[str]:
        """The names in some code."""
        if code not in self.ran:
            return names_of(code)
        return self.ran[code]

    def thing(self, x: object, code: types.CodeType, path: str) -> None:
        """An object or container."""
        if (within := space_of(x).get("__wrapped__")) is not None:
            self.follow(within, code, path)
        if isinstance(x, CONTAINERS):
            self.container(x, code, path)
            if type(x) in CONTAINERS:
                return
        if isinstance(x, Module):
            self.call(x)
        self.attributes(x, code, path)
        if isinstance(x, Schedule) and self.wanted(code) & {"get_last_lr", "state_dict"}:
            self.follow(x.optimizer.param_groups, code, f"{path}.optimizer.param_groups")
        if isinstance(x, Optimizer) and self.wanted(code) & {"state", "state_dict"}:
            record = self.record(x, path)
            clocks = partial(clocks_of, x)
            record.look = record.look or (clocks, clocks())

    def container(self, x: Collection[object], code: types.CodeType, path: str) -> None:
        """What is in a list, a tuple, a dict or a set."""
        if isinstance(x, tuple | frozenset) and settled(x):
            return
        record = self.record(x, path)
        if record.items is None:
            record.items = items_of(x)
        for key, value in list(x.items() if isinstance(x, DICTS) else enumerate(x)):
            if not isinstance(value, LEFT):
                self.follow(value, code, f"{path}[{key!r}]")

    def attributes(self, x: object, code: types.CodeType, path: str) -> None:
        """The attributes of an object whose names stand in the code."""
        space, names = space_of(x), self.wanted(code)
        record = self.record(x, path)
        if not installed(type(x)) or isinstance(x, Module):
            record.kind = type(x)
        own = isinstance(x, types.SimpleNamespace) or (path.count(".") < 2 and not installed(type(x)))
        everything = (own and names & EVERY) or isinstance(x, Mapping)
        for name in list(space) if everything else names & space.keys():
            record.slot(name, space.get, space[name], f"{path}.{name}")
            self.follow(space[name], code, f"{path}.{name}")
        missing = isinstance(x, types.SimpleNamespace) or not (installed(type(x)) or isinstance(x, Module))
        for name in names - space.keys():
            record.wanted[name] = f"{path}.{name}"
            if missing and hasattr(x, "__dict__") and not name.startswith("__"):  # perhaps it is looked for
                record.slot(name, space.get, MISSING, f"{path}.{name}")
        self.classes(x, names - space.keys(), path, code)

    def classes(self, x: object, names: frozenset[str], path: str, code: types.CodeType) -> None:
        """What an object finds in its classes, or a class in itself and those above it."""
        own = isinstance(x, type)
        space = {} if own else space_of(x)
        line = (*(x.__mro__ if isinstance(x, type) else ()), *type(x).__mro__)
        spaces = [(c, c.__dict__) for c in line if c is not object and c is not type]
        for name in names:
            if name.startswith("__") and name.endswith("__") and name != "__call__":
                continue
            at = next((k for k, (_, d) in enumerate(spaces) if name in d), None)
            if at is None:
                continue
            holder, found = spaces[at][0], spaces[at][1][name]
            if isinstance(found, types.MemberDescriptorType):  # of __slots__
                value = getattr(x, name, MISSING) if not own else found
                self.record(x, path).slot(name, partial(getattr, x), value, f"{path}.{name}")
                self.follow(value, code, f"{path}.{name}")
                continue
            if not own and hasattr(x, "__dict__"):
                self.record(x, path).slot(name, space.get, space.get(name, MISSING), f"{path}.{name}")
            for k, (c, d) in enumerate(spaces):  # those further up may be called by super()
                if not installed(c) and (k <= at or name in d):
                    self.record(c, c.__name__).slot(name, d.get, d.get(name, MISSING), f"{c.__name__}.{name}")
            if not installed(holder):
                self.follow(found, code, f"{holder.__name__}.{name}")

    def operation(self, x: object, path: str) -> None:
        """An operation of the user's: its definition and its rule."""
        if x.__module__.startswith("microgradx."):
            return
        record, space = self.record(x, path), vars(x)
        for name in {"forward", "rule", "function", "slopes"} & space.keys():
            record.slot(name, space.get, space[name], f"{path}.{name}")
            self.follow(space[name], NOTHING, f"{path}.{name}")

    def function(self, f: types.FunctionType) -> None:
        """A function stands where it can be called."""
        known = self.functions.setdefault(f.__code__, [])
        if any(f is one for one in known):
            return
        known.append(f)
        if f.__code__ is self.root and f.__code__ not in self.ran:
            self.begin(f.__code__, f.__globals__)
        elif f.__code__ in self.ran and not self.inner(f.__code__):
            self.closure(f)

    def inner(self, code: types.CodeType) -> bool:
        """Whether a function is made anew by another that runs."""
        return code in {x for outer in self.ran if outer is not code for x in nested(outer)}

    def closure(self, f: types.FunctionType) -> None:
        """The closure and the defaults of a function that runs."""
        record, code = self.record(f, f.__name__), f.__code__
        for name, cell in zip(code.co_freevars, f.__closure__ or (), strict=True):
            value = look_into(cell, name, MISSING)
            record.slots.setdefault(("cell", name), (partial(look_into, cell), name, value, name))
            if value is not MISSING:
                self.follow(value, code, name)
        for value in (f.__defaults__, f.__kwdefaults__):
            if value is not None:
                self.follow(value, code, f"a default of {f.__name__}")
        record.slot("__code__", partial(getattr, f), code, f"the code of {f.__name__}")
        for name in ("__defaults__", "__kwdefaults__"):
            record.slot(name, partial(getattr, f), getattr(f, name), f"the defaults of {f.__name__}")

    def begin(self, code: types.CodeType, space: dict[str, object]) -> None:
        """Follow what a function finds in its module and in its closures."""
        names = self.ran[code] = names_of(code)
        record = self.record(space, "the globals")
        for name in names & space.keys():
            if not name.startswith("__"):
                record.slot(name, space.get, space[name], name)
                self.follow(space[name], code, name)
        for name in names - space.keys():
            record.wanted[name] = name
        for name in names & sys.modules.keys():  # imported where it is needed
            self.follow(sys.modules[name], code, name)
        for function in self.functions.get(code, ()) if not self.inner(code) else ():
            self.closure(function)

    def call(self, module: Module) -> None:
        """Let the parameters of a Module have its names."""
        for tensor, name in parameter_names([module]).items():
            self.names.setdefault(tensor, name)
