"""Many trainings with other options: grids, workers, a journal that survives, and what came out."""
