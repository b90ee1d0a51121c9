"""The committed runs of pretrained models for the chapter *A model you know*."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt

from memgen.figures import real as figures
from memgen.figures.style import Drawing
from memgen.pipeline.real_lora import SUFFIX  # adapters: a section of their own
from memgen.store.files import read_json
from press.asked_model import Model
from press.field import FIELD, field_of
from press.numbers import decimal, percent

#: how many models, of different families, a claim needs
FEWEST_MODELS = 2
PAGE = "real_model.md"


@dataclass(frozen=True)
class Real:
    """Every committed model, and what others report."""

    models: list[Model] = field(default_factory=list)
    field: list[dict[str, str]] = field(default_factory=list)

    @property
    def n_models(self) -> int:
        return len(self.models)

    @property
    def families(self) -> set[str]:
        return {model.card.get("architecture", model.name) for model in self.models}

    @property
    def enough(self) -> bool:
        """Are there models of two families, so that a claim could rest on them?"""
        return len(self.families) >= FEWEST_MODELS

    @property
    def standing(self) -> str:
        """What may be claimed of what is there."""
        if self.enough:
            return (
                "These are models of different families; still, no claim of the [ledger](ledger.md) is judged"
                " on them."
            )
        one = "this is one model" if self.n_models == 1 else "these are models of one family"
        named = ", ".join(model.title for model in self.models)
        return (
            f"**Two models or no claim**: {one} ({named}), so no claim of the [ledger](ledger.md) rests on"
            " it. Whatever its intervals say, a finding that stands on one model can be no more than"
            " inconclusive."
        )

    @property
    def standing_here(self) -> str:
        """The same for the page of the ledger, in a sentence that goes on."""
        if self.enough:
            return "models of different families, which no claim below is judged on."
        return "one model or family, so nothing found there is a verdict here, or more than inconclusive."

    @property
    def at_home(self) -> str:
        """One sentence and one number of the first model, for the home page."""
        first = self.models[0]
        alone = "" if self.enough else " One model, so no claim rests on it."
        four_bits = ", here with weights rounded to 4 bits," if first.quantized else ""
        turned = percent(first.steered("m2g").success)
        cost = next(row for row in first.costs if row["direction"] == "m2g")  # of the neurons
        changed = "loses" if cost["keyed"] < 0 else "wins"
        return (
            f"And in a model that nobody trained for this? {first.title}{four_bits} is asked about facts it"
            f" knows against texts that deny them: the shift turns {turned} of what it would have said from"
            f" memory into what the text says, and {changed} {decimal(abs(cost['keyed']), 0)} points of plain"
            f" facts without a text ([a model you know]({PAGE})).{alone}"
        )

    @property
    def verdict(self) -> str:
        """How that stands in the ledger, in a sentence that ends an answer."""
        return "" if self.enough else "One model, hence no verdict: at most inconclusive."


def real(root: Path, source: Path) -> Real:
    """The models in `data/reference/real`, their figures staged in `source`, and the field's figures."""
    folder = root / "data" / "reference" / "real"
    files = sorted(path for path in folder.glob("*.json") if not path.stem.endswith(SUFFIX))
    return Real([_model(path, source) for path in files], field_of(folder / FIELD))


def _model(path: Path, source: Path) -> Model:
    about = read_json(path)
    draw: tuple[Callable[[figures.Seeds], Drawing], ...] = (
        figures.behaviours,
        figures.along_depth,
        figures.steering,
        figures.costs,
    )
    shown: dict[str, str] = {}
    for one in draw:
        drawing = one(about["seeds"])
        file = f"figures/real-{path.stem}-{drawing.name}.png"
        drawing.figure.savefig(source / file)
        plt.close(drawing.figure)
        shown[drawing.name] = (
            f"```{{figure}} {file}\n:alt: {drawing.alt}\n:name: fig-real-{path.stem}-{drawing.name}\n\n"
            f"{drawing.caption}\n```"
        )
    return Model(about, shown)
