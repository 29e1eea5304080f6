"""Programs that compiled steps got wrong once, made small, as `python -m bench fuzz` prints them."""

import pytest

from bench.programs import Program
from bench.verdicts import WAYS, judge

REPORTED = {
    "a column of views": Program(
        ["v0 = leaf(3, 3)", "v1 = leaf(4, 3)", "v2 = leaf(3, 3, 2)"],
        [
            "v3 = v2[..., 1:]",
            "v4 = 1 - v2 - v3",
            "v5 = v3.permute(2, 1, 0)",
            "v6 = mg.log_softmax(v3, 1)",
            "v7 = mg.cat([v5, v5], 1)",
            "v8 = mg.softplus(v5)",
            "v9 = mg.softplus(v0)",
            "v10 = mg.expm1(v7)",
            "v11 = (abs(v7) + 0.5) ** mg.tanh(v7)",
        ],
    ),
    "a running sum over one": Program(
        ["v0 = leaf(2, 2, 1)"],
        [
            "v1 = mg.flatten(v0)",
            "v2 = mg.gelu(v0)",
            "v3 = mg.maximum(v0, v0)",
            "v4 = mg.cumsum(v2, 2)",
            "v5 = mg.mean(v4, 1, keepdims=True)",
            "v6 = (v4 >= v0).to(float64) * v4 + v0",
            "v7 = mg.std(v0, 1, keepdims=True)",
            "v8 = mg.max(v7, 1, keepdims=True)",
        ],
    ),
    "softmax beside one": Program(
        ["v0 = leaf(4)", "v1 = leaf(4, 4, 1)"],
        ["v2 = (v0 >= v0).to(float64) * v0 + v0", "v3 = v1 * mg.tanh(v1)", "v4 = mg.softmax(v1, axis=1)"],
    ),
    "a padded product": Program(
        ["v0 = leaf(1, 3, 1)", "v1 = leaf(4)"],
        [
            "v2 = v0 * mg.tanh(v1)",
            "v3 = mg.pad(v2, [(0, 0), (0, 0), (1, 2)])",
            "v4 = mg.std(v2, 1, keepdims=True)",
            "v5 = -v3",
            "v6 = mg.elu(v3)",
            "v7 = v3[..., 1:]",
            "v8 = mg.log1p(abs(v1) + 0.5)",
        ],
    ),
    "unused inputs": Program(
        ["v0 = leaf(4, 4, 4)", "v1 = leaf(3, 1, 1)", "v2 = leaf(1, 4, 1)"],
        ["v3 = v2 * mg.tanh(v2)", "v4 = 2.5 + v3 * v1"],
    ),
    "a mean over one": Program(
        ["v0 = leaf(1, 3)", "v1 = leaf(3, 1)", "v2 = leaf(3, 2, 2)"],
        [
            "v3 = mg.mean(v1, 1, keepdims=True)",
            "v4 = mg.elu(v2)",
            "v5 = mg.where(v1 > v0, v1 * 2, v0 - 1)",
            "v6 = (abs(v5) + 0.5) ** mg.tanh(v3)",
        ],
    ),
}
"""Wrong losses and internal errors, as they were met."""

