"""The same optimizer in other libraries: its formula there, how it differs, its hyperparameters converted.

optim.explain("adam", convention="keras")                                     # prints; also an optimizer
optim.convert("momentum", "torch", "keras", lr=0.1, momentum=0.9)             # {"learning_rate": 0.1, ...}
optim.convert("adam", "keras", "torch", step=10, epsilon=1e-7)                # holds for step 10 alone
"""

import inspect
import math
import textwrap

from microgradx.errors import ArgumentError
from microgradx.optim.base import Optimizer, optimizers
from microgradx.optim.conventions.conversions import apart, bridges
from microgradx.optim.conventions.libraries import L2, REQUIRED, Form, families, forms, libraries, remarks
from microgradx.optim.options import Option, Options, check
from microgradx.rules import Rule, rules

Named = str | Rule | Optimizer | type[Optimizer]
STEPS = 1, 10, 100, 1000
"""For which steps a conversion that depends on the step is shown."""


def explain(rule: Named, convention: str = "paper", **options: Option) -> None:
    """Print how a convention writes a rule, how that differs from ours, and the hyperparameters that agree.

    rule: a rule, an optimizer (its first group counts) or a name. options: hyperparameters of ours to
    convert, without them the optimizer's, or defaults. ArgumentError for a name that there is none of.

    >>> optim.explain("sgd", "keras", lr=0.1)  # doctest: +ELLIPSIS
    sgd in Keras: keras.optimizers.SGD
    ...
    Ours with lr=0.1 takes the steps of
        keras.optimizers.SGD(learning_rate=0.1)
    """
    print(explanation(rule, convention, **options))


def convert(rule: Named, source: str, target: str, step: float = math.inf, **options: Option) -> Options:
    """Hyperparameters with which the target takes the steps that the source takes with `options`.

    Both are conventions: paper, torch, keras, sklearn, optax, mlx, or microgradx, which is the rule itself.
    Options left out have the source's defaults. Where what agrees depends on the step, it is for that step,
    by default for late ones, when bias corrections have faded. ArgumentError where no numbers agree.

    >>> optim.convert("momentum", "torch", "keras", lr=0.1, momentum=0.9)
    {'learning_rate': 0.1, 'momentum': 0.9}
    """
    if not step >= 1:
        raise ArgumentError(f"convert: step must be at least 1, got {step!r}; steps are counted from 1.")
    own, _ = chosen(rule)
    there, here = form(own, target), form(own, source)
    try:
        check_names(here, target, options)
        return leave(there, cross(here.rule, there.rule, enter(here, options, step), step), step)
    except ArgumentError:
        raise
    except (ValueError, ZeroDivisionError) as error:
        reason = "they would be infinite" if isinstance(error, ZeroDivisionError) else error
        steps = f"the steps of {here.call} in {there.call}"
        hint = f"Here, Optimizer(params, rules.{here.rule.name}, ...) takes them"
        raise ArgumentError(f"convert: no hyperparameters give {steps}: {reason}. {hint}.") from None


def explanation(rule: Named, convention: str = "paper", **options: Option) -> str:
    """What `explain` prints."""
    own, given = chosen(rule)
    if convention == "paper" and not any(own.name in members for members in families.values()):
        return f"{own.name}{own.__signature__}\n\n{inspect.getdoc(own)}"  # as its docstring has it
    theirs = form(own, convention)
    head = f"{own.name} in {libraries[convention]}: {theirs.call}{arguments(theirs.fixed)}"
    formula = "p ← (1 - lr · λ) p, then\n" * theirs.decoupled + (theirs.formula or equations(theirs.rule))
    parts = [head, textwrap.indent(formula, "    ")]
    if theirs.formula or theirs.rule is not own or theirs.decoupled:
        parts += [f"Ours, rules.{own.name}:", textwrap.indent(equations(own), "    ")]
    notes = [note for note in (theirs.note, remarks.get(convention, "")) if note]
    same = theirs.rule is own and not theirs.formula and not theirs.decoupled
    parts += [textwrap.fill(note, 100) for note in notes] or ["The formula is ours."] * same
    parts.append(table(theirs, own))
    if convention != "microgradx":
        parts += [theirs_here(theirs), ours_there(own, theirs, given | options)]
    return "\n\n".join(parts)


