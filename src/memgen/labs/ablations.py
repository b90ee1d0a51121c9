"""Lab 10: which part of the recipe matters? One ingredient at a time, on the same test prompts.

The shift under test is the cell that lab 06 chose on validation keys; neurons, values and probes
come from the train pairs. Every additive variant has that shift's L2 norm over all layers, so what
differs is where it points, not how far it goes. At another site the norm is matched relative to the
states there; a clamp has no fixed norm, and what it moved by is reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from memgen.config.analyses import AblationsParameters
from memgen.neurons.nmd import NeuronMaps
from memgen.neurons.probes import probe_weights
from memgen.neurons.selection import select_top
from memgen.neurons.states import mean_norm, pair_states
from memgen.steering.cells import Cell
from memgen.steering.clamping import Moves, answered, distance, moved
from memgen.steering.comparison import IDENTITY, REFERENCE, Comparison, Variant, facts_of
from memgen.steering.steering import Steering, steering_prompts
from memgen.steering.trial import Trial
from memgen.steering.variants import (
    Shifts,
    by_count,
    by_layer,
    by_magnitude,
    by_ranking,
    rankings,
    rescaled,
)
from memgen.store.artifacts import Result
from memgen.store.reader import FinishedStage
from memgen.terms import DIRECTIONS, SITES

__all__ = [
    "Cell",
    "Comparison",
    "Steering",
    "Trial",
    "TrainPairs",
    "answer",
    "best_layer",
    "checks",
]
__all__ += [
    "clamps",
    "gathered",
    "other_positions",
    "other_sites",
    "shifts",
    "steering_prompts",
    "what_matters",
]

STRENGTHS = {"clamp_half": 0.5, "clamp_full": 1.0}


@dataclass(frozen=True)
class TrainPairs:
    """By site, of train keys: the pairs' states `(memory, rule)` `[n, L, d]`, and the maps."""

    states: dict[str, tuple[np.ndarray, np.ndarray]]
    maps: dict[str, NeuronMaps]
    weights: np.ndarray  # of the probes, at the chosen site
    scores: dict[str, np.ndarray | None]  # the others to rank neurons by, there
    p: np.ndarray | None  # of lab 04's test; None at another site than it tested

    @classmethod
    def of(
        cls, steering: Steering, answered: pd.DataFrame, mapped: FinishedStage, seed: int
    ) -> TrainPairs:
        """`mapped`: lab 04, with the pairs, and the site of its tests."""
        arrays, site, tested = mapped.arrays("arrays"), steering.site, mapped.result["site"]
        model = steering.model, steering.tokenizer
        states, keys = pair_states(*model, answered, arrays, tested, mapped.parameters.pairs)
        tests = {n: arrays[n] for n in ("effect_size", "p")} if site == tested else {}
        return cls(
            states,
            {other: NeuronMaps.of(arrays, other) for other in SITES},
            probe_weights(*states[site], keys, seed),
            rankings(steering.nmd, tests, steering.rho),
            tests.get("p"),
        )

    @cached_property
    def state_norm(self) -> dict[str, float]:
        return {site: mean_norm(*self.states[site]) for site in SITES}


# -- variants --------------------------------------------------------------------------------------
def shifts(trial: Trial, p: AblationsParameters, train: TrainPairs) -> list[Variant]:
    """Layers, count, ranking and magnitude: all shifts at the chosen site and positions, in one batch."""
    nmd, rho, reference = trial.steering.nmd, trial.steering.rho, trial.shift
    norm = float(np.linalg.norm(reference))
    rng = np.random.default_rng([p.seed, DIRECTIONS.index(trial.direction)])
    groups: dict[str, Shifts] = {
        "layers": by_layer(reference),
        "count": by_count(nmd, rho, norm, p.counts, p.n_draws, rng),
        "ranking": by_ranking(nmd, rho, trial.cell.top_n, norm, train.scores),
        "magnitude": by_magnitude(reference, nmd, train.weights),
    }
    named = [(group, name, draws) for group, of in groups.items() for name, draws in of.items()]
    stack = [np.zeros_like(reference), reference, *(one for _, _, draws in named for one in draws)]
    codes, begin = trial.run(stack), 2
    found = [Variant(IDENTITY, "zero_shift", codes[:1])]
    for group, name in REFERENCE.items():
        if name == "as_chosen":
            found.append(Variant(group, name, codes[1:2], facts_of([reference], reference)))
    for group, name, draws in named:
        own = codes[begin : begin + len(draws)]
        found.append(Variant(group, name, own, facts_of(draws, reference)))
        begin += len(draws)
    return found


