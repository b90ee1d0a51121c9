"""What the rows of a table must hold to be a task: each alone, and all together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from memgen.tasks.given import FEWEST_KEYS, begins
from memgen.tasks.table_file import Problem, Row, Sheet

FEWEST_FREE = 3
#: by kind: the cells that a row needs, and those that mean nothing in it
NEEDS = {
    "conflict": ("memory_answer", "rule_answer", "key"),
    "keyed": ("memory_answer", "key"),
    "free": ("rule_answer",),
}
KINDS = "conflict, keyed or free"
EMPTY = {
    "conflict": (),
    "keyed": ("rule_answer", "rephrasing_of"),
    "free": ("memory_answer", "key", "rephrasing_of"),
}
MEANS = {
    "memory_answer": "what the model knows",
    "rule_answer": "what the context says",
    "key": "what is asked about",
}


def problems(sheet: Sheet) -> list[Problem]:
    """Whatever is wrong: with rows alone, else between rows, else with the table as a whole."""
    alone = [problem for row in sheet.rows for problem in _of_row(row)]
    between = [problem for check in _BETWEEN for problem in check(sheet)]
    return alone or between or list(_as_a_whole(sheet))


def of_kind(sheet: Sheet, kind: str) -> list[Row]:
    return [row for row in sheet.rows if row["kind"] == kind]


# -- a row alone --------------------------------------------------------------------------------------
def _of_row(row: Row) -> Iterator[Problem]:
    kind = row["kind"]
    if kind not in NEEDS:
        lower = kind.lower()
        says = f"{kind!r} is no kind; write {KINDS}" if kind else "it is empty"
        says += f" ({lower} in small letters)" if lower in NEEDS else ""
        says += "" if kind else f"; write {KINDS}"
        yield Problem(row.number, "kind", says)
        return
    yield from (Problem(row.number, "prompt", says) for says in _of_prompt(row["prompt"]))
    for column in NEEDS[kind]:
        if not row[column]:
            says = f"it is empty, and a {kind} row needs {MEANS[column]}; fill it in"
            yield Problem(row.number, column, says)
    for column in EMPTY[kind]:
        if row[column]:
            says = f"a {kind} row has none; empty the cell or choose another kind"
            yield Problem(row.number, column, says)
    yield from _of_answers(row)


def _of_prompt(prompt: str) -> Iterator[str]:
    if not prompt.strip():
        yield "it is empty; write the prompt or delete the row"
    elif prompt != prompt.rstrip():
        yield "it ends in a space, and the answer brings one along; delete that at the end"
    elif prompt != prompt.lstrip():
        yield "it begins with a space; delete that"


def _of_answers(row: Row) -> Iterator[Problem]:
    memory, rule = row["memory_answer"], row["rule_answer"]
    for column in ("memory_answer", "rule_answer"):
        if row[column] and not any(map(str.isalnum, row[column])):
            yield Problem(row.number, column, "it holds no letter and no digit; write an answer")
    if not (memory and rule):
        return
    if memory.casefold() == rule.casefold():
        says = f"it is {memory!r} as well, so no answer could tell memory from rule; change one"
        yield Problem(row.number, "rule_answer", says)
    elif begins(memory, rule) or begins(rule, memory):
        says = f"{rule!r} and {memory!r} begin alike, so the longer answer would be both; change"
        yield Problem(row.number, "rule_answer", f"{says} one")


# -- between rows -------------------------------------------------------------------------------------
def _prompts(sheet: Sheet) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for row in sheet.rows:
        seen = first.setdefault(row["prompt"], row.number)
        if seen != row.number:
            says = f"it is that of row {seen} again; delete one of the two"
            yield Problem(row.number, "prompt", says)


def _ids(sheet: Sheet) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for row in sheet.rows:
        if row["id"] and (seen := first.setdefault(row["id"], row.number)) != row.number:
            says = f"{row['id']!r} is row {seen}'s as well; give each row its own"
            yield Problem(row.number, "id", says)


def _memories(sheet: Sheet) -> Iterator[Problem]:
    """One key, one memory: rows that say another one than the key's first row."""
    first: dict[str, Row] = {}
    for row in sheet.rows:
        if not row["key"]:
            continue
        seen = first.setdefault(row["key"], row)
        if seen["memory_answer"] != row["memory_answer"]:
            says = (
                f"{row['memory_answer']!r}, but in row {seen.number} the key {row['key']!r} has"
                f" {seen['memory_answer']!r}; a key has one memory answer"
            )
            yield Problem(row.number, "memory_answer", says)


