"""Training to dual behaviour: watch the conflict prompts while the model trains, keep the
checkpoint that shows both.

Gate and checkpoint rule: every `evaluate_every` steps the conflict prompts of the *validation* keys
are answered; the checkpoint with the highest `min(memory, rule) - other` among those that pass the
gate is kept. Training ends when that score is `enough`, or at `max_steps`. Everything needed to go
on is written at each look, so an interrupted run ends with the very same weights as an
uninterrupted one.
"""

from __future__ import annotations

import numpy as np
import pandas as pd


def spread(frame: pd.DataFrame, limit: int) -> pd.DataFrame:
    """At most `limit` rows, evenly spaced, so that every key keeps its share."""
    if len(frame) <= limit:
        return frame
    return frame.iloc[np.linspace(0, len(frame) - 1, limit).round().astype(int)]
