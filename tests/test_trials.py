"""Sweeps: every trial once, whoever works and whatever befalls; the best by what plain training gives."""

import json
import math
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import microgradx as mg
from microgradx import data, nn, optim, training
from microgradx.cli import main
from microgradx.errors import ArgumentError, CheckpointError, DataError, TrainingWarning
from microgradx.training.trials import grid, journal, plans

# The language of grids

VALUES = [
    ("1e-4..1e-1:log:4", [1e-4, 1e-3, 1e-2, 1e-1]),
    ("0..0.5:lin:3", [0.0, 0.25, 0.5]),
    ("16..128:log:4", [16, 32, 64, 128]),
    ("1..3:lin:9", [1, 2, 3]),
    ("adam, lion,sgd", ["adam", "lion", "sgd"]),
    ("64-32-10,64-128-10", ["64-32-10", "64-128-10"]),
    ("0.9,0.99;0.8,0.9", ["0.9,0.99", "0.8,0.9"]),
    ("cosine,step:step_size=100:gamma=0.5", ["cosine", "step:step_size=100:gamma=0.5"]),
    ([1, "a", None], [1, "a", None]),
]


@pytest.mark.parametrize(("text", "values"), VALUES)
def test_values_of_a_grid(text, values):
    axis = grid.read("name", text)
    found = axis.values("name") if isinstance(axis, grid.Range) else axis
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1..2:lag:3", "a..b:log:n or a..b:lin:n"),
        ("2..1:lin:3", "below the second"),
        ("0..1:log:3", "take :lin"),
        ("1..2:lin:1", "at least 2 values"),
        ("a,b,a", "a stands there twice"),
        (" ", "no value to try"),
    ],
)
def test_what_is_no_grid_is_told(text, says):
    with pytest.raises(ArgumentError, match=says):
        grid.read("lr", text)


def test_a_range_without_a_number_is_for_a_search():
    with pytest.raises(ArgumentError, match="say how many"):
        training.sweep(odd, {"lr": "1..2:lin"}, processes=0)


# Trials that go well, and others


def odd(what, seed):
    """A trial that does as it is told."""
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "slow":
        time.sleep(60)
    if what == "wrong":
        raise ValueError("of no use")
    if what == "huge":
        raise MemoryError
    return {"valid_loss": np.float32(math.nan) if what == "nan" else 1.0 + seed, "pid": os.getpid()}


FAILED = {"nan": "diverged", "wrong": "error", "huge": "memory", "killed": "died", "slow": "limit"}


@pytest.mark.slow
def test_what_fails_is_written_down_and_not_done_again(tmp_path):
    def go(resume):
        options = {"processes": 2, "limit": 1.0, "resume": resume, "progress": False}
        return training.sweep(odd, {"what": ["good", *FAILED]}, out=tmp_path, **options)

    found = go(resume=False)
    assert {e["config"]["what"]: e["failed"] for e in found.entries if "failed" in e} == FAILED
    assert found.best.config == {"what": "good"} and found.best.mean == 1.0
    pids = {entry["result"]["pid"] for entry in found.entries if "result" in entry}
    assert os.getpid() not in pids
    lines = (tmp_path / "trials.jsonl").read_text().splitlines()
    assert sum('"died"' in line and '"failed"' not in line for line in lines) == 1  # it was tried again
    assert go(resume=True).entries == found.entries
    assert (tmp_path / "trials.jsonl").read_text().splitlines() == lines


def test_threads_and_executors_work_too():
    for more in ({"processes": 0, "at_once": 3}, {"processes": 2, "executor": ThreadPoolExecutor(2)}):
        found = training.sweep(odd, {"what": ["good", "wrong"]}, seeds=3, progress=False, **more)
        assert len(found.entries) == 6 and found.best.mean == 2.0


