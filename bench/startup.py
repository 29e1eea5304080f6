"""Start-up in new processes: the import, and the first Adam sweep with a cold and a warm kernel cache."""

import os
import statistics
import subprocess
import sys
import tempfile

BESIDE = ("torch",)
IMPORT = "import time; t = time.perf_counter(); import microgradx; print(time.perf_counter() - t)"

SWEEP = """
import time
import numpy as np
import microgradx as mg
from microgradx import optim
p = mg.zeros(1000, requires_grad=True)
p.grad = np.ones(1000, np.float32)
t = time.perf_counter()
optimizer = optim.Adam([p])
optimizer.step()
print(time.perf_counter() - t)
"""

PEER = "import time; t = time.perf_counter(); import torch; print(time.perf_counter() - t)"


def timed(code: str, cache: str) -> float:
    """The seconds that a new Python prints."""
    environment = os.environ | {"MICROGRADX_CACHE": cache}
    output = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return float(output.stdout)


def run(quick: bool = False) -> list[dict[str, object]]:
    """A row per figure: median and largest of several new processes."""
    times = 3 if quick else 9
    with tempfile.TemporaryDirectory() as warm:
        timed(SWEEP, warm)

        def cold(code: str) -> float:
            with tempfile.TemporaryDirectory() as empty:
                return timed(code, empty)

        measured = {
            "import microgradx": [timed(IMPORT, warm) for _ in range(times)],
            "first Adam step, cold cache": [cold(SWEEP) for _ in range(times)],
            "first Adam step, warm cache": [timed(SWEEP, warm) for _ in range(times)],
            "import torch": [timed(PEER, warm) for _ in range(min(times, 3))],
        }
    return [
        {"what": what, "median": f"{statistics.median(found):.3f} s", "largest": f"{max(found):.3f} s"}
        for what, found in measured.items()
    ]
