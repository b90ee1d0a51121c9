// Asks the model of a task what live_reference.py asks PyTorch (test_live_engine.py).
function examine({task, prompts, settings, grid, instances, wholeAnswers}) {
    const model = Memgen.model(task), rules = Memgen.rules(model.meta.family);
    const steering = s => s ? {delta: model.shift(s).delta, positions: s.positions} : {};
    const ways = settings.map(steering);
    const ask = (prompt, way) => {
        const {text, ids, tokens, logits, states} = model.answer(prompt, way);
        const scores = model.meta.probe.layers.map((_, i) => model.probeScore(states, i + 1));
        return {text, tokens: tokens.length - ids.length, logits: [...logits], scores};
    };
    const parsed = instances.map(({prompt}) => rules.parse(prompt, model.meta));
    const classes = ({answers}, i) => answers.map(answer => rules.classify(answer, parsed[i]));
    const whole = way => ([prompt, answer]) => model.sequenceLogProbability(prompt, answer, way);
    return {
        parsed, runs: ways.map(way => prompts.map(prompt => ask(prompt, way))),
        shifts: grid.map(s => [...model.shift(s).delta]),
        wayShifts: settings.map(s => s && [...model.shift(s).delta]),
        classes: instances.map(classes), whole: ways.map(way => wholeAnswers.map(whole(way))),
    };
}

/** What is run on many prompts: behaviours with the token forbidden that the answer would begin with, and
 *  the vectors of every method at these doses. */
function everything({task, n, doses}) {
    const model = Memgen.model(task), {more, meta} = model, rules = Memgen.rules(meta.family);
    const asked = Object.entries(more.prompts).map(([d, prompts]) => [d, prompts.slice(0, n)]);
    const forbidden = (direction, prompt) => {
        const parsed = rules.parse(prompt, meta);
        const forbid = model.firstToken(direction === "m2g" ? parsed.memory : parsed.rule);
        return rules.classify(model.answer(prompt, {forbid}).text, parsed);
    };
    const of = (method, direction) =>
        doses.map(alpha => [...model.shift({method, direction, alpha}).delta]);
    const target = {m2g: "generalization", g2m: "memorization"};
    const turned = (direction, {alpha, topN, positions}, method) => {
        const {delta} = model.shift({direction, alpha, topN, method});
        const answers = prompt => model.answer(prompt, {delta, positions}).text;
        const is = prompt => rules.classify(answers(prompt), rules.parse(prompt, meta));
        return more.prompts[direction].filter(p => is(p) === target[direction]).length;
    };
    const ofNeurons = direction => {
        const {alpha, top_n: topN} = meta.cells[direction], {positions} = meta;
        return turned(direction, {alpha, topN, positions}, "nmd");
    };
    const ofMethod = ([name, about]) => [name, asked.map(([direction]) =>
        turned(direction, {alpha: 1, positions: about[direction].positions}, name))];
    return {
        turned: {nmd: asked.map(([direction]) => ofNeurons(direction)),
            ...Object.fromEntries(Object.entries(more.methods).map(ofMethod))},
        prompts: Object.fromEntries(asked),
        forbidden: Object.fromEntries(asked.map(([d, some]) => [d, some.map(p => forbidden(d, p))])),
        vectors: Object.fromEntries(Object.keys(more.methods).map(name =>
            [name, {m2g: of(name, "m2g"), g2m: of(name, "g2m")}])),
    };
}
