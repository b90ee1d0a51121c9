"""Lab 15: is the direction in which the behaviours differ the one that turns them?

Directions are fitted on train keys, their layer and length are chosen on validation keys, and test keys
report. All shifts are of one layer's residual stream: there a shifted state is the state plus the vector, so
it can be said how far from the model's own states it lies.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from memgen.config.correlates import CorrelatesParameters
from memgen.labs.carried import carried
from memgen.labs.dosed import Bench, Choice, Lengths, Used, best, chosen_on, used
from memgen.labs.intervention import prompts_to_turn
from memgen.neurons.geometry import (
    LEVEL,
    Spread,
    ceiling,
    chance_cosine,
    cosine,
)
from memgen.rivals.compared import HALVES, Directions
from memgen.rivals.material import STATES, Effort, Material
from memgen.stats.intervals import number
from memgen.stats.ranks import spearman
from memgen.stats.reported import between, shown
from memgen.steering.steering import Steering
from memgen.store.artifacts import Result
from memgen.store.reader import FinishedRun, FinishedStage
from memgen.tasks.dataset import free_rows
from memgen.terms import DIRECTIONS

__all__ = ["Bench", "Choice", "Directions", "Lengths", "STATES", "Steering", "carried", "chosen_on"]
__all__ += ["best", "cosine", "fitted_on", "free_rows", "gathered", "prompts_to_turn", "used"]
#: what is compared, in the order of tables and figures, and what it is called there
TITLES = {
    "difference": "mean difference",
    "probe": "probe direction",
    "held": "optimised vector, held",
    "optimised": "optimised vector",
    "random": "random direction",
}
#: parts of the held vector
PARTS = {
    "inside": "in the top components",
    "outside": "in all others",
    "along": "along the mean difference",
    "across": "across it",
}
#: parts of lab 12's map at the decision position: the stream after a layer, and what is written in it
PATCHED = ("residual", "attention", "mlp")
FEWEST = 3  # layers of which ranks are compared: some models have few, and seeds that agree count
TOP_COMPONENTS = 20  # of the states, in which a direction's share is printed
SAME = 1e-6  # two readings of the same numbers may differ by rounding
COUNTS = (1, 2, 5, 10, 20, 50, 100)  # components up to which a share is drawn


def fitted_on(
    run: FinishedRun,
    steering: Steering,
    tables: tuple[pd.DataFrame, pd.DataFrame],
    p: CorrelatesParameters,
) -> Material:
    """Train keys: pairs with their states, and prompts. `tables`: answered prompts, data set."""
    effort = Effort(p.n_fit_prompts, p.n_fit_pairs, p.fit_steps, p.fit_batch_size)
    change = run["04_differentiation"].parameters.pairs
    return Material.of(steering, tables, [], change, p.seed, effort)


# -- angles and components -------------------------------------------------------------------------------
def angles(found: Directions, p: CorrelatesParameters) -> dict[str, list[float]]:
    """Cosines by layer `[K]`; `*_refit`: of what two halves of the train keys give.

    `chance_*`: the `LEVEL` quantile of |cosine| with directions that vary as the states do.
    """
    material, rng = found.fits.material, found.fits.material.rng(17)
    spreads = [Spread.of(material.states[:, layer]) for layer in found.layers]
    differences, probes = (
        [of(half) for half in HALVES] for of in (found.fits.difference, found.fits.probe)
    )
    one, other = (found.held[d] for d in DIRECTIONS)
    pairs = {
        "difference_probe": (found.difference, found.probe),
        "difference_refit": differences,
        "probe_refit": probes,
        "held_both_ways": (one, other),
    }
    for direction in DIRECTIONS:
        pairs[f"difference_held_{direction}"] = (found.difference, found.held[direction])
        pairs[f"probe_held_{direction}"] = (found.probe, found.held[direction])
    cosines = {name: [cosine(a, b) for a, b in zip(*pair)] for name, pair in pairs.items()}
    for name, vectors in (("difference", found.difference), ("probe", found.probe)):
        cosines[f"chance_{name}"] = [
            chance_cosine(v, spread, rng, p.n_null) for v, spread in zip(vectors, spreads)
        ]
    return cosines


def at_the_layer(found: Directions, direction: str, methods: dict[str, Used]) -> dict:
    """At the held vector's layer: its angles, what bounds them, and where each direction lies."""
    one, free = methods["held"], methods["optimised"].vectors[0]
    place = found.layers.index(one.layer)
    held, difference, probe = one.vectors[0], found.difference[place], found.probe[place]
    refit = cosine(
        *(found.fits.by_gradient(direction, one.layer, held=True, half=half) for half in HALVES)
    )
    spread = Spread.of(found.fits.material.states[:, one.layer])
    d = len(held)
    counts = [k for k in COUNTS if k < d] + [d]
    vectors = {"difference": difference, "probe": probe, "held": held, "optimised": free}
    shares = {name: spread.shares(vector) for name, vector in vectors.items()}
    shares |= {"random": np.arange(1, d + 1) / d, "as_states": spread.explained}
    top = min(TOP_COMPONENTS, d)
    return {
        "layer": one.layer + 1,
        "length": float(np.linalg.norm(held)),
        "length_in_states": float(np.linalg.norm(held))
        / float(found.fits.material.state_norm[one.layer]),
        "held_refit": refit,
        "held_ceiling": ceiling(refit),
        "held_difference": cosine(held, difference),
        "held_probe": cosine(held, probe),
        "held_optimised": cosine(held, free),
        "optimised_difference": cosine(free, difference),
        "optimised_probe": cosine(free, probe),
        "counts": counts,
        "shares": {name: [float(x[k - 1]) for k in counts] for name, x in shares.items()},
        "top_components": top,
        "top_share": {name: float(x[top - 1]) for name, x in shares.items()},
    }


