"""Exercises: what is derived from a source holds no solution, and a malformed source is named."""

from __future__ import annotations

import re
import textwrap
from copy import deepcopy

import nbformat
import pytest

from exercise_form import check_file, check_source, execute
from memgen.config.base import ROOT, SEEDS
from memgen.stages import LABS
from press import cli, exercises
from press.errors import TeachingError
from press.exercises import BEGIN, END, YOURS, gapped, label, page, student, tag_of
from press.lessons import LESSON
from press.quizzes import QUIZZES


def cell(kind, source, tag=""):
    make = nbformat.v4.new_markdown_cell if kind == "markdown" else nbformat.v4.new_code_cell
    return make(textwrap.dedent(source).strip("\n"), metadata={"tags": [tag]} if tag else {})


def exercise(k):
    """Exercise `k`: a function that must return `k` times its argument."""
    return [
        cell(
            "markdown",
            f"## Exercise 1.{k} · Times {k}\n\n*Difficulty {k} of 3 · {k + 1} minutes*\n\nMultiply by"
            f" {k}.",
            "exercise",
        ),
        cell("markdown", f"Add it up {k} times.", "hint"),
        cell(
            "code",
            f'''
            def times_{k}(x):
                """`x` times {k}."""
                {BEGIN}
                planted_secret = [x] * {k}
                return sum(planted_secret)
                {END}
            ''',
            "solution",
        ),
        cell(
            "code",
            f'assert times_{k}(2) == {2 * k}, "not {k} times the argument"\nprint("right")',
            "check",
        ),
        cell("markdown", "Planted discussion: ::: and ``` close nothing.", "discussion"),
    ]


@pytest.fixture
def source():
    """A well-formed solution notebook of three exercises that reads no run."""
    notebook = nbformat.v4.new_notebook(
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        }
    )
    notebook.cells = [
        cell("markdown", "# Exercises: Multiplication\n\nYou multiply."),
        cell("code", "def open_exercise(stage, **given):\n    return given", "setup"),
        cell(
            "code",
            f'task = "arithmetic-tagged"  # which task\nseed = {SEEDS[0]}\npreset = "laptop"\nruns ='
            ' "data/runs"',
            "parameters",
        ),
        cell(
            "code",
            'ex = open_exercise("01_dataset_design", task=task, seed=seed, preset=preset,'
            " runs=runs)",
        ),
        *exercise(1),
        *exercise(2),
        *exercise(3),
    ]
    return notebook


def at(notebook, tag, number=1):
    """The `number`-th cell with a tag."""
    return [c for c in notebook.cells if tag_of(c) == tag][number - 1]


# -- the student's notebook ------------------------------------------------------------------------
def test_the_student_gets_everything_but_the_solutions(source):
    before = deepcopy(source)
    derived = student(source)
    text = nbformat.writes(derived)
    assert (
        "planted_secret" not in text
        and "Planted discussion" not in text
        and BEGIN not in text
        and END not in text
    )
    assert (
        at(derived, "solution", 2).source == f'def times_2(x):\n    """`x` times 2."""\n    {YOURS}'
    )
    assert (
        at(derived, "hint").source
        == "<details>\n<summary>Hint</summary>\n\nAdd it up 1 times.\n\n</details>"
    )
    assert [tag_of(c) for c in derived.cells] == [
        tag_of(c) for c in source.cells if tag_of(c) != "discussion"
    ]
    assert source == before, "the source itself is left as it was"
    nbformat.validate(derived)


def test_gaps_keep_the_indentation_and_what_is_around_them():
    code = (
        f"a = 1\n{BEGIN}\nb = 2\n\nc = 3\n{END}\nfor i in a:\n    if i:\n        {BEGIN}\n       "
        f" secret()\n        {END}\n    print(i)"
    )
    assert gapped(code) == f"a = 1\n{YOURS}\nfor i in a:\n    if i:\n        {YOURS}\n    print(i)"


@pytest.mark.parametrize(
    "code",
    [
        "a = 1",
        f"{BEGIN}\na = 1",
        f"a = 1\n{END}",
        f"{BEGIN}\n{BEGIN}\na\n{END}",
        f"{BEGIN}\n\n{END}",
    ],
)
def test_unbalanced_marks_are_refused(code):
    with pytest.raises(TeachingError, match="SOLUTION"):
        gapped(code)


def test_solutions_pass_and_every_gap_fails_its_check(source):
    assert {outcome.kind for outcome in execute(source)} == {""}
    outcomes = execute(student(source), keep_going=True)
    assert [o.kind for o in outcomes if o.tag == "check"] == ["AssertionError"] * 3 and [
        o.message for o in outcomes if o.kind
    ][0] == "not 1 times the argument"
    assert {o.kind for o in outcomes if o.tag != "check"} == {""}
    assert len(execute(student(source))) == 5, "without keep_going it ends at the first check"


