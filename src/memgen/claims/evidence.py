"""Synthesis: what the runs of all tasks and seeds say: overview, headline, and what the ledger of
claims is computed from.

The ledger of claims: what is claimed, by whom, which test decides it, and what the runs say.

Every claim is one line of `CLAIMS`: a quantity, measured task by task on test keys, and a
threshold, fixed before any of these intervals was computed. On one task it is `supported` if the
whole 95 % interval lies on the right side of the threshold, `contradicted` if the whole interval
lies on the wrong side, and `inconclusive` otherwise, or where there is nothing to measure. Claims
are meant for every task on which they can be tested, so over tasks a claim is supported only if it
is on each of them, and contradicted if it is on any.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from memgen.config.analyses import SynthesisParameters
from memgen.neurons.selection import TOP_SHARE, select_top
from memgen.store.files import read_json
from memgen.store.folders import input_folders, run_folder


def read_results(p: SynthesisParameters) -> dict[str, dict[int | str, dict[str, dict]]]:
    """`results[task][seed][stage]`, and `results[task]["all"]["07_transfer"]`."""
    results: dict = {}
    for folder in input_folders("08_synthesis", p):
        task, seed = folder.parent.parent.name, folder.parent.name
        seed = seed if seed == "all" else int(seed.removeprefix("seed"))
        results.setdefault(task, {}).setdefault(seed, {})[folder.name] = read_json(
            folder / "result.json"
        )
    return results


def read_evidence(p: SynthesisParameters, results: dict) -> Evidence:
    """The tables behind the results, summed by key."""
    parts: dict[str, list[pd.DataFrame]] = {
        "behaviors": [],
        "scores": [],
        "outcomes": [],
        "transfers": [],
    }
    later: dict[str, list[float]] = {}
    for task in results:
        for seed in p.seeds:
            folder, named = (
                run_folder(p.runs, p.preset, task, seed, track=p.track),
                {
                    "task": task,
                    "seed": seed,
                },
            )
            answered = pd.read_parquet(folder / "03_pairs" / "answered.parquet")
            parts["behaviors"].append(behaviors_by_key(answered).assign(**named))
            parts["scores"].append(
                pd.read_parquet(folder / "05_prediction" / "scores.parquet").assign(**named)
            )
            outcomes = pd.read_parquet(folder / "06_intervention" / "outcomes.parquet")
            parts["outcomes"].append(
                outcomes.groupby(["direction", "kind", "key"], as_index=False)
                .success.agg(wins="sum", n="size")
                .assign(**named)
            )
            later.setdefault(task, []).append(later_share(folder / "04_differentiation"))
        cells = pd.read_parquet(
            run_folder(p.runs, p.preset, task, "all", track=p.track)
            / "07_transfer"
            / "cells.parquet"
        )
        parts["transfers"].append(transfers_by_key(cells).assign(task=task))
    return Evidence(
        results,
        **{name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()},
        later=later,
        track=p.track,
        seed=p.seed,
    )


def behaviors_by_key(answered: pd.DataFrame) -> pd.DataFrame:
    """How often each test key's own conflict prompts (no rephrasing) were answered from memory and
    by the rule: key, memory, rule, n.
    """
    asked = answered[(answered.rephrasing == 0) & (answered.split == "test")]
    return asked.groupby("key", as_index=False).behavior.agg(
        memory=lambda b: (b == "memorization").sum(),
        rule=lambda b: (b == "generalization").sum(),
        n="size",
    )


def later_share(differentiation: Path) -> float:
    """Share of the top `TOP_SHARE` of the neurons by |rho| that lies in the later half of the
    layers (a middle layer counts half).
    """
    from safetensors.numpy import load_file

    site = read_json(differentiation / "result.json")["site"]
    by_layer = select_top(
        load_file(differentiation / "arrays.safetensors")[f"rho.{site}"], TOP_SHARE
    ).sum(1)
    half, odd = divmod(len(by_layer), 2)
    return float(
        (by_layer[half + odd :].sum() + (by_layer[half] / 2 if odd else 0)) / by_layer.sum()
    )


def transfers_by_key(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of the transfer lab taken apart by key; `seed` is the model that was steered."""
    rows = [
        {
            "source": cell.source,
            "direction": cell.direction,
            "kind": cell.kind,
            "own": cell.source == cell.target,
            "shared": bool(cell.shared_base),
            "seed": cell.target if cell.kind == "retrain" else f"seed {cell.seed}",
            **counts,
        }
        for cell in cells.itertuples()
        for counts in cell.by_key
    ]
    return pd.DataFrame(
        rows,
        columns=[
            "source",
            "direction",
            "kind",
            "own",
            "shared",
            "seed",
            "key",
            "wins",
            "n",
            "control_wins",
            "control_n",
        ],
    )


@dataclass
class Evidence:
    """What the claims are computed from, over all tasks and seeds of one track.

    `results[task][seed][stage]`: every `result.json`. Tables with one row a key of a seed:
    `behaviors` (task, seed, key, memory, rule, n), `scores` (one row a prompt: task, seed, key,
    label, probe, prompt_only), `outcomes` (task, seed, direction, kind, key, wins, n) and
    `transfers` (task, seed, source, direction, kind, own, shared, key, wins, n, control_wins,
    control_n). `later`: by task, one number a seed, the share of the top neurons in the later half
    of the layers.
    """

    results: dict
    behaviors: pd.DataFrame
    scores: pd.DataFrame
    outcomes: pd.DataFrame
    transfers: pd.DataFrame
    later: dict[str, list[float]]
    track: str = "scratch"
    seed: int = 0

    @property
    def tasks(self) -> list[str]:
        return list(self.results)

    def stage(self, task: str, stage: str) -> list[dict]:
        """A stage's results, one a seed; those seeds that have it."""
        return [
            stages[stage]
            for seed, stages in self.results[task].items()
            if seed != "all" and stage in stages
        ]
