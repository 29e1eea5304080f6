"""The functions of emitted files, for the CPU and for GPUs, are called after all that they do."""

import ast
import importlib.util
import re

import numpy as np
import pytest

import microgradx as mg
from microgradx import nn, optim
from microgradx.codegen.passes.fuse import sink
from microgradx.codegen.passes.lower import lower
from microgradx.codegen.passes.schedule import schedule
from microgradx.codegen.printers.cpu_file import Emitter
from microgradx.compiler.run.cuda_executable import written
from microgradx.cuda.devices import Shape
from microgradx.optim import optimizers

BATCH = 128
MODELS = {
    "mlp": lambda n: nn.MLP([64, n, 10]),
    "deep": lambda n: nn.MLP([64, n, n, 10], "tanh"),
    "dropout": lambda n: nn.MLP([64, n, 10], dropout=0.5),
    "batch norm": lambda n: nn.Sequential(nn.Linear(64, n), nn.BatchNorm1d(n), nn.ReLU(), nn.Linear(n, 10)),
    "layer norm": lambda n: nn.Sequential(nn.Linear(64, n), nn.LayerNorm(n), nn.Tanh(), nn.Linear(n, 10)),
}  # fmt: skip
RULES = set(optimizers) | {"momentum"}


def text(make, n, device, clip=None):
    """The file of a training step of a model whose width is n, which is neither compiled nor run."""
    model = make(n)
    optimizer = optim.Adam(model.parameters())

    def train(x, y):
        optimizer.zero_grad()
        logits = model(x)
        loss = nn.cross_entropy(logits, y)
        loss.backward()
        if clip:
            optim.clip_grad_norm_(optimizer, clip)
        optimizer.step()
        return loss

    variant = mg.jit(train).captured(np.ones((BATCH, 64), np.float32), np.zeros(BATCH, np.int64))
    if device == "cuda":
        return written(variant.captured, Shape(), 132, "graph")[0].text
    return Emitter(schedule(sink(lower(variant.program))), "", variant.captured.blocks).emit().text


def functions(file):
    """Of a file, each function's name with the names that it assigns to, and that it calls."""
    for node in ast.parse(file).body:
        if isinstance(node, ast.FunctionDef) and re.match("make|forward|back|update|gather", node.name):
            stores = [
                n for n in ast.walk(node) if isinstance(n, ast.Subscript) and isinstance(n.ctx, ast.Store)
            ]
            calls = [n for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
            made = {n.value.id for n in stores} | {
                n.args[0].id
                for n in calls
                if n.func.id.startswith("matmul") and isinstance(n.args[0], ast.Name)
            }
            yield node.name, made, {n.func.id for n in calls}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("n", [BATCH, 96], ids=["as wide as the batch is long", "another width"])
@pytest.mark.parametrize("name", MODELS)
def test_a_name_says_all_that_a_function_does(name, n, device):
    found = list(functions(text(MODELS[name], n, device)))
    assert len(found) > 2
    for called, made, calls in found:
        gradients = {x for x in made if x.startswith("g_")}
        values = made & {"affine", "relu_1", "tanh_1", "logits", "cross_entropy_rows", "mean", "loss_out"}
        state = {x for x in made if x.startswith("running")}
        assert ("update" in called) == bool(state or any(rule in calls for rule in RULES)), called
        if called.startswith("make_"):
            assert all(x.removesuffix("_parts") in called for x in gradients | values), (called, made)
        else:
            assert not gradients or "back" in called, (called, gradients)
            assert not values or "forward" in called, (called, values)
            assert gradients or "back" not in called or "forward" in called or "adam" in calls, called


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", MODELS)
def test_names_do_not_hang_on_a_width_that_equals_the_batch(name, device):
    as_wide, other = ([f[0] for f in functions(text(MODELS[name], n, device))] for n in (BATCH, BATCH + 4))
    assert as_wide == other


def test_what_is_computed_from_gradients_belongs_to_the_way_back():
    names = [name for name, _, _ in functions(text(MODELS["mlp"], 96, "cpu", clip=1.0))]
    assert names[0] == "forward_and_back"
    assert all("forward" not in name and name.startswith(("back", "make")) for name in names[1:])


def test_a_comment_stands_above_each_change_of_line():
    """Also behind a loop whose last part belongs to another line."""
    (body,) = re.findall(r"def forward_and_back\(.*?\n\n\n", text(MODELS["mlp"], BATCH, "cpu"), re.S)
    before, after = body.split("matmul_nt")
    comment = before.rstrip().splitlines()[-1].strip()
    assert comment.startswith("# gradient of: test_compiler_names.py:")


@pytest.fixture
def declare(tmp_path, registries):
    """Declares functions or rules of the user's from a text, and gives them by name."""

    def run(source):
        (path := tmp_path / "own.py").write_text("import microgradx as mg\n" + source)
        spec = importlib.util.spec_from_file_location("own", path)
        spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
        return module

    return run


OWN = ["exp", "relu", "maximum", "abs", "square", "multiply", "where", "step", "flat", "plus", "x", "float32"]


@pytest.mark.interpreted
@pytest.mark.parametrize("name", OWN)
def test_a_function_of_the_users_may_have_any_name(declare, name):
    """It takes the place of nothing else: neither of the library's function nor of a word of the file."""
    text = "@mg.elementwise\ndef {0}(x):\n    return 3 * x\n\n\n@{0}.slope\ndef _(x, y):\n    return 3\n"
    own = getattr(declare(text.format(name)), name)

    def f(w):
        z = own(w) * mg.softmax(w) + mg.relu(w) * mg.gelu(w) + mg.maximum(abs(w), 0.1) ** 2
        loss = mg.where(w > 0, z, mg.sqrt(mg.exp(w))).sum()
        loss.backward()
        return loss

    w = mg.tensor(np.linspace(-1, 2, 6, dtype=np.float32), requires_grad=True)
    eager, slopes = f(w).item(), w.grad.numpy().copy()
    w.grad = None
    assert mg.jit(f)(w).item() == pytest.approx(eager, rel=1e-6)
    np.testing.assert_allclose(w.grad.numpy(), slopes, rtol=1e-5)


@pytest.mark.interpreted
@pytest.mark.parametrize("name", ["sign", "exp", "flat", "float32"])
def test_a_rule_of_the_users_may_have_any_name(declare, name):
    text = "@mg.rule\ndef {0}(p, g, /, t, lr=0.5):\n    return p - lr * mg.sign(g) * mg.exp(-g * g)\n"
    rule = getattr(declare(text.format(name)), name)
    left = []
    for wrap in (lambda step: step, mg.jit):
        w = mg.tensor([1.0, 2.0, -3.0], requires_grad=True)
        optimizer = optim.Optimizer([w], rule)

        @wrap
        def step(x, w=w, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (mg.exp(w) * mg.sign(x)).mean()
            loss.backward()
            optimizer.step()
            return loss

        step(mg.ones(3))
        left.append(w.detach().numpy())
    np.testing.assert_allclose(left[0], left[1], rtol=1e-6)
