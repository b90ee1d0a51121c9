"""What the pages of the book are made from: a finished run, its numbers in prose, and the lab
pages.

Nothing here knows Sphinx. A prose page is a Jinja2 template; :class:`Numbers` is all it can ask
for. A number that the run does not hold is an error, never a gap in a sentence.
"""

from __future__ import annotations

import base64
import functools
import html
import inspect
import itertools
import json
import re
import shlex
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import yaml

from .artifacts import read_json
from .claims import EVIDENCE
from .config import ROOT, STAGES, TASK_NAMES, StageParameters, TrainingParameters, stage_parameters
from .errors import ParameterError, StudyError
from .intervals import pooled
from .ledger import families
from .paths import base_folder
from .tasks import TASKS
from .weight import plain_table

TITLES = {
    "01_dataset_design": "Dataset design",
    "02_training": "Training to dual behaviour",
    "03_pairs": "Pairs",
    "04_differentiation": "Spatial differentiation",
    "05_prediction": "Prediction",
    "06_intervention": "Intervention",
    "07_transfer": "Transfer",
    "08_synthesis": "Synthesis",
    "09_confounds": "Confounds",
    "10_ablations": "Ablations",
    "11_open_points": "Open points",
}
PER_TASK, PER_STUDY = "07_transfer", "08_synthesis"
WHOLE = "all"  # the folder of a lab that runs once for all seeds
STUDY = "study"  # the folder of the lab that runs once for all tasks


class BookError(StudyError):
    """The book cannot be built: something it shows is missing, or a page asks for what is not
    there.
    """


# -- a finished run --------------------------------------------------------------------------------
@dataclass(frozen=True)
class Lab:
    """One executed lab: a stage for a task and a seed (`all` for the labs that run once)."""

    stage: str
    task: str
    seed: str
    folder: Path  # the stage's artifacts; the notebook lies beside it
    track: str = "scratch"

    @property
    def notebook(self) -> Path:
        return self.folder.with_suffix(".ipynb")

    @property
    def name(self) -> str:
        """The page's file name without suffix, unique within its stage."""
        name = self.task if self.seed == WHOLE else f"{self.task}-seed{self.seed}"
        return name if self.track == "scratch" else f"{self.track}-{name}"

    @property
    def page(self) -> str:
        return f"labs/{self.stage}/{self.name}"

    @property
    def label(self) -> str:
        track = "" if self.track == "scratch" else f"track {self.track}, "
        if self.task == STUDY:
            return f"{track}all tasks"
        return track + (self.task if self.seed == WHOLE else f"{self.task}, seed {self.seed}")

    @functools.cached_property
    def result(self) -> dict:
        return self._json("result.json")

    @functools.cached_property
    def manifest(self) -> dict:
        return self._json("manifest.json")

    def _json(self, name: str) -> dict:
        path = self.folder / name
        try:
            return json.loads(path.read_text(encoding="utf8"))
        except FileNotFoundError:
            raise self.missing(path) from None
        except (OSError, ValueError) as error:
            raise BookError(
                f"{path} cannot be read ({error}): delete it and run `make book` again"
            ) from None

    def missing(self, path: Path) -> BookError:
        return BookError(
            f"{path} is missing: lab {self.stage} ({self.label}) has not finished. `make book`"
            " runs it"
        )


