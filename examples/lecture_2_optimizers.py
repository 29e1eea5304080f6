"""Lecture 2: from one number and its slope to Adam and its bias correction. Open it with: marimo edit FILE"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Optimizers, from gradient descent to Adam")


@app.cell
def _():
    import inspect
    from dataclasses import replace
    from functools import partial

    import marimo as mo
    import numpy as np
    from matplotlib.figure import Figure

    import microgradx as mg
    from microgradx import optim, rules, study
    from microgradx.study.bias_correction.moments import settled
    from microgradx.study.racing.surfaces import quadratic, rotated, surfaces

    BLUE, RED, GREEN, INK, FAINT = "#0072B2", "#D55E00", "#009E73", "#222222", "#c9d3dc"

    def source(*chosen):
        """The library's own text of rules, as a listing."""
        return mo.md("```python\n" + "\n\n".join(inspect.getsource(r.function) for r in chosen) + "```")

    def course(rule, gradients, **numbers):
        """(steps, 1 + states): p and the state after every step of a rule that is given these gradients."""
        now, rows = [0.0] * (1 + len(rule.state)), []
        for t, g in enumerate(gradients, 1):
            now = np.atleast_1d(rule(now[0], g, *now[1:], t=t, **numbers)).tolist()
            rows.append(now)
        return np.array(rows)

    def walk(place, rule, lr, **numbers):
        """(steps + 1, 2): the way of a rule down a surface; `lr` is a number, or one for every step."""
        x, y = (mg.tensor(np.array([c], float), requires_grad=True) for c in place.start)
        optimizer, way = optim.Optimizer([x, y], rule, lr=1.0, **numbers), [place.start]
        for rate in np.broadcast_to(lr, place.steps).tolist():
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            place.height(x, y).sum().backward()
            optimizer.step()
            way.append((x.item(), y.item()))
            if not np.abs(way[-1]).max() <= 1000:
                break  # it runs away, and would soon be too far to draw
        return np.array(way)

    def panels(*widths, height=2.8):
        """Figures of these widths, and their axes."""
        figures = [Figure(figsize=(width, height), layout="constrained") for width in widths]
        axes = [figure.subplots() for figure in figures]
        for ax in axes:
            ax.spines[["top", "right"]].set_visible(False)
        return figures, axes

    def beside(figures):
        """Figures side by side, or one below the other on a narrow screen."""
        return mo.hstack(figures, justify="start", wrap=True, gap=1)

    def contours(ax, place):
        """The surface from above."""
        left, right, bottom, top = place.window
        points = np.stack(np.meshgrid(np.linspace(left, right, 120), np.linspace(bottom, top, 120)), -1)
        ax.contour(
            *np.moveaxis(points, -1, 0), place.heights(points), place.levels(18), colors=FAINT, linewidths=0.8
        )
        ax.plot(*np.reshape(place.minima, (-1, 2)).T, "+", color=INK, ms=9)
        ax.set(xlim=(left, right), ylim=(bottom, top))

    def table(head, *rows):
        """A table as Markdown, which turns sideways rather than leave a narrow screen."""
        lines = [head, ["--:"] * len(head), *rows]
        return mo.md("\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)).style(
            overflow_x="auto"
        )

    return (
        BLUE, FAINT, GREEN, INK, RED, beside, contours, course, mo, np, panels, partial, quadratic, replace, rotated, rules,
        settled, source, study, surfaces, table, walk,
    )  # fmt: skip


@app.cell
def _(mo):
    pace = mo.ui.slider(0.05, 2.1, 0.05, value=0.5, label=r"$\alpha$: learning rate", show_value=True)
    mo.vstack([
        mo.md(r"""
    <style>.katex-display { overflow-x: auto; overflow-y: hidden }</style>

    # Optimizers, from gradient descent to Adam

    A gradient says which way is up, here. An optimizer decides how far to go down, and what to remember of the
    gradients before. Three ideas, each one line of arithmetic, make Adam, the method that trains most networks;
    a fourth mends its first steps, and is what most explanations leave out. All of them fit on one number.

    ## 1. One number, and its slope

    Let the loss be $f(p) = \frac12 c\,p^2$: a parabola of curvature $c$, with the gradient $g = c\,p$. Gradient
    descent goes against it, $\;p \leftarrow p - \alpha g$, so every step multiplies $p$ by the same number:

    $$p_t = p_{t-1} - \alpha c\, p_{t-1} = (1 - \alpha c)\, p_{t-1} = (1 - \alpha c)^t\, p_0$$

    It converges while $|1 - \alpha c| < 1$, that is for $\alpha < 2/c$. A loss of two weights has two
    curvatures and still one $\alpha$. The steep one says what is too large. The flat one says how long it takes.
    """),
        pace,
    ])  # fmt: skip
    return (pace,)


