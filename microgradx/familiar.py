"""Names from elsewhere that do not exist here, and what to write instead: for messages, not to be called.

PyTorch's, and some of NumPy's, JAX' and Keras'.

A package, Tensor and Module ask `absent` for the error where an attribute is not found.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from microgradx.errors import AbsentError, ArgumentError

MLPS = "microgradx is for multilayer perceptrons"
LAYERS = f"nn.Flatten() and nn.MLP([784, 128, 10]), since {MLPS}; or an operation of your own, mg.primitive"
SORTED = "mg.gather(t, np.argsort(t.numpy()), -1): the order by NumPy, and gradients flow through it"
ORDER = "np.argsort(t.numpy())"
TILED = "mg.cat([t, t], 0), or t.expand(2, 2, 3), which copies nothing"
DRAWN = "with mg.no_grad(): t.data = mg.randn(t.shape).numpy()"
STORED = 'np.savez("weights.npz", **model.state_dict()), and model.load_state_dict(np.load("weights.npz"))'
TRAINED = "mg.tensor(values, requires_grad=True): a module's attribute of that kind is a parameter"
SHARED = "mg.Tensor(array), which shares its memory"
PAIR = "a pair of arrays, (x, y), of whose rows x[index] takes some"
DERIVED = "mg.grad(f)(t), mg.hessian(f)(t), mg.hvp(f, t, v)"
THREADS = "kernels.set_threads(1), after `from microgradx import kernels`"
CLUSTER = "mg.fit(...) in a script that mpiexec starts: `mpiexec -n 2 python train.py`"

BY_OTHERS = {
    "tan": "mg.sin(t) / mg.cos(t)",
    "sinh": "(mg.exp(t) - mg.exp(-t)) / 2",
    "cosh": "(mg.exp(t) + mg.exp(-t)) / 2",
    "log2": "mg.log(t) / np.log(2)",
    "log10": "mg.log(t) / np.log(10)",
    "reciprocal": "1 / t",
    "tril": "t * np.tri(3)",
    "triu": "t * np.tri(3).T",
    "isnan": "t != t",
    "isfinite": "mg.abs(t) < np.inf",
    "isinf": "mg.abs(t) == np.inf",
    "nan_to_num": "mg.where(t != t, 0, t)",
    "flip": "t[::-1]",
    "roll": "mg.cat([t[-1:], t[:-1]], 0)",
    "trace": "(t * np.eye(3)).sum()",
    **dict.fromkeys(["diag", "diagonal"], "t[range(3), range(3)]"),
    **dict.fromkeys(["topk", "sort"], SORTED),
    "argsort": ORDER,
    **dict.fromkeys(["median", "quantile"], "mg.gather(t, np.argsort(t.numpy()), -1), and [..., k] of it"),
    **dict.fromkeys(["masked_fill", "index_fill", "scatter"], "mg.where(mask, 0, t)"),
    "masked_select": "t[mask]",
    "lerp": "a + weight * (b - a)",
    **dict.fromkeys(["repeat", "tile"], TILED),
    **{name: f"np.{name}(t.numpy())" for name in ("floor", "ceil", "round", "nonzero", "unique")},
    **{name: f"np.{name}(t.numpy())" for name in ("histogram", "count_nonzero")},
    "bincount": "np.bincount(labels)",
    **dict.fromkeys(["mm", "bmm", "dot", "inner"], "a @ b"),
    "sub": "a - b",
    "mul": "a * b",
    "div": "a / b",
    "pow": "a ** b",
    "neg": "-t",
    **dict.fromkeys(["addmm", "baddbmm"], "c + a @ b"),
    **dict.fromkeys(["mod", "remainder", "fmod"], "np.mod(t.numpy(), 2)"),
    "eq": "a == b",
    "ne": "a != b",
    "gt": "a > b",
    "lt": "a < b",
    "ge": "a >= b",
    "le": "a <= b",
    "outer": "a[:, None] * b",
}
"""What is written with other functions, or by an operator, whether it is sought in mg or at a tensor."""

absences: dict[str, dict[str, str]] = {
    "mg": {
        "manual_seed": "mg.seed(0)",
        **dict.fromkeys(["zeros_like", "empty", "empty_like"], "mg.zeros(t.shape)"),
        "ones_like": "mg.ones(t.shape)",
        "full_like": "mg.full(t.shape, 0.5)",
        "rand_like": "mg.rand(t.shape)",
        "randn_like": "mg.randn(t.shape)",
        "randint": "mg.tensor(np.random.default_rng(0).integers(10, size=5))",
        "randperm": "mg.tensor(np.random.default_rng(0).permutation(5))",
        **{name: f"mg.tensor(np.{name}(0, 1, 5))" for name in ("linspace", "logspace")},
        **dict.fromkeys(["as_tensor", "from_numpy", "asarray"], SHARED),
        "array": "mg.tensor([1.0, 2.0])",
        "ndarray": "mg.Tensor",
        **{name: f"np.{name}" for name in ("pi", "inf", "nan", "newaxis", "e")},
        "normal": "mg.randn(2, 3) * deviation + mean",
        "random": "mg.randn(2, 3), mg.rand(2, 3), mg.seed(0)",
        "numpy": "mg itself: mg.exp(t), mg.sum(t)",
        "linalg": "mg.norm(t), or np.linalg for arrays",
        "lax": "mg.jit(step), whose step.scan(x, y, batch_size=32) passes over the data",
        **dict.fromkeys(["concat", "concatenate", "vstack", "hstack"], "mg.cat([a, b], 0)"),
        **dict.fromkeys(["save", "load"], STORED),
        **dict.fromkeys(["inference_mode", "set_grad_enabled", "enable_grad"], "mg.no_grad()"),
        **dict.fromkeys(["float", "float32"], "np.float32"),
        **dict.fromkeys(["double", "float64"], "np.float64"),
        **dict.fromkeys(["long", "int64"], "np.int64"),
        "bool": "np.bool_",
        "device": 'its name, as in t.to("cuda")',
        "clamp": "mg.clip(t, 0, 1)",
        **BY_OTHERS,
        "add": "a + b",
        "subtract": "a - b",
        "multiply": "a * b",
        "divide": "a / b",
        "power": "a ** b",
        "negative": "-t",
        "is_tensor": "isinstance(t, mg.Tensor)",
        "autograd": "loss.backward(), or mg.grad(f)(t)",
        **dict.fromkeys(["func", "jacobian", "jacrev", "jacfwd", "jvp", "vjp"], DERIVED),
        "utils": "data.batches(x, y, batch_size=32), optim.clip_grad_norm_(optimizer, 1.0)",
        "distributed": CLUSTER,
        "backends": "mg.matmul_precision(\"tf32\")",
        **dict.fromkeys(["set_num_threads", "get_num_threads"], THREADS),
        "use_deterministic_algorithms": "nothing: results have the same bits every time",
        "logaddexp": "mg.logsumexp(mg.stack([a, b]), axis=0)",
        "vmap": "mg.einsum or operators: they broadcast over a batch on the first axis",
        **dict.fromkeys(["get_default_dtype", "set_default_dtype"], "mg.zeros(3, dtype=np.float64)"),
        **dict.fromkeys(["allclose", "equal"], "np.allclose(a, b)"),
        **dict.fromkeys(["chunk", "unbind"], "mg.split(t, 2)"),
        "broadcast_to": "mg.expand(t, 2, 3)",
        "amax": "mg.max(t, axis=0)",
        "amin": "mg.min(t, axis=0)",
        "numel": "t.size",
        "compile": "mg.jit(step)",
        "cross_entropy": "nn.cross_entropy(logits, labels)",
    },
    "nn": {
        "Parameter": TRAINED,
        **dict.fromkeys(["ModuleList", "ParameterList"], "a list: an attribute may be a list of modules"),
        "ModuleDict": "a dict: an attribute may be a dict of modules",
        "CrossEntropyLoss": "nn.cross_entropy(logits, labels)",
        "MSELoss": "nn.mse_loss(outputs, targets)",
        "L1Loss": "nn.l1_loss(outputs, targets)",
        **dict.fromkeys(["HuberLoss", "SmoothL1Loss"], "nn.huber_loss(outputs, targets)"),
        **dict.fromkeys(["BCEWithLogitsLoss", "BCELoss"], "nn.binary_cross_entropy_with_logits(logits, y)"),
        "NLLLoss": "nn.nll_loss(log_probabilities, labels)",
        "KLDivLoss": "nn.kl_div(log_probabilities, targets)",
        **dict.fromkeys(["functional", "F"], "mg.relu(t), nn.cross_entropy(logits, labels)"),
        **{name: f"mg.{name}(t)" for name in ("relu", "gelu", "silu", "sigmoid", "tanh", "softmax", "elu")},
        "utils": "optim.clip_grad_norm_(optimizer, 1.0)",
        "init": "with mg.no_grad(): layer.weight.data = values",
        "Identity": "nn.Sequential()",
        "Unflatten": "mg.reshape(t, 5, 2, 3), in a function",
        **dict.fromkeys(["Dropout1d", "Dropout2d", "AlphaDropout"], "nn.Dropout(0.5)"),
        "Swish": "nn.SiLU()",
        "PReLU": "nn.LeakyReLU(0.2)",
        "BatchNorm2d": "nn.BatchNorm1d(16)",
        **dict.fromkeys(["GroupNorm", "RMSNorm"], "nn.LayerNorm(16)"),
        **dict.fromkeys(["Conv1d", "Conv2d", "MaxPool2d", "AvgPool2d", "LSTM", "GRU", "RNN"], LAYERS),
        **dict.fromkeys(["Transformer", "MultiheadAttention"], LAYERS),
    },
    "optim": {
        "lr_scheduler": "optim.StepLR(optimizer, 10)",
        "swa_utils": "optim.EMA(model.named_parameters())",
    },
    "data": {
        "DataLoader": "data.batches(x, y, batch_size=32), or mg.fit, which makes batches of arrays",
        **dict.fromkeys(["Dataset", "TensorDataset", "Subset"], PAIR),
        "load_digits": "data.digits()",
        "random_split": "data.hold_out(x, y)",
    },
    "tensor": {
        **dict.fromkeys(["view", "view_as", "reshape_as"], "t.reshape(2, 3)"),
        "clamp": "t.clip(0, 1)",
        "dim": "t.ndim",
        **dict.fromkeys(["numel", "nelement"], "t.size"),
        **{name: f't.to("{name}")' for name in ("cuda", "cpu")},
        **dict.fromkeys(["float", "type", "astype"], "t.to(np.float32), which takes NumPy's dtypes"),
        "double": "t.to(np.float64)",
        "half": f"t.to(np.float32): {MLPS} in float32 and float64",
        "long": "t.to(np.int64)",
        "int": "t.to(np.int32)",
        "byte": "t.to(np.uint8)",
        "bool": "t != 0",
        "is_cuda": 't.device == "cuda"',
        **dict.fromkeys(["contiguous", "is_contiguous"], "t alone: layouts take care of themselves"),
        **{name: f"t.numpy().{name}" for name in ("nbytes", "itemsize", "strides")},
        "stride": "t.numpy().strides",
        **dict.fromkeys(["t", "mH"], "t.T"),
        "copy": "t.clone()",
        "to_numpy": "t.numpy()",
        "zero_": "with mg.no_grad(): t *= 0",
        "fill_": "with mg.no_grad(): t.data = 0 * t.data + 0.5",
        "copy_": "with mg.no_grad(): t.data = values",
        "add_": "with mg.no_grad(): t += step",
        "sub_": "with mg.no_grad(): t -= step",
        "mul_": "with mg.no_grad(): t *= 2",
        "div_": "with mg.no_grad(): t /= 2",
        "clamp_": "with mg.no_grad(): t.data = np.clip(t.data, 0, 1)",
        **dict.fromkeys(["uniform_", "normal_"], DRAWN),
        **BY_OTHERS,
        **dict.fromkeys(["mT", "swapaxes"], "t.transpose(-1, -2)"),
        "data_ptr": "t.numpy().ctypes.data",
        "new_zeros": "mg.zeros(3)",
        "new_ones": "mg.ones(3)",
        "new_tensor": "mg.tensor([1.0, 2.0])",
        "type_as": "t.to(np.float32)",
        **dict.fromkeys(["chunk", "unbind"], "t.split(2)"),
        "index_select": "t[index]",
        "amax": "t.max(axis=0)",
        "amin": "t.min(axis=0)",
        "detach_": "t.detach()",
        "grad_fn": "t.is_leaf, or mg.tape(t), which tells all that it was computed from",
        **dict.fromkeys(["register_hook", "retain_grad"], "mg.grad(f)(t)"),
    },
    "module": {
        **{name: f'model.to("{name}")' for name in ("cuda", "cpu")},
        **dict.fromkeys(["float", "type"], "model.to(np.float32)"),
        "double": "model.to(np.float64)",
        "half": f"model.to(np.float32): {MLPS} in float32 and float64",
        **dict.fromkeys(["buffers", "named_buffers"], "model.state_dict()"),
        "register_buffer": "self.name = mg.zeros(3): a tensor without gradient is a buffer",
        "register_parameter": "self.name = " + TRAINED,
        "add_module": "self.name = module",
        "apply": "for module in model.modules(): ...",
        "named_modules": "model.modules(), model.named_children()",
        "get_parameter": "dict(model.named_parameters())[name]",
        "compile": "mg.jit(step)",
        **dict.fromkeys(["append", "insert", "extend"], "nn.Sequential(*model, nn.ReLU())"),
        "fit": "mg.fit(model, optimizer, (x, y))",
        **dict.fromkeys(["predict", "predict_proba"], "mg.softmax(model.eval()(x))"),
        "summary": "print(model)",
        **dict.fromkeys(["save", "load", "save_weights", "load_weights"], STORED),
        **dict.fromkeys(["register_forward_hook", "register_full_backward_hook"], "mg.tape(loss)"),
    },
    "cuda": {
        "is_available": "mg.cuda.available()",
        "synchronize": "t.numpy(), which waits for the GPU",
        "device_count": "mg.cuda.available(): there is one device",
    },
}  # fmt: skip
"""By what was asked, and the name: what to write here."""

fused = dict.fromkeys(
    ["fused", "foreach", "capturable", "differentiable"], "one sweep updates all parameters"
) | {"verbose": "get_last_lr() tells the rates"}
"""Options of PyTorch's optimizers and schedules that choose how, where there is one way."""


