"""What else could explain that a behaviour can be predicted: words, answer, chance, key.

Labels are 1 = generalization, 0 = memorization. Whatever is fitted or chosen uses train keys; what
is reported comes from test keys, but for the comparison of two splits (train keys). Intervals are a
bootstrap over keys. A number that does not exist is nan in the tables and None in the result.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from memgen.config.analyses import ConfoundsParameters
from memgen.models.generate import Sampling, sample_answers, tokenize_prompts
from memgen.models.sites import bare
from memgen.neurons.baselines import prompt_scores
from memgen.neurons.lens import first_token_margins, first_tokens, lens_error, lens_logits
from memgen.neurons.pairs import flips
from memgen.neurons.probes import Examples, probe_scores, refuse_shared_keys
from memgen.neurons.states import LabelledStates, different_prompts, is_rule
from memgen.stats.auc import roc_auc
from memgen.stats.columns import columns, interval_pairs, numbers
from memgen.stats.intervals import NAN, interval, number, weighted_mean
from memgen.stats.reported import between, ends, shown
from memgen.tasks import Task, instances
from memgen.tasks.answers import behaviors
from memgen.terms import BEHAVIORS, OTHER, OTHER_CODE

KINDS = ("flip", "stable")
PROBE_COLUMNS = {  # name in the result: column of the table
    "probe_auc": "probe",
    "lead": "lead",
    "gain": "gain",
}


def read_answers(
    model, tokenizer, train: LabelledStates, test: LabelledStates, p: ConfoundsParameters
) -> tuple[dict, pd.DataFrame]:
    """Lens, probe and prompt-only classifier where the two answers differ in the first token."""
    n_asked = len(test)
    (train, _), (test, tokens) = (_told_apart(tokenizer, part) for part in (train, test))
    logits = lens_logits(model, test.states, tokens)
    margins = logits[..., 1] - logits[..., 0]
    words = word_scores(tokenizer, train.rows, test.rows, p.seed)
    result, table = leakage(margins, words, train.examples, test.examples, p)
    error = lens_error(model, tokenizer, test.rows, tokens, margins[:, -1])
    prompt = _over_keys(p, roc_auc, test.examples.keys, test.examples.labels, words)
    own = None if np.isnan(error) else error <= torch.finfo(bare(model).dtype).eps ** 0.5
    return {
        "lens": {
            **result,
            "share_used": len(test) / n_asked if n_asked else None,
            "error": number(error),
            "is_the_models_own": own,
        },
        "prompt_only_auc": number(prompt.estimate),
        "prompt_only_interval": ends(prompt),
    }, table


def _told_apart(tokenizer, part: LabelledStates) -> tuple[LabelledStates, np.ndarray]:
    """The prompts whose answers differ in their first token, with these tokens `[n, 2]`."""
    tokens = first_tokens(tokenizer, part.rows)
    differ = tokens[:, 0] != tokens[:, 1]
    return part[differ], tokens[differ]


def leakage(
    margins: np.ndarray,
    words: np.ndarray,
    train: Examples,
    test: Examples,
    p: ConfoundsParameters,
) -> tuple[dict, pd.DataFrame]:
    """AUC by layer of the lens margin (rule answer over memory answer) and of lab 05's probe.

    Of the same test prompts: margins `[n, L]`, and words `[n]`, the score of a classifier that sees
    the prompt only. The probe is fitted on `train`, nothing about the lens is. The answer counts as
    readable from the first layer whose lens AUC reaches `p.readable` (on test keys: nothing is
    tuned by it); `before` is the layer just below it (the last where none reaches it). `lead` is
    the probe's AUC less the lens's, `gain` less that of the words. Columns of the table: layer
    (from 1), lens, probe, lead and gain, each with _low and _high, n, n_keys.
    """
    refuse_shared_keys(train.keys, test.keys)
    truth, keys, rows = test.labels, test.keys, []
    for layer in range(margins.shape[1]):
        scores = np.full(len(truth), np.nan)
        if len(train.labels):
            x, new = train.at(layer).states, test.at(layer).states
            scores = probe_scores(x, train.labels, train.keys, new, seed=p.seed)
        lens, probe = (
            _over_keys(p, roc_auc, keys, truth, values) for values in (margins[:, layer], scores)
        )
        lead, gain = (
            _over_keys(p, _auc_lead, keys, truth, scores, other)
            for other in (margins[:, layer], words)
        )
        rows.append(
            {"layer": layer + 1, "n": len(truth), "n_keys": len(np.unique(keys))}
            | columns(lens=lens, probe=probe, lead=lead, gain=gain)
        )
    table = pd.DataFrame(rows)
    reached = np.flatnonzero(table.lens >= p.readable)
    layer = int(reached[0]) + 1 if len(reached) else None
    before = len(table) if layer is None else layer - 1  # 0: there is no layer below the first
    result = {
        "auc": numbers(table.lens),
        "auc_interval": interval_pairs(table, "lens"),
        "n": len(truth),
        "n_keys": len(np.unique(keys)),
        "n_train": len(train.labels),
        "readable": p.readable,
        "readable_layer": layer,
        "layer_before": before or None,
    }
    for name, column in PROBE_COLUMNS.items():
        result |= {name: numbers(table[column]), f"{name}_interval": interval_pairs(table, column)}
    return result | at_layer(table, before or None, "before"), table


def at_layer(table: pd.DataFrame, layer: int | None, name: str) -> dict:
    """A layer's (from 1) row of `leakage`: `probe_auc_<name>`, `lead_<name>`, `gain_<name>`."""
    row = pd.Series(np.nan, index=table.columns) if layer is None else table.iloc[layer - 1]
    found = {f"{key}_{name}": number(row[column]) for key, column in PROBE_COLUMNS.items()}
    return found | {
        f"{key}_{name}_interval": numbers([row[f"{column}_low"], row[f"{column}_high"]])
        for key, column in PROBE_COLUMNS.items()
    }


