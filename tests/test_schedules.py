"""Learning-rate schedules: PyTorch's numbers, and exact continuation."""

import math

import numpy as np
import pytest

from microgradx import optim
from microgradx.eager.tensor import Tensor
from microgradx.errors import ArgumentError, CheckpointError
from microgradx.optim import schedules

CASES = {
    "ConstantLR": [{}, {"factor": 0.5, "total_iters": 3}],
    "LinearLR": [{}, {"start_factor": 0.1, "end_factor": 0.5, "total_iters": 7}],
    "PolynomialLR": [{}, {"total_iters": 9, "power": 2.0}],
    "ExponentialLR": [{"gamma": 0.9}],
    "StepLR": [{"step_size": 4}, {"step_size": 3, "gamma": 0.5}],
    "MultiStepLR": [{"milestones": [2, 5, 5, 11], "gamma": 0.5}],
    "LambdaLR": [
        {"lr_lambda": lambda step: 1 / (1 + step)},
        {"lr_lambda": [lambda step: 0.5, lambda step: step]},
    ],
    "CosineAnnealingLR": [{"T_max": 8}, {"T_max": 30, "eta_min": 0.01}],
    "CosineAnnealingWarmRestarts": [{"T_0": 5}, {"T_0": 3, "T_mult": 2, "eta_min": 0.01}],
    "OneCycleLR": [
        {"max_lr": 0.5, "total_steps": 30},
        {"max_lr": 0.5, "total_steps": 31, "anneal_strategy": "linear", "pct_start": 0.4, "div_factor": 10.0},
        {"max_lr": 0.5, "total_steps": 40, "three_phase": True, "base_momentum": 0.7, "max_momentum": 0.9},
        {"max_lr": [0.5, 0.25], "epochs": 5, "steps_per_epoch": 7},
    ],
    "MultiplicativeLR": [{"lr_lambda": lambda step: 1 - 0.5 / step}],
    "CyclicLR": [
        {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 4},
        {"base_lr": [0.1, 0.2], "max_lr": [0.5, 0.7], "step_size_up": 3, "step_size_down": 6},
        {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 4, "mode": "triangular2", "cycle_momentum": False},
        {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 5, "mode": "exp_range", "gamma": 0.9},
        {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 2, "scale_fn": lambda n: 1 / n},
    ],
}
ROWS = [
    pytest.param(name, options, id=f"{name}-{i}") for name in CASES for i, options in enumerate(CASES[name])
]


def make_optimizer(cls=optim.SGD, groups=(0.1, 0.03), **options):
    params = [{"params": [Tensor(np.ones(2), requires_grad=True)], "lr": lr} for lr in groups]
    for group in params:
        group["params"][0].grad = np.zeros(2)
    return cls(params, **options)


def oracle_optimizer(torch, name="SGD", **options):
    params = [{"params": [torch.ones(2, requires_grad=True)], "lr": lr} for lr in (0.1, 0.03)]
    return getattr(torch.optim, name)(params, **options)


def curve(scheduler, steps=30):
    """The learning rates and the momentum of both groups at every step."""
    found = []
    for _ in range(steps):
        groups = scheduler.optimizer.param_groups
        found.append([group["lr"] for group in groups] + [group.get("momentum", 0) for group in groups])
        scheduler.optimizer.step()
        scheduler.step()
    return np.array(found)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed (the extra `bench` brings it)")


@pytest.mark.parametrize(("name", "options"), ROWS)
def test_agrees_with_pytorch(name, options, torch):
    ours = getattr(optim, name)(make_optimizer(momentum=0.5), **options)
    theirs = getattr(torch.optim.lr_scheduler, name)(oracle_optimizer(torch, momentum=0.5), **options)
    np.testing.assert_allclose(curve(ours), curve(theirs), rtol=1e-11, atol=1e-15)


def test_one_cycle_moves_betas_too(torch):
    options = {"max_lr": 0.5, "total_steps": 20}
    ours = optim.OneCycleLR(make_optimizer(optim.Adam), **options)
    theirs = torch.optim.lr_scheduler.OneCycleLR(oracle_optimizer(torch, "Adam"), **options)
    for _ in range(20):
        pairs = zip(ours.optimizer.param_groups, theirs.optimizer.param_groups, strict=True)
        for group, oracle in pairs:
            assert group["betas"] == pytest.approx(oracle["betas"], rel=1e-12)
            assert group["lr"] == pytest.approx(oracle["lr"], rel=1e-12)
        for scheduler in (ours, theirs):
            scheduler.optimizer.step()
            scheduler.step()


