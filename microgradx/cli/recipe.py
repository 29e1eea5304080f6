"""From the options of `microgradx train` to data, model, loss and optimizer, for every command alike."""

import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from inspect import isfunction, signature
from pathlib import Path
from typing import NamedTuple

import numpy as np

from microgradx import data as sets
from microgradx import nn, scalars
from microgradx.cli.options import planned
from microgradx.cli.picture import frame
from microgradx.data import pictures
from microgradx.data.splits import Split, datasets
from microgradx.eager.creation import zeros
from microgradx.eager.tensor import Tensor
from microgradx.errors import ArgumentError, CheckpointError, TrainingWarning
from microgradx.kernels.random import generator
from microgradx.optim import Optimizer, Schedule, optimizers
from microgradx.optim.options import Options
from microgradx.primitives.indexing import one_hot
from microgradx.primitives.reductions import log_softmax
from microgradx.training import Cluster, Run
from microgradx.training.checkpoints import load
from microgradx.training.evaluation import in_units, outputs
from microgradx.training.files import Json
from microgradx.training.identity import told, words
from microgradx.training.metrics import r_squared
from microgradx.training.trainer import Trainer


class Made(NamedTuple):
    """What a recipe makes of its seed: everything as it is before the first step."""

    split: Split
    model: nn.Module
    optimizer: Optimizer
    schedule: Schedule
    loss: Callable[..., Tensor]


