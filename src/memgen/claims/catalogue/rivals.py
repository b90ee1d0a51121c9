"""Claims on rivals: other methods that steer, edit or detect, on the same models, keys and limits.

Written down before lab 13 or 14 had been run for the record on any trained model, so no number that
they are judged by had been computed. What had been seen: labs 1 to 12 of the study (of each pair the
paper's own side is lab 6's, or lab 5's probe), a trial on another seed of an earlier recipe, and leads
on 20 to 40 validation prompts of inference, seed 26.

The two on directions (lab 15) were written down later, before lab 15 had been run on any trained model. That
trial, of one seed, had led to both: cosines near 0, and a small share in the first principal components.
"""

from __future__ import annotations

from memgen.claims.catalogue.sources import OURS, POINTS
from memgen.claims.evidence import Evidence
from memgen.claims.ledger import Claim
from memgen.claims.quantities import rivals
from memgen.tasks.families import MATCHED
from memgen.terms import DIRECTION_WORDS, DIRECTIONS

#: rival of the paper's neurons: its method on the board, what the claim says
AGAINST = {
    "CAA": (rivals.CAA, "one layer's mean difference (CAA)"),
    "random": (rivals.RANDOM, "the best of random directions, chosen alike"),
    "optimised": (rivals.OPTIMISED, "a vector that was optimised for it and to keep free answers"),
}
COSINE = 0.1  # the smallest difference of two cosines that would matter
PAIRED = "on the same prompts, both within the limit on lost free prompts (0 where nothing is)"


def _beats(direction: str, rival: str) -> Claim:
    method, what = AGAINST[rival]
    return Claim(
        f"board_{direction}.{rival.lower()}",
        f"{direction}: the paper's neurons against {rival}",
        f"From {DIRECTION_WORDS[direction]}, the paper's neurons succeed more often than {what}.",
        OURS,
        f"success on test keys less that of {method}, {PAIRED}: interval above 0",
        rivals.BOARD,
        lambda e, t: rivals.beyond(e, t, direction, rivals.PAPER, method),
        margin=POINTS,
    )


def _matched(evidence: Evidence) -> list[str]:
    return [task for task in evidence.tasks if task.endswith(MATCHED)]


RIVALS = (
    *(_beats(direction, rival) for direction in DIRECTIONS for rival in AGAINST),
    Claim(
        "edit_matched",
        "m2g: a K-FAC edit against the paper's neurons",
        "Where memory and rule answer in one format by design (the matched tasks), a K-FAC edit of"
        " the weights turns memory into the rule more often than the paper's neurons.",
        OURS,
        f"success on test keys of {rivals.KFAC} less that of {rivals.PAPER}, {PAIRED}: interval above 0",
        rivals.BOARD,
        lambda e, t: rivals.beyond(e, t, "m2g", rivals.KFAC, rivals.PAPER),
        margin=POINTS,
        cases=_matched,
    ),
    Claim(
        "black_box",
        "the black box against the probe",
        "Whether the answer stays when the content of the prompt changes tells memory from the rule"
        " better than a probe of the hidden states.",
        OURS,
        f"AUC on test keys of {rivals.BLACK_BOX} less that of the probe (or 0.5), same prompts:"
        " interval above 0",
        rivals.DETECTION,
        lambda e, t: rivals.detects_beyond(e, t, rivals.BLACK_BOX, rivals.PROBE),
        margin=POINTS,
    ),
    Claim(
        "control_apart",
        "the vector that controls against the mean difference",
        "The vector that turns answers is nearer to what other keys would have made of it than to the"
        " direction in which the two behaviours differ most.",
        OURS,
        "cosine of two held vectors, fitted on disjoint halves of the train keys, less the absolute cosine"
        " of the held vector with the mean difference of the same layer, mean of both directions: interval"
        " above 0",
        rivals.CORRELATES,
        rivals.own_way,
        margin=COSINE,
    ),
    Claim(
        "control_far_out",
        "where the vector that controls leads to",
        "Most states that the vector which turns answers leads to are unlike the model's own.",
        OURS,
        "share of shifted states of test keys that lie further out than 95 % of the untouched ones"
        " (Gaussian of train keys, layer and dose from validation keys), mean of both directions: interval"
        " above one half",
        rivals.CORRELATES,
        rivals.far_out,
        threshold=0.5,
        margin=POINTS,
    ),
)
