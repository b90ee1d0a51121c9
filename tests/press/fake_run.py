"""A small run folder for the tests of the book: one lab really executed by papermill, shown as
every lab.

The numbers are made up, but have the shape that the stages write (`result.json` of each stage) and
are drawn from the task and seed alone.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pandas as pd
import papermill

from memgen.claims.catalogue import CLAIMS, GROUPS
from memgen.claims.ledger import over_cases
from memgen.claims.quantities.steering import STEERED
from memgen.stages import LABS, labs_of
from memgen.steering.controls import CONTROLS
from memgen.store.folders import base_folder
from memgen.store.left_out import MARK
from memgen.terms import (
    BEST_OF_RANDOM,
    CHANGES,
    DIRECTIONS,
    FORECASTS,
    OUTPUT_CONTROLS,
    REPHRASINGS,
    SPLITS,
    STUDY,
    WHOLE,
)
from press import build
from press.run import SYNTHESIS, Run

#: `result.json` of the evidence labs, as one run of the study wrote them
EVIDENCE = json.loads(Path(__file__).with_name("evidence.json").read_text())

#: the figures of the made-up lab are called as the pages of the book ask for them
FIGURES = {
    "04_differentiation": ("nmd-heatmap", "base", "layers"),
    "05_prediction": ("rivals", "probes"),
    "06_intervention": ("grid", "controls", "dose", "cells"),
    "08_synthesis": (
        *("main-finding", "every-task", "every-task-maps", "every-task-steering"),
        *("every-task-retrains", "gate", "ledger", "format", "forecast"),
    ),
    "09_confounds": ("context", "lens", "guessing", "split"),
    "10_ablations": ("overview", "count"),
    "11_open_points": ("clusters", "synergy", "margins", "commitment", "instruction", "hybrid"),
    "12_patching": ("parts", "positions", "necessity", "units"),
    "13_scoreboard": ("board", "frontier"),
    "14_detection": ("detectors", "stays", "separation", "price"),
    "15_correlates": ("angles", "components", "plausible", "layers"),
    "16_multiverse": (
        *("curve-m2g", "curve-g2m", "matters"),
        *("stability", "slopes", "isolation"),
    ),
}

PARAMETERS = 'task = "t"  # task id\nseed = 0  # random seed\npreset = "laptop"  # preset'
TABLE = """import pandas as pd
display(pd.DataFrame([[0.123456] * 14] * 4, columns=[f"column {i}" for i in range(14)]))
print("step 100 of 1300, ", ", ".join(f"number {i} is {i / 7:.5f}" for i in range(12)))
"""
PLOT = """
import matplotlib.pyplot as plt
from IPython.display import display
figure, axis = plt.subplots(figsize=(6, 3))
colors = ["#D55E00", "#0072B2", "#999999"]
axis.bar(["memorization", "generalization", "other"], [0.31, 0.52, 0.17], color=colors)
axis.set_ylabel("share of conflict prompts")
plt.close(figure)
words = {"alt": f"Bars: behaviour of {task}", "caption": "How the prompts are *answered*."}
display(figure, metadata={**words, "name": "behaviour"})
"""


def executed_lab(folder: Path) -> dict:
    """A minimal lab with text, a table, a formula and nine figures, executed by papermill."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    lab = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    lab.cells = [
        nbformat.v4.new_markdown_cell(
            "# Lab: TITLE\n\n**Question.** What is seen here? See {numref}`behaviour`."
        ),
        nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("plumbing = 1", metadata={"tags": ["setup"]}),
        nbformat.v4.new_markdown_cell(
            "## Computation\n\nThe shift is $h_i +"
            " \\alpha\\,\\mathrm{sign}(\\rho_i)\\,|\\mathrm{NMD}_i|$."
        ),
        nbformat.v4.new_code_cell(PLOT.strip()),
        nbformat.v4.new_code_cell(
            TABLE
            + PLOT.strip().replace('"behaviour"', '"again"')
            + PLOT.replace('"behaviour"', '"once-more"')
        ),
        nbformat.v4.new_code_cell(
            "".join(PLOT.replace('"behaviour"', f'"more-{i}"') for i in range(6)).strip()
        ),
        nbformat.v4.new_markdown_cell("## Answer\n\nThe bars say so."),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(lab, folder / "in.ipynb")
    papermill.execute_notebook(
        str(folder / "in.ipynb"),
        str(folder / "out.ipynb"),
        progress_bar=False,
        cwd=str(folder),
        parameters={"task": "t", "seed": 0, "preset": "laptop"},
    )
    return json.loads((folder / "out.ipynb").read_text())


