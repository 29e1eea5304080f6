"""`microgradx train`: from options to a run folder."""

import time
from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import count
from pathlib import Path
from typing import TypedDict, Unpack

import click
from click.core import ParameterSource

from microgradx.cli.options import OPTIMIZER, PLAN, SEED, SHARE, More, hyperparameters, name_of, option, typed
from microgradx.cli.recipe import Recipe, activations, losses, quality, restore
from microgradx.cli.terminal import tell
from microgradx.data.files import FILES
from microgradx.data.splits import Split, datasets
from microgradx.errors import ArgumentError
from microgradx.optim import optimizers
from microgradx.study import Histograms
from microgradx.training import Cluster, History, Run, fit, tensorboard
from microgradx.training.loop import Callback
from microgradx.training.mpi import cluster_of
from microgradx.training.stopping import Terminated

CHANGEABLE = {
    "resume", "epochs", "patience", "threads", "save_every", "histograms", "tensorboard", "quiet",
}  # fmt: skip
"""What may be said again when a run is resumed: everything else is as it was. No bit depends on threads."""

START = Recipe()  # the defaults: what `microgradx train` does without options


class Train(click.Command):
    """A command whose last options are the hyperparameters of the optimizer that was chosen."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Look for `--optimizer` first: it decides which options there are."""
        for word, value in zip(args, [*args[1:], ""], strict=False):
            name, _, joined = word.partition("=")
            if name == "--optimizer" and (not ctx.resilient_parsing or (joined or value) in optimizers):
                ctx.meta["optimizer"] = OPTIMIZER.convert(joined or value, None, ctx)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            flag, chosen = error.option_name, ctx.meta.get("optimizer", START.optimizer)
            name, own = flag[2:].replace("-", "_"), (param.opts[0] for param in hyperparameters(chosen))
            if others := [other for other, made in optimizers.items() if name in made.options]:
                advice = f"{chosen} has {', '.join(own)}; {flag} is an option of {', '.join(others)}"
                raise click.UsageError(f"No such option {flag!r} of {chosen}: {advice}.", ctx) from None
            raise

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The options of this command and those of the optimizer."""
        return [*super().get_params(ctx), *hyperparameters(ctx.meta.get("optimizer", START.optimizer))]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Two lists, so that one sees what belongs to the optimizer."""
        optimizer = ctx.meta.get("optimizer", START.optimizer)
        sections: dict[str, Sequence[click.Parameter]] = {
            "Options": super().get_params(ctx),
            f"Hyperparameters of {optimizer}": hyperparameters(optimizer),
        }
        for title, params in sections.items():
            with formatter.section(title):
                rows = [row for param in params if (row := param.get_help_record(ctx))]
                formatter.write_dl(rows, col_max=24)


def setting(flag: str, metavar: str | None, text: str, **more: Unpack[More]) -> click.Option:
    """An option whose default is the recipe's; the names that it may take stand in the help."""
    default = getattr(START, flag[2:].partition("/")[0].replace("-", "_"), None)
    if names := ", ".join(getattr(more.get("type"), "choices", tuple)()):
        text += f" {names}."
    return option(flag, metavar, text, default, **more)


