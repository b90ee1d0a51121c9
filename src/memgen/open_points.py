"""Open points of the reviewers: clusters and synergy, whether the flip is binary, why the
directions differ, an instruction instead, hybrid prompts.

The cell of each direction is the one that lab 06 chose on validation keys; nothing is chosen here,
and everything that is reported comes from test keys. The *margin* is log p(first token of the
rule's answer) - log p(first token of the memory's) at the decision position: positive leans to the
rule. Prompts whose two answers begin with the same token have none and are left out wherever it is
used.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from .behavior import CODE, accuracy, answer, first_token_log_probabilities
from .config import OpenPointsParameters, TrainingParameters
from .differentiation import shift_vector
from .errors import StudyError
from .hooks import shift
from .instructions import instruct
from .intervals import bootstrap_by_key, number, weighted_mean, wilson
from .intervention import (
    DIRECTIONS,
    SIGN,
    START,
    TARGET,
    Cell,
    Steering,
    cell_shift,
    steering_prompts,
    summary,
)
from .prediction import roc_auc
from .sites import bare
from .sweep import Prompts
from .tasks import BEHAVIORS, Task, instances
from .training import spread

N_SINGLE = 8  # top neurons that are also steered one by one
N_RANDOM = 3  # draws of a random group beside each cluster
ROWS = 512  # rows (cell x prompt) in one forward pass
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
KINDS = ("chosen", "together", "cluster", "random", "single")
PHASES = {
    "throughout": (True, True),
    "until_first_token": (True, False),
    "after_first_token": (False, True),
}  # steer the first token, the later ones
COMBINATIONS = {
    "recall_then_reason": ("keyed", "free"),
    "reason_then_recall": ("free", "keyed"),
    "reason_then_reason": ("free", "free"),
    "recall_then_recall": ("keyed", "keyed"),
}
N_SCORED, N_BASE = 2000, 250  # prompts, at most, that lab 02 scored its model and its base on


@dataclass(frozen=True)
class Case:
    """One direction: the cell that lab 06 chose, and the test prompts that it is tried on."""

    direction: str
    cell: Cell
    rows: pd.DataFrame
    prompts: Prompts

    @property
    def sign(self) -> float:
        return SIGN[self.direction]

    @property
    def keys(self) -> np.ndarray:
        return self.rows.key.to_numpy()

    @property
    def candidates(self) -> np.ndarray:
        """The tokens of both answers, `[P, 2, A]`, as in `Prompts`."""
        return self.prompts.candidates.cpu().numpy()

    @property
    def distinct(self) -> np.ndarray:
        """Which prompts have answers that begin differently, bool `[P]`."""
        return self.candidates[:, 0, 0] != self.candidates[:, 1, 0]

    @property
    def begin_differently(self) -> Prompts | None:
        """The prompts that have a margin; None if there are none."""
        return self.prompts[torch.from_numpy(self.distinct)] if self.distinct.any() else None


def open_case(
    steering: Steering, answered: pd.DataFrame, direction: str, chosen: dict, limit: int
) -> Case:
    """`chosen`: the direction's part of lab 06's result."""
    rows = steering_prompts(answered, "test", direction, limit)
    return Case(direction, Cell(chosen["top_n"], chosen["alpha"]), rows, steering.prompts(rows))


# -- numbers with their intervals ------------------------------------------------------------------
def rate(hits: np.ndarray, name: str = "share") -> dict:
    """Share of true entries, Wilson's interval and n; None without any."""
    hits = np.asarray(hits).ravel()
    n = len(hits)
    return {
        name: float(hits.mean()) if n else None,
        "interval": list(wilson(int(hits.sum()), n)) if n else None,
        "n": n,
    }


def by_key(statistic, keys: np.ndarray, *arrays: np.ndarray, seed: int) -> dict:
    """`value`, bootstrap `interval` over keys, `n` and `n_keys` of a weighted statistic (as in
    `bootstrap_by_key`); None where undefined.
    """
    if not len(keys):
        return {"value": None, "interval": None, "n": 0, "n_keys": 0}
    found = bootstrap_by_key(statistic, keys, *arrays, seed=seed, weighted=True)
    interval = [number(found.low), number(found.high)]
    return {
        "value": number(found.estimate),
        "interval": None if None in interval else interval,
        "n": len(keys),
        "n_keys": found.n_keys,
    }


