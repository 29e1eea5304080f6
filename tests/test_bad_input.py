"""Every public function with arguments that it cannot use: an error of ours, never another's, never a crash.

Each row of `CALLS` is a call that works. In turn every one of its arguments is replaced by each of `BAD`;
what may come of it is a result or a MicrogradxError. Where there is a result, it is NumPy's.
"""

import inspect
from collections import defaultdict
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra.numpy import array_shapes, arrays

import microgradx as mg
from microgradx import data, nn, optim, primitives, scalars
from microgradx.errors import MicrogradxError


class NoArray:
    """It says that it is one, and is not."""

    def __array__(self, *_, **__):
        raise RuntimeError("not now")


def grid(*shape):
    return np.linspace(0.1, 0.9, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def tensor(*shape):
    return mg.tensor(grid(*shape), requires_grad=True)


def read_only(*shape):
    array = grid(*shape)
    array.flags.writeable = False
    return array


# fmt: off
BAD = {
    "None": lambda: None, "word": lambda: "abc", "bytes": lambda: b"ab", "object": object,
    "dict": lambda: {"a": 1}, "nothing": lambda: [], "ragged": lambda: [[1], [1, 2]], "type": lambda: int,
    "words": lambda: np.array(["a", "b"]), "objects": lambda: np.array([object(), None]),
    "dates": lambda: np.array(["2020"], "M8[D]"), "record": lambda: np.zeros(2, [("a", "f4")]),
    "complex": lambda: grid(2, 3) * 1j, "half": lambda: grid(2, 3).astype(np.float16),
    "NaN": lambda: float("nan"), "infinity": lambda: float("inf"), "-1": lambda: -1, "0": lambda: 0,
    "1.5": lambda: 1.5, "10^30": lambda: 10**30, "2^62": lambda: 2**62, "True": lambda: True, "i": lambda: 1j,
    "empty": lambda: np.zeros((0, 3), np.float32), "4 axes": lambda: grid(2, 3, 1, 2),
    "labels": lambda: np.array([7, 1]), "negative": lambda: np.array([-1, 1]),
    "bytes of labels": lambda: np.array([200, 1], np.uint8), "no axes": lambda: np.array(1.5),
    "read-only": lambda: read_only(2, 3), "swapped": lambda: grid(2, 3).astype(">f4"),
    "strided": lambda: grid(4, 6)[::2, ::2], "NaNs": lambda: np.full((2, 3), np.nan, np.float32),
    "function": lambda: lambda *_: 1, "tensor": lambda: tensor(2, 3), "no array": NoArray,
    "integers": lambda: mg.tensor(np.array([1, 0])), "huge": lambda: (2**40, 2**40), "-1s": lambda: (-1, -2),
    "module": lambda: nn.ReLU(), "slice": lambda: slice(None),
}
# fmt: on

CALLS = defaultdict(list)


def row(group, function, *args, **kwargs):
    """A call that works; an argument that is a `partial` is made anew for every call."""
    CALLS[group].append((function, args, kwargs))


def fresh(argument):
    return argument() if isinstance(argument, partial) else argument


def defaults(function):
    found = {p.name: p.default for p in inspect.signature(function).parameters.values()}
    return {name: default for name, default in found.items() if default is not inspect.Parameter.empty}


a23, t23 = partial(grid, 2, 3), partial(tensor, 2, 3)

for k, function in enumerate(scalars.functions.values()):
    for one in (a23, t23, 0.5) if k % 4 == 0 and not function.name.startswith("logical") else (a23,):
        row("elementwise", function, *[one] * len(function.inputs), **function.constants)


def each(makers):
    return [make() for make in makers]


for name, operation in primitives.operations.items():
    case, *others = primitives.cases[name] or (primitives.Case((2, 3)),)
    options = {k: v for k, v in defaults(operation).items() if k not in ("shape", "axes")} | case.parameters
    for kind in (grid, tensor):
        inputs = [partial(kind, *shape) for shape in case.shapes]
        inputs = [partial(np.array, [1, 0])] if name == "one_hot" else inputs
        inputs = [partial(each, inputs)] if case.as_list else inputs
        row("operations", operation, *case.first, *inputs, *case.last, **options)

new = {"dtype": None, "device": None, "requires_grad": False}
for function in (mg.zeros, mg.ones, mg.rand, mg.randn, mg.eye):
    row("creation", function, 2, 3, **new)
row("creation", mg.full, (2, 3), 1.0, **new)
row("creation", mg.arange, 0, 5, 1, **new)
row("creation", mg.tensor, [1.0, 2.0], **new)
row("creation", mg.Tensor, [1.0, 2.0], **new)
row("creation", mg.from_dlpack, a23)
row("creation", mg.seed, 1)
for method, options in (
    ("uniform", {"shape": (2,), "low": 0.0, "high": 1.0, "dtype": np.float32}), ("bits", {"n": 3}),
    ("normal", {"shape": (2,), "dtype": np.float32}), ("permutation", {"n": 3}),
    ("integers", {"low": 0, "high": 5, "shape": (2,)}),
    ("load_state_dict", {"state": {"seed": 1, "block": 2}}),
):  # fmt: skip
    row("creation", lambda method=method, **kw: getattr(mg.Generator(0), method)(**kw), **options)


def total(x):
    return (x * x).sum()


two = partial(grid, 2)
row("derivatives", lambda f, x: mg.grad(f)(x), total, a23)
row("derivatives", lambda f, x: mg.hessian(f)(x), total, two)
row("derivatives", lambda at, again: mg.grad(total, at, again)(grid(2)), 0, None)
row("derivatives", mg.hvp, total, two, two)
row("derivatives", mg.check_grad, mg.tanh, two, order=1, eps=1e-6, rtol=1e-5, atol=1e-7, seed=0)
row("derivatives", mg.jit, total, audit=None, interpret=None, fallback=None)
row("derivatives", mg.elementwise, lambda x: 2 * x, domain=(-1.0, 1.0), kinks=(), activation=False)
row("derivatives", mg.rule, lambda p, g, /, t, lr=0.1: p - lr * g)
row("derivatives", mg.primitive, lambda x: x)


def method_of(make, name, *args):
    row("tensors", lambda *args: getattr(make(), name)(*args), *args)


plain = partial(mg.tensor, grid(2, 3))
for name in ("add", "rsub", "mul", "truediv", "pow", "rpow", "lt", "eq", "and", "iadd", "isub"):
    method_of(plain, f"__{name}__", a23)
method_of(t23, "__matmul__", partial(grid, 3, 2))
method_of(t23, "__getitem__", 0)
method_of(plain, "__setitem__", 0, 1.0)
method_of(t23, "__format__", "")
method_of(t23, "to", np.float64)
method_of(t23, "requires_grad_", True)
method_of(t23, "backward", a23, False, False)
row("tensors", lambda x: setattr(tensor(2, 3), "data", x), a23)
row("tensors", lambda x: setattr(tensor(2, 3), "grad", x), a23)

for layer, *args in (
    (nn.Linear, 3, 2, True), (nn.MLP, [3, 4, 2], "relu", 0.1, True), (nn.Dropout, 0.5), (nn.ELU, 1.0),
    (nn.LayerNorm, 3, 1e-5, True, True), (nn.BatchNorm1d, 3, 1e-5, 0.1, True), (nn.Flatten, 1, -1),
    (nn.Softmax, -1), (nn.ReLU,), (nn.Embedding, 9, 3),
):  # fmt: skip
    x = partial(np.array, [[1, 2]]) if layer is nn.Embedding else t23
    row("layers", lambda *args, layer=layer, x=x: layer(*args)(x()), *args)
    row("layers", lambda x, layer=layer, args=args: layer(*args).train()(x), x)
    row("layers", lambda x, layer=layer, args=args: layer(*args).eval()(x), x)
weight = grid(3, 2)
row(
    "layers",
    lambda *state: nn.Linear(3, 2).load_state_dict(*state),
    {"weight": weight, "bias": grid(2)},
    True,
)
row("layers", lambda bias: nn.Linear(3, 2).load_state_dict({"weight": weight, "bias": bias}), two)
row("layers", lambda target: nn.Linear(3, 2).to(target), np.float64)

labels, weights = partial(np.array, [1, 0]), partial(grid, 3)
for loss, target, options in (
    (nn.cross_entropy, labels, {"weight": weights, "ignore_index": -100, "label_smoothing": 0.1}),
    (nn.nll_loss, labels, {"weight": weights, "ignore_index": -100}), (nn.mse_loss, a23, {}),
    (nn.l1_loss, a23, {}), (nn.huber_loss, a23, {"delta": 1.0}), (nn.kl_div, a23, {"log_target": False}),
    (nn.binary_cross_entropy_with_logits, a23, {"weight": None, "pos_weight": None}),
):  # fmt: skip

    def differentiated(x, y, loss=loss, **options):
        value = loss(x, y, **options)
        return value.sum().backward() if isinstance(value, mg.Tensor) and value.requires_grad else value

    row("losses", differentiated, t23, target, **options, reduction="mean")
    row("losses", loss, a23, target, **options, reduction="none")


def parameters():
    p = mg.tensor(grid(2, 3), requires_grad=True)
    p.grad = np.ones((2, 3), np.float32)
    return [p]


def stepped(kind, params, **options):
    optimizer = kind(params, **options)
    optimizer.step(lambda: mg.tensor(1.0)) if kind is optim.LBFGS else optimizer.step()


def sgd():
    return optim.SGD(parameters(), lr=0.1, momentum=0.9)


theirs = partial(parameters)
for kind in (optim.SGD, optim.Adam, optim.Rprop, optim.Adafactor, optim.LBFGS):  # each with other options
    options = {k: v for k, v in kind.options.items() if k != "max_iter"} | {"check_finite": False}
    row("optimizers", partial(stepped, kind), theirs, **options)
row("optimizers", optim.Optimizer, theirs, mg.rules.adam, lr=0.1, eps=1e-8)
row("optimizers", lambda group: sgd().add_param_group(group), partial(lambda: {"params": parameters()}))
row("optimizers", lambda params, lr: sgd().add_param_group({"params": params, "lr": lr}), theirs, 0.1)
row("optimizers", lambda state: sgd().load_state_dict(state), sgd().state_dict())
row("optimizers", lambda params, decay: optim.EMA(params, decay).update(), theirs, 0.9)
row(
    "optimizers",
    lambda state: optim.EMA(parameters()).load_state_dict(state),
    optim.EMA(parameters()).state_dict(),
)
row("optimizers", optim.clip_grad_norm_, theirs, 1.0, 2.0, False)
row("optimizers", optim.clip_grad_value_, theirs, 1.0)

usual = {"gamma": 0.9, "step_size": 2, "milestones": [2], "lr_lambda": lambda step: 1.0, "T_max": 5, "T_0": 3}
usual |= {"base_lr": 0.1, "steps": 3, "max_lr": 0.5, "total_steps": 3}


def two_schedules():
    optimizer = sgd()
    return [optim.ConstantLR(optimizer), optim.ConstantLR(optimizer)]


def followed(kind, optimizer, **options):
    schedule = kind(**options) if kind is optim.ChainedScheduler else kind(optimizer, **options)
    for _ in range(2):
        schedule.step(*[1.0] * (kind is optim.ReduceLROnPlateau))


for kind in (x for x in vars(optim).values() if isinstance(x, type) and issubclass(x, optim.Schedule)):
    if kind is not optim.Schedule:
        takes = list(inspect.signature(kind.lr).parameters.values())[2:]
        options = {p.name: usual.get(p.name, p.default) for p in takes}
        options |= {"schedulers": partial(two_schedules)} if "schedulers" in options else {}
        row("schedules", partial(followed, kind), sgd(), **options)
row("schedules", lambda metric: optim.ReduceLROnPlateau(sgd()).step(metric), 1.0)
row("schedules", lambda base, step: optim.StepLR(sgd(), 2).at(base, step), 1.0, 3)

rows, classes = partial(grid, 6, 3), partial(np.arange, 6)
for function in (data.circles, data.blobs, data.regression):
    row("data", function, **defaults(function) | {"n": 50})
row("data", lambda *args: list(data.batches(*args)), rows, classes, 2, None, None, False)
row("data", data.hold_out, rows, partial(np.ones, 6), 0.3, 0)
row("data", lambda *args: repr(data.Split(*args)), (rows(), classes()), (rows(), classes()), None, (), ())
row("data", lambda x, y: data.Split((x, y), (x, y)), rows, classes)
row("data", lambda x: data.Standardize().fit(x), rows)
row("data", lambda x: data.Standardize().fit(rows()).inverse(x), rows)
row("data", lambda state: data.Standardize().load_state_dict(state), {"mean": grid(3), "scale": grid(3)})
row("data", lambda m, s: data.Standardize().load_state_dict({"mean": m, "scale": s}), weights, weights)
row("data", data.write_idx, "x.idx", rows)
row("data", data.read_idx, "x.idx")
row("data", data.load, "x.csv", label=-1, regression=False, header=None, delimiter=None, test=0.3, seed=0)


@pytest.mark.parametrize("group", CALLS)
@pytest.mark.filterwarnings("ignore")
def test_what_a_function_cannot_use_is_refused_by_an_error_of_ours(group, tmp_path, monkeypatch, registries):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("a,b\n" + "".join(f"{i},{i % 2}\n" for i in range(6)))
    foreign = []
    for function, args, kwargs in CALLS[group]:
        function(*map(fresh, args), **{name: fresh(x) for name, x in kwargs.items()})  # it works
        for place in [*range(len(args)), *kwargs]:
            for bad, make in BAD.items():
                instead = [make() if i == place else fresh(x) for i, x in enumerate(args)]
                named = {k: make() if k == place else fresh(x) for k, x in kwargs.items()}
                try:
                    function(*instead, **named)
                except MicrogradxError:
                    pass
                except Exception as error:
                    foreign.append(f"{function}, argument {place}: {bad} gives {error!r}")
    assert not foreign, "\n".join([f"{len(foreign)} foreign errors", *foreign[:20]])


NUMPYS = {
    "sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min, "prod": np.prod,
    "var": np.var, "std": np.std, "argmax": np.argmax, "cumsum": np.cumsum,
    "any": np.any, "all": np.all, "exp": np.exp, "sqrt": np.sqrt,
    "square": np.square, "sign": np.sign, "transpose": lambda x: np.swapaxes(x, -1, -2),
}  # fmt: skip
REDUCTIONS = {"sum", "mean", "max", "min", "prod", "var", "std", "argmax", "cumsum", "any", "all"}
KINDS = [np.dtype(kind) for kind in (">f4", "f4", "f8", "i1", "u1", ">i2", "u2", "i4", "i8", "u8", "?")]
FLOATS = some.integers(-100, 100).map(lambda n: n / 4) | some.sampled_from([np.nan, np.inf, -np.inf])
ELEMENTS = {"f": FLOATS, "i": some.integers(-100, 100), "u": some.integers(0, 200), "b": some.booleans()}
"""Numbers of which float32 has sums and squares, and those that are none."""

any_array = some.sampled_from(KINDS).flatmap(
    lambda kind: arrays(
        kind, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4), elements=ELEMENTS[kind.kind]
    )
)


