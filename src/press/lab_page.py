"""An executed lab as a page of the book: its bar on top, its figures in files of their own."""

from __future__ import annotations

import base64
import json
import re
from copy import deepcopy
from dataclasses import dataclass

from press.errors import BookError
from press.lab_bar import lab_bar
from press.run import ExecutedLab, Run
from press.trim import plain_table


@dataclass(frozen=True)
class Figure:
    """An image of an executed lab with its texts; `file`: its place below the folder of sources.

    `data` is empty if that file is there already.
    """

    name: str | None
    alt: str
    caption: str
    data: bytes
    file: str

    def shown(self, up: str, caption: str | None = None, name: str | None = None) -> str:
        """The MyST directive that shows it; `up`: the way from the page to the folder of sources."""
        options = [f":alt: {json.dumps(self.alt, ensure_ascii=False)}"] + (
            [f":name: {name}"] if name else []
        )
        return "\n".join(
            [
                f":::{{figure}} {up}{self.file}",
                *options,
                "",
                self.caption if caption is None else caption,
                ":::",
            ]
        )


def lab_page(lab: ExecutedLab, run: Run) -> tuple[dict, list[Figure]]:
    """The executed notebook as a page, on top a bar (`lab_bar`), and its figures.

    A figure lies in a file of its own, which prose pages show as well.
    """
    try:
        notebook = json.loads(lab.notebook.read_text(encoding="utf8"))
        cells = notebook["cells"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BookError(
            f"{lab.notebook} is no readable notebook ({error!r}): delete it and run `make book`"
            " again"
        ) from None
    if not cells or cells[0]["cell_type"] != "markdown" or not _text(cells[0]).startswith("# "):
        raise BookError(
            f"{lab.notebook}: the first cell must be Markdown and begin with a title (`# ...`)"
        )
    title, _, rest = _text(cells[0]).partition("\n")
    page = [
        _markdown(f"{title} · {lab.label}", "title"),
        _markdown(lab_bar(lab, run, notebook), "lab-bar"),
    ]
    page += [_markdown(rest.strip(), "lead")] if rest.strip() else []
    found: list[Figure] = []
    for index, cell in enumerate(cells[1:], start=1):
        page += _with_figures_apart(
            cell, f"cell-{index}", f"{lab.notebook}, cell {index}", lab, found
        )
    page = [
        part
        for cell in page
        for part in (
            [cell, _markdown(SEE_BAR, "see-bar")] if "show_parameters()" in _text(cell) else [cell]
        )
    ]
    for cell in page:
        _make_unique(cell, {figure.name for figure in found} - {None}, _suffix(lab))
        _hide(cell)
    metadata = {
        k: v for k, v in notebook["metadata"].items() if k in ("kernelspec", "language_info")
    }
    return {"cells": page, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}, found


def as_executed(lab: ExecutedLab) -> dict:
    """The executed notebook for download: without papermill's notes about the machine.

    A figure is its alternative text: images would weigh five times the rest of the book.
    """
    notebook = json.loads(lab.notebook.read_text(encoding="utf8"))
    for part in (notebook, *notebook["cells"]):
        part["metadata"].pop("papermill", None)
        if "outputs" in part:
            part["outputs"] = [_in_words(output) for output in part["outputs"]]
    return notebook


def _in_words(output: dict) -> dict:
    """An output as text: an image becomes its alternative text, a table loses the ids of its cells."""
    if _is_image(output):
        alt = _texts(output).get("alt", "")
        words = (
            f"Figure: {alt}\n(It is shown on this lab's page of the book; running this cell draws"
            " it again.)"
        )
        return {**output, "metadata": {}, "data": {"text/plain": words}}
    return _lean(output)


def _lean(output: dict) -> dict:
    if "text/html" not in output.get("data", {}):
        return output
    return {
        **output,
        "data": {**output["data"], "text/html": plain_table("".join(output["data"]["text/html"]))},
    }


def _with_figures_apart(
    cell: dict, name: str, where: str, lab: ExecutedLab, found: list[Figure]
) -> list[dict]:
    """A code cell and its figures, each as a Markdown cell, in order; adds the figures to `found`.

    The texts of a figure come from its output's metadata (`display(figure, metadata={"alt": ...,
    "caption": ..., "name": ...})`) or else from the cell's (`{"mystnb": {"image": {"alt": ...},
    "figure": {"caption": ..., "name": ...}}}`). No figure goes without an `alt`.
    """
    if cell["cell_type"] != "code":
        return [{**cell, "id": name}]
    metadata = deepcopy(cell["metadata"])
    options = metadata.pop("mystnb", {})
    own = {**options.get("figure", {}), **options.get("image", {})}

    def part(outputs: list[dict], first: bool) -> dict:
        tags = [*metadata.get("tags", []), *([] if first else ["remove-input"])]
        return {
            **cell,
            "source": cell["source"] if first else "",
            "outputs": outputs,
            "metadata": {**metadata, "tags": tags},
            "id": f"{name}-{len(page)}",
        }

    page: list[dict] = []
    text: list[dict] = []  # outputs since the last figure
    for output in cell["outputs"]:
        if not _is_image(output):
            text.append(_lean(output))
            continue
        if text or not page:
            page.append(part(text, first=not page))
            text = []
        found.append(_figure(output, own, where, lab, len(found)))
        page.append(
            _markdown(
                found[-1].shown(
                    "../../", name=found[-1].name and f"{found[-1].name}-{_suffix(lab)}"
                ),
                f"{name}-{len(page)}",
            )
        )
    return page + ([part(text, first=not page)] if text or not page else [])


def _is_image(output: dict) -> bool:
    return "image/png" in output.get("data", {})


def _texts(output: dict) -> dict:
    own = output.get("metadata", {})
    return {**own, **own.get("image/png", {})}


def _figure(output: dict, texts: dict, where: str, lab: ExecutedLab, place: int) -> Figure:
    texts = {**texts, **_texts(output)}
    alt = " ".join(str(texts.get("alt", "")).split())
    if not alt:
        raise BookError(f"{where}: the figure has no alternative text; show it with an `alt`")
    data = base64.b64decode("".join(output["data"]["image/png"]))
    return Figure(
        texts.get("name"),
        alt,
        " ".join(texts.get("caption", "").split()),
        data,
        f"figures/{lab.stage}-{lab.name}-{place}.webp",
    )


def _suffix(lab: ExecutedLab) -> str:
    """The same lab appears once a task and seed: the names of its figures end in this."""
    return f"{lab.stage[:2]}-{lab.name}"


def _make_unique(cell: dict, names: set[str], suffix: str) -> None:
    """References to figures of this lab lead to those of this page."""
    if cell["cell_type"] == "markdown":
        for name in names:
            cell["source"] = re.sub(
                rf"(?<=[`<]){re.escape(name)}(?=[`>])", f"{name}-{suffix}", _text(cell)
            )


SEE_BAR = (
    "The table that this prints, with the values allowed and those of the preset, is folded into"
    " the box on top of this page."
)


def _hide(cell: dict) -> None:
    """Take off the page what the bar says better: plumbing, the parameters and their values."""
    tags = cell["metadata"].get("tags", [])
    if {"setup", "parameters"} & set(tags):
        cell["metadata"]["tags"] = [*tags, "remove-cell"]
    elif cell["cell_type"] == "code" and "show_parameters()" in _text(cell):
        cell["outputs"] = []


def _markdown(text: str, name: str) -> dict:
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": text}


def _text(cell: dict) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)
