"""Optimizers: what every one of them promises, over the registry, and what the mechanism promises."""

import inspect
import threading

import numpy as np
import pytest

import microgradx as mg
from microgradx import optim, rules
from microgradx.eager.tensor import Tensor
from microgradx.errors import ArgumentError, CheckpointError, DTypeError, NonFiniteError, ShapeError
from microgradx.kernels import sweep

SHAPES = {"w": (5, 3), "b": (4, 4), "v": (3, 17)}  # matrices, so that Muon can train them, too
every = pytest.mark.parametrize("name", sorted(optim.optimizers))


def parameters(dtype=np.float32, shapes=SHAPES, seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: Tensor(rng.normal(size=shape).astype(dtype), requires_grad=True)
        for name, shape in shapes.items()
    }


def give_gradients(params, rng, skip=()):
    for name, p in params.items():
        p.grad = None if name in skip else Tensor(rng.normal(size=p.shape).astype(p.dtype))


def make(name, params, **options):
    return optim.optimizers[name](params.items(), **options)


def given():
    """A closure where the gradients are there already; LBFGS needs one."""
    return 0.0


def values(params):
    return {name: p.data.copy() for name, p in params.items()}


def same(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)


def bowl(params):
    """A loss with its minimum, 0, where all parameters are 1."""
    return sum((((p - 1) * (p - 1)).sum() for p in params.values()), start=Tensor(0.0))


# What every optimizer promises


@every
def test_follows_gradients_downhill(name):
    params = parameters()
    opt = make(name, params, **({"lr": 0.02} if name not in ("adadelta", "lars") else {}))
    first = bowl(params).item()

    def closure():
        opt.zero_grad()
        loss = bowl(params)
        loss.backward()
        return loss

    for _ in range(300):
        before = bowl(params).item()
        assert opt.step(closure).item() == before
    assert bowl(params).item() < 0.9 * first


@every
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_resumed_run_is_the_same_run(name, dtype):
    params, rng = parameters(dtype), np.random.default_rng(1)
    opt = make(name, params)
    for i in range(4):
        give_gradients(params, rng, skip={"b"} if i == 1 else ())
        opt.step(given)
    saved, middle, position = opt.state_dict(), values(params), rng.bit_generator.state
    for _ in range(3):
        give_gradients(params, rng)
        opt.step(given)

    again = {n: Tensor(middle[n], requires_grad=True) for n in params}
    resumed = make(name, again, lr=0.5)
    resumed.load_state_dict(saved)
    rng.bit_generator.state = position
    for _ in range(3):
        give_gradients(again, rng)
        resumed.step(given)
    assert same(values(params), values(again))
    assert all(same(opt.state[n], resumed.state[n]) for n in params)
    assert all(p.dtype == dtype for p in params.values())


@every
def test_maximize_is_the_step_of_the_opposite_gradient(name):
    down, up = parameters(), parameters()
    for params, sign in ((down, 1), (up, -1)):
        opt, rng = make(name, params, maximize=sign < 0), np.random.default_rng(1)
        for _ in range(3):
            give_gradients(params, rng)
            for p in params.values():
                p.grad = Tensor(sign * p.grad.data)
            opt.step(given)
    assert same(values(down), values(up))


@pytest.mark.parametrize("name", sorted(optim.optimizers.keys() - {"lbfgs"}))  # all parameters at once
def test_flat_buffers_change_nothing(name):
    together, alone = parameters(), parameters()
    opts = [make(name, together)] + [make(name, {n: p}) for n, p in alone.items()]
    for opt, params in ((opts[:1], together), (opts[1:], alone)):
        rng = np.random.default_rng(1)
        for _ in range(3):
            give_gradients(params, rng)
            for o in opt:
                o.step(given)
    assert same(values(together), values(alone))


