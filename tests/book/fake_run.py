"""A small run folder for the tests of the book: one lab really executed by papermill, shown as every lab.

The numbers are made up, but have the shape that the stages write (`result.json` of each stage) and are drawn from the
task and seed alone.
"""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path

import nbformat
import papermill

STAGES = ("01_dataset_design", "02_training", "03_pairs", "04_differentiation", "05_prediction", "06_intervention")
CONTROLS = ("random_neurons", "low_rho", "permuted", "random_sign", "shuffled_labels")
TITLES = dict(zip((*STAGES, "07_transfer", "08_synthesis"), (
    "Dataset design", "Training", "Pairs", "Differentiation", "Prediction", "Intervention", "Transfer", "Synthesis")))

PLOT = """
import matplotlib.pyplot as plt
from IPython.display import display
figure, axis = plt.subplots(figsize=(6, 3))
axis.bar(["memorization", "generalization", "other"], [0.31 + seed / 50, 0.52, 0.17], color=["#D55E00", "#0072B2", "#999999"])
axis.set_ylabel("share of conflict prompts")
plt.close(figure)
display(figure, metadata={"alt": f"Bars: behaviour of {task}", "caption": "How the prompts are *answered*.", "name": "behaviour"})
"""


def executed_lab(folder: Path) -> dict:
    """A minimal lab with text, a table, a formula and two figures, executed by papermill."""
    lab = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})
    lab.cells = [
        nbformat.v4.new_markdown_cell("# Lab: TITLE\n\n**Question.** What is seen here? See {numref}`behaviour`."),
        nbformat.v4.new_code_cell('task = "t"  # task id\nseed = 0  # random seed\npreset = "laptop"  # preset', metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("plumbing = 1", metadata={"tags": ["setup"]}),
        nbformat.v4.new_markdown_cell("## Computation\n\nThe shift is $h_i + \\alpha\\,\\mathrm{sign}(\\rho_i)\\,|\\mathrm{NMD}_i|$."),
        nbformat.v4.new_code_cell(PLOT.strip()),
        nbformat.v4.new_code_cell(
            "import pandas as pd\ndisplay(pd.DataFrame([[0.123456] * 14] * 4, columns=[f'column {i}' for i in range(14)]))\n"
            "print('step 100 of 1300, memory 0.31, rule 0.49, other 0.19, free accuracy 0.97, keyed accuracy 0.95, 58,000 tokens/s, 40 s left')\n" + PLOT.strip().replace('"behaviour"', '"again"')),
        nbformat.v4.new_markdown_cell("## Answer\n\nThe bars say so."),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(lab, folder / "in.ipynb")
    papermill.execute_notebook(
        str(folder / "in.ipynb"), str(folder / "out.ipynb"), progress_bar=False, cwd=str(folder),
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
            "alpha": 2.0, "top_n": 0.1, "success": value, "interval": [near(value - 0.05), near(value + 0.05)], "other": near(0.05), "n": n,
            "controls": controls, "control_n": {c: 5 * n for c in CONTROLS}, "rephrase_floor": near(0.1), "rephrase_n": 4 * n, "free_accuracy_after": near(0.9), "keyed_accuracy_after": near(0.8), "kl": near(0.4),
        }

    layers = [0.5, 0.58, 0.75, 0.97 if tagged else 0.8]
    matrix = [[near(0.8 if i == j else 0.3) for j in range(3)] for i in range(3)]
    models, across = ["seed 0", "seed 0, retrain 1", "seed 1"], [[near(0.5)] for _ in tasks]
    return {
        "01_dataset_design": lambda: {"n_free": by_split(6000, 500, 500), "n_keyed": by_split(2000, 800, 1200), "n_conflict": by_split(320, 130, 190), "n_keys": by_split(32, 13, 19), "sha256": "0" * 64},
        "02_training": lambda: {"memory_rate": near(0.33), "rule_rate": near(0.5), "other_rate": near(0.17), "free_accuracy": near(0.96), "keyed_accuracy": near(0.94), "step": 1300, "n_parameters": 800_000, "timings": {"train_seconds": 95.0, "tokens_per_second": 58000}},
        "03_pairs": lambda: {"n_prompts": by_split(320, 130, 190), "n_pairs": by_split(700, 250, 400), "flip_rate": by_split(near(0.2), near(0.2), near(0.2))},
        "04_differentiation": lambda: {"site": "resid_post", "max_abs_rho": [near(x) for x in (0.2, 0.3, 0.4, 0.8)], "significant_share": [near(x) for x in (0.02, 0.1, 0.3, 0.7)], "null_significant_share": [near(0.01)] * 4},
        "05_prediction": lambda: {"site": "resid_post", "accuracy": [near(x - 0.05) for x in layers], "auc": [None, *(near(x) for x in layers[1:])], "best_layer": 4, "best_auc": near(layers[-1]), "best_auc_interval": [near(0.7), near(0.99)], "margin_auc": near(0.7), "entropy_auc": None, "auc_interval": [[near(x - 0.05), near(x + 0.03)] for x in layers], "prompt_only_auc": near(0.6), "shuffled_auc": near(0.5), "majority": near(0.6)},
        "06_intervention": lambda: {"site": "resid_post", "m2g": direction(0.88 if tagged else 0.4), "g2m": direction(0.42 if tagged else 0.2)},
        "07_transfer": lambda: {
            "retrain": {"sources": models, "targets": models, "m2g": matrix, "g2m": matrix, "control": {"m2g": matrix, "g2m": matrix}, "base": ["a", "a", "b"]},
            "task": {"sources": tasks, "targets": [task], **{d: across for d in ("m2g", "g2m")}, "control": {d: across for d in ("m2g", "g2m")}, "shares_base": [True] * len(tasks)},
        },
        "08_synthesis": lambda: {
            "main_finding_alt": "Bars of steering success by task, with controls.",
            "headline": "Shifting a tenth of the coordinates turns most memorized answers into computed ones.",
            "headline_number": {"task": tasks[0], "direction": "m2g", "rate": 0.884, "low": 0.86, "high": 0.905, "n": 690, "control": 0.36, "control_name": "random_neurons"},
            "claims": [{"id": "steer", "text": "The behaviour can be steered.", "verdict": "supported", "evidence": "m2g 0.88 on test keys", "page": "06_intervention"},
                       {"id": "transfer", "text": "The neurons transfer.", "verdict": "not supported", "evidence": "m2g 0.31 across retrains", "page": "07_transfer"}],
        },
    }[stage]()


def make_run(root: Path, tasks: list[str], seeds: list[int], notebook: dict, findings: bool = True) -> Path:
    """Write a finished run of `tasks` and `seeds` below `root`; returns the run folder."""
    run = root / "laptop"
    for task in tasks:
        for seed in seeds:
            for stage in STAGES:
                _write(run / task / f"seed{seed}" / stage, task, seed, tasks, notebook, findings)
        _write(run / task / "all" / "07_transfer", task, "all", tasks, notebook, findings)
    folder = run / "study" / "all" / "08_synthesis"
    _write(folder, "study", "all", tasks, notebook, findings)
    (folder / "main_finding.png").write_bytes(_first_png(notebook))
    return run


def _write(folder: Path, task: str, seed, tasks, notebook: dict, findings: bool) -> None:
    folder.mkdir(parents=True)
    stage = folder.name
    lab = copy.deepcopy(notebook)
    lab["cells"][0]["source"] = "".join(lab["cells"][0]["source"]).replace("TITLE", TITLES[stage])
    lab["metadata"]["papermill"]["parameters"] = {"task": task, "seed": seed, "preset": "laptop"}
    folder.with_suffix(".ipynb").write_text(json.dumps(lab))
    (folder / "result.json").write_text(json.dumps(result_of(stage, task, seed, tasks)))
    manifest = {
        "overrides": {"n_embd": 64},
        "parameters": {"task": task, "seed": seed, "preset": "laptop", "gate_rule": 0.25 if findings else 0.0},
        "versions": {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0"}, "machine": {"platform": "Linux", "processor": "a laptop", "cores": 2},
        "wall_seconds": 12.3, "peak_memory_bytes": 6e8, "inputs": {}, "outputs": {"result.json": "0" * 64},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _first_png(notebook: dict) -> bytes:
    import base64

    outputs = [o for cell in notebook["cells"] for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    return base64.b64decode("".join(outputs[0]["data"]["image/png"]))
