"""The table of contents and the settings of the book that is built: the committed ones and the run's labs."""

from __future__ import annotations

from pathlib import Path

import yaml

from memgen.stages import LABS
from press.errors import BookError
from press.exercises import find
from press.run import ExecutedLab, Run

NEW_LABS = (
    "The evidence"  # the part that holds chapters of labs that the committed contents do not name
)


def contents(run: Run, template: Path) -> str:
    """The committed table of contents, with the run's exercises and labs below their chapters."""
    toc, root = yaml.safe_load(template.read_text(encoding="utf8")), template.parent
    chapters = [chapter for part in toc["parts"] for chapter in part["chapters"]]
    named = {chapter["file"] for chapter in chapters}
    added = [{"file": file} for file in map(_chapter, LABS) if file not in named]
    for chapter in added:
        if not (root / "book" / f"{chapter['file']}.md").is_file():
            raise BookError(f"book/{chapter['file']}.md is missing: every lab has a chapter")
    if added:
        part = next((p for p in toc["parts"] if p["caption"] == NEW_LABS), toc["parts"][-1])
        last = max(
            (i for i, one in enumerate(part["chapters"], 1) if Path(one["file"]).name in LABS),
            default=len(part["chapters"]),
        )
        part["chapters"][last:last] = added
    for chapter in chapters + added:
        stage = Path(chapter["file"]).name
        practised = find(stage, root).is_file()
        practice = [{"file": f"exercises/{stage}", "title": "Exercises"}] if practised else []
        if practice and stage not in LABS:
            chapter["sections"] = practice
        if stage in LABS:
            chapter["sections"] = practice + [
                _branch([lab for lab in one.pages if (lab.stage, lab.task) == (stage, task)])
                for one in run.every
                for task in dict.fromkeys(lab.task for lab in one.pages if lab.stage == stage)
            ]
    return yaml.safe_dump(toc, sort_keys=False)


def _chapter(stage: str) -> str:
    return f"chapters/{stage}"


def _branch(labs: list[ExecutedLab]) -> dict:
    first, *others = labs
    kind = "Lab" if first.track == "scratch" else f"Lab, {first.track}"
    whole = LABS[first.stage].level == "study"
    title = f"{kind}: all tasks" if whole else f"{kind}: {first.task}"
    branch = {"file": first.page, "title": title}
    if others:
        branch["sections"] = [{"file": lab.page, "title": f"seed {lab.seed}"} for lab in others]
    return branch


def settings(run: Run, config: Path) -> str:
    """The committed settings; a run whose numbers mean nothing says so on top of every page."""
    config = yaml.safe_load(config.read_text(encoding="utf8"))
    if not run.is_finding:
        config["html"]["announcement"] = (
            f"Trial run (preset {run.preset}): its models did not have to pass the study's gate. "
            "<strong>Its numbers mean nothing.</strong>"
        )
    return yaml.safe_dump(config, sort_keys=False)
