"""Our MLPClassifier against scikit-learn's on Fashion-MNIST: seconds to the same loss, and accuracy.

784-128-10, ReLU, Adam with a rate of 1e-3, batches of 128, float32, no penalty on weights; both shuffle. The
loss to reach is the larger one of the two after the last pass. Steps were compiled before.
"""

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.measure import duration
from microgradx import data

METHOD = "The two take turns, a fit each; medians."
PASSES, SEEDS = 10, 3


def ours(seed: int, passes: int) -> Any:
    """microgradx's."""
    from microgradx.interop.sklearn import MLPClassifier

    return MLPClassifier((128,), learning_rate=1e-3, max_iter=passes, compile=True, random_state=seed)


def theirs(seed: int, passes: int) -> Any:
    """scikit-learn's, kept from stopping by itself."""
    from sklearn.neural_network import MLPClassifier

    options = {"batch_size": 128, "alpha": 0.0, "n_iter_no_change": passes}
    return MLPClassifier((128,), max_iter=passes, random_state=seed, **options)


def fitted(model: Any, x: np.ndarray, y: np.ndarray) -> tuple[Any, float]:
    """A model after its fit, and the seconds of a pass."""
    start = time.perf_counter()
    with warnings.catch_warnings(action="ignore"):  # that it has not converged
        model.fit(x, y)
    return model, (time.perf_counter() - start) / model.n_iter_


def run(quick: bool = False) -> list[dict[str, object]]:
    """A row per estimator."""
    train, test = data.digits() if quick else data.fashion_mnist()
    x, y = np.asarray(train[0], np.float32), train[1]
    makers: dict[str, Callable[[int, int], Any]] = {"microgradx": ours, "scikit-learn": theirs}
    for make in makers.values():
        fitted(make(0, 1), x, y)  # compiles
    found: dict[str, list[tuple[Any, float]]] = {name: [] for name in makers}
    for seed in range(1 if quick else SEEDS):
        for name, make in makers.items():
            found[name].append(fitted(make(seed, PASSES), x, y))
    goal = max(model.loss_ for models in found.values() for model, _ in models)
    rows, first = [], np.ones(1)
    for name, models in found.items():
        passes = [1 + np.argmax(np.array(model.loss_curve_) <= goal) for model, _ in models]
        seconds = np.array([each for _, each in models]) * passes
        first = seconds if name == "microgradx" else first
        right = [model.score(np.asarray(test[0], np.float32), test[1]) for model, _ in models]
        rows.append(
            {
                "estimator": name,
                "a pass": duration(statistics.median(each for _, each in models)),
                f"to a loss of {goal:.3f}": duration(float(np.median(seconds))),
                "times ours": f"{np.median(seconds / first):.1f}",
                "accuracy": ", ".join(f"{share:.4f}" for share in right),
            }
        )
    return rows
