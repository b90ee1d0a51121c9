"""What a shift does to plain prose, in which nothing is asked: the perplexity of a page, before and after."""

from __future__ import annotations

import math

import numpy as np
import torch

from memgen.models.checkpoint import context_of
from memgen.models.hooks import evaluating, shift
from memgen.models.sites import bare
from memgen.phases import phase
from memgen.steering.steering import Steering

#: a page of encyclopedic prose, written for this package, so that no model was trained on it
PAGE = """\
A lighthouse is a tower with a bright lamp at the top, built where ships would otherwise not \
know in the dark how near they are to land. The first ones were open fires on a hill. Later the \
fire was moved into a tower of stone, where a keeper fed it with wood or coal, and later with \
oil, and where glass kept the wind away from the flame.

The lamp alone does not carry far. What made it useful at sea were the lenses of the nineteenth \
century: rings of glass, set around the flame in steps, that bend its light into a narrow, \
level beam. The lens floats on a bath of mercury or runs on rollers, and a clockwork turns it, \
so that a sailor sees a flash, then darkness, then a flash again. The pattern differs from \
tower to tower and is printed on the charts. A crew that counts the seconds between two flashes \
can tell which tower it is looking at.

Fog defeats any lamp, and so most stations had a second voice: a bell at first, then a gun, and \
at last a horn driven by compressed air. Keepers wrote down the weather four times a day. They \
painted the tower, wound the clockwork, cleaned the lens with vinegar, and when a ship ran \
aground they were often the first to row out to it. Many families stayed for generations, and \
their children learned to read at the kitchen table, since the next school was hours away by \
boat.

Today the lamps switch themselves on, and nobody lives in the towers any more. Ships find their \
way by satellites. The lights are kept all the same, because a receiver can fail and a battery \
can run empty, and because a light on the horizon needs nothing but eyes to be understood."""


@phase("sweep")
@torch.inference_mode()
def perplexity(steering: Steering, delta: np.ndarray) -> float:
    """Of the page, with a (signed) shift `[L, d]` at every token of it: e to the mean loss per token.

    A model with less room than the page has tokens reads its beginning.
    """
    model = steering.model
    ids = torch.tensor([steering.tokenizer(PAGE)["input_ids"]])
    ids = ids[:, : context_of(bare(model).config)].to(model.device)
    with shift(model, steering.site, steering.tensor(delta)), evaluating(model):
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
    loss = torch.nn.functional.cross_entropy(logits, ids[0, 1:])
    return math.exp(min(float(loss), 100.0))


def damage(steering: Steering, delta: np.ndarray, before: float | None = None) -> dict[str, float]:
    """`perplexity_before` and `perplexity_after` the shift; {} for a model of the study's own, which has
    read no prose. `before`: if it is known already.
    """
    if not steering.task.open_ended:
        return {}
    before = perplexity(steering, np.zeros_like(delta)) if before is None else before
    return {"perplexity_before": before, "perplexity_after": perplexity(steering, delta)}
