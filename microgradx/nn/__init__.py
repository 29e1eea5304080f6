"""Modules, layers and losses."""

from microgradx import familiar
from microgradx.nn.layers import (
    ELU, GELU, MLP, Dropout, Embedding, Flatten, Function, GELUTanh, LeakyReLU, Linear, LogSoftmax, ReLU,
    Sigmoid, SiLU, Softmax, Softplus, Softsign, Tanh,
)  # fmt: skip
from microgradx.nn.losses import (
    binary_cross_entropy_with_logits, cross_entropy, huber_loss, kl_div, l1_loss, mse_loss, nll_loss,
)  # fmt: skip
from microgradx.nn.norms import BatchNorm1d, LayerNorm
from microgradx.nn.module import Module, Sequential

__all__ = [
    "BatchNorm1d", "binary_cross_entropy_with_logits", "cross_entropy", "Dropout", "ELU", "Embedding",
    "Flatten", "Function", "GELU", "GELUTanh", "huber_loss", "kl_div", "l1_loss", "LayerNorm",
    "LeakyReLU", "Linear", "LogSoftmax", "MLP", "Module", "mse_loss", "nll_loss", "ReLU", "Sequential",
    "Sigmoid", "SiLU", "Softmax", "Softplus", "Softsign", "Tanh",
]  # fmt: skip

__getattr__, __dir__ = familiar.of_package("nn", __name__)  # for names that are not found
