"""More than one prompt, and more than the paper's neurons, on the page "Steer it yourself".

What a row of marks says is compared with what the model answers when asked directly, and what all
prompts together say with lab 06 where a whole book is looked at (`MEMGEN_BOOK`, `MEMGEN_RUNS`).
"""

from __future__ import annotations

import csv
import io
import json
from urllib.parse import parse_qs, urlencode

import pytest
from browser import needs_chromium, reading
from live_reader import do, ready

from press.browser import chromium

pytestmark = needs_chromium
COLUMNS = 8  # left alone, shift, forbidden token, five random draws
PHONE = (390, 844, "light")
#: what the table says, row by row
TABLE = """const rows = see.all('.live-all tbody tr').map(row => ({
    prompt: see.text('th', row), marks: see.texts('td .live-hidden', row),
}));"""


@pytest.fixture(scope="module")
def browser(built_book):
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(built_book):
    if not list(built_book.glob("_static/live/more-*.js")):
        pytest.skip(f"{built_book} holds no model that its page could run")
    return built_book / "live.html"


@pytest.fixture
def reader(browser, page):
    with reading(browser, page) as reader:
        do(ready(reader), "await see.more()")
        yield reader
        assert reader.visit.complaints() == []


def run_prompts(reader, then: str):
    """Press the button, wait until it rests, and evaluate."""
    return do(
        reader,
        """const button = see.one('.live-everything button');
        button.click();
        await see.wait(() => button.textContent !== 'Stop', 'the prompts');"""
        + then,
    )


def test_rows_of_marks_are_what_the_model_answers(reader):
    found = run_prompts(
        reader,
        TABLE
        + """const model = see.model(), {meta, more} = model, rules = Memgen.rules(meta.family);
        const chosen = see.chosen('m2g'), {positions} = meta;
        const expected = more.prompts.m2g.slice(0, rows.length).map(prompt => {
            const parsed = rules.parse(prompt, meta);
            const steered = random => ({delta: model.shift({...chosen, random}).delta, positions});
            const forbid = model._split(parsed.memory)[0].id;
            const ways = [{}, steered(null), {forbid}, ...[1, 2, 3, 4, 5].map(steered)];
            const of = way => rules.classify(model.answer(prompt, way).text, parsed);
            return {prompt, marks: ways.map(of)};
        });
        return {rows, expected, all: more.prompts.m2g.length,
                sums: see.all('.live-all tfoot td').map(one => +one.textContent),
                said: see.text('.live-everything p[role=status]')}""",
    )
    rows = found["rows"]
    assert len(rows) == min(24, found["all"]) and rows == found["expected"]
    assert {len(row["marks"]) for row in rows} == {COLUMNS}
    turned = [sum(row["marks"][i] == "generalization" for row in rows) for i in range(COLUMNS)]
    assert found["sums"] == turned
    assert {row["marks"][0] for row in rows} == {"memorization"}  # as lab 03 recorded them
    assert found["said"].startswith(f"{len(rows)} of {found['all']} ")
    assert found["said"].endswith(f"the shift turned {turned[1]}.")


def test_the_page_answers_while_prompts_run_and_can_be_stopped(reader):
    found = do(
        reader,
        """const button = see.one('.live-everything button');
        const rows = () => see.all('.live-all tbody tr').length;
        button.click();
        await see.wait(() => rows() > 0 || button.textContent !== 'Stop', 'a first row');
        const bar = see.shown(see.one('.live-everything progress'));
        await see.put(see.id('live-alpha'), 0); // drawn anew within two frames
        const still = see.text('.live-outcome p');
        if (button.textContent === 'Stop') button.click();
        const stopped = rows();
        await new Promise(done => setTimeout(done, 300));
        return {bar, still, stopped, after: rows(), label: button.textContent}""",
    )
    assert found["bar"] and found["still"].startswith("No shift.")
    assert found["after"] == found["stopped"] > 0
    assert found["label"].startswith("Run ")  # the controls have moved since: it would begin anew


def test_a_prompt_of_the_table_is_shown_above(reader):
    shown, wanted = run_prompts(
        reader,
        """const cell = see.one('.live-all tbody tr:last-child th button');
        cell.click();
        await see.frames();
        return [see.id('live-text').value, cell.textContent]""",
    )
    assert shown == wanted


def test_going_on_never_asks_a_prompt_twice(reader):
    first = run_prompts(reader, TABLE + "return rows.map(row => row.prompt)")
    label = do(reader, "return see.text('.live-everything button')")
    again = run_prompts(reader, TABLE + "return rows.map(row => row.prompt)")
    assert len(set(again)) == len(again)
    if label == "Run them again":
        assert again == first
    else:
        assert label.endswith(" more") and again[: len(first)] == first and len(again) > len(first)


def saved(reader, selector: str) -> str:
    with reader.page.expect_download() as waiting:
        do(reader, f"{selector}.click()")
    return waiting.value.path().read_text(encoding="utf8")


