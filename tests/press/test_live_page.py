"""The page "Steer it yourself" as a reader uses it. `MEMGEN_BOOK=_build/html pytest
tests/press/test_live_page.py` checks a real book.

What the page shows is compared with what its own model computes when asked directly; that the model
computes what PyTorch does is the business of `test_live_engine.py`. No test here says what a model
should answer.
"""

import json

import pytest
from browser import DESK, needs_chromium, reading
from live_reader import do, ready

from press.browser import chromium

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser(built_book):  # a book that has to be made first is made before an event loop runs here
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(built_book):
    if not list(built_book.glob("_static/live/model-*.js")):
        pytest.skip(f"{built_book} holds no model that its page could run")
    return built_book / "live.html"


@pytest.fixture(scope="module")
def reader(browser, page):
    """One visit that most tests share; each begins with a step of the tour, which sets everything."""
    with reading(browser, page) as reader:
        ready(reader)
        yield reader


@pytest.fixture(autouse=True)
def nothing_goes_wrong(request):
    """Whatever a test does on the shared visit: no console error, no exception, no failed or
    foreign request, nothing too wide.
    """
    yield
    if "reader" in request.fixturenames:
        assert request.getfixturevalue("reader").visit.complaints() == []


# -- one prompt, left alone and shifted ------------------------------------------------------------
def test_first_answer_is_the_model_s_own(browser, page):
    with reading(browser, page) as reader:
        found = do(
            ready(reader),
            """const {meta} = see.model();
            return {
                cards: see.cards(), left: see.expected(), prompt: see.id('live-text').value,
                first: meta.first.m2g || [...meta.examples, ...meta.free_examples][0].prompt,
                scripts: [...document.scripts].filter(script => /model-/.test(script.src)).length,
                fallback: see.shown(see.one('.live-fallback')), results: meta.results.m2g,
                sentence: see.text('.live-outcome p'), evidence: see.text('.live-evidence'),
                rate: see.text('.live-evidence strong'),
            }""",
        )
        assert reader.visit.complaints() == []
    assert found["prompt"] == found["first"]
    badge = found["cards"][0].pop("badge")
    assert found["cards"][0] == found["left"] and badge.endswith(found["left"]["behavior"])
    assert found["sentence"] and found["scripts"] == 1 and not found["fallback"]
    n, success = found["results"]["n"], found["results"]["success"]
    assert f"n = {n} " in found["evidence"]
    assert found["rate"] == f"{whole_percent(round(success * n), n)}\u00a0%"


def test_a_strength_beyond_the_limit_stands_beside_its_price(browser, page):
    """Whatever the model: a kept cell and one beyond the limit are told apart, in both directions."""
    with reading(browser, page) as reader:
        found = do(
            ready(reader),
            """const {m2g, g2m} = see.model().meta.results, said = [];
            Object.assign(m2g, {cell: 'kept', free_accuracy_before: 0.96, free_accuracy_after: 0.95});
            Object.assign(g2m, {cell: 'max', free_accuracy_before: 0.96, free_accuracy_after: 0.1});
            g2m.controls = {random_neurons: 0.03, best_of_random: 0.21};
            for (const direction of ['g2m', 'm2g', 'g2m']) {
                await see.press(`input[name=direction][value=${direction}]`);
                said.push(see.text('.live-evidence').replaceAll('\u00a0', ' '));
            }
            return said.slice(1)""",
        )
    kept, beyond = found
    assert "from 96 % to 95 %" in kept and "study's choice" in kept and "No strength" not in kept
    assert "No strength stays within the limit of lost free prompts" in beyond
    assert "from 96 % to 10 %" in beyond and "strength that turns most" in beyond
    assert "random neurons turn 3 %, the best of many random directions 21 %" in beyond
    assert "strongest" not in kept + beyond


def whole_percent(k: int, n: int) -> int:
    """`k` of `n` in per cent, halves up, without a fraction that a binary number cannot hold."""
    return (200 * k + n) // (2 * n)


