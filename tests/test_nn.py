"""Modules and layers: beside PyTorch's, their state, and what errors say."""

import numpy as np
import pytest

import microgradx as mg
from microgradx import nn, scalars
from microgradx.errors import ArgumentError, CheckpointError, DeviceError, DTypeError, ShapeError

rng = np.random.default_rng(0)


def normal(*shape, dtype=np.float32):
    return rng.normal(size=shape).astype(dtype)


def copy_to_torch(ours, theirs, torch):
    """The same parameters and buffers; PyTorch's Linear keeps the transpose."""
    state = theirs.state_dict()
    for name, value in ours.state_dict().items():
        flip = value.ndim == 2 and isinstance(theirs, torch.nn.Linear)
        state[name] = torch.tensor(value.T if flip else value)
    theirs.load_state_dict(state)


def compare(torch, ours, theirs, x, rtol=1e-4, atol=1e-5):
    """Output, and the gradients of the input and of every parameter."""
    x1 = mg.Tensor(x, requires_grad=x.dtype.kind == "f")
    x2 = torch.tensor(x, requires_grad=x.dtype.kind == "f")
    y, z = ours(x1), theirs(x2)
    np.testing.assert_allclose(y.data, z.detach().numpy(), rtol=rtol, atol=atol)
    weights = np.linspace(-1, 2, y.size).reshape(y.shape).astype(y.dtype)
    ours.zero_grad()
    theirs.zero_grad()
    y.backward(weights)
    z.backward(torch.tensor(weights))
    pairs = [(x1, x2)] if x1.requires_grad else []
    found = dict(theirs.named_parameters())
    for name, p in ours.named_parameters():
        pairs.append((p, found[name]))
    for ours_, theirs_ in pairs:
        g = theirs_.grad.numpy()
        flip = g.ndim == 2 and isinstance(theirs, torch.nn.Linear) and ours_ is not x1
        np.testing.assert_allclose(ours_.grad.data, g.T if flip else g, rtol=rtol, atol=atol)


