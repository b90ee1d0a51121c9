"""Numbers that know where they come from, and write it into the page beside their digits.

A number read from a result is a :class:`Count` or a :class:`Measured`: an `int` or a `float` with
an `origin`. Arithmetic keeps it, the writers of `press.numbers` keep it, and the text of such a number
is a `<span>` that a reader does not see:

    <span data-source="inference/seed23/06_intervention/result.json#/m2g/success" ...>88 %</span>

`data-source`: addresses, each a file below the run's folder and a JSON pointer in it, where
`seed{23,24}/...` stands for two. `data-how`: what
was made of the list `x` of their values, an expression of Python in which `mean` and the writers of
`press.numbers` are known, e.g. `percent(mean(x))`.
"""

from __future__ import annotations

import html
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any
from urllib.parse import quote

#: texts of a result that are read aloud as they are, numbers and all
SENTENCES = ("headline", "evidence")
_SPAN = re.compile(r'<span data-source="[^"]*" data-how="[^"]*">(.*?)</span>', re.DOTALL)
_PART = re.compile(r"([/#.]|(?<=/seed)(?=\d))")
#: a line of Markdown that is no text: an option of a directive, such as the words for an image
_OPTION = re.compile(r"^:[\w-]+:.*$", re.MULTILINE)
_CODE = re.compile(
    r"^(```+)[^`\n]*\n.*?^\1|(?<!`)(`+)(?!`)(?:(?!\n\n).)+?(?<!`)\2(?!`)",
    re.MULTILINE | re.DOTALL,
)


class At(str):
    """The address of a value: `inference/seed23/03_pairs/result.json#/n_pairs/test`."""

    def below(self, key: str | int) -> At:
        pointer = str(key).replace("~", "~0").replace("/", "~1")
        return At(f"{self}{'' if '#' in self else '#'}/{quote(pointer, safe='~')}")


@dataclass(frozen=True)
class Made:
    """What was made of values: an expression of Python, in which `{every}` stands for the list of
    all, and `{0}`, `{1}` for one of them.
    """

    expression: str
    values: tuple[Any, ...]

    def said(self, order: dict[At, int]) -> str:
        """The expression on `x`; `order`: the place of every address in `x`."""
        words = [_said(one, order) for one in self.values]
        every = "x" if self.values == tuple(order) else f"[{', '.join(words)}]"
        text = self.expression.replace("{every}", every)
        for place, word in enumerate(words):
            text = text.replace(f"{{{place}}}", word)
        return text


def _addresses(one: Any) -> Iterator[At]:
    if isinstance(one, At):
        yield one
    elif isinstance(one, Made):
        for value in one.values:
            yield from _addresses(value)


def _said(one: Any, order: dict[At, int]) -> str:
    if isinstance(one, At):
        return f"x[{order[one]}]"
    return one.said(order) if isinstance(one, Made) else repr(one)


class Traced:
    """What knows its `origin`: an address, or what was made of values with addresses."""

    origin: At | Made

    def __str__(self) -> str:
        return spanned(str(plain(self)), self.origin)

    def __abs__(self):
        return made(abs(plain(self)), "abs({0})", self)

    def __format__(self, form: str) -> str:
        return format(plain(self), form) if form else str(self)


def _binary(name: str, compute: Callable, swapped: bool = False) -> Callable:
    def work(self, other):
        if not isinstance(other, (int, float)):
            return NotImplemented
        pair = (other, self) if swapped else (self, other)
        return made(compute(*map(plain, pair)), f"({{0}} {name} {{1}})", *pair)

    return work


for _name, _sign in {"add": "+", "sub": "-", "mul": "*", "truediv": "/"}.items():
    _compute = getattr(operator, _name)
    setattr(Traced, f"__{_name}__", _binary(_sign, _compute))
    setattr(Traced, f"__r{_name}__", _binary(_sign, _compute, swapped=True))


class Count(Traced, int):
    """An integer with its origin."""


class Measured(Traced, float):
    """A float with its origin."""


class Said(Traced, str):
    """A sentence with its origin."""


