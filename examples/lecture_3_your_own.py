"""Lecture 3: write your own operation, optimizer and kernel. Open it with: marimo edit FILE"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Your own operation, optimizer and kernel")


@app.cell
def _():
    import statistics
    import time

    import marimo as mo
    import numpy as np
    from matplotlib.figure import Figure

    import microgradx as mg
    from microgradx import data, nn, optim

    return Figure, data, mg, mo, nn, np, optim, statistics, time


@app.cell
def _(mo):
    mo.md(r"""
    # Your own operation, optimizer and kernel

    A framework is done when you can add to it what its authors did not think of. Here are the three things that
    one adds, each from a blank line to a trained network: a function of one number with its slope; an operation
    on arrays with its way back; a rule that updates a weight. Then we look at the kernels that became of them,
    and write one by hand.

    ## 1. A function of one number

    A definition, and its slope: both are arithmetic on plain numbers, and nothing else is needed. This one is
    *snake*, for networks that shall learn what repeats (Ziyin et al., arXiv 2006.08195):
    """)
    return


@app.cell
def _(mg, mo):
    @mg.elementwise
    def snake(x, a=1.0):
        """x + sin²(a x) / a: arXiv 2006.08195"""
        return x + mg.sin(a * x) ** 2 / a

    @snake.slope
    def _(x, y, a):
        return 1 + mg.sin(2 * a * x)

    mo.show_code()
    return (snake,)


@app.cell
def _(mo):
    place = mo.ui.slider(-4.0, 4.0, 0.1, value=1.5, label="$x$", show_value=True)
    speed = mo.ui.slider(0.2, 3.0, 0.1, value=1.0, label="$a$", show_value=True)
    mo.hstack([place, speed], justify="start")
    return place, speed


@app.cell
def _(Figure, mg, np, place, snake, speed):
    _xs = np.linspace(-5, 5, 400)
    _x = mg.tensor(place.value, dtype="float64", requires_grad=True)
    _y = snake(_x, a=speed.value)
    _y.backward()
    _slope = _x.grad.item()
    _figure = Figure(figsize=(8.2, 3), layout="constrained")
    _left, _right = _figure.subplots(1, 2)
    _left.plot(_xs, snake(_xs, a=speed.value), color="#0072B2")
    _near = np.array([place.value - 1.5, place.value + 1.5])
    _left.plot(
        _near, _y.item() + _slope * (_near - place.value), "--", color="#D55E00", label=f"slope {_slope:.4f}"
    )
    _left.plot([place.value], [_y.item()], "o", color="#222222", ms=5)
    _left.set(title="snake", xlabel="x", ylim=(-6, 6))
    _left.legend(frameon=False, loc="upper left")
    _h = 1e-5
    _limits = (snake(_xs + _h, a=speed.value) - snake(_xs - _h, a=speed.value)) / (2 * _h)
    _right.plot(_xs, _limits, color="#9fb2c4", lw=5, label="limits of the function")
    _all = mg.tensor(_xs, requires_grad=True)
    snake(_all, a=speed.value).sum().backward()
    _right.plot(_xs, _all.grad.numpy(), color="#D55E00", lw=1.4, label="our rule")
    _right.set(title="its slope", xlabel="x", ylim=(-0.3, 3.2))
    _right.legend(frameon=False, loc="upper right", ncols=2)
    for _ax in (_left, _right):
        _ax.spines[["top", "right"]].set_visible(False)
    _figure
    return


@app.cell
def _(mo):
    mo.md(r"""
    Slopes are easy to get wrong, and a network with a wrong slope often still learns something. So check every
    one against limits. Here is the same function with a factor forgotten, and what the check says:
    """)
    return


@app.cell
def _(mg, mo, snake):
    @mg.elementwise
    def careless(x):
        return x + mg.sin(x) ** 2

    @careless.slope
    def _(x, y):
        return 1 + mg.sin(x) * mg.cos(x)

    try:
        mg.check_grad(careless, [0.3, -0.7])
    except mg.MicrogradxError as error:
        refusal = str(error)
    right = mg.check_grad(snake, [0.3, -0.7], order=2)
    mo.md(f"snake, to second order: **{right}**. The careless one:\n\n> {refusal}")
    return refusal, right


@app.cell
def _(mo):
    mo.md(r"""
    ## 2. An operation on arrays

    A function of one number is applied to each element, and its slope to each gradient. An operation that mixes
    elements needs the *vector-Jacobian product*: from the gradient of its result to that of each input.

    Take the squared distances $D_{ij} = \lVert x_i - c_j \rVert^2$ of points and centres. One $x_i$ appears in
    a whole row of $D$, and $\partial D_{ij} / \partial x_i = 2 (x_i - c_j)$. Summed up with the gradient $G$:

    $$ \bar x_i = 2 \sum_j G_{ij} (x_i - c_j), \qquad \bar c_j = 2 \sum_i G_{ij} (c_j - x_i) $$
    """)
    return


@app.cell
def _(mg, mo, np):
    @mg.primitive
    def squared_distances(x, c):
        """(n, d), (m, d) -> (n, m)"""
        return np.square(x[:, None] - c).sum(axis=2)

    @squared_distances.vjp
    def _(g, out, x, c):
        for_x = 2 * (g.sum(axis=1)[:, None] * x - g @ c)
        for_c = 2 * (g.sum(axis=0)[:, None] * c - g.T @ x)
        return for_x, for_c

    _rng = np.random.default_rng(0)
    mg.check_grad(squared_distances, _rng.standard_normal((4, 2)), _rng.standard_normal((3, 2)), order=2)
    mo.show_code()
    return (squared_distances,)


@app.cell
def _(mo):
    mo.md(r"""
    With it a layer is three lines: a bump $\exp(-s \lVert x - c_j \rVert^2)$ around each centre, and a weighted
    sum of bumps as the answer. The centres are parameters like any other, so training moves them to where they
    are of use.
    """)
    return


@app.cell
def _(mg, mo, nn, squared_distances):
    class Bumps(nn.Module):
        """Answers made of bumps around centres that are learned."""

        def __init__(self, count):
            self.centres = mg.tensor(mg.randn(count, 2).numpy(), requires_grad=True)
            self.sharpness = mg.tensor(1.0, requires_grad=True)
            self.answer = nn.Linear(count, 2)

        def forward(self, x):
            distances = squared_distances(x, self.centres)
            return self.answer(mg.exp(-self.sharpness * distances))

    mo.show_code()
    return (Bumps,)


@app.cell
def _(mo):
    count = mo.ui.slider(1, 24, 1, value=12, label="centres", show_value=True)
    epochs = mo.ui.slider(1, 60, 1, value=30, label="epochs", show_value=True)
    mo.hstack([count, epochs], justify="start")
    return count, epochs


@app.cell
def _(Bumps, Figure, count, data, epochs, mg, np, optim):
    train, test = data.moons(n=600)
    (x, y), (x_test, y_test) = train, test
    mg.seed(2)
    model = Bumps(count.value)
    _start = model.centres.numpy().copy()
    _optimizer = optim.Adam(model.parameters(), lr=0.05)
    _history = mg.fit(model, _optimizer, train, test, epochs=epochs.value, batch_size=32, progress=False)

    _side = np.linspace(-2.5, 3.5, 90)
    _grid = np.stack(np.meshgrid(_side, _side), -1).reshape(-1, 2).astype(np.float32)
    with mg.no_grad():
        _answers = mg.softmax(model(mg.Tensor(_grid)), 1).numpy()[:, 1].reshape(90, 90)
    _figure = Figure(figsize=(8.2, 3.6), layout="constrained")
    _left, _right = _figure.subplots(1, 2)
    _left.contourf(_side, _side, _answers, levels=np.linspace(0, 1, 11), cmap="RdBu_r", alpha=0.6)
    for _label, _color in ((0, "#0072B2"), (1, "#D55E00")):
        _left.plot(*x_test[y_test == _label].T, "o", color=_color, mec="white", ms=4, mew=0.5)
    _end = model.centres.numpy()
    for _from, _to in zip(_start, _end, strict=True):
        _left.annotate("", _to, _from, arrowprops={"arrowstyle": "->", "color": "#222222", "lw": 1})
    _left.plot(*_end.T, "k+", ms=8, mew=1.6)
    _left.set(xlim=(-2.5, 3.5), ylim=(-2.5, 3))
    _left.set_title("arrows: where the centres went", fontsize=10)
    _right.plot(_history["epoch"], _history["loss"], "--", color="#0072B2", label="training")
    _right.plot(_history["epoch"], _history["valid_loss"], color="#D55E00", label="held out")
    _best = list(_history)[-1]["valid_accuracy"]
    _right.set(xlabel="epoch", ylim=(0, None))
    _right.set_title(f"loss; {_best:.1%} of the held-out points are right", fontsize=10)
    _right.legend(frameon=False)
    for _ax in (_left, _right):
        _ax.spines[["top", "right"]].set_visible(False)
    _figure
    return model, train, x, x_test, y, y_test


@app.cell
def _(mo):
    mo.md(r"""
    ## 3. An optimizer

    A rule is the update of one number. In its signature, what stands between `g` and `/` is what it remembers
    from step to step, and what has a default is a knob. Suppose that we want long steps where recent gradients
    agree with each other, and short ones where they cancel: the mean gradient $m$, divided by the mean of its
    absolute value $s$, is a number from -1 to 1 that says just this.

    Both means start at zero and are too small at first, but by the same factor. So, unlike Adam, their quotient
    needs no bias correction.
    """)
    return


@app.cell
def _(mg, mo):
    @mg.rule
    def consensus(p, g, m, s, /, t, lr=0.01, beta=0.9):
        """A step of lr where the recent gradients agree, a shorter one where they cancel."""
        m = beta * m + (1 - beta) * g
        s = beta * s + (1 - beta) * mg.abs(g)
        return p - lr * m / (s + 1e-12), m, s

    mo.show_code()
    return (consensus,)


@app.cell
def _(consensus, mo):
    _p, _m, _s = 1.0, 0.0, 0.0
    _table = ["| step | gradient | weight | m | s | m / s |", "|---|---|---|---|---|---|"]
    for _t, _g in enumerate((0.5, 0.4, 0.6, -0.5, -0.4), 1):
        _p, _m, _s = consensus(_p, _g, _m, _s, t=_t)
        _table.append(f"| {_t} | {_g} | {_p:.4f} | {_m:.3f} | {_s:.3f} | {_m / _s:.3f} |")
    mo.md(
        "\n".join(
            ["Called with numbers, it computes numbers. Three gradients agree, two object:", "", *_table]
        )
    )
    return


@app.cell
def _(mo):
    rate = mo.ui.slider(
        -4.0, 0.0, 0.1, value=-1.5, label=r"$\log_{10}$ of the learning rate", show_value=True
    )
    beta = mo.ui.slider(0.0, 0.99, 0.01, value=0.9, label=r"$\beta$", show_value=True)
    mo.hstack([rate, beta], justify="start")
    return beta, rate


@app.cell
def _(Bumps, Figure, beta, consensus, mg, nn, optim, rate, x, y):
    _lr = 10.0**rate.value
    _contenders = {
        "consensus": (lambda p: optim.Optimizer(p, consensus, lr=_lr, beta=beta.value), "#D55E00", "-"),
        "Adam": (lambda p: optim.Adam(p, lr=_lr, betas=(beta.value, 0.999)), "#222222", "--"),
        "momentum": (lambda p: optim.SGD(p, lr=_lr, momentum=beta.value), "#0072B2", "-."),
    }

    def trained(make):
        mg.seed(2)
        model = Bumps(12)
        optimizer = make(model.parameters())

        @mg.jit
        def step(x, y):
            optimizer.zero_grad()
            loss = nn.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        passes = [step.scan(x, y, batch_size=32, order=mg.generator.permutation(len(x))) for _ in range(20)]
        return [one.mean().item() for one in passes]

    losses = {name: trained(make) for name, (make, _, _) in _contenders.items()}
    _figure = Figure(figsize=(7.4, 3), layout="constrained")
    _ax = _figure.subplots()
    for _name, (_, _color, _dashes) in _contenders.items():
        _ax.plot(range(1, 21), losses[_name], _dashes, color=_color, label=_name)
    _ax.set(xlabel="epoch", ylabel="training loss", yscale="log", xticks=range(0, 21, 5))
    _ax.legend(frameon=False)
    _ax.spines[["top", "right"]].set_visible(False)
    _figure
    return (losses,)


@app.cell
def _(mo):
    mo.md(r"""
    ## 4. The kernels that became of it

    `optim.Optimizer` did not call our function for every weight. It read its text, and wrote a loop over all
    weights, in which constants are computed once and letters are elements. For a GPU it writes the same loop
    with another first line: of $n$ threads, each takes every $n$-th element.
    """)
    return


@app.cell
def _(consensus, mo, np):
    from microgradx.compiler.report.kernel_list import library
    from microgradx.kernels import sweep

    kernels = {"cpu": sweep(consensus, np.float32).source}
    kernels["cuda"] = next(one for one in library(("cuda",)) if one.name == "consensus").source
    mo.ui.tabs(
        {
            "for the processor": mo.md(f"```python\n{kernels['cpu']}\n```"),
            "for a GPU": mo.md(f"```python\n{kernels['cuda']}\n```"),
        }
    )
    return (kernels,)


@app.cell
def _(mo):
    mo.md(r"""
    ## 5. A kernel by hand

    Our distances are slower than they need be: NumPy writes all differences to memory, $n \cdot m \cdot d$
    numbers, then their squares, and then reads them again to add them up. A loop keeps them in a register.
    Numba compiles it, and an operation may call whatever it likes: its way back stays as it is.
    """)
    return


@app.cell
def _(mg, mo, np):
    from numba import njit

    @njit
    def distance_loops(x, c, out):
        for i in range(x.shape[0]):
            for j in range(c.shape[0]):
                total = x.dtype.type(0)
                for k in range(x.shape[1]):
                    difference = x[i, k] - c[j, k]
                    total += difference * difference
                out[i, j] = total

    @mg.primitive
    def looped_distances(x, c):
        """(n, d), (m, d) -> (n, m)"""
        out = np.empty((len(x), len(c)), x.dtype)
        distance_loops(x, c, out)
        return out

    @looped_distances.vjp
    def _(g, out, x, c):
        return 2 * (g.sum(axis=1)[:, None] * x - g @ c), 2 * (g.sum(axis=0)[:, None] * c - g.T @ x)

    mo.show_code()
    return (looped_distances,)


@app.cell
def _(mo):
    points = mo.ui.slider(100, 4000, 100, value=1000, label="points", show_value=True)
    points
    return (points,)


@app.cell
def _(Figure, looped_distances, mg, mo, np, points, squared_distances, statistics, time):
    _rng = np.random.default_rng(0)
    _x = _rng.standard_normal((points.value, 2), np.float32)
    _c = _rng.standard_normal((64, 2), np.float32)

    def seconds(operation):
        operation(_x, _c)
        times = []
        for _ in range(15):
            start = time.perf_counter()
            operation(_x, _c)
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    _times = {"NumPy": seconds(squared_distances), "our loops": seconds(looped_distances)}
    apart = float(np.abs(squared_distances(_x, _c) - looped_distances(_x, _c)).max())
    _figure = Figure(figsize=(7.4, 1.6), layout="constrained")
    _ax = _figure.subplots()
    _bars = _ax.barh(list(_times), [1e6 * t for t in _times.values()], color=["#8a8a8a", "#0072B2"])
    _ax.bar_label(_bars, [f"{1e6 * t:,.0f} µs" for t in _times.values()], padding=4, fontsize=9)
    _ax.invert_yaxis()
    _ax.set(xlabel="microseconds", xlim=(0, 1.15e6 * max(_times.values())))
    _ax.spines[["top", "right"]].set_visible(False)
    _checked = mg.check_grad(looped_distances, _x[:4].astype(float), _c[:3].astype(float), order=2)
    mo.vstack(
        [
            _figure,
            mo.md(f"The results differ by {apart:.1g} at most; the derivatives are right: **{_checked}**."),
        ]
    )
    return (apart,)


@app.cell
def _(mo):
    mo.md(r"""
    ## 6. A GPU without a GPU

    Numba's simulator runs CUDA kernels in Python, thread by thread: slow, but every index is the one that a GPU
    would see. It must be chosen before Numba is imported, so this program runs in a process of its own. On a
    machine with a GPU leave out the variable, and it runs there.
    """)
    return


@app.cell
def _(mo):
    program = '''\
import numpy as np
from numba import cuda

import microgradx as mg
from microgradx.kernels import sweep


@mg.rule
def consensus(p, g, m, s, /, t, lr=0.01, beta=0.9):
    """A step of lr where the recent gradients agree, a shorter one where they cancel."""
    m = beta * m + (1 - beta) * g
    s = beta * s + (1 - beta) * mg.abs(g)
    return p - lr * m / (s + 1e-12), m, s


@cuda.jit
def distances(x, c, out):
    i, j = cuda.grid(2)
    if i < out.shape[0] and j < out.shape[1]:
        total = np.float32(0)
        for k in range(x.shape[1]):
            difference = x[i, k] - c[j, k]
            total += difference * difference
        out[i, j] = total


rng = np.random.default_rng(0)
x, c = rng.standard_normal((12, 2), np.float32), rng.standard_normal((5, 2), np.float32)
out = np.zeros((12, 5), np.float32)
distances[(2, 1), (8, 8)](x, c, out)  # 2 blocks of 8 x 8 threads
expected = np.square(x[:, None] - c).sum(axis=2)
print("largest error of the distances:", np.abs(out - expected).max())

state = [rng.standard_normal(100, np.float32) for _ in range(2)] + [np.zeros(100, np.float32) for _ in range(2)]
here, there = [a.copy() for a in state], [a.copy() for a in state]
sweep(consensus, np.float32)(*here, t=1)
sweep(consensus, np.float32, device="cuda")(*there, t=1)
print("the rule has the same bits:", all(map(np.array_equal, here, there)))
'''
    mo.md(f"```python\n{program}```")
    return (program,)


@app.cell
def _(mo, program):
    import os
    import subprocess
    import sys
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as _folder:
        Path(_folder, "own_kernels.py").write_text(program, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "own_kernels.py"],
            cwd=_folder,
            env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
            capture_output=True,
            text=True,
        )
    mo.md(f"```text\n$ NUMBA_ENABLE_CUDASIM=1 python own_kernels.py\n{done.stdout}{done.stderr}```")
    return (done,)


@app.cell
def _(mo):
    mo.md(r"""
    ## What to take along

    * A function of one number and its slope, an operation and its vector-Jacobian product, a rule: each is one
      definition, and `mg.check_grad` says whether it is right.
    * What you write on numbers becomes loops for the processor and kernels for a GPU. You can read both.
    * A kernel of your own is an operation like any other.

    Next: `lecture_4_compiler.py`, how all of a step becomes one program.
    """)
    return


if __name__ == "__main__":
    app.run()
