"""The page "Steer it yourself" as a reader uses it. `MEMGEN_BOOK=_build/html pytest
tests/book/test_live_page.py` checks a real book.

What the page shows is compared with what its own model computes when asked directly; that the model
computes what PyTorch does is the business of `test_live_engine.py`. No test here says what a model
should answer.
"""

import json
import shutil

import pytest
from browser import BINARIES, Browser

#: what a reader sees, and the model's own words for the prompt and shift that the controls name
HELPERS = r"""
window.see = {
    wait: async (done, what) => {
        for (const began = performance.now(); !done(); await new Promise(next => setTimeout(next, 10)))
            if (performance.now() - began > 60000) throw new Error(`waited for ${what}`);
    },
    ready: () => see.wait(() => { const body = document.querySelector('.live-body'); return body && !body.hidden; }, 'the first answer'),
    frames: () => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))),
    text: selector => { const found = document.querySelector(selector); return found && found.textContent; },
    task: () => document.querySelector('input[name=task]:checked').value,
    model: () => Memgen.model(see.task()),
    put: async (element, value) => { element.value = value; element.dispatchEvent(new Event('input')); await see.frames(); },
    step: async index => {
        document.querySelectorAll('[data-try] button')[index].click();
        await see.wait(() => see.text('.live-note strong') && see.text('.live-note strong').startsWith(`${index + 1} `) && !see.text('.live-status'), `step ${index + 1}`);
        await see.frames();
    },
    cards: () => [...document.querySelectorAll('.live-card')].map(card => ({
        tokens: [...card.querySelectorAll('.live-token')].map(token => token.textContent), behavior: card.dataset.behavior, badge: card.querySelector('.live-badge').textContent,
        bars: [...card.querySelectorAll('.live-bar-value')].map(value => value.textContent), probe: card.querySelector('.live-probe-word strong').textContent})),
    /** The same from the model alone. `shift`: what to ask it for, or nothing; `positions`: where, if not where the study shifts. */
    expected: (shift, positions) => {
        const model = see.model(), {meta} = model, text = document.getElementById('live-text').value, {percent} = Memgen.panels;
        const steering = shift ? {delta: model.shift(shift).delta, positions: positions || meta.positions} : {};
        const parsed = Memgen.rules(meta.family).parse(text, meta), answer = model.answer(text, steering);
        const behavior = Memgen.rules(meta.family).classify(answer.text, parsed);
        return {tokens: answer.tokens.map(token => token.text.trim()), behavior, bars: [parsed.memory, parsed.rule].filter(whole => whole !== null).map(whole => percent(Math.exp(model.sequenceLogProbability(text, whole, steering)))),
                probe: percent(1 / (1 + Math.exp(-model.probeScore(answer.states))))};
    },
    shown: element => element.getClientRects().length > 0,
};
"""


@pytest.fixture(scope="module")
def browser():
    if not any(map(shutil.which, BINARIES)):
        pytest.skip("Chromium is not installed (Debian: `apt-get install chromium`)")
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(built_book):
    if not list(built_book.glob("_static/live/model-*.js")):
        pytest.skip(f"{built_book} holds no model that its page could run")
    return built_book / "live.html"


@pytest.fixture(scope="module")
def reader(browser, page):
    """One visit that most tests share; each begins with a step of the tour, which sets everything."""
    with browser.reading(page) as reader:
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


def ready(reader):
    reader.evaluate(HELPERS + "see.ready()")
    return reader


def do(reader, steps: str):
    return reader.evaluate("(async () => {" + steps + "})()")