def test_table_and_state_can_be_taken_away(reader):
    rows = run_prompts(reader, TABLE + "return rows")
    files = "see.all('.live-everything > .live-row:last-child button')"
    table = list(csv.DictReader(io.StringIO(saved(reader, f"{files}[0]"))))
    assert [row["prompt"] for row in table] == [row["prompt"] for row in rows]
    assert [list(row.values())[-COLUMNS:] for row in table] == [row["marks"] for row in rows]
    assert {(row["task"], row["method"]) for row in table} == {
        (do(reader, "return see.task()"), "nmd")
    }
    kept = json.loads(saved(reader, f"{files}[1]"))
    assert [one["behaviors"] for one in kept["prompts"]] == [row["marks"] for row in rows]
    state = json.loads(saved(reader, "see.one('.live-take button')"))
    cards = do(reader, "return see.cards()")
    assert [state["left_alone"]["behavior"], state["with_the_shift"]["behavior"]] == [
        card["behavior"] for card in cards
    ]
    assert state["prompt"] == do(reader, "return see.id('live-text').value")


# -- methods ---------------------------------------------------------------------------------------
METHODS = "return Object.keys(see.model().more.methods)"


def test_methods_are_offered_as_lab_13_has_them(reader):
    offered, shown = do(
        reader,
        """return [see.all('input[name=method]').map(one => one.value),
                see.shown(see.one('.live-controls fieldset'))]""",
    )
    methods = do(reader, METHODS)
    assert (offered == ["nmd", *methods] and shown) if methods else not shown or len(offered) == 1


@pytest.mark.parametrize("direction", ["m2g", "g2m"])
@pytest.mark.parametrize("method", ["optimised_retained", "caa"])
def test_a_dose_of_a_chosen_vector_is_what_the_page_adds(reader, method, direction):
    if method not in do(reader, METHODS):
        pytest.skip("lab 13 of this book has kept no vectors")
    found = do(
        reader,
        f"""const method = '{method}', direction = '{direction}', model = see.model();
        await see.press('input[name=direction][value={direction}]');
        await see.press('input[name=method][value={method}]');
        const {{positions, success, n}} = model.more.methods[method][direction];
        const seen = [];
        for (const dose of [1, 0.5, 0]) {{
            await see.put(see.id('live-alpha'), dose);
            const asked = see.expected({{method, direction, alpha: dose}}, positions);
            seen.push([see.cards()[1], asked]);
        }}
        return {{seen, left: see.cards()[0], said: see.text('.live-outcome p'), success, n,
                 rate: see.text('.live-evidence strong'), evidence: see.text('.live-evidence p'),
                 share: see.shown(see.id('live-top')), strip: see.id('live-alpha').max}}""",
    )
    for card, asked in found["seen"]:
        card.pop("badge")
        assert card == asked
    found["left"].pop("badge")
    assert found["seen"][-1][0] == found["left"] and found["said"].startswith("No shift.")
    count = round(found["success"] * found["n"])
    halves_up = (200 * count + found["n"]) // (2 * found["n"])
    assert found["rate"] == f"{halves_up}\u00a0%" and f"n = {found['n']} " in found["evidence"]
    assert not found["share"] and float(found["strip"]) == 2


# -- prompt and direction --------------------------------------------------------------------------
STARTS = {"m2g": "memorization", "g2m": "generalization"}


def test_a_direction_comes_with_a_prompt_that_can_turn(reader):
    for direction in ("g2m", "m2g", "g2m"):
        found = do(
            reader,
            f"""await see.press('input[name=direction][value={direction}]');
            return {{text: see.id('live-text').value, card: see.cards()[0].behavior,
                     note: see.text('.live-prompt [role=status]'), first: see.model().meta.first}}""",
        )
        if direction in found["first"]:
            assert found["text"] == found["first"][direction] and "Another prompt" in found["note"]
            assert found["card"] == STARTS[direction]  # as lab 03 recorded it


def test_an_example_comes_with_the_direction_that_can_turn_it(reader):
    found = do(
        reader,
        """const list = see.id('live-examples'), seen = [];
        for (const {prompt, behavior} of [...see.model().meta.examples].reverse()) {
            list.value = prompt;
            list.dispatchEvent(new Event('change'));
            await see.frames();
            seen.push([see.id('live-text').value === prompt, behavior,
                       see.one('input[name=direction]:checked').value]);
        }
        return seen""",
    )
    assert found and all(same and STARTS[way] == behavior for same, behavior, way in found)


def test_what_the_sentence_says_of_the_target_s_probability_is_so(reader):
    found = do(
        reader,
        """const seen = [];
        for (const {prompt} of see.model().meta.examples) {
            const list = see.id('live-examples');
            list.value = prompt;
            list.dispatchEvent(new Event('change'));
            await see.frames();
            const [before, after] = see.cards();
            const m2g = see.one('input[name=direction]:checked').value === 'm2g';
            seen.push({said: see.text('.live-detail'), target: m2g ? 'generalization' : 'memorization',
                       bars: [before, after].map(card => card.bars[m2g ? 1 : 0]), to: after.behavior});
        }
        return seen""",
    )
    for one in found:
        was, now = one["bars"]
        if was == now:
            assert f"stays at {now}" in one["said"]
        elif "rises" in one["said"]:
            assert f"rises from {was} to {now}." in one["said"] and number(now) >= number(was)
        else:
            assert f"from {was} to {now}" in one["said"] and number(now) <= number(was)
            assert one["said"].startswith("Yet") == (one["to"] == one["target"])


