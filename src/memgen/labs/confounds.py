"""What else could explain that a behaviour can be predicted: words, answer, chance, key.

Labels are 1 = generalization, 0 = memorization. Whatever is fitted or chosen uses train keys; what
is reported comes from test keys, but for the comparison of two splits (train keys). Intervals are a
bootstrap over keys. A number that does not exist is nan in the tables and None in the result.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from memgen.config.analyses import ConfoundsParameters
from memgen.models.generate import Sampling, sample_answers
from memgen.models.sites import bare
from memgen.neurons.baselines import (
    Forecast,
    gain,
    prompt_forecasts,
    strongest,
)
from memgen.neurons.lens import first_token_margins, first_tokens, lens_error, lens_logits
from memgen.neurons.pairs import flips
from memgen.neurons.probes import Examples, probe_scores, refuse_shared_keys
from memgen.neurons.prompt_features import prompt_features
from memgen.neurons.states import LabelledStates, different_prompts
from memgen.stats.auc import CHANCE, roc_auc
from memgen.stats.columns import columns, interval_pairs, numbers
from memgen.stats.intervals import NAN, interval, number, weighted_mean
from memgen.stats.reported import between, ends, shown
from memgen.tasks import Task, instances
from memgen.tasks.answers import behaviors
from memgen.terms import BEHAVIORS, FORECASTS, OTHER, OTHER_CODE, Change

KINDS = ("flip", "stable")
LAYER_COLUMNS = {  # name in the result: column of the table
    "lens": "lens",
    "probe_auc": "probe",
    "lead": "lead",
    "gain": "gain",
}
PROMPT_FORECASTS = [name for name in FORECASTS if name != "base_probe"]


def read_answers(
    model,
    tokenizer,
    task: Task,
    sides: tuple[LabelledStates, LabelledStates],
    p: ConfoundsParameters,
) -> tuple[dict, pd.DataFrame]:
    """Lens, probe and forecasts from the prompt, where the two answers differ in the first token.

    sides: the prompts of train and of test keys.
    """
    n_asked = len(sides[1])
    (train, old), (test, new) = (_told_apart(tokenizer, part) for part in sides)
    margins = [_margins(model, part, tokens) for part, tokens in ((train, old), (test, new))]
    forecasts = prompt_only_forecasts(task, tokenizer, train, test, p.seed)
    chosen = strongest(forecasts)
    rival = forecasts[chosen].scores if chosen else np.full(len(test), np.nan)
    result, table = leakage(margins, rival, train.examples, test.examples, p)
    error = lens_error(model, tokenizer, test.rows, new, margins[1][:, -1])
    own = None if np.isnan(error) else error <= torch.finfo(bare(model).dtype).eps ** 0.5
    aucs = {name: _auc_of(p, test, forecasts, name) for name in PROMPT_FORECASTS}
    return {
        "lens": {
            **result,
            "share_used": len(test) / n_asked if n_asked else None,
            "error": number(error),
            "is_the_models_own": own,
        },
        "prompt_only_auc": aucs["prompt_only"]["auc"],
        "prompt_only_interval": aucs["prompt_only"]["interval"],
        "baselines": aucs,
        "chosen_baseline": chosen,
        "chosen_baseline_auc": aucs[chosen]["auc"] if chosen else None,
        "chosen_baseline_interval": aucs[chosen]["interval"] if chosen else [None, None],
    }, table


def _told_apart(tokenizer, part: LabelledStates) -> tuple[LabelledStates, np.ndarray]:
    """The prompts whose answers differ in their first token, with these tokens `[n, 2]`."""
    tokens = first_tokens(tokenizer, part.rows)
    differ = tokens[:, 0] != tokens[:, 1]
    return part[differ], tokens[differ]


def _margins(model, part: LabelledStates, tokens: np.ndarray) -> np.ndarray:
    """Lens logit of the rule's first token less that of the memory's, `[n, L]`."""
    logits = lens_logits(model, part.states, tokens)
    found: np.ndarray = logits[..., 1] - logits[..., 0]
    return found


def prompt_only_forecasts(
    task: Task, tokenizer, train: LabelledStates, test: LabelledStates, seed: int
) -> dict[str, Forecast]:
    """Lab 05's forecasts that see prompts alone; none where a split has no prompt."""
    if not len(train) or not len(test):
        return {}
    old, new = prompt_features(task, tokenizer, train.rows, test.rows)
    of = train.examples
    return prompt_forecasts(old, new, of.labels, of.keys, seed)


def _auc_of(
    p: ConfoundsParameters, test: LabelledStates, forecasts: dict[str, Forecast], name: str
) -> dict:
    """A forecast's `auc` on test keys and its `interval`; None where there is none."""
    if name not in forecasts:
        return {"auc": None, "interval": [None, None]}
    of = test.examples
    found = _over_keys(p, roc_auc, of.keys, of.labels, forecasts[name].scores)
    return {"auc": number(found.estimate), "interval": ends(found)}


