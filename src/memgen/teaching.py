"""Teaching material: exercises with solutions and self-checks, and short quizzes.

    python -m memgen.teaching student 04_differentiation OUT.ipynb    the notebook with gaps
    python -m memgen.teaching students FOLDER                         all of them
    python -m memgen.teaching check [NAME or PATH ...]                are notebooks and quizzes well-formed? (default: all)
    python -m memgen.teaching run [NAME or PATH ...] [--task --seed --preset --runs]    execute the solutions

`notebooks/exercises/NN_stage.ipynb` holds the solutions and is the only source: the student's
notebook and the page of the book are derived from it. The tags of its cells say what they are
(`TAGS`), and the lines between `# BEGIN SOLUTION` and `# END SOLUTION` are the student's to write.
A quiz is `book/quizzes/NN_stage.yaml`.
"""

from __future__ import annotations

import argparse
import ast
import html
import re
import sys
import time
import traceback
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .artifacts import MANIFEST, RESULT, read_json, verify
from .config import ROOT, STAGES
from .errors import ArtifactError, ParameterError, StudyError
from .paths import run_folder

NOTEBOOKS, QUIZZES = Path("notebooks/exercises"), Path("book/quizzes")
TAGS = ("setup", "parameters", "exercise", "hint", "solution", "check", "discussion")
PARAMETERS = {"task": "arithmetic-tagged", "seed": 6, "preset": "laptop", "runs": "data/runs"}
BEGIN, END, YOURS = "# BEGIN SOLUTION", "# END SOLUTION", "...  # your code"
TITLE = re.compile(r"# Exercises: \S.*")
HEADING = re.compile(r"## Exercise (\d+) · (\S.*)")
EFFORT = re.compile(r"\*Difficulty ([123]) of 3 · (\d+) minutes\*")
N_EXERCISES, N_QUESTIONS = range(3, 6), range(3, 5)


class TeachingError(StudyError):
    """An exercise notebook or a quiz does not have the form that the student's version and the page
    are made from.
    """


# -- what an exercise reads ------------------------------------------------------------------------
class Exercise:
    """A finished run to read from, as a lab reads it; nothing can be written through it."""

    def __init__(self, stage: str, task: str, seed: int, preset: str, runs: str | Path):
        self.stage, self.task_name, self.seed, self.preset, self.runs = (
            stage,
            task,
            seed,
            preset,
            runs,
        )
        self._checked: set[Path] = set()

    def folder(self, stage: str | None = None) -> Path:
        """The folder of a finished stage (default: the one that the exercises are about), its files
        unchanged since they were written.

        Raises `ArtifactError`, one sentence that says what to run.
        """
        stage = stage or self.stage
        if stage not in STAGES:
            raise ParameterError(f"stage={stage!r} is unknown; choose one of {', '.join(STAGES)}")
        task = "study" if stage == "08_synthesis" else self.task_name
        span = "all" if stage in ("07_transfer", "08_synthesis") else self.seed
        folder = run_folder(self.runs, self.preset, task, span) / stage
        if not (folder / MANIFEST).is_file():
            raise ArtifactError(
                f"{folder} is missing or unfinished: run `make labs TASKS={self.task_name}"
                f" SEEDS={self.seed} PRESET={self.preset} RUNS={self.runs}` first{self._there()}"
            )
        if folder not in self._checked:
            verify(folder)
            self._checked.add(folder)
        return folder

    def read_table(self, name: str, stage: str | None = None):
        """A table that a stage left, as a data frame."""
        import pandas as pd

        return pd.read_parquet(self._file(name, "parquet", stage))

    def read_arrays(self, name: str, stage: str | None = None) -> dict[str, Any]:
        """Numpy arrays that a stage left, by name."""
        from safetensors.numpy import load_file

        return load_file(self._file(name, "safetensors", stage))

    def read_result(self, stage: str | None = None) -> dict:
        """`result.json` of a stage."""
        return read_json(self.folder(stage) / RESULT)

    def read_parameters(self, stage: str | None = None) -> dict:
        """The parameters that a stage ran with."""
        return read_json(self.folder(stage) / MANIFEST)["parameters"]

    def dataset(self):
        """Every instance of the data set, one row each."""
        return self.read_table("instances", "01_dataset_design")

    def task(self, tokenizer=None):
        """The task of this run, with the keys of its data set; its answers have room in the tokens
        of `tokenizer`.
        """
        from .tasks import make_task

        p = STAGES["01_dataset_design"](**self.read_parameters("01_dataset_design"))
        task = make_task(p.task, p.n_keys, p.data_seed)
        return task.fit(tokenizer, self.dataset()) if tokenizer else task

    def model(self):
        """`(model, tokenizer)` of this run."""
        from transformers.utils.logging import disable_progress_bar

        from .models import load_trained

        disable_progress_bar()
        return load_trained(self.folder("02_training"))

    def rng(self, k: int = 0):
        """A generator of random numbers that depends on the run's seed and `k` alone."""
        import numpy as np

        return np.random.default_rng([self.seed, k])

    def _file(self, name: str, kind: str, stage: str | None) -> Path:
        folder = self.folder(stage)
        path = folder / f"{name}.{kind}"
        if not path.is_file():
            there = ", ".join(sorted(p.stem for p in folder.glob(f"*.{kind}"))) or "none"
            raise ArtifactError(f"{folder} has no {name}.{kind}; of this kind it has {there}")
        return path

    def _there(self) -> str:
        """Which tasks and seeds of this preset can be chosen instead, as the end of a sentence."""
        study = run_folder(self.runs, self.preset, self.task_name, self.seed).parents[1]
        found = sorted(
            f"{path.parents[1].name} {path.parent.name}"
            for path in study.glob("*/seed*/01_dataset_design")
            if "-retrain" not in path.parent.name
        )
        return f", or choose a run that is there ({', '.join(found)})" if found else ""


