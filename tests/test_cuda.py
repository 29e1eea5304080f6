"""A GPU, or Numba's simulator in its place: NUMBA_ENABLE_CUDASIM=1 python -m pytest -m cuda.

Everything is compared with the CPU: operations one at a time, compiled steps as a graph and as one kernel,
optimizers, whole training runs.
"""

import os
from contextlib import nullcontext

import numpy as np
import pytest
from test_compiler_operations import ROWS
from test_primitives import CASES, draw, joined

import microgradx as mg
from microgradx import data, nn, optim
from microgradx.compiler.run.cuda_executable import CudaExecutable
from microgradx.cuda import Array, Shape, available, describe, device
from microgradx.errors import ArgumentError, CaptureError, DeviceError, DTypeError, ShapeError
from microgradx.kernels import sweep
from microgradx.optim import optimizers
from microgradx.primitives import operations
from microgradx.rules import rules
from microgradx.scalars import functions
from microgradx.training import checkpoints

simulated = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
reason = "needs a GPU, or NUMBA_ENABLE_CUDASIM=1 before Python starts"
needs_cuda = pytest.mark.skipif(not simulated and not available(), reason=reason)
pytestmark = [pytest.mark.cuda, pytest.mark.usefixtures("quick_threads"), needs_cuda]
WAYS = "graph", "epoch"


