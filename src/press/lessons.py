"""Lesson plans: the tables of the page *Teach*, row by row, with what each row teaches and asks for.

A plan is a section of `book/teach.md` whose table begins with a column of minutes (`12–18`). Pages that
a row links are taught in it; an exercise (`exercise-04-1`) or a quiz of the lesson's own
(`book/quizzes/lesson-45.yaml`, a section `(quiz-lesson-45)=`) is asked for. A plan may say that its
minutes 12 to 18 can be left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from posixpath import normpath

from press.errors import TeachingError
from press.numbers import Numbers

PAGE = "teach.md"
#: how the file of a lesson's own quiz is called, and how a row links the section that shows it
LESSON, QUIZ = "lesson-", "quiz-"
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_ROW = re.compile(r"^\| (\d+)–(\d+) \| (.*) \|$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_EXERCISE = re.compile(r"\{ref\}`(?:[^`<]*<)?exercise-([\w-]+)-(\d+)>?`")
_SPARE = re.compile(r"leave out minutes (\d+) to (\d+)")


@dataclass(frozen=True)
class Row:
    """From minute `start` to minute `end`: pages (`chapters/04_differentiation`), exercises, quizzes."""

    start: int
    end: int
    pages: tuple[str, ...]
    exercises: tuple[tuple[str, int], ...]  # ("04", 1)
    quizzes: tuple[str, ...]  # "lesson-45"

    @property
    def minutes(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Plan:
    """A lesson; `spare`: the minutes that can be left out, from and to."""

    title: str
    rows: list[Row] = field(default_factory=list)
    spare: tuple[int, int] | None = None

    @property
    def pages(self) -> list[str]:
        """Every page that the lesson needs, in its order."""
        return list(dict.fromkeys(page for row in self.rows for page in row.pages))

    def taught(self, before: Row) -> set[str]:
        """The pages of the rows before this one, without those that can be left out."""
        low, high = self.spare or (0, 0)
        kept = [row for row in self.rows if not low <= row.start < high]
        return {page for row in kept if row.end <= before.start for page in row.pages}


def plans(text: str) -> list[Plan]:
    """The plans of a page, which may be a template. `TeachingError`: it has none."""
    titles = list(_SECTION.finditer(text))
    ends = [title.start() for title in titles[1:]] + [len(text)]
    found = []
    for title, end in zip(titles, ends):
        section = text[title.end() : end]
        rows = [_row(*row) for row in _ROW.findall(section)]
        spare = _SPARE.search(section)
        if rows:
            found.append(Plan(title[1], rows, (int(spare[1]), int(spare[2])) if spare else None))
    if not found:
        raise TeachingError(
            f"{PAGE} has no plan: a table whose rows begin with minutes, such as `| 0–5 | ...`"
        )
    return found


def _row(start: str, end: str, text: str) -> Row:
    links = [link.partition("#") for link in _LINK.findall(text)]
    pages = [normpath(page).removesuffix(".md") for page, _, _ in links if page]
    here = [place for page, _, place in links if not page and place.startswith(QUIZ)]
    return Row(
        int(start),
        int(end),
        tuple(pages),
        tuple((chapter, int(number)) for chapter, number in _EXERCISE.findall(text)),
        tuple(place.removeprefix(QUIZ) for place in here),
    )


# -- the turn in the middle of a lesson -----------------------------------------------------------------
@dataclass(frozen=True)
class Turn:
    """What a shift towards the rule turns where memorized answers begin with a mark, and where not.

    Means over seeds of success within the limit, of `task` and of its `twin` without a mark;
    `forbidden`: with nothing shifted, the first token of the memorized answer alone forbidden.
    """

    task: str
    twin: str
    marked: float | None
    forbidden: float | None
    unmarked: float | None


def turn(numbers: Numbers) -> Turn | None:
    """The numbers of the first pair of tasks that differ by the mark alone; None: the run has none."""
    pair = next(iter(numbers.families()), None)
    if pair is None:
        return None
    _, marked, unmarked = pair
    rates = [numbers.success(marked, "m2g"), numbers.success(marked, "m2g", "forbid_source")]
    rates.append(numbers.success(unmarked, "m2g"))
    return Turn(marked, unmarked, *(rate["success"] for rate in rates))
