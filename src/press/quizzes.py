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

import html
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from press.errors import TeachingError

N_QUESTIONS = range(3, 5)


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
