"""One pretrained model that was asked as it is, over its data sets: what its committed numbers say."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from memgen.figures import real as figures
from memgen.figures.real import TOWARDS
from memgen.figures.style import CONTROL_NAME
from memgen.terms import BEHAVIORS, DIRECTIONS, FORECASTS, INSTRUCTION, ONE_LAYER
from press import asked_otherwise
from press.errors import BookError
from press.numbers import SPACE, decimal, percent, plural, processors, span
from press.sentences import Share, between

#: the goal that was set before anything was run: the least share of answers turned, and the points of
#: accuracy on plain facts that this may cost
GOAL, GOAL_COST = {"m2g": 0.95, "g2m": 0.85}, 1.0
#: perplexities, as multiples, from which on decimals say nothing
BROKEN = 100
STEERED = "steered"


class Way(NamedTuple):
    """One way to turn answers, over the data sets of one model."""

    name: str
    family: str
    success: float
    span: str
    other: float
    n: int


@dataclass(frozen=True)
class Model:
    """One pretrained model over its data sets; `about`: `data/reference/real/<model>.json`."""

    about: dict[str, Any]

    # -- which model, how it was made ----------------------------------------------------------------
    @property
    def card(self) -> dict[str, Any]:
        return self.about["model"]

    @property
    def name(self) -> str:
        return self.card["name"]

    @property
    def title(self) -> str:
        return self.card["title"]

    @property
    def family(self) -> str:
        """Its architecture; without one it is a family of its own."""
        return self.card.get("architecture", self.name)

    @property
    def quantized(self) -> str:
        """How its weights were rounded before they became floats again; "": they are the published ones."""
        return self.card.get("quantization", "")

    @property
    def rounding(self) -> str:
        """What its weights are: as published, or rounded in between."""
        return f"4 bits ({self.quantized}), made floats" if self.quantized else "as published"

    @property
    def millions(self) -> float:
        return self.card["n_parameters"] / 1e6

    @property
    def seeds(self) -> list[dict[str, Any]]:
        return self.about["seeds"]

    @property
    def n_seeds(self) -> int:
        return len(self.seeds)

    @property
    def machine(self) -> str:
        return processors(self.about["machine"])

    @property
    def cpu(self) -> float:
        """Seconds of processors of all labs and data sets."""
        return sum(self._spent("cpu_seconds"))

    @property
    def wall(self) -> float:
        """Seconds by the clock, as if one lab had followed the other."""
        return sum(self._spent("wall_seconds"))

    @property
    def gib(self) -> float:
        """The largest peak of memory."""
        return max(self._spent("peak_memory_bytes")) / 2**30

    def _spent(self, name: str) -> list[float]:
        return [lab[name] for one in self.seeds for lab in one["spent"].values()]

    # -- what it shows ---------------------------------------------------------------------------------
    @property
    def example(self) -> dict[str, Any] | None:
        """Two wordings of one conflict that it answers differently, on one line each."""
        found = self.about["example"]
        if found is None:
            return None
        sides = {
            name: {key: " ".join(text.split()) for key, text in found[name].items()}
            for name in BEHAVIORS[:2]
        }
        words = {name: found[name].strip() for name in ("memory_answer", "rule_answer")}
        return sides | words | {"key": found["key"]}

    def rate(self, behaviour: str) -> float:
        """Share of conflict prompts of test keys, mean over the data sets."""
        return self._mean([one["behaviours"][behaviour]["rate"] for one in self.seeds])

    def over(self, *path: str | int) -> str:
        """A share of every data set: `38 % to 41 %`. `path`: where it stands in an entry."""
        return span(self._values(path))

    def numbers_of(self, *path: str | int) -> str:
        """A number of every data set, with two decimals: `0.81 to 0.86`."""
        return span(self._values(path), decimal)

    def counts(self, name: str) -> str:
        """A count of every data set: `162`, or `160 to 170`."""
        return span(self._values((name,)), lambda n: f"{n:,}".replace(",", SPACE))

    def _values(self, path: tuple[str | int, ...]) -> list[float | None]:
        found = []
        for one in self.seeds:
            value: Any = one
            for part in path:
                value = value[part]
            found.append(value)
        return found

    @staticmethod
    def _mean(values: list[float]) -> float:
        return sum(values) / len(values)

    def _by_layer(self, name: str) -> list[float]:
        """A share of every layer, mean over the data sets."""
        layers = [[layer[name] for layer in one["layers"]] for one in self.seeds]
        return [self._mean(list(at)) for at in zip(*layers)]

    @cached_property
    def peak(self) -> dict[str, float]:
        """The layer where most neurons differ, that share, and both nulls: `oriented` in the same layer
        (means over data sets), `oriented_max` and `null_max` in any layer of any data set.
        """
        shares, oriented = self._by_layer("significant"), self._by_layer("oriented_null")
        layers = [layer for one in self.seeds for layer in one["layers"]]
        place = shares.index(max(shares))
        return {
            "layer": place + 1,
            "share": shares[place],
            "oriented": oriented[place],
            "oriented_max": max(layer["oriented_null"] for layer in layers),
            "null_max": max(layer["null"] for layer in layers),
        }

    @property
    def beyond_words(self) -> Share:
        """In how many layers more neurons differ than where the words alone do, means over data sets."""
        pairs = list(zip(self._by_layer("significant"), self._by_layer("oriented_null")))
        return Share(sum(share > words for share, words in pairs), len(pairs))

    @property
    def unseen(self) -> Model | None:
        """The same model asked about relations that were held back; None: it was not, or could not be."""
        found = asked_otherwise.unseen(self.about)
        return Model(self.about | {"seeds": found}) if found else None

    @property
    def not_unseen(self) -> str:
        """Why data sets could not be asked so; "": all could, or were not."""
        return " ".join(asked_otherwise.left_out(self.about))

    @property
    def contexts(self) -> str:
        """What becomes of plain questions beside other texts; "": it was not asked so."""
        return asked_otherwise.contexts(self.seeds)

    @property
    def one_wording(self) -> str:
        """What is left if both prompts of a pair are worded alike; "": it was not asked so."""
        return asked_otherwise.one_wording(self.seeds)

    # -- prediction --------------------------------------------------------------------------------------
    @property
    def forecasts(self) -> list[dict[str, str]]:
        """A row per data set: the probe, the strongest forecast without states, and what it has above."""
        rows = []
        for one in self.seeds:
            found = one["prediction"]
            rows.append(
                {
                    "seed": one["seed"],
                    "layer": found["best_layer"],
                    "auc": decimal(found["best_auc"]),
                    "interval": between(found["best_auc_interval"]),
                    "within": decimal(found["auc_within_key"]),
                    "within_interval": between(found["auc_within_key_interval"]),
                    "n": found["n_test"],
                    "n_keys": found["n_test_keys"],
                    "rival": FORECASTS.get(found["chosen_baseline"], "none"),
                    "rival_auc": decimal(found["chosen_baseline_auc"]),
                    "form": decimal(found["role_features"]["auc"]),
                    "gain": decimal(found["gain"]),
                    "gain_interval": between(found["gain_interval"]),
                }
            )
        return rows

    @property
    def ahead(self) -> Share:
        """In how many data sets the whole interval of the probe's gain lies above 0."""
        lows = [one["prediction"]["gain_interval"][0] for one in self.seeds]
        return Share(sum(low is not None and low > 0 for low in lows), self.n_seeds)

    # -- steering ------------------------------------------------------------------------------------------
    def ways(self, direction: str) -> list[Way]:
        """Every way to turn answers in this direction, in the order of the figure."""
        return [
            Way(
                CONTROL_NAME.get(row.name, row.name),
                row.family,
                row.success,
                span([bar["success"] for bar in row.seeds]),
                row.other,
                row.n,
            )
            for row in figures.bars_of(self.seeds, direction).itertuples(index=False)
        ]

    def way(self, direction: str, name: str) -> Way | None:
        """The one of this name (as results have it); None where no run had it."""
        said = CONTROL_NAME.get(name, name)
        return next((one for one in self.ways(direction) if one.name == said), None)

    def steered(self, direction: str) -> Way:
        found = self.way(direction, STEERED)
        if found is None:
            raise BookError(
                f"data/reference/real/{self.name}.json has no steered answers {direction}"
            )
        return found

    def strongest(self, direction: str, family: str) -> Way | None:
        """Of a family (`shift`, `rival`, ...) that which turns most; None without any."""
        of = [one for one in self.ways(direction) if one.family == family]
        return max(of, key=lambda one: one.success, default=None)

    def told(self, direction: str) -> Way | None:
        """The better of the two instructions in words."""
        names = [f"{INSTRUCTION}_{number}" for number in (1, 2)]
        of = [found for name in names if (found := self.way(direction, name))]
        return max(of, key=lambda one: one.success, default=None)

    def turned(self, direction: str, name: str = "") -> str:
        """What is turned by the way of this name, as it is shown; "": by the strongest control."""
        way = self.way(direction, name) if name else self.strongest(direction, "shift")
        return percent(way.success if way else None)

    def one_layer(self, direction: str) -> Way | None:
        return self.way(direction, ONE_LAYER)

    @property
    def costs(self) -> list[dict[str, Any]]:
        """A row per direction and shift: what it turns and what it loses, means over data sets."""
        table, rows = figures.cost_rows(self.seeds), []
        for (direction, shift), part in table.groupby(["direction", "shift"], sort=False):
            mean = part.mean(numeric_only=True)
            rows.append(
                {
                    "direction": direction,
                    "towards": TOWARDS[direction],
                    "shift": CONTROL_NAME.get(shift, shift),
                    "success": mean.success,
                    "free": mean.free,
                    "keyed": mean.keyed,
                    "page": mean.page,
                    "page_digits": 2 if mean.page < BROKEN else 0,
                    "seeds": len(part),
                }
            )
        return rows

    def goal(self, direction: str) -> dict[str, Any]:
        """The goal of a direction; the best shift within its cost, if any, and whether it is reached."""
        within = [
            row
            for row in self.costs
            if row["direction"] == direction and row["keyed"] >= -GOAL_COST
        ]
        best = max(within, key=lambda row: row["success"], default=None)
        share = GOAL[direction]
        return {
            "share": share,
            "cost": GOAL_COST,
            "best": best,
            "reached": best is not None and best["success"] >= share,
        }

    @property
    def goals(self) -> str:
        """Whether the goals were reached, a sentence per direction."""
        return " ".join(self._goal_in_words(d) for d in DIRECTIONS)

    def _goal_in_words(self, direction: str) -> str:
        goal = self.goal(direction)
        verdict = "reached" if goal["reached"] else "not reached"
        said = "No shift stays within that cost"
        if goal["best"]:
            said = (
                f"Of the shifts within that cost the best is *{goal['best']['shift']}* with"
                f" {percent(goal['best']['success'])}"
            )
            lost = -goal["best"]["free"]
            if lost > GOAL_COST:
                said += f", but questions about made-up entities lose {decimal(lost, 0)} points"
        return (
            f"{_capital(TOWARDS[direction])}, the goal was {percent(goal['share'])} at a cost of at most"
            f" {plural(int(goal['cost']), 'point')} on plain facts. {said}: {verdict}."
        )

    def spared(self, direction: str) -> str:
        """What the chosen neurons' shift does to plain facts: `loses 21 points of plain facts`."""
        rows = (row for row in self.costs if row["direction"] == direction)
        points = next(rows)["keyed"]  # the first is of the chosen neurons
        changed = "loses" if points < 0 else "wins"
        return f"{changed} {decimal(abs(points), 0)} points of plain facts"

    @property
    def answer(self) -> str:
        """What was found: where behaviours differ, whether it can be told, a sentence per direction."""
        peak = self.peak
        read = (
            f"In layer {peak['layer']} {percent(peak['share'])} of the neurons differ between the behaviours,"
            f" and {percent(peak['oriented'])} where the words differ as much and the behaviour stays. The"
            f" probe is above the strongest forecast from the prompt in {self.ahead.of('data set')}."
        )
        return " ".join([read, *(self._in_words(d) for d in DIRECTIONS)])

    def _in_words(self, direction: str) -> str:
        steered = self.steered(direction)
        beside = {
            "the strongest shift that is a control": self.strongest(direction, "shift"),
            "one layer's mean difference": self.one_layer(direction),
            "the better of two instructions": self.told(direction),
        }
        said = ", ".join(f"{what} {percent(way.success)}" for what, way in beside.items() if way)
        return (
            f"{_capital(TOWARDS[direction])}, the chosen neurons turn {percent(steered.success)}"
            f" ({steered.span}; n = {steered.n}){', ' if said else ''}{said}."
        )


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
