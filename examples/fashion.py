"""Fashion-MNIST, 784-128-10, in a few seconds on two cores."""

import microgradx as mg
from microgradx import data, nn, optim

train, test = data.fashion_mnist()
mg.seed(0)
model = nn.MLP([784, 128, 10])
history = mg.fit(model, optim.Adam(model.parameters(), lr=1e-3), train=train, valid=test, epochs=5)
print(f"test accuracy {history['valid_accuracy'][-1]:.4f}")
