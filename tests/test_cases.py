"""The tables that a reader can see are true: cases with their tests, bad inputs that are tried."""

from __future__ import annotations

import re
from pathlib import Path

from bad_inputs import TESTS, listing


def test_every_case_names_a_test_that_is_there():
    rows = (TESTS / "CASES.md").read_text("utf8").splitlines()
    named = [re.fullmatch(r"\|.*\| `(\S+)::(\w+)` \|", row) for row in rows if row.startswith("|")]
    assert all(named[2:]) and len(named) > 40, "a row without a test"
    for found in named[2:]:
        text = Path(TESTS, found[1]).read_text("utf8")
        assert re.search(rf"^def {found[2]}\(", text, re.M), f"{found[1]} has no {found[2]}"


def test_the_listing_of_bad_inputs_is_what_is_tried():
    """`python tests/bad_inputs.py > tests/BAD_INPUTS.md` writes it."""
    assert listing() == (TESTS / "BAD_INPUTS.md").read_text("utf8")
