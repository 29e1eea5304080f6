"""Files of a run: written whole or not at all, through no link, by one process at a time.

    replace(Path("run/last.safetensors"), content)
    with held(Path("run")): ...

A crash leaves the old or the new file, never half of one; a full disk leaves the old one and an error.
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from microgradx.data.reading import strange
from microgradx.errors import CheckpointError

Json = dict[str, Any]  # the user's too, or a later version's: whoever reads looks at what is there
"""An object as JSON has it."""

ADVICE = {
    errno.ENOSPC: "Make room there",
    errno.EDQUOT: "Make room there",
    errno.EFBIG: "Allow larger files (ulimit -f)",
    errno.EROFS: "Take a folder that can be written",
    errno.EACCES: "Take a folder that can be written",
    errno.ELOOP: "It is a link, and links are not followed: remove it",
}
"""What to do about an error of the system."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Inside, an error of the system becomes one that says what could not be written, and what to do."""
    try:
        yield
    except OSError as error:
        what = f"{path} cannot be written: {error.strerror or error}"
        advice = ADVICE.get(error.errno or 0, "Take another place")
        raise CheckpointError(f"{what}. {advice}; what was saved before is kept.") from error


def replace(path: Path, content: bytes, keep: Path | None = None) -> None:
    """Put a file in the place of `path`, which becomes `keep`, if there is one, once the new one is whole."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with writing(path):
        if not path.is_symlink() and (kind := strange(path)):
            raise OSError(errno.EEXIST, f"there is {kind}")  # a device is not to become a file
        try:
            new.unlink(missing_ok=True)  # of a process that died with this number, or a link
            with open(new, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            with open(new, "rb") as file:
                if hashlib.file_digest(file, "sha256").digest() != hashlib.sha256(content).digest():
                    raise OSError(errno.EIO, "what was written reads otherwise")
            if keep is not None and path.exists():
                path.replace(keep)
            new.replace(path)
        finally:
            with suppress(OSError):
                new.unlink(missing_ok=True)
    with suppress(OSError):  # not every system has files that are folders
        settle(path.parent)


def settle(folder: Path) -> None:
    """Make sure that the names in a folder have reached the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put_aside(path: Path) -> str:
    """Rename what is no file in the place of one, and say so: "" where there is nothing of the kind."""
    kind = "" if path.is_symlink() else strange(path)
    if not kind:
        return ""
    names = (path.with_name(f"{path.name}.strange{k or ''}") for k in count())
    with writing(path):
        aside = path.rename(next(name for name in names if not os.path.lexists(name)))
    return f"{path} is {kind} and no file: it is {aside.name} from now on"


def append(path: Path, text: str) -> None:
    """Add to a file, and wait until it is on the disk: a checkpoint that follows may count on it."""
    with writing(path), open(path, "ab", opener=unlinked) as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def unlinked(path: str, flags: int) -> int:
    """Open a file, but not what a link in its place leads to."""
    no_wait = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # as a pipe would
    return os.open(path, flags | no_wait, 0o666)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Be the one process that trains in a folder, which is made if need be, for this user alone.

    The system lets go of it when the process dies, however it dies. What a dead one left half is removed.
    """
    with writing(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                what = f"another process trains in {folder}"
                raise CheckpointError(f"{what}: wait until it ends, or choose another folder.") from None
        with suppress(OSError):
            for half in folder.glob(".*.*"):
                if half.suffix[1:].isdigit():
                    half.unlink()
        yield
    finally:
        os.close(handle)
