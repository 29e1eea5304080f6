"""Programs as text: tensors to start from, lines of a step, what is done with its gradients.

    Program(setup=["v0 = leaf(2, 3)", "v1 = argument(3)"], body=["v2 = mg.tanh(v0) * v1"])

can be run line by line and compiled, and compared: results, gradients, parameters, optimizers.
`bench/grammar.py` draws them at random; each can be pasted into a test.
"""

import linecache
import re
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np

import microgradx as mg
from microgradx import nn, optim, scalars

NAMES = {"mg": mg, "nn": nn, "optim": optim, "scalars": scalars, "np": np, "array": np.array, "inf": np.inf}
NAMES |= {name: np.dtype(name) for name in ("float32", "float64", "int32", "int64", "uint8", "bool")}
"""What a program's lines may name, beside its own values."""

ENDINGS = {
    "forward": ([], []),
    "no_grad": ([], []),
    "backward": ([], ["loss.backward()"]),
    "reset": (["{leaf}.grad = None"], ["loss.backward()"]),
    "twice": ([], ["loss.backward(retain_graph=True)", "mg.tanh(loss).backward()"]),
    "graph": ([], ["loss.backward(create_graph=True)"]),
    "train": (["optimizer.zero_grad()"], ["loss.backward()", "optimizer.step()"]),
    "carry": ([], ["loss.backward()", "optimizer.step()"]),
    "clip": (
        ["optimizer.zero_grad()"],
        ["loss.backward()", "optim.clip_grad_norm_(optimizer, 0.5)", "optimizer.step()"],
    ),
    "clip_leaves": ([], ["loss.backward()", "optim.clip_grad_norm_([{leaves}], 0.5)"]),
    "renew": (["optimizer.zero_grad()"], ["loss.backward()", "stir({leaves})", "optimizer.step()"]),
    "swap": ([], ["loss.backward()", "swap({leaves})"]),
    "squeeze": (["optimizer.zero_grad()"], ["loss.backward()", "optimizer.step()", "squeeze({leaves})"]),
    "shift": ([], ["loss.backward()", "shift({leaves})"]),
    "by_hand": (["{leaf}.grad = None"], ["loss.backward()", "descend({leaves})"]),
    "stir": ([], ["loss.backward()", "stir({leaves})"]),
    "inner": ([], []),
    "again": ([], ["(loss + weighted(*slopes)).backward()"]),
}
"""What stands before and after the lines of a step; `{leaf}` stands for each tensor with a gradient."""

CALLS = 2
"""How often a step runs: the first time it is captured, the second time it finds gradients and state."""

BETWEEN = "tie", "exchange", "renew"
"""What may happen to the data of two tensors between two calls, or of one."""

INNER = "inner", "again"  # the lines are a function within the step, which mg.value_and_grad differentiates


@dataclass(frozen=True)
class Program:
    """A step as text. `loss` names what is weighted and summed, `returns` what the step returns beside it.

    Without `loss`, every value of a float dtype counts.
    """

    setup: list[str]
    body: list[str]
    loss: str = ""
    returns: str = ""
    ending: str = "backward"
    between: str = ""
    seed: int = 0

    def __repr__(self) -> str:
        parts = [f"    setup={lines(self.setup)}", f"    body={lines(self.body)}"]
        for name in ("loss", "returns", "ending", "between", "seed"):
            value = getattr(self, name)
            if value != getattr(Program, name):
                parts.append(f'    {name}="{value}"' if isinstance(value, str) else f"    {name}={value}")
        return "Program(\n" + ",\n".join(parts) + ",\n)"

    def made(self, kind: str) -> list[str]:
        """The names in the setup that a function of this name makes: leaf, argument or fixed."""
        return [line.split(" = ")[0] for line in self.setup if f" = {kind}(" in line]

    @property
    def text(self) -> str:
        """The step as a Python function."""
        names = self.loss or " ".join(re.findall(r"^(v\d+) = ", "\n".join(self.body), re.M))
        total = f"weighted({', '.join(names.split())})"
        before, after = ENDINGS[self.ending]
        before = list(dict.fromkeys(line.format(leaf=leaf) for line in before for leaf in self.made("leaf")))
        after = [line.format(leaves=", ".join(self.made("leaf"))) for line in after]
        body = [*self.body, f"loss = {total}"]
        result = ["return loss" + "".join(f", {name}" for name in self.returns.split())]
        if self.ending in INNER:
            free = ", ".join(self.made("leaf") + self.made("argument"))
            again = ", create_graph=True" * (self.ending == "again")
            inner = f"mg.value_and_grad(inner, argnums=floats({free}){again})({free})"
            body = [f"def inner({free}):", *indented([*self.body, f"return {total}"])]
            body.append(f"loss, slopes = {inner}")
            result = ["return loss, slopes"]
        if self.ending == "no_grad":
            body = ["with mg.no_grad():", *indented(body)]
        head = f"def step({', '.join(self.made('argument'))}):"
        return "\n".join([head, *indented([*before, *body, *after, *result]), ""])


