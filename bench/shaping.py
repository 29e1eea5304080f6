"""What random programs do with shapes: axes, views, indices, joints, layers and losses that fit a value."""

import inspect
from typing import Any

import numpy as np

from microgradx import nn


def broadcast(a: tuple, b: tuple) -> bool:
    """Whether two shapes go together."""
    return all(n == m or 1 in (n, m) for n, m in zip(a[::-1], b[::-1], strict=False))


def constant(b: Any, name: str, default: float) -> str:
    """Another value for a constant of an elementwise function."""
    value = {np.inf: 0.5, -np.inf: -0.5}.get(default, default * b.pick([2, 0.5, 1, 3]))
    return f"{name}={value}"


# Parameters by their names: each takes the builder, the value, and whether an axis may be several


def axis(b: Any, t: Any, several: bool) -> Any:
    """One axis, from the front or the back, or some of them, or none."""
    if not t.ndim:
        return b.pick([None]) if several else b.refuse()
    a = b.integer(0, t.ndim - 1)
    if several and b.chance(0.3):
        return tuple(i for i in range(t.ndim) if b.chance(0.6))
    return a - t.ndim if b.chance(0.3) else a


def axes(b: Any, t: Any, several: bool) -> tuple[int, ...]:
    """An order of all axes."""
    rest = list(range(t.ndim))
    return tuple(rest.pop(b.integer(0, len(rest) - 1)) for _ in range(t.ndim))


def start_dim(b: Any, t: Any, several: bool) -> int:
    """An axis to begin with."""
    return b.integer(0, max(t.ndim - 1, 0))


def pad_width(b: Any, t: Any, several: bool) -> Any:
    """One width, or two for every axis."""
    return b.integer(0, 2) if b.chance(0.2) else tuple((b.integer(0, 1), b.integer(0, 2)) for _ in t.shape)


PARAMETERS = {
    "axis": axis,
    "axis0": lambda b, t, _: axis(b, t, False),
    "axis1": lambda b, t, _: axis(b, t, False),
    "axes": axes,
    "keepdims": lambda b, t, _: b.chance(0.6),
    "ddof": lambda b, t, _: b.integer(0, 1),
    "start_dim": start_dim,
    "end_dim": lambda b, t, _: -1 if b.chance(0.5) else max(t.ndim - 1, 0),
    "pad_width": pad_width,
    "value": lambda b, t, _: b.number(),
}
"""How to draw a parameter of an operation of one array."""

ANY_KIND = (
    "sum",
    "mean",
    "max",
    "min",
    "prod",
    "cumsum",
    "argmax",
    "argmin",
    "permute",
    "transpose",
    "flatten",
)
ANY_KIND += "squeeze", "pad"
"""Operations that also take integers and booleans."""


# Shapes and joints


