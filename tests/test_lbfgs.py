"""LBFGS beside PyTorch's and SciPy's, its line search by itself, and `step(closure)` of every optimizer."""

import numpy as np
import pytest
from scipy.optimize import line_search, minimize, rosen, rosen_der

import microgradx as mg
from microgradx import nn, optim
from microgradx.eager.mode import mode
from microgradx.eager.tensor import Tensor
from microgradx.errors import ArgumentError, CaptureError, CheckpointError, NonFiniteError, TrainingWarning
from microgradx.optim.wolfe import FALL, FLAT, Point, cubic, strong_wolfe

WOLFE = {"line_search_fn": "strong_wolfe"}
START = np.array([-1.2, 1.0, 0.7, -0.3])


def rosenbrock(x):
    """Of a Tensor, ours or PyTorch's."""
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


def closure_of(optimizer, loss, calls=None):
    """What evaluates a loss anew."""

    def closure():
        if calls is not None:
            calls.append(1)
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    return closure


def ours(start=START, dtype=np.float64, **options):
    """A point on Rosenbrock's function, its optimizer, and the closure."""
    x = Tensor(start.astype(dtype), requires_grad=True)
    optimizer = optim.LBFGS([("x", x)], **options)
    return x, optimizer, closure_of(optimizer, lambda: rosenbrock(x))


# Beside PyTorch


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 1e-3}, {"lr": 0.01, "max_iter": 5, "history_size": 2}, {"lr": 0.01, "max_iter": 1},
        {"lr": 0.1, "max_eval": 3}, {"lr": 0.1, "tolerance_change": 0.1}, {"lr": 0.1, "tolerance_grad": 30.0},
        WOLFE, WOLFE | {"max_iter": 4, "history_size": 3}, WOLFE | {"max_eval": 1}, WOLFE | {"max_eval": 5},
        WOLFE | {"lr": 20.0, "max_iter": 2}, WOLFE | {"lr": 0.5, "history_size": 1},
    ],
    ids=str,
)  # fmt: skip
def test_every_step_on_rosenbrocks_function_agrees(torch, options):
    x, optimizer, closure = ours(**options)
    y = torch.tensor(START, requires_grad=True)
    oracle, calls = torch.optim.LBFGS([y], **options), ([], [])
    closure = closure_of(optimizer, lambda: rosenbrock(x), calls[0])
    theirs = closure_of(oracle, lambda: rosenbrock(y), calls[1])
    for _ in range(12):
        assert optimizer.step(closure).item() == pytest.approx(oracle.step(theirs).item(), rel=1e-10)
        np.testing.assert_allclose(x.data, y.detach().numpy(), 1e-10)
        assert len(calls[0]) == len(calls[1])


@pytest.mark.parametrize("options", [{"lr": 0.5, "max_iter": 4}, WOLFE | {"max_iter": 5}], ids=str)
@pytest.mark.parametrize("maximize", [False, True])
def test_every_step_of_a_network_agrees(torch, options, maximize):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 4)), rng.normal(size=(20, 2))
    mg.seed(0)
    model = nn.MLP([4, 6, 2], "tanh").to(np.float64)
    sign = -1 if maximize else 1
    other = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2)).double()
    other.load_state_dict({n: torch.tensor(np.array(v.T)) for n, v in model.state_dict().items()})
    optimizer = optim.LBFGS(model.named_parameters(), maximize=maximize, **options)
    oracle = torch.optim.LBFGS(other.parameters(), **options)
    a, b = torch.tensor(x), torch.tensor(y)
    closure = closure_of(optimizer, lambda: sign * nn.mse_loss(model(x), y))
    theirs = closure_of(oracle, lambda: torch.nn.functional.mse_loss(other(a), b))
    for _ in range(8):
        assert sign * optimizer.step(closure).item() == pytest.approx(oracle.step(theirs).item(), rel=1e-9)
        for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
            np.testing.assert_allclose(p.data, q.detach().numpy().T, 1e-9, 1e-10, err_msg=name)


