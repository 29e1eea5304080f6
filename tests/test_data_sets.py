"""Sets as splits: embedded, synthetic, from files; batches of them, and features of one scale."""

import pickle

import numpy as np
import pytest

from microgradx import data
from microgradx.data import files, images
from microgradx.data.splits import Split
from microgradx.errors import ArgumentError, DataError

MADE = sorted(set(data.datasets) - {*images.FILES, "fashion_mnist", "emnist"})
PLANE = ["moons", "circles", "spirals", "blobs", "xor"]


def nearest(split, neighbours=1):
    """The accuracy of the nearest neighbour in the training part."""
    (x, y), (x_test, y_test) = split
    distance = (x * x).sum(1) - 2 * x_test @ x.T
    return float((y[distance.argmin(1)] == y_test).mean())


def linear(split):
    """The accuracy of the best plane, by least squares."""
    (x, y), (x_test, y_test) = split
    design, held_out = np.c_[x, np.ones(len(x))], np.c_[x_test, np.ones(len(x_test))]
    weights = np.linalg.lstsq(design, np.eye(y.max() + 1)[y], rcond=None)[0]
    return float(((held_out @ weights).argmax(1) == y_test).mean())


def same(a, b):
    return all(
        np.array_equal(p, q) for one, two in zip(a, b, strict=True) for p, q in zip(one, two, strict=True)
    )


def test_the_registry_names_every_set_and_says_what_it_is():
    assert set(data.datasets) == {
        *("digits", "mnist", "fashion_mnist", "kmnist", "emnist", "synthetic_digits"),
        *("moons", "circles", "spirals", "blobs", "xor", "regression"),
    }
    for name, loader in data.datasets.items():
        assert getattr(data, name) is loader and name in data.__all__
        assert loader.__doc__.splitlines()[0].endswith(".")


@pytest.mark.parametrize("name", MADE)
def test_every_set_is_a_split_and_the_same_each_time(name):
    (x, y), (x_test, y_test) = split = data.datasets[name]()
    assert split.train[0] is x and split.test[1] is y_test
    assert x.dtype == np.float32 and x.ndim == 2 and len(x) == len(y) and x.shape[1] == x_test.shape[1]
    if split.classes:
        assert y.dtype == np.int64 and y.shape == (len(x),)
        share = np.bincount(y_test) / np.bincount(y)
        assert len(share) == len(split.classes) and np.allclose(share, 0.25, atol=0.03)
    else:
        assert y.dtype == np.float32 and y.shape == (len(x), 1)
    if split.image_shape:
        assert np.prod(split.image_shape) == x.shape[1] and x.min() == 0 and x.max() == 1
    assert same(split, data.datasets[name]())


@pytest.mark.parametrize("name", sorted(set(MADE) - {"digits"}))
def test_another_seed_gives_another_set_and_the_size_is_as_asked(name):
    sets = [data.datasets[name](n=100, seed=seed) for seed in (0, 1)]
    assert not same(*sets)
    assert [len(part[0]) for part in sets[0]] == [80, 20]
    assert [len(part[0]) for part in data.datasets[name](n=100, test=0.5)] == [50, 50]


def test_digits():
    (x, y), (x_test, y_test) = split = data.digits()
    assert x.shape == (1438, 64) and x_test.shape == (359, 64) and split.image_shape == (8, 8)
    both = np.concatenate([y, y_test])
    assert np.bincount(both).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.bincount(y_test).tolist() == [35, 37, 35, 37, 36, 36, 36, 36, 35, 36]
    assert set(np.unique(x * 16)) == set(range(17))
    assert nearest(split) > 0.97
    assert repr(split) == "Split(1,438 + 359 rows of 64 features, 10 classes)"


def test_a_split_can_be_copied_with_what_is_known_of_it():
    split = data.digits()
    copy = pickle.loads(pickle.dumps(split))
    assert same(copy, split) and copy.image_shape == (8, 8) and copy.classes == split.classes


