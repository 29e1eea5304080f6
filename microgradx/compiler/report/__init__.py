"""Compiled steps looked at: their kernels in a list, measured, and against what the machine can do."""
