"""Array operations and their vector-Jacobian products; `operations` is the table of all."""

# The files also serve each other: in this order each finds what it needs.
from microgradx.primitives import core, shapes, indexing, reductions, products
from microgradx.primitives.core import Case, cases, operation, operations
from microgradx.primitives.core import Operand, Primitive, executors, lift, primitive, readers, values

__all__ = [
    "Case", "cases", "executors", "lift", "Operand", "operation", "operations", "Primitive", "primitive",
    "readers", "values",
]  # fmt: skip
