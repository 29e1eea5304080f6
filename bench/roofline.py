"""Every kernel of three compiled steps against what this machine can do: the rooflines, as pictures.

Each kernel runs by itself, on the data of the last step (`step.report()`); the limits, of matrix products and
of memory, are measured in the same process. A kernel whose data lie in a cache beats memory.
"""

import time

import microgradx as mg
from bench import measure, models
from bench.compiled import JOBS
from bench.measure import duration

METHOD = "One network after the other in one process, the best of rounds; pictures beside this file."


def run(quick: bool = False) -> list[dict[str, object]]:
    """A row per network, and a picture beside the table."""
    rows = []
    for network, batch, _ in JOBS[:2] if quick else JOBS[:3]:
        mg.seed(0)
        step, data = mg.jit(models.ours(network)), network.data(batch)
        for _ in range(5):  # compile, fill caches
            step(*data)
        report = step.report()
        if not quick:
            report.picture(measure.RESULTS / f"{time.strftime('%Y-%m-%d')}-roofline-{network}.png")
        flop = sum(row.flop for row in report.rows)
        bounds = dict.fromkeys(("arithmetic", "memory", "overhead"), 0.0)
        for row in report.rows:
            bounds[row.bound(report.limits)] += row.seconds / report.alone
        rows.append(
            {
                "network": network,
                "batch": batch,
                "step": duration(report.step_seconds),
                "kernels, one by one": duration(report.alone),
                "at best": duration(report.best),
                "GFLOP/s of the step": f"{flop / report.step_seconds / 1e9:.0f}",
                "limit": f"{report.limits.gemm / 1e9:.0f}",
            }
            | {f"in kernels bound by {bound}": f"{share:.0%}" for bound, share in bounds.items()}
        )
    return rows
