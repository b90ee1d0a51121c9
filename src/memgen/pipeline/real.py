"""What the book keeps of a pretrained model that was asked as it is: labs 01 to 06 of track given.

    memgen real collect --seeds 26 27 28  write data/reference/real/<model>.json from finished runs

The runs are those of `make real`; runs of `make real PRESET=real-relations`, in which whole relations are
held back, stand beside them where there are any. A seed draws another data set of facts for the same model,
so seeds differ in facts, wordings and splits and not in the model.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from memgen.config.base import ROOT
from memgen.errors import ArtifactError
from memgen.models.packaged import DEFAULT, PACKAGED, PLACE
from memgen.pipeline.reference import machine
from memgen.stages import LABS, TRAINING, with_their_inputs
from memgen.stats.intervals import interval, number, weighted_mean
from memgen.store.files import write_json
from memgen.store.folders import run_folder
from memgen.store.left_out import reason_in
from memgen.store.reader import FinishedRun
from memgen.terms import BEHAVIORS, DIRECTIONS, GENERALIZATION, GIVEN_TRACK, MEMORIZATION

TARGET = ROOT / "data" / "reference" / "real"
#: none of them drew the data set on which the wordings were settled (0)
SEEDS = (26, 27, 28)
TASK, PRESET = "knowledge", "real"
#: what the preset is called that holds whole relations back: `real-relations`
RELATIONS = "-relations"
CELLS = "06_intervention"
STAGES = tuple(with_their_inputs([CELLS, "05_prediction"]))
#: of a forecast of the behaviour: what the chapter names beside the probe
_FORECASTS = ("prompt_only", "role_features")
_COST = ("free", "keyed")


def collect(runs: str, preset: str, task: str, seeds: list[int]) -> dict[str, Any]:
    """All that the chapter shows of one model; `seeds`: a list, one entry for each.

    Errors: `ArtifactError` names every run that is not finished, runs of more than one model, or runs that
    chose among different cells.
    """
    found = {
        seed: FinishedRun(run_folder(runs, preset, task, seed, track=GIVEN_TRACK)) for seed in seeds
    }
    _refuse_unfinished(found.values())
    held = _of_relations(found, runs, preset, task)
    first = next(iter(found.values()))
    digests = {seed: run[TRAINING].result["base"] for seed, run in found.items()}
    digests |= {
        f"{seed}, relations": run[TRAINING].result["base"]
        for seed, run in held.items()
        if run[TRAINING].exists
    }
    if len(set(digests.values())) > 1:
        said = ", ".join(f"seed {seed}: {digest[:12]}" for seed, digest in digests.items())
        raise ArtifactError(
            f"the runs in {first.folder.parent} are of models with different weights ({said}); run all"
            " seeds with one base_model"
        )
    return {
        "model": _model(first),
        "task": task,
        "tried": tried([*found.values(), *(run for run in held.values() if run[CELLS].exists)]),
        "example": _example(first.answered()),
        "seeds": [{"seed": seed, **_of_seed(run, seed)} for seed, run in found.items()],
        "relations": [{"seed": seed, **_of_unseen(run, seed)} for seed, run in held.items()],
    }


def _of_relations(
    seeds: Iterable[int], runs: str, preset: str, task: str
) -> dict[int, FinishedRun]:
    """The runs in which relations are held back, of those seeds that were run so."""
    found = {
        seed: FinishedRun(run_folder(runs, preset + RELATIONS, task, seed, track=GIVEN_TRACK))
        for seed in seeds
    }
    found = {seed: run for seed, run in found.items() if run.folder.exists()}
    _refuse_unfinished(run for run in found.values() if run.complete)
    return found


def _of_unseen(run: FinishedRun, seed: int) -> dict[str, Any]:
    """Rates, prediction and steering on relations that were never seen; or why there are none."""
    if why := reason_in(run.folder):
        return {"left_out": why}
    answered, training = run.answered(), run[TRAINING].result
    test = answered[answered.split == "test"]
    return {
        "left_out": None,
        "held_back": sorted(set(test.key.str.partition("/")[0])),
        "n_keys": run["01_dataset_design"].result["n_keys"],
        "behaviours": _behaviours(answered, seed),
        "keys_with_both": training["keys_with_both"],
        "prediction": _prediction(run["05_prediction"].result),
        "steering": {d: _steering(run, d) for d in DIRECTIONS},
    }


def _refuse_unfinished(found: Iterable[FinishedRun]) -> None:
    lacking = []
    for run in found:
        missing = [name for name in STAGES if not run[name].exists]
        why = reason_in(run.folder)
        if missing or why:
            lacking.append(f"{run.folder} ({why or 'without ' + ', '.join(missing)})")
    if lacking:
        raise ArtifactError(
            f"not finished: {'; '.join(lacking)}; `make real` runs what is missing, and then collects"
        )


def _model(run: FinishedRun) -> dict[str, Any]:
    """Its card: what it is, where it comes from, and which weights were asked."""
    training = run[TRAINING]
    asked = str(training.manifest["parameters"]["base_model"])
    name = Path(asked).name
    card = PACKAGED.get(name) if asked.rstrip("/").endswith(f"{PLACE}/{name}") else None
    about: dict[str, Any] = {
        "name": name,
        "base_model": f"{PLACE}/{name}" if card else asked,
        "title": card.title if card else asked,
        "weights": training.result["base"],
        "n_parameters": training.result["n_parameters"],
        "n_layers": len(run["04_differentiation"].result["significant_share"]),
    }
    if card:
        about |= {
            key: value
            for key, value in asdict(card).items()
            if key in ("architecture", "quantization", "source", "licence")
        }
        about |= {"gguf": card.sha256, "wheels": [wheel.pinned for wheel in card.wheels]}
    return about


def tried(runs: Iterable[FinishedRun]) -> dict[str, list[float]] | None:
    """The cells among which validation keys chose: `alphas`, `top_ns`, and `layer_alphas` of one layer.

    None without a run. Errors: `ArtifactError` names runs that chose among other cells than the first one.
    """
    cells = {run.folder: _cells(run) for run in runs}
    first = next(iter(cells.values()), None)
    if others := [str(folder) for folder, found in cells.items() if found != first]:
        raise ArtifactError(
            f"{', '.join(others)} chose among other strengths or sizes of a shift than"
            f" {next(iter(cells))}; run all seeds with one preset"
        )
    return first


def _cells(run: FinishedRun) -> dict[str, list[float]]:
    asked = run[CELLS].manifest["parameters"]
    return {name: asked[name] for name in ("alphas", "top_ns", "layer_alphas")}


def _example(answered: pd.DataFrame) -> dict[str, Any] | None:
    """Two wordings of one conflict that were answered differently, of a test key: the shortest such pair."""
    test = answered[(answered.split == "test") & answered.change.isin(("", "order"))]
    pairs = []
    for _, rows in test.groupby("group", sort=False):
        sides = [rows[rows.behavior == one] for one in (MEMORIZATION, GENERALIZATION)]
        if all(map(len, sides)):
            pairs.append(tuple(side.iloc[0] for side in sides))
    if not pairs:
        return None
    both = min(pairs, key=lambda pair: sum(len(row.prompt) for row in pair))
    found: dict[str, Any] = {
        name: both[0][name] for name in ("key", "memory_answer", "rule_answer")
    }
    for name, row in zip((MEMORIZATION, GENERALIZATION), both):
        found[name] = {"prompt": row.prompt, "answer": row.answer}
    return found


def _of_seed(run: FinishedRun, seed: int) -> dict[str, Any]:
    data, training = run["01_dataset_design"].result, run[TRAINING].result
    return {
        "n_known": data["n_known"],
        "n_asked": data["n_asked"],
        "n_keys": data["n_keys"],
        "behaviours": _behaviours(run.answered(), seed),
        **{name: training[name] for name in ("keys_with_both", "n_test_keys")},
        **{f"{name}_accuracy": training[f"{name}_accuracy"] for name in _COST},
        "contexts": training.get("contexts"),
        "pairs": _pairs(run["03_pairs"].result),
        "layers": _layers(run),
        "differences": {
            name: run["04_differentiation"].result[name]
            for name in ("site", "n_pairs", "n_keys", "n_null_pairs")
        },
        "same_wording": run["04_differentiation"].result.get("same_wording"),
        "prediction": _prediction(run["05_prediction"].result),
        "steering": {d: _steering(run, d) for d in DIRECTIONS},
        "spent": {name: _spent(run[name].manifest) for name in STAGES},
    }


def _behaviours(answered: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Shares of the conflict prompts of test keys (no rephrasings), with intervals over keys."""
    rows = answered[(answered.split == "test") & (answered.rephrasing == 0)]
    found: dict[str, Any] = {"n": len(rows), "n_keys": int(rows.key.nunique())}
    for name in BEHAVIORS:
        shown = (rows.behavior == name).to_numpy(dtype=float)
        over = interval(weighted_mean, rows.key.to_numpy(), shown, seed=seed, n_resamples=2000)
        found[name] = {
            "rate": over.estimate,
            "low": number(over.low),
            "high": number(over.high),
        }
    return found