def test_sequential_and_chained_agree_with_pytorch(torch):
    def build(module, optimizer):
        warm = module.LinearLR(optimizer, start_factor=0.1, total_iters=4)
        fall = module.CosineAnnealingLR(optimizer, T_max=9)
        step = module.StepLR(optimizer, step_size=3)
        return module.SequentialLR(optimizer, [warm, fall, step], milestones=[5, 14])

    expected = curve(build(torch.optim.lr_scheduler, oracle_optimizer(torch)))
    np.testing.assert_allclose(curve(build(optim, make_optimizer())), expected, rtol=1e-11, atol=1e-15)

    def chain(module, optimizer):
        first = module.ExponentialLR(optimizer, gamma=0.9)
        return module.ChainedScheduler([first, module.ConstantLR(optimizer, factor=0.2, total_iters=3)])

    expected = curve(chain(torch.optim.lr_scheduler, oracle_optimizer(torch)))
    np.testing.assert_allclose(curve(chain(optim, make_optimizer())), expected, rtol=1e-11)


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 2},
        {"patience": 1, "mode": "max", "factor": 0.5, "cooldown": 2},
        {"patience": 0, "threshold": 0.3, "min_lr": 0.02},
        {"patience": 1, "threshold": 0.2, "threshold_mode": "abs", "mode": "max"},
        {"patience": 0, "factor": 0.5, "eps": 0.02},
    ],
)
def test_plateau_agrees_with_pytorch(options, torch):
    metrics = 1 + np.random.default_rng(0).normal(size=40).cumsum() * 0.3
    metrics[7] = np.nan
    ours = optim.ReduceLROnPlateau(make_optimizer(), **options)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(oracle_optimizer(torch), **options)
    for metric in metrics:
        ours.step(metric)
        theirs.step(metric)
        assert ours.get_last_lr() == theirs.get_last_lr()


def test_warm_up_rises_then_hands_over():
    optimizer = make_optimizer(groups=(1.0,))
    warm = optim.WarmUp(optimizer, 3, after=optim.CosineAnnealingLR(optimizer, T_max=4))
    assert curve(warm, 8)[:, 0] == pytest.approx(
        [0.25, 0.5, 0.75, 1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0.0], abs=1e-12
    )
    assert curve(optim.WarmUp(make_optimizer(groups=(1.0,)), 1), 3)[:, 0].tolist() == [0.5, 1.0, 1.0]


def test_a_definition_is_a_schedule():
    @optim.schedule
    def InverseRoot(lr, t, /, warm=2):
        """lr / √(1 + t / warm)"""
        return lr / math.sqrt(1 + t / warm)

    optimizer = make_optimizer(groups=(1.0,))
    assert curve(InverseRoot(optimizer, warm=1), 4)[:, 0] == pytest.approx([1, 0.5**0.5, 3**-0.5, 0.5])


@pytest.mark.parametrize("name", sorted(schedules.plans))
def test_plans_are_resumed_exactly(name):
    def build():
        optimizer = make_optimizer(optim.Adam, groups=(0.1, 0.2))
        return schedules.plans[name](optimizer, 20), optimizer

    def advance(plan, first, last):
        for _ in range(first, last):
            plan.step(*[1.0] if name == "plateau" else [])
            yield [dict(group, params=None) for group in plan.optimizer.param_groups]

    plan, _ = build()
    whole = list(advance(plan, 0, 20))
    plan, optimizer = build()
    assert list(advance(plan, 0, 7)) == whole[:7]
    saved, saved_optimizer = plan.state_dict(), optimizer.state_dict()
    plan, optimizer = build()
    optimizer.load_state_dict(saved_optimizer)
    plan.load_state_dict(saved)
    assert list(advance(plan, 7, 20)) == whole[7:]


def test_a_plan_lasts_for_the_run():
    for name in ("linear", "polynomial", "cosine", "exponential", "one-cycle"):
        plan = schedules.plans[name](make_optimizer(groups=(1.0,), momentum=0.5), 100)
        rates = curve(plan, 100)[:, 0]
        assert 0 <= rates[-1] < 0.02 and rates.max() <= 1.0


def test_resuming_works_in_either_order():
    plan = optim.CosineAnnealingLR(make_optimizer(), T_max=10)
    for _ in range(4):
        plan.step()
    saved, saved_optimizer = plan.state_dict(), plan.optimizer.state_dict()
    again = optim.CosineAnnealingLR(make_optimizer(groups=(9.0, 9.0)), T_max=10)
    again.load_state_dict(saved)
    again.optimizer.load_state_dict(saved_optimizer)
    for _ in range(3):
        plan.step()
        again.step()
        assert plan.get_last_lr() == again.get_last_lr()