def test_halves_are_rounded_up_whatever_the_processor(browser, page):
    """17 of 40 is 42.5 %, which Python writes as 42 % and paper as 43 %; 23 of 40 is 57.49999999999999."""
    counts = [(k, n) for n in range(1, 201) for k in range(n + 1)]
    with reading(browser, page) as reader:
        shown = do(
            ready(reader),
            """see.model().meta.results.m2g.success = 17 / 40;
            await see.press('input[name=direction][value=g2m]');
            await see.press('input[name=direction][value=m2g]');
            return see.text('.live-evidence strong')""",
        )
        rounded = do(
            reader,
            f"return {json.dumps(counts)}.map(([k, n]) => Memgen.panels.wholePercent(k / n))",
        )
    assert whole_percent(17, 40) == 43 and whole_percent(23, 40) == 58
    assert shown == "43\u00a0%"
    assert rounded == [whole_percent(k, n) for k, n in counts]


def test_alpha_zero_changes_nothing(reader):
    left, shifted = do(reader, "await see.step(2); return see.cards()")
    assert left == shifted
    assert do(reader, "return see.text('.live-outcome p')").startswith("No shift.")


def test_the_chosen_cell_shifts_as_the_model_does_when_asked(reader):
    found = do(
        reader,
        """await see.step(2);
        const drawn = () => [
            see.one('polyline.live-steered').getAttribute('points'), see.one('canvas').toDataURL(),
        ];
        const before = drawn(), chosen = see.chosen('m2g');
        await see.put(see.id('live-alpha'), chosen.alpha);
        return {cards: see.cards(), left: see.expected(), shifted: see.expected(chosen),
                redrawn: drawn().every((now, i) => now !== before[i])}""",
    )
    for card, expected in zip(found["cards"], (found["left"], found["shifted"])):
        card.pop("badge")
        assert card == expected
    assert found["redrawn"]


def test_row_of_alphas_says_what_the_model_answers_at_each(reader):
    found = do(
        reader,
        """await see.step(0);
        const steps = [0, ...see.model().meta.alphas];
        const items = () => see.all('.live-strip li').map(item => item.title);
        await see.wait(() => items().length === steps.length, 'the row of alphas');
        const behavior = alpha => see.expected({...see.chosen('m2g'), alpha}).behavior;
        return {items: items(), expected: steps.map(alpha => `alpha ${alpha}: ${behavior(alpha)}`)}""",
    )
    assert found["items"] == found["expected"]


def test_another_prompt_and_the_other_direction(reader):
    found = do(
        reader,
        """await see.step(0);
        const list = see.id('live-examples'), {meta} = see.model(), field = see.id('live-text');
        list.value = [...meta.free_examples, ...meta.examples].at(-1).prompt;
        list.dispatchEvent(new Event('change'));
        await see.frames();
        await see.press('input[name=direction][value=g2m]');
        const shift = see.chosen('g2m'), {delta} = see.model().shift(shift);
        const curve = steering => {
            const {states} = see.model().answer(field.value, steering);
            return meta.probe.layers.map((_, layer) => see.probability(states, layer + 1));
        };
        return {
            cards: see.cards(), expected: [see.expected(), see.expected(shift)],
            prompt: field.value, asked: list.value,
            evidence: see.text('.live-evidence'), n: meta.results.g2m.n,
            curves: [{}, {delta, positions: meta.positions}].map(curve),
            words: see.one('.live-curve').getAttribute('aria-label'),
        }""",
    )
    assert found["prompt"] == found["asked"] and f"n = {found['n']} " in found["evidence"]
    for card, expected in zip(found["cards"], found["expected"]):
        card.pop("badge")
        assert card == expected
    for curve in found["curves"]:
        assert ", ".join(f"layer {i} {p}" for i, p in enumerate(curve, 1)) in found["words"]


def test_positions_reach_the_model(reader):
    for positions in ("decision", "all"):
        card, expected = do(
            reader,
            f"""await see.step(0);
            await see.press('input[name=positions][value={positions}]');
            return [see.cards()[1], see.expected(see.chosen('m2g'), '{positions}')]""",
        )
        card.pop("badge")
        assert card == expected