FILE_KINDS = (
    "A .csv, .tsv or .npy (label last), .npz (x and y), many as 'shards/*.npz' or in a folder, folder of IDX "
    "files or of pictures by class, or"
)
OPTIONS = [
    setting("--data", "NAME|FILE", FILE_KINDS, type=name_of("data set", lambda: datasets, FILES)),
    setting("--model", "N-N-N", "Sizes of the layers.  [default: one hidden layer of 128]"),
    setting("--activation", "NAME", "Between the layers:", type=name_of("activation", activations)),
    setting("--dropout", "X", "Share of hidden values to leave out.", type=SHARE),
    setting("--bias/--no-bias", None, "Whether layers add a bias; Muon trains only those that do not."),
    setting("--loss", "NAME", "Cross_entropy, mse_loss for a regression; or", type=name_of("loss", losses)),
    setting("--optimizer", "NAME", "Its own options are listed below:", type=OPTIMIZER),
    setting(
        "--schedule",
        "NAME[:OPTION=X]",
        "Of the learning rate, as step:step_size=100:gamma=0.5 (in steps):",
        type=PLAN,
    ),
    setting("--epochs", "N", "Passes over the training data."),
    setting("--batch-size", "N", "Rows per step."),
    setting("--clip-norm", "X", "Bound of the norm of the gradients."),
    setting("--drop-last", None, "Leave out a last batch that is shorter, such as one row alone."),
    setting(
        "--skip-nonfinite", None, "Leave out steps that give NaN or infinity, instead of ending the run."
    ),
    setting("--patience", "N", "Stop after so many epochs without a smaller validation loss."),
    setting("--standardize", None, "Give every feature mean 0 and deviation 1."),
    setting(
        "--scale-targets/--raw-targets",
        None,
        "Learn numbers at mean 0 and deviation 1; loss and predictions are in their units.",
    ),
    setting("--seed", "N", "Of the first weights, the shuffle and dropout.", type=SEED),
    setting("--device", "cpu|cuda", "Where to compute."),
    setting("--threads", "N", "Cores to use.  [default: all]"),
    setting(
        "--reproducible", None, "With mpiexec: the same bits on 1, 2, 4 or 8 processes; batches in 8 parts."
    ),
    setting("--eager", None, "Run every operation on its own instead of compiled steps."),
    setting("--out", "FOLDER", "The run folder.  [default: runs/DATA-OPTIMIZER-N]"),
    setting("--resume", "RUN", "Go on with a run, to the same bits; --epochs may be more."),
    option(
        "--save-every", "X", "Seconds between checkpoints inside an epoch; there is one after each.", 30.0
    ),
    setting("--histograms", None, "Draw how weights and gradients lie over time, as histograms.png."),
    setting("--tensorboard", None, "Write the curves for TensorBoard too."),
    setting("--quiet", None, "No progress bar, and no line per epoch."),
]


class Given(TypedDict):
    """What is said of a training beside its recipe."""

    out: Path | None
    resume: Path | None
    save_every: float
    histograms: bool
    tensorboard: bool
    quiet: bool


@click.command(cls=Train, params=OPTIONS)
@click.pass_context
def train(ctx: click.Context, **given: Unpack[Given]) -> None:
    """Train a network and keep everything about it in a run folder.

    Without options, a network with one hidden layer learns the embedded digits, in more epochs and smaller
    batches than `mg.fit` makes by default (30 of 32 instead of 10 of 128). The held-out part of the data
    serves for validation. Ctrl-C stops after the step under way and says how to go on; so does SIGTERM. A
    second Ctrl-C stops at once.

    `mpiexec -n 4 microgradx train` shares each batch among 4 processes (pip install mpi4py mpich).
    """
    one = {f"--{name}": ctx.params[name] for name in ("out", "resume", "reproducible")}
    cluster_of().agree(lambda: one)  # what ranks tell each other from here on depends on these
    said = {name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if given["resume"]:
        run = Run(given["resume"])
        recipe = cluster_of().lead(lambda: Recipe.read(run))
        if fixed := sorted(said - CHANGEABLE):
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in fixed)
            raise ArgumentError(f"a resumed run keeps its {flags}: leave that out, or start a new run.")
        done, before = cluster_of().lead(lambda: run.epochs), recipe.epochs
        recipe = replace(
            recipe, **{name: ctx.params[name] for name in ("epochs", "patience", "threads") if name in said}
        )
        if done > recipe.epochs:
            more = f"leave it out to go on to {before}, or " if before > done else ""
            raise ArgumentError(
                f"--epochs {recipe.epochs}: {run.folder} has done {done}: {more}give more than these."
            )
        if done >= recipe.epochs:
            tell(f"{run.folder} has done {done} epochs, none is left: --epochs {done + 10} goes on.")
    else:
        recipe = chosen(ctx)
        name = f"{Path(named(recipe.data)).stem}-{recipe.optimizer}"
        run = Run(given["out"] or cluster_of().lead(lambda: free(name)))
    cluster = cluster_of(reproducible=recipe.reproducible)
    go(recipe, run, given, cluster, ctx.obj or time.perf_counter())