def other_sites(trial: Trial, train: TrainPairs) -> list[Variant]:
    """The same recipe at the other sites; its norm relative to their states' as at the chosen."""
    found, chosen = [], trial.steering.site
    norm, state_norm = float(np.linalg.norm(trial.shift)), train.state_norm
    relative = norm / state_norm[chosen] if state_norm[chosen] else 0.0
    for site in SITES:
        if site != chosen:
            there = trial.steering.at(train.maps[site])
            draws = rescaled(there.shift(trial.cell), relative * state_norm[site])
            facts = facts_of(draws, trial.shift, comparable=False)
            found.append(Variant("site", site, trial.run(draws, there), facts))
    return found


def other_positions(trial: Trial, known: list[Variant]) -> list[Variant]:
    """The chosen shift elsewhere (`known`: at its own places); clamps compare with `decision`."""
    (as_chosen,) = [v for v in known if (v.group, v.name) == ("positions", "as_chosen")]
    own, other = trial.steering.positions, {"all": "decision", "decision": "all"}
    there = trial.run([trial.shift], positions=other[own])
    at_decision = as_chosen.codes if own == "decision" else there
    facts = facts_of([trial.shift], trial.shift)
    return [
        Variant("positions", other[own], there, facts),
        Variant("clamping", "additive", at_decision, facts),
    ]


def clamps(trial: Trial, train: TrainPairs) -> list[Variant]:
    """Clamps to the target's mean state from the prompt's end on, or only there (`_prompt`)."""
    steering, rows, mask = trial.steering, trial.rows, trial.shift != 0
    memory, rule = train.states[steering.site]
    mean = (rule if trial.direction == "m2g" else memory).mean(axis=0)
    facts = facts_of([trial.shift], trial.shift)
    norm, none = float(np.linalg.norm(trial.shift)), np.empty((1, 0), dtype=np.int8)
    full = 0.0 if rows.empty else distance(steering, rows, mean, mask)
    strengths = STRENGTHS | {"clamp_same_norm": norm / full if full else None}
    found = {name: one for name, one in strengths.items() if one is not None and not rows.empty}
    lacking = [name for name in strengths if name not in found]
    codes = {"clamping": [], "clamping_prompt": []}
    moved_by, added = [], none
    if not rows.empty:
        moves = Moves.clamps(mean, mask, [*found.values(), 0.0])  # the last one changes nothing
        moved_by = moved(steering, rows, moves)
        *codes["clamping"], still = answered(steering, rows, moves)
        both = moves.and_add(trial.signed(trial.shift))
        *codes["clamping_prompt"], _, added = answered(steering, rows, both, generated=False)
        added = added[None]
    variants = [Variant("clamping_prompt", "additive", added, facts)]
    for group, of in codes.items():
        for (name, strength), by, one in zip(found.items(), moved_by, of):
            about = {"norm": by, "neurons": int(mask.sum()), "strength": strength}
            variants.append(Variant(group, name, one[None], about))
        variants += [Variant(group, name, none, {"strength": strengths[name]}) for name in lacking]
    if not rows.empty:
        variants.append(Variant(IDENTITY, "clamp_of_strength_0", still[None]))
    return variants


def best_layer(trial: Trial) -> int | None:
    """The layer (from 1) that alone, at the whole norm, steers most; lowest of equals, or None."""
    variants, numbers = by_layer(trial.shift), range(1, len(trial.shift) + 1)
    single = {k: draws for k in numbers if (draws := variants[f"layer_{k}_only"])}
    if trial.rows.empty or not single:
        return None
    codes = trial.run([draws[0] for draws in single.values()])
    return list(single)[int(trial.succeeds(codes).mean(axis=1).argmax())]


def ranking_facts(
    rho: np.ndarray, top_n: float, scores: dict[str, np.ndarray | None], p: np.ndarray | None
) -> dict:
    """`common`: chosen neurons that each ranking has too; `p_ties`: neurons tied at p's cut."""
    chosen = select_top(rho, top_n)
    count = int(chosen.sum())
    common = {
        name: None if score is None else float((select_top(score, top_n) & chosen).sum() / count)
        for name, score in scores.items()
    }
    # as many have the p-value of the last one chosen by p: |rho| decides among them
    ties = None if p is None else int((p == np.sort(p, axis=None)[count - 1]).sum())
    return {"common": common, "p_ties": ties}


