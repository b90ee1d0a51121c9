"""Claims on steering: more than each family of controls, with few neurons, at what price?"""

from __future__ import annotations

from memgen.claims.catalogue.sources import OURS, PAPER, PAPER_2, POINTS, REVIEWERS
from memgen.claims.evidence import Evidence
from memgen.claims.ledger import Claim
from memgen.claims.quantities import steering
from memgen.tasks.families import families, one_format
from memgen.terms import DIRECTION_WORDS

NEAR_RANDOM = 0.10  # success of random shifts that still counts as none
RARE = 0.10  # share of other answers that still counts as rare
FEW = 0.10  # share of the coordinates that still counts as few
SPARED = 0.05  # accuracy that may be lost
#: family of controls: name, what the claim says the shift does, source
AGAINST = {
    "random": ("random shifts", PAPER),
    "best_of_random": ("the best of as many random directions as it had cells", OURS),
    "other_neurons": ("other neurons of the same layers with their own differences", REVIEWERS),
    "other_values": ("the same neurons with other values", OURS),
    "shuffled": ("neurons found after the labels were shuffled", OURS),
    "forbid": ("forbidding the first token of the answer it leaves", OURS),
    "unembedding": ("writing the other answer's first token into the residual stream", OURS),
    "rephrasing": ("saying the prompt in another order", OURS),
}


def beats(direction: str) -> tuple[Claim, ...]:
    """One claim per family of controls."""
    return tuple(_beats(direction, family) for family in AGAINST)


def _beats(direction: str, family: str) -> Claim:
    what, source = AGAINST[family]
    return Claim(
        f"steer_{direction}.{family}",
        f"{direction} against {family.replace('_', ' ')}",
        f"Steering from {DIRECTION_WORDS[direction]} succeeds more often than {what}.",
        source,
        "success on test keys less that of"
        f" {', '.join(steering.CONTROL_FAMILIES[family]).replace('_', ' ')} (mean): interval above 0",
        "06_intervention",
        lambda e, t: steering.beyond_control(e, t, direction, family),
        margin=POINTS,
    )


def _one_format(evidence: Evidence) -> list[str]:
    return [task for task in evidence.tasks if one_format(task)]


SHIFT = (
    Claim(
        "random_negligible",
        "random shifts do nothing",
        "Random shifts of the same size are negligible.",
        PAPER,
        f"success of random shifts, mean of both directions: interval below {NEAR_RANDOM}",
        "06_intervention",
        steering.random_success,
        threshold=NEAR_RANDOM,
        above=False,
    ),
    Claim(
        "few_neurons",
        "few neurons are chosen",
        "The cell chosen on validation keys has at most a tenth of the neurons (the paper: five to"
        " ten per cent suffice).",
        PAPER,
        f"share of the coordinates in the chosen cell, mean of both directions: interval below {FEW}",
        "06_intervention",
        steering.share_of_neurons,
        threshold=FEW,
        above=False,
    ),
    Claim(
        "other_rare",
        "other answers stay rare",
        "Under the shift, answers that are neither memory nor rule stay rare.",
        PAPER,
        f"their share, mean of both directions: interval below {RARE}",
        "06_intervention",
        steering.other_share,
        threshold=RARE,
        above=False,
    ),
    Claim(
        "spares_free",
        "spares free prompts",
        "Steering leaves the answers to free prompts right.",
        REVIEWERS,
        f"accuracy lost on free prompts of the test split: interval below {SPARED}",
        "06_intervention",
        lambda e, t: steering.accuracy_lost(e, t, "free"),
        threshold=SPARED,
        above=False,
    ),
    Claim(
        "spares_keyed",
        "spares keyed prompts",
        "Steering leaves the answers to keyed prompts right.",
        REVIEWERS,
        f"accuracy lost on keyed prompts: interval below {SPARED}",
        "06_intervention",
        lambda e, t: steering.accuracy_lost(e, t, "keyed"),
        threshold=SPARED,
        above=False,
    ),
    Claim(
        "asymmetry",
        "m2g is easier",
        "Memory is easier to leave than to enter: m2g succeeds more often than g2m.",
        PAPER_2,
        "success of m2g less that of g2m: interval above 0",
        "11_open_points",
        steering.asymmetry,
        margin=POINTS,
    ),
    Claim(
        "same_format",
        "also in one format",
        "Steering away from memory beats random shifts also where both answers share one format.",
        REVIEWERS,
        "as m2g against random, on the tasks whose two answers look alike",
        "09_confounds",
        lambda e, t: steering.beyond_control(e, t, "m2g", "random"),
        margin=POINTS,
        cases=_one_format,
    ),
    Claim(
        "format",
        "format helps",
        "It works better where the two answers differ in format than where they look alike.",
        OURS,
        "success of m2g with tagged answers less that with matched ones, same keys: interval"
        " above 0",
        "09_confounds",
        steering.format_gap,
        margin=POINTS,
        cases=lambda e: families(e.tasks),
    ),
    Claim(
        "instruction",
        "beats an instruction",
        "Steering changes sides more often than an instruction trained into the model.",
        REVIEWERS,
        "success of steering less that of the instruction, less what its training alone does, mean"
        " of both directions: interval above 0",
        "11_open_points",
        steering.beyond_instruction,
        margin=POINTS,
    ),
)