# -- one prompt, left alone and shifted ------------------------------------------------------------
def test_first_answer_is_the_model_s_own(browser, page):
    with browser.reading(page) as reader:
        found = do(
            ready(reader),
            """return {cards: see.cards(), left: see.expected(), first: [...see.model().meta.examples, ...see.model().meta.free_examples], prompt: document.getElementById('live-text').value,
            scripts: [...document.scripts].filter(script => /model-/.test(script.src)).length, fallback: see.shown(document.querySelector('.live-fallback')),
            sentence: see.text('.live-outcome p'), evidence: see.text('.live-evidence'), results: see.model().meta.results.m2g}""",
        )
        assert reader.visit.complaints() == []
    assert found["prompt"] == next(
        (e["prompt"] for e in found["first"] if e.get("behavior") == "memorization"),
        found["first"][0]["prompt"],
    )
    badge = found["cards"][0].pop("badge")
    assert found["cards"][0] == found["left"] and badge.endswith(found["left"]["behavior"])
    assert found["sentence"] and found["scripts"] == 1 and not found["fallback"]
    assert (
        f"n = {found['results']['n']} " in found["evidence"]
        and f"{100 * found['results']['success']:.0f}" in found["evidence"]
    )


def test_alpha_zero_changes_nothing(reader):
    left, shifted = do(reader, "await see.step(2); return see.cards()")
    assert left == shifted
    assert do(reader, "return see.text('.live-outcome p')").startswith("No shift.")


def test_the_chosen_cell_shifts_as_the_model_does_when_asked(reader):
    found = do(
        reader,
        """await see.step(2);
        const curve = () => document.querySelector('polyline.live-steered').getAttribute('points'), map = () => document.querySelector('canvas').toDataURL();
        const before = [curve(), map()], {alpha} = see.model().meta.cells.m2g;
        await see.put(document.getElementById('live-alpha'), alpha);
        return {cards: see.cards(), left: see.expected(), shifted: see.expected({direction: 'm2g', alpha, topN: see.model().meta.cells.m2g.top_n}),
                redrawn: [curve(), map()].every((now, i) => now !== before[i])}""",
    )
    for card, expected in zip(found["cards"], (found["left"], found["shifted"])):
        card.pop("badge")
        assert card == expected
    assert found["redrawn"]


def test_row_of_alphas_says_what_the_model_answers_at_each(reader):
    found = do(
        reader,
        """await see.step(0);
        const steps = [0, ...see.model().meta.alphas], items = () => [...document.querySelectorAll('.live-strip li')].map(item => item.title);
        await see.wait(() => items().length === steps.length, 'the row of alphas');
        const cell = see.model().meta.cells.m2g;
        return {items: items(), expected: steps.map(alpha => `alpha ${alpha}: ${see.expected({direction: 'm2g', alpha, topN: cell.top_n}).behavior}`)}""",
    )
    assert found["items"] == found["expected"]


def test_another_prompt_and_the_other_direction(reader):
    found = do(
        reader,
        """await see.step(0); const list = document.getElementById('live-examples'), meta = see.model().meta, field = document.getElementById('live-text');
        list.value = [...meta.free_examples, ...meta.examples].at(-1).prompt; list.dispatchEvent(new Event('change'));
        document.querySelector('input[name=direction][value=g2m]').click(); await see.frames();
        const {alpha, top_n: topN} = meta.cells.g2m, shift = {direction: 'g2m', alpha, topN}, {delta} = see.model().shift(shift), steering = {delta, positions: meta.positions};
        const curve = states => meta.probe.layers.map((_, layer) => Memgen.panels.percent(1 / (1 + Math.exp(-see.model().probeScore(states, layer + 1)))));
        return {cards: see.cards(), prompt: field.value, asked: list.value, expected: [see.expected(), see.expected(shift)], evidence: see.text('.live-evidence'), n: meta.results.g2m.n,
                curves: [{}, steering].map(one => curve(see.model().answer(field.value, one).states)), words: document.querySelector('.live-curve').getAttribute('aria-label')}""",
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
            f"""await see.step(0); document.querySelector('input[name=positions][value={positions}]').click(); await see.frames();
            const {{alpha, top_n: topN}} = see.model().meta.cells.m2g; return [see.cards()[1], see.expected({{direction: 'm2g', alpha, topN}}, '{positions}')]""",
        )
        card.pop("badge")
        assert card == expected


