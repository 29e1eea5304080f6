"""Ledgers of what an optimizer does, step by step, with the equations of its rule: for looking."""
