"""Build the book of a run: stage a clean copy of its sources, fill in the numbers, hand it to
Jupyter Book.

    python -m memgen.book --runs data/runs/laptop --out _build

`_build/source` holds what Sphinx reads (rendered prose, executed labs, generated contents),
`_build/html` the book. The hash of all that the pages depend on lies beside the book: an unchanged
book is not built again. A book that fails to build, or builds with a warning, never replaces a good
one.
"""

from __future__ import annotations

import argparse
import csv
import functools
import hashlib
import json
import os
import re
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import version
from pathlib import Path

import yaml

from . import slides, teaching
from .config import ROOT
from .errors import StudyError
from .export import export_models
from .page import (
    PER_STUDY,
    TITLES,
    BookError,
    Figure,
    Lab,
    Numbers,
    Run,
    as_executed,
    choices_reference,
    decimal,
    downloads,
    lab_page,
    parameter_reference,
    percent,
    seconds,
)
from .weight import Figures, to_webp, trim

TOOLS = (
    "jupyter-book",
    "sphinx",
    "myst-nb",
    "sphinx-book-theme",
    "pydata-sphinx-theme",
    "sphinxcontrib-bibtex",
)
STAMP = ".inputs.sha256"
ANSI = re.compile(r"\x1b\[[0-9;]*m")  # Sphinx colours what it says


def build_book(
    runs: Path,
    out: Path,
    root: Path = ROOT,
    tasks: list[str] | None = None,
    seeds: list[int] | None = None,
    tracks: list[str] | tuple[str, ...] = ("scratch",),
) -> Path:
    """Build the book of the run in `runs` into `out/html` from the sources in `root`; returns its
    first page.

    Raises :class:`BookError` when an artifact is missing, a page asks for an unknown number, or
    Sphinx warns, and other kinds of `StudyError` for a model, an exercise or a slide that cannot be
    made.
    """
    started = time.monotonic()
    run = Run(runs, tasks, seeds, tracks)
    n_labs = sum(len(one.labs) for one in run.every)
    say(f"staging {n_labs} labs ({len(run.tasks)} tasks, preset {run.preset})")
    source, html = out / "source", out / "html"
    stage(run, root, source)
    inputs = digest(source)
    stamp = html / STAMP
    if stamp.is_file() and stamp.read_text() == inputs:
        say(f"nothing changed: {html / 'index.html'} is up to date")
        return html / "index.html"
    say(f"building {n_labs} labs and the prose with Sphinx")
    fresh = out / "html.unfinished"
    for leftover in (fresh, out / "jupyter_execute", out / ".doctrees"):
        shutil.rmtree(leftover, ignore_errors=True)
    sphinx(source, fresh, doctrees=out / ".doctrees")
    trim(fresh)
    (fresh / STAMP).write_text(inputs)
    shutil.rmtree(html, ignore_errors=True)
    fresh.rename(html)
    for leftover in (out / "jupyter_execute", out / ".doctrees"):
        shutil.rmtree(leftover, ignore_errors=True)
    say(f"ready after {seconds(time.monotonic() - started)}: {html / 'index.html'}")
    return html / "index.html"


def say(line: str) -> None:
    print(f"book: {line}", flush=True)


