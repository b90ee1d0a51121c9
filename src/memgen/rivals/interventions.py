"""What can be done to a model: states shifted, parts edited, weights exchanged; and one way to read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import nn

from memgen.models.components import Edit, Place
from memgen.models.sites import bare
from memgen.steering.editing import EditsOf, Reach, Writer
from memgen.steering.steering import Steering
from memgen.terms import MEMORY_CODE, OTHER_CODE, RULE_CODE, Positions, Site

#: edits that depend on the prompts: a factory is called with them, once per table of prompts
EditsFor = Callable[[Steering, pd.DataFrame], EditsOf]


@dataclass(frozen=True)
class Read:
    """What a model says to n prompts.

    `fits` `[n, 2]`, bool: is the answer the memory's, the rule's? `log_probs` `[n, V]`: of the first
    token of the answer.
    """

    fits: torch.Tensor
    log_probs: torch.Tensor

    @property
    def codes(self) -> np.ndarray:
        """Behaviours, int8 `[n]`; memory where both answers are the same."""
        memory, rule = self.fits.cpu().numpy().T
        codes = np.where(memory, MEMORY_CODE, np.where(rule, RULE_CODE, OTHER_CODE))
        return codes.astype(np.int8)

    def right(self, code: int) -> float:
        """The share of answers that are this one."""
        return float(self.fits[:, code].double().mean())


class Intervention(Protocol):
    """Something that is done to a model, and undone."""

    def read(self, steering: Steering, rows: pd.DataFrame) -> Read:
        """What the changed model says to these prompts; afterwards the model is as it was."""
        ...


@dataclass(frozen=True)
class Shift:
    """`delta` `[L, d]`, already signed, is added at a site, at all positions or from the decision on."""

    delta: np.ndarray
    positions: Positions
    site: Site = "resid_post"

    @property
    def changes_nothing(self) -> bool:
        return not self.delta.any()

    def read(self, steering: Steering, rows: pd.DataFrame) -> Read:
        n = len(rows)
        sweep = on_site(steering, self.site).sweep(self.delta[None], rows, self.positions)
        return Read(*sweep.read(torch.zeros(n, dtype=torch.long), torch.arange(n)))


def on_site(steering: Steering, site: Site) -> Steering:
    """The same model, shifted elsewhere."""
    return steering if steering.site == site else steering.at(replace(steering.maps, site=site))


@dataclass(frozen=True)
class Edits:
    """Parts of the run are computed anew: the same edits for all prompts, or made for them."""

    edits: Mapping[Place, Edit] | EditsFor
    reach: Reach = Reach(back=None, generated=True)

    def read(self, steering: Steering, rows: pd.DataFrame) -> Read:
        edits = self.edits
        edits_of = edits(steering, rows) if callable(edits) else lambda some: edits
        prompts, tables = steering.prompts(rows), steering.tables
        return Read(*Writer.of(steering).read(prompts, edits_of, self.reach, tables))


@dataclass(frozen=True)
class Weights:
    """Parameters of the model, by name, are others. `note`: numbers worth keeping, by name."""

    changes: Mapping[str, torch.Tensor]
    note: Mapping[str, float] = field(default_factory=dict)

    def read(self, steering: Steering, rows: pd.DataFrame) -> Read:
        with exchanged(bare(steering.model), self.changes):
            return Read(*Writer.of(steering).read(steering.prompts(rows), lambda some: {}, Reach()))


@contextmanager
def exchanged(model: nn.Module, changes: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Inside, these parameters hold other values; afterwards, and after an error, their own, bit for bit.

    Errors: `KeyError` for a name that the model does not have, `ValueError` for another shape.
    """
    parameters = dict(model.named_parameters())
    for name, value in changes.items():
        if name not in parameters:
            raise KeyError(f"the model has no parameter {name!r}")
        if value.shape != parameters[name].shape:
            raise ValueError(
                f"{name} is {list(parameters[name].shape)}, and what replaces it {list(value.shape)}"
            )
    own = {name: parameters[name].data for name in changes}
    try:
        for name, value in changes.items():
            # another tensor in its place: nothing is copied back, so nothing can be lost on the way
            parameters[name].data = value.to(own[name]).clone()
        yield
    finally:
        for name, value in own.items():
            parameters[name].data = value


def untouched(steering: Steering) -> Shift:
    """The shift that changes nothing."""
    return Shift(np.zeros_like(steering.nmd), steering.positions, steering.site)
