"use strict";
// A GPT-2 of the study in the reader's browser: weights from a script, forward pass with key-value cache, shifts of hidden states.
// It computes what PyTorch computes for the labs; tests/press/test_live_engine.py compares the two. No dependency, no request.
(() => {
    /** A prompt that this model cannot read; the message is a sentence for the reader. */
    class InputError extends Error {}

    // -- numbers ----------------------------------------------------------------------------------------------------
    function bytesOf(binary) {
        const bytes = new Uint8Array(binary.length);
        for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
        return bytes;
    }

    /** Little-endian float32 numbers from base64, whatever the byte order of this machine. */
    function decodeFloats(base64) {
        const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(base64) : bytesOf(atob(base64)); // the first is newer, and ten times as fast
        const littleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
        if (littleEndian) return new Float32Array(bytes.buffer);
        const view = new DataView(bytes.buffer), values = new Float32Array(bytes.length / 4);
        for (let i = 0; i < values.length; i++) values[i] = view.getFloat32(4 * i, true);
        return values;
    }

    /** [rows, columns] -> [columns, rows]. */
    function transposed(matrix, rows, columns) {
        const result = new Float32Array(matrix.length);
        for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) result[c * rows + r] = matrix[r * columns + c];
        return result;
    }

    /**
     * y[t, o] = bias[o] + sum over i of x[t, i] * weight[o, i], for the rows t from `first` to `rows` - 1.
     * weight: [outs, ins], float32; x, y: float64. Several sums at once share what is read, which is most of the time.
     */
    function linear(x, weight, bias, y, ins, outs, first, rows) {
        let t = first;
        for (; t + 4 <= rows; t += 4) fourRows(x, weight, bias, y, ins, outs, t);
        for (; t < rows; t++) oneRow(x, weight, bias, y, ins, outs, t);
    }

    function fourRows(x, weight, bias, y, ins, outs, t) {
        const x0 = t * ins, x1 = x0 + ins, x2 = x1 + ins, x3 = x2 + ins, y0 = t * outs, y1 = y0 + outs, y2 = y1 + outs, y3 = y2 + outs;
        let o = 0;
        for (; o + 2 <= outs; o += 2) {
            const w0 = o * ins, w1 = w0 + ins, start = bias ? bias[o] : 0, next = bias ? bias[o + 1] : 0;
            let a0 = start, b0 = start, c0 = start, d0 = start, a1 = next, b1 = next, c1 = next, d1 = next;
            for (let i = 0; i < ins; i++) {
                const v = weight[w0 + i], u = weight[w1 + i], a = x[x0 + i], b = x[x1 + i], c = x[x2 + i], d = x[x3 + i];
                a0 += a * v;
                b0 += b * v;
                c0 += c * v;
                d0 += d * v;
                a1 += a * u;
                b1 += b * u;
                c1 += c * u;
                d1 += d * u;
            }
            y[y0 + o] = a0;
            y[y1 + o] = b0;
            y[y2 + o] = c0;
            y[y3 + o] = d0;
            y[y0 + o + 1] = a1;
            y[y1 + o + 1] = b1;
            y[y2 + o + 1] = c1;
            y[y3 + o + 1] = d1;
        }
        for (; o < outs; o++) for (let row = t; row < t + 4; row++) y[row * outs + o] = (bias ? bias[o] : 0) + dot(x, row * ins, weight, o * ins, ins);
    }

    function oneRow(x, weight, bias, y, ins, outs, t) {
        const at = t * ins, to = t * outs;
        let o = 0;
        for (; o + 4 <= outs; o += 4) {
            const w0 = o * ins, w1 = w0 + ins, w2 = w1 + ins, w3 = w2 + ins;
            let a = 0, b = 0, c = 0, d = 0;
            for (let i = 0; i < ins; i++) {
                const v = x[at + i];
                a += v * weight[w0 + i];
                b += v * weight[w1 + i];
                c += v * weight[w2 + i];
                d += v * weight[w3 + i];
            }
            y[to + o] = bias ? a + bias[o] : a;
            y[to + o + 1] = bias ? b + bias[o + 1] : b;
            y[to + o + 2] = bias ? c + bias[o + 2] : c;
            y[to + o + 3] = bias ? d + bias[o + 3] : d;
        }
        for (; o < outs; o++) y[to + o] = (bias ? bias[o] : 0) + dot(x, at, weight, o * ins, ins);
    }

    function dot(x, at, weight, from, size) {
        let sum = 0;
        for (let i = 0; i < size; i++) sum += x[at + i] * weight[from + i];
        return sum;
    }

    /** Layer norm of the rows from `first` on. */
    function normalise(x, y, gain, bias, epsilon, width, first, rows) {
        for (let t = first; t < rows; t++) {
            const at = t * width;
            let mean = 0, variance = 0;
            for (let i = 0; i < width; i++) mean += x[at + i];
            mean /= width;
            for (let i = 0; i < width; i++) variance += (x[at + i] - mean) ** 2;
            const scale = 1 / Math.sqrt(variance / width + epsilon);
            for (let i = 0; i < width; i++) y[at + i] = (x[at + i] - mean) * scale * gain[i] + bias[i];
        }
    }

    /** GPT-2's GELU (`gelu_new`, in PyTorch `gelu_pytorch_tanh`), in place, from index `from` to `to`. */
    function gelu(x, from, to) {
        const scale = Math.sqrt(2 / Math.PI);
        for (let i = from; i < to; i++) {
            const v = x[i];
            x[i] = 0.5 * v * (1 + Math.tanh(scale * (v + 0.044715 * v * v * v)));
        }
    }

    function logSoftmax(logits) {
        let largest = -Infinity, sum = 0;
        for (const v of logits) if (v > largest) largest = v;
        for (const v of logits) sum += Math.exp(v - largest);
        const norm = largest + Math.log(sum);
        return Float64Array.from(logits, v => v - norm);
    }

    /** Index of the largest value, the first of equal ones. */
    function largestIndex(values) {
        let best = 0;
        for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
        return best;
    }

    /** Uniform numbers in [0, 1) from an integer seed (mulberry32). */
    function randomNumbers(seed) {
        let state = seed | 0;
        return () => {
            state = (state + 0x6D2B79F5) | 0;
            let t = Math.imul(state ^ (state >>> 15), 1 | state);
            t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
            return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
        };
    }

    /** `count` of the items in random order, all different. */
    function draw(items, count, random) {
        const pool = Array.from(items);
        for (let i = 0; i < count; i++) {
            const j = i + Math.floor(random() * (pool.length - i));
            [pool[i], pool[j]] = [pool[j], pool[i]];
        }
        return pool.slice(0, count);
    }

    const shortened = text => text.length > 24 ? `${text.slice(0, 23)}…` : text;
    const same = (a, b) => a.length === b.length && a.every((value, i) => value === b[i]);

    // -- the model --------------------------------------------------------------------------------------------------
    class Model {
        /** `meta`: see export.py; `floats`: the tensors that meta.tensors lists ([name, shape]), one behind the other. */
        constructor(meta, floats) {
            this.meta = meta;
            const tensors = {};
            let at = 0;
            for (const [name, shape] of meta.tensors) {
                const size = shape.reduce((a, b) => a * b, 1);
                tensors[name] = floats.subarray(at, at += size);
            }
            if (at !== floats.length) throw new Error(`${meta.task}: ${floats.length} numbers, ${at} expected`);
            const width = meta.d_model;
            this.nmd = tensors.nmd;
            this.rho = tensors.rho;
            this._embedding = tensors["wte.weight"];
            this._position = tensors["wpe.weight"];
            this._head = tensors["lm_head.weight"] || this._embedding;
            this._norm = [tensors["ln_f.weight"], tensors["ln_f.bias"]];
            this._inner = tensors["h.0.mlp.c_fc.bias"].length;
            this._blocks = Array.from({length: meta.n_layer}, (_, layer) => {
                const of = name => tensors[`h.${layer}.${name}`];
                const map = (name, ins) => [transposed(of(`${name}.weight`), ins, of(`${name}.bias`).length), of(`${name}.bias`)];
                return {
                    before: [of("ln_1.weight"), of("ln_1.bias")], between: [of("ln_2.weight"), of("ln_2.bias")],
                    qkv: map("attn.c_attn", width), out: map("attn.c_proj", width),
                    up: map("mlp.c_fc", width), down: map("mlp.c_proj", this._inner),
                };
            });
            this._prefilled = null;
            this.more = null;
            this._vectors = {};
            this._prepareEncoding();
        }

        /** What comes after the first answer: `more.prompts` by direction, `more.methods`, and the methods' vectors, [L*d] each, already signed. */
        extend(more, floats) {
            let at = 0;
            for (const [name, [layers, width]] of more.tensors) this._vectors[name] = floats.subarray(at, at += layers * width);
            if (at !== floats.length) throw new Error(`${this.meta.task}: ${floats.length} numbers of vectors, ${at} expected`);
            this.more = more;
        }

        // -- text ---------------------------------------------------------------------------------------------------
        _prepareEncoding() {
            const {vocabulary, special} = this.meta;
            this._ids = new Map(vocabulary.map((token, id) => [token, id]));
            for (const id of special) this._ids.delete(vocabulary[id]);
            const longestFirst = [...this._ids.keys()].sort((a, b) => [...b].length - [...a].length);
            this._pieces = new RegExp(longestFirst.map(piece => piece.replace(/[.*+?^${}()|[\]\\\/-]/g, "\\$&")).join("|"), "g");
        }

        /** Pieces [{text, start, id}] of a text: tokens, and the stretches between them with id undefined. */
        _split(text) {
            const pieces = [];
            let end = 0;
            for (const match of text.matchAll(this._pieces)) {
                if (match.index > end) pieces.push({text: text.slice(end, match.index), start: end});
                pieces.push({text: match[0], start: match.index, id: this._ids.get(match[0])});
                end = match.index + match[0].length;
            }
            if (end < text.length) pieces.push({text: text.slice(end), start: end});
            return pieces;
        }

        /** Token ids of a prompt. Throws InputError if it is empty, holds a piece that is no token, or is too long. */
        encode(text) {
            const rules = Memgen.tasks[this.meta.family], like = rules && rules.help ? ` ${rules.help}` : "";
            if (!text.trim()) throw new InputError(`The prompt is empty.${like}`);
            const pieces = this._split(text), strange = pieces.find(piece => piece.id === undefined);
            if (strange) throw new InputError(`“${shortened(strange.text)}” at character ${strange.start + 1} is nothing that this model can read.${like}`);
            const longest = this.meta.max_positions - this.meta.max_answer_tokens;
            if (pieces.length > longest) throw new InputError(`The prompt has ${pieces.length} tokens, and this model reads at most ${longest}.${like}`);
            return Int32Array.from(pieces, piece => piece.id);
        }

        decode(ids) {
            return Array.from(ids, id => this.meta.vocabulary[id]).join("");
        }

        // -- forward pass -------------------------------------------------------------------------------------------
        /**
         * Feed tokens. options: delta (Float32Array L*d or nothing), positions ("all": every position is shifted; "decision": the last one of this call),
         * cache (from an earlier call: the tokens go on after it). A cache may be continued several times, but only the latest continuation holds.
         * Returns logits [V] and states [L*d] (resid_post after the shift), both at the last position, and the cache.
         */
        run(ids, {delta = null, positions = "all", cache = null} = {}) {
            const {n_layer: layers, n_head: heads, d_model: width, layer_norm_epsilon: epsilon, max_positions: room} = this.meta;
            if (positions !== "all" && positions !== "decision") throw new Error(`positions ${positions} is unknown; choose all or decision`);
            const past = cache ? cache.length : 0, rows = ids.length, last = rows - 1, total = past + rows;
            if (total > room) throw new InputError(`${total} tokens are more than the ${room} that this model can hold.`);
            const kept = cache || {
                keys: Array.from({length: layers}, () => new Float64Array(room * width)),
                values: Array.from({length: layers}, () => new Float64Array(room * width)),
            };
            const hidden = new Float64Array(rows * width), normed = new Float64Array(rows * width), mixed = new Float64Array(rows * width);
            const added = new Float64Array(rows * width), qkv = new Float64Array(rows * 3 * width), inner = new Float64Array(rows * this._inner);
            const states = new Float32Array(layers * width);
            for (let t = 0; t < rows; t++) {
                for (let i = 0; i < width; i++) hidden[t * width + i] = this._embedding[ids[t] * width + i] + this._position[(past + t) * width + i];
            }
            this._blocks.forEach((block, layer) => {
                const first = layer === layers - 1 ? last : 0; // after the last block only the last position is asked for
                normalise(hidden, normed, ...block.before, epsilon, width, 0, rows);
                linear(normed, ...block.qkv, qkv, width, 3 * width, 0, rows);
                const keys = kept.keys[layer], values = kept.values[layer];
                for (let t = 0; t < rows; t++) {
                    const from = t * 3 * width, to = (past + t) * width;
                    for (let i = 0; i < width; i++) {
                        keys[to + i] = qkv[from + width + i];
                        values[to + i] = qkv[from + 2 * width + i];
                    }
                }
                attend(qkv, keys, values, mixed, heads, width, past, first, rows);
                linear(mixed, ...block.out, added, width, width, first, rows);
                for (let i = first * width; i < rows * width; i++) hidden[i] += added[i];
                normalise(hidden, normed, ...block.between, epsilon, width, first, rows);
                linear(normed, ...block.up, inner, width, this._inner, first, rows);
                gelu(inner, first * this._inner, rows * this._inner);
                linear(inner, ...block.down, added, this._inner, width, first, rows);
                for (let i = first * width; i < rows * width; i++) hidden[i] += added[i];
                if (delta) {
                    for (let t = positions === "all" ? first : last; t < rows; t++) {
                        for (let i = 0; i < width; i++) hidden[t * width + i] += delta[layer * width + i];
                    }
                }
                for (let i = 0; i < width; i++) states[layer * width + i] = hidden[last * width + i];
            });
            normalise(hidden, normed, ...this._norm, epsilon, width, last, rows);
            const vocabulary = this.meta.vocabulary.length, logits = new Float64Array(vocabulary);
            linear(normed.subarray(last * width), this._head, null, logits, width, vocabulary, 0, 1);
            return {logits: Float32Array.from(logits), states, cache: {keys: kept.keys, values: kept.values, length: total}};
        }

        /** The run of a whole prompt; the latest one is remembered, since answer and log-probabilities all begin with it. */
        _prefill(text, {delta = null, positions = "all"} = {}) {
            const known = this._prefilled;
            if (known && known.text === text && known.positions === positions && same(known.delta || [], delta || [])) return known.run;
            const run = this.run(this.encode(text), {delta, positions});
            this._prefilled = {text, positions, delta: delta && delta.slice(), run};
            return run;
        }

        /**
         * The greedy answer to a prompt: {ids, text, tokens: [{id, text, probability}]} without the end mark, `logits` [V] of the first answer token,
         * `states` [L*d] at the last token of the prompt, and the time it took in `milliseconds`.
         * `forbid` (a token's id or nothing): the answer may not begin with it.
         */
        answer(text, {delta = null, positions = "all", forbid = null} = {}) {
            const began = performance.now(), ids = [], tokens = [];
            const start = this._prefill(text, {delta, positions});
            let step = start;
            for (let n = 1; ; n++) {
                const id = largestIndex(n === 1 && forbid !== null ? step.logits.map((x, i) => i === forbid ? -Infinity : x) : step.logits);
                if (id === this.meta.end) break;
                ids.push(id);
                tokens.push({id, text: this.meta.vocabulary[id], probability: Math.exp(logSoftmax(step.logits)[id])});
                if (n === this.meta.max_answer_tokens) break;
                step = this.run([id], {delta, positions, cache: step.cache});
            }
            return {ids, text: this.decode(ids), states: start.states, logits: start.logits, tokens, milliseconds: performance.now() - began};
        }

        /** The first token of an answer, as an id; undefined if it cannot be read. */
        firstToken(answer) {
            return this._split(answer)[0].id;
        }

        /** Log-probability, in nats, that the model answers exactly this, end mark included. An answer that cannot be read has -Infinity. */
        sequenceLogProbability(text, answer, {delta = null, positions = "all"} = {}) {
            const pieces = this._split(answer);
            if (pieces.some(piece => piece.id === undefined)) return -Infinity;
            let step = this._prefill(text, {delta, positions}), sum = 0;
            for (const {id} of pieces) {
                sum += logSoftmax(step.logits)[id];
                step = this.run([id], {delta, positions, cache: step.cache});
            }
            return sum + logSoftmax(step.logits)[this.meta.end];
        }

        /** Log odds of generalization that the probe of a layer (from 1; default: the best one) reads from states [L*d]. */
        probeScore(states, layer = this.meta.probe.best) {
            const {weight, bias} = this.meta.probe.layers[layer - 1], at = (layer - 1) * this.meta.d_model;
            return weight.reduce((sum, w, i) => sum + w * states[at + i], bias);
        }

        // -- steering -----------------------------------------------------------------------------------------------
        /**
         * The study's shift: alpha * sign(rho) * |NMD| on the share topN of all neurons with the largest |rho| (ties go to the lower index), negative for g2m,
         * kept in the layers that are on. Another `method` than "nmd": alpha times the vector that the study chose for it, whatever topN.
         * `random` (an integer seed): the same shift with its coordinates dealt anew, alike in all layers, so that layers, values and
         * what adds up along the residual stream stay.
         */
        shift({direction, alpha, topN, layers, random = null, method = "nmd"}) {
            if (direction !== "m2g" && direction !== "g2m") throw new Error(`direction ${direction} is unknown; choose m2g or g2m`);
            const {n_layer, d_model} = this.meta, size = n_layer * d_model;
            const on = index => !layers || layers[Math.floor(index / d_model)];
            let [neurons, values] = method === "nmd" ? this._ofNeurons(direction, alpha, topN, on) : this._ofVector(`${method}.${direction}`, alpha, on);
            if (random !== null) {
                const places = draw(Array.from({length: d_model}, (_, i) => i), d_model, randomNumbers(random));
                neurons = neurons.map(i => Math.floor(i / d_model) * d_model + places[i % d_model]);
            }
            const delta = new Float32Array(size);
            neurons.forEach((index, i) => { delta[index] = values[i]; });
            return {delta, neurons: Int32Array.from(neurons).sort()};
        }

        _ofNeurons(direction, alpha, topN, on) {
            const sign = direction === "m2g" ? 1 : -1, size = this.rho.length;
            const count = Math.ceil(Number((topN * size).toFixed(9))); // 0.07 * 100 is 7.000000000000001
            const ranked = Array.from(this.rho.keys()).sort((a, b) => Math.abs(this.rho[b]) - Math.abs(this.rho[a]) || a - b);
            const neurons = ranked.slice(0, count).filter(on).sort((a, b) => a - b);
            return [neurons, neurons.map(i => sign * Math.sign(this.rho[i]) * Math.fround(Math.fround(alpha) * Math.abs(this.nmd[i])))];
        }

        /** As `_ofNeurons`, of the coordinates of a vector that are not zero. */
        _ofVector(name, dose, on) {
            const vector = this._vectors[name];
            if (!vector) throw new Error(`${this.meta.task} has no vector ${name}`);
            const neurons = Array.from(vector.keys()).filter(i => vector[i] && on(i));
            return [neurons, neurons.map(i => Math.fround(Math.fround(dose) * vector[i]))];
        }
    }

    /** Causal attention of the rows from `first` on over all keys so far; qkv: [rows, 3 * width], result in `mixed` [rows, width]. */
    function attend(qkv, keys, values, mixed, heads, width, past, first, rows) {
        const size = width / heads, scale = 1 / Math.sqrt(size), weights = new Float64Array(past + rows);
        for (let t = first; t < rows; t++) {
            const seen = past + t + 1;
            for (let head = 0; head < heads; head++) {
                const from = head * size, query = t * 3 * width + from, to = t * width + from;
                let largest = -Infinity, sum = 0;
                for (let s = 0; s < seen; s++) {
                    let product = 0;
                    for (let i = 0; i < size; i++) product += qkv[query + i] * keys[s * width + from + i];
                    weights[s] = product * scale;
                    if (weights[s] > largest) largest = weights[s];
                }
                for (let s = 0; s < seen; s++) sum += weights[s] = Math.exp(weights[s] - largest);
                for (let i = 0; i < size; i++) mixed[to + i] = 0;
                for (let s = 0; s < seen; s++) {
                    const share = weights[s] / sum;
                    for (let i = 0; i < size; i++) mixed[to + i] += share * values[s * width + from + i];
                }
            }
        }
    }

    // -- what the page and the payload files use ----------------------------------------------------------------------
    const models = new Map();
    const Memgen = {
        InputError, tasks: {}, available: [], unavailable: "",
        /** Called by a payload file. */
        receive(task, meta, base64) {
            models.set(task, new Model(meta, decodeFloats(base64)));
        },
        /** Called by the file that brings what the first answer can do without. */
        extend(task, more, base64) {
            models.get(task).extend(more, decodeFloats(base64));
        },
        model: task => models.get(task),
    };
    globalThis.Memgen = Memgen;
})();
