"""A suspect is another explanation of a result; the ledger's one rule says what became of it."""

from __future__ import annotations

from memgen.terms import OPEN
from press.numbers import listed
from press.sentences import Judged


def tried(claim: Judged) -> str:
    """What became of the suspect that a claim holds a result against, as a sentence ends.

    The claim says that the result goes beyond the suspect: where it is supported the suspect is ruled
    out, where it is contradicted or reversed the suspect stands.
    """
    if not claim.cases:
        return "tried on no task of this run"
    ruled_out = f"ruled out on {claim.share().of('task')}{listed(claim.where())}"
    stands = f"it stands on {claim.fallen}"
    return f"{ruled_out}; {stands}; open on {', '.join(claim.where(OPEN)) or 'no task'}"