def open_exercise(
    stage: str, task: str, seed: int, preset: str = "laptop", runs: str | Path = "data/runs"
) -> Exercise:
    """The finished run that the exercises of a chapter read. Raises `ParameterError` or
    `ArtifactError`, one sentence each.
    """
    from .config import preset_path
    from .lab import _quiet

    _quiet()
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ParameterError(f"seed={seed!r} must be a whole number, at least 0")
    preset_path(preset)
    exercise = Exercise(stage, task, seed, preset, runs)
    exercise.folder()
    return exercise


# -- the form of a solution notebook ---------------------------------------------------------------
@dataclass
class Part:
    """One exercise: its number, title, difficulty (1 to 3), minutes, task in words, and the cells
    after its first.
    """

    number: int
    title: str
    difficulty: int
    minutes: int
    text: str
    cells: list = field(default_factory=list)

    def tagged(self, tag: str) -> list:
        return [cell for cell in self.cells if tag_of(cell) == tag]


class Source:
    """A solution notebook taken apart: `title`, `intro`, the cells that `open` the run, and its
    exercises (`parts`).

    Raises `TeachingError`, which names the notebook, the cell and what is wrong.
    """

    def __init__(self, notebook, name: str = "notebook"):
        self.notebook, self.name = notebook, name
        self._check_cells()
        starts = [i for i, cell in enumerate(notebook.cells) if tag_of(cell) == "exercise"]
        head = notebook.cells[: starts[0]] if starts else notebook.cells
        self.title, self.intro = self._title(head)
        self.open = self._opening(head[1:])
        ends = [*starts[1:], len(notebook.cells)]
        self.parts = [
            self._part(number, start, end)
            for number, (start, end) in enumerate(zip(starts, ends), start=1)
        ]
        if len(self.parts) not in N_EXERCISES:
            raise TeachingError(
                f"{name} holds {len(self.parts)} exercises; {N_EXERCISES[0]} to {N_EXERCISES[-1]}"
                " are wanted"
            )

    @property
    def minutes(self) -> int:
        return sum(part.minutes for part in self.parts)

    def _fail(self, cell, what: str):
        place = self.notebook.cells.index(cell) + 1
        raise TeachingError(f"{self.name}, cell {place} ({tag_of(cell) or cell.cell_type}): {what}")

    def _check_cells(self) -> None:
        import nbformat

        try:
            nbformat.validate(self.notebook)
        except nbformat.ValidationError as error:
            raise TeachingError(
                f"{self.name} is no valid notebook: {str(error).splitlines()[0]}"
            ) from None
        if self.notebook.metadata.get("kernelspec", {}).get("name") != "python3":
            raise TeachingError(f"{self.name} must name the kernel python3 in its metadata")
        for cell in self.notebook.cells:
            tags = cell.metadata.get("tags", [])
            if len(tags) > 1 or set(tags) - set(TAGS):
                self._fail(cell, f"tags {tags}; one of {', '.join(TAGS)} is allowed")
            is_code = tag_of(cell) in ("setup", "parameters", "solution", "check")
            if tags and is_code != (cell.cell_type == "code"):
                self._fail(cell, f"this tag belongs on a {'code' if is_code else 'Markdown'} cell")
            if cell.cell_type == "code":
                if cell.outputs or cell.execution_count is not None:
                    self._fail(cell, "it holds outputs; a source has none")
                self._tree(cell, cell.source)
                if tag_of(cell) != "solution" and (BEGIN in cell.source or END in cell.source):
                    self._fail(cell, f"{BEGIN!r} or {END!r} outside of a cell tagged 'solution'")
            elif tag_of(cell) not in ("", "exercise") and re.search(
                r"^#+ ", cell.source, flags=re.MULTILINE
            ):
                self._fail(
                    cell, "a heading does not belong here: it would end up inside a box on the page"
                )

    def _tree(self, cell, source: str) -> ast.Module:
        try:
            return ast.parse(source)
        except SyntaxError as error:
            self._fail(cell, f"not plain Python (line {error.lineno}: {error.msg})")

    def _title(self, head) -> tuple[str, str]:
        first = head[0].source if head else ""
        title, _, intro = first.partition("\n")
        if not TITLE.fullmatch(title) or not intro.strip():
            raise TeachingError(
                f"{self.name}: the first cell must be `# Exercises: <title>` and a paragraph that"
                " says what they are about"
            )
        return title.removeprefix("# "), intro.strip()

    def _opening(self, head) -> list:
        code = [cell for cell in head if cell.cell_type == "code"]
        if [tag_of(cell) for cell in code[:3]] != ["setup", "parameters", ""]:
            raise TeachingError(
                f"{self.name} must begin with code cells tagged 'setup' and 'parameters' and one"
                " without a tag that opens the run"
            )
        try:
            given = {
                node.targets[0].id: ast.literal_eval(node.value)
                for node in self._tree(code[1], code[1].source).body
            }
        except (AttributeError, ValueError):
            given = None
        if given != PARAMETERS:
            self._fail(
                code[1],
                "it must set exactly"
                f" {', '.join(f'{name} = {value!r}' for name, value in PARAMETERS.items())}",
            )
        if not re.search(
            r'^ex = open_exercise\("\w+", task=task, seed=seed, preset=preset, runs=runs\)$',
            code[2].source,
            flags=re.MULTILINE,
        ):
            self._fail(
                code[2],
                'it must hold `ex = open_exercise("NN_stage", task=task, seed=seed, preset=preset,'
                " runs=runs)`",
            )
        return code

    def _part(self, number: int, start: int, end: int) -> Part:
        first, *cells = self.notebook.cells[start:end]
        lines = first.source.split("\n")
        heading, effort = (
            HEADING.fullmatch(lines[0]),
            next((line for line in lines[1:] if line.strip()), ""),
        )
        if not heading or int(heading[1]) != number:
            self._fail(first, f"its first line must be `## Exercise {number} · Title`")
        if not EFFORT.fullmatch(effort):
            self._fail(first, "its second line must be like `*Difficulty 2 of 3 · 10 minutes*`")
        text = "\n".join(lines[lines.index(effort) + 1 :]).strip()
        if not text or re.search(r"^#+ ", text, flags=re.MULTILINE):
            self._fail(first, "the task in words must follow, without another heading")
        order = [tag_of(cell) for cell in cells if tag_of(cell)]
        if not re.fullmatch(
            r"hint( solution( solution)* check( check)*)+( discussion)?", " ".join(order)
        ):
            there = ", ".join(order) or "none"
            self._fail(
                first,
                "the tags that follow must be hint, solution, check and perhaps discussion, in"
                f" this order; they are {there}",
            )
        difficulty, minutes = map(int, EFFORT.fullmatch(effort).groups())
        part = Part(number, heading[2], difficulty, minutes, text, cells)
        for cell in part.tagged("solution"):
            self._tree(cell, self._gapped(cell))
        for cell in part.tagged("check"):
            tree = self._tree(cell, cell.source)
            asserts = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
            if not asserts or any(node.msg is None for node in asserts):
                self._fail(
                    cell,
                    'it needs an `assert ..., "what is probably wrong"`, every one with its'
                    " message",
                )
            if not any(
                isinstance(node, ast.Name) and node.id == "print" for node in ast.walk(tree)
            ):
                self._fail(cell, "it must print a line when the answer is right")
        return part

    def _gapped(self, cell) -> str:
        try:
            return gapped(cell.source)
        except TeachingError as error:
            self._fail(cell, str(error))


