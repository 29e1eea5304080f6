"""A set that lies in many files, as a split whose rows stay there."""

from pathlib import Path

import numpy as np

from microgradx.data.encoding import encode, features
from microgradx.data.shards import Shards, mapped_npy, mapped_npz, one_kind
from microgradx.data.splits import Split, hold_out
from microgradx.data.tables import find_column
from microgradx.errors import DataError


def shards_of(path: Path) -> list[Path]:
    """The files that a pattern such as shards/*.npy or a folder of arrays stands for; none for one file."""
    if "*" in path.name:
        found = [one for one in path.parent.glob(path.name) if one.suffix.lower() in (".npy", ".npz")]
        if not found:
            raise DataError(f"{path}: no .npy or .npz file is called so.")
        return sorted(found)
    return sorted(one for one in path.glob("*.np[yz]")) if path.is_dir() else []


def read_shards(paths: list[Path], label: str | int, regression: bool, test: float, seed: int) -> Split:
    """A split of the rows of many files, of which x stays there."""
    xs, ys = [], []
    for path in paths:
        if path.suffix.lower() == ".npy":
            table = mapped_npy(path)
            if table.ndim != 2 or table.shape[1] < 2:
                what = f"an .npy file holds (rows, features and a label), got {table.shape}"
                raise DataError(f"{path}: {what}. Use .npz for x and y.")
            column = find_column(label, [""] * table.shape[1], header=False)
            if column not in (0, table.shape[1] - 1):
                raise DataError(f"{path}: of several .npy files the label is the first or the last column.")
            xs.append(table[:, 1:] if column == 0 else table[:, :-1])
            ys.append(np.array(table[:, column]))
        else:
            arrays = mapped_npz(path)
            if not {"x", "y"} <= arrays.keys() or len(arrays["x"]) != len(arrays["y"]):
                raise DataError(
                    f"{path}: each of several .npz files holds x and y, as long; got {', '.join(arrays)}."
                )
            xs.append(arrays["x"])
            ys.append(np.array(arrays["y"]))
    x = Shards(xs, features)
    one_kind("y", ys)
    y, classes = encode(np.concatenate(ys), regression)
    shape = xs[0].shape[1:3] if xs[0].ndim == 3 else None
    return Split(*hold_out(x, y, test, seed), shape, classes)  # type: ignore[arg-type]