def test_names_and_defaults_are_those_of_pytorch(torch):
    theirs = torch.optim.LBFGS([torch.ones(2, requires_grad=True)]).defaults
    options = dict(optim.LBFGS.options)
    assert options.pop("maximize") is False  # which PyTorch has not
    assert options.pop("max_eval") is None and theirs.pop("max_eval") == theirs["max_iter"] * 5 // 4
    assert options == theirs


# By itself


@pytest.mark.parametrize(("dtype", "digits"), [(np.float32, 3), (np.float64, 6)])
def test_it_finds_the_minimum_that_scipy_finds(dtype, digits):
    x, optimizer, closure = ours(dtype=dtype, max_iter=100, tolerance_change=1e-14, **WOLFE)
    optimizer.step(closure)
    found = minimize(rosen, START, jac=rosen_der, method="L-BFGS-B", tol=1e-12)
    np.testing.assert_allclose(x.data, found.x, atol=10.0**-digits)
    assert x.dtype == dtype and optimizer.state["x"]["t"] < 2 * found.nit


def test_a_quadratic_bowl_takes_a_step_per_dimension():
    """With exact line searches L-BFGS is the method of conjugate gradients there (Nocedal & Wright, 7.2)."""
    curvature = np.array([1.0, 10.0, 100.0])
    x = Tensor(np.ones(3), requires_grad=True)
    optimizer = optim.LBFGS([x], max_iter=40, tolerance_change=0.0, **WOLFE)
    optimizer.step(closure_of(optimizer, lambda: (x * x * curvature).sum()))
    assert np.abs(x.data).max() < 1e-8


def test_pairs_are_curved_and_satisfy_the_secant_equation():
    x, optimizer, closure = ours(max_iter=10, history_size=4, **WOLFE)
    optimizer.step(closure)
    optimizer.step(closure)
    steps, changes = (optimizer.state["x"][name] for name in ("steps", "changes"))
    np.testing.assert_allclose((steps * changes).sum(1), 1)  # y · s > 0, and scaled to 1
    s, y = (rows[-1].copy() for rows in optimizer.pairs)
    optimizer.flats[0].arrays[2][...] = 0  # no step has been taken since
    np.testing.assert_allclose(-optimizer.direction(y), s, 1e-6, 1e-12)  # H y = s


def test_the_line_search_ends_where_both_conditions_hold():
    rng = np.random.default_rng(0)
    for _ in range(20):
        p = rng.normal(size=4)
        d = -rosen_der(p)
        look = lambda t, p=p, d=d: Point(t, rosen(p + t * d), rosen_der(p + t * d) @ d, None)
        start = look(0.0)
        found, _ = strong_wolfe(look, start, 1e-3, np.abs(d).max(), 1e-9, 25)
        assert found.loss <= start.loss + FALL * found.t * start.slope
        assert abs(found.slope) <= -FLAT * start.slope
        theirs = line_search(rosen, rosen_der, p, d, c1=FALL, c2=FLAT)[0]
        assert theirs is None or found.loss < start.loss


def test_the_cubic_is_least_where_it_is():
    wave = lambda t: Point(t, t**3 - 2 * t, 3 * t**2 - 2, None)
    assert cubic(wave(0.0), wave(2.0), 0.0, 2.0) == pytest.approx(np.sqrt(2 / 3))
    assert cubic(wave(2.0), wave(0.0), 0.0, 0.5) == 0.5
    line = lambda t: Point(t, -t, -1.0, None)
    assert cubic(line(0.0), line(1.0), 1.01, 10.0) == 10.0
    assert cubic(line(1.0), line(1.0), 1.0, 2.0) == 1.5
    assert cubic(Point(0.0, 0.0, -1.0, None), Point(1.0, np.inf, np.nan, None), 0.0, 1.0) == 0.5