def word_scores(tokenizer, train: pd.DataFrame, test: pd.DataFrame, seed: int) -> np.ndarray:
    """Test prompts' log odds of generalization `[n]` from tokens by place, without the model."""
    if train.empty or test.empty:
        return np.full(len(test), np.nan)
    # tokenized together, so that a column is one place, counted from the end
    ids = tokenize_prompts(tokenizer, [*train.prompt, *test.prompt])[0].numpy()
    old, new = ids[: len(train)], ids[len(train) :]
    return prompt_scores(old, is_rule(train), train.key.to_numpy(), new, seed=seed)


def _over_keys(p: ConfoundsParameters, statistic, keys: np.ndarray, *arrays: np.ndarray):
    return interval(statistic, keys, *arrays, seed=p.seed, n_resamples=p.n_resamples)


def _auc_lead(labels, first, second, weights):
    return roc_auc(labels, first, weights) - roc_auc(labels, second, weights)


def flipping_and_stable(answered: pd.DataFrame, limit: int) -> dict[str, pd.DataFrame]:
    """Test prompts, at most `limit` each: `flip`, of a flip pair; `stable`, rephrasings all agree.

    Both by changes of order, which leave the question as it is. A prompt that is a rephrasing of
    several originals can be both; it counts as flipping.
    """
    same_question = answered.change.isin(("", "order"))
    test = answered[(answered.split == "test") & same_question].reset_index(drop=True)
    pairs = flips(test)
    kinds = test.groupby("group").behavior.agg(["nunique", "size"])
    constant = kinds.index[(kinds["nunique"] == 1) & (kinds["size"] > 1)]
    flipping = test.loc[sorted({*pairs.memory, *pairs.rule})]
    stable = test[
        test.group.isin(constant) & (test.behavior != OTHER) & ~test.prompt.isin(flipping.prompt)
    ]
    return {k: different_prompts(rows, limit) for k, rows in zip(KINDS, (flipping, stable))}