def test_layers_and_share_reach_the_model(reader):
    marks = "see.one('canvas').getAttribute('aria-label')"
    changed = do(
        reader,
        f"""await see.step(0);
        const seen = [{marks}];
        see.all('input[name=layer]').forEach(box => box.checked && box.click());
        await see.frames();
        seen.push({marks});
        see.all('input[name=layer]').forEach(box => box.click());
        const share = see.id('live-top');
        await see.put(share, share.max);
        seen.push({marks});
        return {{seen, neurons: see.model().meta.n_layer * see.model().meta.d_model}}""",
    )
    assert changed["seen"][1].endswith("No neuron is shifted.")
    assert f" {changed['neurons']} neurons are shifted" in changed["seen"][2]
    assert changed["seen"][0] not in changed["seen"][1:]


def test_random_neurons_are_others_and_can_be_drawn_again(reader):
    seen = do(
        reader,
        """await see.step(0);
        const rows = () => see.text('.live-table:not(.live-all) tbody'), seen = [rows()];
        const random = '#live-random', again = '.live-control button', off = see.one(again).disabled;
        for (const control of [random, again, random]) {
            await see.press(control);
            seen.push(rows());
        }
        return [off, ...seen]""",
    )
    off, chosen, first, second, back = seen
    assert off and len({chosen, first, second}) == 3 and back == chosen


# -- what goes in ----------------------------------------------------------------------------------
BAD = [
    ("''", "empty"),
    ("prompt + ' Ωmega'", "“"),
    ("prompt.repeat(12)", "at most"),
    ("'   '", "empty"),
]


@pytest.mark.parametrize("bad, says", BAD)
def test_bad_input_gets_a_sentence_and_the_last_answer_stays(reader, bad, says):
    found = do(
        reader,
        f"""await see.step(0);
        const field = see.id('live-text'), prompt = field.value, before = JSON.stringify(see.cards());
        const stale = () => see.one('.live').classList.contains('live-stale');
        await see.put(field, {bad});
        const error = see.text('#live-error'), kept = JSON.stringify(see.cards()) === before;
        const dimmed = stale(), invalid = field.getAttribute('aria-invalid');
        await see.put(field, prompt);
        return {{error, kept, dimmed, invalid, after: see.text('#live-error'), still: stale()}}""",
    )
    assert says in found["error"] and found["error"].rstrip().endswith((".", "”."))
    assert found["kept"] and found["dimmed"] and found["invalid"] == "true"
    assert found["after"] == "" and not found["still"]


def test_a_prompt_can_be_put_together_from_lists(reader):
    found = do(
        reader,
        """await see.step(0);
        if (see.one('.live-prompt details').hidden) return null;
        await see.press('.live-prompt details button');
        const error = see.text('#live-error'), kind = see.text('.live-kind');
        return {error, prompt: see.id('live-text').value, kind}""",
    )
    assert found is None or (found["prompt"] and found["error"] == "" and found["kind"])


# -- ways to use it --------------------------------------------------------------------------------
def test_keyboard_alone_is_enough(reader):
    do(reader, "await see.step(2); see.id('live-text').focus()")
    before = do(reader, "return see.cards()[1]")

    press = reader.page.keyboard.press

    def tab_to(where):
        for _ in range(30):
            press("Tab")
            if do(reader, f"return document.activeElement.matches({json.dumps(where)})"):
                outline = "return getComputedStyle(document.activeElement).outlineStyle"
                assert do(reader, outline) != "none"
                return
        pytest.fail(f"{where} cannot be reached with the Tab key")

    tab_to("#live-alpha")
    press("ArrowRight")
    one = do(reader, "await see.frames(); return see.text('output[for=live-alpha]')")
    press("End")
    most = do(reader, "await see.frames(); return see.text('output[for=live-alpha]')")
    assert 0 < float(one) < float(most) == do(reader, "return Math.max(...see.model().meta.alphas)")
    assert do(reader, "return see.cards()[1]") != before
    tab_to("#live-random")
    press("Space")
    assert do(
        reader,
        "await see.frames(); return see.id('live-random').checked && see.text('.live-outcome p')",
    ).startswith("On random neurons")
    tab_to("canvas")
    press("ArrowRight")
    assert do(reader, "return see.text('#live-heat-readout')").startswith(
        "Layer 1, neuron 1: left alone "
    )


