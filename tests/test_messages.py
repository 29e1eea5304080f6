"""What a newcomer writes at first, and what the library answers: what was given, what to write."""

import re
from operator import attrgetter

import numpy as np
import pytest

import microgradx as mg
from microgradx import errors, nn, optim
from microgradx.familiar import absences

IMAGES = np.zeros((5, 28, 28), np.float32)
LABELS = np.zeros(5, int)


@mg.primitive
def outer(a, b):
    """(n,), (m,) -> (n, m)"""
    return np.outer(a, b)


@outer.vjp
def _(g, out, a, b):
    return g.T @ a, g @ b  # in the wrong order


@mg.primitive
def doubled(a):
    """2 · a"""
    return 2 * a


@doubled.vjp
def _(g, out, a):
    return g[:2]


@mg.primitive
def with_a_sum(a):
    """a"""
    return a * 1


@with_a_sum.vjp
def _(g, out, a):
    return g.sum(keepdims=True)  # one number for all elements


@mg.primitive
def with_a_number(a):
    """a"""
    return a * 1


@with_a_number.vjp
def _(g, out, a):
    return 1.0


@mg.elementwise
def sloped(x, width=1.0):
    """width · x"""
    return widht * x  # noqa: F821


@mg.elementwise
def slopeless(x):
    """x"""
    return 2 * x


@slopeless.slope
def _(x, out):
    return slope  # noqa: F821


for mistaken in ("sloped", "slopeless"):  # what holds for every function is no test of these
    mg.scalars.functions.pop(mistaken)


def stepped():
    @mg.rule
    def downhill(p, g, /, t, lr=0.1):
        """p ← p - lr · g"""
        return p - rate * g  # noqa: F821

    mg.rules.rules.pop("downhill")
    optim.Optimizer([vector()], downhill)


def pulled(op, n=3):
    x = vector(n)
    op(x).sum().backward()
    return x.grad


OWNERS = {"mg": mg, "nn": nn, "optim": optim, "data": mg.data, "t": mg.Tensor, "model": nn.Module, "np": np}
OWNERS |= {"layer": nn.Linear(1, 1), "cuda": mg.cuda}
ASKED = {"tensor": mg.ones(2), "module": nn.Linear(1, 1)}


@pytest.mark.parametrize("asked", absences)
def test_what_pytorch_calls_otherwise_is_absent_and_its_advice_is_not(asked):
    owner = ASKED.get(asked, OWNERS.get(asked))
    for name, advice in absences[asked].items():
        assert not hasattr(owner, name) and getattr(owner, name, None) is None
        with pytest.raises(AttributeError, match=re.escape(f"has no attribute {name!r} here: write ")):
            getattr(owner, name)
        for where, path in re.findall(r"\b(mg|nn|optim|data|t|model|layer|np)((?:\.[a-zA-Z]\w*)+)", advice):
            attrgetter(path[1:])(OWNERS[where])


def misspelt(key, **options):
    x = vector()
    optimizer = optim.Adam([x], **options)
    optimizer.param_groups[0][key] = 0.5
    x.sum().backward()
    optimizer.step()


def vector(n=2):
    return mg.tensor(np.arange(float(n), dtype=np.float32), requires_grad=True)


def trained(**changes):
    model = nn.MLP([784, 10])
    parts = {"model": model, "optimizer": optim.SGD(model.parameters(), 0.1), "train": (IMAGES, LABELS)}
    return mg.fit(**parts | changes, epochs=1)


def foreign_state():
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    model = nn.MLP([3, 3])
    model.load_state_dict({k: torch.tensor(v, requires_grad=True) for k, v in model.state_dict().items()})


