"""Array operations and their vector-Jacobian products; `operations` is the table of all."""

# The files also serve each other: in this order each finds what it needs.
from microgradx.primitives import core, shapes, indexing, reductions, products  # isort: skip
from microgradx.primitives.core import (
    Case,
    Primitive,
    cases,
    executors,
    lift,
    operation,
    operations,
    primitive,
)

__all__ = [
    "Case", "Primitive", "cases", "core", "executors", "indexing", "lift", "operation", "operations",
    "primitive", "products", "reductions", "shapes",
]  # fmt: skip
