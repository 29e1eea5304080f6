"""microgradx: a network, a loss and an optimizer as plain arithmetic, run by Numba."""
