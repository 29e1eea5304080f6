"""PyTorch is the oracle for every optimizer that it has, with all its options."""

import itertools

import numpy as np
import pytest

from microgradx import optim
from microgradx.eager.tensor import Tensor

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `bench` brings it)")

decay = [{}, {"weight_decay": 0.1}]
decoupled = [*decay, {"weight_decay": 0.1, "decoupled_weight_decay": True}]


def grid(*choices):
    """Every combination of one dict of options from each list."""
    return [dict(item for part in parts for item in part.items()) for parts in itertools.product(*choices)]


GRIDS = {
    "SGD": grid(
        decay,
        [{"lr": 0.05}],
        [{}, {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.3}, {"momentum": 0.9, "nesterov": True}],
    ),
    "RMSprop": grid(decay, [{}, {"momentum": 0.9}], [{}, {"centered": True}], [{"alpha": 0.8, "eps": 1e-3}]),
    "Adagrad": grid(decay, [{}, {"lr_decay": 0.01}], [{}, {"initial_accumulator_value": 0.5, "eps": 1e-3}]),
    "Adadelta": grid(decay, [{}, {"lr": 0.5, "rho": 0.8, "eps": 1e-4}]),
    "Adam": grid(decoupled, [{}, {"amsgrad": True}], [{}, {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4}]),
    "AdamW": grid(decay, [{}, {"amsgrad": True}], [{}, {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4}]),
    "Adamax": grid(decay, [{}, {"betas": (0.8, 0.95), "eps": 1e-4}]),
    "NAdam": grid(decoupled, [{}, {"betas": (0.8, 0.95), "eps": 1e-4, "momentum_decay": 0.01}]),
    "RAdam": grid(decoupled, [{}, {"betas": (0.8, 0.95), "eps": 1e-4}]),
    "Rprop": grid([{}, {"etas": (0.4, 1.3)}], [{}, {"lr": 0.1, "step_sizes": (1e-3, 0.2)}]),
    "ASGD": grid(decay, [{}, {"lambd": 0.01, "alpha": 0.5}], [{}, {"t0": 20.0}]),
    "Adafactor": grid(decay, [{}, {"beta2_decay": -0.5, "eps": (1e-3, 1e-2), "d": 2.0}], [{}, {"lr": 0.5}]),
    "Muon": grid(
        decay,
        [{}, {"momentum": 0.8}],
        [{}, {"nesterov": False}],
        [
            {},
            {
                "adjust_lr_fn": "match_rms_adamw",
                "ns_steps": 3,
                "ns_coefficients": (3.0, -3.2, 1.2),
                "eps": 1e-5,
            },
        ],
    ),
}
CASES = [
    pytest.param(name, options, maximize, dtype, id=f"{dtype}-{name}-{i}{'-maximize' * maximize}")
    for name, cases in GRIDS.items()
    for i, options in enumerate(cases)
    for maximize in (False, True)
    if not maximize or (i == len(cases) - 1 and name != "Muon")  # PyTorch's Muon cannot
    for dtype in ("float64", "float32")
    if dtype == "float64" or i in (0, len(cases) - 1)  # the arithmetic is that of float64, where all are seen
]
SHAPES = [(7, 3), (3,), (3, 2), (2,)]


