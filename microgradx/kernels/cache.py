"""Kernels kept on disk, so that only the first process that needs one compiles it.

Files are written all at once under names that never change their meaning, so processes may share a folder;
an object file ends in its own digest. Above MICROGRADX_CACHE_LIMIT the kernels used longest ago are removed.
Where there is no usable folder, kernels are compiled in memory.
"""

import hashlib
import os
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from tempfile import NamedTemporaryFile

from microgradx.errors import ArgumentError, CacheWarning

try:
    import fcntl
except ImportError:  # Windows: two processes may compile the same kernel, and either result is right
    fcntl = None  # type: ignore[assignment]

patience = 20.0  # seconds to wait for another process's kernel: several times what the longest takes

unusable: set[Path] = set()
"""Folders that there has been a warning about: one each."""


def folder() -> Path | None:
    """MICROGRADX_CACHE or the user's cache folder, made if need be; None if it is unusable."""
    from platformdirs import user_cache_path

    place = os.environ.get("MICROGRADX_CACHE") or user_cache_path("microgradx")
    path = Path(place).absolute() / "kernels"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError("it is read-only")
        if path.is_symlink() and path.lstat().st_uid != path.stat().st_uid:
            raise PermissionError("it is a link that another user made")
        if shared(path.stat()):
            raise PermissionError("others own it or may write to it, and machine code is loaded from it")
    except OSError as error:
        if path not in unusable:
            unusable.add(path)
            problem = f"the kernel cache {path} cannot be used: {error.strerror or error}"
            warnings.warn(f"{problem}. Set MICROGRADX_CACHE to a folder of your own.", CacheWarning, 2)
        return None
    return path


def shared(status: os.stat_result) -> bool:
    """Whether another user owns a file or may write to it; Windows keeps users apart by other means."""
    return hasattr(os, "getuid") and (status.st_uid != os.getuid() or bool(status.st_mode & 0o022))


def limit() -> float:
    """How many bytes the folder may take: MICROGRADX_CACHE_LIMIT in MB, or 512 MB."""
    text = os.environ.get("MICROGRADX_CACHE_LIMIT") or "512"
    with suppress(ValueError):
        if (most := float(text)) > 0:
            return most * 1e6
    message = "the limit of the kernel cache is a number of MB above 0"
    raise ArgumentError(f"MICROGRADX_CACHE_LIMIT={text!r}: {message}.")


def read(name: str) -> bytes | None:
    """A kept file with a digest, if it is there, whole and this user's; it counts as used now."""
    if (place := folder()) is None:
        return None
    path = place / name
    try:
        with path.open("rb") as file:
            strange, data = shared(os.fstat(file.fileno())), file.read()
        content, digest = data[:-32], data[-32:]
        if strange:
            problem = "belongs to another user or may be changed by one"
        elif hashlib.sha256(content).digest() != digest:
            problem = "is damaged"
        else:
            os.utime(path)
            return content
    except FileNotFoundError:  # never written, or just removed by another process
        return None
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    warnings.warn(f"the kernel {path} {problem} and is compiled anew.", CacheWarning, stacklevel=2)
    return None


def write(name: str, content: bytes, digest: bool = False) -> str | None:
    """Keep a file; its path. A digest goes behind the content, where a linker does not look."""
    most = limit()
    if (place := folder()) is None:
        return None
    path, kernel, new = place / name, name.partition(".")[0], None
    try:
        with NamedTemporaryFile(dir=place, prefix=f"{kernel}.", delete=False) as file:
            new = file.name
            file.write(content + (hashlib.sha256(content).digest() if digest else b""))
        os.replace(new, path)
    except OSError as error:
        if new:
            Path(new).unlink(missing_ok=True)
        problem = f"the kernel {path} cannot be kept: {error.strerror}"
        warnings.warn(f"{problem}. Every process compiles it anew.", CacheWarning, stacklevel=2)
        return None
    trim(place, most, kernel)
    return str(path)


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Let one process at a time make a kernel: who enters later finds it made, if it looks inside.

    A crash ends the lock with its process; after `patience` seconds of waiting one goes on without it.
    """
    place = folder()
    path = place / f"{name}.lock" if place and fcntl else None
    lock = acquire(path) if path else None
    try:
        yield
    finally:
        if path and lock is not None:
            path.unlink(missing_ok=True)  # while it is locked: who waits then looks for a file anew
            os.close(lock)


def acquire(path: Path) -> int | None:
    """A file, open and locked; None where there are no locks, or where another process keeps it too long."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), path.stat()):
                return lock
        except (BlockingIOError, FileNotFoundError):  # another holds it, or has just removed it
            time.sleep(0.01)
        except OSError:
            end = 0
        os.close(lock)
    return None


def files(place: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The files in the folder; other processes may remove them meanwhile."""
    for path in place.iterdir():
        with suppress(FileNotFoundError):
            if S_ISREG((status := path.stat()).st_mode):
                yield path, status


def entries() -> list[tuple[str, int, float]]:
    """The kernels kept: name, bytes of all its files, and the time it was last used; the latest first."""
    size: Counter[str] = Counter()
    used: dict[str, float] = {}
    for path, status in files(place) if (place := folder()) else ():
        if path.suffix not in (".json", ".lock"):  # measurements of the machine, processes at work
            name = path.name.partition(".")[0]
            size[name] += status.st_size
            used[name] = max(used.get(name, 0), status.st_mtime)
    return [(name, size[name], used[name]) for name in sorted(used, key=lambda name: -used[name])]


def trim(place: Path, most: float, spared: str) -> None:
    """Remove the kernels used longest ago, but not `spared`, until all take no more than `most` bytes."""
    kept = entries()
    total = sum(size for _, size, _ in kept)
    while kept and total > most:
        name, size, _ = kept.pop()
        if name != spared:
            total -= size
            remove(place.glob(f"{name}.*"))


def clear() -> int:
    """Remove everything in the folder; the bytes freed."""
    there = list(files(place)) if (place := folder()) else []
    remove(path for path, _ in there)
    return sum(status.st_size for _, status in there)


def remove(paths: Iterable[Path]) -> None:
    """Remove files, if no other process has done so."""
    for path in paths:
        path.unlink(missing_ok=True)