@every
def test_a_parameter_without_gradient_keeps_value_state_and_count(name):
    params, rng = parameters(), np.random.default_rng(1)
    opt = make(name, params)
    give_gradients(params, rng)
    opt.step(given)
    before, state = values(params), opt.state_dict()["state"]
    for shared in ("s", "g_old", "steps", "changes") if name == "lbfgs" else ():
        del state["b"][shared]  # parts of what it keeps of all parameters
    give_gradients(params, rng, skip={"b"})
    opt.step(given)
    assert np.array_equal(params["b"].data, before["b"])
    assert same(state["b"], opt.state["b"])
    assert [opt.state[n]["t"] for n in params] == [2, 1, 2]
    assert not np.array_equal(params["w"].data, before["w"])


@every
def test_state_that_does_not_fit_is_refused(name):
    opt = make(name, parameters())
    other = make(name, parameters(shapes=SHAPES | {"b": (4, 5)}))
    if not opt.state["b"].keys() - {"t"}:
        other = make(name, parameters(shapes={"w": (5, 3)}))
    give_gradients(parameters(), np.random.default_rng(1))
    before = opt.state_dict()
    with pytest.raises(CheckpointError, match=r"does not fit.*\bb\b.*saved .*, here "):
        opt.load_state_dict(other.state_dict())
    assert repr(opt.state_dict()) == repr(before)


@every
def test_options_outside_their_range_are_refused(name):
    with pytest.raises(ArgumentError, match=r"lr must be a number of at least 0, got -1"):
        make(name, parameters(), lr=-1)
    with pytest.raises(ArgumentError, match=r"lr must be a number of at least 0, got nan"):
        make(name, parameters(), lr=float("nan"))
    with pytest.raises(ArgumentError, match="unexpected keyword argument 'learning_rate'.*lr"):
        make(name, parameters(), learning_rate=0.1)


@every
def test_signature_and_options_say_what_it_takes(name):
    cls = optim.optimizers[name]
    assert "lr" in cls.options
    assert cls.__doc__
    opt = cls([Tensor(np.ones((2, 2)), requires_grad=True)])
    assert opt.defaults == cls.options
    assert repr(opt).startswith(f"{cls.__name__}(lr=")
    opt.param_groups[0]["lr"] = 0.25
    assert repr(opt).startswith(f"{cls.__name__}(lr=0.25")


def test_the_options_of_groups_that_differ_are_shown():
    first, *rest = parameters().values()
    groups = [{"params": [first], "lr": 0.5}, {"params": rest}]
    assert repr(optim.SGD(groups, lr=0.1)).startswith("SGD(lr=0.5 | 0.1, momentum=0.0, ")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adam", {"betas": (0.9, 1.0)}, r"betas must be numbers in \[0, 1\), got \(0.9, 1.0\)"),
        ("adam", {"betas": (0.9, 0.99, 0.9)}, "betas must be 2 numbers"),
        ("adan", {"betas": (0.9, 0.99)}, "betas must be 3 numbers"),
        ("adam", {"eps": "small"}, "eps must be a number of at least 0, got 'small'"),
        ("adam", {"amsgrad": True, "bias_correction": False}, "no amsgrad=True with bias_correction=False"),
        ("sgd", {"nesterov": True}, "nesterov=True needs a momentum and no dampening"),
        ("rprop", {"etas": (1.2, 0.5)}, "etas must be two numbers"),
        ("adadelta", {"rho": 1.5}, r"rho must be in \[0, 1\], got 1.5"),
        ("momentum", {"beta": 1.0}, r"beta must be in \[0, 1\), got 1.0"),
        ("muon", {"adjust_lr_fn": "none"}, "adjust_lr_fn must be None or 'original' or 'match_rms_adamw'"),
        ("muon", {"ns_steps": 100}, "ns_steps must be a whole number below 100"),
        (
            "adafactor",
            {"eps": 1e-30},
            "eps must be two numbers of at least 0, of which the first may be None",
        ),
        ("adafactor", {"d": 0.5}, "d must be a number of at least 1, got 0.5"),
        ("adafactor", {"beta2_decay": 0.8}, "beta2_decay must be a number of at most 0, got 0.8"),
    ],
)
def test_errors_of_options_say_rule_and_value(name, options, message):
    with pytest.raises(ArgumentError, match=message):
        make(name, parameters(), **options)


