"""`python -m microgradx` is the command `microgradx`."""

from microgradx.cli import main

main()
