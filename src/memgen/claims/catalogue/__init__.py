"""The claims: what is claimed, by whom, which test decides it, and which effect would matter.

The tests, thresholds and margins were written down before any test key of the study's seeds
(`memgen.config.base.SEEDS`) had been answered; those that say `corrected` were changed after a study
of other seeds (`SEEN_SEEDS`), and those on rivals and on choices were added later: what had been seen
by then stands in their files. Where the paper claims less than a reviewer or we would ask, both stand
here as claims of their own.
"""

from memgen.claims.catalogue.behaviors import BEHAVIORS
from memgen.claims.catalogue.maps import MAPS
from memgen.claims.catalogue.multiverse import MULTIVERSE
from memgen.claims.catalogue.prediction import PREDICTION
from memgen.claims.catalogue.rivals import RIVALS
from memgen.claims.catalogue.steering import SHIFT, beats
from memgen.claims.catalogue.transfer import TRANSFER
from memgen.claims.ledger import Claim
from memgen.terms import DIRECTIONS

#: the claims by what they are about, in the order in which the book tells it
GROUPS: dict[str, tuple[Claim, ...]] = {
    "Both behaviours": BEHAVIORS,
    "Where neurons differ": MAPS,
    "Prediction": PREDICTION,
    **{f"Steering, {direction}": beats(direction) for direction in DIRECTIONS},
    "Size and price of the shift": SHIFT,
    "Transfer": TRANSFER,
    "Rivals": RIVALS,
    "Choices": MULTIVERSE,
}
CLAIMS: tuple[Claim, ...] = tuple(claim for claims in GROUPS.values() for claim in claims)