def _pairs(r: dict[str, Any]) -> dict[str, Any]:
    order = r["by_change"]["order"]
    low, high = order["flip_rate_key_interval"]["test"]
    return {
        "n_pairs": r["n_pairs"],
        "flip_rate": order["flip_rate"]["test"],
        "low": low,
        "high": high,
        "n_rephrasings": order["n_rephrasings"]["test"],
    }


def _layers(run: FinishedRun) -> list[dict[str, Any]]:
    """One entry per layer, from 1: differences on train keys, the probe on test keys."""
    states, probes = run["04_differentiation"].result, run["05_prediction"].result
    lists = {
        "significant": states["significant_share"],
        "null": states["null_significant_share"],
        "oriented_null": states["oriented_null_significant_share"],
        "nmd_relative": states["nmd_relative"],
        "max_abs_rho": states["max_abs_rho"],
        "auc": probes["auc"],
        "auc_low": [low for low, _ in probes["auc_interval"]],
        "auc_high": [high for _, high in probes["auc_interval"]],
    }
    columns = zip(*lists.values(), strict=True)
    return [
        {"layer": layer, **dict(zip(lists, values))}
        for layer, values in enumerate(columns, start=1)
    ]


def _prediction(r: dict[str, Any]) -> dict[str, Any]:
    kept = ("best_layer", "best_auc", "best_auc_interval", "n_test", "n_test_keys", "margin_auc")
    kept += ("entropy_auc", "chosen_baseline", "chosen_baseline_auc", "chosen_baseline_interval")
    kept += ("auc_within_key", "auc_within_key_interval", "gain", "gain_interval")
    found = {name: r[name] for name in kept}
    return found | {name: r["baselines"][name] for name in _FORECASTS}


