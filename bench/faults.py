"""Files of a run spoiled on purpose, disks filled, links planted: how often, and how often it was survived.

A fault is survived if the run's newest good checkpoint is used, or the error is ours and says what to do, and
nothing that was good before is changed.
"""

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from unittest.mock import patch

import microgradx as mg
from microgradx import data, nn, optim
from microgradx.errors import CheckpointError
from microgradx.training import History, Run

Count = tuple[int, int]
"""Faults tried, and survived."""

TRAIN, VALID = data.moons(60)


def trained(folder: Path, epochs: int = 3, drawn: bool = False, **more: object) -> nn.Module:
    """A small model after `fit`, in a folder that keeps the run; its figures take long, and are left out."""
    mg.seed(0)
    model = nn.MLP([2, 4, 2], dropout=0.2)
    optimizer = optim.Adam(model.named_parameters(), lr=0.01)
    schedule = optim.plans["cosine"](optimizer, 12)
    with nullcontext() if drawn else patch("microgradx.training.loop.draw"):
        mg.fit(
            model, optimizer, TRAIN, VALID, epochs=epochs, batch_size=16, schedule=schedule, eager=True,
            progress=False, out=folder, resume=True, **more,
        )  # fmt: skip
    return model


@contextmanager
def half_done(place: Path) -> Iterator[Run]:
    """A run of 2 of 3 epochs in a folder of its own."""
    run = Run(place / "run")
    shutil.rmtree(run.folder, ignore_errors=True)
    trained(run.folder, 2)
    yield run


def goes_on(run: Run, warns: str = "") -> bool:
    """Whether a run of 2 epochs comes to the bits of a whole one, with a warning that says so much."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        model = trained(run.folder)
    said = [str(w.message) for w in heard]
    return weights(model) == sound() and (any(warns in text for text in said) if warns else not said)


def weights(model: nn.Module) -> bytes:
    """All bits of a model."""
    return b"".join(array.tobytes() for array in model.state_dict().values())


@cache
def sound() -> bytes:
    """The bits of a run of 3 epochs that nothing befell."""
    with tempfile.TemporaryDirectory() as place:
        return weights(trained(Path(place) / "run"))


def spoiled(place: Path, ways: Iterator[Callable[[Path, bytes], object]]) -> Count:
    """Spoil the last checkpoint in many ways: it is named, and the one before it is as good as it was."""
    tried = survived = 0
    with half_done(place) as run:
        content, before = run.last.read_bytes(), run.previous.read_bytes()
        for spoil in ways:
            spoil(run.last, content)
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always")
                try:
                    _, state = run.newest()
                    used = state["position"]["epoch"] == 2 if not heard else True
                    good = used and (not heard or str(run.last) in str(heard[0].message))
                except CheckpointError as error:  # a flip can make the version a later one
                    good = "a newer microgradx wrote it" in str(error)
            tried, survived = tried + 1, survived + (good and run.previous.read_bytes() == before)
        survived -= not goes_on(run, "is ") if heard else 0
    return tried, survived


def torn(tries: int, seed: int, place: Path) -> Count:
    """The last checkpoint cut at many lengths."""
    draw = random.Random(seed)
    ways = (
        lambda path, whole: path.write_bytes(whole[: draw.randrange(len(whole))]) for _ in range(10 * tries)
    )
    return spoiled(place, ways)


def flipped(tries: int, seed: int, place: Path) -> Count:
    """One bit of the last checkpoint turned, anywhere."""
    draw = random.Random(seed)

    def flip(path: Path, whole: bytes) -> None:
        bit = draw.randrange(8 * len(whole))
        path.write_bytes(whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :])

    return spoiled(place, (flip for _ in range(20 * tries)))


def zeroed(tries: int, seed: int, place: Path) -> Count:
    """A block of the last checkpoint that never reached the disk, and reads as zeros."""
    draw = random.Random(seed)

    def zero(path: Path, whole: bytes) -> None:
        start = draw.randrange(len(whole))
        path.write_bytes((whole[:start] + bytes(512) + whole[start + 512 :])[: len(whole)])

    return spoiled(place, (zero for _ in range(10 * tries)))


def header(text: object, rest: bytes = b"") -> bytes:
    """A safetensors file with a header that somebody else wrote."""
    words = text if isinstance(text, bytes) else json.dumps(text).encode()
    return len(words).to_bytes(8, "little") + words + rest


HUGE = 1 << 42


def array(dtype: str, size: int, *ends: int) -> dict[str, object]:
    """An array in a header: what it says of its type, its size and its place."""
    return {"dtype": dtype, "shape": [size], "data_offsets": ends}


OURS = {"format": "microgradx 1", "tree": "0", "sha256": ""}
FOREIGN = {
    "empty": b"",
    "a zip": b"PK\3\4 something else",
    "a pickle": b"\x80\4\x95\x0b\0\0\0\0\0\0\0\x8c\2os\x8c\6system\x93.",
    "a header of terabytes": HUGE.to_bytes(8, "little") + b"{}",
    "arrays of terabytes": header({"w": array("F32", HUGE, 0, 4 * HUGE)}),
    "a size that overflows": header({"w": array("F32", 1 << 63, 0, 4)}, b"1234"),
    "negative offsets": header({"w": array("F32", 1, -4, 0)}, b"1234"),
    "arrays that overlap": header({name: array("F32", 1, 0, 4) for name in "vw"}, b"1234"),
    "a deep header": header(b"[" * 100_000),
    "no text": header(b"\xff\xfe\0"),
    "weights of another program": header({"w": array("F32", 1, 0, 4)}, b"1234"),
    "no tree": header({"__metadata__": {"format": "microgradx 1"}}),
    "a deep tree": header({"__metadata__": OURS | {"tree": "[" * 100_000}}),
    "another format of ours": header({"__metadata__": OURS | {"format": "microgradx -1"}}),
    "numbers that NumPy lacks": header({"__metadata__": OURS, "w": array("BF16", 2, 0, 4)}, b"1234"),
}
"""What may stand in the place of a checkpoint."""


def foreign(tries: int, seed: int, place: Path) -> Count:
    """Files of other programs, and headers that lie, in the place of the last checkpoint."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ways = [lambda path, _, content=content: path.write_bytes(content) for content in FOREIGN.values()]
    tried, survived = spoiled(place, iter(ways))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    return tried, survived if grown < 200_000 else 0  # kB