# -- what is reported ------------------------------------------------------------------------------
def gathered(
    p: AblationsParameters,
    train: TrainPairs,
    found: dict[str, Comparison],
    best: dict[str, int | None],
) -> Result:
    """The stage's result; by direction `found`, and the `best` single layer on validation keys."""
    comparisons = list(found.values())
    steering = comparisons[0].trial.steering
    numbers = {
        "site": steering.site,
        "positions": steering.positions,
        "n_layer": len(steering.rho),
        "n_coordinates": steering.rho.size,
        "counts": p.counts,
        "n_pairs": len(train.states[steering.site][0]),
        "state_norm": train.state_norm,
        "reference": REFERENCE,
        "identity_holds": all(one.identity_holds for one in comparisons),
    }
    for direction, one in found.items():
        facts = ranking_facts(steering.rho, one.trial.cell.top_n, train.scores, train.p)
        numbers[direction] = one.result(best[direction]) | facts
    tables = {
        "variants": pd.concat([one.table() for one in comparisons], ignore_index=True),
        "outcomes": pd.concat([one.outcomes() for one in comparisons], ignore_index=True),
    }
    return Result(numbers, tables)


def checks(r: dict, variants: pd.DataFrame, answered: pd.DataFrame) -> dict[str, bool]:
    """What has to hold for the variants to be comparable, by sentence."""
    whole = variants.direction.map({d: r[d]["norm"] for d in DIRECTIONS})
    here = variants.cosine.notna()
    other = variants.variant.isin(SITES) & (variants.group == "site") & variants.success.notna()
    scale = r["state_norm"][r["site"]]
    relative = variants.norm[other] / variants.variant[other].map(r["state_norm"]) * scale
    keys = {split: set(rows.key) for split, rows in answered.groupby("split")}
    earlier = keys.get("train", set()) | keys.get("validation", set())
    return {
        "a zero shift and a clamp of strength 0 change no answer": r["identity_holds"],
        "every shift at the chosen site has the norm of the chosen one": np.allclose(
            variants.norm[here], whole[here], rtol=1e-4
        ),
        "at the other sites the relative norm is the same": np.allclose(
            relative / whole[other], 1, rtol=1e-4
        ),
        "test keys are neither train nor validation keys": not keys.get("test", set()) & earlier,
    }


def _share(value: float | None, missing: str = "undefined") -> str:
    return missing if value is None else f"{value:.0%}"


def what_matters(r: dict, direction: str) -> str:
    """How many variants differ from their reference, and how far the rankings agree: two lines."""
    x = r[direction]
    differing, n = sum(map(len, x["matters"].values())), x["n_compared"]
    common = ", ".join(f"{name} {_share(share, 'n/a')}" for name, share in x["common"].items())
    return (
        f"{direction}: {differing} of {n} variants differ from their reference ({0.05 * n:.1f} would by"
        " chance, if none mattered)\n"
        f"   |rho| and the other rankings choose the same neurons: {common}; tied with the last one"
        f" chosen by p: {x['p_ties']}"
    )


def answer(r: dict, direction: str) -> str:
    """One direction's answer to the lab's question, in two lines."""
    x = r[direction]
    chosen, best = x["layers"]["as_chosen"], x["layers"]["best_single"]
    low, high = chosen["interval"] or (None, None)
    one_layer = f"One layer alone (layer {best['layer']}, chosen on validation keys)"
    differing = [f"{group} ({', '.join(names)})" for group, names in x["matters"].items() if names]
    return (
        f"{_share(chosen['success'])} [{_share(low)}, {_share(high)}] of {x['n']} test prompts as chosen"
        f" ({x['neurons']} neurons, norm {x['norm']:.1f}). {one_layer}: {_share(best['success'])}; the"
        f" decision position only: {_share(x['positions']['decision']['success'])}; all coordinates:"
        f" {_share(x['count']['all']['success'])}; one constant for all:"
        f" {_share(x['magnitude']['constant']['success'])}; clamped to the mean at the same norm:"
        f" {_share(x['clamping']['clamp_same_norm']['success'])}.\n"
        f"   what differs: {'; '.join(differing) or 'nothing'}"
    )