# -- where patching turns the answer -----------------------------------------------------------------------
def beside_patching(
    patching: FinishedStage | None, layers: tuple[int, ...], size: list[float]
) -> dict[str, dict | None]:
    """Lab 12's flip rates of test keys at these layers, and their rank correlation with the size of the NMD.

    `before`: of the one earlier position that turns most. By direction; None where lab 12 had no pair.
    """
    found: dict[str, dict | None] = dict.fromkeys(DIRECTIONS)
    for direction in DIRECTIONS if patching is not None else ():
        rates = patching.result[direction]["test"]
        if rates is not None:
            kinds = {name: [rates[name][i] for i in layers] for name in PATCHED}
            ranks = {
                f"rank_{name}": number(spearman(size, of, FEWEST)) for name, of in kinds.items()
            }
            single = dict(enumerate(rates["position"]))  # of the last layer nothing reads them
            before = [max(single.get(i) or [None]) for i in layers]
            found[direction] = (
                kinds | ranks | {"before": before, "n": patching.result[direction]["n"]}
            )
    return found


def gathered(
    found: Directions,
    choices: dict[str, dict[str, Choice]],
    every: dict[str, dict[str, Used]],
    bench: Bench,
    patching: FinishedStage | None,
    p: CorrelatesParameters,
) -> Result:
    """The stage's result but for retrains. `bench`: test keys, once; `patching`: lab 12's, if it was run."""
    material, judged = found.fits.material, bench.judged(every)
    norm = material.state_norm[list(found.layers)]
    size = (np.linalg.norm(found.difference, axis=1) / norm).tolist()
    numbers: dict = {
        "site": STATES,
        "positions": material.steering.positions,
        "layers": [layer + 1 for layer in found.layers],
        "n_pairs": len(material.pairs),
        "n_train_keys": int(material.pairs.key.nunique()),
        "n_fit": len(material.conflict),
        "level": LEVEL,
        "doses": list(p.doses),
        "size": size,
        "cosines": angles(found, p),
    }
    patched = beside_patching(patching, found.layers, size)
    for direction in DIRECTIONS:
        held = every[direction]["held"]
        place = found.layers.index(held.layer)
        numbers[direction] = at_the_layer(found, direction, every[direction]) | {
            "by_layer": {n: one.by_layer.tolist() for n, one in choices[direction].items()},
            "methods": judged.numbers["methods"][direction],
            "parts": bench.parts(direction, held, found.difference[place], TOP_COMPONENTS),
            "patching": patched[direction],
        }
    arrays = {"difference": found.difference, "probe": found.probe}
    arrays |= {f"held_{d}": found.held[d] for d in DIRECTIONS}
    arrays |= {f"optimised_{d}": every[d]["optimised"].vectors for d in DIRECTIONS}
    return Result(numbers, judged.tables, {"vectors": arrays})