@app.cell
def _(BLUE, INK, RED, beside, mo, np, pace, panels, rules, source, table):
    def _descend(curvature, steps=40):
        way = [-2.0]
        for _t in range(1, steps + 1):
            way.append(rules.sgd(way[-1], curvature * way[-1], t=_t, lr=pace.value))
        return np.array(way)

    _steep, _flat = _descend(1.0), _descend(0.05)
    _figures, (_left, _right) = panels(4.6, 4.6)
    _xs = np.linspace(-2.6, 2.6, 100)
    _left.plot(_xs, _xs**2 / 2, color=INK, lw=1)
    _left.plot(_steep[:9], _steep[:9] ** 2 / 2, "o-", color=RED, ms=5, lw=1)
    _left.set(xlim=(-2.6, 2.6), ylim=(-0.1, 3), xlabel="p", title="8 steps on f(p) = ½p²")
    for _way, _c, _color in ((_steep, 1, RED), (_flat, 0.05, BLUE)):
        _exact = 2 * np.abs(1 - pace.value * _c) ** np.arange(41)
        _right.plot(np.maximum(np.abs(_way), 1e-9), "o", color=_color, ms=3.5, label=f"c = {_c}")
        _right.plot(np.maximum(_exact, 1e-9), color=_color, lw=0.8)
    _right.set(
        yscale="log", ylim=(1e-6, 1e3), xlabel="step", title="|p|: dots by the rule, lines (1 - αc)ᵗ · 2"
    )
    _right.legend(frameon=False, fontsize=8)
    _rows = [[_t, *(f"{n:.4f}" for n in (_steep[_t - 1], -_steep[_t - 1], _steep[_t]))] for _t in (1, 2, 3)]
    mo.vstack([
        source(rules.sgd),
        table(["step", "p", "-g", "p - αg"], *_rows),
        beside(_figures),
        mo.md(
            f"Each step keeps **{1 - pace.value:.3f}** of $p$ where it is steep, **{1 - 0.05 * pace.value:.3f}** "
            "where it is flat. No $\\alpha$ makes both of them small: the best, 1.905, keeps $\\mp$0.905."
        ),
    ])  # fmt: skip
    return


@app.cell
def _(mo):
    memory = mo.ui.slider(0.0, 0.98, 0.02, value=0.9, label=r"$\beta$: memory", show_value=True)
    mo.vstack([
        mo.md(r"""
    ## 2. Momentum: an average that forgets

    Where a step bounces between two walls, the gradient changes its sign each time; along the floor it never does.
    So follow the *mean* of recent gradients. What turns cancels, what stays remains:

    $$m_t = \beta\, m_{t-1} + (1 - \beta)\, g_t \qquad p \leftarrow p - \alpha\, m_t$$

    Which mean is that? Put the line into itself, again and again, down to the beginning, $m_0 = 0$:

    $$m_t = (1-\beta)\,g_t + \beta\,\big[(1-\beta)\,g_{t-1} + \beta\,[\,\dots]\big]
    \;=\; (1-\beta) \sum_{i=1}^{t} \beta^{\,t-i}\, g_i$$

    Every gradient has a weight, and the weight shrinks by $\beta$ with every step of age. Two experiments show it:
    the rule is given a single gradient of 1 and then zeros, so that what is left of it *is* its weight; and then
    gradients that jump between 4 and -2, with mean 1.
    """),
        memory,
    ])  # fmt: skip
    return (memory,)


