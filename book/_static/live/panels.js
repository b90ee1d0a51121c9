// What the live page draws: the two answers, the probe's curve, the hidden states. Knows no model and no controls:
// each panel is an element and a function that shows new values in it. Attached to `Memgen.panels`.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const SIGNS = { memorization: "■", generalization: "●", other: "▬" }; // a shape beside every colour
  const WORDS = { memorization: "from memory", generalization: "by the rule", other: "neither" };

  /** An element with attributes (a function listens, `true` is an empty attribute, false and null are left out) and children. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") element.addEventListener(name, value);
      else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  function drawn(tag, attributes, text) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  /** A probability to read: `48 %`, `97.3 %`, `< 0.1 %`. */
  function percent(p) {
    if (p < 0.001) return "<\u00a00.1\u00a0%";
    if (p > 0.999) return ">\u00a099.9\u00a0%";
    return `${(100 * p).toFixed(p < 0.1 || p > 0.9 ? 1 : 0)}\u00a0%`;
  }

  /** A rate in whole per cent, halves up as on paper: 17 of 40 is 43. In binary, 100 * 23 / 40 is 57.49999999999999, so a hair is
   *  added; it is smaller than what parts any other count from the next half, up to n of a hundred million. */
  const wholePercent = (rate) => Math.floor(100 * rate + 0.5 + 1e-9);

  /** A share that the study wrote down: `5 %`, `0.5 %`. */
  const share = (x) => `${+(100 * x).toPrecision(3)}\u00a0%`;
  const number = (x, digits = 2) => x.toFixed(digits).replace(/^-(?=.*[1-9])/, "−").replace(/^-/, "");
  const sigmoid = (x) => 1 / (1 + Math.exp(-x));

  /** The sign and name of a behaviour; `null` where there is no rule to judge by. */
  function badge(behavior) {
    const name = behavior || "not judged";
    return make("span", { class: `live-badge live-${behavior || "unjudged"}` },
      make("span", { class: "live-sign", "aria-hidden": "true" }, SIGNS[behavior] || "○"), ` ${name}`);
  }

  // -- one answer -----------------------------------------------------------------------------------------------------
  /** A card: tokens with probabilities, the behaviour, both whole answers as bars, the probe in words. */
  function card(title) {
    const mark = make("span"), tokens = make("ol", { class: "live-tokens" }), bars = make("div", { class: "live-bars" });
    const probe = make("p", { class: "live-probe-word" });
    const element = make("section", { class: "live-card", "aria-label": title },
      make("header", {}, make("h2", {}, title), mark),
      make("p", { class: "live-small" }, "Its answer, token by token"), tokens,
      make("p", { class: "live-small" }, "Probability of each whole answer"), bars, probe);

    function show(found) {
      element.dataset.behavior = found.behavior || "unjudged";
      mark.replaceChildren(badge(found.behavior));
      tokens.replaceChildren(...found.tokens.map((token) => make("li", {},
        make("span", { class: "live-token" }, token.text.trim() || "␣"), make("span", { class: "live-p" }, percent(token.probability)))));
      if (!found.tokens.length) tokens.replaceChildren(make("li", {}, make("span", { class: "live-token" }, "(ends at once)")));
      bars.replaceChildren(...found.whole.map(bar));
      if (!found.whole.length) bars.replaceChildren(make("p", { class: "live-small" }, "Nothing to compare: this prompt has no answer that the page knows."));
      probe.replaceChildren(...found.verdict);
    }
    return { element, show };
  }

  function bar({ behavior, text, probability }) {
    const row = make("div", { class: "live-bar", "data-behavior": behavior },
      make("span", { class: `live-bar-name live-${behavior}` }, make("span", { class: "live-sign", "aria-hidden": "true" }, SIGNS[behavior]), ` ${WORDS[behavior]} `,
        make("code", {}, text.trim())),
      make("span", { class: "live-bar-value" }, percent(probability)),
      make("span", { class: "live-track", "aria-hidden": "true" }, make("span", { class: "live-fill" })));
    row.querySelector(".live-fill").style.width = `${100 * probability}%`;
    return row;
  }

  // -- the probe, layer by layer --------------------------------------------------------------------------------------
  const WIDTH = 420, HEIGHT = 150, LEFT = 42, RIGHT = 12, TOP = 14, BOTTOM = 30;

  /** A small chart of the probe's probability of generalization by layer, dashed for the answer left alone, solid for the shifted one. */
  function curve() {
    const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "live-curve" });

    function show(plain, steered, best) {
      const x = (layer) => LEFT + 14 + ((WIDTH - LEFT - RIGHT - 28) * layer) / Math.max(1, plain.length - 1);
      const y = (p) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - p);
      const parts = [drawn("rect", { x: x(best) - 13, y: TOP - 6, width: 26, height: HEIGHT - TOP - BOTTOM + 12, rx: 4, class: "live-best" })];
      for (const p of [0, 0.5, 1]) {
        parts.push(drawn("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(p), y2: y(p), class: p === 0.5 ? "live-half" : "live-grid" }));
        parts.push(drawn("text", { x: LEFT - 6, y: y(p) + 4, "text-anchor": "end" }, `${100 * p}\u00a0%`));
      }
      plain.forEach((_, layer) => parts.push(drawn("text", { x: x(layer), y: HEIGHT - 12, "text-anchor": "middle", class: layer === best ? "live-best-name" : "" },
        layer === best ? `${layer + 1} best` : `${layer + 1}`)));
      for (const [values, name] of [[plain, "live-plain"], [steered, "live-steered"]]) {
        parts.push(drawn("polyline", { points: values.map((p, layer) => `${x(layer)},${y(p)}`).join(" "), class: name }));
        values.forEach((p, layer) => parts.push(drawn("circle", { cx: x(layer), cy: y(p), r: name === "live-plain" ? 3 : 4, class: name })));
      }
      svg.replaceChildren(...parts);
      const words = (values) => values.map((p, layer) => `layer ${layer + 1} ${percent(p)}`).join(", ");
      svg.setAttribute("aria-label", `The probe's probability of generalization by layer. Left alone: ${words(plain)}. With the shift: ${words(steered)}. ` +
        `The probe reads best at layer ${best + 1}.`);
    }
    return { element: svg, show };
  }

  // -- hidden states --------------------------------------------------------------------------------------------------
  const LABEL = 18, STRIP = 24, MARKS = 12; // heights in CSS pixels: the layer's name, its row of neurons, the marks below
  const INKS = { // negative, zero, positive; purple and green, so that no one takes them for a behaviour
    light: [[118, 42, 131], [255, 255, 255], [27, 120, 55]],
    dark: [[203, 140, 226], [24, 28, 35], [110, 205, 135]],
  };

  /** A heatmap, layers by neurons, in a canvas that pointer and arrow keys can read out cell by cell. */
  function heatmap() {
    const canvas = make("canvas", { class: "live-heatmap", role: "img", tabindex: "0", "aria-describedby": "live-heat-readout" });
    const readout = make("p", { class: "live-small live-readout", id: "live-heat-readout", "aria-live": "polite" }, "Point at a cell, or use the arrow keys in the map.");
    let shown = null, cursor = null;

    function paint() {
      if (!shown) return;
      const width = canvas.parentElement.clientWidth, block = LABEL + STRIP + MARKS;
      const ratio = window.devicePixelRatio || 1, height = shown.layers * block;
      canvas.style.height = `${height}px`;
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      const pen = canvas.getContext("2d");
      pen.scale(ratio, ratio);
      const inks = INKS[document.documentElement.dataset.theme === "dark" ? "dark" : "light"];
      const style = getComputedStyle(canvas);
      for (let layer = 0; layer < shown.layers; layer++) paintLayer(pen, layer, layer * block, width, inks, style);
    }

    function paintLayer(pen, layer, top, width, inks, style) {
      const { neurons, values, scales, marked } = shown, cell = width / neurons;
      const count = marked.reduce((sum, i) => sum + (Math.floor(i / neurons) === layer), 0);
      pen.fillStyle = style.color;
      pen.font = `12px ${style.fontFamily}`;
      pen.fillText(`layer ${layer + 1}`, 0, top + 13);
      pen.textAlign = "right";
      pen.fillText(`${count} shifted`, width, top + 13);
      pen.textAlign = "left";
      for (let j = 0; j < neurons; j++) {
        const part = Math.max(-1, Math.min(1, values[layer * neurons + j] / scales[layer]));
        const end = inks[part < 0 ? 0 : 2], strength = Math.abs(part);
        pen.fillStyle = `rgb(${inks[1].map((zero, k) => Math.round(zero + (end[k] - zero) * strength))})`;
        pen.fillRect(j * cell, top + LABEL, cell + 0.5, STRIP);
      }
      pen.strokeStyle = style.borderTopColor;
      pen.strokeRect(0.5, top + LABEL + 0.5, width - 1, STRIP - 1);
      pen.fillStyle = style.color;
      for (const i of marked) if (Math.floor(i / neurons) === layer) triangle(pen, ((i % neurons) + 0.5) * cell, top + LABEL + STRIP + 2, Math.max(2, Math.min(4, cell)));
      if (cursor && cursor.layer === layer) {
        pen.strokeStyle = style.outlineColor;
        pen.lineWidth = 2;
        pen.strokeRect(cursor.neuron * cell - 1, top + LABEL - 2, cell + 2, STRIP + 4);
        pen.lineWidth = 1;
      }
    }

    function triangle(pen, x, y, half) {
      pen.beginPath();
      pen.moveTo(x, y);
      pen.lineTo(x - half, y + 6);
      pen.lineTo(x + half, y + 6);
      pen.fill();
    }

    function tell() {
      paint();
      if (!cursor) return;
      const i = cursor.layer * shown.neurons + cursor.neuron;
      readout.textContent = `Layer ${cursor.layer + 1}, neuron ${cursor.neuron}: left alone ${number(shown.plain[i])}, with the shift ${number(shown.steered[i])}` +
        (shown.delta[i] ? `, shifted by ${number(shown.delta[i])}` : ", not shifted itself") + ".";
    }

    canvas.addEventListener("pointermove", (event) => {
      if (!shown) return;
      const box = canvas.getBoundingClientRect();
      const layer = Math.min(shown.layers - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * shown.layers)));
      const neuron = Math.min(shown.neurons - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * shown.neurons)));
      if (cursor && cursor.layer === layer && cursor.neuron === neuron) return;
      cursor = { layer, neuron };
      tell();
    });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!step || !shown) return;
      event.preventDefault();
      cursor = cursor || { layer: 0, neuron: 0 };
      cursor = { layer: Math.min(shown.layers - 1, Math.max(0, cursor.layer + step[0])), neuron: (cursor.neuron + step[1] + shown.neurons) % shown.neurons };
      tell();
    });

    /** `values`: which of `plain`, `steered` or their difference to paint; `scales`: the value of full colour, one a layer. */
    function show(next) {
      if (cursor && shown && (next.layers !== shown.layers || next.neurons !== shown.neurons)) cursor = null;
      shown = next;
      canvas.setAttribute("aria-label", next.text);
      tell();
    }
    return { element: canvas, readout, show, paint };
  }

  /** The value below which a share of the absolute values lies; 1 where they are all zero. */
  function scaleOf(values, from, to, part = 0.98) {
    const sizes = Float32Array.from(values.subarray(from, to), Math.abs).sort();
    return sizes[Math.floor((sizes.length - 1) * part)] || sizes[sizes.length - 1] || 1;
  }

  Memgen.panels = { make, percent, wholePercent, share, number, sigmoid, badge, card, curve, heatmap, scaleOf, SIGNS, WORDS };
})();