@dataclass
class Recipe:
    """Everything that makes a run what it is; it stands in the run's `config.json`."""

    data: str = "digits"
    model: list[int] | None = None  # None: one hidden layer, between what the data has and needs
    activation: str = "relu"
    dropout: float = 0.0
    bias: bool = True
    loss: str | None = None  # None: cross_entropy for classes, mse_loss for numbers
    optimizer: str = "adam"
    hyperparameters: Options = field(default_factory=dict)
    schedule: str = "constant"
    epochs: int = 30
    batch_size: int = 32
    clip_norm: float | None = None
    drop_last: bool = False
    skip_nonfinite: bool = False
    patience: int | None = None
    standardize: bool = False
    scale_targets: bool = True  # numbers are learned at mean 0 and deviation 1, and told in their own units
    seed: int = 0
    device: str = "cpu"
    threads: int | None = None  # None: all cores
    eager: bool = False  # every operation on its own, instead of compiled steps
    reproducible: bool = False  # the same bits for any number of processes

    @classmethod
    def read(cls, run: Run) -> "Recipe":
        """The recipe of a run that `microgradx train` made, as it is now."""
        return cls.of(run, run.read())

    @classmethod
    def of(cls, run: Run, config: Json) -> "Recipe":
        """The recipe in a configuration."""
        try:
            return cls(**{"scale_targets": False} | config["recipe"])  # as it was in older runs
        except (KeyError, TypeError):
            raise CheckpointError(
                f"{run.folder} was not made by `microgradx train`: it has no recipe."
            ) from None

    @property
    def sizes(self) -> list[int]:
        """Of the layers; known once the data is."""
        return self.model or []

    def split(self) -> Split:
        """The data; the sizes and the loss that follow from it are filled in."""
        return self.suit(rows_of(self.data, self.of_numbers))

    @property
    def of_numbers(self) -> bool:
        """Whether the loss that was chosen compares with numbers, not with classes."""
        chosen = losses()[self.loss] if self.loss is not None else None
        return chosen is not None and next(iter(signature(chosen).parameters)) == "prediction"

    def suit(self, split: Split) -> Split:
        """Fill in the sizes and the loss that follow from data; ArgumentError where sizes do not."""
        x, y = split.train
        numbers = self.of_numbers  # before a loss is filled in
        if len(split.classes) == 1:
            raise ArgumentError(
                f"{self.data}: all rows are of one class, {split.classes[0]}: nothing to learn."
            )
        features, outputs = x.shape[1], len(split.classes) or y.shape[1]
        self.model = self.model or [features, 128, outputs]
        self.loss = self.loss or ("cross_entropy" if split.classes else "mse_loss")
        self.scale_targets = self.scale_targets and not split.classes and self.loss in POWERS
        if not (split.classes or numbers or self.loss == "mse_loss"):
            what = f"--loss {self.loss} is for classes, and the targets of {self.data} are numbers"
            raise ArgumentError(f"{what}: take --loss mse_loss, l1_loss or huber_loss.")
        fitting = [features, *self.model[1:-1], outputs]
        if self.model != fitting:
            raise ArgumentError(
                f"--model {'-'.join(map(str, self.model))} does not fit {self.data}, which has {features} "
                f"features and {outputs} outputs: take --model {'-'.join(map(str, fitting))}."
            )
        return split

    def steps(self, rows: int) -> int:
        """Of an epoch."""
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)

    def prepare(self) -> None:
        """Let this process use as many threads as asked."""
        if self.threads:
            from microgradx.training.trials.crew import few_threads

            few_threads(self.threads)

    def make(self) -> Made:
        """Data, model, optimizer and loss, on as many threads as asked."""
        self.prepare()
        return self.begin(self.split())

    def begin(self, split: Split) -> Made:
        """Model, optimizer and loss for data that suit."""
        model = self.network(*split.train)
        steps = self.epochs * self.steps(len(split.train[0]))
        return Made(split, model, *self.optimize(model, steps), self.criterion(split, model))

    def trainer(self, made: Made, cluster: Cluster | None = None) -> Trainer:
        """What trains by it, before the first step and without a folder."""
        return Trainer(
            made.model, made.optimizer, made.split.train, self.batch_size, made.loss, made.schedule,
            self.clip_norm, None, self.eager, self.drop_last, skip=self.skip_nonfinite,
            cluster=cluster or Cluster(),
        )  # fmt: skip

    def network(self, x: np.ndarray | None = None, y: np.ndarray | None = None) -> nn.Module:
        """The model, its first weights drawn by the seed, its standardization measured on x and y."""
        generator.seed(self.seed)
        model: nn.Module = nn.MLP(self.sizes, self.activation, self.dropout, self.bias)
        if self.standardize:
            model = nn.Sequential(Standardized(self.sizes[0], x), model)
        if self.scale_targets and self.loss in POWERS:
            model = nn.Sequential(model, Scaled(self.sizes[-1], y))
        return model.to(self.device)

    def optimize(self, model: nn.Module, steps: int) -> tuple[Optimizer, Schedule]:
        """The optimizer, and its schedule over so many steps."""
        kind, options = optimizers[self.optimizer], self.hyperparameters
        optimizer = kind(model.named_parameters(), **options)
        spare = lambda: kind([zeros((1, 1), requires_grad=True)], **options)
        return optimizer, planned(self.schedule, optimizer, steps, spare)

    def criterion(self, split: Split, model: nn.Module) -> Callable[..., Tensor]:
        """The loss; what its signature calls log-probabilities or a target is made from logits and labels.

        Of numbers that are scaled it is the loss at deviation 1, so that learning rates mean the same for
        all; times its `unit` it is in the units of the targets. Of a Huber loss, delta is one deviation.
        """
        loss = losses()[self.loss or ""]
        first, second = list(signature(loss).parameters)[:2]
        classes, scale = len(split.classes), scale_of(model)

        def criterion(outputs: Tensor, labels: Tensor) -> Tensor:
            if scale != 1:
                return loss(outputs / scale, labels / scale)  # their means cancel in the difference
            x = log_softmax(outputs, axis=1) if first.startswith("log_") else outputs
            return loss(x, one_hot(labels, classes) if classes and second == "target" else labels)

        return in_units(criterion, scale ** POWERS.get(self.loss or "", 0))

    def config(self, split: Split) -> Json:
        """For `config.json`: the recipe, and what predicting needs to know of the data."""
        x, shape = split.train[0][:1000], split.image_shape
        own = pictures.first(Path(self.data)) if Path(self.data).is_dir() else None
        return {
            "recipe": asdict(self),
            "classes": split.classes,
            "columns": list(split.columns),
            "image_shape": shape,
            "frame": frame(x.reshape(-1, *shape)) if shape and not own else None,
            "pixels": pictures.read_picture(own).shape if own else None,  # pictures are taken as they are
        }