def test_state_of_another_schedule_is_refused():
    plan = optim.StepLR(make_optimizer(), step_size=3)
    with pytest.raises(CheckpointError, match="schedule: saved ExponentialLR, here StepLR"):
        plan.load_state_dict(optim.ExponentialLR(make_optimizer(), gamma=0.5).state_dict())
    with pytest.raises(CheckpointError, match="base_lrs 1: saved nothing, here a number"):
        plan.load_state_dict(optim.StepLR(make_optimizer(groups=(1.0,)), step_size=3).state_dict())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda o: optim.StepLR(o, step_size=0), "step_size must be a whole number of at least 1, got 0"),
        (lambda o: optim.LinearLR(o, start_factor=0), r"start_factor must be in \(0, 1\], got 0"),
        (lambda o: optim.StepLR([], step_size=3), "StepLR: an optimizer comes first, not list"),
        (lambda o: optim.StepLR(o), "missing a required argument: 'step_size'"),
        (lambda o: optim.OneCycleLR(o, max_lr=0.1), "give total_steps, or both epochs and steps_per_epoch"),
        (lambda o: optim.OneCycleLR(o, max_lr=[0.1], total_steps=9), "1 max_lr for 2 groups"),
        (lambda o: optim.OneCycleLR(o, max_lr=[0.1, -1], total_steps=9), "or a list of such for each g"),
        (lambda o: optim.LambdaLR(o, 0.5), "lr_lambda must be a function, or a list of such for each g"),
        (lambda o: optim.StepLR(o, 3, last_epoch=4), "last_epoch=4, and groups have no 'initial_lr'. Load"),
        (lambda o: optim.CyclicLR(o, 0.1, 0.2, mode="min"), "mode must be 'triangular' or 'triangular2' or"),
        (
            lambda o: optim.ChainedScheduler([optim.LambdaLR(o, [abs, abs])]),
            "lr_lambda is a list for 2 groups, and this is none of them; give one for all groups",
        ),
        (
            lambda o: optim.OneCycleLR(o, 0.1, 10, anneal_strategy="sin"),
            "anneal_strategy must be 'cos' or 'linear'",
        ),
        (lambda o: optim.OneCycleLR(make_optimizer(optim.Rprop), 0.1, 10), "Rprop has no momentum to cycle"),
        (
            lambda o: optim.SequentialLR(o, [optim.StepLR(o, 3)], [4]),
            "between two schedulers, not 1 schedulers and 1 milestones",
        ),
        (lambda o: optim.SequentialLR(o, [], []), "schedulers must be schedules that follow the step alone"),
        (
            lambda o: optim.SequentialLR(o, [optim.StepLR(o, 3), optim.ReduceLROnPlateau(o)], [4]),
            "schedulers must be schedules that follow the step alone",
        ),
        (lambda o: optim.ReduceLROnPlateau(o, mode="lowest"), "mode must be 'min' or 'max', got 'lowest'"),
    ],
)
def test_errors(build, message):
    with pytest.raises(ArgumentError, match=message):
        build(make_optimizer())


def test_one_cycle_brings_momentum_to_plain_sgd_and_is_resumed():
    def build():
        optimizer = make_optimizer()
        return optimizer, optim.OneCycleLR(optimizer, max_lr=0.1, total_steps=10)

    optimizer, plan = build()
    for group in optimizer.param_groups:
        group["params"][0].grad = Tensor(np.ones(2))
    optimizer.step()
    plan.step()
    saved = optimizer.state_dict()
    assert saved["param_groups"][0]["rule"] == "sgd_momentum"
    again, _ = build()
    again.load_state_dict(saved)
    assert again.state["0"]["v"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "make",
    [
        lambda module, optimizer: module.StepLR(optimizer, 3),
        lambda module, optimizer: module.ExponentialLR(optimizer, 0.9),
        lambda module, optimizer: module.CosineAnnealingLR(optimizer, 20, eta_min=0.01),
        lambda module, optimizer: module.LinearLR(optimizer, total_iters=8),
        lambda module, optimizer: module.PolynomialLR(optimizer, 15, power=2.0),
        lambda module, optimizer: module.ReduceLROnPlateau(optimizer, patience=1),
    ],
)
def test_a_group_that_is_added_later_follows(make, torch):
    def curves(module, optimizer, added, *metric):
        plan, found = make(module, optimizer), []
        for step in range(14):
            if step == 5:
                optimizer.add_param_group({"params": [added], "lr": 0.5})
            optimizer.step()
            plan.step(*metric * isinstance(plan, module.ReduceLROnPlateau))
            found += [[group["lr"] for group in optimizer.param_groups]]
        return found

    theirs = curves(torch.optim.lr_scheduler, oracle_optimizer(torch), torch.ones(2), 1.0)
    added = Tensor(np.ones(2), requires_grad=True)
    for ours, wanted in zip(curves(optim, make_optimizer(), added, 1.0), theirs, strict=True):
        assert ours == pytest.approx(wanted, rel=1e-9)


def test_last_epoch_goes_on_where_another_left_off():
    optimizer = make_optimizer()
    first = optim.CosineAnnealingLR(optimizer, T_max=20)
    for _ in range(7):
        first.step()
    second = curve(optim.CosineAnnealingLR(optimizer, T_max=20, last_epoch=6), 9)
    whole = curve(optim.CosineAnnealingLR(make_optimizer(), T_max=20), 16)
    np.testing.assert_array_equal(second, whole[7:])


def test_two_schedules_cannot_take_turns():
    optimizer = make_optimizer()
    first, second = optim.StepLR(optimizer, 1), optim.ExponentialLR(optimizer, 0.5)
    first.step()  # one after the other is fine
    first.step()
    second.step()
    second.step()
    with pytest.raises(ArgumentError, match=r"StepLR and ExponentialLR step .* ChainedScheduler"):
        first.step()
    both = optim.ChainedScheduler([optim.StepLR(make_optimizer(), 1), second])
    both.step()
