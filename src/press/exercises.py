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
import re
import sys
import time
import traceback
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memgen.config.base import ROOT
from memgen.errors import StudyError
from memgen.pipeline.exercise import PARAMETERS
from memgen.stages import PARAMETER_CLASSES
from press.errors import TeachingError
from press.quizzes import questions

NOTEBOOKS, QUIZZES = Path("notebooks/exercises"), Path("book/quizzes")
TAGS = ("setup", "parameters", "exercise", "hint", "solution", "check", "discussion")
BEGIN, END, YOURS = "# BEGIN SOLUTION", "# END SOLUTION", "...  # your code"
TITLE = re.compile(r"# Exercises: \S.*")
HEADING = re.compile(r"## Exercise (\d+) · (\S.*)")
EFFORT = re.compile(r"\*Difficulty ([123]) of 3 · (\d+) minutes\*")
N_EXERCISES = range(3, 6)


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
    if (
        path.stem in PARAMETER_CLASSES
        and f'open_exercise("{path.stem}"' not in source.open[2].source
    ):
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
