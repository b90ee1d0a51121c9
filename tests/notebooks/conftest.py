"""The whole study in preset `smoke`, run once a session the way a user runs it: all labs, then the book."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the module beside this file

from running import study  # noqa: E402


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> Path:
    """The run folder of a finished smoke study of all five tasks; its book lies in `<folder>/_build/html`."""
    folder = tmp_path_factory.mktemp("smoke")
    study("book", "--preset", "smoke", "--seeds", "0", "--runs", str(folder), "--out", str(folder / "_build"))
    return folder
