"""The eager framework: Tensors that compute at once, and remember on the tape how.

In the order to read them: `mode` is what holds at the moment, `tape` records operations and walks back,
`tensor` is what users hold, `creation` makes them, `autograd` differentiates functions.
"""