def tag_of(cell) -> str:
    """The tag of a cell, '' if it has none."""
    return next(iter(cell.metadata.get("tags", [])), "")


def gapped(source: str) -> str:
    """Code with the lines between the marks, and the marks, replaced by one line for the student at
    the same indentation.
    """
    kept: list[str] = []
    gap: list[str] | None = None
    n_gaps = 0
    for line in source.split("\n"):
        mark = line.strip()
        if mark == BEGIN:
            if gap is not None:
                raise TeachingError(f"{BEGIN!r} twice without {END!r}")
            gap, indentation = [], line[: len(line) - len(line.lstrip())]
        elif mark == END:
            if gap is None or not any(line.strip() for line in gap):
                raise TeachingError(f"{END!r} without {BEGIN!r}, or nothing between them")
            kept.append(indentation + YOURS)
            gap, n_gaps = None, n_gaps + 1
        elif gap is not None:
            gap.append(line)
        else:
            kept.append(line)
    if gap is not None or not n_gaps:
        raise TeachingError(
            f"no {END!r} after {BEGIN!r}"
            if gap is not None
            else f"no lines between {BEGIN!r} and {END!r}"
        )
    return "\n".join(kept)


def check_source(notebook, name: str = "notebook") -> Source:
    """Raise `TeachingError` if a solution notebook is malformed; returns it taken apart."""
    return Source(notebook, name)


