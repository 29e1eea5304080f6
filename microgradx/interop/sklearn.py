"""Multi-layer perceptrons as scikit-learn's estimators: in pipelines, grid searches and cross-validation.

>>> from sklearn.datasets import load_iris
>>> x, y = load_iris(return_X_y=True)
>>> model = MLPClassifier((16,), learning_rate=0.05, max_iter=50, random_state=0)
>>> model.fit(x, y).score(x, y) > 0.9
True
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from microgradx.extras import install

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import Tags, check_random_state, column_or_1d, compute_sample_weight
    from sklearn.utils.multiclass import check_classification_targets, unique_labels
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"microgradx.interop.sklearn needs scikit-learn: {install('sklearn')}"
    ) from error

from microgradx import nn
from microgradx.eager.tensor import Tensor
from microgradx.errors import ArgumentError, shown, switch, whole
from microgradx.interop import parameters
from microgradx.kernels.random import generator
from microgradx.optim import Optimizer, Schedule
from microgradx.optim.options import Option
from microgradx.primitives.reductions import log_softmax, softmax
from microgradx.training import fit, outputs
from microgradx.training.checks import counted

COMPILED_FROM = 2000
"""Steps from which on compiling them pays: it takes about as long as so many small ones line by line."""

PRECISIONS = (np.float64, np.float32)


def linear(model: nn.Module) -> list[nn.Linear]:
    """The layers that have weights."""
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear)]


@dataclass(eq=False, repr=False)  # whose __init__ has the explicit signature that scikit-learn reads
class MLP(BaseEstimator):
    """What the classifier and the regressor share: parameters, training, outputs.

    Numbers are float32 where X is float32, else float64, without a `dtype`. The same `random_state` gives the
    same bits.
    """

    hidden_layer_sizes: Sequence[int] | int = (100,)
    activation: str | Callable[..., Tensor] = "relu"
    """Between the layers: one of `nn`'s or of scikit-learn's by its name, or a function."""
    _: KW_ONLY
    dropout: float = 0.0
    """Share of hidden values that are left out in training."""
    optimizer: str = "adam"
    """A name of `optim.optimizers`."""
    learning_rate: float | None = None
    """None for the optimizer's default."""
    optimizer_options: dict[str, Option] | None = None
    """Its other hyperparameters, by name."""
    schedule: str | Callable[[Optimizer, int], Schedule] = "constant"
    """Of the learning rate: a name of `optim.plans`, or (optimizer, steps of all passes) -> Schedule.

    With "one-cycle" and a high rate, 8e-3 for Adam, half the passes do what a constant one of 1e-3 does.
    """
    batch_size: int | str = 128
    """Rows per step; "auto" is scikit-learn's: 200, or all of them where they are fewer or for L-BFGS."""
    max_iter: int = 200
    """Passes over the data."""
    clip_norm: float | None = None
    """Bound of the norm of all gradients together."""
    early_stopping: bool = False
    """Hold data out, stop when the loss there does not fall any more, and keep the best weights."""
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10
    """Passes to wait for a smaller loss."""
    warm_start: bool = False
    """Whether `fit` goes on from the weights that there are."""
    compile: bool | str = "auto"
    """Whether steps are compiled; "auto": where there are many."""
    dtype: str | None = None
    """"float32" computes in that whatever X is, in half the time of "float64"; None in X's own."""
    random_state: int | np.random.RandomState | None = None
    verbose: bool = False

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        """What has scikit-learn's name is told by ours."""
        name, advice = parameters.unknown(kwargs, cls._get_param_names())
        if name:
            raise TypeError(f"{cls.__name__}() got an unexpected keyword argument {name!r}{advice}")
        return super().__new__(cls)

    def set_params(self, **params: object) -> Self:
        """Set parameters by name; ArgumentError for a name that is none of them."""
        name, advice = parameters.unknown(params, self._get_param_names())
        if name:
            raise ArgumentError(f"{type(self).__name__} has no parameter {name!r}{advice}")
        return super().set_params(**params)

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train on X (n, features) and y (n,), anew or, with `warm_start`, from the weights that there are.

        sample_weight: (n,) numbers: a row of weight 2 counts as two rows, one of weight 0 not at all.
        """
        return self._train(
            X,
            y,
            sample_weight,
            counted("max_iter", self.max_iter),
            switch("warm_start", self.warm_start) and hasattr(self, "model_"),
        )

    def _train(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        epochs: int | None,
        go_on: bool,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Train for so many passes with a schedule for them, or for one of many (None).

        Others that draw from the random generator see nothing of it.
        """
        if self.dtype not in (None, "float32", "float64"):
            raise ArgumentError(
                f"dtype must be 'float32', 'float64' or None for that of X, got {self.dtype!r}."
            )
        wanted = PRECISIONS if self.dtype is None else np.dtype(self.dtype)
        x, y = validate_data(self, X, y, reset=not go_on, dtype=wanted, multi_output=True)
        targets, weights = self._targets(y, x.dtype, go_on, classes)
        weights = weights * _check_sample_weight(sample_weight, x, dtype=x.dtype)
        rows = np.flatnonzero(weights)
        if not len(rows):
            raise ArgumentError("class_weight and sample_weight leave no row of X a weight above 0.")
        held_out, before = None, generator.state_dict()
        stops = switch("early_stopping", self.early_stopping)
        patience = counted("n_iter_no_change", self.n_iter_no_change)
        try:
            if not go_on:
                generator.seed(int(check_random_state(self.random_state).randint(2**31 - 1)))
                self._build(x, targets)
            else:
                self._same_layers()
                generator.load_state_dict(self._stream)
            if epochs is not None or not go_on:
                self._plan(len(x))
            epochs = epochs or 1
            if stops and epochs > 1:
                rows, held = parameters.set_aside(rows, targets, self.validation_fraction)
                held_out = x[held], targets[held]
            kept = slice(None) if len(rows) == len(x) else rows  # all of them need no copy
            steps = epochs * -(-len(rows) // self._batch(len(rows)))
            compiled = steps >= COMPILED_FROM
            if not isinstance(self.compile, str) or self.compile != "auto":
                compiled = switch("compile", self.compile)
            history = fit(
                self.model_,
                self.optimizer_,
                (x[kept], targets[kept]),
                held_out,
                epochs=epochs,
                batch_size=self._batch(len(x)),
                loss=self._loss,
                schedule=self.schedule_,
                clip_norm=self.clip_norm,
                patience=patience if held_out else None,
                sample_weight=None if (weights == 1).all() else weights[kept],
                eager=not compiled,
                progress=whole("verbose", self.verbose) > 0,
            )
            self._stream: dict[str, int] = generator.state_dict()
        finally:
            generator.load_state_dict(before)
        self.loss_curve_ += history["loss"]
        self.n_iter_, self.loss_ = len(self.loss_curve_), self.loss_curve_[-1]
        return self

    def _batch(self, rows: int) -> int:
        """Rows per step."""
        if isinstance(self.batch_size, str) and self.batch_size == "auto":
            return rows if self.optimizer == "lbfgs" else min(200, rows)
        return counted("batch_size", self.batch_size)

    def _hidden(self) -> list[int]:
        """The sizes of the hidden layers."""
        return [whole("a hidden layer's size", n, 1) for n in np.atleast_1d(self.hidden_layer_sizes).tolist()]

    def _same_layers(self) -> None:
        """ArgumentError where the model is one of other layers than the parameters tell now."""
        there = [layer.out_features for layer in linear(self.model_)[:-1]]
        if there != self._hidden():
            what = f"The model has hidden layers of {there}, and hidden_layer_sizes is"
            raise ArgumentError(f"{what} {shown(self.hidden_layer_sizes)} now: fit with warm_start=False.")

    def _build(self, x: np.ndarray, targets: np.ndarray) -> None:
        """A new model with its optimizer and schedule, for data like these."""
        last = targets.shape[1] if targets.ndim == 2 else len(self.classes_)
        sizes = [x.shape[1], *self._hidden(), last]
        optimizer = parameters.optimizer_of(self.optimizer, self.learning_rate, self.optimizer_options)
        activation = parameters.activation_of(self.activation)
        model = nn.MLP(sizes, activation, self.dropout)
        spread = 2 if activation == "sigmoid" else 6
        for layer in linear(model):  # as scikit-learn draws them: Glorot and Bengio, 2010
            bound = math.sqrt(spread / (layer.in_features + layer.out_features))
            for values in layer.parameters():
                values.data = generator.uniform(values.shape, -bound, bound)
        self.model_ = model.to(x.dtype)
        self.optimizer_ = optimizer(self.model_.named_parameters())
        self.loss_curve_: list[float] = []

    def _plan(self, rows: int) -> None:
        """A schedule for passes over so many rows, from the optimizer's own learning rate on."""
        plan = parameters.plan_of(self.schedule)
        for group in self.optimizer_.param_groups:
            group["lr"] = self.optimizer_.defaults["lr"]
        self.schedule_ = plan(self.optimizer_, self.max_iter * -(-rows // self._batch(rows)))

    def _outputs(self, X: ArrayLike) -> np.ndarray:
        """The model's outputs for X (n, features): (n, outputs)."""
        check_is_fitted(self)
        x = validate_data(self, X, reset=False, dtype=PRECISIONS)
        dtype = next(self.model_.parameters()).dtype
        return np.concatenate([*outputs(self.model_, x.astype(dtype, copy=False))])


@dataclass(eq=False, repr=False)
class MLPClassifier(ClassifierMixin, MLP):
    """A network whose outputs are the logits of classes, trained by cross-entropy.

    `fit` finds `classes_`, `model_`, `loss_curve_` (a mean loss per pass), `loss_` and `n_iter_`.
    """

    class_weight: dict[object, float] | str | None = None
    """{class: weight}, or "balanced": inverse to how often a class is met."""

    _loss = staticmethod(nn.cross_entropy)

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """One pass over these rows; the first call names all classes, unless its y has them all."""
        if isinstance(self.class_weight, str) and self.class_weight == "balanced":
            what = "class_weight='balanced' counts the rows of all classes, and partial_fit sees some of them"
            raise ArgumentError(f"{what}: give {{class: weight}}.")
        return self._train(X, y, sample_weight, None, hasattr(self, "model_"), classes)

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """The logits (n, classes); of two classes, how far the second is ahead (n,)."""
        logits = self._outputs(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict(self, X: ArrayLike) -> np.ndarray:
        """(n,) the most probable class of each row."""
        best = self._outputs(X).argmax(1)
        return self.classes_[best]

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """(n, classes) probabilities, in the order of `classes_`."""
        return softmax(Tensor(self._outputs(X)), axis=1).numpy()

    def predict_log_proba(self, X: ArrayLike) -> np.ndarray:
        """(n, classes) their logarithms, exact where a probability is too small for its dtype."""
        return log_softmax(Tensor(self._outputs(X)), axis=1).numpy()

    def _targets(
        self, y: np.ndarray, dtype: np.dtype, go_on: bool, classes: ArrayLike | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Labels 0, 1, ... of the classes, and a weight per row."""
        weighing = parameters.class_weight_of(self.class_weight)
        try:
            check_classification_targets(y)
            y = column_or_1d(y, warn=True)
            found = (
                self.classes_
                if go_on and classes is None
                else unique_labels(y if classes is None else classes)
            )
            new = np.setdiff1d(y, found).tolist()
        except TypeError as error:
            raise ArgumentError(
                f"labels have one type, numbers or texts, and those of y have several: {error}."
            ) from None
        if go_on and found.tolist() != self.classes_.tolist():
            raise ArgumentError(
                f"classes are {found.tolist()}, and were {self.classes_.tolist()} in the first call."
            )
        if new:
            raise ArgumentError(f"y has the classes {new}, the first call had {found.tolist()}.")
        if len(found) < 2:
            advice = "give rows of others too, or name all of them in partial_fit(X, y, classes=...)"
            raise ArgumentError(
                f"y has one class, {found.tolist()[0]!r}, and there is nothing to tell apart: {advice}."
            )
        self.classes_: np.ndarray = found
        return np.searchsorted(found, y), compute_sample_weight(weighing, y).astype(dtype)


@dataclass(eq=False, repr=False)
class MLPRegressor(RegressorMixin, MLP):
    """A network trained by the mean squared error; y is (n,) or (n, outputs).

    `fit` finds `model_`, `loss_curve_` (a mean loss per pass), `loss_` and `n_iter_`.
    """

    _loss = staticmethod(nn.mse_loss)

    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """One pass over these rows."""
        return self._train(X, y, sample_weight, None, hasattr(self, "model_"))

    def predict(self, X: ArrayLike) -> np.ndarray:
        """(n,) or (n, outputs), like y."""
        found = self._outputs(X)
        return found[:, 0] if self._flat else found

    def __sklearn_tags__(self) -> Tags:
        """y may have several columns."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _targets(
        self, y: np.ndarray, dtype: np.dtype, go_on: bool, classes: ArrayLike | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Targets (n, outputs), and a weight of 1 per row."""
        with np.errstate(over="ignore"):
            targets = y.astype(dtype).reshape(len(y), -1)
        if not np.isfinite(targets).all():
            raise ArgumentError(
                f"y has numbers beyond {dtype}, the type of X: scale y, or give X as float64."
            )
        if go_on and targets.shape[1] != (before := linear(self.model_)[-1].out_features):
            raise ArgumentError(f"y has {targets.shape[1]} columns, the first call had {before}.")
        if not go_on:
            self._flat = y.ndim == 1
        return targets, np.ones(len(y), dtype)
