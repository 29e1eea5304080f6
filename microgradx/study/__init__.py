"""Looking at what training does: pictures and numbers, made by the very kernels that train."""

from microgradx.study.looking import Histograms, filters, mistakes
from microgradx.study.rates import Rates, find_lr

__all__ = ["Histograms", "Rates", "filters", "find_lr", "mistakes"]