def student(notebook):
    """The student's notebook: gaps for the solutions, hints folded, no discussions; the argument
    stays as it is.
    """
    check_source(notebook)
    derived = deepcopy(notebook)
    derived.cells = [cell for cell in derived.cells if tag_of(cell) != "discussion"]
    for cell in derived.cells:
        if tag_of(cell) == "solution":
            cell.source = gapped(cell.source)
        elif tag_of(cell) == "hint":
            cell.source = (
                f"<details>\n<summary>Hint</summary>\n\n{cell.source.strip()}\n\n</details>"
            )
    return derived


# -- the page of the book --------------------------------------------------------------------------
def downloads(stage: str) -> dict[str, str]:
    """The files beside the page of a chapter's exercises: which notebook -> file name."""
    return {"student": f"exercises-{stage}.ipynb", "solution": f"solutions-{stage}.ipynb"}


def label(stage: str, number: int) -> str:
    """The name under which other pages refer to an exercise: {ref}`exercise-04-1`."""
    return f"exercise-{stage[:2]}-{number}"


def page(
    notebook,
    stage: str,
    task: str = PARAMETERS["task"],
    seed: int = PARAMETERS["seed"],
    preset: str = PARAMETERS["preset"],
) -> str:
    """The exercises of a chapter as a MyST page, to lie in `exercises/`; `task`, `seed` and
    `preset` name a run that exists.
    """
    source = check_source(notebook, stage)
    blocks = [f"# {source.title}", source.intro, _how_to(source, stage, task, seed, preset)]
    blocks += [
        "## Before the first exercise",
        _code("\n\n".join(cell.source.strip() for cell in source.open)),
    ]
    for part in source.parts:
        blocks += [
            f"({label(stage, part.number)})=\n## Exercise {part.number} · {part.title}",
            f"*Difficulty {part.difficulty} of 3 · {part.minutes} minutes*",
            part.text,
        ]
        blocks += [_shown(cell) for cell in part.cells if tag_of(cell) != "discussion"]
        answer = [_code(_unmarked(cell.source)) for cell in part.tagged("solution")] + [
            cell.source.strip() for cell in part.tagged("discussion")
        ]
        blocks.append(_box("dropdown", "Solution", "\n\n".join(answer)))
    return "\n\n".join(blocks) + "\n"