# -- staging ---------------------------------------------------------------------------------------
def stage(run: Run, root: Path, source: Path) -> None:
    """Write everything that Sphinx shall read to `source`, and nothing else."""
    for needed in (root / "book", root / "_config.yml", root / "_toc.yml"):
        if not needed.exists():
            raise BookError(f"{needed} is missing: run this from the root of the repository")
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(root / "book", source, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    pages = stage_labs(run, source)
    stage_figure(run, source)
    stage_live(run, source)
    claims = [
        claim for one in run.every for lab in one.of(PER_STUDY) for claim in lab.result["claims"]
    ]
    (source / "claims.json").write_text(json.dumps(claims, indent=1), encoding="utf8")
    render(run, pages, root, source)
    stage_teaching(run, root, source)
    (source / "_toc.yml").write_text(contents(run, root / "_toc.yml"), encoding="utf8")
    (source / "_config.yml").write_text(settings(run, root / "_config.yml"), encoding="utf8")


def stage_labs(run: Run, source: Path) -> dict[Lab, list[Figure]]:
    """Every executed lab as a page, its figures in `figures/`, its notebook and numbers beside it
    for download; returns the figures.
    """
    light = Figures(source.parent / ".figures")

    def write(lab: Lab) -> list[Figure]:
        target = source / f"{lab.page}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        page, found = lab_page(lab, run)
        target.write_text(json.dumps(page), encoding="utf8")
        for figure in found:
            (source / figure.file).write_bytes(light.small(figure.data))
        files = downloads(lab)
        target.with_name(files["notebook"]).write_text(
            json.dumps(as_executed(lab)), encoding="utf8"
        )
        for name in ("result.json", "manifest.json"):
            shutil.copyfile(lab.folder / name, target.with_name(files[name]))
        return found

    (source / "figures").mkdir()
    labs = [lab for one in run.every for lab in one.labs]
    with ThreadPoolExecutor(
        os.cpu_count()
    ) as threads:  # Pillow lets go of the interpreter while it codes
        pages = dict(zip(labs, threads.map(write, labs)))
    light.forget_unused()
    return pages


def stage_figure(run: Run, source: Path) -> None:
    """The figure of the home page, from the synthesis."""
    (lab,) = run.of(PER_STUDY)
    figure = lab.folder / "main_finding.png"
    if not figure.is_file():
        raise lab.missing(figure)
    (source / "figures" / "main_finding.webp").write_bytes(to_webp(figure.read_bytes()))


def stage_live(run: Run, source: Path) -> None:
    """The models of the live page: that of every task's first seed on the track scratch."""
    own = next((one for one in run.every if one.track == "scratch"), run)
    export_models(
        [own.root / task / f"seed{own.seeds[task][0]}" for task in own.tasks],
        source / "_static" / "live",
    )


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
            quiz=lambda stage: teaching.quiz(source / "quizzes" / f"{stage}.yaml"),
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


def stage_teaching(run: Run, root: Path, source: Path) -> None:
    """A page for the exercises of every chapter that has some, both notebooks beside it for
    download; the quizzes are on their pages by now.

    Runs after `render`: what stands in a notebook is no template.
    """
    import nbformat

    shutil.rmtree(source / "quizzes", ignore_errors=True)
    task = teaching.PARAMETERS["task"] if teaching.PARAMETERS["task"] in run.tasks else run.tasks[0]
    folder = source / "exercises"
    folder.mkdir()
    for path in teaching.sources(root):
        stage = path.stem
        solved = teaching.read_notebook(path)
        (folder / f"{stage}.md").write_text(
            teaching.page(solved, stage, task, run.seeds[task][0], run.preset), encoding="utf8"
        )
        for name, notebook in (("student", teaching.student(solved)), ("solution", solved)):
            nbformat.write(notebook, folder / teaching.downloads(stage)[name])


def exercises(root: Path, stage: str, up: str) -> str:
    """One sentence that leads to the exercises of a chapter."""
    source = teaching.check_source(
        teaching.read_notebook(teaching.find(stage, root)), f"the exercises of {stage}"
    )
    return (
        f"[{len(source.parts)} exercises with hints, self-checks and"
        f" solutions]({up}exercises/{stage}.md), about {source.minutes} minutes in all;"
        " {download}`the notebook with gaps"
        f" <{up}exercises/{teaching.downloads(stage)['student']}>` runs on the artifacts of this"
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

    from .figures_scale import against_size, describe
    from .scale import SIZES

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


def contents(run: Run, template: Path) -> str:
    """The table of contents: the committed spine, with the exercises and the labs of the run below
    their chapters.
    """
    toc = yaml.safe_load(template.read_text(encoding="utf8"))
    for part in toc["parts"]:
        for chapter in part["chapters"]:
            stage = Path(chapter["file"]).name
            if stage in TITLES:
                practice = (
                    [{"file": f"exercises/{stage}", "title": "Exercises"}]
                    if teaching.find(stage, template.parent).is_file()
                    else []
                )
                chapter["sections"] = practice + [
                    _branch(one.of(stage, t))
                    for one in run.every
                    for t in dict.fromkeys(lab.task for lab in one.of(stage))
                ]
    return yaml.safe_dump(toc, sort_keys=False)


def _branch(labs: list[Lab]) -> dict:
    first, *others = labs
    kind = "Lab" if first.track == "scratch" else f"Lab, {first.track}"
    title = f"{kind}: all tasks" if first.stage == PER_STUDY else f"{kind}: {first.task}"
    branch = {"file": first.page, "title": title}
    if others:
        branch["sections"] = [{"file": lab.page, "title": f"seed {lab.seed}"} for lab in others]
    return branch


def settings(run: Run, config: Path) -> str:
    """The committed settings; a run whose numbers mean nothing says so on top of every page."""
    config = yaml.safe_load(config.read_text(encoding="utf8"))
    if not run.is_finding:
        config["html"]["announcement"] = (
            f"Trial run (preset {run.preset}): its models did not have to pass the study's gate. "
            "<strong>Its numbers mean nothing.</strong>"
        )
    return yaml.safe_dump(config, sort_keys=False)


def digest(source: Path) -> str:
    """sha256 over every staged file and the tools that turn them into pages."""
    total = hashlib.sha256(" ".join(f"{tool} {version(tool)}" for tool in TOOLS).encode())
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        total.update(path.relative_to(source).as_posix().encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


# -- Sphinx ----------------------------------------------------------------------------------------
def sphinx(source: Path, html: Path, doctrees: Path) -> None:
    """Build `source` as `jupyter-book build -W -n --keep-going` does, with one process a core."""
    from jupyter_book.sphinx import build_sphinx

    progress, warnings = Progress(), Warnings()
    with redirect_stdout(progress), redirect_stderr(warnings):
        status = build_sphinx(
            source.resolve(),
            html.resolve(),
            path_config=(source / "_config.yml").resolve(),
            doctreedir=doctrees.resolve(),
            noconfig=True,
            confoverrides={"nitpicky": True, "latex_individualpages": False},
            builder="html",
            freshenv=True,
            warningiserror=True,
            keep_going=True,
            jobs=min(os.cpu_count() or 1, 8),
        )
    if status != 0:
        listed = "\n".join(f"  {line}" for line in warnings.lines()) or f"  {status!r}"
        raise BookError(f"Sphinx warned or failed, so the book was not replaced:\n{listed}")


class Warnings:
    """A stream that keeps what Sphinx says against a page, once each."""

    def __init__(self):
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False

    def lines(self) -> list[str]:
        return list(
            dict.fromkeys(
                line.strip() for line in ANSI.sub("", self.text).splitlines() if line.strip()
            )
        )


class Progress(Warnings):
    """A stream that turns Sphinx's chatter into a few lines: which step, how far, how long it
    takes.
    """

    STEPS = {"reading sources": "reading", "writing output": "writing"}

    def __init__(self):
        super().__init__()
        self.out, self.started, self.step, self.shown = sys.stdout, time.monotonic(), "", 0

    def write(self, text: str) -> int:
        text = ANSI.sub("", text)
        for step, verb in self.STEPS.items():
            if f"{step}... [" in text:
                if step != self.step:
                    self.step, self.shown, self.started = step, 0, time.monotonic()
                share = int(text.split("[")[1].split("%")[0])
                if share >= self.shown + 25 and share < 100:
                    self.shown, spent = share, time.monotonic() - self.started
                    left = (
                        f", about {seconds(spent * (100 - share) / share)} left"
                        if spent > 1
                        else ""
                    )
                    self.out.write(f"book: {verb} pages, {share} % ({seconds(spent)}{left})\n")
                    self.out.flush()
        return len(text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m memgen.book", description="Build the book of a run."
    )
    parser.add_argument(
        "--runs", type=Path, required=True, help="run folder, e.g. data/runs/laptop"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("_build"), help="where to build (default: _build)"
    )
    parser.add_argument(
        "--root", type=Path, default=ROOT, help="repository root (default: the one of this package)"
    )
    parser.add_argument(
        "--tracks",
        nargs="+",
        default=["scratch"],
        help="tracks to show, the main one first (default: scratch)",
    )
    parser.add_argument("--tasks", nargs="+", help="only these tasks (default: all of the run)")
    parser.add_argument(
        "--seeds", nargs="+", type=int, help="only these seeds (default: all of the run)"
    )
    options = parser.parse_args(arguments)
    try:
        build_book(
            options.runs, options.out, options.root, options.tasks, options.seeds, options.tracks
        )
    except StudyError as error:
        print(f"book: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("book: interrupted; the former book, if any, is untouched", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
