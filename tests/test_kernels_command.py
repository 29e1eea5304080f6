"""`microgradx kernels`: what is listed, and what is shown of one kernel."""

import json
from importlib import import_module

import numpy as np
import pytest

import microgradx as mg
from microgradx.codegen.passes.launches import ENOUGH
from microgradx.compiler.report.kernel_list import GPUS, Kernel, library, of_step, operations
from microgradx.cuda import Shape, build, simulated
from microgradx.errors import ArgumentError, DeviceError
from microgradx.rules import rules

kernels = import_module("microgradx.cli.kernels")
compiled = pytest.mark.skipif(
    simulated() or bool(build.trouble()), reason="the extra 'cuda' is not installed"
)


def test_every_rule_is_there_for_both_devices():
    found = list(library())
    assert [(k.name, k.device) for k in found] == [(rule, d) for d in ("cpu", "cuda") for rule in rules]
    sgd = next(k for k in found if k.device == "cuda")
    assert (sgd.flop, sgd.bytes) == (2e6, 12e6)  # p - lr · g, over p, g and p again
    assert sgd.flop / sgd.bytes == pytest.approx(1 / 6)
    assert sgd.least(GPUS["H100"]) == (pytest.approx(12e6 / 3350e9), "memory")
    assert "for i in range(start, stop)" in found[0].source


def test_arithmetic_binds_where_there_is_much():
    product = Kernel("m", "cuda", "", 1, 1e12, 1e6, "", {})
    assert product.least(GPUS["T4"]) == (pytest.approx(1e12 / 8.1e12), "arithmetic")
    assert operations("a = b * c + d\ne = sqrt(a)") == 3


def test_the_kernels_of_a_step():
    @mg.jit
    def step(x, w):
        return mg.relu(x @ w).sum()

    arrays = np.ones((64, 32), np.float32), np.ones((32, 16), np.float32)
    found = list(of_step(step, *arrays))
    (cuda,) = [k for k in found if k.device == "cuda"]
    assert {k.device for k in found} == {"cpu", "cuda"}
    assert cuda.name == "epoch"  # it is small
    assert "def epoch(" in cuda.source
    assert cuda.flop == 2 * 64 * 32 * 16 + 2 * 64 * 16  # the product, relu and the sum


def test_what_a_kernel_moves_is_exact():
    """The layer of a large network: a product in parts, their sum, bias and ReLU."""

    @mg.jit
    def step(x, w, b):
        return mg.relu(x @ w + b)

    n, k, m = 128, 784, 128
    arrays = (np.ones(shape, np.float32) for shape in ((n, k), (k, m), (m,)))
    product, summed, relu = list(of_step(step, *arrays, devices=("cuda",)))[-3:]
    parts = ENOUGH // 4  # of 4 tiles
    parts = min(parts, k // (4 * Shape().step))
    assert product.flop == 2 * n * k * m  # however many parts
    assert product.bytes == 4 * (n * k + k * m + parts * n * m)
    assert (summed.elements, summed.bytes) == (n * m, 4 * (parts + 1) * n * m)
    assert (relu.elements, relu.flop) == (n * m, 2 * n * m)
    assert relu.bytes == 4 * (n * m + m + n * m)  # what lies between is never in memory


@compiled
def test_the_table_of_a_step(command):
    code, out, err = command("kernels --model 64-32-10 --batch-size 128 --device cuda --gpu l4")
    assert code == 0, err
    assert "registers" in out
    assert "limits: L4 by its data sheet, 300 GB/s and 30.3 TFLOP/s in float32, capability 8.9" in out
    assert "?" not in out
    assert "relu" in out


NAMES = ["make_g_weight_0_parts_and_g_bias_0", "update"]


@pytest.mark.parametrize("width", [50, 80, 100, 220])
def test_names_are_whole_at_any_width(capsys, monkeypatch, width):
    """The next command wants them; other columns go where there is no room."""
    monkeypatch.setattr(kernels, "columns", lambda: width)
    found = [Kernel(name, "cuda", "x.T @ g_affine; sum", 200_832, 1e6, 1e6, "", {}) for name in NAMES]
    rows = [kernels.measured(kernel, GPUS["H100"], "no compiler") for kernel in found]
    kernels.table(rows, GPUS["H100"], "no compiler")
    head, *lines = capsys.readouterr().out.splitlines()[:3]
    assert [line.split()[0] for line in lines] == NAMES and all(len(line) <= width for line in (head, *lines))
    assert "at best us" in head and ("registers" in head) == (width > 50)
    assert ("what it does" in head) == (width > 120)


def test_kernels_for_programs(command):
    code, out, _ = command("kernels adam --json --device cpu")
    (adam,) = json.loads(out)["kernels"]
    assert code == 0 and (adam["name"], adam["device"], adam["bytes"]) == ("adam", "cpu", 28e6)


@compiled
def test_ptx_and_instructions_of_one_kernel(command):
    code, out, _ = command("kernels adam --ptx --gpu t4")
    assert code == 0
    assert ".target sm_75" in out
    assert ".target sm_120" in command("kernels adam --ptx --capability 12.0")[1]
    assert ".f64" not in out
    code, out, _ = command("kernels sgd --asm --device cpu")
    assert code == 0
    assert "sweep" in out
    code, _, err = command("kernels sgd --asm --device cuda")
    assert code == 0 or "nvdisasm" in err


def test_source_needs_no_compiler(command):
    code, out, _ = command("kernels adam --source")
    assert code == 0
    assert "range(start, stop)" in out
    assert "cuda.gridsize(1)" in out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kernels nothing", "no kernel 'nothing'. The kernels are sgd, momentum"),
        ("kernels --ptx", "--ptx shows one kernel: name it. The kernels are sgd"),
        ("kernels --gpu h10", "no GPU 'h10'. Did you mean H100? Choose from T4, A100"),
        ("kernels sgd --ptx --device cpu", "kernel of the CPU: it has --asm, no --ptx"),
        ("kernels --model 64", "give the sizes of the layers"),
        ("kernels --capability nine", "--capability nine: give two numbers, such as 9.0"),
    ],
)
def test_what_cannot_be_shown_is_one_line(command, text, message):
    code, _, err = command(text)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_registers_are_a_gpus():
    with pytest.raises(ArgumentError, match="kernel of the CPU; registers are a GPU's"):
        next(library()).resources((9, 0))


@compiled
def test_no_disassembler_is_told(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(DeviceError, match="nvdisasm of NVIDIA's CUDA toolkit.*--ptx"):
        list(library(("cuda",)))[0].assembly((9, 0))
