"""A table of prompts as it lies on the disk: CSV or JSON Lines, read whole or refused.

What a spreadsheet writes is taken as it is: a byte order mark at the beginning, line ends of two
characters, rows without a word, accents as marks of their own (they become one character). All else
that could be read in two ways is refused, with the row and the column where it stands. A row has
the number that a spreadsheet shows (the header is row 1; in JSON Lines a row is a line).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memgen.errors import ParameterError

#: what every table has, and what it may have
NEEDED = ("prompt", "memory_answer", "rule_answer", "key", "kind")
OPTIONAL = ("id", "rephrasing_of")
COLUMNS = (*NEEDED, *OPTIONAL)
MOST_BYTES, MOST_ROWS = 5_000_000, 10_000
#: characters of a prompt, and of every other cell
LONGEST_PROMPT, LONGEST_CELL = 4000, 120
#: problems that a refusal spells out
SHOWN = 3
_STEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}(?<!-tagged)(?<!-matched)")
_BROKEN = re.compile(r"#(REF!|NAME\?|VALUE!|N/A|DIV/0!|NULL!|NUM!|SPILL!)")
_KINDS_OF_VALUE = {bool: "true or false", int: "a number", float: "a number", list: "a list"}


@dataclass(frozen=True)
class Row:
    """One row: its number, and the text of every column of COLUMNS, "" where there is none."""

    number: int
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]


@dataclass(frozen=True)
class Sheet:
    """A file as read: the columns that it names, its rows, and the SHA-256 of its bytes."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    digest: str


@dataclass(frozen=True)
class Problem:
    """Where a table is wrong (the row's number, 0: as a whole; its column or ""), and what to do."""

    row: int
    column: str
    says: str

    def __str__(self) -> str:
        where = f"row {self.row}" if self.row else ""
        where += ", " if where and self.column else ""
        where += f"column {self.column}" if self.column else ""
        return f"{where}: {self.says}" if where else self.says


def refuse(path: Path, problems: Iterable[Problem]) -> None:
    """Raise `ParameterError` naming the file, its first problems, and how many more there are."""
    found = sorted(problems, key=lambda problem: problem.row)
    if found:
        said = "; ".join(map(str, found[:SHOWN]))
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise ParameterError(f"task_file={str(path)!r}: {said}{more}")


def task_name(path: Path | str) -> str:
    """The name of the task that this file is: `table-` and the file's name without its ending.

    Folders and pages are called so. Errors: `ParameterError` for a name that could not be one.
    """
    path = Path(path)
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise ParameterError(
            f"task_file={str(path)!r} ends neither in .csv nor in .jsonl; save the table as CSV"
            " (UTF-8, separated by commas) or as JSON Lines"
        )
    if not _STEM.fullmatch(path.stem):
        raise ParameterError(
            f"task_file={str(path)!r}: the file's name becomes a folder's; rename it, with letters"
            " (a to z), digits, - and _ alone, at most 60, not ending in -tagged or -matched"
        )
    return f"table-{path.stem}"


def read_sheet(path: Path) -> Sheet:
    """The rows of a table, each as it stands there. Errors: `ParameterError`."""
    task_name(path)
    data = _bytes(path)
    text = _text(path, data)
    read = _csv if path.suffix.lower() == ".csv" else _json_lines
    columns, rows = read(path, text)
    if not rows:
        refuse(path, [Problem(0, "", "it has no rows; write one for every prompt")])
    if len(rows) > MOST_ROWS:
        refuse(path, [Problem(0, "", f"it has {len(rows)} rows; {MOST_ROWS} are the most")])
    refuse(path, (problem for row in rows for problem in _unreadable(row)))
    return Sheet(columns, tuple(rows), hashlib.sha256(data).hexdigest())


def digest_of(path: Path) -> str:
    """SHA-256 of a table's bytes. Errors: `ParameterError` if it is not there."""
    return hashlib.sha256(_bytes(path)).hexdigest()


# -- from bytes to text -------------------------------------------------------------------------------
def _bytes(path: Path) -> bytes:
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "is not there"
            refuse(path, [Problem(0, "", f"{what}; name the file with TASK_FILE=...")])
        if path.stat().st_size > MOST_BYTES:
            most = f"{MOST_BYTES // 10**6} MB are the most; leave rows away"
            refuse(path, [Problem(0, "", f"it is larger than a table can be: {most}")])
        return path.read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "no name of a file"
        refuse(path, [Problem(0, "", f"it cannot be read ({why}); mend that or name another")])
        raise


def _text(path: Path, data: bytes) -> str:
    """What the bytes say, line ends as one character."""
    if not data.strip():
        refuse(path, [Problem(0, "", f"it is empty; its first row names {', '.join(NEEDED)}")])
    if data[:4] == b"PK\x03\x04" or data[:4] == b"\xd0\xcf\x11\xe0":
        refuse(path, [Problem(0, "", "it is a spreadsheet's own file; save it as CSV UTF-8")])
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        refuse(path, [Problem(0, "", "it is UTF-16; save it as CSV UTF-8")])
    line = data.count(b"\n", 0, max(0, data.find(0))) + 1
    if 0 in data:
        says = f"line {line} holds a NUL byte, which no text has; save the file as CSV UTF-8"
        refuse(path, [Problem(0, "", says)])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        near = data[max(0, error.start - 12) : error.start + 4].decode("utf8", "replace")
        says = f"line {line} is not UTF-8, near {near!r}; save the file as CSV UTF-8"
        refuse(path, [Problem(0, "", says)])
        raise
    text = text.replace("\r\n", "\n")
    if "\r" in text:
        line = text.count("\n", 0, text.index("\r")) + 1
        says = f"line {line} ends in CR alone, as on old computers; save it with ends LF or CRLF"
        refuse(path, [Problem(0, "", says)])
    return unicodedata.normalize("NFC", text)


