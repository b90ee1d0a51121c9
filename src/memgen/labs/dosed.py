"""Lab 15: shifts of one layer at several lengths, chosen on validation keys and judged on test keys."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from memgen.neurons.geometry import LEVEL, Spread, Surroundings, quantiles_among, unit
from memgen.neurons.states import hidden_states
from memgen.rivals.compared import Directions, random_units
from memgen.rivals.interventions import Shift, untouched
from memgen.rivals.material import STATES, Material
from memgen.rivals.vectors import at_layer
from memgen.stats.intervals import weighted_mean
from memgen.stats.reported import by_key
from memgen.steering.steering import Steering, summary
from memgen.store.artifacts import Result
from memgen.terms import DIRECTIONS, RULE_CODE, SIGN, TARGET

#: those whose layer is chosen; the others stand at the layer of the held vector
CHOSEN = ("difference", "probe", "held")
Rows = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Lengths:
    """Doses as lengths: multiples of a layer's mean length of a state."""

    doses: tuple[float, ...]
    state_norm: np.ndarray

    def shifts(self, vector: np.ndarray, layer: int, direction: str) -> np.ndarray:
        """`[doses, L, d]`, signed for the direction."""
        step = SIGN[direction] * self.state_norm[layer] * unit(vector)
        return np.stack([at_layer(x * step, layer, len(self.state_norm)) for x in self.doses])


@dataclass(frozen=True)
class Choice:
    """A method's layer and dose, by place; `by_layer` `[K]`: success of each layer's best dose."""

    place: int
    dose: int
    by_layer: np.ndarray

    @property
    def success(self) -> float:
        return float(self.by_layer[self.place])


def chosen_on(
    steering: Steering, found: Directions, lengths: Lengths, turned: Rows
) -> dict[str, dict[str, Choice]]:
    """Validation keys: by direction and method the layer and dose that turn most; ties: the gentler dose."""
    choices: dict[str, dict[str, Choice]] = {}
    for direction in DIRECTIONS:
        rows, vectors = turned[direction], found.named(direction)
        stack = np.concatenate(
            [
                lengths.shifts(vectors[name][place], layer, direction)
                for name in CHOSEN
                for place, layer in enumerate(found.layers)
            ]
        )
        codes = steering.outcomes(stack, rows)
        won = (codes == TARGET[direction]).mean(axis=1)
        won = won.reshape(len(CHOSEN), len(found.layers), len(lengths.doses))
        choices[direction] = {name: best(rates) for name, rates in zip(CHOSEN, won)}
    return choices


def best(rates: np.ndarray) -> Choice:
    """Of rates `[K, doses]` the largest: of equal ones the gentler dose, then the earlier layer."""
    dose, place = np.unravel_index(np.argmax(rates.T), rates.T.shape)
    return Choice(int(place), int(dose), rates.max(axis=1))


# -- what test keys say ----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Used:
    """A method as it is used in a direction: its vectors of one layer, and which dose was chosen."""

    name: str
    layer: int
    dose: int
    vectors: np.ndarray

    def at_dose(self, lengths: Lengths, direction: str) -> np.ndarray:
        """Signed shifts `[n, L, d]` of its vectors at the chosen dose."""
        every = [lengths.shifts(one, self.layer, direction)[self.dose] for one in self.vectors]
        return np.stack(every)


def used(
    found: Directions, choices: dict[str, dict[str, Choice]], n_random: int
) -> dict[str, dict[str, Used]]:
    """By direction and method. What was not chosen by itself stands at the held vector's layer and dose."""
    every: dict[str, dict[str, Used]] = {}
    for direction, chosen in choices.items():
        vectors = found.named(direction)
        mine = {
            name: Used(name, found.layers[one.place], one.dose, vectors[name][[one.place]])
            for name, one in chosen.items()
        }
        layer, dose = mine["held"].layer, mine["held"].dose
        free = found.fits.by_gradient(direction, layer, held=False)
        rng = found.fits.material.rng(16, DIRECTIONS.index(direction))
        mine["optimised"] = Used("optimised", layer, dose, free[None])
        mine["random"] = Used("random", layer, dose, random_units(n_random, len(free), rng))
        every[direction] = mine
    return every


OUT = ("beyond", "quantile", "ratio", "beyond_neighbours")


class Outlying:
    """How far out states of one layer lie, among those of test keys that nothing was done to.

    `beyond`: the share further out than `LEVEL` of the untouched ones; `quantile`: the mean share of those
    that a state lies further out than; `ratio`: the median distance over that of the limit; by a Gaussian
    fitted on train keys. `beyond_neighbours`: as `beyond`, by the distance to the nearest train states.
    """

    def __init__(self, surroundings: Surroundings, own: np.ndarray):
        self.surroundings = surroundings
        self.far, self.near = surroundings.distances(own), surroundings.to_nearest(own)

    def of(self, states: np.ndarray) -> dict[str, float]:
        far, near = self.surroundings.distances(states), self.surroundings.to_nearest(states)
        limits = [float(np.quantile(known, LEVEL)) for known in (self.far, self.near)]
        return {
            "beyond": float((far > limits[0]).mean()),
            "quantile": float(quantiles_among(far, self.far).mean()),
            "ratio": float(np.median(far) / limits[0]) if limits[0] > 0 else 0.0,
            "beyond_neighbours": float((near > limits[1]).mean()),
        }


