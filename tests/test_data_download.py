"""The downloader against a local server that cuts, corrupts, stalls and lies; and the published sets."""

import gzip
import hashlib
import http.server
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from microgradx import data
from microgradx.data import images, sources, write_idx
from microgradx.data.download import download
from microgradx.data.idx import idx_header
from microgradx.data.sources import PublishedFile
from microgradx.errors import ArgumentError, DataError

CONTENT = np.random.default_rng(0).bytes(300_000)
HALF = len(CONTENT) // 2


class Handler(http.server.BaseHTTPRequestHandler):
    """The first part of the path says how to behave; the server keeps what it was asked."""

    def do_GET(self):
        wanted = self.headers.get("Range", "")
        self.server.asked.append((self.path, wanted))
        kind = self.path.split("/")[1]
        if kind in ("404", "500"):
            return self.send_error(int(kind))
        if kind in ("redirect", "leaves"):
            self.send_response(302)
            there = "" if kind == "redirect" else "http://example.invalid"
            self.send_header("Location", there + self.path.replace(kind, "good"))
            return self.end_headers()
        start = int(wanted[6:-1]) if wanted and kind != "ignores-range" else 0
        if start >= len(CONTENT):
            return self.send_error(416)
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        if kind not in ("endless", "unsized"):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if kind == "corrupts":
            body = body[:-1] + bytes([body[-1] ^ 1])
        elif kind == "cuts" or (kind == "stalls" and not self.server.freed.is_set()):
            body = body[: max(1, HALF - start)]
        elif kind == "endless":
            body = body * 20
        self.wfile.write(body)
        self.wfile.flush()
        if kind == "stalls":
            self.server.freed.wait(10)
        return None

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    """Counts requests; what a client breaks off is no news."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.freed = [], threading.Event()

    def url(self, kind):
        return f"http://127.0.0.1:{self.server_port}/{kind}/file"

    def handle_error(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.freed.set()
        server.shutdown()
        thread.join()


def accept(path):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != hashlib.sha256(CONTENT).hexdigest():
        raise DataError(f"its SHA-256 is {digest}.")


def fetch(server, folder, *kinds, timeout=5.0, **options):
    urls = [server.url(kind) for kind in kinds]
    return download(urls, folder / "file", accept, 2 * len(CONTENT), timeout=timeout, **options)


def quiet(*_):
    pass


@pytest.mark.parametrize("kind", ["good", "redirect", "unsized", "ignores-range"])
def test_a_good_mirror(server, tmp_path, kind):
    path = fetch(server, tmp_path, kind, progress=quiet)
    assert path == tmp_path / "file" and path.read_bytes() == CONTENT
    assert not (tmp_path / "file.part").exists()


@pytest.mark.parametrize("kind", ["404", "500", "cuts", "corrupts", "stalls", "endless"])
def test_the_second_mirror_saves_the_day(server, tmp_path, kind):
    assert fetch(server, tmp_path, kind, "good", progress=quiet, timeout=0.2).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("404", "404/file: the server answered 404 Not Found"),
        ("500", "500/file: the server answered 500 Internal Server Error"),
        ("corrupts", "corrupts/file: its SHA-256 is [0-9a-f]{64}"),
        ("stalls", "stalls/file: timed out"),
        ("endless", "the server sends more than 600,000 bytes"),
        ("leaves", "http://example.invalid/good/file is not HTTPS: nothing is taken from there"),
    ],
)
def test_without_a_good_mirror_the_error_says_what_happened(server, tmp_path, kind, message):
    with pytest.raises(DataError, match=message):
        fetch(server, tmp_path, kind, progress=quiet, timeout=0.2)
    assert not (tmp_path / "file").exists()


def test_a_cut_connection_is_taken_up_where_it_broke(server, tmp_path):
    with pytest.raises(DataError, match="the connection was cut after 150,001 of 300,000 bytes"):
        fetch(server, tmp_path, "cuts", progress=quiet)
    assert len(server.asked) == 5 and server.asked[1][1] == f"bytes={HALF}-"
    fetch(server, tmp_path, "good", progress=quiet)
    assert server.asked[-1][1].startswith("bytes=15")


def test_a_server_that_ignores_range_sends_all_again(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT[:HALF])
    assert fetch(server, tmp_path, "ignores-range", progress=quiet).read_bytes() == CONTENT
    assert len(server.asked) == 1


@pytest.mark.parametrize("part", [CONTENT, CONTENT + b"more", CONTENT[:-1] + b"?", b"x" * HALF])
def test_whatever_an_earlier_try_left_the_file_comes_out_right(server, tmp_path, part):
    (tmp_path / "file.part").write_bytes(part)
    assert fetch(server, tmp_path, "good", progress=quiet).read_bytes() == CONTENT


def child(server, folder, kind):
    """A process that downloads, once it has said so."""
    code = (
        "import sys; from pathlib import Path; from microgradx.data.download import download\n"
        "print('ready', flush=True)\n"
        f"download([{server.url(kind)!r}], Path({str(folder)!r}) / 'file', lambda part: None, 10**6)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(data.__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout.readline() == b"ready\n"
    return process


def wait_for(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "nothing happened in 10 s"
        time.sleep(0.01)


def test_a_killed_download_resumes(server, tmp_path):
    part = tmp_path / "file.part"
    with child(server, tmp_path, "stalls") as process:
        wait_for(lambda: part.exists() and part.stat().st_size == HALF)
        process.send_signal(signal.SIGKILL)
    assert fetch(server, tmp_path, "good", progress=quiet).read_bytes() == CONTENT
    assert server.asked[-1] == ("/good/file", f"bytes={HALF}-")


def test_two_processes_at_once_download_once(server, tmp_path):
    with child(server, tmp_path, "stalls") as first:
        wait_for(lambda: server.asked)
        with child(server, tmp_path, "good") as second:
            time.sleep(0.2)
            assert len(server.asked) == 1 and second.poll() is None, "the second does not wait"
            first.send_signal(signal.SIGKILL)  # the lock goes with it, and the second takes the rest
            assert second.wait(10) == 0
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == ["/stalls/file", "/good/file"]

    with child(server, tmp_path, "good") as third:
        assert third.wait(10) == 0
    assert len(server.asked) == 2


def test_what_only_a_download_needs_is_imported_by_a_download_only():
    code = "import sys, microgradx.data; print({'urllib.request', 'ssl', 'platformdirs'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(Path(data.__file__).parents[2])}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout == "set()\n"


@pytest.mark.parametrize("url", ["http://example.invalid/a", "ftp://example.invalid/a", "file:///etc/passwd"])
def test_what_is_not_encrypted_is_not_asked(tmp_path, url):
    with pytest.raises(DataError, match="is not HTTPS"):
        download([url], tmp_path / "file", accept, 10)


@pytest.mark.parametrize("name", [".lock", "file.part"])
def test_a_link_in_the_cache_is_not_followed(server, tmp_path, name):
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / name).symlink_to(tmp_path / "victim")
    with pytest.raises((DataError, OSError), match="symbolic links"):
        fetch(server, tmp_path, "good", progress=quiet)
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_progress_is_reported(server, tmp_path, capsys):
    seen = []
    fetch(server, tmp_path, "good", progress=lambda *step: seen.append(step))
    assert seen[-1] == ("file", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    (tmp_path / "file").unlink()
    fetch(server, tmp_path, "good")
    assert capsys.readouterr().err == "file: 0.3 of 0.3 MB\n"


# From here on: the published sets.


@pytest.fixture
def folders(monkeypatch, tmp_path):
    """An empty MICROGRADX_DATA, no system folder, an empty cache."""
    monkeypatch.setenv("MICROGRADX_DATA", str(tmp_path / "mine"))
    monkeypatch.setenv("MICROGRADX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "SYSTEM", tmp_path / "system")
    return tmp_path


def published(array, content=True):
    """A file that holds `array`, under the digests that it would be published with."""
    bytes_of = idx_header(array) + array.tobytes()
    packed = gzip.compress(bytes_of, 1, mtime=1)
    known = hashlib.sha256(bytes_of).hexdigest() if content else ""
    return packed, PublishedFile("file", len(packed), hashlib.sha256(packed).hexdigest(), known)


def test_the_same_data_compressed_otherwise_passes_and_other_data_does_not(tmp_path):
    array = np.arange(200, dtype=np.uint8).reshape(2, 10, 10)
    packed, file = published(array)
    path = tmp_path / "copy.gz"
    path.write_bytes(packed)
    file.accept(path)
    write_idx(path, array)
    assert path.read_bytes() != packed
    file.accept(path)
    write_idx(path, array + 1)
    with pytest.raises(DataError, match="copy.gz is not the published file: the SHA-256 of its IDX bytes is"):
        file.accept(path)
    with pytest.raises(DataError, match="its SHA-256 is .*, not "):
        published(array, content=False)[1].accept(path)


def test_files_are_taken_from_the_first_folder_that_has_them(folders):
    for place in ("mine", "system", "cache/data"):
        (folders / place / "kmnist").mkdir(parents=True)
    assert sources.folders("kmnist") == [folders / p / "kmnist" for p in ("mine", "system", "cache/data")]
    (folders / "cache/data/kmnist/a.gz").touch()
    assert sources.find("kmnist", "a.gz") == folders / "cache/data/kmnist/a.gz"
    (folders / "system/kmnist/a").touch()
    assert sources.find("kmnist", "a.gz") == folders / "system/kmnist/a"
    assert sources.find("kmnist", "b.gz") is None


def test_offline_the_error_says_where_to_put_the_files(server, folders, monkeypatch):
    monkeypatch.setitem(images.MIRRORS, "mnist", (server.url("404") + "/",))
    with pytest.raises(DataError) as caught:
        data.mnist()
    url = f"  {server.url('404')}/train-images-idx3-ubyte.gz: the server answered 404 Not Found"
    names = [f"  {file.name}" for file in images.FILES["mnist"]]
    places = [f"  {folders / place / 'mnist'}" for place in ("mine", "system", "cache/data")]
    assert str(caught.value).splitlines() == [
        "mnist: 4 files are missing, and could not be downloaded:", url, "Get from elsewhere:", *names,
        "Put into one of these folders:", *places,
        "or into the folder mnist of a folder that MICROGRADX_DATA names.",
    ]  # fmt: skip


def test_a_cache_that_cannot_be_written_is_named(folders):
    (folders / "cache").write_text("not a folder")
    with pytest.raises(
        DataError, match="mnist: 4 files are missing, and could not be downloaded:\n.*Not a directory"
    ):
        data.mnist()


def test_mnist_like_files_are_checked(folders):
    home = folders / "mine"
    for collection in ("mnist", "kmnist"):
        (home / collection).mkdir(parents=True)
        for part, count in (("train", 60_000), ("t10k", 10_000)):
            write_idx(home / collection / f"{part}-images-idx3-ubyte", np.zeros((count, 28, 28), np.uint8))
            labels = (np.arange(count) % 10).astype(np.uint8)
            write_idx(home / collection / f"{part}-labels-idx1-ubyte.gz", labels)
    with pytest.raises(
        DataError, match="train-images-idx3-ubyte is not the published .* Remove it, or read it with"
    ):
        data.mnist()
    split = data.kmnist()  # no digest of its IDX bytes is published
    assert (
        split.train[0].shape == (60_000, 784) and split.test[1].shape == (10_000,) and split.classes[0] == "o"
    )
    write_idx(home / "kmnist" / "t10k-labels-idx1-ubyte.gz", np.zeros(9, np.uint8))
    with pytest.raises(DataError, match=r"must hold shape \(10000,\) of uint8, got \(9,\) of uint8"):
        data.kmnist()


def test_emnist_is_read_from_its_archive(folders):
    home = folders / "mine" / "emnist"
    home.mkdir(parents=True)
    pictures = np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8)
    with zipfile.ZipFile(home / "gzip.zip", "w") as archive:
        for part in ("train", "test"):
            for name, array in (
                ("images-idx3", pictures),
                ("labels-idx1", np.array([1, 26, 2, 3], np.uint8)),
            ):
                write_idx(folders / "part.gz", array)
                archive.write(folders / "part.gz", f"gzip/emnist-letters-{part}-{name}-ubyte.gz")
    (x, y), _ = split = data.emnist("letters")
    assert np.array_equal(x[1].reshape(28, 28), pictures[1].T / np.float32(255))
    assert y.tolist() == [0, 25, 1, 2] and split.classes[25] == "z"
    with pytest.raises(DataError, match="not the archive of EMNIST: .*emnist-digits-train-images"):
        data.emnist("digits")
    (home / "gzip.zip").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="gzip.zip is damaged or not the archive of EMNIST: .* Remove it"):
        data.emnist("letters")
    with pytest.raises(ArgumentError, match="emnist has the splits balanced, .* mnist, got 'greek'"):
        data.emnist("greek")


def test_the_classes_of_emnist():
    counts = {split: len(classes) for split, classes in images.EMNIST.items()}
    assert counts == {"balanced": 47, "bymerge": 47, "byclass": 62, "letters": 26, "digits": 10, "mnist": 10}
    assert images.EMNIST["byclass"][10] == "A" and images.EMNIST["byclass"][36] == "a"


def test_every_mirror_is_https_and_every_digest_a_sha256():
    assert all(
        url.startswith("https://") and url.endswith("/") for urls in images.MIRRORS.values() for url in urls
    )
    for file in sum(images.FILES.values(), (images.EMNIST_ARCHIVE,)):
        assert all(len(bytes.fromhex(digest)) in (0, 32) for digest in (file.digest, file.content))


def test_fashion_mnist():
    if any(sources.find("fashion-mnist", file.name) is None for file in images.FILES["fashion-mnist"]):
        pytest.skip("the files of Fashion-MNIST are not on this machine")
    (x, y), (x_test, y_test) = split = data.fashion_mnist()
    assert x.shape == (60_000, 784) and x_test.shape == (10_000, 784) and split.image_shape == (28, 28)
    assert x.dtype == np.float32 and x.min() == 0 and x.max() == 1 and y.dtype == np.int64
    assert np.bincount(y).tolist() == [6000] * 10 and np.bincount(y_test).tolist() == [1000] * 10
    assert split.classes[y[0]] == "Ankle boot" and x.mean(dtype=np.float64) == pytest.approx(0.2860, abs=1e-4)