def test_a_torn_line_is_done_again_and_a_damaged_one_told(tmp_path):
    options = {"out": tmp_path, "processes": 0, "progress": False}
    whole = training.sweep(odd, {"what": ["good", "wrong", "huge"]}, **options)
    path = tmp_path / "trials.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "{damaged", lines[2][:30]]))
    with pytest.warns(TrainingWarning, match="damaged lines, 2"):
        again = training.sweep(odd, {"what": ["good", "wrong", "huge"]}, resume=True, **options)
    clean = lambda entries: sorted(json.dumps(e | {"seconds": 0}, sort_keys=True) for e in entries)
    assert clean(again.entries) == clean(whole.entries)
    assert path.read_text().splitlines()[:2] == [lines[0], "{damaged"]
    with pytest.raises(CheckpointError, match="another grid"):
        training.sweep(odd, {"what": ["good"]}, resume=True, **options)
    with pytest.raises(ArgumentError, match="already holds a sweep"):
        training.sweep(odd, {"what": ["good"]}, **options)


LR = {"config": {"lr": 1}, "seed": 0}
FOREIGN_LINES = [5, {}, None, "x", [1], LR, LR | {"config": {}, "failed": "died", "why": "so"}]
FOREIGN_LINES += [
    LR | {"result": result} for result in (5, {}, {"loss": "x"}, {"loss": None}, {"loss": True})
]
FOREIGN_LINES += [LR | {"result": {"loss": loss}} for loss in (math.nan, math.inf, 10**400)]
FOREIGN_LINES += [LR | {"result": {"loss": 1}} | more for more in (
    {"config": {"lr": 3}}, {"config": {"lr": 1.0}}, {"config": {"a": 1}}, {"config": {"lr": 1, "a": 1}},
    {"seed": 7}, {"seed": "a"}, {"epochs": "a"}, {"epochs": 1}, {"failed": "died", "why": ""},
    {"result": {"loss": 1, "accuracy": "x"}},
)]  # fmt: skip
FOREIGN_LINES += [LR | {"failed": "error"}, LR | {"failed": 5, "why": "so"}, LR | {"died": 5}]


def rate(lr, seed):
    return {"loss": float(lr), "accuracy": 0.5}


def test_a_line_of_another_sense_is_a_damaged_one(tmp_path):
    options = {"out": tmp_path, "processes": 0, "progress": False}
    whole = training.sweep(rate, {"lr": [1, 2]}, **options)
    path = tmp_path / "trials.jsonl"
    kept = path.read_text().splitlines()[1]
    for line in FOREIGN_LINES:
        path.write_text(f"{json.dumps(line)}\n{kept}\n")
        with pytest.warns(TrainingWarning, match="damaged lines, 1. Their trials are done again"):
            found = training.Sweep.read(tmp_path, by="accuracy")
        assert [s.config for s in found.standings] == [{"lr": 2}], line
    with pytest.warns(TrainingWarning, match="damaged lines, 1"):
        again = training.sweep(rate, {"lr": [1, 2]}, resume=True, **options)
    assert again.best.config == whole.best.config and len(again.entries) == 2


PLAN = {"grid": {"lr": "1,2"}, "seeds": [0], "epochs": None, "halving": None, "search": None}
PLAN |= {"trials": None, "about": {"words": ["--data=moons"]}}


@pytest.mark.parametrize(
    "more",
    [
        *({"seeds": seeds} for seeds in (None, [], "a", ["a"], [True], 5)),
        *({"grid": given} for given in ([1], None, {}, {"lr": 5}, {"zzz": "1,2"}, {"lr": "1..2:lin"})),
        *({"trials": "q"} | search for search in ({}, {"search": "tpe"})),
        *({"search": 5, "trials": 1}, {"halving": "q"}, {"halving": 2, "epochs": "q"}, {"epochs": 3}),
        *({"about": about} for about in (None, 5, *({"words": w} for w in ("5", [5], ["--help"], None)))),
    ],
    ids=str,
)
def test_a_plan_without_sense_is_damaged(more, tmp_path, capsys):
    (tmp_path / "sweep.json").write_text(json.dumps(PLAN | more))
    for option in ("--resume", "--show"):
        assert run(f"{option}={tmp_path}", "--quiet") == 1
        assert "sweep.json is damaged: begin the sweep anew" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.json"]


@pytest.mark.filterwarnings("always::microgradx.errors.TrainingWarning")
def test_what_is_no_file_is_told_and_not_waited_for(tmp_path, capsys):
    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no pipes")
    training.sweep(rate, {"lr": [1, 2]}, out=tmp_path, processes=0, progress=False)
    (tmp_path / "map.png").mkdir()
    assert run(f"--show={tmp_path}") == 0
    told = capsys.readouterr()
    assert "lr 1" in told.out and (find_spec("matplotlib") is None or "there is a folder" in told.err)
    for name in ("trials.jsonl", "sweep.json"):
        (tmp_path / name).unlink()
        os.mkfifo(tmp_path / name)
        assert run(f"--show={tmp_path}") == 1
        assert f"{name} cannot be read: it is a pipe" in capsys.readouterr().err


def test_sweeps_without_sense_are_refused(tmp_path):
    for grid_, more, says in [
        ({}, {}, "something to vary"),
        ({"what": range(101)}, {"seeds": 100}, "10,100 trainings"),
        ({"what": [1]}, {"halving": 3}, "number of epochs"),
        ({"what": [1]}, {"halving": 3, "epochs": 3}, "the folder of the sweep"),
        ({"what": [1]}, {"search": "tpe"}, "a number of trials"),
        ({"what": [1]}, {"search": "tpe", "trials": 0}, "trials is a whole number"),
        ({"what": [1]}, {"seeds": [1, 1]}, "each once"),
        ({"seed": [1]}, {}, "decided by the sweep"),
    ]:
        with pytest.raises(ArgumentError, match=says):
            training.sweep(odd, grid_, processes=0, **more)
    with pytest.raises(ArgumentError, match="give a function of a module"):
        training.sweep(lambda seed: 1.0, {"what": [1]}, processes=1)
    with pytest.raises(DataError, match="all 1 failed, the first by ValueError: of no use"):
        _ = training.sweep(odd, {"what": ["wrong"]}, processes=0, progress=False).best


def test_threads_draw_numbers_of_their_own():
    def drawn(seed):
        with mg.generator.apart():
            mg.seed(seed)
            return [float(mg.rand(1).item()) for _ in range(50)]

    before = mg.generator.state_dict()
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(drawn, range(6)))
    assert mg.generator.state_dict() == before
    assert found == [drawn(seed) for seed in range(6)]


