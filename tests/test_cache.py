"""The kernel cache: processes that share it, files and folders to distrust, its limit, `microgradx cache`."""

import os
import subprocess
import sys
import threading
import time
import warnings
from multiprocessing import get_context

import pytest

from microgradx.errors import ArgumentError, CacheWarning
from microgradx.kernels import cache


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("MICROGRADX_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "unusable", set())
    return cache.folder()


def keep(kernel, size, age):
    """A kernel of so many bytes, used so many seconds ago."""
    path = cache.write(f"{kernel}.o", bytes(size - 32), digest=True)
    os.utime(path, (time.time() - age,) * 2)


def names():
    return [name for name, _, _ in cache.entries()]


# Processes


MAKE = """
import os, time
from microgradx.kernels import cache
place = cache.folder()
(place.parent / f"ready{os.getpid()}").touch()
while len(list(place.parent.glob("ready*"))) < 3:
    time.sleep(0.001)
with cache.locked("double_1"):
    if cache.read("double_1.o") is None:
        (place.parent / f"made{os.getpid()}").touch()
        time.sleep(0.2)
        cache.write("double_1.o", b"machine code", digest=True)
assert cache.read("double_1.o") == b"machine code"
"""


def test_of_several_processes_one_makes_a_kernel_and_the_others_wait(place):
    several = [subprocess.Popen([sys.executable, "-W", "error", "-c", MAKE]) for _ in range(3)]
    assert [process.wait(60) for process in several] == [0] * 3
    assert len(list(place.parent.glob("made*"))) == 1
    assert [path.name for path in place.iterdir()] == ["double_1.o"]


def hold(ready):
    with cache.locked("a"):
        ready.set()
        time.sleep(60)


@pytest.mark.slow
@pytest.mark.skipif(cache.fcntl is None, reason="needs flock")
def test_a_crash_ends_the_lock_and_nobody_waits_forever(place, monkeypatch):
    context = get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(ready,))
    process.start()
    assert ready.wait(60) and (place / "a.lock").exists()
    monkeypatch.setattr(cache, "patience", 0.05)
    with cache.locked("b"), cache.locked("a"):
        pass
    assert (place / "a.lock").exists()  # another's lock, which this process has not waited for, stays
    process.kill()
    process.join()
    monkeypatch.setattr(cache, "patience", 60)
    with cache.locked("a"):
        pass
    assert not list(place.iterdir()) and cache.entries() == []


def test_threads_take_turns(place):
    inside, most = [], []

    def make():
        for _ in range(5):
            with cache.locked("a"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    several = [threading.Thread(target=make) for _ in range(4)]
    for thread in several:
        thread.start()
    for thread in several:
        thread.join()
    assert most == [1] * 20 if cache.fcntl else len(most) == 20


@pytest.mark.parametrize("why", ["no fcntl", "no locks on this file system", "no folder"])
def test_without_locks_kernels_are_made_all_the_same(place, monkeypatch, why):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    if why == "no fcntl":
        monkeypatch.setattr(cache, "fcntl", None)
    elif why == "no folder":
        monkeypatch.setattr(cache, "folder", lambda: None)
    elif cache.fcntl:
        monkeypatch.setattr(cache.fcntl, "flock", refuse)
    started = time.monotonic()
    with cache.locked("a"):
        pass
    assert time.monotonic() - started < 1


# Files and folders to distrust


def test_a_kept_file_comes_back_and_counts_as_used(place):
    keep("old", 100, age=1000)
    keep("new", 100, age=500)
    assert names() == ["new", "old"]
    assert cache.read("old.o") == bytes(68)
    assert names() == ["old", "new"] and time.time() - cache.entries()[0][2] < 60
    assert cache.read("none.o") is None


@pytest.mark.parametrize(
    "damage, problem",
    [
        ("cut", "is damaged"),
        ("empty", "is damaged"),
        ("open to others", "belongs to another user or may be changed by one"),
        ("a folder", r"cannot be read \(Is a directory\)"),
    ],
)
def test_a_file_to_distrust_is_not_read(place, damage, problem):
    path = place / "a.o"
    if damage == "a folder":
        path.mkdir()
    else:
        keep("a", 100, age=0)
        path.write_bytes(path.read_bytes()[: {"cut": 99, "empty": 0}.get(damage, 100)])
        path.chmod(0o666 if damage == "open to others" else 0o600)
    with pytest.warns(CacheWarning, match=rf"the kernel .*a\.o {problem} and is compiled anew\."):
        assert cache.read("a.o") is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs owners of files")
def test_what_another_user_owns_is_neither_read_nor_used_as_a_folder(place, monkeypatch):
    keep("a", 100, age=0)
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    with pytest.warns(CacheWarning, match="cannot be used: others own it or may write to it, and machine"):
        assert cache.folder() is None
    monkeypatch.setattr(cache, "folder", lambda: place)
    with pytest.warns(CacheWarning, match=r"a\.o belongs to another user or may be changed by one"):
        assert cache.read("a.o") is None


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid(), reason="only root gives files away")
def test_a_link_of_another_user_is_not_used_as_a_folder(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "kernels").symlink_to(tmp_path / "mine")
    monkeypatch.setenv("MICROGRADX_CACHE", str(tmp_path))
    assert cache.folder() == tmp_path / "kernels"  # a link of one's own is fine
    os.lchown(tmp_path / "kernels", 65534, 65534)
    with pytest.warns(CacheWarning, match="cannot be used: it is a link that another user made"):
        assert cache.folder() is None