# Rules without a class


def test_a_rule_of_ones_own_needs_no_class():
    def signum(p, g, m, /, t, lr=0.1, beta=0.5):
        """Follow the sign of the mean gradient."""
        m = beta * m + (1 - beta) * g
        return p - lr * (m > 0), m

    rule = rules.Rule(signum)  # as @mg.rule, but unlisted
    p = Tensor(np.ones(3, np.float32), requires_grad=True)
    opt = optim.Optimizer([p], rule, lr=0.25, weight_decay=0.0)
    p.grad = Tensor(np.ones(3, np.float32))
    opt.step()
    assert p.data.tolist() == [0.75] * 3
    assert opt.state["0"]["m"].tolist() == [0.5] * 3
    assert opt.param_groups[0]["beta"] == 0.5


def test_a_rule_that_is_none():
    p = Tensor(np.ones(3), requires_grad=True)
    with pytest.raises(ArgumentError, match="declare the rule with @mg.rule"):
        optim.Optimizer([p], lambda p, g: p - g)
    with pytest.raises(ArgumentError, match="unexpected keyword argument 'gamma'"):
        optim.Optimizer([p], rules.sgd, gamma=1)


@pytest.mark.parametrize("rule", rules.rules.values(), ids=lambda rule: rule.name)
def test_every_rule_steps_as_its_definition(rule):
    params, rng = parameters(np.float64), np.random.default_rng(1)
    opt = optim.Optimizer(params.items(), rule)
    p, carried = params["w"].data.copy(), (0.0,) * len(rule.carried)
    state = [np.zeros_like(p) for _ in rule.state]
    options = {n: np.float64(v) if isinstance(v, float) else v for n, v in rule.hyperparameters.items()}
    for t in (1, 2, 3):
        give_gradients(params, rng)
        result = rule(p, params["w"].grad.data, *state, t, *carried, **options)
        result = result if isinstance(result, tuple) else (result,)
        p, state, carried = result[0], list(result[1 : len(state) + 1]), result[len(state) + 1 :]
        opt.step()
    np.testing.assert_allclose(params["w"].data, p, rtol=1e-12, atol=1e-14)


# Weight decay


def test_l2_and_decoupled_decay():
    for name in ("adam", "adamw", "sgd", "lion"):
        for decoupled in (False, True):
            p = Tensor(np.full(3, 2.0), requires_grad=True)
            options = {"weight_decay": 0.1, "decoupled_weight_decay": decoupled}
            opt = optim.optimizers[name]([p], lr=0.01, **options)
            p.grad = Tensor(np.zeros(3))
            opt.step()
            l2 = 2 * 0.999 if name == "sgd" else 2 - 0.01
            assert np.allclose(p.data, 2 * 0.999 if decoupled else l2)
        assert optim.optimizers[name].options["decoupled_weight_decay"] == (name in ("adamw", "lion"))


# Groups


def test_groups_have_options_of_their_own():
    a, b = parameters(shapes={"a": (3,), "b": (2,)}).values()
    opt = optim.SGD([{"params": [("a", a)], "lr": 0.5}, {"params": [("b", b)]}], lr=0.1)
    opt.add_param_group({"params": [], "momentum": 0.9})
    before = a.data.copy(), b.data.copy()
    a.grad, b.grad = Tensor(np.ones(3, np.float32)), Tensor(np.ones(2, np.float32))
    opt.step()
    assert np.allclose(before[0] - a.data, 0.5)
    assert np.allclose(before[1] - b.data, 0.1)
    opt.param_groups[0]["lr"] = 0.0  # holds from the next step
    before = a.data.copy()
    opt.step()
    assert np.array_equal(a.data, before)
    opt.param_groups[0]["lr"] = -1.0
    with pytest.raises(ArgumentError, match="SGD: lr must be"):
        opt.step()


def test_groups_say_what_they_take():
    p = Tensor(np.ones(3), requires_grad=True)
    with pytest.raises(ArgumentError, match="unexpected keyword argument 'beta'; .*params, lr=0.001, .*mom"):
        optim.SGD([{"params": [p], "beta": 0.9}])


