"""The race's borders: who is out when, at which level, in which order, and on how many rows at once."""

from __future__ import annotations

from dataclasses import replace
from math import comb

import pytest
import torch

from memgen.steering import race as module
from memgen.steering.engine import Decoding
from memgen.steering.prompts import Prompts
from memgen.steering.race import Rules, _Standings, contest, race, race_rows
from steered import random_model

N = 20


def standings(wins: list[list[int]], seen: list[int], level: float) -> _Standings:
    """Each cell's wins, and on how many of the first prompts it was run."""
    found = _Standings(lambda cells, prompts: None, list(range(len(wins))), N, level)
    for cell, (own, count) in enumerate(zip(wins, seen)):
        found.won[cell, own], found.seen[cell, :count] = True, True
    return found


def probabilities(champion: list[int], cell: list[int], seen: int) -> tuple[float, float]:
    """The two tests as sums: as many discordant prompts to the champion, so few wins among `seen`."""
    ahead, behind = (
        len([i for i in set(champion) - set(cell) if i < seen]),
        len(set(cell) - set(champion)),
    )
    discordant, total = ahead + behind, len(champion)
    paired = sum(comb(discordant, k) for k in range(ahead, discordant + 1)) / 2**discordant
    few = sum(comb(total, k) * comb(N - total, seen - k) for k in range(len(cell) + 1))
    return paired, few / comb(N, seen)


@pytest.mark.parametrize(
    "champion, cell, seen",
    [
        (list(range(1, 10)), [0, 1, 2], 10),  # the paired test has the smaller probability
        (list(range(2, 14)), [0, 2, 3], 10),  # that of few successes has
        ([*range(4), *range(10, 16)], [1], 10),
    ],
)
def test_a_cell_is_out_when_either_test_falls_below_the_level_and_not_before(champion, cell, seen):
    smaller = min(probabilities(champion, cell, seen))
    for level, stays in ((0.99 * smaller, True), (1.01 * smaller, False)):
        now = standings([champion, cell], [N, seen], level)
        assert bool(now.can_win(1, 0, tested=True)) is stays
    assert standings([champion, cell], [N, seen], 1.0).can_win(1, 0, tested=False)


def test_untested_a_cell_is_out_only_when_it_cannot_catch_up():
    champion = list(range(12))
    for order, stays in (((0, 1), False), ((1, 0), True)):  # a tie goes to the preferred one
        now = standings([champion, [0, 1]], [N, 10], 0.0)
        now.preference = {cell: -place for place, cell in enumerate(order)}
        assert now.can_win(1, 0, tested=False) is stays
    assert standings([champion, [0, 1, 2]], [N, 10], 0.0).can_win(1, 0, tested=False)


@pytest.mark.parametrize("rows, looks", [(512, 4), (43, 5), (5, 41), (3, 41)])
def test_the_risk_is_shared_by_two_tests_of_every_cell_at_every_look(rows, looks, monkeypatch):
    """81 prompts, 41 of them in the tested half; 4 cells, so blocks of 11 (an eighth), 10, 1 and 1."""
    levels = []

    class Seen(_Standings):
        def __init__(self, *args, level):
            levels.append(level)
            super().__init__(*args, level=level)

    monkeypatch.setattr(module, "_Standings", Seen)
    race_rows(lambda cells, prompts: torch.zeros(len(cells), len(prompts)).bool(), 4, 81,
              Rules(risk=0.1), rows)  # fmt: skip
    assert levels == [pytest.approx(0.1 / (2 * 4 * looks), rel=1e-12)]


def runs(won: torch.Tensor, rules: Rules = Rules(risk=0), **sizes) -> list:
    """`(cells, prompts)` of each call in a race, in order."""
    calls = []

    def succeeds(cells, prompts):
        calls.append((list(cells), prompts.tolist()))
        return won[cells][:, prompts]

    race_rows(succeeds, *won.shape, rules, **sizes)
    return calls


def test_a_block_is_at_most_an_eighth_of_the_prompts_and_a_batch_of_rows():
    won = torch.zeros(3, 81).bool()
    assert len(runs(won)[0][1]) == 11  # of 81, rounded up
    assert len(runs(won, rows_per_batch=26)[0][1]) == 8
    assert len(runs(won, rows_per_batch=2)[0][1]) == 1


