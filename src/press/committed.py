"""Tables of runs that are committed with the code, since they take hours, as their pages show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from memgen.figures.style import Drawing
from memgen.store.files import read_json
from press.numbers import processors


@dataclass(frozen=True)
class Committed:
    """`rows` of means, the figure's `alt` and `caption`, and how they were made (`about.json`).

    All empty before the runs were made.
    """

    rows: list[dict] = field(default_factory=list)
    alt: str = ""
    caption: str = ""
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """What to type for the same runs."""
        return self.about.get("command", "")

    @property
    def machine(self) -> str:
        return processors(self.about["machine"]) if self.about else ""


def shown(drawing: Drawing, source: Path, name: str) -> str:
    """The directive of a drawing whose file is staged in the sources; `name`: of the file, and for links."""
    file = f"figures/{name}.png"
    drawing.save(source / file)
    return f"```{{figure}} {file}\n:alt: {drawing.alt}\n:name: fig-{name}\n\n{drawing.caption}\n```"


Kind = TypeVar("Kind", bound=Committed)  # Python 3.11 has no other way to say it


def staged(
    kind: type[Kind],
    name: str,
    folders: tuple[Path, Path],
    draw: Callable[[pd.DataFrame], Drawing],
    rows_of: Callable[[pd.DataFrame], list[dict[str, Any]]],
) -> Kind:
    """The table in `data/reference/<name>` of the repository, its figure staged in the sources.

    `folders`: the repository, and the book's sources.
    """
    root, source = folders
    path = root / "data" / "reference" / name / "results.csv"
    if not path.is_file():
        return kind()
    table, about = pd.read_csv(path), read_json(path.with_name("about.json"))
    drawing = draw(table)
    drawing.save(source / "figures" / f"{name}.png")
    return kind(rows_of(table), drawing.alt, drawing.caption, about)
