"""Interchange patching: one part of a run is replaced by the same part of another run.

Two prompts of one length are run, the *source* and the *target*. One part of the target's run (the
residual stream after a layer, what attention or the feed-forward part adds, one head) is replaced
by what it was in the source's run; everything after it is computed from that. If the answer turns
to the source's behaviour, the part carried what decides. Only the pass over the prompt is patched;
the answer's later tokens are decoded from the cache that it left. Sources: Vig et al. (2020); Meng
et al. (2022); Zhang and Nanda (2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from memgen.models.components import Edit, Place, head_width, read
from memgen.models.hooks import evaluating
from memgen.models.sites import bare
from memgen.steering.editing import Writer, Written
from memgen.steering.prompts import Prompts

DECISION = -1  # the position at which the first token of the answer is decided
#: kind of part: the component that is patched; one head or one position each where its name says so
KINDS = {
    "residual": "resid_post",
    "residual_all": "resid_post",
    "attention": "attn_out",
    "mlp": "mlp_out",
    "head": "heads",
    "position": "resid_post",
}
#: kinds that write to the residual stream at the decision position, and are no state of it
SMALL = ("attention", "mlp", "head")


@dataclass(frozen=True, order=True)
class Part:
    """A part of a run: `kind` (see `KINDS`), `layer` from 0, `head` from 0 (-1: not one head).

    `position` counts from the end: -1 is the decision position, None stands for all of them.
    """

    kind: str
    layer: int
    head: int = -1
    position: int | None = DECISION

    @property
    def place(self) -> Place:
        return KINDS[self.kind], self.layer


def parts_of(n_layer: int, n_head: int, n_positions: int) -> list[Part]:
    """Every part of the map: the decision position's, and each other position's residual stream.

    After the last layer nothing reads the other positions, so there are no parts of them there.
    """
    found = []
    for layer in range(n_layer):
        found += [
            Part("residual", layer),
            Part("residual_all", layer, position=None),
            Part("attention", layer),
            Part("mlp", layer),
        ]
        found += [Part("head", layer, head) for head in range(n_head)]
        if layer < n_layer - 1:
            found += [Part("position", layer, position=-back) for back in range(2, n_positions + 1)]
    return found


@dataclass(frozen=True)
class Interchange:
    """Targets and sources, n each: row i of the targets takes from row i of the sources.

    Errors: `ValueError` if two prompts of a row differ in length.
    """

    writer: Writer
    target: Prompts
    source: Prompts

    def __post_init__(self):
        masks = self.target.attention_mask, self.source.attention_mask
        if masks[0].shape != masks[1].shape or not torch.equal(*masks):
            raise ValueError("a source and its target must have as many tokens")

    @cached_property
    def _sources(self) -> dict[str, torch.Tensor]:
        """By component what the sources' runs computed, `[n, n_layer, positions, width]`."""
        return {}

    def _source(self, component: str) -> torch.Tensor:
        known = self._sources
        if component not in known:
            ids, mask = self.source.input_ids, self.source.attention_mask
            with evaluating(self.writer.model):
                known[component] = read(self.writer.model, ids, mask, component)
        return known[component]

    @cached_property
    def clean(self) -> Written:
        """The targets without a patch."""
        return self.writer.write(self.target)

    @cached_property
    def of_source(self) -> Written:
        """The sources without a patch; margins are between their own two answers."""
        return self.writer.write(self.source)

    def patched(self, parts: Sequence[Part]) -> Written:
        """The targets with these parts, all at once, as they were in the sources' runs."""
        places: dict[Place, list[Part]] = {}
        for part in parts:
            places.setdefault(part.place, []).append(part)

        def edits_of(rows: torch.Tensor) -> dict[Place, Edit]:
            return {place: self._edit(place, there, rows) for place, there in places.items()}

        return self.writer.write(self.target, edits_of)

    def _edit(self, place: Place, parts: list[Part], rows: torch.Tensor) -> Edit:
        component, layer = place
        given, model = self._source(component)[rows, layer], self.writer.model
        width = head_width(model) if component == "heads" else given.shape[-1]
        core = bare(model)
        given = given.to(device=core.device, dtype=core.dtype)

        def replace(vector: torch.Tensor) -> torch.Tensor:
            vector = vector.clone()
            for part in parts:
                begin = max(part.head, 0) * width
                where = slice(None) if part.position is None else part.position
                what = slice(begin, begin + width)
                vector[:, where, what] = given[:, where, what]
            return vector

        return replace


def margin_change(exchange: Interchange, found: Written, towards: float) -> np.ndarray:
    """How far the margin moved towards the source's behaviour, `[n]`; nan where there is no margin.

    `towards`: 1 where the source's behaviour is the rule's, -1 where it is the memory's.
    """
    candidates = exchange.target.candidates.cpu().numpy()
    same = candidates[:, 0, 0] == candidates[:, 1, 0]
    return np.where(same, np.nan, towards * (found.margin - exchange.clean.margin))


def recovered(exchange: Interchange, change: np.ndarray, towards: float) -> float | None:
    """Share of the way from the target's margin to the source's: mean change over mean distance.

    0: nothing changed, 1: the margin is the source's. None without margins or distance.
    """
    distance = towards * (exchange.of_source.margin - exchange.clean.margin)
    known = ~np.isnan(change)
    total = float(distance[known].sum())
    return float(change[known].sum()) / total if known.any() and total else None
