"""Lesson plans hold: minutes without gaps, and nothing is asked of a class that it was not taught."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from memgen.config.base import ROOT
from press.errors import TeachingError
from press.exercises import Source, read_notebook, sources
from press.lessons import LESSON, PAGE, Plan, plans, turn
from press.quizzes import QUIZZES, read_quiz

TEXT = (ROOT / "book" / PAGE).read_text(encoding="utf8")
REAL = plans(TEXT)
EXERCISES = {path.stem[:2]: path for path in sources() if path.stem[:2].isdigit()}


def faults(plan: Plan, total: int) -> list[str]:
    """What would go wrong in a class that follows the plan."""
    found, clock = [], 0
    for row in plan.rows:
        if row.start != clock or row.end <= row.start:
            found.append(f"minute {row.start} follows minute {clock}")
        clock = row.end
        taught = plan.taught(row)
        for chapter, number in row.exercises:
            path = EXERCISES[chapter]
            part = Source(read_notebook(path)).parts[number - 1]
            if f"chapters/{path.stem}" not in taught:
                found.append(f"exercise {chapter}-{number} comes before its chapter")
            if part.minutes > row.minutes:
                found.append(f"exercise {chapter}-{number} takes {part.minutes} minutes")
        for quiz in row.quizzes:
            for entry in read_quiz(ROOT / QUIZZES / f"{quiz}.yaml"):
                found += [f"{quiz} needs {page}" for page in entry["needs"] if page not in taught]
    if clock != total:
        found.append(f"it ends at minute {clock}")
    return found


# -- the book's ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("plan", REAL, ids=lambda plan: plan.title)
def test_a_plan_holds(plan):
    assert faults(plan, int(plan.title.split()[0])) == []


def test_each_plan_ends_with_a_quiz_of_its_own_that_its_page_shows():
    asked = [row.quizzes for plan in REAL for row in plan.rows if row.quizzes]
    own = sorted(path.stem for path in (ROOT / QUIZZES).glob(f"{LESSON}*.yaml"))
    assert len(REAL) == len(asked) == 2 and sorted(q for row in asked for q in row) == own
    for name in own:
        assert f"(quiz-{name})=\n### " in TEXT and f'{{{{ quiz("{name}") }}}}' in TEXT


def test_no_plan_asks_the_quiz_of_a_chapter():
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and "–" in line[:8]]
    assert len(rows) == sum(len(plan.rows) for plan in REAL)
    assert not [row for row in rows if "check-yourself" in row]


def test_the_turn_comes_in_the_middle():
    for plan in REAL:
        (row,) = (
            row
            for row in plan.rows
            if f"| {row.start}–{row.end} | **The turn" in TEXT and row.pages
        )
        assert 0.4 < (row.start + row.end) / 2 / plan.rows[-1].end < 0.67


def test_the_pages_of_a_plan_are_there():
    for plan in REAL:
        assert {"intro", "live", "chapters/06_intervention"} <= set(plan.pages)
        for page in plan.pages:
            stage = page.removeprefix("exercises/")
            path = f"notebooks/exercises/{stage}.ipynb" if stage != page else f"book/{page}.md"
            assert (ROOT / path).is_file(), page


# -- faults that are planted are found ------------------------------------------------------------------
GOOD = """# Teach

## 30 minutes, planted

| minutes | what happens | material |
|---|---|---|
| 0–5 | Ask | [the question](intro.md) |
| 5–10 | Open {term}`x` | [live](live.md#here) |
| 10–15 | Read | [chapter](chapters/06_intervention.md) |
| 15–30 | {ref}`exercise-06-3` | [notebook](exercises/06_intervention.md) |
| 30–35 | The quiz | [quiz](#quiz-lesson-45) |

If time is short, leave out minutes 5 to 5.

## Not a plan

| a | b |
|---|---|
| 1 | 2 |
"""


@pytest.mark.parametrize(
    "old, new, complaints",
    [
        ("", "", []),
        ("| 5–10 |", "| 6–10 |", ["minute 6 follows minute 5"]),
        ("| 5–10 |", "| 5–11 |", ["minute 10 follows minute 11"]),
        ("| 30–35 |", "| 30–36 |", ["it ends at minute 36"]),
        ("(chapters/06_i", "(chapters/05_i", ["exercise 06-3 comes", *["lesson-45 needs c"] * 2]),
        (
            "| 15–30 | {ref}`exercise-06-3`",
            "| 15–30 | {ref}`exercise-06-2`",
            ["exercise 06-2 takes"],
        ),
        ("(intro.md)", "(index.md)", ["lesson-45 needs intro"]),
        ("minutes 5 to 5", "minutes 5 to 10", ["lesson-45 needs live"] * 3),
        (
            "minutes 5 to 5",
            "minutes 10 to 15",
            ["exercise 06-3 comes before", *["lesson-45 needs c"] * 2],
        ),
    ],
)
def test_a_plan_that_does_not_hold_is_found(old, new, complaints):
    (plan,) = plans(GOOD.replace(old, new, 1) if old else GOOD)
    found = faults(plan, 35)
    assert len(found) == len(complaints)
    assert all(one.startswith(other) for one, other in zip(found, complaints))


def test_a_row_says_what_it_holds():
    (plan,) = plans(GOOD)
    assert plan.title == "30 minutes, planted" and plan.spare == (5, 5)
    assert plan.pages == ["intro", "live", "chapters/06_intervention", "exercises/06_intervention"]
    assert plan.rows[3].exercises == (("06", 3),) and plan.rows[4].quizzes == ("lesson-45",)
    with pytest.raises(TeachingError, match="teach.md has no plan"):
        plans("# Teach\n\n## Nothing\n")


def test_the_turn_is_that_of_the_first_pair_of_tasks():
    rates = {
        ("a-tagged", "m2g", "steered"): 0.97,
        ("a-tagged", "m2g", "forbid_source"): 0.93,
        ("a-matched", "m2g", "steered"): 0.14,
    }

    def numbers(*families):
        def success(task, direction, kind="steered"):
            return {"success": rates[task, direction, kind]}

        return SimpleNamespace(families=lambda: list(families), success=success)

    found = turn(numbers(("a", "a-tagged", "a-matched"), ("b", "b-tagged", "b-matched")))
    assert (found.task, found.twin) == ("a-tagged", "a-matched")
    assert (found.marked, found.forbidden, found.unmarked) == (0.97, 0.93, 0.14)
    assert turn(numbers()) is None