ROWS = [
    (lambda: 2 % vector(), errors.ArgumentError, "has no gradient. Write np.mod(t.numpy(), 2)"),
    (lambda: nn.Linear(1, 1).zero_grad(set_to_none=False), errors.ArgumentError, "None then. Leave it out"),
    (lambda: bool(vector() > 0), errors.ShapeError, "shape (2,) is neither true nor false: write t.any() or"),
    (lambda: f"{vector():.3f}", errors.ShapeError, "'.3f' formats one number, this tensor has shape (2,)"),
    (lambda: nn.MLP(3, 4, 2), errors.ArgumentError, "as one list: nn.MLP([3, 4, 2])"),
    (lambda: nn.MLP(3, 4), errors.ArgumentError, "as one list: nn.MLP([3, 4])"),
    (lambda: nn.MLP([3, 2])([[1, 2, 3]]), errors.ArgumentError, "not the list [[1, 2, 3]]: write mg.tensor("),
    (lambda: nn.Sequential(nn.Flatten())([[1]]), errors.ArgumentError, "Flatten takes a tensor or an array"),
    (lambda: nn.MLP([784, 10])(mg.tensor(IMAGES)), errors.ShapeError, "is (5, 28, 28). Put nn.Flatten() bef"),
    (lambda: trained(), errors.ShapeError, "Put nn.Flatten() before it, or give x.reshape(len(x), -1)"),
    (lambda: trained(optimizer="adam"), errors.ArgumentError, "optim.Adam(model.parameters(), lr=1e-3); got"),
    (lambda: trained(model=abs), errors.ArgumentError, "model must be an nn.Module"),
    (lambda: trained(loss="mse"), errors.ArgumentError, "such as nn.mse_loss; got 'mse'"),
    (lambda: doubled(vector(3)).sum().backward(), errors.GradientError, "(2,) for an input of shape (3,)"),
    (lambda: outer(vector(3), vector(2)).sum().backward(), errors.GradientError, "outer: its rule"),
    (lambda: pulled(with_a_sum), errors.GradientError, "with_a_sum: its rule gave a gradient of shape (1,) "),
    (lambda: mg.jit(pulled)(with_a_sum), errors.GradientError, "gradient of shape (1,) for an input of shap"),
    (lambda: mg.check_grad(with_a_sum, np.ones(3)), errors.GradientError, "(1,) for an input of shape (3,)"),
    (lambda: pulled(with_a_number), errors.GradientError, "the float 1.0 for an input of shape (3,). It ret"),
    (lambda: mg.jit(pulled)(with_a_number), errors.GradientError, "with_a_number: its rule gave the float 1"),
    (lambda: pulled(sloped), errors.KernelError, "sloped: 'widht' is defined nowhere. Did you mean width?"),
    (lambda: pulled(slopeless), errors.KernelError, "slopeless: in its slope 'slope' is defined nowhere."),
    (stepped, errors.KernelError, "downhill: `return p - rate * g` cannot be compiled; 'rate' is defined no"),
    (lambda: mg.jit(nn.Linear), errors.ArgumentError, "jit takes a function or a module, Linear is a class."),
    (lambda: vector().nothing, AttributeError, "a tensor has no attribute 'nothing'"),
    (lambda: mg.sum(np.ones(2), keepdim=True), TypeError, "argument 'keepdim': write keepdims= here."),
    (lambda: misspelt("learning_rate"), errors.ArgumentError,
     "Adam: param_groups[...]['learning_rate'] = 0.5 would do nothing. Did you mean lr? The options are lr,"),
    (lambda: misspelt("weight_decy"), errors.ArgumentError, "Did you mean weight_decay?"),
    (lambda: misspelt("epsilon"), errors.ArgumentError, "Did you mean eps?"),
    (lambda: mg.jit(misspelt)("momentum"), errors.ArgumentError, "would do nothing. The options are lr, bet"),
    (foreign_state, errors.CheckpointError, "this is a torch.Tensor. Write value.detach().cpu().numpy()"),
    (lambda: nn.MLP([3, 2]).load_state_dict({"0.weight": np.ones((2, 3)), "0.bias": np.ones(2)}),
     errors.CheckpointError, "(its transpose"),
    (lambda: mg.split(np.arange(5), 2), errors.ShapeError, "write split(x, range(2, 5, 2))"),
]  # fmt: skip


@pytest.mark.parametrize("call, kind, text", ROWS, ids=[row[2][:40] for row in ROWS])
def test_what_was_given_and_what_to_write(call, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        call()


def test_ufuncs_record_and_other_functions_work_where_there_is_no_gradient_to_drop():
    x = vector()
    np.exp(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.exp([0, 1]), rtol=1e-6)
    for sum_of in (np.ones(2) + x, np.float64(1) + x, x + np.ones(2)):
        assert isinstance(sum_of, mg.Tensor) and sum_of.requires_grad
    assert np.concatenate([x.detach(), x.detach()]).tolist() == [0, 1, 0, 1]
    assert np.shape(x) == (2,) and np.allclose(x, [0, 1])
    with mg.no_grad():
        assert np.mean(x) == 0.5


def test_children_are_modules_and_named_children_pairs():
    model = nn.Sequential(nn.ReLU(), nn.Tanh())
    assert [type(child) for child in model.children()] == [nn.ReLU, nn.Tanh]
    assert [name for name, _ in model.named_children()] == ["0", "1"]
