"""Transfer: the neurons and values of one model, applied to its retrains and to other tasks.

Two models can only share neurons if they share a basis: retrains of one base (another order of the
data) and the variants of one task do; models from another random start, the negative control, and
different tasks do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from memgen.config.analyses import TransferParameters
from memgen.errors import InapplicableError
from memgen.models.generate import tokenize_prompts
from memgen.models.hooks import capture
from memgen.models.load import load_trained
from memgen.neurons.nmd import NeuronMaps
from memgen.neurons.pairs import answer_conflicts, flips
from memgen.neurons.selection import TOP_SHARE, select_top
from memgen.stats.intervals import wilson
from memgen.steering.cells import Cell, cell_shift, random_shift
from memgen.steering.steering import Steering, steering_prompts, summary
from memgen.store.folders import run_folder
from memgen.store.reader import FinishedRun
from memgen.terms import DIRECTIONS, SIGN, TARGET, Change

APPLIED = [
    "source",
    "direction",
    "success",
    "interval",
    "other",
    "n",
    "control",
    "control_interval",
    "by_key",
]
POOLED = ["source", "target", "direction", "n", "success", "interval", "control"]


@dataclass(frozen=True)
class Source:
    """What a model hands over: maps (train keys), cells (validation keys), all keys behind them."""

    maps: NeuronMaps
    cells: dict[str, Cell]
    chosen_on: frozenset[str]

    @classmethod
    def of(cls, run: FinishedRun) -> Source:
        """Of a run that labs 04 and 06 have been through."""
        steered = run["06_intervention"].result
        arrays = run["04_differentiation"].arrays("arrays")
        cells = {d: Cell(steered[d]["top_n"], steered[d]["alpha"]) for d in DIRECTIONS}
        return cls(NeuronMaps.of(arrays, steered["site"]), cells, chosen_on(run.answered()))

    def shift(self, direction: str) -> np.ndarray:
        """Its chosen shift `[n_layer, d_model]`, towards generalization."""
        return cell_shift(self.cells[direction], self.maps.nmd, self.maps.rho)


def chosen_on(answered: pd.DataFrame) -> frozenset[str]:
    """The keys that neurons, values or strengths of a run were chosen on."""
    return frozenset(answered.key[answered.split != "test"])


def retrain_source(
    model, tokenizer, answered: pd.DataFrame, parent: Source, change: Change
) -> Source:
    """A retrain's NMD and rho from its train keys' flips; N and alpha its parent's: no tuning.

    `change`: the kind of pairs that the parent's maps are made of.
    """
    pairs = flips(answered, change)
    pairs = pairs[pairs.split == "train"]
    if pairs.empty:
        raise InapplicableError(
            "this retrain has no flip pair on train keys; raise n_rephrasings or n_conflict_per_key"
        )
    site, prompts = parent.maps.site, answered.reset_index(drop=True).prompt
    memory, rule = (
        capture(model, *tokenize_prompts(tokenizer, list(prompts[pairs[side]])), site=site).numpy()
        for side in ("memory", "rule")
    )
    return Source(NeuronMaps.between(site, memory, rule), parent.cells, chosen_on(answered))


@dataclass(frozen=True)
class TransferModel:
    """A model as source and target; `base`: its basis, `answered`: conflict prompts, answers."""

    name: str
    seed: int
    retrain: int
    base: str
    answered: pd.DataFrame
    source: Source
    steering: Steering

    @classmethod
    def of(cls, p: TransferParameters, name: str, seed: int, retrain: int = 0) -> TransferModel:
        parent, run = _run(p, p.task, seed), _run(p, p.task, seed, retrain)
        source, answered = Source.of(parent), parent.answered()
        model, tokenizer = load_trained(run["02_training"])
        task = run.task(tokenizer)
        if retrain:
            n_rephrasings = parent["03_pairs"].parameters.n_rephrasings
            answered = answer_conflicts(model, tokenizer, task, run.dataset(), n_rephrasings)
            change = parent["04_differentiation"].parameters.pairs
            source = retrain_source(model, tokenizer, answered, source, change)
        positions = parent["06_intervention"].result["positions"]  # its cells were chosen there
        steering = Steering(model, tokenizer, task, source.maps, positions)
        return cls(name, seed, retrain, basis_of(run), answered, source, steering)


def _run(p: TransferParameters, task: str, seed: int, retrain: int = 0) -> FinishedRun:
    return FinishedRun(run_folder(p.runs, p.preset, task, seed, retrain, p.track))


def basis_of(run: FinishedRun) -> str:
    """What identifies the basis of a run: its base's weights, or, from scratch, the run itself."""
    own = f"{run.folder.parent.name}/{run.folder.name}"  # of no other task either
    return run["02_training"].result["base"] or own