FOUND = {
    "variance beside one": Program(["v0 = leaf(2, 1, 1)"], ["v1 = mg.var(v0, axis=1)"], ending="forward"),
    "gradient of nothing": Program(["v0 = leaf(0)"], [], loss="v0"),
    "softmax of nothing, twice": Program(
        ["v0 = leaf(2, 0)"], ["v1 = mg.grad(lambda x: (mg.softmax(x) * x).sum())(v0)"]
    ),
    "product of nothing": Program(["v0 = leaf(0, 1, 1, 1)"], ["v1 = mg.prod(v0, axis=1)"]),
    "no index": Program(
        ["v0 = leaf(1)", 'v1 = leaf(0, dtype="int64", high=1)'],
        ["v2 = v0[v1]", "v3 = v2.softmax()"],
        loss="v3",
        ending="forward",
    ),
    "an empty mask": Program(
        ["v0 = leaf()"], ["v1 = mg.expand(v0, (3,))", "v2 = v1[array([False, False, False])]"], loss="v2"
    ),
    "few random numbers": Program(["v0 = leaf()"], ["v1 = mg.rand((1, 1), dtype=float32) * v0"]),
    "dropped numbers": Program(["v0 = leaf(1)", "layer = nn.Dropout(0.2)"], ["v1 = layer(v0)"]),
    "einsum of one": Program(["v0 = leaf(1, 1)"], ['v1 = mg.einsum("ij->", v0)']),
    "a product over nothing": Program(["v0 = leaf(1, 1, 0)"], ["v1 = v0.transpose(0, 2)", "v2 = v1 @ v1"]),
    "written before it was read": Program(["v0 = leaf(1)"], [], loss="v0", ending="by_hand"),
    "a constant in a scan": Program(["v0 = argument(1)", "v1 = leaf()"], ["v2 = v1 * v1"], ending="inner"),
    "a view written before it was read": Program(
        ["v0 = leaf(2, 3)"], ["v1 = v0.T"], returns="v1", ending="by_hand"
    ),
    "a copy of a number that is trained": Program(
        ["v0 = leaf()", "optimizer = optim.SGD([v0], lr=0.01)"],
        ["v1 = mg.expand(v0, (2,))"],
        returns="v1",
        ending="train",
    ),
    "what was before training": Program(
        ["v0 = leaf(2)", "optimizer = optim.SGD([v0], lr=0.01)"],
        ["v1 = v0.clone()"],
        returns="v1",
        ending="train",
    ),
    "einsum of what is trained": Program(
        ["v0 = leaf(2)", "optimizer = optim.SGD([v0], lr=0.01)"],
        ['v1 = mg.einsum("i->i", v0)'],
        returns="v1",
        ending="train",
    ),
    "infinities in three factors": Program(
        ['v0 = leaf(2, 3, kind="odd")'],
        ['v1 = mg.einsum("ij,kl,mn->ilm", v0, v0, v0)'],
        returns="v1",
        seed=2012504,
    ),
    "a product near the end of the range": Program(
        ['v0 = leaf(1, dtype="float32", kind="odd")'],
        ["v1 = mg.prod(v0, axis=-1)", "v2 = v0 * v1"],
        loss="v2",
        seed=2001743,
    ),
    "sums along no axis": Program(
        ["v0 = leaf(2)"], ["v1 = mg.sum(v0, axis=())", "v2 = mg.max(v0 * v0, axis=())"]
    ),
    "read in another order by one, and written": Program(
        ["v0 = leaf(2, 2)"], ["v1 = v0.T * 1", "v2 = v0 * v0"], loss="v1", returns="v1 v2", ending="by_hand"
    ),
    "mixed with its own transpose": Program(["v0 = leaf(3, 3)"], ["v1 = v0 * v0"], ending="stir"),
    "swapped, and one changed": Program(["v0 = leaf(2)", "v1 = leaf(2)"], ["v2 = v0 * v1"], ending="swap"),
    "constant gradients, clipped": Program(["v0 = leaf(2)"], [], loss="v0", ending="clip_leaves"),
    "new data before the optimizer": Program(
        ["v0 = leaf(2, 2)", "optimizer = optim.Adam([v0], lr=0.01)"], ["v1 = v0 * v0"], ending="renew"
    ),
    "a gradient that cannot be written": Program(
        ["v0 = leaf()"], ["v1 = mg.tanh(v0.mean())"], ending="graph"
    ),
    "softmax of a number": Program(["v0 = leaf()"], ["v1 = mg.softmax(v0)"], ending="forward"),
}
"""What random programs found since."""


@pytest.mark.parametrize("name", REPORTED | FOUND)
def test_compiled_is_line_by_line(name, request):
    way = WAYS["machine" if request.config.option.machine_code else "interpret"]
    assert judge((REPORTED | FOUND)[name], way).kind == "same"


@pytest.mark.parametrize("line", ["v0[v0 > 0]", "v0 * v0.sum().item()"])
def test_what_looks_at_values_is_refused(line):
    verdict = judge(Program(["v0 = leaf(3)"], [f"v1 = {line}"]), WAYS["interpret"])
    assert verdict.kind == "refused"
    assert "looks at a tensor's value" in verdict.text
