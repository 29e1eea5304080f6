"""Which code runs while a step is recorded, and what it can read: notes for guards.

Python's profiler tells of every call. For every function of the user's that runs, whatever stands in its
closure, globals and variables is followed along the names in its code, before it runs.
"""

import gc
import sys
import types
from collections.abc import Callable
from weakref import ref

import numpy as np

from microgradx.codegen.ir.program import Line
from microgradx.compiler.capture.guards import Items, fits, items_of
from microgradx.compiler.capture.impure import impure_builtin, impure_function, state_of
from microgradx.compiler.capture.plain_values import CONTAINERS
from microgradx.compiler.capture.reading import LEFT, NOTHING, Reading
from microgradx.compiler.capture.user_code import code_of, line_of, written_by_user
from microgradx.eager.apply import apply
from microgradx.eager.mode import PACKAGE
from microgradx.kernels.free_variables import MISSING
from microgradx.nn import Module

OTHERS, USERS, CALLS, SETS = 0, 1, 2, 3  # whose code it is; of a Module, CALLS: __call__, SETS: __setattr__
MODULES = {Module.__call__.__code__: CALLS, Module.__setattr__.__code__: SETS}


class Dependencies(Reading):
    """What ran, and what it could read."""

    def __init__(self, function: Callable[..., object], names: dict[int, str]):
        super().__init__(code_of(function) or code_of(type(function).__call__), names)
        self.modules: dict[int, tuple[Module, Items]] = {}  # that ran, and what they held when first seen
        self.untouched: dict[int, tuple[ref[Module], Items]] = {}  # before the step set attributes of theirs
        self.lost: dict[types.CodeType, dict[str, object]] = {}  # ran, and nobody knows where from
        self.problem: tuple[str, str, Line] | None = None  # a call that no guard can watch
        self.kinds: dict[types.CodeType, int] = dict(MODULES)
        if self.root is not None and self.root not in MODULES:
            self.kinds[self.root] = USERS
        self.before = state_of(np.random.mtrand._rand)
        self.follow(function, self.root or NOTHING, "the step")
        self.module(getattr(function, "__self__", None))

    # What Python tells

    def event(self, frame: types.FrameType, event: str, arg: object) -> None:
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
                self.untouched.setdefault(id(m), (ref(m), items_of(vars(m))))
            elif self.problem is None and (caller := frame.f_back) and self.kinds.get(caller.f_code) == USERS:
                self.blame(caller, impure_function(frame))
        elif kind == USERS and event == "return":
            self.variables(frame)
        elif kind == USERS and event == "c_call" and self.problem is None:
            self.blame(frame, impure_builtin(arg))

    def blame(self, frame: types.FrameType, what: tuple[str, str] | None) -> None:
        """Remember the first call whose result no guard can watch."""
        if what is not None:
            self.problem = (*what, line_of(frame))

    def enter(self, frame: types.FrameType) -> None:
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

    def variables(self, frame: types.FrameType) -> None:
        """Follow what stands in a function's variables; not the arrays that an operation is run on."""
        for name, value in frame.f_locals.items():
            if not isinstance(value, LEFT) and not (isinstance(value, np.ndarray) and self.operates(frame)):
                self.follow(value, frame.f_code, name)

    def operates(self, frame: types.FrameType) -> bool:
        """Whether a function runs for an operation of the user's, called by `apply`."""
        at: types.FrameType | None = frame
        while at is not None and at.f_code not in (self.root, apply.__code__):
            at = at.f_back
        return at is not None and at.f_code is not self.root

    def module(self, module: object) -> None:
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
