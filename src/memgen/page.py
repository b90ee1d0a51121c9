"""What the pages of the book are made from: a finished run, its numbers in prose, and the lab pages.

Nothing here knows Sphinx. A prose page is a Jinja2 template; :class:`Numbers` is all it can ask for. A number that
the run does not hold is an error, never a gap in a sentence.
"""

from __future__ import annotations

import base64
import functools
import json
import re
import shlex
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from .artifacts import read_json
from .claims import EVIDENCE
from .config import STAGES, TASK_NAMES, TrainingParameters, stage_parameters
from .errors import ParameterError, StudyError
from .intervals import pooled
from .ledger import families
from .paths import base_folder

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
    """The book cannot be built: something it shows is missing, or a page asks for what is not there."""


# -- a finished run ---------------------------------------------------------------------------------------------------
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
            raise BookError(f"{path} cannot be read ({error}): delete it and run `make book` again") from None

    def missing(self, path: Path) -> BookError:
        return BookError(f"{path} is missing: lab {self.stage} ({self.label}) has not finished. `make book` runs it")


class Run:
    """One track of a run folder `data/runs/<preset>`: its tasks, seeds and labs. Every lab must be there, whole and executed.

    `others`: the further tracks of the same study, each a `Run` of its own.
    """

    def __init__(self, root: Path, tasks: list[str] | None = None, seeds: list[int] | None = None, tracks: list[str] | tuple[str, ...] = ("scratch",)):
        home, self.track = Path(root), tracks[0]
        self.root, self.preset = home if self.track == "scratch" else home / self.track, home.name
        self.others = [Run(home, tasks, seeds, [track]) for track in tracks[1:]]
        found = {p.parent.parent.name for p in self.root.glob("*/seed*/*") if p.stem in TITLES}
        for task in set(tasks or []) - found:
            raise BookError(f"{self.root / task} is missing: task {task!r} has not been run. `make book` runs it")
        known = [t for t in TASK_NAMES if t in found] + sorted(found - set(TASK_NAMES))
        self.tasks = [t for t in known if tasks is None or t in tasks]
        if not self.tasks:
            raise BookError(f"{self.root} holds no executed labs: run `make book`, which executes them and builds the book")
        self.seeds = {task: self._seeds(task, seeds) for task in self.tasks}
        self.labs = [
            Lab(stage, task, str(seed), self.root / task / f"seed{seed}" / stage, self.track)
            for stage in TITLES if stage not in (PER_TASK, PER_STUDY, *(EVIDENCE if self.track != "scratch" else ()))
            for task in self.tasks for seed in self.seeds[task]
        ]
        self.labs += [Lab(PER_TASK, task, WHOLE, self.root / task / WHOLE / PER_TASK, self.track) for task in self.tasks]
        self.labs += [Lab(PER_STUDY, STUDY, WHOLE, self.root / STUDY / WHOLE / PER_STUDY, self.track)]
        for lab in self.labs:
            for path in (lab.notebook, lab.folder / "result.json", lab.folder / "manifest.json"):
                if not path.is_file():
                    raise lab.missing(path)

    def _seeds(self, task: str, wanted: list[int] | None) -> list[int]:
        found = sorted(int(p.name[4:]) for p in (self.root / task).glob("seed*") if p.name[4:].isdigit())
        for seed in set(wanted or []) - set(found):
            raise BookError(f"{self.root / task / f'seed{seed}'} is missing: run `make book` with this seed first")
        return [seed for seed in found if wanted is None or seed in wanted]

    def of(self, stage: str, task: str | None = None) -> list[Lab]:
        """The labs of a stage, in the order of tasks and seeds."""
        return [lab for lab in self.labs if lab.stage == stage and task in (None, lab.task)]

    @property
    def every(self) -> list[Run]:
        """This track and the others."""
        return [self, *self.others]

    def base(self) -> dict:
        """`result.json` and timings of the base that the runs of this track share, with its architecture; {} from scratch or for a model from elsewhere."""
        parameters = self.of("02_training")[0].manifest["parameters"]
        if self.track == "scratch" or parameters["base_model"]:
            return {}
        folder = base_folder(self.root.parent.parent, self.preset, self.tasks[0], parameters["base_seed"], self.track, parameters["architecture"])
        return read_json(folder / "result.json") | {"architecture": parameters["architecture"]}

    @property
    def is_finding(self) -> bool:
        """False when a model did not have to pass the study's own gate: such a run exercises the code and shows nothing."""
        own = {name: field.default for name, field in TrainingParameters.model_fields.items() if name.startswith("gate_")}
        for lab in [lab for run in self.every for lab in run.of("02_training")]:
            gate = {name: lab.manifest.get("parameters", {}).get(name, value) for name, value in own.items()}
            if gate.pop("gate_other") > own["gate_other"] or any(gate[name] < own[name] for name in gate):
                return False
        return True


