"""The command `microgradx`, as a person uses it and misuses it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest
from click.shell_completion import ShellComplete
from PIL import Image

from microgradx import data, doctor
from microgradx.cli import COMMANDS, cli, main, picture, terminal
from microgradx.cli.recipe import POWERS, Recipe, activations, losses
from microgradx.data import datasets
from microgradx.optim import optimizers, plans
from microgradx.training import History, Run, checkpoints, runs

graph_command = import_module("microgradx.cli.graph")
pytestmark = pytest.mark.usefixtures("undrawn")
ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "microgradx"]


@pytest.fixture
def command(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    return command


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The run folder of a network that knows the digits."""
    run = Run(tmp_path_factory.mktemp("runs") / "digits")
    with pytest.raises(SystemExit) as stop:
        main(["train", "--quiet", "--out", str(run.folder)])
    assert stop.value.code == 0
    return run


# Completion

TABS = [
    ("train --optimizer ''", {"adam", "sgd"}),
    ("train --optimizer ad", {"adam", "adagrad"}),
    ("train --optimizer lion --bet", {"--betas"}),
    ("train --data mo", {"moons"}),
    ("train --activation re", {"relu"}),
    ("race --surface ro", {"rosenbrock"}),
]


def test_a_shell_is_told_the_names(monkeypatch, capfd):
    """What the line of the README makes bash ask."""
    words = {"COMP_WORDS": "microgradx train --optimizer ada", "COMP_CWORD": "3"}
    for name, value in (words | {"_MICROGRADX_COMPLETE": "bash_complete"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        main([])
    assert capfd.readouterr().out.split() == ["plain," + n for n in optimizers if n.startswith("ada")]


@pytest.mark.parametrize("line, offered", TABS, ids=[line for line, _ in TABS])
def test_names_complete(line, offered):
    words = line.split()
    complete = ShellComplete(cli, {}, "microgradx", "_MICROGRADX_COMPLETE")
    last = words[-1].replace("''", "")
    found = {item.value for item in complete.get_completions(words[:-1], last)}
    assert offered <= found and all(value.startswith(last) for value in found)


# Training


def test_train_alone_learns_the_digits(trained):
    config = trained.read()
    assert config["recipe"]["data"] == "digits" and config["recipe"]["model"] == [64, 128, 10]
    assert checkpoints.load(trained.best)["confusion"].trace() >= 0.97 * 359


def test_train_says_what_came_out(command, monkeypatch):
    monkeypatch.setattr("microgradx.training.loop.draw", runs.draw)
    code, out, errors = command("train", "--data", "moons", "--model", "2-8-2", "--epochs", 2)
    assert code == 0 and [line[:5] for line in errors.splitlines()] == ["epoch", "    1", "    2"]
    first, second, result, files = out.splitlines()
    assert first == "moons: 800 rows to learn from, 200 held out; 2 features, 2 classes"
    assert second == "2-8-2 relu, adam, seed 0"
    assert "held-out rows at epoch 2 of 2, the best by loss; " in result and result.endswith(" s in all")
    assert files.startswith("in runs/moons-adam-1: best.safetensors, config.json, confusion.png")
    assert command("train", "--data", "moons", "--epochs", 1, *UNCOMPILED)[0] == 0
    assert Path("runs/moons-adam-2").is_dir()


UNCOMPILED = ["--eager"]  # these are about options; every optimizer, loss and layer is compiled elsewhere


@pytest.mark.parametrize("name", optimizers)
def test_every_optimizer_trains_with_its_own_options(command, name):
    settings = {"lr": "0.001"} if "lr" in optimizers[name].options else {}
    more = {"muon": ["--no-bias"], "lbfgs": ["--batch-size=800"]}.get(name, [])
    options = [f"--{key}={value}" for key, value in settings.items()]
    options += ["--data=xor", "--epochs=1", f"--optimizer={name}", *more, *UNCOMPILED]
    code, _, errors = command("train", *options)
    assert code == 0 and errors.startswith("epoch    loss ") and errors.count("\n") == 2
    recipe = Run(f"runs/xor-{name}-1").read()["recipe"]
    assert recipe["hyperparameters"] == {key: float(value) for key, value in settings.items()}


def test_hyperparameters_of_every_kind(command):
    options = ["--betas", "0.8,0.9", "--weight-decay", "0.1", "--amsgrad", "--eps=1e-6", *UNCOMPILED]
    assert command("train", "--data=xor", "--epochs=1", "--optimizer", "adam", *options)[0] == 0
    recipe = Run("runs/xor-adam-1").read()["recipe"]
    assert recipe["hyperparameters"] == {
        "betas": [0.8, 0.9],
        "weight_decay": 0.1,
        "amsgrad": True,
        "eps": 1e-6,
    }


def test_a_part_of_a_tuple_may_be_none(command):
    options = ["--optimizer=adafactor", "--eps=none,0.01", *UNCOMPILED]
    assert command("train", "--data=xor", "--epochs=1", *options)[0] == 0
    assert Run("runs/xor-adafactor-1").read()["recipe"]["hyperparameters"] == {"eps": [None, 0.01]}


@pytest.mark.parametrize("name", plans)
def test_every_schedule_trains(command, name):
    assert command("train", "--data=xor", "--epochs=1", "--schedule", name, *UNCOMPILED)[0] == 0


PLANS = {
    "step:gamma=0.5:step_size=3": {"gamma": 0.5, "step_size": 3},
    "multi-step:milestones=3,9": {"milestones": (3, 9)},
    "one-cycle:cycle_momentum=0": {"total_steps": 100, "cycle_momentum": 0},
    "plateau:patience=1": {"patience": 1, "mode": "min"},
    "cosine": {"T_max": 100},
}


@pytest.mark.parametrize("text", PLANS)
def test_schedules_take_their_options(text):
    recipe = Recipe(model=[2, 2], schedule=text, hyperparameters={"betas": (0.7, 0.9)})
    optimizer, schedule = recipe.optimize(recipe.network(), 100)
    assert schedule.options.items() >= PLANS[text].items() and schedule.optimizer is optimizer
    assert optimizer.param_groups[0]["betas"] == (0.7, 0.9)


@pytest.mark.parametrize("name", losses())
def test_every_loss_trains_on_labels(command, name):
    assert command("train", "--data=xor", "--epochs=1", "--loss", name, *UNCOMPILED)[0] == 0
    assert command("evaluate", "runs/xor-adam-1")[0] == 0


@pytest.mark.parametrize("name", activations())
def test_every_activation_trains(command, name):
    options = ["--standardize", "--dropout=0.1", "--clip-norm=1", "--patience=1", "--threads=1"]
    assert command("train", "--data=xor", "--epochs=1", "--activation", name, *options, *UNCOMPILED)[0] == 0
    assert command("evaluate", "runs/xor-adam-1")[0] == 0


def test_a_regression_and_its_predictions(command):
    assert command("train", "--data=regression", "--epochs=2", *UNCOMPILED)[0] == 0
    code, out, _ = command("evaluate", "runs/regression-adam-1")
    assert code == 0 and out.startswith("R² 0.") and ", loss 0." in out and len(out.splitlines()) == 1
    np.savetxt("x.csv", data.regression().test[0][:3], delimiter=",")
    code, out, _ = command("predict", "runs/regression-adam-1", "x.csv")
    assert code == 0 and len([float(line) for line in out.splitlines()]) == 3


@pytest.mark.parametrize(("loss", "power"), POWERS.items())
def test_targets_are_learned_scaled_and_told_in_their_units(command, monkeypatch, loss, power):
    """A table in other units leads to the same network: losses and predictions are in those units."""
    monkeypatch.setattr("microgradx.training.loop.draw", lambda *_: [])
    x, y = data.regression(60, noise=0.1).train
    found = {}
    for unit, zero in ((1.0, 0.0), (4096.0, 3e5)):
        run = f"run{unit:.0f}"
        np.savez("table.npz", x=x, y=unit * y + zero)
        options = f"--epochs=3 --optimizer=sgd --lr=0.1 --eager --quiet --seed=1 --loss={loss} --out={run}"
        code, out, _ = command("train", "--data=table.npz", *options.split())
        assert code == 0
        said = re.search(r"(R² -?[0-9.]+), loss", out)[1]
        assert command("evaluate", run)[1].startswith(f"{said}, loss")
        assert command("verify", run)[0] == 0
        predicted = [float(line) for line in command("predict", run, "table.npz")[1].splitlines()]
        made = checkpoints.load(Path(run, "best.safetensors"))["model"]
        assert made["1.scale"] > 0.5 * unit and abs(made["1.mean"] - zero).max() < unit
        losses = History.read(Path(run, "history.jsonl"))
        found[unit] = [*losses["loss"], *losses["valid_loss"]], np.array(predicted), said
    (small, few, said), (large, many, again) = found[1.0], found[4096.0]
    np.testing.assert_allclose(large, np.multiply(small, 4096.0**power), rtol=1e-2)
    np.testing.assert_allclose(many, 4096 * few + 3e5, rtol=1e-4)
    assert abs(float(said[3:]) - float(again[3:])) < 0.01


def test_a_run_that_is_older_than_the_scaling_of_targets_is_read_as_it_was_made(command, monkeypatch):
    monkeypatch.setattr("microgradx.training.loop.draw", lambda *_: [])
    options = "--data=regression --epochs=1 --eager --quiet --raw-targets --out=old --model 10-4-1"
    assert command("train", *options.split())[0] == 0
    config = json.loads(Path("old/config.json").read_text())
    assert config["recipe"].pop("scale_targets") is False
    Path("old/config.json").write_text(json.dumps(config))
    for line in ("evaluate old", "predict old --row 3", "train --resume old --epochs 2 --quiet"):
        assert command(*line.split())[0] == 0


def test_data_of_your_own(command):
    x, y = data.moons(n=60).train
    np.savez("mine.npz", x=x, y=y)
    np.savetxt("mine.csv", np.column_stack([x, y]), delimiter=",", header="a,b,label", comments="")
    for file in ("mine.npz", "mine.csv"):
        assert (
            command("train", "--data", file, "--epochs", 1, "--out", f"run{file[-3:]}", *UNCOMPILED)[0] == 0
        )
    assert command("predict", "runnpz", "mine.npz")[1].count("\n") == len(x)


def test_predict_takes_the_very_file_that_was_trained_on(command):
    x, y = data.moons(n=40).train
    rows = [f"{a:.3f},{b:.3f}" for a, b in x]
    names = np.array(["up", "down"])[y]
    Path("bare.csv").write_text("\n".join(rows))
    named = [f"{row},{name}" for row, name in zip(rows, names, strict=True)]
    Path("named.csv").write_text("\n".join(["a,b,kind", *named]))
    Path("indexed.csv").write_text("\n".join([",a,b,kind", *(f"{n},{row}" for n, row in enumerate(named))]))
    np.save("table.npy", np.column_stack([np.round(x, 3), y]))
    said = set()
    assert command("train", "--data=named.csv", "--epochs=1", "--out=run", *UNCOMPILED)[0] == 0
    for name in ("bare.csv", "named.csv", "indexed.csv", "table.npy"):
        code, out, errors = command("predict", "run", name)
        assert (code, errors, out.count("\n")) == (0, "", len(x)), name
        said.add(out)
    assert len(said) == 1


SMALL = np.random.default_rng(0).integers(0, 256, (20, 2, 3), np.uint8)
ROWS = SMALL.reshape(20, 6) / np.float32(255)


def text(name, delimiter):
    """Writes rows as text, gzipped where the name says so."""
    return lambda: np.savetxt(name, ROWS, delimiter=delimiter, header="abcdef".replace("", delimiter)[1:-1],
                              comments="")  # fmt: skip


KINDS = {
    "rows.csv": text("rows.csv", ","),
    "rows.tsv": text("rows.tsv", "\t"),
    "rows.csv.gz": text("rows.csv.gz", ";"),
    "rows.tsv.gz": text("rows.tsv.gz", "\t"),
    "rows.npy": lambda: np.save("rows.npy", ROWS),
    "bytes.npy": lambda: np.save("bytes.npy", SMALL),
    "rows.npz": lambda: np.savez("rows.npz", x=SMALL, y=np.zeros(20)),
    "t10k-images-idx3-ubyte": lambda: data.write_idx("t10k-images-idx3-ubyte", SMALL),
    "t10k-images-idx3-ubyte.gz": lambda: data.write_idx("t10k-images-idx3-ubyte.gz", SMALL),
}


def test_predict_finds_columns_by_their_names(command):
    rows = np.random.default_rng(0).normal(size=(60, 2)).round(3)
    write = lambda name, head, *columns: np.savetxt(
        name, np.column_stack(columns), "%s", ",", header=head, comments=""
    )
    write("own.csv", "a,b,kind", rows, np.where(rows[:, 0] > 0, "up", "down"))
    assert command("train", "--data=own.csv", "--epochs=1", "--out=run", *UNCOMPILED)[0] == 0
    write("same.csv", "a,b", rows)
    write("other.csv", "id,b,a", range(60), rows[:, ::-1])
    write("less.csv", "a,c", rows)
    assert command("predict", "run", "other.csv") == command("predict", "run", "same.csv")
    code, _, errors = command("predict", "run", "less.csv")
    assert code == 1 and "learned from a, b, and b is not in this file, which has a, c" in errors


def test_predict_takes_every_kind_of_file_that_train_takes(command):
    np.savez("mine.npz", x=SMALL, y=np.arange(20) % 2)
    assert command("train", "--data=mine.npz", "--epochs=1", "--out=run", *UNCOMPILED)[0] == 0
    said = set()
    for name, write in KINDS.items():
        write()
        code, out, errors = command("predict", "run", name)
        assert (code, errors, out.count("\n")) == (0, "", 20), name
        said.add(out)
    assert len(said) == 1


def test_a_folder_of_pictures(command):
    for n, pixels in enumerate(SMALL // 4):
        path = Path("own", "ab"[n % 2], f"{n}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels + np.uint8(190 * (n % 2))).save(path)
    assert command("train", "--data=own", "--epochs=60", "--lr=0.05", "--out=run", *UNCOMPILED)[0] == 0
    found = [command("predict", "run", f"own/{'ab'[n % 2]}/{n}.png")[1][0] for n in range(20)]
    assert found == list("ab" * 10)
    Image.fromarray(SMALL[0].T).save("other.png")
    code, _, errors = command("predict", "run", "other.png")
    assert code == 1 and "other.png is 2x3 pixels of grey" in errors and "3x2 pixels of grey" in errors
    assert "cut it to the same proportions" in errors
    for n, size in enumerate([(3, 2), (30, 20)]):
        Path("more").mkdir(exist_ok=True)
        Image.open("own/b/1.png").resize(size, Image.Resampling.NEAREST).save(f"more/{n}.png")
    code, out, _ = command("predict", "run", "more")
    (one, *first), (other, *second) = (line.split("\t") for line in out.splitlines())
    assert (code, one, other, first[0]) == (0, "0.png", "1.png", "b") and first == second


LINES = """
import sys
from microgradx.cli import main
for line in sys.argv[1:]:
    try:
        main(line.split())
    except SystemExit as stop:
        assert not stop.code, line
"""


@pytest.mark.slow
def test_train_in_a_plain_locale(tmp_path):
    """Nothing that is read or written depends on the encoding that the system has for text."""
    rows = "".join(f"{n % 7},{'größer' if n % 3 else 'kleiner'}\n" for n in range(20))
    (tmp_path / "größe.csv").write_text("breite,größe\n" + rows, encoding="utf-8")
    plain = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "MPLBACKEND": "agg"}
    lines = [
        "train --data=größe.csv --epochs=1 --threads=1 --out=läufe --eager",
        "evaluate läufe",
        "train --help",
        "train --resume=läufe --epochs=2",
    ]
    done = subprocess.run([sys.executable, "-c", LINES, *lines], cwd=tmp_path,
                          env=plain | {"PYTHONPATH": str(ROOT)}, capture_output=True)  # fmt: skip
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert done.stderr.count(b"Error") == 0
    assert len(Run(tmp_path / "läufe").history.read_text(encoding="utf-8").splitlines()) == 2


def test_resume_goes_on_and_fixes_what_was_chosen(command):
    assert command("train", "--data=moons", "--epochs=2", "--dropout=0.1", "--out=run")[0] == 0
    code, out, _ = command("train", "--resume=run", "--epochs=4")
    assert code == 0 and "epoch 4 of 4" in out
    assert command("train", "--data=moons", "--epochs=4", "--dropout=0.1", "--out=whole")[0] == 0
    assert (checkpoints.load("run/last.safetensors")["model"]["0.weight"].tobytes()
            == checkpoints.load("whole/last.safetensors")["model"]["0.weight"].tobytes())  # fmt: skip
    for none in ([], ["--epochs=4"]):
        code, out, _ = command("train", "--resume=run", *none)
        assert code == 0 and "run has done 4 epochs, none is left: --epochs 14 goes on." in out
    code, _, errors = command("train", "--resume=run", "--epochs=3")
    assert (code, errors) == (2, "error: --epochs 3: run has done 4: give more than these.\n")
    code, _, errors = command("train", "--resume=run", "--lr=0.1")
    assert (code, errors) == (
        2, "error: a resumed run keeps its --lr: leave that out, or start a new run.\n"
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("how, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_say_how_to_go_on(how, code, tmp_path):
    run = tmp_path / "run"
    arguments = ["train", "--data=digits", "--epochs=100000", f"--out={run}", "--threads=1"]
    with subprocess.Popen([*COMMAND, *arguments], cwd=ROOT, stdout=PIPE, stderr=PIPE, text=True) as process:
        while not (run / "history.jsonl").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.send_signal(how)
        errors = process.stderr.read()
    assert process.returncode == code
    said, command = errors.splitlines()[-2:]
    assert said.startswith("stopped ") and said.endswith("; go on with:") and "error" not in errors
    assert command == f"  microgradx train --resume {run}"


# Running it again

DAMAGED = {  # what happens to a run of 6 steps in 3 epochs, and what is said
    "nothing": ([], "the bits agree in 6 steps: their losses and the weights of"),
    "fewer": (["--steps=3"], "the bits agree in 3 steps: their losses\n"),
    "a loss": ([], "other bits: the loss of step 4 was 5.0, now it is 0."),
    "a weight": ([], "other bits: after step 6, 0.weight[1, 3] was 5.0, now it is "),
    "a state": ([], "other bits: after step 6, the optimizer's v of 3.bias[1] was 5.0, now it is"),
    "a seed": ([], "other bits: the loss of step 1 was 0."),
    "a rate": ([], "other bits: the loss of step 2 was 0."),
    "no checkpoint": (["--steps=3"], "to name the parameter: leave out --steps"),
}  # fmt: skip


@pytest.fixture(scope="session")
def short(tmp_path_factory):
    """The folder of a run of 6 steps."""
    folder = tmp_path_factory.mktemp("short") / "run"
    options = ["--data=xor", "--model=2-8-2", "--batch-size=400", "--epochs=3", "--dropout=0.1", *UNCOMPILED]
    with pytest.raises(SystemExit):
        main(["train", "--quiet", f"--out={folder}", *options])
    return folder


@pytest.mark.parametrize("damage", DAMAGED)
def test_verify_names_the_first_step_parameter_and_element(command, short, damage):
    run = Run(shutil.copytree(short, "run"))
    state, config = checkpoints.load(run.last), run.read()
    match damage:
        case "a loss" | "no checkpoint":
            state["losses"][3 if damage == "a loss" else 2] = 5
        case "a weight":
            state["model"]["0.weight"][1, 3] = 5
        case "a state":
            state["optimizer"]["state"]["3.bias"]["v"][1] = 5
        case "a seed":
            config["recipe"]["seed"] = 1
        case "a rate":
            config["recipe"]["hyperparameters"] = {"lr": 0.002}
    checkpoints.save(run.last, state)
    run.best.unlink()
    run.config.write_text(json.dumps(config))
    arguments, said = DAMAGED[damage]
    code, out, errors = command("verify", "run", *arguments)
    assert (code, errors) == (damage not in ("nothing", "fewer"), "") and said in out


@pytest.mark.filterwarnings("always::microgradx.errors.TrainingWarning")
def test_a_step_that_goes_wrong_is_left_out_where_that_was_asked_for(command):
    x = np.random.default_rng(0).standard_normal((60, 2))
    x[4] = 3e38
    Path("spoilt.csv").write_text("\n".join(f"{a},{b},{int(a > 0)}" for a, b in x))
    options = ["train", "--data=spoilt.csv", "--model=2-128-2", "--batch-size=16", "--epochs=2", *UNCOMPILED]
    code, _, errors = command(*options)
    assert code == 1 and "It began in step" in errors
    code, _, errors = command(*options, "--skip-nonfinite", "--out=run")
    assert code == 0 and errors.count("a step is left out") == 2
    assert command("verify", "run")[:2] == (0, "the bits agree in 6 steps: their losses and the weights of "
                                            "previous.safetensors, last.safetensors\n")  # fmt: skip


def test_a_run_that_was_resumed_for_more_epochs_is_verified_up_to_there(command):
    options = ["--data=xor", "--epochs=2", "--schedule=cosine", "--batch-size=400", *UNCOMPILED]
    assert command("train", *options, "--out=run")[0] == 0
    assert command("train", "--resume=run", "--epochs=3")[0] == 0
    assert command("verify", "run")[:2] == (0, "the bits agree in 4 steps: their losses and the weights of "
                                            "previous.safetensors\n"
                                            "not compared: 2 steps after them, of 6 (the run was resumed "
                                            "for other epochs)\n")  # fmt: skip
    assert "; nor weights, which are kept from later steps alone" in command("verify", "run", "--steps=1")[1]
    assert "epoch 3 of 3" in command("train", "--resume=run")[1]  # it knows for how many


# Using a run


def test_evaluate_shows_each_class(command, trained):
    code, out, errors = command("evaluate", trained.folder)
    assert (code, errors) == (0, "") and "on 359 held-out rows of digits" in out
    assert len(out.splitlines()) == 12 and "precision" in out
    assert command("evaluate", trained.folder, "--last")[0] == 0


def test_predict_takes_a_held_out_row(command, trained):
    said = [command("predict", trained.folder, "--row", row)[1].split("\t") for row in range(20)]
    labels = data.digits().test[1][:20]
    for (guess, share, verdict), label in zip(said, labels, strict=True):
        assert share.endswith("%") and verdict == ("right\n" if guess == str(label) else f"it is {label}\n")
    code, _, errors = command("predict", trained.folder, "--row", 359)
    assert code == 2 and "--row 359: digits has the held-out rows 0 to 358" in errors


@pytest.mark.parametrize("scale, invert", [(1, False), (1, True), (12, False), (25, True)])
def test_predict_reads_pictures_of_digits(command, trained, scale, invert):
    (x, y), right = data.digits().test, 0
    for row, label in zip(x[:40], y, strict=False):
        pixels = np.uint8(255 * (1 - row if invert else row)).reshape(8, 8)
        image = Image.fromarray(pixels).resize((8 * scale, 8 * scale), Image.Resampling.BICUBIC)
        background = Image.new("L", (9 * scale, 11 * scale) if scale > 1 else (8, 8), 255 if invert else 0)
        background.paste(image, (0, scale if scale > 1 else 0))
        background.convert("RGB").save("digit.png")
        code, out, _ = command("predict", trained.folder, "digit.png")
        assert code == 0 and out.endswith("%\n")
        right += int(out.split("\t")[0]) == label
    assert right >= (31 if scale > 1 else 38)


def test_pictures_are_placed_like_the_training_images():
    image = np.zeros((28, 28), np.float32)
    image[4:24, 10:18] = 1
    assert picture.frame(image[None]) == (20.0, 13.5, 13.5)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("no.png", None, "no.png: No such file or directory"),
        ("text.png", b"hello", "text.png is not a picture that can be read: cannot identify image file"),
        ("half.png", "half", "half.png is not a picture that can be read"),
        ("blank.png", "blank", "blank.png is blank: nothing on it differs from its background"),
        ("rows.csv", b"1,2\n3,4\n", "takes rows of 64 finite numbers, got shape (2, 2)"),
        ("no.png", None, "No such file or directory; predict takes a picture, a folder of them or rows"),
        ("rows.csv", b"a,b\n3,x\n", "rows.csv, line 2: every cell must be a finite number, got 'x'"),
        ("rows.csv", b"", "takes rows of 64 finite numbers, got shape (0,)"),
        ("rows.npz", b"PK nothing", "rows.npz is not a .npz with an array x"),
        ("folder.png", "folder", "folder.png: no pictures ("),
    ],
)
def test_predict_says_what_is_wrong_with_a_file(command, trained, name, content, message):
    if content in ("half", "blank"):
        pixels = np.random.default_rng(0).integers(0, 255, (50, 50)) * (content == "half")
        Image.fromarray(pixels.astype(np.uint8)).save(name)
        content = Path(name).read_bytes()[: 500 if content == "half" else None]
    if content == "folder":
        Path(name).mkdir()
    elif content is not None:
        Path(name).write_bytes(content)
    code, out, errors = command("predict", trained.folder, name)
    assert (code, out) == (1, "") and message in errors and errors.count("\n") == 1


@pytest.mark.parametrize("damage", ["cut", "flip", "config", "recipe", "gone"])
def test_a_damaged_run_is_named(command, damage):
    assert command("train", "--data=xor", "--epochs=1", "--out=run", *UNCOMPILED)[0] == 0
    run = Run("run")
    whole = run.best.read_bytes()
    match damage:
        case "cut":
            run.best.write_bytes(whole[:-7])
        case "flip":
            run.best.write_bytes(whole[:-7] + bytes([whole[-7] ^ 4]) + whole[-6:])
        case "config":
            run.config.write_text("{")
        case "recipe":
            run.config.write_text(json.dumps(run.read() | {"recipe": {"modle": 1}}))
        case "gone":
            run.best.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, out, errors = command("evaluate", "run")
    if damage == "config":  # which checkpoints hold too
        assert code == 0 and "config.json is damaged" in errors and "taken from a checkpoint" in errors
        return
    assert (code, out, errors.count("\n")) == (1, "", 1) and errors.startswith(
        ("error: run", "error: no checkpoint at run/best")
    )


# Asking wrongly


@pytest.mark.parametrize(
    "line, message",
    [
        ("trian", "no command 'trian'. Did you mean train? Choose from train, sweep,"),
        ("train --optimizer adm", "no optimizer 'adm'. Did you mean adam? Choose from sgd,"),
        ("train --data digit", "no data set 'digit'. Did you mean digits? Choose from digits,"),
        ("train --activation rleu", "no activation 'rleu'. Did you mean relu? Choose from"),
        ("train --schedule cos", "no schedule 'cos'. Did you mean cosine? Choose from constant,"),
        ("train --loss mse", "no loss 'mse'. Did you mean mse_loss? Choose from"),
        (
            "train --data regression --loss cross_entropy",
            "--loss cross_entropy is for classes, and the targets of regression are numbers: take",
        ),
        ("train --data regression --loss kl_div", "--loss kl_div is for classes, and the targets of"),
        ("train --data moons --save-every nan", "--save-every': 'nan' is not a valid number"),
        ("train --device tpu", "'tpu' is not one of 'cpu', 'cuda'"),
        ("train --epochs 0", "Invalid value for '--epochs': 0 is not in the range x>=1"),
        ("train --model 64", "--model 64: give the sizes of the layers, such as 64-128-10"),
        (
            "train --model 64-32-9",
            "--model 64-32-9 does not fit digits, which has 64 features and 10 outputs",
        ),
        ("train --betas 0.9,x", "--betas takes a value like 0.9,0.999, got '0.9,x'"),
        ("train --lr -1", "Adam: lr must be"),
        (
            "train --optimizer sgd --betas 0.9,0.99",
            "No such option '--betas' of sgd: sgd has --lr, --momentum, --dampening, --weight-decay,",
        ),
        ("train --optimizer lion --amsgrad", "--amsgrad is an option of adam"),
        ("train --optimzer lion", "No such option '--optimzer'. Did you mean --optimizer?\n"),
        ("train --optimizer muon", "leave the biases out with --no-bias"),
        ("train --schedule stp:gamma=1", "no schedule 'stp'. Did you mean step?"),
        ("train --schedule step:gama=1", "no option of the schedule step 'gama'. Did you mean gamma?"),
        ("train --schedule step:gamma=x", "gamma of --schedule step takes a value like 0.1, got 'x'"),
        ("predict nowhere", "Give a FILE, or --row 3 for a row of the run's held-out data"),
        ("train --out full", "full already holds a run: --resume goes on with it; or choose another folder"),
        ("optimizers adamm", "no optimizer 'adamm'. Did you mean adam?"),
        ("optimizers adam --convention kears", "no convention 'kears'. Did you mean keras?"),
        ("optimizers --convention keras", "whose convention? microgradx optimizers adam --convention keras"),
        ("optimizers nadam --convention keras", "nadam is not described for 'keras'; described for it: none"),
        ("evaluate", "Missing argument 'RUN'"),
        ("train --epochs 1e9", "'1e9' is not a valid whole number"),
        ("train --clip-norm nan", "'nan' is not a valid number"),
        ("train --model 0-1", "--model 0-1: give the sizes of the layers"),
        (
            "graph --model 64-99999999999-10",
            "needs about 239,999,999,997,920 bytes (32 for each of 7,499,999",
        ),
        ("graph --model 1-" + "9" * 5000, "..: give the sizes of the layers, such as 64-128-10"),
        (
            "train --schedule step:gamma=1:gamma=2",
            "gamma of --schedule step is given twice, 1 and 2: leave one",
        ),
        ("train --schedule step:gamma=1,step_size=2", "apart by colons: step:gamma=1:step_size=2"),
        ("graph --out no/g.svg", "no/g.svg: there is no folder no. Make it (mkdir -p no), or name another"),
        ("bias --out file/b.png", "file/b.png: file is a file, no folder: name another place"),
        ("race --out .", ". is a folder, a file is wanted: name another, such as ./NAME"),
        ("find-lr --out " + "x" * 300 + ".png", "is no place to write to: File name too long"),
        ("train --out file/run", "file/run: file is a file, no folder"),
        ("look nowhere --out file", "file is a file, a folder is wanted: name another"),
    ],
)
def test_a_wrong_value_gets_one_line_and_code_2(command, line, message):
    if "full" in line:
        assert command("train", "--data=xor", "--epochs=1", "--out=full", *UNCOMPILED)[0] == 0
    Path("file").touch()
    code, _, errors = command(*line.split())
    assert code == 2 and message in errors and errors.count("\n") == 1


@pytest.mark.parametrize(
    "line, message",
    [
        ("evaluate nowhere", "nowhere holds no run: there is no config.json in it"),
        ("train --resume nowhere", "nowhere holds no run"),
        ("train --data nowhere.npz", "nowhere.npz"),
        ("evaluate file", "file is a file, no folder of a run: name one that microgradx train has made"),
        ("verify /dev/null", "/dev/null is a file"),
        ("train --device cuda", "CUDA: "),
        (
            "train --lr 1e38 --data xor",
            "step 2 of 25. Lower the learning rate (now 1e+38) or bound the gradients with --clip-norm",
        ),
    ],
)
def test_what_cannot_be_done_gets_one_line_and_code_1(command, line, message):
    Path("file").touch()
    code, _, errors = command(*line.split())
    assert code == 1 and message in errors and errors.count("\n") == 1 + ("lr 1e38" in line)


def test_a_bug_is_one_line_too(command, monkeypatch):
    monkeypatch.setattr("microgradx.cli.doctor.examine", lambda: 1 / 0)
    code, _, errors = command("doctor")
    assert code == 1 and errors.startswith("error: unexpected ZeroDivisionError: division by zero.")


# Looking


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help_reads_well(command, name):
    code, out, errors = command(*([name] if name else []), "--help")
    assert (code, errors) == (0, "") and "Usage: microgradx" in out
    assert all(len(line) <= 100 for line in out.splitlines())


def test_help_follows_the_registries_and_the_optimizer(command):
    out = command("train", "--help")[1]
    words = out.replace(",", " ").replace(".", " ").split()
    for registry in (datasets, optimizers, plans, activations(), losses()):
        assert set(registry) <= set(words)
    assert "Hyperparameters of adam:" in out and "--betas X,X" in out
    other = command("train", "--optimizer=lars", "--help")[1]
    assert "Hyperparameters of lars:" in other and "--trust-coefficient X" in other and "--betas" not in other


def test_optimizers_are_listed_with_equations_and_explained(command):
    out = command("optimizers")[1]
    assert all(f"{name}: " in out for name in optimizers) and "m ← β₁m + (1-β₁)g" in out
    out = command("optimizers", "adam")[1]
    assert "adam(p, g, m, v, /, t, lr=0.001" in out and "arxiv.org/abs/1412.6980" in out and "--betas" in out
    assert command("optimizers", "amsgrad")[0] == 0
    out = command("optimizers", "sgd_momentum", "--convention=keras")[1]
    assert "keras.optimizers.SGD(learning_rate=0.001, momentum=0.9)" in out


def test_doctor_reports_every_topic(command):
    code, out, errors = command("doctor")
    assert code == 0, errors
    for topic in (
        "python",
        "processor",
        "blas",
        "threads",
        "threading layers",
        "cuda",
        "cuda compiler",
        "cublas",
        "kernel cache",
        "data folders",
    ):
        assert topic in out


@pytest.mark.parametrize(
    "core, features, pinned, advice",
    [
        (
            "Haswell",
            {"avx", "avx2", "avx512f"},
            "Haswell",
            "avx512f, which Haswell does not use; OPENBLAS_CORETYPE=Has",
        ),
        ("Nehalem", {"avx", "avx2"}, None, "avx2, which Nehalem does not use; a newer OpenBLAS"),
        ("SkylakeX", {"avx", "avx2", "avx512f"}, "SkylakeX", ""),
        ("Zen", {"avx", "avx2"}, None, ""),
        ("unknown", {"avx2"}, None, ""),
        ("neoversen1", set(), None, ""),
    ],
)
def test_doctor_finds_an_older_blas_core(core, features, pinned, advice):
    found = doctor.outdated(core, features, pinned)
    assert advice in found and bool(found) == bool(advice)


LONG = "/a/path/that/is/longer/than/the/terminal/is/wide/" + "x" * 20


def test_lines_break_between_words_alone():
    text = f"in {LONG}: one-two, three four five six seven eight nine\n  {LONG} of the list\n"
    text += "  microgradx train --resume a --epochs 100000 --patience 1"
    lines = terminal.fitted(text, 50).splitlines()
    assert " ".join(" ".join(lines).split()) == " ".join(text.split())
    assert all(len(line) <= 50 or LONG in line for line in lines[:-1]) and lines[-1] in text
    assert lines[-2] == "  of the list" and terminal.fitted(text, None) == text


def test_a_graph_fits_a_narrow_terminal(command, monkeypatch):
    monkeypatch.setattr(graph_command, "columns", lambda: 50)
    code, out, _ = command("graph", "--model", "2-4-1")
    assert code == 0 and max(map(len, out.splitlines())) <= 50
    assert "2  0.bias  parameter  (4,)\n    value [" in out and "\n    gradient [" in out


def test_what_is_absent_and_not_needed_is_no_fault(command, monkeypatch):
    advised = [doctor.Finding("extra plot", "without PIL", "pip install pillow", fault=False)]
    monkeypatch.setattr("microgradx.cli.doctor.examine", lambda: advised)
    assert command("doctor")[1].endswith("all well\n")


def test_a_closed_pipe_is_silent():
    with subprocess.Popen([*COMMAND, "optimizers"], stdout=PIPE, stderr=PIPE, cwd=ROOT) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_a_warning_is_one_line(command, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MICROGRADX_CACHE", str(tmp_path / "file"))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, _, errors = command("cache")
    assert code == 0 and errors.startswith("warning: the kernel cache") and errors.count("\n") == 1


def test_names_of_a_file_give_a_terminal_no_orders(command, tmp_path):
    names = "\x1b[31mred", "[bold]b\u202e", "c$\\foo$"  # orders, and markup
    rows = [f'{k},{k * k},"{names[k % 3]}"' for k in range(30)]
    (tmp_path / "a.csv").write_text("\n".join(["x,z,class", *rows]))
    train = "train --data a.csv --model 2-4-3 --epochs 1 --eager --quiet --out run".split()  # noqa: SIM905
    said = [command(*train), command("evaluate", "run"), command("predict", "run", "a.csv")]
    assert all(code == 0 and "\x1b" not in out + err and "\u202e" not in out + err for code, out, err in said)
    shown = said[1][1]
    assert "\\x1b[31mred " in shown and "[bold]b\\u202e " in shown and "c$\\foo$ " in shown
    changed = ["x,z,class", *(f"{row[:-1]}2" + row[-1] for row in rows)]
    (tmp_path / "a.csv").write_text("\n".join(changed))
    code, _, errors = command("evaluate", "run")
    assert code == 1 and "has the classes \\x1b[31mred2, [bold]b" in errors and "train anew" in errors


def test_a_table_of_numbers_is_a_regression_where_the_loss_is_one(command, tmp_path):
    (tmp_path / "a.csv").write_text("\n".join(["x,z,y", *(f"{k},{k * k},{k / 2}" for k in range(20))]))
    train = "train --data a.csv --model 2-4-1 --epochs 1 --eager --quiet --out run"
    assert "For a regression: --loss mse_loss" in command(*train.split())[2]
    code, out, _ = command(*train.split(), "--loss=mse_loss")
    assert code == 0 and "targets of 1 numbers" in out
    (tmp_path / "a.csv").write_text((tmp_path / "a.csv").read_text().replace("\n5,", "\n6,"))
    for line, kind in (
        ("verify run", "error: run is a run with x "),
        ("train --resume=run --epochs=2", "error: run is"),
    ):
        code, _, errors = command(*line.split())
        assert code == 1 and kind in errors
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, _, errors = command("evaluate", "run")
    assert code == 0 and "a.csv is not as run learned it: x was float32 (16, 2) of digest" in errors


@pytest.mark.parametrize("line", ["train --data p.csv", "train --data p.npz", "train --data p.npy"])
def test_data_come_from_files_and_no_pipe_is_waited_for(command, tmp_path, line):
    os.mkfifo(tmp_path / line.rpartition(" ")[2])
    code, _, errors = command(*line.split())
    assert code == 1 and "it is a pipe, and must be a file that can be read again" in errors