def test_parameters_replace_the_ones_of_the_notebook(source):
    same = f'assert ex["task"] == "inference" and ex["seed"] == {SEEDS[0]}'
    source.cells.append(cell("code", same))
    assert not execute(source, {"task": "inference"})[-1].kind


# -- malformed sources -----------------------------------------------------------------------------
def replace(notebook, tag, old, new, number=1):
    target = at(notebook, tag, number)
    assert old in target.source
    target.source = target.source.replace(old, new)


def drop(notebook, tag):
    notebook.cells.remove(at(notebook, tag))


@pytest.mark.parametrize(
    "damage, complaint",
    [
        (
            lambda n: replace(n, "exercise", "## Exercise 1.2", "## Exercise 1.5", 2),
            "must be `## Exercise 1.2 · Title`",
        ),
        (
            lambda n: replace(n, "exercise", "## Exercise 1.2", "## Exercise 2", 2),
            "must be `## Exercise 1.2 · Title`",
        ),
        (
            lambda n: replace(n, "exercise", "## Exercise 1.2", "## Exercise 4.2", 2),
            "must be `## Exercise 1.2 · Title`",
        ),
        (
            lambda n: replace(n, "exercise", "## Exercise 1.1 · Times 1", "## Times 1"),
            "must be `## Exercise 4.1 · Title`",
        ),
        (
            lambda n: replace(n, "exercise", "*Difficulty 1 of 3 · 2 minutes*", "Difficulty: easy"),
            "second line",
        ),
        (lambda n: replace(n, "exercise", "Multiply by 1.", ""), "task in words"),
        (lambda n: drop(n, "hint"), "must be hint, solution, check"),
        (lambda n: drop(n, "check"), "must be hint, solution, check"),
        (lambda n: drop(n, "solution"), "must be hint, solution, check"),
        (lambda n: drop(n, "setup"), "'setup' and 'parameters'"),
        (lambda n: drop(n, "parameters"), "'setup' and 'parameters'"),
        (
            lambda n: replace(n, "parameters", f"seed = {SEEDS[0]}", "seed = 7"),
            f"seed = {SEEDS[0]}",
        ),
        (lambda n: replace(n, "solution", BEGIN, "# SOLUTION"), "without '# BEGIN SOLUTION'"),
        (lambda n: replace(n, "solution", "return sum(", "return sum(("), "not plain Python"),
        (lambda n: replace(n, "solution", "def times", "%time\ndef times"), "not plain Python"),
        (lambda n: replace(n, "check", ', "not 1 times the argument"', ""), "with its message"),
        (lambda n: replace(n, "check", 'print("right")', ""), "print a line"),
        (
            lambda n: replace(n, "check", "assert", f"{BEGIN}\nassert"),
            "outside of a cell tagged 'solution'",
        ),
        (lambda n: replace(n, "discussion", "Planted", "## Planted"), "heading"),
        (lambda n: at(n, "hint").metadata.update(tags=["hints"]), "tags ['hints']"),
        (lambda n: at(n, "check").metadata.update(tags=["hint"]), "belongs on a Markdown cell"),
        (lambda n: at(n, "check").update(execution_count=3), "holds outputs"),
        (lambda n: n.cells.pop(0), "`# Exercises: <title>`"),
        (lambda n: n.cells.pop(3), "opens the run"),
        (lambda n: n.cells[3].update(source="ex = None"), "open_exercise("),
        (lambda n: n.cells.__delitem__(slice(9, None)), "holds 1 exercises; 3 to 5"),
        (lambda n: n.metadata.pop("kernelspec"), "python3"),
        (lambda n: n.cells[0].pop("source"), "no valid notebook"),
    ],
)
def test_what_is_wrong_with_a_source_is_named(source, damage, complaint):
    check_source(source)
    damage(source)
    with pytest.raises(TeachingError) as error:
        check_source(source, "planted.ipynb")
    assert "planted.ipynb" in str(error.value) and complaint in str(error.value)


# -- the page --------------------------------------------------------------------------------------
def test_the_page_shows_the_gap_and_folds_the_solution(source):
    text = page(source, "01_dataset_design", "inference", 0, "smoke")
    before, _, after = text.partition("{dropdown} Solution")
    assert (
        "planted_secret" not in before
        and YOURS in before
        and "*Difficulty 1 of 3 · 2 minutes*" in before
        and "{dropdown} Hint" in before
    )
    assert (
        "assert times_1(2) == 2" in before
        and "planted_secret = [x] * 1" in after
        and BEGIN not in after.partition("## Exercise 1.2")[0]
    )
    assert (
        "{download}`the notebook with gaps <exercises-01_dataset_design.ipynb>`" in text
        and "about 9 minutes in all" in text
    )
    assert "-p task inference -p seed 0 -p preset smoke" in text