def _rephrasings(sheet: Sheet) -> Iterator[Problem]:
    by_id = {row["id"]: row for row in sheet.rows if row["id"]}
    for row in sheet.rows:
        named = row["rephrasing_of"]
        if not named:
            continue
        if named not in by_id:
            there = f"no row has the id {named!r}" if by_id else "there is no column id to name"
            yield Problem(row.number, "rephrasing_of", f"{there}; write the id of a conflict row")
            continue
        says = _misfit(row, by_id[named], by_id)
        if says:
            yield Problem(row.number, "rephrasing_of", says)


def _misfit(row: Row, original: Row, by_id: dict[str, Row]) -> str:
    """Why a row cannot be a rephrasing of that one; "" if it can."""
    if original is row:
        return "it names its own row; leave it empty or name another"
    if original["kind"] != "conflict":
        return f"row {original.number} is a {original['kind']} row; name a conflict row"
    if original["key"] != row["key"]:
        return (
            f"row {original.number} has the key {original['key']!r}, this one {row['key']!r}; a"
            " rephrasing keeps the key"
        )
    seen: list[Row] = [row]
    while original["rephrasing_of"] in by_id and original not in seen:
        seen.append(original)
        original = by_id[original["rephrasing_of"]]
    if original is row:
        around = ", ".join(str(one.number) for one in seen)
        return f"rows {around} name each other in a circle; leave it empty in one of them"
    return ""


_BETWEEN: tuple[Callable[[Sheet], Iterator[Problem]], ...] = (
    _prompts,
    _ids,
    _memories,
    _rephrasings,
)


# -- the table as a whole -----------------------------------------------------------------------------
def _as_a_whole(sheet: Sheet) -> Iterator[Problem]:
    """What is missing for the labs to have anything to ask."""
    asked = {row["key"] for row in of_kind(sheet, "conflict")}
    for row in of_kind(sheet, "keyed"):
        if row["key"] not in asked:
            says = f"{row['key']!r} has no conflict row, so it is never asked; write one or delete"
            yield Problem(row.number, "key", f"{says} its keyed rows")
            asked.add(row["key"])  # said once
    n_keys, n_free = len(asked), len(of_kind(sheet, "free"))
    if n_keys < FEWEST_KEYS:
        says = f"{n_keys} keys have conflict rows; at least {FEWEST_KEYS} are needed, for neurons"
        yield Problem(0, "key", f"{says} to be selected, tuned and tried on different ones")
    if n_free < FEWEST_FREE:
        says = f"{n_free} free rows; at least {FEWEST_FREE} are needed, to see what steering does"
        yield Problem(0, "kind", f"{says} to prompts that it should leave alone")
    if not of_kind(sheet, "keyed"):
        says = "no keyed rows; write at least one for each key, so that it is known whether the"
        yield Problem(0, "kind", f"{says} model knows its memory answer without a context")
    if not any(len(rows) > 1 for rows in groups(sheet).values()):
        says = "no conflict row is another one's rephrasing, so there are no pairs to compare;"
        yield Problem(0, "rephrasing_of", f"{says} say one prompt in two ways")


def groups(sheet: Sheet) -> dict[str, list[Row]]:
    """Conflict rows that say one prompt in several ways, by their first row or their key.

    A rephrasing of a rephrasing belongs to the same group. A table without the column
    rephrasing_of has one group per key.
    """
    by_id = {row["id"]: row for row in sheet.rows if row["id"]}
    found: dict[str, list[Row]] = {}
    for row in of_kind(sheet, "conflict"):
        first = row
        while first["rephrasing_of"]:
            first = by_id[first["rephrasing_of"]]
        linked = "rephrasing_of" in sheet.columns
        found.setdefault(f"row {first.number}" if linked else row["key"], []).append(row)
    return found
