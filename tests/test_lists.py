"""Lists that are kept by hand miss nothing: public names, signatures, commands, completions, words."""

import ast
import inspect
import re
import tomllib
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

import microgradx as mg
from microgradx import data, extras, kernels, nn, optim, primitives, scalars, study, training
from microgradx.cli import COMMANDS, cli
from microgradx.cli.recipe import Recipe
from microgradx.cli.train import OPTIONS
from microgradx.codegen.passes import schedule
from microgradx.codegen.printers import cpu_file, cpu_printer, file
from microgradx.compiler.capture import namespace
from microgradx.eager import autograd, creation
from microgradx.kernels import vector_math
from microgradx.nn import layers, losses, module, norms
from microgradx.optim import averaging, clip, optimizers, plans, schedules
from microgradx.training.runs import PACKAGES

ROOT = Path(mg.__file__).parent
OPERATORS = (
    "add subtract multiply divide power negative less less_equal greater greater_equal equal not_equal"
)
OTHERWISE = {
    **dict.fromkeys(
        [*OPERATORS.split(), "logical_and", "logical_or", "logical_not"], "an operator of Tensors"
    ),
    "absolute": "mg.abs",
    "cross_entropy_rows": "nn.cross_entropy",
    "affine": "nn.Linear",
}
"""Functions and operations that are no names of `mg`, and what one writes instead."""


def defined(home, kind):
    """What a module defines itself of a kind, by its public names."""
    found = {n: x for n, x in vars(home).items() if not n.startswith("_") and kind(x)}
    return {n: x for n, x in found.items() if getattr(x, "__module__", home.__name__) == home.__name__}


def missing(space, wanted):
    return [name for name in wanted if name not in vars(space)]


def test_extras_are_those_of_the_package():
    """What messages say to install is what an extra brings, with its versions where any are given."""
    declared = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, packages in extras.packages.items():
        wanted = [line for line in declared[extra] if not line.startswith("microgradx")]
        assert all(line.startswith(one) for line, one in zip(wanted, packages, strict=True))


# Public names


def test_every_function_and_operation_is_a_name_of_the_package_or_there_is_another_way():
    known = scalars.functions | primitives.operations
    assert set(missing(mg, known)) == OTHERWISE.keys()


def test_everything_that_makes_tensors_or_derivatives_is_a_name_of_the_package():
    made = defined(creation, inspect.isfunction)
    made = {n: f for n, f in made.items() if inspect.signature(f).parameters.get("requires_grad")}
    assert missing(mg, [n for n in made if n != "draw"]) == []  # which the random ones are made by
    functions = defined(autograd, lambda f: inspect.isfunction(f) and parameters(f)[0] == "f")
    parts = ["outputs", "derivatives", "compare", "difference"]  # of check_grad
    assert missing(mg, functions) == parts


def parameters(f):
    return list(inspect.signature(f).parameters)


def test_every_layer_and_loss_is_a_name_of_nn():
    classes = [name for part in (layers, norms, module) for name in defined(part, inspect.isclass)]
    assert missing(nn, classes) == ["Norm"]  # what LayerNorm and BatchNorm1d have in common
    functions = defined(losses, inspect.isfunction)
    functions = [n for n, f in functions.items() if "reduction" in parameters(f) and "_" in n]
    assert missing(nn, functions) == ["reduce_rows", "soft_cross_entropy"]  # parts of others


def test_every_activation_has_a_layer():
    made = {c.function for c in vars(nn).values() if isinstance(c, type) and hasattr(c, "function")}
    assert [n for n, f in scalars.functions.items() if f.activation and f not in made] == []


def test_every_optimizer_schedule_and_average_is_a_name_of_optim():
    assert {n for n, c in vars(optim).items() if isinstance(c, type) and issubclass(c, optim.Optimizer)} == {
        "Optimizer", *(c.__name__ for c in optimizers.values() if c.__module__.startswith("microgradx."))
    }  # fmt: skip
    kinds = defined(schedules, lambda c: inspect.isclass(c) and issubclass(c, optim.Schedule))
    assert missing(optim, kinds) == []
    assert missing(optim, [n for n in defined(clip, inspect.isfunction) if n.endswith("_")]) == []
    assert missing(optim, defined(averaging, inspect.isclass)) == ["Average"]  # what both have in common


