"""The committed runs of pretrained models for the chapter *A model you know*."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from memgen.claims.pretrained import FEWEST_FAMILIES, judge_models
from memgen.figures import real as figures
from memgen.figures.real_depth import along_depth
from memgen.figures.style import CONTROL_NAME, Drawing
from memgen.models.packaged import DEFAULT
from memgen.pipeline.real_lora import SUFFIX  # adapters: a section of their own
from memgen.store.files import read_json
from memgen.terms import DIRECTIONS, INSTRUCTION, SUPPORTED
from press.asked_model import Model, Way
from press.committed import shown
from press.field import FIELD, field_of
from press.numbers import NOTHING, decimal, percent, plural
from press.sentences import between, tried

PAGE = "real_model.md"
#: families of ways of which a table has the best alone; the others stand there one by one
BEST_OF = {"shift": "the best control of the same size", "floor": "said differently (the better)"}
TOLD = "told in words (the better)"
#: in a table of the chapter: first what it is about, then a cell per model
Row = list[str]


class Finding(NamedTuple):
    """A claim on pretrained models with its verdicts; `on`: per model effect, interval and verdict."""

    name: str
    text: str
    source: str
    test: str
    margin: str
    on: list[dict[str, str]]
    verdict: str
    stands: str


@dataclass(frozen=True)
class Real:
    """Every committed model, the figures of all, and what others report."""

    models: list[Model] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    field: list[dict[str, str]] = field(default_factory=list)

    @property
    def n_models(self) -> int:
        return len(self.models)

    @property
    def titles(self) -> list[str]:
        return [model.title for model in self.models]

    @property
    def tried(self) -> str:
        """Among which strengths, shares of neurons and multiples in one layer its validation keys chose."""
        return "; ".join(f"{m.title}: {_tried(m.about['tried'])}" for m in self.models)

    @property
    def named(self) -> str:
        return _joined(self.titles)

    @property
    def rounded(self) -> str:
        """Those whose weights were rounded in between, joined; "": none."""
        return _joined([model.title for model in self.models if model.quantized] or [""])

    @property
    def held_back(self) -> list[Model]:
        """Those that were to be asked about relations that were held back."""
        return [model for model in self.models if model.unseen or model.not_unseen]

    @property
    def everywhere(self) -> str:
        """How a finding stands that is supported in every model: see `Finding.stands`."""
        return "in both" if self.n_models <= FEWEST_FAMILIES else "in all"

    @property
    def families(self) -> set[str]:
        return {model.family for model in self.models}

    @property
    def enough(self) -> bool:
        """Are there models of two families, so that a claim could rest on them?"""
        return len(self.families) >= FEWEST_FAMILIES

    # -- what may be claimed ---------------------------------------------------------------------------
    @cached_property
    def findings(self) -> list[Finding]:
        """The claims on pretrained models, judged by the ledger's rule."""
        return [self._finding(one) for one in judge_models([m.about for m in self.models])]

    def _finding(self, claim: dict[str, Any]) -> Finding:
        return Finding(
            claim["name"],
            claim["text"],
            claim["source"],
            claim["test"],
            decimal(claim["margin"]) if claim["margin"] else "none: a limit",
            [_judged(claim["cases"].get(title)) for title in self.titles],
            claim["verdict"],
            self._stands(claim),
        )

    def _stands(self, claim: dict[str, Any]) -> str:
        """In which models it is supported: `in both`, `in A only`, `in none`."""
        found = claim["cases"].items()
        where = [title for title, case in found if case["verdict"] == SUPPORTED]
        if not found:
            return "not tested"
        if len(where) == self.n_models > 1:
            return self.everywhere
        if where:
            return f"in {', '.join(where)} only"
        return "in none" if self.n_models > 1 else "not supported"

    def standing_in(self, where: str) -> list[str]:
        """The names of the findings that stand there: `in both`, `in A only`."""
        return [one.name for one in self.findings if one.stands == where]

    @property
    def standing(self) -> str:
        """What may be claimed of what is there."""
        if self.enough:
            return (
                "These are models of different families. What stands in each of them, and what in one only,"
                " is judged by the rule of the [ledger](ledger.md#real-models), and listed"
                " [below](#what-holds-in-both)."
            )
        one = "this is one model" if self.n_models == 1 else "these are models of one family"
        return (
            f"**Two models or no claim**: {one} ({self.named}), so no claim of the"
            " [ledger](ledger.md#real-models) can stand on it. Whatever its intervals say, a finding that"
            " stands on one model can be no more than inconclusive (*open*)."
        )

    @property
    def standing_here(self) -> str:
        """The same for the page of the ledger, in a sentence that goes on."""
        if self.enough:
            return (
                "asks models of different families; [claims on them](#real-models) are a section of their"
                " own."
            )
        return (
            "asks one model or family; [claims on it](#real-models) are a section of their own, and none of"
            " them can be more than open."
        )

    @property
    def verdict(self) -> str:
        """How that stands in the ledger, in a sentence that ends an answer."""
        if not self.enough:
            return "One model, hence no verdict: at most inconclusive."
        both = self.standing_in(self.everywhere)
        alone = [name for t in self.titles for name in self.standing_in(f"in {t} only")]
        return (
            f"Of {plural(len(self.findings), 'claim')} {len(both)} stand in every model"
            f" ({'; '.join(both) or 'none'}) and {len(alone)} in one only ({'; '.join(alone) or 'none'}),"
            " which is inconclusive."
        )

    @property
    def another(self) -> str:
        """What would change our mind first."""
        if self.enough:
            return (
                "A further model of another family in which the same chain comes out otherwise: then what"
                " stands here in every model is about these."
            )
        return (
            "A second model of another family in which the same chain comes out otherwise: then what stands"
            " here is about one model."
        )

    @property
    def at_home(self) -> str:
        """One sentence and a number of each model, for the home page."""
        several = self.n_models > 1
        who, know, would = (
            ("models", "they know", "they") if several else ("a model", "it knows", "it")
        )
        turned = [percent(model.steered("m2g").success) for model in self.models]
        spared = [model.spared("m2g") for model in self.models]
        what, lost = turned[0], f", and {spared[0]} without a text"
        if several:
            what = _joined([f"{rate} ({title})" for title, rate in zip(self.titles, turned)])
            lost = "; without a text " + _joined([f"{t} {s}" for t, s in zip(self.titles, spared)])
        alone = "" if self.enough else " One model, so no claim rests on it."
        if self.enough:
            n = len(self.standing_in(self.everywhere))
            alone = f" {n} of {plural(len(self.findings), 'claim')} on them stand in every model."
        rounded = all(model.quantized for model in self.models)
        four_bits = ", here with weights rounded to 4 bits," if rounded else ""
        return (
            f"And in {who} that nobody trained for this? {self.named}{four_bits}"
            f" {'are' if several else 'is'} asked about facts {know} against texts that deny them: the shift"
            f" turns {what} of what {would} would have said from memory into what the text says{lost} ([a"
            f" model you know]({PAGE})).{alone}"
        )

    # -- tables: a column per model --------------------------------------------------------------------
    @property
    def behaviours(self) -> list[Row]:
        """What decides the answers, the lowest to the highest data set of every model."""
        asked: dict[str, Callable[[Model], str]] = {
            "answered from what it knows": lambda m: m.over("behaviours", "memorization", "rate"),
            "answered from the text": lambda m: m.over("behaviours", "generalization", "rate"),
            "other": lambda m: m.over("behaviours", "other", "rate"),
            "keys with both": lambda m: m.over("keys_with_both"),
            "answers that another wording turns": lambda m: m.over("pairs", "flip_rate"),
            "plain questions right": lambda m: m.over("keyed_accuracy"),
            "made-up entities right": lambda m: m.over("free_accuracy"),
        }
        return self._rows(asked)

    @property
    def depth(self) -> list[Row]:
        """Where neurons differ, beside both nulls."""
        asked: dict[str, Callable[[Model], str]] = {
            "layer where most neurons differ": lambda m: (
                f"{m.peak['layer']} of {m.card['n_layers']}"
            ),
            "neurons that differ there": lambda m: percent(m.peak["share"]),
            "null, turned by the words, there": lambda m: percent(m.peak["oriented"]),
            "the same, at most in any layer of any data set": lambda m: percent(
                m.peak["oriented_max"]
            ),
            "null, answered alike, at most": lambda m: percent(m.peak["null_max"], 1),
            "layers in which more differ than by the words": lambda m: str(m.beyond_words),
        }
        return self._rows(asked)

    @property
    def prediction(self) -> list[Row]:
        """The probe beside the strongest forecast without hidden states."""
        asked: dict[str, Callable[[Model], str]] = {
            "AUC of the probe": lambda m: m.numbers_of("prediction", "best_auc"),
            "among prompts of one fact": lambda m: m.numbers_of("prediction", "auc_within_key"),
            "strongest forecast without hidden states": lambda m: m.numbers_of(
                "prediction", "chosen_baseline_auc"
            ),
            "what the probe has above it": lambda m: m.numbers_of("prediction", "gain"),
            "data sets whose interval of that lies above 0": lambda m: str(m.ahead),
            "forecast from the model's own margin": lambda m: m.numbers_of(
                "prediction", "margin_auc"
            ),
        }
        return self._rows(asked)

    def _rows(self, asked: dict[str, Callable[[Model], str]]) -> list[Row]:
        return [[name, *(say(model) for model in self.models)] for name, say in asked.items()]

    def ways(self, direction: str) -> list[Row]:
        """What turns answers: chosen neurons, each rival, the best of the rest; `turned (other)`."""
        found = [_best_ways(model, direction) for model in self.models]
        names = list(dict.fromkeys(name for of in found for name in of))
        return [[name, *(_cell(of.get(name)) for of in found)] for name in names]

    @property
    def costs(self) -> list[dict[str, Any]]:
        """What every shift costs, the models one after the other in every direction."""
        return [
            {"model": model.title, **row}
            for direction in DIRECTIONS
            for model in self.models
            for row in model.costs
            if row["direction"] == direction
        ]


