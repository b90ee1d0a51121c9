"""Build the book of a run: stage a clean copy of its sources, fill in the numbers, hand it to
Jupyter Book.

    python -m memgen.book --runs data/runs/laptop --out _build

`_build/source` holds what Sphinx reads (rendered prose, executed labs, generated contents),
`_build/html` the book. The hash of all that the pages depend on lies beside the book: an unchanged
book is not built again. A book that fails to build, or builds with a warning, never replaces a good
one.
"""

from __future__ import annotations

import csv
import functools
import json
import re
from pathlib import Path

import yaml

from memgen.config.base import ROOT
from memgen.errors import StudyError
from memgen.figures.scale import against_size, describe
from memgen.pipeline.scale import SIZES
from press import slides
from press.errors import BookError
from press.exercises import check_source, downloads, find, read_notebook
from press.lab_page import Figure
from press.numbers import Numbers, decimal, percent, seconds
from press.parameters import choices_reference, parameter_reference
from press.quizzes import quiz
from press.run import PER_STUDY, TITLES, Lab, Run


def render(run: Run, pages: dict[Lab, list[Figure]], root: Path, source: Path) -> None:
    """Fill in the prose pages in place. An unknown name or number is an error that names the page."""
    import jinja2

    numbers, drawn = (
        Numbers(run),
        functools.cache(
            lambda: slides.write(run, pages, source / "slides", source.parent / ".slides")
        ),
    )
    tracks = {one.track: Numbers(one) for one in run.every}
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        loader=jinja2.FileSystemLoader(source),
        extensions=["jinja2.ext.do"],
    )
    helpers = (
        "has",
        "result",
        "values",
        "mean",
        "total",
        "rate",
        "score",
        "cell",
        "pooled",
        "controls",
        "transfer",
        "families",
    )
    environment.globals.update(
        {name: getattr(numbers, name) for name in helpers},
        run=run,
        tracks=tracks,
        tasks=run.tasks,
        seeds=run.seeds,
        preset=run.preset,
        stages=TITLES,
        is_finding=run.is_finding,
        percent=percent,
        decimal=decimal,
        seconds=seconds,
        sum=sum,
        len=len,
        max=max,
        min=min,
        zip=zip,
        citation=lambda: citation(root),
        bibtex=lambda key: bibtex(source, key),
        paper=lambda: paper_results(root),
        scale=lambda: scale_results(root, source),
        parameters=parameter_reference,
        choices=choices_reference,
        has_paper_runs=(root / "data" / "reference" / "paper").is_dir(),
        synthesis=run.of(PER_STUDY)[0].result,
    )
    for path in sorted(source.rglob("*.md")):
        page = path.relative_to(source).as_posix()
        up = "../" * page.count("/")
        environment.globals.update(
            labs=lambda stage: "\n\n".join(
                lab_links(one, stage, up) for one in run.every if one.of(stage)
            ),
            lab_figure=lambda stage, task=None, name=None, track=run.track: lab_figure(
                tracks[track].run, pages, stage, task, name, up
            ),
            chapter_of=lambda name: chapter_of(name, up),
            slides=lambda: slides.listing(drawn(), up),
            quiz=lambda stage: quiz(source / "quizzes" / f"{stage}.yaml"),
            exercises=lambda stage: exercises(root, stage, up),
        )
        try:
            path.write_text(environment.get_template(page).render(), encoding="utf8")
        except (StudyError, jinja2.UndefinedError) as error:
            raise BookError(f"book/{page}: {error}") from None
        except jinja2.TemplateSyntaxError as error:
            raise BookError(f"book/{page}, line {error.lineno}: {error.message}") from None
        except (TypeError, KeyError, IndexError, ValueError) as error:
            raise BookError(f"book/{page}: a number could not be written: {error!r}") from error


def exercises(root: Path, stage: str, up: str) -> str:
    """One sentence that leads to the exercises of a chapter."""
    source = check_source(read_notebook(find(stage, root)), f"the exercises of {stage}")
    return (
        f"[{len(source.parts)} exercises with hints, self-checks and"
        f" solutions]({up}exercises/{stage}.md), about {source.minutes} minutes in all;"
        " {download}`the notebook with gaps"
        f" <{up}exercises/{downloads(stage)['student']}>` runs on the artifacts of this"
        " chapter in seconds."
    )


def lab_links(run: Run, stage: str, up: str) -> str:
    """A list of links to the executed labs of a chapter."""
    lines = []
    for task in dict.fromkeys(lab.task for lab in run.of(stage)):
        links = [
            f"[{lab.label.split(', ')[-1]}]({up}{lab.page}.ipynb)" for lab in run.of(stage, task)
        ]
        lines.append(
            f"- {links[0]}"
            if len(links) == 1 and "seed" not in links[0].split("]")[0]
            else f"- {task}: {', '.join(links)}"
        )
    track = "" if run.track == "scratch" else f", track {run.track}"
    return "\n".join([f"**The executed labs behind this chapter{track}**", "", *lines])


