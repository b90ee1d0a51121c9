"""What the pages of the book are made from: a finished run, its numbers in prose, and the lab
pages.

Nothing here knows Sphinx. A prose page is a Jinja2 template; :class:`Numbers` is all it can ask
for. A number that the run does not hold is an error, never a gap in a sentence.
"""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from copy import deepcopy
from dataclasses import dataclass

from memgen.terms import STUDY, WHOLE
from press.errors import BookError
from press.numbers import seconds
from press.parameters import IDENTITY, lab_parameters, of_preset
from press.run import TITLES, Lab, Run
from press.trim import plain_table


def command(lab: Lab, notebook: dict) -> str:
    """The papermill line that runs this lab again, with every parameter that is not its preset's
    own.
    """
    spent = {k: v for k, v in lab.manifest.get("parameters", {}).items() if k != "runs"}
    once = ("seed",) if lab.seed == WHOLE else ()
    chosen = {name: spent[name] for name in IDENTITY if name in spent and name not in once}
    if chosen.get("track") == "scratch":
        del chosen["track"]
    if own := of_preset(lab):
        chosen |= {name: value for name, value in spent.items() if own.get(name, value) != value}
    else:  # what papermill was given says it all
        chosen |= {
            k: v
            for k, v in (
                notebook.get("metadata", {}).get("papermill", {}).get("parameters", {}).items()
            )
            if k != "runs"
        }
    chosen |= lab.manifest.get("overrides", {})
    if lab.task == STUDY:
        chosen.pop("task", None)
    words = ["papermill", f"notebooks/{lab.stage}.ipynb", "OUT.ipynb"]
    for name, value in chosen.items():
        words += _parameter(name, value)
    return " ".join(words + ["--cwd", "."])


def _parameter(name: str, value) -> list[str]:
    """`-p name value`, or the form papermill needs so that the value keeps its type."""
    if value is None or value == "":
        return []
    if isinstance(value, (list, dict)):
        return ["-y", shlex.quote(json.dumps({name: value}))]
    looks_like_a_number = isinstance(value, str) and re.fullmatch(
        r"[-+.\deE]+|True|False|None", value
    )
    return ["-r" if looks_like_a_number else "-p", name, shlex.quote(str(value))]


@dataclass(frozen=True)
class Figure:
    """An image of an executed lab: what it is called and says, and where the book keeps it (`file`,
    below the folder of sources).
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


def lab_page(lab: Lab, run: Run) -> tuple[dict, list[Figure]]:
    """The executed notebook as a page, and its figures: on top a bar with chapter, siblings,
    command and parameters.

    A figure lies in a file of its own, which prose pages show as well; the page refers to it with
    its alternative text.
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
        _markdown(_bar(lab, run, notebook), "lab-bar"),
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


