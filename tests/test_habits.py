"""What a user of PyTorch or NumPy types by habit: it works as there, or the error says what to write.

Each row is such a line and its outcome. Numbers are compared with NumPy's of the same arrays, `a` for `x`.
"""

import copy
import pickle
import re
import warnings

import numpy as np
import pytest

import microgradx as mg
from microgradx import data, errors, kernels, nn, optim
from microgradx.familiar import absences

A = np.array([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]], np.float32)
LIBRARIES = {"np": np, "mg": mg, "nn": nn, "optim": optim, "data": data, "copy": copy, "pickle": pickle}


def place():
    """Names that the lines use: a tensor that wants gradients, one that does not, a model, an optimizer."""
    model = nn.Linear(3, 2)
    model.weight.grad = mg.zeros(3, 2)
    made = {"a": A, "x": mg.tensor(A, requires_grad=True), "u": mg.tensor(A), "m": model}
    return LIBRARIES | made | {"o": optim.Adam(model.parameters()), "index": np.array([[0], [1]])}


def run(line, names):
    """What a line gives: the value of an expression, None of statements."""
    try:
        code = compile(line, "<habit>", "eval")
    except SyntaxError:
        return exec(line, names)  # noqa: S102
    return eval(code, names)  # noqa: S307


WORKS = {  # the line, and the same of NumPy's, or None where it is enough that it runs
    "x.sum(0)": "a.sum(0)",
    "x.sum(axis=1, keepdims=True)": "a.sum(1, keepdims=True)",
    "x.mean()": "a.mean()",
    "x.max()": "a.max()",
    "x.norm()": "np.linalg.norm(a)",
    "x.var()": "a.var()",
    "x.std(axis=0, ddof=1)": "a.std(0, ddof=1)",
    "x.flatten()": "a.ravel()",
    "x.reshape(3, 2)": "a.reshape(3, 2)",
    "x.reshape((3, 2))": "a.reshape(3, 2)",
    "x.permute(1, 0)": "a.T",
    "x.transpose(0, 1)": "a.T",
    "x.unsqueeze(0)": "a[None]",
    "x.unsqueeze(0).squeeze(0)": "a",
    "x.expand(2, 2, 3)": "np.broadcast_to(a, (2, 2, 3))",
    "x.split(2)[0]": "a[:1]",
    "x.gather(index, 1)": "np.take_along_axis(a, index, 1)",
    "x.abs().sqrt()": "np.sqrt(abs(a))",
    "x.clip(0, 1)": "a.clip(0, 1)",
    "x.clip(min=0)": "a.clip(0)",
    "x.cumsum(0)": "a.cumsum(0)",
    "x.prod(axis=0)": "a.prod(0)",
    "x.argmax(axis=1)": "a.argmax(1)",
    "x.any()": "a.any()",
    "x.all(axis=0)": "a.all(0)",
    "x[0]": "a[0]",
    "x[x > 0]": "a[a > 0]",
    "x[..., 0]": "a[..., 0]",
    "x[mg.tensor([0])]": "a[[0]]",
    "x.T": "a.T",
    "x @ x.T": "a @ a.T",
    "x.matmul(x.T)": "a @ a.T",
    "x.sum().item()": "a.sum()",
    "x.tolist()": "a",
    "x.numpy()": "a",
    "x.detach().numpy()": "a",
    "x.clone()": "a",
    "x.shape[0], len(x), x.ndim, x.size": "(2, 2, 2, 6)",
    "x.requires_grad_().is_leaf": "True",
    "x.requires_grad, x.device, x.dtype == np.float32": "(True, 'cpu', True)",
    "x.to(np.float64)": "a.astype(float)",
    "x.to('cpu')": "a",
    "float(x.sum()), int(x.sum()), bool(x.sum())": "(5.0, 5, True)",
    "list(x)[1]": "a[1]",
    "mg.softmax(x, 1).sum(1)": "[1, 1]",
    "mg.logsumexp(x, axis=1)": "np.log(np.exp(a).sum(1))",
    "mg.eye(3)": "np.eye(3)",
    "mg.arange(5)": "np.arange(5)",
    "mg.tensor([1, 2, 3], dtype=np.float32)": "[1, 2, 3]",
    "mg.zeros((2, 3))": "np.zeros((2, 3))",
    "mg.einsum('ij,kj->ik', x, x)": "a @ a.T",
    "mg.cat([x, x], 1)": "np.concatenate([a, a], 1)",
    "mg.stack([x, x])": "np.stack([a, a])",
    "mg.where(x > 0, x, 0)": "np.where(a > 0, a, 0)",
    "mg.grad(lambda x: (x ** 2).sum())(x)": "2 * a",
    "mg.value_and_grad(lambda x: (x ** 2).sum())(x)[0]": "(a ** 2).sum()",
    "np.sin(x)": "np.sin(a)",
    "np.exp(x)": "np.exp(a)",
    "np.tanh(x)": "np.tanh(a)",
    "np.sign(x)": "np.sign(a)",
    "np.sqrt(abs(x))": "np.sqrt(abs(a))",
    "np.matmul(x, x.T)": "a @ a.T",
    "np.maximum(x, 0)": "np.maximum(a, 0)",
    "np.add(x, 1)": "a + 1",
    "np.isnan(x)": "np.isnan(a)",
    "np.isfinite(x)": "np.isfinite(a)",
    "np.isinf(x)": "np.isinf(a)",
    "np.ones(3, np.float32) * x": "a",
    "np.ones((2, 3), np.float32) @ x.T": "np.ones((2, 3)) @ a.T",
    "np.float32(2) * x": "2 * a",
    "np.array(x)": "a",
    "np.asarray(x)": "a",
    "np.allclose(x, x)": "True",
    "np.argmax(x)": "a.argmax()",
    "np.shape(x)": "(2, 3)",
    "np.linalg.norm(u)": "np.linalg.norm(a)",
    "np.sum(u, axis=0)": "a.sum(0)",
    "np.from_dlpack(u)": "a",
    "mg.from_dlpack(a)": "a",
    "copy.deepcopy(x)": "a",
    "pickle.loads(pickle.dumps(x))": "a",
    "pickle.loads(pickle.dumps(m)).weight": "m.weight.numpy()",
    "repr(pickle.loads(pickle.dumps(o)))": "repr(o)",
    "repr(pickle.loads(pickle.dumps(optim.StepLR(o, 3))))": "'StepLR(step_size=3, gamma=0.1)'",
    "repr(m)": "'Linear(in_features=3, out_features=2)'",
    "nn.Softsign()(x)": "a / (1 + abs(a))",
    "nn.Flatten(1)(x)": "a",
    "nn.LayerNorm([3])(x).sum()": "0",
    "nn.Linear(2, 3, bias=False).bias": "None",
    "nn.cross_entropy(x, np.array([0, 1]), ignore_index=0, label_smoothing=0.1, reduction='none')[0]": "0",
    "len(nn.Sequential(nn.ReLU()))": "1",
    "[type(c) for c in m.children()], m.training": "([], True)",
    "m.state_dict()['weight']": "m.weight.numpy()",
    "m.train(False).eval().requires_grad_(False).weight.requires_grad": "False",
    "m.zero_grad(set_to_none=True); m.weight.grad": None,
    "o.zero_grad(set_to_none=True)": None,
    "o.step(lambda: (o.zero_grad(), (m(u) ** 2).sum())[1])": None,
    "optim.SGD(m.parameters(), lr=0.1, momentum=0.9, nesterov=True)": None,
    "optim.Adam(m.parameters(), amsgrad=True)": None,
    "optim.OneCycleLR(o, max_lr=[0.1], epochs=2, steps_per_epoch=3)": None,
    "optim.LambdaLR(o, [lambda step: 1.0])": None,
    "optim.MultiplicativeLR(o, lambda step: 0.9)": None,
    "optim.CyclicLR(o, 0.1, 0.2)": None,
    "optim.StepLR(o, 3, last_epoch=-1)": None,
    "x.backward": None,
    "with mg.no_grad(): x += 1": None,
    "x.grad = None": None,
}  # fmt: skip

