"""From operations on arrays to the text of loops, for the CPU and for CUDA.

In the order to read them: `ir` is what a program, its loops and other work are as data, `passes` turn one
into the other, `printers` write files. `cuda_operations` runs one operation at a time on a GPU; whole steps
are in `compiler`.
"""

from microgradx.codegen import cuda_device