def of_package(
    asked: str, package: str, homes: Mapping[str, Sequence[str]] = {},  # noqa: B006 - never changed
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:  # fmt: skip
    """What a package does about names that it has not imported, and all its names: __getattr__, __dir__.

    homes: modules and the names in them that are imported with their first use: not every program needs them.
    """
    home = {name: module for module, names in homes.items() for name in names}

    def find(name: str) -> object:
        if name not in home:
            raise absent(asked, name, package, sys.modules[package])
        module = import_module(f"{package}.{home[name]}")
        found = module if name == home[name] else getattr(module, name)
        setattr(sys.modules[package], name, found)
        return found

    return find, lambda: sorted({*vars(sys.modules[package]), *home})


def absent(asked: str, name: str, what: str, owner: object = None) -> AttributeError:
    """The error for an attribute that is not there; `what` was asked, in words, from the table `asked`."""
    text, advice = f"{what} has no attribute {name!r}", absences.get(asked, {}).get(name)
    if advice is None:
        return AttributeError(text, name=name, obj=owner)
    return AbsentError(f"{text} here: write {advice}.", name=name, obj=owner)


def forgetting(set_to_none: bool) -> None:
    """ArgumentError where gradients shall become zeros, as they did in PyTorch once."""
    if not set_to_none:
        raise ArgumentError(
            "zero_grad(set_to_none=False): gradients are forgotten, and None then. Leave it out."
        )
