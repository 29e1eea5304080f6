"""The report of a compiled step: numbers, wording, edge cases, the picture; and the limits of the machine."""

import json
import re
import sys
import time

import numpy as np
import pytest
from PIL import Image

from microgradx.compiler.report import machine_limits as machine
from microgradx.compiler.report.machine_limits import Limits
from microgradx.compiler.report.report import (
    SIDES,
    Measured,
    Report,
    coinciding,
    digits,
    label,
    line,
    overlap,
    percent,
    scaled,
)
from microgradx.errors import ArgumentError
from microgradx.kernels import cache

LIMITS = Limits(gemm=400e9, bandwidth=50e9, threads=2, processor="Some <CPU>")
HIDDEN = Measured("hidden", "relu(x @ W1 + b1)", 80e-6, flop=16e6, bytes=1e6)
GATHER = Measured("gather", "x[rows]", 20e-6, flop=0, bytes=0.5e6)
LOSS = Measured("loss", "cross_entropy", 4e-6, flop=30e3, bytes=10e3)
ADAM = Measured("adam", "W1, b1", 12.5e-6, flop=1.4e6, bytes=1.25e6)
REPORT = Report([HIDDEN, GATHER, LOSS, ADAM], LIMITS, step_seconds=125e-6)

TABLE = """\
kernel     us  of step    FLOP   bytes  GFLOP/s   GB/s  of limit  bound by    what
-------------------------------------------------------------------------------------------------
hidden   80.0   64.0 %  16.0 M  1.00 M    200.0   12.5    50.0 %  arithmetic  relu(x @ W1 + b1)
gather   20.0   16.0 %       0   500 k      0.0   25.0    50.0 %  memory      x[rows]
loss      4.0    3.2 %  30.0 k  10.0 k      7.5    2.5     5.0 %  overhead    cross_entropy
adam     12.5   10.0 %  1.40 M  1.25 M    112.0  100.0   200.0 %  memory      W1, b1
          8.5    6.8 %       -       -        -      -         -              between the kernels
-------------------------------------------------------------------------------------------------
total   125.0  100.0 %  17.4 M  2.76 M    139.4   22.1    50.2 %              at best 62.7 us

limits: 400 GFLOP/s in float32 and 50.0 GB/s of memory, 2 threads of Some <CPU>
above 100 % of the limit: the data came from a cache, which is faster than memory"""


# Numbers and wording


def test_the_table_of_a_step():
    assert str(REPORT) == repr(REPORT) == TABLE


