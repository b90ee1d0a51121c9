"""Claims on pretrained models: planted numbers get the verdicts that were planted, one model gets none."""

from __future__ import annotations

from copy import deepcopy

import pytest

from memgen.claims.catalogue import CLAIMS
from memgen.claims.catalogue.pretrained import AGAINST, PRETRAINED
from memgen.claims.pretrained import judge_models
from memgen.claims.quantities import pretrained
from memgen.claims.quantities.pretrained import RIVALS, Asked
from memgen.terms import CONTRADICTED, DIRECTIONS, OPEN, REVERSED, SUPPORTED
from real_model import about

ONE, OTHER = "Llama one", "Gemma two"


def model(title: str = ONE, family: str = "LlamaForCausalLM", **planted: float) -> dict:
    """Three data sets with a hundredth between them. `planted`: success by name of a bar, and `lost`."""
    found = deepcopy(about(title=title, architecture=family))
    for number, one in enumerate(found["seeds"]):
        more = 0.01 * number
        one["behaviours"]["memorization"]["rate"] = planted.get("memory", 0.40) + more
        one["behaviours"]["other"]["rate"] = planted.get("other", 0.10) + more
        one["prediction"]["gain"] = planted.get("gain", 0.10) + more
        one["layers"][1]["oriented_null"] = planted.get("null", 0.02) + more
        for found_in in one["steering"].values():
            found_in["kept_exists"] = bool(planted.get("kept", True))
            for bar in found_in["bars"]:
                bar["success"] = planted.get(bar["name"], bar["success"])
            steered = found_in["shifts"]["steered"]
            steered["keyed_accuracy_after"] = 0.95 - planted.get("lost", 0.0) - more / 10
    return found


def verdicts(*models: dict) -> dict[str, str]:
    return {claim["id"]: claim["verdict"] for claim in judge_models(list(models))}


def on(title: str, *models: dict) -> dict[str, str]:
    return {
        claim["id"]: claim["cases"][title]["verdict"]
        for claim in judge_models(list(models))
        if title in claim["cases"]
    }


def test_what_stands_on_one_model_or_one_family_is_open():
    assert set(verdicts(model()).values()) == {OPEN}
    assert set(verdicts(model(), model("Llama three")).values()) == {OPEN}
    alone = on(ONE, model())
    assert alone["real_both"] == alone["real_gain"] == SUPPORTED


def test_two_families_that_agree_have_a_verdict_and_others_have_none():
    first = model(null=0.02)
    same = verdicts(first, model(OTHER, "Gemma3ForCausalLM"))
    assert same["real_both"] == same["real_neurons"] == same["real_gain"] == SUPPORTED
    against = verdicts(first, model(OTHER, "Gemma3ForCausalLM", gain=-0.10))
    assert against["real_gain"] == OPEN and against["real_both"] == SUPPORTED
    both = verdicts(model(gain=-0.10), model(OTHER, "Gemma3ForCausalLM", gain=-0.10))
    assert both["real_gain"] == REVERSED


@pytest.mark.parametrize(
    "planted, claim, verdict",
    [
        ({"memory": 0.30}, "real_both", SUPPORTED),
        ({"memory": 0.10}, "real_both", CONTRADICTED),
        ({"other": 0.05}, "real_other", SUPPORTED),
        ({"other": 0.40}, "real_other", CONTRADICTED),
        ({"null": 0.30}, "real_neurons", REVERSED),
        ({"steered": 0.5, "low_rho": 0.2}, "real_m2g.control", SUPPORTED),
        ({"steered": 0.5, "low_rho": 0.8}, "real_m2g.control", REVERSED),
        ({"steered": 0.5, "low_rho": 0.5}, "real_m2g.control", CONTRADICTED),
        ({"steered": 0.5, "instruction_2": 0.9}, "real_g2m.instruction", REVERSED),
        ({"steered": 0.5, "instruction_2": 0.1}, "real_g2m.instruction", SUPPORTED),
        ({"steered": 0.5, "rephrasing_content": 0.9}, "real_g2m.rephrasing", REVERSED),
        ({"steered_max": 0.5, "one_layer": 0.8}, "real_m2g.one_layer", SUPPORTED),
        ({"steered_max": 0.8, "one_layer": 0.5}, "real_m2g.one_layer", REVERSED),
        ({"lost": -0.02}, "real_m2g.cost", SUPPORTED),
        ({"lost": 0.10}, "real_g2m.cost", CONTRADICTED),
    ],
)
def test_a_planted_effect_has_its_verdict(planted, claim, verdict):
    assert on(ONE, model(**planted))[claim] == verdict


def test_a_model_without_a_strength_within_the_limit_turns_nothing_and_neither_do_its_controls():
    asked = Asked({ONE: model(kept=0, steered=0.9, instruction_2=0.3, instruction_1=0.3)})
    assert pretrained.beyond_rival(asked, ONE, "m2g", "control").value == 0
    assert pretrained.beyond_rival(asked, ONE, "m2g", "instruction").value == pytest.approx(-0.3)


def test_one_layer_within_the_limit_is_tested_only_where_it_was_tried():
    found = model(steered=0.5)
    assert pretrained.one_layer_kept_beyond(Asked({ONE: found}), ONE, "m2g").n_seeds == 0
    for one, success in zip(
        found["seeds"], (0.8, 0.8, None)
    ):  # in the third none is within the limit
        bar = {"name": "one_layer_kept", "family": "rival", "success": success, "n": 150}
        one["steering"]["m2g"]["bars"].append(bar)
    kept = pretrained.one_layer_kept_beyond(Asked({ONE: found}), ONE, "m2g")
    assert kept.value == pytest.approx((0.3 + 0.3 - 0.5) / 3) and kept.n_seeds == 3
    for one in found["seeds"]:
        one["steering"]["m2g"]["bars"][-1]["success"] = None
    none = pretrained.one_layer_kept_beyond(Asked({ONE: found}), ONE, "m2g")
    assert none.value == pytest.approx(-0.5)


def test_an_interval_is_over_data_sets_and_says_how_much_is_behind_it():
    effect = pretrained.gain(Asked({ONE: model(gain=0.10)}), ONE)
    assert effect.value == pytest.approx(0.11) and (effect.n, effect.n_keys) == (1200, 87)
    half = 4.302653 * 0.01 / 3**0.5  # Student's quantile of two degrees of freedom
    assert effect.high - effect.value == pytest.approx(half, rel=1e-5)


def test_every_rival_has_its_words_and_no_claim_two_places():
    assert set(RIVALS) == set(AGAINST)
    ids = [claim.id for claim in (*PRETRAINED, *CLAIMS)]
    assert len(ids) == len(set(ids))
    assert all(f"real_{d}.{rival}" in ids for d in DIRECTIONS for rival in RIVALS)
