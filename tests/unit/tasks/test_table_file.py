"""Damaged tables are refused in one sentence that names file, row and column; whole ones are read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

import pytest

from memgen.errors import ParameterError
from memgen.tasks import make_task
from memgen.tasks.table_file import LONGEST_CELL, LONGEST_PROMPT, MOST_BYTES, MOST_ROWS
from own_table import COLUMNS, ROWS, as_csv, as_json_lines, changed, write


def line(n: int, old: str, new: str) -> Callable[[str], str]:
    """A change of one line of the file, the first being 1."""

    def change(text: str) -> str:
        lines = text.splitlines(keepends=True)
        assert old in lines[n - 1], lines[n - 1]
        lines[n - 1] = lines[n - 1].replace(old, new, 1)
        return "".join(lines)

    return change


def cell(row: int, column: str, text: str) -> Callable[[str], str]:
    """A cell that holds something else; the row is that of the file (the header is row 1)."""
    return lambda _: as_csv(changed(row - 2, **{column: text}))


def without(*numbers: int) -> Callable[[str], str]:
    return lambda _: as_csv([row for i, row in enumerate(ROWS, 2) if i not in numbers])


def without_column(name: str) -> Callable[[str], str]:
    def change(_: str) -> str:
        out = io.StringIO()
        kept = [column for column in COLUMNS if column != name]
        writer = csv.DictWriter(out, kept, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(ROWS)
        return out.getvalue()

    return change


def of_kind(*kinds: str) -> list[int]:
    return [i for i, row in enumerate(ROWS, 2) if row["kind"] in kinds]


FREE, KEYED = of_kind("free"), of_kind("keyed")
LAST = len(ROWS) + 1

#: what is done to a good CSV file, and what the sentence must hold. The good one: 4 keys with 3 conflict
#: rows (rows 2 to 13; the second and third of a key are rephrasings of its first), 4 keyed, 4 free rows
DAMAGES: dict[str, tuple[Callable[[str], str | bytes], list[str]]] = {
    "empty file": (lambda _: "", ["is empty", "prompt, memory_answer"]),
    "blank lines alone": (lambda _: "\n\n \n", ["is empty"]),
    "a header alone": (lambda text: text.splitlines()[0] + "\n", ["no rows"]),
    "no header": (lambda text: text.partition("\n")[2], ["row 1", "none of the columns"]),
    "Latin-1": (lambda text: text.replace("Paris", "Pärís").encode("latin1"), ["line 2", "UTF-8"]),
    "UTF-16": (lambda text: text.encode("utf16"), ["UTF-16", "CSV UTF-8"]),
    "a spreadsheet's own file": (lambda _: b"PK\x03\x04...", ["spreadsheet's own file"]),
    "a NUL byte": (line(4, "France", "Fra\0nce"), ["line 4", "NUL"]),
    "lines that end in CR": (lambda text: text.replace("\n", "\r"), ["line 1", "CR alone"]),
    "semicolons": (lambda text: text.replace(",", ";"), ["row 1", "semicolons"]),
    "tabs": (lambda text: text.replace(",", "\t"), ["row 1", "tabs"]),
    "too large a file": (lambda text: text + "\n" * MOST_BYTES, ["larger", "5 MB"]),
    "too many rows": (lambda text: text + "x,,,,,,\n" * MOST_ROWS, [str(MOST_ROWS), "most"]),
    "a missing column": (without_column("rule_answer"), ["row 1, column rule_answer", "missing"]),
    "two missing columns": (
        lambda text: line(1, "key,kind", "keys,kinds")(text),
        ["column keys: it is unknown", "column kinds", "column key: it is missing", "and 1 more"],
    ),
    "an unknown column": (line(1, "memory_answer", "Memory"), ["row 1, column Memory", "unknown"]),
    "a column without a name": (line(1, "id", ""), ["row 1", "has no name"]),
    "a column twice": (line(1, "rephrasing_of", "key"), ["column key", "twice"]),
    "an unclosed quote": (line(3, "france-2", '"france-2'), ["row 3", "not closed"]),
    "a quote inside a quote": (line(3, "france-2", '"fra"nce"'), ["row 3", "twice"]),
    "a comma too many": (line(5, "Italy", "Italy,Rome"), ["row 5", "8 cells under 7 columns"]),
    "an empty prompt": (cell(3, "prompt", ""), ["row 3, column prompt", "empty"]),
    "a prompt of blanks": (cell(3, "prompt", "  "), ["row 3, column prompt", "empty"]),
    "a prompt that ends in a space": (
        cell(4, "prompt", "The capital of France is "),
        ["row 4, column prompt", "ends in a space"],
    ),
    "a prompt that begins with one": (
        cell(4, "prompt", " The capital of France is"),
        ["row 4, column prompt", "begins with a space"],
    ),
    "a huge prompt": (
        cell(2, "prompt", "x" * (LONGEST_PROMPT + 1)),
        ["row 2, column prompt", f"{LONGEST_PROMPT + 1} characters"],
    ),
    "a cell beyond what CSV allows": (cell(2, "prompt", "x" * 200_000), ["row 2", "longer than"]),
    "a huge answer": (
        cell(2, "memory_answer", "x" * (LONGEST_CELL + 1)),
        ["row 2, column memory_answer", f"{LONGEST_CELL + 1} characters"],
    ),
    "an invisible character": (
        cell(2, "key", "Fra\u200bnce"),
        ["row 2, column key", "U+200B ZERO WIDTH SPACE"],
    ),
    "a mark of the byte order inside": (
        cell(2, "key", "\ufeffFrance"),
        ["row 2, column key", "U+FEFF"],
    ),
    "a line break in an answer": (
        cell(2, "rule_answer", "Os\nlo"),
        ["row 2, column rule_answer", "U+000A"],
    ),
    "a formula": (cell(2, "rule_answer", "=B2"), ["row 2, column rule_answer", "formula"]),
    "a broken formula": (cell(14, "memory_answer", "#REF!"), ["row 14", "'#REF!'", "formula"]),
    "no kind": (cell(2, "kind", ""), ["row 2, column kind", "empty", "conflict, keyed or free"]),
    "an unknown kind": (cell(2, "kind", "conflicts"), ["row 2, column kind", "'conflicts'"]),
    "a kind in capitals": (cell(2, "kind", "Conflict"), ["row 2, column kind", "small letters"]),
    "a conflict without key": (cell(2, "key", ""), ["row 2, column key", "conflict row needs"]),
    "a conflict without rule": (cell(2, "rule_answer", ""), ["row 2, column rule_answer", "empty"]),
    "a keyed row without memory": (
        cell(14, "memory_answer", " "),
        ["row 14, column memory_answer", "keyed row needs"],
    ),
    "a keyed row with a rule": (
        cell(14, "rule_answer", "Oslo"),
        ["row 14, column rule_answer", "a keyed row has none"],
    ),
    "a free row with a key": (
        cell(18, "key", "France"),
        ["row 18, column key", "a free row has none"],
    ),
    "a free row without answer": (cell(18, "rule_answer", ""), ["row 18, column rule_answer"]),
    "equal answers": (cell(2, "rule_answer", " Paris "), ["row 2, column rule_answer", "'Paris'"]),
    "answers equal but for capitals": (cell(2, "rule_answer", "PARIS"), ["row 2", "'Paris'"]),
    "one answer begins the other": (
        cell(2, "rule_answer", "Paris on the Seine"),
        ["row 2, column rule_answer", "begin alike"],
    ),
    "an answer of signs alone": (cell(2, "rule_answer", "?"), ["row 2", "no letter and no digit"]),
    "a prompt twice": (
        cell(6, "prompt", ROWS[1]["prompt"]),
        ["row 6, column prompt", "row 3 again"],
    ),
    "an id twice": (cell(6, "id", "france-2"), ["row 6, column id", "row 3's"]),
    "two memories of a key": (
        cell(3, "memory_answer", "Lyon"),
        ["row 3, column memory_answer", "'Lyon'", "'Paris'", "row 2"],
    ),
    "another memory in a keyed row": (
        cell(14, "memory_answer", "Lyon"),
        ["row 14, column memory_answer", "'Lyon'", "'Paris'"],
    ),
    "a rephrasing of nothing": (
        cell(3, "rephrasing_of", "france-9"),
        ["row 3, column rephrasing_of", "'france-9'"],
    ),
    "a rephrasing and no ids": (without_column("id"), ["row 3, column rephrasing_of", "column id"]),
    "a rephrasing of itself": (
        cell(3, "rephrasing_of", "france-2"),
        ["row 3, column rephrasing_of", "own row"],
    ),
    "a rephrasing of another key": (
        cell(3, "rephrasing_of", "italy-1"),
        ["row 3, column rephrasing_of", "'Italy'", "'France'"],
    ),
    "a rephrasing of a keyed row": (
        cell(3, "rephrasing_of", "france-known"),
        ["row 3, column rephrasing_of", "keyed row"],
    ),
    "a circle": (
        cell(2, "rephrasing_of", "france-2"),
        ["row 2, column rephrasing_of", "rows 2, 3", "circle"],
    ),
    "a rephrasing that is no conflict": (
        cell(14, "rephrasing_of", "france-1"),
        ["row 14, column rephrasing_of", "a keyed row has none"],
    ),
    "two keys": (
        without(*[i for i, row in enumerate(ROWS, 2) if row["key"] in ("Japan", "Egypt")]),
        ["column key", "2 keys", "at least 3"],
    ),
    "a key that is never asked": (without(2, 3, 4), ["column key", "'France'", "no conflict row"]),
    "no free rows": (without(*FREE), ["column kind", "0 free rows", "at least 3"]),
    "no keyed rows": (without(*KEYED), ["column kind", "no keyed rows"]),
    "no rephrasings": (
        lambda _: as_csv([row | {"rephrasing_of": ""} for row in ROWS]),
        ["column rephrasing_of", "no pairs"],
    ),
}
#: the same of a line of a JSON Lines file, the first
JSON_DAMAGES: dict[str, tuple[str, list[str]]] = {
    "no JSON": ("{'prompt': 1}", ["row 1", "not JSON"]),
    "no object": ('["prompt"]', ["row 1", "no object"]),
    "nested too deeply": ("[" * 100_000, ["row 1", "not JSON"]),
    "a number for a text": ('{"prompt": 7, "kind": "free"}', ["row 1, column prompt", "a number"]),
    "true for a text": ('{"prompt": true, "kind": "free"}', ["column prompt", "true or false"]),
    "a list for a text": ('{"prompt": ["a"]}', ["column prompt", "a list"]),
    "an unknown name": ('{"promt": "a"}', ["row 1, column promt", "unknown"]),
    "a name twice": ('{"kind": "free", "kind": "free"}', ["row 1, column kind", "twice"]),
    "half a character": ('{"prompt": "a\\ud800", "kind": "free"}', ["column prompt", "U+D800"]),
    "a NUL that is written out": ('{"prompt": "\\u0000"}', ["column prompt", "U+0000"]),
    "no kind at all": ('{"prompt": "a"}', ["row 1, column kind", "empty"]),
}
#: names of files, and what the sentence must hold
NAMES: dict[str, list[str]] = {
    "my.xlsx": ["my.xlsx", ".csv", ".jsonl"],
    "my": ["ends neither"],
    "my prompts.csv": ["my prompts.csv", "rename"],
    "..csv": ["rename"],
    "a-tagged.csv": ["a-tagged.csv", "-tagged"],
    "é.csv": ["rename"],
    f"{'x' * 61}.csv": ["60"],
    "nowhere.csv": ["nowhere.csv", "is not there", "TASK_FILE"],
    "folder.csv": ["folder.csv", "is a folder"],
    "a\0b.csv": ["rename"],
}


def refused(path) -> str:
    with pytest.raises(ParameterError) as error:
        make_task("table-own", 4, 0, "none", file=path)
    said = str(error.value)
    assert "\n" not in said and f"task_file={str(path)!r}" in said
    return said


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_table_is_refused_by_file_row_and_column(tmp_path, damage):
    change, words = DAMAGES[damage]
    said = refused(write(tmp_path / "own.csv", change(as_csv(ROWS))))
    assert all(word in said for word in words), said


@pytest.mark.parametrize("damage", JSON_DAMAGES)
def test_a_damaged_line_of_json_is_refused(tmp_path, damage):
    text, words = JSON_DAMAGES[damage]
    rest = as_json_lines(ROWS).partition("\n")[2]
    said = refused(write(tmp_path / "own.jsonl", f"{text}\n{rest}"))
    assert all(word in said for word in words), said


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_can_be_no_table_is_refused_by_its_name(tmp_path, name):
    (tmp_path / "folder.csv").mkdir()
    said = refused(tmp_path / name)
    assert all(word in said for word in NAMES[name]), said


def test_of_many_problems_three_are_spelled_out(tmp_path):
    rows = [row | {"kind": "conflicts"} for row in ROWS]
    said = refused(write(tmp_path / "own.csv", as_csv(rows)))
    assert [f"row {n}, " in said for n in (2, 3, 4, 5)] == [True, True, True, False]
    assert said.endswith(f"and {len(ROWS) - 3} more")


def test_what_a_spreadsheet_writes_is_read(tmp_path):
    """A mark at the beginning, line ends of two characters, rows without a word, accents apart."""
    plain = make_task("table-own", 4, 0, "none", file=write(tmp_path / "own.csv", as_csv(ROWS)))
    text = as_csv(ROWS).replace("\n", "\r\n") + ",,,,,,\r\n\r\n"
    path = write(tmp_path / "own2.csv", "\ufeff" + text)
    assert make_task("table-own", 4, 0, "none", file=path).sheet.rows == plain.sheet.rows
    apart = write(tmp_path / "own3.csv", as_csv(changed(0, rule_answer="Gen\u0065\u0301ve")))
    whole = make_task("table-own", 4, 0, "none", file=apart).sheet.rows[0]["rule_answer"]
    assert whole == "Gen\u00e9ve"


def test_a_row_has_the_number_that_a_spreadsheet_shows(tmp_path):
    """A line break within a cell, and a row without a word, leave the count right."""
    first = changed(0, prompt="Two lines:\nThe capital of France is")
    text = as_csv([*first[:1], dict.fromkeys(COLUMNS, ""), *first[1:-1], ROWS[-1] | {"kind": ""}])
    assert f"row {LAST + 1}, column kind" in refused(write(tmp_path / "own.csv", text))


def test_json_may_leave_out_what_a_row_has_not(tmp_path):
    rows = [{name: text for name, text in row.items() if text} for row in ROWS]
    rows[0]["rephrasing_of"] = None
    path = write(tmp_path / "own.jsonl", "\n\n".join(map(json.dumps, rows)))
    other = write(tmp_path / "own.csv", as_csv(ROWS))
    one, two = (make_task("table-own", 4, 0, "none", file=file) for file in (path, other))
    assert [row.cells for row in one.sheet.rows] == [row.cells for row in two.sheet.rows]
