"""Making a failing program smaller while it goes on failing."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from bench.programs import INNER, Program


def used(program: Program, name: str) -> bool:
    """Whether a line of the body, or what follows it, names a value."""
    rest = [*program.body, program.loss, program.returns, *(s for s in program.setup if "optim." in s)]
    return any(re.search(rf"\b{name}\b", text.partition(" = ")[2] or text) for text in rest)


def renamed(text: str, old: str, new: str) -> str:
    """A text with one name in place of another."""
    return re.sub(rf"\b{old}\b", new, text)


def without(names: str, name: str) -> str:
    """Names without one of them."""
    return " ".join(n for n in names.split() if n != name)


def fewer_lines(program: Program) -> Iterator[Program]:
    """A line left out; what used its value uses one that it was made of."""
    for k in reversed(range(len(program.body))):
        name, _, text = program.body[k].partition(" = ")
        rest = program.body[:k], program.body[k + 1 :]
        kept = replace(program, loss=without(program.loss, name), returns=without(program.returns, name))
        yield replace(kept, body=[*rest[0], *rest[1]])
        for other in dict.fromkeys(re.findall(r"\bv\d+\b", text)):
            later = [renamed(line, name, other) for line in rest[1]]
            yield replace(kept, body=[*rest[0], *later])
            yield replace(
                program,
                body=[*rest[0], *later],
                loss=renamed(program.loss, name, other),
                returns=renamed(program.returns, name, other),
            )


def less_around(program: Program) -> Iterator[Program]:
    """Fewer results, a simpler ending, fewer tensors to start from."""
    for name in dict.fromkeys(program.returns.split()):
        yield replace(program, returns=without(program.returns, name))
    yield replace(program, returns=" ".join(dict.fromkeys(program.returns.split())))
    if len(program.loss.split()) > 1:
        for name in program.loss.split():
            yield replace(program, loss=without(program.loss, name))
    yield replace(program, between="")
    for ending in ("forward", "backward", "reset", "train"):
        if ending == program.ending:
            break
        fits = program.ending not in INNER or ending in ("forward", "backward")
        if fits:
            yield replace(program, ending=ending)
    for line in program.setup:
        name = line.partition(" = ")[0]
        if not used(program, name) and name != "optimizer" or program.ending in ("forward", "backward"):
            yield replace(program, setup=[other for other in program.setup if other != line])
    for line in program.setup:
        if "argument" in line or "fixed" in line:
            leaf = line.replace("argument", "leaf").replace("fixed", "leaf")
            yield replace(program, setup=[leaf if other == line else other for other in program.setup])


def smaller_shapes(program: Program) -> Iterator[Program]:
    """A size of a tensor to start from made 1 or 2, everywhere or there alone; one axis left out."""
    sizes = {int(n) for line in program.setup for n in re.findall(r"[( ](\d+)[,)]", line)}
    for n in sorted(sizes, reverse=True):
        for m in (1, 2, n - 1):
            if 0 < m < n:
                swap = [re.sub(rf"(?<=[( ]){n}(?=[,)])", str(m), line) for line in program.setup]
                yield replace(program, setup=swap)
    for k, line in enumerate(program.setup):
        for found in re.finditer(r"(?<=[( ])(\d+)(, |(?=\)))", line):
            for new in ("", f"1{found[2]}", f"2{found[2]}"):
                text = line[: found.start()] + new + line[found.end() :]
                if text != line:
                    yield replace(program, setup=[*program.setup[:k], text, *program.setup[k + 1 :]])


def simpler_lines(program: Program) -> Iterator[Program]:
    """A line's expression replaced by a simpler one of the same values."""
    for k, line in enumerate(program.body):
        name, _, text = line.partition(" = ")
        names = list(dict.fromkeys(re.findall(r"\bv\d+\b", text)))
        simpler = [*names, *(f"mg.tanh({n})" for n in names), *(f"{a} * {b}" for a in names for b in names)]
        simpler += [renamed(text, a, b) for a in names for b in names if a != b]
        for new in simpler:
            if len(new) < len(text):
                yield replace(program, body=[*program.body[:k], f"{name} = {new}", *program.body[k + 1 :]])


WAYS = fewer_lines, less_around, smaller_shapes, simpler_lines


def weight(program: Program) -> tuple[int, int]:
    """How large a program is: less is better."""
    sizes = [int(n) for line in program.setup for n in re.findall(r"\d+", line)]
    return len(repr(program)), sum(sizes)


def shrink(program: Program, fails: Callable[[Program], bool], limit: int = 600) -> Program:
    """A smaller program that fails, too; found with at most `limit` attempts."""
    tried = {repr(program)}
    while True:
        for smaller in (p for way in WAYS for p in way(program)):
            text = repr(smaller)
            if text in tried or weight(smaller) >= weight(program):
                continue
            tried.add(text)
            if len(tried) > limit:
                return program
            if fails(smaller):
                program = smaller
                break
        else:
            return program
