"""The bar on top of an executed lab: its chapter, its siblings, the command that made it, its parameters."""

from __future__ import annotations

import html
import json
import re
import shlex

from memgen.config.values import read_yaml
from memgen.stages import LABS
from memgen.terms import STUDY, WHOLE
from press.numbers import processors, seconds
from press.own_book import FIRST, is_alone
from press.parameters import IDENTITY, differs, lab_parameters, of_preset
from press.run import NEEDED, ExecutedLab, Run

AXES = ("task", "seed", "track")
AXES_AND_PRESET = ("task", "seed", "preset", "track")


def command(lab: ExecutedLab, notebook: dict) -> str:
    """The line that runs this lab again, with every parameter not its preset's own."""
    spent = {k: v for k, v in lab.manifest.get("parameters", {}).items() if k != "runs"}
    once = ("seed",) if lab.seed == WHOLE else ()
    chosen = {name: spent[name] for name in IDENTITY if name in spent and name not in once}
    if chosen.get("track") == "scratch":
        del chosen["track"]
    if own := of_preset(lab):
        chosen |= {
            name: value for name, value in spent.items() if differs(value, own.get(name, value))
        }
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
    words = ["memgen", "lab", lab.stage]
    words += [f"--{name} {chosen.pop(name)}" for name in AXES_AND_PRESET if name in chosen]
    changed = [setting(name, value) for name, value in chosen.items() if value not in (None, "")]
    words += ["--set", *changed] if changed else []
    return " ".join([*words, "--out", "OUT.ipynb"])


def setting(name: str, value) -> str:
    """`name=value`, written so that the command line reads the same value with the same type."""
    plain = (
        isinstance(value, str) and re.fullmatch(r"[\w./-]+", value) and read_yaml(value) == value
    )
    return shlex.quote(f"{name}={value if plain else json.dumps(value)}")


def downloads(lab: ExecutedLab) -> dict[str, str]:
    """What a lab page offers: name of the link -> file beside the page."""
    files = {"notebook": f"{lab.stage}-{lab.name}.ipynb"}
    return files | {name: f"{lab.name}.{name}" for name in NEEDED}


def _switches(lab: ExecutedLab, run: Run) -> list[str]:
    """Links to a lab's siblings, one of task, seed, track changed at a time; its own in bold."""
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


def _nearest(lab: ExecutedLab, axis: str, value: str, labs: list[ExecutedLab]) -> ExecutedLab:
    """Of the labs whose `axis` is `value`, the first that shares most else with `lab`."""
    return max(
        (other for other in labs if getattr(other, axis) == value),
        key=lambda other: sum(getattr(other, k) == getattr(lab, k) for k in AXES),
    )


def lab_bar(lab: ExecutedLab, run: Run, notebook: dict) -> str:
    """Where a lab belongs, its siblings, command, machine, files and (folded) parameters."""
    lines = ["::::{div} lab-bar", _belongs(lab, run)]
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


def _belongs(lab: ExecutedLab, run: Run) -> str:
    """A link to the chapter; in a book of a pretrained model alone, which has none, to its first page."""
    number = LABS[lab.stage].number
    if is_alone(run):
        return f"**Lab {number}** of [your model, your prompts](../../{FIRST})"
    return f"**Chapter {number}:** [{lab.title}](../../chapters/{lab.stage}.md)"


def _facts(lab: ExecutedLab) -> str:
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
    facts += [processors(machine)] if {"cores", "processor"} <= set(machine) else []
    return f"This run: {' · '.join(facts)}."


def _versions(lab: ExecutedLab) -> str:
    said = lab.manifest
    named = " · ".join(f"{name} {number}" for name, number in said.get("versions", {}).items())
    return (
        f"**Versions:** {named}. **Machine:**"
        f" {said.get('machine', {}).get('platform', 'not recorded')}."
    )


def _parameter_table(rows: list[dict], lab: ExecutedLab) -> str:
    """Raw HTML: Sphinx takes longer for a row of a Markdown table than for a page's figures."""
    body = []
    for row in rows:
        mark = ' class="changed"' if row["changed"] else ""
        used = html.escape(row["used"]) + (" <strong>(changed)</strong>" if row["changed"] else "")
        values = re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(row["values"], quote=False))
        body.append(
            f'<tr{mark}><th scope="row"><code>{row["name"]}</code></th><td>{used}</td>'
            f"<td>{html.escape(row['preset'])}</td><td>{html.escape(row['meaning'])}; {values}</td></tr>"
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
