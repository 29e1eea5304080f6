"""What is set where nobody looks is an error that names the place; what trains nothing says so."""

import numpy as np
import pytest

import microgradx as mg
from microgradx import nn, optim
from microgradx.errors import ArgumentError, TrainingWarning

pytestmark = pytest.mark.interpreted

X, Y = np.ones((6, 4), np.float32), np.array([0, 1, 2, 2, 1, 0])


def adam():
    return optim.Adam(nn.MLP([4, 3]).parameters())


NOTHING = [
    (adam, "lr", 0.5, r"Adam.lr = 0.5 .* `for group in optimizer.param_groups: group\['lr'\] = 0.5`"),
    (adam, "betas", (0.5, 0.6), r"group\['betas'\] = \(0.5, 0.6\)"),
    (adam, "learning_rate", 0.5, r"would do nothing. Options, in param_groups, are lr, betas"),
    (
        lambda: optim.StepLR(adam(), 3),
        "gamma",
        0.5,
        r"StepLR.gamma = 0.5 .* `schedule.options\['gamma'\] = 0.5`",
    ),
    (nn.Dropout, "rate", 0.2, r"Dropout.rate = 0.2 would do nothing: what it takes is p\."),
    (lambda: nn.BatchNorm1d(3), "moment", 0.2, r"what it takes is num_features, eps, momentum, affine"),
    (nn.LeakyReLU, "slope", 0.2, r"what it takes is negative_slope"),
    (nn.ReLU, "inplace", True, r"what it takes is nothing"),
]


@pytest.mark.parametrize(("make", "name", "value", "words"), NOTHING, ids=[row[1] for row in NOTHING])
def test_an_attribute_that_nobody_reads_is_an_error(make, name, value, words):
    thing = make()
    with pytest.raises(ArgumentError, match=words):
        setattr(thing, name, value)
    assert not hasattr(thing, name)


def test_what_is_read_may_be_set():
    dropout, norm, optimizer = nn.Dropout(), nn.BatchNorm1d(3), adam()
    dropout.p, norm.momentum, optimizer.check_finite = 0.2, 0.3, True
    dropout.training, norm.note, norm.scale = False, "mine", mg.ones(3)
    schedule = optim.StepLR(optimizer, 3)
    schedule.options["gamma"] = 0.5
    assert schedule.at(1.0, 3) == 0.5


class Counting(optim.SGD):
    """A class of the user's own may keep what it likes."""

    steps = 0

    def step(self):
        self.steps, self.last = self.steps + 1, self.param_groups[0]["lr"]
        super().step()


del optim.optimizers["counting"]  # the table stays as it was, for other tests


class Net(nn.Module):
    def __init__(self):
        self.inner, self.depth = nn.Linear(4, 3), 1

    def forward(self, x):
        self.calls = getattr(self, "calls", 0) + 1
        return self.inner(x)


def test_the_users_own_classes_keep_what_they_like():
    model = Net()
    optimizer = Counting(model.parameters(), lr=0.1)
    mg.fit(model, optimizer, (X, Y), epochs=1, eager=True, progress=False)
    assert (optimizer.steps, optimizer.last, model.calls) == (1, 0.1, 2)  # first, to see that the data fit
    whole = nn.MLP([4, 3])
    whole.best = 0.5  # a container may carry notes


def test_fit_with_another_models_optimizer_is_an_error():
    model, other = nn.MLP([4, 3]), nn.MLP([4, 5, 3])
    with pytest.raises(
        ArgumentError, match=r"updates 4 parameters, none of which is among the model's 2\. Make"
    ):
        mg.fit(model, optim.Adam(other.parameters()), (X, Y), epochs=1, progress=False)
    for chosen in (model[0].parameters(), [*model.parameters(), *other.parameters()]):
        mg.fit(model, optim.Adam(chosen), (X, Y), epochs=1, eager=True, progress=False)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_step_without_any_gradient_warns(compiled):
    model = nn.MLP([4, 3])
    optimizer = optim.Adam(model.parameters())

    def step(x):
        optimizer.zero_grad()
        y = model(x).sum()
        optimizer.step()
        return y

    words = r"Adam.step\(\): none of the 2 parameters has a gradient, so nothing changes; call backward\(\)"
    with pytest.warns(TrainingWarning, match=words):
        (mg.jit(step) if compiled else step)(mg.Tensor(X))


def test_a_step_of_frozen_parameters_is_silent():
    model = nn.MLP([4, 3]).requires_grad_(False)
    optim.Adam(model.parameters()).step()
