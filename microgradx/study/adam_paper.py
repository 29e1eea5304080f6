"""The experiments of the Adam paper (Kingma & Ba, 2015, arXiv 1412.6980) again, on Fashion-MNIST.

Section 6.1 is logistic regression with a rate that falls as α/√t; section 6.2 a network with two hidden
layers of 1000 rectified units and dropout. Batches have 128 rows. Every optimizer gets the learning rate of
its grid whose training cost is least after a short search with one seed; a grid whose best rate is at its end
grows by a factor of three there. Then several seeds run to the end.

Every finished run is a file in the folder, so that an interrupted experiment goes on where it was.
"""

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from microgradx.compiler import jit
from microgradx.eager.tensor import Tensor
from microgradx.errors import ArgumentError
from microgradx.kernels.random import generator
from microgradx.nn import MLP
from microgradx.optim import SGD, Adadelta, Adagrad, Adam, LambdaLR, Optimizer, RMSprop
from microgradx.palette import BLUE, GREEN, INK, PINK, RED, SKY, frame, keep, panels
from microgradx.training.step import training_step

BATCH = 128
FINE = 1e-4, 3e-4, 1e-3, 3e-3, 1e-2
COARSE = 3e-3, 1e-2, 3e-2, 1e-1, 3e-1
WIDER = 3  # rates that a grid may grow by


@dataclass(frozen=True)
class Contender:
    """An optimizer, the learning rates that it may choose from, and how it is drawn."""

    name: str
    make: Callable[[Iterable[Tensor], float], Optimizer]
    rates: tuple[float, ...]
    color: str
    dashes: str = "-"


ADAM = Contender("Adam", lambda p, lr: Adam(p, lr=lr), FINE, RED)
NESTEROV = Contender(
    "SGD with Nesterov", lambda p, lr: SGD(p, lr=lr, momentum=0.9, nesterov=True), COARSE, BLUE, "--"
)
ADAGRAD = Contender("AdaGrad", lambda p, lr: Adagrad(p, lr=lr), (1e-3, *COARSE[:4]), GREEN, "-.")
RMSPROP = Contender("RMSProp", lambda p, lr: RMSprop(p, lr=lr), FINE, PINK, ":")
ADADELTA = Contender("AdaDelta", lambda p, lr: Adadelta(p, lr=lr), (0.1, 0.3, 1.0, 3.0), SKY, "--")


@dataclass(frozen=True)
class Experiment:
    """A section of the paper: the network, its optimizers, and what the paper found."""

    section: str
    title: str
    hidden: tuple[int, ...]
    dropout: float
    falling: bool  # whether the rate is α/√t
    contenders: tuple[Contender, ...]
    claim: str


LOGISTIC = Experiment(
    "6.1", "logistic regression, α/√t", (), 0.0, True, (ADAM, NESTEROV, ADAGRAD),
    "Adam converges as fast as SGD with Nesterov momentum, and both faster than AdaGrad",
)  # fmt: skip
NETWORK = Experiment(
    "6.2", "784-1000-1000-10, dropout", (1000, 1000), 0.5, False,
    (ADAM, NESTEROV, ADAGRAD, RMSPROP, ADADELTA),
    "Adam converges faster than the other methods",
)  # fmt: skip
EXPERIMENTS = {one.section: one for one in (LOGISTIC, NETWORK)}


@dataclass
class Laboratory:
    """The data, how long and how often everything runs, and the folder that remembers it."""

    data: tuple[np.ndarray, np.ndarray]
    folder: Path
    epochs: int = 10
    search_epochs: int = 2
    seeds: int = 3
    say: Callable[[str], object] = lambda text: None

    def __post_init__(self) -> None:
        for name in ("epochs", "search_epochs", "seeds"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"adam-paper: {name} must be at least 1, got {getattr(self, name)}.")
        x, y = self.data
        self.data = np.ascontiguousarray(x.reshape(len(x), -1), np.float32), y
        self.classes = int(y.max()) + 1
        self.searched: dict[str, tuple[float, ...]] = {}  # rates, by optimizer

    def costs(
        self, experiment: Experiment, contender: Contender, rate: float, seed: int, epochs: int
    ) -> np.ndarray:
        """The mean training cost of every epoch of a run: from its file, or run now. NaN once it diverged."""
        what = contender.name.replace(" ", "-"), f"{rate:g}", f"seed{seed}", f"epochs{epochs}"
        name = "_".join([*what, f"rows{len(self.data[0])}.json"])
        path = self.folder / f"section-{experiment.section}" / name
        if path.exists():
            return np.array(json.loads(path.read_text(encoding="utf-8"))["costs"], float)
        self.say(
            f"{experiment.section}: {contender.name}, learning rate {rate:.2g}, seed {seed}, {epochs} epochs"
        )
        started = time.perf_counter()
        found = self.train(experiment, contender, rate, seed, epochs)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        seconds = round(time.perf_counter() - started, 2)
        part.write_text(json.dumps({"costs": found, "seconds": seconds}), encoding="utf-8")
        part.replace(path)
        return np.array(found, float)

    def train(
        self, experiment: Experiment, contender: Contender, rate: float, seed: int, epochs: int
    ) -> list[float]:
        """A run: passes over the shuffled data in compiled steps."""
        x, y = self.data
        generator.seed(seed)
        model = MLP([x.shape[1], *experiment.hidden, self.classes], dropout=experiment.dropout)
        optimizer = contender.make(model.parameters(), rate)
        decay = (lambda step: 1 / math.sqrt(step + 1)) if experiment.falling else (lambda step: 1.0)
        schedule = LambdaLR(optimizer, decay)
        step = jit(training_step(model, optimizer, schedule=schedule))
        rows = len(x) - len(x) % BATCH or len(x)  # whole batches
        costs: list[float] = []
        for _ in range(epochs):
            order = generator.permutation(len(x))[:rows]
            mean = float(step.scan(x, y, batch_size=min(BATCH, rows), order=order).numpy().mean())
            if not math.isfinite(mean):
                return [*costs, *[math.nan] * (epochs - len(costs))]
            costs.append(mean)
        return costs

    def search(self, experiment: Experiment, contender: Contender) -> float:
        """The learning rate of the grid with the least cost at the end of a short run."""
        rates = list(contender.rates)
        while True:
            ends = [self.costs(experiment, contender, r, 0, self.search_epochs)[-1] for r in rates]
            if not np.isfinite(ends).any():
                raise ArgumentError(f"adam-paper: {contender.name} diverged at every rate of {rates}.")
            best = int(np.nanargmin(ends))
            self.searched[contender.name] = tuple(rates)
            if 0 < best < len(rates) - 1 or len(rates) >= len(contender.rates) + WIDER:
                return rates[best]
            rates = [rates[0] / 3, *rates] if best == 0 else [*rates, rates[-1] * 3]

    def run(self, experiment: Experiment) -> "Findings":
        """All optimizers of an experiment."""
        rates = {one.name: self.search(experiment, one) for one in experiment.contenders}
        costs = {}
        for one in experiment.contenders:
            seeds = range(1, self.seeds + 1)
            runs = [self.costs(experiment, one, rates[one.name], seed, self.epochs) for seed in seeds]
            costs[one.name] = np.array(runs)
        return Findings(experiment, rates, costs, dict(self.searched))


