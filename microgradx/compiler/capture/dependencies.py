"""Which code runs while a step is recorded, and what it can read: notes for guards.

Python's profiler tells of every call. For every function of the user's that runs, whatever stands in its
closure, globals and variables is followed along the names in its code, before it runs.
"""

import contextvars
import gc
import random
import sys
import types
import weakref
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from microgradx.codegen.ir.program import Line
from microgradx.compiler.capture.guards import Record, behind, clocks_of, context, fits, items_of, watch_array
from microgradx.compiler.capture.impure import impure_builtin, impure_function, state_of
from microgradx.compiler.capture.namespace import parameter_names
from microgradx.compiler.capture.plain_values import CONTAINERS, DICTS, PLAIN, settled, space_of
from microgradx.compiler.capture.user_code import (
    code_of,
    installed,
    installed_module,
    line_of,
    names_of,
    written_by_user,
)
from microgradx.eager.apply import apply
from microgradx.eager.mode import PACKAGE
from microgradx.eager.tensor import Tensor
from microgradx.kernels.free_variables import MISSING, look_into, nested
from microgradx.nn import Module
from microgradx.optim import Optimizer, Schedule
from microgradx.primitives import Primitive
from microgradx.scalars import Elementwise

OTHERS, USERS, CALLS, SETS = 0, 1, 2, 3  # whose code it is; of a Module, CALLS: __call__, SETS: __setattr__
MODULES = {Module.__call__.__code__: CALLS, Module.__setattr__.__code__: SETS}
LEFT = (*PLAIN, Tensor, types.BuiltinFunctionType, types.CodeType)
"""What a recording follows on its own, or what does not change by itself."""
NOTHING = compile("", "<nothing>", "exec")
"""Code without a name in it."""

EVERY = {"vars", "__dict__", "getattr", "asdict", "astuple", "attrgetter", "replace", "eval", "exec"}
"""Names that stand for any attribute."""


