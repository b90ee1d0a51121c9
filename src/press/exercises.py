"""Exercises: the student's notebook and the page of the book, from the one with solutions.

`notebooks/exercises/NN_stage.ipynb` is the only source. The tag of a cell says what it is (`TAGS`);
the lines between `# BEGIN SOLUTION` and `# END SOLUTION` are the student's to write. Whether a
source is well-formed is for the tests to say (`tests/exercise_form.py`).
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from memgen.config.base import ROOT, SEEDS
from memgen.config.sources import own_files
from press.errors import TeachingError

NOTEBOOKS = Path("notebooks/exercises")
#: what every exercise notebook reads unless told otherwise: the first run of `make book`
PARAMETERS = {
    "task": "arithmetic-tagged",
    "seed": SEEDS[0],
    "preset": "laptop",
    "runs": "data/runs",
}
TAGS = ("setup", "parameters", "exercise", "hint", "solution", "check", "discussion")
BEGIN, END, YOURS = "# BEGIN SOLUTION", "# END SOLUTION", "...  # your code"
#: the chapter's number stands in front, `4.1`, where the chapter has one
HEADING = re.compile(r"## Exercise (?:(\d+)\.)?(\d+) · (\S.*)")
EFFORT = re.compile(r"\*Difficulty ([123]) of 3 · (\d+) minutes\*")


@dataclass
class Part:
    """One exercise; `difficulty`: 1 to 3, `text`: the task in words, `cells`: after its first.

    `chapter`: the number in front of its own, as its heading has it; None: its chapter has none.
    """

    chapter: int | None
    number: int
    title: str
    difficulty: int
    minutes: int
    text: str
    cells: list = field(default_factory=list)

    def tagged(self, tag: str) -> list:
        return [cell for cell in self.cells if tag_of(cell) == tag]


class Source:
    """A solution notebook: `title`, `intro`, code cells that `open` the run, exercises (`parts`).

    Raises `TeachingError`, naming notebook and cell, where an exercise does not begin as one.
    """

    def __init__(self, notebook, name: str = "notebook"):
        self.notebook, self.name = notebook, name
        starts = [i for i, cell in enumerate(notebook.cells) if tag_of(cell) == "exercise"]
        ends = [*starts[1:], len(notebook.cells)]
        head = notebook.cells[: starts[0] if starts else None]
        title, _, intro = (head[0].source if head else "").partition("\n")
        self.title, self.intro = title.removeprefix("# "), intro.strip()
        self.open = [cell for cell in head if cell.cell_type == "code"]
        self.parts = [self._part(notebook.cells[a:b]) for a, b in zip(starts, ends)]

    @property
    def minutes(self) -> int:
        return sum(part.minutes for part in self.parts)

    def fail(self, cell, what: str):
        """Raise a `TeachingError` about a cell."""
        place = self.notebook.cells.index(cell) + 1
        raise TeachingError(f"{self.name}, cell {place} ({tag_of(cell) or cell.cell_type}): {what}")

    def _part(self, cells: list) -> Part:
        lines = [line for line in cells[0].source.split("\n") if line.strip()] + ["", ""]
        heading, effort = HEADING.fullmatch(lines[0]), EFFORT.fullmatch(lines[1])
        if not heading:
            self.fail(
                cells[0],
                "its first line must be `## Exercise 4.1 · Title`, with the chapter's number",
            )
        if not effort:
            self.fail(cells[0], "its second line must be like `*Difficulty 2 of 3 · 10 minutes*`")
        text = cells[0].source.partition(lines[1])[2].strip()
        chapter = int(heading[1]) if heading[1] else None
        numbers = (int(heading[2]), heading[3], int(effort[1]), int(effort[2]))
        return Part(chapter, *numbers, text, cells[1:])


def tag_of(cell) -> str:
    """The tag of a cell, '' if it has none."""
    return next(iter(cell.metadata.get("tags", [])), "")


def gapped(source: str) -> str:
    """Code with the marks and what they enclose replaced by one line at the same indentation."""
    gap = re.compile(rf"^([ \t]*){BEGIN}[ \t]*\n(.*?)^[ \t]*{END}[ \t]*$", re.DOTALL | re.MULTILINE)
    gaps = gap.findall(source)
    kept = gap.sub(rf"\g<1>{YOURS}", source)
    unbalanced = not gaps or BEGIN in kept or END in kept
    if unbalanced or any(BEGIN in lines or not lines.strip() for _, lines in gaps):
        raise TeachingError(f"{END!r} without {BEGIN!r}, or the reverse, or no lines between them")
    return kept


def student(notebook):
    """The student's notebook, a copy: gaps for the solutions, hints folded, no discussions."""
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


def downloads(stage: str) -> dict[str, str]:
    """The files beside the page of a chapter's exercises: which notebook -> file name."""
    return {"student": f"exercises-{stage}.ipynb", "solution": f"solutions-{stage}.ipynb"}


def label(stage: str, number: int) -> str:
    """The name under which other pages refer to an exercise: {ref}`exercise-04-1`."""
    return f"exercise-{stage[:2] if has_lab(stage) else stage}-{number}"


