"""A checkpoint is one safetensors file: the arrays, and a JSON description of everything else.

    save("last.safetensors", {"model": model.state_dict(), "epoch": 3})
    load("last.safetensors")["epoch"]

It replaces the older one by a rename, so that a crash leaves the old or the new file, never half of one, and
it carries a digest, so that a damaged file is found out. Nothing in it is code: loading one is safe.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from microgradx.errors import CheckpointError

FORMAT = "microgradx 1"

State = Any  # a tree of dicts, lists, arrays, numbers, strings and None
Packed = Any  # the same as JSON has it


def save(path: str | Path, state: State) -> None:
    """Write `state`, a tree of dicts, lists, arrays, numbers, strings and None, all of it or nothing."""
    from safetensors import numpy as safetensors

    arrays: dict[str, np.ndarray] = {}
    tree = json.dumps(pack(state, "", arrays))
    header = {"format": FORMAT, "tree": tree, "sha256": digest(tree, arrays)}
    replace(Path(path), lambda new: new.write_bytes(safetensors.save(arrays, header)))


def load(path: str | Path) -> State:
    """The state that was saved; CheckpointError says what is wrong with a bad file."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}: check the path, or train first.")
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, LookupError, TypeError, OSError, MemoryError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): use another checkpoint of the run.") from None
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not a checkpoint of this version: its format is {header.get('format')!r}, "
            f"expected {FORMAT!r}."
        )
    tree = header.get("tree", "")
    if digest(tree, arrays) != header.get("sha256"):
        raise CheckpointError(f"{path} is damaged (its digest differs): use another checkpoint of the run.")
    return unpack(json.loads(tree), arrays)


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary path)`, make sure that it reached the disk, and rename it to `path`."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(new)
        with open(new, "rb+") as file:
            os.fsync(file.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def pack(value: object, name: str, arrays: dict[str, np.ndarray]) -> Packed:
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


def unpack(value: Packed, arrays: dict[str, np.ndarray]) -> Packed:
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
