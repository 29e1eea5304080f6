"""The command `microgradx`: train, evaluate and predict; and look at optimizers, the machine and the cache.

Every module behind a command is imported when the command runs, so that `--help` answers at once.
"""

import codecs
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper

import click

from microgradx.cli.terminal import own, tell
from microgradx.errors import ArgumentError, ClusterError, MicrogradxError, guess, one_of
from microgradx.training.cluster import Cluster
from microgradx.training.mpi import cluster_of, launched

STARTED = time.perf_counter()
"""When this process came here: a command may say how long all of it took."""

COMMANDS = {
    "train": "Train a network; without options, on the embedded digits.",
    "sweep": "Train with many combinations of options, and say which is best.",
    "evaluate": "Measure a trained network on held-out data.",
    "verify": "Run a training again, and compare the bits.",
    "predict": "Say what is on a picture, or in the rows of a file.",
    "look": "Draw what a trained network looks for, and what it is wrong about.",
    "find-lr": "Find a learning rate.",
    "adam-paper": "Repeat the experiments of the Adam paper.",
    "race": "Let optimizers race on a surface, as an animation or a page.",
    "bias": "Show what bias correction does to Adam.",
    "graph": "Show what a network computes, forward and backward.",
    "optimizers": "List the optimizers, or explain one.",
    "kernels": "List the kernels, for the CPU and GPUs, or show one.",
    "doctor": "Look at this machine and advise.",
    "cache": "Show or clear the compiled kernels.",
}


class Commands(click.Group):
    """The subcommands, each in the module of its name, loaded when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of use, not of the alphabet."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import the module of a command; None for a name that is not one."""
        if name not in COMMANDS:
            return None
        word = name.replace("-", "_")
        return getattr(import_module(f"microgradx.cli.{word}"), word)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A wrong name gets the valid ones."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise click.UsageError(one_of("command", args[0], COMMANDS))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands for `--help`, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="microgradx", message="%(package)s %(version)s")
def cli() -> None:
    """Train small networks with a framework that a person can read.

    `microgradx train` alone trains on the embedded digits; `microgradx train --help` lists the choices.
    """


def main(args: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 done, 1 it could not be done, 2 asked wrongly, 130 and 143 stopped."""
    for stream in (sys.stdout, sys.stderr):
        speak(stream)
    if (launched() or (0, 1))[0]:  # one of many processes speaks; what ends only another is told past this
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the end
    warnings.showwarning = lambda message, *_, **__: say("warning", " ".join(own(str(message)).split()))
    started = STARTED if args is None else time.perf_counter()
    try:
        with company(sys.argv[1:] if args is None else args):
            code = cli.main(args, "microgradx", standalone_mode=False, obj=started)
        sys.stdout.flush()
        raise SystemExit(code if isinstance(code, int) else 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "")
        raise SystemExit(0) from None
    except click.NoSuchOption as error:
        likely = guess(error.option_name, error.possibilities or ())
        stop(f"No such option {error.option_name!r}.{likely}", error.exit_code)
    except click.ClickException as error:
        stop(error.format_message(), error.exit_code)
    except ArgumentError as error:
        stop(own(str(error)), 2)
    except BrokenPipeError:  # the reader, such as `head`, has gone: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        stop(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error), 1)
    except (MicrogradxError, MemoryError) as error:
        stop(own(str(error)) or "out of memory", 1)
    except click.Abort as error:  # what click makes of a KeyboardInterrupt, which is no error
        tell(str(error.__cause__ or "") or "interrupted", err=True)
        raise SystemExit(130) from None
    except SystemExit as error:  # SIGTERM has ended a training, which was saved
        if not error.args or not isinstance(error.args[0], str):
            raise
        tell(error.args[0], err=True)
        raise SystemExit(error.code if isinstance(error.code, int) else 1) from None
    except Exception as error:
        if os.environ.get("MICROGRADX_DEBUG"):
            raise
        what = " ".join(f"unexpected {type(error).__name__}: {error}".split())
        stop(f"{what}. MICROGRADX_DEBUG=1 shows where.", 1)


@contextmanager
def company(words: Sequence[str]) -> Iterator[None]:
    """Inside, one of many processes that an MPI launcher has started waits for none that does something else.

    Before a word of the command line is read: what is wrong with it may be so for this process alone. A sweep
    gives its processes tasks by mpi4py.futures instead.
    """
    command, (_, size) = next(iter(words), ""), launched() or (0, 1)
    if command == "sweep" or (command != "train" and size < 2):
        yield
        return
    try:
        cluster = cluster_of()
    except ClusterError:
        if command == "train":
            sys.stderr = sys.__stderr__  # where this process alone lacks mpi4py, nobody else can say so
            raise
        cluster = Cluster()  # nothing else needs mpi4py
    with cluster.together():
        helped = not {"-h", "--help"}.isdisjoint(words)
        cluster.agree(lambda: {"the command": f"{command} --help" if helped else command or "none"})
        yield


def speak(stream: object) -> None:
    """Let a stream take every letter: a name of a class must end no command in a plain locale."""
    if isinstance(stream, TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
        if codecs.lookup(stream.encoding).name == "ascii":  # LC_ALL=C, where people's terminals know UTF-8
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")  # as names of files come in
        else:
            stream.reconfigure(errors="replace")


def stop(message: str, code: int) -> None:
    """Say on the standard error what is wrong, and end with the exit code."""
    say("error", message)
    raise SystemExit(code) from None


def say(kind: str, message: str) -> None:
    """A message on the standard error, with its kind before it."""
    tell(f"{kind}: {message}", bold=f"{kind}:", color="red", err=True)
