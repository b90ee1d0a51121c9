"""The one list of methods, in the order of the table."""

from __future__ import annotations

from memgen.rivals.method import Method

METHODS: dict[str, Method] = {}
