"""Transfer: the neurons and values of one model, applied to its retrains and to other tasks.

Two models can only share neurons if they share a basis. Retrains of one base (same start, another
order of the data) do; models trained from another random start do not, and are the negative
control. The same holds between tasks: the variants of one task start from one base; different tasks
do not.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from memgen.config.analyses import TransferParameters
from memgen.config.training import DatasetParameters
from memgen.errors import StudyError
from memgen.models.generate import tokenize_prompts
from memgen.models.hooks import capture
from memgen.models.load import load_trained
from memgen.neurons.nmd import correlation, nmd
from memgen.neurons.pairs import answer_conflicts, flips
from memgen.neurons.selection import TOP_SHARE, select_top
from memgen.stats.intervals import wilson
from memgen.steering.cells import Cell, cell_shift, random_shift
from memgen.steering.steering import Steering, steering_prompts, summary
from memgen.store.files import read_json
from memgen.store.folders import run_folder
from memgen.store.reader import FinishedStage
from memgen.tasks import make_task
from memgen.terms import DIRECTIONS, SIGN, TARGET

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


def model_names(p: TransferParameters) -> list[tuple[str, int, int]]:
    """`(name, seed, retrain)` of every model of this task: the seeds, then the retrains of the
    first seed.

    On a shared base the seeds are retrains of each other, and there are no others.
    """
    named = [(f"seed {seed}", seed, 0) for seed in p.seeds]
    if p.track != "scratch":
        return named
    return named + [
        (f"seed {p.seeds[0]}, retrain {r}", p.seeds[0], r) for r in range(1, p.n_retrains + 1)
    ]


def _folder(p: TransferParameters, task: str, seed: int, retrain: int = 0) -> Path:
    return run_folder(p.runs, p.preset, task, seed, retrain, p.track)


def read_direction(folder: Path) -> dict:
    """What a run would hand over: `nmd`, `rho`, its site and, per direction, its chosen cell;
    `chosen_on`: the keys that any of it was chosen on.
    """
    from safetensors.numpy import load_file

    steering = read_json(folder / "06_intervention" / "result.json")
    arrays = load_file(folder / "04_differentiation" / "arrays.safetensors")
    site = steering["site"]
    return {
        "nmd": arrays[f"nmd.{site}"],
        "rho": arrays[f"rho.{site}"],
        "site": site,
        "chosen_on": chosen_on(pd.read_parquet(folder / "03_pairs" / "answered.parquet")),
        "cells": {d: Cell(steering[d]["top_n"], steering[d]["alpha"]) for d in DIRECTIONS},
    }


def chosen_on(answered: pd.DataFrame) -> frozenset[str]:
    """The keys that neurons, values or strengths of a run were chosen on."""
    return frozenset(answered.key[answered.split != "test"])


def retrain_direction(
    model, tokenizer, answered: pd.DataFrame, site: str, cells: dict[str, Cell]
) -> dict:
    """A retrain's own NMD and rho from the flips of its train keys; N and alpha are its parent's,
    so nothing is tuned on it.
    """
    pairs = flips(answered)
    pairs = pairs[pairs.split == "train"]
    if pairs.empty:
        raise StudyError(
            "this retrain has no flip pair on train keys; raise n_rephrasings or n_conflict_per_key"
        )
    rows = answered.reset_index(drop=True)
    states = [
        capture(
            model, *tokenize_prompts(tokenizer, list(rows.prompt[pairs[side]])), site=site
        ).numpy()
        for side in ("memory", "rule")
    ]
    labels = np.repeat([0, 1], len(pairs))
    return {
        "nmd": nmd(*states),
        "rho": correlation(np.concatenate(states), labels),
        "site": site,
        "chosen_on": chosen_on(answered),
        "cells": cells,
    }


def apply_sources(
    steering: Steering,
    sources: dict[str, dict],
    answered: pd.DataFrame,
    n_prompts: int,
    n_draws: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Every source's chosen shift on the target's test prompts, both directions, with its random
    control.

    One row a source and direction: success, interval, other, n, `control` (mean of the draws) with
    its interval, and `by_key`: the counts behind both, key by key. All sources and controls of a
    direction are one batch of cells. A test key of the target that the source was chosen on does
    not count.
    """
    table = []
    for direction in DIRECTIONS:
        rows = steering_prompts(answered, "test", direction, n_prompts)
        if rows.empty:
            continue
        references = [
            cell_shift(s["cells"][direction], s["nmd"], s["rho"]) for s in sources.values()
        ]
        stack = [
            shift
            for reference in references
            for shift in [reference, *(random_shift(reference, rng) for _ in range(n_draws))]
        ]
        codes = steering.outcomes(SIGN[direction] * np.stack(stack), rows).reshape(
            len(sources), 1 + n_draws, -1
        )
        for (name, source), outcome in zip(sources.items(), codes):
            counted = ~rows.key.isin(source["chosen_on"]).to_numpy()
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
    """`wins` [1 + draws, prompts], the source's own shift first: successes and prompts of each key,
    and the same of the control's draws.
    """
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


def overlaps(sources: dict[str, dict], share: float = TOP_SHARE) -> list[list[float]]:
    """Share of the top neurons by |rho| that two models have in common, for every pair; by chance
    it is `share` itself.
    """
    tops = np.stack([select_top(s["rho"], share).ravel() for s in sources.values()]).astype(float)
    return (tops @ tops.T / tops.sum(1)).tolist()


