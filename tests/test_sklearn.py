"""Our estimators, in scikit-learn's hands."""

import pickle
from functools import partial

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


def test_every_fit_has_a_schedule_of_its_own():
    model = MLPClassifier(**QUICK | {"schedule": "linear", "max_iter": 5, "warm_start": True})
    assert model.fit(x, y).optimizer_.param_groups[0]["lr"] == 0
    before = model.loss_
    assert model.fit(x, y).loss_ < before and model.n_iter_ == 10
    model.partial_fit(x, y)  # one pass of many: nothing is left of the schedule
    assert model.optimizer_.param_groups[0]["lr"] == 0


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


def test_a_dtype_is_kept_whatever_x_is():
    x, y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 3
    single, fits = x.astype(np.float32), partial(MLPClassifier, (8,), max_iter=2, random_state=0)
    told, given = fits(dtype="float32").fit(x, y), fits().fit(single, y)
    assert told.predict_proba(x).dtype == np.float32 and fits().fit(x, y).predict_proba(x).dtype == np.float64
    np.testing.assert_array_equal(told.predict_proba(x), given.predict_proba(single))
    with pytest.raises(
        ArgumentError, match="dtype must be 'float32', 'float64' or None for that of X, got 'half'"
    ):
        fits(dtype="half").fit(x, y)


def test_weights_of_rows():
    doubled, weights = np.r_[x, x[:50]], np.r_[np.full(50, 2.0), np.ones(100)]
    options = QUICK | {"batch_size": 200}
    weighted = MLPClassifier(**options).fit(x, y, weights)
    repeated = MLPClassifier(**options).fit(doubled, np.r_[y, y[:50]])
    np.testing.assert_allclose(weighted.predict_proba(x), repeated.predict_proba(x), rtol=1e-8)


OF_PARAMETERS = [
    ({"optimizer": "adm"}, r"no optimizer 'adm'. Did you mean adam\? Choose from adabelief, adadelta"),
    ({"optimizer": None}, "optimizer is a name, not None. Choose from adabelief"),
    ({"optimizer_options": [1]}, r"optimizer_options is a dict, such as .*, not \[1\]"),
    ({"optimizer_options": {"alpha": 1}}, "Adam: got an unexpected keyword argument 'alpha'"),
    ({"schedule": "cosin"}, r"no schedule 'cosin'. Did you mean cosine\? Choose from constant, cosine"),
    ({"schedule": None}, "schedule is a name, such as 'cosine', or a function of the optimizer"),
    ({"schedule": lambda optimizer: optimizer}, "the optimizer and the number of steps, not <function"),
    ({"learning_rate": -1}, "lr must be a number of at least 0, got -1"),
    ({"learning_rate": "adaptive"}, "a number, not 'adaptive'; how it changes is schedule=\"plateau\""),
    ({"activation": "rel"}, "no activation 'rel'; there are tanh"),
    ({"activation": None}, "activation is a name, such as 'relu', or a function, not None"),
    ({"early_stopping": "yes"}, "early_stopping is True or False, not 'yes'"),
    ({"warm_start": "yes"}, "warm_start is True or False, not 'yes'"),
    ({"compile": "no"}, "compile is True or False, not 'no'"),
    ({"verbose": "yes"}, "verbose is a whole number of at least 0, not 'yes'"),
    ({"early_stopping": True, "validation_fraction": 2}, "validation_fraction must be a number in .0, 1."),
    ({"early_stopping": True, "validation_fraction": 1e-9}, "validation_fraction=1e-09 of 150 rows leaves"),
    ({"n_iter_no_change": None}, "n_iter_no_change is a whole number of at least 1, not None"),
    ({"batch_size": 0}, "batch_size is a whole number of at least 1, not 0"),
    ({"batch_size": True}, "batch_size is a whole number of at least 1, not True"),
    ({"max_iter": None}, "max_iter is a whole number of at least 1, not None"),
    ({"hidden_layer_sizes": (0,)}, "a hidden layer's size is a whole number of at least 1, not 0"),
    ({"hidden_layer_sizes": 2.5}, "not 2.5"),
    ({"random_state": np.random.default_rng(0)}, "cannot be used to seed"),
    ({"class_weight": "balance"}, "class_weight is None, 'balanced' or {class: weight}, not 'balance'"),
    ({"class_weight": {0: -1}}, "class_weight of the class 0 must be a finite number of at least 0, got -1"),
    ({"class_weight": {0: "x"}}, "class_weight of the class 0 must be a finite number"),
    ({"class_weight": {5: 1, 0: 1}}, "are not in class_weight"),
    ({"class_weight": dict.fromkeys(range(3), 0)}, "leave no row of X a weight above 0"),
]