def restore(run: Run, last: bool) -> tuple[Recipe, Json, nn.Module]:
    """The recipe, the configuration and the trained model of a run."""
    config = run.read()
    recipe = Recipe.of(run, config)
    model = recipe.network()
    model.load_state_dict(load(run.last if last else run.best)["model"])
    return recipe, config, model


def quality(accuracy: float | None, loss: float, split: Split, model: nn.Module | None) -> str:
    """How good a model is on held-out data, in a few words: accuracy, or R² of numbers, and loss."""
    value = f"loss {loss:.4f}" if loss < 1000 else f"loss {loss:.5g}"
    if accuracy is not None or model is None or split.classes:
        return value if accuracy is None else f"accuracy {accuracy:.2%}, {value}"
    x, y = split.test
    return f"R² {r_squared(np.concatenate([*outputs(model, x)]), y):.3f}, {value}"


def learned(run: Run, recipe: Recipe, config: Json) -> Split:
    """The data of a run, and a warning if they are not as they were when it was trained.

    CheckpointError where classes are others.
    """
    split = recipe.split()
    if list(split.classes) != (before := list(config["classes"])):
        what = f"{recipe.data} has the classes {words(list(split.classes))}, {run.folder} has learned"
        raise CheckpointError(f"{what} {words(before)}: train anew, or give back the data of before.")
    made = config.get("made_of", {})
    now = dict(zip("xy", map(told, split.train), strict=True))
    if changed := [name for name in now if made.get(name, now[name]) != now[name]]:
        what = f"{recipe.data} is not as {run.folder} learned it: {changed[0]} was {made[changed[0]]}"
        advice = "Rows that it learned from may be among those that are held out"
        warnings.warn(f"{what}, now {now[changed[0]]}. {advice}.", TrainingWarning, stacklevel=2)
    return split


class Standardized(nn.Module):
    """(x - mean) / scale, as measured once; saved with the weights."""

    def __init__(self, features: int, x: np.ndarray | None = None):
        measured = sets.Standardize().fit(np.zeros((1, features)) if x is None else x).state_dict()
        self.mean, self.scale = (Tensor(measured[name], np.float32) for name in ("mean", "scale"))

    def forward(self, x: Tensor) -> Tensor:
        """x with each feature at mean 0 and deviation 1."""
        return (x - self.mean) / self.scale


POWERS = {"mse_loss": 2, "huber_loss": 2, "l1_loss": 1}
"""Losses of numbers, and the power of the targets' unit that each is in."""


class Scaled(nn.Module):
    """scale · x + mean: from numbers at mean 0 and deviation 1 to the targets' own, as measured once.

    Every output has its mean; one scale for all leaves a loss what it is, but for a factor. Both are saved
    with the weights.
    """

    def __init__(self, outputs: int, y: np.ndarray | None = None):
        given = np.zeros((1, outputs)) if y is None else np.asarray(y, np.float64)
        deviation = math.sqrt(given.var(axis=0).mean())
        tiny = np.finfo(np.float32).eps * abs(given).max()  # what rounding leaves of equal numbers
        self.mean = Tensor(given.mean(axis=0), np.float32)
        self.scale = Tensor(np.array([deviation if deviation > tiny else 1.0]), np.float32)

    def forward(self, x: Tensor) -> Tensor:
        """x in the units of the targets."""
        return x * self.scale + self.mean


def scale_of(model: nn.Module) -> float:
    """The deviation of the targets that a model was made for; 1 where it learns them as they are."""
    return next((part.scale.item() for part in model.children() if isinstance(part, Scaled)), 1.0)


def rows_of(data: str, numbers: bool) -> Split:
    """A set by its name or path, with numbers or classes for targets."""
    return datasets[data]() if data in datasets else sets.load(data, regression=numbers)


def losses() -> dict[str, Callable[..., Tensor]]:
    """Every loss by its name: the public functions of `nn` that have a reduction."""
    functions = {name: f for name, f in vars(nn).items() if isfunction(f)}
    return {name: f for name, f in functions.items() if "reduction" in signature(f).parameters}


def activations() -> list[str]:
    """The elementwise functions that are activations."""
    return [name for name, function in scalars.functions.items() if function.activation]