def test_every_schedule_that_is_complete_by_itself_is_a_plan_of_the_command_line():
    used = set(re.findall(r"\b([A-Z]\w+)\(", inspect.getsource(schedules).split("\nplans")[1]))
    used.add("OneCycleLR")  # behind one_cycle
    kinds = defined(schedules, lambda c: inspect.isclass(c) and issubclass(c, optim.Schedule))
    need_more = {
        "LambdaLR",
        "MultiplicativeLR",
        "WarmUp",
        "SequentialLR",
        "ChainedScheduler",
    }  # a function, others
    assert kinds.keys() - used == need_more and len(plans) == len(used)


WITH_LISTS = mg, data, kernels, nn, optim, primitives, study, training


@pytest.mark.parametrize("room", WITH_LISTS, ids=lambda m: m.__name__)
def test_all_names_what_a_room_imports_for_others(room):
    """`__all__` is what the room's own `__init__` takes from its files, functions defined there too.

    Type checkers know no other names: without it a user of `mypy --strict` has no `mg.tensor`.
    """
    own = {n for n, x in vars(room).items() if not n.startswith("_") and inspect.isfunction(x)}
    body = ast.parse(Path(room.__file__).read_text()).body
    late = [node for one in body if isinstance(one, ast.If) for node in one.body]  # if TYPE_CHECKING
    taken = {
        alias.asname or alias.name
        for node in body + late
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{room.__name__}.")
        for alias in node.names
    } - {"familiar", "codegen"}
    if room is not mg:  # its files are not for others
        taken = {n for n in taken if not inspect.ismodule(getattr(room, n))}
    own = {n for n in own if getattr(room, n).__module__ == room.__name__}
    assert set(room.__all__) - {"__version__"} == own | taken and len(set(room.__all__)) == len(room.__all__)


def test_every_set_of_data_is_a_function_of_data():
    assert missing(data, data.datasets) == []


# Signatures


def generated():
    """Every class that is made from a definition."""
    for name, c in {**vars(nn), **vars(optim)}.items():
        bases = (nn.Function, optim.Schedule, optim.Optimizer)
        if isinstance(c, type) and issubclass(c, bases) and c not in bases:
            yield pytest.param(c, id=name)


@pytest.mark.parametrize("made", list(generated()))
def test_a_class_that_is_made_from_a_definition_has_its_signature(made):
    kinds = {p.kind for p in inspect.signature(made).parameters.values()}
    assert not kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


@pytest.mark.parametrize(
    ("thing", "signature"),
    [
        (nn.GELU, "()"),
        (nn.LeakyReLU, "(negative_slope=0.01)"),
        (nn.Softmax, "(dim=-1)"),
        (nn.Flatten, "(start_dim=1, end_dim=-1)"),
        (nn.GELU(), "(*args: 'Operand', **kwargs: 'Operand') -> 'Operand'"),  # a module, called
        (optim.StepLR, "(optimizer: microgradx.optim.base.Optimizer, step_size: int, gamma: float = 0.1, "
                       "*, last_epoch: int = -1)"),
        (optim.Momentum, "(params, lr=0.001, beta=0.9, *, weight_decay=0.0, decoupled_weight_decay=False, "
                         "maximize=False, check_finite=False)"),
    ],
    ids=str,
)  # fmt: skip
def test_signatures(thing, signature):
    assert str(inspect.signature(thing)).replace("typing.", "") == signature


def test_layers_are_documented_with_the_names_that_they_take():
    for made in (c for c in vars(nn).values() if isinstance(c, type) and hasattr(c, "function")):
        for name in re.findall(r"`(\w+)`", made.__doc__):
            assert name in inspect.signature(made).parameters, made
    assert nn.Softmax.__doc__.startswith("exp(x) / Σ exp(x) along `dim`, without overflow.")


# The command line


