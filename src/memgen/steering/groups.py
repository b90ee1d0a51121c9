"""Do neurons act in groups? Clusters beside random groups of their size, and pairwise synergy.

Every shift has the norm of the one that lab 06 chose; prompts are of test keys.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from memgen.stats.intervals import number, weighted_mean
from memgen.stats.reported import by_key
from memgen.steering.case import Case
from memgen.steering.cells import shift_vector
from memgen.steering.margins import margins
from memgen.steering.steering import Steering, summary
from memgen.terms import TARGET

N_SINGLE = 8  # top neurons that are also steered one by one
N_RANDOM = 3  # draws of a random group beside each cluster
KINDS = ("chosen", "together", "cluster", "random", "single")


def group_shift(neurons: np.ndarray, nmd: np.ndarray, rho: np.ndarray, norm: float) -> np.ndarray:
    """sign(rho) * |NMD| on these neurons `[n, 2]` at `norm`: `[L, d]`, towards the rule."""
    mask = np.zeros(rho.shape, dtype=bool)
    mask[tuple(np.asarray(neurons).reshape(-1, 2).T)] = True
    found = shift_vector(nmd, rho, mask)
    own = np.linalg.norm(found)
    return found * (norm / own) if own else found


def groups_to_steer(
    neurons: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> pd.DataFrame:
    """A row per group: `kind`, `name`, `members` (positions in `neurons`; None: lab 06's shift).

    All together, every cluster, beside it `N_RANDOM` random groups of its size (of the same name,
    so that they stand together), and the first neurons alone.
    """
    rows = [
        ("chosen", "chosen shift", None),
        ("together", f"all {len(neurons)} together", np.arange(len(neurons))),
    ]
    for label in range(labels.max(initial=-1) + 1):
        members = np.flatnonzero(labels == label)
        name = f"cluster {label + 1} ({len(members)})"
        rows.append(("cluster", name, members))
        rows += [
            ("random", name, rng.choice(len(neurons), len(members), replace=False))
            for _ in range(N_RANDOM)
        ]
    rows += [
        ("single", f"layer {neurons[i, 0] + 1}, no. {neurons[i, 1]}", np.array([i]))
        for i in range(min(N_SINGLE, len(neurons)))
    ]
    return pd.DataFrame(rows, columns=["kind", "name", "members"])


def steer_groups(
    steering: Steering, case: Case, neurons: np.ndarray, groups: pd.DataFrame, seed: int
) -> tuple[dict, pd.DataFrame]:
    """Success of every group at the chosen shift's norm: the direction's result and a table.

    Random draws of one name are pooled. `difference`: mean over the clusters of a cluster minus the
    random groups of its size; its interval is over keys, for these very groups.
    """
    chosen = steering.shift(case.cell)
    shifts = [
        (
            chosen
            if members is None
            else group_shift(neurons[members], steering.nmd, steering.rho, np.linalg.norm(chosen))
        )
        for members in groups.members
    ]
    codes = steering.outcomes(case.sign * np.stack(shifts), case.rows)
    rows = []
    for (kind, name), part in groups.groupby(["kind", "name"], sort=False):
        found, members = summary(codes[part.index], case.direction), part.members.iloc[0]
        rows.append(
            {
                "direction": case.direction,
                "kind": kind,
                "name": name,
                "low": found["interval"][0],
                "high": found["interval"][1],
                **found,
                "neurons": [] if members is None else neurons[members].tolist(),
            }
        )
    table = pd.DataFrame(rows)
    by_kind = {
        kind: (
            table[table.kind == kind][["success", "interval", "other", "n", "neurons"]].to_dict(
                "records"
            )
        )
        for kind in KINDS
    }
    for random in by_kind["random"]:
        del random["neurons"]  # of the first draw only
    success = codes == TARGET[case.direction]
    keys, difference = case.keys[:0], np.zeros(0)  # undefined where there is no cluster
    if by_kind["cluster"]:
        of_cluster, of_random = (success[groups.kind == kind] for kind in ("cluster", "random"))
        keys, difference = case.keys, of_cluster.mean(0) - of_random.mean(0)
    result = {
        "n": len(case.rows),
        "chosen": by_kind["chosen"][0],
        "together": by_kind["together"][0],
        "single": by_kind["single"],
        "clusters": [
            {**own, "size": len(own["neurons"]), "random": random}
            for own, random in zip(by_kind["cluster"], by_kind["random"])
        ],
        **{
            f"{kind}_mean": number(np.mean([x["success"] for x in by_kind[kind]] or np.nan))
            for kind in ("cluster", "random", "single")
        },
        **{
            f"{kind}_largest": max((x["success"] for x in by_kind[kind]), default=None)
            for kind in ("cluster", "random", "single")
        },
        "difference": by_key(weighted_mean, keys, difference, seed=seed),
    }
    return result, table.drop(columns=["interval", "neurons"])


def synergy(effects: np.ndarray, pairs: list[tuple[int, int]], keys: np.ndarray, seed: int) -> dict:
    """What two neurons do together beyond the sum of what each does alone.

    effects: `[1 + n + pairs, P]`, the margin's change towards the target of all n neurons together,
    of each alone, of each pair. `matrix` is effect(i and j) - effect(i) - effect(j), means over the
    prompts; `mean` over the pairs; `together` the same for all n at once.
    """
    n = len(effects) - 1 - len(pairs)
    everything, alone, both = effects[0], effects[1 : n + 1], effects[n + 1 :]
    first, second = (
        (np.array(side, dtype=int) for side in zip(*pairs))
        if pairs
        else (np.array([], dtype=int),) * 2
    )
    found = both - alone[first] - alone[second]  # [pairs, P]
    matrix: list[list[float | None]] = [[None] * n for _ in range(n)]
    defined = len(keys) > 0
    for i, j, value in zip(
        first.tolist(), second.tolist(), found.mean(1).tolist() if defined else []
    ):
        matrix[i][j] = matrix[j][i] = value
    return {
        "matrix": matrix,
        "single": alone.mean(1).tolist() if defined else [None] * n,
        "single_mean": number(alone.mean()) if n and defined else None,
        "mean": (
            by_key(weighted_mean, keys, found.mean(0), seed=seed)
            if len(pairs)
            else by_key(weighted_mean, keys[:0], seed=seed)
        ),
        "all": number(everything.mean()) if defined else None,
        "together": by_key(weighted_mean, keys, everything - alone.sum(0), seed=seed),
    }


def pairwise(steering: Steering, case: Case, neurons: np.ndarray, seed: int) -> dict:
    """Synergy of these neurons for the margin, each shifted by the chosen norm / sqrt(n)."""
    n, norm = len(neurons), np.linalg.norm(steering.shift(case.cell))
    single = (
        np.stack(
            [group_shift(one, steering.nmd, steering.rho, norm / np.sqrt(n)) for one in neurons]
        )
        if n
        else np.zeros((0, *steering.rho.shape))
    )
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    shifts = [0 * steering.rho, single.sum(0), *single, *(single[i] + single[j] for i, j in pairs)]
    found = margins(steering, case.sign * np.stack(shifts), case.begin_differently)
    return {"neurons": neurons.tolist()} | synergy(
        case.sign * (found[1:] - found[0]), pairs, case.keys[case.distinct], seed
    )