def lab_figure(run, pages, stage: str, task: str | None, name: str | None, up: str) -> str:
    """A figure of an executed lab, shown in a prose page. Without `name` the lab's first; '' if the
    lab has none at all.
    """
    lab = (run.of(stage, task) or run.of(stage))[0]
    found = pages[lab]
    if not found:
        return ""
    chosen = next((figure for figure in found if name in (None, figure.name)), None)
    if chosen is None:
        raise BookError(
            f"lab {stage} ({lab.label}) has no figure {name!r}; it has"
            f" {', '.join(str(figure.name) for figure in found)}"
        )
    origin = f"From the executed lab: [{lab.label}]({up}{lab.page}.ipynb)."
    return chosen.shown(up, caption=f"{chosen.caption} {origin}".strip())


def chapter_of(name: str, up: str) -> str:
    """A link to the page that a claim names: a stage (`06_intervention`), a page of the book or a
    lab.
    """
    name = (
        name.removesuffix(".md")
        .removesuffix(".ipynb")
        .removeprefix("book/")
        .removeprefix("chapters/")
        .removeprefix("notebooks/")
    )
    if name in TITLES:
        return f"[{int(name[:2])} · {TITLES[name]}]({up}chapters/{name}.md)"
    return f"[{name}]({up}{name}.md)"


def paper_results(root: Path) -> list[dict]:
    """The paper's own numbers, from `data/reference/paper_results.csv`."""
    path = root / "data" / "reference" / "paper_results.csv"
    try:
        with path.open(encoding="utf8", newline="") as file:
            return list(csv.DictReader(file))
    except OSError:
        raise BookError(
            f"{path} is missing: it is part of the repository, restore it with git"
        ) from None


def citation(root: Path) -> str:
    """This book as a BibTeX entry, from `CITATION.cff` and the year in the settings."""
    about = yaml.safe_load(
        next(f for f in (root / "CITATION.cff", ROOT / "CITATION.cff") if f.is_file()).read_text(
            encoding="utf8"
        )
    )
    year = yaml.safe_load((root / "_config.yml").read_text(encoding="utf8"))["copyright"]
    authors = " and ".join(
        (
            f"{{{person['name']}}}"
            if "name" in person
            else f"{person['family-names']}, {person['given-names']}"
        )
        for person in about["authors"]
    )
    fields = {
        "author": authors,
        "title": about["title"],
        "year": year,
        "note": f"Version {about['version']}",
    }
    return "\n".join(
        [
            "@misc{thinkorremember,",
            *(f"  {name:<7}= {{{value}}}," for name, value in fields.items()),
            "}",
        ]
    )


def bibtex(source: Path, key: str) -> str:
    """An entry of the bibliography as it stands in `references.bib`, without the keywords that only
    sort it here.
    """
    found = re.search(
        rf"^@\w+\{{{re.escape(key)},.*?^\}}",
        (source / "references.bib").read_text(encoding="utf8"),
        flags=re.DOTALL | re.MULTILINE,
    )
    if not found:
        raise BookError(f"references.bib has no entry {key!r}")
    return re.sub(r"\n\s*keywords\s*=.*", "", found[0])


def scale_results(root: Path, source: Path) -> dict:
    """The committed scale sweep: one row a task and size (means over the seeds that passed), its
    figure staged, command and machine; no rows before it was run.
    """
    path = root / "data" / "reference" / "scale" / "results.csv"
    if not path.is_file():
        return {"rows": []}
    import pandas as pd

    table, about = (
        pd.read_csv(path),
        json.loads(path.with_name("about.json").read_text(encoding="utf8")),
    )
    against_size(table).savefig(source / "figures" / "scale.png")
    rows = []
    for (task, width, depth), runs in table.groupby(["task", "width", "depth"], sort=False):
        known = runs[runs.passed]
        means = {
            name: float(value) if value == value else None
            for name, value in known.mean(numeric_only=True).items()
        }
        rows.append(
            means
            | {
                "task": task,
                "width": width,
                "depth": depth,
                "passed": len(known),
                "seeds": len(runs),
                **{f"{d}_n": int(known[f"{d}_n"].sum()) for d in ("m2g", "g2m")},
            }
        )
    shown = set(zip(table.width, table.depth))
    return {
        "rows": rows,
        "alt": describe(table),
        "missing": [f"{w} × {d}" for w, d in SIZES if (w, d) not in shown],
        "command": about["command"],
        "machine": f"{about['machine']['cores']} cores of {about['machine']['processor']}",
    }
