"""For looking, not for running: graphs, races on surfaces, what bias correction does, what a run has learned.

`draw` shows the graph behind a tensor, `tape` the tape as a table. `race` and `basins` run on a Surface,
`moments` and `trainings` show bias correction; what each returns has a `caption()` and saves itself as a
picture. `find_lr` searches a learning rate; `Histograms`, `filters` and `mistakes` look at a run.
"""

from microgradx.study.basins import Basin, Basins, basins
from microgradx.study.drawing import Drawing, draw
from microgradx.study.looking import Histograms, filters, mistakes
from microgradx.study.moments import Moments, distributions, moments
from microgradx.study.race import FIELD, Race, Racer, race
from microgradx.study.rates import Rates, find_lr
from microgradx.study.surfaces import Surface, load_surface, surfaces
from microgradx.study.table import Tape, tape
from microgradx.study.trainings import Trainings, trainings

__all__ = [
    "FIELD", "Basin", "Basins", "Drawing", "Histograms", "Moments", "Race", "Racer", "Rates", "Surface",
    "Tape", "Trainings", "basins", "distributions", "draw", "filters", "find_lr", "load_surface", "mistakes",
    "moments", "race", "surfaces", "tape", "trainings",
]  # fmt: skip