def lines(rows: list[str]) -> str:
    """A list of lines, one below the other where they are long."""
    short = repr(list(rows))
    if len(short) < 70:
        return short
    return "[\n" + "".join(f"        {row!r},\n" for row in rows) + "    ]"


def indented(rows: list[str]) -> list[str]:
    """Lines further to the right."""
    return [f"    {row}" for row in rows]


# What programs call


def weights(shape: tuple[int, ...]) -> np.ndarray:
    """Fixed numbers between 1/2 and 3/2 that are different for neighbours."""
    return np.random.default_rng(len(shape)).uniform(0.5, 1.5, shape)


def weighted(*values: Any) -> Any:
    """A weighted sum of all values that are floats."""
    sums = [(v * weights(v.shape).astype(v.dtype)).sum() for v in values if v.dtype.kind == "f"]
    return sum(sums[1:], start=sums[0]) if sums else mg.zeros(())


def descend(*leaves: mg.Tensor) -> None:
    """A step of gradient descent, by hand."""
    with mg.no_grad():
        for p in leaves:
            if p.grad is not None:
                p.data = p - 0.1 * p.grad


def stir(*leaves: mg.Tensor) -> None:
    """Each becomes a mixture of its elements in another order, and of the one before, anew or in place."""
    before = None
    with mg.no_grad():
        for k, p in enumerate(p for p in leaves if p.dtype.kind == "f"):
            other = p.T if p.shape == p.shape[::-1] else p[::-1]
            if before is not None and before.shape == p.shape:
                other = other - before
            if k % 2:
                p += 0.25 * other
            else:
                p.data = 0.5 * other - 0.25 * p
            before = p


def swap(*leaves: mg.Tensor) -> None:
    """Neighbours of one shape and dtype change places; then one of them changes in place."""
    with mg.no_grad():
        for p, q in pairwise(leaves):
            if (p.shape, p.dtype) == (q.shape, q.dtype):
                p.data, q.data = q * 1, p * 1
                p += 0.25


def squeeze(*leaves: mg.Tensor) -> None:
    """No weight is far from 0."""
    for p in leaves:
        p.data = mg.clip(p, -1.0, 1.0)


def shift(*leaves: mg.Tensor) -> None:
    """Each changes in place, is given new data, and changes once more."""
    with mg.no_grad():
        for k, p in enumerate(p for p in leaves if p.dtype.kind == "f"):
            p += 0.25
            p.data = 0.5 * p
            if k % 2:
                p *= 0.75


def floats(*values: Any) -> tuple[int, ...]:
    """The positions of the values that are floats."""
    return tuple(i for i, v in enumerate(values) if v.dtype.kind == "f")


ODD = 0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-30, 1.0, -1.0, 0.5, 3.0
"""Numbers that formulas are not made for."""


