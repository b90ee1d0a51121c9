"""Ours without early ends: every row is decoded until all have ended, as `generate` does."""

from __future__ import annotations

from benchmarks.peers.engines import ours

PACKAGES, COMPARED = ours.PACKAGES, ours.COMPARED
NOTES = {"sweep": "every row is decoded to its end, although its code is known before"}


class Engine(ours.Engine):
    early_end = False
