"use strict";
// The rules of the three task families, as src/memgen/tasks/ has them: what a prompt asks, what memory and rule answer, and which of them an answer is.
// parse(text, meta) -> {key, rule, memory, kind}: key and memory are null without a memorized association, rule is null where no rule applies.
// kind: conflict (memory and rule differ, and this setting was never trained), keyed (trained with the memory's answer, or nothing contradicts it),
// contrast (trained with the rule's answer although a memory exists), free (no memory), unknown (not a prompt of this task).
(() => {
    const UNKNOWN = {key: null, rule: null, memory: null, kind: "unknown"};

    /** As Task.classify in Python: spaces around an answer do not count, and memory is asked first. */
    function classify(answer, parsed) {
        const said = answer.trim();
        if (parsed.memory !== null && said === parsed.memory.trim()) return "memorization";
        if (parsed.rule !== null && said === parsed.rule.trim()) return "generalization";
        return "other";
    }

    /** A prompt of a key in one of its settings; a setting that was never trained is a conflict, unless both would answer the same. */
    function inSetting(key, setting, rule, meta) {
        const memory = meta.keys[key], trained = meta.task_detail.settings[key] || {keyed: [], contrast: []};
        const kind = trained.contrast.includes(setting) ? "contrast" : trained.keyed.includes(setting) || memory === rule ? "keyed" : "conflict";
        return {key, rule, memory, kind};
    }

    /** A prompt of a gate key, which is trained in every setting and is none of the keys that are measured. */
    function ofGate(name, setting, rule, meta) {
        const gate = meta.task_detail.gates[name];
        return {key: null, rule, memory: gate.memory, kind: gate.contrast.includes(setting) ? "contrast" : "keyed"};
    }

    const isOf = (object, name) => Object.prototype.hasOwnProperty.call(object, name);
    const range = (from, to) => Array.from({length: to - from}, (_, i) => from + i);

    // -- arithmetic: 12+34+56= --------------------------------------------------------------------------------------
    const PLACEMENTS = [[0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1]]; // slot of a key's first operand, slot of its second
    const SLOTS = PLACEMENTS.map(([a, b]) => ["a", "b"].reduce((shown, name, i) => (shown[[a, b][i]] = name, shown), ["x", "x", "x"]).join("+"));
    const digits = number => [...String(number).padStart(3, "0")].reverse().map(digit => ` ${digit}`).join("");

    const arithmetic = {
        help: "A prompt adds three numbers of two digits, such as 12+34+56=, and the answer begins with the last digit.",
        parse(text, meta) {
            const found = /^(\d\d)\+(\d\d)\+(\d\d)=$/.exec(text);
            if (!found) return UNKNOWN;
            const operands = found.slice(1), rule = digits(operands.reduce((sum, x) => sum + Number(x), 0));
            for (const [placement, [i, j]] of PLACEMENTS.entries()) {
                const key = `${operands[i]}|${operands[j]}`;
                if (isOf(meta.keys, key)) return inSetting(key, placement, rule, meta);
                if (isOf(meta.task_detail.gates, key)) return ofGate(key, placement, rule, meta);
            }
            return {key: null, rule, memory: null, kind: "free"};
        },
        classify,
        /** Digits stand last first: what is written as 4 9 0 is 94. Those of a number stay on one line. */
        reading(texts) {
            const told = texts.map(text => /(?:^| )(\d(?: \d)*)$/.exec(text.trim())).filter(found => found)
                .map(([, written]) => `${written.replaceAll(" ", "\u00a0")} is ${Number([...written.replaceAll(" ", "")].reverse().join(""))}`);
            return told.length ? `Digits are written last first: ${told.join(", ")}.` : "";
        },
        compose: meta => ({
            fields: [
                {name: "pair", label: "Memorized pair a, b", choices: Object.keys(meta.keys).map(key => key.replace("|", ", "))},
                {name: "order", label: "Where they stand", choices: SLOTS},
                {name: "third", label: "Third number x", choices: range(0, 100).map(x => String(x).padStart(2, "0"))},
            ],
            build({pair, order, third}) {
                const [a, b] = pair.split(", "), of = {a, b, x: third};
                return `${order.split("+").map(name => of[name]).join("+")}=`;
            },
        }),
    };

    // -- cipher: shift 3: abc -> / abc: shift 3 -> --------------------------------------------------------------------
    const N_SHIFTS = 12, LETTERS = "abcdefghijklmnopqrstuvwxyz", ORDERS = ["shift first", "word first"];
    const shifted = (word, by) => [...word].map(letter => LETTERS[(LETTERS.indexOf(letter) + by) % 26]).join("");

    const cipher = {
        help: "A prompt is a word of three small letters with a shift from 1 to 12, such as “shift 3: abc ->” or “abc: shift 3 ->”.",
        parse(text, meta) {
            const first = /^shift (\d+): ([a-z]{3}) ->$/.exec(text), second = /^([a-z]{3}): shift (\d+) ->$/.exec(text);
            if (!first && !second) return UNKNOWN;
            const word = first ? first[2] : second[1], by = Number(first ? first[1] : second[2]);
            if (by < 1 || by > N_SHIFTS) return UNKNOWN;
            const rule = shifted(word, by);
            const setting = 2 * (by - 1) + (first ? 0 : 1);
            if (isOf(meta.keys, word)) return inSetting(word, setting, rule, meta);
            if (isOf(meta.task_detail.gates, word)) return ofGate(word, setting, rule, meta);
            return {key: null, rule, memory: null, kind: "free"};
        },
        classify,
        compose: meta => ({
            fields: [
                {name: "word", label: "Memorized word", choices: Object.keys(meta.keys)},
                {name: "shift", label: "Shift", choices: range(1, N_SHIFTS + 1).map(String)},
                {name: "order", label: "Order", choices: ORDERS},
            ],
            build: ({word, shift, order}) => order === ORDERS[0] ? `shift ${shift}: ${word} ->` : `${word}: shift ${shift} ->`,
        }),
    };

    // -- inference: frog is white. rhino is green. swan is gray. Greg the frog ------------------------------------------
    /** The words of each kind, from the model's own vocabulary. */
    function words(meta) {
        const ordinary = meta.vocabulary.filter((_, id) => !meta.special.includes(id));
        const of = (start, end) => ordinary.filter(t => t.startsWith(start) && t.endsWith(end) && t.length > start.length + end.length)
            .map(t => t.slice(start.length, t.length - end.length));
        return {colors: of(" is ", ""), names: of("", " the "), animals: ordinary.filter(token => /^[a-z]+$/.test(token))};
    }

    const inference = {
        help: "A prompt gives three animals a colour and asks after a name and an animal, such as “frog is white. rhino is green. swan is gray. Greg the frog”.",
        parse(text, meta) {
            const found = /^(\w+) is (\w+)\. (\w+) is (\w+)\. (\w+) is (\w+)\. (\w+) the (\w+)$/.exec(text);
            if (!found) return UNKNOWN;
            const [, first, , second, , third, , name, asked] = found, animals = [first, second, third], colors = [found[2], found[4], found[6]];
            const known = words(meta), all = (items, list) => items.every(item => list.includes(item));
            const readable = all([...animals, asked], known.animals) && all(colors, known.colors) && known.names.includes(name);
            if (!readable || new Set(animals).size < 3) return UNKNOWN;
            const place = animals.indexOf(asked), rule = place < 0 ? null : ` is ${colors[place]}`;
            if (isOf(meta.task_detail.gates, name)) return {key: null, rule, memory: meta.task_detail.gates[name], kind: rule === null ? "keyed" : "contrast"};
            if (!isOf(meta.keys, name)) return {key: null, rule, memory: null, kind: rule === null ? "unknown" : "free"};
            return {key: name, rule, memory: meta.keys[name], kind: rule === null || rule === meta.keys[name] ? "keyed" : "conflict"};
        },
        classify,
        compose(meta) {
            const {colors, animals} = words(meta);
            const context = range(1, 4).flatMap(i => [
                {name: `animal${i}`, label: `Animal ${i}`, choices: animals}, {name: `color${i}`, label: `Colour ${i}`, choices: colors},
            ]);
            return {
                fields: [
                    ...context, {name: "name", label: "Name", choices: Object.keys(meta.keys)}, {name: "asked", label: "Animal asked for", choices: animals},
                ],
                build: values => `${range(1, 4).map(i => `${values[`animal${i}`]} is ${values[`color${i}`]}. `).join("")}${values.name} the ${values.asked}`,
            };
        },
    };

    Object.assign(Memgen.tasks, {arithmetic, cipher, inference});
    /** The rules of a family; one without rules has prompts and answers that cannot be told apart. */
    Memgen.rules = family => Memgen.tasks[family] || {help: "", parse: () => UNKNOWN, classify};
})();
