"""Steering measured in many ways: every cell is answered once, and read again in each specification.

What has to be computed (site, ranking, pairs, layers, positions) is a *family*: 16 of them, in an
orthogonal array. A family has a cell for every N, alpha and, where one layer is chosen, layer. Which of
its cells is taken, on which keys, by which measure of success, and what that is held against, are
readings of the same answers. Each cell has a twin: the same shift with its coordinates permuted, chosen
by the same rule on the same prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import cast

import numpy as np
import pandas as pd
import torch

from memgen.neurons.nmd import NeuronMaps
from memgen.neurons.selection import select_top
from memgen.stats.specifications import Counted, drawn_keys, ends, sixteen
from memgen.steering.cells import shift_vector
from memgen.steering.engine import Sweep
from memgen.steering.steering import Steering
from memgen.terms import MEMORY_CODE, OTHER_CODE, RULE_CODE, SIGN, TARGET, Positions

ROWS = 4096  # rows (cell x prompt) whose log-probabilities are held at once
PORTION = 20  # free prompts after which it is looked which cells are out
RANKINGS = ("rho", "nmd", "auc", "t")
LAYERS = ("all", "upper", "one")
METRICS = ("exact", "first token", "margin")
CONTROLS = ("rephrasing", "random")
RULES = ("kept", "max", "fixed")
COMPUTED = ("site", "ranking", "pairs", "layers", "positions")
FACTORS = (*COMPUTED, "N", "alpha", "keys", "metric", "against")


@dataclass(frozen=True)
class Ranked:
    """The maps of one kind of pairs at one site, and the scores `[L, d]` to rank neurons by."""

    maps: NeuronMaps
    scores: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Family:
    """What is computed together. `cells`: layers (a tuple of rows), N and alpha of each; `shifts`,
    `twins` `[C, L, d]` towards the rule, gentlest first.
    """

    levels: dict[str, str]
    cells: pd.DataFrame
    shifts: np.ndarray
    twins: np.ndarray


def families(
    ranked: Mapping[tuple[str, str], Ranked],
    levels: Mapping[str, tuple[str, ...]],
    grid: tuple[list[float], list[float]],
    rng: np.random.Generator,
) -> list[Family]:
    """The 16 families. `ranked`: by site and kind of pairs; `levels`: of site, pairs, positions.

    Left out are those of maps that are not there (too few pairs of that kind). `grid`: alphas, Ns.
    """
    four = {"ranking": RANKINGS, "layers": LAYERS}
    two = {name: levels[name] for name in ("site", "pairs", "positions")}
    found = []
    for one in sixteen(four, two):
        ordered = {name: one[name] for name in COMPUTED}
        if (one["site"], one["pairs"]) in ranked:
            found.append(_family(ordered, ranked[one["site"], one["pairs"]], grid, rng))
    return found


def _family(
    levels: dict[str, str],
    ranked: Ranked,
    grid: tuple[list[float], list[float]],
    rng: np.random.Generator,
) -> Family:
    maps, score = ranked.maps, ranked.scores[levels["ranking"]]
    rows, shifts = [], []
    for places, top_n in product(layer_sets(levels["layers"], len(score)), grid[1]):
        mask = np.zeros(score.shape, dtype=bool)
        mask[list(places)] = select_top(score[list(places)], top_n)
        one = shift_vector(maps.nmd, maps.rho, mask)
        for alpha in grid[0]:
            rows.append({"layers": places, "N": top_n, "alpha": alpha})
            shifts.append(alpha * one)
    stack = np.stack(shifts)
    order = np.argsort(np.linalg.norm(stack, axis=(1, 2)), kind="stable")
    dealt = rng.permutation(score.shape[1])
    stack = stack[order]
    cells = pd.DataFrame(rows).iloc[order].reset_index(drop=True)
    return Family(levels, cells, stack, stack[:, :, dealt])


def layer_sets(layers: str, n_layer: int) -> list[tuple[int, ...]]:
    """Which layers (from 0) are shifted together; several sets: one of them is chosen."""
    every = tuple(range(n_layer))
    return {"all": [every], "upper": [every[n_layer // 2 :]], "one": [(layer,) for layer in every]}[
        layers
    ]


# -- answers ---------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Answers:
    """Success `[metric][cells, prompts]` bool; `defined` `[metric][prompts]`: can it be told at all?"""

    success: dict[str, np.ndarray]
    defined: dict[str, np.ndarray]

    def counted(self, metric: str, places: np.ndarray, n_keys: int) -> Counted:
        """By key. `places` `[prompts]`: the key of each prompt, a number below `n_keys`."""
        at = np.eye(n_keys)[places] * self.defined[metric][:, None]  # [prompts, K]
        return Counted(self.success[metric] @ at, at.sum(0))


def answers(
    steering: Steering, shifts: np.ndarray, rows: pd.DataFrame, direction: str, positions: Positions
) -> Answers:
    """What (signed) shifts `[C, L, d]` do to these prompts, by every metric.

    exact: the answer is the other behaviour's, to its end; first token: it begins so; margin: of both
    first tokens that one is likelier. The last two cannot be told where both answers begin alike.
    """
    n, target = len(rows), TARGET[direction]
    codes = np.full((len(shifts), n), OTHER_CODE, dtype=np.int8)
    first, margin = codes.copy(), np.zeros((len(shifts), n))
    if not n:
        nothing = np.zeros((len(shifts), 0), dtype=bool)
        return Answers(dict.fromkeys(METRICS, nothing), dict.fromkeys(METRICS, nothing[0]))
    sweep = steering.sweep(shifts, rows, positions)
    begin = sweep.prompts.candidates[:, :, 0].cpu()  # [P, 2]
    for some in torch.arange(codes.size).split(ROWS):
        prompt = some % n
        fits, log = sweep.read(some // n, prompt)
        memory, rule = fits.unbind(-1)
        code = torch.full((len(some),), OTHER_CODE, dtype=torch.int8)
        code[rule] = RULE_CODE
        code[memory] = MEMORY_CODE
        codes.flat[some.numpy()] = code.numpy()
        written, (of_memory, of_rule) = log.argmax(-1), begin[prompt].unbind(-1)
        token = torch.full((len(some),), OTHER_CODE, dtype=torch.int8)
        token[written == of_rule] = RULE_CODE
        token[written == of_memory] = MEMORY_CODE
        first.flat[some.numpy()] = token.numpy()
        ahead = log.gather(1, of_rule[:, None]) - log.gather(1, of_memory[:, None])
        margin.flat[some.numpy()] = ahead[:, 0].double().numpy()
    differ = (begin[:, 0] != begin[:, 1]).numpy()
    return Answers(
        {
            "exact": codes == target,
            "first token": first == target,
            "margin": SIGN[direction] * margin > 0,
        },
        {"exact": np.ones(n, dtype=bool), "first token": differ, "margin": differ},
    )


def right_free(
    steering: Steering,
    shifts: np.ndarray,
    rows: pd.DataFrame,
    positions: Positions,
    at_least: float = 0.0,
) -> np.ndarray:
    """Share of free prompts that are answered by the rule under each (signed) shift, `[C]`.

    A shift that cannot reach `at_least` any more is asked no further; what is left counts as wrong.
    """
    n, right = len(rows), np.zeros(len(shifts))
    if not n:
        return np.ones(len(shifts))
    sweep: Sweep = steering.sweep(shifts, rows, positions)
    for some in torch.arange(n).split(PORTION):
        left = n - int(some[0])
        live = np.flatnonzero(right + left >= at_least * n)
        cells = torch.from_numpy(live).repeat_interleave(len(some))
        codes = sweep.codes(cells, some.repeat(len(live)))
        right[live] += (codes.reshape(len(live), len(some)) == RULE_CODE).sum(1).numpy()
    return right / n


@dataclass(frozen=True)
class Answered:
    """A family's cells in one direction: answers and free accuracy of the shifts and of their twins.

    Free accuracy of those that keep the limit; of others less than it asks for.
    """

    family: Family
    own: Answers
    twin: Answers
    free: np.ndarray  # [2, C]: of the shifts, of the twins


def answered_family(
    steering: Steering,
    family: Family,
    asked: tuple[pd.DataFrame, pd.DataFrame],
    direction: str,
    at_least: float,
) -> Answered:
    """Every cell of a family on every prompt, once. `asked`: prompts to be turned, and free ones.

    `at_least`: share of the free prompts that a cell within the limit answers right.
    """
    rows, free = asked
    positions = cast(Positions, family.levels["positions"])
    signed = SIGN[direction] * np.concatenate([family.shifts, family.twins])
    found, n = answers(steering, signed, rows, direction, positions), len(family.shifts)
    own, twin = (
        Answers({name: of[part] for name, of in found.success.items()}, found.defined)
        for part in (slice(None, n), slice(n, None))
    )
    right = right_free(steering, signed, free, positions, at_least).reshape(2, n)
    return Answered(family, own, twin, right)


# -- readings --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Deal:
    """One way to deal keys: masks `[K]` of those that choose and those that report."""

    name: str
    choose: np.ndarray
    report: np.ndarray


def deals(own: np.ndarray, n: int, rng: np.random.Generator) -> list[Deal]:
    """The book's own deal of the keys, and n - 1 others that choose on as many of them. `own`: mask."""
    found = [Deal("as the book", own, ~own)]
    for number in range(1, n):
        dealt = rng.permutation(own)
        found.append(Deal(f"deal {number + 1}", dealt, ~dealt))
    return found