def all_spoiled(tries: int, seed: int, place: Path) -> Count:
    """No checkpoint is whole: an error names each, and the folder stays as it is."""
    survived = 0
    for _ in range(tries):
        with half_done(place) as run:
            paths = (run.last, run.previous, run.best)
            for path in paths:
                path.write_bytes(path.read_bytes()[:-3])
            try:
                trained(run.folder)
            except CheckpointError as error:
                survived += all(str(path) in str(error) for path in paths)
    return tries, survived


def newer(tries: int, seed: int, place: Path) -> Count:
    """A checkpoint of a format to come is refused with a sentence, and left alone."""
    survived = 0
    with half_done(place) as run:
        for version in range(2, tries + 2):
            content = header({"__metadata__": {"format": f"microgradx {version}", "new": "things"}})
            run.last.write_bytes(content)
            try:
                trained(run.folder)
            except CheckpointError as error:
                survived += f"(format {version}, this one reads up to 1)" in str(error)
            survived -= run.last.read_bytes() != content
    return tries, survived


def torn_history(tries: int, seed: int, place: Path) -> Count:
    """The last line of the history cut anywhere, or followed by zeros: the run goes on."""
    draw, survived = random.Random(seed), 0
    for number in range(tries):
        with half_done(place) as run:
            line = b'{"epoch": 3, "loss": 0.25}\n'
            ends = [line[: draw.randrange(len(line) - 1)], bytes(100), "größe".encode()[:3], line]
            with run.history.open("ab") as file:
                file.write(ends[number % len(ends)])
            survived += goes_on(run) and History.read(run.history)["epoch"] == [1, 2, 3]
    return tries, survived


def configuration(tries: int, seed: int, place: Path) -> Count:
    """A configuration that is gone, torn or nonsense is taken from a checkpoint."""
    survived = 0
    with half_done(place) as run:
        whole, text = run.read(), run.config.read_bytes()
        contents = [None, b"", text[:-20], b"[1]", b"\xff" * 9, b"[" * 100_000]
        for content in contents:
            run.config.unlink(missing_ok=True)
            if content is not None:
                run.config.write_bytes(content)
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always")
                survived += run.read() == whole and "taken from a checkpoint" in str(heard[0].message)
    return len(contents), survived


def full(tries: int, seed: int, place: Path) -> Count:
    """No room for what is to be written: a clear error, the files as they were, and going on afterwards."""
    draw, survived = random.Random(seed), 0
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for _ in range(tries):
        with half_done(place) as run:
            before = {path: path.read_bytes() for path in run.folder.glob("*.safetensors")}
            resource.setrlimit(resource.RLIMIT_FSIZE, (draw.randrange(1, run.last.stat().st_size), limits[1]))
            try:
                trained(run.folder)
                said = ""
            except CheckpointError as error:
                said = str(error)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            good = "cannot be written: File too large. Allow larger files" in said
            good &= all(path.read_bytes() == content for path, content in before.items())
            survived += good and goes_on(run) and not list(run.folder.glob(".*"))
    return tries, survived