def test_the_order_of_prompts_is_drawn_from_the_seed_alone():
    won = torch.rand(5, 40, generator=torch.Generator().manual_seed(0)) < 0.5
    first = runs(won, Rules(risk=0, seed=1))
    torch.manual_seed(123)
    assert runs(won, Rules(risk=0, seed=1)) == first != runs(won, Rules(risk=0, seed=2))


def test_the_second_half_begins_with_the_champions_failures():
    queue = torch.randperm(16, generator=torch.Generator().manual_seed(0)).tolist()
    won = torch.zeros(2, 16).bool()
    won[:, [queue[i] for i in (0, 3, 8, 12)]] = True  # both win at the same, so the first leads
    seen = [i for cells, prompts in runs(won) if cells != [0] for i in prompts]
    failures = [queue[i] for i in (9, 10, 11, 13, 14, 15)]
    assert seen[: 8 + len(failures)] == queue[:8] + failures


def test_no_test_is_made_in_the_second_half(monkeypatch):
    """Its order is not random any more, so the tests' probabilities would not hold."""
    asked = []
    real = _Standings.can_win

    def can_win(self, cell, champion, tested):
        asked.append((int(self.seen[cell].sum()), tested))
        return real(self, cell, champion, tested)

    monkeypatch.setattr(_Standings, "can_win", can_win)
    won = torch.zeros(3, 32).bool()
    won[:, ::2] = True
    runs(won, Rules(risk=0.05))
    assert {tested for seen, tested in asked if seen <= 16} == {True}
    assert {tested for seen, tested in asked if seen > 16} == {False}
    asked.clear()
    runs(won, Rules(risk=0))  # without risk there is none at all
    assert {tested for _, tested in asked} == {False}


def test_only_a_cell_that_is_ahead_is_run_on_all_prompts():
    won = torch.zeros(2, 16).bool()
    won[0, ::2] = True  # 8 wins; with 8 prompts lost the other could only tie
    found = race_rows(lambda cells, prompts: won[cells][:, prompts], 2, 16, Rules(risk=0))
    assert (found.best, found.successes, found.evaluated) == (0, [8, 0], [16, 8])


@pytest.fixture
def small():
    """`(prompts, shifts, model)`: 9 prompts whose answers begin with different tokens."""
    tokenizer, model = random_model()
    g = torch.Generator().manual_seed(0)
    ids = torch.randint(2, len(tokenizer), (9, 4), generator=g)
    candidates = torch.tensor([[2, tokenizer.eos_token_id], [3, tokenizer.eos_token_id]])
    prompts = Prompts(ids, torch.ones_like(ids), candidates.repeat(9, 1, 1))
    return model, prompts, torch.randn(4, 2, 16, generator=g)


@pytest.mark.parametrize("target_code", [0, 1])
def test_rows_of_a_race_end_once_they_miss_the_one_answer_that_counts(
    small, target_code, monkeypatch
):
    sweeps = []
    real = module.matched_candidates
    monkeypatch.setattr(
        module, "matched_candidates", lambda sweep: (sweeps.append(sweep), real(sweep))[1]
    )
    succeeds = contest(*small, target_code, Decoding(early_end=False))
    found = succeeds([1, 3], torch.tensor([0, 4, 5]))
    assert found.shape == (2, 3) and found.dtype == torch.bool
    assert sweeps[0].looked_for == (target_code == 0, target_code == 1)
    assert sweeps[0].decoding.early_end is True


def test_no_call_of_a_race_is_larger_than_the_batch_that_was_asked_for(small, monkeypatch):
    sizes = []
    real = module.matched_candidates

    def matched(sweep):
        sizes.append((len(sweep.deltas), len(sweep.deltas) * len(sweep.prompts)))
        return real(sweep)

    monkeypatch.setattr(module, "matched_candidates", matched)
    decoding = Decoding(rows_per_batch=4)
    race(*small, 1, decoding)
    assert sizes[0] == (4, 4)
    sizes.clear()
    race(*small, 1, replace(decoding, rows_per_batch=512))
    assert sizes[0] == (4, 8)  # two prompts: an eighth of 9, rounded up