@app.cell
def _(BLUE, FAINT, INK, RED, beside, course, memory, mo, np, panels, rules, source):
    _weights = course(rules.momentum, [1.0] + [0.0] * 59, beta=memory.value)[:, 1]
    _jumps = np.where(np.arange(60) % 2, -2.0, 4.0)
    _mean = course(rules.momentum, _jumps, beta=memory.value)[:, 1]
    _figures, (_left, _right) = panels(4.6, 4.6)
    _left.bar(np.arange(60), _weights, color=BLUE, width=0.8)
    _left.plot((1 - memory.value) * memory.value ** np.arange(60.0), color=INK, lw=0.8)
    _left.set(xlabel="age of a gradient, in steps", title="weight: bars by the rule, line (1-β)β^age")
    _right.plot(np.arange(1, 61), _jumps, ".", color="#8fa3b5", ms=4, label="gradients g")
    _right.plot(np.arange(1, 61), _mean, color=RED, lw=1.8, label="their mean m")
    _right.axhline(1, color=FAINT, lw=1)
    _right.set(xlabel="step", ylim=(-2.6, 5.6), title="the true mean is 1")
    _right.legend(frameon=False, fontsize=8, ncols=2, loc="upper right")
    mo.vstack([
        source(rules.momentum),
        beside(_figures),
        mo.md(
            f"The weights of the last {1 / (1 - memory.value):.0f} gradients, $1/(1-\\beta)$, sum to "
            f"{_weights[: round(1 / (1 - memory.value))].sum():.2f}, those of all 60 to {_weights.sum():.4f}. "
            f"At the last steps $m$ is between {_mean[-2:].min():.2f} and {_mean[-2:].max():.2f}. "
            f"But after the first ten it was {_mean[9]:.2f}: **look at how it starts**. We come back to that. "
            "(Many libraries sum instead, $v \\leftarrow \\beta v + g$, which makes the same steps with $\\alpha\\,(1-\\beta)$.)"
        ),
    ])  # fmt: skip
    return


@app.cell
def _(course, mo, rules, source, table):
    def _third(rule, g, **numbers):
        """The length of the 300th step under a constant gradient."""
        way = course(rule, [g] * 300, lr=0.01, **numbers)
        return f"{abs((way if way.ndim == 1 else way[:, 0])[-2:]) @ [-1, 1]:.6f}"

    mo.vstack([
        mo.md(r"""
    ## 3. RMSprop: a step of one length

    The other idea needs no direction: divide by how large the gradient usually is, for every weight on its
    own. The usual size is the root of a forgetting mean again, now of $g^2$:

    $$v_t = \beta_2\, v_{t-1} + (1 - \beta_2)\, g_t^2 \qquad p \leftarrow p - \alpha\, \frac{g_t}{\sqrt{v_t} + \varepsilon}$$

    $\varepsilon$ only keeps 0/0 away. A gradient a million times as large makes the same step; near the minimum
    the step does not shrink with the gradient, so it circles at a distance of about $\alpha$. (The program
    calls $\alpha$ `lr` and, as PyTorch does, $\beta_2$ `alpha`. The steps in the table are the 300th: that they
    are still 2.6 % longer than $\alpha$ is the matter of section 5.)
    """),
        source(rules.rmsprop),
        table(
            ["gradient, always", "a step of gradient descent, α = 0.01", "a step of RMSprop, α = 0.01"],
            *[[f"{g:g}", _third(rules.sgd, g), _third(rules.rmsprop, g)] for g in (1000.0, 1.0, 0.001)],
        ),
    ])  # fmt: skip
    return


@app.cell
def _(course, mo, rules, source, table):
    _g = [0.5, -0.1]
    _rows = course(rules.adam, _g, lr=0.1)
    _lines = []
    for _t, (_p, _m, _v) in enumerate(_rows, 1):
        _m_hat, _v_hat = _m / (1 - 0.9**_t), _v / (1 - 0.999**_t)
        _lines.append([_t, _g[_t - 1], *(f"{n:.5g}" for n in (_m, _v, _m_hat, _v_hat)), f"{_p:.5f}"])
    mo.vstack([
        mo.md(r"""
    ## 4. Adam: both, and two divisions more

    $$\begin{aligned}
    m_t &= \beta_1\, m_{t-1} + (1-\beta_1)\, g_t &&\text{the mean: where to} \\
    v_t &= \beta_2\, v_{t-1} + (1-\beta_2)\, g_t^2 &&\text{the mean square: how large it usually is} \\
    \hat m_t &= m_t \,/\, (1 - \beta_1^t), \quad \hat v_t = v_t \,/\, (1 - \beta_2^t) &&\text{bias correction} \\
    p_t &= p_{t-1} - \alpha\, \hat m_t \,/\, (\sqrt{\hat v_t} + \varepsilon) &&\text{the step}
    \end{aligned}$$

    Line by line, this is the program: the text below is what trains on the CPU and becomes a kernel of a GPU.
    """),
        source(rules.adam),
        mo.md(r"""
    Two steps of it from $p = 0$, with $\alpha = 0.1$. The first one by hand: $\hat m_1 = 0.05 / 0.1 = 0.5$ and
    $\sqrt{\hat v_1} = \sqrt{0.00025 / 0.001} = 0.5$, so the step is $-\alpha$: of a first gradient, only the sign counts.
    """),
        table(["t", "g", "m", "v", "m̂", "v̂", "p"], *_lines),
    ])  # fmt: skip
    return