class Named(dict):
    """A dictionary of a result with its address."""

    origin: At


class Listed(list):
    """A list of a result with its address."""

    origin: At


def traced(value: Any, at: At) -> Any:
    """A value of a result, itself and all in it, with addresses; true, false, null without."""
    found: Any
    if isinstance(value, dict):
        found = Named()
        for key, one in value.items():
            found[key] = traced(one, at.below(key))
            if key in SENTENCES and isinstance(one, str):
                found[key] = _with(Said(one), at.below(key))
    elif isinstance(value, list):
        found = Listed(traced(one, at.below(place)) for place, one in enumerate(value))
    else:
        return _number(value, at)
    return _with(found, at)


def _number(value: Any, origin: At | Made) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    return _with((Count if isinstance(value, int) else Measured)(value), origin)


def _with(value: Any, origin: At | Made) -> Any:
    value.origin = origin
    return value


def made(value: Any, expression: str, *values: Any) -> Any:
    """`value`, which the expression (see :class:`Made`) gives for these values.

    It is traced if one of them is; they may be numbers, lists and dictionaries of results.
    """
    origin = Made(expression, tuple(getattr(one, "origin", one) for one in values))
    return _number(plain(value), origin) if any(_addresses(origin)) else value


def plain(value: Any) -> Any:
    """A number or sentence without its origin."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Traced):
        return int(value) if isinstance(value, int) else float(value)
    return value


def spanned(text: str, origin: At | Made) -> str:
    """A text in a span that says its origin."""
    order = {one: place for place, one in enumerate(dict.fromkeys(_addresses(origin)))}
    source, how = html.escape(" ".join(folded(order))), html.escape(_said(origin, order))
    return f'<span data-source="{source}" data-how="{how}">{text}</span>'


def folded(addresses: Iterable[str]) -> list[str]:
    """Addresses in a row that differ in one part as one, `seed{23,24}/...`; in the same order."""
    rows = [_PART.split(one) for one in addresses]
    while True:
        kept: list[list[str]] = []
        for row in rows:
            if not (kept and _join(kept[-1], row)):
                kept.append(row)
        if len(kept) == len(rows):
            return ["".join(row) for row in kept]
        rows = kept


def _join(kept: list[str], row: list[str]) -> bool:
    """Take `row` into `kept`, if they differ in one part, and no part before it is folded."""
    differ = [i for i, (a, b) in enumerate(zip(kept, row)) if a != b]
    if len(kept) != len(row) or len(differ) != 1:
        return False
    (i,) = differ
    if any("{" in part for part in (*kept[:i], row[i])):
        return False
    kept[i] = f"{{{kept[i].strip('{}')},{row[i]}}}"
    return True


def writer(write: Callable[..., str]) -> Callable[..., str]:
    """A function that writes a number keeps its origin: its text is a span where there is one."""

    @wraps(write)
    def keeping(x, *rest, **named):
        text = write(plain(x), *rest, **named)
        if not isinstance(x, Traced):
            return text
        how = ", ".join(["{0}", *map(repr, rest), *map(repr, named.values())])
        return spanned(text, Made(f"{write.__name__}({how})", (x.origin,)))

    return keeping


def bare(text: str) -> str:
    """A text without the origins of its numbers."""
    return _SPAN.sub(r"\1", text)


def only_in_prose(page: str) -> str:
    """A page of Markdown whose code, roles and options of directives show bare numbers."""
    return _CODE.sub(lambda m: bare(m[0]), _OPTION.sub(lambda m: bare(m[0]), page))


# -- of several values -----------------------------------------------------------------------------
def mean(values: Sequence) -> Any:
    return made(sum(map(plain, values)) / len(values), "mean({every})", *values)


def total(values: Iterable) -> Any:
    values = list(values)
    return made(sum(map(plain, values)), "sum({every})", *values)


def least(values: Iterable) -> Any:
    values = list(values)
    return made(min(map(plain, values)), "min({every})", *values)


def greatest(values: Iterable) -> Any:
    values = list(values)
    return made(max(map(plain, values)), "max({every})", *values)
