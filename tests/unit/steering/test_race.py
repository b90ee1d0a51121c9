"""The race against full grids: planted ones, whose best cell is known, and those of models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from memgen.steering import passes
from memgen.steering.engine import Decoding
from memgen.steering.outlook import kinship
from memgen.steering.prompts import Prompts
from memgen.steering.race import Limit, Rules, Table, contest, race, race_rows, settle
from steered import random_model

N_SIZES, N_TURNS, P = 8, 2, 60
N_GRIDS = 30


def shifts() -> np.ndarray:
    """A ladder of sizes in two directions."""
    sizes, turns = 1.5 ** np.arange(N_SIZES), np.linspace(0, 0.9, N_TURNS)
    return np.array([[[s * np.cos(t), s * np.sin(t)]] for t in turns for s in sizes])


KIN = kinship(shifts())
APART = kinship(np.eye(N_SIZES * N_TURNS)[:, None])  # as many directions, none like another


def gaussian(rng: np.random.Generator) -> np.ndarray:
    """Leads `[C, P]` as an outlook takes them to be."""
    root = np.linalg.cholesky(KIN)
    mean = root @ rng.normal(size=len(KIN))
    return np.sinh(mean[:, None] + 1.5 * root @ rng.normal(size=(len(KIN), P)))


def peaked(rng: np.random.Generator) -> np.ndarray:
    """Every prompt turns in a range of sizes of its own, if at all, and is lost beyond it."""
    size = np.tile(np.arange(N_SIZES), N_TURNS)[:, None]
    middle, width = rng.normal(4, 2, P), rng.gamma(2, 0.7, P)
    own = rng.normal(0, 0.7, (N_TURNS, P)).repeat(N_SIZES, axis=0)
    return 2 * (width - np.abs(size - middle + own)) + rng.normal(0, 0.3, (len(KIN), P))


def unrelated(rng: np.random.Generator) -> np.ndarray:
    """Cells that have no more in common than how easily a prompt is turned."""
    ease = rng.normal(size=P)
    return rng.normal(0, 0.7, len(KIN))[:, None] + ease + rng.normal(size=(len(KIN), P))


def best_of(leads: np.ndarray, order=None) -> int:
    """What the full grid chooses, of equal cells the first."""
    order = list(range(len(leads)) if order is None else order)
    return max(order, key=lambda cell: ((leads[cell] > 0).sum(), -order.index(cell)))


def raced(leads: np.ndarray, rules: Rules = Rules(), kin: np.ndarray = KIN):
    asked = np.zeros(leads.shape, dtype=int)

    def look(cells, prompts):
        np.add.at(asked, (cells, prompts), 1)
        return leads[cells, prompts]

    result = race_rows(look, kin, leads.shape[1], rules)
    assert asked.max() <= 1 and asked.sum() == result.rows_run  # no row is run twice
    return result


@pytest.mark.parametrize(
    ("plant", "kin"),
    [(gaussian, KIN), (peaked, KIN), (unrelated, APART)],
    ids=["gaussian", "peaked", "unrelated"],
)
def test_best_cells_are_lost_no_more_often_than_is_said(plant, kin):
    """Over many planted grids, near ties among them. The bound is the mean of those that were printed."""
    lost, said, rows = [], [], []
    for seed in range(N_GRIDS):
        leads = plant(np.random.default_rng(seed))
        found = raced(leads, Rules(seed=seed), kin)
        lost.append(found.best != best_of(leads))
        said.append(found.risk)
        rows.append(found.rows_run / leads.size)
        assert found.risk <= 0.05
    bound = np.sum(said)
    assert np.sum(lost) <= bound + 2 * np.sqrt(bound)
    assert np.mean(rows) < 0.8


@pytest.mark.parametrize("plant", [gaussian, peaked])
def test_a_race_that_stops_at_once_loses_more(plant):
    """So the grids are hard enough for a bound to be broken, and their bounds say so."""
    lost, said = [], []
    for seed in range(N_GRIDS):
        leads = plant(np.random.default_rng(seed))
        found = raced(leads, Rules(risk=0.99, seed=seed))
        lost.append(found.best != best_of(leads))
        said.append(found.risk)
    assert np.mean(lost) > 0.05 and np.mean(said) > 0.1
    assert np.sum(lost) <= np.sum(said) + 2 * np.sqrt(np.sum(said))


def test_without_risk_the_best_cell_is_certain():
    for seed in range(5):
        leads = peaked(np.random.default_rng(seed))
        found = raced(leads, Rules(risk=0))
        assert found.best == best_of(leads) and found.risk == 0


def test_the_winner_is_run_on_all_prompts_and_the_others_are_foretold():
    leads = gaussian(np.random.default_rng(3))
    found = raced(leads)
    won = leads > 0
    assert found.evaluated[found.best] == P
    assert found.successes[found.best] == found.expected[found.best] == won[found.best].sum()
    for seen, successes, expected in zip(found.evaluated, found.successes, found.expected):
        assert successes <= seen <= P and successes <= expected <= successes + P - seen
    assert found.rows_run == sum(found.evaluated) < leads.size
    assert np.corrcoef(found.expected, won.sum(1))[0, 1] > 0.9


def test_ties_go_to_the_cell_that_is_preferred():
    leads = gaussian(np.random.default_rng(0))
    leads[3] = leads[11] = leads[7] = leads[best_of(leads)]
    n = len(leads)
    for order in (list(range(n)), list(range(n))[::-1], [7, *range(7), *range(8, n)]):
        assert raced(leads, Rules(order=order)).best == best_of(leads, order)


def test_degenerate_races_end():
    for leads in (-np.ones((16, P)), np.ones((16, P)), np.ones((16, 1)), -np.ones((16, 2))):
        assert raced(leads).best == 0
    alone = race_rows(lambda cells, prompts: np.ones(len(cells)), np.ones((1, 1)), 4)
    assert (alone.best, alone.successes, alone.risk) == (0, [4], 0)


def test_what_cannot_be_raced_is_named():
    look = lambda cells, prompts: np.ones(len(cells))  # noqa: E731
    with pytest.raises(ValueError, match="nothing to race: 0 cells, 5 prompts"):
        race_rows(look, np.ones((0, 0)), 5)
    with pytest.raises(ValueError, match="nothing to race: 16 cells, 0 prompts"):
        race_rows(look, KIN, 0)
    with pytest.raises(ValueError, match="order is not a permutation of the 16 cells"):
        race_rows(look, KIN, 5, Rules(order=[0, 0, 1]))
    with pytest.raises(ValueError, match=r"risk must be in \[0, 1\), not 1.0"):
        Rules(risk=1.0)


# -- within a limit --------------------------------------------------------------------------------
def best_within(leads: np.ndarray, free: np.ndarray, enough: int) -> int | None:
    within = (free > 0).sum(1) >= enough
    order = sorted(range(len(leads)), key=lambda cell: (-(leads[cell] > 0).sum(), cell))
    return next((cell for cell in order if within[cell]), None)


def harming(rng: np.random.Generator, n: int = 100) -> np.ndarray:
    """Leads `[C, n]` on prompts that should stay: the larger a shift, the more of them are lost."""
    size = np.tile(np.arange(N_SIZES), N_TURNS)[:, None]
    return rng.normal(5, 1.5, n) + rng.normal(0, 0.4, (len(KIN), n)) - rng.uniform(0.5, 1.5) * size


def test_the_best_within_the_limit_is_lost_no_more_often_than_is_said():
    lost, said, rows = [], [], []
    for seed in range(N_GRIDS):
        rng = np.random.default_rng(seed)
        leads, free = peaked(rng), harming(rng)
        table, beside = (
            Table(lambda cells, prompts, of=of: of[cells, prompts], KIN, of.shape[1])
            for of in (leads, free)
        )
        rules = Rules(seed=seed)
        table.begin(rules)
        verdict = settle(table, rules, [Limit(beside, enough=95)])
        lost.append(verdict.best != best_within(leads, free, 95))
        said.append(verdict.risk)
        rows.append((table.run.sum() + beside.run.sum()) / (leads.size + free.size))
        if verdict.best is not None:
            assert table.whole(verdict.best) and beside.whole(verdict.best)
    bound = np.sum(said)
    assert np.sum(lost) <= bound + 2 * np.sqrt(bound) and np.mean(rows) < 0.6


def test_where_every_cell_does_harm_none_is_chosen():
    leads, free = np.ones((16, 20)), -np.ones((16, 30))
    table, beside = (
        Table(lambda cells, prompts, of=of: of[cells, prompts], KIN, of.shape[1])
        for of in (leads, free)
    )
    table.begin(Rules())
    found = settle(table, Rules(), [Limit(beside, enough=29)])
    assert found.best is None and found.risk == 0  # each was seen to fail twice
    assert (beside.run.sum(1) >= 2).all() and beside.run.sum() < beside.run.size / 2


def test_of_several_limits_the_winner_is_within_all():
    """And is run on all prompts of each; with one of them alone another cell would win."""
    for seed in range(N_GRIDS // 4):
        rng = np.random.default_rng(seed)
        leads, parts = peaked(rng), [harming(rng), harming(rng)[::-1]]
        tables = [
            Table(lambda cells, prompts, of=of: of[cells, prompts], KIN, of.shape[1])
            for of in (leads, *parts)
        ]
        rules = Rules(risk=0, seed=seed)
        tables[0].begin(rules)
        verdict = settle(tables[0], rules, [Limit(table, 80) for table in tables[1:]])
        intact = np.all([(of > 0).sum(1) >= 80 for of in parts], axis=0)
        won = np.where(intact, (leads > 0).sum(1), -1)
        assert verdict.best == (int(won.argmax()) if intact.any() else None)
        assert verdict.best is None or all(table.whole(verdict.best) for table in tables)


# -- leads of a model ------------------------------------------------------------------------------
@pytest.fixture
def small():
    """`(model, prompts, shifts)`: 9 prompts whose answers begin with different tokens."""
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
    asked = []
    real = passes._Rows.of.__func__
    monkeypatch.setattr(
        passes._Rows, "of", classmethod(lambda cls, b, a: (asked.append(a), real(cls, b, a))[1])
    )
    leads = contest(*small, target_code, Decoding(early_end=False))
    found = leads(np.array([1, 1, 3]), np.array([0, 4, 5]))
    assert found.shape == (3,) and np.isfinite(found).all()
    assert asked[0].fits.tolist() == [[target_code == 0, target_code == 1]] * 3
    assert asked[0].leave is True and asked[0].leads is True


def test_no_batch_of_a_race_is_larger_than_was_asked_for(small, monkeypatch):
    sizes = []
    real = passes._Rows.of.__func__
    monkeypatch.setattr(
        passes._Rows,
        "of",
        classmethod(lambda cls, b, a: (sizes.append(len(b.prompt)), real(cls, b, a))[1]),
    )
    race(*small, 1, Decoding(rows_per_batch=3))
    assert max(sizes) == 3
    first = sizes[0]
    sizes.clear()
    race(*small, 1, replace(Decoding(), rows_per_batch=512))
    assert max(sizes) > first
