"""The claims on pretrained models: a verdict per model by the ledger's rule, and one over models.

The verdict over models is one only if models of two families were tested and all have the same; else it
is `open`. So a finding, or its contrary, that stands on one model is inconclusive.
"""

from __future__ import annotations

from typing import Any

from memgen.claims.catalogue.pretrained import PRETRAINED
from memgen.claims.ledger import judge
from memgen.claims.quantities.pretrained import Asked
from memgen.terms import OPEN

#: of how many families models must be, for a verdict over models
FEWEST_FAMILIES = 2


def judge_models(models: list[dict[str, Any]]) -> list[dict]:
    """Every claim, judged; `cases` by the models' titles. `models`: as their committed files hold them."""
    asked = Asked({one["model"]["title"]: one for one in models})
    return [_joint(judge(claim, asked), asked) for claim in PRETRAINED]


def _joint(claim: dict, asked: Asked) -> dict:
    families = {asked.family(model) for model in claim["cases"]}
    return claim if len(families) >= FEWEST_FAMILIES else claim | {"verdict": OPEN}
