"""fit, run folders, checkpoints, history, metrics and figures."""

import copy
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import types
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from threadpoolctl import threadpool_limits

import microgradx as mg
from microgradx import nn, optim
from microgradx.data import moons
from microgradx.errors import (
    ArgumentError,
    CheckpointError,
    DataError,
    NonFiniteError,
    ShapeError,
    TrainingWarning,
)
from microgradx.kernels.random import generator
from microgradx.training import (
    History,
    Run,
    accuracy,
    checkpoints,
    confusion_matrix,
    evaluate,
    figures,
    fit,
    r_squared,
)
from microgradx.training.identity import alike, named
from microgradx.training.stopping import interruptible

TRAIN, TEST = moons(n=120, seed=1)


def made(schedule="cosine", dropout=0.2, lr=1e-2, epochs=4):
    """A model, its optimizer and a schedule, from the same seed every time."""
    mg.seed(0)
    model = nn.MLP([2, 8, 2], dropout=dropout)
    optimizer = optim.Adam(model.named_parameters(), lr=lr)
    return model, optimizer, optim.plans[schedule](optimizer, epochs * 6)


def trained(epochs=4, plan="cosine", **options):
    """A fresh model after `fit`, with its history."""
    model, optimizer, schedule = made(plan)
    options = {"batch_size": 16, "schedule": schedule, "progress": False, "clip_norm": 1.0} | options
    return model, fit(model, optimizer, TRAIN, TEST, epochs=epochs, **options)


def same(state, other):
    """Two trees of dicts, lists and arrays with the same bits."""
    if isinstance(state, dict):
        return state.keys() == other.keys() and all(same(state[key], other[key]) for key in state)
    if isinstance(state, list | tuple):
        return len(state) == len(other) and all(map(same, state, other))
    if isinstance(state, np.ndarray):
        return state.dtype == other.dtype and state.tobytes() == other.tobytes()
    return state == other


def settled(path):
    """What a checkpoint holds, apart from when and how fast it was made."""
    state = checkpoints.load(path)
    state["position"].pop("seconds")
    del state["config"], state["record"]
    return state


# Training


def test_fit_learns_and_says_so():
    model, history = trained(epochs=30, plan="constant")
    assert len(history) == 30 and history["epoch"] == list(range(1, 31))
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history.best["valid_accuracy"] > 0.9
    out = model.eval()(mg.tensor(TEST[0])).numpy()
    assert accuracy(out, TEST[1]) == pytest.approx(evaluate(model, *TEST, nn.cross_entropy).accuracy)


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    one, two, other = (trained(seed=seed)[0].state_dict() for seed in (3, 3, 4))
    assert same(one, two) and not same(one, other)


def test_fit_takes_lists_and_tensors_and_any_loss():
    mg.seed(0)
    model = nn.MLP([3, 4, 1])
    x = mg.randn(20, 3)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    history = fit(model, optimizer, (x, x.data[:, :1].tolist()), epochs=2, loss=nn.mse_loss, progress=False)
    assert "accuracy" not in history.records[0] and "valid_loss" not in history.records[0]


def test_model_is_left_in_training_mode_and_validated_without_dropout():
    seen = []

    class Watch(nn.Module):
        def forward(self, x):
            seen.append(self.training)
            return x

    model = nn.Sequential(Watch(), nn.Linear(2, 2))
    fit(model, optim.SGD(model.parameters()), TRAIN, TEST, epochs=1, batch_size=96, progress=False)
    assert seen == [False, False, True, False] and model.training  # before it starts, one look at each part


def test_schedule_moves_with_every_step_and_plateau_with_every_epoch():
    _, history = trained(plan="cosine")
    assert history["lr"][-1] == pytest.approx(0, abs=1e-9) and history["lr"][0] < 1e-2
    model, optimizer, _ = made("constant")
    plateau = optim.ReduceLROnPlateau(optimizer, patience=0, threshold=10.0)
    history = fit(model, optimizer, TRAIN, TEST, epochs=4, schedule=plateau, progress=False)
    assert history["lr"] == pytest.approx([1e-2, 1e-2, 1e-3, 1e-4])


def test_patience_ends_a_run_that_does_not_get_better():
    model, optimizer, _ = made(lr=0.0)
    history = fit(model, optimizer, TRAIN, TEST, epochs=50, patience=3, progress=False)
    assert len(history) == 4 and history.best["epoch"] == 1