def test_every_command_of_a_file_is_one_of_the_command_line():
    found = set()
    for path in (ROOT / "cli").glob("[!_]*.py"):
        commands = vars(import_module(f"microgradx.cli.{path.stem}")).values()
        found |= {c.name for c in commands if isinstance(c, click.Command)}
    assert found == COMMANDS.keys()


def test_every_part_of_a_recipe_is_an_option_or_a_hyperparameter():
    options = {option.name for option in OPTIONS}
    assert {field.name for field in fields(Recipe)} - options == {"hyperparameters"}


@pytest.mark.parametrize(
    ("typed", "begun", "offered"),
    [
        ("train --optimizer", "", list(optimizers)[:3]),
        ("train --optimizer", "ad", ["adam", "adamw", "adagrad"]),
        ("train --optimizer momentum --be", "--be", ["--beta"]),
        ("train --data", "kmn", ["kmnist"]),
        ("train --activation", "soft", ["softplus", "softsign"]),
        ("train --loss", "", ["cross_entropy", "kl_div"]),
        ("train --schedule", "cos", ["cosine", "cosine-restarts"]),
        ("race --surface", "ros", ["rosenbrock"]),
        ("race --optimizers", "sgd,mom", ["sgd,momentum"]),
        ("kernels --gpu", "h1", ["H100"]),
        ("optimizers", "lio", ["lion"]),
        ("", "ra", ["race"]),
    ],
)
def test_values_complete(typed, begun, offered):
    *args, last = ["", *typed.split()]
    args = args if last == begun else [*args, last]
    found = ShellComplete(cli, {}, "microgradx", "_X").get_completions([a for a in args if a], begun)
    assert set(offered) <= {item.value for item in found}
    assert all(item.value.startswith(begun) or item.value.lower().startswith(begun) for item in found)


# The compiler and the project


def test_every_word_that_emitted_files_are_written_in_is_reserved():
    """A parameter of the user's that is called `flat` gets another name in a file that calls `flat`."""
    texts = [inspect.getsource(m) for m in (cpu_printer, cpu_file)]
    words = {w for text in texts for w in re.findall(r'vocabulary.add\("(\w+)"\)', text)}
    assert not (words | file.DTYPES | cpu_file.WORDS) - namespace.RESERVED


def test_the_compilers_lists_of_functions_name_functions():
    assert {
        n for n in scalars.functions if hasattr(vector_math, n) and callable(getattr(vector_math, n))
    } == cpu_file.VECTORS
    assert {""} == schedule.CHEAP - scalars.functions.keys()
    assert set(namespace.AXES) <= namespace.RESERVED


def test_versions_are_kept_of_every_package_that_results_depend_on():
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    needed = {re.match(r"[\w-]+", text)[0] for text in project["dependencies"]}
    beside = {"click", "rich", "platformdirs", "safetensors", "threadpoolctl"}  # around the numbers
    assert {"llvmlite", "microgradx"} | needed - beside == set(PACKAGES)


def test_the_map_in_the_readme_names_every_room():
    text = (ROOT.parent / "README.md").read_text(encoding="utf-8").split("## Where things are")[1]
    rooms = {path.name for path in ROOT.iterdir() if path.name[0] not in "_." and path.name != "py.typed"}
    assert {room for room in rooms if f"`{room}" not in text} <= {"errors.py"}


def test_the_readme_lists_every_layer_loss_optimizer_and_schedule():
    text = (
        (ROOT.parent / "README.md").read_text(encoding="utf-8").split("## What there is")[1].split("\n## ")[0]
    )
    kinds = {nn: nn.Module, optim: (optim.Optimizer, optim.Schedule, averaging.Average)}
    bases = {nn.Module, nn.Function, optim.Optimizer, optim.Schedule}
    known = {
        f"{room.__name__.rpartition('.')[2]}.{name}"
        for room, kind in kinds.items()
        for name, thing in vars(room).items()
        if (isinstance(thing, type) and issubclass(thing, kind) and thing not in bases)
        or (inspect.isfunction(thing) and ("reduction" in parameters(thing) or name.startswith("clip_")))
    }
    assert set(re.findall(r"`((?:nn|optim)\.\w+)`", text)) == known
