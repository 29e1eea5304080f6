"""`python -m bench fuzz`: programs in processes that may die, and failing ones made smaller."""

import numpy as np
import pytest

import microgradx as mg
from bench import fuzz, grammar
from bench.programs import Program
from bench.shrinking import shrink
from bench.verdicts import WAYS, Verdict, judge

LINES = Program(
    ["v0 = leaf(2, 3)", "v1 = argument()", "v2 = leaf(3)"],
    ["v3 = mg.tanh(v0) * v1", "v4 = v3 + v2", "v5 = mg.cumsum(v4, 1)", "v6 = v5[:, ::-1]"],
    returns="v3 v6",
    ending="twice",
)


def off(change):
    """A way to run steps of which a result, or the memory, is changed."""

    def way(step):
        def changed(*args):
            loss, *rest = step(*args)
            change(loss, rest)
            return loss, *rest

        return changed

    return way


@pytest.mark.parametrize(
    "change",
    [
        lambda loss, rest: rest[1].data.__imul__(1 + 1e-6),
        lambda loss, rest: rest.pop(),
        lambda loss, rest: rest.__setitem__(0, rest[0].detach().to("float32")),
        lambda loss, rest: rest.__setitem__(0, rest[0].detach()[None]),
        lambda loss, rest: mg.rand(1),
        lambda loss, rest: rest[1].detach().data.__setitem__((0, 0), np.nan),
    ],
)
def test_every_difference_is_seen(change):
    assert judge(LINES, off(lambda loss, rest: None)) == Verdict("same")
    verdict = judge(LINES, off(change))
    assert verdict.kind == "differs"
    assert verdict.fault


def test_rounding_that_decides_is_no_difference():
    program = Program(["v0 = leaf(3)"], ["v1 = mg.sin(v0 * 1e7)"], returns="v1")
    assert judge(program, off(lambda loss, rest: rest[0].data.__iadd__(1e-3))).kind == "unsteady"


def test_a_failing_program_becomes_small():
    small = shrink(LINES, lambda p: any("cumsum" in line for line in p.body))
    assert small == Program([], small.body)
    assert len(small.body) == 1


def test_a_program_may_end_its_process():
    deadly = Program(["v0 = leaf()"], ["v1 = np.ctypeslib.ctypes.string_at(0)"])
    assert fuzz.apart(deadly, "interpret") == Verdict("crash")
    assert fuzz.apart(Program(["v0 = leaf()"], ["v1 = v0 * v0"]), "interpret") == Verdict("same")


@pytest.mark.slow
def test_the_command(monkeypatch):
    monkeypatch.setitem(fuzz.RENEW, "interpret", 3)  # processes take turns
    found = {seed: verdict for seed, verdict, _ in fuzz.judged(range(5), "interpret", 1)}
    assert found == {seed: judge(grammar.program(seed)[0], WAYS["interpret"]) for seed in range(5)}


def test_the_table_counts_everything():
    tally = fuzz.Tally()
    tally.add(3, Verdict("same"), ["add", "sum"])
    tally.add(4, Verdict("error", "KeyError: 'v12' (compiler/emit.py, emit)"), ["add"])
    tally.add(5, Verdict("error", "KeyError: 'v7' (compiler/emit.py, emit)"), ["add"])
    rows = {row["what"]: row for row in tally.rows()}
    assert rows["programs"]["number"] == 3
    assert rows["lines in them"]["number"] == 4
    assert rows["an internal error"]["number"] == 2
    assert "seed 4" in rows["an internal error"]["which"]