def test_dtypes_mix():
    a = Tensor(np.ones(3, np.float32), requires_grad=True)
    b = Tensor(np.ones(3, np.float64), requires_grad=True)
    opt = optim.SGD([a, b], lr=0.5)
    a.grad, b.grad = Tensor(np.ones(3, np.float32)), Tensor(np.ones(3))
    opt.step()
    assert a.data.tolist() == b.data.tolist() == [0.5] * 3
    assert (a.dtype, b.dtype) == (np.float32, np.float64)


def test_the_same_parameter_twice_counts_once():
    p, q = parameters(shapes={"p": (3,), "q": (3,)}).values()
    opt = optim.SGD([{"params": [p, p, q]}, {"params": [q, p], "lr": 9.0}], lr=0.5)
    before = p.data.copy()
    p.grad = Tensor(np.ones(3, np.float32))
    opt.step()
    assert np.allclose(before - p.data, 0.5)
    assert [group["param_names"] for group in opt.param_groups] == [["0", "1"], []]


def test_a_rule_with_other_state_needs_a_new_optimizer():
    p = Tensor(np.ones(3), requires_grad=True)
    opt = optim.SGD([p], lr=0.5)
    opt.param_groups[0]["momentum"] = 0.9  # before the first step: fine
    p.grad = Tensor(np.ones(3))
    opt.step()
    assert opt.state["0"]["v"].tolist() == [1.0] * 3
    opt.param_groups[0]["nesterov"] = True  # the same state: fine
    opt.step()
    opt.param_groups[0].update(momentum=0.0, nesterov=False)
    with pytest.raises(ArgumentError, match="the rule sgd after steps of sgd_nesterov.*new optimizer"):
        opt.step()


# Parameters


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ([], ArgumentError, "Adam: no parameters given; pass model.parameters()"),
        (Tensor(np.ones(3), requires_grad=True), ArgumentError, "one tensor given.*list"),
        ([np.ones(3)], ArgumentError, "parameter 0 is a ndarray, not a tensor"),
        ([Tensor(np.ones(3))], ArgumentError, r"parameter 0 of shape \(3,\) does not require gradients"),
        ([Tensor(np.arange(3))], ArgumentError, r"parameter 0 of shape \(3,\) does not require gradients"),
        ([Tensor(np.ones(3), requires_grad=True) * 2], ArgumentError, "computed from other tensors"),
        (
            [("w", Tensor(np.ones(3), requires_grad=True)), ("w", Tensor(np.ones(2), requires_grad=True))],
            ArgumentError,
            r"parameter w of shape \(2,\) has the name of another one",
        ),
    ],
)
def test_parameters_that_cannot_be_trained(params, error, message):
    with pytest.raises(error, match=message):
        optim.Adam(params)


def test_integers_cannot_be_trained():
    p = Tensor(np.arange(3))
    p.requires_grad = True
    with pytest.raises(DTypeError, match="parameters are int64; a sweep is made for float32 and float64"):
        optim.Adam([p])


def test_muon_takes_matrices_only():
    with pytest.raises(ArgumentError, match=r"Muon: parameter b of shape \(3,\) is not a matrix"):
        optim.Muon([("b", Tensor(np.ones(3), requires_grad=True))])


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0, 3), (17,)])
def test_shapes(shape):
    params = parameters(shapes={"a": shape, "b": (2,)})
    opt = optim.Adam(params.items(), lr=0.5)
    before = values(params)
    for p in params.values():
        p.grad = Tensor(np.ones(p.shape, np.float32))
    opt.step()
    assert all(
        np.allclose(before[n] - p.data, 0.5) and p.data.shape == before[n].shape for n, p in params.items()
    )


def test_data_and_gradients_are_views_of_flat_buffers():
    params = parameters()
    opt = optim.Adam(params.items())
    bowl(params).backward()
    flat = opt.flats[0]
    for p in params.values():
        assert np.shares_memory(p.data, flat.values)
        assert np.shares_memory(p.grad.data, flat.gradients)
        assert p.data.ctypes.data % 64 == 0
    assert len(opt.gradients()) == 1


