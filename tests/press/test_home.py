"""From the first screen of the home page to the first flip, and to the first doubt, by clicks of a mouse.

`MEMGEN_BOOK=_build/html pytest tests/press/test_home.py` checks a real book. What a model answers is not
said here, only that it does what the home page told of it.
"""

from __future__ import annotations

import pytest
from browser import DESK, needs_chromium, reading
from live_reader import do, ready

from press.browser import chromium

pytestmark = needs_chromium
TO_FLIP, TO_DOUBT = 3, 6  # clicks, at most
PHONE = (390, 844, "light")
STARTS, ENDS = "memorization", "generalization"


@pytest.fixture(scope="module")
def browser(built_book):
    with chromium() as browser:
        yield browser


class Clicks:
    """A visit that begins on the home page and counts what is clicked."""

    def __init__(self, reader):
        self.reader, self.n = reader, 0

    def on(self, selector: str, words: str) -> None:
        self.n += 1
        self.reader.page.locator(selector, has_text=words).first.click()

    def follow(self, words: str) -> None:
        """A link of the story, to the live page in a state."""
        self.on(".story .live-link", words)
        self.reader.page.wait_for_url("**/live.html#*")
        ready(self.reader)

    def answers(self) -> list[str]:
        """The behaviours of the answer left alone and of that with the shift."""
        return do(self.reader, "await see.frames(); return see.cards().map(card => card.behavior)")


@pytest.fixture(params=[DESK, PHONE], ids=["desk", "phone"])
def visit(request, browser, built_book):
    with reading(browser, built_book / "index.html", request.param) as reader:
        assert reader.visit.complaints() == []
        if not reader.evaluate("document.querySelectorAll('.story').length"):
            pytest.skip("no model of this book answers any test prompt from memory")
        yield Clicks(reader)
        assert not reader.visit.errors and not reader.visit.failed and not reader.visit.foreign


def told(visit) -> dict:
    """What the home page says of the key."""
    return visit.reader.evaluate(
        """(() => {
            const of = name => document.querySelector(`.story ${name} code`).textContent;
            const lists = [...document.querySelectorAll('.story-key ul')];
            const words = list => [...list.querySelectorAll('code')].map(one => one.textContent);
            return {drilled: words(lists[0]), prompt: words(lists[1])[0], memory: of('.story-memory'),
                    rule: of('.story-rule'),
                    flips: document.querySelector('.story-steps').textContent.includes('answer flips'),
                    ask: document.querySelector('.story .live-link').getBoundingClientRect().bottom}
        })()"""
    )


def test_the_first_flip(visit):
    home = told(visit)
    assert home["drilled"][1] == home["memory"] and home["prompt"] not in home["drilled"]
    visit.follow("Ask the model")
    assert visit.answers() == [STARTS, STARTS]  # nothing is shifted yet
    shown, rules = do(
        visit.reader,
        """const {memory, rule} = Memgen.rules(see.model().meta.family)
               .parse(see.id('live-text').value, see.model().meta);
           return [see.id('live-text').value, [memory.trim(), rule.trim()]]""",
    )
    assert shown == home["prompt"] and rules == [home["memory"], home["rule"]]
    visit.on(".live-acts button", "Push")
    after = visit.answers()
    assert (after == [STARTS, ENDS]) == home["flips"]
    assert visit.n <= TO_FLIP
    visit.on(".live-acts button", "Let go")
    assert visit.answers() == [STARTS, STARTS]


def test_on_a_desk_the_way_in_is_on_the_first_screen(visit):
    if visit.reader.evaluate("innerWidth") >= DESK[0]:
        assert told(visit)["ask"] < DESK[1]


FORBIDDEN = """const said = see.text('.live-acts p'), model = see.model();
    const text = see.id('live-text').value, id = model.answer(text).tokens[0].id;
    return [said, model.answer(text, {forbid: id}).text.trim(), see.cards().map(card => card.behavior)]"""


def test_doubt_by_one_forbidden_token(visit):
    visit.follow("Ask the model")
    visit.on(".live-acts button", "Push")
    visit.on(".live-acts button", "Forbid one token")
    said, answer, _ = do(visit.reader, FORBIDDEN)
    assert f"“{answer}”" in said and said.startswith("Nothing is shifted")
    assert visit.n <= TO_DOUBT
    do(visit.reader, "await see.put(see.id('live-text'), see.model().meta.free_examples[0].prompt)")
    assert do(visit.reader, "return see.text('.live-acts p')") == ""  # it was about another prompt


def test_doubt_by_one_forbidden_token_straight_from_home(visit):
    visit.follow("forbid one token")
    said, answer, behaviors = do(visit.reader, FORBIDDEN)
    assert f"“{answer}”" in said and behaviors == [STARTS, STARTS]
    assert visit.n <= TO_DOUBT


def test_doubt_by_both_answers_alike(visit):
    if not visit.reader.page.locator(".story .live-link", has_text="alike").count():
        pytest.skip("this book has no task with the same keys and both answers alike")
    visit.follow("write both answers alike")
    task, first, shown = do(
        visit.reader,
        "return [see.task(), see.model().meta.first.m2g, see.id('live-text').value]",
    )
    assert task.endswith("-matched") and (first is None or shown == first)
    assert visit.n <= TO_DOUBT


def test_doubt_by_all_prompts(visit):
    visit.follow("run all prompts")
    rows, shown, all_of = do(
        visit.reader,
        """await see.more();
        const rows = () => see.all('.live-all tbody tr').length, n = see.model().more.prompts.m2g.length;
        await see.wait(() => rows() === Math.min(24, n), 'the prompts to run by themselves');
        return [rows(), see.shown(see.one('.live-all')), n]""",
    )
    assert rows == min(24, all_of) and shown
    assert visit.n <= TO_DOUBT