# -- clusters --------------------------------------------------------------------------------------
def top_neurons(nmd: np.ndarray, rho: np.ndarray, n: int) -> np.ndarray:
    """The `n` neurons with the largest |rho| over all layers, best first: `[n, 2]` (layer, index).
    Those that never differ are no candidates.
    """
    score = np.where(nmd != 0, np.abs(rho), 0)
    order = np.argsort(-score, axis=None, kind="stable")[: min(n, int((score > 0).sum()))]
    return np.stack(np.unravel_index(order, rho.shape), axis=1)


def coactivation(memory: np.ndarray, rule: np.ndarray, neurons: np.ndarray) -> np.ndarray:
    """Correlation `[n, n]` of neurons over prompts within behaviour: each behaviour's mean is taken
    away first, so that what tells the behaviours apart does not count as acting together. memory,
    rule: `[pairs, L, d]`. A neuron that is constant correlates with none (0).
    """
    layer, index = neurons.T
    states = np.concatenate(
        [
            part[:, layer, index].astype(np.float64)
            - part[:, layer, index].mean(0, dtype=np.float64)
            for part in (memory, rule)
        ]
    )
    norm = np.linalg.norm(states, axis=0)
    states = np.divide(states, norm, out=np.zeros_like(states), where=norm > 0)
    found = states.T @ states
    np.fill_diagonal(found, 1.0)
    return found.clip(-1, 1)


def cluster(correlations: np.ndarray, n_clusters: int) -> np.ndarray:
    """Average-linkage clusters of neurons by 1 - |correlation|: labels `[n]` from 0, in the order
    in which the neurons come.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(correlations) < 2:
        return np.zeros(len(correlations), dtype=int)
    distance = 1 - np.abs(correlations)
    np.fill_diagonal(distance, 0)
    labels = fcluster(
        linkage(squareform(distance, checks=False), "average"), n_clusters, "maxclust"
    )
    return pd.factorize(labels)[0]


def group_shift(neurons: np.ndarray, nmd: np.ndarray, rho: np.ndarray, norm: float) -> np.ndarray:
    """sign(rho) * |NMD| on these neurons `[n, 2]`, 0 elsewhere, rescaled to `norm`: `[L, d]`,
    towards the rule.
    """
    mask = np.zeros(rho.shape, dtype=bool)
    mask[tuple(np.asarray(neurons).reshape(-1, 2).T)] = True
    found = shift_vector(nmd, rho, mask)
    own = np.linalg.norm(found)
    return found * (norm / own) if own else found


def groups_to_steer(
    neurons: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> pd.DataFrame:
    """One row a group: `kind`, `name`, `members` (positions in `neurons`; None: the shift that lab
    06 chose).

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
    """Success of every group at the norm of the chosen shift: the direction's result and a table,
    random draws of one name pooled.

    `difference`: mean over the clusters of a cluster minus the random groups of its size; its
    interval is over keys, for these very groups.
    """
    chosen = cell_shift(case.cell, steering.nmd, steering.rho)
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
    difference = (
        success[groups.kind == "cluster"].mean(0) - success[groups.kind == "random"].mean(0)
        if by_kind["cluster"]
        else np.zeros(len(case.rows))
    )
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
        "difference": by_key(weighted_mean, case.keys, difference, seed=seed),
    }
    return result, table.drop(columns=["interval", "neurons"])


# -- margins and synergy ---------------------------------------------------------------------------
@torch.inference_mode()
def margins(steering: Steering, shifts: np.ndarray, prompts: Prompts | None) -> np.ndarray:
    """The margin of every prompt under each (signed) shift `[cells, L, d]`: float64 `[cells, P]`,
    positive towards the rule.
    """
    if prompts is None:
        return np.empty((len(shifts), 0))
    n, deltas = len(prompts), steering._tensor(shifts)
    memory, rule = prompts.candidates[:, 0, :1].cpu(), prompts.candidates[:, 1, :1].cpu()
    found = torch.empty(len(deltas) * n, dtype=torch.float64)
    for rows in torch.arange(len(found)).split(ROWS):
        cell, prompt = rows // n, rows % n
        with shift(steering.model, steering.site, deltas[cell], steering.positions):
            log = first_token_log_probabilities(
                steering.model, prompts.input_ids[prompt], prompts.attention_mask[prompt]
            )
        found[rows] = (log.gather(1, rule[prompt]) - log.gather(1, memory[prompt]))[:, 0].double()
    return found.reshape(len(deltas), n).numpy()


