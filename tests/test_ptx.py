"""Machine code for GPUs, made without one: what every kernel takes, and that no float64 is in it."""

from functools import cache

import numpy as np
import pytest

import microgradx as mg
from microgradx import nn, optim
from microgradx.codegen.cuda_operations import Operation
from microgradx.compiler.run.cuda_executable import written
from microgradx.cuda import build, simulated
from microgradx.cuda.array import Array
from microgradx.cuda.devices import Shape
from microgradx.cuda.sweep import bounds, loop
from microgradx.errors import ArgumentError, KernelError
from microgradx.kernels.loop_source import RuleLoop
from microgradx.primitives import cases, operations
from microgradx.rules import rules

CAPABILITIES = (7, 5), (8, 0), (9, 0), (10, 0), (12, 0)
ENDS = CAPABILITIES[0], CAPABILITIES[-1]
MOST = 128  # registers of a thread: two blocks of 256 threads then fit a processor


@cache
def missing():
    """Why nothing can be compiled here; empty if it can."""
    return build.trouble()


@pytest.fixture(autouse=True)
def compilers():
    if simulated():
        pytest.skip("the simulator replaces the compiler")
    if missing():
        pytest.skip(f"the extra 'cuda' is not installed: {missing()[:80]}")


def inspect(source, signatures, label, capabilities=CAPABILITIES, double=False):
    """Compile every kernel of a file for some capabilities: no float64, no stack, no spills."""
    raw = build.functions(source, label)
    for kernel, signature in signatures.items():
        texts = build.ptx(raw[kernel], signature, *capabilities)
        for capability, text in zip(capabilities, texts, strict=True):
            where = f"{kernel} for {capability}"
            assert f".target sm_{capability[0]}{capability[1]}" in text
            assert double or ".f64" not in text, f"{where}: float64 in\n{source}"
            code, log = build.assemble(text, capability)
            taken = build.resources(text, log)
            assert code
            assert (taken.stack, taken.spills) == (0, 0), f"{where}: {taken}"
            assert 0 < taken.registers <= MOST, f"{where}: {taken}"
            assert taken.shared <= 48 * 1024, f"{where}: {taken}"


@pytest.mark.parametrize("rule", rules.values(), ids=lambda rule: rule.name)
def test_every_rule(rule):
    lifted = RuleLoop(rule, "float32", ())
    types = ["int64", *["float32*"] * len(lifted.arrays), *["float32"] * len(lifted.numbers)]
    wanted = CAPABILITIES if rule.name == "adam" else ENDS
    inspect(lifted.source(bounds, loop), {"sweep": " ".join(types)}, rule.name, wanted)


def trained(model, x, y, optimizer=optim.Adam):
    """The compiled training step of a model, captured on the CPU."""
    made = optimizer(model.parameters(), lr=0.01)

    @mg.jit
    def step(x, y):
        made.zero_grad()
        loss = nn.cross_entropy(model(x), y)
        loss.backward()
        optim.clip_grad_norm_(made, 1.0)
        made.step()
        return loss

    return step.captured(x, y).captured


MODELS = {
    "large": lambda: nn.Sequential(
        nn.Linear(20, 64, bias=False), nn.BatchNorm1d(64), nn.GELU(), nn.Dropout(0.2), nn.Linear(64, 300),
        nn.LayerNorm(300), nn.Linear(300, 10),
    ),
    "small": lambda: nn.MLP([2, 16, 16, 2]),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "how", "end"), [("large", "graph", 0), ("small", "epoch", 1)])
def test_every_kernel_of_a_step(kind, how, end):
    mg.seed(0)
    rng = np.random.default_rng(0)
    model = MODELS[kind]()
    first = next(model.parameters())
    x, y = rng.standard_normal((128, first.shape[0])).astype(np.float32), rng.integers(0, 2, 128)
    made, _ = written(trained(model, x, y), Shape(), 132, how)
    assert made.how == how
    double = "float64(" in made.text  # the norm of all gradients is summed up in float64
    inspect(made.text, made.signatures, kind, ENDS[end:][:1], double)


def operations_of(name):
    """Every instruction that the cases of an operation take, with their gradients."""
    for case in cases[name]:
        arrays = [np.full(shape, 0.5, np.float32) for shape in case.shapes]

        def weighted(*xs, case=case):
            out = case.call(operations[name], list(xs))
            return sum((y * 1.5).sum() for y in (out if isinstance(out, list) else [out]))

        step = mg.jit(mg.value_and_grad(weighted, argnums=tuple(range(len(arrays)))))
        yield from step.captured(*arrays).program.instructions


INSPECTED = set()
"""Operations of which an earlier piece has seen the kernel: sums and products are in all of them."""


@pytest.mark.slow
@pytest.mark.parametrize("piece", range(6))
def test_every_operation_alone(piece):
    """What eager operations run: each once per primitive and number of axes."""
    seen = set()
    for name in [name for name in operations if cases[name]][piece::6]:
        for instruction in operations_of(name):
            given = instruction.inputs
            inputs = [Array(None, x.shape, x.dtype) if hasattr(x, "shape") else x for x in given]
            key = instruction.op, tuple(len(getattr(x, "shape", ())) for x in inputs)
            seen.add(key)
            if key in INSPECTED:
                continue
            INSPECTED.add(key)
            out = instruction.out
            made = Operation(instruction.op, inputs, instruction.params, out.shape, out.dtype, Shape())
            if made.hosted or not made.emitted.signatures:
                continue
            inspect(made.emitted.text, made.emitted.signatures, made.name, ENDS[-1:])
    assert len(seen) > 8


