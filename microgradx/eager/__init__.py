"""The eager framework: Tensors that compute at once, and remember on the tape how.

In the order to read them: `tape` records operations and walks back; `box` is an array with its place on the
tape, `tensor` a box with operators; `apply` runs every operation, `recording` writes it down, `gradients`
begins and ends the walk; `creation` makes tensors, `autograd` differentiates functions.

Beside these: `mode` is what holds at the moment, `listener` who may hear of everything, `devices` where
arrays are, `arrays` what users give, `indexing` what stands in brackets, `numpy_functions` how NumPy's
functions come to ours.
"""

from microgradx.eager import apply  # operations on Tensors, and Tensors' methods