@pytest.mark.parametrize("beyond", [np.inf, np.nan])
def test_the_search_turns_back_where_the_loss_is_not_finite(beyond):
    x = Tensor(np.array([3.0]), requires_grad=True)
    optimizer = optim.LBFGS([x], lr=100.0, **WOLFE)
    outside = lambda: (x * 0).sum() + beyond
    optimizer.step(closure_of(optimizer, lambda: (x - mg.log(x)).sum() if x.data[0] > 0 else outside()))
    assert x.data[0] == pytest.approx(1, abs=1e-4)


def test_a_search_that_fails_leaves_the_weights():
    x, optimizer, closure = ours(**WOLFE)
    losses = iter([closure])

    def fails():
        return next(losses)()

    with pytest.raises(StopIteration):
        optimizer.step(fails)
    assert np.array_equal(x.data, START)


def test_a_parameter_without_a_gradient_stays():
    a, b = (Tensor(np.array([2.0, -1.0]), requires_grad=True) for _ in range(2))
    optimizer = optim.LBFGS([("a", a), ("b", b)], max_iter=2, lr=0.1)
    both = closure_of(optimizer, lambda: (a**4).sum() + (a * b).sum() + (b**4).sum())
    optimizer.step(both)
    before = b.data.copy()
    optimizer.step(closure_of(optimizer, lambda: (a**4).sum()))
    assert np.array_equal(b.data, before)
    assert [optimizer.state[name]["t"] for name in "ab"] == [2, 1]
    optimizer.step(both)
    assert not np.array_equal(b.data, before)


# Options, state, and what it refuses


@pytest.mark.parametrize("options", [{"lr": 0.1}, WOLFE], ids=str)
def test_a_loaded_state_goes_on_with_the_same_bits(options):
    options = options | {"max_iter": 3, "history_size": 4}
    x, optimizer, closure = ours(**options)
    for _ in range(3):
        optimizer.step(closure)
    saved, middle = optimizer.state_dict(), x.data.copy()
    y, other, theirs = ours(middle, **options)
    other.load_state_dict(saved)
    for _ in range(3):
        optimizer.step(closure)
        other.step(theirs)
    assert np.array_equal(x.data, y.data)
    with pytest.raises(CheckpointError, match=r"x steps: saved \(4, 4\) float64, here \(5, 4\) float64"):
        ours(history_size=5)[1].load_state_dict(saved)


