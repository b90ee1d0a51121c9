"""Claims on the maps of neurons: do they differ, more than they would anyway, and where?"""

from __future__ import annotations

from memgen.claims.catalogue.sources import OURS, PAPER, PAPER_2, POINTS
from memgen.claims.ledger import Claim
from memgen.claims.quantities import maps

EARLY = 0.25  # NMD of the first layer over that of the last that still counts as near 0
CARRIES = 0.5  # share of the size of NMD that the base must have to carry most of it

#: how large NMD is in a layer, and what cannot be held against it
SIZE = "root mean square of NMD over the neurons, without its noise (from halves of the keys)"
LEFT_OUT = "seeds left out whose last layer has none beyond noise"
#: what a test that finds nothing proves
QUIET = (
    f"a seed in which neither side reaches {POINTS:.0%} of the neurons does not count against it"
)

MAPS = (
    Claim(
        "differ",
        "neurons differ",
        "Neurons differ by behaviour more than between prompts of one behaviour.",
        PAPER,
        "share of significant neurons, mean of the layers, less the same for pairs whose behaviour"
        f" stays: interval above 0; {QUIET}",
        "04_differentiation",
        lambda e, t: maps.differ(e, t, POINTS),
        margin=POINTS,
        corrected="silence of the test no longer contradicts: towards open",
    ),
    Claim(
        "differ_base",
        "more than in the base",
        "They differ more than the same pairs do in the base, which never saw a key.",
        OURS,
        "share of significant neurons, mean of the layers, less the same pairs' in the base:"
        f" interval above 0; {QUIET}",
        "04_differentiation",
        lambda e, t: maps.beyond_base(e, t, POINTS),
        margin=POINTS,
        corrected="silence of the test no longer contradicts: towards open",
    ),
    Claim(
        "early",
        "NMD near 0 early",
        "The mean differences are near 0 in the first layer.",
        PAPER,
        f"{SIZE} of the first layer over that of the last, {LEFT_OUT}: interval below {EARLY}",
        "04_differentiation",
        maps.early,
        threshold=EARLY,
        above=False,
    ),
    Claim(
        "deeper",
        "NMD grows with depth",
        "The mean differences grow with depth.",
        PAPER,
        f"{SIZE} of the last layer less that of the first, as a share of the last, {LEFT_OUT}:"
        " interval above 0",
        "04_differentiation",
        maps.grows,
        margin=0.25,
    ),
    Claim(
        "sharper",
        "rho grows with depth",
        "Neurons of later layers tell the behaviours apart better.",
        OURS,
        "largest |rho| of the last layer less that of the first: interval above 0",
        "04_differentiation",
        maps.sharper,
        margin=0.10,
    ),
    Claim(
        "later",
        "top neurons lie late",
        "The top neurons lie in the later layers.",
        PAPER_2,
        "share of the top 5 % of neurons by |rho| in the later half of the layers, less one half:"
        " interval above 0",
        "04_differentiation",
        maps.later,
        margin=0.10,
    ),
    Claim(
        "base",
        "the base carries it",
        "The base carries most of the signal, adapters add little.",
        PAPER_2,
        f"{SIZE} of the base alone over that with the adapter on, mean of the layers, same pairs:"
        " interval above one half",
        "adapters",
        maps.base_share,
        threshold=CARRIES,
    ),
)
