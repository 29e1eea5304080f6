"""Download a file from the first mirror that has it right; a broken transfer goes on where it stopped.

Only over HTTPS, but for this machine's own addresses, and through no link that lies in the folder.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from microgradx.errors import DataError

Progress = Callable[[str, int, int | None], None]
"""Called with the file's name, the bytes that are there, and the bytes in all, if the server says."""

PIECE = 1 << 16
ATTEMPTS = 5  # per mirror, as long as each brings new bytes


def download(
    urls: Sequence[str],
    path: Path,
    accept: Callable[[Path], None],
    most: int,
    progress: Progress | None = None,
    timeout: float = 20.0,
) -> Path:
    """Fetch `path` from one of `urls`; what arrives must pass `accept` before it gets its name.

    `accept(part)` raises DataError for a wrong file. No more than `most` bytes are taken. `timeout`, in
    seconds, is how long a server may be silent. What was received stays in `path.part`, also if the
    process is killed, and the next call, with whatever mirror, asks only for the rest. Several processes
    may ask for the same file: one fetches it, the others wait for it. Raises DataError.
    """
    from http.client import HTTPException  # only now: it takes a while to load

    part = path.with_name(path.name + ".part")
    failures = []
    with locked(path.parent / ".lock"):
        if path.exists():  # another process fetched it while this one waited
            return path
        for url in urls:
            for _ in range(ATTEMPTS):
                before = size(part)
                try:
                    transfer(url, part, most, progress or show, timeout)
                    accept(part)
                    return part.replace(path)
                except DataError as error:  # wrong bytes: here, or in what was there before
                    part.unlink(missing_ok=True)
                    failures.append(f"{url}: {error}")
                    if not before:
                        break
                except (OSError, HTTPException) as error:
                    failures.append(
                        f"{url}: {getattr(error, 'reason', None) or error or type(error).__name__}"
                    )
                    if size(part) <= before:
                        break
    raise DataError("\n".join(dict.fromkeys(failures)))


def size(path: Path) -> int:
    """The bytes in a file, 0 if it is not there."""
    return path.stat().st_size if path.exists() else 0


def transfer(url: str, part: Path, most: int, progress: Progress, timeout: float) -> None:
    """Add to `part` what it lacks of the file at `url`."""
    import urllib.error
    import urllib.request

    class Redirects(urllib.request.HTTPRedirectHandler):
        """Follows a server to another address, if that is encrypted too."""

        def redirect_request(self, *given: Any) -> urllib.request.Request | None:  # of urllib's types
            encrypted(given[-1])
            return super().redirect_request(*given)

    encrypted(url)
    have = size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "microgradx"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.build_opener(Redirects).open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing is left to send: `part` is whole, or wrong, which `accept` tells
            return
        raise ConnectionError(f"the server answered {error.code} {error.reason}") from error
    with response, open(part, "ab", buffering=0, opener=unlinked) as file:
        if response.status != 206:  # the server sends everything again
            file.truncate(have := 0)
        left = response.headers.get("Content-Length", "")
        total = have + int(left) if left.isdigit() else None
        while piece := response.read1(PIECE):
            have += len(piece)
            if have > most:
                raise DataError(f"the server sends more than {most:,} bytes.")
            file.write(piece)
            progress(part.stem, have, total)
    if total is not None and have < total:
        raise ConnectionError(f"the connection was cut after {have:,} of {total:,} bytes")


def encrypted(url: str) -> None:
    """ConnectionError for an address that is neither HTTPS nor on this machine."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise ConnectionError(f"{url} is not HTTPS: nothing is taken from there.")


def unlinked(path: str, flags: int) -> int:
    """Open a file for this user, but not what a link in its place leads to."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def show(name: str, done: int, total: int | None) -> None:
    """Write progress to stderr: a line that moves on a terminal, elsewhere one line at the end."""
    moving, ended = sys.stderr.isatty(), done == total
    if moving or ended:
        of_all = f" of {total / 1e6:.1f}" if total else ""
        line = f"{name}: {done / 1e6:.1f}{of_all} MB"
        print("\r" * moving + line, end="\n" if ended else "", file=sys.stderr, flush=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, waiting while another process or thread holds it.

    The system frees the lock of a process that dies. Where it has no `flock` (Windows) nothing is locked:
    two downloads then write the same bytes to the same file, and `accept` has the last word.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(path, "a", encoding="utf-8", opener=unlinked) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
