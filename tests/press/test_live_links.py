"""A link to a state of the live page says the state, leads to a model that is there, or is no link."""

from __future__ import annotations

from types import SimpleNamespace
from urllib.parse import parse_qs

import pytest
from bs4 import BeautifulSoup
from checks import broken_links

from memgen.config.base import ROOT
from press.errors import BookError
from press.live_links import live_link
from press.one_page import Addresses

STATE = {"direction": "g2m", "prompt": "shift 3: a&b ->", "random": 1}


def made_up(compared: tuple[str, ...] = (), track="scratch") -> SimpleNamespace:
    """A run of two tasks; `compared`: those that lab 13 has run on."""
    run = SimpleNamespace(track=track, tasks=["cipher-tagged", "inference"])
    run.of = lambda stage, task: [task] if stage == "13_scoreboard" and task in compared else []
    run.every = [run]
    return run


def state(text: str) -> tuple[str, dict[str, list[str]], str]:
    """Page, state and words of a link."""
    tag = BeautifulSoup(text, "html.parser").a
    page, _, fragment = tag["href"].partition("#")
    return page, parse_qs(fragment), tag.text


def test_the_address_says_the_state_whatever_stands_in_the_prompt():
    page, said, words = state(live_link(made_up(), "../", "see it", "inference", **STATE))
    assert page == "../live.html" and words == "see it"
    assert said == {"task": ["inference"]} | {name: [str(x)] for name, x in STATE.items()}
    assert state(live_link(made_up(), "", "see it"))[1] == {"task": ["cipher-tagged"]}


def test_where_the_book_has_no_such_model_or_method_the_words_stay():
    assert live_link(made_up(), "", "see it", "arithmetic-tagged") == "see it"
    asked = {"method": "caa", "dose": 0.5}
    assert live_link(made_up(("inference",)), "", "see it", **asked) == "see it"
    found = state(live_link(made_up(("inference",)), "", "see it", "inference", **asked))
    assert found[1] == {"task": ["inference"], "method": ["caa"], "dose": ["0.5"]}


def test_the_live_page_shows_the_track_scratch():
    own, lora = made_up(), made_up(track="lora")
    lora.tasks, lora.every = ["inference"], [lora, own]
    assert state(live_link(lora, "", "see it"))[1] == {"task": ["cipher-tagged"]}


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"aplha": 1}, "'aplha'"),
        ({"method": "iti"}, "iti"),
        ({"direction": "x"}, "'x'"),
        ({"then": "dance"}, "then='dance'; it knows forbid, all"),
    ],
)
def test_a_state_that_no_live_page_has_is_refused(wrong, said):
    with pytest.raises(BookError, match=said):
        live_link(made_up(), "", "see it", **wrong)


def test_a_link_to_a_model_that_is_not_there_is_broken(tmp_path):
    models = tmp_path / "_static" / "live"
    models.mkdir(parents=True)
    (models / "model-inference.js").touch()
    (tmp_path / "live.html").write_text("<h1>live</h1>")
    links = [live_link(made_up(), "", "x", task, alpha=1) for task in made_up().tasks]
    (tmp_path / "index.html").write_text("".join(links))
    (broken,) = broken_links(tmp_path)
    assert "task=cipher-tagged" in broken


def test_on_paper_a_state_is_the_page():
    places = {"live.html": "live", "intro.html": "intro"}
    leaf = SimpleNamespace(name="intro.html", file="intro.html")
    addresses = Addresses(leaf, places, ())
    assert addresses._link("live.html#task=inference&alpha=1") == "#live"
    assert addresses._link("live.html#exact") == "#live-exact"


#: chapters that show steering or a probe of one model, which the live page has
SHOWN = (4, 5, 6, 9, 10, 11, 12, 13, 14, 15, 16)


@pytest.mark.parametrize("number", SHOWN)
def test_a_chapter_that_shows_steering_or_a_probe_leads_to_a_state(number):
    (chapter,) = (ROOT / "book" / "chapters").glob(f"{number:02d}_*.md")
    assert "{{ live_link(" in chapter.read_text(encoding="utf8")