class Dependencies:
    """What ran, and what it could read."""

    def __init__(self, function: Any, names: dict[int, str]):
        self.names = names  # of Tensors by id: the parameters' full names
        self.records: dict[int, Record] = {}
        self.done: set[tuple[int, types.CodeType]] = set()
        self.functions: dict[types.CodeType, list[types.FunctionType]] = {}
        self.ran: dict[types.CodeType, frozenset[str]] = {}
        self.modules: dict[int, tuple[Module, Any]] = {}  # that ran, and what they held when first seen
        self.untouched: dict[int, tuple[Any, Any]] = {}  # and before the step set an attribute of theirs
        self.sources: list[tuple[Any, str, Any]] = []  # random generators: which, path, state before
        self.lost: dict[types.CodeType, dict[str, Any]] = {}  # ran, and nobody knows where from
        self.problem: tuple[str, str, Line] | None = None  # a call that no guard can watch
        self.root = code_of(function) or code_of(type(function).__call__)
        self.kinds: dict[types.CodeType, int] = dict(MODULES)
        if self.root is not None and self.root not in MODULES:
            self.kinds[self.root] = USERS
        self.before = state_of(np.random.mtrand._rand)
        self.follow(function, self.root or NOTHING, "the step")
        self.module(getattr(function, "__self__", None))

    # What Python tells

    def event(self, frame: Any, event: str, arg: Any) -> None:
        """A call or a return."""
        code = frame.f_code
        kind = self.kinds.get(code)
        if kind is None:
            forward = code.co_name == "forward" and code.co_filename.startswith(PACKAGE)
            kind = USERS if written_by_user(frame) else CALLS if forward else OTHERS
            self.kinds[code] = kind
        if event == "call":
            if kind == USERS:
                self.enter(frame)
            elif kind == CALLS:
                self.module(frame.f_locals.get("self"))
            elif kind == SETS:
                m = frame.f_locals["self"]
                self.untouched.setdefault(id(m), (weakref.ref(m), items_of(vars(m))))
            elif self.problem is None and self.kinds.get(frame.f_back.f_code) == USERS:
                self.blame(frame.f_back, impure_function(frame))
        elif kind == USERS and event == "return":
            self.variables(frame)
        elif kind == USERS and event == "c_call" and self.problem is None:
            self.blame(frame, impure_builtin(arg))

    def blame(self, frame: Any, what: tuple[str, str] | None) -> None:
        """Remember the first call whose result no guard can watch."""
        if what is not None:
            self.problem = (*what, line_of(frame))

    def enter(self, frame: Any) -> None:
        """A function of the user's begins."""
        code = frame.f_code
        if code not in self.ran:
            self.begin(code, frame.f_globals)
            found = self.functions.get(code, ())
            own = {name: frame.f_locals.get(name, MISSING) for name in code.co_freevars}
            if own and not any(fits(f, own) for f in found):
                self.lost[code] = own
        self.variables(frame)
        first = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        if not isinstance(first, LEFT):  # a method: found in a class
            self.classes(first, frozenset([code.co_name]), code.co_varnames[0], code)

    def begin(self, code: types.CodeType, space: dict[str, Any]) -> None:
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

    def variables(self, frame: Any) -> None:
        """Follow what stands in a function's variables; not the arrays that an operation is run on."""
        for name, value in frame.f_locals.items():
            if not isinstance(value, LEFT) and not (isinstance(value, np.ndarray) and self.operates(frame)):
                self.follow(value, frame.f_code, name)

    def operates(self, frame: Any) -> bool:
        """Whether a function runs for an operation of the user's, called by `apply`."""
        while frame is not None and frame.f_code not in (self.root, apply.__code__):
            frame = frame.f_back
        return frame is not None and frame.f_code is not self.root

    def module(self, module: Any) -> None:
        """A Module is called, or stands where it can be."""
        if not isinstance(module, Module) or id(module) in self.modules:
            return
        self.modules[id(module)] = module, items_of(vars(module))
        self.call(module)
        owner = next(c for c in type(module).__mro__ if "forward" in vars(c))
        self.record(owner, owner.__name__).slot(
            "forward", owner.__dict__.get, owner.__dict__["forward"], f"{owner.__name__}.forward"
        )
        code = code_of(owner.__dict__["forward"])
        for key, value in vars(module).items():
            if isinstance(value, CONTAINERS) and code is not None:
                self.follow(value, code, f"{type(module).__name__}.{key}")

    def call(self, module: Module) -> None:
        """Let the parameters of a Module have its names."""
        for tensor, name in parameter_names([module]).items():
            self.names.setdefault(tensor, name)

    # Following values

    def record(self, x: Any, path: str) -> Record:
        """The record of an object."""
        if id(x) not in self.records:
            self.records[id(x)] = Record(x, path)
        return self.records[id(x)]

    def follow(self, x: Any, code: types.CodeType, path: str) -> None:
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

    def thing(self, x: Any, code: types.CodeType, path: str) -> None:
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

    def container(self, x: Any, code: types.CodeType, path: str) -> None:
        """What is in a list, a tuple, a dict or a set."""
        if isinstance(x, tuple | frozenset) and settled(x):
            return
        record = self.record(x, path)
        if record.items is None:
            record.items = items_of(x)
        pairs: Any = x.items() if isinstance(x, DICTS) else enumerate(x)
        for key, value in list(pairs):
            if not isinstance(value, LEFT):
                self.follow(value, code, f"{path}[{key!r}]")

    def attributes(self, x: Any, code: types.CodeType, path: str) -> None:
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

    def classes(self, x: Any, names: frozenset[str], path: str, code: types.CodeType) -> None:
        """What an object finds in its classes, or a class in itself and those above it."""
        own = isinstance(x, type)
        space = {} if own else space_of(x)
        line = (*(x.__mro__ if own else ()), *type(x).__mro__)
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

    def operation(self, x: Any, path: str) -> None:
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
            record.slots.setdefault(("cell", name), [partial(look_into, cell), name, value, name])
            if value is not MISSING:
                self.follow(value, code, name)
        for value in (f.__defaults__, f.__kwdefaults__):
            if value is not None:
                self.follow(value, code, f"a default of {f.__name__}")
        record.slot("__code__", partial(getattr, f), code, f"the code of {f.__name__}")
        for name in ("__defaults__", "__kwdefaults__"):
            record.slot(name, partial(getattr, f), getattr(f, name), f"the defaults of {f.__name__}")

    # The end

    def find(self) -> None:
        """Look for functions that ran and stand where nobody looked."""
        lost = {code: own for code, own in self.lost.items() if not self.inner(code)}
        if lost:
            for f in gc.get_referrers(*lost):
                if isinstance(f, types.FunctionType) and f.__code__ in lost and fits(f, lost[f.__code__]):
                    self.function(f)
        self.lost.clear()

    def settle(self) -> None:
        """Let go of what the step itself has made: nobody else holds it."""
        self.functions.clear()
        found = True
        while found:
            found = False
            for key in list(self.records):
                record = self.records[key]
                if sys.getrefcount(record.it) <= 2 + (id(record.it) in self.modules):
                    del self.records[key]
                    self.modules.pop(key, None)
                    found = True
        self.sources = [one for one in self.sources if id(one[0]) in self.records]