def test_backward_passes_accumulate_until_zero_grad():
    p = Tensor(np.zeros(2), requires_grad=True)
    opt = optim.SGD([p], lr=1.0)
    for _ in range(2):
        (p * 3).sum().backward()
    assert p.grad.data.tolist() == [6.0, 6.0]
    opt.step()
    opt.zero_grad()
    assert p.grad is None
    (p * 3).sum().backward()
    assert p.grad.data.tolist() == [3.0, 3.0]
    assert p.data.tolist() == [-6.0, -6.0]


def test_values_that_a_user_assigns_are_taken_over():
    p = Tensor(np.zeros(2), requires_grad=True)
    opt = optim.SGD([p], lr=1.0)
    mine = np.full(2, 5.0)
    p.data = mine
    (p * 3).sum().backward()
    opt.step()
    assert p.data.tolist() == [2.0, 2.0]
    assert mine.tolist() == [5.0, 5.0]
    p.data = np.zeros(3)
    with pytest.raises(ShapeError, match=r"shape \(2,\).*has become \(3,\)"):
        opt.step()


def test_gradients_that_a_user_assigns_stay_the_users():
    p = Tensor(np.zeros(2), requires_grad=True)
    opt = optim.SGD([p], lr=1.0)
    mine = Tensor(np.ones(2))
    p.grad = mine
    opt.step()
    optim.clip_grad_value_(opt, 0.5)
    opt.step()
    assert p.data.tolist() == [-1.5, -1.5]
    assert mine.data.tolist() == [1.0, 1.0]


def test_two_optimizers_may_share_a_parameter():
    p = Tensor(np.zeros(2), requires_grad=True)
    first, second = optim.SGD([p], lr=1.0), optim.SGD([p], lr=0.5)
    for opt in (first, second, first):
        opt.zero_grad()
        (p * 2).sum().backward()
        opt.step()
    assert p.data.tolist() == [-5.0, -5.0]


def test_a_step_counts_as_a_change_in_place():
    p = Tensor(np.ones(2), requires_grad=True)
    opt = optim.SGD([p])
    y = (p * p).sum()
    p.grad = Tensor(np.ones(2))
    opt.step()
    with pytest.raises(mg.errors.GradientError, match="changed in place"):
        y.backward()


# NaN gradients


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_is_reported_before_anything_changes(bad):
    params, rng = parameters(), np.random.default_rng(1)
    opt = make("adam", params, check_finite=True)
    give_gradients(params, rng)
    opt.step()
    before, state = values(params), opt.state_dict()
    give_gradients(params, rng)
    params["b"].grad.data[1, 2] = params["b"].grad.data[3, 3] = bad
    count = "2 NaN and 0 infinite" if np.isnan(bad) else "0 NaN and 2 infinite"
    with pytest.raises(
        NonFiniteError, match=rf"gradient of b, of shape \(4, 4\), has {count}.*index \(1, 2\)"
    ):
        opt.step()
    assert same(before, values(params))
    assert repr(opt.state_dict()) == repr(state)


def test_large_but_finite_gradients_pass_the_check():
    p = Tensor(np.ones(4, np.float32), requires_grad=True)
    opt = optim.SGD([p], lr=1e-38, check_finite=True)
    p.grad = Tensor(np.full(4, 3e38, np.float32))
    opt.step()
    assert np.isfinite(p.data).all()


# Saved state