def _how_to(source: Source, stage: str, task: str, seed: int, preset: str) -> str:
    files = downloads(stage)
    text = f"""\
{len(source.parts)} exercises, about {source.minutes} minutes in all, for [chapter {int(stage[:2])}](../chapters/{stage}.md). Download
{{download}}`the notebook with gaps <{files["student"]}>` and open it in any editor for notebooks, with the Python of `.venv` as its kernel
(VS Code can do that; `.venv/bin/pip install jupyterlab` and `.venv/bin/jupyter lab` are another way). Replace every `{YOURS}` and run the check below it.
To run the whole notebook from the root of the repository, up to the first check that fails:

```{{code-block}} bash
:class: wrapped

.venv/bin/papermill {files["student"]} OUT.ipynb --cwd . -p task {task} -p seed {seed} -p preset {preset}
```

Every solution is folded on this page, and all are in {{download}}`the notebook with solutions <{files["solution"]}>`."""
    return _box("admonition", "How to work on them", text)


def _shown(cell) -> str:
    """One cell of an exercise on the page."""
    text, tag = cell.source.strip(), tag_of(cell)
    if tag == "hint":
        return _box("dropdown", "Hint", text)
    if tag == "solution":
        return _code(gapped(text))
    if tag == "check":
        return (
            "**Check yourself.** It fails with a reason until the answer is"
            f" right:\n\n{_code(text)}"
        )
    return _code(text) if cell.cell_type == "code" else text


def _unmarked(source: str) -> str:
    return "\n".join(
        line for line in source.strip().split("\n") if line.strip() not in (BEGIN, END)
    )


def _code(text: str) -> str:
    fence = "`" * _longer(text, "`")
    return f"{fence}{{code-block}} python\n:class: wrapped\n\n{text}\n{fence}"


def _box(kind: str, title: str, text: str) -> str:
    fence = ":" * _longer(text, ":")
    return f"{fence}{{{kind}}} {title}\n{text}\n{fence}"


def _longer(text: str, mark: str) -> int:
    """The length of a fence that nothing inside `text` can close."""
    return max([3, *(len(run) + 1 for run in re.findall(f"{mark}{{3,}}", text))])


# -- quizzes ---------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Option:
    text: str
    why: str
    right: bool


@dataclass(frozen=True)
class Question:
    text: str
    options: tuple[Option, ...]


def questions(path: Path) -> list[Question]:
    """The questions of a quiz file. Raises `TeachingError` naming the file, the question and what
    is wrong.
    """
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf8"))
    except OSError:
        raise TeachingError(f"{path} is missing") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TeachingError(
            f"{path} is not readable as YAML: {' '.join(str(error).split())}"
        ) from None
    if not isinstance(entries, list) or len(entries) not in N_QUESTIONS:
        raise TeachingError(
            f"{path} must be a list of {N_QUESTIONS[0]} to {N_QUESTIONS[-1]} questions"
        )
    return [
        _question(entry, f"{path}, question {number}")
        for number, entry in enumerate(entries, start=1)
    ]


def _question(entry, where: str) -> Question:
    if (
        not isinstance(entry, dict)
        or set(entry) != {"question", "options"}
        or not isinstance(entry["options"], list)
    ):
        raise TeachingError(f"{where} must hold `question` and a list `options`")
    options = [
        _option(option, f"{where}, option {number}")
        for number, option in enumerate(entry["options"], start=1)
    ]
    if len(options) < 2 or sum(option.right for option in options) != 1:
        raise TeachingError(
            f"{where} must have two or more options, exactly one of them with `right: true`"
        )
    if len({option.text for option in options}) < len(options):
        raise TeachingError(f"{where} has the same option twice")
    return Question(_plain(entry["question"], where), tuple(options))


