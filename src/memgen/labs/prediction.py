"""Lab 05: probes and their baselines. Fitted and chosen on train keys, reported on test keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from memgen.config.analyses import PredictionParameters
from memgen.errors import InapplicableError
from memgen.models.generate import states_and_scores, tokenize_prompts
from memgen.models.origin import load_origin
from memgen.neurons.baselines import (
    Forecast,
    base_forecast,
    baselines,
    best_layer,
    gains,
    prompt_forecasts,
    strongest,
)
from memgen.neurons.ceiling import ceiling_forecast
from memgen.neurons.lens import first_tokens
from memgen.neurons.probes import Examples, fit_probes, probe_arrays, probe_by_layer
from memgen.neurons.prompt_features import PromptFeatures, one_hot, prompt_features, role_matrix
from memgen.neurons.states import Known, hidden_states, is_rule
from memgen.stats.auc import auc_within
from memgen.stats.columns import columns, interval_pairs, numbers
from memgen.stats.intervals import NAN, interval, number
from memgen.stats.reported import between, ends, shown
from memgen.store.reader import FinishedStage
from memgen.tasks.dataset import spread
from memgen.terms import FORECASTS, GENERALIZATION, MEMORIZATION, OTHER, Site

__all__ = [  # for the notebook
    "Known",
    "baselines",
    "best_layer",
    "fit_probes",
    "probe_arrays",
    "probe_by_layer",
    "prompt_features",
    "prompt_forecasts",
]
CEILING = "ceiling"
NO_INTERVAL = [None, None]


def prompts(answered: pd.DataFrame, split: str, limit: int) -> pd.DataFrame:
    """At most `limit` different prompts of a split that show a behaviour, evenly over the keys."""
    chosen = answered[answered.behavior != OTHER].drop_duplicates("prompt")
    return spread(chosen[chosen.split == split], limit).reset_index(drop=True)


def asked(answered: pd.DataFrame, limit: int) -> list[pd.DataFrame]:
    """The prompts of train and of test keys. Errors: `InapplicableError` without both behaviours."""
    found = [prompts(answered, split, limit) for split in ("train", "test")]
    for split, rows in zip(("train", "test"), found):
        for behavior in (MEMORIZATION, GENERALIZATION):
            if not (rows.behavior == behavior).any():
                raise InapplicableError(
                    f"no conflict prompt of {split} keys shows {behavior}, so there is nothing to tell"
                    " apart; raise n_conflict_per_key, or take a model that shows both behaviours"
                )
    return found


def examples(
    model,
    tokenizer,
    rows: pd.DataFrame,
    site: Site,
    known: Known | None = None,
    *,
    scored: bool = False,
) -> Examples:
    """These prompts with their hidden states [n, L, d] at the decision position.

    `scored`: with what the model's own first-token distribution gives away, too. What is `known` of the
    prompts is not read again.
    """
    scores: dict[str, np.ndarray] = {}
    if scored and known is not None and known.covers(rows.prompt, site):
        states = known.read(site, rows.prompt)
        scores = {name: known.read(name, rows.prompt) for name in ("answer_margin", "entropy")}
    elif scored:
        tokens = tokenize_prompts(tokenizer, list(rows.prompt))
        read, scores = states_and_scores(model, *tokens, site)
        states = read.numpy()
    else:
        states = hidden_states(model, tokenizer, rows.prompt, site, known)
    return Examples(states, is_rule(rows), rows.key.to_numpy(), scores)


def base_forecasts(
    trained: FinishedStage,
    tokenizer,
    rows: Sequence[pd.DataFrame],
    site: Site,
    p: PredictionParameters,
) -> dict[str, Forecast]:
    """`base_probe`: the same probe on what the base, which saw no key, holds of the same prompts.

    trained: the run's training stage; rows: train and test prompts. Without a base: nothing.
    """
    base = load_origin(trained)
    if base is None:
        return {}
    train, test = (examples(base, tokenizer, part, site) for part in rows)
    return {"base_probe": base_forecast(train, test.states, fit_probes(train, seed=p.seed))}


def ceiling(
    tokenizer,
    rows: Sequence[pd.DataFrame],
    known: Sequence[PromptFeatures],
    sides: Sequence[Examples],
    seed: int,
) -> dict[str, Forecast]:
    """`ceiling`: a network of the best layer's states [n, d], the prompt, both answers' first tokens.

    rows, known, sides: each of train and test.
    """
    parts = [
        one_hot(*(of.tokens for of in known)),
        role_matrix(*(of.roles for of in known)),
        one_hot(*(first_tokens(tokenizer, part) for part in rows)),
    ]
    old, new = (np.hstack([part[i] for part in parts]) for i in range(2))
    train, test = sides
    return {CEILING: ceiling_forecast(train, test.states, (old, new), seed)}


def with_gains(
    others: pd.DataFrame,
    test: Examples,
    probe: np.ndarray,
    forecasts: Mapping[str, Forecast],
    *,
    seed: int,
    n_resamples: int,
) -> pd.DataFrame:
    """The table of baselines with the probe's gain over each forecast: gain, gain_low, gain_high."""
    found = gains(test, probe, forecasts, seed=seed, n_resamples=n_resamples)
    rows = [{"name": name} | columns(gain=one) for name, one in found.items()]
    table = pd.DataFrame(rows, columns=["name", "gain", "gain_low", "gain_high"])
    return others.merge(table, on="name", how="left")