@pytest.fixture(params=["float32", "float64"])
def dtype(request, monkeypatch):
    """The dtype of the parameters, and of the numbers that PyTorch carries along."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, request.param))
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)  # Muon's iteration in full precision
    yield request.param
    torch.set_default_dtype(before)


def steps(name, options, dtype, count=50):
    """Both optimizers after steps along the same gradients, some of which are missing: (ours, PyTorch's)."""
    rng = np.random.default_rng(0)
    shapes = [shape for shape in SHAPES if name != "Muon" or len(shape) == 2]
    ours = [Tensor(rng.normal(size=shape).astype(dtype), requires_grad=True) for shape in shapes]
    theirs = [torch.tensor(p.data.T.copy(), requires_grad=True) for p in ours]
    opt = getattr(optim, name)(ours, **options)
    oracle = getattr(torch.optim, name)(theirs, **options)
    for step in range(count):
        for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            g = rng.normal(size=p.shape).astype(dtype)
            missing = step % 7 == 3 and i == 0
            p.grad = None if missing else Tensor(g)
            q.grad = None if missing else torch.tensor(g.T.copy())
        opt.step()
        oracle.step()
    return opt, oracle


@pytest.mark.parametrize(("name", "options", "maximize", "dtype"), CASES, indirect=["dtype"])
def test_fifty_steps_agree(name, options, maximize, dtype):
    opt, oracle = steps(name, options | ({"maximize": True} if maximize else {}), dtype)
    tolerance = {"float32": 1e-5, "float64": 1e-12}[dtype]
    theirs = oracle.param_groups[0]["params"]
    for p, q in zip(opt.param_groups[0]["params"], theirs, strict=True):
        expected = q.detach().numpy().T
        assert np.abs(p.data - expected).max() <= tolerance * np.abs(expected).max()


def test_the_average_of_asgd_agrees(dtype):
    opt, oracle = steps("ASGD", {"t0": 20.0, "lr": 0.1}, dtype, count=100)
    for p, name in zip(oracle.param_groups[0]["params"], opt.state, strict=True):
        np.testing.assert_allclose(opt.state[name]["average"], oracle.state[p]["ax"].numpy().T, rtol=1e-5)


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 3, 4, 5), (1, 6), (6, 1), ()])
def test_adafactor_factors_the_last_two_axes(shape, dtype):
    rng = np.random.default_rng(0)
    p = Tensor(np.array(rng.normal(size=shape), dtype), requires_grad=True)
    q = torch.tensor(p.data.copy(), requires_grad=True)
    opt, oracle = optim.Adafactor([p], lr=0.1), torch.optim.Adafactor([q], lr=0.1)
    for _ in range(20):
        g = np.array(rng.normal(size=shape), dtype)
        p.grad, q.grad = Tensor(g), torch.tensor(g.copy())
        opt.step()
        oracle.step()
    tolerance = {"float32": 1e-5, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(p.data, q.detach().numpy(), tolerance, tolerance)
    theirs = {"row": "row_var", "column": "col_var", "v": "variance"}
    for name, moment in opt.state["0"].items():
        if name != "t":
            np.testing.assert_allclose(moment, oracle.state[q][theirs[name]].numpy(), tolerance)


@pytest.mark.parametrize("name", sorted(GRIDS))
def test_names_and_defaults_are_the_same(name):
    ours = getattr(optim, name).options
    theirs = getattr(torch.optim, name)([torch.ones(2, 2, requires_grad=True)]).defaults
    technical = {"foreach", "capturable", "differentiable", "fused"}
    for option in theirs.keys() - technical:
        assert ours[option] == theirs[option], option


REFUSED = {
    "lr": -1.0,
    "eps": -1.0,
    "weight_decay": -0.1,
    "momentum": -0.1,
    "betas": (1.0, 0.9),
    "rho": 1.5,
    "alpha": -0.5,
    "etas": (1.1, 1.2),
    "lr_decay": -1.0,
    "momentum_decay": -1.0,
    "initial_accumulator_value": -1.0,
    "adjust_lr_fn": "none",
    "beta2_decay": 0.5,
    "d": 0.5,
}
UNCHECKED = {
    ("ASGD", "alpha"),
    ("Muon", "eps"),
    ("Rprop", "weight_decay"),
    ("Adafactor", "eps"),
}  # by PyTorch
RANGES = [
    (name, option)
    for name in sorted(GRIDS)
    for option in REFUSED
    if option in getattr(optim, name).options and (name, option) not in UNCHECKED
]


@pytest.mark.parametrize(("name", "option"), RANGES)
def test_ranges_are_the_same(name, option):
    value = {option: REFUSED[option]}
    with pytest.raises(ValueError):
        getattr(torch.optim, name)([torch.ones(2, 2, requires_grad=True)], **value)
    with pytest.raises(ValueError, match=option):
        getattr(optim, name)([Tensor(np.ones((2, 2)), requires_grad=True)], **value)


def test_muon_is_close_to_the_bfloat16_of_pytorch():
    opt, oracle = steps("Muon", {"lr": 0.01}, "float32", count=10)
    for p, q in zip(opt.param_groups[0]["params"], oracle.param_groups[0]["params"], strict=True):
        assert np.abs(p.data - q.detach().numpy().T).max() < 0.02


@pytest.mark.parametrize("norm_type", [1.0, 2.0, float("inf")])
@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1e6])
def test_clipping_agrees(norm_type, max_norm):
    rng = np.random.default_rng(0)
    ours = [Tensor(np.zeros(shape, np.float32), requires_grad=True) for shape in SHAPES]
    theirs = [torch.zeros(shape, requires_grad=True) for shape in SHAPES]
    for p, q in zip(ours, theirs, strict=True):
        p.grad = Tensor(rng.normal(size=p.shape).astype(np.float32))
        q.grad = torch.tensor(p.grad.data.copy())
    total = optim.clip_grad_norm_(ours, max_norm, norm_type)
    oracle = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type).item()
    assert total == pytest.approx(oracle, rel=1e-6)
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.grad.data, q.grad.numpy(), rtol=1e-5)
