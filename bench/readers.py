"""Files of random bytes given to every reader: each is read, or refused by the one error that it promises.

    python -m bench readers --seconds 600

With the package atheris, libFuzzer looks for bytes that take new ways through the readers; without it, good
files are changed at random. What fails is kept under --corpus, and its name printed.
"""

import gzip
import io
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

METHOD = "Every input ends in a result or in the one error promised; memory stays under 1 GB."

MEMORY = 1 << 30
"""Bytes that one file may make a reader take, whatever its header says."""

TOKENS = [
    b"\0",
    b"\xff",
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"1e999",
    b"nan",
    b'"',
    b"\r\n",
    b",",
    b"-1",
    b"{",
    b"]",
]
TOKENS += [
    b'"shape":[',
    b'"data_offsets":[0,',
    b"(99999999999,)",
    b"null",
    b"\x1f\x8b",
    b"9" * 30,
    b"F32",
    b"'<f8'",
]


@dataclass
class Reader:
    """A reader of bytes, files to begin with, and the error that it promises."""

    read: Callable[[bytes, Path], object]
    good: list[bytes]
    promised: type[Exception]


def readers() -> dict[str, Reader]:
    """All readers of files, by name."""
    import numpy as np

    from microgradx import data
    from microgradx.data.idx import idx_header
    from microgradx.errors import CheckpointError, DataError
    from microgradx.kernels import cache
    from microgradx.training import checkpoints
    from microgradx.training.history import History
    from microgradx.training.runs import Run

    def of_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
        def written(content: bytes, folder: Path) -> object:
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            return read(path)

        return written

    def saved(write: Callable[[Any], object]) -> bytes:
        file = io.BytesIO()
        write(file)
        return file.getvalue()

    def state(path: Path) -> bytes:
        checkpoints.save(path, {"model": {"w": np.ones(3, np.float32)}, "epoch": 1, "name": ("a", None)})
        return path.read_bytes()

    table = np.arange(18, dtype=np.float32).reshape(6, 3)
    images = idx_header(table.astype(np.uint8)) + bytes(18)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = state(Path(folder, "x.safetensors"))
    npz = saved(lambda file: np.savez_compressed(file, x=table, y=np.arange(6) % 2))
    zipped = gzip.compress(images, mtime=0)
    csv = [b"a,b,class\n" + b"1,2,x\n3,4,y\n" * 3, b'"1";2;0\n3;4;1\n5;6;1\n' * 2, b"1\t2\n2\t1\n3\t2\n" * 2]
    return {
        "IDX": Reader(lambda content, _: data.read_idx(io.BytesIO(content)), [images, zipped], DataError),
        "CSV": Reader(of_file("x.csv", data.load), csv, DataError),
        "npy": Reader(of_file("x.npy", data.load), [saved(lambda file: np.save(file, table))], DataError),
        "npz": Reader(of_file("x.npz", data.load), [npz], DataError),
        "checkpoint": Reader(of_file("x.safetensors", checkpoints.load), [checkpoint], CheckpointError),
        "configuration": Reader(of_file("config.json", lambda path: Run(path.parent).read()),
                                [b'{"epochs": 3}'], CheckpointError),
        "history": Reader(of_file("history.jsonl", History.read), [b'{"epoch": 1, "loss": 0.5}\n'],
                          DataError),
        "cache": Reader(of_file("kernels/x.o", lambda _: cache.read("x.o")), [b"machine code" + bytes(32)],
                        cache.CacheWarning),
    }  # fmt: skip


