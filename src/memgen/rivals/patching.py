"""Activation patching as a ceiling: a part of the run is replaced by that of a prompt that shows the target.

No method could be allowed this: every prompt gets a donor of its own, another order of the same prompt
with the same two answers and as many tokens, to which the untouched model answers as wanted. What a
part turns is how much of the decision it carries at all. A prompt without such a donor keeps its own
states, and counts as not turned. The residual stream after the last layer is left out: what is written
follows from it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import pandas as pd

from memgen.models.components import head_width
from memgen.neurons.pairs import rephrasings
from memgen.rivals.interventions import Edits, untouched
from memgen.rivals.material import Material
from memgen.rivals.method import Candidate, Method, thinned
from memgen.steering.editing import EditsOf, Reach, Writer
from memgen.steering.patching import Interchange, Part
from memgen.steering.steering import Steering
from memgen.tasks import instances
from memgen.terms import TARGET

LARGEST = 2**13  # layers times width: 16 times the study's own models
N_DONORS = 8  # other orders of a prompt that are looked at
KINDS = ("mlp", "attention", "residual", "residual_all")


@dataclass(frozen=True)
class Donors:
    """For prompts of one direction their donors, found once per table of prompts."""

    direction: str
    _found: dict[tuple[str, ...], Interchange] = field(default_factory=dict, repr=False)

    def exchange(self, steering: Steering, rows: pd.DataFrame) -> Interchange:
        """These prompts, each with its donor's run beside it."""
        name = tuple(rows.prompt)
        if name not in self._found:
            self._found.clear()  # states of one table at a time
            self._found[name] = self._of(steering, rows)
        return self._found[name]

    def _of(self, steering: Steering, rows: pd.DataFrame) -> Interchange:
        donors = rows.assign(prompt=donors_of(steering, rows, self.direction))
        target, source = (steering.prompts(one) for one in (rows, donors))
        return Interchange(Writer.of(steering), target, source)

    def edits_for(self, part: Part):
        """What patches this part into any prompts."""

        def edits(steering: Steering, rows: pd.DataFrame) -> EditsOf:
            return self.exchange(steering, rows).edits_of([part])

        return edits


def donors_of(steering: Steering, rows: pd.DataFrame, direction: str) -> list[str]:
    """A prompt for each row: the first of its other orders that shows the target, or the row's own."""
    task, tokenizer = steering.task, steering.tokenizer
    tried = []
    for number, one in enumerate(instances(rows)):
        if one.kind != "conflict":
            continue
        for other in rephrasings(task, one, "order", N_DONORS, {one.prompt}):
            same = (one.memory_answer, one.rule_answer) == (other.memory_answer, other.rule_answer)
            if same:
                tried.append({"row": number} | asdict(other))
    found = list(rows.prompt)
    if not tried:
        return found
    table = pd.DataFrame(tried)
    lengths = [
        [len(ids) for ids in tokenizer(list(texts))["input_ids"]] for texts in (table.prompt, found)
    ]
    fitting = [length == lengths[1][row] for length, row in zip(lengths[0], table.row)]
    table = table[fitting].reset_index(drop=True)
    if len(table):
        shows = untouched(steering).read(steering, table).codes == TARGET[direction]
        for one in table[shows].drop_duplicates("row").itertuples():
            found[one.row] = one.prompt
    return found


def no_room(material: Material) -> str:
    """The states of all parts are kept for every prompt, which a large model has no room for."""
    config = material.steering.model.config
    if config.num_hidden_layers * config.hidden_size <= LARGEST:
        return ""
    return "the states of all parts of a model of this size take too much memory"


def candidates(material: Material, direction: str) -> list[Candidate]:
    """Each part of the run at the decision position, and the whole residual stream of each layer."""
    config, donors = material.steering.model.config, Donors(direction)
    n_heads = config.num_attention_heads
    found = []
    for layer in range(material.n_layer):
        parts = [Part("head", layer, head) for head in range(n_heads)]
        parts += [
            Part(kind, layer, position=None if kind == "residual_all" else -1)
            for kind in KINDS
            if layer < material.n_layer - 1 or not kind.startswith("residual")
        ]
        found += [_candidate(part, donors, n_heads, material.steering) for part in parts]
    return thinned(found, material.effort.budget)


def _candidate(part: Part, donors: Donors, n_heads: int, steering: Steering) -> Candidate:
    one_head = f", head {part.head + 1}" if part.head >= 0 else ""
    share = head_width(steering.model) / steering.model.config.hidden_size
    return Candidate(
        f"{part.kind.replace('_', ' ')} of layer {part.layer + 1}{one_head}",
        {"kind": part.kind, "layer": part.layer + 1, "head": part.head + 1},
        {"head": share, "residual": 2.0, "residual_all": 3.0}.get(part.kind, 1.0),
        Edits(donors.edits_for(part), Reach(None if part.position is None else 1)),
    )


METHOD = Method(
    "patching",
    "Patching (ceiling)",
    "zhang2024patching",
    "ours",
    "null",
    candidates,
    lacks=no_room,
)
