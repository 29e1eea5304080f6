"""For looking, not for running: graphs, races on surfaces, what bias correction does, what a run has learned.

`draw` shows the graph behind a tensor, `tape` the tape as a table. `race` and `basins` run on a Surface,
`moments` and `trainings` show bias correction; what each returns has a `caption()` and saves itself as a
picture. `find_lr` searches a learning rate; `Histograms`, `filters` and `mistakes` look at a run.
"""

from typing import TYPE_CHECKING

from microgradx import familiar

if TYPE_CHECKING:
    from microgradx.study.racing.basins import Basin, Basins, basins
    from microgradx.study.graphs.drawing import Drawing, draw
    from microgradx.study.inspection import Histograms, filters, mistakes
    from microgradx.study.bias_correction.moments import Moments, distributions, moments
    from microgradx.study.racing.descent import FIELD
    from microgradx.study.racing.race import Race, race
    from microgradx.study.racing.racer import Racer
    from microgradx.study.lr_finder import Rates, find_lr
    from microgradx.study.racing.surfaces import Surface, load_surface, surfaces
    from microgradx.study.graphs.table import Tape, tape
    from microgradx.study.bias_correction.trainings import Trainings, trainings

__all__ = [
    "FIELD", "Basin", "Basins", "Drawing", "Histograms", "Moments", "Race", "Racer", "Rates", "Surface",
    "Tape", "Trainings", "basins", "distributions", "draw", "filters", "find_lr", "load_surface", "mistakes",
    "moments", "race", "surfaces", "tape", "trainings",
]  # fmt: skip

HOMES = {
    "racing.basins": ["Basin", "Basins", "basins"],
    "graphs.drawing": ["Drawing", "draw"],
    "inspection": ["Histograms", "filters", "mistakes"],
    "bias_correction.moments": ["Moments", "distributions", "moments"],
    "racing.descent": ["FIELD"],
    "racing.race": ["Race", "race"],
    "racing.racer": ["Racer"],
    "lr_finder": ["Rates", "find_lr"],
    "racing.surfaces": ["Surface", "load_surface", "surfaces"],
    "graphs.table": ["Tape", "tape"],
    "bias_correction.trainings": ["Trainings", "trainings"],
}

__getattr__, __dir__ = familiar.of_package("study", __name__, HOMES)
