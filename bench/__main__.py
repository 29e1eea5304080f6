"""`python -m bench` lists the benchmarks, `python -m bench NAME ...` (or `all`) runs them.

Each prints its table and writes it to bench/results; `--quick` runs a shorter version and writes nothing.
`python -m bench NAME --help` says which options of its own a benchmark has.
"""

import argparse
import ast
import importlib
import inspect
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from bench import measure

APART = ("compare", "gpu_day")
"""What `all` does not run: one wants commits, the other a GPU."""
PEERS = {"sklearn": "scikit-learn"}
"""What is installed under another name than it is imported; `BESIDE` of a benchmark names what it imports."""
UNFAIR = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "PYTHONDONTWRITEBYTECODE")
"""What pins BLAS to an old core, or has each process compile what an installation has compiled."""


def benchmarks() -> dict[str, str]:
    """Every module with a `run`, by name, with the first line of its description; none is imported."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").splitlines()[0]
    return found


def main() -> int:
    """Run the benchmarks that the command line names."""
    if any(name in os.environ for name in UNFAIR):  # start again without
        clean = {name: value for name, value in os.environ.items() if name not in UNFAIR}
        os.execve(sys.executable, [sys.executable, "-m", "bench", *sys.argv[1:]], clean)
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, add_help=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which to run; all of them with 'all'")
    parser.add_argument("--quick", action="store_true", help="a short run, for trying; writes no file")
    arguments, _ = parser.parse_known_args()
    known = benchmarks()
    names = [name for name in known if name not in APART] if arguments.names == ["all"] else arguments.names
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    modules = {name: importlib.import_module(f"bench.{name}") for name in names}
    for module in modules.values():
        getattr(module, "options", lambda parser: None)(parser)
    parser.add_argument("-h", "--help", action="help", help="show this and end")
    chosen = vars(parser.parse_args())
    if not names:
        for name, text in known.items():
            print(f"{name:12} {text}")
        return 0
    beside = dict.fromkeys(peer for module in modules.values() for peer in getattr(module, "BESIDE", ()))
    if absent := [PEERS.get(peer, peer) for peer in beside if not find_spec(peer)]:
        parser.error(
            f"{' and '.join(names)} measure beside others, which are missing: pip install {' '.join(absent)}"
        )
    slower = False
    for name, module in modules.items():
        print(f"{name}: {known[name]}", flush=True)
        taken = inspect.signature(module.run).parameters.keys() & chosen.keys()
        rows = module.run(**{option: chosen[option] for option in taken})
        print(measure.table(rows), flush=True)
        slower |= any(row.get("verdict") == "slower" for row in rows)
        if not arguments.quick and not hasattr(module, "keep"):  # which has written its tables by itself
            method = getattr(module, "METHOD", measure.TURNS)
            note = f"Command: `python -m bench {' '.join(sys.argv[1:])}`. {method}"
            print(f"written to {measure.write(name, known[name], rows, note)}", flush=True)
    return int(slower)  # than the commit before, which `compare` found


if __name__ == "__main__":
    sys.exit(main())
