"""Other ways to the results of a random program: PyTorch's functions, and finite differences."""

import ast
import operator
from dataclasses import replace
from functools import reduce

import numpy as np

import microgradx as mg
from bench.programs import Program, World, weights


def forward(program: Program) -> Program:
    """The same lines, all results, and one plain backward pass."""
    names = [line.partition(" = ")[0] for line in program.body]
    ending = "backward" if program.ending not in ("forward", "no_grad") else "forward"
    return replace(program, returns=" ".join(names), ending=ending)


def quietly(world: World):
    """What a world's step returns when it is called once, as a list."""
    with np.errstate(all="ignore"):
        result = world.step(*world.arguments(0))
    return list(result) if isinstance(result, tuple) else [result]


def gradient(t) -> np.ndarray:
    """A gradient as an array; none is one of zeros."""
    return np.zeros(t.shape) if t.grad is None else t.grad.data.__array__().copy()


def eager(program: Program) -> dict[str, np.ndarray]:
    """Results and gradients, line by line."""
    world = World(forward(program))
    loss, *values = quietly(world)
    found = {"loss": np.array(loss.data)} | {f"result {i}": np.array(v.data) for i, v in enumerate(values)}
    return found | {f"{name}.grad": gradient(world.names[name]) for name in program.made("leaf")}


# PyTorch


UNKNOWN = (
    "layer",
    "axis=()",  # all axes there, none here and in NumPy
    "nn.",
    "mg.rand",
    "mg.grad",
    "mg.hvp",
    "mg.hess",
    "mg.value",
    "mg.one_hot",
    "scalars.",
    "mg.tens",
)
"""What stands in lines that PyTorch has no words for, or other ones."""


class Rewriter(ast.NodeTransformer):
    """Methods, indices and `.T` as functions: PyTorch's have other parameters, or other limits."""

    NATIVE = "clone", "detach", "to"

    def visit_Call(self, node):
        self.generic_visit(node)
        f = node.func
        if isinstance(f, ast.Attribute) and f.attr not in self.NATIVE and not is_module(f.value):
            node.args.insert(0, f.value)
            node.func = function(f.attr)
        return node

    def visit_Subscript(self, node):
        self.generic_visit(node)
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        index = ast.Tuple([as_value(part) for part in parts], ast.Load())
        return ast.Call(function("getitem"), [node.value, index], [])

    def visit_Attribute(self, node):
        self.generic_visit(node)
        return ast.Call(function("permute"), [node.value], []) if node.attr == "T" else node


def is_module(node) -> bool:
    return isinstance(node, ast.Name) and node.id in ("mg", "nn", "scalars", "np")


def function(name: str) -> ast.Attribute:
    return ast.Attribute(ast.Name("mg", ast.Load()), name, ast.Load())


def as_value(part):
    """A part of an index as an expression: 1:2 is slice(1, 2, None)."""
    if not isinstance(part, ast.Slice):
        return part
    ends = [end or ast.Constant(None) for end in (part.lower, part.upper, part.step)]
    return ast.Call(ast.Name("slice", ast.Load()), ends, [])


