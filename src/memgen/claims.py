"""Synthesis: what the runs of all tasks and seeds say: overview, headline, and what the ledger of
claims is computed from.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from .artifacts import read_json
from .config import SynthesisParameters
from .differentiation import CONTROLS, TOP_SHARE, select_top
from .intervals import pooled
from .ledger import Evidence
from .paths import run_folder

PER_SEED = (
    "01_dataset_design",
    "02_training",
    "03_pairs",
    "04_differentiation",
    "05_prediction",
    "06_intervention",
)
EVIDENCE = ("09_confounds", "10_ablations", "11_open_points")  # on the track from scratch
NAMES = {"m2g": "memorization to generalization", "g2m": "generalization to memorization"}


def input_folders(p: SynthesisParameters) -> list[Path]:
    stages = (*PER_SEED, *(EVIDENCE if p.track == "scratch" else ()))
    folders = [
        run_folder(p.runs, p.preset, task, seed, track=p.track) / stage
        for task in p.tasks
        for seed in p.seeds
        for stage in stages
    ]
    return folders + [
        run_folder(p.runs, p.preset, task, "all", track=p.track) / "07_transfer" for task in p.tasks
    ]


def read_results(p: SynthesisParameters) -> dict[str, dict[int | str, dict[str, dict]]]:
    """`results[task][seed][stage]`, and `results[task]["all"]["07_transfer"]`."""
    results: dict = {}
    for folder in input_folders(p):
        task, seed = folder.parent.parent.name, folder.parent.name
        seed = seed if seed == "all" else int(seed.removeprefix("seed"))
        results.setdefault(task, {}).setdefault(seed, {})[folder.name] = read_json(
            folder / "result.json"
        )
    return results


def overview(results: dict) -> pd.DataFrame:
    """One row a task and seed: the gate on test keys, best AUC, and both directions with their
    strongest control.
    """
    rows = []
    for task, by_seed in results.items():
        for seed, stages in by_seed.items():
            if seed == "all":
                continue
            training, prediction = stages["02_training"], stages["05_prediction"]
            number = lambda value: (
                np.nan if value is None else value
            )  # undefined where only one behaviour occurred
            row = {
                "task": task,
                "seed": seed,
                "memory": training["memory_rate"],
                "rule": training["rule_rate"],
                "other": training["other_rate"],
                "free": training["free_accuracy"],
                "auc": number(prediction["best_auc"]),
                "auc_low": number(prediction["best_auc_interval"][0]),
                "auc_layer": prediction["best_layer"],
                "prompt_only_auc": number(prediction["prompt_only_auc"]),
            }
            for direction in NAMES:
                found = stages["06_intervention"][direction]
                control = max(found["controls"], key=lambda name: found["controls"][name])
                row |= {
                    f"{direction}": found["success"],
                    f"{direction}_n": found["n"],
                    f"{direction}_alpha": found["alpha"],
                    f"{direction}_top_n": found["top_n"],
                    f"{direction}_control": found["controls"][control],
                    f"{direction}_control_name": control,
                    f"{direction}_floor": found["rephrase_floor"],
                }
            rows.append(row)
    return pd.DataFrame(rows)


def pooled_steering(results: dict) -> pd.DataFrame:
    """One row a task and direction, prompts pooled over seeds: success and every control, each with
    n and Wilson interval.
    """
    rows = []
    for task, by_seed in results.items():
        for direction in NAMES:
            found = [
                stages["06_intervention"][direction]
                for seed, stages in by_seed.items()
                if seed != "all"
            ]
            rows.append(
                {
                    "task": task,
                    "direction": direction,
                    "kind": "steered",
                    **_pool([(f["success"], f["n"]) for f in found]),
                }
            )
            for name in CONTROLS:
                present = [
                    (f["controls"][name], f["control_n"][name])
                    for f in found
                    if name in f["controls"]
                ]
                if present:
                    rows.append(
                        {"task": task, "direction": direction, "kind": name, **_pool(present)}
                    )
            rows.append(
                {
                    "task": task,
                    "direction": direction,
                    "kind": "rephrasing",
                    **_pool([(f["rephrase_floor"], f["rephrase_n"]) for f in found]),
                }
            )
    return pd.DataFrame(rows)


def _pool(rates: list[tuple[float, int]]) -> dict:
    found = pooled(rates)
    return {
        "rate": found["success"],
        "n": found["n"],
        "low": found["low"],
        "high": found["high"],
        "worst": min(r for r, _ in rates),
        "best": max(r for r, _ in rates),
    }


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


def describe(steering: pd.DataFrame, auc: pd.Series) -> str:
    """The main figure in words."""
    parts = []
    for task, rows in steering.groupby("task", sort=False):
        said = []
        for direction, name in NAMES.items():
            one = rows[rows.direction == direction].set_index("kind").rate
            said.append(
                f"{name} {one['steered']:.0%} (strongest control"
                f" {one.drop(['steered', 'rephrasing']).max():.0%})"
            )
        parts.append(f"{task}: {', '.join(said)}, AUC {auc[task]:.2f}")
    return (
        "Bars: steering success on test keys by task and direction, beside the strongest control,"
        " and the AUC of the best probe. " + "; ".join(parts) + "."
    )


def headline(results: dict) -> tuple[str, dict]:
    """The finding in one paragraph and its number, built from the numbers alone."""
    steering = pooled_steering(results)
    auc = overview(results).groupby("task", sort=False).auc.mean()
    first = "arithmetic-tagged" if "arithmetic-tagged" in results else next(iter(results))
    rows = steering[(steering.task == first) & (steering.direction == "m2g")].set_index("kind")
    controls = rows.loc[[k for k in rows.index if k not in ("steered", "rephrasing")]]
    number = {
        "task": first,
        "direction": "m2g",
        **{k: rows.loc["steered", k] for k in ("rate", "low", "high", "n")},
        "control": float(controls.rate.max()),
        "control_name": str(controls.rate.idxmax()),
    }
    text = (
        f"On {first}, shifting a few hidden coordinates turns {number['rate']:.0%} of the answers"
        " that came from memory into the rule's answer (strongest control:"
        f" {number['control']:.0%}), and a probe tells which of the two will come before the first"
        f" answer token (AUC {auc[first]:.2f})."
    )
    twin = first.replace("tagged", "matched")
    if twin != first and twin in results:
        other = steering[
            (steering.task == twin) & (steering.direction == "m2g") & (steering.kind == "steered")
        ].iloc[0]
        rest = steering[
            (steering.task == twin) & (steering.direction == "m2g") & steering.kind.isin(CONTROLS)
        ]
        text += (
            f" Where both answers are written alike ({twin}) it is {other.rate:.0%} (strongest"
            f" control {rest.rate.max():.0%}), AUC {auc[twin]:.2f}"
            + (
                ": much of the effect is the format of the answer."
                if number["low"] > other.high
                else "."
            )
        )
    return text, {k: v.item() if hasattr(v, "item") else v for k, v in number.items()}
