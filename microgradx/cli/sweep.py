"""`microgradx sweep`: many trainings with other options, and what is best."""

import json
import shlex
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from typing import TypedDict, Unpack, cast

import click

from microgradx.cli.options import option
from microgradx.cli.terminal import columns, tell
from microgradx.cli.train import OPTIONS, free
from microgradx.cli.trial import FIXED, Trial, command, data_of, known, name_of, recipe_of
from microgradx.errors import ArgumentError, CheckpointError, TrainingWarning, one_of
from microgradx.training.mpi import imported, launched
from microgradx.training.stopping import Terminated
from microgradx.training.trials.crew import few_threads
from microgradx.training.trials.grid import Axis, Config, Range, Value, combinations, size
from microgradx.training.trials.journal import damaged
from microgradx.training.trials.results import MEASURES
from microgradx.training.trials.sweep import MOST, SEARCHES, Plan, Sweep
from microgradx.training.trials.sweep import sweep as swept
from microgradx.training.trials.watch import named

GRID = "a..b:log:n, a..b:lin:n or v1,v2,v3 (v1;v2 where values have commas), of any option; may be repeated."
OWN = [
    option("--grid", "NAME=VALUES", GRID, multiple=True, type=str),
    option("--seeds", "N", "Trainings of each configuration.", 1),
    option("--processes", "N", "How many; 0: only this one.  [default: cores]", type=click.IntRange(0)),
    option("--at-once", "N", "Trials at a time in each process, in threads.", 1),
    option("--limit", "X", "Seconds for a trial; one that takes longer has failed."),
    option("--halving", "N", "Begin with few epochs; the best one in N goes on.", type=click.IntRange(2)),
    option("--search", "|".join(SEARCHES), "Let Optuna propose; ranges without n.",
           type=click.Choice(SEARCHES)),
    option("--trials", "N", "Configurations that a search proposes."),
    option("--by", "|".join(MEASURES), "What makes the best.", "loss", type=click.Choice(MEASURES)),
    option("--axes", "NAME,NAME", "Of the heat map.  [default: those that matter most]", type=str),
    option("--out", "FOLDER", "The sweep's folder.  [default: sweeps/DATA-N]"),
    option("--resume", "FOLDER", "Go on with a sweep; what has ended is not done again."),
    option("--show", "FOLDER", "Show a sweep, also one that goes on."),
    option("--many", None, f"Allow more than {MOST:,} trainings."),
    option("--json", None, "Print results for programs."),
    option("--quiet", None, "No line of progress."),
]  # fmt: skip
KEPT_OPTIONS = {"processes", "at_once", "limit", "by", "axes", "json", "quiet", "resume", "many"}
"""What may be said of a sweep that goes on."""


class Given(TypedDict):
    """What is said of a sweep: these options, as they stand above."""

    grid: tuple[str, ...]
    seeds: int
    processes: int | None
    at_once: int
    limit: float | None
    halving: int | None
    search: str | None
    trials: int | None
    by: str
    axes: str | None
    out: Path | None
    resume: Path | None
    show: Path | None
    many: bool
    json: bool
    quiet: bool


class Command(click.Command):
    """A command that hands the options of `train` through; its help lists them behind its own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Its own, then the names of the others."""
        super().format_options(ctx, formatter)
        others = [param.opts[0] for param in OPTIONS if param.name not in FIXED]
        with formatter.section("Options of `microgradx train`, and those of the optimizer"):
            indent = " " * formatter.current_indent
            formatter.write(click.wrap_text(" ".join(others), formatter.width, indent, indent) + "\n")


@click.command(
    cls=Command, params=OWN, context_settings={"ignore_unknown_options": True, "allow_extra_args": True}
)
@click.pass_context
def sweep(ctx: click.Context, **given: Unpack[Given]) -> None:
    """Train with every combination of some options, several at a time, and say which is best.

    \b
      microgradx sweep --grid lr=1e-4..1e-1:log:8 --grid optimizer=adam,lion,sgd --seeds 5

    All other options are those of `microgradx train`. Results are kept as they come: after Ctrl-C or a crash
    --resume goes on. `mpiexec -n 4 microgradx sweep ...` works on many machines, with the extra mpi: the
    first of the four gives out the trials.
    """
    with team() as (leads, executor):
        if leads and given["show"]:
            found = Sweep.read(given["show"], given["by"])
            if "words" in found.about:
                standing(given["show"])
            finish(found, given["json"], axes_of(given["axes"], found.axes))
        elif leads:
            work(ctx, given, executor)