class MadeUp:
    """Made-up key numbers of one task and seed, in the shape of each lab's `result.json`; a method per
    lab.
    """

    def __init__(self, stage: str, task: str, seed: int | str, tasks: list[str]):
        self.stage, self.task, self.tasks = stage, task, tasks
        self.tagged = task.endswith("-tagged")
        self.rng = random.Random(f"{stage}/{task}/{seed}")

    def result(self) -> dict:
        own = getattr(self, LABS[self.stage].short, None)
        return own() if own else EVIDENCE.get(self.stage, {})

    def near(self, x: float) -> float:
        return round(min(0.999, max(0.001, x + self.rng.uniform(-0.03, 0.03))), 4)

    def scoreboard(self) -> dict:
        """The paper, a rival, an edit that only removes, and random directions that keep no limit."""
        kinds = {
            "nmd": "steering",
            "caa": "steering",
            "kfac": "editing",
            "random_directions": "null",
        }
        ways = {"kfac": ["m2g"]}
        methods = {
            name: {
                "title": f"Method {name}",
                "kind": kind,
                "directions": ways.get(name, DIRECTIONS),
            }
            for name, kind in kinds.items()
        }

        def choice(success: float, of: float) -> dict:
            names = [f"{k}_accuracy_{w}" for k in ("free", "keyed") for w in ("before", "after")]
            costs = {name: self.near(0.9) for name in (*names, "stay")}
            against = {"value": success - of, "interval": [success - of - 0.1, success - of + 0.1]}
            return {
                "success": self.near(success),
                "kl_free": 0.1,
                "against_paper": against,
                **costs,
            }

        def rows(paper: float, direction: str) -> dict:
            found: dict = {}
            for i, name in enumerate(methods):
                without = name == "kfac" and direction == "g2m"
                kept = None if without or i == 3 else choice(paper + 0.1 * i, paper)
                most = None if without else choice(paper + 0.1 * i, paper)
                found[name] = {"candidates": 50, "max": most, "kept": kept}
            return {"floor": {"success": self.near(0.2)}, "rows": found}

        about = {"methods": methods, "n_candidates": 50, "collateral_limit": 0.01}
        return about | {d: rows(0.5, d) for d in ("m2g", "g2m")}

    def direction(self, success: float) -> dict:
        n = self.rng.randint(180, 260)
        value = self.near(success)
        names = (*CONTROLS, BEST_OF_RANDOM)
        controls = {c: self.near(0.35 if "random_n" in c else 0.05) for c in names}
        cell = {
            "alpha": 2.0,
            "top_n": 0.1,
            "success": value,
            "interval": [value - 0.05, value + 0.05],
            "other": self.near(0.05),
            "n": n,
            "free_accuracy_before": self.near(0.95),
            "free_accuracy_after": self.near(0.9),
            "keyed_accuracy_before": self.near(0.9),
            "keyed_accuracy_after": self.near(0.8),
            "kl_free": self.near(0.1),
            "kl_keyed": self.near(0.2),
            "kl_conflict": self.near(0.9),
        }
        output = {name: {"success": self.near(0.3), "n": n} for name in OUTPUT_CONTROLS}
        return {
            **cell,
            "cell": "kept",
            "kept_exists": True,
            "max": cell | {"success": self.near(success + 0.05)},
            "kept": cell,
            "output_controls": output,
            "by_construction": 0.0,
            "by_setting": None if self.task == "inference" else self.by_setting(n),
            "best_of_random": {"n_directions": 50},
            "controls": controls,
            "control_n": dict.fromkeys(names, 5 * n),
            "control_draws": dict.fromkeys(names, 5),
            "control_other": {n: self.near(0.1) for n in (*names, *OUTPUT_CONTROLS, *REPHRASINGS)},
            "rephrase_floor": self.near(0.1),
            "rephrase_n": 4 * n,
        }

    def by_setting(self, n: int) -> list[dict]:
        def rate(size: float) -> dict:
            return {"success": self.near(size), "interval": [0.0, 1.0], "n": n // 2}

        return [
            {"nearness": value, "steered": rate(0.4 + value / 4)}
            | {name: rate(0.3) for name in OUTPUT_CONTROLS}
            for value in (-1.0, 0.0)
        ]

    def dataset_design(self) -> dict:
        sizes = {
            "n_free": (6000, 500, 500),
            "n_keyed": (2000, 800, 1200),
            "n_conflict": (320, 130, 190),
            "n_keys": (32, 13, 19),
        }
        return {name: by_split(*values) for name, values in sizes.items()} | {
            "contrast_on": "none" if self.task == "inference" else "gate"
        }

    def training(self) -> dict:
        rates = {
            "memory_rate": 0.33,
            "rule_rate": 0.5,
            "other_rate": 0.17,
            "free_accuracy": 0.96,
            "keyed_accuracy": 0.94,
        }
        timings = {"train_seconds": 95.0, "tokens_per_second": 58000}
        return {k: self.near(v) for k, v in rates.items()} | {
            "passed": True,
            "miss": None,
            "step": 1300,
            "n_parameters": 800_000,
            "trainable_share": 0.14,
            "timings": timings,
        }

    def pairs(self) -> dict:
        by_change = {
            change: {
                "n_rephrasings": by_split(900, 380, 560),
                "flip_rate": by_split(*(self.near(0.2) for _ in SPLITS)),
                "same_answer": by_split(*[1.0 if change == "order" else 0.3] * 3),
                "n_pairs": by_split(700, 250, 400),
                "same_answer_pairs": by_split(*[1.0 if change == "order" else 0.3] * 3),
            }
            for change in CHANGES
        }
        first = {name: by_change["order"][name] for name in ("n_pairs", "flip_rate")}
        return {"n_prompts": by_split(320, 130, 190), **first, "by_change": by_change}

    def differentiation(self) -> dict:
        def lists(size: float) -> dict:
            shares = {
                "max_abs_rho": (0.2, 0.3, 0.4, 0.8),
                "mean_abs_nmd": (0.05, 0.1, 0.2, 0.5),
                "nmd_split_half": (0.04, 0.1, 0.2, 0.5),
                "nmd_relative": (0.02, 0.05, 0.1, 0.2),
                "significant_share": (0.02, 0.1, 0.3, 0.7),
            }
            found = {k: [self.near(size * x) for x in values] for k, values in shares.items()}
            return found | {"n_pairs": 300, "n_keys": 22, "correlation": [None, 0.5, 0.5, 0.6]}

        def kind(size: float, same: float) -> dict:
            alike = lists(size) | {"base": lists(size / 3)} if same else None
            settled = None if self.task == "inference" else lists(size / 2)
            return lists(size) | {
                "same_token_share": same,
                "same_setting_share": settled and 0.6,
                "same_setting": settled and settled | {"base": lists(size / 4)},
                "base": lists(size / 3),
                "same_token": alike,
            }

        base = {
            "mean_abs_nmd": {name: [0.1, 0.2, 0.3, 0.4] for name in ("on", "off", "difference")},
            "correlation": [None, 0.5, 0.5, 0.6],
            "correlation_all": self.near(0.6),
            "top_share": 0.05,
            "top_in_common": self.near(0.4),
            "n_pairs": 300,
        }
        kinds = {"order": kind(1, 1.0), "content": kind(0.8, float(self.task != "inference"))}
        rest = {"null_significant_share": [0.01] * 4, "oriented_null_significant_share": [0.1] * 4}
        rest |= {"n_permutations": 10_000, "n_neurons": 512, "fewest_together": 2}
        words = {"value": self.near(0.6), "interval": [0.5, 0.7], "n": 300, "n_keys": 22}
        return (
            kinds["order"]
            | rest
            | {
                "site": "resid_post",
                "pairs": "order",
                "base_null": kinds["order"]["base"],
                "by_change": kinds,
                "words": words,
                "base": base,
            }
        )

    def prediction(self) -> dict:
        last = 0.97 if self.tagged else 0.8
        auc = [None, *(self.near(x) for x in (0.58, 0.75, last))]  # undefined in the first layer
        return {
            "site": "resid_post",
            "accuracy": [0.6] * 4,
            "auc": auc,
            "auc_interval": [[None, None], *[[x - 0.05, x] for x in auc[1:]]],
            "best_layer": 4,
            "best_auc": auc[-1],
            "best_auc_interval": [0.7, 0.99],
            "prompt_only_auc": self.near(0.6),
            "shuffled_auc": self.near(0.5),
            "margin_auc": self.near(0.7),
            "entropy_auc": None,
            "majority": self.near(0.6),
            "baselines": self.forecasts(),
            "chosen_baseline": "nearest_setting",
            "chosen_baseline_auc": 0.7,
            "chosen_baseline_interval": [0.6, 0.8],
            "gain": self.near(0.1),
            "gain_interval": [0.02, 0.2],
            "ceiling_auc": self.near(0.9),
            "ceiling_interval": [0.8, 0.95],
            "auc_within_key": self.near(0.8),
            "auc_within_key_interval": [0.7, 0.9],
            "auc_within_setting": None,
            "auc_within_setting_interval": [None, None],
            "auc_within_cell": self.near(0.7),
            "auc_within_cell_interval": [0.6, 0.8],
        }

    def forecasts(self) -> dict:
        """Lab 05's, of which the base's is undefined."""
        return {
            name: {
                "auc": None if name == "base_probe" else self.near(0.65),
                "interval": [0.55, 0.75],
                "cv_auc": 0.66,
                "gain": 0.1,
                "gain_interval": [0.02, 0.2],
            }
            for name in FORECASTS
        }

    def intervention(self) -> dict:
        success = zip(DIRECTIONS, (0.88, 0.42) if self.tagged else (0.4, 0.2))
        about = {"site": "resid_post", "collateral_limit": 0.01}
        return about | {name: self.direction(rate) for name, rate in success}

    def transfer(self) -> dict:
        models = ["seed 0", "seed 0, retrain 1", "seed 1"]
        square = [[self.near(0.8 if i == j else 0.3) for j in range(3)] for i in range(3)]
        column = [[self.near(0.5)] for _ in self.tasks]
        own, across = dict.fromkeys(DIRECTIONS, square), dict.fromkeys(DIRECTIONS, column)
        return {
            "retrain": {
                "sources": models,
                "targets": models,
                **own,
                "control": own,
                "base": ["a", "a", "b"],
                "overlap": square,
                "overlap_by_layer": square,
                "overlap_by_chance": 0.05,
            },
            "task": {
                "sources": self.tasks,
                "targets": [self.task],
                **across,
                "control": across,
                "shares_base": [True] * len(self.tasks),
            },
        }

    def verdicts(self, claim: str) -> dict[str, str]:
        """One claim is supported, one was not tested, all others are contradicted on every task."""
        return {"steer_m2g.random": {"inference": "supported"}, "retrain": {}}.get(
            claim, dict.fromkeys(self.tasks, "contradicted")
        )

    def synthesis(self) -> dict:
        number = {
            "task": self.tasks[0],
            "direction": "m2g",
            "rate": 0.884,
            "low": 0.86,
            "high": 0.905,
            "n": 690,
            "n_seeds": 3,
            "n_kept": 2,
            "auc": 0.92,
            "auc_without": 0.84,
            "ahead": "open",
            "controls": {BEST_OF_RANDOM: 0.36, "forbid_source": 0.41},
        }
        if "arithmetic-tagged" in self.tasks[1:]:
            number["counterpart"] = {
                "task": "arithmetic-tagged",
                "rate": 0.95,
                "forbid_source": 0.99,
            }
        over_seeds = {"value": 0.5, "low": 0.4, "high": None, "n": 90, "n_keys": 20, "n_seeds": 2}
        names = ("memory", "rule", "auc", *DIRECTIONS)
        of = {"site": 0.1, "keys": 0.2, "seed": 0.3}
        curve = {"n": 400, "n_seeds": 2, "share": 0.6, "explained": of}
        order = {"value": 0.7, "p": 0.12, "n": 4, "n_tasks": 2}
        return {
            "main_finding_alt": "Bars of steering success by task, with controls.",
            "headline": (
                "Shifting a tenth of the coordinates turns most memorized answers into computed ones."
            ),
            "headline_number": number,
            "over_seeds": {task: dict.fromkeys(names, over_seeds) for task in self.tasks},
            "coverage": [
                {
                    "task": task,
                    "quantity": "rate",
                    "planted": [0.5],
                    "n_keys": 20,
                    "seeds_sd": 0.4,
                    "keys_sd": 0.8,
                    "covered": 0.946,
                    "n_studies": 100,
                }
                for task in self.tasks
            ],
            "claims": [claim(known, self.verdicts(known.id)) for known in CLAIMS],
            "choices": {task: dict.fromkeys(("m2g", "probe"), curve) for task in self.tasks},
            "forecast": {d: {"cosine": order, "separation": order} for d in DIRECTIONS},
        }


def by_split(*values) -> dict:
    return dict(zip(SPLITS, values, strict=True))


#: of a claim of the catalogue, as `result.json` repeats it
SAID = ("id", "name", "text", "source", "test", "threshold", "margin", "above", "corrected", "page")


def claim(known, verdicts: dict[str, str]) -> dict:
    """A claim of the ledger with made-up evidence."""
    found = {"effect": 0.3, "interval": [0.1, 0.5], "n": 200}
    cases = {
        task: {"verdict": verdict, **found, "detectable": 0.25, "n_keys": 40, "n_seeds": 3}
        for task, verdict in verdicts.items()
    }
    return {
        **{name: getattr(known, name) for name in SAID},
        "group": next(group for group, claims in GROUPS.items() if known in claims),
        "track": "scratch",
        "verdict": over_cases(list(verdicts.values())),
        **(found if cases else {"effect": None, "interval": None, "n": 0}),
        "cases": cases,
        "evidence": "0.30 (0.10 to 0.50).",
    }


def steering_table(tasks: list[str], seeds: list[int]) -> pd.DataFrame:
    """Lab 8's `success_table` of the made-up rates: means over the seeds, intervals made up."""
    rows = []
    for task in tasks:
        made = [MadeUp("06_intervention", task, seed, tasks).result() for seed in seeds]
        for direction in DIRECTIONS:
            parts = [one[direction] for one in made]
            kinds = {STEERED: [part["success"] for part in parts]}
            kinds |= {kind: [part["controls"][kind] for part in parts] for kind in CONTROLS}
            kinds |= {BEST_OF_RANDOM: [part["controls"][BEST_OF_RANDOM] for part in parts]}
            for kind in OUTPUT_CONTROLS:
                kinds[kind] = [part["output_controls"][kind]["success"] for part in parts]
            kinds |= {kind: [part["rephrase_floor"] for part in parts] for kind in REPHRASINGS}
            n = sum(part["n"] for part in parts)
            for kind, rates in kinds.items():
                rate = sum(rates) / len(rates)
                about = {"task": task, "direction": direction, "kind": kind}
                ends = {"rate": rate, "low": rate - 0.05, "high": rate + 0.05}
                counts = {"n": n, "n_keys": 20, "n_seeds": len(seeds), "n_kept": len(seeds)}
                rows.append(about | ends | counts)
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Writer:
    """Writes made-up labs of one study: every lab is `notebook` with its own title and figures."""

    notebook: dict
    tasks: list[str]
    seeds: list[int]
    findings: bool
    track: str

    def write(self, folder: Path, task: str, seed: int | str) -> None:
        """One finished lab in `folder`, its executed notebook beside it."""
        folder.mkdir(parents=True)
        folder.with_suffix(".ipynb").write_text(json.dumps(self.executed(folder.name, task, seed)))
        result = MadeUp(folder.name, task, seed, self.tasks).result()
        (folder / "result.json").write_text(json.dumps(result))
        (folder / "manifest.json").write_text(json.dumps(self.manifest(folder.name, task, seed)))
        if folder.name == SYNTHESIS:
            steering_table(self.tasks, self.seeds).to_parquet(folder / "steering.parquet")

    def executed(self, stage: str, task: str, seed: int | str) -> dict:
        lab = copy.deepcopy(self.notebook)
        names = FIGURES.get(stage, ())
        if self.track != "scratch" and stage == "04_differentiation":
            names += ("inheritance",)
        shown = images(lab)
        for output, name in zip(shown, names):
            output["metadata"]["name"] = name
        title = "".join(lab["cells"][0]["source"]).replace("TITLE", LABS[stage].title)
        first = shown[0]["metadata"]["name"]
        lab["cells"][0]["source"] = title.replace("`behaviour`", f"`{first}`")
        given = {"task": task, "seed": seed, "preset": "laptop"}
        lab["metadata"]["papermill"]["parameters"] = given
        return lab

    def manifest(self, stage: str, task: str, seed: int | str) -> dict:
        parameters = {
            "task": task,
            "seed": seed,
            "preset": "laptop",
            "gate_rule": 0.25 if self.findings else 0.0,
            "track": self.track,
        }
        if stage == "02_training":
            parameters |= {"base_model": "", "base_seed": 0, "architecture": "llama"}
        return {
            "overrides": {"n_embd": 64},
            "parameters": parameters,
            "versions": {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0"},
            "machine": {"platform": "Linux", "processor": "a laptop", "cores": 2},
            "wall_seconds": 12.3,
            "cpu_seconds": 11.2,
            "peak_memory_bytes": 6e8,
            "inputs": {},
            "outputs": {},
        }


def make_run(
    root: Path,
    tasks: list[str],
    seeds: list[int],
    notebook: dict,
    findings: bool = True,
    track: str = "scratch",
) -> Path:
    """Write a finished run of `tasks` and `seeds` on one track below `root`; returns the run
    folder, which holds all tracks.
    """
    home = root / "laptop"
    run = home if track == "scratch" else home / track
    writer = Writer(notebook, tasks, seeds, findings, track)
    if track != "scratch":
        base = base_folder(root, "laptop", tasks[0], 0, track, "llama")
        base.mkdir(parents=True)
        test = {task.split("-")[0]: {"free_accuracy": 0.97, "n": 500} for task in tasks}
        about = {"step": 1500, "test": test, "n_parameters": 816_000}
        about |= {"timings": {"train_seconds": 250.0}}
        (base / "result.json").write_text(json.dumps(about))
    for task in tasks:
        for seed in seeds:
            for stage in labs_of("run", track):
                writer.write(run / task / f"seed{seed}" / stage, task, seed)
        for stage in labs_of("task", track):
            writer.write(run / task / WHOLE / stage, task, WHOLE)
    for stage in labs_of("study", track):
        writer.write(run / STUDY / WHOLE / stage, STUDY, WHOLE)
    png = "".join(images(notebook)[0]["data"]["image/png"])
    (run / STUDY / WHOLE / SYNTHESIS / "main_finding.png").write_bytes(b64decode(png))
    return home


def images(notebook: dict) -> list[dict]:
    """The outputs of an executed notebook that are figures."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return [output for output in outputs if "image/png" in output.get("data", {})]


def stage(run: Path, root: Path, out: Path) -> Path:
    """What Sphinx would read of this run, staged in `out`."""
    build.stage(Run(run), root, out)
    return out


def bar_of(out: Path, lab: str = "06_intervention/inference-seed0") -> str:
    """The Markdown of the bar on top of a staged lab."""
    return json.loads((out / "labs" / f"{lab}.ipynb").read_text())["cells"][1]["source"]


def leave_out(run: Path, seed: int, why: str) -> None:
    """As a study does with a run that missed the gate: the first labs are there, the rest says why."""
    for lab in [name for name in labs_of("run") if LABS[name].gated]:
        folder = run / "inference" / f"seed{seed}" / lab
        shutil.rmtree(folder)
        folder.with_suffix(".ipynb").unlink()
        folder.with_suffix(".stamp").write_text(MARK + why)