def guessing(
    model, tokenizer, task: Task, answered: pd.DataFrame, p: ConfoundsParameters
) -> tuple[dict, pd.DataFrame]:
    """Samples beside the greedy answer, and first-token margins, of flipping and stable prompts.

    One row per prompt: kind, key, behavior (greedy), the shares of samples with the same behaviour
    (`agreement`), the `opposite` one and neither (`other`), and `margin`, how far apart the
    log-probabilities of the answers' first tokens are (nan where that token is one).
    """
    asked, tables = flipping_and_stable(answered, max(1, p.n_prompts // 2)), {}
    for which, (kind, rows) in enumerate(asked.items()):
        table = rows[["key", "behavior"]].assign(
            kind=kind, agreement=NAN, opposite=NAN, other=NAN, margin=NAN
        )
        if len(rows):
            sampling = Sampling(p.n_samples, p.temperature, p.seed + which)
            texts = sample_answers(
                model, tokenizer, list(rows.prompt), task.max_answer_tokens, sampling
            )
            codes = np.stack(
                [behaviors(task, [r] * len(ts), ts) for r, ts in zip(instances(rows), texts)]
            )  # [n, samples]
            greedy = rows.behavior.map(BEHAVIORS.index).to_numpy()[:, None]
            table = table.assign(
                agreement=(codes == greedy).mean(1),
                opposite=(codes == 1 - greedy).mean(1),
                other=(codes == OTHER_CODE).mean(1),
                margin=first_token_margins(model, tokenizer, rows),
            )
        tables[kind] = table
    both = pd.concat(
        [table for table in tables.values() if len(table)] or list(tables.values()),
        ignore_index=True,
    )
    stays = (both.kind == "stable").to_numpy()
    gap = _over_keys(p, _gap, both.key.to_numpy(), both.agreement.to_numpy(), stays)
    return {
        "n_samples": p.n_samples,
        "temperature": p.temperature,
        **{kind: summary(table, p) for kind, table in tables.items()},
        "gap": number(gap.estimate),
        "gap_interval": ends(gap),
    }, both


def summary(table: pd.DataFrame, p: ConfoundsParameters) -> dict:
    """One kind's rows of `guessing`: mean shares with key intervals, quartiles of the margins."""
    found: dict = {"n": len(table), "n_keys": int(table.key.nunique())}
    for name in ("agreement", "opposite", "other"):
        share = _over_keys(p, weighted_mean, table.key.to_numpy(), table[name].to_numpy())
        label = "interval" if name == "agreement" else f"{name}_interval"
        found |= {name: number(share.estimate), label: ends(share)}
    margins = table.margin.dropna()
    quartiles = numbers(margins.quantile([0.25, 0.5, 0.75])) if len(margins) else [None] * 3
    return found | {
        "margin_quartiles": quartiles,
        "margin_median": quartiles[1],
        "n_margin": len(margins),
    }


def _gap(agreement, stable, weights):
    """Mean agreement of stable prompts less that of the others, `[B]`; nan if a kind is missing."""
    totals = [
        (weights @ (agreement * chosen), weights @ chosen.astype(float))
        for chosen in (stable, ~stable)
    ]
    stays, turns = (
        np.divide(part, n, out=np.full(len(weights), np.nan), where=n > 0) for part, n in totals
    )
    return stays - turns


def checks(r: dict, answered: pd.DataFrame) -> list[tuple[str, bool | None]]:
    """What has to hold, in words, and whether it does (None: not known)."""
    train, test = (set(answered.key[answered.split == name]) for name in ("train", "test"))
    error = shown(r["lens"]["error"], ".1e")
    return [
        ("train and test keys are disjoint", not train & test),
        (
            "at the last layer the lens is the model's own output"
            f" (largest relative difference {error})",
            r["lens"]["is_the_models_own"],
        ),
    ]


def answers(r: dict) -> list[str]:
    """What the five measurements say, a line each."""
    c, x, g, s = r["context"], r["lens"], r["guessing"], r["split"]

    def number_of(part: dict, name: str, form: str = ".2f", interval: str = "") -> str:
        pair = part[interval or f"{name}_interval"]
        return f"{shown(part[name], form)} {between(pair, form)}"

    def agreement(kind: str) -> str:
        return number_of(g[kind], "agreement", ".0%", "interval")

    def last_layer(kind: str) -> str:
        return f"{shown(c[kind][-1])} {between(c[f'{kind}_interval'][-1])}"

    before = "no layer lies before it"
    if x["layer_before"]:
        before = (
            f"at layer {x['layer_before']} the probe has AUC {number_of(x, 'probe_auc_before')}, over"
            f" the lens {number_of(x, 'lead_before', '+.2f')}, over the words"
            f" {number_of(x, 'gain_before', '+.2f')}"
        )
    best = s["best_layer"] or "none"
    return [
        f"context: in the last layer, flips move {last_layer('flip')} along the direction"
        f" (n={c['n_flip']}), pairs whose behaviour stays {last_layer('same')} (n={c['n_same']})",
        f"answer: readable from layer {x['readable_layer'] or 'none'} on; {before}",
        f"words: AUC {number_of(r, 'prompt_only_auc', interval='prompt_only_interval')} without the"
        f" model; the probe at layer {best} (best on train keys) {number_of(x, 'probe_auc_best')}"
        f" (n={x['n']})",
        f"guessing: {agreement('flip')} of the samples agree with the greedy answer where prompts flip"
        f" (n={g['flip']['n']}), {agreement('stable')} where they do not (n={g['stable']['n']})",
        f"key: a random split lifts the AUC by {number_of(s, 'leak', '+.2f')} at layer {best}"
        f" (n={s['n']})",
    ]