@app.cell
def _(mo):
    beta = mo.ui.slider(0.5, 0.99, 0.01, value=0.9, label=r"$\beta$", show_value=True)
    now = mo.ui.slider(1, 60, 1, value=5, label="$t$: steps so far", show_value=True)
    mo.vstack([
        mo.md(r"""
    ## 5. Why the average starts too small, and by how much

    $m$ begins at zero. The weights of section 2 reach back forever, but there are only $t$ gradients: the weights
    of those before the first step fall on nothing. Let the gradients be random, with means
    $\mathbb E[g_i]$ that may change from step to step, and take the sum of section 2 line by line:

    $$\begin{aligned}
    \mathbb E[m_t] &= \mathbb E\Big[(1-\beta) \sum_{i=1}^t \beta^{\,t-i} g_i\Big]
      &&\text{the sum of section 2} \\
    &= (1-\beta) \sum_{i=1}^t \beta^{\,t-i}\, \mathbb E[g_i] &&\text{the mean of a sum is the sum of the means} \\
    &= \mathbb E[g_t]\; (1-\beta) \sum_{i=1}^t \beta^{\,t-i} + \zeta
      &&\zeta = (1-\beta)\textstyle\sum_i \beta^{t-i}\,(\mathbb E[g_i] - \mathbb E[g_t]) \\
    &= \mathbb E[g_t]\; (1-\beta)\, (1 + \beta + \dots + \beta^{t-1}) + \zeta &&\text{count by age instead} \\
    &= \mathbb E[g_t]\; (1 + \beta + \dots + \beta^{t-1} - \beta - \dots - \beta^{t}) + \zeta
      &&\text{multiply out: all but two cancel} \\
    &= \mathbb E[g_t]\; (1 - \beta^t) + \zeta
    \end{aligned}$$

    So, but for $\zeta$, $m_t$ is too small by exactly the factor $1 - \beta^t$: dividing by it mends that. $\zeta$ is 0 while
    the mean does not change, and small where it changes slowly, because old gradients have little weight. With
    $g^2$ in place of $g$ it is the same for $v$ (Kingma & Ba, section 3, [arXiv 1412.6980](https://arxiv.org/abs/1412.6980)).
    """),
        mo.hstack([beta, now], justify="start", wrap=True),
    ])  # fmt: skip
    return beta, now


@app.cell
def _(BLUE, FAINT, RED, beta, beside, course, mo, now, np, panels, rules, study):
    _t, _b = now.value, beta.value
    _weights = course(rules.momentum, [1.0] + [0.0] * 79, beta=_b)[:, 1]
    found = study.moments("normal", _b, 0.999, steps=60, samples=1024)
    _figures, (_left, _right) = panels(4.6, 4.6)
    _at = _t - np.arange(80)
    _left.bar(_at[:_t], _weights[:_t], color=BLUE, label=f"fall on gradients: {_weights[:_t].sum():.4f}")
    _left.bar(_at[_t:], _weights[_t:], color="#f3d9c6", label=f"fall on nothing: βᵗ = {_b**_t:.4f}")
    _left.axvline(0.5, color=RED, lw=1)
    _left.set(xlim=(_t - 40.5, _t + 1), xlabel="step i", title=f"weights at step t = {_t}")
    _left.legend(frameon=False, fontsize=8, loc="upper left")
    _steps = np.arange(1, 61)
    _right.plot(_steps, found.m.simulated, color=BLUE, label="mean of m, simulated")
    _right.plot(_steps, found.m.exact, ":", color="#222222", label=r"$\mathbb{E}[g]\,(1-\beta^t)$")
    _right.plot(_steps, found.m.simulated / found.m.correction, "--", color=RED, label="mean of m̂, simulated")
    _right.axvline(_t, color=FAINT, lw=1, zorder=0)
    _right.set(xlabel="step t", ylim=(0, 1.15), title="1,024 runs, gradients with mean 1, deviation 1")
    _right.legend(frameon=False, fontsize=8, loc="lower right")
    _growing = 1.01 ** np.arange(1, _t + 1)
    _zeta = course(rules.momentum, _growing, beta=_b)[-1, 1] - _growing[-1] * (1 - _b**_t)
    mo.vstack([
        beside(_figures),
        mo.md(
            f"At $t = {_t}$ the weights of the gradients sum to **{_weights[:_t].sum():.4f}**, and $1-\\beta^t$ is "
            f"**{1 - _b**_t:.4f}**. Simulated and exact differ by at most {found.m.deviation:.1f} standard errors. "
            "And $\\zeta$? Were the gradient to grow by 1 % a step, it would be "
            f"{100 * _zeta / _growing[-1]:.2f} % of the last one."
        ),
    ])  # fmt: skip
    return (found,)


