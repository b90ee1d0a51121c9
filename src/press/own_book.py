"""A book of a pretrained model alone: one page that says what was asked and found, and the executed labs.

The chapters of the book are about models that were trained for it; a run of track `given` alone has none.
Its first page is `your_model.md`, which the whole book shows as a guide, without a run.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from inspect import getdoc
from pathlib import Path

import yaml
from jinja2 import Environment

from memgen.config.sources import own_files
from memgen.stages import LABS, LabRow
from memgen.tasks.given import FEWEST_KEYS
from memgen.tasks.table_checks import EMPTY, FEWEST_FREE, NEEDS
from memgen.tasks.table_file import COLUMNS, LONGEST_CELL, LONGEST_PROMPT, MOST_BYTES, MOST_ROWS
from memgen.terms import DIRECTION_WORDS, FORECASTS, GIVEN_TRACK
from press.numbers import decimal, percent, plural, span
from press.origin import greatest, only_in_prose
from press.run import ExecutedLab, Run
from press.sentences import between

#: the page in the sources of the book; in this book it is the first one
PAGE, FIRST = "your_model.md", "index.md"


def is_alone(run: Run) -> bool:
    """Is nothing in this book trained?"""
    return all(one.track == GIVEN_TRACK for one in run.every)


# -- what each lab answers ----------------------------------------------------------------------------
class Answers:
    """A method per lab, by its short name: its question in plain words, and how `result.json` answers it."""

    @staticmethod
    def dataset_design(r: dict) -> str:
        """Which of your keys does the model know?"""
        return f"{decimal(r['n_known'], 0)} of {plural(r['n_asked'], 'key')}"

    @staticmethod
    def training(r: dict) -> str:
        """Under conflict, does it say what it knows or what the text says?"""
        shown = [f"{word} {percent(r[f'{word}_rate'])}" for word in ("memory", "rule", "other")]
        return (
            f"{', '.join(shown)} of {plural(r['n_conflict'], 'conflict prompt')} of test keys; right"
            f" without a key {percent(r['free_accuracy'])}, without a context"
            f" {percent(r['keyed_accuracy'])}"
        )

    @staticmethod
    def pairs(r: dict) -> str:
        """Does the same prompt, said differently, turn the answer?"""
        found = [f"{plural(n, 'pair')} of {split} keys" for split, n in r["n_pairs"].items()]
        turned = percent(r["flip_rate"]["test"])
        return f"{', '.join(found)}; {turned} of the rephrasings of test keys turn it"

    @staticmethod
    def differentiation(r: dict) -> str:
        """Where do hidden states differ between the two?"""
        largest = _known(r["max_abs_rho"])
        return (
            f"significantly in {span(r['significant_share'])} of a layer's neurons; largest"
            f" correlation with the behaviour {decimal(greatest(largest) if largest else None)}"
        )

    @staticmethod
    def prediction(r: dict) -> str:
        """Can one tell before the first word which it will be?"""
        return (
            f"AUC {decimal(r['best_auc'])} ({between(r['best_auc_interval'])}), layer"
            f" {r['best_layer']}; the strongest forecast without hidden states"
            f" ({FORECASTS.get(r['chosen_baseline'], 'none')}) {decimal(r['chosen_baseline_auc'])}"
        )

    @staticmethod
    def intervention(r: dict) -> str:
        """Does a shift of hidden states turn the answer, and do plain words do it as well?"""
        return "; ".join(
            f"{words} {percent(r[direction]['success'])}"
            f" ({between(r[direction]['interval'], percent)}, n = {r[direction]['n']})"
            f"{_beside(r[direction])}"
            for direction, words in DIRECTION_WORDS.items()
        )


def _beside(found: dict) -> str:
    """The strongest control of a direction, and the strongest of the other ways to turn a prompt."""
    told = _known([bar["success"] for bar in found.get("rivals", {}).values()])
    controls = _known(list(found["controls"].values()))
    said = f", controls at most {percent(greatest(controls))}" if controls else ""
    return said + (f", rivals at most {percent(greatest(told))}" if told else "")


def _known(values: list) -> list:
    return [value for value in values if value is not None]


def asked(row: LabRow) -> Callable[[dict], str] | None:
    """What answers this lab's question; its docstring is the question."""
    return getattr(Answers, row.short, None)


