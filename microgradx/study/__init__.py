"""For looking, not for running: races on surfaces, what bias correction does, and what a run has learned.

`race` and `basins` run on a Surface, `moments` and `trainings` show bias correction; what each returns has a
`caption()` and saves itself as a picture. `find_lr` searches a learning rate; `Histograms`, `filters` and
`mistakes` look at a run. `look`, `scene`, `page`, `panels` and `curves` draw, the other files compute.
"""

from microgradx.study.basins import Basin, Basins, basins
from microgradx.study.looking import Histograms, filters, mistakes
from microgradx.study.moments import Moments, distributions, moments
from microgradx.study.race import FIELD, Race, Racer, race
from microgradx.study.rates import Rates, find_lr
from microgradx.study.surfaces import Surface, load_surface, surfaces
from microgradx.study.trainings import Trainings, trainings

__all__ = [
    "FIELD", "Basin", "Basins", "Histograms", "Moments", "Race", "Racer", "Rates", "Surface", "Trainings",
    "basins", "distributions", "filters", "find_lr", "load_surface", "mistakes", "moments", "race",
    "surfaces", "trainings",
]  # fmt: skip