def test_a_callback_sees_every_epoch_and_can_end_the_run():
    seen = []
    trained(
        epochs=9, callbacks=[lambda history: seen.append(len(history)), lambda history: len(history) == 3]
    )
    assert seen == [1, 2, 3]


def test_off_a_terminal_an_epoch_leaves_one_plain_line(capfd):
    trained(epochs=3, progress=True)
    out, err = capfd.readouterr()
    head, *lines = err.splitlines()
    assert head == "epoch    loss accuracy valid loss accuracy  * best" and len(head) == 50
    assert out == "" and [line[:5].strip() for line in lines] == ["1", "2", "3"]
    assert lines[0].endswith("%  *") and lines[0].rfind("%") + 1 == len(
        "epoch    loss accuracy valid loss accuracy"
    )
    assert "\x1b" not in err
    trained(epochs=3, progress=False)
    assert capfd.readouterr() == ("", "")


def test_in_a_notebook_an_epoch_leaves_one_plain_line(monkeypatch):
    class OutStream(io.StringIO):  # as ipykernel's: a cell is no terminal
        def fileno(self):
            raise io.UnsupportedOperation("fileno")

    monkeypatch.setattr(sys, "stderr", cell := OutStream())
    monkeypatch.setattr(sys, "stdout", OutStream())
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    trained(epochs=3, progress=True)
    head, *lines = cell.getvalue().splitlines()
    assert head.startswith("epoch") and [line[:5].strip() for line in lines] == ["1", "2", "3"]
    assert "\x1b" not in cell.getvalue() and "\r" not in cell.getvalue() and not sys.stdout.getvalue()