def test_layers_and_share_reach_the_model(reader):
    marks = "document.querySelector('canvas').getAttribute('aria-label')"
    changed = do(
        reader,
        f"""await see.step(0);
        const seen = [{marks}];
        document.querySelectorAll('input[name=layer]').forEach(box => box.checked && box.click());
        await see.frames(); seen.push({marks});
        document.querySelectorAll('input[name=layer]').forEach(box => box.click());
        const share = document.getElementById('live-top'); await see.put(share, share.max); seen.push({marks});
        return {{seen, neurons: see.model().meta.n_layer * see.model().meta.d_model}}""",
    )
    assert changed["seen"][1].endswith("No neuron is shifted.")
    assert (
        f" {changed['neurons']} neurons are shifted" in changed["seen"][2]
        and changed["seen"][0] not in changed["seen"][1:]
    )


def test_random_neurons_are_others_and_can_be_drawn_again(reader):
    seen = do(
        reader,
        """const rows = () => document.querySelector('.live-table tbody').textContent;
        await see.step(0); const seen = [rows()], again = document.querySelector('.live-control button'), off = again.disabled;
        document.getElementById('live-random').click(); await see.frames(); seen.push(rows());
        again.click(); await see.frames(); seen.push(rows());
        document.getElementById('live-random').click(); await see.frames(); seen.push(rows()); return [off, ...seen]""",
    )
    off, chosen, first, second, back = seen
    assert off and len({chosen, first, second}) == 3 and back == chosen


# -- what goes in ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "bad, says",
    [
        ("''", "empty"),
        ("prompt + ' Ωmega'", "“"),
        ("prompt.repeat(12)", "at most"),
        ("'   '", "empty"),
    ],
)
def test_bad_input_gets_a_sentence_and_the_last_answer_stays(reader, bad, says):
    found = do(
        reader,
        f"""await see.step(0); const field = document.getElementById('live-text'), prompt = field.value, before = JSON.stringify(see.cards());
        await see.put(field, {bad}); const error = see.text('#live-error'), kept = JSON.stringify(see.cards()) === before;
        const dimmed = document.querySelector('.live').classList.contains('live-stale'), invalid = field.getAttribute('aria-invalid');
        await see.put(field, prompt);
        return {{error, kept, dimmed, invalid, after: see.text('#live-error'), still: document.querySelector('.live').classList.contains('live-stale')}}""",
    )
    assert says in found["error"] and found["error"].rstrip().endswith((".", "”."))
    assert found["kept"] and found["dimmed"] and found["invalid"] == "true"
    assert found["after"] == "" and not found["still"]


def test_a_prompt_can_be_put_together_from_lists(reader):
    found = do(
        reader,
        """await see.step(0); const details = document.querySelector('.live-prompt details'); if (details.hidden) return null;
        details.querySelector('button').click(); await see.frames();
        return {error: see.text('#live-error'), prompt: document.getElementById('live-text').value, kind: see.text('.live-kind')}""",
    )
    assert found is None or (found["prompt"] and found["error"] == "" and found["kind"])


# -- ways to use it --------------------------------------------------------------------------------
def test_keyboard_alone_is_enough(reader):
    do(reader, "await see.step(2); document.getElementById('live-text').focus()")
    before = do(reader, "return see.cards()[1]")

    def press(key, code=None, text=None):
        for kind in ("keyDown", "keyUp"):
            codes = {"Tab": 9, "ArrowRight": 39, "End": 35, " ": 32}
            reader.tab.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=code or key,
                windowsVirtualKeyCode=codes[key],
                **({"text": text} if text and kind == "keyDown" else {}),
            )

    def tab_to(where):
        for _ in range(30):
            press("Tab")
            if do(reader, f"return document.activeElement.matches({json.dumps(where)})"):
                assert (
                    do(reader, "return getComputedStyle(document.activeElement).outlineStyle")
                    != "none"
                )
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
    press(" ", "Space", " ")
    assert do(
        reader,
        "await see.frames(); return document.getElementById('live-random').checked &&"
        " see.text('.live-outcome p')",
    ).startswith("On random neurons")
    tab_to("canvas")
    press("ArrowRight")
    assert do(reader, "return see.text('#live-heat-readout')").startswith(
        "Layer 1, neuron 1: left alone "
    )


