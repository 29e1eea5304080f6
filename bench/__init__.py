"""Benchmarks: `python -m bench` lists and runs them. Each measures against its peer in the same run."""
