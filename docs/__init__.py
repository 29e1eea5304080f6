"""The site: README, reference, lectures, tables, emitted code. Make it with `python -m docs`.

Sphinx, with furo and MyST: docstrings of operations, layers and optimizers are made at run time, so that only
a generator that imports the package can read them; what it writes opens from a disk, search included; and it
ends at a link or an anchor that leads nowhere. mkdocs-material is inactive and names zensical its heir, whose
newest release installs from no registry; both read files where we have objects. great-docs needs Quarto.
"""
