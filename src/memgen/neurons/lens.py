"""The logit lens: what each layer says of two answers, in the model's own output vocabulary."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from memgen.models.generate import first_token_log_probabilities, tokenize_prompts
from memgen.models.sites import architecture_of, bare, capped
from memgen.stats.intervals import NAN


@torch.inference_mode()
def lens_logits(model, states: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Logit lens: what each layer's `resid_post` says of some tokens, `[n, L, k]`.

    Read with the model's own final norm and output embedding. states: `[n, L, d_model]`; tokens:
    ids `[n, k]`. The last layer's are the model's own logits. Errors: `ArchitectureError` where the
    architecture is not known. Source: nostalgebraist (2020), interpreting GPT: the logit lens.
    """
    core, norm = bare(model), architecture_of(model).final_norm
    head, chosen = core.get_output_embeddings(), torch.as_tensor(tokens, device=core.device)
    normed = core.get_submodule(norm)(
        torch.as_tensor(states).to(device=core.device, dtype=core.dtype)
    )
    logits = torch.einsum("nld,nkd->nlk", normed.float(), head.weight[chosen].float())
    if getattr(head, "bias", None) is not None:
        logits += head.bias[chosen].float()[:, None]
    return capped(core, logits).cpu().numpy()


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


def answer_scores(model, tokenizer, rows: pd.DataFrame, tokens: np.ndarray) -> np.ndarray:
    """The model's own log-probabilities of some first answer tokens, ids `[n, k]`: `[n, k]`."""
    prompts = tokenize_prompts(tokenizer, list(rows.prompt))
    log = first_token_log_probabilities(model, *prompts).numpy()
    return np.take_along_axis(log, tokens, axis=1)


def lens_error(
    model, tokenizer, rows: pd.DataFrame, tokens: np.ndarray, margins: np.ndarray
) -> float:
    """Largest gap of last-layer lens margins `[n]` to the model's, over its largest (or nan)."""
    if rows.empty:
        return NAN
    pair = answer_scores(model, tokenizer, rows, tokens)
    own = pair[:, 1] - pair[:, 0]
    return float(np.abs(own - margins).max() / max(1.0, np.abs(own).max()))


def first_token_margins(model, tokenizer, rows: pd.DataFrame) -> np.ndarray:
    """|log P(rule's first token) - log P(memory's)| in nats, `[n]`; nan where they are the same."""
    tokens = first_tokens(tokenizer, rows)
    pair = answer_scores(model, tokenizer, rows, tokens)
    return np.where(tokens[:, 0] == tokens[:, 1], np.nan, np.abs(pair[:, 1] - pair[:, 0]))
