"""Every lecture ends right, and works in a browser: cells show, sliders turn figures, all is quiet."""

import json
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

import microgradx as mg

LECTURES = {path.stem: path for path in sorted(Path(__file__).parent.parent.glob("examples/lecture_*.py"))}

lectures = {
    "lecture_1_autograd": lambda found: right(found["model"], found["x_test"], found["y_test"]) > 0.9,
    "lecture_2_optimizers": lambda found: (
        all(abs(found["ways"]["momentum"][-1]) < 1e-3)  # in the minimum
        and found["difference"] < 1e-12  # bias correction is a schedule
        and abs(found["measured"][0] - 0.1 / 0.001**0.5) < 1e-6
        and found["found"].m.deviation < 4
    ),
    "lecture_3_your_own": lambda found: "the same bits: True" in found["done"].stdout and found["right"],
    "lecture_4_compiler": lambda found: found["difference"] < 1e-6 and all(found["left_out"].values()),
    "lecture_5_digits": lambda found: found["accuracies"][0.0] > 0.95 > 0.6 > found["accuracies"][0.1],
}


def right(model, x, y):
    return (model(mg.Tensor(x)).numpy().argmax(1) == y).mean()


def test_every_lecture_has_an_end():
    assert LECTURES.keys() == lectures.keys()


@pytest.fixture(scope="module")
def marimo():
    return pytest.importorskip("marimo", reason="lectures are marimo notebooks: pip install marimo")


@pytest.mark.slow
@pytest.mark.parametrize("name", lectures)
def test_lecture_ends_right(name, marimo):
    spawn = multiprocessing.get_context("spawn")  # its rules and functions would stay in our tables
    with ProcessPoolExecutor(1, mp_context=spawn) as process:
        assert process.submit(ends_right, name).result(timeout=300)


def ends_right(name):
    """Run a lecture; its page for the site is left in the folder LECTURE_PAGES, where that is told."""
    if "LECTURE_PAGES" in os.environ:
        from docs.lectures import run

        return lectures[name](run(LECTURES[name], Path(os.environ["LECTURE_PAGES"])))
    return lectures[name](runpy.run_path(str(LECTURES[name]))["app"].run()[1])


@contextmanager
def served(lecture, log):
    """The address of a lecture, started as a user starts it; what the server prints goes to a file."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "marimo", "run", lecture, "--headless", "--no-token", f"-p{port}"]
    with log.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file, cwd=log.parent) as server:
        try:
            limit = time.monotonic() + 60
            while not answers(f"http://127.0.0.1:{port}/health"):
                up = server.poll() is None and time.monotonic() < limit
                assert up, f"no server for {lecture.name}:\n{log.read_text()}"
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def answers(address):
    try:
        with urllib.request.urlopen(address, timeout=1):
            return True
    except OSError:
        return False


class Watch:
    """What the kernel tells a page about its cells, and what goes wrong there, in words."""

    def __init__(self, page):
        self.cells, self.shown, self.complaints = [], set(), []
        page.on("websocket", lambda kernel: kernel.on("framereceived", self.hear))
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught in the browser: {error}"))
        page.on("console", self.read)

    def read(self, line):
        if line.type == "error":
            self.complaints.append(f"the browser's console: {line.text} ({line.location['url']})")

    def hear(self, frame):
        message = json.loads(frame)["data"]
        if message["op"] == "kernel-ready":
            self.cells = message["cell_ids"]
        output = message.get("output") if message["op"] == "cell-op" else None
        if output and output["mimetype"] == "application/vnd.marimo+error":
            self.complaints.append(f"{self.name(message['cell_id'])} shows: {output['data']}")
        elif output and output["data"]:
            self.shown.add(message["cell_id"])

    def name(self, cell):
        return f"cell {self.cells.index(cell) + 1} of {len(self.cells)}"


def ran(frame):
    return json.loads(frame)["op"] == "completed-run"


def every_cell_shows(page, watch, kernel):
    from playwright.sync_api import expect

    kernel.wait_for_event("framereceived", ran)
    for cell in sorted(watch.shown, key=watch.cells.index):
        output = page.locator(f"#output-{cell}")
        expect(output, f"{watch.name(cell)} is not shown").to_be_visible(timeout=60_000)
    watch.complaints += [f"not TeX: {text}" for text in page.locator(".katex-error").all_inner_texts()]


def sliders_turn_figures(page, kernel):
    """Move one slider after the other to its end, and wait until a figure is another picture."""

    def figures():
        return set(page.locator("img").evaluate_all("all => all.map(img => img.src)"))

    before = figures()
    for slider in page.get_by_role("slider").all():
        last = slider.get_attribute("aria-valuenow") == slider.get_attribute("aria-valuemax")
        with kernel.expect_event("framereceived", ran):
            slider.press("Home" if last else "End")
    limit = time.monotonic() + 60
    while figures() <= before:
        assert time.monotonic() < limit, f"none of {len(before)} pictures has turned"
        page.wait_for_timeout(50)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lecture_1_autograd"])  # it is the same page for all
def test_lecture_works_in_a_browser(name, marimo, chromium, tmp_path):
    from playwright.sync_api import TimeoutError as Late

    log = tmp_path / "server.log"
    with served(LECTURES[name], log) as address, chromium.new_page() as page:
        watch, step = Watch(page), "loading"
        page.set_default_timeout(120_000)
        try:
            with page.expect_websocket() as kernel:
                page.goto(address, wait_until="commit")
            every_cell_shows(page, watch, kernel.value)
            step = "waiting for the sliders to turn a figure"
            if not watch.complaints:
                sliders_turn_figures(page, kernel.value)
        except (Late, AssertionError) as late:
            watch.complaints.append(f"while {step}: {late}")
    printed = log.read_text()
    if "Traceback" in printed:  # marimo shows nothing where an output cannot be drawn
        watch.complaints.append("an error stands only in what the server printed")
    assert not watch.complaints, "\n".join([*watch.complaints, "the server printed:", printed])
