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

from .behavior import behaviors, first_token_log_probabilities, tokenize_prompts
from .config import ConfoundsParameters
from .differentiation import nmd
from .errors import ArchitectureError
from .hooks import capture
from .intervals import Bootstrap, bootstrap_by_key, number, weighted_mean
from .pairs import flips, same_behavior
from .prediction import N_FOLDS, probe_scores, prompt_scores, refuse_shared_keys, roc_auc
from .sites import bare
from .tasks import BEHAVIORS, Task, instances
from .training import spread

NAN = float("nan")
C = 0.1  # inverse strength of the L2 penalty where two splits are compared: fixed, so that nothing but the split differs
FINAL_NORM = {
    "GPT2LMHeadModel": "transformer.ln_f",
    "LlamaForCausalLM": "model.norm",
}  # what the model applies before its output embedding
PROBE_COLUMNS = {
    "probe_auc": "probe",
    "lead": "lead",
    "gain": "gain",
}  # name in the result: column of the table
PAIR_KINDS = {
    "flip": ("flip",),
    "memory": ("memory",),
    "rule": ("rule",),
    "same": ("memory", "rule"),
}


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


def labelled(answered: pd.DataFrame, split: str, limit: int) -> pd.DataFrame:
    """At most `limit` different conflict prompts of a split that show one of the two behaviours,
    evenly over the keys.
    """
    chosen = answered[(answered.split == split) & (answered.behavior != "other")]
    chosen = chosen.sort_values(["key", "group", "rephrasing"], kind="stable").drop_duplicates(
        "prompt"
    )
    return spread(chosen, limit).reset_index(drop=True)


def is_rule(rows: pd.DataFrame) -> np.ndarray:
    """Labels `[n]`: 1 generalization, 0 memorization."""
    return (rows.behavior == "generalization").to_numpy().astype(int)


def hidden_states(model, tokenizer, prompts, site: str) -> np.ndarray:
    """Float32 `[n, n_layer, d_model]` at the decision position; also for no prompt at all."""
    ids, mask = (
        tokenize_prompts(tokenizer, list(prompts))
        if len(prompts)
        else (torch.empty(0, 1, dtype=torch.long), torch.ones(0, 1, dtype=torch.long))
    )
    return capture(model, ids, mask, site=site).numpy()


def interval(
    statistic, keys: np.ndarray, *arrays: np.ndarray, seed: int, n_resamples: int
) -> Bootstrap:
    """`bootstrap_by_key` of a weighted statistic, and nan where there is no row."""
    if len(keys) == 0:
        return Bootstrap(NAN, NAN, NAN, 0, 0)
    return bootstrap_by_key(
        statistic, keys, *arrays, seed=seed, n_resamples=n_resamples, weighted=True
    )


