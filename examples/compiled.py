"""A whole training step as one program: forward, backward and update, captured once, compiled, readable."""

import time

import microgradx as mg
from microgradx import data, nn, optim

(x, y), (x_test, y_test) = data.digits()
mg.seed(0)
model = nn.MLP([64, 128, 10])
optimizer = optim.Adam(model.parameters(), lr=1e-3)


@mg.jit
def step(x, y):
    optimizer.zero_grad()
    logits = model(x)
    loss = nn.cross_entropy(logits, y)
    loss.backward()
    optimizer.step()
    return loss


step(x[:32], y[:32])  # captured and compiled here
print(step.source)  # the file that runs from now on
start = time.perf_counter()
for _ in range(20):
    order = mg.generator.permutation(len(x))
    losses = step.scan(x, y, batch_size=32, order=order)  # a pass over the data, without Python in between
seconds = time.perf_counter() - start
print(f"{20 * len(losses)} steps in {seconds:.2f} s, loss {losses[-10:].mean().item():.4f}")

with mg.no_grad():
    right = model(mg.tensor(x_test)).argmax(axis=1) == y_test
print(f"{right.mean().item():.1%} of the held-out digits are right")
