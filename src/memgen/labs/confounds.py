"""What else could explain that a behaviour is foretold: the words, the answer itself, chance, the
key.

Five ways to be fooled, each measured on one model. Labels are 1 = generalization, 0 = memorization.
Whatever is fitted or chosen uses train keys; whatever is reported comes from test keys, but for the
comparison of two splits, which stays among train keys. Intervals are a bootstrap over keys. A
number that does not exist (no such pair, one behaviour only) is nan in the tables and None in the
result.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import torch

from memgen.config.analyses import ConfoundsParameters
from memgen.models.generate import sample_answers, tokenize_prompts
from memgen.models.sites import bare
from memgen.neurons.baselines import prompt_scores
from memgen.neurons.lens import first_token_margins, first_tokens, lens_error, lens_logits
from memgen.neurons.movement import context
from memgen.neurons.pairs import flips
from memgen.neurons.probes import probe_scores, refuse_shared_keys
from memgen.neurons.splits import compare_splits
from memgen.neurons.states import hidden_states, is_rule, labelled
from memgen.stats.auc import roc_auc
from memgen.stats.columns import columns, interval_pairs, numbers
from memgen.stats.intervals import NAN, Bootstrap, interval, number, weighted_mean
from memgen.tasks import Task, instances
from memgen.tasks.answers import behaviors
from memgen.tasks.dataset import spread
from memgen.terms import BEHAVIORS

PROBE_COLUMNS = {
    "probe_auc": "probe",
    "lead": "lead",
    "gain": "gain",
}  # name in the result: column of the table


def study(
    model, tokenizer, task: Task, answered: pd.DataFrame, p: ConfoundsParameters
) -> tuple[dict, dict[str, pd.DataFrame], dict]:
    """All five measurements: `(result, tables, seconds)` of the stage. Tables: `context`,
    `reading`, `guessing`, `split`.
    """
    began = time.monotonic()
    parts = {split: labelled(answered, split, p.n_prompts) for split in ("train", "test")}
    states = {
        split: hidden_states(model, tokenizer, part.prompt, p.site) for split, part in parts.items()
    }
    context_result, context_table = context(model, tokenizer, answered, p)
    reading_result, reading_table = read_answers(model, tokenizer, parts, states, p)
    guessing_result, guessing_table = guessing(model, tokenizer, task, answered, p)
    split_result, split_table = compare_splits(
        states["train"],
        is_rule(parts["train"]),
        parts["train"].key.to_numpy(),
        p.seed,
        p.n_resamples,
    )
    reading_result["lens"] |= at_layer(reading_table, split_result["best_layer"], "best")
    result = {
        "site": p.site,
        "n_train": len(parts["train"]),
        "n_test": len(parts["test"]),
        "n_test_keys": int(parts["test"].key.nunique()),
        "context": context_result,
        **reading_result,
        "guessing": guessing_result,
        "split": split_result,
    }
    tables = {
        "context": context_table,
        "reading": reading_table,
        "guessing": guessing_table,
        "split": split_table,
    }
    return result, tables, {"seconds": round(time.monotonic() - began, 1)}


def read_answers(
    model,
    tokenizer,
    parts: dict[str, pd.DataFrame],
    states: dict[str, np.ndarray],
    p: ConfoundsParameters,
) -> tuple[dict, pd.DataFrame]:
    """Logit lens, probe and prompt-only classifier on the prompts whose two answers differ in their
    first token, the only one this position writes.
    """
    tokens = {split: first_tokens(tokenizer, part) for split, part in parts.items()}
    differ = {split: pair[:, 0] != pair[:, 1] for split, pair in tokens.items()}
    kept = {split: part[differ[split]].reset_index(drop=True) for split, part in parts.items()}
    states, tokens = (
        {split: arrays[split][differ[split]] for split in parts} for arrays in (states, tokens)
    )
    logits = lens_logits(model, states["test"], tokens["test"])
    margins = logits[..., 1] - logits[..., 0]
    labels, keys = (
        {split: of(rows) for split, rows in kept.items()}
        for of in (is_rule, lambda rows: rows.key.to_numpy())
    )
    words = word_scores(tokenizer, kept, p.seed)
    result, table = leakage(margins, states, words, labels, keys, p.readable, p.seed, p.n_resamples)
    error = lens_error(model, tokenizer, kept["test"], tokens["test"], margins[:, -1])
    prompt = _auc_interval(labels["test"], keys["test"], words, p.seed, p.n_resamples)
    return {
        "lens": {
            **result,
            "share_used": len(kept["test"]) / len(parts["test"]) if len(parts["test"]) else None,
            "error": number(error),
            "is_the_models_own": (
                None if np.isnan(error) else error <= torch.finfo(bare(model).dtype).eps ** 0.5
            ),
        },
        "prompt_only_auc": number(prompt.estimate),
        "prompt_only_interval": [number(prompt.low), number(prompt.high)],
    }, table


def leakage(
    margins: np.ndarray,
    states: dict[str, np.ndarray],
    words: np.ndarray,
    labels: dict[str, np.ndarray],
    keys: dict[str, np.ndarray],
    readable: float,
    seed: int,
    n_resamples: int,
) -> tuple[dict, pd.DataFrame]:
    """AUC for the behaviour by layer, of the lens margin (rule answer over memory answer) and of a
    probe, on the same test prompts.

    Of test prompts: margins `[n, L]`, and words `[n]`, the score of a classifier that sees the
    prompt only. By split (`train`, `test`): states `[n, L, d]`, labels and keys `[n]`. The probe is
    that of `prediction.probe_by_layer`; nothing about the lens is fitted. The answer counts as
    readable from the first layer on whose lens AUC reaches `readable` (here, on test keys: this
    describes the lens, nothing is tuned by it); `before` is the layer just below it (the last layer
    where none reaches it). `lead` is what the probe's AUC has over the lens's, `gain` what it has
    over that of the words. Columns of the table: layer (from 1), lens, probe, lead and gain, each
    with _low and _high, n, n_keys.
    """
    refuse_shared_keys(keys["train"], keys["test"])
    truth, of, rows = labels["test"], keys["test"], []
    for layer in range(margins.shape[1]):
        scores = np.full(len(truth), np.nan)
        if len(labels["train"]):
            scores = probe_scores(
                states["train"][:, layer],
                labels["train"],
                keys["train"],
                states["test"][:, layer],
                seed=seed,
            )
        lens, probe = (
            _auc_interval(truth, of, values, seed, n_resamples)
            for values in (margins[:, layer], scores)
        )
        lead, gain = (
            interval(_auc_lead, of, truth, scores, other, seed=seed, n_resamples=n_resamples)
            for other in (margins[:, layer], words)
        )
        rows.append(
            {"layer": layer + 1, "n": len(truth), "n_keys": len(np.unique(of))}
            | columns(lens=lens, probe=probe, lead=lead, gain=gain)
        )
    table = pd.DataFrame(rows)
    reached = np.flatnonzero(table.lens >= readable)
    layer = int(reached[0]) + 1 if len(reached) else None
    before = len(table) if layer is None else layer - 1  # 0: there is no layer below the first
    result = {
        "auc": numbers(table.lens),
        "auc_interval": interval_pairs(table, "lens"),
        "n": len(truth),
        "n_keys": len(np.unique(of)),
        "n_train": len(labels["train"]),
        "readable": readable,
        "readable_layer": layer,
        "layer_before": before or None,
    }
    for name, column in PROBE_COLUMNS.items():
        result |= {name: numbers(table[column]), f"{name}_interval": interval_pairs(table, column)}
    return result | at_layer(table, before or None, "before"), table


def at_layer(table: pd.DataFrame, layer: int | None, name: str) -> dict:
    """The probe's row of a layer (from 1) in the table of `leakage`, as `probe_auc_<name>`,
    `lead_<name>`, `gain_<name>` with intervals.
    """
    row = pd.Series(np.nan, index=table.columns) if layer is None else table.iloc[layer - 1]
    found = {f"{key}_{name}": number(row[column]) for key, column in PROBE_COLUMNS.items()}
    return found | {
        f"{key}_{name}_interval": numbers([row[f"{column}_low"], row[f"{column}_high"]])
        for key, column in PROBE_COLUMNS.items()
    }


def word_scores(tokenizer, parts: dict[str, pd.DataFrame], seed: int) -> np.ndarray:
    """Log odds of generalization `[n]` of the test prompts from which token stands where in the
    prompt, without the model.
    """
    train, test = parts["train"], parts["test"]
    if train.empty or test.empty:
        return np.full(len(test), np.nan)
    ids = tokenize_prompts(tokenizer, [*train.prompt, *test.prompt])[
        0
    ].numpy()  # together, so that a column is one place, counted from the end
    return prompt_scores(
        ids[: len(train)], is_rule(train), train.key.to_numpy(), ids[len(train) :], seed=seed
    )


def _auc_interval(
    labels: np.ndarray, keys: np.ndarray, scores: np.ndarray, seed: int, n_resamples: int
) -> Bootstrap:
    return interval(roc_auc, keys, labels, scores, seed=seed, n_resamples=n_resamples)


def _auc_lead(labels, first, second, weights):
    return roc_auc(labels, first, weights) - roc_auc(labels, second, weights)


def flipping_and_stable(answered: pd.DataFrame, limit: int) -> dict[str, pd.DataFrame]:
    """Test prompts by kind, at most `limit` each: `flip`, those of a flip pair; `stable`, those all
    of whose rephrasings show one behaviour.

    A prompt that is a rephrasing of several originals can be both; it counts as flipping.
    """
    test = answered[answered.split == "test"].reset_index(drop=True)
    pairs = flips(test)
    kinds = test.groupby("group").behavior.agg(["nunique", "size"])
    constant = kinds.index[(kinds["nunique"] == 1) & (kinds["size"] > 1)]
    flipping = test.loc[sorted({*pairs.memory, *pairs.rule})]
    stable = test[
        test.group.isin(constant) & (test.behavior != "other") & ~test.prompt.isin(flipping.prompt)
    ]
    found = {"flip": flipping, "stable": stable}
    return {
        kind: (
            spread(
                rows.sort_values(["key", "group", "rephrasing"], kind="stable").drop_duplicates(
                    "prompt"
                ),
                limit,
            ).reset_index(drop=True)
        )
        for kind, rows in found.items()
    }


def guessing(
    model, tokenizer, task: Task, answered: pd.DataFrame, p: ConfoundsParameters
) -> tuple[dict, pd.DataFrame]:
    """Sampled behaviours beside the greedy one, and the first-token margin, of prompts that flip
    and of prompts that do not.

    The table has one row a prompt: kind, key, behavior (greedy), the shares of samples that show
    the same behaviour (`agreement`), the `opposite` one and neither (`other`), and `margin`, how
    far apart the log-probabilities of the two answers' first tokens are (nan where that token is
    one).
    """
    tables = []
    for which, (kind, rows) in enumerate(
        flipping_and_stable(answered, max(1, p.n_prompts // 2)).items()
    ):
        table = rows[["key", "behavior"]].assign(
            kind=kind, agreement=NAN, opposite=NAN, other=NAN, margin=NAN
        )
        if len(rows):
            texts = sample_answers(
                model,
                tokenizer,
                list(rows.prompt),
                p.n_samples,
                p.temperature,
                task.max_answer_tokens,
                p.seed + which,
            )
            codes = np.stack(
                [
                    behaviors(task, [row] * p.n_samples, samples)
                    for row, samples in zip(instances(rows), texts)
                ]
            )  # [n, samples]
            greedy = rows.behavior.map(BEHAVIORS.index).to_numpy()[:, None]
            table = table.assign(
                agreement=(codes == greedy).mean(1),
                opposite=(codes == 1 - greedy).mean(1),
                other=(codes == BEHAVIORS.index("other")).mean(1),
                margin=first_token_margins(model, tokenizer, rows),
            )
        tables.append(table)
    result = {
        kind: summary(table, p.seed, p.n_resamples)
        for kind, table in zip(("flip", "stable"), tables)
    }
    both = pd.concat([table for table in tables if len(table)] or tables, ignore_index=True)
    gap = interval(
        _gap,
        both.key.to_numpy(),
        both.agreement.to_numpy(),
        (both.kind == "stable").to_numpy(),
        seed=p.seed,
        n_resamples=p.n_resamples,
    )
    return {
        "n_samples": p.n_samples,
        "temperature": p.temperature,
        **result,
        "gap": number(gap.estimate),
        "gap_interval": [number(gap.low), number(gap.high)],
    }, both


def summary(table: pd.DataFrame, seed: int, n_resamples: int) -> dict:
    """Mean shares with intervals over keys, and the quartiles of the margins, of one kind of
    prompts in the table of `guessing`.
    """
    found: dict = {"n": len(table), "n_keys": int(table.key.nunique())}
    for name in ("agreement", "opposite", "other"):
        share = interval(
            weighted_mean,
            table.key.to_numpy(),
            table[name].to_numpy(),
            seed=seed,
            n_resamples=n_resamples,
        )
        found |= {
            name: number(share.estimate),
            "interval" if name == "agreement" else f"{name}_interval": [
                number(share.low),
                number(share.high),
            ],
        }
    margins = table.margin.dropna()
    quartiles = numbers(margins.quantile([0.25, 0.5, 0.75])) if len(margins) else [None] * 3
    return found | {
        "margin_quartiles": quartiles,
        "margin_median": quartiles[1],
        "n_margin": len(margins),
    }


def _gap(agreement, stable, weights):
    """Mean agreement of the stable prompts over that of the others, `[B]`; nan where there are none
    of a kind.
    """
    totals = [
        (weights @ (agreement * chosen), weights @ chosen.astype(float))
        for chosen in (stable, ~stable)
    ]
    stays, turns = (
        np.divide(part, n, out=np.full(len(weights), np.nan), where=n > 0) for part, n in totals
    )
    return stays - turns
