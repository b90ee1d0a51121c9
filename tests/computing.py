"""The labs' own computing cells, run on planted artifacts in a real run folder."""

from __future__ import annotations

import json
import linecache
from pathlib import Path

from memgen.models.build import save_model
from memgen.pipeline.notebook import Lab
from memgen.presets import stage_parameters
from memgen.stages import LABS
from memgen.store.artifacts import Result, Stage
from memgen.store.folders import lab_folder
from memgen.store.reader import FinishedStage
from memgen.tasks import TASKS
from planted import Planted
from running import ROOT


def write_stage(name: str, given: dict, result: Result) -> FinishedStage:
    """A finished stage with these parameters and this content, as a lab would leave it."""
    parameters = stage_parameters(name, given)
    stage = Stage(lab_folder(name, parameters), parameters.model_dump())
    folder = stage.begin()
    result.write(folder)
    stage.finish(result.numbers, result.seconds)
    return FinishedStage(stage.folder)


def planted_lab(
    name: str,
    runs: Path,
    made: tuple,
    given: dict | None = None,
    stages: dict[str, Result] | None = None,
) -> Lab:
    """Lab `name` on the planted model, opened as its notebook opens it; its inputs lie in `runs`.

    `made`: what the fixture `planted` gives: model, tokenizer, task, data set, answered prompts.
    `given`: the lab's own parameters. `stages`: what the stages after 03 left that it reads.
    """
    model, tokenizer, task, frame, answered = made
    cls = type(task)
    TASKS["planted"] = cls  # until the test ends, see conftest.py
    who = {"task": "planted", "seed": task.seed, "preset": "smoke", "runs": str(runs)}
    data = {"n_keys": len(task.keys), "key_shares": list(getattr(cls, "SHARES", Planted.SHARES))}
    left = {
        "01_dataset_design": Result(task.count(frame), {"instances": frame}),
        "02_training": Result(
            {"free_accuracy": 1.0, "keyed_accuracy": 1.0, "base": None, "miss": None},
            files={"model": lambda folder: save_model(folder, model, tokenizer)},
        ),
        "03_pairs": Result({}, {"answered": answered}),
    } | (stages or {})
    for stage, result in left.items():
        if stage in LABS[name].reads:
            write_stage(stage, who | (data if stage == "01_dataset_design" else {}), result)
    return Lab(name, stage_parameters(name, who | (given or {})))


def run_cell(lab: Lab) -> dict:
    """Execute the computing cell of the lab's notebook; returns the names that it leaves behind."""
    notebook = json.loads((ROOT / "notebooks" / f"{lab.name}.ipynb").read_text(encoding="utf8"))
    (cell,) = [c for c in notebook["cells"] if "compute" in c["metadata"].get("tags", [])]
    source, file = "".join(cell["source"]), f"<the computing cell of {lab.name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    namespace = {"lab": lab, "p": lab.parameters}
    exec(compile(source, file, "exec"), namespace)
    return namespace