@pytest.mark.parametrize("options, message", OF_PARAMETERS)
def test_odd_parameters_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MLPClassifier(**QUICK | options).fit(x, y)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": "auto"},
        {"batch_size": "auto", "optimizer": "lbfgs"},
        {"batch_size": 1000},
        {"hidden_layer_sizes": ()},
        {"hidden_layer_sizes": np.array([8, 4])},
        {"learning_rate": 0},
        {"activation": "logistic"},
        {"activation": "identity"},
        {"random_state": np.random.RandomState(0)},
        {"random_state": None},
        {"class_weight": {0: 2}},
    ],
    ids=lambda given: next(iter(given)),
)
def test_scikit_learns_ways_work_here(options):
    model = pickle.loads(pickle.dumps(MLPClassifier(**QUICK | {"max_iter": 1} | options).fit(x, y)))
    assert model.n_iter_ == 1 and model.predict_proba(x).shape == (150, 3)


@pytest.mark.parametrize(
    "name, advice",
    [
        ("solver", "write optimizer= here"),
        ("learning_rate_init", "write learning_rate= here"),
        ("alpha", 'write optimizer_options={"weight_decay": ...} here'),
        ("dropot", r"Did you mean dropout\?"),
        ("foo", "There are activation, batch_size, class_weight"),
    ],
)
def test_scikit_learns_names_tell_ours(name, advice):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'.*{advice}"):
        MLPClassifier(**{name: 1})
    with pytest.raises(ArgumentError, match=f"MLPClassifier has no parameter '{name}'.*{advice}"):
        MLPClassifier().set_params(**{name: 1})


def trained(*calls, kind=MLPClassifier, **options):
    """An estimator after some partial_fit."""
    model = kind(**QUICK | options)
    for call in calls:
        model.partial_fit(*call)
    return model


names = np.array(["a", "b", "c"])[y]
mixed = np.array(["a", 1, None], object)[y]
several = np.c_[y, y]
ODD_DATA = {
    "one class": (lambda: trained((x, y * 0)), "y has one class, 0, and there is nothing to tell apart"),
    "one row": (lambda: trained((x[:1], y[:1])), "y has one class, 0"),
    "several types": (lambda: trained((x, mixed)), "labels have one type, numbers or texts"),
    "numbers": (lambda: trained((x, y + 0.5)), "Unknown label type: continuous"),
    "other classes": (lambda: trained((x, y), (x, y, [0, 1])), r"classes are \[0, 1\], and were \[0, 1, 2\]"),
    "words after numbers": (lambda: trained((x, y), (x, names)), r"y has the classes \['a', 'b', 'c'\]"),
    "balanced parts": (lambda: trained((x, y), class_weight="balanced"), "give {class: weight}"),
    "other features": (lambda: trained((x, y)).predict(x[:, :2]), "X has 2 features, but MLPClassifier is"),
    "other layers": (
        lambda: trained((x, y)).set_params(hidden_layer_sizes=3).partial_fit(x, y),
        r"The model has hidden layers of \[16\], and hidden_layer_sizes is 3 now",
    ),
    "NaN": (lambda: trained((x * np.nan, y)), "Input X contains NaN"),
    "weights below 0": (lambda: trained((x, y, None, -np.ones(150))), "-1.0 among them"),
    "another y": (lambda: trained((x, y), (x, several), kind=MLPRegressor), "y has 2 columns, the first"),
    "beyond float32": (
        lambda: trained((x.astype(np.float32), y * 1e50), kind=MLPRegressor),
        "y has numbers beyond float32, the type of X",
    ),
}


@pytest.mark.parametrize("call, message", ODD_DATA.values(), ids=ODD_DATA)
def test_odd_data_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("labels", [names, names.astype(object), y == 0, y * 1.0, y - 1], ids="UObfi")
def test_labels_come_back_as_they_were(labels):
    model = MLPClassifier(**QUICK | {"batch_size": 32}).fit(x, labels)
    assert model.classes_.tolist() == np.unique(labels).tolist() and model.score(x, labels) > 0.8


def test_sparse_data_are_refused_as_scikit_learn_does():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match="Sparse data was passed"):
        MLPClassifier(**QUICK).fit(sparse.csr_array(x), y)
