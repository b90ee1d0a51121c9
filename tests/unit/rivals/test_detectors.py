"""Every detector against what was planted, and against an independent transcription of its published code."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import PolynomialFeatures

from memgen.models.generate import (
    Sampling,
    next_token_scores,
    sample_answers,
    tokenize_prompts,
)
from memgen.neurons.probes import Examples
from memgen.neurons.prompt_features import PromptFeatures
from memgen.neurons.states import labelled
from memgen.rivals.detectors import confidence, perturbation, states, words
from memgen.rivals.detectors.detector import Found, oriented, strongest
from memgen.rivals.detectors.roster import BLACK_BOX, DETECTORS, PROBE
from memgen.stats.auc import roc_auc
from planted_asking import Asking, IdleContent, MemorizedRule, made


@pytest.fixture(scope="module")
def asking() -> tuple:
    return made()


# -- the table -------------------------------------------------------------------------------------
def test_there_are_ten_detectors_at_least_and_none_that_comes_before_costs_an_answer():
    assert len(DETECTORS) >= 10 and PROBE in DETECTORS
    assert {d.further for d in DETECTORS.values() if d.when == "before"} == {"nothing"}
    assert DETECTORS[BLACK_BOX].needs == "nothing" and not DETECTORS[BLACK_BOX].learns


def test_train_keys_turn_a_number_and_never_test_keys():
    labels, low = np.array([0, 0, 1, 1]), np.array([4.0, 3.0, 2.0, 1.0])
    found = oriented(low, labels, np.array([7.0, 8.0]), "k")
    assert found.train_auc == 1.0 and list(found.scores) == [-7.0, -8.0] and found.choice == "k"
    assert list(oriented(-low, labels, np.array([7.0])).scores) == [7.0]
    one_behavior = oriented(low, np.zeros(4), np.array([7.0]))
    assert np.isnan(one_behavior.train_auc) and list(one_behavior.scores) == [7.0]


def test_the_best_is_the_best_on_train_keys():
    found = {
        "a": Found(np.zeros(1), 0.6),
        "b": Found(np.ones(1), 0.9),
        "c": Found(-np.ones(1), np.nan),
    }
    assert strongest(found).choice == "b" and list(strongest(found).scores) == [1.0]


# -- how likely the model finds it -----------------------------------------------------------------
def published_min_k(log_probs: list[float], ratio: float) -> float:
    """swj0419/detect-pretrain-code, `src/run.py`: the entry "Min_k% Prob", transcribed."""
    k_length = int(len(log_probs) * ratio)
    return -np.mean(np.sort(log_probs)[:k_length]).item()


def test_min_k_is_the_published_one_but_for_its_sign_and_for_short_texts():
    rng = np.random.default_rng(0)
    rows = [list(-rng.exponential(size=n)) for n in (20, 11, 30)]
    padded = np.full((3, 32), np.nan)
    for i, row in enumerate(rows):
        padded[i, 1 : len(row) + 1] = row
    for ratio in (0.1, 0.2, 0.5, 0.6):
        theirs = [-published_min_k(row, ratio) for row in rows]
        np.testing.assert_allclose(confidence.min_k(padded, ratio), theirs, rtol=1e-12)
    short = np.array([[-3.0, -1.0, -2.0]])
    with pytest.warns(RuntimeWarning):  # the published code has no token of three at 20 %
        assert np.isnan(published_min_k(list(short[0]), 0.2))
    assert confidence.min_k(short, 0.2) == [-3.0] and confidence.min_k(short, 1.0) == [-2.0]
    assert np.isnan(confidence.min_k(np.full((1, 3), np.nan), 0.5))
    assert confidence.perplexity(short) == pytest.approx([np.exp(2.0)])


def published_distance(one: list, other: list) -> int:
    """YihongDong/CDD-TED4LLMs, `CDD.py`: `levenshtein_distance`, transcribed."""
    if len(one) > len(other):
        one, other = other, one
    distances = list(range(len(one) + 1))
    for j, b in enumerate(other):
        fresh = [j + 1]
        for i, a in enumerate(one):
            keep = distances[i]
            fresh.append(keep if a == b else 1 + min(keep, distances[i + 1], fresh[-1]))
        distances = fresh
    return distances[-1]


def published_peak(samples: list[list], greedy: list, alpha: float) -> float:
    """The same file: `get_edit_distance_distribution_star` and `calculate_ratio`."""
    longest = max([len(greedy)] + [len(sample) for sample in samples])
    numbers = [published_distance(greedy, sample) for sample in samples]
    return sum(1 for number in numbers if number <= alpha * longest) / len(numbers)


def test_peakedness_is_the_published_one():
    rng = np.random.default_rng(1)
    for length in (1, 4, 30):
        greedy = list(rng.integers(0, 3, length))
        samples = [list(rng.integers(0, 3, rng.integers(0, 2 * length))) for _ in range(20)]
        samples += [greedy, [*greedy[:-1]], [*greedy, 1]]
        for alpha in (0.0, 0.05, 0.3):
            ours = confidence.peakedness(samples, greedy, alpha)
            assert ours == pytest.approx(published_peak(samples, greedy, alpha), abs=1e-12)
    assert confidence.edits("kitten", "sitting") == 3 and confidence.edits("", "abc") == 3


def test_of_short_answers_only_the_greedy_one_itself_counts():
    """So its number among 50 samples is binomial, and no sample has to be drawn token by token."""
    greedy, samples = [1, 2, 3], [[1, 2, 3], [1, 2, 4], [1, 2], [1, 2, 3]]
    assert confidence.peakedness(samples, greedy, 0.05) == confidence.peakedness(samples, greedy, 0)
    assert confidence.peakedness(samples, greedy, 0) == 0.5
    tempered = np.log(np.array([[0.5, 0.5], [1.0, np.nan], [1e-9, 1.0]]).clip(1e-12))
    drawn = np.array([confidence.drawn_peakedness(tempered, 50, [0, i]) for i in range(400)])
    np.testing.assert_allclose(drawn.mean(axis=0), [0.25, 1.0, 0.0], atol=0.02)
    assert drawn[:, 0].std() == pytest.approx(np.sqrt(0.25 * 0.75 / 50), rel=0.1)


def test_likelihoods_are_the_models_own():
    model, tokenizer, _, _, answered = made(gain=1.2)  # unsure, so that samples differ
    rows = answered.drop_duplicates("prompt").head(12).reset_index(drop=True)
    found = confidence.likelihoods(model, tokenizer, rows, 0.8)
    scores = next_token_scores(model, *tokenize_prompts(tokenizer, list(rows.prompt)))
    np.testing.assert_allclose(found.margin, scores["answer_margin"], atol=1e-5)
    np.testing.assert_allclose(found.entropy, scores["entropy"], atol=1e-5)
    assert found.prompt.shape[0] == 12 and (~np.isnan(found.prompt)).sum(1).tolist() == [2] * 12
    assert (~np.isnan(found.answer)).sum(1).tolist() == [2] * 12  # the answer and the end mark
    exact = confidence.exactly(found.tempered)
    sampling = Sampling(400, 0.8, 0)
    drawn = sample_answers(model, tokenizer, list(rows.prompt), 2, sampling)
    share = [np.mean([one == own for one in of]) for of, own in zip(drawn, rows.answer)]
    assert 0.02 < exact.min() < 0.9
    np.testing.assert_allclose(share, exact, atol=0.09)
    assert (confidence.exactly(found.answer) != exact).all()


def test_confidence_detectors_find_a_planted_number_and_choose_k_on_train_keys():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)

    def planted(sign: float) -> confidence.Likelihoods:
        answer = rng.normal(-3, 1, (200, 4))
        answer[:, 2] -= 9 * sign * labels  # one token is unlikely where the rule is followed
        noise = rng.normal(size=(2, 200))
        return confidence.Likelihoods(rng.normal(-1, 1, (200, 9)), answer, answer, *noise)

    train, test = planted(1.0), planted(1.0)
    found = confidence.confidence_detectors(train, test, labels, [0.1, 1.0], (50, 0))
    for name in ("perplexity", "min_k_answer"):
        assert roc_auc(labels, found[name].scores) > 0.95 and found[name].train_auc > 0.95
    assert found["min_k_answer"].choice == "k 10%"
    assert abs(roc_auc(labels, found["min_k_prompt"].scores) - 0.5) < 0.12
    turned = confidence.confidence_detectors(train, planted(-1.0), labels, [0.1], (50, 0))
    assert roc_auc(labels, turned["perplexity"].scores) < 0.05  # the sign is that of train keys


# -- inside ----------------------------------------------------------------------------------------
def planted_states(n_keys: int = 12, per_key: int = 20) -> tuple[Examples, np.ndarray, np.ndarray]:
    """Train examples, test states and test labels; layer 2 alone holds the behaviour, in coordinate 1."""
    rng = np.random.default_rng(0)
    n = n_keys * per_key
    labels, keys = np.tile([0, 1], n // 2), np.repeat(np.arange(n_keys), per_key)
    x, new = rng.normal(size=(2, n, 3, 5))
    for one in (x, new):
        one[:, 1, 1] += 3.0 * labels
    return Examples(x, labels, keys), new, labels


def test_the_projection_finds_the_layer_and_the_direction():
    train, test, labels = planted_states()
    found = states.projection(train, test, seed=0)
    assert found.choice == "layer 2" and found.train_auc > 0.95
    assert roc_auc(labels, found.scores) > 0.95
    x = train.states[:, 1]  # LiReF: mean of one side less the mean of the other, at length 1
    theirs = x[labels == 1].mean(0) - x[labels == 0].mean(0)
    theirs = test[:, 1] @ (theirs / np.linalg.norm(theirs))
    np.testing.assert_allclose(found.scores, theirs, rtol=1e-9)
    assert not states.unit_difference(x, np.zeros(len(x))).any()


def test_the_kept_probe_is_read_in_its_layer():
    arrays = {"weight": np.array([[9.0, 9.0], [1.0, -1.0]]), "bias": np.array([9.0, 0.5])}
    found = states.fitted_probe(arrays, 2, 0.7, np.array([[[5.0, 5.0], [3.0, 1.0]]]))
    assert list(found.scores) == [2.5] and found.train_auc == 0.7 and found.choice == "layer 2"


# -- words -----------------------------------------------------------------------------------------
def test_pairs_of_columns_are_those_written_out():
    rng = np.random.default_rng(0)
    x, new = rng.normal(size=(30, 4)), rng.normal(size=(7, 4))
    old, other = words.pairwise(x, new)
    scale = np.sqrt((x**2).sum(1).mean())
    np.testing.assert_allclose(old @ old.T, (1 + x @ x.T / scale**2) ** 2, atol=1e-9)
    written = PolynomialFeatures(2)
    columns = written.fit_transform(x / scale)
    powers = written.powers_
    # (1 + x.y)^2: twice each single column, twice each product of two different ones
    weight = np.where(powers.max(1) == 2, 1.0, np.sqrt(2.0)) * (powers.sum(1) > 0) + (
        powers.sum(1) == 0
    )
    explicit, explicit_new = columns * weight, written.transform(new / scale) * weight
    np.testing.assert_allclose(other @ old.T, explicit_new @ explicit.T, atol=1e-9)
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    fits = [
        LogisticRegression(fit_intercept=False, max_iter=9000, tol=1e-9)
        .fit(a, y)
        .decision_function(b)
        for a, b in ((old, other), (explicit, explicit_new))
    ]
    np.testing.assert_allclose(*fits, atol=1e-4)


def test_pairs_of_tokens_know_what_no_token_knows_alone():
    rng = np.random.default_rng(0)
    n = 240
    tokens = rng.integers(0, 2, size=(2, n, 3))
    keys = np.arange(n) % 12
    sides = [PromptFeatures(t, pd.DataFrame(index=range(n))) for t in tokens]
    labels, truth = (t[:, 0] ^ t[:, 2] for t in tokens)  # either, and not both
    alone = words.prompt_only(*sides, labels, keys, 0)
    pairs = words.prompt_interactions(*sides, labels, keys, 0)
    assert abs(roc_auc(truth, alone.scores) - 0.5) < 0.15
    assert roc_auc(truth, pairs.scores) > 0.95 and pairs.train_auc > 0.95


# -- asking again ----------------------------------------------------------------------------------
def again_of(
    built: tuple, n: int = 3, split: str = "test"
) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    model, tokenizer, task, _, answered = built
    rows = labelled(answered[answered.rephrasing == 0], split, 999)
    known = answered.drop_duplicates("prompt").set_index("prompt").answer
    table = perturbation.changed_prompts(task, rows, n)
    return rows, perturbation.asked_again(model, tokenizer, task, rows, table, known), known


def test_asking_again_reuses_what_lab_03_asked_and_answers_the_rest_alike(asking):
    model, tokenizer, task, _, answered = asking
    rows, again, known = again_of(asking)
    mine = answered[(answered.rephrasing > 0) & answered.group.isin(rows.group)]
    assert set(mine.prompt) <= set(again.prompt)
    assert (~again.prompt.isin(known.index)).any()  # and some that it did not ask
    fresh = perturbation.asked_again(
        model, tokenizer, task, rows, again.drop(columns="answer"), known.head(0)
    )
    pd.testing.assert_frame_equal(fresh[again.columns], again)
    assert again.groupby(["row", "change"]).size().max() == 3
    assert again.groupby(["row", "change"]).prompt.nunique().max() == 3


def aucs(built: tuple) -> dict[str, float]:
    rows, test, _ = again_of(built)
    old, train, _ = again_of(built, split="train")
    labels, truth = ((of.behavior == "generalization").to_numpy().astype(int) for of in (old, rows))
    found = perturbation.perturbation_detectors(train, test, labels, len(rows))
    return {name: roc_auc(truth, one.scores) for name, one in found.items()}


def test_where_content_matters_the_answer_that_stays_is_memory(asking):
    found = aucs(asking)
    assert found["content_unchanged"] == found["content_solved"] == 1.0
    assert found["order_unchanged"] == 0.5  # nothing changes in another order
    assert found["order_solved"] == 1.0  # right answers alone tell, whatever is changed


def test_it_must_fail_where_memory_changes_with_the_question():
    """A remembered answer to each content: both answers change, and only right answers tell them apart."""
    found = aucs(made(MemorizedRule))
    assert found["content_unchanged"] == 0.5 and found["content_solved"] == 1.0


def test_it_must_fail_where_the_change_leaves_the_rules_answer():
    built = made(IdleContent)
    assert again_of(built)[1].same_rule.all()
    assert aucs(built)["content_unchanged"] == 0.5


def test_a_prompt_that_cannot_be_changed_speaks_for_neither():
    again = pd.DataFrame(
        {
            "row": [0, 0, 2, 2],
            "change": ["content"] * 4,
            "number": [0, 1, 0, 1],
            "unchanged": [True, False, False, False],
        }
    )
    assert list(perturbation.shares(again, 3, "content", "unchanged")) == [0.5, 0.5, 0.0]
    assert list(perturbation.shares(again, 3, "content", "unchanged", 1)) == [1.0, 0.5, 0.0]
    assert list(perturbation.shares(again, 2, "order", "unchanged")) == [0.5, 0.5]


def test_where_nothing_was_asked_again_nothing_is_said(asking):
    model, tokenizer, task, _, answered = asking
    rows = labelled(answered[answered.rephrasing == 0], "test", 9)
    none = perturbation.changed_prompts(task, rows, 1).head(0)
    known = pd.Series(dtype=object)
    again = perturbation.asked_again(model, tokenizer, task, rows, none, known)
    assert list(perturbation.shares(again, 9, "content", "solved")) == [0.5] * 9
    found = perturbation.perturbation_detectors(again, again, np.arange(9) % 2, 9)
    assert all(one.train_auc == 0.5 for one in found.values())


def test_limem_is_accuracy_times_what_a_change_breaks():
    solved, still = np.array([True, True, False, True]), np.array([1.0, 0.0, 0.0, 0.5])
    assert perturbation.local_memorization(solved, still) == pytest.approx(0.75 * 0.5)
    assert perturbation.local_memorization(np.array([False]), np.array([1.0])) == 0.0
    assert np.isnan(perturbation.local_memorization(np.array([], bool), np.array([])))


def test_the_planted_model_says_what_it_is_meant_to(asking):
    *_, answered = asking
    shares = answered.behavior.value_counts(normalize=True)
    assert shares.min() > 0.03 and len(shares) == 3
    assert isinstance(asking[2], Asking)