def test_five_steps_set_what_they_say(reader):
    state = """return {
        task: see.task(), random: see.id('live-random').checked, alpha: +see.id('live-alpha').value,
        layers: see.all('input[name=layer]').map(box => box.checked), best: see.model().meta.probe.best,
        direction: see.one('input[name=direction]:checked').value,
        focus: document.activeElement.closest('.live') !== null, words: see.text('.live-note p'),
    }"""
    steps = []
    for index in range(5):
        steps.append(do(reader, f"await see.step({index}); {state}"))
        assert steps[-1]["focus"] and steps[-1]["words"].startswith(f"{index + 1} · ")
    assert not steps[0]["random"] and steps[0]["alpha"] > 0 and all(steps[0]["layers"])
    assert steps[1]["random"]
    assert steps[2]["alpha"] == 0
    assert [i + 1 for i, on in enumerate(steps[3]["layers"]) if on] == [steps[3]["best"]]
    assert (steps[4]["task"], steps[4]["direction"]) != (steps[0]["task"], steps[0]["direction"])


def test_every_model_is_loaded_only_when_it_is_chosen(browser, page):
    with reading(browser, page) as reader:
        found = do(
            ready(reader),
            """const isModel = script => /model-/.test(script.src), seen = [];
            for (const [index, {task}] of Memgen.available.entries()) {
                see.one(`input[name=task][value="${task}"]`).click();
                await see.wait(() => Memgen.model(task) && !see.text('.live-status'), task);
                await see.frames();
                const same = see.cards()[0].tokens.join('') === see.expected().tokens.join('');
                seen.push([[...document.scripts].filter(isModel).length, index + 1, same]);
            }
            return seen""",
        )
        assert reader.visit.complaints() == []
    assert found and all(loaded == expected and same for loaded, expected, same in found)


def test_address_keeps_the_state(browser, page):
    with reading(browser, page) as reader:
        address = do(
            ready(reader),
            """see.one('input[name=direction][value=g2m]').click();
            see.id('live-random').click();
            await see.put(see.id('live-alpha'), 1);
            await see.wait(() => location.hash.includes('random'), 'the address');
            return location.href""",
        )
        state = do(reader, "return [see.cards(), see.text('.live-outcome p')]")
    with reading(browser, address) as again:
        assert do(ready(again), "return [see.cards(), see.text('.live-outcome p')]") == state
    odd_state = "#task=inference&alpha=much&layers=1&share=7&random=x&prompt=%3F"
    with reading(browser, page.as_uri() + odd_state) as odd:
        assert (
            do(ready(odd), "return see.text('#live-error')") != ""
            or do(odd, "return see.task()") != "inference"
        )
        assert odd.visit.complaints() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_desk_tablet_and_phone(browser, page, scheme):
    with reading(browser, page, (*DESK[:2], scheme)) as reader:
        do(
            ready(reader),
            "see.all('.live details').forEach(one => { one.open = true; })",
        )
        for width in (1400, 768, 390):
            reader.look((width, 900, scheme))
            assert reader.visit.complaints() == [], width
            too_wide = "Math.abs(c.width / devicePixelRatio - c.clientWidth)"
            assert do(reader, f"const c = see.one('canvas'); return {too_wide}") <= 1


@pytest.mark.parametrize("without", ["canvas", "scripts"])
def test_a_browser_that_cannot_run_it_gets_the_figure(browser, page, without):
    with browser.new_context(java_script_enabled=without != "scripts") as context:
        tab = context.new_page()
        if without == "canvas":
            tab.add_init_script("HTMLCanvasElement.prototype.getContext = () => null;")
        tab.goto(page.as_uri())  # nothing waits for what scripts do
        found = tab.evaluate(
            """() => {
                const shown = selector => document.querySelector(selector).getClientRects().length > 0;
                return {
                    live: shown('#live'), figure: shown('.live-fallback img'),
                    reason: document.getElementById('live-reason').textContent,
                    buttons: document.querySelectorAll('[data-try] button').length,
                };
            }"""
        )
    assert not found["live"] and found["figure"] and not found["buttons"]
    assert ("canvas" if without == "canvas" else "scripts") in found["reason"]