class Run:
    """One track of a run folder `data/runs/<preset>`: its tasks, seeds and labs. Every lab must be
    there, whole and executed.

    `others`: the further tracks of the same study, each a `Run` of its own.
    """

    def __init__(
        self,
        root: Path,
        tasks: list[str] | None = None,
        seeds: list[int] | None = None,
        tracks: list[str] | tuple[str, ...] = ("scratch",),
    ):
        home, self.track = Path(root), tracks[0]
        self.root, self.preset = home if self.track == "scratch" else home / self.track, home.name
        self.others = [Run(home, tasks, seeds, [track]) for track in tracks[1:]]
        found = {p.parent.parent.name for p in self.root.glob("*/seed*/*") if p.stem in TITLES}
        for task in set(tasks or []) - found:
            raise BookError(
                f"{self.root / task} is missing: task {task!r} has not been run. `make book`"
                " runs it"
            )
        known = [t for t in TASK_NAMES if t in found] + sorted(found - set(TASK_NAMES))
        self.tasks = [t for t in known if tasks is None or t in tasks]
        if not self.tasks:
            raise BookError(
                f"{self.root} holds no executed labs: run `make book`, which executes them and"
                " builds the book"
            )
        self.seeds = {task: self._seeds(task, seeds) for task in self.tasks}
        self.labs = [
            Lab(stage, task, str(seed), self.root / task / f"seed{seed}" / stage, self.track)
            for stage in TITLES
            if stage not in (PER_TASK, PER_STUDY, *(EVIDENCE if self.track != "scratch" else ()))
            for task in self.tasks
            for seed in self.seeds[task]
        ]
        self.labs += [
            Lab(PER_TASK, task, WHOLE, self.root / task / WHOLE / PER_TASK, self.track)
            for task in self.tasks
        ]
        self.labs += [
            Lab(PER_STUDY, STUDY, WHOLE, self.root / STUDY / WHOLE / PER_STUDY, self.track)
        ]
        for lab in self.labs:
            for path in (lab.notebook, lab.folder / "result.json", lab.folder / "manifest.json"):
                if not path.is_file():
                    raise lab.missing(path)

    def _seeds(self, task: str, wanted: list[int] | None) -> list[int]:
        found = sorted(
            int(p.name[4:]) for p in (self.root / task).glob("seed*") if p.name[4:].isdigit()
        )
        for seed in set(wanted or []) - set(found):
            raise BookError(
                f"{self.root / task / f'seed{seed}'} is missing: run `make book` with this seed"
                " first"
            )
        return [seed for seed in found if wanted is None or seed in wanted]

    def of(self, stage: str, task: str | None = None) -> list[Lab]:
        """The labs of a stage, in the order of tasks and seeds."""
        return [lab for lab in self.labs if lab.stage == stage and task in (None, lab.task)]

    @property
    def every(self) -> list[Run]:
        """This track and the others."""
        return [self, *self.others]

    def base(self) -> dict:
        """`result.json` and timings of the base that the runs of this track share, with its
        architecture; {} from scratch or for a model from elsewhere.
        """
        parameters = self.of("02_training")[0].manifest["parameters"]
        if self.track == "scratch" or parameters["base_model"]:
            return {}
        folder = base_folder(
            self.root.parent.parent,
            self.preset,
            self.tasks[0],
            parameters["base_seed"],
            self.track,
            parameters["architecture"],
        )
        return read_json(folder / "result.json") | {"architecture": parameters["architecture"]}

    @property
    def is_finding(self) -> bool:
        """False when a model did not have to pass the study's own gate: such a run exercises the
        code and shows nothing.
        """
        own = {
            name: field.default
            for name, field in TrainingParameters.model_fields.items()
            if name.startswith("gate_")
        }
        for lab in [lab for run in self.every for lab in run.of("02_training")]:
            gate = {
                name: lab.manifest.get("parameters", {}).get(name, value)
                for name, value in own.items()
            }
            if gate.pop("gate_other") > own["gate_other"] or any(
                gate[name] < own[name] for name in gate
            ):
                return False
        return True


# -- numbers in prose ------------------------------------------------------------------------------
SPACE, JOIN = "\u00a0", "\u2060"  # a number and its unit, a range and its dash stay on one line
NOTHING = (  # a number that is not defined in a run, such as an AUC where only one behaviour occurred
    "n/a"
)


def percent(x: float | None, digits: int = 0) -> str:
    return NOTHING if x is None else f"{100 * x:.{digits}f}{SPACE}%"


def decimal(x: float | None, digits: int = 2) -> str:
    if x is None:
        return NOTHING
    text = f"{x:,.{digits}f}".replace(",", SPACE)
    return (
        text.replace("-", "−") if float(f"{x:.{digits}f}") else text.lstrip("-")
    )  # a true minus, and none before zero


def seconds(x: float) -> str:
    """A duration to read: `48 s`, `2 min 05 s`, `1 h 12 min`."""
    x = round(x)
    if x < 120:
        return f"{x} s"
    return (
        f"{x // 60} min {x % 60:02d} s" if x < 7200 else f"{x // 3600} h {x % 3600 // 60:02d} min"
    )