def test_state_is_named_and_copied():
    params = parameters()
    opt = make("nadam", params)
    give_gradients(params, np.random.default_rng(1))
    opt.step()
    saved = opt.state_dict()
    assert list(saved["state"]) == list(SHAPES)
    assert saved["state"]["w"].keys() == {"t", "m", "v", "mu_product"}
    assert saved["state"]["w"]["m"].shape == (5, 3)
    assert saved["param_groups"][0]["rule"] == "nadam"
    kept = saved["state"]["w"]["m"].copy()
    opt.step()
    assert np.array_equal(saved["state"]["w"]["m"], kept)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("param_groups"), "no state of an optimizer: KeyError"),
        (lambda s: s.pop("state"), "state w t: saved nothing, here a number"),
        (lambda s: s.update(optimizer="SGD"), "optimizer: saved SGD, here Adam"),
        (
            lambda s: s["param_groups"][0].update(rule="amsgrad"),
            "param_groups 0 rule: saved amsgrad, here adam",
        ),
        (lambda s: s["param_groups"][0].update(lr=-1), "lr must be"),
        (
            lambda s: s["param_groups"].append(s["param_groups"][0]),
            "param_groups 1 rule: saved adam, here no",
        ),
        (lambda s: s["state"].pop("b"), "state b m: saved nothing, here .4, 4. float32"),
        (lambda s: s["state"]["w"].pop("t"), "state w t: saved nothing"),
        (
            lambda s: s["state"]["w"].update(m=np.zeros((5, 3))),
            r"state w m: saved \(5, 3\) float64, here \(5, 3\) float32",
        ),
    ],
)
def test_damaged_state_is_refused(change, message):
    opt = make("adam", parameters())
    saved = opt.state_dict()
    change(saved)
    with pytest.raises(CheckpointError, match=message):
        opt.load_state_dict(saved)


def test_loading_takes_over_the_options():
    opt, other = make("adam", parameters(), lr=0.5, betas=(0.5, 0.6)), make("adam", parameters())
    saved = opt.state_dict()
    saved["param_groups"][0]["betas"] = [0.5, 0.6]  # as it comes back from JSON
    other.load_state_dict(saved)
    assert other.param_groups[0]["lr"] == 0.5
    other.follow()
    assert other.flats[0].hyperparameters["beta2"] == 0.6


# Clipping


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, np.inf])
def test_clip_grad_norm(bound, norm_type):
    params = parameters(shapes={"a": (9000,), "b": (3, 4)})
    target = make("sgd", params) if bound else list(params.values())
    give_gradients(params, np.random.default_rng(1))
    whole = np.concatenate([p.grad.data.ravel() for p in params.values()]).astype(np.float64)
    expected = np.linalg.norm(whole, norm_type)
    total = optim.clip_grad_norm_(target, 0.1, norm_type)
    assert total == pytest.approx(expected, rel=1e-6)
    clipped = np.concatenate([p.grad.data.ravel() for p in params.values()])
    np.testing.assert_allclose(clipped, whole * 0.1 / (expected + 1e-6), rtol=1e-5)
    assert optim.clip_grad_norm_(target, 1e9, norm_type) == pytest.approx(0.1, rel=1e-4)
    assert np.array_equal(clipped, np.concatenate([p.grad.data.ravel() for p in params.values()]))


def test_clip_grad_norm_of_odd_gradients():
    p = Tensor(np.zeros(3, np.float32), requires_grad=True)
    assert optim.clip_grad_norm_([p], 1.0) == 0.0
    p.grad = Tensor(np.full(3, 1e30, np.float32))
    assert optim.clip_grad_norm_(p, 1.0) == pytest.approx(np.sqrt(3) * 1e30, rel=1e-6)
    p.grad = Tensor(np.array([1, np.nan, 0], np.float32))
    with pytest.raises(NonFiniteError, match="norm of the gradients is nan; nothing was scaled"):
        optim.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    assert np.isnan(optim.clip_grad_norm_([p], 1.0))
    with pytest.raises(ArgumentError, match="max_norm must be at least 0.*got -1"):
        optim.clip_grad_norm_([p], -1)


@pytest.mark.parametrize("values", [(3e38, 3e38), (1e-30, 1e-30), (1e-20, 3e-22), (3, 4)], ids=str)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_clip_grad_norm_at_the_ends_of_float32(compiled, values):
    slopes = np.array(values, np.float32)
    p = Tensor(np.zeros(2, np.float32), requires_grad=True)

    def step(g):
        p.grad = None
        (p * g).sum().backward()
        return optim.clip_grad_norm_([p], 1.0) * mg.ones((), dtype=np.float64)

    total = (mg.jit(step) if compiled else step)(slopes)
    exact = np.linalg.norm(slopes.astype(np.float64))
    assert total.item() == pytest.approx(exact, rel=1e-6)
    np.testing.assert_allclose(p.grad.data, slopes * min(1.0, 1 / (exact + 1e-6)), rtol=1e-6)