# Halving and search


@pytest.mark.parametrize(
    ("epochs", "factor", "count", "stages"),
    [(27, 3, 27, [1, 3, 9, 27]), (27, 3, 9, [3, 9, 27]), (5, 2, 4, [1, 2, 5]), (1, 3, 9, [1])],
)
def test_rungs(epochs, factor, count, stages):
    assert plans.rungs(epochs, factor, count) == stages


def counted(rate, seed, epochs, folder):
    """A trial that remembers how far it has come."""
    place = Path(folder)
    before = int(place.read_text()) if place.exists() else 0
    place.write_text(str(epochs))
    return {"loss": rate / epochs + seed, "done": epochs - before}


def test_halving_goes_on_with_the_best(tmp_path):
    options = {"out": tmp_path, "processes": 0, "progress": False, "epochs": 9, "halving": 3, "seeds": 2}
    found = training.sweep(counted, {"rate": list(range(9))}, **options)
    assert [(s.config["rate"], s.epochs) for s in found.standings[:4]] == [(0, 9), (1, 3), (2, 3), (3, 1)]
    assert [entry["result"]["done"] for entry in found.entries] == [1] * 18 + [2] * 6 + [6] * 2
    assert not [*(tmp_path / "states").iterdir()]


def bowl(x, n, seed):
    return (math.log10(x) + 2) ** 2 + n / 100


def test_a_search_finds_more_than_chance_and_resumes_the_same(tmp_path):
    pytest.importorskip("optuna", reason="Optuna is in the extra 'optuna'")
    options = {"search": "tpe", "trials": 20, "progress": False, "processes": 0}
    space = {"x": "1e-5..1:log", "n": "1..8:lin"}
    whole = training.sweep(bowl, space, out=tmp_path, **options)
    assert whole.best.mean < 0.1 and {type(e["config"]["n"]) for e in whole.entries} == {int}
    path = tmp_path / "trials.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:11]))
    again = training.sweep(bowl, space, out=tmp_path, resume=True, **options | {"at_once": 2})
    configs = lambda sweep: sorted(str(entry["config"]) for entry in sweep.entries)
    assert configs(again) == configs(whole)


def test_a_search_without_optuna_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ArgumentError, match=r"pip install optuna"):
        training.sweep(bowl, {"x": "1e-5..1:log"}, search="tpe", trials=2, processes=0)


# The command


@pytest.fixture
def few(tmp_path):
    """Options for a network that learns 40 rows."""
    rng = np.random.default_rng(0)
    rows = [f"{x:.3f},{y:.3f},{int(x * y > 0)}" for x, y in rng.normal(size=(40, 2))]
    (tmp_path / "few.csv").write_text("a,b,label\n" + "\n".join(rows))
    return [f"--data={tmp_path / 'few.csv'}", "--model=2-4-2", "--dropout=0.1", "--batch-size=16"]


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main(["sweep", *arguments])
    return stop.value.code


def results(folder):
    entries = journal.lines(folder / "trials.jsonl")
    return {json.dumps([e["config"], e["seed"]], sort_keys=True): e.get("result") for e in entries}


def plainly(path, kind, lr, seed, cosine):
    """What `mg.fit` makes of two epochs."""
    train, test = data.load(path)
    mg.seed(seed)
    model = nn.MLP([2, 4, 2], dropout=0.1)
    optimizer = kind(model.named_parameters(), lr=lr)
    schedule = optim.CosineAnnealingLR(optimizer, 2 * math.ceil(len(train[0]) / 16)) if cosine else None
    options = {"epochs": 2, "batch_size": 16, "eager": True, "progress": False, "schedule": schedule}
    return mg.fit(model, optimizer, train, test, **options).best["valid_loss"]


