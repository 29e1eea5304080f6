"""Whole training runs: test accuracy and time on the digits and Fashion-MNIST, beside PyTorch's.

Fashion-MNIST: ReLU, Adam with lr 1e-3, batches of 128, 10 epochs, pixels in [0, 1].
"""

import time

import numpy as np

import microgradx as mg
from bench.measure import duration
from bench.models import Network
from microgradx import data, nn, optim

BESIDE = ("torch",)
JOBS = [
    ("digits", [64, 64, 10], 30),
    ("fashion_mnist", [784, 128, 10], 10),
    ("fashion_mnist", [784, 256, 128, 10], 10),
]


def ours(sets, sizes: list[int], epochs: int, seed: int) -> tuple[float, float]:
    """Test accuracy and seconds of training with mg.fit."""
    (x, y), (x_test, y_test) = sets
    mg.seed(seed)
    model = nn.MLP(sizes)
    start = time.perf_counter()
    mg.fit(
        model,
        optim.Adam(model.parameters(), lr=1e-3),
        train=(x, y),
        epochs=epochs,
        batch_size=128,
        progress=False,
    )
    seconds = time.perf_counter() - start
    with mg.no_grad():
        return float((model(mg.tensor(x_test)).numpy().argmax(1) == y_test).mean()), seconds


def torchs(sets, sizes: list[int], epochs: int, seed: int) -> tuple[float, float]:
    """The same in PyTorch: tensors in memory, a permutation per epoch, fused Adam."""
    import torch

    (x, y), (x_test, y_test) = ((torch.from_numpy(x), torch.from_numpy(y)) for x, y in sets)
    torch.manual_seed(seed)
    model = Network(tuple(sizes)).built(torch.nn)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    start = time.perf_counter()
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(128):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    seconds = time.perf_counter() - start
    with torch.no_grad():
        return float((model(x_test).argmax(1) == y_test).float().mean()), seconds


def run(quick: bool = False) -> list[dict[str, object]]:
    """A row per run: three seeds of each job, the two contenders in turn."""
    rows: list[dict[str, object]] = []
    for name, sizes, epochs in JOBS[:1] if quick else JOBS:
        sets = data.datasets[name]()
        for train in (ours, torchs):
            train(sets, sizes, 1, 0)  # what is compiled and loaded once
        for seed in range(3):
            accuracy, seconds = ours(sets, sizes, epochs, seed)
            peer_accuracy, peer_seconds = torchs(sets, sizes, epochs, seed)
            rows.append(
                {
                    "data": name,
                    "network": "-".join(map(str, sizes)),
                    "epochs": epochs,
                    "seed": seed,
                    "accuracy": f"{accuracy:.4f}",
                    "PyTorch's": f"{peer_accuracy:.4f}",
                    "time": duration(seconds),
                    "PyTorch's time": duration(peer_seconds),
                    "ratio": f"{seconds / peer_seconds:.2f}",
                }
            )
        means = [np.mean([float(str(row[key])) for row in rows[-3:]]) for key in ("accuracy", "PyTorch's")]
        print(f"{name} {sizes}: mean accuracy {means[0]:.4f}, PyTorch {means[1]:.4f}", flush=True)
    return rows
