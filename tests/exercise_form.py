"""The form that exercise notebooks and quizzes must have, and a quick way to run the notebooks."""

from __future__ import annotations

import ast
import re
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from memgen.errors import StudyError
from memgen.models.packaged import DEFAULT
from memgen.stages import LABS
from press.errors import TeachingError
from press.exercises import (
    BEGIN,
    END,
    PARAMETERS,
    TAGS,
    Part,
    Source,
    gapped,
    numbered,
    read_notebook,
    tag_of,
)
from press.lessons import LESSON
from press.quizzes import read_quiz

N_EXERCISES, N_QUESTIONS = range(3, 6), range(3, 5)
CODE_TAGS = ("setup", "parameters", "solution", "check")
TITLE = re.compile(r"# Exercises: \S.*")
ANY_HEADING = re.compile(r"^#+ ", re.MULTILINE)
ORDER = re.compile(r"hint( solution( solution)* check( check)*)+( discussion)?")
OPENS = re.compile(
    r'^ex = open_exercise\("(\w+)", task=task, seed=seed, preset=preset, runs=runs\)$', re.MULTILINE
)

#: the exercises of a chapter without a lab read what is committed of a model
OPENS_ASKED = re.compile(r"^asked = open_asked\(model\)$", re.MULTILINE)
COMMITTED = {"model": DEFAULT}


def check_source(notebook, name: str = "notebook") -> Source:
    """Raise `TeachingError` if a solution notebook is malformed; returns it taken apart."""
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        raise TeachingError(f"{name} is no valid notebook: {str(error).splitlines()[0]}") from None
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        raise TeachingError(f"{name} must name the kernel python3 in its metadata")
    source = Source(notebook, name)
    for cell in notebook.cells:
        check_cell(source, cell)
    check_opening(source)
    opened = OPENS.search(source.open[2].source)
    stage = opened[1] if opened else ""
    for number, part in enumerate(source.parts, start=1):
        check_part(source, part, numbered(stage, number))
    if len(source.parts) not in N_EXERCISES:
        wanted = f"{N_EXERCISES[0]} to {N_EXERCISES[-1]}"
        raise TeachingError(f"{name} holds {len(source.parts)} exercises; {wanted} are wanted")
    return source


def check_cell(source: Source, cell) -> None:
    """Its tag fits, it holds no output, its code is Python."""
    tags, tag = cell.metadata.get("tags", []), tag_of(cell)
    if len(tags) > 1 or set(tags) - set(TAGS):
        source.fail(cell, f"tags {tags}; one of {', '.join(TAGS)} is allowed")
    if tags and (tag in CODE_TAGS) != (cell.cell_type == "code"):
        kind = "code" if tag in CODE_TAGS else "Markdown"
        source.fail(cell, f"this tag belongs on a {kind} cell")
    if cell.cell_type == "code":
        if cell.outputs or cell.execution_count is not None:
            source.fail(cell, "it holds outputs; a source has none")
        tree_of(source, cell, cell.source)
        if tag != "solution" and (BEGIN in cell.source or END in cell.source):
            source.fail(cell, f"{BEGIN!r} or {END!r} outside of a cell tagged 'solution'")
    elif tag not in ("", "exercise") and ANY_HEADING.search(cell.source):
        source.fail(
            cell, "a heading does not belong here: it would end up inside a box on the page"
        )


def tree_of(source: Source, cell, code: str) -> ast.Module:
    try:
        return ast.parse(code)
    except SyntaxError as error:
        source.fail(cell, f"not plain Python (line {error.lineno}: {error.msg})")


def check_opening(source: Source) -> None:
    """A title, a paragraph, and three code cells: set-up, the default parameters, the run."""
    first = source.notebook.cells[0].source if source.notebook.cells else ""
    if not TITLE.fullmatch(first.partition("\n")[0]) or not source.intro:
        raise TeachingError(
            f"{source.name}: the first cell must be `# Exercises: <title>` and a paragraph that says"
            " what they are about"
        )
    if [tag_of(cell) for cell in source.open[:3]] != ["setup", "parameters", ""]:
        raise TeachingError(
            f"{source.name} must begin with code cells tagged 'setup' and 'parameters' and one without"
            " a tag that opens the run"
        )
    _, parameters, opening = source.open[:3]
    try:
        body = ast.parse(parameters.source).body
        given = {node.targets[0].id: ast.literal_eval(node.value) for node in body}
    except (AttributeError, ValueError):
        given = None
    asked = bool(OPENS_ASKED.search(opening.source))
    names = COMMITTED if asked else PARAMETERS
    if given != names:
        wanted = ", ".join(f"{name} = {value!r}" for name, value in names.items())
        source.fail(parameters, f"it must set exactly {wanted}")
    if not asked and not OPENS.search(opening.source):
        source.fail(
            opening,
            'it must hold `ex = open_exercise("NN_stage", task=task, seed=seed, preset=preset,'
            " runs=runs)`",
        )