LAYERS = {
    "Linear": (lambda nn: nn.Linear(4, 3), [(5, 4), (4,), (2, 5, 4)]),
    "Linear without bias": (lambda nn: nn.Linear(4, 3, bias=False), [(5, 4), (4,)]),
    "LayerNorm": (lambda nn: nn.LayerNorm(4), [(5, 4), (2, 3, 4), (4,)]),
    "LayerNorm of two axes": (lambda nn: nn.LayerNorm((3, 4), eps=1e-3), [(5, 3, 4), (3, 4)]),
    "BatchNorm1d": (lambda nn: nn.BatchNorm1d(4), [(5, 4), (2, 4, 3)]),
    "BatchNorm1d with momentum": (lambda nn: nn.BatchNorm1d(4, eps=1e-3, momentum=0.3), [(5, 4)]),
    "Flatten": (lambda nn: nn.Flatten(), [(2, 3, 4), (2, 3)]),
    "Softmax": (lambda nn: nn.Softmax(-1), [(2, 3), (4,)]),
    "LogSoftmax": (lambda nn: nn.LogSoftmax(0), [(2, 3)]),
    "LeakyReLU": (lambda nn: nn.LeakyReLU(0.2), [(5, 4)]),
    "ELU": (lambda nn: nn.ELU(alpha=0.5), [(5, 4)]),
    **{n: (lambda nn, n=n: getattr(nn, n)(), [(5, 4)]) for n in ("ReLU", "SiLU", "GELU", "Softplus")},
    **{n: (lambda nn, n=n: getattr(nn, n)(), [(5, 4)]) for n in ("Sigmoid", "Tanh")},
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_beside_torch(torch, name):
    make, shapes = LAYERS[name]
    ours, theirs = make(nn), make(torch.nn)
    for p in ours.parameters():
        p.data = p.data + 0.3 * normal(*p.shape)
    copy_to_torch(ours, theirs, torch)
    for shape in shapes:
        compare(torch, ours, theirs, normal(*shape) + 0.5)
    for key, value in ours.state_dict().items():  # BatchNorm's running statistics
        flip = value.ndim == 2 and isinstance(theirs, torch.nn.Linear)
        expected = theirs.state_dict()[key].numpy()
        np.testing.assert_allclose(value, expected.T if flip else expected, rtol=1e-5, atol=1e-6)
    ours.eval()
    theirs.eval()
    compare(torch, ours, theirs, normal(*shapes[0]))


def test_embedding_beside_torch(torch):
    ours, theirs = nn.Embedding(6, 3), torch.nn.Embedding(6, 3)
    theirs.weight.data = torch.tensor(ours.weight.data.copy())
    for index in (np.array([[0, 5], [5, 2]]), np.array(3)):
        compare(torch, ours, theirs, index)
    assert ours(mg.tensor([1, 2])).shape == (2, 3)
    assert ours([[1], [2]]).shape == (2, 1, 3)


def test_every_activation_has_a_module():
    modules = {c.function: c for c in vars(nn).values() if isinstance(c, type) and hasattr(c, "function")}
    for function in (f for f in scalars.functions.values() if f.activation):
        assert function in modules, function.name
        x = normal(3)
        np.testing.assert_array_equal(modules[function]()(mg.Tensor(x)).data, function(x))


@pytest.mark.parametrize("layer", [nn.LayerNorm(3), nn.BatchNorm1d(3), nn.Linear(3, 2)], ids=repr)
def test_layers_have_second_derivatives(layer):
    layer.to(np.float64)
    assert mg.check_grad(lambda x: mg.tanh(layer(x)), normal(4, 3), order=2, rtol=1e-4)


def test_layers_without_scale_and_shift(torch):
    ours, theirs = nn.LayerNorm(4, elementwise_affine=False), torch.nn.LayerNorm(4, elementwise_affine=False)
    compare(torch, ours, theirs, normal(5, 4))
    compare(torch, nn.BatchNorm1d(4, affine=False), torch.nn.BatchNorm1d(4, affine=False), normal(5, 4))
    assert not list(ours.parameters())


def test_running_statistics_follow_the_data():
    norm = nn.BatchNorm1d(2)
    x = normal(1000, 2) * [2, 5] + np.array([1, -3])
    for _ in range(100):
        norm(mg.Tensor(x.astype(np.float32)))
    np.testing.assert_allclose(norm.running_mean.data, x.mean(0), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(norm.running_var.data, x.var(0, ddof=1), rtol=1e-3)
    before = norm.state_dict()
    norm.eval()(mg.zeros(3, 2))
    for name, value in norm.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


# Dropout


def test_dropout_keeps_the_mean_and_the_share():
    mg.seed(0)
    x = mg.ones(400, 500, requires_grad=True)
    y = nn.Dropout(0.3)(x)
    assert y.dtype == np.float32
    zero = y.data == 0
    assert abs(zero.mean() - 0.3) < 0.01 and abs(y.data.mean() - 1) < 0.01
    np.testing.assert_allclose(y.data[~zero], 1 / 0.7, rtol=1e-6)
    assert abs(zero.mean(0) - 0.3).max() < 0.12 and abs(zero.mean(1) - 0.3).max() < 0.12
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, y.data)


def test_dropout_follows_the_seed_and_the_mode():
    drop, x = nn.Dropout(), mg.ones(100)
    draws = []
    for _ in range(2):
        mg.seed(3)
        draws.append((drop(x).data, drop(x).data))
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0][0] != draws[0][1]).any()
    assert drop.eval()(x) is x and nn.Dropout(0)(x) is x


# MLP and Sequential


def test_mlp():
    model = nn.MLP([4, 8, 8, 3])
    assert [type(m) for m in model] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert model(mg.Tensor(normal(5, 4))).shape == (5, 3) and model(normal(4)).shape == (3,)
    names = ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"]
    assert [name for name, _ in model.named_parameters()] == names
    assert len(model) == 5 and model[2].in_features == 8


