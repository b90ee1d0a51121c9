"""Claims on pretrained models that are asked as they are: written down when one of them had been asked.

The first model's numbers had been seen, so a verdict on it describes what was known; no other model had
answered a prompt of these data sets, so a verdict on another is a test. Both are needed: what stands on
models of one family alone is open.
"""

from __future__ import annotations

from memgen.claims.catalogue.sources import OURS, POINTS, REVIEWERS
from memgen.claims.ledger import Claim
from memgen.claims.quantities import pretrained
from memgen.claims.quantities.pretrained import RARE, SHOWN
from memgen.terms import DIRECTIONS

PAGE = "real_model.md"
LOST = 0.01  # accuracy on plain facts that may be lost: one point
TOWARDS = {"m2g": "towards the text", "g2m": "towards what the model knows"}
#: what the chosen neurons are held against: what the claim says, how the test says it
AGAINST = {
    "control": (
        "the best control of the same size",
        "the best of all controls of the shift's size, as they come out on test keys",
    ),
    "rephrasing": ("saying the prompt differently", "the better of two ways to say it differently"),
    "forbid": (
        "forbidding the first token of the answer it leaves",
        "one forbidden token, with nothing shifted",
    ),
    "instruction": ("an instruction in words", "the better of two instructions, as on test keys"),
}


def _steering(direction: str) -> tuple[Claim, ...]:
    where = TOWARDS[direction]
    return (
        *(_beats(direction, rival) for rival in AGAINST),
        Claim(
            f"real_{direction}.one_layer",
            f"one layer turns more, {where}",
            f"One layer's mean difference turns more answers {where} than the chosen neurons do,"
            " whatever either costs.",
            OURS,
            "success of one layer's mean difference less that of the chosen neurons, both without a"
            " limit on what is lost: interval above 0",
            PAGE,
            lambda e, m: pretrained.one_layer_beyond(e, m, direction),
            margin=POINTS,
        ),
        Claim(
            f"real_{direction}.one_layer_kept",
            f"one layer turns more within the limit, {where}",
            f"One layer's mean difference turns more answers {where} than the chosen neurons do,"
            " where both stay within the limit on what is lost.",
            OURS,
            "the same, both within the limit; where nothing stays within it, 0: interval above 0",
            PAGE,
            lambda e, m: pretrained.one_layer_kept_beyond(e, m, direction),
            margin=POINTS,
        ),
        Claim(
            f"real_{direction}.cost",
            f"plain facts are spared, {where}",
            f"The chosen neurons' shift {where} costs at most one point of plain facts.",
            REVIEWERS,
            f"accuracy lost on plain facts of test keys: interval below {LOST}",
            PAGE,
            lambda e, m: pretrained.facts_lost(e, m, direction),
            threshold=LOST,
            above=False,
        ),
    )


def _beats(direction: str, rival: str) -> Claim:
    what, said = AGAINST[rival]
    return Claim(
        f"real_{direction}.{rival}",
        f"more than {what}, {TOWARDS[direction]}",
        f"The chosen neurons turn more answers {TOWARDS[direction]} than {what}.",
        REVIEWERS if rival == "instruction" else OURS,
        f"success of the chosen neurons within the limit less that of {said}: interval above 0",
        PAGE,
        lambda e, m: pretrained.beyond_rival(e, m, direction, rival),
        margin=POINTS,
    )


PRETRAINED: tuple[Claim, ...] = (
    Claim(
        "real_both",
        "both behaviours show",
        "The model answers from what it knows and from the text, and often enough from each.",
        REVIEWERS,
        f"the smaller distance of the two shares of conflict prompts from {SHOWN:.0%}: interval"
        " above 0",
        PAGE,
        pretrained.slack,
    ),
    Claim(
        "real_other",
        "other answers are rare",
        "Answers to conflict prompts that are neither are rare.",
        OURS,
        f"their share: interval below {RARE:.0%}",
        PAGE,
        pretrained.other,
        threshold=RARE,
        above=False,
    ),
    Claim(
        "real_neurons",
        "neurons differ beyond the words",
        "More neurons differ between the behaviours than between prompts that are answered alike.",
        REVIEWERS,
        "the largest share of significant neurons of any layer less the largest of either null of"
        " any layer: interval above 0",
        PAGE,
        pretrained.beyond_nulls,
        margin=POINTS,
    ),
    Claim(
        "real_gain",
        "predicted beyond the words",
        "Hidden states predict the behaviour better than anything that can be read from the prompt.",
        REVIEWERS,
        "AUC of the probe less that of the strongest forecast without hidden states, as chosen on"
        " train keys: interval above 0",
        PAGE,
        pretrained.gain,
        margin=POINTS,
    ),
    *(claim for direction in DIRECTIONS for claim in _steering(direction)),
)
