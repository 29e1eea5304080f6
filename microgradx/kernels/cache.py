"""Kernels kept on disk, so that only the first process that needs one compiles it.

Files are written all at once under names that never change their meaning, so processes may share a folder;
an object file ends in its own digest. Where there is no usable folder, kernels are compiled in memory.
"""

import hashlib
import os
import warnings
from pathlib import Path
from tempfile import NamedTemporaryFile

from microgradx.errors import CacheWarning

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
        if path.stat().st_mode & 0o022:
            raise PermissionError("others may write to it, and machine code is loaded from it")
    except OSError as error:
        if path not in unusable:
            unusable.add(path)
            problem = f"the kernel cache {path} cannot be used: {error.strerror or error}"
            warnings.warn(f"{problem}. Set MICROGRADX_CACHE to a folder of your own.", CacheWarning, 2)
        return None
    return path


def read(name: str) -> bytes | None:
    """A kept file with a digest, if it is there and whole."""
    place = folder()
    if place is None or not (path := place / name).exists():
        return None
    data = path.read_bytes()
    content, digest = data[:-32], data[-32:]
    if hashlib.sha256(content).digest() == digest:
        return content
    warnings.warn(f"the kernel {path} is damaged and is compiled anew.", CacheWarning, stacklevel=2)
    return None


def write(name: str, content: bytes, digest: bool = False) -> str | None:
    """Keep a file; its path. A digest goes behind the content, where a linker does not look."""
    if (place := folder()) is None:
        return None
    with NamedTemporaryFile(dir=place, delete=False) as file:
        file.write(content + (hashlib.sha256(content).digest() if digest else b""))
    os.replace(file.name, place / name)
    return str(place / name)
