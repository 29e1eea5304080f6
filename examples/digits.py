"""The 8x8 handwritten digits with `mg.fit`: schedule, early stopping, a run folder with figures."""

import tempfile

import microgradx as mg
from microgradx import data, nn, optim

train, test = data.digits()
mg.seed(0)
model = nn.MLP([64, 128, 10], dropout=0.1)
optimizer = optim.AdamW(model.named_parameters(), lr=3e-3)
steps = 20 * -(-len(train[0]) // 64)

with tempfile.TemporaryDirectory() as folder:
    history = mg.fit(
        model,
        optimizer,
        train=train,
        valid=test,
        epochs=20,
        batch_size=64,
        schedule=optim.CosineAnnealingLR(optimizer, T_max=steps),
        patience=8,
        out=f"{folder}/run",
    )
print(f"held-out accuracy {max(history['valid_accuracy']):.1%}")
