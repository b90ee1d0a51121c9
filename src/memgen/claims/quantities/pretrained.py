"""What the claims on pretrained models are about, from their committed numbers.

A case is a model, and its seeds are its data sets: each draws other facts, wordings and splits, and all
ask the same weights. So an interval over them says how much a number depends on the facts that were
drawn. It says nothing about other models; that is why a verdict over all needs two families.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from memgen.claims.quantities.rows import by_seed
from memgen.stats.over_seeds import NOTHING, Effect
from memgen.terms import (
    GIVEN_TRACK,
    INSTRUCTION,
    ONE_LAYER,
    ONE_LAYER_KEPT,
    OPTIMISED,
    OPTIMISED_KEPT,
)

#: rivals that are bound to the limit, and the same without it
LIMITED = {ONE_LAYER_KEPT: ONE_LAYER, OPTIMISED_KEPT: OPTIMISED}

#: shares of the conflict prompts from which on a model shows a behaviour, up to which *other* is rare
SHOWN, RARE = 0.25, 0.20
#: a data set as `data/reference/real/<model>.json` has it
DataSet = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """The models that were asked, by title: `data/reference/real/<model>.json` as it was read."""

    models: dict[str, dict[str, Any]]
    track: str = GIVEN_TRACK

    @property
    def tasks(self) -> list[str]:
        """The cases: the models."""
        return list(self.models)

    def of(self, model: str) -> list[DataSet]:
        return self.models[model]["seeds"]

    def family(self, model: str) -> str:
        """The class of its architecture; a model without one is a family of its own."""
        return self.models[model]["model"].get("architecture", model)


def _over(data_sets: list[DataSet], value: Callable[[DataSet], float | None], counts) -> Effect:
    """Mean of a number per data set, its interval; `counts(data_set)`: prompts and keys behind it."""
    n, n_keys = zip(*(counts(one) for one in data_sets))
    return by_seed([value(one) for one in data_sets], list(n), list(n_keys))


def _asked(one: DataSet) -> tuple[int, int]:
    return one["behaviours"]["n"], one["behaviours"]["n_keys"]


def slack(asked: Asked, model: str) -> Effect:
    """The smaller of the distances of memory and rule from `SHOWN`."""

    def value(one: DataSet) -> float:
        shares = [one["behaviours"][name]["rate"] for name in ("memorization", "generalization")]
        return min(shares) - SHOWN

    return _over(asked.of(model), value, _asked)


def other(asked: Asked, model: str) -> Effect:
    """Share of answers that are neither memory nor rule."""
    return _over(asked.of(model), lambda one: one["behaviours"]["other"]["rate"], _asked)


def beyond_nulls(asked: Asked, model: str) -> Effect:
    """Largest share of significant neurons of any layer less the largest of either null of any layer.

    Each is a maximum over all layers, so that none of them is chosen where it is kind to the claim.
    """

    def value(one: DataSet) -> float:
        layers = one["layers"]
        nulls = [layer[name] or 0.0 for layer in layers for name in ("null", "oriented_null")]
        return max(layer["significant"] for layer in layers) - max(nulls)

    def counts(one: DataSet) -> tuple[int, int]:
        return one["differences"]["n_pairs"], one["differences"]["n_keys"]

    return _over(asked.of(model), value, counts)


def gain(asked: Asked, model: str) -> Effect:
    """AUC of the probe less that of the strongest forecast that sees no hidden state."""

    def counts(one: DataSet) -> tuple[int, int]:
        return one["prediction"]["n_test"], one["prediction"]["n_test_keys"]

    return _over(asked.of(model), lambda one: one["prediction"]["gain"], counts)


# -- steering: success is that within the limit, and 0 where no strength stays within it --------------------
def within_limit(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The bars of one direction. What is bound to the limit on lost prompts turns nothing where no strength
    stays within it, as everywhere in the book; a rival that was not run stays without a number.
    """
    asked = {bar["name"]: bar["n"] for bar in found["bars"] if bar["success"] is not None}
    nothing = {"success": 0.0, "other": 0.0, "low": None, "high": None}
    bars = []
    for bar in found["bars"]:
        name = bar["name"]
        if name == "steered" and bar["success"] is not None and not found["kept_exists"]:
            bar = bar | nothing
        elif bar["success"] is None and LIMITED.get(name) in asked:
            bar = bar | nothing | {"n": asked[LIMITED[name]]}
        bars.append(bar)
    return bars


