"""Random programs over all operations: line by line as PyTorch, compiled as line by line."""

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from translated import eager, slopes, torchs

import microgradx as mg
from bench import grammar
from bench.programs import Program
from bench.shrinking import shrink
from bench.verdicts import WAYS, difference, judge, precision
from microgradx import nn, primitives, scalars

EAGER, INTERPRETED, COMPILED = 300, 120, 4
"""How many programs of each kind; `python -m bench fuzz` runs more."""

TOGETHER = 30  # programs in a test

# What is drawn

APART = {
    **dict.fromkeys(["jit", "fit", "seed", "no_grad", "detect_anomaly"], "runs or surrounds steps"),
    **dict.fromkeys(["elementwise", "primitive", "operation", "rule", "Case"], "declares what is drawn"),
    **dict.fromkeys(["Tensor", "Generator", "MicrogradxError"], "a class that lines make, or never name"),
    **dict.fromkeys(["draw", "tape", "check_grad"], "looks at values"),
    **dict.fromkeys(["from_dlpack", "matmul_precision"], "other libraries, other devices"),
    **dict.fromkeys(["Module", "Function"], "a base of layers"),
}
"""Public names that are no part of a random program, with the reason."""


def test_every_operation_function_layer_and_loss_is_drawn():
    rules = {name.removesuffix(", a case").removeprefix("nn.") for name in grammar.RULES} | {"abs"}
    missing = (scalars.functions.keys() | primitives.operations.keys()) - rules
    found = [(name, getattr(package, name)) for package in (mg, nn) for name in dir(package)]
    public = {name for name, f in found if callable(f) and not name.startswith("_")}
    assert not missing
    assert public - rules == APART.keys()


@pytest.mark.parametrize("name", grammar.RULES)
def test_every_rule_can_be_drawn(name):
    for seed in range(100):
        b = grammar.Builder(grammar.Seeded(np.random.default_rng(seed)))
        for kind in ("float64", "float64", "bool"):
            b.input(b.shape(), dtype=kind)
        try:
            if b.add(name, grammar.RULES[name](b)):
                return
        except Exception as error:
            last = error
    raise last


def test_a_program_can_be_pasted():
    for seed in range(20):
        program, _ = grammar.program(seed)
        again = eval(repr(program), {"Program": Program})
        assert again == program
        assert again.text == program.text


# Line by line


UNDIFFERENTIATED = ".item(", "float32", "kind=", "detach", "hvp", "hessian"
"""What stands in programs whose loss is rough, or has parts without gradients."""


def seeded(seed: int) -> Program:
    """The program of a seed."""
    return grammar.program(seed)[0]


def drawn(numbers) -> list[Program]:
    """Programs that have a loss to differentiate."""
    return [p for p in map(seeded, numbers) if p.ending not in ("forward", "no_grad")]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of PyTorch, where there are no degrees of freedom
@pytest.mark.parametrize("piece", range(0, EAGER, TOGETHER))
def test_line_by_line_is_pytorch(piece, torch):
    from test_against_torch import ARRAYS, SCALARS

    lines = 0
    for program in map(seeded, range(piece, piece + TOGETHER)):
        if "odd" in repr(program):  # what becomes of NaN and infinity is the business of other tests
            continue
        program, found = torchs(program, torch, SCALARS, ARRAYS)
        expected = eager(program)
        found = {name: np.asarray(x).astype(expected[name].dtype) for name, x in found.items()}
        assert not difference(expected, found, precision(program)), program
        lines += len(program.body)
    assert lines > 2 * TOGETHER


@pytest.mark.parametrize("piece", range(0, EAGER, TOGETHER))
def test_line_by_line_is_finite_differences(piece):
    known = 0
    for program in drawn(range(piece, piece + TOGETHER)):
        if any(word in repr(program) for word in UNDIFFERENTIATED):
            continue
        slope, (wide, narrow) = slopes(program)
        if abs(wide - narrow) > 1e-4 * max(abs(wide), 1):  # a kink or a pole is near
            continue
        known += 1
        assert slope == pytest.approx(narrow, rel=1e-4, abs=1e-4), program
    assert known > 2


# Compiled


def check(program: Program, mode: str, attempts: int = 200):
    """Fails with a smaller program where a compiled one is not what it is line by line."""
    way = WAYS[mode]
    verdict = judge(program, way)
    if verdict.kind not in ("same", "refused", "unsteady"):
        small = shrink(program, lambda p: judge(p, way).alike(verdict), attempts)
        pytest.fail(f"seed {program.seed}: {verdict}\n{small}", pytrace=False)


@pytest.mark.slow
@pytest.mark.parametrize("piece", range(0, INTERPRETED, TOGETHER))
def test_compiled_is_line_by_line(piece):
    for seed in range(piece, piece + TOGETHER):
        check(seeded(seed), "interpret")


@pytest.mark.parametrize("seed", range(1000, 1000 + COMPILED))
def test_machine_code_is_line_by_line(seed):
    check(seeded(seed), "machine", attempts=0)


class Drawn:
    """Choices from Hypothesis."""

    def __init__(self, data):
        self.data = data

    def integer(self, low, high):
        return self.data.draw(st.integers(low, high))


@settings(max_examples=25, phases=[Phase.reuse, Phase.generate])  # `check` makes failing programs smaller
@given(st.data())
def test_hypothesis_finds_no_difference(data):
    check(grammar.build(Drawn(data))[0], "interpret")
