"""What a clamp, or a shift added in its place, does to answers, and how far it moves the states."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from memgen.models.generate import answer, tokenize_prompts
from memgen.models.hooks import capture
from memgen.steering.steering import Steering
from memgen.tasks import instances
from memgen.tasks.answers import behaviors


def moved(steering: Steering, rows: pd.DataFrame, context) -> tuple[np.ndarray, float]:
    """Codes `[prompts]` under `clamp` or `add`; mean L2 norm that their last token moved by."""
    prompts = list(rows.prompt)
    ids, mask = tokenize_prompts(steering.tokenizer, prompts)
    longest = steering.task.max_answer_tokens
    with context as made:
        texts = answer(steering.model, steering.tokenizer, prompts, longest)
        # one pass over the prompts leaves their moves in `made`
        capture(steering.model, ids, mask, steering.site, batch_size=len(ids))
    squares = [one.float().square().sum(-1) for one in made if one is not None]
    # numpy's root is exact everywhere; torch takes MKL's, which is not
    norm = float(np.sqrt(torch.stack(squares).sum(0).cpu().numpy()).mean()) if squares else 0.0
    return behaviors(steering.task, instances(rows), texts), norm


def distance(steering: Steering, rows: pd.DataFrame, mean: np.ndarray, mask: np.ndarray) -> float:
    """What a full clamp moves by: mean L2 norm of (mean - h) on `mask`, unsteered."""
    states = capture(
        steering.model, *tokenize_prompts(steering.tokenizer, list(rows.prompt)), site=steering.site
    ).numpy()
    return float(np.linalg.norm(np.where(mask, mean - states, 0), axis=(1, 2)).mean())
