"""Files that are files: what only stands in the place of one, such as a pipe, is told, not waited for."""

import errno
import os
from io import BufferedReader
from stat import S_ISBLK, S_ISCHR, S_ISDIR, S_ISFIFO, S_ISREG, S_ISSOCK

KINDS = {
    "a folder": S_ISDIR,
    "a pipe": S_ISFIFO,
    "a socket": S_ISSOCK,
    "a device": S_ISCHR,
    "a disk": S_ISBLK,
}


def strange(path: str | os.PathLike[str]) -> str:
    """What stands at a path, where that is no file: "a pipe"; "" for a file, a link to one, or nothing."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return ""
    return next((kind for kind, known in KINDS.items() if known(mode)), "")


def regular(path: str | os.PathLike[str]) -> BufferedReader:
    """A file to read. An OSError says where there is none, or something that would wait or never end."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    kind = strange(path)  # a socket cannot even be opened, and opening a device may do something
    handle = -1 if kind else os.open(path, flags)
    if handle < 0 or not S_ISREG(os.fstat(handle).st_mode):  # it may have become another since
        if handle >= 0:
            os.close(handle)
        raise OSError(
            errno.EINVAL, f"it is {kind or 'no file'}, and must be a file that can be read again", str(path)
        )
    return open(handle, "rb")
