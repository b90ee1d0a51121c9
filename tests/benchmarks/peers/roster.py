"""Who is timed, and in which environment each of them lives."""

from __future__ import annotations

from typing import NamedTuple

WORKS = ("capture", "sweep all", "sweep decision")


class Contender(NamedTuple):
    """A name on the page, the module of its engine, its environment ('': this study's own), what it does."""

    name: str
    module: str
    environment: str = ""
    works: tuple[str, ...] = WORKS


OURS, AGAIN, BARE, HOOKS = "ours", "ours again", "bare passes", "plain hooks"
#: ours first: ratios are taken to it; the second of ours is the noise
CONTENDERS = (
    Contender(OURS, "ours"),
    Contender(AGAIN, "ours"),
    Contender("ours, to the end", "ours_to_the_end", works=WORKS[1:]),
    Contender(BARE, "bare"),
    Contender(HOOKS, "with_hooks"),
    Contender("TransformerLens", "with_transformer_lens", "traced"),
    Contender("nnsight", "with_nnsight", "traced"),
    Contender("pyvene", "with_pyvene", "numpy1"),
    Contender("repeng", "with_repeng", "numpy1"),
    Contender("steering-vectors", "with_steering_vectors", "transformers4"),
)
ENVIRONMENTS = tuple(dict.fromkeys(one.environment for one in CONTENDERS if one.environment))
