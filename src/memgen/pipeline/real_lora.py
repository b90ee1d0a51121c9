"""What the book keeps of a pretrained model that adapters taught both behaviours: labs 01 to 07, track lora.

    memgen real-lora collect --seeds 26 27 28   write data/reference/real/<model>-lora.json from finished runs

The runs are those of `make real-lora`. All seeds of a task have one data set and one base, so they differ in
the adapter alone. A run that missed its gate is a result: its training stays, and why nothing else is there.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from memgen.config.training import TrainingParameters
from memgen.errors import ArtifactError
from memgen.models.packaged import DEFAULT, PACKAGED, PLACE
from memgen.pipeline.real import commit, tried
from memgen.pipeline.reference import machine
from memgen.stages import LABS, TRAINING, with_their_inputs
from memgen.stats.intervals import number
from memgen.store.files import write_json
from memgen.store.folders import run_folder
from memgen.store.left_out import reason_in, reason_of
from memgen.store.reader import FinishedRun, FinishedStage
from memgen.terms import DIRECTIONS, WHOLE

TRACK, SUFFIX = "lora", "-lora"
TASKS = ("inference", "arithmetic-tagged")
TRANSFER = "07_transfer"
#: of a run, in the order of their numbers; `TRANSFER` is over the seeds
STAGES = tuple(
    name for name in with_their_inputs([TRANSFER, "05_prediction"]) if LABS[name].level == "run"
)
#: what is there of a run that was left out
_ALWAYS = STAGES[:3]
#: gate of the study, by the number that it bounds: the presets ask for more on validation keys
_AT_LEAST = {"memory_rate": "gate_memory", "rule_rate": "gate_rule", "free_accuracy": "gate_free"}
_AT_MOST = {"other_rate": "gate_other"}
_TRAINED = (
    *(
        "memory_rate",
        "rule_rate",
        "other_rate",
        "free_accuracy",
        "keyed_accuracy",
        "keys_with_both",
    ),
    *("n_conflict", "n_test_keys", "step", "last_step", "passed", "miss", "trainable_share"),
)
_PREDICTED = (
    *("best_layer", "best_auc", "best_auc_interval", "n_test", "n_test_keys", "chosen_baseline"),
    *("chosen_baseline_auc", "chosen_baseline_interval", "gain", "gain_interval"),
)
_STEERED = (
    *("cell", "kept_exists", "alpha", "top_n", "success", "interval", "other", "n", "n_keys"),
    *("free_accuracy_before", "free_accuracy_after", "keyed_accuracy_before"),
    *("keyed_accuracy_after", "rephrase_floor", "rephrase_n", "controls", "control_n"),
)
#: of the cell of greatest success on validation keys, whatever it costs
_MOST = (
    *("alpha", "top_n", "success", "interval", "other"),
    *("free_accuracy_after", "keyed_accuracy_after"),
)
_MATRIX = ("sources", "targets", *DIRECTIONS, "control", "overlap", "overlap_by_chance")


def gate() -> dict[str, float]:
    """The gate of the study: what a run is held against on test keys."""
    fields = TrainingParameters.model_fields
    return {name: fields[of].default for name, of in (_AT_LEAST | _AT_MOST).items()}


def holds(trained: dict[str, Any]) -> bool:
    """Does a run pass that gate on its test keys?"""
    asked = gate()
    enough = all(trained[name] >= asked[name] for name in _AT_LEAST)
    return enough and all(trained[name] <= asked[name] for name in _AT_MOST)


def collect(runs: str, preset: str, tasks: list[str], seeds: list[int]) -> dict[str, Any]:
    """All that the chapter shows of one model; `tasks`, `seeds`: lists, one entry for each.

    Errors: `ArtifactError` names every run that is not finished, runs on more than one base, or runs that
    chose among different cells.
    """
    found = {task: {seed: _run(runs, preset, task, seed) for seed in seeds} for task in tasks}
    every = [run for by_seed in found.values() for run in by_seed.values()]
    _refuse_unfinished(every)
    bases = {run[TRAINING].result["base"] for run in every}
    if len(bases) > 1:
        raise ArtifactError(
            f"the runs in {every[0].folder.parents[1]} are on bases with different weights"
            f" ({', '.join(sorted(base[:12] for base in bases))}); run all of them with one base_model"
        )
    return {
        "model": _model(every[0]),
        "gate": gate(),
        "tried": tried(run for run in every if not reason_in(run.folder)),
        "tasks": [_of_task(task, by_seed) for task, by_seed in found.items()],
    }


def _run(runs: str, preset: str, task: str, seed: int | str) -> FinishedRun:
    return FinishedRun(run_folder(runs, preset, task, seed, track=TRACK))


def _refuse_unfinished(every: list[FinishedRun]) -> None:
    lacking = []
    for run in every:
        needed = _ALWAYS if reason_in(run.folder) else STAGES
        if missing := [name for name in needed if not run[name].exists]:
            lacking.append(f"{run.folder} (without {', '.join(missing)})")
    if lacking:
        raise ArtifactError(
            f"not finished: {'; '.join(lacking)}; `make real-lora` runs what is missing, and then"
            " collects"
        )


def _model(run: FinishedRun) -> dict[str, Any]:
    """Its card: what it is, where it comes from, and which weights the adapters are on."""
    training = run[TRAINING]
    asked = str(training.manifest["parameters"]["base_model"])
    name = Path(asked).name
    card = PACKAGED.get(name) if asked.rstrip("/").endswith(f"{PLACE}/{name}") else None
    about: dict[str, Any] = {"name": name, "base_model": asked, "title": asked}
    about |= {"weights": training.result["base"], "n_parameters": training.result["n_parameters"]}
    if card:
        about |= {"base_model": f"{PLACE}/{name}", "gguf": card.sha256}
        about |= {n: getattr(card, n) for n in ("title", "quantization", "source", "licence")}
    return about


def _of_task(task: str, by_seed: dict[int, FinishedRun]) -> dict[str, Any]:
    first = next(iter(by_seed.values()))
    whole = FinishedRun(first.folder.with_name(WHOLE))[TRANSFER]
    why = reason_of(whole.folder)
    found: dict[str, Any] = {
        "task": task,
        "seeds": [{"seed": seed, **_of_run(run)} for seed, run in by_seed.items()],
    }
    if not whole.exists or why:
        return found | {"transfer": None, "without_transfer": why or "lab 07_transfer was not run"}
    matrices = {
        name: {key: whole.result[name][key] for key in _MATRIX} for name in ("retrain", "task")
    }
    return found | {"transfer": matrices | {"spent": _spent(whole)}}


def _of_run(run: FinishedRun) -> dict[str, Any]:
    """One adapter: its training on test keys, and what labs 03 to 06 found where they could be asked."""
    trained = run[TRAINING].result
    why, there = reason_in(run.folder), [name for name in STAGES if run[name].exists]
    order = run["03_pairs"].result["by_change"]["order"]
    found: dict[str, Any] = {
        "training": {name: trained[name] for name in _TRAINED} | {"holds": holds(trained)},
        "pairs": {name: order[name] for name in ("n_pairs", "flip_rate")},
        "spent": {name: _spent(run[name]) for name in there},
        "left_out": why,
    }
    if why:
        return found
    states, predicted = run["04_differentiation"].result, run["05_prediction"].result
    steered = run["06_intervention"].result
    return found | {
        "layers": _layers(states, predicted),
        "differences": {name: states[name] for name in ("site", "n_pairs", "n_keys")},
        "inheritance": _inherited(run["04_differentiation"]),
        "prediction": {name: predicted[name] for name in _PREDICTED},
        "steering": {d: _steered(steered[d]) for d in DIRECTIONS},
    }


def _steered(found: dict[str, Any]) -> dict[str, Any]:
    """One direction: the cell that was run, that of greatest success, and one token forbidden, no shift."""
    forbidden = found["output_controls"]["forbid_source"]
    return {name: found[name] for name in _STEERED} | {
        "most": {name: found["max"][name] for name in _MOST},
        "forbidden": {name: forbidden[name] for name in ("success", "other")},
    }


def _layers(states: dict[str, Any], predicted: dict[str, Any]) -> list[dict[str, Any]]:
    """One entry per layer, from 1: differences on train keys, with the adapter and in the base; the probe."""
    in_base = states["base_null"]["significant_share"] if states["base_null"] else None
    lists = {
        "significant": states["significant_share"],
        "null": states["null_significant_share"],
        "in_base": in_base or [None] * len(states["significant_share"]),
        "correlation_with_base": states["base"]["correlation"],
        "auc": predicted["auc"],
    }
    columns = zip(*lists.values(), strict=True)
    return [{"layer": n, **dict(zip(lists, values))} for n, values in enumerate(columns, start=1)]


def _inherited(stage: FinishedStage) -> dict[str, Any]:
    """Base against adapter: what their maps share, and the behaviours as the adapter is turned up."""
    base = stage.result["base"]
    kept = ("correlation_all", "top_share", "top_in_common", "n_pairs")
    scaled = stage.table("scaling")[["scale", *_TRAINED[:3], "n"]]
    rows = [
        {name: number(value) for name, value in row.items()} for row in scaled.to_dict("records")
    ]
    return {name: base[name] for name in kept} | {"scaling": rows}


def _spent(stage: FinishedStage) -> dict[str, float]:
    names = ("cpu_seconds", "wall_seconds", "peak_memory_bytes")
    return {name: stage.manifest.get(name) or 0 for name in names}


def command(model: dict[str, Any], tasks: list[str], seeds: list[int]) -> str:
    """What to type for the same runs."""
    text = f'make real-lora SEEDS="{" ".join(map(str, seeds))}"'
    text += "" if tuple(tasks) == TASKS else f' TASKS="{" ".join(tasks)}"'
    return text if model["name"] == DEFAULT else f'{text} SET="base_model={model["base_model"]}"'


def write(chosen: tuple[str, str], tasks: list[str], seeds: list[int], out: Path) -> Path:
    """Write what `collect` finds, and how it was made, to `<out>/<model>-lora.json`; returns that file.

    chosen: runs, preset.
    """
    found = collect(*chosen, tasks, seeds)
    about = {
        "command": command(found["model"], tasks, seeds),
        "collected": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        **machine(_run(*chosen, tasks[0], seeds[0]).folder.parent, TRAINING),
    }
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{found['model']['name']}{SUFFIX}.json"
    write_json(file, found | about)
    n = sum(one["training"]["holds"] for task in found["tasks"] for one in task["seeds"])
    print(f"wrote {file}: {n} of {len(tasks) * len(seeds)} adapters hold the gate on test keys")
    return file
