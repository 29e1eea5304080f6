"""Lecture 2: what to do with a gradient, from gradient descent to Adam. Open it with: marimo edit FILE"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Optimizers, from gradient descent to Adam")


@app.cell
def _():
    import marimo as mo
    import numpy as np
    from matplotlib.figure import Figure

    import microgradx as mg
    from microgradx import optim, study
    from microgradx.study.surfaces import surfaces

    return Figure, mg, mo, np, optim, study, surfaces


@app.cell
def _(mo):
    mo.md(r"""
    # Optimizers, from gradient descent to Adam

    A gradient says which way is up, here. An optimizer decides how far to go down, and what to remember of the
    gradients before. Four ideas lead from the oldest method to the one that trains most networks, each of them
    one line of arithmetic. Choose a landscape, and turn the knobs of all four at once.
    """)
    return


@app.cell
def _(mo, surfaces):
    surface = mo.ui.dropdown(options=sorted(surfaces), value="valley", label="landscape")
    rate = mo.ui.slider(
        -2.0, 1.0, 0.1, value=0.0, label=r"$\log_{10}$ of the factor on every learning rate", show_value=True
    )
    beta1 = mo.ui.slider(
        0.0, 0.99, 0.01, value=0.9, label=r"$\beta_1$: memory of the gradient", show_value=True
    )
    beta2 = mo.ui.slider(
        0.5, 0.999, 0.001, value=0.99, label=r"$\beta_2$: memory of its square", show_value=True
    )
    eps = mo.ui.slider(-12.0, 0.0, 0.5, value=-8.0, label=r"$\log_{10} \varepsilon$", show_value=True)
    mo.vstack([mo.hstack([surface, rate, eps], justify="start"), mo.hstack([beta1, beta2], justify="start")])
    return beta1, beta2, eps, rate, surface


@app.cell
def _(Figure, beta1, beta2, eps, mg, np, optim, rate, surface, surfaces):
    place = surfaces[surface.value]
    factor = 10.0**rate.value
    contenders = {
        "gradient descent": (lambda p: optim.SGD(p, lr=factor * place.rate), "#0072B2", "-"),
        "momentum": (lambda p: optim.SGD(p, lr=factor * place.rate, momentum=beta1.value), "#D55E00", "--"),
        "RMSprop": (
            lambda p: optim.RMSprop(p, lr=factor * place.stride, alpha=beta2.value, eps=10.0**eps.value), "#009E73", "-.",
        ),
        "Adam": (
            lambda p: optim.Adam(p, lr=factor * place.stride, betas=(beta1.value, beta2.value), eps=10.0**eps.value),
            "#222222", "-",
        ),
    }  # fmt: skip

    def walk(make):
        x, y = (mg.tensor(np.array([c], float), requires_grad=True) for c in place.start)
        optimizer = make([x, y])
        way = [(x.item(), y.item())]
        for _ in range(place.steps):
            optimizer.zero_grad()
            place.height(x, y).sum().backward()
            optimizer.step()
            way.append((x.item(), y.item()))
            if not np.abs(way[-1]).max() <= 1000:
                break  # it runs away, and would soon be too far to draw
        return np.array(way)

    ways = {name: walk(make) for name, (make, _, _) in contenders.items()}
    _figure = Figure(figsize=(9.2, 4.1), layout="constrained")
    _left, _right = _figure.subplots(1, 2, width_ratios=(1.25, 1))
    _l, _r, _b, _t = place.window
    _xs, _ys = np.linspace(_l, _r, 160), np.linspace(_b, _t, 160)
    _heights = place.heights(np.stack(np.meshgrid(_xs, _ys), -1))
    _left.contour(_xs, _ys, _heights, levels=place.levels(18), colors="#9fb2c4", linewidths=0.8)
    for _name, (_, _color, _dashes) in contenders.items():
        _way = ways[_name]
        _left.plot(*_way.T, _dashes, color=_color, lw=1.6, label=_name)
        _left.plot(*_way[-1], "o", color=_color, ms=6, mec="white")
        _right.plot(place.heights(_way) - (place.floor or 0.0), _dashes, color=_color, lw=1.6)
    _left.set(xlim=(_l, _r), ylim=(_b, _t), title=place.about)
    _left.legend(frameon=False, fontsize=8, loc="upper right")
    _right.set(xlabel="step", title="height above the lowest point" if place.minima else "height")
    if place.minima:
        _right.set_yscale("log")
    for _ax in (_left, _right):
        _ax.spines[["top", "right"]].set_visible(False)
    _figure
    return (ways,)


@app.cell
def _(mo, surface, surfaces, ways):
    _about = {
        "valley": "A long valley: its floor falls gently, its walls steeply. One learning rate must suit both.",
        "saddle": "A saddle: the way down leaves at a right angle, where the gradient is almost nothing.",
    }.get(surface.value, "Where do the ways part, and which knob brings them together again?")
    _steps = surfaces[surface.value].steps
    _rows = [
        f"| {name} | ({way[-1][0]:.4f}, {way[-1][1]:.4f}) |"
        if len(way) > _steps
        else f"| {name} | runs away: step {len(way) - 1} is far outside |"
        for name, way in ways.items()
    ]
    mo.md("\n".join([_about, "", f"| | after {_steps} steps |", "|---|---|", *_rows]))
    return


@app.cell
def _(mo):
    mo.md(r"""
    ## 1. Gradient descent: $p \leftarrow p - \alpha g$

    Too small an $\alpha$ crawls along the floor of the valley, too large a one bounces between its walls. The
    steepest direction decides what is too large; the flattest decides how long it takes.

    ## 2. Momentum: $m \leftarrow \beta_1 m + g$, and $p \leftarrow p - \alpha m$

    Follow the sum of recent gradients. What changes its sign from step to step cancels, what stays adds up: to
    $1 / (1 - \beta_1)$ times the gradient. Set $\beta_1$ to 0.99: the ball becomes heavy, and rolls past the
    minimum before it turns. (Adam below takes the mean instead of the sum: $m \leftarrow \beta_1 m + (1 - \beta_1) g$.)

    ## 3. RMSprop: $v \leftarrow \beta_2 v + (1 - \beta_2) g^2$, and $p \leftarrow p - \alpha g / (\sqrt v + \varepsilon)$

    Divide by the recent size of the gradient, for every coordinate on its own: steep and flat directions get
    steps of one length. Near the minimum the length does not shrink with the gradient; it circles.

    ## 4. Adam is both, and corrects its start

    $m$ and $v$ start at zero, so at first they are too small: after one step $m = (1 - \beta_1) g$. The sum of
    the weights so far is $1 - \beta^t$, and dividing by it is all that *bias correction* is:
    """)
    return


@app.cell
def _(Figure, beta1, beta2, np, study):
    _steps = 200
    found = study.moments("normal", beta1.value, beta2.value, steps=_steps, samples=1024)
    _t = np.arange(1, _steps + 1)
    _figure = Figure(figsize=(8.6, 2.9), layout="constrained")
    _left, _right = _figure.subplots(1, 2)
    for _ax, _beta, _name in ((_left, beta1.value, "m"), (_right, beta2.value, "v")):
        _ax.plot(_t, 1 - _beta**_t, color="#0072B2", label=f"without the correction: 1 - β^t, β = {_beta:g}")
        _ax.axhline(1, color="#D55E00", ls="--", label="with it")
        _ax.set(xlabel="step t", ylim=(0, 1.08), title=f"E[{_name}] as a share of its goal")
        _ax.legend(frameon=False, fontsize=8)
        _ax.spines[["top", "right"]].set_visible(False)
    _figure
    return (found,)


@app.cell
def _(found, mo):
    mo.md(f"Adam's own kernel agrees: {found.caption()}")
    return


@app.cell
def _(mo):
    mo.md(r"""
    ## The rule is the program

    The text below is what trains: the same arithmetic runs on numbers, in one loop over all parameters, and as
    a CUDA kernel. `microgradx optimizers adam --convention torch` says how other libraries mean it.
    """)
    return


@app.cell
def _(mo):
    import inspect

    from microgradx.rules import adam

    mo.md(f"```python\n{inspect.getsource(adam.function)}\n```")
    return


if __name__ == "__main__":
    app.run()