def check_part(source: Source, part: Part, number: str) -> None:
    """One exercise: its number (`4.1`), its task in words, its cells in order, and checks that say why."""
    first = source.notebook.cells[source.notebook.cells.index(part.cells[0]) - 1]
    there = str(part.number) if part.chapter is None else f"{part.chapter}.{part.number}"
    if there != number:
        source.fail(first, f"its first line must be `## Exercise {number} · Title`")
    if not part.text or ANY_HEADING.search(part.text):
        source.fail(first, "the task in words must follow, without another heading")
    order = [tag_of(cell) for cell in part.cells if tag_of(cell)]
    if not ORDER.fullmatch(" ".join(order)):
        there = ", ".join(order) or "none"
        source.fail(
            first,
            "the tags that follow must be hint, solution, check and perhaps discussion, in this order;"
            f" they are {there}",
        )
    for cell in part.tagged("solution"):
        try:
            gaps = gapped(cell.source)
        except TeachingError as error:
            source.fail(cell, str(error))
        tree_of(source, cell, gaps)
    for cell in part.tagged("check"):
        nodes = list(ast.walk(tree_of(source, cell, cell.source)))
        asserts = [node for node in nodes if isinstance(node, ast.Assert)]
        if not asserts or any(node.msg is None for node in asserts):
            source.fail(
                cell,
                'it needs an `assert ..., "what is probably wrong"`, every one with its message',
            )
        if not any(isinstance(node, ast.Name) and node.id == "print" for node in nodes):
            source.fail(cell, "it must print a line when the answer is right")


# -- quizzes ---------------------------------------------------------------------------------------
def check_quiz(path: Path) -> int:
    """The number of questions of a quiz. Raises `TeachingError` naming file, question and fault.

    The questions of a lesson's quiz (`lesson-45.yaml`) say which pages they need, the others do not.
    """
    entries = read_quiz(path)
    if not isinstance(entries, list) or len(entries) not in N_QUESTIONS:
        raise TeachingError(
            f"{path} must be a list of {N_QUESTIONS[0]} to {N_QUESTIONS[-1]} questions"
        )
    for number, entry in enumerate(entries, start=1):
        check_question(entry, f"{path}, question {number}", path.stem.startswith(LESSON))
    return len(entries)


def check_question(entry, where: str, of_lesson: bool = False) -> None:
    listed = isinstance(entry, dict) and isinstance(entry.get("options"), list)
    names = {"question", "options"} | ({"needs"} if of_lesson else set())
    if not listed or set(entry) != names:
        more = ", and a list `needs` of the pages that it needs" if of_lesson else ""
        raise TeachingError(f"{where} must hold `question` and a list `options`{more}")
    if of_lesson and not (isinstance(entry["needs"], list) and entry["needs"]):
        raise TeachingError(f"{where}: `needs` must list the pages that were taught before it")
    options = entry["options"]
    for number, option in enumerate(options, start=1):
        check_option(option, f"{where}, option {number}")
    if len(options) < 2 or sum(option.get("right", False) for option in options) != 1:
        raise TeachingError(
            f"{where} must have two or more options, exactly one of them with `right: true`"
        )
    if len({option["text"] for option in options}) < len(options):
        raise TeachingError(f"{where} has the same option twice")
    check_text(entry["question"], where)


def check_option(option, where: str) -> None:
    if not isinstance(option, dict) or not {"text", "why"} <= set(option) <= {
        "text",
        "why",
        "right",
    }:
        raise TeachingError(
            f"{where} must hold `text` and `why`, and `right: true` if it is the right one"
        )
    if not isinstance(option.get("right", False), bool):
        raise TeachingError(f"{where}: `right` must be true or false")
    check_text(option["text"], where)
    check_text(option["why"], where)


def check_text(text, where: str) -> None:
    """Formulas and links are not rendered in a quiz, so they are refused."""
    if not isinstance(text, str) or not text.strip():
        raise TeachingError(
            f"{where}: {text!r} must be a text that is not empty (in quotes if it is a number)"
        )
    if re.search(r"\$|\]\(|\{\w+\}`", text):
        raise TeachingError(
            f"{where}: {text!r} holds a formula, a link or a role; only `code`, *emphasis* and"
            " **strong** are rendered"
        )


def check_file(path: Path) -> Source | int:
    """Check one notebook, which must open the run of its own chapter, or one quiz."""
    if path.suffix == ".yaml":
        return check_quiz(path)
    source = check_source(read_notebook(path), str(path))
    if path.stem in LABS and f'open_exercise("{path.stem}"' not in source.open[2].source:
        raise TeachingError(f'{path} must open "{path.stem}"')
    return source


# -- running them ----------------------------------------------------------------------------------
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
    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    shell.showtraceback = shell.showsyntaxerror = lambda *_, **__: (
        None
    )  # shown below, if it is news
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