@dataclass(frozen=True)
class Rules:
    """How a cell is taken: the fixed alpha, the share of free prompts to be kept within, and the Ns."""

    fixed_alpha: float
    free_before: float
    limit: float
    top_ns: list[float]

    @property
    def at_least(self) -> float:
        """The smallest share of free prompts within the limit."""
        return self.free_before - self.limit - 1e-9

    @property
    def n_rules(self) -> list[str]:
        return ["chosen", *(f"{share:g}" for share in self.top_ns)]

    def candidates(
        self, cells: pd.DataFrame, free: np.ndarray, n_rule: str, rule: str
    ) -> np.ndarray:
        """Which cells of a family may be taken, mask `[C]`."""
        may: np.ndarray = np.ones(len(cells), dtype=bool)
        if n_rule != "chosen":
            may &= (cells.N == float(n_rule)).to_numpy()
        if rule == "fixed":
            may &= (cells.alpha == self.fixed_alpha).to_numpy()
        elif rule == "kept":
            may &= free >= self.at_least
        return may


def taken(counted: Counted, may: np.ndarray, choose: np.ndarray) -> int | None:
    """The cell with most successes on the keys that choose; the gentlest of equals. None: none may."""
    if not may.any():
        return None
    wins = np.where(may, counted.wins[:, choose].sum(1), -1)
    return int(wins.argmax())