def _tried(cells: dict[str, list[float]]) -> str:
    multiples = " or ".join(f"{multiple:g}" for multiple in cells["layer_alphas"])
    in_one = f", one layer by {multiples} times its difference" if multiples else ""
    return tried(cells) + in_one


def _joined(names: list[str]) -> str:
    """`A`, `A and B`, `A, B and C`."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _judged(case: dict[str, Any] | None) -> dict[str, str]:
    """Effect with interval and verdict of a claim on one model."""
    if case is None:
        return {"effect": NOTHING, "verdict": ""}
    low, _ = case["interval"]
    around = "" if low is None else f" ({between(case['interval'])})"
    return {"effect": f"{decimal(case['effect'])}{around}", "verdict": case["verdict"]}


def _best_ways(model: Model, direction: str) -> dict[str, Way]:
    """By name the ways of a direction; of instructions, floors and controls the best alone."""
    told = {CONTROL_NAME.get(f"{INSTRUCTION}_{number}") for number in (1, 2)}
    found: dict[str, Way] = {}
    for way in model.ways(direction):
        name = TOLD if way.name in told else BEST_OF.get(way.family, way.name)
        if way.family != "output" and (name not in found or way.success > found[name].success):
            found[name] = way
    return found


def _cell(way: Way | None) -> str:
    return NOTHING if way is None else f"{percent(way.success)} ({percent(way.other)})"


def real(root: Path, source: Path) -> Real:
    """The models in `data/reference/real`, their figures staged in `source`, and the field's figures."""
    folder = root / "data" / "reference" / "real"
    files = [path for path in folder.glob("*.json") if not path.stem.endswith(SUFFIX)]
    files.sort(key=lambda path: (path.stem != DEFAULT, path.stem))
    models = [Model(read_json(path)) for path in files]
    drawn = _drawn(models, source) if models else {}
    return Real(models, drawn, field_of(folder / FIELD))


def _drawn(models: list[Model], source: Path) -> dict[str, str]:
    """By name the figures of all models as directives; their files lie in `source/figures`."""
    seeds = {model.title: model.seeds for model in models}
    draw: tuple[Callable[[figures.Models], Drawing], ...] = (
        figures.behaviours,
        along_depth,
        figures.steering,
        figures.costs,
    )
    drawn = [one(seeds) for one in draw]
    return {one.name: shown(one, source, f"real-{one.name}") for one in drawn}