def reshape(b: Any) -> str:
    """The same elements in one row, with an axis more or less, or with the sizes in another order."""
    x = b.value(kinds="fib")
    shape = b[x].shape
    merged = [(*shape[:i], shape[i] * shape[i + 1], *shape[i + 2 :]) for i in range(len(shape) - 1)]
    split = [(*shape[:i], n // 2, 2, *shape[i + 1 :]) for i, n in enumerate(shape) if n > 2 and not n % 2]
    to = b.pick([(-1,), (1, -1), (-1, 1), shape[::-1], (*shape, 1), (1, *shape), *merged, *split])
    return f"{x}.reshape({', '.join(map(str, to))})" if to else b.refuse()


def expand(b: Any) -> str:
    """Axes of one element repeated, and new ones in front."""
    x = b.value(lambda t: t.ndim < 4, kinds="fib")
    old = [b.pick([2, 3, *b.sizes]) if n == 1 and b.chance(0.7) else b.pick([n, -1]) for n in b[x].shape]
    new = [b.pick([1, 2, 3]) for _ in range(b.integer(0, 1))]
    return f"mg.expand({x}, {(*new, *old)})"


def unsqueeze(b: Any) -> str:
    """A new axis."""
    x = b.value(lambda t: t.ndim < 4, kinds="fib")
    return f"mg.unsqueeze({x}, {b.integer(-b[x].ndim - 1, b[x].ndim)})"


def cat(b: Any) -> str:
    """Some values joined along an axis."""
    x = b.value(lambda t: t.ndim > 0, kinds="ffib")
    a, shape = b.integer(0, b[x].ndim - 1), b[x].shape
    beside = lambda t: (
        t.ndim == len(shape) and t.shape[:a] == shape[:a] and t.shape[a + 1 :] == shape[a + 1 :]
    )
    others = b.having(beside)
    names = [x, *(b.pick([*others, x]) for _ in range(b.integer(0, 2)))]
    return f"mg.cat([{', '.join(names)}], {a - len(shape) if b.chance(0.3) else a})"


def stack(b: Any) -> str:
    """Some values of one shape as one."""
    x = b.value(lambda t: t.ndim < 4)
    others = b.having(lambda t: t.shape == b[x].shape)
    names = [x, *(b.pick(others) for _ in range(b.integer(0, 2)))]
    return f"mg.stack([{', '.join(names)}], {b.integer(-b[x].ndim - 1, b[x].ndim)})"


def split(b: Any) -> str:
    """A piece of a value, or its pieces in another order."""
    x = b.value(lambda t: t.ndim > 0 and t.size > 0)
    a = b.integer(0, b[x].ndim - 1)
    n = b[x].shape[a]
    cuts = b.pick([m for m in range(1, n + 1) if n % m == 0] + [[b.integer(0, n)], [0, b.integer(0, n), n]])
    pieces = f"mg.split({x}, {cuts}, axis={a})"
    return f"mg.cat({pieces}[::-1], {a})" if b.chance(0.4) else f"{pieces}[{b.pick([0, -1])}]"


def matmul(b: Any) -> str:
    """A product of two values, turned where they do not fit."""
    x = b.value(lambda t: t.ndim > 0)
    k = b[x].shape[-1]
    fits = lambda t: t.ndim > 0 and t.shape[-2 if t.ndim > 1 else 0] == k
    turned = lambda t: t.ndim > 1 and t.shape[-1] == k
    if (found := b.having(turned)) and b.chance(0.5):
        return f"{x} @ {b.pick(found)}.{b.pick(['T', 'transpose()'])}"
    found = b.having(fits)
    if not found or b.chance(0.2):
        found = [b.input(b.pick([(k, b.pick(b.sizes)), (k,), (2, k, 1)]))]
    return b.pick([f"{x} @ {b.pick(found)}", f"mg.matmul({x}, {b.pick(found)})"])


def einsum(b: Any) -> str:
    """A sum of products over letters: equal sizes may share one."""
    names = [b.value(lambda t: 0 < t.ndim < 4) for _ in range(b.pick([1, 2, 2, 3]))]
    sizes: dict[str, int] = {}
    terms = []
    for name in names:
        term = ""
        for n in b[name].shape:
            known = [c for c in sizes if sizes[c] == n and (c not in term or b.chance(0.1))]
            letter = b.pick(known) if known and b.chance(0.7) else "ijklmnopq"[len(sizes)]
            sizes[letter] = n
            term += letter
        terms.append(term)
    kept = [c for c in sizes if b.chance(0.5)]
    result = "".join(kept[::-1] if b.chance(0.3) else kept)
    return f'mg.einsum("{",".join(terms)}->{result}", {", ".join(names)})'


# Indices


def indices(b: Any, shape: tuple, high: int) -> str:
    """Integers below `high`: an argument or a fixed tensor, or computed ones."""
    found = b.having(lambda t: t.dtype.kind == "i" and t.ndim < 3)
    if found and b.chance(0.4):
        return f"mg.clip({b.pick(found)}, 0, {high - 1})"
    return b.input(shape, b.pick(["argument", "fixed"]), b.pick(["int64", "int64", "int32", "uint8"]), high)


def gather(b: Any) -> str:
    """Elements picked along one axis."""
    x = b.value(lambda t: t.ndim > 0 and t.size > 0)
    a, shape = b.integer(0, b[x].ndim - 1), b[x].shape
    index = b.input((*shape[:a], b.pick([1, 2, 3]), *shape[a + 1 :]), "argument", "int64", shape[a])
    return f"mg.gather({x}, {index}, axis={a})"


def one_hot(b: Any) -> str:
    """Rows of zeros with a one."""
    n = b.integer(1, 4)
    return f"mg.one_hot({indices(b, b.shape()[:2], n)}, {n}{b.pick(['', ', dtype=float64'])})"


def cross_entropy_rows(b: Any) -> str:
    """The losses of rows."""
    x = b.value(lambda t: t.ndim == 2 and t.shape[1] > 0)
    n, classes = b[x].shape
    return f"{x}.cross_entropy_rows({b.input((n,), 'argument', 'int64', classes)})"


def affine(b: Any) -> str:
    """A linear layer in one operation."""
    x = b.value(lambda t: t.ndim == 2)
    k, m = b[x].shape[1], b.pick(b.sizes)
    return f"{x}.affine({b.of_shape((k, m))}, {b.of_shape((m,))})"


def cut(b: Any, n: int) -> str:
    """A slice of an axis of n elements, or one element."""
    way = b.integer(0, 7)
    if way == 7 and n:
        return str(b.integer(-n, n - 1))
    if way < 2:
        return ":"
    if way == 2:
        return "::-1"
    start, stop = (b.pick(["", "", *range(-n, n + 1)]) for _ in range(2))
    step = b.pick(["", "", ":1", ":2", ":-1", ":-2", ":3"])
    return f"{start}:{stop}{step}"


def sliced(b: Any) -> str:
    """Slices and single elements, a new axis, an ellipsis."""
    x = b.value(lambda t: t.ndim > 0, "fffib")
    parts = [cut(b, n) for n in b[x].shape[: b.integer(1, b[x].ndim)]]
    if b.chance(0.2):
        parts.insert(b.integer(0, len(parts)), "None")
    if b.chance(0.2):
        parts = ["...", *[cut(b, n) for n in b[x].shape[-len(parts) :]]]
    return f"{x}[{', '.join(parts)}]"


def picked(b: Any) -> str:
    """Integer arrays within an index."""
    x = b.value(lambda t: t.ndim > 0 and t.size > 0, "fffib")
    parts = [cut(b, n) for n in b[x].shape[: b.integer(1, b[x].ndim)]]
    shape = b.pick([(2,), (3,), (1,), (2, 2), (), (0,)])
    for k in {b.integer(0, len(parts) - 1) for _ in range(b.pick([1, 1, 2]))}:
        n = b[x].shape[k]
        fixed = [b.integer(-n, n - 1) for _ in range(3)]
        parts[k] = str(fixed) if shape == (3,) and b.chance(0.5) else indices(b, shape, n)
    return f"{x}[{', '.join(parts)}]"


def masked(b: Any) -> str:
    """A fixed boolean mask within an index."""
    x = b.value(lambda t: t.ndim > 0, "ffib")
    k = b.integer(0, b[x].ndim - 1)
    mask = [b.chance(0.6) for _ in range(b[x].shape[k])]
    return f"{x}[{':, ' * k}array({mask}, dtype=bool)]"


VIEWS = {
    "slices": sliced,
    "integer arrays": picked,
    "masks": masked,
    "T": lambda b: f"{b.value(kinds='ffib')}.T",
    "to": lambda b: f"{b.value(kinds='ffib')}.to({b.pick(['float32', 'float64', 'int64', 'bool'])})",
    "clone": lambda b: f"{b.value(kinds='ffib')}.{b.pick(['clone', 'detach'])}()",
}
"""Ways to look at a value that are no operations of their own."""

SPECIAL = {
    "reshape": reshape, "expand": expand, "unsqueeze": unsqueeze, "cat": cat, "stack": stack, "split": split,
    "matmul": matmul, "einsum": einsum, "gather": gather, "one_hot": one_hot, "affine": affine,
    "cross_entropy_rows": cross_entropy_rows,
}  # fmt: skip
"""Operations of which arrays and parameters depend on each other."""


def filled(name: str) -> Any:
    """New numbers in a shape."""
    rest = ", 0.5" if name == "full" else ""
    return lambda b: f"mg.{name}({b.shape()}{rest}, dtype={b.pick(['float32', 'float64'])})"


CREATION = {name: filled(name) for name in ("zeros", "ones", "full", "rand", "randn")} | {
    "eye": lambda b: f"mg.eye({b.integer(1, 4)}, {b.integer(1, 4)})",
    "arange": lambda b: f"mg.arange({b.pick([3, 1, 0.5])}, {b.pick([4, 6])})",
    "tensor": lambda b: f"mg.tensor({[b.number() for _ in range(b.integer(0, 3))]})",
}
"""Tensors made within the step."""

REFUSED = {
    "a computed mask": lambda b: f"{(x := b.value(lambda t: t.ndim > 0))}[{x} > 0]",
    "item": lambda b: f"{b.value()} * {b.value(lambda t: t.size == 1)}.item()",
}
"""What a step looks at and cannot be compiled: an error says so."""

SMOOTH = (
    "mg.tanh(x) * x",
    "mg.sin(x) ** 2",
    "mg.softmax(x) * x",
    "mg.gelu(x)",
    "x.cumsum() * x",
    "mg.exp(-x * x)",
)
"""What derivatives are taken of."""


def derived(text: str) -> Any:
    """A derivative of a function, at a value."""
    return lambda b: text.format(f=f"lambda x: ({b.pick(SMOOTH)}).sum()", x=b.value(lambda t: 0 < t.ndim < 3))


DERIVATIVES = {
    "grad": derived("mg.grad({f})({x})"),
    "value_and_grad": derived("mg.value_and_grad({f})({x})[1]"),
    "hvp": derived("mg.hvp({f}, {x}, mg.ones({x}.shape, dtype={x}.dtype))"),
    "hessian": derived("mg.hessian({f})({x}.reshape(-1)[:3])"),
}
"""Derivatives within the step."""


# Layers and losses

LAYERS = {
    "Linear": lambda b, t: f"{t.shape[-1]}, {b.integer(1, 4)}, bias={b.chance(0.7)}",
    "MLP": lambda b, t: f"[{t.shape[-1]}, 3, 2], activation={b.pick(['relu', 'tanh', 'gelu'])!r}",
    "Sequential": lambda b, t: f"nn.Linear({t.shape[-1]}, 3), nn.ELU(), nn.Linear(3, 3), nn.Dropout(0.2)",
    "Dropout": lambda b, t: "0.3",
    "LayerNorm": lambda b, t: f"{t.shape[-b.integer(1, t.ndim) :]}, bias={b.chance(0.7)}",
    "BatchNorm1d": lambda b, t: f"{t.shape[1]}, affine={b.chance(0.7)}",
    "Embedding": lambda b, t: "4, 3",
}
"""The arguments of the layers that need some, for a value."""


def layer(name: str, b: Any) -> str:
    """A layer of its own, called with a value."""
    x = b.value(lambda t: t.ndim > 0 and t.size > 0) if name != "Embedding" else indices(b, b.shape()[:2], 4)
    t = b[x] if x in b.values else None
    arguments = LAYERS[name](b, t) if name in LAYERS else ""
    double = t is not None and t.dtype == np.float64 and b.chance(0.8)
    text = f"nn.{name}({arguments})" + ".to(float64)" * double + ".eval()" * b.chance(0.2)
    return f"{b.start(text, name=f'layer{b.count}')}({x})"


OPTIONS = {
    "reduction": lambda b, classes: repr(b.pick(["mean", "sum", "none"])),
    "label_smoothing": lambda b, classes: "0.1",
    "delta": lambda b, classes: "0.7",
    "log_target": lambda b, classes: "True",
    "ignore_index": lambda b, classes: "1",
    "pos_weight": lambda b, classes: "array(2.0)",
    "weight": lambda b, classes: f"array({[0.5 + k for k in range(classes)]})",
}
"""Values for the options of losses."""


def loss(name: str, b: Any) -> str:
    """A loss of a value beside labels or a target."""
    parameters = list(inspect.signature(getattr(nn, name)).parameters)
    labelled = parameters[1] == "labels"
    x = b.value(lambda t: t.size > 0 and (t.ndim > 1 or not labelled))
    shape = b[x].shape
    classes = shape[1 if labelled else -1] if shape else 1
    if labelled and (name != "cross_entropy" or b.chance(0.8)):
        target = b.input((shape[0], *shape[2:]), "argument", "int64", classes)
    else:
        target = b.of_shape(shape)
    options = [f"{p}={OPTIONS[p](b, classes)}" for p in parameters[2:] if b.chance(0.4)]
    return f"nn.{name}({', '.join([x, target, *options])})"