def _steering(run: FinishedRun, direction: str) -> dict[str, Any]:
    """One direction on test keys: every bar, the two shifts that have a cost, and what they cost."""
    r = run[CELLS].result[direction]
    table = run[CELLS].table("controls")
    rows = table[table.direction == direction]
    columns = ["name", "family", "success", "low", "high", "other", "n"]
    shifts = {"steered": r, "steered_max": r["max"], **r.get("rivals", {})}
    return {
        "cell": r["cell"],
        "kept_exists": r["kept_exists"],
        "n_keys": r["n_keys"],
        "bars": [_plain(row) for row in rows[columns].to_dict("records")],
        "shifts": {
            name: _shift(one) for name, one in shifts.items() if "free_accuracy_after" in one
        },
    }


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a table without numpy's types and without NaN."""
    return {
        name: value if isinstance(value, str) else int(value) if name == "n" else number(value)
        for name, value in row.items()
    }


def _shift(one: dict[str, Any]) -> dict[str, Any]:
    """What was added, and what the model did elsewhere before and after it."""
    names = [f"{kind}_accuracy_{when}" for kind in _COST for when in ("before", "after")]
    names += ["perplexity_before", "perplexity_after", "n_free", "n_keyed"]
    names += ["alpha", "top_n", "layer", "layers", "retained", "steps", "success"]
    return {name: one[name] for name in names if name in one}


def _spent(manifest: dict[str, Any]) -> dict[str, float]:
    return {
        name: manifest.get(name) or 0
        for name in ("cpu_seconds", "wall_seconds", "peak_memory_bytes")
    }


def commit() -> str:
    """The commit of the code that collects; `+` if `src` had changes, "" outside of git."""
    git = ("git", "-C", str(ROOT))
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "src"], capture_output=True)
    return head.strip() + ("+" if head and changed.returncode else "")


def command(model: dict[str, Any], seeds: list[int]) -> str:
    """What to type for the same runs."""
    text, name = f'make real SEEDS="{" ".join(map(str, seeds))}"', model["name"]
    if name == DEFAULT:
        return text
    packaged = model["base_model"] == f"{PLACE}/{name}"
    return f"{text} MODEL={name}" if packaged else f'{text} SET="base_model={model["base_model"]}"'


def write(chosen: tuple[str, str, str], seeds: list[int], out: Path) -> Path:
    """Write what `collect` finds, and how it was made, to `<out>/<model>.json`; returns that file.

    chosen: runs, preset, task.
    """
    found = collect(*chosen, seeds)
    home = run_folder(chosen[0], chosen[1], chosen[2], seeds[0], track=GIVEN_TRACK).parent
    about = {
        "command": command(found["model"], seeds),
        "collected": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        **machine(home, LABS[CELLS].name),
    }
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{found['model']['name']}.json"
    write_json(file, found | about)
    n = [len(one["steering"][d]["bars"]) for one in found["seeds"] for d in DIRECTIONS]
    print(f"wrote {file}: {len(seeds)} seeds, {int(np.sum(n))} bars of steering")
    return file
