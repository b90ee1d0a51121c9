"""Questions beside texts that are no conflict: what is counted is what the planted model says."""

from __future__ import annotations

import pytest

from capitals import Capitals
from memgen.tasks import Instance
from memgen.training.contexts import in_contexts
from planted import ManyKeys

#: by context, of the questions about each key how many the model answers with M and R
SAID = {"none": (4, 0), "gold": (3, 1), "irrelevant": (1, 3)}


class Told(ManyKeys):
    """Every key in all three contexts; the last word decides what the model says."""

    def contexts(self, keys):
        def ask(key, word, behaviour, stated):
            prompt = f"{key} word{word} near-{behaviour}"
            return Instance(prompt, stated, "M", key, "keyed")

        stated = {"none": "", "gold": "M", "irrelevant": "R"}
        return {
            name: [
                ask(key, word, "memory" if word < n_memory else "rule", stated[name])
                for key in keys
                for word in range(n_memory + n_rule)
            ]
            for name, (n_memory, n_rule) in SAID.items()
        } | {"empty": []}


def test_right_and_stated_answers_are_counted_by_context(planted):
    model, tokenizer = planted(ManyKeys, 24)[:2]
    found = in_contexts(model, tokenizer, Told(24, 0), ["key1", "key2", "key3"], 0)
    assert set(found) == set(SAID)
    for name, (n_memory, n_rule) in SAID.items():
        share = n_memory / (n_memory + n_rule)
        assert found[name]["right"] == pytest.approx(share)
        assert (found[name]["n"], found[name]["n_keys"]) == (12, 3)
        assert found[name]["interval"] == pytest.approx([share, share])
    assert found["none"]["stated"] is None and found["gold"]["stated"] == pytest.approx(0.75)
    assert found["irrelevant"]["stated"] == pytest.approx(0.75)


def test_a_task_without_such_texts_has_none(planted):
    model, tokenizer = planted(ManyKeys, 24)[:2]
    assert in_contexts(model, tokenizer, Capitals(3, 0), ["place0"], 0) == {}