def chosen(ctx: click.Context) -> Recipe:
    """The recipe of a command line: what was said, and the defaults; of hyperparameters what was said."""
    given = ctx.params
    own = {f.name: given[f.name] for f in fields(Recipe) if f.name in given}
    said = ParameterSource.COMMANDLINE
    names = [param.name or "" for param in hyperparameters(given["optimizer"])]
    hyper = {name: given[name] for name in names if ctx.get_parameter_source(name) is said}
    return Recipe(**own, hyperparameters=hyper)


def go(recipe: Recipe, run: Run, given: Given, cluster: Cluster, started: float) -> None:
    """Train by the recipe and say what came out; rank 0 of a cluster speaks."""
    split, model, optimizer, schedule, loss = cluster.in_turn(recipe.make)
    hyper = "".join(f", {name} {typed(value)}" for name, value in recipe.hyperparameters.items())
    sizes = "-".join(map(str, recipe.sizes))
    many = f", {cluster.size} processes" if cluster.size > 1 else ""
    made = f"{sizes} {recipe.activation}, {recipe.optimizer}{hyper}, seed {recipe.seed}{many}"
    tell(f"{described(split, recipe.data)}\n{made}")
    leads = cluster.rank == 0
    callbacks: list[Callback] = [tensorboard(run.folder)] if given["tensorboard"] and leads else []
    if given["histograms"] and leads:
        histograms = Histograms(model, run.folder / "histograms.jsonl", bool(given["resume"]))
        callbacks.append(histograms)
    try:
        history = fit(
            model, optimizer, *split, epochs=recipe.epochs, batch_size=recipe.batch_size, loss=loss,
            schedule=schedule, clip_norm=recipe.clip_norm, patience=recipe.patience,
            drop_last=recipe.drop_last, skip_nonfinite=recipe.skip_nonfinite, out=run.folder,
            resume=bool(given["resume"]), cluster=cluster, eager=recipe.eager,
            save_every=given["save_every"], callbacks=callbacks, progress=not given["quiet"],
            config=recipe.config(split), classes=split.classes,
        )  # fmt: skip
    except (KeyboardInterrupt, Terminated) as stop:
        where = f"{stop}; " if str(stop) else ""  # nothing where a second Ctrl-C came before all was saved
        raise type(stop)(f"{where}go on with:\n  microgradx train --resume {run.folder}") from None
    if given["histograms"] and leads:
        histograms.plot(run.folder / "histograms.png")
    if not leads:
        return
    tell(*result(run, history, split, time.perf_counter() - started))


def named(data: str) -> str:
    """What data are called: by their file, or by the folder of many."""
    path = Path(data)
    return path.parent.name if "*" in path.name else path.name


def described(split: Split, name: str) -> str:
    """A data set in a line: `digits: 1,438 rows to learn from, 359 held out; 64 features, 10 classes`."""
    (x, y), (held_out, _) = split
    kind = f"{len(split.classes)} classes" if split.classes else f"targets of {y.shape[1]} numbers"
    rows = f"{len(x):,} rows to learn from, {len(held_out):,} held out"
    return f"{named(name)}: {rows}; {x.shape[1]} features, {kind}"


def result(run: Run, history: History, split: Split, seconds: float) -> tuple[str, str]:
    """What came out of a run, and what of it is to be read first."""
    best, rows = history.best, len(split.test[0])
    model = None if split.classes else restore(run, last=False)[2]
    first = quality(best.get("valid_accuracy"), best["valid_loss"], split, model)
    when = (
        f"epoch {best['epoch']} of {history.records[-1]['epoch']}, the best by loss; {seconds:.1f} s in all"
    )
    files = ", ".join(sorted(path.name for path in run.folder.iterdir()))
    return f"{first} on {rows:,} held-out rows at {when}\nin {run.folder}: {files}", first


def free(name: str, room: str = "runs") -> Path:
    """The first of runs/NAME-1, runs/NAME-2 ... that is not there yet."""
    return next(path for n in count(1) if not (path := Path(room, f"{name}-{n}")).exists())