# -- numbers in prose -------------------------------------------------------------------------------------------------
SPACE, JOIN = "\u00a0", "\u2060"  # a number and its unit, a range and its dash stay on one line
NOTHING = "n/a"  # a number that is not defined in a run, such as an AUC where only one behaviour occurred


def percent(x: float | None, digits: int = 0) -> str:
    return NOTHING if x is None else f"{100 * x:.{digits}f}{SPACE}%"


def decimal(x: float | None, digits: int = 2) -> str:
    if x is None:
        return NOTHING
    text = f"{x:,.{digits}f}".replace(",", SPACE)
    return text.replace("-", "−") if float(f"{x:.{digits}f}") else text.lstrip("-")  # a true minus, and none before zero


def seconds(x: float) -> str:
    """A duration to read: `48 s`, `2 min 05 s`, `1 h 12 min`."""
    x = round(x)
    if x < 120:
        return f"{x} s"
    return f"{x // 60} min {x % 60:02d} s" if x < 7200 else f"{x // 3600} h {x % 3600 // 60:02d} min"


class Numbers:
    """What a template can ask a run. A `key` is a dotted path into `result.json`, e.g. `m2g.controls.low_rho`.

    A path element may be an index (`auc.0`) or, on a list, `max`, `min`, `first` or `last` (`auc.max`). A number that the run
    left undefined (null) is None; the mean is over the seeds where it is defined.
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
        """Mean over seeds with the range, for a table: `88 % (85–90)`, or `0.95 (0.93–0.97)` where `digits` is given."""
        values = self._defined(task, stage, key)
        if not values:
            return NOTHING

        def write(x):
            return f"{100 * x:.0f}" if digits is None else decimal(x, digits)

        low, high, mean = write(min(values)), write(max(values)), write(sum(values) / len(values))
        between = " to " if min(values) < 0 else f"{JOIN}–{JOIN}"
        return mean + (f"{SPACE}%" if digits is None else "") + (f"{SPACE}({low}{between}{high})" if low != high else "")

    def pooled(self, task: str, direction: str) -> dict:
        """Steering success over the prompts of all seeds: `success`, `low`, `high` (Wilson), `n`, `seeds`."""
        rates = self.values(task, "06_intervention", f"{direction}.success")
        return pooled(list(zip(rates, self.values(task, "06_intervention", f"{direction}.n"))))

    def controls(self, task: str, direction: str) -> dict[str, dict]:
        """The same for every control, and for rephrasing alone, in the order of the result. `n` counts prompts times draws."""
        found = self.values(task, "06_intervention", direction)
        pools = {}
        for name in self.values(task, "06_intervention", f"{direction}.controls")[0]:
            pools[name] = pooled([(f["controls"][name], f.get("control_n", {}).get(name, f["n"])) for f in found])
        pools["rephrasing"] = pooled([(f["rephrase_floor"], f.get("rephrase_n", f["n"])) for f in found])
        return pools

    def transfer(self, task: str, kind: str, direction: str) -> dict[str, dict | None]:
        """Mean success and random control of the cells of a transfer matrix: `own` model, `shared` base, `stranger`.

        `kind`: `retrain` or `task`. None where the run has no such cell. A source shares the target's base if the result says so.
        """
        (found,) = self.values(task, PER_TASK, kind)
        groups: dict[str, list] = {"own": [], "shared": [], "stranger": []}
        base = found.get("base")
        for i, source in enumerate(found["sources"]):
            for j, target in enumerate(found["targets"]):
                shared = base[i] == base[j] if base else found["shares_base"][i]
                group = "own" if source == target else "shared" if shared else "stranger"
                if found[direction][i][j] is not None:
                    groups[group].append((found[direction][i][j], found["control"][direction][i][j]))
        return {name: {"success": sum(s for s, _ in cells) / len(cells), "control": sum(c for _, c in cells) / len(cells),
                       "cells": len(cells)} if cells else None for name, cells in groups.items()}

    def families(self) -> list[tuple[str, str, str]]:
        """`(family, tagged task, matched task)` for every family of which both variants are in the run."""
        return [(f, f"{f}-tagged", f"{f}-matched") for f in families(self.tasks)]

    def _defined(self, task: str, stage: str, key: str) -> list:
        return [value for value in self.values(task, stage, key) if value is not None]

    def _labs(self, task: str, stage: str) -> list[Lab]:
        if stage not in TITLES:
            raise BookError(f"stage {stage!r} is unknown; choose one of {', '.join(TITLES)}")
        labs = self.run.of(stage, task)
        if not labs:
            raise BookError(f"task {task!r} is not part of this run ({', '.join(self.tasks)}); guard it with `has()`")
        return labs

    def _spread(self, task, stage, key, write, unit) -> str:
        values = self._defined(task, stage, key)
        if not values:
            return NOTHING
        mean = write(sum(values) / len(values)) + unit
        if len(values) == 1:
            return f"{mean} (one seed)"
        return f"{mean} ({write(min(values))} to {write(max(values))}{unit} over {len(values)} seeds)"

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
                raise BookError(f"{lab.folder / 'result.json'} has no key {key!r}: at {part!r} it holds {there}")
        return value


# -- lab pages --------------------------------------------------------------------------------------------------------
def command(lab: Lab, notebook: dict) -> str:
    """The papermill line that runs this lab again, with every parameter that is not its preset's own."""
    spent = {k: v for k, v in lab.manifest.get("parameters", {}).items() if k != "runs"}
    once = ("seed",) if lab.seed == WHOLE else ()
    chosen = {name: spent[name] for name in ("task", "seed", "preset", "track") if name in spent and name not in once}
    if chosen.get("track") == "scratch":
        del chosen["track"]
    try:
        own = stage_parameters(lab.stage, chosen).model_dump()
        chosen |= {name: value for name, value in spent.items() if own.get(name, value) != value}
    except ParameterError:  # a preset or task that is no longer there: what papermill was given says it all
        chosen |= {k: v for k, v in notebook.get("metadata", {}).get("papermill", {}).get("parameters", {}).items() if k != "runs"}
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
    looks_like_a_number = isinstance(value, str) and re.fullmatch(r"[-+.\deE]+|True|False|None", value)
    return ["-r" if looks_like_a_number else "-p", name, shlex.quote(str(value))]


