"""Steps and single operations on a GPU: the CPU's loops, written as CUDA kernels.

In the order to read them: `stages` makes launches of loops, `collapse`, `bodies` and `text` write them down,
`eager` runs one operation at a time, `variant` whole steps.
"""