def test_five_steps_set_what_they_say(reader):
    state = """return {task: see.task(), random: document.getElementById('live-random').checked, alpha: +document.getElementById('live-alpha').value,
        layers: [...document.querySelectorAll('input[name=layer]')].map(box => box.checked), best: see.model().meta.probe.best,
        direction: document.querySelector('input[name=direction]:checked').value, focus: document.activeElement.closest('.live') !== null, words: see.text('.live-note p')}"""
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
    with browser.reading(page) as reader:
        found = do(
            ready(reader),
            """const loaded = () => [...document.scripts].filter(script => /model-/.test(script.src)).length, seen = [];
            for (const [index, {task}] of Memgen.available.entries()) {
                document.querySelector(`input[name=task][value="${task}"]`).click();
                await see.wait(() => Memgen.model(task) && !see.text('.live-status'), task); await see.frames();
                seen.push([loaded(), index + 1, see.cards()[0].tokens.join('') === see.expected().tokens.join('')]);
            } return seen""",
        )
        assert reader.visit.complaints() == []
    assert found and all(loaded == expected and same for loaded, expected, same in found)


def test_address_keeps_the_state(browser, page):
    with browser.reading(page) as reader:
        address = do(
            ready(reader),
            """document.querySelector('input[name=direction][value=g2m]').click(); document.getElementById('live-random').click();
            await see.put(document.getElementById('live-alpha'), 1); await see.frames(); await see.wait(() => location.hash.includes('random'), 'the address'); return location.href""",
        )
        state = do(reader, "return [see.cards(), see.text('.live-outcome p')]")
    with browser.reading(address) as again:
        assert do(ready(again), "return [see.cards(), see.text('.live-outcome p')]") == state
    with browser.reading(
        page.as_uri() + "#task=inference&alpha=much&layers=1&share=7&random=x&prompt=%3F"
    ) as odd:
        assert (
            do(ready(odd), "return see.text('#live-error')") != ""
            or do(odd, "return see.task()") != "inference"
        )
        assert odd.visit.complaints() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_desk_tablet_and_phone(browser, page, scheme):
    with browser.reading(page, 1400, 900, scheme) as reader:
        do(
            ready(reader),
            "document.querySelectorAll('.live details').forEach(one => { one.open = true; })",
        )
        for width in (1400, 768, 390):
            reader.look(width, 900, scheme)
            assert reader.visit.complaints() == [], width
            assert (
                do(
                    reader,
                    "const c = document.querySelector('canvas'); return Math.abs(c.width /"
                    " devicePixelRatio - c.clientWidth)",
                )
                <= 1
            )


@pytest.mark.parametrize("without", ["canvas", "scripts"])
def test_a_browser_that_cannot_run_it_gets_the_figure(browser, page, without):
    events = []
    with browser.tab(hear=lambda event: events.append(event["method"])) as tab:
        if without == "scripts":
            tab.call("Emulation.setScriptExecutionDisabled", value=True)
        else:
            tab.call(
                "Page.addScriptToEvaluateOnNewDocument",
                source="HTMLCanvasElement.prototype.getContext = () => null;",
            )
        tab.look(1400, 900)
        tab.call("Page.navigate", url=page.as_uri())  # not `open`, which waits for what scripts do
        browser.wait_until(lambda: "Page.loadEventFired" in events)
        found = tab.evaluate(
            """(() => { const shown = selector => document.querySelector(selector).getClientRects().length > 0;
            return {live: shown('#live'), figure: shown('.live-fallback img'), reason: document.getElementById('live-reason').textContent, buttons: document.querySelectorAll('[data-try] button').length}; })()"""
        )
    assert not found["live"] and found["figure"] and not found["buttons"]
    assert ("canvas" if without == "canvas" else "scripts") in found["reason"]
