"""How other libraries define the same optimizers, and how hyperparameters convert: for looking."""