@app.cell
def _(mo):
    b1 = mo.ui.slider(0.0, 0.98, 0.02, value=0.9, label=r"$\beta_1$", show_value=True)
    nines = mo.ui.slider(0.5, 4.0, 0.1, value=3.0, label=r"$-\log_{10}(1-\beta_2)$", show_value=True)
    gradients = mo.ui.dropdown(
        ["always 1", "always 1000", "normal, mean 1"], value="always 1", label="gradients"
    )
    mo.vstack([
        mo.md(r"""
    ## 6. The first ten steps, with the correction and without

    Both means are too small at first, but the step divides one by the *root* of the other. Without the correction
    a step is longer than Adam's by the factor

    $$\frac{m_t/\sqrt{v_t}}{\hat m_t/\sqrt{\hat v_t}} = \frac{1-\beta_1^t}{\sqrt{1-\beta_2^t}},
    \qquad\text{at the first step}\quad \frac{1-\beta_1}{\sqrt{1-\beta_2}}$$

    whatever the gradients are, as long as $\varepsilon$ is small beside their size. These two sliders set $\beta_1$ and $\beta_2$ for the rest of the page; 3 means
    $\beta_2 = 0.999$, Adam's default. Steps, with and without, are in units of $\alpha$.
    """),
        mo.hstack([b1, nines, gradients], justify="start", wrap=True),
    ])  # fmt: skip
    return b1, gradients, nines


@app.cell
def _(BLUE, FAINT, RED, b1, beside, course, gradients, mo, nines, np, panels, rules, settled, source, table):
    betas = {"beta1": b1.value, "beta2": 1 - 10.0**-nines.value}
    _count = int(max(60, 6 / (1 - betas["beta2"])))
    _g = {
        "always 1": np.ones(_count),
        "always 1000": np.full(_count, 1000.0),
        "normal, mean 1": np.random.default_rng(0).normal(1, 1, _count),
    }[gradients.value]
    _with, _without = (
        course(rule, _g[:600], lr=1.0, eps=1e-12, **betas) for rule in (rules.adam, rules.adam_uncorrected)
    )
    _long, _short = (np.diff(rows[:, 0], prepend=0.0) for rows in (_without, _with))
    _t = np.arange(1, _count + 1)
    _factor = (1 - betas["beta1"] ** _t) / np.sqrt(1 - betas["beta2"] ** _t)
    measured = _long / _short
    _rows = [
        [t, *(f"{n:.3g}" for n in (_m, _v, _m / (1 - betas["beta1"] ** t), _v / (1 - betas["beta2"] ** t))),
         *(f"{n:.3f}" for n in (_short[t - 1], _long[t - 1], measured[t - 1]))]
        for t, (_, _m, _v) in enumerate(_with[:10], 1)
    ]  # fmt: skip
    _figures, (_ax,) = panels(5.6)
    _ax.axhline(1, color=FAINT, lw=1)
    _ax.plot(_t, _factor, color=RED, lw=1.6, label="the formula")
    _ax.plot(_t[: len(measured)], measured, ".", color=BLUE, ms=4, label="measured: without / with")
    _ax.set(
        xscale="log",
        xlabel="step t",
        ylim=(0, None),
        title="how many times as long a step is without the correction",
    )
    _ax.legend(frameon=False, fontsize=8)
    _worst, _end = int(np.abs(np.log(_factor)).argmax()), settled(_factor)
    mo.vstack([
        source(rules.adam_uncorrected),
        table(["t", "m", "v", "m̂", "v̂", "with", "without", "factor"], *_rows),
        beside(_figures),
        mo.md(
            f"With $\\beta_1 = {betas['beta1']:g}$, $\\beta_2 = {betas['beta2']:.5g}$ the first step is "
            f"**{_factor[0]:.3g}** times as long without the correction, the worst, step {_worst + 1}, "
            f"**{_factor[_worst]:.3g}** times, and from step **{_end:,}** on they are within 1 % of each other."
        ),
    ])  # fmt: skip
    return betas, measured


@app.cell
def _(mo, surfaces):
    ground = mo.ui.dropdown(sorted(surfaces.keys() - {"ravine"}), value="himmelblau", label="landscape")
    stride = mo.ui.slider(
        -1.0, 1.0, 0.1, value=0.0, label=r"$\log_{10}$ of the factor on $\alpha$", show_value=True
    )
    mo.vstack([
        mo.md(r"""
    ## 7. The same two on a landscape

    Left with the correction, right without it: same start, same $\alpha$, $\beta_1$ and $\beta_2$ as set above.
    The first ten steps are dots. Where the landscape is kind the long first steps are a gift; elsewhere they
    throw the weights out of the valley they began in, and $v$ remembers for $1/(1-\beta_2)$ steps.
    """),
        mo.hstack([ground, stride], justify="start", wrap=True),
    ])  # fmt: skip
    return ground, stride


