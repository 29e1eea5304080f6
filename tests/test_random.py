"""Random numbers: Philox's published answers, streams that continue, distributions."""

import numpy as np
import pytest

from microgradx.errors import ArgumentError
from microgradx.kernels import philox as philox_module
from microgradx.kernels.philox import philox
from microgradx.kernels.random import Generator

# Random123's kat_vectors for philox4x32 with 10 rounds: counter, key, answer (Salmon et al. 2011)
known_answers = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def numbers(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize("counter, key, answer", known_answers)
def test_philox_gives_the_published_answers(counter, key, answer):
    assert list(philox(*numbers(counter), *numbers(key))) == numbers(answer)


@pytest.fixture(params=["NumPy", "machine code"])
def executor(request, monkeypatch):
    """Who computes: NumPy the first numbers of a process, machine code what comes after many."""
    monkeypatch.setattr(philox_module, "PATIENCE", -1 if request.param == "machine code" else 2**62)
    return request.param


@pytest.mark.parametrize("seed", [0, 1, 2**32 + 5, 2**64 - 1])
@pytest.mark.parametrize("block", [0, 7, 2**32 - 2, 2**40, 2**63 - 11])
def test_every_executor_follows_the_definition(seed, block, executor):
    draw = Generator(seed)
    draw.load_state_dict({"seed": seed, "block": block})
    key = seed & 0xFFFFFFFF, seed >> 32
    wanted = [philox(c & 0xFFFFFFFF, c >> 32, 0, 0, *key) for c in range(block, block + 10)]
    assert draw.bits(40).tolist() == [word for words in wanted for word in words]
    draw.load_state_dict({"seed": seed, "block": block})
    assert draw.uniform(40).tolist() == [(word >> 8) / 2**24 for words in wanted for word in words]


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_every_executor_shuffles_alike(n, executor):
    draw, other = Generator(3), Generator(3)
    order, unit = list(range(n)), other.unit(n, np.float64)
    for i in range(n):
        j = i + int(unit[i] * (n - i))
        order[i], order[j] = order[j], order[i]
    assert draw.permutation(n).tolist() == order


def test_the_first_words_of_seed_zero_are_the_known_answer():
    assert [f"{word:08x}" for word in Generator(0).bits(4)] == known_answers[0][2].split()


def test_a_saved_state_continues_the_stream():
    draw = Generator(3)
    draw.normal(1001)
    state = draw.state_dict()
    wanted = draw.uniform((3, 5)), draw.permutation(10), draw.integers(0, 9, 4)
    other = Generator()
    other.load_state_dict(state)
    got = other.uniform((3, 5)), other.permutation(10), other.integers(0, 9, 4)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a, b)
    assert repr(Generator(3)) == "Generator(seed=3) at block 0"


def test_seeds_give_different_streams_and_the_same_seed_the_same():
    assert not np.any(Generator(1).bits(100) == Generator(2).bits(100))
    draw = Generator(1)
    first = draw.bits(10)
    draw.seed(1)
    np.testing.assert_array_equal(draw.bits(10), first)


@pytest.mark.parametrize("dtype, step", [(np.float32, 2**-24), (np.float64, 2**-53)])
def test_uniform_numbers_are_multiples_of_a_step_in_their_interval(dtype, step):
    unit = Generator(5).uniform(100_000, dtype=dtype)
    assert unit.dtype == dtype
    assert unit.min() >= 0 and unit.max() < 1
    assert np.all(unit.astype(np.float64) / step % 1 == 0)
    assert abs(unit.mean() - 0.5) < 0.005 and abs(unit.var() - 1 / 12) < 0.002
    counts = np.bincount((unit * 16).astype(int), minlength=16)
    assert np.all(np.abs(counts - 6250) < 400)
    scaled = Generator(5).uniform((10, 10), -2, 3, dtype)
    assert scaled.dtype == dtype and scaled.min() >= -2 and scaled.max() < 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normal_numbers_have_the_moments_of_a_normal_distribution(dtype):
    x = Generator(6).normal((1001, 99), dtype)
    assert x.dtype == dtype and x.shape == (1001, 99)
    assert np.isfinite(x).all()
    assert abs(x.mean()) < 0.02 and abs(x.std() - 1) < 0.01
    assert abs((x**3).mean()) < 0.05 and abs((x**4).mean() - 3) < 0.15


def test_integers_reach_both_ends_evenly():
    x = Generator(7).integers(-2, 4, 60_000)
    assert x.dtype == np.int64
    values, counts = np.unique(x, return_counts=True)
    assert values.tolist() == [-2, -1, 0, 1, 2, 3]
    assert np.all(np.abs(counts - 10_000) < 400)


def test_permutations_are_permutations_and_all_occur():
    draw = Generator(8)
    np.testing.assert_array_equal(np.sort(draw.permutation(1000)), np.arange(1000))
    seen = {tuple(draw.permutation(4).tolist()) for _ in range(500)}
    assert len(seen) == 24
    firsts = np.bincount([draw.permutation(5)[0] for _ in range(2000)], minlength=5)
    assert np.all(np.abs(firsts - 400) < 90)


def test_choice_with_and_without_repetition():
    draw = Generator(9)
    assert len(set(draw.choice(10, 10, replace=False).tolist())) == 10
    assert draw.choice(3, 100).max() == 2


@pytest.mark.parametrize(
    "shape, wanted", [((), ()), (0, (0,)), ((0, 3), (0, 3)), (5, (5,)), ((2, 3), (2, 3))]
)
def test_shapes(shape, wanted):
    draw = Generator()
    for x in draw.uniform(shape), draw.normal(shape), draw.integers(0, 2, shape):
        assert np.shape(x) == wanted


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(
        ArgumentError, match=r"a seed is a whole number from 0 to 18446744073709551615, not -1"
    ):
        Generator(-1)
    with pytest.raises(ArgumentError, match="integers: low 3 must be below high 3"):
        Generator().integers(3, 3)
