"""The first call of a compiled step in a new process, beside torch.compile's and jax.jit's.

Cold: nothing compiled is on disk. Warm: what a process before has left there; JAX is asked to leave it, too.
The call traces, compiles, runs one step, and may import more; `import` is that of the library itself.
"""

import os
import statistics
import subprocess
import sys
import tempfile

from bench.measure import duration
from bench.models import Network

BESIDE = ("torch", "jax")
NETWORKS = [Network((784, 128, 10)), Network((784, 1000, 1000, 10)), Network((784, *[128] * 20, 10))]

CODE = """
import time
start = time.perf_counter()
import {library}
imported = time.perf_counter() - start
from bench import compiled, steps
from bench.models import Network
step = {make}
start = time.perf_counter()
step()
print(imported, time.perf_counter() - start)
"""

MAKERS = {
    "microgradx": "compiled.call(Network({sizes}), 128)",
    "torch": "steps.torchs(Network({sizes}), 128, compiled=True)",
    "jax": "steps.jaxs(Network({sizes}), 128)",
}
"""How a step is made, by the library that is imported before."""


def first(library: str, network: Network, folder: str) -> tuple[float, float]:
    """Seconds of the import and of the first call, with this folder for what is compiled."""
    caches = ("MICROGRADX_CACHE", "TORCHINDUCTOR_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR")
    environment = os.environ | dict.fromkeys(caches, folder)
    environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}  # it keeps only slow ones otherwise
    code = CODE.format(library=library, make=MAKERS[library].format(sizes=network.sizes))
    output = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    imported, called = map(float, output.split())
    return imported, called


def run(quick: bool = False) -> list[dict[str, object]]:
    """A row per network and library: medians of several processes, of one for PyTorch's cold call."""
    rows: list[dict[str, object]] = []
    for network in NETWORKS[:1] if quick else NETWORKS:
        for library in MAKERS:
            cold, warm = [], []
            for _ in range(1 if quick or library == "torch" else 3):
                with tempfile.TemporaryDirectory() as folder:
                    cold.append(first(library, network, folder))
                    warm += [first(library, network, folder) for _ in range(1 if quick else 3)]
            rows.append(
                {
                    "network": network,
                    "library": library,
                    "cold": duration(statistics.median(called for _, called in cold)),
                    "warm": duration(statistics.median(called for _, called in warm)),
                    "import": duration(statistics.median(imported for imported, _ in warm)),
                }
            )
    return rows
