"""What a method is: where it comes from, how far it applies, and its candidates for one direction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from memgen.rivals.interventions import Intervention
from memgen.rivals.material import Material
from memgen.tasks import GivenTask

#: how exactly the operator is known: from published code, a paper, an abstract; or it is ours
ReadIn = Literal["code", "paper", "abstract", "ours"]
Kind = Literal["steering", "editing", "null"]
#: why a pretrained model is asked under shifts alone
GIVEN = (
    "a model that was trained on nothing here has no items that an edit could remove, and any change but a"
    " shift takes a whole pass of a large model over every prompt for each candidate"
)


@dataclass(frozen=True)
class Candidate:
    """One setting of a method: what it does to the model, and how gentle that is.

    `label`: as in "layer 2, times 4, decision". Of equally good candidates the one of lower `strength`
    is chosen. `gradient_steps`: on train keys, that led to it.
    """

    label: str
    setting: Mapping[str, float | int | str]
    strength: float
    intervention: Intervention
    gradient_steps: int = 0


def everywhere(material: Material) -> str:
    """Of a method that applies to every task."""
    return ""


@dataclass(frozen=True)
class Method:
    """One row of the table. `source`: its key in `book/references.bib`.

    `candidates`: for a direction, at most `material.effort.budget` of them. `lacks`: why it does not
    apply to this material, in a sentence ("": it does). `shifts`: all that it does is to add to states.
    """

    name: str
    title: str
    source: str
    read_in: ReadIn
    kind: Kind
    candidates: Callable[[Material, str], list[Candidate]]
    directions: tuple[str, ...] = ("m2g", "g2m")
    lacks: Callable[[Material], str] = field(default=everywhere)
    shifts: bool = False

    def why_not(self, material: Material) -> str:
        """Why it is left out here, in a sentence ("": it is not)."""
        if isinstance(material.steering.task, GivenTask) and not self.shifts:
            return GIVEN
        return self.lacks(material)


def thinned(candidates: list[Candidate], budget: int) -> list[Candidate]:
    """At most `budget` candidates, gentlest first, evenly over the strengths."""
    ordered = sorted(candidates, key=lambda one: one.strength)  # stable: equals stay as they were
    if len(ordered) <= budget:
        return ordered
    chosen = np.linspace(0, len(ordered) - 1, budget).round().astype(int)
    return [ordered[i] for i in chosen]
