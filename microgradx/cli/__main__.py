"""`python -m microgradx.cli` is `microgradx`."""

from microgradx.cli import main

main()