def no_room(tries: int, seed: int, place: Path) -> Count:
    """A file system that is really full (a tmpfs, for root): the error says so, and the run goes on."""
    disk, survived = place / "disk", 0
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True
    ).returncode:
        return 0, 0
    try:
        for _ in range(tries):
            with half_done(disk) as run:
                with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
                    while file.write(bytes(4096)):
                        pass
                try:
                    trained(run.folder)
                    said = ""
                except CheckpointError as error:
                    said = str(error)
                (disk / "filler").unlink()
                survived += "cannot be written: No space left on device. Make room" in said and goes_on(run)
    finally:
        subprocess.run(["umount", disk], check=True)
    return tries, survived


def read_only(tries: int, seed: int, place: Path) -> Count:
    """A folder that may not be written, by a user who is not root."""
    survived, user = 0, os.geteuid()
    with tempfile.TemporaryDirectory() as own, half_done(Path(own)) as run:  # all may look into its parents
        folders = Path(own), run.folder
        for folder in folders:
            folder.chmod(0o555)
        for path in run.folder.iterdir():
            path.chmod(0o444)
        before = {path: path.read_bytes() for path in run.folder.iterdir()}
        for _ in range(tries):
            try:
                os.seteuid(user or 65534)
                trained(run.folder)
            except CheckpointError as error:
                survived += "cannot be written: Permission denied. Take a folder that can be" in str(error)
            finally:
                os.seteuid(user)
            survived -= before != {path: path.read_bytes() for path in run.folder.iterdir()}
        for path in (*folders, *run.folder.iterdir()):
            path.chmod(0o700)
        survived -= not goes_on(run)
    return tries, survived


def links(tries: int, seed: int, place: Path) -> Count:
    """Links in the place of every file of a run: what they lead to is never written."""
    victim, survived, tried = place / "victim", 0, 0
    names = ["history.jsonl", "config.json", "last.safetensors", "previous.safetensors", "best.safetensors",
             "curves.png", "confusion.png", f".last.safetensors.{os.getpid()}", f".config.json.{os.getpid()}",
             f".history.jsonl.{os.getpid()}", ".last.safetensors.1"]  # fmt: skip
    for name in names:
        with half_done(place) as run:
            (run.folder / name).unlink(missing_ok=True)
            victim.write_bytes(b"precious")
            (run.folder / name).symlink_to(victim)
            with warnings.catch_warnings(), suppress(CheckpointError):
                warnings.simplefilter("ignore")
                trained(run.folder, drawn=name.endswith("png"))
            tried, survived = tried + 1, survived + (victim.read_bytes() == b"precious")
    return tried, survived


def two_at_once(tries: int, seed: int, place: Path) -> Count:
    """A second training in the folder of the first is refused, and the first ends as it should."""
    survived = 0
    for number in range(tries):
        run, said = Run(place / f"run{number}"), list[str]()

        def second(_: object, run: Run = run, said: list[str] = said) -> None:
            try:
                with run.held():
                    said.append("")
            except CheckpointError as error:
                said.append(str(error))

        model = trained(run.folder, callbacks=[second])
        survived += weights(model) == sound() and all("another process trains in" in text for text in said)
    return tries, survived


def die_before(operation: int, folder: Path) -> None:
    """Kill this process right before it opens, makes, renames or removes the n-th file of a folder."""
    left = iter(range(operation, -1, -1))

    def watch(event: str, given: tuple[object, ...]) -> None:
        ours = any(str(name).startswith(str(folder)) for name in given[:2])
        if ours and event in ("open", "os.rename", "os.remove", "os.mkdir") and next(left) == 0:
            os.kill(os.getpid(), 9)

    sys.addaudithook(watch)


FAULTS = {
    "the last checkpoint cut short": torn,
    "a bit of it turned": flipped,
    "a block of it zero": zeroed,
    "another file in its place, or a header that lies": foreign,
    "no checkpoint is whole": all_spoiled,
    "a checkpoint of a later version": newer,
    "the history torn": torn_history,
    "the configuration gone or damaged": configuration,
    "a limit on the size of files": full,
    "a full disk": no_room,
    "a folder that may not be written": read_only,
    "links in the place of files": links,
    "two processes in one folder": two_at_once,
}
"""Every fault by its name; each takes how many tries, a seed and an empty folder."""
