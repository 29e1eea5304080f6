"""A checkpoint is one safetensors file: the arrays, and a JSON description of everything else.

    save("last.safetensors", {"model": model.state_dict(), "epoch": 3})
    load("last.safetensors")["epoch"]

It replaces the older one by a rename, so that a crash leaves the old or the new file, never half of one, and
it carries a digest, so that a damaged file is found out. Nothing in it is code: loading one is safe.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from microgradx.data.reading import regular
from microgradx.errors import CheckpointError
from microgradx.training.files import replace

VERSION = 1
FORMAT = f"microgradx {VERSION}"

State = Any  # what is in a file is known to who reads it, and looks
"""A tree of dicts, lists, arrays, numbers, strings and None."""


class DamagedError(CheckpointError):
    """A file that is torn, changed, or none of ours: another checkpoint may be whole."""


def save(path: str | Path, state: State, keep: Path | None = None) -> None:
    """Write `state`, a tree of dicts, lists, arrays, numbers, strings and None, all of it or nothing.

    keep: a name for the older file at `path`, once the new one is whole.
    """
    from safetensors import numpy as safetensors

    arrays: dict[str, np.ndarray] = {}
    tree = json.dumps(pack(state, "", arrays))
    header = {"format": FORMAT, "tree": tree, "sha256": digest(tree, arrays)}
    replace(Path(path), safetensors.save(arrays, header), keep)


def load(path: str | Path) -> State:
    """The state that was saved; CheckpointError says what is wrong with a bad file.

    Nothing is believed before it is checked: the header's sizes against the file's, the format, the digest.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"no checkpoint at {path}: check the path, or train first.")
    try:
        regular(path).close()  # a pipe would wait for somebody to write
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            check_format(path, header.get("format", ""))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        if digest(header["tree"], arrays) != header["sha256"]:
            raise DamagedError(f"{path} is damaged (its digest differs): use another checkpoint of the run.")
        return unpack(json.loads(header["tree"]), arrays)
    except (SafetensorError, LookupError, TypeError, RecursionError, OSError, MemoryError) as error:
        why = getattr(error, "strerror", None) or error
        raise DamagedError(f"{path} is damaged ({why}): use another checkpoint of the run.") from None
    except ValueError as error:
        if isinstance(error, CheckpointError):
            raise
        raise DamagedError(f"{path} is damaged ({error}): use another checkpoint of the run.") from None


def check_format(path: Path, given: str) -> None:
    """CheckpointError for what a later version wrote, DamagedError for what is none of ours."""
    name, _, version = given.partition(" ")
    if given == FORMAT:
        return
    if name == "microgradx" and version.isdecimal() and int(version) > VERSION:
        newer = f"a newer microgradx wrote it (format {version}, this one reads up to {VERSION})"
        raise CheckpointError(f"{path}: {newer}. Update microgradx, or load it where it was written.")
    raise DamagedError(f"{path} is no checkpoint of microgradx: its format is {given!r}, not {FORMAT!r}.")


def pack(value: object, name: str, arrays: dict[str, np.ndarray]) -> object:
    """`value` as JSON, its arrays moved to `arrays` under the path that leads to them."""
    if isinstance(value, np.ndarray):
        name = f"{name} {len(arrays)}" if name in arrays else name  # "a/b" beside "a" that has a "b"
        arrays[name] = np.asarray(value, order="C")
        return {"array": name}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        # as pairs: a key may be an int, which a JSON object would turn into a string
        return {"items": [[key, pack(item, f"{name}/{key}", arrays)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": pack(list(value), name, arrays)}
    if isinstance(value, list):
        return [pack(item, f"{name}/{i}", arrays) for i, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise CheckpointError(
        f"a checkpoint holds arrays, numbers and strings; {name} is a {type(value).__name__}."
    )


def unpack(value: object, arrays: dict[str, np.ndarray]) -> State:
    """The opposite of `pack`."""
    if isinstance(value, list):
        return [unpack(item, arrays) for item in value]
    if isinstance(value, dict):
        if "array" in value:
            return arrays[value["array"]]
        if "tuple" in value:
            return tuple(unpack(value["tuple"], arrays))
        return {key: unpack(item, arrays) for key, item in value["items"]}
    return value


def digest(tree: str, arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 over the description and, in order of their names, the bytes of all arrays."""
    sha = hashlib.sha256(tree.encode())
    for name in sorted(arrays):
        sha.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        sha.update(arrays[name].reshape(-1).view(np.uint8).data)
    return sha.hexdigest()
