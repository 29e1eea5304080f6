"""Writes a Program down while eager operations run.

While a Recorder is `mode.recorder`, Tensors and optimizers report to it what is done to them.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from microgradx.codegen.ir.binding import Constant, Data, Grad, New, Number, State
from microgradx.codegen.ir.program import Draw, Instruction, Update, Value
from microgradx.compiler.capture.aliasing import refuse_gradient, renew, settle
from microgradx.compiler.capture.events import NumberEvent, ScheduleEvent, SweepEvent
from microgradx.compiler.capture.pytree import tree_map
from microgradx.compiler.capture.recording import KnownArray, Recording
from microgradx.compiler.capture.refusal import refuse
from microgradx.compiler.capture.refusals import refuse_optimizer, refuse_what_is_lost, show_state
from microgradx.compiler.capture.user_code import frames
from microgradx.cuda import Array as OnDevice
from microgradx.eager.devices import Array
from microgradx.eager.listener import Listener
from microgradx.eager.mode import mode
from microgradx.eager.tape import Node
from microgradx.eager.tensor import Tensor, wrap
from microgradx.kernels.random import drawn
from microgradx.optim import Optimizer, Schedule
from microgradx.optim.flat import Flat, Run
from microgradx.primitives import Primitive
from microgradx.primitives.core import ElementwisePrimitive


class Recorder(Recording, Listener[Tensor]):
    """Writes a Program while the eager operations run; `mode.recorder` while it does."""

    # What Tensors report

    def argument(self, name: str, array: Array) -> Tensor:
        """An argument of the step, as the Tensor that the function is called with."""
        if isinstance(array, OnDevice):
            self.device = "cuda"
            array = np.zeros(array.shape, array.dtype)  # what counts is the shape
        else:
            array = array.copy()  # the same array may be another argument, or a parameter's
        self.program.arguments.append(self.fresh(name, array, known=True))
        self.given.append(Tensor(array))
        return self.given[-1]

    def created(self, tensor: Tensor) -> None:
        """The step has made a Tensor of an array."""
        self.tensors.note(tensor).created = True

    def stand_in(self, array: OnDevice) -> np.ndarray:
        """An array on the host to compute with, in the place of one on a GPU: shapes and views count."""
        self.device = "cuda"
        known = self.arrays.note(array)
        if known.stand_in is None:
            known.stand_in = np.zeros(array.shape, array.dtype)
        return known.stand_in

    def look(self, tensor: Tensor, what: str) -> None:
        """Somebody wants to see the numbers in a Tensor."""
        if self.traced(tensor):
            advice = "Return the tensor and look at it outside of the step, or use where(condition, a, b)."
            refuse(f"it looks at a tensor's value ({what})", advice)

    def remember(self, array: Array) -> None:
        """An array that is the same in every step, with its number if it is the same everywhere."""
        known = self.arrays.note(array)
        known.fixed, known.number = True, None
        if isinstance(array, np.ndarray) and array.size and (array == array.flat[0]).all():
            known.number = array.flat[0].item()

    def record(self, op: Primitive, args: tuple[object, ...], params: dict[str, object], out: Tensor) -> None:
        """An operation has run."""
        known = [self.known(a) for a in args]
        if all(one is None or one.fixed for one in known):
            if self.arrays.of(out._data).value is None:
                self.remember(out._data)
            return
        user, *within = frames()
        self.read_names(user.f_locals)
        for frame in within if not self.backward else ():  # a rule's names are those of any operation
            self.read_names(frame.f_locals, self.names.lend)
        numbers = isinstance(op, ElementwisePrimitive)
        inputs = [
            one.number if one and one.number is not None and numbers else self.operand(a)
            for a, one in zip(args, known, strict=True)
        ]
        value = self.fresh(op.name, out._data)
        self.add(Instruction(op, tuple(inputs), params, (value,)))
        if out._node is not None:
            self.nodes[out._node] = self.program.instructions[-1]

    def known(self, x: object) -> KnownArray | None:
        """What is known of the array of an operand; None of a number."""
        array = x._data if isinstance(x, Tensor) else x
        return self.arrays.of(array) if isinstance(array, np.ndarray | OnDevice) else None

    def read_names(
        self, variables: Mapping[str, object], give: Callable[[Value | None, str], None] | None = None
    ) -> None:
        """Give Values the names of variables: of the user's own for good."""
        give = give or self.names.rename
        for name, x in variables.items():
            if isinstance(x, Tensor) and not name.startswith("_"):
                give(self.arrays.of(x._data).value, name)

    def back(self, node: Node | None, g: Tensor | None) -> None:
        """The gradient of what a node made is complete: its rule runs next. None: the walk has ended."""
        made = self.nodes.get(node) if node is not None else None
        self.forward, self.backward = made.line if made else None, node is not None
        if made and isinstance(g, Tensor):
            self.names.rename(self.arrays.of(g._data).value, f"g_{made.out.name}")

    def drawn(self, tensor: Tensor, method: str, options: dict[str, object]) -> None:
        """Fresh random numbers are in a Tensor."""
        draw = Draw(method, self.block - self.start)
        self.block = drawn.blocks
        out = self.fresh(method, tensor._data)
        self.add(Instruction(draw, (), options, (out,)))

    def alias(self, array: Array, tensor: Tensor) -> None:
        """An array holds the value of a Tensor now."""
        value = self.value(tensor)
        self.undo.append(partial(setattr, tensor, "_data", tensor._data))
        self.hold(array, value)
        if value in self.program.bound and self.program.bound[value].owner is tensor:
            known = self.arrays.note(array)
            known.home = known.home or value  # of a parameter that an optimizer takes over

    def replace(self, tensor: Tensor, new: Tensor) -> None:
        """A Tensor is to hold another array from now on; who shares the one that it had keeps that."""
        value, array = self.value(new), tensor._data
        if any(tensor is one for one in self.given):
            refuse("it changes the data of an argument", "Return the new values, or keep them in a tensor.")
        self.undo.append(partial(setattr, tensor, "_data", array))
        known, there = self.tensors.of(tensor), self.arrays.of(array).home
        if any(tensor is leaf._grad for leaf in self.before) or known.created:
            return  # the gradient that is left in the end is what counts; others nobody has outside
        if there is not None and self.program.bound[known.home or there].owner is not tensor:
            what = f"it gives new data to a tensor that shares the memory of {there.name}"
            refuse(what, "Give it a clone() first.")
        if self.leave(tensor, value):
            if not any(tensor is one for one in self.replaced):  # as statistics of two passes are
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
        known = self.arrays.of(tensor._data)
        home = self.tensors.of(tensor).home or known.home
        first = self.program.bound[home] if home else None
        other = first.owner if isinstance(first, Data) and first.owner is not tensor else None
        if other is not None and other._data is not tensor._data:  # the step has given it other data
            refuse("it changes memory that another tensor had", "Give each a clone() of its own.")
        if isinstance(first, Constant) or self.tensors.of(tensor).created:
            what = f"it makes a tensor of an array, and changes {home.name if home else 'it'} in place"
            refuse(what, "Compute a new one instead, or make it outside.")
        if home is None and known.value is None:  # never read so far
            home = self.bind(self.names.of(tensor, "tensor"), Data(tensor, tensor._data))
        if home is None:
            return False
        self.tensors.note(tensor).home, self.program.writes[home] = home, value
        return True

    def hold(self, array: Array, value: Value) -> None:
        """An array holds a value from now on, and views of it what they show of that."""
        known = self.arrays.note(array)
        old, known.value = known.value, value
        if old in self.program.arguments:
            refuse("it changes an argument in place", "Keep a clone() of it.")
        if known.home and getattr(self.program.bound[known.home].owner, "_data", None) is array:
            self.program.writes[known.home] = value  # of a tensor that shares it, perhaps
        if old not in (None, value):
            renew(self, array if known.stand_in is None else known.stand_in, old, value)

    def shared(self, tensor: Tensor) -> None:
        """Another Tensor is about to hold the same array: whose it is must be known first."""
        if self.traced(tensor):
            self.value(tensor)

    def keep(self, array: Array) -> bool:
        """An array is about to change in place: a copy takes that back. At a second look it stays."""
        if isinstance(array, np.ndarray) and not self.again:
            self.undo.append(partial(np.copyto, array, array.copy()))
        return not (isinstance(array, np.ndarray) and self.again)

    def gradient(self, leaf: Tensor, reset: bool = False) -> None:
        """Somebody reads a leaf's gradient, or (reset) is about to replace it unread."""
        if leaf in self.before:
            return
        grad = leaf._grad
        self.undo.append(partial(setattr, leaf, "_grad", grad))
        self.before[leaf] = None if reset else grad is not None
        if not reset and grad is not None:
            refuse_gradient(self, leaf, grad)
            self.bind(f"g_{self.names.of(leaf, 'leaf')}", Grad(leaf, grad._data))

    # What optimizers report

    def gather(self, flat: Flat) -> None:
        """Values and gradients are about to come home to a flat buffer."""
        self.optimizers.setdefault(flat, None)
        for part in flat.parts:
            self.gradient(part.parameter)
            if part.parameter._data is not part.value:
                self.changed.append(part.value)
            if home := self.tensors.of(part.parameter).home:  # whose data the step may have replaced
                known = self.arrays.note(part.value)
                known.home = known.home or home

    def step(self, optimizer: Optimizer, flat: Flat, run: Run) -> None:
        """An optimizer is about to update some neighbours in a flat buffer."""
        refuse_optimizer(optimizer)
        self.optimizers[flat] = optimizer

    def state(self, owner: Optimizer | Schedule, load: bool = False) -> None:
        """Somebody reads what an optimizer keeps, or is about to load the state of whatever has one."""
        self.seen += show_state(self, owner, load)

    def number(self, look: Callable[[], float], dtype: np.dtype) -> Tensor:
        """A Python number that is looked at anew before every step, such as a learning rate."""
        array = np.array(look(), dtype)
        self.bind("number", Number(look, array, len(self.events)))
        self.events.append(NumberEvent(look))
        return Tensor(array)

    def sweep(self, flat: Flat, run: Run, more: dict[str, object]) -> bool:
        """A rule would run over some neighbours in a flat buffer; True: its numbers are not needed now."""
        self.forward = None
        for part in run:
            base = self.names.of(part.parameter) or f"parameter_{part.name}"
            self.house(base, Data(part.parameter, part.value))
            self.house(f"g_{base}", Grad(part.parameter, part.gradient))
            for name, array in part.state.items():
                self.house(f"{base}_{name}", State(part, array, name))
        computed = any(isinstance(x, Tensor) for x in more.values())
        if computed:
            self.rule_by_tensors(flat, run, more)
        optimizer, event = self.optimizers[flat], len(self.events)
        assert optimizer is not None
        self.options.append((flat, dict(flat.group)))
        self.events.append(SweepEvent(optimizer, flat, list(run), flat.update, len(optimizer.flats)))
        for part in run if not computed else ():
            operands = [self.arrays.note(a) for a in part.operands(flat.update.rule)]
            kept = [operands[0], *operands[2:]]
            homes = [one.home for one in kept if one.home is not None]
            outputs = [Value(self.names.free(f"new_{h.name}"), h.shape, h.dtype) for h in homes]
            inputs = tuple(self.value(one.array) for one in operands)
            self.add(Instruction(Update(flat, part, flat.update, event), inputs, {}, tuple(outputs)))
            self.program.writes |= zip(homes, outputs, strict=True)
            for one, value in zip(kept, outputs, strict=True):
                self.hold(one.array, value)
            self.changed.append(operands[0].array)
        return True

    def house(self, base: str, binding: Data | Grad | State) -> None:
        """A place in an optimizer's memory gets its Value; what it holds stays, such as a gradient."""
        known = self.arrays.note(binding.then)
        if (known.value if isinstance(binding, Grad) else known.home) is None:
            held, home = known.value, self.bind(base, binding)
            known.value = held or home  # in another tensor's memory so far

    def rule_by_tensors(self, flat: Flat, run: Run, more: dict[str, object]) -> None:
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
                new = rule(p, g, *state, t=t, **numbers | more)
            for place, value in zip([p, *state], new if isinstance(new, tuple) else (new,), strict=True):
                self.overwrite(place, value.to(place.dtype))

    def schedule(self, schedule: Schedule) -> None:
        """A schedule is about to go on."""
        refuse_optimizer(schedule)
        event = ScheduleEvent(schedule)
        self.undo.append(event.undo())
        self.events.append(event)

    # The end

    def finish(self, result: object) -> object:
        """Close the program; what the function returned, with Values in place of Tensors."""
        self.blocks = self.block - self.start
        refuse_what_is_lost(self)
        self.final = {leaf: leaf._grad is not None for leaf in self.before}
        settle(self)
        for leaf in self.before:
            if leaf._grad is not None:
                self.leave_gradient(leaf, leaf._grad)
        return tree_map(result, Tensor, self.output)

    def leave_gradient(self, leaf: Tensor, grad: Tensor) -> None:
        """A leaf has a gradient after the step: where it is to be, unless it is as it was."""
        value, bound = self.value(grad), self.program.bound.items()
        homes = {v: b for v, b in bound if b.owner is leaf and isinstance(b, Grad)}
        if value in homes:
            return
        name = f"g_{self.names.of(leaf, 'leaf')}"
        there = [v for v, b in homes.items() if leaf._home is not None or b.then is grad._data]
        home = there[0] if there else self.bind(name, New(leaf, np.zeros(leaf.shape, leaf.dtype)))
        if value in self.names.invented:
            self.names.taken.discard(home.name)
            value.name, home.name = home.name, self.names.free(f"{home.name}_home")
            self.names.invented.discard(value)
        self.program.writes[home] = value

    def output(self, tensor: Tensor) -> Value:
        """The Value of a Tensor that the step returns."""
        self.program.outputs.append(self.value(tensor))
        return self.program.outputs[-1]