@dataclass(frozen=True)
class Findings:
    """What an experiment has found: the chosen rates, and costs (seeds, epochs) by optimizer."""

    experiment: Experiment
    rates: dict[str, float]
    costs: dict[str, np.ndarray]
    searched: dict[str, tuple[float, ...]]

    def final(self, name: str) -> float:
        """The mean cost of the last epoch."""
        return float(self.costs[name][:, -1].mean())

    def area(self, name: str) -> float:
        """The mean log cost over all epochs: how fast it fell, the start included."""
        return float(np.log(self.costs[name]).mean())

    @property
    def agrees(self) -> bool:
        """Whether the paper's claim holds here; "as fast" is within 2 %."""
        if self.experiment is LOGISTIC:
            adam, nesterov, adagrad = (self.final(one.name) for one in (ADAM, NESTEROV, ADAGRAD))
            return adam <= 1.02 * nesterov and max(adam, nesterov) < adagrad
        others = [one.name for one in self.experiment.contenders if one is not ADAM]
        return all(self.area(ADAM.name) < self.area(other) for other in others)

    def table(self) -> str:
        """A line per optimizer, the fastest first, and whether the paper's claim holds."""
        lines = ["| optimizer | learning rate | searched | cost of the first epoch | of the last | spread |",
                 "|---|---|---|---|---|---|"]  # fmt: skip
        for one in sorted(self.experiment.contenders, key=lambda one: self.area(one.name)):
            costs = self.costs[one.name]
            spread = costs[:, -1].max() - costs[:, -1].min()
            grid = ", ".join(f"{rate:.2g}" for rate in self.searched[one.name])
            cells = (
                f"{self.rates[one.name]:g} | {grid} | {costs[:, 0].mean():.4f} | {self.final(one.name):.4f}"
            )
            lines.append(f"| {one.name} | {cells} | {spread:.4f} |")
        verdict = "That holds here." if self.agrees else "That does not hold here."
        ahead = [one.name for one in self.experiment.contenders if self.area(one.name) < self.area(ADAM.name)]
        if not self.agrees and ahead:
            verdict += f" As fast as Adam, or faster: {', '.join(ahead)}."
        claim = f"The paper's section {self.experiment.section}: {self.experiment.claim}. {verdict}"
        return "\n".join([*lines, "", claim])

    def plot(self, path: str | Path) -> None:
        """The training cost by epoch: the mean of the seeds, and a band from the least to the largest."""
        title = f"section {self.experiment.section}: {self.experiment.title}"
        figure, ((ax,),) = panels(1, 1, 5.6, 3.9, title)
        frame(ax, "", "iterations over the entire data", "training cost", lines="both")
        for one in self.experiment.contenders:
            costs = self.costs[one.name]
            epochs = np.arange(1, costs.shape[1] + 1)
            ax.fill_between(epochs, costs.min(0), costs.max(0), color=one.color, alpha=0.18, lw=0)
            label = f"{one.name}, α = {self.rates[one.name]:.2g}"
            ax.plot(epochs, costs.mean(0), one.dashes, color=one.color, lw=1.9, label=label)
        ax.set_yscale("log")
        for axis in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
            axis(lambda cost, _: f"{cost:g}")
        ax.legend(edgecolor="none", framealpha=1, fontsize=8.5, labelcolor=INK)  # on white, not on the grid
        keep(figure, path)