@dataclass(frozen=True)
class Answered:
    """One lab of a run: its page, its question, what it found."""

    lab: ExecutedLab
    question: str
    found: str


@dataclass(frozen=True)
class OwnRun:
    """What the first page says of one task and seed; `why`: what the study went on without, or ""."""

    task: str
    seed: str
    base_model: str
    file: str
    digest: str
    why: str
    labs: list[Answered]


def own_runs(run: Run) -> list[OwnRun]:
    """Every run of this book, those that a lab was left out of among them."""
    missed = {(one.task, str(one.seed)): one.why for one in run.missed}
    of: dict[tuple[str, str], list[ExecutedLab]] = {}
    for lab in run.pages:
        if asked(LABS[lab.stage]):
            of.setdefault((lab.task, lab.seed), []).append(replace(lab, sourced=True))
    return [_own(name, of.get(name, []), missed.get(name, "")) for name in {**of, **missed}]


def _own(name: tuple[str, str], labs: list[ExecutedLab], why: str) -> OwnRun:
    given = labs[0].manifest["parameters"] if labs else {}
    found = [(lab, asked(LABS[lab.stage])) for lab in labs]
    answered = [Answered(lab, getdoc(says), says(lab.result)) for lab, says in found if says]
    model, file = given.get("base_model", ""), given.get("task_file", "")
    return OwnRun(*name, model, file, given.get("task_digest", ""), why, answered)


def questions() -> list[dict[str, str]]:
    """The labs that are run, and what each asks."""
    found = [(row, asked(row)) for row in LABS.values()]
    return [{"title": row.title, "question": getdoc(says) or ""} for row, says in found if says]


def guide(alone: bool, runs: list[OwnRun]) -> dict:
    """What the page asks for, in both books."""
    return {
        "alone": alone,
        "own_runs": runs,
        "own_questions": questions(),
        "own_columns": columns(),
        "own_limits": limits(),
    }


def columns() -> list[dict[str, str]]:
    """The columns of a table, by kind of row: needed, empty, or free to fill in."""

    def of(column: str, kind: str) -> str:
        if column in ("prompt", "kind") or column in NEEDS[kind]:
            return "needed"
        return "empty" if column in EMPTY[kind] else "if you like"

    return [{"name": name} | {kind: of(name, kind) for kind in NEEDS} for name in COLUMNS]


def limits() -> dict[str, int]:
    """What a table may hold, at least and at most."""
    return {
        "keys": FEWEST_KEYS,
        "free": FEWEST_FREE,
        "rows": MOST_ROWS,
        "prompt": LONGEST_PROMPT,
        "cell": LONGEST_CELL,
        "megabytes": MOST_BYTES // 10**6,
    }


# -- the book -----------------------------------------------------------------------------------------
def stage_alone(run: Run, root: Path, source: Path, environment: Environment) -> None:
    """The pages of this book but the labs, in a folder of staged sources, which lose all others."""
    runs = [own for one in run.every for own in own_runs(one)]
    environment.globals.update(guide(True, runs))
    page = only_in_prose(environment.get_template(PAGE).render())
    for path in own_files(source, "**/*.md"):
        path.unlink()
    (source / FIRST).write_text(page, encoding="utf8")
    chapters = [
        {"file": lab.page, "title": f"{lab.title}: {lab.label}" if len(runs) > 1 else lab.title}
        for stage in LABS
        for one in run.every
        for lab in one.pages
        if lab.stage == stage
    ]
    toc = {"format": "jb-book", "root": Path(FIRST).stem}
    toc |= {"chapters": chapters} if chapters else {}
    (source / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf8")
    shutil.copyfile(root / "_config.yml", source / "_config.yml")
