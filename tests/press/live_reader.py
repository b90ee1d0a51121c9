"""A visit to the live page: wait for its first answer, do something, look what it shows."""

from __future__ import annotations

from pathlib import Path

#: what a reader sees, and the model's own words for the prompt and shift that the controls name
HELPERS = Path(__file__).with_name("see.js").read_text(encoding="utf8")


def ready(reader):
    reader.evaluate(HELPERS + "see.ready()")
    return reader


def do(reader, steps: str):
    return reader.evaluate("(async () => {" + steps + "})()")
