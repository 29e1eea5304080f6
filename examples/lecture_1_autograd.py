"""Lecture 1: derivatives by the chain rule, from one multiplication to a network. Open it with: marimo edit FILE"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Autograd, from one multiplication to an MLP")


@app.cell
def _():
    import marimo as mo
    import numpy as np
    from matplotlib.figure import Figure

    import microgradx as mg
    from microgradx import data, nn, optim

    return Figure, data, mg, mo, nn, np, optim


@app.cell
def _(mo):
    mo.md(r"""
    # Autograd, from one multiplication to an MLP

    A network is a long formula. To train it we need one number for every weight: how much does the loss
    change when this weight changes a little? This lecture builds the machine that finds all of these numbers
    at once, in a time that is only a few times that of computing the loss.

    ## 1. A slope is a limit

    The slope of $f$ at $x$ is what $\frac{f(x + h) - f(x - h)}{2h}$ tends to when $h$ becomes small. Make $h$
    smaller, and the error falls with $h^2$, until the digits of the computer run out.
    """)
    return


@app.cell
def _(mo):
    x_at = mo.ui.slider(-2.0, 2.0, 0.05, value=0.8, label="$x$", show_value=True)
    power = mo.ui.slider(-12.0, 0.0, 0.25, value=-1.0, label=r"$\log_{10} h$", show_value=True)
    mo.hstack([x_at, power], justify="start")
    return power, x_at


@app.cell
def _(Figure, np, power, x_at):
    def f(x):
        return np.sin(2 * x) + 0.5 * x

    def slope_of_f(x):
        return 2 * np.cos(2 * x) + 0.5

    _h, _x = 10.0**power.value, x_at.value
    _found = (f(_x + _h) - f(_x - _h)) / (2 * _h)
    _figure = Figure(figsize=(8.2, 3.1), layout="constrained")
    _left, _right = _figure.subplots(1, 2)
    _xs = np.linspace(-3, 3, 400)
    _left.plot(_xs, f(_xs), color="#222222")
    _middle = (f(_x + _h) + f(_x - _h)) / 2
    _left.plot(_xs, _middle + _found * (_xs - _x), "--", color="#D55E00", label=f"slope {_found:.6f}")
    _left.plot([_x - _h, _x + _h], [f(_x - _h), f(_x + _h)], "o", color="#0072B2", ms=5)
    _left.set(ylim=(-3, 3), xlabel="x", title="f(x) = sin 2x + x/2")
    _left.legend(frameon=False)
    _hs = 10.0 ** np.linspace(-12, 0, 200)
    _errors = np.abs((f(_x + _hs) - f(_x - _hs)) / (2 * _hs) - slope_of_f(_x)) + 1e-17
    _right.loglog(_hs, _errors, color="#222222")
    _right.loglog([_h], [abs(_found - slope_of_f(_x)) + 1e-17], "o", color="#D55E00")
    _right.set(xlabel="h", ylabel="error of the slope", title="too large, and too small, are both wrong")
    for _ax in (_left, _right):
        _ax.spines[["top", "right"]].set_visible(False)
    _figure
    return


@app.cell
def _(mo):
    mo.md(r"""
    ## 2. One multiplication

    For $y = a \cdot b$ we know the slopes without a limit: a small change of $a$ changes $y$ by $b$ times as
    much. microgradx writes down what was multiplied, and `backward()` looks it up.
    """)
    return


@app.cell
def _(mo):
    a_at = mo.ui.slider(-3.0, 3.0, 0.1, value=2.0, label="$a$", show_value=True)
    b_at = mo.ui.slider(-3.0, 3.0, 0.1, value=-1.5, label="$b$", show_value=True)
    mo.hstack([a_at, b_at], justify="start")
    return a_at, b_at


@app.cell
def _(a_at, b_at, mg, mo):
    _a = mg.tensor(a_at.value, requires_grad=True)
    _b = mg.tensor(b_at.value, requires_grad=True)
    _y = _a * _b
    _y.backward()
    mo.md(
        f"""
    ```python
    a, b = mg.tensor({a_at.value:.1f}, requires_grad=True), mg.tensor({b_at.value:.1f}, requires_grad=True)
    y = a * b          # {_y.item():.2f}
    y.backward()
    a.grad             # {_a.grad.item():.2f}, which is b
    b.grad             # {_b.grad.item():.2f}, which is a
    ```
    """
    )
    return


@app.cell
def _(mo):
    mo.md(r"""
    ## 3. The chain rule is a list, read backwards

    A formula is many small operations, each of which knows its own slopes. On the way forward every result
    remembers what it was computed from; in order, these results are a list, the *tape*. On the way back every
    operation takes the gradient of its result and hands each input its share. That is all; here it is in plain
    Python, for numbers:
    """)
    return


@app.cell(hide_code=True)
def _(mo):
    import math

    class Number:
        """A number that remembers how it was computed."""

        def __init__(self, value, inputs=(), slopes=()):
            self.value, self.inputs, self.slopes, self.grad = value, inputs, slopes, 0.0

        def __add__(self, other):
            return Number(self.value + other.value, (self, other), (1.0, 1.0))

        def __mul__(self, other):
            return Number(self.value * other.value, (self, other), (other.value, self.value))

        def tanh(self):
            y = math.tanh(self.value)
            return Number(y, (self,), (1 - y * y,))

        def backward(self):
            tape, seen = [], set()

            def visit(number):
                if id(number) not in seen:
                    seen.add(id(number))
                    for one in number.inputs:
                        visit(one)
                    tape.append(number)

            visit(self)
            self.grad = 1.0
            for number in reversed(tape):
                for one, slope in zip(number.inputs, number.slopes, strict=True):
                    one.grad += number.grad * slope

    mo.show_code()
    return (Number,)


@app.cell
def _(Number, mg, mo):
    def neuron(kind):
        w, x, b = (kind(v) for v in (0.7, -1.2, 0.3))
        y = (w * x + b).tanh()
        y.backward()
        return [w, x, b]

    _ours = neuron(Number)
    _theirs = neuron(lambda v: mg.tensor(v, dtype="float64", requires_grad=True))
    _rows = [
        f"| {name} | {one.grad:.10f} | {other.grad.item():.10f} |"
        for name, one, other in zip(("$w$", "$x$", "$b$"), _ours, _theirs, strict=True)
    ]
    mo.md(
        "\n".join(
            [
                r"The gradients of a neuron, $y = \tanh(w x + b)$, in our thirty lines and in microgradx:",
                "",
                "| | ours | microgradx |",
                "|---|---|---|",
                *_rows,
            ]
        )
    )
    return


@app.cell
def _(mo):
    mo.md(r"""
    ## 4. Arrays instead of numbers

    Nothing changes for arrays, except that a slope is now a matrix that nobody wants to write down: for
    $Y = X W$ it has a number for every pair of an entry of $Y$ and an entry of $W$. The way back needs only
    its product with the gradient $G$ of $Y$, the *vector-Jacobian product*: $G W^\top$ for $X$, and
    $X^\top G$ for $W$. This is how a new operation is declared, and how it is checked against limits:
    """)
    return


@app.cell(hide_code=True)
def _(mg, mo, np):
    @mg.primitive
    def matrix_product(x, w):
        """X W"""
        return np.matmul(x, w)

    @matrix_product.vjp
    def _(g, out, x, w):
        return g @ w.T, x.T @ g

    mo.show_code()
    return (matrix_product,)


@app.cell
def _(matrix_product, mg, mo, np):
    _rng = np.random.default_rng(0)
    _right = mg.check_grad(
        matrix_product, _rng.standard_normal((3, 4)), _rng.standard_normal((4, 2)), order=2
    )
    mo.md(
        f"`mg.check_grad(matrix_product, x, w, order=2)` → **{_right}**: first and second derivatives agree."
    )
    return


@app.cell
def _(mo):
    mo.md(r"""
    ## 5. A network

    Two layers of such products with $\tanh$ between them, a loss, and steps against its gradient. Choose the
    width and how long to train; the background is what the network answers, the points are the data.
    """)
    return


@app.cell
def _(mo):
    width = mo.ui.slider(1, 32, 1, value=8, label="hidden units", show_value=True)
    epochs = mo.ui.slider(2, 60, 1, value=30, label="epochs", show_value=True)
    mo.hstack([width, epochs], justify="start")
    return epochs, width


@app.cell
def _(Figure, data, epochs, mg, nn, np, optim, width):
    (x, y), (x_test, y_test) = data.moons()
    mg.seed(1)
    model = nn.MLP([2, width.value, 2], activation="tanh")
    _optimizer = optim.Adam(model.parameters(), lr=0.02)
    _history = mg.fit(
        model, _optimizer, (x, y), (x_test, y_test), epochs=epochs.value, batch_size=32, progress=False
    )

    _side = np.linspace(-2.2, 3.2, 90)
    _grid = np.stack(np.meshgrid(_side, _side), -1).reshape(-1, 2).astype(np.float32)
    with mg.no_grad():
        _answers = mg.softmax(model(mg.Tensor(_grid)), 1).numpy()[:, 1].reshape(90, 90)
    _figure = Figure(figsize=(8.2, 3.4), layout="constrained")
    _left, _right = _figure.subplots(1, 2)
    _left.contourf(_side, _side, _answers, levels=np.linspace(0, 1, 11), cmap="RdBu_r", alpha=0.75)
    for _label, _color in ((0, "#0072B2"), (1, "#D55E00")):
        _left.plot(*x_test[y_test == _label].T, "o", color=_color, mec="white", ms=4.5, mew=0.6)
    _left.set(
        xlim=(x[:, 0].min() - 0.4, x[:, 0].max() + 0.4), ylim=(x[:, 1].min() - 0.4, x[:, 1].max() + 0.4)
    )
    _left.set_title(f"{list(_history)[-1]['valid_accuracy']:.1%} of the held-out points are right")
    _right.plot(_history["epoch"], _history["loss"], "--", color="#0072B2", label="training")
    _right.plot(_history["epoch"], _history["valid_loss"], color="#D55E00", label="held out")
    _right.set(xlabel="epoch", title="loss", ylim=(0, None))
    _right.xaxis.get_major_locator().set_params(integer=True)
    _right.legend(frameon=False)
    for _ax in (_left, _right):
        _ax.spines[["top", "right"]].set_visible(False)
    _figure
    return


@app.cell
def _(mo):
    mo.md(r"""
    ## What to take along

    * A gradient is exact, not a limit: every operation brings its own slope.
    * The way back costs about as much as the way forward, however many weights there are. Limits would cost
      one more forward pass for each of them.
    * The list must remember what slopes need: memory is the price.

    Next: `lecture_2_optimizers.py`, what to do with a gradient.
    """)
    return


if __name__ == "__main__":
    app.run()
