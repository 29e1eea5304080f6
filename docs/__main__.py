"""`python -m docs`: make the site and check every link in it. It opens from the disk: build/site."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from sphinx.cmd.build import main as sphinx

from docs import checks, staging


def main() -> int:
    """Stage the sources, build strictly, check what came out; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m docs", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/site"), help="the site's folder, made anew")
    parser.add_argument(
        "--lectures", type=Path, help="pages of lectures that ran before; without, they run now"
    )
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        staging.stage(source, options.lectures)
        command = ["-q", "-W", "--keep-going", "-c", str(Path(__file__).parent), "-d", f"{folder}/doctrees"]
        command += ["-D", f"html_static_path=static,{source}/_pictures"]
        failed = sphinx([*command, str(source), str(options.out)])
    faults = checks.faults(options.out)
    print(*faults, sep="\n", file=sys.stderr)
    if not failed and not faults:
        pages = len(list(options.out.rglob("*.html")))
        print(f"{pages} pages, every link leads somewhere: {options.out}/index.html")
    return failed or bool(faults)


if __name__ == "__main__":
    sys.exit(main())
