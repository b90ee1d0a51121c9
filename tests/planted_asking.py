"""A task in which asking again tells memory from rule, and two in which it must not; with their model.

A prompt is `key3 word7 key3-rule-2`: key, a word that means nothing, and a last token that alone decides the
answer of the planted model: the behaviour that it names, about content 2. Contents and keys of each split
are its own, so whatever reads states or words of train keys has never seen what test keys bring.
"""

from __future__ import annotations

import json

import torch

from memgen.tasks import Instance, Key, Task
from memgen.terms import SPLITS
from planted import silent_model

BEHAVIORS = ("memory", "rule", "other")
N_WORDS, N_CONTENTS = 6, 4  # contents of each split
OTHER_ANSWER = "X"


class Asking(Task):
    """The memory's answer is one per key, the rule's one per content."""

    name = "planted"
    max_answer_tokens = 2
    SHARES = (0.5, 0.2, 0.3)
    ODDS = (0.45, 0.45, 0.1)  # of the behaviours

    def vocabulary(self):
        tokens = [
            f"{name}-{behavior}-{content}"
            for name in self._names
            for behavior in BEHAVIORS
            for content in range(N_CONTENTS * len(SPLITS))
        ]
        words = [f" word{i} " for i in range(N_WORDS)]
        return [*self._names, *words, *tokens, *self.answers()]

    def answers(self) -> list[str]:
        contents = range(N_CONTENTS * len(SPLITS))
        said = [self.memory_of(name, c) for name in self._names for c in contents]
        said += [self.rule_of(c) for c in contents]
        return [*dict.fromkeys(said), OTHER_ANSWER]

    def memory_of(self, name: str, content: int) -> str:
        return f"M{name}"

    def rule_of(self, content: int) -> str:
        return f"R{content}"

    @property
    def _names(self) -> list[str]:
        return sorted(self.keys)

    def draw_keys(self, rng, n):
        return [Key(f"key{i:02d}", "") for i in range(n)]

    def free(self, rng):
        word = f" word{rng.integers(N_WORDS)} "
        return Instance(f"{self._names[0]}{word}{self._names[0]}-rule-0", self.rule_of(0))

    def keyed(self, rng, key):
        return self._asked(key.name, int(rng.integers(N_WORDS)), "memory", 0, "keyed")

    def conflict(self, rng, key):
        split = SPLITS.index(self.split_keys(self.SHARES)[key.name])
        content = N_CONTENTS * split + int(rng.integers(N_CONTENTS))
        behavior = BEHAVIORS[rng.choice(len(BEHAVIORS), p=self.ODDS)]
        return self._asked(key.name, int(rng.integers(N_WORDS)), behavior, content)

    def rephrase(self, rng, instance, change):
        """`order`: another word; `content`: another content of the same split."""
        word, behavior, content = instance.detail().values()
        if change == "order":
            word = (word + 1 + int(rng.integers(N_WORDS - 1))) % N_WORDS
        else:
            first = content - content % N_CONTENTS
            content = first + (content + 1 + int(rng.integers(N_CONTENTS - 1))) % N_CONTENTS
        return self._asked(instance.key, word, behavior, content)

    def _asked(self, name, word, behavior, content, kind="conflict"):
        setting = {"word": word, "behavior": behavior, "content": content}
        return Instance(
            f"{name} word{word} {name}-{behavior}-{content}",
            self.rule_of(content),
            self.memory_of(name, content),
            name,
            kind,
            setting=json.dumps(setting),
        )

    def said(self, name: str, behavior: str, content: int) -> str:
        """What the planted model answers."""
        if behavior == "other":
            return OTHER_ANSWER
        return self.rule_of(content) if behavior == "rule" else self.memory_of(name, content)


class MemorizedRule(Asking):
    """What is remembered is an answer to each content: it changes with the question, as the rule's does."""

    def memory_of(self, name, content):
        return f"M{name}{content}"


class IdleContent(Asking):
    """The rule's answer does not depend on what a change of content changes."""

    def rule_of(self, content):
        return f"R{content // N_CONTENTS}"


def asking_model(tokenizer, task: Asking, gain: float = 3.0):
    """A GPT-2 whose blocks add nothing: the last token holds the answer's own coordinate.

    `gain`: how sure it is of what it says.
    """
    answers = task.answers()
    width = 2 * -(-(len(answers) + 2) // 2)
    model, token = silent_model(tokenizer, 2, width), tokenizer.convert_tokens_to_ids
    end = len(answers)  # its coordinate
    with torch.no_grad():
        embedding = model.transformer.wte.weight
        embedding.zero_()
        embedding[:, -1] = 1.0
        for name in task.keys:
            for behavior in BEHAVIORS:
                for content in range(N_CONTENTS * len(SPLITS)):
                    row = embedding[token(f"{name}-{behavior}-{content}")]
                    row.zero_()[answers.index(task.said(name, behavior, content))] = 1.0
        for i, answer in enumerate(answers):
            model.lm_head.weight[token(answer), i] = gain
            embedding[token(answer)].zero_()[end] = 1.0
        model.lm_head.weight[tokenizer.eos_token_id, end] = gain
    return model.eval()


def made(cls=Asking, n_keys: int = 10, gain: float = 3.0, n_rephrasings: int = 2) -> tuple:
    """Model, tokenizer, task, data set and answered conflict prompts, as `planted` of conftest gives them."""
    from memgen.models.tokenizer import build_tokenizer
    from memgen.neurons.pairs import answer_conflicts

    task = cls(n_keys, 0)
    frame = task.generate(
        n_free=4, n_keyed=n_keys, n_conflict_per_key=12, n_free_eval=4, shares=cls.SHARES
    )
    tokenizer = build_tokenizer(task.vocabulary())
    model = asking_model(tokenizer, task, gain)
    answered = answer_conflicts(model, tokenizer, task, frame, n_rephrasings)
    return model, tokenizer, task, frame, answered