def close(found, wanted, rtol=1e-5, atol=1e-6):
    """Same shape, same dtype, nearly the same numbers."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_allclose(found, wanted, rtol=rtol if found.dtype == np.float32 else 1e-10, atol=atol)


# Operations


def gradients(name, case, arrays, where):
    """The value and the gradients of a weighted sum of it."""
    tensors = [mg.tensor(a, device=where, requires_grad=True) for a in arrays]
    y = joined(case.call(operations[name], tensors))
    weights = mg.tensor(np.linspace(1, 2, y.size).reshape(y.shape).astype(y.dtype), device=where)
    (y * weights).sum().backward()
    return [y, *(t.grad for t in tensors)]


@pytest.mark.parametrize(("name", "case"), CASES, ids=lambda x: x if type(x) is str else repr(x))
def test_an_operation_and_its_gradient(name, case):
    arrays = [a.astype(np.float32) for a in draw(case)]
    for found, wanted in zip(
        *(gradients(name, case, arrays, where) for where in ("cuda", "cpu")), strict=True
    ):
        assert found.device == "cuda"
        close(found, wanted, rtol=2e-5)


MIXED = {"constant f4", "constant i8"}  # rows that put a tensor of the CPU beside the others


@pytest.mark.parametrize("how", ["eager", *WAYS])
@pytest.mark.parametrize("table", sorted({table.__name__ for table, _, _ in ROWS}))
def test_rows_of_the_compiler(table, how, monkeypatch):
    monkeypatch.setattr(CudaExecutable, "how", how)
    kinds = {name: (rows, dtype) for rows, dtype, name in ROWS if rows.__name__ == table}  # float32 if both
    for name, (rows, dtype) in kinds.items():
        if name in MIXED:
            continue
        row = rows(dtype)[name]
        arrays = row.draw(7, dtype)
        mg.seed(1)
        wanted = row(*map(mg.tensor, arrays))
        mg.seed(1)
        inputs = [mg.tensor(x, device="cuda") for x in arrays]
        found = row(*inputs) if how == "eager" else mg.jit(row.__call__)(*inputs)
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            close(one, other, rtol=2e-5)


@pytest.mark.parametrize("function", functions.values(), ids=lambda function: function.name)
def test_an_elementwise_function_has_the_cpus_bits(function):
    inputs = [np.array(column, np.float32) for column in function.domain.sample(20)]
    if function.name.startswith("logical") or function.name == "where":
        inputs[0] = inputs[0] > 0
    if function.name.startswith("logical"):
        inputs = [x > 0 for x in inputs]
    wanted = function(*inputs)
    found = function(*(mg.tensor(x, device="cuda") for x in inputs)).numpy()
    exact = simulated and function.name not in ("erf", "power")  # other code for arrays than for numbers
    close(found, wanted, rtol=0 if exact else 3e-6, atol=0 if exact else 1e-6)


@pytest.mark.parametrize(
    "shape", [(0,), (1,), (0, 3), (3, 0), (7, 9), (1, 200), (200, 1), (33, 65), (2, 3, 70)]
)
@pytest.mark.parametrize("kind", ["sum", "prod", "max", "min", "argmax", "argmin", "mean"])
def test_reductions_of_ragged_sizes(shape, kind):
    x = np.random.default_rng(1).uniform(0.9, 1.1, shape).astype(np.float32)
    for axis in (None, *range(len(shape))):
        if 0 in shape and kind not in ("sum", "prod"):
            continue
        wanted = getattr(mg, kind)(mg.tensor(x), axis)
        close(getattr(mg, kind)(mg.tensor(x, device="cuda"), axis), wanted, rtol=1e-5)


def test_nan_and_infinity_in_extremes():
    x = np.array([[1, np.nan, 3], [-np.inf, -np.inf, -np.inf], [2, 5, 5], [np.inf, 0, np.nan]], np.float32)
    wide = np.tile(x, (1, 30))
    for array in (x, wide, x.T.copy()):
        for kind in ("max", "min", "argmax", "argmin"):
            for axis in (0, 1):
                wanted = getattr(mg, kind)(mg.tensor(array), axis).numpy()
                found = getattr(mg, kind)(mg.tensor(array, device="cuda"), axis).numpy()
                np.testing.assert_array_equal(found, wanted, err_msg=f"{kind} {axis}")


@pytest.mark.parametrize("n, k, m", [(1, 1, 1), (5, 7, 3), (4, 4, 4), (9, 40, 2), (3, 1, 5), (13, 6, 11)])
@pytest.mark.parametrize("form", ["nn", "nt", "tn", "tt"])
def test_matrix_products_of_ragged_sizes(n, k, m, form):
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((n, k)).astype(np.float32), rng.standard_normal((k, m)).astype(np.float32)
    left = mg.tensor(a.T.copy() if form[0] == "t" else a, device="cuda")
    right = mg.tensor(b.T.copy() if form[1] == "t" else b, device="cuda")
    found = (left.T if form[0] == "t" else left) @ (right.T if form[1] == "t" else right)
    close(found, a @ b)


SHAPES = [
    Shape(1, 2, 2, 2),
    Shape(4, 2, 3, 1),
    Shape(16, 8, 4, 2),
]  # threads, tiles, steps of them, per thread


@pytest.mark.skipif(not simulated, reason="a GPU's kernels are made for one shape")
@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.block} threads")
def test_the_shape_of_a_launch_does_not_matter(shape, blocks, monkeypatch):
    monkeypatch.setattr(device(), "shape", shape)
    monkeypatch.setattr(device(), "most", blocks)
    rng = np.random.default_rng(4)
    for n, k, m in ((1, 1, 1), (7, 19, 5), (9, 2, 11)):
        a, b = rng.standard_normal((n, k)).astype(np.float32), rng.standard_normal((k, m)).astype(np.float32)
        x, y = mg.tensor(a, device="cuda"), mg.tensor(b, device="cuda")
        close(x @ y, a @ b)
        close(mg.exp(x).sum(), np.exp(a).sum(), rtol=1e-5)
        close(x.sum(0), a.sum(0))
        close(x.argmax(1), a.argmax(1))
        close(mg.softmax(x), mg.softmax(mg.tensor(a)))
        close(x.cumsum(1), a.cumsum(1))
        close(x.T[::-1] * 2, a.T[::-1] * np.float32(2))
        rows = np.array([0, n - 1, 0])
        grown = mg.tensor(a, device="cuda", requires_grad=True)
        grown[rows].sum().backward()
        close(grown.grad, np.bincount(rows, minlength=n)[:, None].astype(np.float32) * np.ones_like(a))


def test_batched_products_and_views():
    rng = np.random.default_rng(3)
    a, b = (
        rng.standard_normal((5, 3, 4)).astype(np.float32),
        rng.standard_normal((5, 4, 2)).astype(np.float32),
    )
    ta, tb = mg.tensor(a, device="cuda"), mg.tensor(b, device="cuda")
    close(ta @ tb, a @ b)
    close(ta[::2, :, ::-1] @ tb[::2, ::-1], a[::2, :, ::-1] @ b[::2, ::-1])
    close(ta.permute(2, 0, 1).reshape(4, 15), a.transpose(2, 0, 1).reshape(4, 15))


def test_views_share_their_memory():
    x = mg.tensor(np.arange(12, dtype=np.float32).reshape(3, 4), device="cuda")
    memory = x.data.memory
    for view in (x.T, x[1:, ::2], x.reshape(2, 6), x[None], x.expand(2, 3, 4)):
        assert view.data.memory is memory
    x[1:] = 0.0
    assert x.sum().item() == 6


def test_sums_have_the_same_bits_every_time():
    x = mg.tensor(np.random.default_rng(0).standard_normal(4000).astype(np.float32), device="cuda")
    assert len({x.sum().item() for _ in range(3)}) == 1


def test_uniform_numbers_are_the_cpus():
    for size in (0, 1, 7, 64, 1001):
        mg.seed(5)
        wanted = [mg.rand(size), mg.randn(size), mg.rand(3)]
        mg.seed(5)
        found = [mg.rand(size, device="cuda"), mg.randn(size, device="cuda"), mg.rand(3, device="cuda")]
        for one, other in zip(found, wanted, strict=True):
            assert one.device == "cuda"
            np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_a_users_own_operation_runs_on_the_host():
    @mg.primitive
    def flipped(x):
        return np.flip(x).copy()

    @flipped.vjp
    def _(g, out, x):
        return flipped(g)

    x = mg.tensor([1.0, 2.0, 3.0], device="cuda", requires_grad=True)
    (flipped(x) * mg.tensor([1.0, 10.0, 100.0], device="cuda")).sum().backward()
    assert x.grad.device == "cuda"
    assert x.grad.tolist() == [100.0, 10.0, 1.0]


# Update rules and optimizers


@pytest.mark.parametrize("rule", rules.values(), ids=lambda rule: rule.name)
def test_a_rule_gives_the_cpus_bits(rule):
    rng = np.random.default_rng(5)
    p = rng.standard_normal(9).astype(np.float32)  # more than one grid of 8 threads
    on_cpu = [p.copy(), *(np.zeros_like(p) for _ in rule.state)]
    on_cuda = [Array.from_numpy(a) for a in on_cpu]
    cpu, cuda = sweep(rule, np.float32), sweep(rule, np.float32, device="cuda")
    carried = cuda_carried = ()
    for t in range(1, 61 if simulated else 1001):
        g = rng.standard_normal(9).astype(np.float32)
        carried = cpu(on_cpu[0], g, *on_cpu[1:], t=t, carried=carried)
        cuda_carried = cuda(on_cuda[0], Array.from_numpy(g), *on_cuda[1:], t=t, carried=cuda_carried)
        assert cuda_carried == carried
        if t < 10 or t % 20 == 0:
            for name, a, b in zip(("p", *rule.state), on_cpu, on_cuda, strict=True):
                np.testing.assert_array_equal(a, b.numpy(), err_msg=f"{name} in step {t}")


def test_the_launch_fits_any_size():
    update = sweep(rules["sgd"], np.float32, device="cuda")
    for size in (0, 1, 7, 8, 9, 33):
        p, g = np.ones(size, np.float32), np.ones(size, np.float32)
        update(p, g, t=1, lr=0.5)
        assert p.tolist() == [0.5] * size


def network(where, sizes=(5, 4, 3), **options):
    mg.seed(0)
    return nn.MLP(list(sizes), **options).to(where)


def batch(where, rows=9, features=5, classes=3):
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((rows, features)).astype(np.float32), rng.integers(0, classes, rows)
    return mg.tensor(x, device=where), mg.tensor(y, device=where)


EXTRA = {"lr": 0.01}


@pytest.mark.parametrize("name", sorted(optimizers))
def test_an_optimizer_trains_as_on_the_cpu(name):
    if name == "lbfgs":
        pytest.skip("LBFGS takes a closure")
    found = []
    for where in ("cpu", "cuda"):
        model = network(where, bias=name != "muon")
        optimizer = optimizers[name](
            model.named_parameters(), **({} if name in ("adadelta", "rprop") else EXTRA)
        )
        x, y = batch(where)
        for _ in range(3):
            optimizer.zero_grad()
            nn.cross_entropy(model(x), y).backward()
            optimizer.step()
        found.append((model.state_dict(), optimizer.state_dict()))
    for key, value in found[0][0].items():
        np.testing.assert_allclose(found[1][0][key], value, rtol=2e-4, atol=2e-5, err_msg=key)
    assert isinstance(next(iter(found[1][0].values())), np.ndarray)
    on_cuda = network("cuda", bias=name != "muon")
    again = optimizers[name](on_cuda.named_parameters(), **({} if name in ("adadelta", "rprop") else EXTRA))
    again.load_state_dict(found[0][1])  # a state of the CPU goes on here
    for part, state in found[0][1]["state"].items():
        for key, value in state.items():
            np.testing.assert_array_equal(np.asarray(again.state[part][key]), value)


@pytest.mark.parametrize("name", ["momentum", "adam", "lion", "yogi"])
def test_a_checkpoint_goes_to_the_device_and_back_to_the_same_bits(name, tmp_path):
    draw = np.random.default_rng(0)
    start, *pulls = draw.standard_normal((7, 5, 3)).astype(np.float32)

    def trained(where, state, gradients):
        w = mg.tensor(state["w"], device=where, requires_grad=True)
        optimizer = optimizers[name]([("w", w)], lr=0.01, weight_decay=0.1)
        if "optimizer" in state:
            optimizer.load_state_dict(state["optimizer"])
        for gradient in gradients:
            w.grad = mg.tensor(gradient, device=where)
            optimizer.step()
        checkpoints.save(tmp_path / where, {"w": w.numpy(), "optimizer": optimizer.state_dict()})
        return checkpoints.load(tmp_path / where)

    whole = trained("cpu", {"w": start}, pulls)
    parts = {"w": start}
    for where, gradients in (("cpu", pulls[:2]), ("cuda", pulls[2:4]), ("cpu", pulls[4:])):
        parts = trained(where, parts, gradients)
    assert whole["w"].tobytes() == parts["w"].tobytes() and repr(whole["optimizer"]) == repr(
        parts["optimizer"]
    )


def test_clipping_averages_and_check_finite():
    found = []
    for where in ("cpu", "cuda"):
        model = network(where)
        optimizer = optim.SGD(model.parameters(), lr=0.1, check_finite=True)
        ema = optim.EMA(model.named_parameters(), 0.5)
        x, y = batch(where)
        for _ in range(2):
            optimizer.zero_grad()
            nn.cross_entropy(model(x), y).backward()
            norm = optim.clip_grad_norm_(optimizer, 0.1)
            optim.clip_grad_value_(model.parameters(), 0.05)
            optimizer.step()
            ema.update()
        with ema.applied():
            found.append((float(norm), model.state_dict(), ema.state_dict()["averages"]))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    for k in (1, 2):
        for one, other in zip(found[0][k].values(), found[1][k].values(), strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("way", [lambda step: step, mg.jit], ids=["line by line", "compiled"])
def test_a_ledger_writes_down_the_devices_steps(way):
    written = {}
    for where in ("cpu", "cuda"):
        model = network(where)
        optimizer = optim.Adam(model.named_parameters(), lr=0.01)

        @way
        def step(x, y, model=model, optimizer=optimizer):
            optimizer.zero_grad()
            nn.cross_entropy(model(x), y).backward()
            optimizer.step()

        with optim.ledger(optimizer, watch=9) as log:
            for _ in range(3):
                step(*batch(where))
        written[where] = log["0.weight"]
    for name in ("p", "g", "m_hat", "v", "update"):
        close(written["cuda"][name], written["cpu"][name])


@pytest.mark.parametrize("how", ["launches", *WAYS])
def test_a_ledger_writes_down_a_scan(how, monkeypatch):
    monkeypatch.setattr(CudaExecutable, "how", how)
    written, ends = {}, []
    for where, watch in (("cpu", 9), ("cuda", 9), ("cuda", 0)):
        model = network(where)
        optimizer = optim.Adam(model.named_parameters(), lr=0.01)
        step = mg.jit(training(where, model, optimizer))
        x, y = batch(where, 20)
        for _ in range(2):  # at other places
            with optim.ledger(optimizer, watch={"0.weight": [(0, 1), (1, 2)]}) if watch else nullcontext():
                assert step.scan(x, y, batch_size=4).shape == (5,)
        with optim.ledger(optimizer, watch, every=2) if watch else nullcontext() as log:
            losses = step.scan(x, y, batch_size=4)
        if watch:
            written[where] = log["0.weight"]
        ends.append((losses.numpy(), model.state_dict(), optimizer.state_dict()))
    np.testing.assert_equal(ends[1], ends[2])
    assert written["cuda"].t.tolist() == [11, 13, 15]
    for name in ("p", "g", "m_hat", "v", "update"):
        close(written["cuda"][name], written["cpu"][name], rtol=1e-4)


# Compiled steps


def training(where, model, optimizer, loss=nn.cross_entropy, extra=None):
    def step(x, y):
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        if extra:
            extra()
        optimizer.step()
        return value

    return step


MODELS = {
    "mlp": lambda where: network(where),
    "dropout": lambda where: network(where, dropout=0.4),
    "gelu": lambda where: network(where, activation="gelu"),
    "layernorm": lambda where: nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 3)).to(
        where
    ),
    "batchnorm": lambda where: nn.Sequential(
        nn.Linear(5, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)
    ).to(where),
}


@pytest.mark.parametrize("how", ["launches", *WAYS])
@pytest.mark.parametrize("kind", MODELS)
def test_a_compiled_step_trains_as_on_the_cpu(kind, how, monkeypatch):
    monkeypatch.setattr(CudaExecutable, "how", how)
    found = []
    for where in ("cpu", "cuda"):
        mg.seed(0)
        model = MODELS[kind](where)
        optimizer = optim.Adam(model.parameters(), lr=0.02)
        schedule = optim.StepLR(optimizer, 3, 0.5)
        step = training(where, model, optimizer, extra=schedule.step)
        x, y = batch(where, 21)
        if where == "cuda":
            step = mg.jit(step)
        losses = [step(x[:8], y[:8]).item() for _ in range(2)]
        if where == "cuda":
            losses += step.scan(x, y, batch_size=8, order=np.arange(21)[::-1]).tolist()
            assert step.variant.executable.how == how
        else:
            order = np.arange(21)[::-1].copy()
            losses += [step(x[order[i : i + 8]], y[order[i : i + 8]]).item() for i in (0, 8, 16)]
        found.append((losses, model.state_dict(), optimizer.state_dict(), schedule.state_dict()))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=2e-5)
    for key, value in found[0][1].items():
        np.testing.assert_allclose(found[1][1][key], value, rtol=2e-4, atol=2e-5, err_msg=key)
    assert found[1][3] == found[0][3]


@pytest.mark.parametrize("how", ["eager", "graph", "epoch"])
def test_a_step_has_the_cpus_numbers(how, monkeypatch):
    """Loss, gradients and weights of one step: sums and products to 1e-6 of their size."""
    monkeypatch.setattr(CudaExecutable, "how", how)
    found = []
    for where in ("cpu", "cuda"):
        model = network(where, (20, 17, 5))
        optimizer = optim.Adam(model.parameters(), lr=0.02)
        step = training(where, model, optimizer)
        x, y = batch(where, 33, 20, 5)
        loss = (step if how == "eager" else mg.jit(step))(x, y)
        found.append(
            [loss.numpy(), *(p.grad.numpy() for p in model.parameters()), *model.state_dict().values()]
        )
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-6 * np.abs(one).max())


def test_compiled_equals_eager_on_the_device():
    results = []
    for compiled in (False, True):
        model = network("cuda", dropout=0.3)
        optimizer = optim.AdamW(model.parameters(), lr=0.02)
        step = training("cuda", model, optimizer)
        step = mg.jit(step) if compiled else step
        x, y = batch("cuda")
        losses = [step(x, y).item() for _ in range(5)]
        results.append((losses, model.state_dict()))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-6)
    for one, other in zip(results[0][1].values(), results[1][1].values(), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-7)


def test_labels_out_of_range_change_nothing_and_are_told():
    model = network("cuda")
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    step = mg.jit(training("cuda", model, optimizer))
    x, y = batch("cuda", 8)
    step(x, y)
    before = model.state_dict()
    wrong = mg.tensor([0, 1, 2, 0, 7, 1, 2, 0], device="cuda")
    loss = step(x, wrong)
    with pytest.raises(
        ArgumentError, match=r"an index or label of 7 is out of range for 3 entries.*device='cpu'"
    ):
        loss.item()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    with pytest.raises(ArgumentError, match="an index or label of -1 is out of range for 3"):
        nn.cross_entropy(model(x), mg.tensor([0, 1, 2, 0, -1, 1, 2, 0], device="cuda")).item()
    assert np.isfinite(step(x, y).item())  # and it goes on


def test_ignored_labels_do_not_count():
    y = np.array([0, -100, 2, 1])
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    wanted = nn.cross_entropy(mg.tensor(x), y)
    tensors = mg.tensor(x, device="cuda"), mg.tensor(y, device="cuda")
    close(nn.cross_entropy(*tensors), wanted)
    close(mg.jit(lambda x, y: nn.cross_entropy(x, y))(*tensors), wanted)


@pytest.mark.filterwarnings("ignore::microgradx.errors.CompileWarning")  # normals are NumPy's
def test_random_draws_of_a_step_go_on():
    results = []
    for where in ("cpu", "cuda"):
        mg.seed(3)
        step = mg.jit(lambda x: x * mg.rand(3, device=x.device) + mg.randn(3, device=x.device))
        x = mg.ones(3, device=where)
        results.append([step(x).numpy() for _ in range(3)] + [mg.rand(3).numpy()])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-6)


# Training


def test_fit_is_as_on_the_cpu(tmp_path):
    (x, y), (xt, yt) = data.digits()
    results = []
    for where in ("cpu", "cuda"):
        mg.seed(0)
        model = nn.MLP([64, 12, 10], dropout=0.1).to(where)
        optimizer = optim.Adam(model.parameters(), lr=0.02)
        history = mg.fit(
            model, optimizer, train=(x[:60], y[:60]), valid=(xt[:20], yt[:20]), epochs=2, batch_size=20,
            seed=1, clip_norm=1.0, progress=False, out=tmp_path / where,
        )  # fmt: skip
        results.append(list(history))
    for one, other in zip(*results, strict=True):
        for key in ("loss", "accuracy", "valid_loss", "valid_accuracy"):
            assert other[key] == pytest.approx(one[key], rel=1e-4)
    other = nn.MLP([64, 12, 10], dropout=0.1).to("cuda")
    history = mg.fit(
        other, optim.Adam(other.parameters(), lr=0.02), train=(x[:60], y[:60]), valid=(xt[:20], yt[:20]),
        epochs=3, batch_size=20, seed=1, clip_norm=1.0, progress=False, out=tmp_path / "cuda", resume=True,
    )  # fmt: skip
    assert len(history) == 3


def test_the_command_trains_on_the_device(command):
    options = "--device cuda --data moons --model 2-6-2 --epochs 1 --batch-size 200 --quiet --out run"
    for text in (f"train {options}", "evaluate run"):
        code, out, errors = command(text)
        assert code == 0, errors
        assert "held-out rows" in out


# Moving, and what cannot be


def test_moving_lets_gradients_through():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = (x.to("cuda") * 3).to("cpu") * 2
    assert y.device == "cpu"
    y.sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]
    assert x.grad.device == "cpu"
    assert x.to("cpu") is x
    again = mg.tensor([1.0], device="cuda")
    assert again.to("cuda") is again


def test_two_devices_are_an_error_that_says_how_to_go_on():
    a, b = mg.ones(2, 3), mg.ones(2, 3, device="cuda")
    with pytest.raises(
        DeviceError, match=r"two devices: \(2, 3\) on cpu, \(2, 3\) on cuda.*x.to\(\"cuda\"\)"
    ):
        a + b
    assert (b + np.ones(3, np.float32)).tolist() == [
        [2.0] * 3
    ] * 2  # an array is no tensor, and is brought over
    model = network("cpu")
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    model.to("cuda")
    nn.cross_entropy(model(batch("cuda")[0]), batch("cuda")[1]).backward()
    with pytest.raises(DeviceError, match="has moved from cpu to cuda; make a new optimizer"):
        optimizer.step()
    other = mg.ones(3)
    with pytest.raises(DeviceError, match=r"other of shape \(3,\) is on the CPU, other tensors on cuda"):
        mg.jit(lambda x: x + other)(mg.ones(3, device="cuda"))


def test_wrong_shapes_are_told_as_on_the_cpu():
    messages = []
    for where in ("cpu", "cuda"):
        a = mg.ones(2, 3, device=where)
        for wrong in (
            lambda a=a: a @ a,
            lambda a=a: a + mg.ones(4, device=a.device),
            lambda a=a: a.reshape(5),
        ):
            with pytest.raises(ShapeError) as error:
                wrong()
            messages.append(str(error.value))
    assert messages[:3] == messages[3:]
    x = mg.ones(3, device="cuda")
    with pytest.raises(ShapeError, match="does not fit"):
        x.data[...] = Array.from_numpy(np.ones(2, np.float32))
    with pytest.raises(DTypeError, match="do not fit into int64"):
        Array.from_numpy(np.ones(2, np.int64))[...] = 0.5


def test_a_step_that_looks_at_a_value_cannot_be_compiled():
    with pytest.raises(CaptureError, match="looks at a tensor's value"):
        mg.jit(lambda x: x * 2 if x.sum() > 0 else x)(mg.ones(3, device="cuda"))


def test_copies_and_printing():
    import copy
    import pickle

    x = mg.tensor([1.5, 2.5], device="cuda")
    assert repr(x) == 'tensor([1.5, 2.5], device="cuda")'
    for other in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert other.device == "cuda"
        assert other.tolist() == [1.5, 2.5]
    assert isinstance(x.data, Array)
    assert "float32[2]" in repr(x.data)
    assert describe()[1] == ""


def test_memory_goes_back_to_the_pool():
    used = device().used
    x = mg.ones(1000, device="cuda")
    raw = x.data.memory.address
    del x
    assert device().used == used
    again = mg.ones(1000, device="cuda")
    assert again.data.memory.address is raw or again.data.memory.address == raw
