"""What a notebook's parameters cell gave a lab, whatever else its names hold.

A notebook's names are shared with all that runs in its kernel: files that a user's profile starts
with, cells that were run before, cells of another lab. So a value counts only if a cell with
parameters assigned it: the notebook's own, and the one that papermill adds below it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from memgen.errors import ParameterError

#: the first line of the cell that papermill adds
INJECTED = "# Parameters"
#: every lab's own parameters cell assigns it
FIRST = "task"


def given_parameters(namespace: dict[str, Any], known: Collection[str]) -> dict[str, Any]:
    """The values in `namespace` that cells with parameters assigned, by name; misspelled ones too.

    `known`: the names that the lab takes. Where no shell keeps what was run (a notebook that was
    turned into a script), every known name that is there. Errors: `ParameterError` if the cell has
    not been run.
    """
    sources = _executed(namespace)
    if sources is None:
        return {name: namespace[name] for name in known if name in namespace}
    names = assigned(sources, known)
    if FIRST not in names:
        raise ParameterError(
            "no parameters were given: run the cell with the parameters before the one that opens"
            " the lab"
        )
    return {name: namespace[name] for name in names if name in namespace}


def _executed(namespace: dict[str, Any]) -> list[str] | None:
    """The cells that this notebook's shell has run, the one that is running last."""
    # looked up, not imported: without a notebook there is no reason to load it
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None or shell.user_ns is not namespace:
        return None
    return list(shell.history_manager.input_hist_parsed)


def assigned(sources: Sequence[str], known: Collection[str]) -> list[str]:
    """Names that the latest cells with parameters assign, from the notebook's own cell on.

    A cell counts if it assigns a known name or is papermill's; the search goes backwards and ends
    at the first cell that names the task and is not papermill's: it assigns every parameter.
    """
    found: list[str] = []
    for source in reversed(sources):
        names = list(_stored(source))
        injected = source.lstrip().startswith(INJECTED)
        if injected or set(names) & set(known):
            found = names + found
        if FIRST in names and not injected:
            break
    return list(dict.fromkeys(found))


def _stored(source: str) -> Iterator[str]:
    """Names that a cell assigns at its top level, private ones apart; none if it cannot be read."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return
    for statement in body:
        for target in _targets(statement):
            for node in ast.walk(target):
                if isinstance(node, ast.Name) and not node.id.startswith("_"):
                    yield node.id


def _targets(statement: ast.stmt) -> list[ast.expr]:
    if isinstance(statement, ast.Assign):
        return statement.targets
    if isinstance(statement, ast.AnnAssign | ast.AugAssign):
        return [statement.target]
    return []
