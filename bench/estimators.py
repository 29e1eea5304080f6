"""Our MLPClassifier against scikit-learn's on Fashion-MNIST: seconds to the same loss, and accuracy.

784-128-10, ReLU, Adam in batches of 128, no penalty on weights; all shuffle, and start from Glorot's weights.
Once with the same rate of 1e-3 in as many passes, once in half of them with a schedule, which is not in
scikit-learn. Pixels are float32, or float64 as `images / 255.0` has them: scikit-learn computes in that, ours
in float32 (`dtype="float32"`). The loss to reach is the largest after the last pass. Steps were compiled
before.
"""

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.measure import duration
from microgradx import data
from microgradx.kernels import thread_pool
from microgradx.training.checks import Pair

BESIDE = ("sklearn",)
METHOD = (
    "They take turns, a fit each; medians, of ratios too. Each has as many threads, one or one per core, as "
    "the best of three first passes was faster with."
)
PASSES, SEEDS = 10, 3
THEIRS = "scikit-learn"


def ours(seed: int, passes: int, **options: object) -> Any:
    """microgradx's."""
    from microgradx.interop.sklearn import MLPClassifier

    options = {"learning_rate": 1e-3, "dtype": "float32"} | options
    return MLPClassifier((128,), max_iter=passes, compile=True, random_state=seed, **options)


def scheduled(seed: int, passes: int) -> Any:
    """The same with a rate that rises and falls, in half the passes."""
    return ours(seed, -(-passes // 2), schedule="one-cycle", learning_rate=8e-3)


def theirs(seed: int, passes: int) -> Any:
    """scikit-learn's, kept from stopping by itself."""
    from sklearn.neural_network import MLPClassifier

    options = {"batch_size": 128, "alpha": 0.0, "n_iter_no_change": passes}
    return MLPClassifier((128,), max_iter=passes, random_state=seed, **options)


def fitted(model: Any, x: np.ndarray, y: np.ndarray, threads: int) -> tuple[Any, float]:
    """A model after its fit with so many threads, and the seconds of a pass."""
    from threadpoolctl import threadpool_limits

    thread_pool.set_threads(threads)
    start = time.perf_counter()
    with warnings.catch_warnings(action="ignore"), threadpool_limits(threads):  # that it has not converged
        model.fit(x, y)
    return model, (time.perf_counter() - start) / model.n_iter_


def run(quick: bool = False) -> list[dict[str, object]]:
    """A row per estimator and kind of pixels."""
    train, test = data.digits() if quick else data.fashion_mnist()
    return [
        row for dtype in ("float32", "float64") for row in rows(train, test, dtype, 1 if quick else SEEDS)
    ]


def rows(train: Pair, test: Pair, dtype: str, seeds: int) -> list[dict[str, object]]:
    """Those of pixels in float32, or in float64 as `images / 255.0` has them."""
    x, y, unseen = np.asarray(train[0], dtype), train[1], np.asarray(test[0], dtype)
    makers: dict[str, Callable[[int, int], Any]] = {
        "microgradx": ours, "microgradx, one-cycle": scheduled, THEIRS: theirs,
    }  # fmt: skip
    threads = {}
    for name, make in makers.items():
        fitted(make(0, 1), x, y, 1)  # compiles
        trials = [(fitted(make(0, 1), x, y, n)[1], n) for n in (1, thread_pool.cores()) * 3]
        threads[name] = min(trials)[1]
    found: dict[str, list[tuple[Any, float]]] = {name: [] for name in makers}
    for seed in range(seeds):
        for name, make in makers.items():
            found[name].append(fitted(make(seed, PASSES), x, y, threads[name]))
    goal = max(model.loss_ for models in found.values() for model, _ in models)
    passes = {
        name: [1 + int(np.argmax(np.array(model.loss_curve_) <= goal)) for model, _ in models]
        for name, models in found.items()
    }
    seconds = {name: np.array([s for _, s in models]) * passes[name] for name, models in found.items()}
    return [
        {
            "pixels": dtype,
            "estimator": name,
            "threads": threads[name],
            "a pass": duration(statistics.median(each for _, each in models)),
            "to a loss of": f"{goal:.3f}",
            "passes": ", ".join(map(str, passes[name])),
            "their time": duration(float(np.median(seconds[name]))),
            "scikit-learn's over it": f"{np.median(seconds[THEIRS] / seconds[name]):.1f}",
            "accuracy": ", ".join(f"{model.score(unseen, test[1]):.4f}" for model, _ in models),
        }
        for name, models in found.items()
    ]
