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

from memgen.models.components import Edit, Place, head_width, read_several
from memgen.models.hooks import evaluating
from memgen.models.sites import bare
from memgen.steering.editing import EditsOf, Reach, Writer, Written
from memgen.steering.prompts import Prompts
from memgen.steering.unsteered import Unsteered

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

    @property
    def first_block(self) -> int:
        """The first block that is computed anew."""
        return self.layer + (KINDS[self.kind] == "resid_post")


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

    `also` `[n, A]`: an answer that is looked for beside the targets' own two; a row that fits none
    of these is not followed to its end. Errors: `ValueError` if two prompts of a row differ in length.
    """

    writer: Writer
    target: Prompts
    source: Prompts
    also: torch.Tensor | None = None

    def __post_init__(self):
        masks = self.target.attention_mask, self.source.attention_mask
        if masks[0].shape != masks[1].shape or not torch.equal(*masks):
            raise ValueError("a source and its target must have as many tokens")

    @cached_property
    def _sources(self) -> dict[str, torch.Tensor]:
        """By component what the sources' runs computed, `[n, n_layer, positions, width]`."""
        model, core = self.writer.model, bare(self.writer.model)
        ids, mask = self.source.input_ids, self.source.attention_mask
        with evaluating(model):
            found = read_several(model, ids, mask, sorted(set(KINDS.values())))
        return {name: of.to(device=core.device, dtype=core.dtype) for name, of in found.items()}

    @cached_property
    def _shared(self) -> Unsteered:
        return self.writer.unsteered(self.target)

    @cached_property
    def _answers(self) -> torch.Tensor:
        """What is looked for, `[n, 2 or 3, A]`."""
        own = self.target.candidates.cpu()
        if self.also is None:
            return own
        longest = max(own.shape[-1], self.also.shape[-1])
        every = [own, self.also.cpu()[:, None]]
        widened = (
            torch.nn.functional.pad(one, (0, longest - one.shape[-1]), value=-1) for one in every
        )
        return torch.cat([*widened], dim=1)

    @cached_property
    def clean(self) -> Written:
        """The targets without a patch."""
        return self._plain(self._shared, self._answers)

    @cached_property
    def of_source(self) -> Written:
        """The sources without a patch; margins are between their own two answers."""
        return self._plain(self.writer.unsteered(self.source), self.source.candidates)

    def _plain(self, shared: Unsteered, answers: torch.Tensor) -> Written:
        rows = torch.arange(len(answers))
        return self.writer.rows(shared, rows, lambda some: {}, Reach(), answers)

    def patched(self, parts: Sequence[Part]) -> Written:
        """The targets with these parts, all at once, as they were in the sources' runs."""
        return self.each([parts])[0]

    def each(self, sets: Sequence[Sequence[Part]]) -> list[Written]:
        """`patched` of every set of parts. Sets that begin at one block share batches."""
        found: dict[int, Written] = {}
        groups: dict[tuple[int, bool], list[int]] = {}
        for i, parts in enumerate(sets):
            earlier = any(part.position != DECISION for part in parts)
            first = min(part.first_block for part in parts)
            groups.setdefault((first, earlier), []).append(i)
        for (_, earlier), members in groups.items():
            together = self._group([sets[i] for i in members], Reach(None if earlier else 1))
            found |= dict(zip(members, together, strict=True))
        return [found[i] for i in range(len(sets))]

    def edits_of(self, parts: Sequence[Part]) -> EditsOf:
        """The edits that patch these parts into any of the targets, by their rows."""

        def of(some: torch.Tensor) -> dict[Place, Edit]:
            places: dict[Place, list[tuple[Part, torch.Tensor]]] = {}
            for part in parts:
                places.setdefault(part.place, []).append((part, torch.arange(len(some))))
            return {place: self._edit(place, there, some) for place, there in places.items()}

        return of

    def _group(self, sets: list[Sequence[Part]], reach: Reach) -> list[Written]:
        n = len(self.target)
        rows = torch.arange(len(sets) * n)
        place_of, prompt = rows // n, rows % n

        def edits_of(some: torch.Tensor) -> dict[Place, Edit]:
            edits: dict[Place, list[tuple[Part, torch.Tensor]]] = {}
            for i in place_of[some].unique().tolist():
                at = (place_of[some] == i).nonzero()[:, 0]
                for part in sets[i]:
                    edits.setdefault(part.place, []).append((part, at))
            return {place: self._edit(place, there, prompt[some]) for place, there in edits.items()}

        written = self.writer.rows(self._shared, prompt, edits_of, reach, self._answers[prompt])
        return [written[begin : begin + n] for begin in range(0, len(rows), n)]

    def _edit(
        self, place: Place, parts: list[tuple[Part, torch.Tensor]], prompt: torch.Tensor
    ) -> Edit:
        """`parts`: each with the rows of the batch that it is patched in; `prompt` `[rows]`."""
        component, layer = place
        given, model = self._sources[component][:, layer], self.writer.model
        width = head_width(model) if component == "heads" else given.shape[-1]

        def replace(vector: torch.Tensor) -> torch.Tensor:
            vector, there = vector.clone(), vector.shape[1]
            for part, at in parts:
                begin = max(part.head, 0) * width
                what = slice(begin, begin + width)
                where = slice(-there, None) if part.position is None else part.position
                if part.position is None or -part.position <= there:  # else it is read by nobody
                    vector[at, where, what] = given[prompt[at], where, what]
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
