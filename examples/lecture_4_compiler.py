"""Lecture 4: what the compiler does to a training step, pass by pass. Open it with: marimo edit FILE"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="What the compiler does to a step")


@app.cell
def _():
    import inspect
    import re
    import statistics
    import textwrap
    import time

    import marimo as mo
    import numpy as np
    from matplotlib.figure import Figure

    import microgradx as mg
    from microgradx import data, nn, optim
    from microgradx.codegen.passes.fuse import sink
    from microgradx.codegen.passes.lower import lower
    from microgradx.codegen.passes.schedule import schedule
    from microgradx.codegen.passes.simplify import drop, reduce, share
    from microgradx.compiler.capture.capture import program_of

    return (
        Figure, data, drop, inspect, lower, mg, mo, nn, np, optim, program_of, re, reduce, schedule, share, sink,
        statistics, textwrap, time,
    )  # fmt: skip


@app.cell
def _(mo):
    mo.md(r"""
    # What the compiler does to a step

    A training step is a few lines of Python that run a hundred thousand times. Each line calls a few
    operations, each operation allocates an array, walks through memory once, and goes back to Python to ask
    what is next. For a small network the asking takes longer than the arithmetic.

    `mg.jit` asks once. It writes down what the step does, and turns that list into one file of plain loops.
    On the way the list passes through five hands, and we look at what each of them leaves. Nothing here is a
    drawing of a compiler: every listing on this page is made by the compiler itself, for this network:
    """)
    return


@app.cell
def _(mo):
    hidden = mo.ui.slider(4, 128, 4, value=16, label="hidden", show_value=True)
    rows = mo.ui.slider(8, 128, 8, value=32, label="batch", show_value=True)
    activation = mo.ui.dropdown(["relu", "tanh", "gelu", "sigmoid"], value="tanh", label="activation")
    rule = mo.ui.dropdown(["SGD", "RMSprop", "Adam"], value="SGD", label="optimizer")
    mo.hstack([hidden, rows, activation, rule], justify="start", wrap=True)
    return activation, hidden, rows, rule


@app.cell
def _(activation, data, hidden, mg, nn, optim, rows, rule):
    (x_all, y_all), _ = data.digits()
    mg.seed(0)
    model = nn.MLP([64, hidden.value, 10], activation=activation.value)
    optimizer = getattr(optim, rule.value)(model.parameters(), lr=0.01)
    x, y = x_all[: rows.value], y_all[: rows.value]

    sharpness = 1.0

    def step(x, y):
        optimizer.zero_grad()
        logits = sharpness * model(x)
        error = mg.softmax(logits, axis=1) - mg.one_hot(y, 10)
        loss = (error * error).sum(axis=1).mean()
        accuracy = (logits.argmax(axis=1) == y).mean()
        loss.backward()
        optimizer.step()
        return loss

    return model, optimizer, step, x, x_all, y, y_all


@app.cell
def _(inspect, mo, step, textwrap):
    written = textwrap.dedent(inspect.getsource(step))
    mo.md(f"```python\n{written}```")
    return (written,)


@app.cell
def _(mo):
    mo.md(r"""
    ## 1. Capture

    The step runs once, line by line, on real data, while a recorder listens to every operation, the backward
    ones included. What comes out is a list: each line one operation, with the shapes and dtypes of what it
    makes, and the line of your code that asked for it. Variables of your function keep their names.

    Afterwards everything is put back: weights, step counts and random numbers are as if nothing had happened.
    """)
    return


@app.cell
def _(mo, program_of, step, x, y):
    program = program_of(step, x, y)
    captured = str(program)
    mo.accordion(
        {
            f"The captured program, {len(program.instructions)} operations": mo.md(
                f"```python\n{captured}\n```"
            )
        }
    )
    return captured, program


@app.cell
def _(mo):
    mo.md(r"""
    ## 2. Simplify

    The list does what was said, to the letter: it multiplies by a sharpness of 1, it computes an accuracy that
    nobody reads, and both factors of `error * error` ask for the same product on the way back. Three passes,
    each of a dozen lines, and a checker behind each:

    * *reduce*: $x \cdot 1$ is $x$;
    * *share*: the same operation on the same inputs is done once;
    * *drop*: what is not needed for the result, or for anything that stays, is left out.
    """)
    return


@app.cell
def _(drop, mo, program, reduce, share):
    left_out = {}
    _table = ["| pass | leaves out | operations left |", "|---|---|---|"]
    for _change in (reduce, share, drop):
        _before = {instruction: str(instruction.op.name) for instruction in program.instructions}
        _change(program)
        _gone = [name for one, name in _before.items() if one not in program.instructions]
        left_out[_change.__name__] = _gone
        _table.append(f"| *{_change.__name__}* | {', '.join(_gone) or '-'} | {len(program.instructions)} |")
    mo.vstack(
        [
            mo.md("\n".join(_table)),
            mo.accordion({"The program that is left": mo.md(f"```python\n{program}\n```")}),
        ]
    )
    return (left_out,)


@app.cell
def _(mo):
    mo.md(r"""
    ## 3. Lower

    An operation on arrays is loops over elements. A product becomes a call of the processor's BLAS, an update
    rule becomes the *sweep* that an optimizer runs, all else becomes a *nest*: a domain, and a statement for
    each of its elements. Transposing, reshaping and broadcasting become nothing at all: another way to count
    through the same memory.

    ## 4. Fuse and schedule

    A nest that has one reader moves into the reader's loops, so that its result lives in a register and never
    in memory. Nests over the same rows become one loop: a row goes through all of them while it is in the
    cache. What is left is put into *stages*. Within a stage threads share the rows; between stages they wait
    for each other, and a step too small to be worth the waiting runs on one.
    """)
    return


@app.cell
def _(lower, mo, program, schedule, sink):
    _items = lower(program)
    _loops = len(_items)
    plan = schedule(sink(_items))
    mo.vstack(
        [
            mo.md(
                f"{len(program.instructions)} operations → {_loops} loops → {len(plan.items)} loops in {len(plan.stages)} stages:"
            ),
            mo.plain_text(str(plan).replace(": , ", ": ")),
        ]
    )
    return (plan,)


@app.cell
def _(mo):
    mo.md(r"""
    ## 5. Memory

    Values between stages need a place, but not all at once. Each is alive from the item that makes it to the
    last that reads it, and two that are never alive together may share a place. The picture shows the step
    from left to right, and the step's own memory from bottom to top. Turn the knobs above: when is the forward
    pass what takes the room, and when the gradients?
    """)
    return


@app.cell
def _(Figure, mo, plan, program):
    _lives = {}
    for _time, _item in enumerate(plan.items):
        for _view, _ in [*_item.reads(), *_item.writes()]:
            if _view.buffer in plan.stored and _view.buffer.source is None:
                _lives.setdefault(_view.buffer, [_time, _time])[1] = _time
    _figure = Figure(figsize=(9, 3.9), layout="constrained")
    _ax = _figure.subplots()
    for _buffer, (_start, _stop) in _lives.items():
        _back = _buffer.name.startswith("g_")
        _ax.broken_barh(
            [(_start, _stop + 1 - _start)],
            (_buffer.place / 1024, _buffer.bytes / 1024),
            facecolor="#f3c9ab" if _back else "#b9d6ea",
            edgecolor="#D55E00" if _back else "#0072B2",
        )
        if _buffer.bytes > plan.arena / 16 and len(_buffer.name) < 10 * (_stop + 1 - _start):
            _ax.text(
                (_start + _stop + 1) / 2, (_buffer.place + _buffer.bytes / 2) / 1024, _buffer.name,
                ha="center", va="center", fontsize=7.5, color="#222222",
            )  # fmt: skip
    _ax.set(
        xlim=(0, 1 + max(stop for _, stop in _lives.values())),
        ylim=(0, plan.arena / 1024),
        xlabel="loops, in the order in which they run",
        ylabel="KiB",
    )
    _ax.spines[["top", "right"]].set_visible(False)
    _ax.set_title("values between loops: forward blue, gradients orange", loc="left", fontsize=10)
    every = sum(value.size * value.dtype.itemsize for i in program.instructions for value in i.outputs)
    mo.vstack(
        [
            _figure,
            mo.md(
                f"Line by line, the step fills **{every / 1024:,.0f} KiB** with results. Compiled, it works in "
                f"**{plan.arena / 1024:,.1f} KiB**; new weights and gradients go to where they belong at once."
            ),
        ]
    )
    return (every,)


@app.cell
def _(mo):
    mo.md(r"""
    ## 6. Emit

    Loops become text, the text becomes a Python file, and Numba makes machine code of it. The file is meant
    to be read. Choose a line of your step, and see what became of it: each has pieces on the way forward and
    pieces on the way back. Which lines have left nothing at all, and why?
    """)
    return


@app.cell
def _(mg, mo, re, step, textwrap, written, x, y):
    compiled = mg.jit(step)
    compiled(x, y)
    source = compiled.source

    def emitted(line):
        """The lines of the file that come from one line of the step."""
        found, ours = [], False
        for text in source.splitlines():
            if said := re.match(r"\s*# \S+:\d+  (.*)", text):
                ours = said[1] == line
                if ours and found:
                    found.append("")
            elif re.match("def |@|$", text):
                ours = False
            if ours:
                found.append(text)
        return textwrap.dedent("\n".join(found))

    _lines = [line.strip() for line in written.splitlines()]
    chosen = mo.ui.radio(
        [line for line in _lines if emitted(line)], value=_lines[2], label="a line of the step"
    )
    return chosen, compiled, emitted, source


@app.cell
def _(chosen, emitted, mo, source):
    _beside = mo.md(f"```python\n{emitted(chosen.value)}\n```").style(
        {"overflow-x": "auto", "font-size": "0.85em", "min-width": "0"}
    )
    mo.vstack(
        [
            mo.hstack([chosen, _beside], widths=[2, 5], align="start"),
            mo.accordion({"The whole file": mo.md(f"```python\n{source}\n```")}),
        ]
    )
    return


@app.cell
def _(mo):
    mo.md(r"""
    The same stages become kernels of a GPU by another writer, from the same statements. No GPU is needed to
    look at them:
    """)
    return


@app.cell
def _(compiled, mo, x, y):
    from microgradx.compiler.report.kernel_list import of_step

    kernels = list(of_step(compiled, x, y, devices=("cuda",)))
    mo.accordion(
        {f"The file for a GPU: {len(kernels)} kernel(s)": mo.md(f"```python\n{kernels[0].file}\n```")}
    )
    return (kernels,)


@app.cell
def _(mo):
    mo.md(r"""
    ## 7. Was it worth it?

    The same step in three ways, measured on the machine that runs this page: line by line; as one compiled
    call; and as a *scan*, in which Python says "all batches, please" and is not asked again until the data
    ends.
    """)
    return


@app.cell
def _(Figure, compiled, mg, mo, rows, statistics, step, time, x, x_all, y, y_all):
    def seconds(run, steps=1, repeats=15):
        """The median time of a step."""
        run()
        times = []
        for _ in range(repeats):
            _start = time.perf_counter()
            run()
            times.append((time.perf_counter() - _start) / steps)
        return statistics.median(times)

    _steps = len(x_all) // rows.value
    _there = mg.tensor(x)
    ways = {
        "line by line": seconds(lambda: step(_there, y)),
        "a compiled call": seconds(lambda: compiled(x, y)),
        "in a scan": seconds(lambda: compiled.scan(x_all, y_all, batch_size=rows.value), _steps),
    }
    _figure = Figure(figsize=(7.5, 1.9), layout="constrained")
    _ax = _figure.subplots()
    _bars = _ax.barh(list(ways), [1e6 * t for t in ways.values()], color=["#8a8a8a", "#56B4E9", "#0072B2"])
    _ax.bar_label(_bars, [f"{1e6 * t:,.0f} µs" for t in ways.values()], padding=4, fontsize=9)
    _ax.invert_yaxis()
    _ax.set(xlabel="microseconds per step", xlim=(0, 1.15e6 * max(ways.values())))
    _ax.spines[["top", "right"]].set_visible(False)
    _times = ways["line by line"] / ways["in a scan"]
    mo.vstack(
        [
            _figure,
            mo.md(
                f"In a scan the step is **{_times:.1f} times** as fast here. For what size of network is it no use?"
            ),
        ]
    )
    return (ways,)


@app.cell
def _(mo):
    mo.md(r"""
    And is it still the same step? Two networks begin with the same weights; one takes fifty steps line by
    line, the other compiled.
    """)
    return


@app.cell
def _(activation, hidden, mg, mo, nn, np, optim, rows, rule, x_all, y_all):
    def trained(way):
        mg.seed(3)
        model = nn.MLP([64, hidden.value, 10], activation=activation.value)
        optimizer = getattr(optim, rule.value)(model.parameters(), lr=0.01)

        def step(x, y):
            optimizer.zero_grad()
            loss = nn.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        step, size = way(step), rows.value
        for k in range(50):
            start = k * size % (len(x_all) - size)
            step(mg.tensor(x_all[start : start + size]), y_all[start : start + size])
        return np.concatenate([p.numpy().ravel() for p in model.parameters()])

    difference = float(np.abs(trained(lambda step: step) - trained(mg.jit)).max())
    mo.md(
        f"The largest difference of any two weights is **{difference:.1e}**: sums in another order, nothing more."
    )
    return (difference,)


@app.cell
def _(mo):
    mo.md(r"""
    ## What to take along

    * A step always does the same, so it can be written down once.
    * Most of the gain comes from what is *not* done: no questions to Python, no array that is written only to
      be read once.
    * Each pass is small, and its result can be printed: `step.program`, `step.stages`, `step.source`, and
      `print(step.report())` for every kernel against what the machine can do.

    Next: `lecture_5_digits.py`, a network from the first look at the data to the last mistake.
    """)
    return


if __name__ == "__main__":
    app.run()
