"""Build the book of a run: stage a clean copy of its sources, fill in the numbers, hand it to
Jupyter Book.

    python -m memgen.book --runs data/runs/laptop --out _build

`_build/source` holds what Sphinx reads (rendered prose, executed labs, generated contents),
`_build/html` the book. The hash of all that the pages depend on lies beside the book: an unchanged
book is not built again. A book that fails to build, or builds with a warning, never replaces a good
one.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from press.exercises import find
from press.run import PER_STUDY, TITLES, Lab, Run


def contents(run: Run, template: Path) -> str:
    """The table of contents: the committed spine, with the exercises and the labs of the run below
    their chapters.
    """
    toc = yaml.safe_load(template.read_text(encoding="utf8"))
    for part in toc["parts"]:
        for chapter in part["chapters"]:
            stage = Path(chapter["file"]).name
            if stage in TITLES:
                practice = (
                    [{"file": f"exercises/{stage}", "title": "Exercises"}]
                    if find(stage, template.parent).is_file()
                    else []
                )
                chapter["sections"] = practice + [
                    _branch(one.of(stage, t))
                    for one in run.every
                    for t in dict.fromkeys(lab.task for lab in one.of(stage))
                ]
    return yaml.safe_dump(toc, sort_keys=False)


def _branch(labs: list[Lab]) -> dict:
    first, *others = labs
    kind = "Lab" if first.track == "scratch" else f"Lab, {first.track}"
    title = f"{kind}: all tasks" if first.stage == PER_STUDY else f"{kind}: {first.task}"
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
