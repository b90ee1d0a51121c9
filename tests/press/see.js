// What a reader sees on the live page, and what its own model says when asked directly (test_live_page.py).
window.see = {
    wait: async (done, what) => {
        for (const began = performance.now(); !done(); await new Promise(next => setTimeout(next, 10)))
            if (performance.now() - began > 60000) throw new Error(`waited for ${what}`);
    },
    id: name => document.getElementById(name),
    one: selector => document.querySelector(selector),
    all: selector => [...document.querySelectorAll(selector)],
    text: (selector, within = document) => {
        const found = within.querySelector(selector);
        return found && found.textContent;
    },
    texts: (selector, within) => [...within.querySelectorAll(selector)].map(one => one.textContent),
    shown: element => element.getClientRects().length > 0,
    frames: () => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))),
    ready: () => see.wait(() => see.one('.live-body') && !see.one('.live-body').hidden, 'the first answer'),
    task: () => see.one('input[name=task]:checked').value,
    model: () => Memgen.model(see.task()),
    put: async (element, value) => {
        element.value = value;
        element.dispatchEvent(new Event('input'));
        await see.frames();
    },
    press: async selector => { see.one(selector).click(); await see.frames(); },
    step: async index => {
        const taken = () => (see.text('.live-note strong') || '').startsWith(`${index + 1} `);
        see.all('[data-try] button')[index].click();
        await see.wait(() => taken() && !see.text('.live-status'), `step ${index + 1}`);
        await see.frames();
    },
    cards: () => see.all('.live-card').map(card => ({
        tokens: see.texts('.live-token', card),
        behavior: card.dataset.behavior,
        badge: see.text('.live-badge', card),
        bars: see.texts('.live-bar-value', card),
        probe: see.text('.live-probe-word strong', card),
    })),
    /** Where the best probe puts a state among the test prompts, by counting them anew. */
    rank: states => {
        const {probe} = see.model().meta, score = see.model().probeScore(states);
        const below = probe.ranks.filter(one => one < score).length;
        return below ? `${below}\u00a0%` : 'less than 1\u00a0%';
    },
    /** Where the probe of a layer stands, of the final states of an answer. */
    probability: (states, layer) => {
        const score = see.model().probeScore(states, layer);
        return Memgen.panels.percent(1 / (1 + Math.exp(-score)));
    },
    /** The same from the model alone. `shift`: what to ask it for, or nothing; `positions`: where, if not
     *  where the study shifts. */
    expected: (shift, positions) => {
        const model = see.model(), {meta} = model, rules = Memgen.rules(meta.family);
        if (shift) shift = {delta: model.shift(shift).delta, positions: positions || meta.positions};
        const steering = shift || {};
        const text = see.id('live-text').value, parsed = rules.parse(text, meta);
        const answer = model.answer(text, steering);
        const likelihood = whole => Math.exp(model.sequenceLogProbability(text, whole, steering));
        const bar = whole => Memgen.panels.percent(likelihood(whole));
        return {
            tokens: answer.tokens.map(token => token.text.trim()),
            behavior: rules.classify(answer.text, parsed),
            bars: [parsed.memory, parsed.rule].filter(whole => whole !== null).map(bar),
            probe: see.rank(answer.states),
        };
    },
    more: () => see.wait(() => see.model().more && !see.one('.live-everything').hidden, 'all prompts'),
    /** The cell that the study chose for a direction, as a shift. */
    chosen: direction => {
        const {alpha, top_n: topN} = see.model().meta.cells[direction];
        return {direction, alpha, topN};
    },
};
