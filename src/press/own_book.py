"""A book of a pretrained model alone: one page that says what was asked and found, and the executed labs.

The chapters of the book are about models that were trained for it; a run of track `given` alone has none.
Its first page is `your_model.md`, which the whole book shows as a guide, without a run.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from jinja2 import Environment

from memgen.config.sources import own_files
from memgen.stages import LABS
from memgen.tasks.given import FEWEST_KEYS
from memgen.tasks.table_checks import EMPTY, FEWEST_FREE, NEEDS
from memgen.tasks.table_file import COLUMNS, LONGEST_CELL, LONGEST_PROMPT, MOST_BYTES, MOST_ROWS
from memgen.terms import DIRECTION_WORDS, FORECASTS, GIVEN_TRACK
from press.numbers import decimal, percent, plural
from press.origin import greatest, least, only_in_prose
from press.run import ExecutedLab, Run
from press.sentences import between

#: the page in the sources of the book; in this book it is the first one
PAGE, FIRST = "your_model.md", "index.md"


def is_alone(run: Run) -> bool:
    """Is nothing in this book trained?"""
    return all(one.track == GIVEN_TRACK for one in run.every)


# -- what each lab answers ----------------------------------------------------------------------------
def _known(r: dict) -> str:
    return f"{decimal(r['n_known'], 0)} of {plural(r['n_asked'], 'key')}"


def _shown(r: dict) -> str:
    rates = ", ".join(
        f"{name} {percent(r[f'{name}_rate'])}" for name in ("memory", "rule", "other")
    )
    return (
        f"{rates} of {plural(r['n_conflict'], 'conflict prompt')} of test keys; right without a key"
        f" {percent(r['free_accuracy'])}, without a context {percent(r['keyed_accuracy'])}"
    )


def _pairs(r: dict) -> str:
    found = [
        f"{plural(r['n_pairs'][split], 'pair')} of {split} keys"
        + (f" ({percent(r['flip_rate'][split])} turn)" if split == "test" else "")
        for split in r["n_pairs"]
    ]
    return ", ".join(found)


def _differences(r: dict) -> str:
    shares, largest = _known_of(r["significant_share"]), _known_of(r["max_abs_rho"])
    found = f"{percent(least(shares), 1)} to {percent(greatest(shares), 1)} of a layer's neurons"
    return f"{found}; largest correlation with the behaviour {decimal(greatest(largest))}"


def _forecast(r: dict) -> str:
    best = f"AUC {decimal(r['best_auc'])} ({between(r['best_auc_interval'])}), layer"
    rival = FORECASTS.get(r["chosen_baseline"], "none")
    return (
        f"{best} {r['best_layer']}; the strongest forecast without hidden states ({rival})"
        f" {decimal(r['chosen_baseline_auc'])}"
    )


def _turned(r: dict) -> str:
    """Success in both directions beside an instruction in words and the best of the controls."""
    parts = []
    for direction, words in DIRECTION_WORDS.items():
        found = r[direction]
        told = [bar["success"] for bar in found.get("rivals", {}).values()]
        beside = [f"controls at most {percent(greatest(_known_of(found['controls'].values())))}"]
        beside += [f"rivals at most {percent(greatest(_known_of(told)))}"] if told else []
        parts.append(
            f"{words} {percent(found['success'])} ({between(found['interval'], percent)},"
            f" n = {found['n']}), {', '.join(beside)}"
        )
    return "; ".join(parts)


def _known_of(values) -> list:
    return [value for value in values if value is not None] or [0.0]


@dataclass(frozen=True)
class Asked:
    """A lab's question in plain words, and how its `result.json` answers it."""

    question: str
    answer: Callable[[dict], str]


#: by the short name of a lab
ASKED = {
    "dataset_design": Asked("Which of your keys does the model know?", _known),
    "training": Asked("Under conflict, does it say what it knows or what the text says?", _shown),
    "pairs": Asked("Does the same prompt, said differently, turn the answer?", _pairs),
    "differentiation": Asked("Where do hidden states differ between the two?", _differences),
    "prediction": Asked("Can one tell before the first word which it will be?", _forecast),
    "intervention": Asked("Does a shift of hidden states turn the answer?", _turned),
}


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
    of: dict[tuple[str, str], list[ExecutedLab]] = {}
    for lab in run.pages:
        if LABS[lab.stage].short in ASKED:
            of.setdefault((lab.task, lab.seed), []).append(replace(lab, sourced=True))
    missed = {(one.task, str(one.seed)): one.why for one in run.missed}
    return [_own(labs, missed.get(name, "")) for name, labs in of.items()]


def _own(labs: list[ExecutedLab], why: str) -> OwnRun:
    first = labs[0]
    given = first.manifest["parameters"]
    answered = [
        Answered(lab, asked.question, asked.answer(lab.result))
        for lab in labs
        for asked in [ASKED[LABS[lab.stage].short]]
    ]
    file, digest = given.get("task_file", ""), given.get("task_digest", "")
    return OwnRun(first.task, first.seed, given["base_model"], file, digest, why, answered)


def questions() -> list[dict[str, str]]:
    """The labs that are run, and what each asks."""
    return [
        {"name": row.name, "title": row.title, "question": ASKED[row.short].question}
        for row in LABS.values()
        if row.short in ASKED
    ]


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
        {"file": lab.page, "title": f"{LABS[lab.stage].title}: {lab.label}"}
        for stage in LABS
        for one in run.every
        for lab in one.pages
        if lab.stage == stage
    ]
    toc = {"format": "jb-book", "root": Path(FIRST).stem, "chapters": chapters}
    (source / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf8")
    shutil.copyfile(root / "_config.yml", source / "_config.yml")
