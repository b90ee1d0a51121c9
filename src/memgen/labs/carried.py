"""Lab 15: the same vectors on a retrain of the model, which shares its base and its data but not their order.

Nothing is fitted or chosen again: a vector goes where it stood, as long as it was there. Beside the single
layers stands the shift of lab 06, the paper's neurons in all layers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from memgen.config.correlates import CorrelatesParameters
from memgen.labs.dosed import Lengths, Rows, Used
from memgen.models.load import load_trained
from memgen.neurons.nmd import NeuronMaps
from memgen.neurons.pairs import answer_conflicts
from memgen.rivals.interventions import on_site
from memgen.steering.cells import Cell, cell_shift
from memgen.steering.steering import Steering, steering_prompts
from memgen.store.folders import run_folder
from memgen.store.left_out import reason_of
from memgen.store.reader import FinishedRun
from memgen.terms import DIRECTIONS, SIGN, TARGET, Site

PAPER = "paper"  # the shift of lab 06, beside the methods of single layers


def retrains(p: CorrelatesParameters) -> Iterator[FinishedRun]:
    """Those of this run whose model shows both behaviours."""
    for number in range(1, p.n_retrains + 1 if p.track == "scratch" else 1):
        run = FinishedRun(run_folder(p.runs, p.preset, p.task, p.seed, number, p.track))
        training = run["02_training"]
        if reason_of(training.folder) is None and not training.result["miss"]:
            yield run


def carried(
    run: FinishedRun,
    steering: Steering,
    every: dict[str, dict[str, Used]],
    lengths: Lengths,
    turned: Rows,
    p: CorrelatesParameters,
) -> dict[str, dict[str, dict] | None]:
    """By direction and method `own` success on test keys, and `success` on those of all retrains.

    None where no retrain was asked. `turned`: this model's own prompts; those of a retrain start from what
    that model shows.
    """
    tried = {d: _shifts(run, steering, every[d], lengths, d) for d in DIRECTIONS}
    won: dict[str, list[dict[str, np.ndarray]]] = {d: [] for d in DIRECTIONS}
    for other in retrains(p):
        model, tokenizer = load_trained(other["02_training"])
        there = Steering(model, tokenizer, other.task(tokenizer), steering.maps, steering.positions)
        frame = other.dataset()
        asked = frame[(frame.kind == "conflict") & (frame.split == "test")]
        answered = answer_conflicts(model, tokenizer, there.task, asked, 0)
        for direction in DIRECTIONS:
            rows = steering_prompts(answered, "test", direction, p.n_prompts)
            if len(rows):
                won[direction].append(_turned(there, tried[direction], rows, direction))
    found: dict[str, dict[str, dict] | None] = dict.fromkeys(DIRECTIONS)
    for direction, wins in won.items():
        if not wins:
            continue
        own = _turned(steering, tried[direction], turned[direction], direction)
        found[direction] = {
            name: {
                "own": float(own[name].mean()),
                "success": float(np.concatenate([one[name] for one in wins]).mean()),
                "n": sum(len(one[name]) for one in wins),
                "n_own": len(own[name]),
            }
            for name in own
        }
    return found


def _shifts(
    run: FinishedRun,
    steering: Steering,
    methods: dict[str, Used],
    lengths: Lengths,
    direction: str,
) -> dict[str, tuple[Site, np.ndarray]]:
    """By method the site of its shifts, and them `[n, L, d]`, signed."""
    steered = run["06_intervention"].result
    maps = NeuronMaps.of(run["04_differentiation"].arrays("arrays"), steered["site"])
    cell = Cell(steered[direction]["top_n"], steered[direction]["alpha"])
    paper = SIGN[direction] * cell_shift(cell, maps.nmd, maps.rho)
    found = {
        name: (steering.site, one.at_dose(lengths, direction)) for name, one in methods.items()
    }
    return found | {PAPER: (maps.site, paper[None])}


def _turned(
    steering: Steering,
    tried: dict[str, tuple[Site, np.ndarray]],
    rows: pd.DataFrame,
    direction: str,
) -> dict[str, np.ndarray]:
    """By method the share of its shifts that turn each prompt `[P]`."""
    found = {}
    for name, (site, shifts) in tried.items():
        codes = on_site(steering, site).outcomes(shifts, rows)
        found[name] = (codes == TARGET[direction]).mean(axis=0)
    return found
