"""Quizzes: a malformed file is named, texts are escaped, and the page tells only when asked."""

from __future__ import annotations

import pytest
import yaml
from browser import needs_chromium, reading

from exercise_form import check_quiz
from memgen.config.base import ROOT
from press.browser import chromium
from press.errors import TeachingError
from press.quizzes import inline, questions, quiz


@pytest.fixture
def entries():
    return [
        {
            "question": f"Question {k} & `x < {k}`?",
            "options": [
                {"text": f"<b>right {k}</b>", "right": True, "why": f"Because *of* {k}."},
                {"text": f"wrong {k}", "why": f"Since `*{k}*`."},
            ],
        }
        for k in (1, 2, 3)
    ]


def written(tmp_path, entries):
    path = tmp_path / "01_dataset_design.yaml"
    path.write_text(yaml.safe_dump(entries))
    return path


@pytest.mark.parametrize(
    "damage, complaint",
    [
        (lambda q: q.pop(), "3 to 4 questions"),
        (
            lambda q: q[1]["options"][1].update(right=True),
            "question 2 must have two or more options, exactly one",
        ),
        (lambda q: q[1]["options"][0].pop("right"), "exactly one"),
        (lambda q: q[0]["options"].pop(), "two or more"),
        (lambda q: q[0]["options"][1].pop("why"), "question 1, option 2 must hold"),
        (lambda q: q[0]["options"][1].update(why=" "), "not empty"),
        (lambda q: q[0]["options"][1].update(text=0.5), "must be a text"),
        (lambda q: q[0]["options"][1].update(right="yes"), "true or false"),
        (lambda q: q[0]["options"][1].update(text="<b>right 1</b>"), "same option twice"),
        (lambda q: q[0].update(question="What is $x$?"), "formula"),
        (lambda q: q[0].update(question="See [there](x.md)"), "formula, a link"),
        (lambda q: q[0].update(hint="no"), "`question` and a list"),
    ],
)
def test_what_is_wrong_with_a_quiz_is_named(tmp_path, entries, damage, complaint):
    path = written(tmp_path, entries)
    assert check_quiz(path) == len(questions(path)) == 3
    damage(entries)
    with pytest.raises(TeachingError) as error:
        check_quiz(written(tmp_path, entries))
    assert "01_dataset_design.yaml" in str(error.value) and complaint in str(error.value)


def test_a_question_of_a_lesson_says_what_it_needs(tmp_path, entries):
    path = written(tmp_path, entries).rename(tmp_path / "lesson-1.yaml")
    with pytest.raises(TeachingError, match="question 1 must hold .* and a list `needs`"):
        check_quiz(path)
    path.write_text(yaml.safe_dump([entry | {"needs": ["live"]} for entry in entries]))
    assert check_quiz(path) == 3 and "live" not in quiz(path)
    path.write_text(yaml.safe_dump([entry | {"needs": []} for entry in entries]))
    with pytest.raises(TeachingError, match="question 1: `needs`"):
        check_quiz(path)


def test_an_unreadable_quiz_is_named(tmp_path):
    path = tmp_path / "x.yaml"
    with pytest.raises(TeachingError, match="is missing"):
        questions(path)
    path.write_text("- question: a: b")
    with pytest.raises(TeachingError, match="not readable as YAML"):
        questions(path)


def test_quiz_texts_are_escaped(tmp_path, entries):
    assert (
        inline('*a* **b** `*c* <i>` <script>"&')
        == "<em>a</em> <strong>b</strong> <code>*c* &lt;i&gt;</code> &lt;script&gt;&quot;&amp;"
    )
    assert inline("2 * 3 * 4 and f(*x, *y)") == "2 * 3 * 4 and f(*x, *y)"
    text = quiz(written(tmp_path, entries))
    assert (
        "<b>" not in text
        and "&lt;b&gt;right 1&lt;/b&gt;" in text
        and "<code>x &lt; 1</code>" in text
    )
    assert (
        text.count("<fieldset>") == text.count("<legend>") == text.count('role="status"') == 3
        and text.count('type="radio"') == 6
    )
    assert "A. &lt;b&gt;right 1&lt;/b&gt;" in text and 'type="A"' in text
    for said in ("Question 2 &amp;", "right 2&lt;", "wrong 2<", "Because <em>of</em> 2."):
        assert text.count(said) == 1, said
    assert (
        text.count('data-right="true"') == 3 and text.count("<details") == 1 and "\n\n" not in text
    )


@needs_chromium
def test_a_quiz_tells_only_when_asked(tmp_path, entries):
    """In a browser, from a file: choose, check, change one's mind; the script adds no explanation
    of its own.
    """
    body = quiz(written(tmp_path, entries)).removeprefix("```{raw} html").removesuffix("```")
    path = tmp_path / "page.html"
    script = (ROOT / "book" / "_static" / "quiz.js").as_uri()
    path.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>quiz</title><script'
        f' src="{script}"></script><body>{body}'
    )
    ask = """(() => {
        const question = document.querySelectorAll('.quiz fieldset')[1];
        const said = () => question.querySelector('.quiz-said').textContent, heard = [said()];
        const [right, wrong] = question.querySelectorAll('input'), button = question.querySelector('button');
        button.click(); heard.push(said());
        wrong.click(); heard.push(said());
        button.click(); heard.push(said());
        right.click(); heard.push(said());
        button.click(); heard.push(said());
        return heard;
    })()"""
    with chromium() as browser, reading(browser, path) as reader:
        assert reader.evaluate(ask) == [
            "",
            "Choose an answer first.",
            "",
            "No. Since *2*.",
            "",
            "Right. Because of 2.",
        ]
