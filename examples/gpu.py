"""Train on a GPU, or a few steps in Numba's simulator: NUMBA_ENABLE_CUDASIM=1 python examples/gpu.py."""

import microgradx as mg
from microgradx import data, nn, optim

where = "cuda" if mg.cuda.available() else "cpu"
print(". ".join(filter(None, mg.cuda.describe())))

(x, y), _ = data.digits()
count = 64 if mg.cuda.simulated() else len(x)
mg.seed(0)
model = nn.MLP([64, 16, 10]).to(where)
optimizer = optim.Adam(model.parameters(), lr=0.01)


@mg.jit
def step(x, y):
    optimizer.zero_grad()
    loss = nn.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


x, y = mg.tensor(x[:count], device=where), mg.tensor(y[:count], device=where)
losses = step.scan(x, y, batch_size=32)
first, last = losses[0].item(), losses[-1].item()
print(f"on {losses.device}: loss {first:.3f} at first, {last:.3f} after {len(losses)} steps")
print(step.source.split("def ")[-1][:400])  # the end of the file that ran