def as_executed(lab: Lab) -> dict:
    """The executed notebook for download: without papermill's notes about the machine it ran on,
    and a figure as its alternative text.

    The figures are on the lab's page; with them the downloads would weigh five times as much as the
    rest of the book.
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


def downloads(lab: Lab) -> dict[str, str]:
    """What a lab page offers: name of the link -> file beside the page."""
    files = {"notebook": f"{lab.stage}-{lab.name}.ipynb"}
    return files | {name: f"{lab.name}.{name}" for name in ("result.json", "manifest.json")}


AXES = ("task", "seed", "track")


def _switches(lab: Lab, run: Run) -> list[str]:
    """Links from a lab to its siblings, each list with one thing changed: the task, the seed, the
    track. What is shown is bold.
    """
    everywhere = [other for one in run.every for other in one.of(lab.stage)]
    lines = []
    for axis in AXES:
        values, here = (
            list(dict.fromkeys(getattr(other, axis) for other in everywhere)),
            getattr(lab, axis),
        )
        links = [
            (
                f"**{value}**"
                if value == here
                else f"[{value}]({_nearest(lab, axis, value, everywhere).name}.ipynb)"
            )
            for value in values
        ]
        lines += [f"{axis} {' · '.join(links)}"] if len(values) > 1 else []
    return lines


def _nearest(lab: Lab, axis: str, value: str, labs: list[Lab]) -> Lab:
    """Of the labs whose `axis` is `value`, the first that shares most else with `lab`."""
    return max(
        (other for other in labs if getattr(other, axis) == value),
        key=lambda other: sum(getattr(other, k) == getattr(lab, k) for k in AXES),
    )


def _bar(lab: Lab, run: Run, notebook: dict) -> str:
    """Where a lab belongs, its siblings, the command that made it, on what it ran, its files, and
    its parameters (folded).
    """
    number, title = int(lab.stage[:2]), TITLES[lab.stage]
    lines = ["::::{div} lab-bar", f"**Chapter {number}:** [{title}](../../chapters/{lab.stage}.md)"]
    switches = _switches(lab, run)
    if switches:
        lines += ["", "**The same lab**, " + "; ".join(switches)]
    lines += [
        "",
        "**Run it again:**",
        "",
        "```bash",
        command(lab, notebook),
        "```",
        "",
        _facts(lab),
        "",
    ]
    lines += [
        ":::{div} lab-files",
        " ".join(f"{{download}}`{text} <{file}>`" for text, file in downloads(lab).items()),
        ":::",
        "",
    ]
    rows = lab_parameters(lab)
    changed = [row["name"] for row in rows if row["changed"]]
    note = f" ({len(changed)} changed: {', '.join(changed)})" if changed else ""
    lines += [
        f":::{{dropdown}} {len(rows)} parameters{note}, versions and machine",
        _parameter_table(rows, lab),
        "",
        _versions(lab),
        ":::",
        "::::",
    ]
    return "\n".join(lines)


def _facts(lab: Lab) -> str:
    """One line: run time, seed, versions and machine, from the manifest."""
    said = lab.manifest
    facts = [f"{seconds(said['wall_seconds'])}"] if said.get("wall_seconds") is not None else []
    facts += [
        f"seed {said['parameters'].get('seed')}"
        + (" of its own draws, over the runs of all seeds" if lab.seed == WHOLE else "")
    ]
    versions = said.get("versions", {})
    facts += [
        f"{'Python' if name == 'python' else name} {versions[name]}"
        for name in ("python", "torch", "transformers")
        if name in versions
    ]
    machine = said.get("machine", {})
    facts += (
        [f"{machine['cores']} cores of {machine['processor']}"]
        if {"cores", "processor"} <= set(machine)
        else []
    )
    return f"This run: {' · '.join(facts)}."


def _versions(lab: Lab) -> str:
    said = lab.manifest
    named = " · ".join(f"{name} {number}" for name, number in said.get("versions", {}).items())
    return (
        f"**Versions:** {named}. **Machine:**"
        f" {said.get('machine', {}).get('platform', 'not recorded')}."
    )


def _parameter_table(rows: list[dict], lab: Lab) -> str:
    """The parameters as raw HTML: a row of a Markdown table takes Sphinx longer than all figures of
    a page, 237 times.
    """
    body = []
    for row in rows:
        mark = ' class="changed"' if row["changed"] else ""
        used = html.escape(row["used"]) + (" <strong>(changed)</strong>" if row["changed"] else "")
        values = re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(row["values"], quote=False))
        body.append(
            f"<tr{mark}><th"
            f' scope="row"><code>{row["name"]}</code></th><td>{used}</td><td>{html.escape(row["preset"])}</td>'
            f"<td>{html.escape(row['meaning'])}; {values}</td></tr>"
        )
    head = (
        '<tr><th scope="col">parameter</th><th scope="col">used here</th><th scope="col">preset'
        f' {html.escape(lab.manifest["parameters"].get("preset", ""))}</th><th scope="col">meaning;'
        " allowed values</th></tr>"
    )
    return "\n".join(
        [
            (
                '<div class="pst-scrollable-table-container" tabindex="0" role="region"'
                ' aria-label="Parameters of this lab">'
            ),
            '<table class="table parameters">',
            f"<thead>{head}</thead>",
            "<tbody>",
            *body,
            "</tbody></table></div>",
            "",
        ]
    )


def _with_figures_apart(
    cell: dict, name: str, where: str, lab: Lab, found: list[Figure]
) -> list[dict]:
    """A code cell, and every figure that it shows as a Markdown cell of its own, in order; the
    figures are added to `found`.

    The texts of a figure come from its output's metadata (`display(figure, metadata={"alt": ...,
    "caption": ..., "name": ...})`) or, failing that, from the cell's (`{"mystnb": {"image": {"alt":
    ...}, "figure": {"caption": ..., "name": ...}}}`). No figure goes without an `alt`.
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


def _figure(output: dict, texts: dict, where: str, lab: Lab, place: int) -> Figure:
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


def _suffix(lab: Lab) -> str:
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
    """What the bar says better stays off the page: plumbing, the template of the parameters, and
    the table of their values.
    """
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