# The parts of an explanation


def equations(rule: Rule) -> str:
    """The formulas in a rule's docstring: lines, or what a sentence of its first line ends with."""
    lines = (inspect.getdoc(rule) or rule.name).splitlines()
    found = [line.strip() for line in lines if "←" in line]
    return "\n".join(found).partition(". ")[0].rpartition("gradient: ")[2] if found else rule.name


def table(theirs: Form, own: Rule) -> str:
    """Their names, ours, and the defaults of both, a line each."""
    rows = [(libraries[theirs.library], "here", "default there", "default here")]
    known = {"weight_decay": 0.0, L2: 0.0} | own.hyperparameters
    for name, default in theirs.defaults.items():
        ours = theirs.ours(name)
        here = [shown(known[k]) for k in ours if k in known]
        rows.append((name, ", ".join(ours), shown(default), ", ".join(here) or "-"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("   ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(f"    {line}".rstrip() for line in lines)


def theirs_here(theirs: Form) -> str:
    """The optimizer of ours that takes the convention's steps, with its defaults."""
    more = {"decoupled_weight_decay": True} if theirs.decoupled else {}
    rows = {t: enter(theirs, {}, t, fill=True) | more for t in (*STEPS, math.inf)}
    for row in rows.values():
        row.pop(L2, None)  # which is 0 by default, wherever there is one
    code = f"optim.Optimizer(params, rules.{theirs.rule.name}, {arguments(rows[math.inf])[1:]}"
    return f"With its defaults, {libraries[theirs.library]} takes the steps of\n{by_step(code, rows)}"


def ours_there(own: Rule, theirs: Form, given: Options) -> str:
    """Hyperparameters of ours as the convention's: for every step, for some, or why there are none."""
    words = f"Ours with {arguments(given)[1:-1]}" if given else "Ours with its defaults"
    try:
        rows = {t: convert(own, "microgradx", theirs.library, t, **given) for t in (*STEPS, math.inf)}
    except ArgumentError as error:
        return f"{words}: {str(error).partition(': ')[2]}"
    code = f"{theirs.call}{arguments(rows[math.inf] | theirs.fixed)}"
    return f"{words} takes the steps of\n{by_step(code, rows)}"


def by_step(code: str, rows: dict[float, Options]) -> str:
    """A call with what holds for late steps, and below it what differs in some others."""
    late = rows[math.inf]
    lines = [code]
    for t, row in rows.items():
        if differs := {name: value for name, value in row.items() if value != late[name]}:
            lines.append(f"in step {t}: {arguments(differs)[1:-1]}")
    return textwrap.indent("\n".join(lines), "    ")


def arguments(options: Options) -> str:
    """Options as they are written in a call; nothing where there are none."""
    return f"({', '.join(f'{name}={shown(value)}' for name, value in options.items())})" if options else ""


def shown(value: Option) -> str:
    """A number in a few digits, several in brackets; `required` for the default that is none."""
    if isinstance(value, tuple):
        return f"({', '.join(map(shown, value))})"
    if value is REQUIRED:
        return "required"
    return f"{value:.6g}" if isinstance(value, int | float) and not isinstance(value, bool) else f"{value!r}"


# Forms and hyperparameters


def chosen(rule: Named) -> tuple[Rule, Options]:
    """The rule that is meant, and the hyperparameters of an optimizer."""
    if isinstance(rule, Rule):
        return rule, {}
    if isinstance(rule, Optimizer):
        return of_optimizer(rule)
    if isinstance(rule, str):
        known: dict[str, Rule | type[Optimizer]] = {**optimizers, **rules}
        if rule.lower() not in known:
            raise ArgumentError(f"no rule or optimizer {rule!r}; there are {', '.join(known)}.")
        return chosen(known[rule.lower()])
    return rule.choose(**rule.options), {}


def of_optimizer(optimizer: Optimizer) -> tuple[Rule, Options]:
    """The rule of an optimizer's first group, and its hyperparameters."""
    optimizer.follow()
    flat = optimizer.flats[0]
    own, kinds = flat.update.rule, flat.update.options
    if ("decoupled" in kinds and own.name not in ("adam", "lion")) or ("l2" in kinds and own.name == "lion"):
        what = f"{own.name} with {'decoupled' if 'decoupled' in kinds else 'L2'} weight decay"
        raise ArgumentError(f"{what} has no name of its own elsewhere; explain it without, or rules.adamw.")
    decoupled = "decoupled" in kinds and own.name == "adam"
    return rules["adamw"] if decoupled else own, dict(flat.hyperparameters)


def form(rule: Rule, convention: str) -> Form:
    """A rule as a convention has it."""
    if convention not in libraries:
        raise ArgumentError(f"no convention {convention!r}; there are {', '.join(libraries)}.")
    if convention == "microgradx":
        shrinks = "weight_decay" in rule.hyperparameters or rule is rules["lion"]  # by optim.Lion's default
        defaults = {"weight_decay": 0.0} | rule.hyperparameters
        return Form(convention, f"rules.{rule.name}", rule, defaults, {} if shrinks else {"weight_decay": L2})
    family = next((forms[name] for name, members in families.items() if rule.name in members), {})
    if convention not in family:
        known = ", ".join(family) or "none but the paper"
        raise ArgumentError(f"{rule.name} is not described for {convention!r}; described for it: {known}.")
    return family[convention]


def check_names(here: Form, target: str, options: Options) -> None:
    """ArgumentError where options of the call belong to another of its forms, which has a name of its own."""
    unknown = options.keys() - here.defaults.keys()
    calls = {name: family[here.library] for name, family in forms.items() if here.library in family}
    for name, other in calls.items():
        if unknown and other.call == here.call and unknown <= other.defaults.keys() | other.fixed.keys():
            left = ", ".join(f"{key}={shown(options[key])}" for key in options if key not in other.fixed)
            write = f'convert("{name}", "{here.library}", "{target}"{", " * bool(left)}{left})'
            raise ArgumentError(f"{here.call} with {', '.join(unknown)} is {name!r} here: write {write}.")


def enter(theirs: Form, options: Options, step: float, fill: bool = False) -> Options:
    """From options as the convention has them to the hyperparameters of the rule that takes its steps.

    `fill` takes our default where theirs is required.
    """
    if unknown := [name for name in options if name not in theirs.defaults]:
        there = ", ".join(theirs.defaults)
        raise ArgumentError(f"{theirs.call} has no {', '.join(unknown)}; it has {there}.")
    found: Options = dict(theirs.constant)
    for name, value in (theirs.defaults | options).items():
        ours = theirs.ours(name)
        if value is REQUIRED and not fill:
            raise ArgumentError(f"{theirs.call} has no default for {name}: give {name}=...")
        if value is REQUIRED:
            value = theirs.rule.hyperparameters.get(ours[0], 1e-2)
        values = value if len(ours) > 1 else (value,)
        if not isinstance(values, tuple | list) or len(values) != len(ours):
            raise ArgumentError(f"{theirs.call}: {name} must be {len(ours)} numbers, got {value!r}.")
        found |= zip(ours, values, strict=True)
    check(theirs.call, found)
    return theirs.rule.hyperparameters | theirs.change.back(found, step)


def cross(start: Rule, end: Rule, options: Options, step: float) -> Options:
    """Over bridges from one rule's hyperparameters to another's."""
    ways: dict[str, Options] = {start.name: options}
    while end.name not in ways:
        more = {b: (a, change) for (a, b), change in bridges.items() if a in ways and b not in ways}
        if not more:
            raise ValueError(apart[end.name])
        ways |= {b: change(ways[a], step) for b, (a, change) in more.items()}
    return ways[end.name]


def leave(theirs: Form, options: Options, step: float) -> Options:
    """From the rule's hyperparameters to the convention's options; the rest must be as theirs always is."""
    left = dict(theirs.change.there(options, step))
    found: Options = {}
    for name in theirs.defaults:
        values = tuple(left.pop(k, 0.0) for k in theirs.ours(name))
        found[name] = values if len(values) > 1 else values[0]
    if theirs.library == "microgradx" and not found["weight_decay"]:
        found = {name: value for name, value in found.items() if name in theirs.rule.hyperparameters}
    for name, value in left.items():
        wanted = (theirs.rule.hyperparameters | theirs.constant).get(name, 0.0)
        if value != wanted:
            raise ValueError(f"{name} would have to be {shown(wanted)}, not {shown(value)}")
    return found
