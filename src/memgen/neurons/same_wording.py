"""Pairs of two prompts in the same form, of two keys: what differs is not how the question is worded.

Where a rephrasing turns the answer, the two prompts of a flip pair differ in wording, and their
difference of states holds that of the wordings. Here a form (`GivenTask.form`) is held fixed: one
key's prompt is answered from memory, another key's from the text, in the same form. The prompts are
asked for this: the same few wordings of every key (`GivenTask.in_forms`), so no wording goes with one
behaviour more than with the other, and none of them is a prompt of a rephrasing pair.

Such pairs have two keys each. Were any two keys paired, the pairs of a relation would hang together
by keys that they share, and nothing would be left to flip. So the keys themselves are coupled: each
is paired with one other key alone. All pairs of a couple flip their signs together, and are dealt
into one half together; no key, and so no prompt, is in two couples.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from memgen.models.forced import Decisions
from memgen.models.shown import shown
from memgen.neurons.nmd import NeuronMaps
from memgen.neurons.nulls import SignFlips, by_layer
from memgen.neurons.states import Known, hidden_states
from memgen.stats.columns import numbers
from memgen.stats.reported import shown as in_words
from memgen.tasks import GivenTask
from memgen.tasks.dataset import spread
from memgen.terms import BEHAVIORS, GENERALIZATION, MEMORIZATION, Site

CLUSTER = "couple of keys"
N_FORMS = 12
FLIPS = ((MEMORIZATION, GENERALIZATION), (GENERALIZATION, MEMORIZATION))
ALIKE = ((MEMORIZATION, MEMORIZATION), (GENERALIZATION, GENERALIZATION))
#: couples without which no sign can be flipped and no half be made
FEWEST_COUPLES = 2
_LISTS = ("significant_share", "mean_abs_nmd", "nmd_relative", "nmd_split_half", "correlation")
_NULL = "null_significant_share"
_COLUMNS = ["memory", "rule", "couple"]


def ask(
    model,
    tokenizer,
    task: GivenTask,
    answered: pd.DataFrame,
    decisions: Decisions | None = None,
) -> pd.DataFrame | None:
    """The keys of these answered prompts in `N_FORMS` wordings each, none of them a prompt of theirs.

    Columns: prompt, key, form, behavior. None: the task cannot say its prompts in given forms. `decisions`
    takes what is read of them while they are answered.
    """
    rows = task.in_forms(answered.key.unique(), N_FORMS)
    if not rows:
        return None
    known = set(answered.prompt)
    rows = [one for one in {one.prompt: one for one in rows}.values() if one.prompt not in known]
    columns = {
        "prompt": [one.prompt for one in rows],
        "key": [one.key for one in rows],
        "form": [task.form(one) for one in rows],
        "behavior": np.array(BEHAVIORS)[shown(model, tokenizer, task, rows, decisions)[1]],
    }
    return pd.DataFrame(columns)


def in_one_form(
    asked: pd.DataFrame, wanted: tuple[tuple[str, str], ...], seed: int = 0
) -> pd.DataFrame:
    """Pairs of prompts in one form, of couples of keys that share no key.

    asked: `ask`; wanted: the behaviours of a pair, as one key and the other show them, `FLIPS` or
    `ALIKE`. Couples are chosen by how many pairs they have, most first. Columns: `memory`, `rule`
    (rows of `asked`), `couple` (both keys). Pairs that are answered alike have no side: all of one
    couple have the same, drawn by the seed.
    """
    chosen = asked[asked.behavior.isin((MEMORIZATION, GENERALIZATION))]
    cells: dict[str, dict[str, dict[str, list[int]]]] = {}
    for row, form, key, behavior in zip(chosen.index, chosen.form, chosen.key, chosen.behavior):
        shown = cells.setdefault(form, {}).setdefault(key, {MEMORIZATION: [], GENERALIZATION: []})
        shown[behavior].append(row)
    of_couple: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for cell in cells.values():
        for couple in combinations(sorted(cell), 2):
            one, other = (cell[key] for key in couple)
            pairs = of_couple.setdefault(couple, [])
            for first, second in wanted:
                both = zip(one[first], other[second])
                turned = (first, second) == FLIPS[1]
                pairs += ((b, a) for a, b in both) if turned else both
    rng, rows = np.random.default_rng(seed), []
    taken: set[str] = set()
    for couple in sorted(of_couple, key=lambda couple: (-len(of_couple[couple]), couple)):
        pairs = of_couple[couple]
        if not pairs or taken & set(couple):
            continue
        taken |= set(couple)
        turn = wanted == ALIKE and rng.random() < 0.5
        rows += [(*(pair[::-1] if turn else pair), " | ".join(couple)) for pair in pairs]
    return pd.DataFrame(rows, columns=_COLUMNS).astype({"memory": int, "rule": int})


@dataclass(frozen=True)
class SameWording:
    """Pairs in one form of train keys: `flips` differ in behaviour, `alike` do not (a null)."""

    asked: pd.DataFrame
    flips: pd.DataFrame
    alike: pd.DataFrame

    @classmethod
    def of(cls, asked: pd.DataFrame, limit: int, seed: int) -> SameWording:
        """At most `limit` of each kind, of these prompts (`ask`)."""
        flips, alike = (in_one_form(asked, of, seed) for of in (FLIPS, ALIKE))
        flips = spread(flips, limit)
        return cls(asked, flips, spread(alike, min(limit, len(flips))))

    def compared(
        self, model, tokenizer, maps: NeuronMaps, test: SignFlips, known: Known | None = None
    ) -> tuple[dict, dict[str, np.ndarray]]:
        """`numbers_of` these pairs at the site of `maps`, those of the rephrasing pairs; and NMD and
        rho of these, each [L, d], under names of their own: `same_wording.nmd.<site>`. What is `known`
        of the prompts is not read again.
        """
        flips, alike = (
            self._read(model, tokenizer, of, maps.site, known) for of in (self.flips, self.alike)
        )
        own = NeuronMaps.between(maps.site, *flips).arrays() if len(self.flips) else {}
        arrays = {f"same_wording.{name}": values for name, values in own.items()}
        return numbers_of(self, flips, alike[1] - alike[0], maps.nmd, test), arrays

    def _read(
        self, model, tokenizer, pairs: pd.DataFrame, site: Site, known: Known | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """States of both sides, each `[n, L, d]`; every prompt is read once."""
        rows, place = np.unique(pairs[["memory", "rule"]].to_numpy(), return_inverse=True)
        states = hidden_states(model, tokenizer, self.asked.prompt[rows], site, known)
        memory, rule = place.reshape(-1, 2).T
        return states[memory], states[rule]


def numbers_of(
    pairs: SameWording,
    flips: tuple[np.ndarray, np.ndarray],
    alike: np.ndarray,
    reference: np.ndarray,
    test: SignFlips,
) -> dict:
    """How far the pairs differ; lists are by layer, of None where there are too few couples.

    flips: states [n, L, d] of both sides; alike: differences [m, L, d] of the null; reference: NMD
    [L, d] of the rephrasing pairs, with which `correlation` is. They share keys and no prompt.
    """
    couples, of_null = (of.couple.to_numpy() for of in (pairs.flips, pairs.alike))
    n_couples, n_null = (len(np.unique(of)) for of in (couples, of_null))
    lists: dict[str, list] = {name: [None] * len(reference) for name in (*_LISTS, _NULL)}
    if n_couples >= FEWEST_COUPLES:
        table = by_layer(*flips, couples, test, reference)
        lists |= {name: numbers(table[name]) for name in _LISTS}
    if n_null >= FEWEST_COUPLES:
        lists[_NULL] = numbers(test.significant_share(alike, of_null))
    return {
        "n_pairs": len(couples),
        "n_keys": 2 * n_couples,
        "n_clusters": n_couples,
        "cluster": CLUSTER,
        "n_null_pairs": len(of_null),
        "n_null_clusters": n_null,
        "smallest_p": max(1 / (test.n_permutations + 1), 2.0 ** (1 - n_couples)),
        **lists,
    }


def same_wording_in_words(found: dict, rephrased: list[float]) -> str:
    """`numbers_of` these pairs in a line; `rephrased`: the significant share of the others by layer."""
    about = (
        f"in one wording: {found['n_pairs']} pairs of {found['n_keys']} train keys in"
        f" {found['n_clusters']} couples"
    )
    shares = found["significant_share"]
    if None in shares:
        return f"{about}, too few to test"
    best = int(np.argmax(shares))
    return (
        f"{about}, so that no p is below {found['smallest_p']:.1g}; most neurons differ in layer"
        f" {best + 1}: {shares[best]:.0%}, in two wordings {rephrased[best]:.0%}, in one and"
        f" answered alike {in_words(found[_NULL][best], '.0%')}; both NMDs correlated"
        f" {in_words(found['correlation'][best])}"
    )