def within(
    test: Examples, probe: np.ndarray, of: PromptFeatures, *, seed: int, n_resamples: int
) -> dict:
    """The probe's AUC among prompts of one key, of one nearness and of one cell, with intervals."""
    groups = {"key": test.keys, "setting": of.nearness, "cell": of.cells}
    result = {}
    for name, group in groups.items():
        known = np.array([]) if group is None else np.unique(group, return_inverse=True)[1]
        rows = slice(0, len(known))
        given = (test.keys[rows], test.labels[rows], probe[rows], known)
        found = interval(auc_within, *given, seed=seed, n_resamples=n_resamples)
        result |= {
            f"auc_within_{name}": number(found.estimate),
            f"auc_within_{name}_interval": ends(found),
        }
    return result


def scores_table(
    test: Examples, probe: np.ndarray, forecasts: Mapping[str, Forecast], above: Forecast
) -> pd.DataFrame:
    """One row per test prompt: key, `label` (1: rule), and scores, higher: rule.

    `probe`, a column per forecast (nan: the task or the run has none), that of the strongest one as
    `chosen_baseline`, and `ceiling`.
    """
    table = pd.DataFrame({"key": test.keys, "label": test.labels, "probe": probe})
    for name in FORECASTS:
        table[name] = forecasts[name].scores if name in forecasts else NAN
    chosen = strongest(forecasts)
    return table.assign(chosen_baseline=table[chosen] if chosen else NAN, ceiling=above.scores)


def summary(probes: pd.DataFrame, others: pd.DataFrame, site: Site, best: int) -> dict:
    """`result.json` from the probes of the first site and the baselines; lists are by layer."""
    of, pairs, at = others.set_index("name"), interval_pairs(probes, "auc"), probes.iloc[best]
    return {
        "site": site,
        "best_layer": best + 1,
        "n_train": int(at.n_train),
        "n_test": int(at.n_test),
        "n_test_keys": int(at.n_test_keys),
        "accuracy": numbers(probes.accuracy),
        "auc": numbers(probes.auc),
        "auc_interval": pairs,
        "best_auc": number(at.auc),
        "best_auc_interval": pairs[best],
        "prompt_only_auc": number(of.auc["prompt_only"]),
        "shuffled_auc": number(of.auc["shuffled_labels"]),
        "margin_auc": number(of.auc["answer_margin"]),
        "entropy_auc": number(of.auc["entropy"]),
        "majority": number(of.accuracy["majority"]),
        "ceiling_auc": number(of.auc[CEILING]),
        "ceiling_interval": numbers([of.auc_low[CEILING], of.auc_high[CEILING]]),
    }


def beside(others: pd.DataFrame, forecasts: Mapping[str, Forecast]) -> dict:
    """Every forecast's numbers by name, and those of the strongest one on *train* keys.

    `baselines[name]`: auc, interval, cv_auc (train keys), gain, gain_interval; None: it has none.
    """
    of = others.set_index("name")
    found = {}
    for name in FORECASTS:
        row = of.loc[name] if name in of.index else pd.Series(np.nan, index=of.columns)
        found[name] = {
            "auc": number(row.auc),
            "interval": numbers([row.auc_low, row.auc_high]),
            "cv_auc": number(row.cv_auc),
            "gain": number(row.gain),
            "gain_interval": numbers([row.gain_low, row.gain_high]),
        }
    chosen = strongest(forecasts)
    at = found.get(chosen, {})
    return {
        "baselines": found,
        "chosen_baseline": chosen,
        "chosen_baseline_auc": at.get("auc"),
        "chosen_baseline_interval": at.get("interval", NO_INTERVAL),
        "gain": at.get("gain"),
        "gain_interval": at.get("gain_interval", NO_INTERVAL),
    }


def shared_keys(answered: pd.DataFrame) -> set[str]:
    """Keys of both train and test prompts; there must be none."""
    train, test = (set(answered.key[answered.split == split]) for split in ("train", "test"))
    return train & test


def in_words(r: dict) -> str:
    """The answer of the lab: the best layer's probe beside the strongest of its baselines."""
    chosen = r["chosen_baseline"]
    against = "no baseline could be fitted"
    if chosen:
        against = (
            f"strongest baseline on train keys: {FORECASTS[chosen]}, {shown(r['chosen_baseline_auc'])};"
            f" gain over it and over chance {shown(r['gain'], '+.2f')}"
            f" {between(r['gain_interval'], '+.2f')}"
        )
    return (
        f"AUC {shown(r['best_auc'])} {between(r['best_auc_interval'])} at layer {r['best_layer']} on"
        f" {r['n_test']} prompts of {r['n_test_keys']} test keys; {against}; within one key"
        f" {shown(r['auc_within_key'])}, within one setting {shown(r['auc_within_setting'])}; shuffled"
        f" labels {shown(r['shuffled_auc'])}."
    )
