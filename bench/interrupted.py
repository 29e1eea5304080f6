"""Sweeps killed at random moments and resumed until they are done: what was lost, repeated or left behind.

Each kill hits the parent (`kill -9`, Ctrl-C, SIGTERM) or one of its workers. In the end the results are
compared with a sweep that nothing befell, and /proc is searched for processes that outlived their parent.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

METHOD = (
    "A trial is lost if it ended before the kill and is not in the journal, or if its result has other bits."
)
GRID = ["--grid=lr=1e-3..1e-1:log:8", "--grid=dropout=0,0.2", "--seeds=2", "--epochs=20", "--model=64-32-10"]
CODES = {"SIGKILL": (-9, 0), "SIGINT": (130, -2, 0), "SIGTERM": (143, -15, 0)}
"""What a stopped process may end with: it may have ended before, or not yet begun to listen."""
KINDS = (*CODES, "worker")
STARTER = """
import signal, sys
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from microgradx.cli import main
    main(sys.argv[1:])
"""


def options(parser: Any) -> None:
    """The command's own options."""
    parser.add_argument("--tries", type=int, default=20, help="kills of each kind")
    parser.add_argument("--kind", choices=KINDS, help="one of the rows; all without it")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")


def children(pid: int) -> list[int]:
    """The processes that one has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(path.parent.name))
    return found


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def outlived(pids: list[int]) -> bool:
    """Whether a process still runs after half a minute: one that starts hears late of its parent's end."""
    end = time.monotonic() + 30
    while time.monotonic() < end and any(map(alive, pids)):
        time.sleep(0.1)
    return any(map(alive, pids))


def told(what: str) -> bool:
    """Print what was wrong; False."""
    print(f"  {what}", flush=True)
    return False


def lines(folder: Path) -> list[str]:
    """The whole lines of a journal, without times and deaths."""
    path = folder / "trials.jsonl"
    whole = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    entries = [json.loads(line) for line in whole]
    return sorted(json.dumps(e | {"seconds": 0}, sort_keys=True) for e in entries if "died" not in e)


def interrupted(
    kind: str, tries: int, draw: random.Random, place: Path, expected: list[str]
) -> tuple[int, int, int]:
    """Kills, and after how many of them something was wrong: results, or processes left behind."""
    kills = wrong = left = number = 0
    while kills < tries:
        folder, before, good, ended = place / f"{kind}-{number}", [], True, False
        while not ended:
            begun = (folder / "sweep.json").exists()
            words = [f"--resume={folder}"] if begun else [f"--out={folder}", *GRID]
            command = [sys.executable, str(place / "start.py"), "sweep", "--quiet", "--processes=2", *words]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(draw.uniform(1, 8) if kills < tries else None)
            except subprocess.TimeoutExpired:
                kills += 1
                workers = children(process.pid)
                if kind == "worker":
                    if workers:
                        os.kill(draw.choice(workers), signal.SIGKILL)
                    process.wait()
                else:
                    process.send_signal(getattr(signal, kind))
                    if process.wait() not in CODES[kind]:
                        good = told(f"{kind}: exit code {process.returncode}")
                left += any(map(alive, workers)) and outlived(workers)
            ended = process.returncode == 0
            gone = set(before) - set(before := lines(folder))
            if gone or process.returncode == 1:
                good = told(f"{kind}: exit code {process.returncode}, lost {gone}")
        number += 1
        wrong += not (good and before == expected)
    return kills, wrong, left


def run(
    quick: bool = False, kind: str | None = None, tries: int = 20, seed: int = 0
) -> list[dict[str, object]]:
    """A row per kind of kill."""
    draw, rows = random.Random(seed), []
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "start.py").write_text(STARTER)
        whole = [sys.executable, f"{place}/start.py", "sweep", "--quiet", f"--out={place}/whole", *GRID]
        subprocess.run(whole, check=True, stdout=subprocess.DEVNULL)
        expected = lines(Path(place) / "whole")
        for name in [kind] if kind else KINDS:
            kills, wrong, left = interrupted(name, 3 if quick else tries, draw, Path(place), expected)
            rows.append({"killed": name, "kills": kills, "sweeps with losses": wrong, "left behind": left})
    return rows