def test_clip_grad_value():
    p = Tensor(np.zeros(3), requires_grad=True)
    p.grad = Tensor(np.array([-3.0, 0.25, 2.0]))
    optim.clip_grad_value_([p], 0.5)
    assert p.grad.data.tolist() == [-0.5, 0.25, 0.5]
    with pytest.raises(ArgumentError, match="clip_value must be at least 0, got nan"):
        optim.clip_grad_value_([p], float("nan"))


# Whole layers


def test_lars_and_lamb_move_in_proportion_to_the_weights():
    for name in ("lars", "lamb"):
        p = Tensor(np.full((4, 4), 3.0), requires_grad=True)
        opt = optim.optimizers[name]([p], lr=0.1, weight_decay=0.0)
        p.grad = Tensor(np.random.default_rng(1).normal(size=(4, 4)))
        before = p.data.copy()
        opt.step()
        share = 0.1 * (opt.param_groups[0].get("trust_coefficient", 1.0))
        moved = np.linalg.norm(p.data - before) / np.linalg.norm(before)
        assert moved == pytest.approx(share, rel=1e-12)


@pytest.mark.parametrize("name", ["lars", "lamb"])
def test_zero_weights_move_too(name):
    p = Tensor(np.zeros(3), requires_grad=True)
    opt = optim.optimizers[name]([p], lr=0.1)
    p.grad = Tensor(np.zeros(3))
    opt.step()
    assert p.data.tolist() == [0.0] * 3
    p.grad = Tensor(np.ones(3))
    opt.step()
    assert (p.data < 0).all()


def test_muon_steps_in_all_directions_alike():
    rng = np.random.default_rng(1)
    p = Tensor(rng.normal(size=(6, 3)), requires_grad=True)
    opt = optim.Muon([p], lr=1.0, weight_decay=0.0, ns_steps=5)
    before = p.data.copy()
    p.grad = Tensor(rng.normal(size=(6, 3)))
    opt.step()
    singular = np.linalg.svd(p.data - before, compute_uv=False)
    assert (singular > 0.5).all() and (singular < 1.3).all()


def test_adafactor_steps_in_proportion_to_the_weights_whatever_rows_and_columns_are():
    """Where g² is of rank 1, rows and columns tell all of it: then every weight moves alike."""
    rng = np.random.default_rng(1)
    p = Tensor(rng.normal(size=(6, 3)), requires_grad=True)
    opt = optim.Adafactor([p], lr=0.01)
    before = p.data.copy()
    p.grad = Tensor(np.outer(rng.normal(size=6), rng.normal(size=3)))
    opt.step()
    moved = -0.01 * np.sqrt(np.mean(before**2)) * np.sign(p.grad.data)
    np.testing.assert_allclose(p.data - before, moved, 1e-6)
    assert {name: np.shape(x) for name, x in opt.state["0"].items()} == {
        "t": (),
        "row": (6, 1),
        "column": (1, 3),
    }


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_adafactor_leaves_a_matrix_without_elements_alone(shape):
    empty, p = Tensor(np.zeros(shape), requires_grad=True), Tensor(np.ones((2, 2)), requires_grad=True)
    opt = optim.Adafactor([empty, p])
    ((empty * empty).sum() + (p * p).sum()).backward()
    opt.step()  # no mean of nothing
    assert empty.shape == shape and (p.data < 1).all()


# Two threads


