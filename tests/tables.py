"""The tables in which functions, operations, rules and data sets are declared, as they were."""

from contextlib import contextmanager

from microgradx import data, optim, primitives, rules, scalars, study

TABLES = scalars.functions, primitives.operations, primitives.cases, rules.rules
TABLES += optim.optimizers, optim.plans, data.datasets, study.surfaces


@contextmanager
def restored():
    """What is declared within is gone afterwards."""
    before = [dict(table) for table in TABLES]
    try:
        yield
    finally:
        for table, then in zip(TABLES, before, strict=True):
            table.clear()
            table.update(then)
