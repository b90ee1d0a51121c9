"""Claims on training: do both behaviours show, by themselves or because they were taught?"""

from __future__ import annotations

from memgen.claims.catalogue.sources import OURS, PAPER
from memgen.claims.ledger import Claim
from memgen.claims.quantities import behaviors

BEHAVIORS = (
    Claim(
        "emerges",
        "both emerge",
        "One model shows both behaviours on keys that were never trained with the rule's answer.",
        PAPER,
        "smallest distance of memory (at least 25 %), rule (25 %), other (at most 20 %) and free"
        " accuracy (at least 90 %) from these limits: interval above 0; on tasks whose test keys"
        " have no contrast prompts",
        "02_training",
        behaviors.slack,
        cases=behaviors.untaught,
    ),
    Claim(
        "taught",
        "both can be taught",
        "One model shows both behaviours on keys that were trained with the rule's answer in other"
        " settings.",
        OURS,
        "the same, on tasks where every key has contrast prompts",
        "02_training",
        behaviors.slack,
        cases=behaviors.taught,
    ),
)
