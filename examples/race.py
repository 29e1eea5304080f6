"""Who leaves the hollow? Optimizers, one of them of our own, race on a surface: race.html and race.gif."""

import microgradx as mg
from microgradx import study


@mg.rule
def clipped(p, g, v, /, t, lr=1e-3, momentum=0.9, most=1.0):
    """Momentum that never sees more than `most` of a gradient."""
    v = momentum * v + mg.clip(g, -most, most)
    return p - lr * v, v


race = study.race("hollow", ["sgd", "sgd_momentum", "rmsprop", "adam", clipped], lr={"clipped": 0.03})
for racer in race.racers:
    print(f"{racer.name:12} lr {racer.lr:<8.3g} {racer.outcome}")
print(race.caption())
race.save("race.html")
race.save("race.gif")
