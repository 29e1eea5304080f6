"""How arrays are written where there is little room: small ones whole, large ones by their extremes."""

import numpy as np

from microgradx.eager.devices import on_host
from microgradx.primitives import Operand

FEW = 6
"""So many numbers are written out."""


def short(array: Operand, few: int = FEW) -> str:
    """`0.25`, `[0.25, -1.3]`, `-1.3 … 0.25`; what is not finite is counted."""
    array = on_host(array)
    if not array.size:
        return "empty"
    if array.size <= few:
        flat = array.reshape(-1) if max(array.shape, default=1) == array.size and array.ndim else array
        return bracketed(flat)  # a row or column needs no more than one pair of brackets
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return f"{(~np.isfinite(array)).sum():,} of {array.size:,} not finite"
    return f"{number(array.min())} … {number(array.max())}"


def bracketed(array: np.ndarray) -> str:
    """All numbers, rows in brackets."""
    return f"[{', '.join(map(bracketed, array))}]" if array.ndim else number(array[()])


def number(x: object) -> str:
    """Three digits of a number that is not whole."""
    return f"{x:.3g}" if isinstance(x, float | np.floating) else f"{x}"


def shape_of(array: Operand) -> str:
    """`(4, 2)`; "" for a single number."""
    return str(array.shape) if array.ndim else ""
