"""What Adam does to one weight: its equation with the numbers of a step, a table, and the same in Keras.

Training stays compiled; the ledger reads what every step starts from and where it leads.
"""

import microgradx as mg
from microgradx import data, nn, optim

train, test = data.digits()
mg.seed(0)
model = nn.MLP([64, 32, 10], activation="relu")
optimizer = optim.Adam(model.named_parameters(), lr=1e-3)
with optim.ledger(optimizer, watch={"0.weight": [(20, 3), (26, 0)], "2.bias": ...}) as log:
    mg.fit(model, optimizer, train, test, epochs=3, progress=False)

log.explain("0.weight", (26, 0), step=12)
print()
log.save("steps.csv")  # a row per step and watched number

weight = log["0.weight"]
for step in (1, 12, 36):
    rate, share = weight["effective_lr"][step - 1, 1], weight["ratio"][step - 1, 1]
    print(f"step {step:2}: effective learning rate {rate:.4f}, update / weight {share:.2%}")

print()
optim.explain(optimizer, convention="keras")
