"""How a value is written: one reader for presets, the command line, Snakemake and papermill.

The language is YAML, with numbers as everybody writes them: `1e-3` is a number here (YAML 1.1 takes
it for text), `010` is ten and `1:30` a word (YAML 1.1 takes them for eight and ninety), `None` is
no value, as in Python.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from memgen.errors import ParameterError

_NUMBER = "tag:yaml.org,2002:float"
_WHOLE = "tag:yaml.org,2002:int"
_NONE = "tag:yaml.org,2002:null"
_REPLACED = {_NUMBER, _WHOLE, "tag:yaml.org,2002:timestamp"}


class _Reader(yaml.SafeLoader):
    """YAML's safe reader with other numbers; a name that stands twice in a block is an error."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for name in names:
            if names.count(name) > 1:
                raise yaml.composer.ComposerError(
                    None, None, f"{name!r} stands there twice", node.start_mark
                )
        return node


def _number(_: Any, node: yaml.ScalarNode) -> float:
    return float(re.sub(r"\.(?=[iInN])", "", node.value))  # `.inf` and `.nan` are YAML's


_Reader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag not in _REPLACED]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Reader.add_implicit_resolver(_WHOLE, re.compile(r"[-+]?[0-9]+(?:_[0-9]+)*$"), list("-+0123456789"))
_Reader.add_implicit_resolver(
    _NUMBER,
    re.compile(
        r"[-+]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|\.?(?:inf|Inf|INF))$"
        r"|\.?(?:nan|NaN|NAN)$"
    ),
    list("-+.0123456789iInN"),
)
_Reader.add_implicit_resolver(_NONE, re.compile(r"None$"), ["N"])
_Reader.add_constructor(_WHOLE, lambda _, node: int(node.value))
_Reader.add_constructor(_NUMBER, _number)


def read_yaml(text: str) -> Any:
    """A number, a word, a list, true or false, None, or blocks of these.

    Errors: `yaml.YAMLError` if the text cannot be read.
    """
    reader = _Reader(text)
    try:
        return reader.get_single_data()
    finally:
        reader.dispose()


def settings(words: list[str]) -> dict[str, Any]:
    """`name=value ...` by name, however a shell has cut the line into words.

    A setting ends where the next `name=` begins that stands in no bracket and no quotation marks,
    so that `top_ns=[0.1, 0.3]` is one. Errors: `ParameterError` naming what cannot be read.
    """
    return dict(map(_setting, _cut(" ".join(words))))


def _cut(line: str) -> list[str]:
    found, depth, quote, last = [], 0, "", 0
    for at, sign in enumerate(line):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'" and line[at - 1 : at] in ("=", "[", ",", " ", "{"):
            quote = sign
        elif sign in "[{" and (depth or line[at - 1 : at] == "="):
            depth += 1
        elif sign in "]}" and depth:
            depth -= 1
        elif sign.isspace() and not depth and re.match(r"\s*[A-Za-z_]\w*=", line[at:]):
            found.append(line[last:at])
            last = at
    return [part.strip() for part in [*found, line[last:]] if part.strip()]


def _setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    if not re.fullmatch(r"[A-Za-z_]\w*", name) or not value:
        raise ParameterError(f"{text!r} is not a setting; write name=value, such as n_embd=64")
    try:
        return name, read_yaml(value)
    except (yaml.YAMLError, ValueError):
        raise ParameterError(
            f"{text!r} is not a setting: the value is not readable; write a number, a word or a"
            " list such as [0.1,0.3]"
        ) from None