def test_nothing_in_a_box_closes_it(source):
    replace(source, "discussion", "Planted", "::::{note}\nPlanted\n::::\n")
    text = page(source, "01_dataset_design")
    assert ":::::{dropdown} Solution" in text and "\n:::::\n" in text


# -- the real ones ---------------------------------------------------------------------------------
def test_every_chapter_has_exercises_and_a_quiz():
    """Those that a chapter asks for are there, and no others; so far every chapter asks for some."""
    chapters = {stage: ROOT / "book" / "chapters" / f"{stage}.md" for stage in LABS}
    chapters["real_model"] = ROOT / "book" / "real_model.md"  # a chapter without a lab of its own
    texts = {stage: path.read_text(encoding="utf8") for stage, path in chapters.items()}
    quizzes = sorted(path.stem for path in (ROOT / QUIZZES).glob("*.yaml"))
    found = {
        "exercises": [path.stem for path in exercises.sources()],
        "quiz": [stem for stem in quizzes if not stem.startswith(LESSON)],
    }
    for kind, stages in found.items():
        assert stages == [s for s, text in texts.items() if f'{kind}("{s}")' in text]
        assert stages[:11] == list(LABS)[:11], "the labs of the study have both"


@pytest.mark.parametrize("path", (ROOT / QUIZZES).glob("*.yaml"), ids=lambda path: path.stem)
def test_real_quizzes_are_well_formed(path):
    check_file(path)


@pytest.mark.parametrize("stage", [path.stem for path in exercises.sources()])
def test_real_exercises_are_well_formed(stage):
    path = exercises.find(stage)
    check_file(path)
    source = exercises.read_notebook(path)
    derived = student(source)
    for full, gap in zip(
        (c for c in source.cells if tag_of(c) == "solution"),
        (c for c in derived.cells if tag_of(c) == "solution"),
        strict=True,
    ):
        given = {line.strip() for line in gapped(full.source).split("\n")}
        hidden = {line.strip() for line in full.source.split("\n")} - given
        assert hidden and not hidden & {line.strip() for line in gap.source.split("\n")}
    assert BEGIN not in nbformat.writes(derived)


def test_an_exercise_has_one_number_wherever_it_is_shown():
    """On its page, in both notebooks, in labels and in the prose of the book: 4.1, never 1."""
    for path in exercises.sources():
        stage, notebook = path.stem, exercises.read_notebook(path)
        if not exercises.has_lab(stage):
            continue
        shown = page(notebook, stage)
        gaps = nbformat.writes(student(notebook))
        for number in range(1, len(exercises.Source(notebook).parts) + 1):
            named = f"{int(stage[:2])}.{number}"
            assert f"({label(stage, number)})=\n## Exercise {named} · " in shown
            assert label(stage, number) == f"exercise-{stage[:2]}-{number}"
            assert f'"## Exercise {named} · ' in gaps
    texts = [path.read_text(encoding="utf8") for path in (ROOT / "book").rglob("*.md")]
    texts += [nbformat.writes(exercises.read_notebook(path)) for path in exercises.sources()[:-1]]
    bare = re.compile(r"\bexercise \d+(?![.\d])", re.IGNORECASE)
    assert [found[0] for text in texts for found in bare.finditer(text)] == []
    assert bare.search("see exercise 3 of") and not bare.search("see exercise 3.3 of")


def test_a_file_on_disk_is_checked_and_run(source, tmp_path):
    path = tmp_path / "one.ipynb"
    nbformat.write(source, path)
    checked = check_file(path)
    assert (len(checked.parts), checked.minutes) == (3, 9)
    assert not execute(exercises.read_notebook(path), {"seed": 0})[-1].kind
    replace(source, "solution", "* 1", "* 7")
    *_, last = execute(source)
    assert (last.cell, last.tag, last.kind) == (8, "check", "AssertionError")
    assert last.message == "not 1 times the argument"
    with pytest.raises(TeachingError, match="is missing"):
        check_file(tmp_path / "none.ipynb")


def test_the_command_line_writes_the_notebooks_with_gaps(tmp_path, capsys):
    assert cli.main(["students", str(tmp_path / "gaps")]) == 0
    written = sorted((tmp_path / "gaps").iterdir())
    assert [path.name for path in written] == [path.name for path in exercises.sources()]
    assert all(str(path) in capsys.readouterr().out for path in written[:1])
    for path in written:
        assert BEGIN not in path.read_text() and YOURS in path.read_text()
