"""Does the shift steer, more than what it is held against, and at what price?

Success is that within the limit on lost free prompts: a seed without such a cell counts with none,
and so do controls of the shift's size (`evidence.outcomes_by_key`). What a shift is and costs
(coordinates, other answers, accuracy lost, random shifts) is that of the cell that was run, so a seed
in which every cell costs more than the limit speaks against the claims about its price.
"""

from __future__ import annotations

from memgen.claims.evidence import Evidence
from memgen.claims.quantities.rows import gap, level, of, units
from memgen.stats.over_seeds import NOTHING, Effect, over_keys, over_seeds, rate
from memgen.tasks.families import variants
from memgen.terms import DIRECTIONS

STEERED = "steered"
#: families of controls: what a shift has to beat, and what it means if it does not
CONTROL_FAMILIES: dict[str, tuple[str, ...]] = {
    "random": ("random_neurons", "random_direction"),
    "best_of_random": ("best_of_random",),
    "other_neurons": ("other_neurons", "low_rho"),
    "other_values": ("permuted", "random_sign"),
    "shuffled": ("shuffled_labels",),
    "forbid": ("forbid_source",),
    "unembedding": ("unembedding_last", "unembedding_all"),
    "rephrasing": ("rephrasing_order",),
}


def _rows(evidence: Evidence, task: str, direction: str):
    rows = of(evidence.outcomes, task)
    return rows[rows.direction == direction]


def is_kept(stages: dict[str, dict], direction: str) -> bool:
    """Has this run (its results by stage) a cell within the limit on lost free prompts?"""
    return bool(stages["06_intervention"][direction]["kept_exists"])


def within_limit(stages: dict[str, dict], direction: str, rate: float) -> float:
    """A rate of this run's success as it counts: 0 where no cell stays within the limit."""
    return rate if is_kept(stages, direction) else 0.0


def kept_seeds(evidence: Evidence, task: str, direction: str) -> int:
    """In how many seeds a cell stays within the limit."""
    runs = (stages for _, stages in evidence.of_seeds(task) if "06_intervention" in stages)
    return sum(is_kept(stages, direction) for stages in runs)


def success(evidence: Evidence, task: str, direction: str) -> Effect:
    """Success of steering within the limit."""
    return level(evidence, _rows(evidence, task, direction), (STEERED,))


def beyond_control(evidence: Evidence, task: str, direction: str, family: str) -> Effect:
    """Success less that of a family of controls (the mean of its members)."""
    return gap(evidence, _rows(evidence, task, direction), STEERED, CONTROL_FAMILIES[family])


def random_success(evidence: Evidence, task: str) -> Effect:
    """Success of random shifts of the size that was run, mean of both directions."""
    rows = of(evidence.outcomes, task)
    rows = rows.assign(wins=rows.unlimited)
    return level(evidence, rows, CONTROL_FAMILIES["random"])


def asymmetry(evidence: Evidence, task: str) -> Effect:
    """Success of m2g less that of g2m."""
    rows = of(evidence.outcomes, task)
    rows = rows[rows.kind == STEERED]
    return gap(evidence, rows.assign(kind=rows.direction), "m2g", ("g2m",))


def format_gap(evidence: Evidence, family: str) -> Effect:
    """Success of m2g with the tagged answers less that with matched ones: same seeds, same keys."""
    formats = dict(zip(variants(family), ("tagged", "matched"), strict=True))
    rows = evidence.outcomes
    rows = rows[(rows.direction == "m2g") & (rows.kind == STEERED) & rows.task.isin(formats)]
    return gap(evidence, rows.assign(kind=rows.task.map(formats)), "tagged", ("matched",))


def other_share(evidence: Evidence, task: str) -> Effect:
    """Share of answers under the shift that are neither memory nor rule, mean of both directions."""
    return _of_cells(evidence, task, lambda found: found["other"])


def share_of_neurons(evidence: Evidence, task: str) -> Effect:
    """The share of all coordinates that the chosen cell shifts, mean of both directions."""
    return _of_cells(evidence, task, lambda found: found["top_n"])


def accuracy_lost(evidence: Evidence, task: str, kind: str) -> Effect:
    """Accuracy on free or keyed prompts without the shift less that with it, mean of directions."""
    return _of_cells(
        evidence,
        task,
        lambda found: found[f"{kind}_accuracy_before"] - found[f"{kind}_accuracy_after"],
    )


def _of_cells(evidence: Evidence, task: str, value) -> Effect:
    found = evidence.stage(task, "06_intervention")
    values = [sum(value(f[d]) for d in DIRECTIONS) / len(DIRECTIONS) for f in found]
    n = min((f[d]["n"] for f in found for d in DIRECTIONS), default=0)
    return over_seeds(values, sum(f[d]["n"] for f in found for d in DIRECTIONS), 1 / max(n, 1))


def transfers(evidence: Evidence, task: str, kind: str, shared: bool) -> Effect:
    """Success of another model's neurons less random ones', both ways; `kind`: retrain or task."""
    rows = of(evidence.transfers, task)
    return _transfer_gap(evidence, rows[(rows.kind == kind) & (rows.shared == shared) & ~rows.own])


def _transfer_gap(evidence: Evidence, rows) -> Effect:
    if rows.empty:
        return NOTHING
    counts = rows.groupby(["seed", "key", "direction"])[["wins", "n", "control_wins", "control_n"]]
    sums = counts.sum().unstack(fill_value=0)
    there = [d for d in DIRECTIONS if ("n", d) in sums and sums["n", d].sum() > 0]

    def statistic(w):
        gaps = [
            rate(w, sums["wins", d].to_numpy(), sums["n", d].to_numpy())
            - rate(w, sums["control_wins", d].to_numpy(), sums["control_n", d].to_numpy())
            for d in there
        ]
        return sum(gaps) / len(gaps)

    return over_keys(statistic, *units(sums), int(rows.n.sum()), shared_keys=evidence.shared_keys)


def addition_travels(evidence: Evidence, case: str) -> Effect:
    """What neurons of addition do to other tasks beyond random ones, less what inference's do."""
    rows = evidence.transfers
    rows = rows[(rows.kind == "task") & rows.shared & ~rows.own]
    values = []
    for _, of_seed in rows.groupby("seed"):
        found = [
            of_seed[of_seed.source.str.startswith(family)] for family in ("arithmetic", "inference")
        ]
        values.append(
            None if any(part.empty for part in found) else _gap(found[0]) - _gap(found[1])
        )
    return over_seeds(values, int(rows.n.sum()))


def _gap(rows) -> float:
    sums = rows[["wins", "n", "control_wins", "control_n"]].sum()
    return float(sums.wins / sums.n - sums.control_wins / sums.control_n)


def beyond_instruction(evidence: Evidence, task: str) -> Effect:
    """Success of steering less that of a trained instruction token, net of its training, both ways."""
    values, n = [], 0
    for _, stages in evidence.of_seeds(task):
        found = stages.get("11_open_points", {}).get("instruction")
        if not found:
            continue
        gaps = [
            within_limit(stages, d, found[d]["steering"]["success"])
            - (found[d]["instruction"]["success"] - found[d]["none"]["success"])
            for d in DIRECTIONS
            if found[d]["instruction"]["n"]
        ]
        values.append(sum(gaps) / len(gaps) if gaps else None)
        n += sum(found[d]["instruction"]["n"] for d in DIRECTIONS)
    return over_seeds(values, n)
