"""Claims on transfer: do the neurons steer other models and other tasks?"""

from __future__ import annotations

from memgen.claims.catalogue.sources import OURS, PAPER_2, POINTS
from memgen.claims.evidence import Evidence
from memgen.claims.ledger import Claim
from memgen.claims.quantities import steering

NEAR_RANDOM = 0.10  # success above random neurons that still counts as "does not transfer"


def _shared_base(evidence: Evidence) -> list[str]:
    """All tasks, where they have one base; from scratch only the formats of a family share one."""
    return evidence.tasks if evidence.shared_keys else []


TRANSFER = (
    Claim(
        "retrain",
        "steers retrains",
        "Neurons found in one model steer its retrains from the same base.",
        PAPER_2,
        "success of another model's neurons less that of random ones, same base, mean of both"
        " directions: interval above 0 over bases (from scratch) or adapters of one base",
        "07_transfer",
        lambda e, t: steering.transfers(e, t, "retrain", True),
        margin=POINTS,
        corrected="a retrain counts with its seed: from scratch fewer seeds, towards open",
    ),
    Claim(
        "stranger",
        "steers no strangers",
        "They do not steer models that were trained from another random start.",
        OURS,
        "the same between models without a common base: interval below ten points above random"
        " neurons",
        "07_transfer",
        lambda e, t: steering.transfers(e, t, "retrain", False),
        threshold=NEAR_RANDOM,
        above=False,
        corrected="a retrain counts with its seed: from scratch fewer seeds, towards open",
    ),
    Claim(
        "across_formats",
        "steers the other format",
        "From scratch, they steer the task's other format on the same base.",
        OURS,
        "success of the other variant's neurons less that of random ones, same base, mean of both"
        " directions: interval above 0",
        "07_transfer",
        lambda e, t: steering.transfers(e, t, "task", True),
        margin=POINTS,
        cases=lambda e: [] if e.shared_keys else e.tasks,
    ),
    Claim(
        "across_tasks",
        "steers other tasks",
        "They partly steer other tasks on the same base.",
        PAPER_2,
        "success of other tasks' neurons less that of random ones, same base, mean of both"
        " directions: interval above 0",
        "07_transfer",
        lambda e, t: steering.transfers(e, t, "task", True),
        margin=POINTS,
        cases=_shared_base,
    ),
    Claim(
        "addition_travels",
        "addition travels better",
        "Neurons of addition steer other tasks better than those of inference do.",
        PAPER_2,
        "what they do to other tasks beyond random neurons, addition less inference, same base:"
        " interval above 0",
        "07_transfer",
        steering.addition_travels,
        margin=POINTS,
        cases=lambda e: ["all tasks"] if _shared_base(e) else [],
    ),
)