@app.cell
def _(BLUE, RED, betas, beside, contours, ground, mo, np, panels, rules, stride, surfaces, table, walk):
    place, lr = surfaces[ground.value], surfaces[ground.value].stride * 10.0**stride.value
    pair = {
        "with": walk(place, rules.adam, lr, **betas),
        "without": walk(place, rules.adam_uncorrected, lr, **betas),
    }
    _figures, _axes = panels(4.6, 4.6, height=3.8)
    for _ax, (_name, _way), _color in zip(_axes, pair.items(), (BLUE, RED), strict=True):
        contours(_ax, place)
        _ax.plot(*_way.T, color=_color, lw=1.4)
        _ax.plot(*_way[:11].T, "o", color=_color, ms=3.5)
        _ax.plot(*_way[-1], "o", color=_color, ms=8, mec="white")
        _ax.set_title(
            f"{_name} the correction: β₁ = {betas['beta1']:g}, β₂ = {betas['beta2']:.5g}", fontsize=10
        )
    _first = {name: np.linalg.norm(np.diff(way[:11], axis=0), axis=1) for name, way in pair.items()}
    mo.vstack([
        beside(_figures),
        table(
            ["", "first step", "ten steps", f"height after {place.steps} steps"],
            *[[name, f"{_first[name][0]:.3f}", f"{_first[name].sum():.3f}", f"{place.heights(way[-1:])[0]:.4g}"]
              for name, way in pair.items()],
        ),
    ])  # fmt: skip
    return lr, pair, place


@app.cell
def _(BLUE, RED, betas, lr, beside, mo, np, pair, panels, place, rules, walk):
    _t = np.arange(1, place.steps + 1)
    _schedule = np.sqrt(1 - betas["beta2"] ** _t) / (1 - betas["beta1"] ** _t)
    _other = walk(place, rules.adam_uncorrected, lr * _schedule, eps=0.0, **betas)
    _same = walk(place, rules.adam, lr, eps=0.0, **betas)
    difference = float(np.abs(_other - _same).max())
    _long = np.arange(1, int(8 / (1 - betas["beta2"])) + 2)
    _figures, (_ax,) = panels(5.6)
    _ax.plot(
        _long, np.sqrt(1 - betas["beta2"] ** _long) / (1 - betas["beta1"] ** _long), color=BLUE,
        label=r"bias correction: $\sqrt{1-\beta_2^t}\;/\;(1-\beta_1^t)$",
    )  # fmt: skip
    _ax.plot(
        _long,
        np.minimum(1, _long * (1 - betas["beta2"]) / 2),
        "--",
        color=RED,
        label=r"linear warmup: $t\,(1-\beta_2)\,/\,2$, at most 1",
    )
    _ax.set(xscale="log", xlabel="step t", ylim=(0, None), title="two schedules of the learning rate")
    _ax.legend(frameon=False, fontsize=8, loc="center left")
    mo.vstack([
        mo.md(r"""
    ## 8. The correction is a warmup of the learning rate

    Both divisions are the same for all weights, so they can be moved into $\alpha$: uncorrected Adam with the rate
    $\alpha_t = \alpha\,\sqrt{1-\beta_2^t}\,/\,(1-\beta_1^t)$ *is* Adam, but for the place of $\varepsilon$.
    With the default numbers this schedule starts at 0.32, falls to 0.15 at step 12, and then rises for thousands
    of steps: a warmup.
    """),
        beside(_figures),
        mo.md(
            f"Run on the landscape above, with $\\varepsilon = 0$, the two ways differ by at most **{difference:.0e}**. "
            "Why do people then warm up Adam itself? The correction makes $\\hat v$ right *on average*; after three "
            "steps it is still a mean of three numbers, and each first step is $\\pm\\alpha$ for every weight, "
            "however sure its gradient. A warmup over $2/(1-\\beta_2)$ steps (Ma & Yarats, "
            "[arXiv 1910.04209](https://arxiv.org/abs/1910.04209)) waits until the mean has enough numbers; `radam` computes when."
        ),
    ])  # fmt: skip
    return (difference,)