def number(percent: str) -> float:
    return float(percent.strip("<>\u00a0%").replace("\u00a0", ""))


def test_digits_are_explained_where_they_stand_last_first(browser, page):
    with reading(browser, page) as reader:
        found = do(
            ready(reader),
            """return Memgen.rules('arithmetic').reading(['7 1 1', '<mem> 5 9 2', '0 0 1', '<mem>'])""",
        )
        assert found.replace("\u00a0", " ") == (
            "Digits are written last first: 7 1 1 is 117, 5 9 2 is 295, 0 0 1 is 100."
        )
        assert "5\u00a09\u00a02 is" in found  # the digits of a number stay on one line
        family = do(reader, "return see.model().meta.family")
        said = do(reader, "return see.text('.live-outcome')")
        assert ("Digits are written last first" in said) == (family == "arithmetic")


# -- addresses -------------------------------------------------------------------------------------
def test_an_address_names_method_and_dose(browser, page):
    with reading(browser, page) as reader:
        do(ready(reader), "await see.more()")
        methods = do(reader, METHODS)
        if not methods:
            pytest.skip("lab 13 of this book has kept no vectors")
        address, state = do(
            reader,
            f"""await see.press('input[name=method][value={methods[-1]}]');
            await see.put(see.id('live-alpha'), 0.5);
            await see.wait(() => location.hash.includes('dose=0.5'), 'the address');
            return [location.href, [see.cards(), see.text('.live-outcome p')]]""",
        )
    assert parse_qs(address.partition("#")[2])["method"] == [methods[-1]]
    with reading(browser, address) as again:
        assert do(ready(again), "return [see.cards(), see.text('.live-outcome p')]") == state
        assert again.visit.complaints() == []
    unknown = urlencode({"task": do_task(address), "method": "no such", "dose": 2})
    with reading(browser, f"{page.as_uri()}#{unknown}") as odd:
        found = do(ready(odd), "return [see.cards()[1], see.expected(see.chosen('m2g'))]")
        found[0].pop("badge")
        assert found[0] == found[1] and odd.visit.complaints() == []


def do_task(address: str) -> str:
    return parse_qs(address.partition("#")[2])["task"][0]


def test_a_link_to_another_state_of_the_same_page_is_followed(reader):
    found = do(
        reader,
        """const task = see.task(), {prompt} = see.model().meta.examples.at(-1);
        location.hash = new URLSearchParams({task, prompt, direction: 'g2m', alpha: 0});
        await see.wait(() => see.id('live-text').value === prompt, 'the prompt');
        await see.frames();
        const said = see.text('.live-outcome p');
        location.hash = 'exact'; // a heading of the page is no state
        await see.frames();
        return [said, see.id('live-text').value === prompt]""",
    )
    assert found[0].startswith("No shift.") and found[1]


# -- a phone ---------------------------------------------------------------------------------------
def test_on_a_phone_the_answers_come_before_the_controls(browser, page):
    with reading(browser, page, PHONE) as reader:
        found = do(
            ready(reader),
            """await see.more();
            const top = selector => see.one(selector).getBoundingClientRect().top + scrollY;
            const parts = ['outcome', 'cards', 'prompt', 'controls', 'evidence'].map(one => `.live-${one}`);
            return {order: parts.map(top), from: top('.live'), height: innerHeight}""",
        )
        hidden = run_prompts(
            reader, "const all = see.one('.live-all'); return all.scrollWidth - all.clientWidth"
        )
        reader.look(PHONE)
        assert reader.visit.complaints() == []
    assert hidden <= 0  # all marks of a row are on the screen
    assert found["order"] == sorted(found["order"])
    # within one screen of where the page's own words end, tasks and tour included
    assert found["order"][1] - found["from"] < found["height"]


# -- what it weighs --------------------------------------------------------------------------------
def test_the_first_answer_waits_for_the_model_alone(browser, page):
    """Prompts and vectors are fetched after it, and weigh at most a fiftieth of the model."""
    with reading(browser, page) as reader:
        order = do(
            ready(reader),
            """await see.more();
            return [...document.scripts].map(one => one.src.split('/').at(-1))
                .filter(name => /^(model|more)-/.test(name))""",
        )
    assert [name.partition("-")[0] for name in order] == ["model", "more"]
    for more in page.parent.glob("_static/live/more-*.js"):
        model = more.with_name(more.name.replace("more-", "model-", 1))
        assert more.stat().st_size < max(model.stat().st_size / 50, 40_000)