def test_plain_arithmetic_is_not_contracted():
    source = """from numba import cuda
from numpy import float32
def kernel(x, y):
    for i in range(cuda.grid(1), 100, cuda.gridsize(1)):
        y[i] = x[i] * x[i] + y[i]
"""
    (text,) = build.ptx(build.functions(source, "fma")["kernel"], "float32* float32*", (9, 0))
    assert "mul.rn.f32" in text
    assert "add.rn.f32" in text
    assert "fma" not in text


def test_a_product_of_matrices_is():
    step = trained(nn.MLP([64, 64, 10]), np.zeros((128, 64), np.float32), np.zeros(128, int))
    made, _ = written(step, Shape(), 1, "graph")
    kernel = next(name for name in made.signatures if name.endswith("_product"))
    (text,) = build.ptx(build.functions(made.text, "mlp")[kernel], made.signatures[kernel], (9, 0))
    assert text.count("fma.rn.f32") >= 16  # PER x PER of a step are side by side


def test_the_successor_writes_the_same_arithmetic(monkeypatch):
    """With MICROGRADX_CUDA_COMPILER=mlir, numba-cuda-mlir compiles all of this file."""
    pytest.importorskip("numba_cuda_mlir", reason="numba-cuda-mlir is not installed: pip install it")
    lifted = RuleLoop(rules["adam"], "float32", ())
    types = ["int64", *["float32*"] * len(lifted.arrays), *["float32"] * len(lifted.numbers)]
    captured = trained(nn.MLP([64, 64, 10]), np.zeros((128, 64), np.float32), np.zeros(128, int))
    step, _ = written(captured, Shape(), 1, "graph")
    product = next(name for name in step.signatures if name.endswith("_product"))
    for source, kernel, signature in (
        (lifted.source(bounds, loop), "sweep", " ".join(types)),
        (step.text, product, step.signatures[product]),
    ):
        counts = []
        for chosen in ("numba", "mlir"):
            monkeypatch.setenv("MICROGRADX_CUDA_COMPILER", chosen)
            (text,) = build.ptx(build.functions(source, "both")[kernel], signature, (9, 0))
            counts.append([text.count(f"{word}.rn.f32") for word in ("fma", "div", "sqrt")])
        assert counts[0] == counts[1]


def test_a_compiler_that_is_not_known(monkeypatch):
    monkeypatch.setenv("MICROGRADX_CUDA_COMPILER", "nvcc")
    with pytest.raises(ArgumentError, match="MICROGRADX_CUDA_COMPILER='nvcc': it is"):
        build.module()


SEEDED = {
    "float64": ("y[i] = x[i] * 0.3 + exp(x[i] * 0.5)", "float64 in"),
    "stack": ("y[i] = picked(x, i)", "stack="),
}


@pytest.mark.parametrize("leak", SEEDED)
def test_a_leak_is_caught(leak):
    line, message = SEEDED[leak]
    source = f"""from math import exp
from numba import cuda
from numpy import float32, int64
def picked(x, i):
    held = cuda.local.array(64, float32)
    for j in range(64):
        held[j] = x[i + j]
    return held[int64(x[i]) % 64]
def kernel(x, y):
    for i in range(cuda.grid(1), 100, cuda.gridsize(1)):
        {line}
"""
    with pytest.raises(AssertionError, match=message):
        inspect(source, {"kernel": "float32* float32*"}, "leak")


def test_a_spill_is_caught(monkeypatch):
    """With too few registers, what does not fit goes to memory, and the check says so."""
    usual = build.assemble
    monkeypatch.setattr(
        build, "assemble", lambda text, capability: usual(text, capability, "-maxrregcount=16")
    )
    made, _ = written(
        trained(MODELS["small"](), np.zeros((128, 2), np.float32), np.zeros(128, int)), Shape(), 1
    )
    with pytest.raises(AssertionError, match=r"spills=[1-9]"):
        inspect(made.text, made.signatures, "spill", ENDS[:1], double=True)


def test_too_many_registers_are_caught(monkeypatch):
    monkeypatch.setitem(globals(), "MOST", 8)
    with pytest.raises(AssertionError, match="registers="):
        test_every_rule(rules["adam"])


def test_what_cannot_be_compiled_is_told():
    source = "def kernel(x):\n    x[0] = unknown(x)\n"
    with pytest.raises(KernelError, match="(?s)cannot compile the kernel `kernel`.*unknown"):
        build.ptx(build.functions(source, "bad")["kernel"], "float32*", (9, 0))
    with pytest.raises(KernelError, match="nvJitLink cannot assemble for -arch=sm_90"):
        build.assemble("not PTX", (9, 0))


def test_machine_code_is_kept():
    source = "from numba import cuda\ndef kernel(x):\n    x[cuda.grid(1)] = 1\n"
    signatures = {"kernel": "float32*"}
    first = build.build(source, signatures, (9, 0), "kept")["kernel"]
    again = build.build(source, signatures, (9, 0), "kept")["kernel"]
    assert again == first
    assert again.code[:4] == b"\x7fELF"
    assert again.entry in again.code.decode("latin-1")