def test_mlp_options():
    model = nn.MLP([4, 8, 3], activation="gelu", dropout=0.2, bias=False)
    assert [type(m) for m in model] == [nn.Linear, nn.GELU, nn.Dropout, nn.Linear]
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "3.weight"]
    assert isinstance(nn.MLP([4, 8, 3], activation=mg.tanh)[1], nn.Tanh)
    assert nn.MLP([4, 8, 3], activation=nn.LeakyReLU(0.3))[1].negative_slope == 0.3
    assert nn.MLP([4, 8, 3], activation=lambda x: x * x)(normal(2, 4)).shape == (2, 3)
    assert len(nn.MLP([4, 3])) == 1


def test_initial_values():
    mg.seed(1)
    layer = nn.Linear(400, 300)
    for p in layer.parameters():
        assert abs(p.data).max() <= 1 / 20 and p.dtype == np.float32
        assert p.data.std() == pytest.approx(1 / 20 / np.sqrt(3), rel=0.1)
    mg.seed(1)
    np.testing.assert_array_equal(nn.Linear(400, 300).weight.data, layer.weight.data)
    assert abs(nn.Embedding(100, 50).weight.data.std() - 1) < 0.05


def test_representations():
    text = repr(nn.Sequential(nn.Linear(2, 3, bias=False), nn.LeakyReLU(), nn.Sequential(nn.Dropout(0.1))))
    assert text.splitlines() == [
        "Sequential(",
        "  (0): Linear(in_features=2, out_features=3, bias=None)",
        "  (1): LeakyReLU(negative_slope=0.01)",
        "  (2): Sequential(",
        "    (0): Dropout(p=0.1)",
        "  )",
        ")",
    ]


# Modules


class Tied(nn.Module):
    """An encoder and a decoder that share a matrix, a list of layers, a buffer and other things."""

    def __init__(self):
        self.encoder = nn.Linear(3, 3)
        self.decoder = nn.Linear(3, 3, bias=False)
        self.decoder.weight = self.encoder.weight
        self.blocks = [nn.BatchNorm1d(3), nn.Dropout(0.5)]
        self.scale = mg.tensor([2.0])
        self.note = "anything"

    def forward(self, x):
        self.hidden = self.blocks[0](self.encoder(x))
        return self.decoder(self.hidden) * self.scale


def test_named_parameters():
    model = Tied()
    parameters = ["encoder.weight", "encoder.bias", "blocks.0.weight", "blocks.0.bias"]
    assert [name for name, _ in model.named_parameters()] == parameters
    model(mg.Tensor(normal(4, 3))).sum().backward()
    assert [name for name, _ in model.named_parameters()] == parameters  # not the hidden value
    buffers = ["scale", "blocks.0.running_mean", "blocks.0.running_var"]
    assert sorted(model.state_dict()) == sorted(parameters + buffers)
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_modes_reach_every_module():
    model = Tied()
    assert all(m.training for m in model.modules())
    assert model.eval() is model and not any(m.training for m in model.modules())
    assert model.train().blocks[1].training
    assert len(list(model.modules())) == 5


def test_state_is_copied_out_and_in():
    model, other = Tied(), Tied()
    state = model.state_dict()
    kept = {name: value.copy() for name, value in state.items()}
    model.encoder.weight.data += 1
    np.testing.assert_array_equal(state["encoder.weight"], kept["encoder.weight"])
    array = other.encoder.weight.data
    other.load_state_dict(state)
    assert other.encoder.weight.data is array  # in place: optimizers keep their views
    assert other.decoder.weight is other.encoder.weight
    for name, value in other.state_dict().items():
        np.testing.assert_array_equal(value, kept[name])
    other.load_state_dict({name: value.astype(np.float64) for name, value in kept.items()})
    assert other.encoder.weight.dtype == np.float32


def test_loading_what_does_not_fit_changes_nothing():
    model = nn.MLP([2, 3, 1])
    before = model.state_dict()
    state = {name: value + 1 for name, value in before.items()}
    missing = {k: v for k, v in state.items() if k != "2.bias"}
    with pytest.raises(CheckpointError, match=r"missing \['2.bias'\], not in the model \['extra', 'more'\]"):
        model.load_state_dict(missing | {"more": np.ones(1), "extra": np.ones(1)})
    with pytest.raises(CheckpointError, match=r"0.weight: saved as \(3, 2\), here \(2, 3\) \(its transpose"):
        model.load_state_dict(state | {"0.weight": np.ones((3, 2))})
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    model.load_state_dict(missing | {"extra": np.ones(1)}, strict=False)
    np.testing.assert_array_equal(model[0].weight.data, state["0.weight"])
    np.testing.assert_array_equal(model[2].bias.data, before["2.bias"])