class Numbers:
    """What a template can ask a run. A `key` is a dotted path into `result.json`, e.g.
    `m2g.controls.low_rho`.

    A path element may be an index (`auc.0`) or, on a list, `max`, `min`, `first` or `last`
    (`auc.max`). A number that the run left undefined (null) is None; the mean is over the seeds
    where it is defined.
    """

    AGGREGATES = {"max": max, "min": min, "first": lambda xs: xs[0], "last": lambda xs: xs[-1]}

    def __init__(self, run: Run):
        self.run, self.tasks = run, run.tasks

    def has(self, *tasks: str) -> bool:
        """Are all these tasks part of the run?"""
        return set(tasks) <= set(self.tasks)

    def result(self, stage: str, task: str = STUDY) -> dict:
        """The whole `result.json` of a lab that runs once."""
        return self._labs(task, stage)[0].result

    def values(self, task: str, stage: str, key: str) -> list:
        """One value a seed, in the order of the seeds."""
        return [self._follow(lab, key) for lab in self._labs(task, stage)]

    def mean(self, task: str, stage: str, key: str) -> float | None:
        values = self._defined(task, stage, key)
        return sum(values) / len(values) if values else None

    def total(self, task: str, stage: str, key: str) -> int:
        return sum(self.values(task, stage, key))

    def rate(self, task: str, stage: str, key: str) -> str:
        """Mean over seeds with the range, for a sentence: `88 % (85 to 90 % over 3 seeds)`."""
        return self._spread(task, stage, key, lambda x: f"{100 * x:.0f}", f"{SPACE}%")

    def score(self, task: str, stage: str, key: str, digits: int = 2) -> str:
        """The same for a number that is no rate: `0.95 (0.93 to 0.97 over 3 seeds)`."""
        return self._spread(task, stage, key, lambda x: decimal(x, digits), "")

    def cell(self, task: str, stage: str, key: str, digits: int | None = None) -> str:
        """Mean over seeds with the range, for a table: `88 % (85–90)`, or `0.95 (0.93–0.97)` where
        `digits` is given.
        """
        values = self._defined(task, stage, key)
        if not values:
            return NOTHING

        def write(x):
            return f"{100 * x:.0f}" if digits is None else decimal(x, digits)

        low, high, mean = write(min(values)), write(max(values)), write(sum(values) / len(values))
        between = " to " if min(values) < 0 else f"{JOIN}–{JOIN}"
        return (
            mean
            + (f"{SPACE}%" if digits is None else "")
            + (f"{SPACE}({low}{between}{high})" if low != high else "")
        )

    def pooled(self, task: str, direction: str) -> dict:
        """Steering success over the prompts of all seeds: `success`, `low`, `high` (Wilson), `n`,
        `seeds`.
        """
        rates = self.values(task, "06_intervention", f"{direction}.success")
        return pooled(list(zip(rates, self.values(task, "06_intervention", f"{direction}.n"))))

    def controls(self, task: str, direction: str) -> dict[str, dict]:
        """The same for every control, and for rephrasing alone, in the order of the result. `n`
        counts prompts times draws.
        """
        found = self.values(task, "06_intervention", direction)
        pools = {}
        for name in self.values(task, "06_intervention", f"{direction}.controls")[0]:
            pools[name] = pooled(
                [(f["controls"][name], f.get("control_n", {}).get(name, f["n"])) for f in found]
            )
        pools["rephrasing"] = pooled(
            [(f["rephrase_floor"], f.get("rephrase_n", f["n"])) for f in found]
        )
        return pools

    def transfer(self, task: str, kind: str, direction: str) -> dict[str, dict | None]:
        """Mean success and random control of the cells of a transfer matrix: `own` model, `shared`
        base, `stranger`.

        `kind`: `retrain` or `task`. None where the run has no such cell. A source shares the
        target's base if the result says so.
        """
        (found,) = self.values(task, PER_TASK, kind)
        groups: dict[str, list] = {"own": [], "shared": [], "stranger": []}
        base = found.get("base")
        for i, source in enumerate(found["sources"]):
            for j, target in enumerate(found["targets"]):
                shared = base[i] == base[j] if base else found["shares_base"][i]
                group = "own" if source == target else "shared" if shared else "stranger"
                if found[direction][i][j] is not None:
                    groups[group].append(
                        (found[direction][i][j], found["control"][direction][i][j])
                    )
        return {
            name: (
                {
                    "success": sum(s for s, _ in cells) / len(cells),
                    "control": sum(c for _, c in cells) / len(cells),
                    "cells": len(cells),
                }
                if cells
                else None
            )
            for name, cells in groups.items()
        }

    def families(self) -> list[tuple[str, str, str]]:
        """`(family, tagged task, matched task)` for every family of which both variants are in the
        run.
        """
        return [(f, f"{f}-tagged", f"{f}-matched") for f in families(self.tasks)]

    def _defined(self, task: str, stage: str, key: str) -> list:
        return [value for value in self.values(task, stage, key) if value is not None]

    def _labs(self, task: str, stage: str) -> list[Lab]:
        if stage not in TITLES:
            raise BookError(f"stage {stage!r} is unknown; choose one of {', '.join(TITLES)}")
        labs = self.run.of(stage, task)
        if not labs:
            raise BookError(
                f"task {task!r} is not part of this run ({', '.join(self.tasks)}); guard it with"
                " `has()`"
            )
        return labs

    def _spread(self, task, stage, key, write, unit) -> str:
        values = self._defined(task, stage, key)
        if not values:
            return NOTHING
        mean = write(sum(values) / len(values)) + unit
        if len(values) == 1:
            return f"{mean} (one seed)"
        return (
            f"{mean} ({write(min(values))} to {write(max(values))}{unit} over {len(values)} seeds)"
        )

    def _follow(self, lab: Lab, key: str):
        value = lab.result
        for part in key.split("."):
            if isinstance(value, dict) and part in value:
                value = value[part]
            elif isinstance(value, list) and part in self.AGGREGATES and value:
                defined = [x for x in value if x is not None]
                value = self.AGGREGATES[part](defined) if defined else None
            elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
                value = value[int(part)]
            else:
                there = ", ".join(value) if isinstance(value, dict) else type(value).__name__
                raise BookError(
                    f"{lab.folder / 'result.json'} has no key {key!r}: at {part!r} it holds {there}"
                )
        return value