@pytest.mark.parametrize("width", [80, 60, 50, 40])
def test_a_narrow_terminal_gets_the_columns_that_fit(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    text = str(REPORT)
    assert max(map(len, text.splitlines())) <= width
    assert "hidden" in text and "of limit" in text and "no room for: " in text
    assert text == REPORT.text(width) and REPORT.text() == TABLE


ABOVE = {  # why more than the limit is reached
    "the data came from a cache, which is faster than memory": (REPORT.rows, 125e-6),
    "faster than the large product that the limit is taken from": (
        [Measured("hidden", "x @ W1", 30e-6, flop=16e6, bytes=1e6)], 125e-6,
    ),
    "in the step, threads work on several kernels at once": ([HIDDEN], 30e-6),
}  # fmt: skip


@pytest.mark.parametrize("why", ABOVE)
def test_more_than_the_limit_is_explained(why):
    rows, seconds = ABOVE[why]
    assert f"above 100 % of the limit: {why}" in Report(rows, LIMITS, seconds).notes()


def test_the_larger_of_two_times_bounds_a_kernel():
    assert HIDDEN.best(LIMITS) == 40e-6 and HIDDEN.bound(LIMITS) == "arithmetic"
    assert GATHER.best(LIMITS) == 10e-6 and GATHER.bound(LIMITS) == "memory"
    balanced = Measured("", "", 1e-3, flop=8e6, bytes=1e6)
    assert balanced.best(LIMITS) == 20e-6 and balanced.bound(LIMITS) == "arithmetic"


@pytest.mark.parametrize(
    "seconds, flop, bound",
    [
        (4.9e-6, 0.19e6, "overhead"),
        (4.9e-6, 0.20e6, "arithmetic"),  # a tenth of what is possible
        (5.1e-6, 0.19e6, "arithmetic"),  # slow, but not because it is short
        (1e-3, 0, "overhead"),  # nothing that could bound it
        (0, 0, "overhead"),
    ],
)
def test_overhead_is_what_a_short_kernel_spends_besides_its_work(seconds, flop, bound):
    assert Measured("", "", seconds, flop, 0).bound(LIMITS) == bound


def test_a_kernel_that_beats_memory_counts_with_its_own_time():
    assert ADAM.best(LIMITS) == 25e-6
    assert REPORT.best == pytest.approx(40e-6 + 10e-6 + 0.2e-6 + 12.5e-6)


def test_notes_stand_only_where_they_apply():
    text = str(Report([HIDDEN], LIMITS, step_seconds=80e-6))
    assert not any(word in text for word in ("between", "cache", "one by one", "compiled"))
    assert "1 thread of x" in str(Report([], Limits(1e9, 1e9, 1, "x"), 1.0))


NOISE = Measured("noise", "normal, NumPy", 50e-6, flop=0, bytes=4e3, hosted=True)


@pytest.mark.parametrize("seconds", [20e-6, 116.5e-6, 166.5e-6, 250e-6])
def test_shares_add_up_to_the_step(seconds):
    """Timed alone kernels may take longer than the step: then shares are of all that they take."""
    report = Report([*REPORT.rows, NOISE], LIMITS, seconds)
    *rows, total = report.cells()[1:]
    shares = [float(row[2].removesuffix(" %")) for row in rows]
    assert sum(shares) == pytest.approx(100, abs=0.05 * len(rows)) and total[2] == "100.0 %"
    alone = 1e6 * report.alone / (1e6 * seconds)
    note = f"one by one the kernels take 166 us, {alone:.2f} times the step: shares are of that"
    assert (note in str(report)) == (seconds < report.alone - 1e-9)
    assert ("between the kernels" in str(report)) == (seconds > report.alone)


def test_what_is_not_compiled_says_so(tmp_path):
    report = Report([HIDDEN, NOISE], LIMITS, 130e-6)
    line = next(line for line in str(report).splitlines() if line.startswith("noise"))
    assert re.sub(" +", " ", line) == "noise 50.0 38.5 % - 4.00 k - 0.1 - not compiled normal, NumPy"
    assert "not compiled, but called in every step: normal, NumPy" in str(report)
    report.picture(tmp_path / "roofline.png")  # which has no place for it


@pytest.mark.parametrize("row", [Measured("a", "b", 0, 0, 0), Measured("a", "b", 0, 1e6, 1e6), None])
def test_nothing_measured_is_a_dash_not_an_error(row):
    report = Report([row] if row else [], LIMITS, step_seconds=0)
    total = str(report).splitlines()[-3]
    assert total.split()[:3] == ["total", "0.0", "-"] and total.endswith("-            at best 0 us")
    assert "nan" not in str(report) and "inf" not in str(report)


def test_numbers_are_short():
    numbers = [0, 0.01234, 1.234, 12.34, 123.4, 12345]
    assert [digits(n) for n in numbers] == ["0", "0.012", "1.23", "12.3", "123", "12,345"]
    assert [scaled(n) for n in (0, 7, 1280, 25.7e6, 3e12)] == ["0", "7", "1.28 k", "25.7 M", "3.00 T"]
    assert percent(1, 8) == "12.5 %" and percent(1, 0) == "-"


def test_a_notebook_shows_the_same_cells():
    text = REPORT._repr_html_()
    cells = re.findall(r"<t[dh] [^>]*>([^<]*)</t[dh]>", text)
    assert cells == [cell for row in REPORT.cells() for cell in row]
    assert text.count("<tr>") == 7 and "Some &lt;CPU&gt;" in text and "<CPU>" not in text


# The picture


@pytest.mark.parametrize("suffix, start", [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_picture_is_written(tmp_path, suffix, start):
    path = tmp_path / f"roofline.{suffix}"
    REPORT.picture(path)
    assert path.read_bytes().startswith(start)
    if suffix == "png":
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert pixels.shape == (832, 1280, 3) and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100


def test_names_in_the_picture_cover_neither_points_nor_each_other():
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    ax = Figure(figsize=(8, 5)).subplots()
    at = np.array([[0.5, 0.5], [0.5, 0.51], [0.52, 0.5], [0.9, 0.9], [0.02, 0.5]])
    ax.scatter(*at.T, label="points")
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.legend(loc="lower right")
    label(ax, ["a name"] * len(at), at, np.full(len(at), 80), taken=np.empty((0, 4)))
    ax.figure.draw_without_rendering()
    boxes = np.array([Text.get_window_extent(text).extents for text in ax.texts])  # without leading lines
    points = ax.transData.transform(at)
    assert [text.get_text() for text in ax.texts].count("a name\na name") == 1  # two lie on one another
    for i, box in enumerate(boxes):
        assert overlap(box, np.delete(boxes, i, axis=0)) == 0
        assert overlap(box, np.hstack([points - 5, points + 5])) == 0
        assert overlap(box, ax.get_window_extent().extents[None]) == pytest.approx(np.prod(box[2:] - box[:2]))
    assert sum(text.arrowprops is not None for text in ax.texts) <= 2 < len(SIDES)


def test_leaders_strike_no_name():
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    ax = Figure(figsize=(8, 5)).subplots()
    at = 0.5 + 0.035 * np.array([[k % 3, k // 3] for k in range(6)])
    ax.scatter(*at.T, label="points")
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.legend(loc="lower right")
    label(ax, [f"kernel {k}" for k in range(6)], at, np.full(6, 60), taken=np.empty((0, 4)))
    ax.figure.draw_without_rendering()
    boxes = np.array([Text.get_window_extent(text).extents for text in ax.texts])
    led = [i for i, text in enumerate(ax.texts) if text.arrowprops]
    assert led, "so crowded that some names are led to their points"
    for i in led:
        start = ax.transData.transform(ax.texts[i].xy)
        way = (boxes[i, :2] + boxes[i, 2:]) / 2 - start
        assert sum(overlap(piece, np.delete(boxes, i, axis=0)) for piece in line(start, way)) == 0


def test_points_coincide_where_one_hides_the_middle_of_the_other():
    centers = np.array([[0, 0], [4, 0], [30, 0], [11, 0], [30, 0]])
    assert coinciding(centers, np.array([5, 10, 3, 2, 3])) == [[1, 0, 3], [2, 4]]


def test_the_picture_says_what_it_lacks(tmp_path, monkeypatch):
    for rows in ([], [GATHER], [Measured("a", "", 0, 1, 1)]):
        with pytest.raises(ArgumentError, match="needs a kernel with FLOP, bytes and seconds above 0"):
            Report(rows, LIMITS, 1e-4).picture(tmp_path / "x.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ArgumentError, match=r"needs matplotlib: pip install matplotlib\.$"):
        REPORT.picture(tmp_path / "x.png")


# The machine


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty cache folder, and a process that has measured nothing."""
    monkeypatch.setenv("MICROGRADX_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "unusable", set())
    machine.remembered.cache_clear()
    yield tmp_path / "kernels"
    machine.remembered.cache_clear()


@pytest.fixture
def measured(monkeypatch):
    """What is measured, without taking the time."""
    calls = []
    monkeypatch.setattr(machine, "gemm", lambda n: calls.append(n) or 1e11 * n)
    monkeypatch.setattr(machine, "bandwidth", lambda n: 2e10)
    return calls


@pytest.mark.slow
def test_the_limits_are_measured_within_seconds_and_plausible(place):
    started = time.perf_counter()
    found = machine.limits()
    assert time.perf_counter() - started < 10  # one or so, on a machine with nothing else to do
    assert 1e8 < found.bandwidth < 1e13 and 1e9 < found.gemm < 1e15
    assert found.threads >= 1 and found.processor


def test_the_limits_are_kept_for_each_processor_and_number_of_threads(place, measured, monkeypatch):
    monkeypatch.setattr(machine, "processor", lambda: "AMD EPYC 9R45 (TM) @ 2.6GHz")
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    assert machine.remembered(3) == Limits(3e11, 2e10, 3, "AMD EPYC 9R45 (TM) @ 2.6GHz")
    assert [path.name for path in place.iterdir()] == ["limits_amd-epyc-9r45-tm-2-6ghz_3.json"]
    for _ in range(2):
        machine.remembered.cache_clear()
        assert machine.remembered(3).gemm == 3e11
    machine.remembered(4)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    machine.remembered.cache_clear()
    machine.remembered(3)
    assert measured == [3, 4, 3] and cache.entries() == []  # limits are no kernels


@pytest.mark.parametrize("damage", ["old", "future", "cut", "nan", "absent", "a list"])
def test_limits_that_make_no_sense_are_measured_again(place, measured, damage):
    machine.remembered(2)
    (path,) = place.glob("*.json")
    found = json.loads(path.read_text())
    match damage:
        case "old":
            path.write_text(json.dumps(found | {"measured": time.time() - 31 * 86_400}))
        case "future":
            path.write_text(json.dumps(found | {"measured": time.time() + 86_400}))
        case "cut":
            path.write_text(path.read_text()[:-5])
        case "nan":
            path.write_text(json.dumps(found | {"gemm": float("nan")}))
        case "absent":
            path.unlink()
        case "a list":
            path.write_text("[]")
    machine.remembered.cache_clear()
    machine.remembered(2)
    machine.remembered(2)
    assert measured == [2, 2] and json.loads(path.read_text())["gemm"] == 2e11


@pytest.mark.parametrize(
    "before, now", [(6e10, 2e11), (5e11, 5e11)], ids=["other work then", "other work now"]
)
def test_after_an_hour_limits_are_measured_again_and_the_higher_counts(place, measured, before, now):
    machine.remembered(2)
    (path,) = place.glob("*.json")
    path.write_text(json.dumps({"gemm": before, "bandwidth": 1e10, "measured": time.time() - 2 * 3600}))
    machine.remembered.cache_clear()
    found = machine.remembered(2)
    assert (found.gemm, found.bandwidth) == (now, 2e10) and measured == [2, 2]


def test_without_a_folder_limits_are_measured_once_in_a_process(place, measured, monkeypatch):
    monkeypatch.setattr(cache, "folder", lambda: None)
    monkeypatch.setattr(machine, "folder", lambda: None)
    assert machine.remembered(2) == machine.remembered(2) and measured == [2]
