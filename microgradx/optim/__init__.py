"""Optimizers, learning-rate schedules, clipping and averages of weights."""

from typing import TYPE_CHECKING

from microgradx import familiar
from microgradx.optim.averaging import EMA, SWA
from microgradx.optim.classes import (
    ASGD, SGD, AdaBelief, Adadelta, Adagrad, Adam, Adamax, AdamW, Adan, Lion, Momentum, NAdam, RAdam, RMSprop,
    Rprop, Yogi, optimizer,
)  # fmt: skip
from microgradx.optim.clip import clip_grad_norm_, clip_grad_value_
from microgradx.optim.lbfgs import LBFGS
from microgradx.optim.ledgers.ledger import Ledger, ledger
from microgradx.optim.base import Optimizer, optimizers
from microgradx.optim.scheduling import Schedule, schedule
from microgradx.optim.cycles import CyclicLR, OneCycleLR
from microgradx.optim.schedules import (
    ChainedScheduler, ConstantLR, CosineAnnealingLR, CosineAnnealingWarmRestarts, ExponentialLR, LambdaLR,
    LinearLR, MultiplicativeLR, MultiStepLR, PolynomialLR, ReduceLROnPlateau, SequentialLR, StepLR, WarmUp,
    plans,
)  # fmt: skip
from microgradx.optim.layerwise import LAMB, LARS, Adafactor, Muon

if TYPE_CHECKING:
    from microgradx.optim.conventions.conventions import convert, explain

__all__ = [
    "AdaBelief", "Adadelta", "Adafactor", "Adagrad", "Adam", "Adamax", "AdamW", "Adan", "ASGD",
    "ChainedScheduler", "clip_grad_norm_", "clip_grad_value_", "ConstantLR", "convert",
    "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "EMA", "explain", "ExponentialLR",
    "LAMB", "LambdaLR", "LARS", "LBFGS", "Ledger", "ledger", "LinearLR", "Lion", "Momentum",
    "MultiplicativeLR", "MultiStepLR", "Muon", "NAdam", "OneCycleLR", "Optimizer", "optimizer",
    "optimizers", "plans", "PolynomialLR", "RAdam", "ReduceLROnPlateau", "RMSprop", "Rprop", "Schedule",
    "schedule", "SequentialLR", "SGD", "StepLR", "SWA", "WarmUp", "Yogi",
]  # fmt: skip

HOMES = {"conventions.conventions": ["convert", "explain"]}
__getattr__, __dir__ = familiar.of_package("optim", __name__, HOMES)