def answer(r: dict, direction: str) -> str:
    """One direction's answer to the lab's question, in two lines."""
    x, held = r[direction], r[direction]["methods"]["held"]
    difference = x["methods"]["difference"]
    return (
        f"layer {x['layer']}: the held vector turns {held['success']:.0%}"
        f" {between(held['key_interval'], '.0%')} of {held['n']} answers, the mean difference (layer"
        f" {difference['layer']}) {difference['success']:.0%} {between(difference['key_interval'], '.0%')};"
        f" cosine {x['held_difference']:+.2f} with the mean difference, {x['held_probe']:+.2f} with the"
        f" probe, {x['held_refit']:+.2f} with a refit on other keys.\n   In the top"
        f" {x['top_components']} components: held {x['top_share']['held']:.0%}, mean difference"
        f" {x['top_share']['difference']:.0%}, random {x['top_share']['random']:.0%}. Further out than"
        f" {r['level']:.0%} of the model's own states: {held['beyond']:.0%} and {difference['beyond']:.0%}"
        f" of the shifted ones. {_handed_on(r['transfer'][direction])}"
    )


def _handed_on(transfer: dict | None) -> str:
    if not transfer:
        return "No retrain to try it on."
    held = transfer["held"]
    return f"On a retrain the held vector turns {shown(held['success'], '.0%')} of {held['n']}."


def overview(r: dict) -> pd.DataFrame:
    """A row per direction and method at its chosen layer and dose, for the page."""
    rows = []
    for direction in DIRECTIONS:
        for name, title in TITLES.items():
            one = r[direction]["methods"][name]
            elsewhere = (r["transfer"][direction] or {}).get(name, {})
            rows.append(
                {
                    "direction": direction,
                    "shift": title,
                    "layer": one["layer"],
                    "dose": one["dose"],
                    "success": one["success"],
                    "interval": between(one["key_interval"]),
                    "other": one["other"],
                    "free lost": one["free_lost"],
                    "further out": one["beyond"],
                    "by neighbours": one["beyond_neighbours"],
                    "on a retrain": elsewhere.get("success"),
                }
            )
    return pd.DataFrame(rows)


def checks(r: dict) -> list[tuple[str, bool]]:
    """What has to hold, in words, and whether it does."""
    shares = [curve for d in DIRECTIONS for curve in r[d]["shares"].values()]
    whole = all(abs(curve[-1] - 1) < SAME or not any(curve) for curve in shares)
    cosines = [x for of in r["cosines"].values() for x in of]
    return [
        ("all components together hold a whole direction", whole),
        ("no cosine is larger than 1", all(abs(x) <= 1 + SAME for x in cosines)),
        (
            "every shift is one of the doses that were tried",
            all(one["dose"] in r["doses"] for d in DIRECTIONS for one in r[d]["methods"].values()),
        ),
    ]


def in_parts(r: dict) -> pd.DataFrame:
    """Which part of the held vector turns test prompts, a row per direction and part, for the page."""
    rows = [
        {"direction": d, "part": PARTS[name]} | part
        for d in DIRECTIONS
        for name, part in r[d]["parts"].items()
    ]
    return pd.DataFrame(rows)