def numbers(rng: np.random.Generator, shape, dtype: str = "float64", high: int = 3, kind: str = ""):
    """Random numbers: floats of both signs, away from 0; integers below `high`.

    Of the kind "ties", many floats are equal; of the kind "odd", some are infinite, NaN, huge or tiny.
    """
    if kind == "odd" and dtype[0] == "f":
        return np.asarray(rng.choice(ODD, shape)).astype(dtype)
    ties, kind = kind == "ties", np.dtype(dtype).kind
    if kind == "b":
        return np.asarray(rng.uniform(size=shape) < 0.5)
    if kind in "iu":
        return np.asarray(rng.integers(0, high, shape)).astype(dtype)
    drawn = rng.uniform(0.3, 2.0, shape) * rng.choice([-1, 1], shape)
    return np.asarray(np.round(drawn) if ties else drawn).astype(dtype)


def makers(rng: np.random.Generator, nudge: float) -> dict[str, Callable[..., Any]]:
    """The functions that a setup calls; `nudge` moves every float by about so much of itself."""

    def draw(*shape: int, **options: Any) -> np.ndarray:
        found = numbers(rng, shape, **options)
        moved = nudge and found.dtype.kind == "f" and not options.get("kind")
        return found * (1 + nudge * rng.uniform(-1, 1, shape)).astype(found.dtype) if moved else found

    def leaf(*shape: int, **options: Any) -> mg.Tensor:
        array = draw(*shape, **options)
        return mg.tensor(array, requires_grad=array.dtype.kind == "f")

    make = lambda *shape, **options: mg.tensor(draw(*shape, **options))
    return {"leaf": leaf, "argument": make, "fixed": make}


NAMES |= {"weighted": weighted, "descend": descend, "stir": stir, "swap": swap, "floats": floats}
NAMES |= {"squeeze": squeeze, "shift": shift}


class World:
    """A program with the tensors that it starts from."""

    def __init__(self, program: Program, nudge: float = 0.0):
        self.program, self.nudge = program, nudge
        mg.seed(program.seed)
        self.names: dict[str, Any] = {**NAMES, "__name__": "program"}
        for line in program.setup:
            self.names[line.split(" = ")[0]] = self.make(line, 0)
        self.step = self.define(program.text)
        self.held: list[tuple[str, mg.Tensor]] = []  # views that somebody keeps
        self.hold()

    def tensors(self) -> list[tuple[str, mg.Tensor]]:
        """The tensors of the setup, by name."""
        names = [line.split(" = ")[0] for line in self.program.setup]
        return [(name, self.names[name]) for name in names if isinstance(self.names[name], mg.Tensor)]

    def hold(self) -> None:
        """Somebody outside keeps views of the tensors as they are now."""
        since = len(self.held)
        for name, t in self.tensors():
            self.held += [(f"{name}, held {since}", t.detach()), (f"{name}.T, held {since}", t.detach().T)]

    def shake(self, before: dict[str, Any]) -> None:
        """Change what a step has changed by a few roundings, if that is asked: they may have made ties."""
        rng = np.random.default_rng(self.program.seed)
        for name, t in self.tensors():
            if (
                self.nudge
                and t.dtype.kind == "f"
                and not np.array_equal(before[name], t.data, equal_nan=True)
            ):
                t.data *= (1 + self.nudge * rng.uniform(-1, 1, t.shape)).astype(t.dtype)

    def meddle(self) -> None:
        """Somebody outside changes the data of the first two tensors that have one shape and dtype."""
        pairs = combinations((t for _, t in self.tensors() if t.requires_grad), 2)
        for p, q in (two for two in pairs if (two[0].shape, two[0].dtype) == (two[1].shape, two[1].dtype)):
            if self.program.between == "tie":
                q.data = p.data
            elif self.program.between == "exchange":
                p.data, q.data = q.data, p.data
            elif self.program.between == "renew":
                q.data = p.data * 0.5
            return

    def make(self, line: str, call: int) -> Any:
        """The value of a line of the setup, the same in every world of this program."""
        name, _, text = line.partition(" = ")
        rng = np.random.default_rng([self.program.seed, call, zlib.crc32(name.encode())])
        return eval(text, self.names | makers(rng, self.nudge))

    def define(self, text: str) -> Callable[..., Any]:
        """The step, with its text where tools look for it."""
        path = f"program-{zlib.crc32(text.encode()):08x}.py"
        linecache.cache[path] = len(text), None, text.splitlines(True), path
        exec(compile(text, path, "exec"), self.names)
        return self.names["step"]

    def arguments(self, call: int) -> list[Any]:
        """What the step is called with, the first, second, ... time."""
        given = set(self.program.made("argument"))
        return [self.make(line, call) for line in self.program.setup if line.split(" = ")[0] in given]

    def state(self) -> Iterator[tuple[str, Any]]:
        """Every array that a step may leave changed, and the gradients, by name."""
        for name in (line.split(" = ")[0] for line in self.program.setup):
            thing = self.names[name]
            if isinstance(thing, mg.Tensor):
                yield from tensor_state(name, thing)
            elif isinstance(thing, nn.Module):
                for inside, t in thing.named_tensors():
                    yield from tensor_state(f"{name}.{inside}", t)
            elif isinstance(thing, optim.Optimizer):
                for part, state in thing.state.items():
                    yield from ((f"{name}.{part}.{kind}", np.array(x)) for kind, x in state.items())
        for name, t in self.held:
            yield from tensor_state(name, t)