def test_the_digits_are_those_of_scikit_learn():
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    expected, labels = load_digits(return_X_y=True)
    train, test = data.hold_out(np.float32(expected / 16), labels)
    assert same((train, test), data.digits())


@pytest.mark.parametrize("name", PLANE)
def test_sets_in_the_plane_can_be_learned_but_not_by_a_line(name):
    split = data.datasets[name](n=2000)
    assert nearest(split) > 0.9
    assert linear(split) < (0.9 if name != "blobs" else 1.1)


def test_the_regression_target_has_mean_0_and_deviation_1():
    (x, y), _ = data.regression(50_000, noise=0)
    assert abs(y.mean()) < 0.02 and abs(y.std() - 1) < 0.02
    assert x.shape[1] == 10 and x.min() >= 0 and x.max() <= 1


def test_synthetic_digits_need_more_than_a_linear_model():
    split = data.synthetic_digits(5000)
    assert 0.5 < linear(split) < 0.95
    assert nearest(split) > 0.95


def test_synthetic_digits_of_another_size():
    assert data.synthetic_digits(50, size=12).image_shape == (12, 12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: data.moons(1), "got n=1, classes=2, noise=0.1"),
        (lambda: data.spirals(10, noise=-1), "noise >= 0, got n=10, classes=2, noise=-1"),
        (lambda: data.blobs(classes=0), "at least one class.*classes=0"),
        (lambda: data.regression(features=4), "features is a whole number of at least 5, not 4"),
        (lambda: data.synthetic_digits(size=5), "size is a whole number of at least 8, not 5"),
    ],
)
def test_sizes_that_make_no_set(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_the_held_out_part_is_the_same_for_ever():
    x, y = np.arange(20.0)[:, None], np.arange(20) % 2
    _, (held_out, _) = data.hold_out(x, y, 0.25, seed=3)
    assert held_out[:, 0].tolist() == [0, 3, 11, 16, 17]


@pytest.mark.parametrize("test", [0.0, 1.0, 0.01])
def test_both_parts_need_a_row(test):
    with pytest.raises(DataError, match=f"test={test} of 20 rows leaves .* both parts need at least one"):
        data.hold_out(np.zeros((20, 1)), np.zeros(20, int), test)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((4, 2, 2)), np.zeros(4), r"x must have shape \(n, features\), got \(4, 2, 2\)"),
        (np.zeros((4, 2)), np.zeros(3), "got 4 rows of x and 3 of y"),
        (np.zeros((0, 2)), np.zeros(0), r"a data set must not be empty, got x of shape \(0, 2\)"),
        (np.zeros((2, 2)), np.array([0, 7]), "labels must lie between 0 and 1 for 2 classes, got 0 to 7"),
    ],
)
def test_parts_that_are_no_set(x, y, message):
    with pytest.raises(DataError, match=message):
        Split((x, y), (x, y), classes=("a", "b"))


# Batches and scaling.

X, Y = np.arange(20.0, dtype=np.float32).reshape(10, 2), np.arange(10)


def test_batches_cover_every_row_once():
    parts = list(data.batches(X, Y, 4))
    assert [len(x) for x, _ in parts] == [4, 4, 2]
    assert np.array_equal(np.concatenate([x for x, _ in parts]), X)
    assert all(x.base is not None for x, _ in parts)  # views
    assert [len(x) for x, _ in data.batches(X, Y, 4, drop_last=True)] == [4, 4]
    assert [len(x) for x, _ in data.batches(X, Y, 100)] == [10]


