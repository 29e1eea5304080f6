"""Where the files of a published set are: in a folder of yours, Debian's, the cache, or on a mirror."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from microgradx.data.download import Progress, download
from microgradx.data.idx import idx_header, read_idx
from microgradx.data.reading import regular
from microgradx.errors import DataError

SYSTEM = Path("/usr/share/datasets")  # where Debian's dataset-* packages put their files


def cache_folder() -> Path:
    """Where downloads are kept: `data` in MICROGRADX_CACHE, or in the user's cache folder."""
    if chosen := os.environ.get("MICROGRADX_CACHE"):
        return Path(chosen) / "data"
    from platformdirs import user_cache_path

    return user_cache_path("microgradx") / "data"


def folders(collection: str) -> list[Path]:
    """Where files of `collection` are looked for, in this order; the last is where downloads go."""
    mine = os.environ.get("MICROGRADX_DATA")
    return [Path(root).expanduser() / collection for root in (mine, SYSTEM, cache_folder()) if root]


def find(collection: str, name: str) -> Path | None:
    """The file `name` of a collection, or its uncompressed copy, in the first folder that has it."""
    names = (name, name.removesuffix(".gz"))
    paths = (folder / candidate for folder in folders(collection) for candidate in names)
    return next((path for path in paths if path.is_file()), None)


def missing(collection: str, names: list[str], reason: str) -> str:
    """What to do where files are in no folder and cannot be downloaded, in lines that can be copied."""
    files = f"{len(names)} files are" if len(names) > 1 else f"{names[0]} is"
    parts = {
        f"{collection}: {files} missing, and could not be downloaded:": reason.splitlines(),
        "Get from elsewhere:": names,
        "Put into one of these folders:": [str(folder) for folder in folders(collection)],
    }
    lines = [line for title, items in parts.items() for line in (title, *(f"  {item}" for item in items))]
    return "\n".join([*lines, f"or into the folder {collection} of a folder that MICROGRADX_DATA names."])


@dataclass(frozen=True)
class PublishedFile:
    """A file that others published: its digest, and that of the IDX bytes in it, where that is known."""

    name: str
    size: int
    digest: str
    content: str = ""

    def obtain(
        self,
        collection: str,
        mirrors: tuple[str, ...],
        progress: Progress | None,
        names: tuple[str, ...] = (),
    ) -> Path:
        """The path of this file, downloaded to the cache if no folder has it; `names` are what goes with it.

        Raises DataError.
        """
        if path := find(collection, self.name):
            return path
        *_, cache = folders(collection)
        try:
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            urls = [mirror + self.name for mirror in mirrors]
            return download(urls, cache / self.name, self.accept, 2 * self.size, progress)
        except (OSError, DataError) as error:
            absent = [name for name in names or (self.name,) if not find(collection, name)]
            raise DataError(missing(collection, absent, str(error))) from error

    def accept(self, path: Path) -> None:
        """Raise DataError if a download is not this file, nor the same data compressed otherwise."""
        with regular(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != self.digest:
            if not self.content:
                raise DataError(f"its SHA-256 is {digest}, not {self.digest}.")
            self.check(path, read_idx(path))

    def check(self, path: Path, array: np.ndarray) -> np.ndarray:
        """`array`, if it is the published one; where no digest of the IDX bytes is known, it passes."""
        if not self.content:
            return array
        content = hashlib.sha256(idx_header(array))
        content.update(array.reshape(-1).view(np.uint8).data)
        if content.hexdigest() != self.content:
            raise DataError(
                f"{path} is not the published {self.name}: the SHA-256 of its IDX bytes is "
                f"{content.hexdigest()}, not {self.content}. Remove it, or read it with data.read_idx."
            )
        return array