@pytest.mark.interpreted
def test_steps_that_are_used_again_give_what_plain_training_gives(few, tmp_path, capsys):
    options = ["--epochs=2", "--seeds=2", "--processes=0", f"--out={tmp_path / 's'}", "--quiet"]
    options += ["--grid=lr=0.01,0.1", "--grid=optimizer=adam,sgd", "--grid=schedule=constant,cosine"]
    assert run(*few, *options) == 0
    found = results(tmp_path / "s")
    assert len(found) == 16
    for key, result in found.items():
        config, seed = json.loads(key)
        kind = {"adam": optim.Adam, "sgd": optim.SGD}[config["optimizer"]]
        expected = plainly(tmp_path / "few.csv", kind, config["lr"], seed, config["schedule"] == "cosine")
        assert result["valid_loss"] == pytest.approx(expected, rel=1e-5), key
    out = capsys.readouterr().out
    assert "8 configurations (lr 2, optimizer 2, schedule 2) x 2 seeds: 16 trainings" in out
    assert "--model=2-4-2 --dropout=0.1 --batch-size=16 --epochs=2 --optimizer=" in out
    assert max(map(len, out[: out.index("in /")].splitlines())) <= 80
    assert run(f"--show={tmp_path / 's'}", "--json", "--by=accuracy") == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["configurations"]) == 8 and shown["best"].startswith("microgradx train")
    assert (tmp_path / "s" / "map.png").read_bytes().startswith(b"\x89PNG")


def test_processes_threads_and_interruptions_change_no_bit(few, tmp_path, capsys):
    options = [*few, "--eager", "--epochs=2", "--grid=lr=0.01,0.1", "--seeds=2", "--quiet"]
    for name, more in {"two": ["--processes=2"], "threads": ["--processes=0", "--at-once=3"]}.items():
        assert run(*options, *more, f"--out={tmp_path / name}") == 0
    path = tmp_path / "two" / "trials.jsonl"
    whole = results(path.parent)
    assert whole == results(tmp_path / "threads") and len(whole) == 4
    path.write_text(path.read_text()[: -len(path.read_text()) // 3])
    assert run(f"--resume={path.parent}", "--processes=0", "--quiet") == 0
    assert results(path.parent) == whole


@pytest.mark.interpreted
def test_epochs_vary_like_every_option(few, tmp_path, capsys):
    options = ["--grid=epochs=1,3", "--grid=bias=true,false", "--epochs=2", "--processes=0", "--quiet"]
    assert run(*few, *options, f"--out={tmp_path / 's'}") == 0
    done = {key: result["epochs"] for key, result in results(tmp_path / "s").items()}
    assert sorted(done.values()) == [1, 1, 3, 3] and all(f'"epochs": {n}' in key for key, n in done.items())


@pytest.mark.interpreted
def test_survivors_of_halving_have_the_bits_of_trainings_without_pause(few, tmp_path, capsys):
    options = [*few, "--epochs=4", "--processes=0", "--quiet", "--schedule=cosine"]
    assert run(*options, "--grid=lr=0.001..0.1:log:4", "--halving=2", f"--out={tmp_path / 'h'}") == 0
    best = training.Sweep.read(tmp_path / "h").best
    assert best.epochs == 4
    again = [*options, f"--grid=lr={best.config['lr']}", f"--out={tmp_path / 'w'}"]
    assert run(*again) == 0
    assert [*results(tmp_path / "w").values()] == best.results


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--grid=learning-rate=1,2"], "Did you mean lr?"),
        (["--grid=optimizr=adam"], "Did you mean optimizer?"),
        (["--grid=optimizer=adan,adem"], "no optimizer 'adem'"),
        (["--grid=seed=1,2"], "--seeds says how many"),
        (["--grid=lr"], "write NAME=VALUES"),
        (["--grid=lr=1,2", "--grid=lr=3,4"], "twice"),
        (["--grid=momentum=0.8,0.9"], "--momentum is an option of sgd"),
        (["--grid=batch-size=0,2"], "is not in the range x>=1"),
        (["--grid=lr=1,2", "--model=2-4-3"], "does not fit"),
        (["--grid=lr=1,2", "--epohcs=3"], "--epochs"),
        (["--grid=betas=0.9,0.99;0.9,2"], "betas must be"),
        (["--grid=lr=1..2.0:lin:20000"], "20,000 trainings"),
        (["--grid=lr=1,2", "--axes=lr,zzz"], "--axes lr,zzz: no name that varies 'zzz'"),
        (["--grid=lr=1,2", "--data=regression", "--by=accuracy"], "--by accuracy is for classes"),
        (["--grid=lr=1,2", "--resume="], "is empty: name one"),
        ([], "something to vary"),
    ],
)
def test_mistakes_are_told_before_anything_begins(options, says, tmp_path, capsys):
    assert run("--data=moons", *options, f"--out={tmp_path / 'none'}") == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