def test_drop_last_leaves_a_short_batch_out():
    x, y = TRAIN
    rows = len(x) // 16 * 16 - 15
    for eager in (False, True):
        model = nn.Sequential(nn.Linear(x.shape[1], 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        options = {"batch_size": 16, "epochs": 2, "eager": eager, "progress": False}
        adam = optim.Adam(model.parameters())
        with pytest.raises(ShapeError, match="drop_last=True"):
            fit(model, adam, (x[:rows], y[:rows]), **options)
        history = fit(model, adam, (x[:rows], y[:rows]), drop_last=True, **options)
        assert history["step"] == [rows // 16, 2 * (rows // 16)] and np.isfinite(history["loss"]).all()
    with pytest.raises(ArgumentError, match="3 rows make no batch of 16 with drop_last=True"):
        fit(model, adam, (x[:3], y[:3]), drop_last=True, **options)


# Run folders


def test_a_run_folder_says_how_it_was_made(tmp_path):
    _, history = trained(out=tmp_path / "a" / "run", seed=5, config={"mine": 1}, classes=["up", "down"])
    run = Run(tmp_path / "a" / "run")
    config = run.read()
    assert (
        config["mine"] == 1 and config["fit"]["seed"] == 5 and config["fit"]["optimizer"].startswith("Adam")
    )
    assert config["versions"]["numpy"] == np.__version__ and config["machine"]["cores"] >= 1
    assert [json.loads(line) for line in run.history.read_text().splitlines()] == history.records
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "best.safetensors", "config.json", "confusion.png", "curves.png", "history.jsonl", "last.safetensors",
        "previous.safetensors",
    ]  # fmt: skip


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    trained(out=tmp_path)
    with pytest.raises(ArgumentError, match="already holds a run: resume it, or choose another folder"):
        trained(out=tmp_path)


def test_the_best_checkpoint_is_that_of_the_best_epoch(tmp_path):
    _, history = trained(epochs=6, out=tmp_path)
    model = made()[0]
    model.load_state_dict(checkpoints.load(Run(tmp_path).best)["model"])
    assert evaluate(model, *TEST, nn.cross_entropy).loss == history.best["valid_loss"]


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle", "plateau"])
def test_a_run_in_two_parts_ends_with_the_same_bits(tmp_path, schedule):
    model, whole = trained(6, schedule, out=tmp_path / "whole", seed=1)
    trained(6, schedule, out=tmp_path / "parts", seed=1, callbacks=[lambda history: len(history) == 2])
    other, parts = trained(6, schedule, out=tmp_path / "parts", seed=1, resume=True)
    assert same(model.state_dict(), other.state_dict())
    for name in ("last", "best"):
        one, two = (settled(tmp_path / part / f"{name}.safetensors") for part in ("whole", "parts"))
        assert same(one, two)
    assert parts["valid_loss"] == whole["valid_loss"] and parts["lr"] == whole["lr"]
    again = trained(6, schedule, out=tmp_path / "parts", seed=1, resume=True)[1]  # nothing left to do
    assert again.records == parts.records


SCRIPT = """
import sys, time
sys.path.insert(0, {tests!r})
import test_training as t
from microgradx.training import loop
if "slow" in sys.argv:
    steps = loop.Trainer.steps_over
    loop.Trainer.steps_over = lambda *args: (time.sleep(0.03), print("step", flush=True), steps(*args))[2]
print("go", flush=True)
t.trained(8, out=sys.argv[1], seed=1, resume=True, save_every=0.0, batch_size=8)
"""


@contextmanager
def running(folder, *args):
    """`fit` in a process of its own; with "slow", so slow that it can be killed in the middle of an epoch."""
    code = SCRIPT.format(tests=str(Path(__file__).parent))
    command = [sys.executable, "-c", code, str(folder), *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        yield process


@pytest.mark.slow
def test_stopped_a_run_resumes_to_the_same_bits(tmp_path):
    whole, killed = Run(tmp_path / "whole"), Run(tmp_path / "killed")
    trained(8, out=whole.folder, seed=1, batch_size=8)
    for how, code, said in ((signal.SIGINT, -2, "KeyboardInterrupt: stopped "), (signal.SIGTERM, 143, "")):
        with running(killed.folder, "slow") as process:
            while not killed.history.exists() or not process.stdout.readline():
                assert process.poll() is None, process.stderr.read()
            process.send_signal(how)
            errors = process.stderr.read()
        assert process.returncode == code and said in errors
    assert checkpoints.load(killed.last)["position"]["epoch"] < 8
    with open(killed.history, "a") as file:
        file.write('{"epoch": 3, "lo')  # as a crash in the middle of a line leaves it
    with running(killed.folder) as process:
        assert process.wait(60) == 0, process.stderr.read()
    assert same(settled(whole.last), settled(killed.last))
    assert same(settled(whole.best), settled(killed.best))
    assert History.read(whole.history)["valid_loss"] == History.read(killed.history)["valid_loss"]


def test_the_second_signal_stops_at_once_and_an_ignored_one_stays_ignored():
    with pytest.raises(KeyboardInterrupt), interruptible(True) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop and stop.signal == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible(True) as stop:
            os.kill(os.getpid(), signal.SIGINT)
        assert not stop and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    with pytest.raises(SystemExit) as end, interruptible(True) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        stop.end("here")
    assert end.value.code == 143 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def quick(epochs, **options):
    """`trained`, line by line and without figures, which take longest."""
    with mock.patch("microgradx.training.loop.draw"):
        return trained(epochs, eager=True, seed=1, **options)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """The folder of a run of 3 epochs, its model's bits, and what its folder holds."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return Run(folder), quick(3, out=folder)[0].state_dict()


def test_killed_before_its_first_checkpoint_a_run_begins_anew(tmp_path, whole_run):
    run, state = Run(tmp_path / "run"), whole_run[1]
    run.create({"mine": 1})
    run.history.write_text('{"epoch": 1, "loss": 0.5}\n')  # of another run
    model, history = quick(3, out=run.folder, resume=True)
    assert (
        same(model.state_dict(), state)
        and history["epoch"] == [1, 2, 3] == History.read(run.history)["epoch"]
    )


def test_a_lost_best_checkpoint_is_named_and_the_best_from_there_on_kept(tmp_path, whole_run):
    run = Run(shutil.copytree(whole_run[0].folder, tmp_path / "run"))
    run.best.write_bytes(run.best.read_bytes()[:-1])
    with pytest.warns(TrainingWarning, match="best.safetensors is damaged .* the best from here on is kept"):
        quick(4, out=run.folder, resume=True)
    assert checkpoints.load(run.best)["position"]["epoch"] == 4


def test_other_versions_and_processors_are_told(tmp_path, whole_run):
    run = Run(shutil.copytree(whole_run[0].folder, tmp_path / "run"))
    state = checkpoints.load(run.last)
    state["config"]["versions"]["numpy"] = "1.2.3"
    state["config"]["machine"]["processor"] = "Z80"
    checkpoints.save(run.last, state)
    with pytest.warns(
        TrainingWarning, match="began with numpy 1.2.3, now 2.*processor Z80, now .* may be others"
    ):
        quick(3, out=run.folder, resume=True)


def test_a_run_that_does_not_fit_leaves_the_model_as_it_was(whole_run):
    model, _, _ = made()
    optimizer, before = optim.SGD(model.named_parameters()), model.state_dict()
    with pytest.raises(CheckpointError, match="SGD"):
        fit(model, optimizer, TRAIN, TEST, batch_size=16, schedule=optim.plans["cosine"](optimizer, 9),
            out=whole_run[0].folder, resume=True)  # fmt: skip
    assert same(model.state_dict(), before)


def test_a_run_folder_is_for_its_user_alone(whole_run):
    assert whole_run[0].folder.stat().st_mode & 0o777 == 0o700


def test_bits_do_not_depend_on_the_number_of_threads():
    """With more than one thread BLAS makes large products in other parts."""
    x = np.random.default_rng(0).standard_normal((300, 64)).astype(np.float32)
    data, ends = (x, np.arange(300) % 10), []
    for threads in (1, 2):
        mg.seed(0)
        model = nn.MLP([64, 256, 256, 10])
        options = {"epochs": 1, "batch_size": 256, "eager": True, "progress": False}
        with threadpool_limits(threads, "blas"):
            history = fit(model, optim.Adam(model.parameters()), data, data, **options)
        ends.append([model.state_dict(), history["loss"], history["valid_loss"]])
    assert same(*ends)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"batch_size": 20}, "batch_size was 16, now it is 20: it must stay"),
        ({"schedule": None}, "was trained with a schedule: resume it with the same"),
    ],
)
def test_resuming_with_something_else_is_an_error(tmp_path, change, message):
    trained(2, out=tmp_path)
    with pytest.raises(CheckpointError, match=message):
        trained(3, out=tmp_path, resume=True, **change)


@pytest.fixture(scope="module")
def longer_run():
    """The bits of a model after 4 epochs, of which nothing was lost."""
    return quick(4)[0].state_dict()


def again(run, epochs=4, train=TRAIN, valid=TEST, lr=1e-2, **options):
    """The run of `quick` gone on with, by what may be other things."""
    model, optimizer, schedule = made(lr=lr)
    options = {"batch_size": 16, "schedule": schedule, "progress": False, "clip_norm": 1.0} | options
    with mock.patch("microgradx.training.loop.draw"):
        history = fit(model, optimizer, train, valid, epochs=epochs, eager=True, seed=1, out=run.folder,
                      resume=True, **options)  # fmt: skip
    return model, history


ROWS = len(TRAIN[0])
OTHERS = {
    "x": ({"train": (TRAIN[0] + 1, TRAIN[1])}, "is a run with x float32 .* of digest .*, now float32"),
    "y": ({"train": (TRAIN[0], 1 - TRAIN[1])}, "is a run with y int"),
    "weights": ({"sample_weight": np.ones(ROWS)}, "with sample_weight none, now float32"),
    "loss": ({"loss": lambda a, b: nn.cross_entropy(a, b)}, "with the loss cross_entropy, now .*lambda"),
    "smoothing": ({"loss": partial(nn.cross_entropy, label_smoothing=0.1)}, "now cross_entropy.'label_smoo"),
    "classes": ({"classes": ["up", "down"]}, "is a run with classes left, right, now up, down"),
    "drop_last": ({"drop_last": True, "batch_size": 36}, "batch_size was 16, now it is 36"),
}


@pytest.mark.parametrize("change, message", OTHERS.values(), ids=OTHERS)
def test_a_run_goes_on_with_its_own_data_and_loss(tmp_path, whole_run, change, message):
    run = Run(shutil.copytree(whole_run[0].folder, tmp_path / "run"))
    if "classes" in change:
        shutil.rmtree(run.folder)
        quick(3, out=run.folder, classes=["left", "right"])
    before = {path: path.read_bytes() for path in run.folder.iterdir()}
    with pytest.raises(CheckpointError, match=message):
        again(run, **change)
    assert before == {path: path.read_bytes() for path in run.folder.iterdir()}


class Scaled:
    def __init__(self, w):
        self.w = w

    def __call__(self, a, b):
        return self.w * nn.mse_loss(a, b)


def with_default(w):
    def loss(a, b, *, w=w):
        return w * nn.mse_loss(a, b)

    return loss


@pytest.mark.parametrize("make", [Scaled, with_default, lambda w: partial(with_default(1.0), w=w)])
def test_a_loss_is_what_it_holds(make):
    assert alike(named(make(1.0)), named(make(1.0)))
    assert not alike(named(make(1.0)), named(make(1000.0)))
    older = re.sub(r"digest \w+ in Python [\d.]+", "digest 0123456789ab in Python 3.9", named(make(1.0)))
    assert alike(older, named(make(1.0)))  # whose instructions are others


def swap(name, new):
    """Put something else in the place of a file of a run."""

    def spoil(run):
        (path := run.folder / name).unlink()
        if new is not None:
            new(path)

    return spoil


LOST = "history.jsonl: the records of 2 epochs from 1 to 2"
STRANGE = {
    "lr": (None, {"lr": 0.5}, "the run goes on with lr 0.01, not 0.5 as given here"),
    "valid": (None, {"valid": TRAIN}, "the validation data was .* the best epoch is looked for anew"),
    "no history": (swap("history.jsonl", None), {}, LOST),
    "an empty history": (swap("history.jsonl", Path.touch), {}, LOST),
    "a garbage history": (swap("history.jsonl", lambda p: p.write_bytes(b"\xff\n[1]\n{}\n")), {}, LOST),
    "losses that are none": (swap("history.jsonl", lambda p: p.write_text('{"epoch": 1, "loss": "a"}\n')),
                             {}, LOST),
    "a pipe as history": (swap("history.jsonl", os.mkfifo), {}, "history.jsonl is a pipe and no file"),
    "a pipe as last": (swap("last.safetensors", os.mkfifo), {}, "it is last.safetensors.strange from now on"),
    "a folder as last": (swap("last.safetensors", Path.mkdir), {}, "last.safetensors is a folder and no"),
    "a folder as best": (swap("best.safetensors", Path.mkdir), {}, "best.safetensors is a folder and no"),
    "a folder as previous": (swap("previous.safetensors", Path.mkdir), {}, "previous.safetensors is a fold"),
    "a pipe as config": (swap("config.json", os.mkfifo), {}, "config.json is a pipe and no file"),
}  # fmt: skip


@pytest.mark.parametrize("spoil, change, message", STRANGE.values(), ids=STRANGE)
def test_what_is_strange_is_told_and_the_bits_stay(tmp_path, whole_run, longer_run, spoil, change, message):
    run = Run(shutil.copytree(whole_run[0].folder, tmp_path / "run"))
    if spoil:
        spoil(run)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", TrainingWarning)
        model, history = again(run, **change)
    assert any(re.search(message, str(w.message)) for w in heard), [str(w.message) for w in heard]
    assert same(model.state_dict(), longer_run) and history.records[-1]["epoch"] == 4 == run.epochs
    assert not (change or spoil is None) or History.read(run.history)["epoch"] == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["config.json", "last.safetensors"])
def test_a_pipe_is_not_waited_for(tmp_path, whole_run, name):
    run = Run(shutil.copytree(whole_run[0].folder, tmp_path / "run"))
    swap(name, os.mkfifo)(run)
    with pytest.warns(TrainingWarning, match="it is a pipe, and must be a file"):
        assert run.read()["fit"]["epochs"] == 3 and run.newest()[1]["position"]["epoch"] in (2, 3)
        run.newest()


def test_nothing_is_written_in_the_place_of_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "c")
    with pytest.raises(CheckpointError, match="c cannot be written: there is a pipe. Take another place"):
        checkpoints.save(tmp_path / "c", 1)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    model, optimizer, _ = made("constant", lr=1e-3)

    def spoil(history):
        optimizer.param_groups[0]["lr"] = 1e38 if len(history) == 2 else 1e-3

    with pytest.raises(NonFiniteError) as error:
        fit(
            model,
            optimizer,
            TRAIN,
            TEST,
            epochs=5,
            batch_size=16,
            out=tmp_path,
            callbacks=[spoil],
            progress=False,
        )
    text = str(error.value)
    assert "in epoch 3, step" in text and "of 6. Lower the learning rate (now 1e+38)" in text
    assert f"The last good checkpoint is {Run(tmp_path).last}." in text
    state = checkpoints.load(Run(tmp_path).last)
    assert state["position"]["epoch"] == 2 and all(np.isfinite(w).all() for w in state["model"].values())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"epochs": 0}, "epochs is a whole number of at least 1, not 0"),
        ({"batch_size": -1}, "batch_size is a whole number of at least 1"),
        ({"clip_norm": float("nan")}, "clip_norm must be a number above 0"),
        ({"patience": 0}, "patience is a whole number of at least 1, not 0"),
        ({"resume": True}, "needs the folder of the run"),
    ],
)
def test_wrong_options_are_named(options, message):
    model, optimizer, _ = made()
    with pytest.raises(ArgumentError, match=message):
        fit(model, optimizer, TRAIN, **options)


@pytest.mark.parametrize("pair", [None, (TRAIN[0],), (TRAIN[0], TRAIN[1][:5]), (TRAIN[0][:0], TRAIN[1][:0])])
def test_wrong_data_is_named(pair):
    model, optimizer, _ = made()
    with pytest.raises(ArgumentError, match="fit: train"):
        fit(model, optimizer, pair)


PICTURES = np.zeros((20, 5, 4), np.float32), np.arange(20) % 3
FLAT = PICTURES[0].reshape(20, 20), PICTURES[1]
UNFIT = {  # the model's sizes, train, valid, and what is said
    "images": ([20, 3], PICTURES, None, "fit: train has x of shape (20, 5, 4) and y of shape (20,). Linear: "
               "the last axis must have size 20, the shape is (8, 5, 4). Put nn.Flatten() before it"),
    "images whose width fits": ([4, 3], PICTURES, None, "do not fit predictions of shape (8, 5, 3). Rows of "
                                "numbers are made of images by nn.Flatten(): nn.Sequential(nn.Flatten(), "
                                "nn.MLP([20, ...]))."),
    "images of another size": ([9, 3], PICTURES, None, "makes rows of 20: then this layer must take 20."),
    "images to validate": ([20, 3], FLAT, PICTURES, "fit: valid has x of shape (20, 5, 4)"),
    "rows of another size": ([20, 3], FLAT, (FLAT[0][:, :9], FLAT[1]), "size 20, the shape is (8, 9)."),
    "labels": ([20, 2], FLAT, None, "2 classes allow labels 0 to 1, not 0 to 2"),
}  # fmt: skip


@pytest.mark.parametrize("eager", [False, True], ids=["compiled", "eager"])
@pytest.mark.parametrize("name", UNFIT)
def test_data_that_do_not_fit_are_told_before_anything_starts(name, eager, tmp_path):
    sizes, train, valid, message = UNFIT[name]
    model = nn.MLP(sizes, dropout=0.5)
    state = lambda: (copy.deepcopy(model.state_dict()), generator.state_dict(), model.training)
    before = state()
    with pytest.raises((ShapeError, ArgumentError), match=re.escape(message)):
        fit(
            model,
            optim.SGD(model.parameters()),
            train,
            valid,
            batch_size=8,
            out=tmp_path / "run",
            eager=eager,
        )
    assert same(before, state()) and not (tmp_path / "run").exists()


# Checkpoints

STATE = {
    "weights": {
        "0.w": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "empty": np.zeros((0, 2)),
        "one": np.array(2.5),
    },
    "names": {1: "one", "two": None},
    "list": [True, 2**127, float("inf"), (0.9, 0.999)],
    "flags": np.array([True, False]),
    "a/b": np.ones(2),
    "a": {"b": np.zeros(3)},
}


def test_a_checkpoint_gives_back_what_was_saved(tmp_path):
    checkpoints.save(tmp_path / "c", STATE)
    loaded = checkpoints.load(tmp_path / "c")
    assert same(loaded, STATE) and loaded["weights"]["one"].shape == () and type(loaded["list"][3]) is tuple
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other", "missing"])
def test_a_damaged_checkpoint_is_found_out(tmp_path, damage):
    path = tmp_path / "last.safetensors"
    checkpoints.save(path, STATE)
    whole = path.read_bytes()
    spoiled = {
        "cut": (whole[:-5], "is damaged"),
        "flip": (whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:], "is damaged .its digest differs"),
        "empty": (b"", "is damaged"),
        "other": (b"PK\x03\x04 something else", "is damaged"),
        "missing": (None, "no checkpoint at"),
    }
    content, message = spoiled[damage]
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        checkpoints.load(path)


def test_a_checkpoint_of_another_program_is_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"w": np.ones(2)}, tmp_path / "w")
    with pytest.raises(CheckpointError, match="w is no checkpoint of microgradx: its format is ''"):
        checkpoints.load(tmp_path / "w")


def test_what_cannot_be_saved_is_named_and_the_old_file_stays(tmp_path):
    checkpoints.save(tmp_path / "c", 1)
    with pytest.raises(CheckpointError, match="/model/f is a function"):
        checkpoints.save(tmp_path / "c", {"model": {"f": lambda: 0}})
    assert checkpoints.load(tmp_path / "c") == 1


# History, metrics, figures


def test_history_survives_a_torn_last_line(tmp_path):
    path = tmp_path / "history.jsonl"
    history = History(path)
    for epoch in (1, 2, 3):
        history.append({"epoch": epoch, "loss": 1 / epoch})
    path.write_text(path.read_text()[:-4])
    assert History.read(path)["loss"] == [1, 0.5]
    path.write_text("nonsense\n" + path.read_text())
    with pytest.raises(DataError, match="line 1, is no record of an epoch"):
        History.read(path)


def test_history_columns():
    history = History()
    history.append({"epoch": 1, "loss": 2.0})
    history.append({"epoch": 2, "loss": 1.0, "valid_loss": 3.0})
    assert history["valid_loss"] == [None, 3.0]
    with pytest.raises(ArgumentError, match="no 'los'; it has epoch, loss, valid_loss"):
        history["los"]


def test_tensorboard_gets_every_number(tmp_path):
    pytest.importorskip("tensorboard")
    from microgradx.training import tensorboard

    trained(2, callbacks=[tensorboard(tmp_path)])
    files = list(tmp_path.rglob("*tfevents*"))
    assert len(files) == 1 and b"valid_accuracy" in files[0].read_bytes()


def test_the_share_of_variance_that_is_explained():
    r2_score = pytest.importorskip("sklearn.metrics").r2_score
    y = np.random.default_rng(0).normal(size=(20, 3))
    for found, wanted in (
        (y + 0.5, y),
        (y[:, ::-1], y),
        (y[:, 0] * 2, y[:, 0]),
        (y[:, :2], y[:, :2] * [1, 0]),
    ):
        np.testing.assert_allclose(r_squared(found, wanted), r2_score(wanted, found), rtol=1e-12)
    assert r_squared(np.zeros((5, 1)), np.zeros((5, 1))) == 1
    with pytest.raises(ShapeError, match=r"\(3,\) outputs for \(3, 1\) targets"):
        r_squared(np.zeros(3), np.zeros((3, 1)))


def test_accuracy_and_confusion_matrix():
    outputs = np.array([[1, 2], [3, 0], [0, 1.0]])
    assert accuracy(outputs, [1, 0, 0]) == pytest.approx(2 / 3)
    assert accuracy(np.array([-1.0, 2.0]), [0, 1]) == 1
    assert accuracy(np.zeros((2, 3, 4)), np.array([[0, 0, 0, 1], [0, -100, 1, 1]])) == pytest.approx(4 / 7)
    assert_array_equal(confusion_matrix(np.array([1, 0, 1]), np.array([1, 0, 0])), [[1, 1], [0, 1]])
    with pytest.raises(ShapeError, match=r"\(2,\) predictions for \(3,\) labels"):
        confusion_matrix(np.array([1, 0]), np.array([1, 0, 0]))
    with pytest.raises(ArgumentError, match="with 2 classes, labels are from 0 to 1"):
        confusion_matrix(np.array([1, 0]), np.array([1, 2]), classes=2)
    with pytest.raises(ShapeError, match=r"accuracy: \(3, 2\) are not integer labels for outputs \(3, 2\)"):
        accuracy(outputs, np.ones((3, 2)))


def test_figures_are_pictures(tmp_path):
    from PIL import Image

    history = History()
    history.append({"epoch": 1, "loss": 2.0})
    figures.curves(history, tmp_path / "curves.png")
    figures.confusion(
        np.eye(12, dtype=int), tmp_path / "confusion.png", [f"$\\foo$ \x1b {i}" for i in range(12)]
    )
    for name in ("curves.png", "confusion.png"):
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 400 and len(image.convert("RGB").getcolors(1 << 20)) > 10


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    checkpoints.save(tmp_path / "c", 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        CheckpointError, match="c cannot be written: No space left on device. Make room there"
    ):
        checkpoints.save(tmp_path / "c", 2)
    assert checkpoints.load(tmp_path / "c") == 1 and len(list(tmp_path.iterdir())) == 1


class Logarithms(nn.Module):
    """A network whose logarithms are of what training can make negative."""

    def __init__(self):
        self.inner = nn.Linear(2, 2)

    def forward(self, x):
        return mg.log(self.inner(x) + self.shift)  # where it begins

    shift = 3.0


ORIGINS = [
    ({"lr": 1e3}, {}, r"step 2: log produced nan from finite inputs.*\n.*test_training.py.*where it begins"),
    ({"lr": 1e38}, {"loss": lambda out, y: nn.cross_entropy(out, y) * 1e3},
     r"step 1: the update left numbers in inner.weight that are not finite"),
    ({"lr": 1e-3}, {"loss": lambda out, y: (out * 1e-30).sum() ** 0.5 * 1e30},
     r"step 1: (power|multiply|sum): its derivative produced|step 1: the gradient of inner"),
]  # fmt: skip


@pytest.mark.interpreted
@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("rate, options, text", ORIGINS)
def test_what_is_not_finite_is_traced_to_its_origin(tmp_path, eager, rate, options, text):
    mg.seed(0)
    model = Logarithms()
    x, y = np.ones((8, 2), np.float32), np.zeros(8, int)
    before = model.state_dict()
    with pytest.raises(NonFiniteError, match=text) as error:
        fit(model, optim.SGD(model.parameters(), **rate), (x, y), batch_size=2, epochs=1, out=tmp_path,
            progress=False, eager=eager, **options)  # fmt: skip
    state = checkpoints.load(tmp_path / "diverged.safetensors")
    assert all(np.isfinite(value).all() for value in model.state_dict().values())
    assert all((state["model"][name] == value).all() for name, value in model.state_dict().items())
    assert "detect_anomaly" not in str(error.value)  # what it would say is said
    assert state["rows"].shape == (2,) and "The state before that step" in str(error.value)
    if "step 1:" in str(error.value).split("It began in")[1]:
        assert all((before[name] == value).all() for name, value in model.state_dict().items())


@pytest.mark.interpreted
@pytest.mark.parametrize("eager", [True, False])
def test_a_step_that_is_not_finite_may_be_left_out(eager):
    x = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
    y = np.arange(12) % 2

    def run(x, y, **options):
        mg.seed(0)
        model = nn.Linear(2, 2)
        adam = optim.Adam(model.parameters(), lr=0.1)
        options = {"batch_size": 1, "epochs": 2, "seed": 1, "progress": False, "eager": eager} | options
        return fit(model, adam, (x, y), **options), model, adam

    spoilt = x.copy()
    spoilt[5] = np.nan
    with pytest.warns(TrainingWarning, match="a step is left out. the loss is nan") as told:
        history, model, adam = run(spoilt, y, skip_nonfinite=True)
    assert len([w for w in told if "left out" in str(w.message)]) == 2  # once an epoch
    assert np.isfinite(history["loss"]).all() and np.isfinite(model.state_dict()["weight"]).all()
    assert adam.state["0"]["t"] == 2 * 11
    with pytest.warns(TrainingWarning), pytest.raises(NonFiniteError, match="the loss is nan"):
        run(np.full_like(x, np.nan), y, skip_nonfinite=True)


def test_a_run_goes_on_with_its_own_layers(tmp_path):
    pair = np.zeros((4, 2), np.float32), np.zeros(4, int)
    for epochs, activation in ((1, "relu"), (2, "tanh")):
        model = nn.MLP([2, 3, 2], activation)
        options = {"epochs": epochs, "out": tmp_path, "resume": epochs > 1, "eager": True, "progress": False}
        if epochs == 1:
            mg.fit(model, optim.Adam(model.parameters()), pair, **options)
    before = model.state_dict()
    with pytest.raises(CheckpointError, match="(?s)is a run of.*ReLU.*not of.*Tanh"):
        mg.fit(model, optim.Adam(model.parameters()), pair, **options)
    np.testing.assert_equal(model.state_dict(), before)
