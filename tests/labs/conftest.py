"""Every figure that a test of a lab draws is looked at as a reader with a phone sees it."""

from __future__ import annotations

import pytest

from memgen.figures.style import Drawing
from seen import misused, small_type


@pytest.fixture(autouse=True)
def _legible(monkeypatch):
    """Type of nine pixels on a phone, and the behaviours' colours for the behaviours alone."""
    drawn: list[Drawing] = []
    keep = Drawing.__init__

    def init(self, *args, **kwargs):
        keep(self, *args, **kwargs)
        drawn.append(self)

    monkeypatch.setattr(Drawing, "__init__", init)
    yield
    found = {
        drawing.name: small_type(drawing.figure) + misused(drawing.figure) for drawing in drawn
    }
    assert not {name: wrong for name, wrong in found.items() if wrong}
