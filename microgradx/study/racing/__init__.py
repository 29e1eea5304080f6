"""Optimizers on surfaces: races, basins, their pictures and pages."""
