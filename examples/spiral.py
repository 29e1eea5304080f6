"""Two spirals told apart by a small network: every line of a training step, in the open."""

import microgradx as mg
from microgradx import data, nn, optim

(x, y), (x_test, y_test) = data.spirals(n=1000, seed=0)
mg.seed(0)
model = nn.MLP([2, 32, 32, 2], activation="tanh")
optimizer = optim.Adam(model.parameters(), lr=1e-2)

for epoch in range(300):
    optimizer.zero_grad()
    loss = nn.cross_entropy(model(mg.tensor(x)), y)  # forward
    loss.backward()  # gradients
    optimizer.step()  # one Numba sweep over all parameters
    if epoch % 50 == 49:
        print(f"epoch {epoch + 1:3}   loss {loss.item():.4f}")

with mg.no_grad():
    right = model(mg.tensor(x_test)).argmax(axis=1) == y_test
print(f"{right.mean().item():.1%} of the held-out points are right")