@settings(max_examples=80)
@given(
    name=some.sampled_from(sorted(NUMPYS)),
    x=any_array,
    axis=some.none() | some.integers(-4, 3),
    cut=some.booleans(),
)
@pytest.mark.filterwarnings("ignore")
def test_any_array_gives_numpys_result_or_an_error_of_ours(name, x, axis, cut):
    x = x[..., ::2] if cut and x.ndim else x
    options = {"axis": axis if x.ndim else None} if name in REDUCTIONS else {}  # NumPy is not of one mind
    for given_as in (x, mg.Tensor(x)):
        try:
            found = np.asarray(getattr(mg, name)(given_as, **options))
        except MicrogradxError:
            with pytest.raises((ValueError, IndexError, TypeError)):  # NumPy refuses it too
                NUMPYS[name](x, **options)
            continue
        wide = x.astype(np.float64) if name in ("mean", "var", "std", "exp", "sqrt") else x
        expected = np.asarray(NUMPYS[name](wide, **options))
        assert found.shape == expected.shape
        single = found.dtype.itemsize == 4 and found.dtype.kind == "f"
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(
                found.astype(np.float64), expected.astype(found.dtype).astype(np.float64),
                rtol=1e-4 if single else 1e-9, atol=1e-6,
            )  # fmt: skip