def tensor_state(name: str, t: mg.Tensor) -> Iterator[tuple[str, Any]]:
    """What a tensor holds, and its gradient."""
    yield name, t.data.copy()
    yield f"{name}.grad", None if t.grad is None else t.grad.data.copy()


def flat(name: str, result: Any) -> Iterator[tuple[str, Any]]:
    """Copies of all arrays in a result, by name."""
    if result is None:
        yield name, None
    elif isinstance(result, tuple | list):
        for i, x in enumerate(result):
            yield from flat(f"{name}[{i}]", x)
    else:
        yield name, np.array(result.data)


def play(program: Program, way: Callable[..., Any] = lambda step: step, nudge: float = 0.0) -> dict[str, Any]:
    """Everything that can be seen of a program that runs some times: `way` makes its step another one."""
    found: dict[str, Any] = {}
    with quiet():
        world = World(program, nudge)
        step = way(world.step)
        for call in range(CALLS):
            before = {name: t.data.copy() for name, t in world.tensors()}
            result = step(*world.arguments(call))
            found |= {f"call {call}: {name}": x for name, x in flat("result", result)}
            found |= {f"call {call}: {name}": x for name, x in world.state()}
            world.shake(before)
            world.hold()
            world.meddle()
        found["the next random number"] = mg.rand(1, dtype=np.float64).data.copy()
    return found


def scan(program: Program, way: Callable[..., Any]) -> dict[str, Any]:
    """What can be seen of a program that runs as many times in one scan."""
    found: dict[str, Any] = {}
    with quiet():
        world = World(program)
        batches = [[x.data for x in world.arguments(call)] for call in range(CALLS)]
        data = [np.concatenate(columns) for columns in zip(*batches, strict=True)]
        results = way(world.step).scan(*data, batch_size=len(batches[0][0]))
        for name, stacked in flat("result", results):
            rows = [None] * CALLS if stacked is None else stacked
            found |= {f"call {call}: {name}": rows[call] for call in range(CALLS)}
        found |= {f"call {CALLS - 1}: {name}": x for name, x in world.state()}
        found["the next random number"] = mg.rand(1, dtype=np.float64).data.copy()
    return found


def scans(program: Program) -> bool:
    """Whether the arguments of a program are batches of as many rows, and nothing happens between steps."""
    if program.between:
        return False
    arguments = World(program).arguments(0)
    return bool(arguments) and all(x.ndim and 0 < len(x) == len(arguments[0]) for x in arguments)


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings: programs divide by zero, and more."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield
