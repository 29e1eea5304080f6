"""`microgradx optimizers`: the rules with their equations, here and in other libraries."""

import inspect

import click

from microgradx.cli.options import REQUIRED, name_of, needed, option, typed
from microgradx.cli.terminal import tell
from microgradx.optim import Optimizer
from microgradx.optim import optimizers as registry
from microgradx.optim.conventions.conventions import explanation
from microgradx.optim.conventions.libraries import libraries
from microgradx.rules import Rule, rules

Explained = Rule | type[Optimizer]


def known() -> dict[str, Explained]:
    """The optimizers, and the rules that are not an optimizer of that name."""
    return {**rules, **registry}


NAME = click.Argument(["name"], required=False, type=name_of("optimizer", known))
CONVENTION = option(
    "--convention", "LIBRARY", f"How NAME differs there, and what agrees: {', '.join(libraries)}.",
    type=name_of("convention", lambda: libraries),
)  # fmt: skip


@click.command(params=[NAME, CONVENTION])
def optimizers(name: str | None, convention: str | None) -> None:
    """List the optimizers with their equations, or explain NAME and its hyperparameters."""
    if convention and not name:
        raise click.UsageError(f"whose convention? microgradx optimizers adam --convention {convention}")
    if name and convention:
        tell(explanation(name, convention))
        return
    if name:
        explain(known()[name])
        return
    for key, made in registry.items():
        first, *lines = doc(rule_of(made)).splitlines()
        equations = [line for line in lines if line.startswith("    ")]
        tell("\n".join([f"{key}: {first}", *equations]), bold=key)
    others = ", ".join(key for key in known() if key not in registry)
    tell(f"\nRules behind an option of these, or without a class of their own: {others}.")


def rule_of(chosen: Explained) -> Rule:
    """The rule that an optimizer follows by default; a rule itself."""
    if isinstance(chosen, Rule):
        return chosen
    return chosen.choose(**chosen.options | needed(chosen.options))


def explain(chosen: Explained) -> None:
    """The docstrings of a rule and of the optimizer, where that says more; then the options and defaults."""
    rule = rule_of(chosen)
    text = doc(rule)
    more = [line for line in doc(chosen).splitlines() if line not in text]
    tell(f"{rule.name}{rule.__signature__}\n\n{text}\n", bold=rule.name)
    tell("".join(f"{line}\n" for line in more))
    for name, default in getattr(chosen, "options", rule.hyperparameters).items():
        click.echo(f"--{name.replace('_', '-'):<24} {'required' if default is REQUIRED else typed(default)}")


def doc(thing: Explained) -> str:
    """The docstring, without its indentation."""
    return inspect.cleandoc(getattr(thing, "about", None) or thing.__doc__ or "")
