"""Our estimators, in scikit-learn's hands."""

import pickle

import numpy as np
import pytest

from microgradx.errors import ArgumentError
from microgradx.kernels.random import generator

pytest.importorskip("sklearn", reason="scikit-learn is in the extra 'sklearn'")
from sklearn.base import clone
from sklearn.datasets import load_iris, make_regression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from microgradx import optim
from microgradx.interop.sklearn import MLPClassifier, MLPRegressor

QUICK = {"hidden_layer_sizes": (16,), "learning_rate": 0.03, "max_iter": 25, "random_state": 0}
x, y = load_iris(return_X_y=True)


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_all_checks_pass(kind):
    results = check_estimator(kind(**QUICK | {"random_state": None}), on_skip=None)
    skipped = {one["check_name"] for one in results if one["status"] == "skipped"}
    needs_pandas = (
        "sample_weights_pandas_series",
        "classifier_data_not_an_array",
        "regressor_data_not_an_array",
    )
    assert skipped <= {f"check_{name}" for name in ("array_api_input", *needs_pandas)}


def test_in_a_pipeline_a_search_and_cross_validation():
    line = make_pipeline(StandardScaler(), MLPClassifier(**QUICK | {"batch_size": 32}))
    assert cross_val_score(line, x, y, cv=3).min() > 0.9
    grid = {"mlpclassifier__optimizer": ["sgd", "adam"], "mlpclassifier__dropout": [0.0, 0.9]}
    found = GridSearchCV(line, grid, cv=2).fit(x, y)
    assert found.best_params_ == {"mlpclassifier__optimizer": "adam", "mlpclassifier__dropout": 0.0}


OPTIONS = {
    "plain": {},
    "everything": {
        "activation": "tanh", "dropout": 0.1, "optimizer": "sgd", "optimizer_options": {"momentum": 0.9},
        "schedule": "cosine", "batch_size": 32, "clip_norm": 1.0, "class_weight": "balanced",
        "early_stopping": True, "n_iter_no_change": 3,
    },
    "a schedule of one's own": {"schedule": lambda optimizer, steps: optim.StepLR(optimizer, steps // 2)},
}  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_seed_decides_all_bits_and_others_numbers_stay(options):
    before = generator.state_dict()
    one = MLPClassifier(**QUICK | options).fit(x, y)
    other = clone(one).fit(x, y)
    assert generator.state_dict() == before
    assert one.score(x, y) > 0.8
    assert one.loss_curve_ == other.loss_curve_ and one.n_iter_ == len(one.loss_curve_)
    np.testing.assert_array_equal(one.predict_log_proba(x), other.predict_log_proba(x))
    np.testing.assert_allclose(np.exp(one.predict_log_proba(x)), one.predict_proba(x), rtol=1e-12)


def test_compiled_steps_give_the_same_bits():
    options = QUICK | {"batch_size": 150}  # one shape, so one compilation
    eager, compiled = (MLPClassifier(**options, compile=choice).fit(x, y) for choice in (False, True))
    np.testing.assert_array_equal(eager.predict_proba(x), compiled.predict_proba(x))


def test_a_pickled_estimator_goes_on_where_it_was():
    halves = [MLPClassifier(**QUICK | {"max_iter": 5, "warm_start": True, "dropout": 0.2}).fit(x, y)]
    halves.append(pickle.loads(pickle.dumps(halves[0])))
    for half in halves:
        np.testing.assert_array_equal(half.predict_proba(x), halves[0].predict_proba(x))
    again = [half.fit(x, y).predict_proba(x) for half in halves]
    np.testing.assert_array_equal(*again)
    assert [half.n_iter_ for half in halves] == [10, 10]


def test_partial_fit_takes_classes_as_they_come():
    model = MLPClassifier(**QUICK | {"batch_size": 32})
    for _ in range(20):
        for rows in (slice(0, 100), slice(50, 150)):
            model.partial_fit(x[rows], y[rows], classes=[0, 1, 2])
    assert model.score(x, y) > 0.8 and model.n_iter_ == 40
    with pytest.raises(ArgumentError, match=r"y has the classes \[7\], the first call had \[0, 1, 2\]"):
        model.partial_fit(x[:2], [0, 7])


def test_a_regressor_has_as_many_outputs_as_y():
    inputs, targets = make_regression(200, 5, n_targets=2, random_state=0)
    targets = targets / targets.std(0)
    both = MLPRegressor(**QUICK).fit(inputs, targets)
    assert both.predict(inputs).shape == (200, 2) and both.score(inputs, targets) > 0.95
    one = MLPRegressor(**QUICK).fit(inputs.astype(np.float32), targets[:, 0])
    assert one.predict(inputs).shape == (200,) and one.predict(inputs).dtype == np.float32


def test_weights_of_rows():
    doubled, weights = np.r_[x, x[:50]], np.r_[np.full(50, 2.0), np.ones(100)]
    options = QUICK | {"batch_size": 200}
    weighted = MLPClassifier(**options).fit(x, y, weights)
    repeated = MLPClassifier(**options).fit(doubled, np.r_[y, y[:50]])
    np.testing.assert_allclose(weighted.predict_proba(x), repeated.predict_proba(x), rtol=1e-8)


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("optimizer", "adm", r"no optimizer 'adm'. Did you mean adam\? Choose from adabelief, adadelta"),
        ("schedule", "cosin", r"no schedule 'cosin'. Did you mean cosine\? Choose from constant, cosine"),
    ],
)
def test_what_there_is_stands_in_the_error(kind, name, message):
    with pytest.raises(ArgumentError, match=message):
        MLPClassifier(**{kind: name}).fit(x, y)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": "auto", "max_iter": 1}, None),
        ({"hidden_layer_sizes": (), "max_iter": 1}, None),
        ({"batch_size": 0}, "batch_size is a whole number of at least 1, not 0"),
        ({"max_iter": None}, "max_iter is a whole number of at least 1, not None"),
        ({"hidden_layer_sizes": (0,)}, "a hidden layer's size is a whole number of at least 1, not 0"),
        ({"hidden_layer_sizes": 2.5}, "not 2.5"),
    ],
)
def test_odd_parameters_work_as_there_or_are_named(options, message):
    model = MLPClassifier(**QUICK | options)
    if message is None:
        assert model.fit(x, y).n_iter_ == 1
    else:
        with pytest.raises(ArgumentError, match=message):
            model.fit(x, y)