@app.cell
def _(mo, np, settled, table):
    _t, _rows = np.arange(1, 100_001), []
    for _b1, _b2 in ((0.9, 0.999), (0.9, 0.9999), (0.9, 0.99), (0.9, 0.9), (0.0, 0.999), (0.5, 0.75)):
        _factor = (1 - _b1**_t) / np.sqrt(1 - _b2**_t)
        _worst = int(np.abs(np.log(_factor)).argmax())
        _rows.append(
            [_b1, _b2, f"{_factor[0]:.3g}", f"{_factor[_worst]:.3g} at {_worst + 1}", f"{settled(_factor):,}"]
        )
    mo.vstack([
        mo.md(r"""
    ## 9. When it does not matter

    The factor of section 6 needs nothing but the two memories. What the table says in words:

    * **After a few memories.** What is left of the error is about $\frac12\beta_2^t$: a training of 100,000 steps
      with $\beta_2 = 0.999$ has it in its first 4 %. In a fine-tuning of 300 steps it is all there is.
    * **With a short $\beta_2$**, such as 0.9, both errors go within some forty steps. But see the signs:
      with equal memories, the first steps are too *short*, and do no harm.
    * **With a warmup** of your own that is as long as the memory of $v$, long first steps are multiplied by almost 0.
    * **Not**: "my learning rate is small". The factor does not depend on it.
    """),
        table(["β₁", "β₂", "first step ×", "worst × at step", "within 1 % from step"], *_rows),
    ])  # fmt: skip
    return


@app.cell
def _(mo):
    eps = mo.ui.slider(-12.0, -1.0, 0.5, value=-8.0, label=r"$\log_{10} \varepsilon$", show_value=True)
    mo.vstack([
        mo.md(r"""
    ## 10. Where ε stands

    $\varepsilon$ is where Adam stops being blind to the size of a gradient: a weight whose gradients are far
    smaller does not move. How small that is depends on where a library puts it. Outside the root, beside
    $\sqrt{\hat v}$, the turn is at $|g| = \varepsilon$. Beside the *uncorrected* root (Keras, scikit-learn) it
    is at $\varepsilon / \sqrt{1-\beta_2^t}$. Inside the root, $\sqrt{v + \varepsilon}$, it is at
    $\sqrt\varepsilon$: 1e-8 inside is 1e-4 outside.
    """),
        eps,
    ])  # fmt: skip
    return (eps,)


@app.cell
def _(BLUE, FAINT, GREEN, RED, betas, eps, beside, mo, np, panels, rules):
    _e, _g = 10.0**eps.value, np.logspace(-14, 0, 200)
    _zero = np.zeros_like(_g)
    _rules = {
        "outside: √v̂ + ε (adam)": (rules.adam, betas, BLUE, "-"),
        "outside, uncorrected: √v + ε (adam_epsilon_hat)": (rules.adam_epsilon_hat, betas, RED, "--"),
        "inside: √(v + ε) (rmsprop_eps_inside, α = 0)": (
            rules.rmsprop_eps_inside,
            {"alpha": 0.0},
            GREEN,
            "-.",
        ),
    }
    _figures, (_ax,) = panels(5.6, height=3.4)
    _half = []
    for _name, (_rule, _numbers, _color, _dashes) in _rules.items():
        _length = -_rule(_zero, _g, *[_zero] * len(_rule.state), t=1, lr=1.0, eps=_e, **_numbers)[0]
        _ax.plot(_g, _length, _dashes, color=_color, label=_name)
        _half.append(f"{_g[np.abs(_length - 0.5).argmin()]:.0e}")
    _ax.axvline(_e, color=FAINT, lw=1, zorder=0)
    _ax.set(xscale="log", xlabel="size of the gradient", title="length of the first step, as a share of α")
    _ax.legend(
        frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.22)
    )  # the curves go anywhere
    mo.vstack(
        [beside(_figures), mo.md(f"Half a step at a gradient of {_half[0]}, {_half[1]} and {_half[2]}.")]
    )
    return


@app.cell
def _(mo, surfaces):
    surface = mo.ui.dropdown(sorted(surfaces), value="valley", label="landscape")
    rate = mo.ui.slider(
        -2.0, 1.0, 0.1, value=0.0, label=r"$\log_{10}$ of the factor on every $\alpha$", show_value=True
    )
    turn = mo.ui.slider(0, 45, 5, value=20, label="the valley's angle", show_value=True)
    mo.vstack([
        mo.md(r"""
    ## 11. All four together

    Each with a fair $\alpha$: gradient descent and momentum one that suits the steep direction, RMSprop and Adam
    a step that suits the picture; the memories are those of section 6. In the valley, which is 100 times as steep across as along, something
    odd happens: **Adam comes down as slowly as gradient descent**. Turn the valley, and see why.
    """),
        mo.hstack([surface, rate, turn], justify="start", wrap=True),
    ])  # fmt: skip
    return rate, surface, turn