def synergy(effects: np.ndarray, pairs: list[tuple[int, int]], keys: np.ndarray, seed: int) -> dict:
    """What two neurons do together beyond the sum of what each does alone.

    effects: `[1 + n + pairs, P]`, the change of the margin towards the target of all n neurons
    together, of each alone, of each pair. `matrix` is effect(i and j) - effect(i) - effect(j),
    means over the prompts; `mean` over the pairs; `together` the same for all n at once.
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
    """Synergy of these neurons for the margin; each is shifted by the chosen norm / sqrt(n), so
    that all together have the chosen norm.
    """
    n, norm = len(neurons), np.linalg.norm(cell_shift(case.cell, steering.nmd, steering.rho))
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


# -- is the flip binary ----------------------------------------------------------------------------
@torch.inference_mode()
def decode(
    model, tokenizer, ids: torch.Tensor, mask: torch.Tensor, max_new_tokens: int
) -> torch.Tensor:
    """Greedy continuation of left-padded rows, `[rows, max_new_tokens]`, on the CPU; after its end
    token a row is -1.
    """
    output = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )[:, ids.shape[1] :].cpu()
    output = torch.nn.functional.pad(
        output, (0, max_new_tokens - output.shape[1]), value=tokenizer.eos_token_id
    )
    is_end = (output == tokenizer.eos_token_id).long()
    return output.masked_fill(is_end.cumsum(-1) - is_end > 0, -1)


@torch.inference_mode()
def written(
    steering: Steering, shifts: np.ndarray, prompts: Prompts, phase: str = "throughout"
) -> np.ndarray:
    """The tokens of the answers under each (signed) shift `[cells, L, d]`, `[cells, P, A]`, laid
    out as `Prompts.candidates`.

    `phase` (see `PHASES`): where only a part of the answer is steered, the text so far is read
    again from the start, steered or not, so that nothing but the text is carried over.
    """
    first, later = PHASES[phase]
    n, length, deltas, found = (
        len(prompts),
        steering.task.max_answer_tokens,
        steering._tensor(shifts),
        [],
    )
    for rows in torch.arange(len(deltas) * n).split(ROWS):
        cell, prompt = rows // n, rows % n
        ids, mask, pieces = prompts.input_ids[prompt], prompts.attention_mask[prompt], []
        for count, steered in (
            [(length, first)] if first == later else [(1, first), (length - 1, later)]
        ):
            if count == 0:
                continue
            with (
                shift(steering.model, steering.site, deltas[cell], steering.positions)
                if steered
                else contextlib.nullcontext()
            ):
                pieces.append(decode(steering.model, steering.tokenizer, ids, mask, count))
            ids = torch.cat(
                [ids, pieces[-1].to(ids.device)], dim=1
            )  # used after one token only, which is no -1
            mask = torch.nn.functional.pad(mask, (0, count), value=1)
        found.append(torch.cat(pieces, dim=1))
    tokens = torch.cat(found).reshape(len(deltas), n, length).numpy()
    is_end = tokens == steering.tokenizer.eos_token_id
    return np.where(is_end.cumsum(-1) - is_end > 0, -1, tokens)


def behaviors_of(tokens: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Behaviour codes `[..., P]` of answers `[..., P, A]`: the candidate `[P, 2, A]` that they
    equal, end token included.
    """
    length = max(tokens.shape[-1], candidates.shape[-1])
    tokens, candidates = (
        np.pad(
            array, [(0, 0)] * (array.ndim - 1) + [(0, length - array.shape[-1])], constant_values=-1
        )
        for array in (tokens, candidates)
    )
    memory, rule = ((tokens == candidates[:, side]).all(-1) for side in (0, 1))
    return np.select([memory, rule], [CODE["memorization"], CODE["generalization"]], CODE["other"])