def work(ctx: click.Context, given: Given, executor: Executor | None) -> None:
    """Do what is asked and say what came out."""
    if folder := given["resume"]:
        said = [
            name for name in given if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        ]
        if fixed := [f"--{name.replace('_', '-')}" for name in said if name not in KEPT_OPTIONS] + ctx.args:
            raise ArgumentError(f"a resumed sweep keeps its {fixed[0]}: leave that out, or begin a new one.")
        plan = standing(folder)
    else:
        plan = planned(given, ctx.args)
        folder = given["out"] or free(Path(recipe_of(ctx.args, {}, 0).data).stem, "sweeps")
    words, most = words_of(plan.about) or (), 10**12 if given["many"] else MOST
    plan.bound(most)
    axes = axes_of(given["axes"], [name for name, axis in plan.axes.items() if len(ends_of(name, axis)) > 1])
    check(words, plan, given["by"])
    tell(size_of(plan), err=given["json"])
    processes = given["processes"] if executor is None else getattr(executor, "num_workers", 1)
    try:
        found = swept(
            Trial(words, given["limit"]), plan.grid, seeds=plan.seeds, out=folder,
            resume=bool(given["resume"]), processes=processes, at_once=given["at_once"], limit=given["limit"],
            epochs=plan.epochs, halving=plan.halving, search=plan.search, trials=plan.trials, most=most,
            executor=executor, progress=not given["quiet"], about=plan.about,
        )  # fmt: skip
    except (KeyboardInterrupt, Terminated) as stop:
        where = f"{stop}; " if str(stop) else ""
        raise type(stop)(f"{where}go on with:\n  microgradx sweep --resume {folder}") from None
    found.by = given["by"]
    finish(found, given["json"], axes)


def standing(folder: Path) -> Plan:
    """The plan of a sweep that this command has begun; CheckpointError for another."""
    plan = Plan.read(folder)
    if words_of(plan.about) is None or not plan.grid.keys() <= known().keys():
        raise damaged(folder)
    return plan


def words_of(about: Mapping[str, object]) -> tuple[str, ...] | None:
    """The options of `train` that a sweep was begun with; None where that was no sweep of this command."""
    words = about.get("words")
    if isinstance(words, list) and all(isinstance(word, str) and word != "--help" for word in words):
        return tuple(words)
    return None


def axes_of(text: str | None, varying: Collection[str]) -> list[str]:
    """The names that `--axes` asks for; ArgumentError for more than two, and for one that does not vary."""
    names = [name.strip().removeprefix("--").replace("-", "_") for name in (text or "").split(",") if name]
    for name in names:
        if name not in varying:
            why = one_of("name that varies", name, varying) if varying else "no name varies: leave it out."
            raise ArgumentError(f"--axes {text}: {why}")
    if len(names) > 2 or len({*names}) < len(names):
        raise ArgumentError(f"--axes {text}: a map has one name, or two that differ.")
    return names


def planned(given: Given, words: Sequence[str]) -> Plan:
    """The plan that options ask for."""
    grid: dict[str, str | list[Value]] = {}
    for text in given["grid"]:
        name, equals, values = text.partition("=")
        if not equals:
            raise ArgumentError(f"--grid {text}: write NAME=VALUES, such as lr=1e-4..1e-1:log:8.")
        if name_of(name) in grid:
            raise ArgumentError(f"--grid {name} stands there twice: give all its values at once.")
        grid[name_of(name)] = values
    epochs = recipe_of(words, {}, 0).epochs if given["halving"] and "epochs" not in grid else None
    if given["halving"] and "epochs" in grid:
        raise ArgumentError("--halving decides on the epochs: leave them out of --grid.")
    about: dict[str, object] = {"words": list(words)}
    seeds = list(range(given["seeds"]))
    return Plan(grid, seeds, epochs, given["halving"], given["search"], given["trials"], about)


def check(words: Sequence[str], plan: Plan, by: str) -> None:
    """Refuse before anything begins what `train` would refuse, with its words; the data are loaded once."""
    for config in samples(plan.axes):
        recipe = recipe_of(words, config, plan.seeds[0])
        split = recipe.suit(data_of(recipe.data, recipe.of_numbers))
        if by == "accuracy" and not split.classes:
            what = f"--by accuracy is for classes, and the targets of {recipe.data} are numbers"
            raise ArgumentError(f"{what}: take --by loss.")
    for config in one_by_one(plan.axes):
        recipe = recipe_of(words, config, plan.seeds[0])
        split = recipe.suit(data_of(recipe.data, recipe.of_numbers))
        recipe.optimize(recipe.network(), recipe.steps(len(split.train[0])))