class Torch:
    """Stands for `mg` within a program: the same names, for PyTorch's tensors."""

    def __init__(self, torch, scalars: dict, arrays: dict):
        names = {"abs": scalars["absolute"], "clip": self.clip, "getitem": self.getitem}
        names |= {kind: self.filled(getattr(torch, kind)) for kind in ("zeros", "ones", "full")}
        names |= {"eye": torch.eye, "arange": lambda *ends: torch.arange(*ends).to(torch.float32)}
        names["argmax"], names["argmin"] = self.extreme(torch.argmax), self.extreme(torch.argmin)
        self.torch, self.scalars, self.arrays = torch, scalars | names, arrays

    def __getattr__(self, name):
        if name in self.arrays:
            return self.arrays[name]
        if name not in self.scalars:
            raise NotImplementedError(name)
        return lambda *args, **options: self.scalars[name](*self.beside(args), **options)

    def beside(self, args):
        """Numbers as tensors of the dtype of the tensor that they stand beside."""
        if any(isinstance(a, slice | tuple | list) for a in args):
            return args
        kinds = [a.dtype for a in args if isinstance(a, self.torch.Tensor)]
        kind = max(kinds, key=lambda k: (k.is_floating_point, k.itemsize))
        return [a if isinstance(a, self.torch.Tensor) else self.torch.tensor(a, dtype=kind) for a in args]

    def clip(self, x, min=-np.inf, max=np.inf):  # noqa: A002
        ends = [None if not self.torch.is_tensor(e) and np.isinf(e) else e for e in (min, max)]
        return self.torch.clamp(x, *ends)

    def filled(self, fill):
        return lambda shape, *value, dtype: fill(shape, *value, dtype=dtype)

    def extreme(self, find):
        return lambda x, axis=None, keepdims=False: find(x, dim=axis, keepdim=keepdims)

    def getitem(self, x, index):
        """Any index of NumPy's, by the positions of the elements that it picks."""
        if isinstance(x, list):
            return x[index[0]] if len(index) == 1 else x[index]
        settled = tuple(p.numpy() if isinstance(p, self.torch.Tensor) else p for p in index)
        places = np.arange(x.numel()).reshape(tuple(x.shape))[settled]
        return x.reshape(-1)[self.torch.tensor(places, dtype=self.torch.int64)]


def torchs(program: Program, torch, scalars: dict, arrays: dict) -> tuple[Program, dict[str, np.ndarray]]:
    """The lines that PyTorch has words for, as a program, and its results by PyTorch."""
    world = World(program)
    names = {"mg": Torch(torch, scalars, arrays), "array": np.array, "inf": np.inf}
    names |= {kind: getattr(torch, kind) for kind in ("float32", "float64", "int64", "bool")}
    given = dict(zip(program.made("argument"), world.arguments(0), strict=True))
    for name, t in (world.names | given).items():
        if isinstance(t, mg.Tensor):
            names[name] = torch.tensor(t.data, requires_grad=t.requires_grad)
    known = []
    for line in program.body:
        name, _, text = line.partition(" = ")
        tree = ast.fix_missing_locations(Rewriter().visit(ast.parse(text, mode="eval")))
        try:
            if not any(word in text for word in UNKNOWN):
                names[name] = eval(compile(tree, line, "eval"), names)
                known.append(line)
        except (NameError, NotImplementedError, TypeError, ValueError, RuntimeError, IndexError):
            continue  # other lines do without its value
    values = [names[line.partition(" = ")[0]] for line in known]
    floats = [v for v in values if v.is_floating_point()]
    parts = [(v * torch.tensor(weights(tuple(v.shape))).to(v.dtype)).sum() for v in floats]
    loss = reduce(operator.add, parts, torch.zeros(()))
    if loss.requires_grad:
        loss.backward()
    found = {"loss": loss.detach().numpy()}
    found |= {f"result {i}": v.detach().numpy() for i, v in enumerate(values)}
    found |= {f"{name}.grad": gradient(names[name]) for name in program.made("leaf")}
    return replace(
        program, body=known, loss="", ending="backward" if loss.requires_grad else "forward"
    ), found


# Finite differences


def slopes(program: Program, steps=(1e-5, 1e-6)) -> tuple[float, list[float]]:
    """The slope of the loss in a random direction: by the gradients, and by differences of several sizes."""
    plain = forward(program)
    world = World(plain)
    quietly(world)
    rng = np.random.default_rng(1)
    moves = {name: rng.normal(size=world.names[name].shape) for name in program.made("leaf")}
    slope = sum((gradient(world.names[name]) * d).sum() for name, d in moves.items())

    def loss(step: float) -> float:
        moved = World(replace(plain, ending="forward"))
        for name, d in moves.items():
            if moved.names[name].requires_grad:
                moved.names[name].data = moved.names[name].data + step * d
        return float(quietly(moved)[0].item())

    return slope, [(loss(h) - loss(-h)) / (2 * h) for h in steps]
