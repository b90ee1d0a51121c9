"""Quizzes: `book/quizzes/NN_stage.yaml` as a form on the page of a chapter.

What a quiz file must hold is for the tests to say (`tests/exercise_form.py`).
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

import yaml

from press.errors import TeachingError

QUIZZES = Path("book/quizzes")


@dataclass(frozen=True)
class Option:
    text: str
    why: str
    right: bool = False


@dataclass(frozen=True)
class Question:
    text: str
    options: tuple[Option, ...]


def read_quiz(path: Path) -> list[dict]:
    """The entries of a quiz file. Raises `TeachingError` naming a file that cannot be read."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf8"))
    except OSError:
        raise TeachingError(f"{path} is missing") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise TeachingError(f"{path} is not readable as YAML: {reason}") from None


def questions(path: Path) -> list[Question]:
    """The questions of a quiz file. Raises `TeachingError` naming the file and what it lacks."""

    def option(entry: dict) -> Option:
        return Option(_line(entry["text"]), _line(entry["why"]), entry.get("right", False))

    try:
        return [
            Question(_line(entry["question"]), tuple(map(option, entry["options"])))
            for entry in read_quiz(path)
        ]
    except (AttributeError, KeyError, TypeError) as error:
        raise TeachingError(f"{path} is no list of questions with options: {error!r}") from None


def _line(text: str) -> str:
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
    """A quiz as MyST around HTML; `quiz.js` explains the chosen option, else the answers unfold.

    Every text stands once: the answers name a question by its number and an option by its letter.
    """
    name = f"quiz-{path.stem}"
    asked, answers = [], []
    for number, question in enumerate(questions(path), start=1):
        group, heading = f"{name}-{number}", f"{number}. {inline(question.text)}"
        choices = "\n".join(
            f'<label><input type="radio" name="{group}" value="{i}">'
            f" <span>{ascii_uppercase[i]}. {inline(option.text)}</span></label>"
            for i, option in enumerate(question.options)
        )
        asked.append(
            f'<fieldset>\n<legend>{heading}</legend>\n{choices}\n<div class="quiz-said"'
            ' role="status"></div>\n</fieldset>'
        )
        told = "\n".join(
            f'<li data-right="{str(option.right).lower()}">'
            f"<p><strong>{'Right.' if option.right else 'No.'}</strong> {inline(option.why)}</p></li>"
            for option in question.options
        )
        answers.append(f'<p>Question {number}</p>\n<ol type="A">\n{told}\n</ol>')
    folded = [
        '<details class="quiz-answers">',
        "<summary>All answers, explained</summary>",
        *answers,
        "</details>",
    ]
    body = "\n".join(['<div class="quiz">', *asked, *folded, "</div>"])
    return f"```{{raw}} html\n{body}\n```"
