"""Can the behaviour be told before the answer is written? Linear probes on hidden states, and what
they must beat.

Labels are 1 = generalization, 0 = memorization; the caller drops "other". Keys name what each
prompt was built from. Everything that is fitted or chosen (weights, C, orientation, threshold) uses
train keys only, and a key on both sides is refused. Intervals are a bootstrap over test keys with
the probe held fixed: they say how far a score depends on these test keys, not how far it depends on
training probe and model again (that is what seeds are for).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from memgen.neurons.probes import C_GRID, checked_sets, features, fit_probe, probe_scores, scored
from memgen.stats.auc import best_threshold, roc_auc


def prompt_scores(
    train_tokens: np.ndarray,
    train_labels: np.ndarray,
    train_keys: np.ndarray,
    test_tokens: np.ndarray,
    *,
    seed: int,
) -> np.ndarray:
    """The same from which token stands where in the prompt, [n, T] and [m, T], so from the prompt
    without the model: the baseline `prompt_only`.
    """
    train, test = _one_hot(train_tokens, test_tokens)
    return probe_scores(train, train_labels, train_keys, test, seed=seed, standardise=False)


def baselines(
    train_labels: np.ndarray,
    train_keys: np.ndarray,
    test_labels: np.ndarray,
    test_keys: np.ndarray,
    *,
    train_states: np.ndarray,
    test_states: np.ndarray,
    prompt_only: np.ndarray,
    train_scores: Mapping[str, np.ndarray],
    test_scores: Mapping[str, np.ndarray],
    seed: int,
    n_shuffles: int = 5,
    c_grid: Sequence[float] = C_GRID,
    n_resamples: int = 1000,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """What a probe has to beat, on the same rows, as a table with one row per name:

    - majority: the train set's more frequent behaviour, always;
    - shuffled_labels: the probe on `states` [n, d] of one layer, refitted `n_shuffles` times to
      permuted train labels. Its scores are means over the shuffles, its intervals the spread of a
      single one (shuffle and test keys);
    - prompt_only: log odds [n] of the test prompts from their tokens alone, as `prompt_scores`
      gives them;
    - one row per entry of `scores` ({"answer_margin": [n], "entropy": [n]}), each a single number
      per prompt such as the model's own next-token statistics. Orientation (is high rule or
      memory?) and threshold come from train.

    labels, keys: [n]. Columns: name, accuracy, accuracy_low, accuracy_high, auc, auc_low, auc_high,
    n, n_keys. One class in train or test is treated as in `probe_by_layer`; so are errors.
    """
    import pandas as pd

    train_labels, train_keys, test_labels, test_keys = checked_sets(
        train_labels, train_keys, test_labels, test_keys
    )
    train_states = features("train_states", train_states, train_labels, ndim=2)
    test_states = features("test_states", test_states, test_labels, ndim=2)
    if set(train_scores) != set(test_scores):
        raise ValueError(
            f"scores of train and test differ: {sorted(train_scores)} and {sorted(test_scores)}"
        )

    rows = []

    def add(name: str, scores: np.ndarray, answers: np.ndarray) -> None:
        row = scored(test_labels, test_keys, scores, answers, seed, n_resamples, confidence)
        rows.append({"name": name} | row)

    always = np.full((1, len(test_labels)), train_labels.mean() >= 0.5)
    add("majority", always.astype(float), always)

    rng = np.random.default_rng(seed)
    shuffled = np.empty((n_shuffles, len(test_labels)))
    for i in range(n_shuffles):
        probe = fit_probe(train_states, rng.permutation(train_labels), train_keys, c_grid, seed)
        shuffled[i] = probe.log_odds(test_states)
    add("shuffled_labels", shuffled, shuffled > 0)

    scores = np.asarray(prompt_only)[None]
    add("prompt_only", scores, scores > 0)

    for name in train_scores:
        train = features(f"train_scores[{name!r}]", train_scores[name], train_labels, ndim=1)
        test = features(f"test_scores[{name!r}]", test_scores[name], test_labels, ndim=1)
        train_auc = roc_auc(train_labels, train)
        sign = -1.0 if train_auc < 0.5 else 1.0
        scores = sign * test[None] if np.isfinite(train_auc) else np.where(always, np.inf, -np.inf)
        add(name, scores, scores > best_threshold(train_labels, sign * train))
    return pd.DataFrame(rows)


def _one_hot(train_tokens: np.ndarray, test_tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One column per position and token seen there in train [n, columns]; a token new in test is a
    row of zeros.
    """
    vocabulary = [np.unique(column) for column in train_tokens.T]
    train, test = (
        np.hstack(
            [tokens[:, [position]] == seen for position, seen in enumerate(vocabulary)]
        ).astype(np.float64)
        for tokens in (train_tokens, test_tokens)
    )
    return train, test
