"""Writes a Program down while eager operations run.

While a Recorder is `mode.recorder`, Tensors report to it what is done to them. An array of the eager run
stands for the value that it holds: `id(array)` is looked up, and the arrays are kept alive.
"""

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import ref

import numpy as np

from microgradx.codegen.ir.binding import Binding, Constant, Data, Grad, New, Number, State
from microgradx.codegen.ir.program import Draw, Instruction, Line, Program, Update, Value
from microgradx.compiler.capture.aliasing import refuse_gradient, renew, settle
from microgradx.compiler.capture.events import Event, NumberEvent, ScheduleEvent, SweepEvent
from microgradx.compiler.capture.names import RESERVED, line_of, local_name, user_frame
from microgradx.compiler.capture.refusals import (
    refuse,
    refuse_optimizer,
    refuse_what_is_lost,
    show_state,
    type_of,
)
from microgradx.compiler.capture.results import each
from microgradx.cuda import Array
from microgradx.eager.mode import mode
from microgradx.eager.tensor import Tensor, wrap
from microgradx.kernels.random import drawn
from microgradx.primitives.core import ElementwisePrimitive
from microgradx.scalars import functions


class Recorder:
    """Writes a Program while the eager operations run; `mode.recorder` while it does."""

    def __init__(self, name: str, names: dict[int, str]):
        self.program = Program(name)
        self.device = "cpu"  # "cuda" from when it meets something there
        self.names = names  # of Tensors by id: the parameters' full names
        self.taken: set[str] = set()
        self.values: dict[int, Value] = {}
        self.pure: dict[int, Any] = {}  # arrays that are the same in every step: the number in them, or None
        self.kept: list[Any] = []  # arrays and Tensors must live while their ids mean something
        self.homes: dict[int, Value] = {}  # the bound Value of a Tensor, by the Tensor's id
        self.origin: dict[int, Value] = {}  # and of an array, whatever it holds now
        self.nodes: dict[Any, Any] = {}  # of the tape
        self.before: dict[Tensor, bool | None] = {}  # had a leaf a gradient? None where nobody looked
        self.events: list[Event] = []  # what happens outside of the program, in order, in every step
        self.start, self.block, self.seeds = drawn.blocks, drawn.blocks, drawn.seeds
        self.seen: list[tuple[Any, Any]] = []  # arrays of optimizers' states, and what was in them
        self.forward: Line | None = None  # of the operation whose gradient is under way
        self.backward = False  # whether any is
        self.undo: list[Callable[[], None]] = []  # what takes back the eager run
        self.owners: dict[int, Any] = {}  # the optimizer of a flat buffer
        self.flats: dict[int, Any] = {}  # flat buffers by their ids
        self.options: list[tuple[Any, dict[str, Any]]] = []  # their groups, at every sweep
        self.given: list[Tensor] = []  # the arguments
        self.ties: dict[int, tuple[Any, Any]] = {}  # Tensors that share their array with another one
        self.stand_ins: dict[int, np.ndarray] = {}  # for arrays on a GPU, by their ids
        self.made: dict[int, Tensor] = {}  # Tensors that the step makes of arrays, by their ids
        self.changed: list[Any] = []  # arrays that change in place
        self.replaced: list[Tensor] = []  # Tensors that hold another array after the step
        self.invented: set[Value] = set()  # Values that the user has no name for yet

    # Values

    def fresh(self, base: str, array: np.ndarray, known: bool = False) -> Value:
        """A new Value for an array, with a name that is free."""
        value = Value(self.free(base), array.shape, type_of(array, base if known else f"a result of {base}"))
        if not known:
            self.invented.add(value)
        self.values[id(array)] = value
        self.kept.append(array)
        return value

    def free(self, base: str) -> str:
        """A name that no other Value has."""
        base = "".join(c if c.isalnum() else "_" for c in base).strip("_") or "value"
        base = f"_{base}" if base[0].isdigit() else base
        n = 1
        name = f"{base}_1" if base in RESERVED or base in functions else base
        while name in self.taken:
            n += 1
            name = f"{base}_{n}"
        self.taken.add(name)
        return name

    def bind(self, base: str, binding: Binding) -> Value:
        """A Value that is read from, or left in, memory outside."""
        array = binding.then
        value = self.fresh(base, array, known=True)
        self.program.bound[value] = binding
        self.origin[id(array)] = value
        if isinstance(binding, Data):
            self.undo.append(partial(setattr, binding.owner, "_data", array))
        self.kept.append(binding.owner)
        return value

    def value(self, x: Any) -> Any:
        """The Value of a Tensor or array; numbers are themselves."""
        if not isinstance(x, Tensor | np.ndarray | Array):
            return x
        array: Any = x._data if isinstance(x, Tensor) else x
        if id(array) in self.values:
            held: Any = self.program.bound.get(self.origin.get(id(array)))  # type: ignore[arg-type]
            if isinstance(x, Tensor) and isinstance(held, Data) and held.owner is not x:
                self.ties[id(x)] = ref(x), held.owner
            return self.values[id(array)]
        if isinstance(x, Tensor) and id(array) not in self.pure and id(x) not in self.made:
            name = self.names.get(id(x)) or x.name or local_name(x) or "tensor"
            self.homes[id(x)] = self.bind(name, Data(x, array))
            return self.homes[id(x)]
        counts = array.ndim == 1 and array.dtype.kind == "i" and (array == np.arange(len(array))).all()
        return self.bind(local_name(x) or ("positions" if counts else "constant"), Constant(None, array))

    def argument(self, name: str, array: np.ndarray) -> Tensor:
        """An argument of the step, as the Tensor that the function is called with."""
        if isinstance(array, Array):
            self.device = "cuda"
            array = np.zeros(array.shape, array.dtype)  # what counts is the shape
        else:
            array = array.copy()  # the same array may be another argument, or a parameter's
        self.program.arguments.append(self.fresh(name, array, known=True))
        self.given.append(Tensor(array))
        return self.given[-1]

    # What Tensors report

    def stand_in(self, array: Array) -> np.ndarray:
        """An array on the host to compute with, in the place of one on a GPU: shapes and views count."""
        self.device = "cuda"
        self.kept.append(array)
        return self.stand_ins.setdefault(id(array), np.zeros(array.shape, array.dtype))

    def traced(self, tensor: Tensor) -> bool:
        """Whether a Tensor can differ from step to step."""
        return id(tensor._data) not in self.pure

    def makes(self, tensor: Tensor) -> bool:
        """Whether a Tensor is a result or an argument of this one step, not memory that stays."""
        key = id(tensor._data)
        return key in self.values and key not in self.origin and id(tensor) not in self.homes

    def look(self, tensor: Tensor, what: str) -> None:
        """Somebody wants to see the numbers in a Tensor."""
        if self.traced(tensor):
            advice = "Return the tensor and look at it outside of the step, or use where(condition, a, b)."
            refuse(f"it looks at a tensor's value ({what})", advice)

    def remember(self, array: np.ndarray) -> None:
        """An array that is the same in every step, with its number if it is the same everywhere."""
        same = isinstance(array, np.ndarray) and array.size and (array == array.flat[0]).all()
        self.pure[id(array)] = array.flat[0].item() if same else None
        self.kept.append(array)

    def record(self, op: Any, args: tuple, params: dict[str, Any], out: Tensor) -> None:
        """An operation has run."""
        arrays = [a._data if isinstance(a, Tensor) else a for a in args]
        if all(not isinstance(a, np.ndarray | Array) or id(a) in self.pure for a in arrays):
            if id(out._data) not in self.values:
                self.remember(out._data)
            return
        self.read_names(user_frame().f_locals)
        numbers = isinstance(op, ElementwisePrimitive)
        inputs = []
        for a, array in zip(args, arrays, strict=True):
            number = self.pure.get(id(array)) if numbers and isinstance(array, np.ndarray) else None
            inputs.append(self.value(a if isinstance(a, Tensor) else array) if number is None else number)
        value = self.fresh(op.name, out._data)
        self.add(Instruction(op, tuple(inputs), params, (value,)))
        if out._node is not None:
            self.nodes[out._node] = self.program.instructions[-1]

    def add(self, instruction: Instruction) -> None:
        """Write an instruction down, with the user's line that it belongs to."""
        instruction.line, instruction.back = self.forward or line_of(user_frame()), self.backward
        self.program.instructions.append(instruction)

    def read_names(self, variables: dict[str, Any]) -> None:
        """Give Values the names of the user's own variables."""
        for name, x in variables.items():
            value = self.values.get(id(x._data)) if isinstance(x, Tensor) else None
            if value in self.invented and not name.startswith("_"):
                self.taken.discard(value.name)
                value.name = self.free(name)
                self.invented.discard(value)

    def back(self, node: Any, g: Any) -> None:
        """The gradient of what a node made is complete: its rule runs next. None: the walk has ended."""
        made: Any = self.nodes.get(node)
        self.forward, self.backward = made.line if made else None, node is not None
        value = self.values.get(id(g._data)) if made and isinstance(g, Tensor) else None
        if value in self.invented:
            self.taken.discard(value.name)
            value.name = self.free(f"g_{made.out.name}")
            self.invented.discard(value)

    def drawn(self, tensor: Tensor, method: str, options: dict[str, Any]) -> None:
        """Fresh random numbers are in a Tensor."""
        draw = Draw(method, self.block - self.start)
        self.block = drawn.blocks
        out = self.fresh(method, tensor._data)
        self.add(Instruction(draw, (), options, (out,)))

    def alias(self, array: np.ndarray, tensor: Tensor) -> None:
        """An array holds the value of a Tensor now."""
        value = self.value(tensor)
        if isinstance(value, Value):
            self.undo.append(partial(setattr, tensor, "_data", tensor._data))
            self.hold(array, value)
            if value in self.program.bound and self.program.bound[value].owner is tensor:
                self.origin.setdefault(id(array), value)  # of a parameter that an optimizer takes over

    def replace(self, tensor: Tensor, new: Tensor) -> None:
        """A Tensor is to hold another array from now on; who shares the one that it had keeps that."""
        value, array = self.value(new), tensor._data
        if any(tensor is one for one in self.given):
            refuse("it changes the data of an argument", "Return the new values, or keep them in a tensor.")
        self.undo.append(partial(setattr, tensor, "_data", array))
        if any(tensor is leaf._grad for leaf in self.before) or id(tensor) in self.made:
            return  # the gradient that is left in the end is what counts; others nobody has outside
        home = self.homes.get(id(tensor)) or self.origin.get(id(array))
        if id(array) in self.origin and self.program.bound[home].owner is not tensor:  # type: ignore[index]
            what = f"it gives new data to a tensor that shares the memory of {self.origin[id(array)].name}"
            refuse(what, "Give it a clone() first.")
        if self.leave(tensor, value):
            self.replaced.append(tensor)
            if new.shape != array.shape:
                refuse(f"it gives data of shape {new.shape} to one of {array.shape}", "Return them instead.")

    def overwrite(self, tensor: Tensor, new: Tensor) -> None:
        """A Tensor's own array is to hold another value from now on."""
        value = self.value(new)
        self.leave(tensor, value)
        self.hold(tensor._data, value)
        self.changed.append(tensor._data)

    def leave(self, tensor: Tensor, value: Value) -> bool:
        """A value is what a Tensor holds after the step; False for one that the step itself has made."""
        home = self.homes.get(id(tensor)) or self.origin.get(id(tensor._data))
        first: Any = self.program.bound.get(home)  # type: ignore[arg-type]
        other = isinstance(first, Data) and first.owner is not tensor
        if other and first.owner._data is not tensor._data:  # the step has given it other data
            refuse("it changes memory that another tensor had", "Give each a clone() of its own.")
        if isinstance(first, Constant) or id(tensor) in self.made:
            what = f"it makes a tensor of an array, and changes {home.name if home else 'it'} in place"
            refuse(what, "Compute a new one instead, or make it outside.")
        if home is None and id(tensor._data) not in self.values:  # never read so far
            name = self.names.get(id(tensor)) or tensor.name or "tensor"
            home = self.bind(name, Data(tensor, tensor._data))
        if home is None:
            return False
        self.homes[id(tensor)], self.program.writes[home] = home, value
        self.kept.append(tensor)
        return True

    def hold(self, array: Any, value: Value) -> None:
        """An array holds a value from now on, and views of it what they show of that."""
        old, home = self.values.get(id(array)), self.origin.get(id(array))
        if old in self.program.arguments:
            refuse("it changes an argument in place", "Keep a clone() of it.")
        if home is not None and getattr(self.program.bound[home].owner, "_data", None) is array:
            self.program.writes[home] = value  # of a tensor that shares it, perhaps
        self.values[id(array)] = value
        self.kept.append(array)
        if old not in (None, value):
            renew(self, self.stand_ins.get(id(array), array), old, value)

    def shared(self, tensor: Tensor) -> None:
        """Another Tensor is about to hold the same array: whose it is must be known first."""
        if self.traced(tensor):
            self.value(tensor)

    def keep(self, array: np.ndarray) -> None:
        """An array is about to change in place."""
        if isinstance(array, np.ndarray):
            self.undo.append(partial(np.copyto, array, array.copy()))

    def gradient(self, leaf: Tensor, reset: bool = False) -> None:
        """Somebody reads a leaf's gradient, or (reset) is about to replace it unread."""
        if leaf in self.before:
            return
        self.kept.append(leaf)
        self.undo.append(partial(setattr, leaf, "_grad", leaf._grad))
        self.before[leaf] = None if reset else leaf._grad is not None
        if not reset and leaf._grad is not None:
            refuse_gradient(self, leaf)
            name = self.names.get(id(leaf)) or leaf.name or "leaf"
            self.bind(f"g_{name}", Grad(leaf, leaf._grad._data))

    def gather(self, flat: Any) -> None:
        """Values and gradients are about to come home to a flat buffer."""
        self.flats[id(flat)] = flat
        for part in flat.parts:
            self.gradient(part.parameter)
            if part.parameter._data is not part.value:
                self.changed.append(part.value)
            if home := self.homes.get(id(part.parameter)):  # whose data the step may have replaced
                self.origin.setdefault(id(part.value), home)

    def step(self, optimizer: Any, flat: Any, run: list) -> None:
        """An optimizer is about to update some neighbours in a flat buffer."""
        refuse_optimizer(optimizer)
        self.owners[id(flat)] = optimizer

    def state(self, owner: Any, load: bool = False) -> None:
        """Somebody reads what an optimizer keeps, or is about to load the state of whatever has one."""
        self.seen += show_state(self, owner, load)

    def number(self, look: Callable[[], float], dtype: Any) -> Tensor:
        """A Python number that is looked at anew before every step, such as a learning rate."""
        array = np.array(look(), dtype)
        self.bind("number", Number(look, array, len(self.events)))
        self.events.append(NumberEvent(look))
        return Tensor(array)

    def sweep(self, flat: Any, run: list, more: dict[str, Any]) -> bool:
        """A rule would run over some neighbours in a flat buffer; True: its numbers are not needed now."""
        self.forward = None
        for part in run:
            arrays = {"data": part.value, "grad": part.gradient, **part.state}
            for kind, array in arrays.items():
                if id(array) not in (self.values if kind == "grad" else self.origin):
                    held = self.values.get(id(array))
                    base = self.names.get(id(part.parameter)) or f"parameter_{part.name}"
                    if kind in ("data", "grad"):
                        make = Data if kind == "data" else Grad
                        home = self.bind("g_" * (kind == "grad") + base, make(part.parameter, array))
                    else:
                        home = self.bind(f"{base}_{kind}", State(part, array, kind))
                    self.values[id(array)] = held or home  # in another tensor's memory so far
        if any(isinstance(x, Tensor) for x in more.values()):
            self.rule_by_tensors(flat, run, more)
        event = len(self.events)
        self.options.append((flat, dict(flat.group)))
        optimizer = self.owners[id(flat)]
        self.events.append(SweepEvent(optimizer, flat, list(run), flat.update, len(optimizer.flats)))
        for part in run if not any(isinstance(x, Tensor) for x in more.values()) else ():
            operands = part.operands(flat.update.rule)
            inputs = [self.values[id(a)] for a in operands]
            kept = [operands[0], *operands[2:]]
            homes = [self.origin[id(a)] for a in kept]
            outputs = [Value(self.free(f"new_{home.name}"), home.shape, home.dtype) for home in homes]
            self.add(Instruction(Update(flat, part, flat.update, event), tuple(inputs), {}, tuple(outputs)))
            self.program.writes |= zip(homes, outputs, strict=True)
            for array, value in zip(kept, outputs, strict=True):
                self.hold(array, value)
            self.changed.append(operands[0])
        return True

    def rule_by_tensors(self, flat: Any, run: list, more: dict[str, Any]) -> None:
        """A rule of which a hyperparameter is computed in the step: its arithmetic, on Tensors."""
        rule = flat.update.rule
        given = {name: value for name, value in flat.hyperparameters.items() if name in rule.hyperparameters}
        for part in run:
            looks = {name: partial(lambda name: flat.hyperparameters[name], name) for name in given}
            numbers = {name: self.number(look, flat.dtype) for name, look in looks.items()}
            t = self.number(partial(lambda part: part.clock["t"] + 1, part), flat.dtype)
            places = [wrap(a) for a in part.operands(rule)]
            p, g, *state = places
            g = -g if "maximize" in flat.update.options else g
            with mode.having(record=False):
                new = rule.function(p, g, *state, t=t, **numbers | more)
            for place, value in zip([p, *state], new if isinstance(new, tuple) else (new,), strict=True):
                self.overwrite(place, value.to(place.dtype))

    def schedule(self, schedule: Any) -> None:
        """A schedule is about to go on."""
        refuse_optimizer(schedule)
        self.undo.append(partial(schedule.load_state_dict, schedule.state_dict()))
        self.events.append(ScheduleEvent(schedule))

    # The end

    def finish(self, result: Any) -> Any:
        """Close the program; what the function returned, with Values in place of Tensors."""
        self.blocks = self.block - self.start
        refuse_what_is_lost(self)
        self.final = {leaf: leaf._grad is not None for leaf in self.before}
        settle(self)
        for leaf in (leaf for leaf, has in self.final.items() if has):
            value = self.value(leaf._grad)
            homes = [(v, b) for v, b in self.program.bound.items() if b.owner is leaf and isinstance(b, Grad)]
            if any(value is v for v, _ in homes):
                continue  # as it was
            name = f"g_{self.names.get(id(leaf)) or leaf.name or 'leaf'}"
            array = leaf._grad._data  # type: ignore[union-attr]
            there = [v for v, b in homes if leaf._home is not None or b.then is array]
            home = there[0] if there else self.bind(name, New(leaf, np.zeros(leaf.shape, leaf.dtype)))
            if value in self.invented:
                self.taken.discard(home.name)
                value.name, home.name = home.name, self.free(home.name + "_home")
                self.invented.discard(value)
            self.program.writes[home] = value
        return each(result, Tensor, self.output)

    def output(self, tensor: Tensor) -> Any:
        """The Value of a Tensor that the step returns."""
        self.program.outputs.append(self.value(tensor))
        return self.program.outputs[-1]
