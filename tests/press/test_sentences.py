"""Sentences that count or compare: each helper on planted claims and numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memgen.claims.catalogue import CLAIMS, GROUPS
from memgen.claims.ledger import over_cases
from memgen.stages import LABS
from memgen.stats.over_seeds import Effect
from memgen.terms import CONTRADICTED, FORECASTS, OPEN, REVERSED, SUPPORTED
from press.sentences import (
    Counts,
    Judged,
    Ledger,
    Share,
    Tally,
    between,
    effect,
    most_first,
    sees,
    thresholds,
)


def judged(claim: str = "steer_m2g.random", **cases) -> dict:
    """A claim of the ledger; each case is `(low, high, verdict)`."""
    known = next(one for one in CLAIMS if one.id == claim)
    names = ("id", "name", "text", "source", "test", "threshold", "margin", "above", "corrected")
    names = (*names, "page")
    found = {
        task.replace("_", "-"): {"verdict": verdict, "effect": 0.3, "interval": [low, high]}
        for task, (low, high, verdict) in cases.items()
    }
    return {name: getattr(known, name) for name in names} | {
        "group": next(group for group, claims in GROUPS.items() if known in claims),
        "track": "scratch",
        "verdict": over_cases([case["verdict"] for case in found.values()]),
        "effect": 0.3 if cases else None,
        "interval": next(iter(found.values()))["interval"] if cases else None,
        "n": 10,
        "cases": found,
        "evidence": "",
    }


GOOD, BAD, UNCLEAR = (0.1, 0.5, SUPPORTED), (-0.1, 0.02, CONTRADICTED), (-0.1, 0.5, OPEN)
WRONG, UNKNOWN = (-0.5, -0.2, REVERSED), (None, None, OPEN)


def test_a_share_is_written_with_its_noun():
    assert str(Share(1, 3)) == "1 of 3" and Share(2, 5).of("task") == "2 of 5 tasks"
    assert Share(1, 1).of("task") == "1 of 1 task" and Share(0, 2).of("family", "families") == (
        "0 of 2 families"
    )


def test_a_claim_says_where_it_has_fallen():
    claim = Judged(**judged(inference=GOOD, cipher_tagged=BAD, cipher_matched=UNCLEAR, b=WRONG))
    assert claim.fallen == "cipher-tagged (contradicted), b (reversed)"
    assert Judged(**judged(a=GOOD, b=UNCLEAR)).fallen == "no task"
    assert Judged(**judged()).fallen == "no task, for it could be tested on none"


def test_a_claim_says_where_it_has_which_verdict():
    claim = Judged(**judged(inference=GOOD, cipher_tagged=BAD, cipher_matched=UNCLEAR))
    assert claim.where() == ["inference"] and claim.where(CONTRADICTED) == ["cipher-tagged"]
    assert claim.share() == Share(1, 3) == claim.share(OPEN)
    assert claim.balance == "1 · 1 · 1" and Judged(**judged(a=WRONG)).balance == "0 · 1 · 0"
    assert claim.on("cipher-tagged") == CONTRADICTED and claim.on("arithmetic") == "not tested"
    assert claim.hardest == "0.30 (0.10 to 0.50)"
    assert Judged(**judged()).hardest == "not tested"


def test_a_claim_says_where_it_rests_on_one_seed():
    found = judged(inference=UNKNOWN, cipher_tagged=BAD)
    for (name, case), n_seeds in zip(found["cases"].items(), (1, 3), strict=True):
        found["cases"][name] = case | {"n_seeds": n_seeds}
    assert Judged(**found).alone == ["inference"]


LEDGER = Ledger(
    [
        judged("steer_m2g.random", a=GOOD, b=GOOD),
        judged("steer_g2m.random", a=BAD),
        judged("steer_g2m.forbid", a=WRONG, b=WRONG),
        judged("asymmetry", a=UNCLEAR, b=GOOD),
        judged("format", a=UNKNOWN),
        judged("retrain"),
    ]
)


def test_what_could_not_be_tested_is_not_counted_as_open():
    standing = LEDGER.standing
    assert standing._asdict() == {
        "tested": 5,
        "supported": 1,
        "contradicted": 1,
        "reversed": 1,
        "open": 2,
    }
    assert "retrain" not in [claim.id for claim in LEDGER.tested]
    assert LEDGER.single == Share(3, 8)
    cases = LEDGER.by_case
    assert (cases.tested, cases.supported, cases.contradicted, cases.reversed) == (8, 3, 1, 2)
    assert cases.open == 2
    assert LEDGER.named(SUPPORTED) == "m2g against random" and LEDGER["retrain"].cases == {}
    assert LEDGER.named(REVERSED) == "g2m against forbid"
    assert Ledger([judged("retrain")]).named(SUPPORTED) == "none"


def test_claims_stand_in_the_groups_of_the_catalogue():
    groups = LEDGER.groups
    assert [*groups] == ["Steering, m2g", "Steering, g2m", "Size and price of the shift"]
    assert [claim.id for claim in groups["Steering, g2m"]] == [
        "steer_g2m.random",
        "steer_g2m.forbid",
    ]


def test_chance_counts_the_tests_of_differences_that_have_an_interval():
    assert LEDGER.chance == (7, 0, pytest.approx(0.175))
    limits = Ledger([judged("few_neurons", a=GOOD, b=UNKNOWN), judged("format", a=GOOD)])
    assert limits.chance == (1, 1, pytest.approx(0.025))  # nothing is no effect of a limit


def test_claims_with_a_corrected_test_are_named():
    found = [judged("retrain", a=GOOD), judged("differ"), judged("format", a=GOOD)]
    assert [claim.id for claim in Ledger(found).corrected] == ["retrain"]


def test_effects_and_intervals_are_written_as_far_as_they_are_known():
    assert effect({"effect": 0.5, "interval": [None, None]}) == "0.50"
    assert between([None, None]) == "none" and between([-0.1, 0.2]) == "−0.10 to 0.20"


@pytest.mark.parametrize(
    "claim, cases, wanted",
    [
        (
            "steer_m2g.random",
            {"a": (0.1, 0.5, SUPPORTED), "b": (0.2, 0.3, SUPPORTED)},
            ("above 0.00", "0.05", "a threshold below 0.10", "a margin above 0.50"),
        ),
        (
            "stranger",  # a limit: below 0.10
            {"a": (0.0, 0.05, SUPPORTED), "b": (0.02, 0.2, OPEN)},
            ("below 0.10", "none: a limit", "a threshold above 0.20", "a threshold below 0.00"),
        ),
        (
            "predictable",
            {"a": (0.45, 0.52, CONTRADICTED)},
            ("above 0.50", "0.05", "a threshold below 0.45", "a margin above 0.02"),
        ),
        (
            "predictable",  # no effect of any size is left on its side
            {"a": (0.40, 0.45, REVERSED)},
            ("above 0.50", "0.05", "a threshold below 0.40", "a margin above 0.00"),
        ),
        (
            "deeper",
            {"a": UNKNOWN},
            ("above 0.00", "0.25", *["none: an interval is missing"] * 2),
        ),
        (
            "deeper",
            {"a": UNKNOWN, "b": (0.1, 0.4, SUPPORTED)},
            ("above 0.00", "0.25", *["none: an interval is missing"] * 2),
        ),
    ],
)
def test_which_thresholds_would_change_a_verdict(claim, cases, wanted):
    assert thresholds(Judged(**judged(claim, **cases))) == wanted


def test_a_threshold_and_a_margin_that_are_named_do_change_the_verdict():
    """What the page says is what the rule does: with a margin of the named size it is contradicted."""
    claim = next(one for one in CLAIMS if one.id == "steer_m2g.random")
    cases = {"a": (-0.1, 0.32, OPEN), "b": (-0.2, 0.3, OPEN)}
    said = thresholds(Judged(**judged(claim.id, **cases)))
    below, above = (float(text.split()[-1].replace("−", "-")) for text in said[2:])
    for low, high, _ in cases.values():
        effect_of = Effect((low + high) / 2, low, high, 9, 9, 3)
        assert replace(claim, threshold=below - 0.01).verdict(effect_of) == SUPPORTED
        assert replace(claim, margin=above + 0.01).verdict(effect_of) == CONTRADICTED
    assert replace(claim, margin=above - 0.01).verdict(Effect(0.1, -0.1, 0.32, 9, 9, 3)) == OPEN


def test_the_most_frequent_comes_first():
    shares = {"a": Share(1, 10), "b": Share(3, 10), "c": Share(0, 0), "d": Share(2, 4)}
    assert most_first(shares) == "d (2 of 4), b (3 of 10), a (1 of 10), c (0 of 0)"


# -- counts over the labs of a run -----------------------------------------------------------------
class Planted:
    """Numbers of two tasks, one value per seed; keys as dotted paths are plain names here."""

    tasks = ("one", "two")

    def __init__(self, **values):
        self.given, self.run = values, self

    def tasks_of(self, stage):
        assert stage in LABS
        return list(self.tasks)

    def values(self, task, stage, key):
        assert stage in LABS
        return self.given[key.replace(".", "_")][task]

    def results(self, task, stage):
        return self.given["results"][task]


def counts(**values) -> Counts:
    return Counts(Planted(**values))


def test_numbers_beyond_a_limit_are_counted_where_they_are_defined():
    found = counts(low={"one": [0.6, 0.5, None], "two": [0.4, 0.9, 0.51]})
    assert found.beyond("09_confounds", "low", 0.5) == Share(3, 5)
    assert found.beyond("09_confounds", "low", 0.5, "one") == Share(1, 2)


def test_intervals_count_on_the_side_on_which_they_lie_whole():
    intervals = {"one": [[0.1, 0.3], [-0.2, -0.1], None], "two": [[-0.1, 0.1], [0.0, 0.2]]}
    found = counts(m2g_x=intervals, g2m_x={"one": [[None, None]], "two": [[0.2, 0.3]]})
    tally = found.against("10_ablations", "*.x")
    assert tally == Tally(above=2, below=1, open=3) and tally.n == 6
    assert tally.lower == Share(1, 6) and tally.higher == Share(2, 6)
    assert counts(x=intervals).against("10_ablations", "x", 0.25) == (0, 3, 1)
    assert found.against("10_ablations", "*.x", 0.0, "one") == (1, 1, 1)


def test_released_and_held_are_compared_where_there_is_any_success():
    found = counts(
        free={"one": [0.5, 0.2, 0.3], "two": [1.0]}, held={"one": [0.5, 0.4, 0.0], "two": [0.1]}
    )
    assert found.as_good("11_open_points", "free", "held") == Share(2, 3)
    assert found.as_good("11_open_points", "free", "held", ("two",)) == Share(1, 2)


def test_texts_that_lose_half_are_counted_where_there_are_any():
    def text(accuracy, alone, n=10):
        return {"accuracy": accuracy, "alone": {"accuracy": alone}, "n": n}

    found = counts(
        a={"one": [text(0.4, 0.9)], "two": [text(0.5, 0.9)]},
        b={"one": [text(0.0, 1.0)], "two": [{"n": 0}]},
    )
    assert found.halved("11_open_points", "a", "b") == Share(2, 3)


def test_the_gate_is_the_ledgers():
    good = {"memory_rate": 0.25, "rule_rate": 0.5, "other_rate": 0.2, "free_accuracy": 0.9}
    found = counts(results={"one": [good, good | {"other_rate": 0.21}], "two": [good]})
    assert found.in_gate() == Share(2, 3)


def test_a_seed_that_names_a_variant_gives_a_dagger():
    found = counts(m2g_matters={"one": [["ln_2"], [], ["ln_2", "mlp_out"]]})
    asked = ("one", "10_ablations", "m2g.matters")
    assert found.marked(*asked, "ln_2") == " ††" and found.marked(*asked, "resid_post") == ""


def test_forecasts_are_named_once_each_by_what_they_see():
    assert sees(["nearest_setting", "prompt_only", "nearest_setting"]) == (
        "which token stands where, nearest trained setting"
    )
    assert (
        sees([None]) == "none" and sees(["base_probe", None]) == "hidden states of the base, none"
    )
    assert set(FORECASTS.values()) == set(sees(FORECASTS).split(", "))
