"""Bridges to other libraries, each imported by itself: `microgradx.interop.sklearn`."""