@dataclass(frozen=True)
class Bench:
    """Test keys: `turned` by direction the prompts it starts from; `free`: those without a key."""

    material: Material
    lengths: Lengths
    turned: Rows
    free: pd.DataFrame

    def judged(self, every: dict[str, dict[str, Used]]) -> Result:
        """What a shift turns, what it costs, and how far out the states lie that it leads to.

        Table `doses`: a row per direction, method and dose. `methods`: by direction and method the numbers of
        its chosen dose.
        """
        frames = [
            self._doses(direction, one)
            for direction, methods in every.items()
            for one in methods.values()
        ]
        table = pd.concat(frames, ignore_index=True)
        numbers: dict[str, dict[str, dict]] = {direction: {} for direction in every}
        for row in table[table.chosen].to_dict("records"):
            direction, name = row["direction"], row["method"]
            about = {x: row[x] for x in ("layer", "dose", "success", "other", "n", "n_keys", *OUT)}
            ends = [row["key_low"], row["key_high"]]
            numbers[direction][name] = about | {
                "key_interval": None if np.isnan(ends).any() else ends,
                "free_lost": self._lost(direction, every[direction][name]),
            }
        return Result({"methods": numbers}, {"doses": table.drop(columns="chosen")})

    def parts(self, direction: str, one: Used, difference: np.ndarray, top: int) -> dict[str, dict]:
        """Which part of a vector turns answers at its chosen dose: `success` of each, `share` of its length.

        `inside`: in the first `top` principal components of the states, `outside` all else; `along`: the
        mean difference of its layer `[d]`, `across` all else. No part is made longer than it was. A fit by
        gradient also moves a vector where nothing depends on it, so that most of it may be idle.
        """
        layer, n_layer = one.layer, len(self.lengths.state_norm)
        whole = one.at_dose(self.lengths, direction)[0, layer]
        axes = Spread.of(self.material.states[:, layer]).axes[:, :top]
        line = unit(difference)
        inside, along = axes @ (axes.T @ whole), line * (line @ whole)
        found = {"inside": inside, "outside": whole - inside}
        found |= {"along": along, "across": whole - along}
        stack = np.stack([at_layer(part, layer, n_layer) for part in found.values()])
        codes = self.material.steering.outcomes(stack, self.turned[direction])
        won, size = (codes == TARGET[direction]).mean(axis=1), float(whole @ whole)
        return {
            name: {"success": float(rate), "share": float(part @ part) / size if size else 0.0}
            for (name, part), rate in zip(found.items(), won)
        }

    def _doses(self, direction: str, one: Used) -> pd.DataFrame:
        """All doses of a method: its vectors count together."""
        steering, doses = self.material.steering, self.lengths.doses
        stack = np.concatenate(
            [self.lengths.shifts(vector, one.layer, direction) for vector in one.vectors]
        )
        asked = self.turned[direction]
        codes = steering.outcomes(stack, asked).reshape(len(one.vectors), len(doses), -1)
        shifts = stack[:, one.layer].reshape(len(one.vectors), len(doses), -1)
        here, place = self._states[direction][:, one.layer], self._place(one.layer)
        rows = []
        for i, dose in enumerate(doses):
            won = (codes[:, i] == TARGET[direction]).mean(axis=0)
            over = by_key(weighted_mean, asked.key.to_numpy(), won, seed=self.material.seed)
            low, high = over["interval"] or (np.nan, np.nan)
            rows.append(
                {
                    "direction": direction,
                    "method": one.name,
                    "layer": one.layer + 1,
                    "dose": dose,
                    "length": dose * float(self.lengths.state_norm[one.layer]),
                    "chosen": i == one.dose,
                    "success": over["value"],
                    "key_low": low,
                    "key_high": high,
                    "other": summary(codes[:, i], direction)["other"],
                    "n": over["n"],
                    "n_keys": over["n_keys"],
                    **place.of(np.concatenate([here + shift for shift in shifts[:, i]])),
                }
            )
        return pd.DataFrame(rows)

    def _lost(self, direction: str, one: Used) -> float:
        """Share of the free prompts that are answered right before, less that under the chosen dose."""
        steering = self.material.steering
        after = [
            Shift(shift, steering.positions, STATES).read(steering, self.free).right(RULE_CODE)
            for shift in one.at_dose(self.lengths, direction)
        ]
        return self._before - float(np.mean(after))

    @cached_property
    def _before(self) -> float:
        steering = self.material.steering
        return untouched(steering).read(steering, self.free).right(RULE_CODE)

    @cached_property
    def _states(self) -> dict[str, np.ndarray]:
        """Of the prompts of each direction, untouched, `[n, L, d]`."""
        model, tokenizer = self.material.steering.model, self.material.steering.tokenizer
        return {
            d: hidden_states(model, tokenizer, rows.prompt, STATES)
            for d, rows in self.turned.items()
        }

    def _place(self, layer: int) -> Outlying:
        if layer not in self._places:
            own = np.concatenate([states[:, layer] for states in self._states.values()])
            surroundings = Surroundings.of(self.material.states[:, layer])
            self._places[layer] = Outlying(surroundings, own)
        return self._places[layer]

    @cached_property
    def _places(self) -> dict[int, Outlying]:
        return {}