def test_batches_in_an_order_and_shuffled():
    taken = np.concatenate([y for _, y in data.batches(X, Y, 3, order=[9, 0, 0, 5])])
    assert taken.tolist() == [9, 0, 0, 5]
    runs = [
        np.concatenate([y for _, y in data.batches(X, Y, 3, rng=np.random.default_rng(seed))])
        for seed in (0, 0, 1)
    ]
    assert sorted(runs[0]) == list(range(10)) and runs[0].tolist() != list(range(10))
    assert np.array_equal(runs[0], runs[1]) and not np.array_equal(runs[0], runs[2])
    for x, y in data.batches(X, Y, 3, rng=np.random.default_rng(0)):
        assert np.array_equal(x[:, 0], 2 * y)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X, Y[:3], 4), DataError, "got 10 of x and 3 of y"),
        ((X[:0], Y[:0], 4), DataError, "at least one, got 0 of x and 0 of y"),
        ((X, Y, 0), ArgumentError, "batch_size must be an integer of at least 1, got 0"),
        ((X, Y, 2.5), ArgumentError, "an integer of at least 1, got 2.5"),
        ((X, Y, 4, [[0, 1]]), ArgumentError, r"a list of row numbers .* of shape \(1, 2\)"),
        ((X, Y, 4, [0, 10]), ArgumentError, "row numbers from 0 to 9, got int64 of shape .* from 0 to 10"),
        ((X, Y, 4, [0.5]), ArgumentError, "row numbers from 0 to 9, got float64 of shape .* from 0.5 to 0.5"),
        ((X, Y, 4, []), ArgumentError, "0 rows make no batch of 4"),
        ((X, Y, 4, [1], np.random.default_rng(0)), ArgumentError, "order or rng, not both"),
        ((X, Y, 11, None, None, True), ArgumentError, "10 rows make no batch of 11 with drop_last=True"),
    ],
)
def test_batches_that_cannot_be_made_are_refused_at_the_call(arguments, error, message):
    with pytest.raises(error, match=message):
        data.batches(*arguments)


def test_standardize_uses_the_training_part_only():
    rng = np.random.default_rng(0)
    x = (rng.normal(5, 3, (10_000, 3)) * [1, 100, 1e-3]).astype(np.float32)
    x[:, 1] = 0.1  # constant, and not exact in binary
    standardize = data.Standardize().fit(x)
    z = standardize(x)
    assert z.dtype == np.float32 and np.allclose(z.mean(0), 0, atol=1e-4)
    assert np.allclose(z.std(0), [1, 0, 1], atol=1e-3)
    assert np.allclose(standardize.inverse(z), x, rtol=1e-4)
    assert np.allclose(
        standardize(x[:2] + 1), (x[:2] + 1 - x.mean(0)) / [x[:, 0].std(), 1, x[:, 2].std()], rtol=1e-3
    )
    assert standardize(np.zeros((1, 3))).dtype == np.float64


def test_standardize_can_be_saved():
    one, two = data.Standardize().fit(X), data.Standardize()
    two.load_state_dict(one.state_dict())
    assert np.array_equal(one(X), two(X))
    one.state_dict()["mean"][:] = 0
    assert np.array_equal(one(X), two(X))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: data.Standardize()(X), r"Standardize is not fitted: call fit\(x_train\) first"),
        (lambda: data.Standardize().state_dict(), "is not fitted"),
        (lambda: data.Standardize().fit(X[:0]), r"at least one row and one feature, got shape \(0, 2\)"),
        (lambda: data.Standardize().fit(np.array([[1, np.nan]])), "NaN or infinity in column 1"),
        (
            lambda: data.Standardize().fit(np.array([[np.inf, 1], [-np.inf, 2]])),
            "NaN or infinity in column 0",
        ),
        (
            lambda: data.Standardize().fit(X)(np.ones((1, 3))),
            r"fitted to 2 features, got x of shape \(1, 3\)",
        ),
        (
            lambda: data.Standardize().load_state_dict({"mean": np.ones(2)}),
            "mean and a scale > 0 .* keys mean",
        ),
        (lambda: data.Standardize().load_state_dict({"mean": [1.0], "scale": [0.0]}), "a scale > 0"),
    ],
)
def test_what_cannot_be_standardized(run, message):
    with pytest.raises(DataError, match=message):
        run()


def test_encode_numbers_the_classes_in_their_order():
    labels, classes = files.encode(np.array([10, 2, 10]), regression=False)
    assert labels.tolist() == [1, 0, 1] and classes == ("2", "10")