def samples(axes: dict[str, Axis]) -> list[Config]:
    """All combinations, if they are not too many; of a search the ends of its ranges."""
    ends = {name: ends_of(name, axis) for name, axis in axes.items()}
    return combinations(ends) if size(ends) <= MOST else one_by_one(axes)


def one_by_one(axes: dict[str, Axis]) -> list[Config]:
    """Every value once, with the first of all others."""
    ends = {name: ends_of(name, axis) for name, axis in axes.items()}
    first = {name: values[0] for name, values in ends.items()}
    return [first | {name: value} for name, values in ends.items() for value in values]


def ends_of(name: str, axis: Axis) -> list[Value]:
    """The values of an axis; the ends of one without a number."""
    if isinstance(axis, Range) and axis.count is None:
        return [int(end) if axis.whole else end for end in (axis.low, axis.high)]
    return axis.values(name) if isinstance(axis, Range) else axis


def size_of(plan: Plan) -> str:
    """How much there is to do: `24 configurations x 5 seeds: 120 trainings`."""
    parts = [f"{name.replace('_', '-')} {count_of(name, axis)}" for name, axis in plan.axes.items()]
    text = f"{plan.configurations:,} configurations ({', '.join(parts)})"
    if len(plan.seeds) > 1:
        text += f" x {len(plan.seeds)} seeds"
    stages = f", compared after {', '.join(map(str, plan.stages))} epochs" if plan.halving else ""
    return f"{text}: {plan.count:,} trainings{stages}"


def count_of(name: str, axis: Axis) -> str:
    """How many values an axis has, or from where to where it goes."""
    if isinstance(axis, Range) and axis.count is None:
        return f"{axis.low:g}..{axis.high:g}"
    return str(len(ends_of(name, axis)))


def finish(found: Sweep, as_json: bool, axes: Sequence[str]) -> None:
    """The table, the map and the best command; or all of it as JSON."""
    axes = [name for name in axes if name in found.axes]  # a search may have met one value alone
    if found.folder and found.axes and found.best:
        drawn(found, axes)
    if as_json:
        click.echo(json.dumps(summary(found), indent=2))
        return
    width = columns() or 80
    tell(f"{found.table(width=width)}\n")
    if text := found.map(axes, width):
        tell(f"{text}\n")
    if failed := [entry for entry in found.entries if "failed" in entry]:
        first = failed[0]
        many = f"{len(failed)} of {len(found.entries)} trials failed; the first"
        why = shorten(f"{first['failed']}: {first['why']}", 200, placeholder=" ...")
        tell(f"{many}, {named(first['config'])}, {why}\n")
    tell(f"in {found.folder}: {', '.join(sorted(path.name for path in found.folder.iterdir()))}")  # type: ignore[union-attr]
    tell(f"The best:\n  {best_command(found)}", bold="The best:")


def drawn(found: Sweep, axes: Sequence[str]) -> None:
    """Draw the heat map, if matplotlib is there; a warning where it cannot be written."""
    if found.folder and find_spec("matplotlib"):
        try:
            found.plot(found.folder / "map.png", axes)
        except CheckpointError as error:
            warnings.warn(str(error), TrainingWarning, stacklevel=2)


def best_command(found: Sweep) -> str:
    """How to train the best configuration; its values where the trials were no trainings of `train`."""
    if (words := words_of(found.about)) is None:
        return named(found.best.config)
    return shlex.join(["microgradx", "train", *command(words, found.best.config, 0)])


def summary(found: Sweep) -> dict[str, object]:
    """Everything, as JSON has it."""
    rows = [
        {
            "config": s.config,
            "loss": s.values("loss"),
            "accuracy": s.values("accuracy") if "accuracy" in found.measures else None,
            "mean": None if s.mean != s.mean else s.mean,
            "std": s.std,
            "epochs": s.epochs or None,
            "failed": s.failed,
        }
        for s in found.standings
    ]
    return {"folder": str(found.folder), "by": found.by, "best": best_command(found), "configurations": rows}


@contextmanager
def team() -> Iterator[tuple[bool, Executor | None]]:
    """Whether this process gives out the trials, and who does them where MPI has started several."""
    if (launched() or (0, 1))[1] == 1:
        yield True, None
        return
    everybody = imported()
    from mpi4py.futures import MPICommExecutor

    few_threads(1)
    with MPICommExecutor(everybody, root=0) as executor:
        yield executor is not None, cast(Executor | None, executor)  # its own types say otherwise