def test_loading_counts_as_a_change():
    layer = nn.Linear(2, 2)
    y = layer(mg.ones(1, 2, requires_grad=True))
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(mg.MicrogradxError, match=r"changed in place"):
        y.sum().backward()


def test_conversion():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).to("float64")
    assert {t.dtype for t in model.state_dict().values()} == {np.dtype(np.float64)}
    y = model(normal(4, 2, dtype=np.float64))
    y.sum().backward()
    assert y.dtype == model[0].weight.grad.dtype == np.float64
    assert model.to("cpu") is model
    with pytest.raises(DeviceError, match=r"device 'cuda:1': the devices are"):
        model.to("cuda:1")


def test_shared_modules_are_visited_once():
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, nn.Tanh(), layer)
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias"]
    x = normal(3, 2, dtype=np.float64)
    model.to(np.float64)
    model(x).sum().backward()
    w = layer.weight.data.copy()

    def total(w):
        h = np.tanh(x @ w + layer.bias.data)
        return (h @ w + layer.bias.data).sum()

    for index in np.ndindex(2, 2):
        step = np.zeros((2, 2))
        step[index] = 1e-6
        expected = (total(w + step) - total(w - step)) / 2e-6
        assert layer.weight.grad.data[index] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.Linear(0, 3), ArgumentError, r"Linear: in_features must be a positive .* not 0"),
        (lambda: nn.Linear(3, 2.5), ArgumentError, r"out_features must be a positive whole number, not 2.5"),
        (lambda: nn.Linear(3, 2)(mg.ones(4, 2)), ShapeError,
         r"Linear: the last axis must have size 3, the shape is \(4, 2\)"),
        (lambda: nn.Linear(3, 2)(mg.tensor(1.0)), ShapeError, r"size 3, the shape is \(\)"),
        (lambda: nn.LayerNorm((2, 3))(mg.ones(4, 3)), ShapeError,
         r"LayerNorm: the last axes must be \(2, 3\), the shape is \(4, 3\)"),
        (lambda: nn.BatchNorm1d(3)(mg.ones(4, 2)), ShapeError,
         r"the input must be \(n, 3\) or \(n, 3, length\), not \(4, 2\)"),
        (lambda: nn.BatchNorm1d(3)(mg.ones(1, 3)), ShapeError, r"needs two values per feature.*\(1, 3\)"),
        (lambda: nn.Embedding(5, 2)(np.array([1, 5])), ArgumentError,
         r"Embedding: 5 rows allow indices 0 to 4, not 1 to 5"),
        (lambda: nn.Embedding(5, 2)(mg.ones(2)), DTypeError, r"indices must be integers, these are float32"),
        (lambda: nn.Dropout(1.0), ArgumentError, r"Dropout: p must be a number in \[0, 1\), got 1.0"),
        (lambda: nn.MLP([3]), ArgumentError, r"input and output sizes, such as \[784, 10\], not \[3\]"),
        (lambda: nn.MLP([3, 4, 2], activation="rleu"), ArgumentError,
         r"no activation 'rleu'; there are tanh, sigmoid, relu"),
        (lambda: nn.Sequential(nn.Linear(1, 1), mg.relu), ArgumentError,
         r"argument 1 is <elementwise relu\(x\)>, a function: there is nn.ReLU\(\) for"),
        (lambda: nn.ReLU(0.5), ArgumentError, r"ReLU takes no arguments"),
        (lambda: nn.LeakyReLU(slope=0.5), ArgumentError, r"LeakyReLU takes negative_slope"),
        (lambda: nn.Module()(1), NotImplementedError, r"Module must define forward\(\)"),
    ],
)  # fmt: skip
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