def model_names(p: TransferParameters) -> list[tuple[str, int, int]]:
    """`(name, seed, retrain)` of this task's models: the seeds, then retrains of the first seed.

    On a shared base the seeds are retrains of each other, and there are no others.
    """
    named, first = [(f"seed {seed}", seed, 0) for seed in p.seeds], p.seeds[0]
    if p.track == "scratch":
        named += [(f"seed {first}, retrain {r}", first, r) for r in range(1, p.n_retrains + 1)]
    return [
        which
        for which in named
        if _run(p, p.task, which[1]).complete
        and not _run(p, p.task, *which[1:])["02_training"].result["miss"]
    ]


def read_models(p: TransferParameters) -> dict[str, TransferModel]:
    """Every model of this task, by name. Errors: `InapplicableError` if no run of it is complete."""
    models = {}
    for name, seed, retrain in model_names(p):
        try:
            models[name] = TransferModel.of(p, name, seed, retrain)
        except InapplicableError as error:  # a retrain without pairs
            print(f"{name} is left out: {error}")
    if not models:
        raise InapplicableError(f"task {p.task} has no run whose model could be asked")
    return models


def apply_sources(
    steering: Steering,
    sources: dict[str, Source],
    answered: pd.DataFrame,
    n_prompts: int,
    n_draws: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Every source's chosen shift on the target's test prompts, with its random control.

    One row per source and direction: success, interval, other, n, `control` (mean of the draws)
    with its interval, and `by_key`: the counts behind both, per key. All cells of a direction are
    one batch. A test key of the target that the source was chosen on does not count.
    """
    table = []
    for direction in DIRECTIONS:
        rows = steering_prompts(answered, "test", direction, n_prompts)
        if rows.empty:
            continue
        stack = [
            shift
            for reference in [source.shift(direction) for source in sources.values()]
            for shift in [reference, *(random_shift(reference, rng) for _ in range(n_draws))]
        ]
        codes = steering.outcomes(SIGN[direction] * np.stack(stack), rows).reshape(
            len(sources), 1 + n_draws, -1
        )
        for (name, source), outcome in zip(sources.items(), codes):
            counted = ~rows.key.isin(source.chosen_on).to_numpy()
            outcome = outcome[:, counted]
            if not outcome.size:
                continue
            random = summary(outcome[1:], direction)
            table.append(
                {
                    "source": name,
                    "direction": direction,
                    **summary(outcome[0], direction),
                    "control": random["success"],
                    "control_interval": random["interval"],
                    "by_key": _by_key(outcome == TARGET[direction], rows.key[counted]),
                }
            )
    return pd.DataFrame(table, columns=APPLIED)  # the columns also where there was nothing to steer


def _by_key(wins: np.ndarray, keys: pd.Series) -> list[dict]:
    """Successes and prompts per key: of `wins` [1 + draws, prompts] the first row, the draws."""
    counts = pd.DataFrame(
        {
            "key": keys.to_numpy(),
            "wins": wins[0].astype(int),
            "n": 1,
            "control_wins": wins[1:].sum(0),
            "control_n": len(wins) - 1,
        }
    )
    return counts.groupby("key", as_index=False).sum().to_dict("records")


def between_models(
    target: TransferModel,
    models: dict[str, TransferModel],
    p: TransferParameters,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """`apply_sources` of every model of this task on one's test prompts, and who the target is."""
    sources = {name: model.source for name, model in models.items()}
    found = apply_sources(
        target.steering, sources, target.answered, p.n_prompts, p.n_control_draws, rng
    )
    shared = [models[name].base == target.base for name in found.source]
    return found.assign(target=target.name, kind="retrain", seed=target.seed, shared_base=shared)


def from_tasks(
    target: TransferModel, p: TransferParameters, rng: np.random.Generator
) -> tuple[pd.DataFrame, dict[str, tuple[float, float]]]:
    """The same for every task's model of this seed and shape; share of top neurons in common.

    The share stands beside that of `overlaps_by_layer`, by source.
    """
    runs = {task: _run(p, task, target.seed) for task in p.tasks}
    runs = {task: run for task, run in runs.items() if run.complete}
    others = {task: Source.of(run) for task, run in runs.items()}
    shape = target.source.maps.nmd.shape
    fitting = {task: one for task, one in others.items() if one.maps.nmd.shape == shape}
    rhos = [source.maps.rho for source in (target.source, *fitting.values())]
    shares = dict(zip(fitting, zip(overlaps(rhos)[0][1:], overlaps_by_layer(rhos)[0][1:])))
    found = apply_sources(
        target.steering, fitting, target.answered, p.n_prompts, p.n_control_draws, rng
    )
    shared = [basis_of(runs[task]) == target.base for task in found.source]
    found = found.assign(target=p.task, kind="task", seed=target.seed, shared_base=shared)
    return found, shares


def overlaps(rhos: list[np.ndarray], share: float = TOP_SHARE) -> list[list[float]]:
    """Share of top neurons by |rho| that each two models have in common; by chance `share`."""
    tops = np.stack([select_top(rho, share).ravel() for rho in rhos]).astype(float)
    return (tops @ tops.T / tops.sum(1)).tolist()


def overlaps_by_layer(rhos: list[np.ndarray], share: float = TOP_SHARE) -> list[list[float]]:
    """The same by chance alone, if each model keeps its number of top neurons in every layer."""
    counts = np.stack([select_top(rho, share).sum(1) for rho in rhos]).astype(float)
    width = np.shape(rhos[0])[1]
    return (counts @ counts.T / width / counts.sum(1)).tolist()


def matrix(
    table: pd.DataFrame, rows: list[str], columns: list[str], direction: str, value: str
) -> list[list[float | None]]:
    """`table` as a source x target matrix of `value`; None where nothing was run."""
    chosen = table[table.direction == direction].set_index(["source", "target"])[value]
    return [
        [float(chosen[(r, c)]) if (r, c) in chosen.index else None for c in columns] for r in rows
    ]


def pooled(table: pd.DataFrame) -> pd.DataFrame:
    """Sum prompts over seeds, by source, target and direction; rates and intervals anew."""
    out = []
    for (source, target, direction), rows in table.groupby(
        ["source", "target", "direction"], sort=False
    ):
        n = int(rows.n.sum())
        wins = int(round((rows.success * rows.n).sum()))
        out.append(
            {
                "source": source,
                "target": target,
                "direction": direction,
                "n": n,
                "success": wins / n,
                "interval": list(wilson(wins, n)),
                "control": float((rows.control * rows.n).sum() / n),
            }
        )
    return pd.DataFrame(out, columns=POOLED)


def transfer_matrices(
    models: dict[str, TransferModel],
    table: pd.DataFrame,
    common: list[dict[str, tuple[float, float]]],
    p: TransferParameters,
) -> dict:
    """Source x target matrices, `retrain` and `task`; `common`: `from_tasks`' shares, by seed."""
    between, of_tasks = (table[table.kind == kind] for kind in ("retrain", "task"))
    names = list(models)
    shares = of_tasks.drop_duplicates("source").set_index("source").shared_base
    tasks = [task for task in p.tasks if task in shares.index]
    rhos = [model.source.maps.rho for model in models.values()]
    in_common = _mean_shares(common, tasks)
    return {
        "retrain": (
            _matrices(between, names, names)
            | {
                "base": [model.base for model in models.values()],
                "overlap": overlaps(rhos),
                "overlap_by_layer": overlaps_by_layer(rhos),
                "overlap_by_chance": TOP_SHARE,
            }
        ),
        "task": (
            _matrices(pooled(of_tasks), tasks, [p.task])
            | {
                "shares_base": [bool(shares[task]) for task in tasks],
                "overlap": [[share] for share, _ in in_common],
                "overlap_by_layer": [[by_layer] for _, by_layer in in_common],
                "overlap_by_chance": TOP_SHARE,
            }
        ),
    }


def _mean_shares(
    found: list[dict[str, tuple[float, float]]], tasks: list[str]
) -> list[tuple[float, float]]:
    """By source the mean over the seeds of both shares of `from_tasks`."""
    return [
        tuple(np.mean([by_source[task] for by_source in found if task in by_source], 0).tolist())
        for task in tasks
    ]


def _matrices(table: pd.DataFrame, sources: list[str], targets: list[str]) -> dict:
    return {
        "sources": sources,
        "targets": targets,
        **{d: matrix(table, sources, targets, d, "success") for d in DIRECTIONS},
        "control": {d: matrix(table, sources, targets, d, "control") for d in DIRECTIONS},
    }


def answers(cells: pd.DataFrame) -> list[str]:
    """What steers whom, a line per direction, from the stage's table."""
    cells, lines = cells[cells.kind == "retrain"], []
    for direction in DIRECTIONS:
        rows = cells[cells.direction == direction]
        own, others = rows[rows.source == rows.target], rows[rows.source != rows.target]
        parts = [f"{direction}: own neurons {own.success.mean():.0%}"]
        for shared, name in ((True, "same base"), (False, "another random start")):
            part = others[others.shared_base == shared]
            if len(part):
                parts.append(
                    f"{name} {part.success.mean():.0%} (random neurons {part.control.mean():.0%})"
                )
        lines.append("; ".join(parts))
    return lines
