"""The sources of the site in one folder, laid out as the repository is, so that the README's links hold."""

import multiprocessing
import re
import runpy
import shutil
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from click.testing import CliRunner

import microgradx as mg
from docs import api, lectures
from microgradx.cli import COMMANDS, cli
from microgradx.compiler.run.cuda_executable import written

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent
FILES = "rules", "scalars", "familiar.py"
COPIED = *(f"microgradx/{name}" for name in FILES), "examples/pictures", "bench/results"
GO_ON = """
Go on with [training](train.md); coming from [PyTorch](from_pytorch.md), [JAX](from_jax.md) or
[NumPy](from_numpy.md); the [lectures](lecture_1_autograd.md); [emitted code](emitted.md); the
[reference](reference/index.md); what was [measured](measured.md).
"""
PARALLEL = 2  # lectures at a time


def stage(out: Path, ran: Path | None = None) -> None:
    """Write all that Sphinx reads into a new folder; `ran` has the pages of lectures that ran before."""
    out.mkdir(parents=True)
    for name in COPIED:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, out / name)
    shutil.copytree(HERE / "pages", out, dirs_exist_ok=True)
    reference(out / "reference")
    emitted(out / "_made")
    (out / "commands.md").write_text(commands(), encoding="utf-8")
    titles = lessons(out, ran)
    tables = sorted((f"bench/results/{path.stem}" for path in out.glob("bench/results/*.md")), reverse=True)
    front(out, readme(out), titles, tables)


def reference(out: Path) -> None:
    """The pages of the rooms, and the table of all names."""
    out.mkdir()
    for room in api.described():
        (out / f"{api.short(room)}.rst").write_text(api.page(room), encoding="utf-8")
    (out / "index.md").write_text(api.index(), encoding="utf-8")


def commands() -> str:
    """What every command says with `--help`."""
    lines = ["# The command microgradx"]
    for name in ["", *COMMANDS]:
        text = (
            CliRunner()
            .invoke(cli, [*name.split(), "--help"], prog_name="microgradx", terminal_width=78)
            .output
        )
        lines += [f"\n## {name}" * bool(name), "\n```text", text.strip(), "```"]
    return "\n".join(lines)


def emitted(out: Path) -> None:
    """What the compiler makes of `example.py`."""
    out.mkdir()
    shutil.copy(HERE / "example.py", out)
    made = runpy.run_path(str(out / "example.py"))
    step = made["step"]
    gpu = written(step.variant.captured, mg.cuda.Shape(), 132, "graph")[0].text
    files = {
        "sweep.py": made["optimizer"].source,
        "program.txt": step.program,
        "step.py": step.source,
        "gpu.py": gpu,
    }
    for name, text in files.items():
        (out / name).write_text(f"{text}\n", encoding="utf-8")


def lessons(out: Path, ran: Path | None) -> list[str]:
    """The pages of the lectures, from a folder or by running them."""
    paths = sorted(ROOT.glob("examples/lecture_*.py"))
    if ran:
        shutil.copytree(ran, out, dirs_exist_ok=True)
    else:
        spawn = multiprocessing.get_context("spawn")  # their rules and functions would stay in our tables
        with ProcessPoolExecutor(PARALLEL, mp_context=spawn) as pool:
            list(pool.map(partial(lesson, out=out), paths))
    return [path.stem for path in paths]


def lesson(path: Path, out: Path) -> None:
    """One lecture, in a process of its own; what it defines stays there."""
    lectures.run(path, out)


def readme(out: Path) -> list[str]:
    """The README's sections, a page each, and what comes before them; the names of the pages."""
    first, *sections = re.split(r"^## ", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.M)
    (out / "index.md").write_text(first, encoding="utf-8")
    names = []
    for section in sections:
        names.append(re.sub(r"\W+", "-", section.split("\n")[0].lower()).strip("-"))
        (out / f"{names[-1]}.md").write_text(f"# {section}", encoding="utf-8")
    return names


def front(out: Path, guide: list[str], lessons: list[str], tables: list[str]) -> None:
    """Add to the first page where everything is."""
    coming = [f"from_{name}" for name in ("pytorch", "jax", "numpy")]
    trees = {
        "Guide": guide, "Coming from": coming, "Lectures": lessons,
        "Reference": ["emitted", "reference/index", "commands"], "Measured": tables,
    }  # fmt: skip
    with (out / "index.md").open("a", encoding="utf-8") as file:
        print(GO_ON, file=file)
        for caption, pages in trees.items():
            print("\n```{toctree}", ":hidden:", f":caption: {caption}\n", *pages, "```", sep="\n", file=file)