REFUSED = {  # the line, and what the error says, its end as a rule: what to write
    # dim= for axis=, methods of other names
    "x.sum(dim=1)": "write axis= here.",
    "x.mean(dim=1, keepdim=True)": "write axis= here.",
    "x.sum(keepdim=True)": "write keepdims= here.",
    "x.max(dim=1)": "write axis= here.",
    "x.min(dim=1)": "write axis= here.",
    "x.norm(dim=1)": "write axis= here.",
    "x.var(dim=1)": "write axis= here.",
    "x.argmax(dim=1)": "write axis= here.",
    "x.softmax(dim=1)": "write axis= here.",
    "x.cumsum(dim=0)": "write axis= here.",
    "x.prod(dim=0)": "write axis= here.",
    "x.logsumexp(dim=1)": "write axis= here.",
    "mg.softmax(x, dim=1)": "write axis= here.",
    "mg.sum(x, dim=1)": "write axis= here.",
    "mg.max(x, dim=1)": "write axis= here.",
    "mg.argmax(x, dim=1)": "write axis= here.",
    "mg.cat([x, x], dim=1)": "write axis= here.",
    "mg.stack([x, x], dim=0)": "write axis= here.",
    "x.std(unbiased=False)": "write ddof= here.",
    "x.var(correction=1)": "write ddof= here.",
    "x.size(0)": "write t.shape[0].",
    "x.size(-1)": "write t.shape[-1].",
    "x.size()": "write t.shape.",
    "x.view(2, 3)": "write t.reshape(2, 3).",
    "x.view(-1)": "write t.reshape(2, 3).",
    "x.topk(2)": "write mg.gather(t, np.argsort(t.numpy()), -1)",
    "x.sort()": "write mg.gather(t, np.argsort(t.numpy()), -1)",
    "x.argsort()": "write np.argsort(t.numpy()).",
    "x.masked_fill(x > 0, 0)": "write mg.where(mask, 0, t).",
    "x.chunk(2)": "write t.split(2).",
    "x.repeat(2, 1)": "write mg.cat([t, t], 0), or",
    "x.mm(x.T)": "write a @ b.",
    "x.pow(2)": "write a ** b.",
    "x.numel()": "write t.size.",
    "x.dim()": "write t.ndim.",
    "x.float()": "write t.to(np.float32)",
    "x.double()": "write t.to(np.float64).",
    "x.long()": "write t.to(np.int64).",
    "x.astype('float32')": "write t.to(np.float32)",
    "x.type_as(x)": "write t.to(np.float32).",
    "x.to(dtype=np.float64)": "write target= here.",
    "x.to(device='cpu')": "write target= here.",
    "x.to('cuda:1')": 'the devices are "cpu" and "cuda".',
    "x.cpu()": 'write t.to("cpu").',
    "x.cuda()": 'write t.to("cuda").',
    "x.clamp(0, 1)": "write t.clip(0, 1).",
    "x.swapaxes(0, 1)": "write t.transpose(-1, -2).",
    "x.mT": "write t.transpose(-1, -2).",
    "x.contiguous()": "write t alone: layouts take care of themselves.",
    "x.data_ptr()": "write t.numpy().ctypes.data.",
    "x.new_zeros(3)": "write mg.zeros(3).",
    "x.index_select(0, index)": "write t[index].",
    "x.gather(1, index)": "write gather(x, index, 1).",
    "x.nonzero()": "write np.nonzero(t.numpy()).",
    "x.isnan()": "write t != t.",
    "x.item()": "tolist() gives them all.",
    # in place
    "x.zero_()": "write with mg.no_grad(): t *= 0.",
    "x.add_(1)": "write with mg.no_grad(): t += step.",
    "x.mul_(2)": "write with mg.no_grad(): t *= 2.",
    "x.copy_(x)": "write with mg.no_grad(): t.data = values.",
    "x.fill_(0)": "write with mg.no_grad(): t.data =",
    "x.uniform_()": "write with mg.no_grad(): t.data =",
    "x.normal_()": "write with mg.no_grad(): t.data =",
    "x += 1": "Do it inside `with mg.no_grad():`",
    "x[0] = 1": "Use where(mask, new, old), or assign inside `with mg.no_grad():`.",
    "x.retain_grad()": "write mg.grad(f)(t).",
    "x.register_hook(print)": "write mg.grad(f)(t).",
    # what has no gradient
    "x // 2": "Write np.floor(t.numpy() / 2)",
    "x % 2": "Write np.mod(t.numpy(), 2)",
    "round(x)": "Write np.round(t.numpy())",
    "x.round()": "write np.round(t.numpy()).",
    "x.floor()": "write np.floor(t.numpy()).",
    "u in [x]": "compare with `is`",
    # functions
    "x.tan()": "write mg.sin(t) / mg.cos(t).",
    "mg.tan(x)": "write mg.sin(t) / mg.cos(t).",
    "mg.sinh(x)": "write (mg.exp(t) - mg.exp(-t)) / 2.",
    "mg.cosh(x)": "write (mg.exp(t) + mg.exp(-t)) / 2.",
    "mg.log2(x)": "write mg.log(t) / np.log(2).",
    "mg.log10(x)": "write mg.log(t) / np.log(10).",
    "mg.isnan(x)": "write t != t.",
    "mg.tril(x)": "write t * np.tri(3).",
    "mg.triu(x)": "write t * np.tri(3).T.",
    "mg.zeros_like(x)": "write mg.zeros(t.shape).",
    "mg.ones_like(x)": "write mg.ones(t.shape).",
    "mg.empty(2, 3)": "write mg.zeros(t.shape).",
    "mg.full_like(x, 1)": "write mg.full(t.shape, 0.5).",
    "mg.linspace(0, 1, 5)": "write mg.tensor(np.linspace(0, 1, 5)).",
    "mg.randint(0, 10, (3,))": "write mg.tensor(np.random.default_rng(0).integers(10, size=5)).",
    "mg.randperm(5)": "write mg.tensor(np.random.default_rng(0).permutation(5)).",
    "mg.manual_seed(0)": "write mg.seed(0).",
    "mg.from_numpy(np.zeros(3))": "write mg.Tensor(array), which shares its memory.",
    "mg.as_tensor([1.0])": "write mg.Tensor(array), which shares its memory.",
    "mg.float32": "write np.float32.",
    "mg.concatenate([x, x])": "write mg.cat([a, b], 0).",
    "mg.concat([x, x])": "write mg.cat([a, b], 0).",
    "mg.is_tensor(x)": "write isinstance(t, mg.Tensor).",
    "mg.set_grad_enabled(False)": "write mg.no_grad().",
    "mg.inference_mode()": "write mg.no_grad().",
    "mg.get_default_dtype()": "write mg.zeros(3, dtype=np.float64).",
    "mg.set_default_dtype(np.float64)": "write mg.zeros(3, dtype=np.float64).",
    "mg.autograd.grad(x.sum(), x)": "write loss.backward(), or mg.grad(f)(t).",
    "mg.vmap(m)": "write mg.einsum or operators: they broadcast",
    "mg.numpy": "write mg itself: mg.exp(t), mg.sum(t).",
    "mg.save(m.state_dict(), 'h')": 'write np.savez("weights.npz", **model.state_dict())',
    "mg.load('h')": 'write np.savez("weights.npz", **model.state_dict())',
    "mg.cuda.is_available()": "write mg.cuda.available().",
    "mg.rule('p - lr * g')": "Write one, `def name(...):`, that computes the same",
    # NumPy's functions on tensors that want gradients
    "np.mean(x)": "write mg.mean, or take the array: t.detach().numpy().",
    "np.sum(x, axis=0)": "write mg.sum, or",
    "np.concatenate([x, x])": "write mg.cat, or",
    "np.stack([x, x])": "write mg.stack, or",
    "np.dot(x, x.T)": "write mg.matmul, or",
    "np.where(x > 0, x, 0)": "write mg.where, or",
    "np.clip(x, 0, 1)": "write mg.clip, or",
    "np.reshape(x, (3, 2))": "write mg.reshape, or",
    "np.transpose(x)": "write mg.transpose, or",
    "np.std(x)": "write mg.std, or",
    "np.linalg.norm(x)": "write mg.norm, or",
    "np.sort(x)": "write mg.gather(t, np.argsort(t.numpy()), -1), or take the array",
    "np.floor(x)": "Write np.floor(t.numpy()); or take the array: t.detach().numpy().",
    "np.log2(x)": "Write mg.log(t) / np.log(2); or",
    "np.add.reduce(x)": "Write it with functions of mg; or take the array",
    "np.from_dlpack(x)": "use detach().",
    # modules and losses
    "nn.CrossEntropyLoss()": "write nn.cross_entropy(logits, labels).",
    "nn.MSELoss()(x, x)": "write nn.mse_loss(outputs, targets).",
    "nn.L1Loss()(x, x)": "write nn.l1_loss(outputs, targets).",
    "nn.BCEWithLogitsLoss()(x, x)": "write nn.binary_cross_entropy_with_logits(logits, y).",
    "nn.NLLLoss()": "write nn.nll_loss(log_probabilities, labels).",
    "nn.HuberLoss()": "write nn.huber_loss(outputs, targets).",
    "nn.Parameter(mg.zeros(3))": "write mg.tensor(values, requires_grad=True): a module's",
    "nn.init.xavier_uniform_(x)": "write with mg.no_grad(): layer.weight.data = values.",
    "nn.functional.relu(x)": "write mg.relu(t), nn.cross_entropy(logits, labels).",
    "nn.relu(x)": "write mg.relu(t).",
    "nn.utils.clip_grad_norm_(m.parameters(), 1.0)": "write optim.clip_grad_norm_(optimizer, 1.0).",
    "nn.ModuleList([m])": "write a list: an attribute may be a list of modules.",
    "nn.ModuleDict({'a': m})": "write a dict: an attribute may be a dict of modules.",
    "nn.Identity()": "write nn.Sequential().",
    "nn.Unflatten(1, (1, 3))": "write mg.reshape(t, 5, 2, 3), in a function.",
    "nn.Conv2d(1, 2, 3)": "since microgradx is for multilayer perceptrons; or an operation of",
    "nn.LSTM(2, 3)": "since microgradx is for multilayer perceptrons; or an operation of",
    "nn.Dropout2d(0.1)": "write nn.Dropout(0.5).",
    "nn.BatchNorm2d(3)": "write nn.BatchNorm1d(16).",
    "nn.Linear(2, 3, device='cpu')": 'what is made has .to("cuda")',
    "nn.Linear(2, 3, dtype=np.float32)": "what is made has .to(np.float64)",
    "nn.ReLU(inplace=True)": "takes no arguments: leave it out, nothing is changed in place.",
    "nn.Softmax(axis=1)": "Softmax takes dim.",
    "nn.Sequential(mg.relu)": "there is nn.ReLU() for mg.relu; for others write a module whose",
    "nn.Sequential(nn.ReLU)": "a class: write ReLU(...).",
    "nn.Sequential([nn.ReLU()])": "write Sequential(*modules).",
    "nn.Sequential({'a': nn.ReLU()})": "write Sequential(*modules.values()), or keep",
    "nn.Sequential(3)": "Sequential takes modules; argument 0 is 3.",
    "nn.Sequential(nn.ReLU()).append(nn.ReLU())": "write nn.Sequential(*model, nn.ReLU()).",
    "m.apply(print)": "write for module in model.modules(): ....",
    "m.register_buffer('b', mg.zeros(3))": "write self.name = mg.zeros(3): a tensor without",
    "m.named_modules()": "write model.modules(), model.named_children().",
    "m.cuda()": 'write model.to("cuda").',
    "m.half()": "in float32 and float64.",
    "m.to(device='cpu')": "write target= here.",
    "m.fit(a, a)": "write mg.fit(model, optimizer, (x, y)).",
    "m.summary()": "write print(model).",
    "m.weight.grad.zero_()": "write with mg.no_grad(): t *= 0.",
    # training
    "optim.Adam(m.parameters(), fused=True)": "Leave that out: one sweep updates all parameters.",
    "optim.AdamW(m.parameters(), foreach=True)": "Leave that out: one sweep updates all parameters.",
    "optim.Adam(m.parameters(), learning_rate=0.1)": "Did you mean lr?",
    "optim.Adam(m.parameters(), beta1=0.9)": "Did you mean betas?",
    "optim.SGD(m, lr=0.1)": "such as model.parameters().",
    "optim.StepLR(o, 3, verbose=True)": "the options are (step_size: int, gamma: float = 0.1). Leave",
    "optim.lr_scheduler.StepLR(o, 3)": "write optim.StepLR(optimizer, 10).",
    "o.zero_grad(set_to_none=False)": "gradients are forgotten, and None then. Leave it out.",
    "data.DataLoader((a, a), batch_size=2)": "write data.batches(x, y, batch_size=32), or mg.fit",
    "data.TensorDataset(x, x)": "write a pair of arrays, (x, y)",
    "data.random_split(a, [1, 1])": "write data.hold_out(x, y).",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Adam.step")  # whose closure forgets gradients
@pytest.mark.parametrize("line", WORKS)
def test_what_works_as_there(line):
    names = place()
    found, wanted = run(line, names), WORKS[line]
    if wanted is None:
        return
    wanted = run(wanted, names)
    if wanted is None or isinstance(wanted, str | bool | tuple):
        assert found == wanted
    else:
        np.testing.assert_allclose(np.asarray(found), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_refused_says_what_to_write(line):
    names = place()
    with pytest.raises((errors.MicrogradxError, TypeError), match=re.escape(REFUSED[line])):
        run(line, names)


# What the errors advise, run


class Own(nn.Module):
    """Where `self.name = ...` may stand."""


PROSE = {  # advice that is no code
    "its name, as in", "t alone", "a list", "a dict", "a pair of arrays", "nothing", "mg itself",
    "mg.einsum or operators", "mg.jit(step)", "mg.fit(...) in a script", "mg.fit(model", "mg.Tensor",
}  # fmt: skip


def advised():
    """Names as the advice has them, of sizes that suit it."""
    t = mg.tensor(np.arange(9.0, dtype=np.float32).reshape(3, 3) + 0.5, requires_grad=True)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    names = {"t": t, "a": t, "b": t, "c": t, "weight": 0.5, "mask": t > 3, "index": [0, 2], "step": 0.1}
    names |= {"values": t.numpy(), "array": t.numpy(), "f": lambda t: (t * t).sum(), "v": t, "model": model}
    rows, labels = mg.zeros(9, 3, requires_grad=True), np.array([0, 1, 2] * 3)
    names |= dict.fromkeys(["logits", "outputs", "targets"], rows) | {"labels": labels, "self": Own()}
    names |= {"log_probabilities": mg.log_softmax(rows, 1), "loss": (model(t) ** 2).sum()}
    names |= {"x": rows.detach().numpy(), "y": np.eye(3, dtype=np.float32)[labels], "module": nn.ReLU()}
    names |= {"optimizer": optim.SGD(model.parameters(), lr=0.1), "layer": model[0]}
    return (
        LIBRARIES
        | names
        | {
            "mean": 0.0,
            "deviation": 1.0,
            "x": np.zeros((9, 3), np.float32),
            "name": "0.weight",
            "kernels": kernels,
        }
    )


def runs(code, names):
    """Whether a text is code that runs here; a GPU may be missing."""
    try:
        run(code, names)
    except SyntaxError:
        return False
    except errors.DeviceError:
        return True
    return True


@pytest.mark.parametrize("asked", absences)
def test_advice_is_code_that_runs(asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    threads = kernels.threads()
    for name, advice in absences[asked].items():
        if advice.startswith(tuple(PROSE)):
            continue
        advice = advice.replace("(5, 2, 3)", "(9)").replace("t, 5, 2, 3", "t, 9").replace("(2, 3)", "(3, 3)")
        advice = advice.replace("t.reshape(3, 3)", "t.reshape(9)").replace("(t, 2, 3)", "(t, 3, 3)")
        advice = (
            advice.replace("(2, 2, 3)", "(2, 3, 3)").replace("split(2)", "split(3)").replace("t, 2)", "t, 3)")
        )
        stops = [match.start() for match in re.finditer(r", |: | or |$", advice)]
        parts = [advice[:stop] for stop in reversed(stops)]
        assert any(runs(part, advised()) for part in parts if part), f"{name}: {advice}"
    kernels.set_threads(threads)
    mg.matmul_precision("highest")


# Beside the arrays of others


class Old:
    """An array that goes by `__array_priority__` alone, as NumPy's did and CuPy's before version 8."""

    __array_priority__ = 100

    def __mul__(self, other):
        if getattr(other, "__array_priority__", 0) > self.__array_priority__:
            return NotImplemented
        raise TypeError("unknown kind of array")

    def __array__(self, dtype=None, copy=None):
        return np.full(3, 2.0, np.float32)


def test_arrays_that_go_by_priority_leave_the_operator_to_tensors():
    x = mg.tensor(A, requires_grad=True)
    product = Old() * x
    assert product.requires_grad
    np.testing.assert_array_equal(product.numpy(), 2 * A)


def test_sparse_matrices_are_made_dense_by_their_owner():
    from scipy.sparse import csr_array

    x, sparse = mg.tensor(A, requires_grad=True), csr_array(A)
    for act in (lambda: x + sparse, lambda: sparse + x, lambda: x @ sparse.T, lambda: mg.tensor(sparse)):
        with pytest.raises(errors.DTypeError, match=r"write x\.toarray\(\)\."):
            act()


def test_a_size_is_a_number():
    size = mg.zeros(2, 3).size
    assert (size, repr(size), size * 2, np.zeros(size).shape) == (6, "6", 12, (6,))
    assert pickle.loads(pickle.dumps(size)) == 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mg.zeros(size).shape == (6,)
