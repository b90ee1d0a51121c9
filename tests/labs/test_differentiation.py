"""Lab 04: the planted neuron is found by the computing cell, shuffled behaviours are not, and texts say
what the figures show.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from computing import planted_lab, run_cell
from memgen.config.analyses import DifferentiationParameters
from memgen.errors import StudyError
from memgen.figures import differentiation as figures
from memgen.labs import differentiation as science
from memgen.neurons.nmd import NeuronMaps
from memgen.neurons.pairs import flips
from memgen.terms import SITES
from planted import ManyKeys

P = DifferentiationParameters(task="inference", n_permutations=200)


@pytest.fixture(scope="module")
def left(planted, tmp_path_factory) -> dict:
    """What the computing cell leaves behind."""
    lab = planted_lab(
        "04_differentiation",
        tmp_path_factory.mktemp("runs"),
        planted(ManyKeys, 24),
        {"n_permutations": 1000, "max_pairs": 40},
    )
    return run_cell(lab)


def test_the_computing_cell_finds_the_planted_neuron(left, planted):
    r, arrays, answered = left["r"], left["a"], planted(ManyKeys, 24)[-1]
    assert np.unravel_index(np.abs(arrays["rho.resid_post"]).argmax(), (2, 8)) in [(0, 0), (1, 0)]
    assert arrays["nmd.resid_post"][1, 0] == pytest.approx(1) and r["max_abs_rho"][1] > 0.99
    assert arrays["p"][1, 0] < 0.05 and r["significant_share"][1] >= 1 / 8
    assert r["null_significant_share"] == [0.0, 0.0] and r["n_pairs"] == 40 == len(arrays["memory"])
    train = answered[answered.split == "train"]
    assert r["n_keys"] == train.key.nunique() and r["site"] == "resid_post" == left["maps"].site
    assert {f"{name}.{site}" for name in ("nmd", "rho") for site in SITES} <= arrays.keys()
    assert all(values.dtype == np.float32 for values in arrays.values())
    assert set(left["null"].behavior) == {"memorization", "generalization", "both"}
    assert "base" not in r


def test_states_belong_to_the_prompts_of_the_pairs(planted):
    """Coordinate 0 is what the last word says: 0 from memory, 1 or 2 by the rule."""
    model, tokenizer, _, _, answered = planted()
    pairs = science.TrainPairs.of(answered, P)
    states = pairs.read(model, tokenizer, "resid_post")
    train = answered[answered.split == "train"].reset_index(drop=True)
    for side in ("memory", "rule"):
        last = train.prompt[pairs.flips[side]].str.split().str[-1]
        expected = last.map(
            {"near-memory": 0.0, "far-memory": -3.0, "near-rule": 1.0, "far-rule": 2.0}
        )
        assert getattr(states, side)[:, -1, 0] == pytest.approx(expected.to_numpy())
    assert (pairs.keys == train.key[pairs.flips.memory]).all()
    for behavior, differences in states.stays.items():
        assert len(differences) == len(pairs.stays[behavior]) and not differences[..., 0].any()


def test_too_few_pairs_end_the_lab_with_a_sentence(planted):
    answered = planted()[-1].assign(behavior="memorization")
    with pytest.raises(StudyError, match="fewer than two flip pairs on train keys"):
        science.TrainPairs.of(answered, P)


def test_only_train_keys_are_read(planted):
    answered = planted()[-1]
    assert len(flips(answered)) > len(science.TrainPairs.of(answered, P).flips)
    assert set(science.TrainPairs.of(answered, P).answered.split) == {"train"}


def test_what_is_stored_is_finite_float32():
    maps = {"ln_2": NeuronMaps("ln_2", np.ones((1, 2)), np.zeros((1, 2)))}
    stored = science.as_stored({"effect_size": np.array([[np.inf, np.nan]])}, maps)
    assert stored["effect_size"].tolist() == [[0, 0]] and stored["effect_size"].dtype == np.float32
    assert stored["nmd.ln_2"].tolist() == [[1, 1]]


def test_the_top_neurons_have_intervals_over_keys(left, planted):
    table = science.top_neurons(left["a"], planted(ManyKeys, 24)[-1], left["p"])
    assert list(table.columns) == science.TOP_COLUMNS and len(table) == 8
    assert table.neuron[0] == 0 and table.layer[0] in (1, 2)  # layers count from 1
    assert table.nmd_low[0] <= table.nmd[0] <= table.nmd_high[0]


# -- what an adapter inherits ----------------------------------------------------------------------

BASE = {
    "mean_abs_nmd": {"on": [0.1, 0.25], "off": [0.05, 0.1], "difference": [0.05, 0.15]},
    "correlation": [None, 0.5],
    "correlation_all": 0.4,
    "top_share": 0.05,
    "top_in_common": 0.3,
    "n_pairs": 12,
}
RATES = {"memory_rate": 0.25, "rule_rate": 0.5, "other_rate": 0.25}
CURVE = pd.DataFrame(
    [
        {"scale": scale, "n": 4}
        | {f"{name}{end}": rate + off for name, rate in RATES.items() for end, off in ENDS}
        for ENDS in [(("", 0), ("_low", -0.1), ("_high", 0.1))]
        for scale in (0.0, 1.5)
    ]
)


def test_the_base_in_words():
    assert science.base_in_words(BASE) == (
        "correlation of NMD with the adapter on and off, by layer: undefined, 0.50; over all layers 0.40\n"
        "top 5% of the neurons by |rho| in common: 30% (by chance 5%)"
    )
    assert "over all layers undefined" in science.base_in_words(BASE | {"correlation_all": None})


# -- figures ---------------------------------------------------------------------------------------


def test_the_figures_say_their_numbers(left):
    r, arrays, maps = left["r"], left["a"], left["maps"]
    heatmaps = figures.neuron_heatmaps(maps)
    largest = ", ".join(f"{v:.2f}" for v in r["max_abs_rho"])
    assert heatmaps.name == "nmd-heatmap" and heatmaps.alt.endswith(f"|rho| by layer: {largest}")
    layers = figures.layer_distributions(r | {"significant_share": [0.125, 0.5]}, arrays)
    assert layers.name == "layers" and "by layer: 12%, 50%; null: 0%, 0%" in layers.alt
    top = figures.top_neuron_map(maps.rho)
    counts = [int(bar.get_height()) for bar in top.figure.axes[0].patches]
    assert sum(counts) == 2 and f"in each layer: {counts[0]}, {counts[1]}. Right" in top.alt


def test_the_figure_of_the_base_says_its_numbers():
    drawing = figures.inheritance(BASE, CURVE)
    assert drawing.name == "inheritance"
    assert "adapter on: 0.100, 0.250; off: 0.050, 0.100. Correlation" in drawing.alt
    assert "by layer: undefined, 0.50. Right" in drawing.alt
    assert drawing.alt.endswith("scale 1.5: memory 25%, rule 50%, other 25%")