# -- lab pages -------------------------------------------------------------------------------------
def command(lab: Lab, notebook: dict) -> str:
    """The papermill line that runs this lab again, with every parameter that is not its preset's
    own.
    """
    spent = {k: v for k, v in lab.manifest.get("parameters", {}).items() if k != "runs"}
    once = ("seed",) if lab.seed == WHOLE else ()
    chosen = {name: spent[name] for name in IDENTITY if name in spent and name not in once}
    if chosen.get("track") == "scratch":
        del chosen["track"]
    if own := _of_preset(lab):
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


# -- parameters ------------------------------------------------------------------------------------
@functools.cache
def parameter_reference() -> dict[str, list[dict]]:
    """Every parameter of every stage, from the validated classes: `name`, `meaning`, `values` and
    `default`, as text.
    """
    found = {}
    for stage, cls in STAGES.items():
        schema = cls.model_json_schema()
        required = set(schema.get("required", ()))
        found[stage] = [
            {
                "name": name,
                "meaning": field["description"],
                "values": _values(field),
                "default": "" if name in required else json.dumps(field.get("default")),
            }
            for name, field in schema["properties"].items()
        ]
    return found


def _values(field: dict) -> str:
    """What a parameter may be, in words, from its JSON schema."""
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return ("list, not empty; each: " if field.get("minItems") else "list; each: ") + _values(
            field["items"]
        )
    kind = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "boolean": "`true` or `false`",
    }[field["type"]]
    limits = (
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
    )
    return ", ".join([kind, *(f"{word} {field[key]:g}" for key, word in limits if key in field)])


def choices_reference() -> dict[str, list[dict]]:
    """What may be chosen for a whole study: `tasks` and `tracks` (`name`, `meaning`), and `presets`
    (also `blocks`: block -> values).
    """
    tasks = [
        {"name": name, "meaning": inspect.getmodule(cls).__doc__.split("\n")[0]}
        for name, cls in TASKS.items()
    ]
    tracks = [
        dict(zip(("name", "meaning"), words.split(": ")))
        for words in StageParameters.model_fields["track"].description.split("; ")
    ]
    presets = []
    for path in sorted((ROOT / "notebooks" / "presets").glob("*.yaml")):
        text = path.read_text(encoding="utf8")
        head = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
        presets.append(
            {
                "name": path.stem,
                "meaning": " ".join(line.strip("# ") for line in head).split(". ")[0].rstrip("."),
                "blocks": yaml.safe_load(text),
            }
        )
    return {"tasks": tasks, "tracks": tracks, "presets": presets}


IDENTITY = ("task", "seed", "preset", "track")  # they say which run it is, so no preset sets them


def lab_parameters(lab: Lab) -> list[dict]:
    """The parameters of an executed lab: `name`, `meaning`, `values`, `preset` (what the preset
    sets), `used` and whether it was `changed`, as text.
    """
    reference = parameter_reference()[lab.stage]
    spent = {**lab.manifest.get("parameters", {}), **lab.manifest.get("overrides", {})}
    own, rows = _of_preset(lab), []
    for about in [
        about for about in reference if about["name"] != "runs"
    ]:  # a folder of the machine it ran on
        name = about["name"]
        used = spent.get(name, own.get(name))
        changed = name in own and name not in IDENTITY and used != own[name]
        preset = "" if name in IDENTITY else _plain(own[name]) if name in own else "not known"
        rows.append({**about, "used": _plain(used), "preset": preset, "changed": changed})
    return rows


def _of_preset(lab: Lab) -> dict:
    """What the preset gives this lab, parameter by parameter; {} if the preset or the task is no
    longer there.
    """
    spent = lab.manifest.get("parameters", {})
    try:
        return stage_parameters(
            lab.stage, {name: spent[name] for name in IDENTITY if name in spent}
        ).model_dump()
    except ParameterError:
        return {}


def _plain(value) -> str:
    """A value as it is written on the command line, without quotes."""
    return ("(empty)" if value == "" else value) if isinstance(value, str) else json.dumps(value)