def matrix(
    table: pd.DataFrame, rows: list[str], columns: list[str], direction: str, value: str
) -> list[list[float | None]]:
    """`table` (columns source, target, direction, ...) as a source x target matrix; None where
    nothing was run.
    """
    chosen = table[table.direction == direction].set_index(["source", "target"])[value]
    return [
        [float(chosen[(r, c)]) if (r, c) in chosen.index else None for c in columns] for r in rows
    ]


def pooled(table: pd.DataFrame) -> pd.DataFrame:
    """Sum the prompts of rows with the same source, target and direction (over seeds); rates and
    intervals anew.
    """
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


def study(p: TransferParameters) -> tuple[dict, pd.DataFrame]:
    """Every source on every target: the stage's result, and its cells as one table (kind `retrain`
    or `task`).
    """
    models, data = {}, {}
    for name, seed, retrain in model_names(p):
        own = _folder(p, p.task, seed)
        models[name] = _Model(p, name, seed, retrain, own)
        data[name] = models[name].direction
    cells, overlap = [], []
    for name, target in models.items():
        rng = np.random.default_rng([p.seed, target.seed, target.retrain])
        found = apply_sources(
            target.steering, data, target.answered, p.n_prompts, p.n_control_draws, rng
        )
        cells.append(
            found.assign(
                target=name,
                kind="retrain",
                seed=target.seed,
                shared_base=[models[s].base == target.base for s in found.source],
            )
        )
        if target.retrain:
            continue
        others = {task: read_direction(_folder(p, task, target.seed)) for task in p.tasks}
        fitting = {
            task: one
            for task, one in others.items()
            if one["nmd"].shape == target.direction["nmd"].shape
        }
        overlap += [dict(zip(fitting, overlaps({"": target.direction, **fitting})[0][1:]))]
        found = apply_sources(
            target.steering, fitting, target.answered, p.n_prompts, p.n_control_draws, rng
        )
        bases = {task: _base(_folder(p, task, target.seed)) for task in fitting}
        cells.append(
            found.assign(
                target=p.task,
                kind="task",
                seed=target.seed,
                shared_base=[bases[s] == target.base for s in found.source],
            )
        )
    table = pd.concat(cells, ignore_index=True)
    names, tasks = (
        list(models),
        [task for task in p.tasks if task in set(table[table.kind == "task"].source)],
    )
    between, across = table[table.kind == "retrain"], pooled(table[table.kind == "task"])
    shares = table[table.kind == "task"].drop_duplicates("source").set_index("source").shared_base
    result = {
        "retrain": (
            _matrices(between, names, names)
            | {
                "base": [models[name].base for name in names],
                "overlap": overlaps(data),
                "overlap_by_chance": TOP_SHARE,
            }
        ),
        "task": (
            _matrices(across, tasks, [p.task])
            | {
                "shares_base": [bool(shares[task]) for task in tasks],
                "overlap": _task_overlap(overlap, tasks),
                "overlap_by_chance": TOP_SHARE,
            }
        ),
    }
    return result, table


def _task_overlap(found: list[dict[str, float]], tasks: list[str]) -> list[list[float]]:
    """Mean over the seeds, one row a source."""
    return [
        [float(np.mean([by_source[task] for by_source in found if task in by_source]))]
        for task in tasks
    ]


def _matrices(table: pd.DataFrame, sources: list[str], targets: list[str]) -> dict:
    return {
        "sources": sources,
        "targets": targets,
        **{d: matrix(table, sources, targets, d, "success") for d in DIRECTIONS},
        "control": {d: matrix(table, sources, targets, d, "control") for d in DIRECTIONS},
    }


def _base(folder: Path) -> str:
    """What identifies the basis of a run: its base's weights, or, from scratch, the run itself."""
    return read_json(folder / "02_training" / "result.json")["base"] or str(folder.name)


class _Model:
    """One model of this task as a source and a target: its direction, its answered conflict
    prompts, and how to steer it.
    """

    def __init__(self, p: TransferParameters, name: str, seed: int, retrain: int, own: Path):
        self.name, self.seed, self.retrain = name, seed, retrain
        folder = _folder(p, p.task, seed, retrain)
        self.base = _base(folder)
        model, tokenizer = load_trained(FinishedStage(folder / "02_training"))
        d = DatasetParameters(
            **read_json(own / "01_dataset_design" / "manifest.json")["parameters"]
        )
        task = make_task(p.task, d.n_keys, d.data_seed).fit(
            tokenizer, pd.read_parquet(own / "01_dataset_design" / "instances.parquet")
        )
        parent = read_direction(own)
        if retrain:
            n_rephrasings = read_json(own / "03_pairs" / "manifest.json")["parameters"][
                "n_rephrasings"
            ]
            frame = pd.read_parquet(own / "01_dataset_design" / "instances.parquet")
            self.answered = answer_conflicts(model, tokenizer, task, frame, n_rephrasings)
            self.direction = retrain_direction(
                model, tokenizer, self.answered, parent["site"], parent["cells"]
            )
        else:
            self.answered = pd.read_parquet(own / "03_pairs" / "answered.parquet")
            self.direction = parent
        self.steering = Steering(
            model, tokenizer, task, parent["site"], self.direction["nmd"], self.direction["rho"]
        )