def lab_page(lab: Lab, run: Run) -> dict:
    """The executed notebook as a page: a bar with its chapter, siblings and command on top; images with their own text."""
    try:
        notebook = json.loads(lab.notebook.read_text(encoding="utf8"))
        cells = notebook["cells"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BookError(f"{lab.notebook} is no readable notebook ({error!r}): delete it and run `make book` again") from None
    if not cells or cells[0]["cell_type"] != "markdown" or not _text(cells[0]).startswith("# "):
        raise BookError(f"{lab.notebook}: the first cell must be Markdown and begin with a title (`# ...`)")
    title, _, rest = _text(cells[0]).partition("\n")
    page = [_markdown(f"{title} · {lab.label}", "title"), _markdown(_bar(lab, run, notebook), "lab-bar")]
    page += [_markdown(rest.strip(), "lead")] if rest.strip() else []
    for index, cell in enumerate(cells[1:], start=1):
        page += _one_image_a_cell(cell, f"cell-{index}", f"{lab.notebook}, cell {index}")
    names = {_figure(cell).get("name") for cell in page} - {None}
    for cell in page:
        _make_unique(cell, names, suffix=f"{lab.stage[:2]}-{lab.name}")
        _hide(cell)
    metadata = {k: v for k, v in notebook["metadata"].items() if k in ("kernelspec", "language_info")}
    return {"cells": page, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def as_executed(lab: Lab) -> dict:
    """The executed notebook for download, without papermill's notes about the machine it ran on."""
    notebook = json.loads(lab.notebook.read_text(encoding="utf8"))
    for part in (notebook, *notebook["cells"]):
        part["metadata"].pop("papermill", None)
    return notebook


def figures(notebook: dict) -> list[dict]:
    """The images of a staged page: `name`, `alt`, `caption` and the PNG's `data`, in order."""
    found = []
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                text = cell["metadata"].get("mystnb", {})
                data = base64.b64decode("".join(output["data"]["image/png"]))
                found.append({"alt": text["image"]["alt"], "data": data, "name": None, "caption": "", **_figure(cell)})
    return found


def downloads(lab: Lab) -> dict[str, str]:
    """What a lab page offers: name of the link -> file beside the page."""
    files = {"notebook": f"{lab.stage}-{lab.name}.ipynb"}
    return files | {name: f"{lab.name}.{name}" for name in ("result.json", "manifest.json")}


def _siblings(lab: Lab, run: Run) -> list[str]:
    """The labs of this stage in one track, as links; this lab in bold."""
    siblings = []
    for task in dict.fromkeys(other.task for other in run.of(lab.stage)):
        links = []
        for other in run.of(lab.stage, task):
            text = task if other.seed == WHOLE else f"seed {other.seed}"
            links.append(f"**{text}**" if other == lab else f"[{text}]({other.name}.ipynb)")
        siblings.append(links[0] if links[0].strip("*[").startswith(task) else f"{task} {', '.join(links)}")
    return siblings


def _bar(lab: Lab, run: Run, notebook: dict) -> str:
    number, title = int(lab.stage[:2]), TITLES[lab.stage]
    lines = ["::::{div} lab-bar", f"**Chapter {number}:** [{title}](../../chapters/{lab.stage}.md)"]
    if sum(len(one.of(lab.stage)) for one in run.every) > 1:
        for one in [one for one in run.every if one.of(lab.stage)]:
            track = "" if len(run.every) == 1 else f" (track {one.track})"
            lines += ["", f"**The same lab{track}:** " + " · ".join(_siblings(lab, one))]
    spent = lab.manifest.get("wall_seconds")
    facts = [f"ran {seconds(spent)}"] if spent is not None else []
    facts += [f"{{download}}`{text} <{file}>`" for text, file in downloads(lab).items()]
    lines += ["", "**Run it again** (" + ", ".join(facts) + ")", "", "```bash", command(lab, notebook), "```", "::::"]
    return "\n".join(lines)


def _one_image_a_cell(cell: dict, name: str, where: str) -> list[dict]:
    """Split a cell with several images, so that each can carry its own alternative text and caption.

    The text comes from the output's metadata (`display(figure, metadata={"alt": ..., "caption": ..., "name": ...})`) or,
    failing that, from the cell's (`{"mystnb": {"image": {"alt": ...}, "figure": {"caption": ..., "name": ...}}}`).
    """
    if cell["cell_type"] != "code":
        return [{**cell, "id": name}]
    parts: list[list[dict]] = []  # an image alone, everything else as it came
    for output in cell["outputs"]:
        if _is_image(output) or not parts or _is_image(parts[-1][-1]):
            parts.append([output])
        else:
            parts[-1].append(output)
    page = []
    for number, outputs in enumerate(parts or [[]]):
        part = {**deepcopy({k: v for k, v in cell.items() if k != "outputs"}), "outputs": outputs, "id": f"{name}-{number}"}
        if number:
            part["source"] = ""
            part["metadata"]["tags"] = [*part["metadata"].get("tags", []), "remove-input"]
        _carry_text(part, outputs, where)
        page.append(part)
    return page


def _is_image(output: dict) -> bool:
    return bool({"image/png", "image/svg+xml"} & set(output.get("data", {})))


def _carry_text(cell: dict, outputs: list[dict], where: str) -> None:
    """Move the texts of an image into the cell metadata that MyST-NB reads; no image goes without."""
    if not outputs or not _is_image(outputs[0]):
        cell["metadata"].get("mystnb", {}).pop("figure", None)
        return
    (output,) = outputs
    own = output.get("metadata", {})
    own = {**own, **own.get("image/png", {}), **own.get("image/svg+xml", {})}
    options = cell["metadata"].setdefault("mystnb", {})
    if own.get("alt"):
        options.setdefault("image", {})["alt"] = own["alt"]
    if own.get("caption"):
        options["figure"] = {"caption": own["caption"], **({"name": own["name"]} if own.get("name") else {})}
    if not str(options.get("image", {}).get("alt", "")).strip():
        raise BookError(f"{where}: the figure has no alternative text; show it with an `alt`")


def _make_unique(cell: dict, names: set[str], suffix: str) -> None:
    """The same lab appears once a task and seed: its figure names get the page's name, as do references to them."""
    figure = _figure(cell)
    if figure.get("name"):
        figure["name"] = f"{figure['name']}-{suffix}"
    if cell["cell_type"] == "markdown":
        for name in names:
            cell["source"] = re.sub(rf"(?<=[`<]){re.escape(name)}(?=[`>])", f"{name}-{suffix}", _text(cell))


def _hide(cell: dict) -> None:
    """Plumbing stays off the page, and the template of the parameters folds away: the values used follow it."""
    tags = cell["metadata"].get("tags", [])
    if "setup" in tags:
        cell["metadata"]["tags"] = [*tags, "remove-cell"]
    elif "parameters" in tags:
        cell["metadata"]["tags"] = [*tags, "hide-input"]


def _figure(cell: dict) -> dict:
    return cell.get("metadata", {}).get("mystnb", {}).get("figure", {})


def _markdown(text: str, name: str) -> dict:
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": text}


def _text(cell: dict) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


# -- parameters -------------------------------------------------------------------------------------------------------
def parameter_reference() -> dict[str, list[dict]]:
    """Every parameter of every stage, from the validated classes: `name`, `meaning`, `values` and `default`, as text."""
    found = {}
    for stage, cls in STAGES.items():
        schema = cls.model_json_schema()
        required = set(schema.get("required", ()))
        found[stage] = [{"name": name, "meaning": field["description"], "values": _values(field),
                         "default": "" if name in required else json.dumps(field.get("default"))} for name, field in schema["properties"].items()]
    return found


def _values(field: dict) -> str:
    """What a parameter may be, in words, from its JSON schema."""
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return ("list, not empty; each: " if field.get("minItems") else "list; each: ") + _values(field["items"])
    kind = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true` or `false`"}[field["type"]]
    limits = (("minimum", "at least"), ("exclusiveMinimum", "above"), ("maximum", "at most"), ("exclusiveMaximum", "below"))
    return ", ".join([kind, *(f"{word} {field[key]:g}" for key, word in limits if key in field)])
