"""For all tests: seeds, one kernel cache of their own, and no global state left behind."""

import os
import shutil
import sys

import numpy as np
import pytest
from hypothesis import settings
from tables import restored

import microgradx as mg
from microgradx.eager.mode import mode
from microgradx.scalars import executors

settings.register_profile(
    "microgradx", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True
)
settings.load_profile("microgradx")


def pytest_configure(config):
    """Kernels compile once and are kept with pytest's cache, away from the user's."""
    if "MICROGRADX_CACHE" not in os.environ:
        os.environ["MICROGRADX_CACHE"] = str(config.cache.mkdir("kernels"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file's tests run in one process: what they share is imported and made once. `--dist` chooses else."""
    if config.option.dist != "load" or config.option.markexpr == "cuda":  # nearly all of these in one file
        return None
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


def pytest_collection_modifyitems(items):
    """Files with slow tests begin, so that no process ends long after the others."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_addoption(parser):
    parser.addoption("--machine-code", action="store_true", help="compile the steps of all tests")


def pytest_ignore_collect(collection_path, config):
    """With `-m cuda`, files that have no test of this mark are not even imported."""
    if config.option.markexpr == "cuda" and collection_path.name.startswith("test_"):
        return "mark.cuda" not in collection_path.read_text(encoding="utf-8") or None
    return None


@pytest.fixture(autouse=True)
def interpreted(request):
    """Python runs the steps of tests of this mark, `but` some: every access is checked, nothing compiled."""
    mark = request.node.get_closest_marker("interpreted")
    known = {request.node.originalname, getattr(getattr(request.node, "callspec", None), "id", "")}
    with pytest.MonkeyPatch.context() as patch:
        if mark and known.isdisjoint(mark.kwargs.get("but", ())) and not request.config.option.machine_code:
            patch.setenv("MICROGRADX_INTERPRET", "1")
        yield


@pytest.fixture(autouse=True)
def seeded():
    np.random.seed(0)
    mg.seed(0)


@pytest.fixture(autouse=True)
def nothing_leaks():
    """A test leaves the folder, our environment, and the modes of NumPy and Tensors as they were."""

    def state():
        environment = {name: value for name, value in os.environ.items() if name.startswith("MICROGRADX")}
        return os.getcwd(), environment, np.geterr(), mode.record, mode.detect, mode.number, set(executors)

    before = state()
    yield
    assert state() == before, "the test changed global state and did not change it back"


@pytest.fixture
def registries():
    """What a test declares is gone afterwards."""
    with restored():
        yield


@pytest.fixture
def undrawn(monkeypatch):
    """Runs leave no figures: these take longer than a short training."""
    monkeypatch.setattr("microgradx.training.loop.draw", lambda *_: [])


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Run `microgradx`, in a folder of its own: exit code, output, errors.

    It takes words, or one text of several: command("race", "--surface", "saddle"), command("look run").
    """
    from microgradx.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*args):
        words = args[0].split() if len(args) == 1 else [str(arg) for arg in args]
        with pytest.raises(SystemExit) as ended:
            main(words)
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def quick_threads():
    """The simulator's threads wait for each other: let Python switch between them sooner."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(scope="session")
def torch():
    """PyTorch, to compare with; the test is skipped where it is missing."""
    return pytest.importorskip("torch", reason="PyTorch is in the extra 'bench'")


@pytest.fixture(scope="session")
def chromium():
    """One browser for all pages: the system's own, for Playwright's would be a large download."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is in the extra 'dev'")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not program:
        pytest.skip("no Chromium is installed (Debian's package chromium has it)")
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])  # for root
        except playwright.Error as error:
            pytest.skip(f"{program} does not start here: {error.message.splitlines()[0]}")
        yield browser
