"""Steps that run: what is compiled, the memory that it is bound to, and passes over data."""