def numbered(stage: str, number: int) -> str:
    """An exercise's number as it is shown: 4.1 is the first of chapter 4."""
    return f"{int(stage[:2])}.{number}" if has_lab(stage) else str(number)


def has_lab(stage: str) -> bool:
    """Is it the chapter of a lab (`05_prediction`)? Others' exercises read what is committed."""
    return stage[:2].isdigit()


def _chapter(stage: str) -> str:
    if has_lab(stage):
        return f"[chapter {int(stage[:2])}](../chapters/{stage}.md)"
    return f"[this chapter](../{stage}.md)"


def page(
    notebook,
    stage: str,
    task: str = PARAMETERS["task"],
    seed: int = PARAMETERS["seed"],
    preset: str = PARAMETERS["preset"],
) -> str:
    """A chapter's exercises as a MyST page for `exercises/`; the run that it names exists."""
    source = Source(notebook, stage)
    run = f" -p task {task} -p seed {seed} -p preset {preset}" if has_lab(stage) else ""
    blocks = [f"# {source.title}", source.intro, _how_to(source, stage, run)]
    opening = "\n\n".join(cell.source.strip() for cell in source.open)
    blocks += ["## Before the first exercise", _code(opening)]
    for part in source.parts:
        blocks += [
            f"({label(stage, part.number)})=\n"
            f"## Exercise {numbered(stage, part.number)} · {part.title}",
            f"*Difficulty {part.difficulty} of 3 · {part.minutes} minutes*",
            part.text,
        ]
        blocks += [_shown(cell) for cell in part.cells if tag_of(cell) != "discussion"]
        answer = [_code(_unmarked(cell.source)) for cell in part.tagged("solution")]
        answer += [cell.source.strip() for cell in part.tagged("discussion")]
        blocks.append(_box("dropdown", "Solution", "\n\n".join(answer)))
    return "\n\n".join(blocks) + "\n"


def _how_to(source: Source, stage: str, run: str) -> str:
    files = downloads(stage)
    gaps = f"{{download}}`the notebook with gaps <{files['student']}>`"
    solutions = f"{{download}}`the notebook with solutions <{files['solution']}>`"
    text = f"""\
{len(source.parts)} exercises, about {source.minutes} minutes in all, for {_chapter(stage)}. Download
{gaps} and open it in any editor for notebooks, with the Python of `.venv` as its kernel
(VS Code can do that; `.venv/bin/pip install jupyterlab` and `.venv/bin/jupyter lab` are another way). \
Replace every `{YOURS}` and run the check below it.
To run the whole notebook from the root of the repository, up to the first check that fails:

```{{code-block}} bash
:class: wrapped

.venv/bin/papermill {files["student"]} OUT.ipynb --cwd .{run}
```

Every solution is folded on this page, and all are in {solutions}."""
    return _box("admonition", "How to work on them", text)


def _shown(cell) -> str:
    """One cell of an exercise on the page."""
    text, tag = cell.source.strip(), tag_of(cell)
    if tag == "hint":
        return _box("dropdown", "Hint", text)
    if tag == "solution":
        return _code(gapped(text))
    if tag == "check":
        return f"**Check yourself.** It fails with a reason until the answer is right:\n\n{_code(text)}"
    return _code(text) if cell.cell_type == "code" else text


def _unmarked(source: str) -> str:
    lines = source.strip().split("\n")
    return "\n".join(line for line in lines if line.strip() not in (BEGIN, END))


def _code(text: str) -> str:
    fence = "`" * _longer(text, "`")
    return f"{fence}{{code-block}} python\n:class: wrapped\n\n{text}\n{fence}"


def _box(kind: str, title: str, text: str) -> str:
    fence = ":" * _longer(text, ":")
    return f"{fence}{{{kind}}} {title}\n{text}\n{fence}"


def _longer(text: str, mark: str) -> int:
    """The length of a fence that nothing inside `text` can close."""
    return max([3, *(len(run) + 1 for run in re.findall(f"{mark}{{3,}}", text))])


def read_notebook(path: Path):
    """A notebook from disk. Raises `TeachingError` that names it."""
    try:
        return nbformat.read(path, as_version=4)
    except OSError:
        raise TeachingError(f"{path} is missing") from None
    except Exception as error:  # nbformat has several classes of its own
        reason = " ".join(str(error).split())[:200]
        raise TeachingError(f"{path} is no readable notebook: {reason}") from None


def sources(root: Path = ROOT) -> list[Path]:
    """Every solution notebook of the repository, in the order of the chapters."""
    return own_files(root / NOTEBOOKS, "*.ipynb")


def find(name: str, root: Path = ROOT) -> Path:
    """The solution notebook of a chapter (`04_differentiation`), or the file that `name` says."""
    path = Path(name)
    return path if path.suffix else root / NOTEBOOKS / f"{name}.ipynb"


def write_students(folder: Path, root: Path = ROOT) -> list[Path]:
    """Write the student's notebook of every chapter to `folder`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sources(root):
        nbformat.write(student(read_notebook(path)), folder / path.name)
    return [folder / path.name for path in sources(root)]