def test_a_read_only_folder_is_not_used(place, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.warns(CacheWarning, match=r"cannot be used: it is read-only\. Set MICROGRADX_CACHE to a"):
        assert cache.write("a.o", b"x", digest=True) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.read("a.o") is None and cache.entries() == [] and cache.clear() == 0


def test_a_file_that_cannot_be_written_leaves_nothing_behind(place):
    (place / "a.o").mkdir()
    (place / "a.o" / "file").touch()
    with pytest.warns(CacheWarning, match=r"a\.o cannot be kept: .*\. Every process compiles it anew\."):
        assert cache.write("a.o", b"x") is None
    assert [path.name for path in place.iterdir()] == ["a.o"]


# Limit


def test_above_the_limit_the_kernels_used_longest_ago_go(place, monkeypatch):
    monkeypatch.setenv("MICROGRADX_CACHE_LIMIT", "0.001")
    for age, kernel in enumerate("abcd"):
        keep(kernel, 250, 100 - age)
    assert names() == ["d", "c", "b", "a"]  # 1000 bytes: all that may be
    cache.read("a.o")
    cache.write("e.py", bytes(200))
    assert names()[1:] == ["a", "d", "c"] and not (place / "b.o").exists()
    cache.write("e.o", bytes(200))  # the parts of a kernel stay or go together
    assert set(names()) == {"e", "a", "d"} and cache.entries()[0][1] == 400


def test_the_kernel_just_written_stays_even_alone_above_the_limit(place, monkeypatch):
    keep("a", 250, 0)
    monkeypatch.setenv("MICROGRADX_CACHE_LIMIT", "0.0001")
    os.utime(cache.write("b.py", bytes(300)), (1, 1))  # the clock may have been set back
    cache.write("b.o", bytes(300))
    assert names() == ["b"] and (place / "b.py").exists()


@pytest.mark.parametrize("text", ["many", "0", "-1", "nan"])
def test_a_wrong_limit_is_named(monkeypatch, text):
    monkeypatch.setenv("MICROGRADX_CACHE_LIMIT", text)
    message = f"MICROGRADX_CACHE_LIMIT='{text}': the limit of the kernel cache is a number of MB above 0"
    with pytest.raises(ArgumentError, match=message):
        cache.write("a.o", b"x")


# Looking


@pytest.fixture
def command(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    return command


def lines(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_command_shows_folder_size_limit_and_kernels(command, place):
    code, out, errors = command("cache")
    assert (code, errors) == (0, "")
    assert lines(out) == [f"folder {place}", "kernels 0", "size 0.00 MB of at most 512 MB"]
    keep("small", 1000, age=1)
    keep("large", 2_000_000, age=3 * 86_400 + 60)
    assert lines(command("cache")[1])[1:] == [
        "kernels 2",
        "size 2.00 MB of at most 512 MB",
        "latest 1.0 kB small, just now",
        "2,000.0 kB large, 3 days ago",
    ]
    keep("middle", 5000, age=3700)
    keep("tiny", 100, age=150)
    assert lines(command("cache")[1])[3:] == [
        "latest 1.0 kB small, just now",
        "0.1 kB tiny, 2 minutes ago",
        "5.0 kB middle, 1 hour ago",
        "largest 2,000.0 kB large, 3 days ago",
        "5.0 kB middle, 1 hour ago",
        "1.0 kB small, just now",
    ]


def test_the_command_clears(command, place):
    keep("a", 500_000, age=0)
    cache.write("a.py", b"source")
    cache.write("limits.json", b"{}")
    assert command("cache", "--clear") == (0, f"removed 1 kernel, 0.50 MB, from {place}\n", "")
    assert not list(place.iterdir())
    assert command("cache", "--clear")[1].startswith("removed 0 kernels, 0.00 MB")


def test_the_command_says_what_is_wrong(command, monkeypatch):
    code, out, errors = command("cache", "--cleer")
    assert (code, out, errors.count("\n")) == (2, "", 1) and "No such option" in errors
    monkeypatch.setenv("MICROGRADX_CACHE_LIMIT", "-3")
    code, out, errors = command("cache")
    assert (code, out, errors.count("\n")) == (2, "", 1) and "MICROGRADX_CACHE_LIMIT='-3'" in errors