@app.cell
def _(
    BLUE, GREEN, INK, RED, b1, betas, beside, contours, mo, np, panels, partial, quadratic, rate, replace, rotated, rules,
    surface, surfaces, table, turn, walk,
):  # fmt: skip
    def _turned(angle):
        """The valley, at another angle, from the same place in it."""
        old = surfaces["valley"]
        by = np.radians(angle - 20)
        spin = np.array([[np.cos(by), -np.sin(by)], [np.sin(by), np.cos(by)]])
        return replace(
            old, height=partial(quadratic, rotated(0.01, 1, angle)), start=tuple((spin @ old.start).tolist())
        )

    def _ways(place):
        factor = 10.0**rate.value
        return {
            "gradient descent": walk(place, rules.sgd, factor * place.rate),
            "momentum": walk(place, rules.sgd_momentum, factor * place.rate, momentum=b1.value),
            "RMSprop": walk(place, rules.rmsprop, factor * place.stride, alpha=betas["beta2"]),
            "Adam": walk(place, rules.adam, factor * place.stride, **betas),
        }

    _valley = surface.value == "valley"
    _place = _turned(turn.value) if _valley else surfaces[surface.value]
    ways = _ways(_place)
    _figures, (_left, _right) = panels(5.0, 4.2, height=3.8)
    contours(_left, _place)
    for (_name, _way), _color, _dashes in zip(
        ways.items(), (BLUE, RED, GREEN, INK), ("-", "--", "-.", "-"), strict=True
    ):
        _left.plot(*_way.T, _dashes, color=_color, lw=1.6, label=_name)
        _left.plot(*_way[-1], "o", color=_color, ms=6, mec="white")
        _right.plot(_place.heights(_way) - (_place.floor or 0.0), _dashes, color=_color, lw=1.6)
    _left.set_title(surfaces[surface.value].about, fontsize=10)
    _left.legend(frameon=False, fontsize=8, loc="upper right")
    _right.set(xlabel="step", title="height above the lowest point" if _place.minima else "height")
    if _place.minima:
        _right.set_yscale("log")
    _said, _rows = mo.md(""), [["", "", ""]]
    if _valley:
        _rows = []
        for _angle in (0, 20, 45):
            _there, _stride = _turned(_angle), 10.0**rate.value * _place.stride
            _ends = [
                walk(_there, rules.sgd, 10.0**rate.value * _place.rate),
                walk(_there, rules.adam, _stride, **betas),
                walk(_there, rules.adam, _stride, **betas | {"beta2": 0.9}),
            ]
            _rows.append([f"{_angle}°", *(f"{_there.heights(way[-1:])[0]:.1e}" for way in _ends)])
        _said = mo.vstack([
            mo.md(
                "Adam scales every *coordinate* on its own. At 0° the coordinates are the valley's own directions: "
                "each is divided by its own size, and the flat one is no slower than the steep one. Turned, both "
                "coordinates see the walls. The walls' size stays in both $v$ for $1/(1-\\beta_2)$ steps, and all "
                "that time Adam is gradient descent with another $\\alpha$. With a short memory it forgets the walls "
                f"sooner. Heights after {_place.steps} steps:"
            ),
            table(["angle", "gradient descent", f"Adam, β₂ = {betas['beta2']:.5g}", "Adam, β₂ = 0.9"], *_rows),
        ])  # fmt: skip
    mo.vstack([beside(_figures), _said])
    return (ways,)


@app.cell
def _(mo):
    mo.md(r"""
    ## What to try

    * Section 6: which $\beta_1$ makes the first step right without a correction? Solve
      $1 - \beta_1 = \sqrt{1-\beta_2}$ first, then look at step 10.
    * Section 7: take rosenbrock, then raise $\beta_2$ from 0.9 to 0.9999. Which path moves, and which does not?
    * Section 11: with momentum, turn the valley. Why does nothing change?
    * `microgradx bias` runs sections 5 and 6 in a terminal; `microgradx adam-paper` trains networks with and without
      the correction, as figure 4 of Adam's paper; `microgradx optimizers adam --convention torch` says how other
      libraries mean each number; `microgradx race --out race.html` makes a page like section 11 to give away.

    Next: `lecture_3_your_own.py`, a rule, an activation and an operation of your own.
    """)
    return


if __name__ == "__main__":
    app.run()