@pytest.mark.parametrize("size", [2, 6])
def test_the_history_may_be_resized(size):
    x, optimizer, closure = ours(max_iter=6, history_size=4, **WOLFE)
    optimizer.step(closure)
    newest = optimizer.state["x"]["steps"][-2:].copy()
    optimizer.param_groups[0]["history_size"] = size
    optimizer.follow()
    steps = optimizer.state["x"]["steps"]
    assert steps.shape == (size, 4) and np.array_equal(steps[-2:], newest)
    optimizer.step(closure)
    assert optimizer.known == size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_iter": 0}, "max_iter must be a whole number of at least 1, got 0"),
        ({"max_eval": 0.5}, "max_eval must be None or a whole number of at least 1, got 0.5"),
        ({"history_size": 0}, "history_size must be a whole number"),
        ({"tolerance_grad": -1}, "tolerance_grad must be a number of at least 0, got -1"),
        ({"line_search_fn": "armijo"}, "line_search_fn must be None or 'strong_wolfe', got 'armijo'"),
        ({"weight_decay": 0.1}, "unexpected keyword argument 'weight_decay'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ArgumentError, match=f"LBFGS: .*{message}"):
        ours(**options)


def test_what_cannot_be_done_is_said():
    x, optimizer, closure = ours()
    with pytest.raises(ArgumentError, match=r"needs a closure.*def closure\(\): optimizer.zero_grad"):
        optimizer.step()
    with pytest.raises(ArgumentError, match="the closure returned None instead of the loss"):
        optimizer.step(lambda: None)
    with pytest.raises(ArgumentError, match="there can be only one group"):
        optim.LBFGS([{"params": [x]}, {"params": [Tensor(np.ones(2), requires_grad=True)]}])
    with pytest.raises(ArgumentError, match="must be alike, not float64 on cpu and float32 on cpu"):
        optim.LBFGS([x, Tensor(np.ones(2, np.float32), requires_grad=True)])
    with pytest.warns(TrainingWarning, match=r"LBFGS.step\(\): none of the 1 parameters has a gradient"):
        ours()[1].step(lambda: 1.0)
    checked = optim.LBFGS([x], check_finite=True)
    before = x.data.copy()
    with pytest.raises(NonFiniteError, match="gradient of 0"):
        checked.step(closure_of(checked, lambda: (x * np.inf).sum()))
    assert np.array_equal(x.data, before)
    assert repr(optimizer).startswith("LBFGS(lr=1.0, max_iter=20, max_eval=None, ")


def test_a_compiled_step_is_refused_and_a_compiled_closure_works():
    x, optimizer, closure = ours(max_iter=5)
    y, other, theirs = ours(max_iter=5)

    @mg.jit
    def step():
        return optimizer.step(closure)

    with pytest.raises(CaptureError, match=r"how far LBFGS goes.*\n.*\n?.*closure = mg.jit\(closure\)"):
        step()
    assert np.array_equal(x.data, START)
    compiled = mg.jit(closure)
    for _ in range(3):
        assert optimizer.step(compiled).item() == pytest.approx(other.step(theirs).item(), rel=1e-9)
    np.testing.assert_allclose(x.data, y.data, 1e-9)


def test_a_ledger_writes_down_every_iteration():
    x, optimizer, closure = ours(max_iter=4, **WOLFE)
    with optim.ledger(optimizer, watch={"x": ...}) as log:
        optimizer.step(closure)
    account = log["x"]
    assert account.t.tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(account["p"][1:], (account["p"] + account["update"])[:-1])
    np.testing.assert_allclose(account["g"][1], rosen_der(account["p"][1]), 1e-10)
    assert "s ← step · s" in account.explain(1)


def test_fit_trains_with_it(recwarn):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    mg.seed(0)
    model = nn.MLP([2, 8, 2], "tanh")
    optimizer = optim.LBFGS(model.named_parameters(), **WOLFE)
    history = mg.fit(model, optimizer, (x, y), epochs=4, batch_size=60, progress=False)
    assert history["accuracy"][-1] > 0.95 and history["loss"][-1] < 0.3 * history["loss"][0]
    assert not recwarn.list


# The closure of every optimizer


def quadratic(make):
    """A step with a closure and one without, of two like optimizers, on two like points."""
    points = [Tensor(np.array([[3.0, -2.0], [1.0, 0.5]]), requires_grad=True) for _ in range(2)]
    optimizers = [make([p]) for p in points]
    closures = [
        closure_of(o, lambda p=p: (p**4).sum() + p.sum()) for o, p in zip(optimizers, points, strict=True)
    ]
    return points, optimizers, closures


@pytest.mark.parametrize("name", sorted(optim.optimizers.keys() - {"lbfgs"}))
def test_a_closure_is_evaluated_before_the_update(name):
    points, (one, two), (first, second) = quadratic(optim.optimizers[name])
    with mg.no_grad():
        losses = [one.step(first).item() for _ in range(3)]
    for loss in losses:
        assert second().item() == loss
        assert two.step() is None
    assert np.array_equal(points[0].data, points[1].data)
    assert mode.record


def test_what_is_no_closure():
    _, (one, _), (closure, _) = quadratic(optim.SGD)
    with pytest.raises(ArgumentError, match=r"SGD.step\(closure\): a Tensor is no function. A closure comp"):
        one.step(closure())


def test_a_closure_in_a_compiled_step_has_the_same_bits():
    points = [Tensor(np.array([[3.0, -2.0], [1.0, 0.5]]), requires_grad=True) for _ in range(2)]
    one, two = (optim.Adam([p]) for p in points)
    first, second = (
        closure_of(o, lambda p=p: (p * p).sum()) for o, p in zip((one, two), points, strict=True)
    )

    @mg.jit
    def step():
        return one.step(first)

    for _ in range(4):
        assert step().item() == two.step(second).item()
    assert np.array_equal(points[0].data, points[1].data)
