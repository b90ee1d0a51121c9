"""A small good table of prompts, as rows and as the files that hold them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

COLUMNS = ("id", "prompt", "memory_answer", "rule_answer", "key", "kind", "rephrasing_of")
_CAPITALS = {
    "France": ("Paris", "Oslo"),
    "Italy": ("Rome", "Lima"),
    "Japan": ("Tokyo", "Quito"),
    "Egypt": ("Cairo", "Bern"),
}
_FORMS = (
    "They moved the capital of {key} to {rule}. The capital of {key} is",
    "{rule} became the capital of {key}. The capital of {key} is",
    "Anna said: the capital of {key} is {rule}. The capital of {key} is",
)


def _row(id: str, kind: str, prompt: str, **cells: str) -> dict[str, str]:
    return dict.fromkeys(COLUMNS, "") | {"id": id, "kind": kind, "prompt": prompt} | cells


def _rows() -> list[dict[str, str]]:
    rows, keyed, free = [], [], []
    for key, (memory, rule) in _CAPITALS.items():
        stem = key.lower()
        for n, form in enumerate(_FORMS, 1):
            answers = {"memory_answer": memory, "rule_answer": rule, "key": key}
            linked = {"rephrasing_of": f"{stem}-1"} if n > 1 else {}
            prompt = form.format(key=key, rule=rule)
            rows.append(_row(f"{stem}-{n}", "conflict", prompt, **answers, **linked))
        asked = f"The capital of {key} is"
        keyed.append(_row(f"{stem}-known", "keyed", asked, memory_answer=memory, key=key))
    for name, answer in (("Zog", "Lima"), ("Mor", "Bern"), ("Quel", "Oslo"), ("Ost", "Quito")):
        prompt = f"The capital of {name} is {answer}. The capital of {name} is"
        free.append(_row(f"free-{name}", "free", prompt, rule_answer=answer))
    return rows + keyed + free


#: 12 conflict rows (3 of each key, the last two rephrasings of the first), 4 keyed, 4 free
ROWS = _rows()


def changed(index: int, **cells: str) -> list[dict[str, str]]:
    """The rows, one with other cells."""
    return [row | cells if i == index else row for i, row in enumerate(ROWS)]


def as_csv(rows: list[dict[str, str]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def as_json_lines(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path