def leakage(
    margins: Sequence[np.ndarray],
    rival: np.ndarray,
    train: Examples,
    test: Examples,
    p: ConfoundsParameters,
) -> tuple[dict, pd.DataFrame]:
    """AUC by layer of the lens margin (rule answer over memory answer) and of lab 05's probe.

    margins: `[n, L]` of train and of test prompts; rival `[n]`: of the test prompts, scores of the
    strongest forecast that sees the prompt only. The answer counts as readable from the first layer
    whose lens AUC on *train* keys reaches `p.readable`; `before` is the layer just below it (the
    last where none reaches it). All else is of test keys. `before_answer`: does the interval of the
    lens hold 0.5 in that layer (None: there is no such layer, or no interval)? `lead` is the
    probe's AUC less the lens's, `gain` less the larger of the rival's and 0.5. Columns of the
    table: layer (from 1), lens_train, and lens, probe, lead and gain, each with _low and _high, n,
    n_keys.
    """
    refuse_shared_keys(train.keys, test.keys)
    truth, keys, rows = test.labels, test.keys, []
    for layer in range(margins[1].shape[1]):
        scores = np.full(len(truth), np.nan)
        if len(train.labels):
            x, new = train.at(layer).states, test.at(layer).states
            scores = probe_scores(x, train.labels, train.keys, new, seed=p.seed)
        read = margins[1][:, layer]
        lens, probe = (_over_keys(p, roc_auc, keys, truth, values) for values in (read, scores))
        lead = _over_keys(p, _auc_lead, keys, truth, scores, read)
        above = _over_keys(p, gain, keys, truth, scores, rival)
        rows.append(
            {"layer": layer + 1, "n": len(truth), "n_keys": len(np.unique(keys))}
            | {"lens_train": roc_auc(train.labels, margins[0][:, layer])}
            | columns(lens=lens, probe=probe, lead=lead, gain=above)
        )
    table = pd.DataFrame(rows)
    reached = np.flatnonzero(table.lens_train >= p.readable)
    layer = int(reached[0]) + 1 if len(reached) else None
    before = len(table) if layer is None else layer - 1  # 0: there is no layer below the first
    result = {
        "auc": numbers(table.lens),
        "auc_interval": interval_pairs(table, "lens"),
        "auc_train": numbers(table.lens_train),
        "n": len(truth),
        "n_keys": len(np.unique(keys)),
        "n_train": len(train.labels),
        "readable": p.readable,
        "readable_layer": layer,
        "layer_before": before or None,
    }
    for name, column in LAYER_COLUMNS.items():
        if name != "lens":  # its numbers are `auc` above
            pairs = interval_pairs(table, column)
            result |= {name: numbers(table[column]), f"{name}_interval": pairs}
    result |= at_layer(table, before or None, "before")
    return result | {"before_answer": _holds_chance(result["lens_before_interval"])}, table


def _holds_chance(pair: list[float | None]) -> bool | None:
    low, high = pair
    return None if low is None or high is None else low <= CHANCE <= high


def at_layer(table: pd.DataFrame, layer: int | None, name: str) -> dict:
    """A layer's (from 1) row of `leakage`: `lens_<name>`, `probe_auc_<name>`, lead and gain."""
    row = pd.Series(np.nan, index=table.columns) if layer is None else table.iloc[layer - 1]
    found = {f"{key}_{name}": number(row[column]) for key, column in LAYER_COLUMNS.items()}
    return found | {
        f"{key}_{name}_interval": numbers([row[f"{column}_low"], row[f"{column}_high"]])
        for key, column in LAYER_COLUMNS.items()
    }


def _over_keys(p: ConfoundsParameters, statistic, keys: np.ndarray, *arrays: np.ndarray):
    return interval(statistic, keys, *arrays, seed=p.seed, n_resamples=p.n_resamples)


def _auc_lead(labels, first, second, weights):
    return roc_auc(labels, first, weights) - roc_auc(labels, second, weights)


def flipping_and_stable(
    answered: pd.DataFrame, limit: int, change: Change
) -> dict[str, pd.DataFrame]:
    """Test prompts, at most `limit` each: `flip`, of a flip pair; `stable`, rephrasings all agree.

    Both by one kind of `change`. A prompt that is a rephrasing of
    several originals can be both; it counts as flipping.
    """
    alike = answered.change.isin(("", change))
    test = answered[(answered.split == "test") & alike].reset_index(drop=True)
    pairs = flips(test, change)
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
    asked, tables = flipping_and_stable(answered, max(1, p.n_prompts // 2), p.pairs), {}
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
            f"at layer {x['layer_before']}, chosen on train keys, the lens has AUC"
            f" {number_of(x, 'lens_before')} and the probe {number_of(x, 'probe_auc_before')}, which is"
            f" {number_of(x, 'gain_before', '+.2f')} over the strongest forecast from the prompt"
        )
    chosen = FORECASTS.get(r["chosen_baseline"], "none")
    best = s["best_layer"] or "none"
    return [
        f"context: in the last layer, flips move {last_layer('flip')} along the direction"
        f" (n={c['n_flip']}), pairs whose behaviour stays {last_layer('same')} (n={c['n_same']})",
        f"answer: readable from layer {x['readable_layer'] or 'none'} on; {before}",
        f"prompt: AUC {number_of(r, 'chosen_baseline_auc', interval='chosen_baseline_interval')} without"
        f" the model (strongest on train keys: {chosen}); the probe at layer {best} (best on train keys)"
        f" {number_of(x, 'probe_auc_best')} (n={x['n']})",
        f"guessing: {agreement('flip')} of the samples agree with the greedy answer where prompts flip"
        f" (n={g['flip']['n']}), {agreement('stable')} where no rephrasing changes the behaviour"
        f" (n={g['stable']['n']}); gap {number_of(g, 'gap', '+.2f')}",
        f"key: a random split lifts the AUC by {number_of(s, 'leak', '+.2f')} at layer {best}"
        f" (n={s['n']})",
    ]