def _option(entry, where: str) -> Option:
    if not isinstance(entry, dict) or not {"text", "why"} <= set(entry) <= {"text", "why", "right"}:
        raise TeachingError(
            f"{where} must hold `text` and `why`, and `right: true` if it is the right one"
        )
    if not isinstance(entry.get("right", False), bool):
        raise TeachingError(f"{where}: `right` must be true or false")
    return Option(
        _plain(entry["text"], where), _plain(entry["why"], where), entry.get("right", False)
    )


def _plain(text, where: str) -> str:
    """A text of one or more lines, as one line; formulas and links are not rendered, so they are
    refused.
    """
    if not isinstance(text, str) or not text.strip():
        raise TeachingError(
            f"{where}: {text!r} must be a text that is not empty (in quotes if it is a number)"
        )
    if re.search(r"\$|\]\(|\{\w+\}`", text):
        raise TeachingError(
            f"{where}: {text!r} holds a formula, a link or a role; only `code`, *emphasis* and"
            " **strong** are rendered"
        )
    return " ".join(text.split())


def inline(text: str) -> str:
    """Inline Markdown (code, strong, emphasis) as HTML; everything else is escaped."""
    pieces = re.split(r"`([^`]+)`", text)
    for i, piece in enumerate(pieces):
        piece = html.escape(piece, quote=True)
        if i % 2:
            pieces[i] = f"<code>{piece}</code>"
        else:
            piece = re.sub(r"\*\*(\S(?:.*?\S)?)\*\*", r"<strong>\1</strong>", piece)
            pieces[i] = re.sub(r"\*(\S(?:.*?\S)?)\*", r"<em>\1</em>", piece)
    return "".join(pieces)


def quiz(path: Path) -> str:
    """A quiz as MyST text around HTML. `book/_static/quiz.js` gives the explanation of the chosen
    option; without it the answers unfold.
    """
    name = f"quiz-{path.stem}"
    asked, answers = [], []
    for number, question in enumerate(questions(path), start=1):
        group, heading = f"{name}-{number}", f"{number}. {inline(question.text)}"
        choices = "\n".join(
            f'<label><input type="radio" name="{group}" value="{i}">'
            f" <span>{inline(option.text)}</span></label>"
            for i, option in enumerate(question.options)
        )
        asked.append(
            f'<fieldset>\n<legend>{heading}</legend>\n{choices}\n<div class="quiz-said"'
            ' role="status"></div>\n</fieldset>'
        )
        told = "\n".join(
            f'<li data-right="{str(option.right).lower()}"><p><strong>{inline(option.text)}</strong></p><p><strong>{"Right." if option.right else "No."}</strong>'
            f" {inline(option.why)}</p></li>"
            for option in question.options
        )
        answers.append(f"<p>{heading}</p>\n<ul>\n{told}\n</ul>")
    folded = [
        '<details class="quiz-answers">',
        "<summary>All answers, explained</summary>",
        *answers,
        "</details>",
    ]
    body = "\n".join(['<div class="quiz">', *asked, *folded, "</div>"])
    return f"```{{raw}} html\n{body}\n```"


# -- executing -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Outcome:
    """What one code cell did: its place (from 1), tag, seconds, and the kind and text of its error
    ('' if there was none).
    """

    cell: int
    tag: str
    seconds: float
    kind: str = ""
    message: str = ""


