"""Where the text of a definition is found: its file or cell, what `python -c` was given, what was typed.

Whatever is found must compile to what the function does: another version of it is never taken for it.
"""

import ast
import dis
import inspect
import os
import re
import sys
import textwrap
import threading
import tokenize
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import CodeType
from typing import Any
from weakref import WeakKeyDictionary

from microgradx.errors import KernelError
from microgradx.kernels.keys import frozen

reading = threading.Lock()
if hasattr(os, "register_at_fork"):  # not on Windows; a child must not inherit another thread's lock
    os.register_at_fork(after_in_child=reading._at_fork_reinit)  # type: ignore[attr-defined]
BROKEN = (SyntaxError, tokenize.TokenError)
LONGEST = 200  # lines of a definition at the prompt
kept: WeakKeyDictionary[CodeType, str] = WeakKeyDictionary()
"""Texts found so far: a file or a cell may have become another since."""


def first(text: str) -> ast.stmt | None:
    """The first statement of a text; None where it has none, or is part of a definition."""
    with suppress(*BROKEN):
        return next(iter(tree_of(text).body), None)
    return None


def definition(function: Callable[..., object]) -> ast.FunctionDef:
    """The syntax tree of a function. KernelError, with what to do, where there is no text of it."""
    if function.__name__ == "<lambda>":
        raise KernelError("a lambda has no name to be called by: write a definition, `def name(...):`.")
    if inspect.unwrap(function) is not function:
        advice = "leave that decorator out, or do in the definition what it does"
        raise KernelError(f"{function.__name__}: what its decorator does is not compiled; {advice}.")
    code = function.__code__
    known = [kept[code]] if code in kept else map(textwrap.dedent, texts(function))
    for text in known:
        tree = first(text)
        if isinstance(tree, ast.FunctionDef) and (code in kept or compiles_to(tree, code)):
            kept[code] = text
            return tree
    raise KernelError(f"{function.__name__}: {why_not(function)}")


def why_not(function: Callable[..., object]) -> str:
    """Why the text of a function was not found, and what to do."""
    if os.path.exists(function.__code__.co_filename):
        return "its file has changed since it was imported; start Python again."
    advice = "Put the definition into a file or a notebook cell"
    return f"its source text cannot be read. {advice}: text from exec or a pipe is kept by nobody."


def texts(function: Callable[..., object]) -> Iterator[str]:
    """What may be the text of a function, the likeliest first."""
    with suppress(OSError, TypeError, *BROKEN):
        yield source_of(function)
    code = function.__code__
    if not code.co_filename.startswith("<"):
        return
    for argument in sys.orig_argv:  # of `python -c`, before Python 3.13
        lines = argument.splitlines(keepends=True)[code.co_firstlineno - 1 :]
        with suppress(*BROKEN):
            yield "".join(inspect.getblock(lines))
    lines = typed()
    for start in reversed(range(len(lines))):
        if re.match(rf"\s*def {re.escape(code.co_name)}\b", lines[start]):
            for end in range(start + 1, min(start + LONGEST, len(lines)) + 1):
                yield "\n".join(lines[start:end])


def typed() -> list[str]:
    """The lines of the prompt's history, the oldest first; nothing where nobody types."""
    history: Any = sys.modules.get("readline")  # a module that not every system has
    if history is None:
        return []
    count = history.get_current_history_length()
    found = (history.get_history_item(k) for k in range(1, count + 1))
    return [line for item in found if item for line in item.splitlines()]


def source_of(function: Callable[..., object]) -> str:
    """The text of a definition. One thread at a time: Python's cache of lines is not made for several."""
    with reading:
        return textwrap.dedent(inspect.getsource(function))


def tree_of(text: str) -> ast.Module:
    """The syntax tree of a text. One thread at a time: two confuse Python 3.11's parser."""
    with reading:
        return ast.parse(text)


def compiles_to(tree: ast.FunctionDef, code: CodeType) -> bool:
    """Whether a definition means what some code does."""
    with reading:
        constants = compile(ast.Module([tree], []), "", "exec").co_consts
    return meaning(code) in [meaning(c) for c in constants if isinstance(c, CodeType)]


def meaning(code: CodeType) -> list[object]:
    """What a function's instructions work on, or what they are: it tells two versions of a definition apart.

    Where they jump to does not count, nor whether a name is a closure's or an import.
    """
    found: list[object] = []
    for i in dis.get_instructions(code):
        if i.arg is None or "JUMP" in i.opname:
            found.append(i.opname)
        elif isinstance(i.argval, CodeType):
            found.append(meaning(i.argval))
        elif i.opname not in ("COPY_FREE_VARS", "EXTENDED_ARG"):
            found.append(frozen(i.argval))
    return [x for x in found if x != "PUSH_NULL"]