def _bars(one: DataSet, direction: str) -> dict[str, dict[str, Any]]:
    """The bars of a direction that were run, by name."""
    bars = within_limit(one["steering"][direction])
    return {bar["name"]: bar for bar in bars if bar["success"] is not None}


def _controls(one: DataSet, direction: str) -> float | None:
    """The best control of the shift's size; within the limit, as the shift itself."""
    of = [bar["success"] for bar in _bars(one, direction).values() if bar["family"] == "shift"]
    return max(of) * one["steering"][direction]["kept_exists"] if of else None


def _named(*prefixes: str) -> Callable[[DataSet, str], float | None]:
    """The best of the bars whose names begin so; they need no strength, so no limit either."""

    def best(one: DataSet, direction: str) -> float | None:
        of = [
            bar["success"]
            for name, bar in _bars(one, direction).items()
            if name.startswith(prefixes)
        ]
        return max(of, default=None)

    return best


#: what the chosen neurons are held against, by name
RIVALS: dict[str, Callable[[DataSet, str], float | None]] = {
    "control": _controls,
    "rephrasing": _named("rephrasing_"),
    "forbid": _named("forbid_source"),
    "instruction": _named(f"{INSTRUCTION}_"),
}


def _gap(asked: Asked, model: str, direction: str, ends) -> Effect:
    """`one(data_set, direction) - other(...)`, over the data sets that have both. `ends`: (one, other)."""
    held = [
        (one, *(end(one, direction) for end in ends))
        for one in asked.of(model)
        if all(end(one, direction) is not None for end in ends)
    ]
    if not held:
        return NOTHING
    values = {one["seed"]: first - second for one, first, second in held}

    def counts(one: DataSet) -> tuple[int, int]:
        return _bars(one, direction)["steered"]["n"], one["steering"][direction]["n_keys"]

    return _over([one for one, *_ in held], lambda one: values[one["seed"]], counts)


def beyond_rival(asked: Asked, model: str, direction: str, rival: str) -> Effect:
    """Success of the chosen neurons less that of a rival of `RIVALS`."""
    return _gap(asked, model, direction, (_exactly("steered"), RIVALS[rival]))


def one_layer_beyond(asked: Asked, model: str, direction: str) -> Effect:
    """Success of one layer's mean difference less that of the chosen neurons, neither with a limit."""
    return _gap(asked, model, direction, (_exactly("one_layer"), _exactly("steered_max")))


def one_layer_kept_beyond(asked: Asked, model: str, direction: str) -> Effect:
    """The same, both within the limit. A data set in which no layer stays within it counts with 0."""
    bars = [bar for one in asked.of(model) for bar in one["steering"][direction]["bars"]]
    if not any(bar["name"] == "one_layer_kept" for bar in bars):
        return NOTHING  # it was not tried; tried in vain it has a bar without success
    return _gap(asked, model, direction, (_exactly("one_layer_kept"), _exactly("steered")))


def _exactly(name: str) -> Callable[[DataSet, str], float | None]:
    return lambda one, direction: _bars(one, direction).get(name, {}).get("success")


def facts_lost(asked: Asked, model: str, direction: str) -> Effect:
    """Accuracy on plain facts without the chosen neurons' shift less that with it."""

    def shift(one: DataSet) -> dict[str, Any]:
        return one["steering"][direction]["shifts"].get("steered", {})

    held = [one for one in asked.of(model) if "keyed_accuracy_after" in shift(one)]
    if not held:
        return NOTHING
    return _over(
        held,
        lambda one: shift(one)["keyed_accuracy_before"] - shift(one)["keyed_accuracy_after"],
        lambda one: (shift(one)["n_keyed"], one["n_test_keys"]),
    )
