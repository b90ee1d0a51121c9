// Many test prompts at once: rows of marks, a chunk of work at a time so that the page stays quick, and what can be taken away as a
// file. Knows no controls: `Memgen.everything` is asked with what to do.
"use strict";
(() => {
  const { make, SIGNS } = Memgen.panels;
  const PORTION = 24, DRAWS = [1, 2, 3, 4, 5], CHUNK = 12; // prompts a press; seeds of the random draws; milliseconds at a stretch
  const COLUMNS = [["left alone", "left alone"], ["shift", "with the shift"], ["token", "nothing shifted, first token forbidden"],
    ...DRAWS.map((draw) => [String(draw), `random draw ${draw}`])];
  const TARGET = { m2g: "generalization", g2m: "memorization" };

  /** Let the browser save a file. */
  function save(name, type, text) {
    const address = URL.createObjectURL(new Blob([text], { type }));
    make("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }

  /** One way for each column: options of `Model.answer`, or a function of the parsed prompt that gives them. */
  function ways(model, setting) {
    const { direction, positions } = setting, steered = (random) => ({ delta: model.shift({ ...setting, random }).delta, positions });
    const source = (parsed) => (direction === "m2g" ? parsed.memory : parsed.rule);
    return [{}, steered(null), (parsed) => ({ forbid: model.firstToken(source(parsed)) }), ...DRAWS.map(steered)];
  }

  /** `now()`: {model, setting, text}, what the controls say; `take(prompt)`: show a prompt above. */
  function everything(now, take) {
    let rows = [], made = null, running = 0; // rows: {prompt, found: [{answer, behavior}, ...]}
    const bar = make("progress", { max: PORTION, value: 0, "aria-label": "Prompts that have run", hidden: true });
    const said = make("p", { class: "live-small", role: "status" });
    const start = make("button", { type: "button", click: () => (running ? stop() : go()) });
    const files = make("div", { class: "live-row", hidden: true },
      make("button", { type: "button", click: () => save(`${made.name}.csv`, "text/csv", csv()) }, "Table as CSV"),
      make("button", { type: "button", click: () => save(`${made.name}.json`, "application/json", json()) }, "Table as JSON"));
    const body = make("tbody"), sums = make("tr"), caption = make("caption", {});
    const heads = COLUMNS.map(([short, long]) => make("th", { scope: "col", title: long }, make("span", { "aria-hidden": "true" }, short), make("span", { class: "live-hidden" }, long)));
    const table = make("div", { class: "live-table live-all", tabindex: "0", role: "region", "aria-label": "Test prompts, one a row", hidden: true },
      make("table", {}, caption, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "test prompt"), ...heads)), body, make("tfoot", {}, sums)));
    const element = make("section", { class: "live-panel live-everything", "aria-label": "Run all" }, make("h2", {}, "Do not take one prompt's word for it"),
      make("p", { class: "live-small" }, "The study's test prompts of this direction, in an order drawn once. Each is answered left alone, with the shift, with nothing shifted but the first " +
        "token of the answer forbidden that is to be turned, and with five random draws of the same shift (1 to 5)."),
      make("div", { class: "live-row" }, start, bar), said, table, files);

    function show(row) {
      const marks = row.found.map(({ answer, behavior }) => make("td", { class: `live-${behavior}`, title: answer.trim() },
        make("span", { class: "live-sign", "aria-hidden": "true" }, SIGNS[behavior]), make("span", { class: "live-hidden" }, behavior)));
      body.append(make("tr", {}, make("th", { scope: "row" }, make("button", { type: "button", click: () => take(row.prompt) }, row.prompt)), ...marks));
      const target = TARGET[made.setting.direction];
      sums.replaceChildren(make("th", { scope: "row", class: `live-${target}` }, make("span", { class: "live-sign", "aria-hidden": "true" }, SIGNS[target]),
        make("span", { class: "live-hidden" }, target), ` of ${rows.length}`),
        ...COLUMNS.map((_, i) => make("td", {}, String(rows.filter(({ found }) => found[i].behavior === target).length))));
    }

    function words() {
      const all = made ? made.prompts.length : Infinity, left = all - rows.length;
      start.textContent = running ? "Stop" : !made || changed() ? `Run ${PORTION} test prompts` : left ? `${Math.min(PORTION, left)} more` : "Run them again";
      bar.hidden = !running;
      files.hidden = table.hidden = !rows.length;
    }

    const key = ({ model, setting }) => JSON.stringify([model.meta.task, { ...setting, random: null }]);
    const changed = () => !made || made.key !== key(now());

    /** Begin anew if the controls have moved since, or go on. */
    function go() {
      const { model, setting, words: about } = now();
      if (changed() || rows.length === made.prompts.length) {
        rows = [];
        body.replaceChildren();
        const prompts = model.more.prompts[setting.direction];
        made = { key: key(now()), model, setting: { ...setting, random: null, layers: [...setting.layers] }, prompts, ways: ways(model, setting), name: `${model.meta.task}-${setting.direction}` };
        caption.textContent = about;
      }
      const until = Math.min(rows.length + PORTION, made.prompts.length), from = rows.length, one = made;
      const rules = Memgen.rules(model.meta.family);
      let row = null;
      bar.max = until - from;
      const step = () => {
        if (made !== one) return;
        for (const began = performance.now(); rows.length < until && performance.now() - began < CHUNK;) {
          const prompt = one.prompts[rows.length], parsed = rules.parse(prompt, model.meta);
          row = row || { prompt, found: [] };
          const way = one.ways[row.found.length], { text } = model.answer(prompt, typeof way === "function" ? way(parsed) : way);
          row.found.push({ answer: text, behavior: rules.classify(text, parsed) });
          if (row.found.length < COLUMNS.length) continue;
          rows.push(row);
          show(row);
          row = null;
        }
        bar.value = rows.length - from;
        if (rows.length < until) running = setTimeout(step, 0);
        else stop();
        words();
      };
      said.textContent = "";
      running = setTimeout(step, 0);
      words();
    }

    function stop() {
      clearTimeout(running);
      running = 0;
      const turned = rows.filter(({ found }) => found[1].behavior === TARGET[made.setting.direction]).length;
      said.textContent = `${rows.length} of ${made.prompts.length} test prompts have run; the shift turned ${turned}.`;
      words();
    }

    /** Another model: what was shown belongs to the one before. */
    function reset() {
      clearTimeout(running);
      rows = [];
      made = null;
      running = 0;
      said.textContent = "";
      body.replaceChildren();
      sums.replaceChildren();
      words();
    }

    function record() {
      const { task, seed, preset } = made.model.meta;
      return { task, seed, preset, ...made.setting };
    }

    const json = () => JSON.stringify({ ...record(), columns: COLUMNS.map(([, long]) => long),
      prompts: rows.map(({ prompt, found }) => ({ prompt, answers: found.map(({ answer }) => answer), behaviors: found.map(({ behavior }) => behavior) })) }, null, 1);

    function csv() {
      const quoted = (value) => `"${String(value).replaceAll('"', '""')}"`, about = Object.entries(record()).filter(([name]) => name !== "random");
      const lines = [[...about.map(([name]) => name), "prompt", ...COLUMNS.map(([, long]) => long)],
        ...rows.map(({ prompt, found }) => [...about.map(([, value]) => (Array.isArray(value) ? value.map(Number).join("") : value)), prompt, ...found.map(({ behavior }) => behavior)])];
      return `${lines.map((line) => line.map(quoted).join(",")).join("\n")}\n`;
    }

    words();
    return { element, reset, refresh: words, begin: () => running || go() };
  }

  Object.assign(Memgen, { everything, save });
})();
