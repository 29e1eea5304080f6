"""Lecture 5: train a network on handwritten digits, look at it, understand it. Open it with: marimo edit FILE"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Train, look, understand")


@app.cell
def _():
    import io

    import marimo as mo
    import numpy as np
    from matplotlib.figure import Figure

    import microgradx as mg
    from microgradx import data, nn, optim, study
    from microgradx.training import evaluate
    from microgradx.training.figures import confusion, curves

    def shown(draw, width=None):
        """What `draw(file)` draws, on this page."""
        file = io.BytesIO()
        draw(file)
        return mo.image(file.getvalue(), width=width)

    return Figure, confusion, curves, data, evaluate, mg, mo, nn, np, optim, shown, study


@app.cell
def _(mo):
    mo.md(r"""
    # Train, look, understand

    A network that answers correctly has not explained itself. This lecture follows one from the first look at
    its data to its last mistake, and asks at each step the question that a curve alone does not answer: what
    has it learned, from what, and what will fool it?

    ## 1. Look at the data first

    1,797 digits by 13 writers, scanned as 8 by 8 pixels. Choose where to look. Some of them you will
    not read with certainty yourself; no network should be asked to.
    """)
    return


@app.cell
def _(data, mo):
    train, test = data.digits()
    (x, y), (x_test, y_test) = train, test
    first = mo.ui.slider(0, len(x) - 40, 20, value=0, label="first digit", show_value=True)
    first
    return first, test, train, x, x_test, y, y_test


@app.cell
def _(Figure, first, x, y):
    _figure = Figure(figsize=(9, 3.1), layout="constrained")
    for _ax, _k in zip(_figure.subplots(4, 10).ravel(), range(first.value, first.value + 40), strict=True):
        _ax.imshow(x[_k].reshape(8, 8), cmap="Greys")
        _ax.text(-0.3, 0.9, y[_k], fontsize=8, color="#D55E00")
        _ax.axis("off")
    _figure
    return


@app.cell
def _(mo):
    mo.md(r"""
    ## 2. A learning rate from the data

    The rate is the one number that must be about right. Instead of guessing, raise it at every step, from far
    too small to far too large, and watch the loss: it sleeps, falls, and explodes. A good rate lies where it
    falls, well before the end (Smith, arXiv 1506.01186).
    """)
    return


@app.cell
def _(mo):
    hidden = mo.ui.slider(4, 128, 4, value=32, label="hidden units", show_value=True)
    kind = mo.ui.dropdown(["SGD", "RMSprop", "Adam"], value="Adam", label="optimizer")
    mo.hstack([hidden, kind], justify="start")
    return hidden, kind


@app.cell
def _(hidden, kind, mg, mo, nn, optim, shown, study, train):
    def network():
        """A fresh network, and its optimizer for a learning rate."""
        mg.seed(0)
        model = nn.MLP([64, hidden.value, 10], activation="relu")
        return model, lambda lr: getattr(optim, kind.value)(model.named_parameters(), lr=lr)

    _model, _optimizer = network()
    rates = study.find_lr(_model, _optimizer(1e-3), train, batch_size=32)
    mo.vstack([shown(rates.plot, width=560), mo.md(f"{rates}.")])
    return network, rates


@app.cell
def _(mo):
    mo.md(r"""
    ## 3. Train

    A fifth of the digits is held out: the network never learns from them. Both curves fall together while it
    learns what digits have in common. Where they part, it begins to learn *these* digits by heart.
    """)
    return


@app.cell
def _(mo, np, rates):
    rate = mo.ui.slider(
        -5.0,
        1.0,
        0.1,
        value=round(float(np.log10(rates.suggestion)), 1),
        label=r"$\log_{10}$ of the learning rate",
        show_value=True,
    )
    epochs = mo.ui.slider(1, 60, 1, value=20, label="epochs", show_value=True)
    mo.hstack([rate, epochs], justify="start")
    return epochs, rate


@app.cell
def _(curves, epochs, mg, network, optim, rate, shown, study, test, train):
    model, _optimizer = network()
    _optimizer = _optimizer(10.0**rate.value)
    histograms = study.Histograms(model)
    with optim.ledger(_optimizer, watch=500) as log:
        history = mg.fit(
            model,
            _optimizer,
            train,
            test,
            epochs=epochs.value,
            batch_size=32,
            callbacks=[histograms],
            progress=False,
        )
    shown(lambda file: curves(history, file), width=860)
    return histograms, history, log, model


@app.cell
def _(mo):
    mo.md(r"""
    ## 4. What do the weights do meanwhile?

    Each column of a picture is an epoch, dark where many weights are. First layers spread, as some pixels come
    to matter; biases wander. Gradients shrink towards zero as fewer digits are wrong. When all weights stay
    where they were, the rate is too small; when gradients die in the first epochs, it was too large.
    """)
    return


@app.cell
def _(histograms, shown):
    shown(histograms.plot, width=860)
    return


@app.cell
def _(log, mo, np):
    _account = log["0.weight"]
    _shares = np.nanmedian(np.abs(_account["ratio"]), axis=1)
    _steps = [1, len(_shares) // 10, len(_shares) // 2, len(_shares)]
    _rows = [f"| {k} | {_shares[k - 1]:.3%} |" for k in _steps]
    mo.md(
        "\n".join(
            [
                "The optimizer kept a ledger of 500 weights. How much of a first-layer weight does a step change?"
                " A rule of thumb: about a thousandth.",
                "",
                "| step | update / weight, the median |",
                "|---|---|",
                *_rows,
            ]
        )
    )
    return


@app.cell
def _(mo):
    mo.md(r"""
    ## 5. What does it look for?

    A hidden unit multiplies each pixel by a weight and adds up. So its weights, laid out as pixels, are a
    picture of what it likes to see: red where ink speaks for it, blue where against.
    """)
    return


@app.cell
def _(mg, mo, model, shown, study, x):
    with mg.no_grad():
        _hidden = mg.relu(mg.tensor(x) @ model[0].weight + model[0].bias).numpy()
    dead = int((_hidden == 0).all(axis=0).sum())
    mo.vstack(
        [
            shown(lambda file: study.filters(model, (8, 8), file, most=32), width=700),
            mo.md(
                f"**{dead}** of the {_hidden.shape[1]} units are dead: they are zero for every digit, so no gradient "
                "reaches them and no weight of theirs will ever move again. Pale pictures are what they look like. "
                "How many are there at a tenth of the learning rate?"
            ),
        ]
    )
    return (dead,)


@app.cell
def _(mo):
    mo.md(r"""
    ## 6. Where is it wrong?

    The table counts, for each true digit, what the network took it for. Below are the digits of which it was
    surest, and wrong. Would you have known better?
    """)
    return


@app.cell
def _(confusion, evaluate, mo, model, nn, shown, study, x_test, y_test):
    found = evaluate(model, x_test, y_test, nn.cross_entropy)
    mo.vstack(
        [
            shown(lambda file: confusion(found.confusion, file), width=480),
            shown(lambda file: study.mistakes(model, x_test, y_test, (8, 8), file, most=16), width=860),
        ]
    )
    return (found,)


@app.cell
def _(mo):
    mo.md(r"""
    ## 7. Why this answer?

    The gradient trains the weights, but nothing forbids to ask for it with respect to the *input*: which pixel,
    if it had more ink, would make the answer surer? That is one backward pass, and a map of what the network
    looks at.

    The same map shows how to fool it. Change every pixel by a tiny step *against* the right answer (Goodfellow
    et al., arXiv 1412.6572). Choose a digit and a step: how little is enough?
    """)
    return


@app.cell
def _(mo, x_test):
    which = mo.ui.slider(0, len(x_test) - 1, 1, value=3, label="digit", show_value=True)
    push = mo.ui.slider(0.0, 0.5, 0.01, value=0.2, label="step", show_value=True)
    mo.hstack([which, push], justify="start")
    return push, which


@app.cell
def _(Figure, mg, model, nn, np, push, which, x_test, y_test):
    _image = mg.tensor(x_test[which.value : which.value + 1], requires_grad=True)
    nn.cross_entropy(model(_image), y_test[which.value : which.value + 1]).backward()
    pull = _image.grad.numpy().reshape(8, 8)  # more ink here raises the loss
    _changed = np.clip(_image.numpy() + push.value * np.sign(_image.grad.numpy()), 0, 1)

    def chances(image):
        with mg.no_grad():
            return mg.softmax(model(mg.Tensor(image.astype(np.float32))), 1).numpy()[0]

    before, after = chances(_image.numpy()), chances(_changed)
    _figure = Figure(figsize=(9, 2.7), layout="constrained")
    _axes = _figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.5))
    _most = np.abs(pull).max() or 1
    _axes[0].imshow(_image.numpy().reshape(8, 8), cmap="Greys", vmin=0, vmax=1)
    _axes[0].set_title(f"a {y_test[which.value]}, taken for a {before.argmax()}", fontsize=9)
    _axes[1].imshow(-pull, cmap="RdBu_r", vmin=-_most, vmax=_most)
    _axes[1].set_title("red: ink here speaks for it", fontsize=9)
    _axes[2].imshow(_changed.reshape(8, 8), cmap="Greys", vmin=0, vmax=1)
    _axes[2].set_title(f"changed, taken for a {after.argmax()}", fontsize=9)
    for _ax in _axes[:3]:
        _ax.axis("off")
    _digits = np.arange(10)
    _axes[3].bar(_digits - 0.2, before, 0.4, color="#0072B2", label="before")
    _axes[3].bar(_digits + 0.2, after, 0.4, color="#D55E00", label="after")
    _axes[3].set(xticks=_digits, ylim=(0, 1.02))
    _axes[3].set_title("its answer", fontsize=9)
    _axes[3].legend(frameon=False, fontsize=8)
    _axes[3].spines[["top", "right"]].set_visible(False)
    _figure
    return after, before, chances, pull


@app.cell
def _(mg, mo, model, nn, np, x_test, y_test):
    def held(step):
        """The accuracy on held-out digits that were all changed by so much."""
        images = mg.tensor(x_test, requires_grad=True)
        nn.cross_entropy(model(images), y_test).backward()
        moved = np.clip(x_test + step * np.sign(images.grad.numpy()), 0, 1)
        with mg.no_grad():
            return float((model(mg.Tensor(moved)).numpy().argmax(1) == y_test).mean())

    accuracies = {step: held(step) for step in (0.0, 0.05, 0.1, 0.2)}
    _rows = [f"| {step:g} | {share:.1%} |" for step, share in accuracies.items()]
    mo.md(
        "\n".join(
            [
                "All held-out digits, each changed against its answer:",
                "",
                "| step | still right |",
                "|---|---|",
                *_rows,
            ]
        )
    )
    return (accuracies,)


@app.cell
def _(mo):
    mo.md(r"""
    ## What to take along

    * Look before you train: at the data, and at what a learning rate does to the loss.
    * Look while you train: curves say *that* it learns, histograms and the ledger *how*.
    * Look afterwards: at weights, at mistakes, at gradients with respect to the input. A network of 97 % can be
      fooled by changes that you hardly see.

    All pictures of this page also come from the command line: `microgradx find-lr`, `microgradx train` and
    `microgradx look`. With `--data fashion_mnist` you can ask the same questions of coats and boots.
    """)
    return


if __name__ == "__main__":
    app.run()
