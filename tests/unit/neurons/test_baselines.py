"""Baselines: shuffled labels read nothing, words read words, and all that is chosen comes from train."""

from dataclasses import replace

import numpy as np
import pytest

from memgen.neurons.baselines import baselines, prompt_scores
from planted_states import planted_examples


@pytest.fixture(scope="module")
def data():
    return planted_examples(30, 0, seed=0), planted_examples(25, 100, seed=1)


def call_baselines(data, prompt_only=None, train=(), test=()):
    """The table by name, of layer 1; `train`, `test`: fields of the two sets that are replaced."""
    rng = np.random.default_rng(4)

    def tokens(labels):
        """Position 0 betrays the label nine times in ten, position 1 is noise."""
        betrayal = np.where(rng.random(len(labels)) < 0.9, labels, 1 - labels)
        return np.stack([betrayal, rng.integers(9, size=len(labels))], axis=1)

    def scores(labels):
        return {"answer_margin": labels + rng.normal(size=len(labels)), "entropy": -2.0 * labels}

    asked, scored = data[0].at(1), data[1].at(1)
    labels = dict(train).get("labels", asked.labels)
    words = prompt_scores(tokens(labels), labels, asked.keys, tokens(scored.labels), seed=0)
    asked = replace(asked, **{"scores": scores(labels)} | dict(train))
    scored = replace(scored, **{"scores": scores(scored.labels)} | dict(test))
    prompt_only = words if prompt_only is None else prompt_only
    return baselines(asked, scored, prompt_only, seed=0).set_index("name")


def test_baselines(data):
    table = call_baselines(data)
    test_labels = data[1].labels
    names = ["majority", "shuffled_labels", "prompt_only", "answer_margin", "entropy"]
    assert list(table.index) == names
    assert list(table.columns) == [
        "accuracy", "accuracy_low", "accuracy_high", "auc", "auc_low", "auc_high", "n", "n_keys",
    ]  # fmt: skip
    most = data[0].labels.mean() >= 0.5
    assert table.accuracy["majority"] == pytest.approx((test_labels == most).mean())
    assert table.auc["majority"] == 0.5
    assert 0.3 < table.auc["shuffled_labels"] < 0.7
    assert table.auc_low["shuffled_labels"] < 0.5 < table.auc_high["shuffled_labels"]
    assert 0.8 < table.auc["prompt_only"] < 0.97
    assert 0.65 < table.auc["answer_margin"] < 0.85
    # high entropy is memory: turned round on train
    assert table.auc["entropy"] == table.accuracy["entropy"] == 1


def test_the_seed_decides_the_shuffles(data):
    assert call_baselines(data).equals(call_baselines(data))


def test_orientation_and_threshold_come_from_train(data):
    """A score that means the opposite on test keys must score below chance there."""
    straight, turned = {"s": data[0].labels.astype(float)}, {"s": 1.0 - data[1].labels}
    table = call_baselines(data, train={"scores": straight}, test={"scores": turned})
    assert table.auc["s"] == table.accuracy["s"] == 0


def test_tokens_never_seen_in_train_are_no_error(data):
    train, _ = data
    scores = prompt_scores(
        np.stack([train.labels] * 2, axis=1),
        train.labels,
        train.keys,
        np.full((150, 2), 777),
        seed=0,
    )
    assert len(set(scores)) == 1
    assert call_baselines(data, prompt_only=scores).auc["prompt_only"] == 0.5


def test_baselines_with_one_class(data):
    table = call_baselines(data, train={"labels": np.zeros_like(data[0].labels)})
    assert table.auc.drop("majority").isna().all()
    assert table.accuracy.tolist() == pytest.approx([1 - data[1].labels.mean()] * 5)


def test_scores_must_match(data):
    with pytest.raises(ValueError, match="scores of train and test differ"):
        call_baselines(data, test={"scores": {}})


def test_leakage_is_refused(data):
    leaked = data[1].keys.copy()
    leaked[0] = data[0].keys[-1]
    with pytest.raises(ValueError, match="both train and test"):
        call_baselines(data, test={"keys": leaked})


def test_scores_of_other_rows_are_named(data):
    with pytest.raises(ValueError, match=r"test_scores\['entropy'\]: 1 dimensions and 150 rows"):
        call_baselines(
            data, test={"scores": {"answer_margin": np.zeros(150), "entropy": np.zeros(3)}}
        )