def execute(
    notebook, parameters: dict[str, Any] | None = None, keep_going: bool = False
) -> list[Outcome]:
    """Run the code cells of an exercise notebook in one namespace, without a kernel, up to the
    first error unless `keep_going`.
    """
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    shell.showtraceback = shell.showsyntaxerror = lambda *args, **kwargs: (
        None
    )  # told below, where it is news
    outcomes = []
    for place, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type != "code":
            continue
        started = time.monotonic()
        done = shell.run_cell(cell.source, store_history=False)
        error = done.error_before_exec or done.error_in_exec
        kind, message = (type(error).__name__, str(error)) if error else ("", "")
        if error and not isinstance(error, (StudyError, AssertionError)) and not keep_going:
            traceback.print_exception(error)
        if tag_of(cell) == "parameters":
            shell.user_ns.update(parameters or {})
        outcomes.append(Outcome(place, tag_of(cell), time.monotonic() - started, kind, message))
        if kind and not keep_going:
            break
    return outcomes


# -- files and the command line --------------------------------------------------------------------
def read_notebook(path: Path):
    """A notebook from disk. Raises `TeachingError` that names it."""
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except OSError:
        raise TeachingError(f"{path} is missing") from None
    except Exception as error:  # nbformat has several classes of its own
        raise TeachingError(
            f"{path} is no readable notebook: {' '.join(str(error).split())[:200]}"
        ) from None


def sources(root: Path = ROOT) -> list[Path]:
    """Every solution notebook of the repository, in the order of the chapters."""
    return sorted((root / NOTEBOOKS).glob("*.ipynb"))


def find(name: str, root: Path = ROOT) -> Path:
    """The solution notebook of a chapter (`04_differentiation`), or the file that `name` says."""
    path = Path(name)
    return path if path.suffix else root / NOTEBOOKS / f"{name}.ipynb"


def check_file(path: Path) -> str:
    """Check one notebook or quiz; returns a line that says what it holds."""
    if path.suffix in (".yaml", ".yml"):
        return f"{path}: {len(questions(path))} questions"
    source = check_source(read_notebook(path), str(path))
    if path.stem in STAGES and f'open_exercise("{path.stem}"' not in source.open[2].source:
        raise TeachingError(f'{path} must open "{path.stem}"')
    return f"{path}: {len(source.parts)} exercises, {source.minutes} minutes"


def _student(options) -> None:
    _write(student(read_notebook(find(options.name))), options.out)


def _students(options) -> None:
    options.folder.mkdir(parents=True, exist_ok=True)
    for path in sources():
        _write(student(read_notebook(path)), options.folder / path.name)


def _write(notebook, path: Path) -> None:
    import nbformat

    nbformat.write(notebook, path)
    print(f"written: {path}")


def _check(options) -> None:
    for path in [find(name) for name in options.names] or [
        *sources(),
        *sorted((ROOT / QUIZZES).glob("*.yaml")),
    ]:
        print(check_file(path))


def _run(options) -> None:
    given = {name: value for name in PARAMETERS if (value := getattr(options, name)) is not None}
    for path in [find(name) for name in options.names] or sources():
        notebook = read_notebook(path)
        source = check_source(notebook, str(path))
        *_, last = outcomes = execute(notebook, given)
        if last.kind:
            raise TeachingError(
                f"{path}, cell {last.cell} ({last.tag or 'code'}): {last.kind}: {last.message}"
            )
        print(
            f"{path}: {len(source.parts)} exercises,"
            f" {sum(outcome.seconds for outcome in outcomes):.1f} s"
        )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m memgen.teaching", description="Exercises and quizzes: derive, check, run."
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("student", help="write the student's notebook of a chapter")
    one.add_argument("name", help="chapter, e.g. 04_differentiation, or a path")
    one.add_argument("out", type=Path)
    one.set_defaults(do=_student)
    every = commands.add_parser("students", help="write all of them to a folder")
    every.add_argument("folder", type=Path)
    every.set_defaults(do=_students)
    check = commands.add_parser("check", help="are notebooks and quizzes well-formed?")
    check.add_argument("names", nargs="*", help="chapters or paths (default: all)")
    check.set_defaults(do=_check)
    run = commands.add_parser("run", help="execute the solutions")
    run.add_argument("names", nargs="*", help="chapters or paths (default: all)")
    for name, value in PARAMETERS.items():
        run.add_argument(f"--{name}", type=type(value), help=f"(default: {value})")
    run.set_defaults(do=_run)
    options = parser.parse_args(arguments)
    try:
        options.do(options)
    except StudyError as error:
        print(f"teaching: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