def read_curve(
    found: list[Answered],
    floor: Answers,
    places: tuple[np.ndarray, np.ndarray],
    chosen: tuple[list[Deal], Rules],
    drawing: tuple[int, int],
) -> pd.DataFrame:
    """All specifications of one direction: factors, success, control, effect, low, high.

    floor: what a rephrasing does by itself, one "cell". `places`: the key of each prompt and of each
    rephrasing, as numbers. `drawing`: resamples and seed. A reading in which no cell may be taken
    shifts nothing, so nothing turns, and no twin of it either.
    """
    every, rules = chosen
    n_keys, parts = len(every[0].choose), []
    for deal, metric in product(every, METRICS):
        told = int(deal.report.sum())
        weights = drawn_keys(told, *drawing)
        about, own, twin, n = [], [], [], np.zeros(n_keys)
        for one in found:
            both = [side.counted(metric, places[0], n_keys) for side in (one.own, one.twin)]
            n = both[0].n
            for n_rule, rule in product(rules.n_rules, RULES):
                levels = {"N": n_rule, "alpha": rule, "keys": deal.name, "metric": metric}
                about.append(one.family.levels | levels)
                for counted, free, side in zip(both, one.free, (own, twin)):
                    may = rules.candidates(one.family.cells, free, n_rule, rule)
                    cell = taken(counted, may, deal.choose)
                    wins = np.zeros(n_keys) if cell is None else counted.wins[cell]
                    side.append(wins[deal.report])
        steered, random = (
            Counted(np.reshape(side, (len(about), -1)), n[deal.report]).rates(weights)
            for side in (own, twin)
        )
        still = floor.counted(metric, places[1], n_keys)
        rephrased = Counted(still.wins[:, deal.report], still.n[deal.report]).rates(weights)
        for name, control in (("rephrasing", rephrased), ("random", random)):
            control = np.broadcast_to(control, steered.shape)
            table = pd.DataFrame(about).assign(against=name, success=steered[0], control=control[0])
            parts.append(pd.concat([table, ends(steered - control, told)], axis=1))
    whole = pd.concat(parts, ignore_index=True)
    return whole[[*FACTORS, "success", "control", "effect", "low", "high"]]