def test_two_threads_may_step_two_optimizers():
    def train(seed, result):
        params, rng = parameters(shapes={"a": (300, 300), "b": (70,)}, seed=seed), np.random.default_rng(seed)
        opt = make("adam", params)
        for _ in range(30):
            give_gradients(params, rng)
            opt.step()
        result[seed] = values(params)

    apart, together = {}, {}
    for seed in (1, 2):
        train(seed, apart)
    threads = [threading.Thread(target=train, args=(seed, together)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same(apart[1], together[1]) and same(apart[2], together[2])


def test_a_step_is_one_sweep_of_the_whole():
    params = parameters()
    opt = make("sgd", params)
    give_gradients(params, np.random.default_rng(1))
    flat = opt.flats[0]
    calls = []
    whole = flat.update_all
    flat.update_all = lambda **kwargs: calls.append(kwargs) or whole(**kwargs)
    opt.step()
    assert calls == [{"t": 1, "carried": [], "lr": 1e-3}]
    assert flat.update is sweep(rules.sgd, np.float32)


def test_the_program_of_a_step_can_be_read():
    a, b = (Tensor(np.ones(3, dtype), requires_grad=True) for dtype in (np.float32, np.float64))
    opt = optim.SGD([{"params": [a, b]}, {"params": [], "lr": 0.5}], lr=0.1)
    single, double = (sweep(rules.sgd, dtype).source for dtype in (np.float32, np.float64))
    assert opt.source == f"{single}\n\n{double}"
    assert "Follow the gradient" in single and "for i in range(" in single
    opt.param_groups[0]["momentum"] = 0.9
    assert sweep(rules.sgd_momentum, np.float32).source in opt.source
    assert optim.SGD([a]).source == single


def test_help_shows_the_options():
    assert str(inspect.signature(optim.Adagrad)) == (
        "(params, lr=0.01, lr_decay=0.0, *, initial_accumulator_value=0.0, eps=1e-10, weight_decay=0.0, "
        "decoupled_weight_decay=False, maximize=False, check_finite=False)"
    )


@pytest.mark.parametrize("name", optim.optimizers)
def test_two_options_may_come_by_position_as_in_pytorch(name):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    kind = optim.optimizers[name]
    ours = list(inspect.signature(kind).parameters.values())[:3]
    assert {p.kind for p in ours} == {inspect.Parameter.POSITIONAL_OR_KEYWORD}
    if theirs := getattr(torch.optim, kind.__name__, None):
        assert [p.name for p in ours] == list(inspect.signature(theirs).parameters)[:3]


def test_names_differ_across_groups():
    p, q = parameters(shapes={"p": (3,), "q": (3,)}).values()
    with pytest.raises(ArgumentError, match=r"parameter w of shape \(3,\) has the name of another one"):
        optim.SGD([{"params": [("w", p)]}, {"params": [("w", q)]}])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lars_and_lamb_follow_their_papers(dtype):
    lars, lamb = parameters(dtype), parameters(dtype)
    opts = [make("lars", lars, lr=0.5, weight_decay=0.01), make("lamb", lamb, lr=0.01, betas=(0.8, 0.9))]
    expected = {n: [p.data.astype(float), p.data.astype(float)] for n, p in lars.items()}
    v, m, s = ({n: np.zeros(p.shape) for n, p in lars.items()} for _ in range(3))
    rng, size = np.random.default_rng(1), np.linalg.norm
    for t in range(1, 6):
        give_gradients(lars, rng)
        for n in lars:
            lamb[n].grad = lars[n].grad
            g, (a, b) = lars[n].grad.data.astype(float), expected[n]
            v[n] = 0.9 * v[n] + 0.5 * 1e-3 * size(a) / (size(g) + 0.01 * size(a)) * (g + 0.01 * a)
            m[n], s[n] = 0.8 * m[n] + 0.2 * g, 0.9 * s[n] + 0.1 * g * g
            r = m[n] / (1 - 0.8**t) / (np.sqrt(s[n] / (1 - 0.9**t)) + 1e-6) + 0.01 * b
            expected[n] = [a - v[n], b - 0.01 * size(b) / size(r) * r]
        for opt in opts:
            opt.step()
    tolerance = {np.float32: 1e-5, np.float64: 1e-12}[dtype]
    for n, (a, b) in expected.items():
        np.testing.assert_allclose(lars[n].data, a, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(lamb[n].data, b, rtol=tolerance, atol=tolerance)
