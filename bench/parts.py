"""Parts of a benchmark, each in a process of its own: one that hangs or crashes costs no other its rows.

A part is a function of `quick` (a rehearsal with tiny sizes) that yields rows. Its process,
`python -m bench.parts FUNCTION FILE OPTIONS`, writes each into a file as soon as it is found, so that a part
whose time is up leaves what it had. A row takes the place of an earlier one of the same KEY: so a part can
say how far it is.
"""

import faulthandler
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LEAST = 3.0  # seconds below which it is not worth beginning a part

Row = dict[str, str]
Tables = dict[str, list[Row]]
Environment = Mapping[str, str] | None
KEY = "part", "what", "peer"


def row(
    part: str, what: object, ours: str = "", peer: str = "", ratio: float | None = None, asked: str = "",
    note: str = "",
) -> Row:  # fmt: skip
    """A line of a table; a ratio is the peer's time over ours."""
    shown = "" if ratio is None else f"{ratio:.2f}"
    cells = {"part": part, "what": what, "ours": ours, "peer": peer, "ratio": shown, "asked": asked}
    return {name: str(cell) for name, cell in (cells | {"note": note}).items()}


def problem(error: BaseException) -> str:
    """An error in a cell."""
    return cell(f"{type(error).__name__}: {error}")


def cell(text: str, most: int = 220) -> str:
    """A text as it fits into a table."""
    return " ".join(text.split())[:most].replace("|", "/")


@dataclass(frozen=True)
class Part:
    """A function "module:name" with options, the table that its rows are for, and the seconds it may take."""

    table: str
    function: str
    seconds: float = 60.0
    options: Mapping[str, Any] = field(default_factory=dict)
    asked: str = ""  # what is wanted of it, for the table of a machine that cannot measure it
    name: str = ""  # where several parts are for one table

    def __str__(self) -> str:
        """The table, and which of its parts."""
        return f"{self.table}: {self.name}" if self.name else self.table

    def here(self, quick: bool) -> Iterator[Row]:
        """Its rows, found in this process."""
        module, _, name = self.function.partition(":")
        yield from getattr(importlib.import_module(module), name)(quick, **self.options)

    def missing(self, why: str) -> Row:
        """The row of a part that did not run."""
        return row(self.table, self.name or self.table, "not measured", asked=self.asked, note=cell(why))

    def rows(self, quick: bool, seconds: float, environment: Environment = None) -> Iterator[Row]:
        """Its rows as a process of its own finds them, until that ends or so many seconds are over."""
        with tempfile.TemporaryDirectory() as folder:
            found, log = Path(folder, "rows"), Path(folder, "log")
            found.touch()
            command = [sys.executable, "-m", "bench.parts", self.function, str(found)]
            command += [json.dumps({"quick": quick} | dict(self.options)), self.table]
            with open(log, "w") as output, open(found) as lines:
                process = subprocess.Popen(
                    command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=ROOT,
                    env={**os.environ, **(environment or {})}, start_new_session=True,
                )  # fmt: skip
                try:
                    late = yield from follow(process, lines, time.monotonic() + seconds)
                finally:
                    end(process)
            said = log.read_text(errors="replace")
            if late:
                yield row(self.table, f"{self}: stopped", note=f"its {seconds:.0f} s were up{place(said)}")
            elif process.returncode:
                last = (said.strip().splitlines() or [""])[-1]
                why = f"its process ended with code {process.returncode}: {fatal(said) or last}"
                yield row(self.table, f"{self}: failed", note=cell(why))


def follow(process: subprocess.Popen, lines: Any, until: float) -> Iterator[Row]:
    """The rows that a process writes; returns whether its time was up first."""
    rest = ""
    while True:
        ended, late = process.poll() is not None, time.monotonic() > until
        rest += lines.read()
        *whole, rest = rest.split("\n")
        yield from map(json.loads, whole)
        if ended:
            return False
        if late:
            process.send_signal(signal.SIGUSR1)  # it writes down where it is
            time.sleep(0.3)
            return True
        time.sleep(0.05)


def end(process: subprocess.Popen) -> None:
    """End a process with all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def fatal(said: str) -> str:
    """What a crash says of itself, as `faulthandler` writes it."""
    found = re.search(r"^Fatal Python error: .*", said, re.MULTILINE)
    return found[0] + place(said) if found else ""


def place(said: str) -> str:
    """Where the Python code of a benchmark or of ours was, by `faulthandler`'s list of frames."""
    frames = re.findall(r'File "([^"]+)", line (\d+) in (\w+)', said)
    ours = [f for f in frames if Path(f[0]).is_relative_to(ROOT) and not f[0].endswith("bench/parts.py")]
    return ", in {2} ({0}:{1})".format(Path(ours[0][0]).name, *ours[0][1:]) if ours else ""


def all_of(
    parts: list[Part], quick: bool, seconds: float, keep: Callable[[Tables], object],
    environment: Environment = None, tables: Tables | None = None,
) -> Tables:  # fmt: skip
    """The tables of all parts, in order, in so many seconds; `keep` gets what there is after each."""
    until = time.monotonic() + seconds
    tables = {} if tables is None else tables
    for part in parts:
        start = time.monotonic()
        table = tables.setdefault(part.table, [])
        left = min(part.seconds, until - start)
        if left < min(LEAST, part.seconds):
            table.append(part.missing(f"the {seconds:.0f} s for all parts were up"))
        else:
            for found in part.rows(quick, left, environment):
                print(" ".join(filter(None, found.values())), flush=True)
                put(table, found)
        print(f"  [{part}: {time.monotonic() - start:.1f} s]", flush=True)
        keep(tables)
    return tables


def put(table: list[Row], found: Row) -> None:
    """Into a table, in the place of an earlier row of the same part, subject and peer."""
    place = [k for k, row in enumerate(table) if all(row[key] == found[key] for key in KEY)]
    if place:
        table[place[0]] = found
    else:
        table.append(found)


def main() -> None:
    """The process of a part."""
    function, file, options, table = sys.argv[1:]
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=False)
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0"):
        sys.setswitchinterval(1e-4)  # the simulator's threads wait for each other
    given = json.loads(options)
    quick = given.pop("quick")
    with open(file, "a") as out:
        try:
            for found in Part(table, function, options=given).here(quick):
                print(json.dumps(found), file=out, flush=True)
        except Exception as error:
            print(json.dumps(row(table, f"{function}: failed", note=problem(error))), file=out, flush=True)


if __name__ == "__main__":
    main()
