"""A small run folder for the tests of the book: one lab really executed by papermill, shown as
every lab.

The numbers are made up, but have the shape that the stages write (`result.json` of each stage) and
are drawn from the task and seed alone.
"""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path

import nbformat
import papermill

from memgen.claims.ledger import CLAIMS

STAGES = (
    "01_dataset_design",
    "02_training",
    "03_pairs",
    "04_differentiation",
    "05_prediction",
    "06_intervention",
)
CONTROLS = (
    "random_neurons",
    "other_neurons",
    "low_rho",
    "permuted",
    "random_sign",
    "shuffled_labels",
)
#: `result.json` of the evidence labs, as one run of the study wrote them
EVIDENCE = json.loads(Path(__file__).with_name("evidence.json").read_text())
TITLES = dict(
    zip(
        (*STAGES, "07_transfer", "08_synthesis", *EVIDENCE),
        (
            "Dataset design",
            "Training",
            "Pairs",
            "Differentiation",
            "Prediction",
            "Intervention",
            "Transfer",
            "Synthesis",
            "Confounds",
            "Ablations",
            "Open points",
        ),
    )
)

#: the figures of the made-up lab are called as the pages of the book ask for them
FIGURES = {
    "04_differentiation": ("nmd-heatmap", "layers"),
    "06_intervention": ("grid", "controls", "dose"),
    "08_synthesis": ("main-finding", "ledger", "format"),
    "09_confounds": ("context", "lens", "guessing", "split"),
    "10_ablations": ("overview", "count"),
    "11_open_points": ("clusters", "synergy", "margins", "commitment", "instruction", "hybrid"),
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
axis.bar(["memorization", "generalization", "other"], [0.31, 0.52, 0.17], color=["#D55E00", "#0072B2", "#999999"])
axis.set_ylabel("share of conflict prompts")
plt.close(figure)
display(figure, metadata={"alt": f"Bars: behaviour of {task}", "caption": "How the prompts are *answered*.", "name": "behaviour"})
"""


def executed_lab(folder: Path) -> dict:
    """A minimal lab with text, a table, a formula and six figures, executed by papermill."""
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
            "".join(PLOT.replace('"behaviour"', f'"more-{i}"') for i in range(3)).strip()
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


def result_of(stage: str, task: str, seed: int, tasks: list[str]) -> dict:
    """Made-up key numbers of one stage, in the shape of its `result.json`."""
    rng = random.Random(f"{stage}/{task}/{seed}")
    tagged = task.endswith("-tagged")

    def near(x):
        return round(min(0.999, max(0.001, x + rng.uniform(-0.03, 0.03))), 4)

    def by_split(train, validation, test):
        return {"train": train, "validation": validation, "test": test}

    def direction(success):
        n = rng.randint(180, 260)
        value = near(success)
        controls = {c: near(0.35 if "random_n" in c else 0.05) for c in CONTROLS}
        return {
            "alpha": 2.0,
            "top_n": 0.1,
            "success": value,
            "interval": [value - 0.05, value + 0.05],
            "other": near(0.05),
            "n": n,
            "controls": controls,
            "control_n": {c: 5 * n for c in CONTROLS},
            "rephrase_floor": near(0.1),
            "rephrase_n": 4 * n,
            "free_accuracy_after": near(0.9),
            "keyed_accuracy_after": near(0.8),
            "kl": near(0.4),
        }

    def dataset():
        sizes = {
            "n_free": (6000, 500, 500),
            "n_keyed": (2000, 800, 1200),
            "n_conflict": (320, 130, 190),
            "n_keys": (32, 13, 19),
        }
        return {name: by_split(*values) for name, values in sizes.items()} | {"sha256": "0" * 64}

    def training():
        rates = {
            "memory_rate": 0.33,
            "rule_rate": 0.5,
            "other_rate": 0.17,
            "free_accuracy": 0.96,
            "keyed_accuracy": 0.94,
        }
        timings = {"train_seconds": 95.0, "tokens_per_second": 58000}
        return {k: near(v) for k, v in rates.items()} | {
            "step": 1300,
            "n_parameters": 800_000,
            "trainable_share": 0.14,
            "timings": timings,
        }

    def pairs():
        flips = by_split(near(0.2), near(0.2), near(0.2))
        return {
            "n_prompts": by_split(320, 130, 190),
            "n_pairs": by_split(700, 250, 400),
            "flip_rate": flips,
        }

    def differentiation():
        shares = {
            "max_abs_rho": (0.2, 0.3, 0.4, 0.8),
            "significant_share": (0.02, 0.1, 0.3, 0.7),
            "null_significant_share": [0.01] * 4,
        }
        base = {
            "mean_abs_nmd": {name: [0.1, 0.2, 0.3, 0.4] for name in ("on", "off", "difference")},
            "correlation": [None, 0.5, 0.5, 0.6],
            "correlation_all": near(0.6),
            "top_share": 0.05,
            "top_in_common": near(0.4),
            "n_pairs": 300,
        }
        return {"site": "resid_post", "base": base} | {
            name: [near(x) for x in values] for name, values in shares.items()
        }

    def prediction():
        auc = [
            None,
            *(near(x) for x in (0.58, 0.75, 0.97 if tagged else 0.8)),
        ]  # undefined in the first layer
        return {
            "site": "resid_post",
            "accuracy": [0.6] * 4,
            "auc": auc,
            "auc_interval": [[None, None], *[[x - 0.05, x] for x in auc[1:]]],
            "best_layer": 4,
            "best_auc": auc[-1],
            "best_auc_interval": [0.7, 0.99],
            "prompt_only_auc": near(0.6),
            "shuffled_auc": near(0.5),
            "margin_auc": near(0.7),
            "entropy_auc": None,
            "majority": near(0.6),
        }

    def intervention():
        m2g, g2m = (0.88, 0.42) if tagged else (0.4, 0.2)
        return {"site": "resid_post", "m2g": direction(m2g), "g2m": direction(g2m)}

    def transfer():
        models, directions = ["seed 0", "seed 0, retrain 1", "seed 1"], ("m2g", "g2m")
        square = [[near(0.8 if i == j else 0.3) for j in range(3)] for i in range(3)]
        column = [[near(0.5)] for _ in tasks]
        own, across = {d: square for d in directions}, {d: column for d in directions}
        return {
            "retrain": {
                "sources": models,
                "targets": models,
                **own,
                "control": own,
                "base": ["a", "a", "b"],
                "overlap": square,
                "overlap_by_chance": 0.05,
            },
            "task": {
                "sources": tasks,
                "targets": [task],
                **across,
                "control": across,
                "shares_base": [True] * len(tasks),
            },
        }

    def claim(known, verdicts):
        cases = {
            task: {
                "verdict": verdict,
                "effect": 0.3,
                "interval": [0.1, 0.5],
                "n": 200,
                "n_keys": 40,
                "n_seeds": 3,
            }
            for task, verdict in verdicts.items()
        }
        about = {
            name: getattr(known, name)
            for name in ("id", "name", "text", "source", "test", "threshold", "above", "page")
        }
        return {
            **about,
            "track": "scratch",
            "verdict": min(verdicts.values(), default="inconclusive"),
            "effect": 0.3 if cases else None,
            "interval": [0.1, 0.5] if cases else None,
            "n": 200 if cases else 0,
            "cases": cases,
            "evidence": "0.30 (0.10 to 0.50).",
        }

    def verdicts(name):
        """One claim is supported, one was not tested, all others are contradicted on every task."""
        return {"steer_m2g": {"inference": "supported"}, "retrain": {}}.get(
            name, {task: "contradicted" for task in tasks}
        )

    def synthesis():
        number = {
            "task": tasks[0],
            "direction": "m2g",
            "rate": 0.884,
            "low": 0.86,
            "high": 0.905,
            "n": 690,
            "control": 0.36,
        }
        return {
            "main_finding_alt": "Bars of steering success by task, with controls.",
            "headline": (
                "Shifting a tenth of the coordinates turns most memorized answers into computed"
                " ones."
            ),
            "headline_number": number | {"control_name": "random_neurons"},
            "over_keys": {
                task: {
                    name: {
                        "value": 0.5,
                        "low": 0.4,
                        "high": None,
                        "n": 90,
                        "n_keys": 20,
                        "n_seeds": 2,
                    }
                    for name in ("memory", "rule", "auc", "m2g", "g2m")
                }
                for task in tasks
            },
            "claims": [claim(known, verdicts(known.id)) for known in CLAIMS],
        }

    if stage in EVIDENCE:
        return EVIDENCE[stage]
    makers = (
        dataset,
        training,
        pairs,
        differentiation,
        prediction,
        intervention,
        transfer,
        synthesis,
    )
    return dict(zip(TITLES, makers))[stage]()


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
    if track != "scratch":
        base = home / "shared-base-llama" / "seed0" / "00_base"
        base.mkdir(parents=True)
        test = {task.split("-")[0]: {"free_accuracy": 0.97, "n": 500} for task in tasks}
        (base / "result.json").write_text(
            json.dumps(
                {
                    "step": 1500,
                    "test": test,
                    "n_parameters": 816_000,
                    "timings": {"train_seconds": 250.0},
                }
            )
        )
    for task in tasks:
        for seed in seeds:
            for stage in (*STAGES, *(EVIDENCE if track == "scratch" else ())):
                _write(
                    run / task / f"seed{seed}" / stage, task, seed, tasks, notebook, findings, track
                )
        _write(run / task / "all" / "07_transfer", task, "all", tasks, notebook, findings, track)
    folder = run / "study" / "all" / "08_synthesis"
    _write(folder, "study", "all", tasks, notebook, findings, track)
    (folder / "main_finding.png").write_bytes(_first_png(notebook))
    return home


def _write(
    folder: Path, task: str, seed, tasks, notebook: dict, findings: bool, track: str
) -> None:
    folder.mkdir(parents=True)
    stage = folder.name
    lab = copy.deepcopy(notebook)
    lab["cells"][0]["source"] = "".join(lab["cells"][0]["source"]).replace("TITLE", TITLES[stage])
    shown = [
        o["metadata"]
        for cell in lab["cells"]
        for o in cell.get("outputs", [])
        if "image/png" in o.get("data", {})
    ]
    names = FIGURES.get(stage, ()) + (
        ("inheritance",) if track != "scratch" and stage == "04_differentiation" else ()
    )
    for metadata, name in zip(shown, names):
        metadata["name"] = name
    lab["cells"][0]["source"] = lab["cells"][0]["source"].replace(
        "`behaviour`", f"`{shown[0]['name']}`"
    )
    lab["metadata"]["papermill"]["parameters"] = {"task": task, "seed": seed, "preset": "laptop"}
    folder.with_suffix(".ipynb").write_text(json.dumps(lab))
    (folder / "result.json").write_text(json.dumps(result_of(stage, task, seed, tasks)))
    manifest = {
        "overrides": {"n_embd": 64},
        "parameters": {
            "task": task,
            "seed": seed,
            "preset": "laptop",
            "gate_rule": 0.25 if findings else 0.0,
            "track": track,
            **(
                {"base_model": "", "base_seed": 0, "architecture": "llama"}
                if stage == "02_training"
                else {}
            ),
        },
        "versions": {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0"},
        "machine": {"platform": "Linux", "processor": "a laptop", "cores": 2},
        "wall_seconds": 12.3,
        "peak_memory_bytes": 6e8,
        "inputs": {},
        "outputs": {"result.json": "0" * 64},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _first_png(notebook: dict) -> bytes:
    import base64

    outputs = [
        o
        for cell in notebook["cells"]
        for o in cell.get("outputs", [])
        if "image/png" in o.get("data", {})
    ]
    return base64.b64decode("".join(outputs[0]["data"]["image/png"]))
