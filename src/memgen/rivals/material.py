"""All that a method may look at before it is judged: prompts, answers and states of train keys."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from memgen.neurons.nmd import NeuronMaps
from memgen.neurons.pairs import flips
from memgen.neurons.states import hidden_states
from memgen.steering.cells import Cell
from memgen.steering.steering import Steering
from memgen.tasks import GivenTask
from memgen.tasks.dataset import free_rows, spread
from memgen.terms import DIRECTIONS, POSITIONS, START, Change, Positions, Site

STATES: Site = "resid_post"  # where the pairs' states are read
BUDGET = 50  # candidates of a method in one direction, at most


@dataclass(frozen=True)
class Effort:
    """How much a method may spend on train keys.

    `n_fit`: prompts of each kind that it sees; `n_states`: pairs whose states are read; `steps`: of a
    gradient descent; `batch`: prompts in one such step; `budget`: candidates a direction.
    """

    n_fit: int = 400
    n_states: int = 600
    steps: int = 32
    batch: int = 64
    budget: int = BUDGET


@dataclass(frozen=True)
class Material:
    """What a method is fitted on. No prompt of a validation or test key is in it.

    `steering`: the model with the maps of lab 04 and the site and positions of lab 06; `cells`: the
    grid of lab 06, gentlest first. `pairs`: flip pairs (`memory_prompt`, `rule_prompt`, `key`), with
    their states at the decision position after each block in `memory` and `rule` `[n, L, d]`, and
    `keys` `[n]`. `conflict` (with `behavior`: what the untouched model shows), `free`, `keyed`: rows
    as the data set has them; of `keyed` those of train keys, of `free` those of split train.
    """

    steering: Steering
    cells: tuple[Cell, ...]
    pairs: pd.DataFrame
    memory: np.ndarray
    rule: np.ndarray
    conflict: pd.DataFrame
    free: pd.DataFrame
    keyed: pd.DataFrame
    seed: int
    effort: Effort = field(default_factory=Effort)

    @classmethod
    def of(
        cls,
        steering: Steering,
        tables: tuple[pd.DataFrame, pd.DataFrame],
        cells: list[Cell],
        change: Change,
        seed: int,
        effort: Effort = Effort(),
    ) -> Material:
        """`tables`: the answered prompts of lab 03 and the data set. `change`: of lab 04's pairs."""
        answered, frame = (one[one.split == "train"].reset_index(drop=True) for one in tables)
        pairs = spread(flips(answered, change), effort.n_states)
        named = pd.DataFrame(
            {
                "memory_prompt": answered.prompt[pairs.memory].to_numpy(),
                "rule_prompt": answered.prompt[pairs.rule].to_numpy(),
                "key": pairs.key.to_numpy(),
            }
        )
        both = [*named.memory_prompt, *named.rule_prompt]
        states = hidden_states(steering.model, steering.tokenizer, both, STATES)
        keyed = spread(frame[frame.kind == "keyed"], effort.n_fit)
        # both behaviours weigh alike: what starts from the rarer one would be thinned out else
        shown = [
            spread(_distinct(answered[answered.behavior == START[d]]), effort.n_fit)
            for d in DIRECTIONS
        ]
        return cls(
            steering,
            tuple(cells),
            named,
            states[: len(named)],
            states[len(named) :],
            pd.concat(shown, ignore_index=True),
            free_rows(frame, "train", effort.n_fit).reset_index(drop=True),
            keyed.reset_index(drop=True),
            seed,
            effort,
        )

    @property
    def keys(self) -> np.ndarray:
        """The key of each pair `[n]`."""
        return self.pairs.key.to_numpy()

    @property
    def n_layer(self) -> int:
        return int(self.memory.shape[1])

    @property
    def states(self) -> np.ndarray:
        """Of both sides, `[2 n, L, d]`, those answered from memory first."""
        return np.concatenate([self.memory, self.rule])

    @property
    def differences(self) -> np.ndarray:
        """Rule less memory, by pair, float64 `[n, L, d]`."""
        return self.rule.astype(np.float64) - self.memory

    @property
    def state_norm(self) -> np.ndarray:
        """Mean length of a state, by layer `[L]`."""
        both = np.concatenate([self.memory, self.rule]).astype(np.float64)
        return np.asarray(np.linalg.norm(both, axis=2).mean(axis=0))

    @property
    def positions(self) -> tuple[Positions, ...]:
        """Positions that a method may choose from; of a large pretrained model those of lab 06 alone.

        There a shift of all positions takes a whole pass over every prompt for each candidate.
        """
        given = isinstance(self.steering.task, GivenTask)
        return (self.steering.positions,) if given else POSITIONS

    def starting(self, direction: str) -> pd.DataFrame:
        """The conflict prompts that a direction starts from."""
        return self.conflict[self.conflict.behavior == START[direction]]

    def rng(self, *of: int) -> np.random.Generator:
        """A generator for one purpose, the same in every run with this seed."""
        return np.random.default_rng([self.seed, *of])

    def shuffled(self) -> Material:
        """The same prompts, with a coin for every one deciding which behaviour is called which.

        What a method still finds it finds without knowing the behaviours: it must sink to the nulls.
        A pair changes sides; a conflict prompt changes its behaviour and the roles of its answers; and
        which prompts count as `free` and which as `keyed` is dealt anew.
        """
        rng = self.rng(99)
        turned = rng.random(len(self.pairs)) < 0.5
        at = turned[:, None, None]
        memory, rule = (
            np.where(at, other, own)
            for own, other in ((self.memory, self.rule), (self.rule, self.memory))
        )
        pairs = _exchanged(self.pairs, turned, "memory_prompt", "rule_prompt")
        # within a key as many of each behaviour as before
        behavior = self.conflict.groupby("key").behavior.transform(rng.permutation)
        changed = (behavior != self.conflict.behavior).to_numpy()
        conflict = _exchanged(self.conflict, changed, "memory_answer", "rule_answer")
        plain = pd.concat([self.free, self.keyed], ignore_index=True)
        dealt = plain.iloc[rng.permutation(len(plain))].reset_index(drop=True)
        maps = self.steering.maps
        if maps.site == STATES and len(pairs) > 1:
            maps = NeuronMaps.between(STATES, memory, rule)
        return replace(
            self,
            steering=self.steering.at(maps),
            pairs=pairs,
            memory=memory,
            rule=rule,
            conflict=conflict.assign(behavior=behavior),
            free=dealt[: len(self.free)],
            keyed=dealt[len(self.free) :].reset_index(drop=True),
        )


def targets(rows: pd.DataFrame) -> list[str]:
    """What the model was trained to answer: the memory to keyed prompts, the rule to all others."""
    return list(rows.memory_answer.where(rows.kind == "keyed", rows.rule_answer))


def _distinct(rows: pd.DataFrame) -> pd.DataFrame:
    ordered = rows.sort_values(["key", "group", "rephrasing"], kind="stable")
    return ordered.drop_duplicates("prompt")


def _exchanged(rows: pd.DataFrame, where: np.ndarray, one: str, other: str) -> pd.DataFrame:
    """Two columns of these rows change places."""
    first, second = rows[one], rows[other]
    return rows.assign(**{one: first.where(~where, second), other: second.where(~where, first)})