def tried(reader: Reader, content: bytes, folder: Path) -> str:
    """What came of reading some bytes: "read", "refused", or what is wrong with the reader."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            reader.read(content, folder)
    except reader.promised:
        return "refused"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "read"


def changed(good: list[bytes], seed: int) -> Iterator[bytes]:
    """Good files with bytes changed, cut out, repeated, and put in; no end of them."""
    draw = random.Random(seed)
    pool = list(good)
    while True:
        content = bytearray(draw.choice(pool))
        for _ in range(draw.randint(1, 6)):
            i, j = sorted(draw.randint(0, len(content)) for _ in range(2))
            way = draw.randrange(6)
            if way == 0 and content:
                content[i % len(content)] ^= 1 << draw.randrange(8)
            elif way == 1:
                del content[i : min(j, i + draw.choice([1, 4, 1000]))]
            elif way == 2:
                content[i:i] = content[i : min(j, i + 200)]
            elif way == 3:
                content[i:i] = draw.choice(TOKENS)
            elif way == 4:
                token = draw.choice(TOKENS)
                content[i : i + len(token)] = token
            else:
                other = draw.choice(pool)
                content[i:] = other[draw.randint(0, len(other)) :]
        yield bytes(content[:4096])


def fuzz(name: str, corpus: Path, seconds: int) -> dict[str, object]:
    """A row of the table: how many files a reader was given, by whom, and what failed."""
    place = corpus / name
    place.mkdir(parents=True, exist_ok=True)
    guided = find_spec("atheris") is not None
    command = [sys.executable, "-m", "bench.readers", name, str(place), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    counts = [line.split()[1] for line in lines if line.startswith("stat::number_of_executed_units")]
    coverage = [line.split("cov: ")[1].split()[0] for line in lines if "cov: " in line]
    wrong = [line for line in lines if line.startswith(("WRONG", "==", "SUMMARY"))]
    for line in wrong[:5]:
        print(f"{name}: {line}", flush=True)
    return {
        "reader": name, "by": "atheris" if guided else "random changes", "files": int((counts or ["0"])[-1]),
        "ways (branches)": (coverage or ["-"])[-1], "seconds": seconds, "wrong": len(wrong),
    }  # fmt: skip


def child(name: str, corpus: Path, seconds: int) -> None:
    """A process that gives one reader files until the time is over."""
    import resource

    guided = find_spec("atheris") is not None
    if guided:
        import atheris

        with atheris.instrument_imports(include=["microgradx.data", "microgradx.training", "csv", "json"]):
            reader = readers()[name]
    else:
        reader = readers()[name]
    for i, content in enumerate(reader.good):
        (corpus / f"good-{i}").write_bytes(content)
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    folder.chmod(0o700)
    os.environ["MICROGRADX_CACHE"] = str(folder)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))

    seen = {"read", "refused"}

    def one(content: bytes) -> None:
        found = tried(reader, content, folder)
        if (kind := found.partition(":")[0]) not in seen:  # one of each kind of error
            seen.add(kind)
            path = corpus.parent / f"wrong-{name}-{kind}"
            path.write_bytes(content)
            print(f"WRONG {found[:300]} ({path})", flush=True)

    if guided:
        arguments = [f"-max_total_time={seconds}", "-max_len=4096", "-print_final_stats=1", "-timeout=20"]
        arguments += ["-rss_limit_mb=3000", f"-artifact_prefix={corpus.parent}/", "-verbosity=1"]
        atheris.Setup(["readers", *arguments, str(corpus)], one)
        atheris.Fuzz()
        return
    end, count = time.monotonic() + seconds, 0
    for content in changed(reader.good, seed=0):
        one(content)
        count += 1
        if time.monotonic() > end:
            break
    print(f"stat::number_of_executed_units: {count}")


def options(parser: Any) -> None:
    """The command's own options."""
    parser.add_argument("--seconds", type=int, default=600, help="for all readers together")
    parser.add_argument(
        "--corpus", type=Path, default=Path(tempfile.gettempdir(), "readers"), help="a folder"
    )


def run(seconds: int = 600, corpus: Path = Path("readers"), quick: bool = False) -> list[dict[str, object]]:
    """Every reader in turn."""
    names = list(readers())
    each = max(1, (20 if quick else seconds) // len(names))
    return [fuzz(name, corpus, each) for name in names]


if __name__ == "__main__":
    child(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
