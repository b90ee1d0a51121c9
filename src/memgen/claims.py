"""Synthesis: what the runs of all tasks and seeds say, as claims with a verdict computed from `result.json` files.

A verdict is `supported` if the test of the claim holds for every task, `contradicted` if for none, `mixed` otherwise, and
`inconclusive` where there is nothing to test. The tests are written down here, before any result is looked at.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from .artifacts import read_json
from .config import SynthesisParameters
from .differentiation import CONTROLS
from .intervals import pooled
from .paths import run_folder

PER_SEED = ("01_dataset_design", "02_training", "03_pairs", "04_differentiation", "05_prediction", "06_intervention")
NAMES = {"m2g": "memorization to generalization", "g2m": "generalization to memorization"}


def input_folders(p: SynthesisParameters) -> list[Path]:
    folders = [run_folder(p.runs, p.preset, task, seed, track=p.track) / stage for task in p.tasks for seed in p.seeds for stage in PER_SEED]
    return folders + [run_folder(p.runs, p.preset, task, "all", track=p.track) / "07_transfer" for task in p.tasks]


def read_results(p: SynthesisParameters) -> dict[str, dict[int | str, dict[str, dict]]]:
    """`results[task][seed][stage]`, and `results[task]["all"]["07_transfer"]`."""
    results: dict = {}
    for folder in input_folders(p):
        task, seed = folder.parent.parent.name, folder.parent.name
        seed = seed if seed == "all" else int(seed.removeprefix("seed"))
        results.setdefault(task, {}).setdefault(seed, {})[folder.name] = read_json(folder / "result.json")
    return results


def overview(results: dict) -> pd.DataFrame:
    """One row a task and seed: the gate on test keys, best AUC, and both directions with their strongest control."""
    rows = []
    for task, by_seed in results.items():
        for seed, stages in by_seed.items():
            if seed == "all":
                continue
            training, prediction = stages["02_training"], stages["05_prediction"]
            number = lambda value: np.nan if value is None else value  # undefined where only one behaviour occurred
            row = {"task": task, "seed": seed, "memory": training["memory_rate"], "rule": training["rule_rate"],
                   "other": training["other_rate"], "free": training["free_accuracy"],
                   "auc": number(prediction["best_auc"]), "auc_low": number(prediction["best_auc_interval"][0]),
                   "auc_layer": prediction["best_layer"], "prompt_only_auc": number(prediction["prompt_only_auc"])}
            for direction in NAMES:
                found = stages["06_intervention"][direction]
                control = max(found["controls"], key=lambda name: found["controls"][name])
                row |= {f"{direction}": found["success"], f"{direction}_n": found["n"], f"{direction}_alpha": found["alpha"],
                        f"{direction}_top_n": found["top_n"], f"{direction}_control": found["controls"][control],
                        f"{direction}_control_name": control, f"{direction}_floor": found["rephrase_floor"]}
            rows.append(row)
    return pd.DataFrame(rows)


def pooled_steering(results: dict) -> pd.DataFrame:
    """One row a task and direction, prompts pooled over seeds: success and every control, each with n and Wilson interval."""
    rows = []
    for task, by_seed in results.items():
        for direction in NAMES:
            found = [stages["06_intervention"][direction] for seed, stages in by_seed.items() if seed != "all"]
            rows.append({"task": task, "direction": direction, "kind": "steered", **_pool([(f["success"], f["n"]) for f in found])})
            for name in CONTROLS:
                present = [(f["controls"][name], f["control_n"][name]) for f in found if name in f["controls"]]
                if present:
                    rows.append({"task": task, "direction": direction, "kind": name, **_pool(present)})
            rows.append({"task": task, "direction": direction, "kind": "rephrasing",
                         **_pool([(f["rephrase_floor"], f["rephrase_n"]) for f in found])})
    return pd.DataFrame(rows)


def _pool(rates: list[tuple[float, int]]) -> dict:
    found = pooled(rates)
    return {"rate": found["success"], "n": found["n"], "low": found["low"], "high": found["high"],
            "worst": min(r for r, _ in rates), "best": max(r for r, _ in rates)}


def make_claims(results: dict) -> list[dict]:
    """All claims with their verdicts; `evidence` is a sentence built from the numbers."""
    table, steering = overview(results), pooled_steering(results)
    tasks = list(results)
    claims = [_dual(table), _differ(results), _deeper(results), _predictable(table), _beyond_prompt(table)]
    claims += [_steers(steering, tasks, direction) for direction in NAMES]
    return [*claims, _retrains(results), _strangers(results), _format(steering, tasks)]


def _claim(name: str, text: str, page: str, holds: dict[str, bool], evidence: str) -> dict:
    if not holds:
        verdict = "inconclusive"
    else:
        verdict = "supported" if all(holds.values()) else "contradicted" if not any(holds.values()) else "mixed"
    return {"id": name, "text": text, "verdict": verdict, "evidence": evidence, "page": page,
            "holds": {task: bool(value) for task, value in holds.items()}}


def _by_task(table: pd.DataFrame, test) -> dict[str, bool]:
    return {task: bool(test(rows)) for task, rows in table.groupby("task", sort=False)}


def _each(parts: dict[str, str]) -> str:
    return "; ".join(f"{task}: {text}" for task, text in parts.items()) + "." if parts else "This run holds nothing to test it on."


def _dual(table):
    holds = _by_task(table, lambda r: ((r.memory >= 0.25) & (r.rule >= 0.25) & (r.other <= 0.2) & (r.free >= 0.9)).all())
    text = {t: f"memory {r.memory.mean():.2f}, rule {r.rule.mean():.2f}, other {r.other.mean():.2f} (mean of {len(r)} seeds)"
            for t, r in table.groupby("task", sort=False)}
    return _claim("dual", "One model can show both behaviours on prompts that it never saw.", "02_training", holds, _each(text))


def _differ(results):
    holds, text = {}, {}
    for task, by_seed in results.items():
        found = [s["04_differentiation"] for k, s in by_seed.items() if k != "all"]
        pairs = [(max(f["significant_share"]), max(f["null_significant_share"])) for f in found]
        holds[task] = all(real > null for real, null in pairs)
        text[task] = f"at most {np.mean([p[0] for p in pairs]):.0%} of a layer's neurons, under the null {np.mean([p[1] for p in pairs]):.0%}"
    return _claim("differ", "Neurons differ by behaviour beyond what a changed prompt alone does.", "04_differentiation", holds, _each(text))


def _deeper(results):
    holds, text = {}, {}
    for task, by_seed in results.items():
        rho = np.array([s["04_differentiation"]["max_abs_rho"] for k, s in by_seed.items() if k != "all"])
        holds[task] = bool((rho[:, -1] > rho[:, 0]).all())
        text[task] = "largest |rho| by layer " + ", ".join(f"{v:.2f}" for v in rho.mean(0))
    return _claim("deeper", "Later layers differ more than early ones.", "04_differentiation", holds, _each(text))


def _predictable(table):
    holds = _by_task(table.dropna(subset=["auc_low"]), lambda r: (r.auc_low > 0.5).all())
    text = {t: f"best-layer AUC {r.auc.mean():.2f}" for t, r in table.groupby("task", sort=False)}
    return _claim("predictable", "The behaviour can be predicted before the answer is written.", "05_prediction", holds, _each(text))


def _beyond_prompt(table):
    holds = _by_task(table.dropna(subset=["auc_low", "prompt_only_auc"]), lambda r: (r.auc_low > r.prompt_only_auc).all())
    text = {t: f"AUC {r.auc.mean():.2f}, from the prompt's tokens alone {r.prompt_only_auc.mean():.2f}" for t, r in table.groupby("task", sort=False)}
    return _claim("beyond_prompt", "Hidden states predict it better than the prompt's tokens do.", "05_prediction", holds, _each(text))


def _steers(steering, tasks, direction):
    holds, text = {}, {}
    for task in tasks:
        rows = steering[(steering.task == task) & (steering.direction == direction)].set_index("kind")
        others = rows.loc[[k for k in rows.index if k != "steered"]]
        strongest = others.rate.idxmax()
        holds[task] = bool(rows.low["steered"] > others.high.max())
        text[task] = (f"{rows.rate['steered']:.0%} [{rows.low['steered']:.0%}, {rows.high['steered']:.0%}] of {rows.n['steered']} prompts, "
                      f"strongest control {strongest.replace('_', ' ')} {others.rate.max():.0%}")
    return _claim(f"steer_{direction}", f"Steering the top neurons turns {NAMES[direction]} more often than every control.",
                  "06_intervention", holds, _each(text))


def _transfer_cells(results, shared: bool):
    for task, by_seed in results.items():
        transfer = by_seed["all"]["07_transfer"]["retrain"]
        base = transfer["base"]
        for direction in NAMES:
            wins = [(transfer[direction][i][j], transfer["control"][direction][i][j])
                    for i in range(len(base)) for j in range(len(base))
                    if i != j and (base[i] == base[j]) == shared and transfer[direction][i][j] is not None]
            if wins:
                yield task, direction, np.array(wins)


def _retrains(results):
    holds, text = {}, {}
    for task, direction, wins in _transfer_cells(results, shared=True):
        holds[f"{task} {direction}"] = bool((wins[:, 0] > wins[:, 1]).all())
        text[f"{task} {direction}"] = f"{wins[:, 0].mean():.0%} against {wins[:, 1].mean():.0%} for random neurons"
    return _claim("retrain", "Neurons found in one model steer its retrains from the same base.", "07_transfer", holds, _each(text))


def _strangers(results):
    holds, text = {}, {}
    for task, direction, wins in _transfer_cells(results, shared=False):
        holds[f"{task} {direction}"] = bool(wins[:, 0].mean() <= wins[:, 1].mean() + 0.1)
        text[f"{task} {direction}"] = f"{wins[:, 0].mean():.0%} against {wins[:, 1].mean():.0%} for random neurons"
    return _claim("stranger", "They do not steer models that were trained from another random start (at most ten points above random neurons).",
                  "07_transfer", holds, _each(text))


def _format(steering, tasks):
    families = sorted({t.split("-")[0] for t in tasks if f"{t.split('-')[0]}-tagged" in tasks and f"{t.split('-')[0]}-matched" in tasks})
    holds, text = {}, {}
    for family in families:
        for direction in NAMES:
            rows = steering[(steering.direction == direction) & (steering.kind == "steered")].set_index("task")
            tagged, matched = rows.loc[f"{family}-tagged"], rows.loc[f"{family}-matched"]
            holds[f"{family} {direction}"] = bool(tagged.low > matched.high)
            text[f"{family} {direction}"] = f"tagged {tagged.rate:.0%}, matched {matched.rate:.0%}"
    return _claim("format", "Steering works better where the two answers differ in format than where they look alike.",
                  "08_synthesis", holds, _each(text))


def describe(steering: pd.DataFrame, auc: pd.Series) -> str:
    """The main figure in words."""
    parts = []
    for task, rows in steering.groupby("task", sort=False):
        said = []
        for direction, name in NAMES.items():
            one = rows[rows.direction == direction].set_index("kind").rate
            said.append(f"{name} {one['steered']:.0%} (strongest control {one.drop(['steered', 'rephrasing']).max():.0%})")
        parts.append(f"{task}: {', '.join(said)}, AUC {auc[task]:.2f}")
    return "Bars: steering success on test keys by task and direction, beside the strongest control, and the AUC of the best probe. " + "; ".join(parts) + "."


def headline(results: dict) -> tuple[str, dict]:
    """The finding in one paragraph and its number, built from the numbers alone."""
    steering = pooled_steering(results)
    auc = overview(results).groupby("task", sort=False).auc.mean()
    first = "arithmetic-tagged" if "arithmetic-tagged" in results else next(iter(results))
    rows = steering[(steering.task == first) & (steering.direction == "m2g")].set_index("kind")
    controls = rows.loc[[k for k in rows.index if k not in ("steered", "rephrasing")]]
    number = {"task": first, "direction": "m2g", **{k: rows.loc["steered", k] for k in ("rate", "low", "high", "n")},
              "control": float(controls.rate.max()), "control_name": str(controls.rate.idxmax())}
    text = (f"On {first}, shifting a few hidden coordinates turns {number['rate']:.0%} of the answers that came from memory into the rule's answer "
            f"(strongest control: {number['control']:.0%}), and a probe tells which of the two will come before the first answer token (AUC {auc[first]:.2f}).")
    twin = first.replace("tagged", "matched")
    if twin != first and twin in results:
        other = steering[(steering.task == twin) & (steering.direction == "m2g") & (steering.kind == "steered")].iloc[0]
        rest = steering[(steering.task == twin) & (steering.direction == "m2g") & steering.kind.isin(CONTROLS)]
        text += (f" Where both answers are written alike ({twin}) it is {other.rate:.0%} (strongest control {rest.rate.max():.0%}), AUC {auc[twin]:.2f}"
                 + (": much of the effect is the format of the answer." if number["low"] > other.high else "."))
    return text, {k: (v.item() if hasattr(v, "item") else v) for k, v in number.items()}
