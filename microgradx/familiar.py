"""Names from PyTorch that do not exist here, and what to write instead: for messages, not to be called.

A package, Tensor and Module ask `absent` for the error where an attribute is not found.
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module

from microgradx.errors import AbsentError, ArgumentError

WITH_NUMPY = "np.round(t.numpy()), for what has no gradient"
SORTED = "t[np.argsort(t.numpy())]: the order by NumPy, and gradients flow through the index"
DRAWN = "with mg.no_grad(): t.data = mg.randn(t.shape).numpy()"
LAYERS = "nn.Flatten() and nn.MLP([784, 128, 10]), or an operation of your own: mg.primitive"
BY_HAND = "with mg.no_grad(): t += step, or t.data = values"
STORED = 'np.savez("weights.npz", **model.state_dict()), and model.load_state_dict(np.load("weights.npz"))'
OPERATOR = "the operators: a + b, a - b, a * b, a / b, a ** b, a @ b, a == b"
MOVED = 't.to("cuda"), t.to("cpu")'
CONVERTED = "t.to(np.float32), which takes NumPy's dtypes"
TRAINED = "mg.tensor(values, requires_grad=True): a module's attribute of that kind is a parameter"
BY_OTHERS = {
    "tan": "mg.sin(t) / mg.cos(t)",
    "sinh": "(mg.exp(t) - mg.exp(-t)) / 2",
    "cosh": "(mg.exp(t) + mg.exp(-t)) / 2",
    "log2": "mg.log(t) / np.log(2)",
    "log10": "mg.log(t) / np.log(10)",
    "tril": "t * np.tri(3)",
    "triu": "t * np.tri(3).T",
}

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
        "linspace": "mg.tensor(np.linspace(0, 1, 5))",
        **dict.fromkeys(["as_tensor", "from_numpy"], "mg.Tensor(array), which shares its memory"),
        **dict.fromkeys(["concat", "concatenate", "vstack", "hstack"], "mg.cat([a, b], 0)"),
        **dict.fromkeys(["save", "load"], STORED),
        **dict.fromkeys(["inference_mode", "set_grad_enabled", "enable_grad"], "mg.no_grad()"),
        **dict.fromkeys(["float", "float32"], "np.float32"),
        **dict.fromkeys(["double", "float64"], "np.float64"),
        **dict.fromkeys(["long", "int64"], "np.int64"),
        "bool": "np.bool_",
        "device": 'its name, as in t.to("cuda")',
        "clamp": "mg.clip(t, 0, 1)",
        **dict.fromkeys(["pow", "mul", "add", "sub", "div", "mm", "bmm", "dot", "eq"], OPERATOR),
        "outer": 'mg.einsum("i,j->ij", a, b)',
        **dict.fromkeys(["topk", "sort", "argsort"], SORTED),
        **dict.fromkeys(["floor", "ceil", "round", "isnan", "isfinite", "isinf", "nonzero"], WITH_NUMPY),
        **BY_OTHERS,
        "is_tensor": "isinstance(t, mg.Tensor)",
        "autograd": "loss.backward(), or mg.grad(f)(t)",
        "vmap": "mg.einsum or operators: they broadcast over a batch on the first axis",
        **dict.fromkeys(["get_default_dtype", "set_default_dtype"], "mg.zeros(3, dtype=np.float64)"),
        **dict.fromkeys(["allclose", "equal"], "np.allclose(a, b)"),
        **dict.fromkeys(["chunk", "unbind"], "mg.split(t, 2)"),
        "masked_fill": "mg.where(mask, 0, t)",
        **dict.fromkeys(["repeat", "tile", "broadcast_to"], "mg.expand(t, 2, 3)"),
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
    "optim": {"lr_scheduler": "optim.StepLR(optimizer, 10)", "swa_utils": "optim.EMA(model)"},
    "data": {
        "DataLoader": "data.batches((x, y), 32), or mg.fit, which shuffles and cuts arrays into batches",
        **dict.fromkeys(["Dataset", "TensorDataset"], "a pair of arrays, (x, y)"),
        "random_split": "data.hold_out(x, y)",
    },
    "tensor": {
        **dict.fromkeys(["view", "view_as", "reshape_as"], "t.reshape(2, 3)"),
        "clamp": "t.clip(0, 1)",
        "dim": "t.ndim",
        **dict.fromkeys(["numel", "nelement"], "t.size"),
        **dict.fromkeys(["cuda", "cpu"], MOVED),
        **dict.fromkeys(["float", "type", "astype"], CONVERTED),
        **dict.fromkeys(["double", "half"], "t.to(np.float64), or np.float32"),
        **dict.fromkeys(["long", "int"], "t.to(np.int64), or np.int32"),
        "bool": "t != 0",
        "is_cuda": 't.device == "cuda"',
        "contiguous": "t alone: layouts take care of themselves",
        **dict.fromkeys(["t", "mH"], "t.T"),
        "copy": "t.clone()",
        "repeat": "t.expand(2, 3)",
        "masked_fill": "mg.where(mask, 0, t)",
        **dict.fromkeys(["add_", "sub_", "mul_", "div_", "zero_", "fill_", "copy_", "clamp_"], BY_HAND),
        **dict.fromkeys(["uniform_", "normal_"], DRAWN),
        **dict.fromkeys(["mm", "bmm", "dot", "sub", "mul", "div", "pow"], OPERATOR),
        **dict.fromkeys(["eq", "ne", "gt", "lt", "ge", "le"], OPERATOR),
        **dict.fromkeys(["topk", "sort", "argsort"], SORTED),
        **dict.fromkeys(["round", "floor", "ceil", "isnan", "isfinite", "nonzero"], WITH_NUMPY),
        **BY_OTHERS,
        **dict.fromkeys(["mT", "swapaxes"], "t.transpose(0, 1)"),
        "data_ptr": "t.numpy().ctypes.data",
        "new_zeros": "mg.zeros(3)",
        "type_as": "t.to(np.float32)",
        **dict.fromkeys(["chunk", "unbind"], "t.split(2)"),
        "index_select": "t[index]",
        "amax": "t.max(axis=0)",
        "amin": "t.min(axis=0)",
        "detach_": "t.detach()",
        **dict.fromkeys(["register_hook", "retain_grad"], "mg.grad(f)(t)"),
    },
    "module": {
        **dict.fromkeys(["cuda", "cpu"], 'model.to("cuda"), model.to("cpu")'),
        **dict.fromkeys(["float", "double", "half"], "model.to(np.float32)"),
        **dict.fromkeys(["buffers", "named_buffers"], "model.state_dict()"),
        "register_buffer": "self.name = mg.zeros(3): a tensor without gradient is a buffer",
        "register_parameter": "self.name = " + TRAINED,
        "add_module": "self.name = module",
        "apply": "for module in model.modules(): ...",
        "named_modules": "model.modules(), model.named_children()",
        "get_parameter": "dict(model.named_parameters())[name]",
        "compile": "mg.jit(step)",
        **dict.fromkeys(["append", "insert", "extend"], "nn.Sequential(*model, nn.ReLU())"),
    },
}  # fmt: skip
"""By what was asked, and the name: what to write here."""

fused = dict.fromkeys(
    ["fused", "foreach", "capturable", "differentiable"], "one sweep updates all parameters"
)
"""Options of PyTorch's optimizers that choose how, where there is one way."""


def of_package(asked: str, package: str, homes: Mapping[str, str] = {}) -> Callable[[str], object]:  # noqa: B006
    """What a package does about names that it has not imported.

    homes: those that are imported with their first use, for not every program needs them, and their modules.
    """

    def find(name: str) -> object:
        if name not in homes:
            raise absent(asked, name, package, sys.modules[package])
        module = import_module(f"{package}.{homes[name]}")
        found = module if name == homes[name] else getattr(module, name)
        setattr(sys.modules[package], name, found)
        return found

    return find


def absent(asked: str, name: str, what: str, owner: object = None) -> AttributeError:
    """The error for an attribute that is not there; `what` was asked, in words, from the table `asked`."""
    text, advice = f"{what} has no attribute {name!r}", absences.get(asked, {}).get(name)
    if advice is None:
        return AttributeError(text, name=name, obj=owner)
    return AbsentError(f"{text}, as PyTorch's have. Write {advice}.", name=name, obj=owner)


def forgetting(set_to_none: bool) -> None:
    """ArgumentError where gradients shall become zeros, as they did in PyTorch once."""
    if not set_to_none:
        raise ArgumentError(
            "zero_grad(set_to_none=False): gradients are forgotten, and None then. Leave it out."
        )