# -- from text to rows --------------------------------------------------------------------------------
def _csv(path: Path, text: str) -> tuple[tuple[str, ...], list[Row]]:
    records: list[list[str]] = []
    try:
        for record in csv.reader(io.StringIO(text, newline=""), strict=True):
            records.append(record)
    except csv.Error as error:
        refuse(path, [Problem(len(records) + 1, "", _csv_trouble(str(error)))])
    header = [name.strip() for name in records[0]]
    _check_header(path, header)
    rows, problems = [], []
    for number, record in enumerate(records[1:], 2):
        if not any(cell.strip() for cell in record):
            continue
        if len(record) != len(header):
            says = f"{len(record)} cells under {len(header)} columns; put a cell that holds a comma"
            problems.append(Problem(number, "", f"{says} into quotation marks"))
            continue
        rows.append(_row(number, zip(header, record)))
    refuse(path, problems)
    return tuple(header), rows


def _csv_trouble(error: str) -> str:
    if "limit" in error:
        return f"a cell is longer than {LONGEST_PROMPT} characters; is a quotation mark not closed?"
    if "unexpected end" in error:
        return 'a quotation mark is not closed; write " at the end of that cell'
    return 'a quotation mark stands within a quoted cell; write it twice, as ""'


def _check_header(path: Path, header: list[str]) -> None:
    """Raise `ParameterError` unless the first row names the columns, each once."""
    listed = f"{', '.join(NEEDED)}, and if you like {' and '.join(OPTIONAL)}"
    only = header[0] if len(header) == 1 else ""
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        if mark in only:
            says = f"the cells are separated by {name}; save the file with commas"
            refuse(path, [Problem(1, "", says)])
    if not set(header) & set(NEEDED):
        says = f"it names none of the columns; the first row has to be {listed}"
        refuse(path, [Problem(1, "", says)])
    problems = []
    for name in dict.fromkeys(header):
        if header.count(name) > 1:
            problems.append(Problem(1, name, "it stands there twice; delete one of the two"))
        if name not in COLUMNS:
            says = "it has no name; delete it" if not name else "it is unknown; rename or delete it"
            says += "" if problems else f" (columns are {listed})"
            problems.append(Problem(1, name, says))
    missing = [Problem(1, name, "it is missing; add it") for name in NEEDED if name not in header]
    refuse(path, problems + missing)


def _json_lines(path: Path, text: str) -> tuple[tuple[str, ...], list[Row]]:
    rows: list[Row] = []
    problems: list[Problem] = []
    named: dict[str, None] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        found = _object(line)
        if isinstance(found, str):
            problems.append(Problem(number, "", found))
            continue
        wrong = [Problem(number, *one) for one in _unfit(found)]
        problems += wrong
        if not wrong:
            given = {name: value or "" for name, value in found}
            named |= dict.fromkeys(given)
            rows.append(_row(number, given.items()))
    refuse(path, problems)
    return tuple(named), rows


def _object(line: str) -> list[tuple[str, Any]] | str:
    """Names and values of one line, or what is wrong with it."""
    try:
        found = json.loads(line, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        why = getattr(error, "msg", "nested too deeply")
        return f'it is not JSON ({why}); write one object such as {{"prompt": ...}} on each line'
    if not isinstance(found, _Pairs):
        return 'it is no object; write one such as {"prompt": ...} on each line'
    return list(found)


class _Pairs(list[tuple[str, Any]]):
    """An object of JSON as it is written: a name may stand there twice."""


def _unfit(pairs: list[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    """Column and problem of what cannot be a row's cells."""
    names = [name for name, _ in pairs]
    for name, value in pairs:
        if name not in COLUMNS:
            yield name, f"it is unknown; rename or delete it (columns are {', '.join(COLUMNS)})"
        elif names.count(name) > 1:
            yield name, "it stands there twice; delete one of the two"
        elif value is not None and not isinstance(value, str):
            what = _KINDS_OF_VALUE.get(type(value), "an object")
            yield name, f"it is {what}; write a text in quotation marks"


def _row(number: int, cells: Iterable[tuple[str, str]]) -> Row:
    """A row; blanks around a cell count in prompts alone."""
    given = {name: text if name == "prompt" else text.strip() for name, text in cells}
    return Row(number, {name: given.get(name, "") for name in COLUMNS})


# -- what no cell may hold ----------------------------------------------------------------------------
def _unreadable(row: Row) -> Iterator[Problem]:
    for column in COLUMNS:
        text, most = row[column], LONGEST_PROMPT if column == "prompt" else LONGEST_CELL
        allowed = "\n\t" if column == "prompt" else ""
        hidden = next((c for c in text if c not in allowed and _is_hidden(c)), "")
        if len(text) > most:
            says = f"{len(text)} characters; at most {most} are read, so shorten it"
        elif hidden:
            name = unicodedata.name(hidden, "")
            says = f"it holds a character that nobody sees (U+{ord(hidden):04X} {name}".rstrip()
            says += "); delete it"
        elif text.startswith(("=", "@")) or _BROKEN.match(text):
            says = f"{text[:20]!r} is a spreadsheet's formula or its error; write the text itself"
        else:
            continue
        yield Problem(row.number, column, says)


def _is_hidden(character: str) -> bool:
    """Controls, line ends, halves of characters, marks of no width; two joiners belong to scripts."""
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") and character not in "\u200c\u200d"
