// The page "Steer it yourself": what the reader has chosen (`state`), one function that computes everything from it
// (`update`), and the panels that show it. The model is in engine.js and fetched by loading.js, the tasks' rules in tasks.js, the
// drawings in panels.js.
"use strict";
(() => {
  const { make, percent, wholePercent, share, number, sigmoid, badge, card, curve, heatmap, scaleOf, SIGNS } = Memgen.panels;

  const FAMILIES = { arithmetic: "Addition", inference: "Names and colours", cipher: "A shifted alphabet" };
  const VARIANTS = { tagged: "memory answers carry a mark", matched: "both answers look alike" };
  const DIRECTIONS = { m2g: "memory to rule", g2m: "rule to memory" };
  const KINDS = {
    conflict: "A conflict prompt: it holds a key in a setting in which that key was never trained. Memory and rule give different answers.",
    keyed: "Nothing contradicts the memory here: in this setting the model was trained with the memory answer, or the rule gives the same one.",
    contrast: "There is a memory to it, but in this setting the model was trained with the answer of the rule.",
    free: "It holds no key: only the rule has an answer here.",
    unknown: "Not a whole prompt of this task: the model answers, but no answer can be called memorized or computed.",
  };
  const USED = { train: " The key was used to find the neurons, so it shows the shift at its best.", validation: " The key was used to choose the settings." };
  const SHARES = [0.005, 0.01, 0.5, 1]; // offered besides the study's own grid
  const NEURONS = "nmd", DOSES = [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2]; // of a vector that was chosen as a whole: 1 is as it was chosen
  const ENDS = { m2g: ["memorization", "generalization"], g2m: ["generalization", "memorization"] }; // a direction begins and arrives at
  const OF = { memorization: "the answer from memory", generalization: "the rule's answer" };

  /** `alpha` is the dose where the method is not the paper's neurons. */
  const state = { task: "", text: "", direction: "m2g", method: NEURONS, alpha: 0, topN: 0, layers: [], positions: "all", random: null, map: "steered" };
  const ui = {};
  let plain = null; // what the model does when left alone: {task, text, found}
  let pending = 0, later = 0, strip = 0, shownTask = "";

  const model = () => Memgen.model(state.task);
  const rules = (meta) => Memgen.rules(meta.family);
  const said = (text) => `“${text.trim() || "(nothing)"}”`;

  // -- computing --------------------------------------------------------------------------------------------------------
  /** Everything that the page says about one answer. `steering`: {} or {delta, positions}. */
  function measure(text, steering) {
    const { meta } = model(), answered = model().answer(text, steering);
    const family = rules(meta), parsed = family.parse(text, meta);
    const same = parsed.rule !== null && parsed.rule === parsed.memory; // then one bar says it all
    const whole = [["memorization", parsed.memory], ["generalization", same ? null : parsed.rule]].filter(([, answer]) => answer !== null)
      .map(([behavior, answer]) => ({ behavior, text: answer, probability: Math.exp(model().sequenceLogProbability(text, answer, steering)) }));
    const probe = meta.probe.layers.map((_, layer) => sigmoid(model().probeScore(answered.states, layer + 1)));
    return { ...answered, parsed, whole, probe, behavior: parsed.kind === "unknown" ? null : family.classify(answered.text, parsed) };
  }

  const shift = (alpha = state.alpha) => model().shift({ ...state, alpha });

  /** What the study chose for a direction of the method at hand: {alpha, topN, positions}. */
  function chosen(direction) {
    const { meta, more } = model();
    if (state.method !== NEURONS) return { alpha: 1, topN: state.topN, positions: more.methods[state.method][direction].positions };
    return { alpha: meta.cells[direction].alpha, topN: meta.cells[direction].top_n, positions: meta.positions || "all" };
  }

  /** Compute and show again before the next frame. However many controls moved, once. */
  function refresh() {
    if (!pending) pending = requestAnimationFrame(update);
  }

  function update() {
    cancelAnimationFrame(pending);
    pending = 0;
    if (!model()) return;
    const text = state.text.trim(), began = performance.now();
    try {
      if (!plain || plain.task !== state.task || plain.text !== text) {
        plain = { task: state.task, text, found: measure(text, {}) };
        ui.forbidden.textContent = ""; // it was about another prompt
      }
      const { delta, neurons } = shift();
      const steered = measure(text, { delta, positions: state.positions });
      ui.milliseconds = performance.now() - began;
      settle("");
      showAnswers(plain.found, steered);
      showStates(plain.found, steered, delta, neurons);
      showControls(neurons);
      clearTimeout(strip);
      strip = setTimeout(followAlpha, 250);
      remember();
    } catch (error) {
      if (!(error instanceof Memgen.InputError)) throw error;
      settle(error.message);
    }
  }

  /** A sentence about what is wrong with the input, or '' if nothing is; the last good output stays, dimmed. */
  function settle(sentence) {
    if (ui.error.textContent !== sentence) ui.error.textContent = sentence;
    ui.text.setAttribute("aria-invalid", String(Boolean(sentence)));
    ui.root.classList.toggle("live-stale", Boolean(sentence));
    clearTimeout(strip);
  }

  // -- showing ----------------------------------------------------------------------------------------------------------
  function showAnswers(before, after) {
    ui.kind.textContent = KINDS[before.parsed.kind] + (USED[model().meta.key_splits[before.parsed.key]] || "");
    const layer = model().meta.probe.best; // counted from 1
    const { n_ranked: ranked } = model().meta.probe;
    const verdict = (found, name) => ["Before the answer, the probe finds it further to the rule than ", make("strong", {}, rank(found.states)), ` of ${ranked} test prompts left alone (layer ${layer}${name})`];
    ui.before.show({ ...before, verdict: verdict(before, "") });
    ui.after.show({ ...after, verdict: verdict(after, ", shifted state") });
    ui.curve.show(before.probe, after.probe, layer - 1);
    ui.time.textContent = `Computed in your browser in ${ui.milliseconds.toFixed(0)} ms.`;
    const sentence = outcome(before, after), detail = [probabilities(before, after), digits(before, after)].filter(Boolean).join(" ");
    if (ui.sentence.textContent !== sentence) ui.sentence.textContent = sentence;
    if (ui.detail.textContent !== detail) ui.detail.textContent = detail;
    ui.outcome.dataset.from = before.behavior || "unjudged";
    ui.outcome.dataset.to = after.behavior || "unjudged";
  }

  /** What the shift did to this one answer, in one sentence. */
  function outcome(before, after) {
    const named = (found) => said(found.text) + (found.behavior ? ` (${found.behavior})` : "");
    if (!state.alpha) return `No shift. The model answers ${named(before)}.`;
    const the = state.random === null ? "The" : "On random neurons the";
    if (before.text === after.text) return before.behavior === ENDS[state.direction][1] ? `Nothing to turn: the answer is ${named(before)} from the start, and stays.` : `${the} answer stays ${named(before)}.`;
    const change = `${said(before.text)} becomes ${said(after.text)}`;
    if (!before.behavior) return `${the} answer changes: ${change}.`;
    if (before.behavior === after.behavior) return `${the} answer changes, the behaviour stays ${before.behavior}: ${change}.`;
    if (after.behavior === "other") return `${the} answer falls apart: ${change}, which is neither the memory's nor the rule's.`;
    return `${the} behaviour turns from ${before.behavior} to ${after.behavior}: ${change}.`;
  }

  /** What became of the probability of the answer that the shift is after, which need not rise where the answer turns. */
  function probabilities(before, after) {
    const [, target] = ENDS[state.direction], of = (found) => found.whole.find(({ behavior }) => behavior === target);
    if (!state.alpha || !of(before)) return "";
    const [from, to] = [of(before), of(after)].map(({ probability }) => probability), [was, is] = [from, to].map(percent);
    if (was === is) return `The probability of ${OF[target]} stays at ${is}.`;
    if (to > from) return `The probability of ${OF[target]} rises from ${was} to ${is}.`;
    return after.behavior === target && before.behavior !== target
      ? `Yet the probability of ${OF[target]} falls, from ${was} to ${is}: it is given because the other one lost more.`
      : `The probability of ${OF[target]} falls from ${was} to ${is}.`;
  }

  /** Answers that are not written as one would read them, in words. */
  function digits(before, after) {
    const { reading } = rules(model().meta), texts = [...new Set([before.text, after.text])];
    return reading ? reading(texts) : "";
  }

  /** Where the probe's best layer puts a state among the test prompts left alone, in whole per cent. */
  function rank(states) {
    const { ranks } = model().meta.probe, score = model().probeScore(states), below = ranks.filter((one) => one < score).length;
    return below ? `${below}\u00a0%` : "less than 1\u00a0%";
  }

  function showStates(before, after, delta, chosen) {
    const { n_layer: layers, d_model: neurons } = model().meta, marked = state.alpha ? Array.from(chosen) : [];
    const change = after.states.map((value, i) => value - before.states[i]);
    const values = { plain: before.states, steered: after.states, change }[state.map];
    const reference = state.map === "change" ? change : before.states; // one scale for both states, so that they can be compared
    const scales = Array.from({ length: layers }, (_, layer) => scaleOf(reference, layer * neurons, (layer + 1) * neurons));
    const strongest = Array.from(chosen).sort((a, b) => Math.abs(delta[b]) - Math.abs(delta[a])).slice(0, 8);
    const place = (i) => `layer ${Math.floor(i / neurons) + 1} neuron ${i % neurons}`;
    const text = `Hidden states at the decision position, ${layers} layers by ${neurons} neurons. ` +
      (marked.length ? `${marked.length} neurons are shifted, most of all ${strongest.slice(0, 3).map((i) => `${place(i)} by ${number(delta[i])}`).join(", ")}.` : "No neuron is shifted.");
    ui.map.show({ layers, neurons, values, scales, marked, plain: before.states, steered: after.states, delta, text });
    ui.rows.replaceChildren(...strongest.map((i) => make("tr", {}, ...[`${Math.floor(i / neurons) + 1}`, `${i % neurons}`, number(model().rho[i]),
      number(model().nmd[i]), number(before.states[i]), number(delta[i]), number(after.states[i])].map((cell) => make("td", {}, cell)))));
  }

  /** The words beside the controls. */
  function showControls(neurons) {
    const { meta, more } = model(), cell = meta.cells[state.direction], own = state.method === NEURONS;
    ui.alphaOut.textContent = state.alpha ? number(state.alpha, 2).replace(/\.?0+$/, "") : "0 (no shift)";
    ui.alphaName.textContent = own ? "alpha, the strength" : "dose, as a multiple of the chosen vector";
    ui.topN.parentElement.hidden = !own;
    ui.alpha.setAttribute("aria-valuetext", ui.alphaOut.textContent);
    ui.topNOut.textContent = `${share(state.topN)}, ${neurons.length} neurons`;
    ui.topN.setAttribute("aria-valuetext", ui.topNOut.textContent);
    ui.cell.textContent = `The study's choice for ${DIRECTIONS[state.direction]}: ${own ? `alpha ${cell.alpha}, ${share(cell.top_n)} of the neurons` : `dose 1 (${more.methods[state.method][state.direction].label})`}.`;
    ui.again.disabled = state.random === null;
    ui.push.textContent = state.alpha ? "Let go" : "Push, as the study did";
    ui.all.refresh();
  }

  /** With the shift as the study chose it, or without any. */
  function push() {
    if (state.alpha) state.alpha = 0;
    else aim(state.direction);
    synchronize();
    refresh();
  }

  /** What one forbidden token does, and nothing else: the first of the answer that is given when nothing is shifted. */
  function forbidOne() {
    update();
    const { text, found } = plain, [first] = found.tokens;
    if (ui.error.textContent || !first) return; // what is on the screen is another prompt's, or no token is there to forbid
    const answered = model().answer(text, { forbid: first.id });
    const behavior = found.behavior && rules(model().meta).classify(answered.text, found.parsed);
    ui.forbidden.textContent = `Nothing is shifted, and the answer may not begin with ${said(first.text)}: it is ${said(answered.text)}${behavior ? ` (${behavior})` : ""}.`;
  }

  const strengths = () => (state.method === NEURONS ? [0, ...model().meta.alphas] : DOSES);

  /** The answer at every alpha of the study's grid, a model run at a time so that the controls stay quick. */
  function followAlpha() {
    const steps = strengths(), text = state.text.trim(), found = [];
    const step = () => {
      const alpha = steps[found.length];
      const answered = model().answer(text, { delta: shift(alpha).delta, positions: state.positions }), { parsed } = plain.found;
      found.push(plain.found.behavior ? rules(model().meta).classify(answered.text, parsed) : null);
      if (found.length < steps.length) strip = setTimeout(step, 0);
      else showStrip(steps, found);
    };
    step();
  }

  function showStrip(steps, found) {
    const name = state.method === NEURONS ? "alpha" : "dose";
    ui.strip.replaceChildren(...found.map((behavior, i) => make("li", { class: `live-${behavior || "unjudged"}`, title: `${name} ${steps[i]}: ${behavior || "not judged"}` },
      make("span", { "aria-hidden": "true" }, SIGNS[behavior] || "○"), make("span", { "aria-hidden": "true" }, String(steps[i]).replace(/^0\./, ".")),
      make("span", { class: "live-hidden" }, `${name} ${steps[i]}: ${behavior || "not judged"}`))));
  }

  /** What this model does over all test prompts: the table behind the anecdote. */
  function showEvidence() {
    const { meta, more } = model(), neurons = meta.results[state.direction], own = state.method === NEURONS;
    const results = own ? neurons : more.methods[state.method][state.direction];
    const [from, to] = state.direction === "m2g" ? ["memorized", "computed"] : ["computed", "memorized"];
    const floor = neurons.rephrase_floor === null ? "" : `; another order of the words alone turns ${percentage(neurons.rephrase_floor)}`;
    const accuracy = `from ${percentage(results.free_accuracy_before)} to ${percentage(results.free_accuracy_after)}`;
    const price = results.cell === "kept" ? `It takes the accuracy on prompts without a key ${accuracy}. `
      : `No strength stays within the limit of lost free prompts, so in the study's tables this model counts as turning none; this one takes their accuracy ${accuracy}. `;
    const beside = own ? `Shifts of the same size: random neurons turn ${percentage(neurons.controls.random_neurons)}, the best of many random directions ${percentage(neurons.controls.best_of_random)}${floor}. `
      : `Chosen alike from as many candidates: ${[["the paper's neurons", results.paper], ["random directions", results.chance]].filter(([, rate]) => rate !== null)
        .map(([name, rate]) => `${name} turn ${percentage(rate)}`).join(", ")}${floor}. `;
    ui.evidence.replaceChildren(make("strong", {}, percentage(results.success)), ` of this model's ${from} answers become ${to} at the ` +
      `${results.cell === "kept" ? "study's choice" : "strength that turns most"} ` +
      `(95\u00a0% interval ${percentage(results.interval[0])} to ${percentage(results.interval[1])}, n = ${results.n} test prompts). ${price}${beside}` +
      `With nothing shifted and the first token of the ${from} answer forbidden, ${percentage(neurons.forbidden)} become ${to}. One prompt is an anecdote; this rate is the evidence.`);
  }

  const percentage = (rate) => `${wholePercent(rate)}\u00a0%`;

  // -- choosing -----------------------------------------------------------------------------------------------------------
  /** Go to a task and start from the first example that memory answers, at the study's own setting. `wanted`: parts of a state to set after that. */
  async function choose(task, wanted = {}) {
    const about = Memgen.available.find((one) => one.task === task);
    state.task = task;
    clearTimeout(strip);
    for (const radio of ui.tasks.querySelectorAll("input")) radio.checked = radio.value === task;
    ui.status.textContent = Memgen.model(task) ? "" : `Loading the model of ${task} (${(about.bytes / 1e6).toFixed(1)} MB) …`;
    ui.root.setAttribute("aria-busy", "true");
    try {
      await Memgen.request(task);
      if (wanted.method) await Memgen.requestMore(task);
    } catch (error) {
      ui.status.textContent = error.message;
      return;
    } finally {
      ui.root.setAttribute("aria-busy", "false");
    }
    if (state.task !== task) return; // the reader has moved on meanwhile
    const { meta, more } = model(), { method = NEURONS, alpha, then, ...others } = wanted;
    ui.status.textContent = "";
    ui.moved.textContent = "";
    if (shownTask !== task) ui.all.reset();
    shownTask = task;
    offer(meta);
    state.random = null;
    state.method = NEURONS;
    aim(wanted.direction || "m2g");
    const known = method === NEURONS || method in more.methods; // another book may hold other methods
    if (method !== NEURONS && known) {
      state.method = method;
      aim(state.direction);
    }
    state.text = firstExample(meta, state.direction);
    Object.assign(state, others, known && alpha !== undefined ? { alpha } : {});
    if (state.layers.length !== meta.n_layer) state.layers = Array(meta.n_layer).fill(true);
    offerMethods();
    synchronize();
    update();
    ui.body.hidden = false;
    ui.map.paint();
    if (then === "forbid") forbidOne();
    setTimeout(() => fetchMore(task, then === "all"), 0); // the first answer is on the screen by then
  }

  /** Bring what the first answer could do without: the methods' vectors and all test prompts, which `run` begins with. */
  async function fetchMore(task, run) {
    try {
      await Memgen.requestMore(task);
      if (state.task !== task) return;
      offerMethods();
      if (!run) return;
      ui.all.begin();
      ui.all.element.scrollIntoView({ block: "start" });
    } catch (error) {
      if (state.task === task) ui.missing.textContent = error.message;
    }
  }

  /** The example to begin with in a direction, as a prompt; where there is none, the first of all. */
  const firstExample = (meta, direction) => meta.first[direction] || [...meta.examples, ...meta.free_examples][0].prompt;

  /** Take a direction with what the study chose for it, in all layers. */
  function aim(direction) {
    Object.assign(state, { direction, ...chosen(direction), layers: Array(model().meta.n_layer).fill(true) });
  }

  /** The methods beside the paper's neurons, once they are there; a book without them asks nothing. */
  function offerMethods() {
    const { more } = model(), methods = Object.entries(more ? more.methods : {});
    ui.methods.hidden = !methods.length;
    ui.all.element.hidden = !more;
    ui.missing.textContent = "";
    const names = { [NEURONS]: "The paper's neurons", ...Object.fromEntries(methods.map(([name, { title }]) => [name, title])) };
    if (ui.methods.dataset.task !== state.task) ui.methodRow.replaceChildren(...radios("method", names, takeMethod));
    if (more) ui.methods.dataset.task = state.task;
    for (const input of ui.methodRow.querySelectorAll("input")) input.checked = input.value === state.method;
  }

  /** Another method, at what the study chose for it. */
  function takeMethod(method) {
    state.method = method;
    aim(state.direction);
    synchronize();
    refresh();
  }

  /** Fill the controls that depend on the model. */
  function offer(meta) {
    const groups = [["memorization", "Left alone from memory, firmest first"], ["generalization", "Left alone by the rule, firmest first"]]
      .map(([behavior, label]) => [label, meta.examples.filter((example) => example.behavior === behavior)]);
    groups.push(["No key in it", meta.free_examples]);
    ui.examples.replaceChildren(make("option", { value: "" }, "a prompt of your own"), ...groups.filter(([, examples]) => examples.length)
      .map(([label, examples]) => make("optgroup", { label }, ...examples.map(({ prompt }) => make("option", { value: prompt }, prompt)))));
    ui.shares = [...new Set([...meta.top_ns, ...SHARES, ...Object.values(meta.cells).map((cell) => cell.top_n)])].sort((a, b) => a - b);
    ui.topN.max = ui.shares.length - 1;
    ui.layers.replaceChildren(...Array.from({ length: meta.n_layer }, (_, layer) => make("label", {},
      make("input", { type: "checkbox", name: "layer", value: layer, change: (event) => { state.layers[layer] = event.target.checked; refresh(); } }), ` ${layer + 1}`)));
    ui.help.textContent = rules(meta).help;
    ui.strip.replaceChildren();
    offerParts(meta);
  }

  /** Lists from which a prompt can be put together, where the task offers them. */
  function offerParts(meta) {
    const { compose } = rules(meta);
    ui.parts.parentElement.hidden = !compose;
    if (!compose) return;
    const { fields, build } = compose(meta);
    const put = () => setText(build(Object.fromEntries(lists.map((list) => [list.name, list.value]))));
    const lists = fields.map(({ name, choices }) => make("select", { name, change: put }, ...choices.map((choice) => make("option", { value: choice }, choice))));
    lists.forEach((list, i) => { list.selectedIndex = i % list.options.length; }); // not the same word everywhere
    ui.parts.replaceChildren(...fields.map(({ label }, i) => make("label", {}, `${label} `, lists[i])), make("button", { type: "button", click: put }, "Use it"));
  }

  function setText(text) {
    state.text = text;
    ui.text.value = text;
    ui.moved.textContent = "";
    pickExample();
    refresh();
  }

  /** Show an example, and turn to the direction in which something can happen to it. */
  function takeExample(prompt) {
    const example = model().meta.examples.find((one) => one.prompt === prompt);
    const fitting = Object.keys(ENDS).find((direction) => example && ENDS[direction][0] === example.behavior);
    setText(prompt);
    if (fitting && fitting !== state.direction) turn(fitting);
  }

  function pickExample() {
    const known = [...ui.examples.options].some((option) => option.value === state.text);
    ui.examples.value = known ? state.text : "";
  }

  /** Put every control where the state is. */
  function synchronize() {
    ui.text.value = state.text;
    pickExample();
    ui.alpha.max = Math.max(...strengths());
    ui.alpha.step = ui.alpha.max > 4 ? 0.25 : 0.05;
    ui.alpha.value = state.alpha;
    ui.topN.value = ui.shares.reduce((best, x, i) => (Math.abs(x - state.topN) < Math.abs(ui.shares[best] - state.topN) ? i : best), 0);
    for (const input of ui.root.querySelectorAll("input[name=direction]")) input.checked = input.value === state.direction;
    for (const input of ui.root.querySelectorAll("input[name=positions]")) input.checked = input.value === state.positions;
    for (const input of ui.root.querySelectorAll("input[name=method]")) input.checked = input.value === state.method;
    for (const input of ui.root.querySelectorAll("input[name=map]")) input.checked = input.value === state.map;
    ui.layers.querySelectorAll("input").forEach((input, layer) => { input.checked = state.layers[layer]; });
    ui.random.checked = state.random !== null;
    showEvidence();
  }

  // -- five things to try -------------------------------------------------------------------------------------------------
  /** What each step sets: the prompt is the example that the page begins with, settings are the study's own. */
  const STEPS = [
    () => ({}),
    () => ({ random: 1 }),
    () => ({ alpha: 0 }),
    (meta) => ({ layers: Array.from({ length: meta.n_layer }, (_, layer) => layer + 1 === meta.probe.best) }),
    () => ({}),
  ];

  /** Take a step of the tour: its setting, its words in the note above the answers. */
  async function take(index) {
    const other = state.task.replace(/-(tagged|matched)$/, (_, variant) => (variant === "tagged" ? "-matched" : "-tagged"));
    const last = index === STEPS.length - 1, paired = last && other !== state.task && Memgen.available.some((one) => one.task === other);
    await choose(paired ? other : state.task);
    if (last && !paired) {
      state.text = firstExample(model().meta, "g2m");
      aim("g2m");
    }
    Object.assign(state, STEPS[index](model().meta));
    synchronize();
    update();
    const item = document.querySelectorAll("[data-try]")[index];
    ui.noteText.replaceChildren(make("strong", {}, `${index + 1} · ${item.querySelector("strong").textContent} `), item.querySelector("span").textContent);
    ui.next.textContent = last ? "Begin again" : `Next: ${index + 2} of ${STEPS.length}`;
    ui.next.onclick = () => take((index + 1) % STEPS.length);
    const quiet = matchMedia("(prefers-reduced-motion: reduce)").matches;
    ui.note.scrollIntoView({ behavior: quiet ? "auto" : "smooth", block: "start" });
    (index === 2 && innerWidth > 760 ? ui.alpha : ui.next).focus({ preventScroll: true }); // on a phone the slider is further down
  }

  // -- a state that can be shared -------------------------------------------------------------------------------------------
  function remember() {
    clearTimeout(later);
    later = setTimeout(() => {
      const { task, direction, method, alpha, topN, positions, random } = state;
      const strength = method === NEURONS ? { alpha, share: topN } : { method, dose: alpha };
      const parts = { task, prompt: state.text.trim(), direction, ...strength, layers: state.layers.map(Number).join(""), positions, ...(random === null ? {} : { random }) };
      history.replaceState(null, "", `#${new URLSearchParams(parts)}`);
    }, 400);
  }

  /** The parts of a state that the address names, as far as they are possible. */
  function remembered() {
    const parts = new URLSearchParams(location.hash.slice(1)), wanted = {};
    const positive = (name) => parts.has(name) && Number.isFinite(+parts.get(name)) && +parts.get(name) >= 0;
    if (parts.has("prompt")) wanted.text = parts.get("prompt");
    if (parts.get("direction") in DIRECTIONS) wanted.direction = parts.get("direction");
    if (parts.has("method") && parts.get("method") !== NEURONS) wanted.method = parts.get("method");
    const strength = wanted.method ? "dose" : "alpha";
    if (positive(strength)) wanted.alpha = +parts.get(strength);
    if (positive("share") && +parts.get("share") <= 1) wanted.topN = +parts.get("share");
    if (/^[01]+$/.test(parts.get("layers") || "")) wanted.layers = [...parts.get("layers")].map((bit) => bit === "1");
    if (["all", "decision"].includes(parts.get("positions"))) wanted.positions = parts.get("positions");
    if (positive("random")) wanted.random = Math.floor(+parts.get("random"));
    if (parts.has("then")) wanted.then = parts.get("then");
    return Memgen.first() === parts.get("task") ? wanted : {};
  }

  // -- the page -------------------------------------------------------------------------------------------------------------
  function radios(name, choices, listener) {
    return Object.entries(choices).map(([value, label]) => make("label", {}, make("input", { type: "radio", name, value, change: () => listener(value) }), ` ${label}`));
  }

  function taskCards() {
    return make("fieldset", { class: "live-tasks" }, make("legend", {}, "Pick a model"), ...Memgen.available.map(({ task, family, parameters }) =>
      make("label", { class: "live-task" }, make("input", { type: "radio", name: "task", value: task, change: () => choose(task) }),
        make("span", {}, make("strong", {}, task), make("span", { class: "live-small" }, [FAMILIES[family], VARIANTS[task.split("-").pop()]].filter(Boolean).join(": ") ||
          `${(parameters / 1e6).toFixed(1)} million parameters`)))));
  }

  function promptPanel() {
    ui.examples = make("select", { id: "live-examples", change: (event) => { if (event.target.value) takeExample(event.target.value); } });
    ui.moved = make("p", { class: "live-small", role: "status" });
    ui.text = make("textarea", { id: "live-text", rows: 3, spellcheck: "false", autocapitalize: "off", autocomplete: "off", "aria-describedby": "live-error live-help",
      input: (event) => { state.text = event.target.value.replace(/\s*\n\s*/g, " "); ui.moved.textContent = ""; pickExample(); refresh(); },
      keydown: (event) => { if (event.key === "Enter") event.preventDefault(); } });
    ui.error = make("p", { id: "live-error", class: "live-error", role: "alert" });
    ui.help = make("p", { id: "live-help", class: "live-small" });
    ui.kind = make("p", { class: "live-kind" });
    ui.parts = make("div", { class: "live-parts" });
    return make("fieldset", { class: "live-prompt" }, make("legend", {}, "The prompt"),
      make("label", { for: "live-examples" }, "An example of a test key"), ui.examples, ui.moved,
      make("label", { for: "live-text" }, "or write your own"), ui.text, ui.error, ui.kind, ui.help,
      make("details", {}, make("summary", {}, "Put a prompt together"), ui.parts));
  }

  function slider(id, label, attributes) {
    const input = make("input", { type: "range", id, min: 0, ...attributes }), out = make("output", { for: id }), name = make("label", { for: id }, label);
    return [input, out, make("div", { class: "live-slider" }, name, out, input), name];
  }

  function controlPanel() {
    let alphaRow, topNRow;
    [ui.alpha, ui.alphaOut, alphaRow, ui.alphaName] = slider("live-alpha", "alpha, the strength", { input: () => { state.alpha = +ui.alpha.value; refresh(); } });
    [ui.topN, ui.topNOut, topNRow] = slider("live-top", "top_n, the share", { step: 1, input: () => { state.topN = ui.shares[+ui.topN.value]; refresh(); } });
    ui.strip = make("ol", { class: "live-strip", "aria-label": "The answer at each strength" });
    ui.cell = make("p", { class: "live-small" });
    ui.layers = make("div", { class: "live-row" });
    ui.random = make("input", { type: "checkbox", id: "live-random", role: "switch", change: () => { state.random = ui.random.checked ? 1 : null; refresh(); } });
    ui.again = make("button", { type: "button", disabled: true, click: () => { state.random += 1; refresh(); } }, "Draw again");
    const reset = make("button", { type: "button", click: () => { aim(state.direction); state.random = null; synchronize(); refresh(); } },
      "Back to the study's choice");
    ui.methodRow = make("div", { class: "live-row" });
    ui.methods = make("fieldset", { hidden: true }, make("legend", {}, "What is added"), ui.methodRow);
    return make("fieldset", { class: "live-controls" }, make("legend", {}, "The shift"), ui.methods,
      make("fieldset", {}, make("legend", {}, "Direction"), make("div", { class: "live-row" }, ...radios("direction", DIRECTIONS, turn))),
      alphaRow, make("div", { class: "live-dose" }, make("p", { class: "live-small" }, "This prompt's answer at each strength:"), ui.strip), topNRow,
      make("fieldset", {}, make("legend", {}, "Layers"), ui.layers),
      make("fieldset", {}, make("legend", {}, "Positions"), make("div", { class: "live-row" },
        ...radios("positions", { all: "all", decision: "from the last one on" }, (value) => { state.positions = value; refresh(); }))),
      make("div", { class: "live-control" }, make("label", { for: "live-random" }, ui.random, " Random neurons instead"), ui.again,
        make("p", { class: "live-small" }, "The control: as many neurons of the same layers, moved by the same amounts, drawn at random.")),
      make("div", { class: "live-reset" }, ui.cell, reset));
  }

  /** The other direction, with a prompt on which something can happen in it. Settings that were the study's own stay the study's own. */
  function turn(direction) {
    const old = chosen(state.direction), { layers } = state, [start] = ENDS[direction];
    if (state.alpha === old.alpha && state.topN === old.topN && state.positions === old.positions) aim(direction);
    Object.assign(state, { direction, layers });
    ui.moved.textContent = "";
    const text = state.text.trim(), here = plain && plain.task === state.task && plain.text === text ? plain.found.behavior : null;
    const example = model().meta.examples.find((one) => one.prompt === text), behavior = example ? example.behavior : here;
    if (behavior !== start && model().meta.first[direction]) {
      state.text = firstExample(model().meta, direction);
      ui.moved.textContent = `Another prompt: left alone, the last one is not answered ${start === "memorization" ? "from memory" : "by the rule"}, so there was nothing to turn.`;
    }
    synchronize();
    refresh();
  }

  /** Everything on the screen, to be taken away. */
  function stateFile() {
    if (ui.error.textContent) return; // what is on the screen is another prompt's
    const { meta } = model(), { layers, positions, random, direction, method, alpha, topN, task } = state;
    const told = ({ text, behavior, whole, tokens }) => ({ answer: text, behavior, tokens: tokens.map(({ text, probability }) => ({ text, probability })),
      whole_answers: whole.map(({ behavior, text, probability }) => ({ behavior, text, probability })) });
    const strength = method === NEURONS ? { alpha, top_n: topN } : { dose: alpha };
    const text = state.text.trim(), { delta } = shift();
    Memgen.save(`${task}-state.json`, "application/json", JSON.stringify({ address: location.href, task, seed: meta.seed, preset: meta.preset, prompt: text, direction, method, ...strength,
      layers: layers.flatMap((on, layer) => (on ? [layer + 1] : [])), positions, random, left_alone: told(measure(text, {})), with_the_shift: told(measure(text, { delta, positions })) }, null, 1));
  }

  /** What all test prompts are to be run with. */
  function setting() {
    const { direction, method, alpha, topN, layers, positions } = state, all = layers.every(Boolean);
    const strength = method === NEURONS ? `the paper's neurons, alpha ${+alpha.toFixed(2)}, ${share(topN)}` : `${model().more.methods[method].title}, dose ${+alpha.toFixed(2)}`;
    const where = all ? "" : `, layers ${layers.flatMap((on, layer) => (on ? [layer + 1] : [])).join(" ") || "none"}`;
    return { model: model(), setting: { direction, method, alpha, topN, layers, positions }, words: `${state.task}, ${DIRECTIONS[direction]}: ${strength}${where}` };
  }

  function answerPanels() {
    ui.before = card("Left alone");
    ui.after = card("With the shift");
    ui.curve = curve();
    ui.map = heatmap();
    ui.evidence = make("p", {});
    ui.time = make("p", { class: "live-small live-time" });
    ui.rows = make("tbody");
    const heads = ["layer", "neuron", "rho", "NMD", "left alone", "shift", "with the shift"];
    const links = document.getElementById("live-links");
    ui.all = Memgen.everything(setting, (prompt) => { setText(prompt); ui.note.scrollIntoView({ block: "start" }); });
    ui.missing = make("p", { class: "live-small" });
    return make("div", { class: "live-main" },
      make("section", { class: "live-evidence", "aria-label": "All test prompts" }, make("h2", {}, "And over all test prompts?"), ui.evidence, links),
      ui.missing, ui.all.element,
      make("section", { class: "live-panel", "aria-label": "The probe, layer by layer" }, make("h2", {}, "What the probe reads before the answer"), ui.curve.element,
        make("p", { class: "live-small" }, make("span", { class: "live-key live-key-plain" }), " left alone ", make("span", { class: "live-key live-key-steered" }),
          " with the shift. Probability of generalization, by layer. The probe was trained on states left alone: on a shifted state it also reads the shift itself.")),
      make("section", { class: "live-panel", "aria-label": "Hidden states" }, make("h2", {}, "Hidden states at the last position"),
        make("fieldset", { class: "live-row" }, make("legend", {}, "Show"), ...radios("map", { plain: "left alone", steered: "with the shift", change: "the difference" },
          (value) => { state.map = value; refresh(); })),
        make("div", { class: "live-canvas" }, ui.map.element),
        make("p", { class: "live-small" }, make("span", { class: "live-scale", "aria-hidden": "true" }), " negative to positive, each layer on its own scale; ▲ a shifted neuron."),
        ui.map.readout,
        make("details", {}, make("summary", {}, "The strongest shifted neurons as a table"), make("div", { class: "live-table", tabindex: "0", role: "region", "aria-label": "Strongest neurons" },
          make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))), ui.rows)))),
      make("div", { class: "live-row live-take" }, make("button", { type: "button", click: stateFile }, "This state as JSON"), ui.time));
  }

  function build(mount) {
    ui.root = mount;
    ui.tasks = taskCards();
    ui.status = make("p", { class: "live-status", role: "status" });
    ui.sentence = make("p", { "aria-live": "polite" });
    ui.detail = make("p", { class: "live-detail", "aria-live": "polite" });
    ui.outcome = make("div", { class: "live-outcome" }, ui.sentence, ui.detail);
    ui.push = make("button", { type: "button", class: "live-push", click: push });
    ui.forbidden = make("p", { class: "live-small", "aria-live": "polite" });
    const acts = make("div", { class: "live-row live-acts" }, ui.push, make("button", { type: "button", click: forbidOne }, "Forbid one token instead"), ui.forbidden);
    ui.noteText = make("p", { "aria-live": "polite" });
    ui.noteText.textContent = "New here? Five steps lead through this page.";
    ui.next = make("button", { type: "button" }, "Begin with the first");
    ui.next.onclick = () => take(0);
    ui.note = make("div", { class: "live-note" }, ui.noteText, ui.next);
    const main = answerPanels();
    ui.body = make("div", { class: "live-body", hidden: true }, ui.note, ui.outcome, acts, make("div", { class: "live-columns" },
      make("div", { class: "live-cards" }, ui.before.element, ui.after.element), make("div", { class: "live-side" }, promptPanel(), controlPanel()), main));
    mount.replaceChildren(ui.tasks, ui.status, ui.body);
    if (Memgen.unavailable) ui.tasks.after(make("p", { class: "live-small" }, Memgen.unavailable)); // some of the book's models cannot be shown
  }

  /** What keeps this browser or this book from running a model, as a sentence; '' if nothing does. */
  function obstacle() {
    if (!window.Float32Array || !window.atob || !window.URLSearchParams) return "This browser is too old to run a model.";
    if (!document.createElement("canvas").getContext("2d")) return "This browser cannot draw on a canvas, which the page needs.";
    if (!Memgen.available || !Memgen.available.length) return Memgen.unavailable || "This copy of the book holds no model.";
    return "";
  }

  function begin() {
    const mount = document.getElementById("live"), fallback = document.querySelector(".live-fallback"), reason = obstacle();
    if (reason) {
      document.getElementById("live-reason").textContent = reason;
      return;
    }
    build(mount);
    mount.hidden = false;
    fallback.hidden = true;
    document.querySelectorAll("[data-try]").forEach((item, index) => item.append(make("button", { type: "button", class: "live-button", click: () => take(index) }, "Try it")));
    new MutationObserver(ui.map.paint).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    window.addEventListener("resize", ui.map.paint);
    window.addEventListener("hashchange", () => { // a link to another state of this page, not to one of its headings
      if (new URLSearchParams(location.hash.slice(1)).has("task")) choose(Memgen.first(), remembered());
    });
    choose(Memgen.first(), remembered());
  }

  begin();
})();