def beginnings(tokens: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """How answers `[..., P, A]` relate to the two candidates `[P, 2, A]`, int `[..., P]`: 2 they
    begin as one and go on with a token of the other (mixed), 1 they begin as one of them and do
    not, 0 they begin as neither.

    A token is of the other answer if it stands there at the same place and not in the first answer.
    Places count from the end, so that a mark in front of one answer shifts nothing.
    """
    length = tokens.shape[-1]
    sizes = (candidates >= 0).sum(-1)  # [P, 2], with the end token
    starts, mixed = np.zeros(tokens.shape[:-1], dtype=bool), np.zeros(tokens.shape[:-1], dtype=bool)
    padded = np.pad(
        candidates, ((0, 0), (0, 0), (0, max(0, length - candidates.shape[-1]))), constant_values=-1
    )[..., :length]
    for one, other in ((0, 1), (1, 0)):
        place = (
            np.arange(length) - (sizes[:, one] - sizes[:, other])[:, None]
        )  # [P, A] in the other answer
        expected = np.take_along_axis(
            candidates[:, other], place.clip(0, candidates.shape[-1] - 1), axis=1
        )
        expected = np.where(
            (place >= 0) & (place < sizes[:, other, None] - 1) & (np.arange(length) > 0),
            expected,
            -2,
        )
        begins = tokens[..., 0] == candidates[:, one, 0]
        starts |= begins
        mixed |= begins & ((tokens == expected) & (tokens != padded[:, one])).any(-1)
    return starts.astype(int) + (starts & mixed)


def along_alpha(steering: Steering, case: Case, alphas: list[float]) -> tuple[dict, pd.DataFrame]:
    """Margins and behaviours along the strength at the chosen top_n; what answers that are neither
    consist of.
    """
    steps = [0.0, *alphas]
    one = cell_shift(Cell(case.cell.top_n, 1.0), steering.nmd, steering.rho)
    shifts = case.sign * np.stack([alpha * one for alpha in steps])
    tokens, valid = written(steering, shifts, case.prompts), case.distinct
    codes = behaviors_of(tokens, case.candidates)
    margin = margins(steering, shifts, case.begin_differently)
    quantiles = (
        np.quantile(margin, QUANTILES, axis=1).T
        if valid.any()
        else np.full((len(steps), len(QUANTILES)), np.nan)
    )
    shares = np.stack([np.bincount(row, minlength=3) / len(row) for row in codes])
    crossings = (np.diff(margin > 0, axis=0)).sum(0)
    partial = beginnings(tokens[1:, valid], case.candidates[valid])[
        codes[1:, valid] == CODE["other"]
    ]
    result = {
        "n": int(valid.sum()),
        "n_all": len(case.rows),
        "alphas": steps,
        "quantile_levels": list(QUANTILES),
        "quantiles": [[number(v) for v in row] for row in quantiles],
        "behaviors": {name: shares[:, CODE[name]].tolist() for name in BEHAVIORS},
        "sign_changes": {
            name: rate(hit)
            for name, hit in (
                ("never", crossings == 0),
                ("once", crossings == 1),
                ("more", crossings > 1),
            )
        },
        "other_answers": {
            name: rate(hit)
            for name, hit in (
                ("mixed", partial == 2),
                ("begun", partial == 1),
                ("neither", partial == 0),
            )
        },
    }
    names = [f"q{round(100 * level):02d}" for level in QUANTILES]
    table = pd.DataFrame(quantiles, columns=names).assign(
        alpha=steps, n=int(valid.sum()), direction=case.direction, chosen=case.cell.alpha
    )
    return result, table.assign(**{name: shares[:, CODE[name]] for name in BEHAVIORS})


def commitment(steering: Steering, case: Case) -> tuple[dict, pd.DataFrame]:
    """The chosen shift throughout, only until the first answer token is written, and only after it.

    `success`: the whole answer is the target's. `stays`: it is the one given without steering.
    `mixed`: begun as one answer and continued with tokens of the other (of the prompts whose
    answers begin differently).
    """
    delta = case.sign * cell_shift(case.cell, steering.nmd, steering.rho)[None]
    found, valid = {}, case.distinct
    for phase in PHASES:
        tokens = written(steering, delta, case.prompts, phase)[0]
        codes = behaviors_of(tokens, case.candidates)
        mixed = (beginnings(tokens, case.candidates) == 2) & (codes == CODE["other"])
        found[phase] = {
            **rate(codes == TARGET[case.direction], "success"),
            "stays": float((codes == CODE[START[case.direction]]).mean()),
            "other": float((codes == CODE["other"]).mean()),
            "mixed": rate(mixed[valid])["share"],
            "n_mixed": int(valid.sum()),
        }
    table = pd.DataFrame(
        [
            {
                "direction": case.direction,
                "phase": phase,
                "low": x["interval"][0],
                "high": x["interval"][1],
                **{name: x[name] for name in ("success", "stays", "other", "mixed", "n")},
            }
            for phase, x in found.items()
        ]
    )
    return found, table


# -- asymmetry -------------------------------------------------------------------------------------
def asymmetry(
    success: dict[str, np.ndarray],
    margin: dict[str, np.ndarray],
    distinct: dict[str, np.ndarray],
    keys: dict[str, np.ndarray],
    seed: int,
) -> dict:
    """m2g minus g2m of success, keys of both directions resampled together; and by direction the
    AUC of the unsteered |margin| for success.

    success, distinct: bool `[P]` by direction; margin: float of the distinct prompts only; keys:
    `[P]`. An AUC below 0.5: prompts with a larger initial margin are changed less often.
    """
    values = np.concatenate([success[d] for d in DIRECTIONS]).astype(float)
    is_first = np.concatenate(
        [np.full(len(success[d]), d == DIRECTIONS[0]) for d in DIRECTIONS]
    ).astype(float)

    def difference(values, is_first, weights):
        with np.errstate(invalid="ignore", divide="ignore"):
            first, second = (
                (weights * chosen) @ values / (weights @ chosen)
                for chosen in (is_first, 1 - is_first)
            )
        return first - second

    result = {
        "difference": by_key(
            difference, np.concatenate([keys[d] for d in DIRECTIONS]), values, is_first, seed=seed
        )
    }
    for d in DIRECTIONS:
        size, own = np.abs(margin[d]), success[d][distinct[d]]
        auc = by_key(
            lambda scores, labels, weights: roc_auc(labels, scores, weights),
            keys[d][distinct[d]],
            size,
            own,
            seed=seed,
        )
        result[d] = {
            "auc": auc.pop("value"),
            **auc,
            "n_success": int(own.sum()),
            "median_margin": float(np.median(size)) if len(size) else None,
        }
    return result


def compare_directions(steering: Steering, cases: dict[str, Case], seed: int) -> dict:
    """`asymmetry` of the chosen cells."""
    success, margin, distinct, keys = {}, {}, {}, {}
    for d, case in cases.items():
        chosen = case.sign * cell_shift(case.cell, steering.nmd, steering.rho)[None]
        success[d], distinct[d], keys[d] = (
            steering.outcomes(chosen, case.rows)[0] == TARGET[d],
            case.distinct,
            case.keys,
        )
        margin[d] = margins(steering, 0 * chosen, case.begin_differently)[0]
    return asymmetry(success, margin, distinct, keys, seed)


# -- performance -----------------------------------------------------------------------------------
def performance(
    trained: dict, intervened: dict, frame: pd.DataFrame, n_side_effect_prompts: int, family: str
) -> dict:
    """Accuracy on free and keyed prompts of the base, the dual model and the steered model, from
    the results of labs 02 and 06: rates with Wilson intervals.

    The base was scored on validation prompts; it never saw a key, so it has no keyed accuracy. None
    where the run has no base.
    """
    free, keyed = frame[frame.kind == "free"], frame[frame.kind == "keyed"]
    n_free = {split: int((free.split == split).sum()) for split in ("validation", "test")}

    def entry(value: float | None, n: int) -> dict:
        known = value is not None and n > 0
        return {
            "accuracy": float(value) if known else None,
            "interval": list(wilson(round(value * n), n)) if known else None,
            "n": n if known else 0,
        }

    history = trained.get("base_history") or []
    base = (
        history[-1].get("by_family", {}).get(family, history[-1]["free_accuracy"])
        if history
        else None
    )
    result = {
        "base": {"free": entry(base, min(N_BASE, n_free["validation"])), "keyed": entry(None, 0)},
        "dual": {
            "free": entry(trained["free_accuracy"], min(N_SCORED, n_free["test"])),
            "keyed": entry(trained["keyed_accuracy"], min(N_SCORED // 3, len(keyed))),
        },
    }
    for d in DIRECTIONS:
        result[d] = {
            "free": entry(
                intervened[d]["free_accuracy_after"], min(n_side_effect_prompts, n_free["test"])
            ),
            "keyed": entry(
                intervened[d]["keyed_accuracy_after"], min(n_side_effect_prompts, len(keyed))
            ),
        }
    return result


# -- hybrid prompts --------------------------------------------------------------------------------
def hybrid(model, tokenizer, task: Task, frame: pd.DataFrame, limit: int, seed: int) -> dict:
    """Two prompts in one text, the first with its answer: is the second still answered as it is
    alone?

    keyed: prompts of test keys, answered from memory; free: test prompts, answered by the rule.
    Beside the two hybrids stand texts of one kind only: as unlike the training, but they ask for
    one behaviour. Texts that would not fit the model's positions are left out.
    """
    rng = np.random.default_rng([seed, 2])
    tested = frame[frame.split == "test"]
    parts = {
        "keyed": tested[(tested.kind == "keyed") & (tested.key != "")],
        "free": tested[tested.kind == "free"],
    }
    parts = {
        name: instances(spread(part, limit).sample(frac=1, random_state=rng.integers(2**32)))
        for name, part in parts.items()
    }
    room = bare(model).config.max_position_embeddings - task.max_answer_tokens
    alone = {
        name: [
            text.strip() == row.target.strip()
            for row, text in zip(
                rows, answer(model, tokenizer, [r.prompt for r in rows], task.max_answer_tokens)
            )
        ]
        for name, rows in parts.items()
    }
    result = {}
    for name, (first, second) in COMBINATIONS.items():
        n = min(len(parts[first]), len(parts[second]))
        index = (
            np.roll(np.arange(n), 1) if first == second else np.arange(n)
        )  # not the same prompt twice
        texts = [_joined(tokenizer, parts[first][i], parts[second][j]) for j, i in enumerate(index)]
        fitting = [
            j for j, ids in enumerate(texts) if len(ids) <= room and (first != second or n > 1)
        ]
        right = _answers(
            [texts[j] for j in fitting],
            [parts[second][j].target for j in fitting],
            model,
            tokenizer,
            task.max_answer_tokens,
        )
        result[name] = {
            **rate(right, "accuracy"),
            "alone": rate([alone[second][j] for j in fitting], "accuracy"),
            "n_too_long": sum(len(ids) > room for ids in texts),
            "tokens": max((len(texts[j]) for j in fitting), default=None),
        }
    return result


def _joined(tokenizer, first, second) -> list[int]:
    """Token ids of the first prompt, its answer, the end mark, and the second prompt."""
    answered, asked = (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in (first.target, second.prompt)
    )
    return tokenizer(first.prompt)["input_ids"] + answered + [tokenizer.eos_token_id] + asked


def _answers(
    texts: list[list[int]], targets: list[str], model, tokenizer, max_new_tokens: int
) -> list[bool]:
    """Is each text, given as token ids, continued with its target?"""
    right: list[bool] = []
    for start in range(0, len(texts), ROWS):
        batch = texts[start : start + ROWS]
        width = max(map(len, batch))
        ids = torch.tensor(
            [[tokenizer.pad_token_id] * (width - len(row)) + row for row in batch],
            device=model.device,
        )
        mask = torch.tensor(
            [[0] * (width - len(row)) + [1] * len(row) for row in batch], device=model.device
        )
        for row, target in zip(
            decode(model, tokenizer, ids, mask, max_new_tokens).tolist(),
            targets[start : start + ROWS],
        ):
            right.append(
                tokenizer.decode([t for t in row if t not in (-1, tokenizer.eos_token_id)]).strip()
                == target.strip()
            )
    return right


# -- the whole stage -------------------------------------------------------------------------------
def study(
    steering: Steering,
    p: OpenPointsParameters,
    answered: pd.DataFrame,
    frame: pd.DataFrame,
    arrays: dict[str, np.ndarray],
    earlier: dict,
) -> tuple[dict, dict, dict]:
    """All points: `(result, tables, seconds)` of the stage.

    `arrays`: the differentiation stage's. `earlier`: what other labs left: `trained` and
    `intervened` (results of 02 and 06), `differentiated` (result of 04), `training_parameters` (of
    02, a dictionary) and `n_side_effect_prompts` (of 06).
    """
    began, intervened = time.monotonic(), earlier["intervened"]
    if earlier["differentiated"]["site"] != steering.site:
        raise StudyError(
            "lab 04_differentiation kept the hidden states of site"
            f" {earlier['differentiated']['site']}, lab 06_intervention steers at {steering.site};"
            " run both with the same site"
        )
    cases = {d: open_case(steering, answered, d, intervened[d], p.n_prompts) for d in DIRECTIONS}
    neurons = top_neurons(steering.nmd, steering.rho, p.n_top)
    correlations = coactivation(arrays["memory"], arrays["rule"], neurons)
    labels = cluster(correlations, p.n_clusters)
    groups = groups_to_steer(neurons, labels, np.random.default_rng([p.seed, 1]))
    result: dict = {name: {} for name in ("clusters", "synergy", "binary", "commitment")}
    tables: dict[str, list[pd.DataFrame]] = {
        name: [] for name in ("clusters", "binary", "commitment")
    }
    for d, case in cases.items():
        result["synergy"][d] = pairwise(steering, case, neurons[: p.n_pairwise], p.seed)
        for name, (found, table) in {
            "clusters": steer_groups(steering, case, neurons, groups, p.seed),
            "binary": along_alpha(steering, case, p.alphas),
            "commitment": commitment(steering, case),
        }.items():
            result[name][d] = found
            tables[name].append(table)
    result["clusters"] |= {
        "n_neurons": len(neurons),
        "n_clusters": int(labels.max(initial=-1)) + 1,
        "n_draws": N_RANDOM,
        "coactivation": by_cluster(correlations, labels),
        "layers": np.bincount(neurons[:, 0], minlength=len(steering.rho)).tolist(),
    }
    result["asymmetry"] = compare_directions(steering, cases, p.seed)
    result["performance"] = performance(
        earlier["trained"],
        intervened,
        frame,
        earlier["n_side_effect_prompts"],
        p.task.split("-")[0],
    )
    result["hybrid"] = hybrid(
        steering.model, steering.tokenizer, steering.task, frame, p.n_hybrid, p.seed
    )
    steered_after = time.monotonic()
    result["instruction"] = instruct(
        steering.model,
        steering.tokenizer,
        steering.task,
        frame,
        answered,
        {d: case.rows for d, case in cases.items()},
        TrainingParameters(**earlier["training_parameters"]),
        p,
    )
    if result["instruction"]:
        for d in DIRECTIONS:
            result["instruction"][d] |= {
                "steering": {
                    name: intervened[d][name] for name in ("success", "interval", "other", "n")
                },
                "rephrasing": _rephrasing(intervened[d]),
            }
    seconds = {
        "seconds": round(time.monotonic() - began, 1),
        "instruction_seconds": round(time.monotonic() - steered_after, 1),
    }
    return (
        result,
        {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()},
        seconds,
    )


def by_cluster(correlations: np.ndarray, labels: np.ndarray) -> dict:
    """Mean |correlation| of two neurons of one cluster, and of different clusters (None where there
    are no such pairs).
    """
    same = labels[:, None] == labels
    different, size = ~same, np.abs(correlations)
    np.fill_diagonal(same, False)
    return {
        name: float(size[mask].mean()) if mask.any() else None
        for name, mask in (("within", same), ("between", different))
    }


def _rephrasing(chosen: dict) -> dict:
    n = chosen["rephrase_n"]
    return {
        "success": chosen["rephrase_floor"] if n else None,
        "interval": list(wilson(round(chosen["rephrase_floor"] * n), n)) if n else None,
        "n": n,
    }