# -- context: does rephrasing alone move the state along the direction? ----------------------------
def context(
    model, tokenizer, answered: pd.DataFrame, p: ConfoundsParameters
) -> tuple[dict, pd.DataFrame]:
    """How far pairs of test keys move along the direction of the train flip pairs, at most
    `n_prompts` prompts a kind of pair.
    """
    limit = max(1, p.n_prompts // 2)
    train, test = (
        answered[answered.split == split].reset_index(drop=True) for split in ("train", "test")
    )

    def differences(rows: pd.DataFrame, pairs: pd.DataFrame) -> np.ndarray:
        first, second = (
            hidden_states(model, tokenizer, rows.prompt[pairs[side].astype(int)], p.site)
            for side in ("memory", "rule")
        )
        return second - first

    fit = spread(flips(train), limit)
    found = {
        "flip": flips(test),
        "memory": same_behavior(test, "memorization"),
        "rule": same_behavior(test, "generalization"),
    }
    found = {kind: spread(pairs, limit) for kind, pairs in found.items()}
    table = movement(
        differences(train, fit),
        {kind: differences(test, pairs) for kind, pairs in found.items()},
        {kind: pairs.key.to_numpy() for kind, pairs in found.items()},
        p.seed,
        p.n_resamples,
    )
    result = {"n_train_pairs": len(fit)}
    for kind, rows in table.groupby("kind", sort=False):
        result |= {
            kind: _numbers(rows["mean"]),
            f"{kind}_interval": _pairs(rows, "mean"),
            f"{kind}_size": _numbers(rows["size"]),
            f"{kind}_size_interval": _pairs(rows, "size"),
            f"n_{kind}": int(rows.n.iloc[0]),
            f"n_{kind}_keys": int(rows.n_keys.iloc[0]),
        }
    return result, table


def movement(
    train: np.ndarray,
    differences: dict[str, np.ndarray],
    keys: dict[str, np.ndarray],
    seed: int,
    n_resamples: int,
) -> pd.DataFrame:
    """Projections of pair differences on the unit NMD of each layer, in units of the mean
    projection of the train flip pairs (that is |NMD|).

    train: differences `[n, L, d]` of flip pairs of train keys (rule - memory); differences: by kind
    of pair (`flip`, `memory`, `rule`) the same of test keys. `same` pools the two kinds whose
    behaviour stays. Such a pair has no sign of its own (it is taken in the order of the
    rephrasings), so its `mean` shows a drift only; `size`, the mean of the absolute projection,
    shows how far rephrasing moves the state at all. Columns: kind, layer (from 1), mean and size,
    each with _low and _high, n, n_keys.
    """
    n_layer = train.shape[1]
    direction = nmd(np.zeros_like(train), train) if len(train) else np.zeros(train.shape[1:])
    square = (direction**2).sum(
        axis=1
    )  # [L]; one |NMD| makes the direction a unit vector, the other is the unit of the result
    direction = np.divide(
        direction, square[:, None], out=np.full_like(direction, np.nan), where=square[:, None] > 0
    )
    rows = []
    for kind, members in PAIR_KINDS.items():
        moved = np.einsum(
            "nld,ld->nl", np.concatenate([differences[name] for name in members]), direction
        )
        of = np.concatenate([keys[name] for name in members])
        for layer in range(n_layer):
            mean, size = (
                interval(weighted_mean, of, values, seed=seed, n_resamples=n_resamples)
                for values in (moved[:, layer], np.abs(moved[:, layer]))
            )
            rows.append(
                {"kind": kind, "layer": layer + 1, "n": len(of), "n_keys": mean.n_keys}
                | _columns(mean=mean, size=size)
            )
    return pd.DataFrame(rows)


# -- answer and prompt: is it a coming behaviour that is read, or the answer, or the words? --------
@torch.inference_mode()
def lens_logits(model, states: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Logit lens: what each layer's `resid_post` says of some tokens, read with the model's own
    final norm and output embedding.

    states: `[n, L, d_model]`; tokens: ids `[n, k]`. Returns logits `[n, L, k]`; those of the last
    layer are the model's own. Errors: `ArchitectureError` where the final norm is not known.
    Source: nostalgebraist (2020), interpreting GPT: the logit lens.
    """
    core = bare(model)
    name = type(core).__name__
    if name not in FINAL_NORM:
        raise ArchitectureError(
            f"the final norm of {name} is unknown; known are those of {', '.join(FINAL_NORM)} (a"
            " new one is a line in memgen.confounds.FINAL_NORM)"
        )
    head, chosen = core.get_output_embeddings(), torch.as_tensor(tokens, device=core.device)
    normed = core.get_submodule(FINAL_NORM[name])(
        torch.as_tensor(states).to(device=core.device, dtype=core.dtype)
    )
    logits = torch.einsum("nld,nkd->nlk", normed.float(), head.weight[chosen].float())
    if getattr(head, "bias", None) is not None:
        logits += head.bias[chosen].float()[:, None]
    return logits.cpu().numpy()


def first_tokens(tokenizer, rows: pd.DataFrame) -> np.ndarray:
    """First token of the memory's and of the rule's answer, ids `[n, 2]`."""
    columns = [
        (
            [ids[0] for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]
            if len(rows)
            else []
        )
        for texts in (rows.memory_answer, rows.rule_answer)
    ]
    return np.array(columns, dtype=np.int64).T.reshape(-1, 2)


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


def lens_error(
    model, tokenizer, rows: pd.DataFrame, tokens: np.ndarray, margins: np.ndarray
) -> float:
    """Largest difference between the last layer's lens margin `[n]` and the model's own, over the
    largest own margin; nan without prompts.
    """
    if rows.empty:
        return NAN
    pair = np.take_along_axis(
        first_token_log_probabilities(
            model, *tokenize_prompts(tokenizer, list(rows.prompt))
        ).numpy(),
        tokens,
        axis=1,
    )
    own = pair[:, 1] - pair[:, 0]
    return float(np.abs(own - margins).max() / max(1.0, np.abs(own).max()))


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
            | _columns(lens=lens, probe=probe, lead=lead, gain=gain)
        )
    table = pd.DataFrame(rows)
    reached = np.flatnonzero(table.lens >= readable)
    layer = int(reached[0]) + 1 if len(reached) else None
    before = len(table) if layer is None else layer - 1  # 0: there is no layer below the first
    result = {
        "auc": _numbers(table.lens),
        "auc_interval": _pairs(table, "lens"),
        "n": len(truth),
        "n_keys": len(np.unique(of)),
        "n_train": len(labels["train"]),
        "readable": readable,
        "readable_layer": layer,
        "layer_before": before or None,
    }
    for name, column in PROBE_COLUMNS.items():
        result |= {name: _numbers(table[column]), f"{name}_interval": _pairs(table, column)}
    return result | at_layer(table, before or None, "before"), table


def at_layer(table: pd.DataFrame, layer: int | None, name: str) -> dict:
    """The probe's row of a layer (from 1) in the table of `leakage`, as `probe_auc_<name>`,
    `lead_<name>`, `gain_<name>` with intervals.
    """
    row = pd.Series(np.nan, index=table.columns) if layer is None else table.iloc[layer - 1]
    found = {f"{key}_{name}": number(row[column]) for key, column in PROBE_COLUMNS.items()}
    return found | {
        f"{key}_{name}_interval": _numbers([row[f"{column}_low"], row[f"{column}_high"]])
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


# -- guessing: are flips coin tosses? --------------------------------------------------------------
@torch.inference_mode()
def sample_answers(
    model,
    tokenizer,
    prompts: list[str],
    n_samples: int,
    temperature: float,
    max_new_tokens: int,
    seed: int,
    batch_size: int = 512,
) -> list[list[str]]:
    """`n_samples` answers to each prompt, drawn from the whole vocabulary at `temperature`, without
    the end mark. `batch_size`: answers at a time.

    The caller's stream of random numbers is left as it was.
    """
    per_batch, texts = max(1, batch_size // n_samples), []
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        for start in range(0, len(prompts), per_batch):
            ids, mask = tokenize_prompts(tokenizer, prompts[start : start + per_batch])
            output = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=max_new_tokens,
                do_sample=True,
                temperature=temperature,
                top_k=0,
                top_p=1.0,
                num_return_sequences=n_samples,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
            rows = output[:, ids.shape[1] :].tolist()
            decoded = [
                tokenizer.decode(
                    row[: row.index(tokenizer.eos_token_id)]
                    if tokenizer.eos_token_id in row
                    else row
                )
                for row in rows
            ]
            texts += [decoded[i : i + n_samples] for i in range(0, len(decoded), n_samples)]
    return texts


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


def first_token_margins(model, tokenizer, rows: pd.DataFrame) -> np.ndarray:
    """|log P(rule answer's first token) - log P(memory answer's)| in nats, `[n]`; nan where they are the same token."""
    tokens = first_tokens(tokenizer, rows)
    log = first_token_log_probabilities(
        model, *tokenize_prompts(tokenizer, list(rows.prompt))
    ).numpy()
    pair = np.take_along_axis(log, tokens, axis=1)
    return np.where(tokens[:, 0] == tokens[:, 1], np.nan, np.abs(pair[:, 1] - pair[:, 0]))


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
    quartiles = _numbers(margins.quantile([0.25, 0.5, 0.75])) if len(margins) else [None] * 3
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


# -- key identity: what does a random split leak? --------------------------------------------------
def compare_splits(
    states: np.ndarray, labels: np.ndarray, keys: np.ndarray, seed: int, n_resamples: int
) -> tuple[dict, pd.DataFrame]:
    """Cross-validated AUC of one probe among train prompts by layer, with folds of whole keys and
    with folds of random prompts.

    states: `[n, L, d]`; labels, keys: `[n]`. Same penalty, same number of folds; only the split
    differs. An AUC compares prompts of the same fold only (each fold has a probe of its own, whose
    scores need no common zero). The best layer is the one with the highest AUC by key. Columns of
    the table: layer (from 1), by_key, random and leak (their difference), each with _low and _high,
    n, n_keys.
    """
    folds = {
        "by_key": fold_numbers(labels, keys, seed, by_key=True),
        "random": fold_numbers(labels, keys, seed, by_key=False),
    }
    rows = []
    for layer in range(states.shape[1]):
        scores = {
            name: held_out_scores(states[:, layer], labels, fold) for name, fold in folds.items()
        }
        arrays = [array for name in folds for array in (scores[name], folds[name])]
        by_key, random = (
            interval(
                _auc_in_folds,
                keys,
                labels,
                scores[name],
                folds[name],
                seed=seed,
                n_resamples=n_resamples,
            )
            for name in folds
        )
        leak = interval(_fold_leak, keys, labels, *arrays, seed=seed, n_resamples=n_resamples)
        rows.append(
            {"layer": layer + 1, "n": len(labels), "n_keys": len(np.unique(keys))}
            | _columns(by_key=by_key, random=random, leak=leak)
        )
    table = pd.DataFrame(rows)
    best = int(table.by_key.fillna(0).to_numpy().argmax())
    at = table.iloc[best]
    result = {
        "n": len(labels),
        "n_keys": int(at.n_keys),
        "best_layer": best + 1 if np.isfinite(at.by_key) else None,
        "leak": number(at.leak),
        "leak_interval": [number(at.leak_low), number(at.leak_high)],
        "by_key_best": number(at.by_key),
        "random_best": number(at.random),
    }
    for name in ("by_key", "random"):
        result |= {name: _numbers(table[name]), f"{name}_interval": _pairs(table, name)}
    return result, table


def fold_numbers(labels: np.ndarray, keys: np.ndarray, seed: int, by_key: bool) -> np.ndarray:
    """The fold `[n]` each prompt is held out in: whole keys, or prompts at random, the same number
    of folds; -1 throughout for fewer than two keys.
    """
    from sklearn.model_selection import GroupKFold, KFold

    n_folds, found = min(N_FOLDS, len(np.unique(keys))), np.full(len(keys), -1)
    if n_folds < 2:
        return found
    split = (GroupKFold if by_key else KFold)(n_folds, shuffle=True, random_state=seed)
    for fold, (_, held) in enumerate(split.split(labels, groups=keys if by_key else None)):
        found[held] = fold
    return found


def held_out_scores(x: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Log odds `[n]` of a standardised logistic regression that never saw the row's fold, for x
    `[n, d]`; nan where the rest shows one behaviour.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores = np.full(len(labels), np.nan)
    for fold in np.unique(folds[folds >= 0]):
        held = folds == fold
        if len(np.unique(labels[~held])) == 2:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000))
            scores[held] = model.fit(x[~held].astype(np.float64), labels[~held]).decision_function(
                x[held].astype(np.float64)
            )
    return scores


def _auc_in_folds(labels, scores, folds, weights):
    """How often a generalization scores above a memorization of the same fold, `[B]` for weights
    `[B, n]`; nan where no fold holds both.
    """
    concordant, possible = np.zeros((2, len(weights)))
    for fold in np.unique(folds[np.isfinite(scores)]):
        rows = folds == fold
        n_pairs = (weights[:, rows] @ labels[rows]) * (weights[:, rows] @ (1 - labels[rows]))
        concordant += np.nan_to_num(roc_auc(labels[rows], scores[rows], weights[:, rows])) * n_pairs
        possible += n_pairs
    return np.divide(concordant, possible, out=np.full(len(weights), np.nan), where=possible > 0)


def _fold_leak(labels, key_scores, key_folds, random_scores, random_folds, weights):
    return _auc_in_folds(labels, random_scores, random_folds, weights) - _auc_in_folds(
        labels, key_scores, key_folds, weights
    )


# -- parts -----------------------------------------------------------------------------------------
def _columns(**found: Bootstrap) -> dict[str, float]:
    """Each statistic as three columns: its name, and with _low and _high."""
    return {
        f"{name}{end}": value
        for name, one in found.items()
        for end, value in (("", one.estimate), ("_low", one.low), ("_high", one.high))
    }


def _numbers(values) -> list[float | None]:
    return [number(value) for value in values]


def _pairs(table: pd.DataFrame, name: str) -> list[list[float | None]]:
    """The intervals of a column, one a row."""
    return [_numbers(pair) for pair in zip(table[f"{name}_low"], table[f"{name}_high"])]
