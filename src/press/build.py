"""Build the book of a run: stage its sources, fill in the numbers, hand them to Jupyter Book.

`<out>/source` holds what Sphinx reads, `<out>/html` the book. A hash of all that the pages depend
on lies beside it: an unchanged book is not built again, and where no file was touched since it was
built (`press.unchanged`), nothing is staged either. A book that fails to build, or builds with a
warning, never replaces a good one.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat

from memgen.config.base import ROOT
from memgen.config.sources import strays
from memgen.store.ours import STAMP, STATE, claim_book
from press.contents import contents, settings
from press.crate import write_crate
from press.errors import BookError
from press.exercises import PARAMETERS, page, read_notebook, sources, student
from press.exercises import downloads as exercise_files
from press.images import Figures, to_webp
from press.lab_bar import downloads
from press.lab_page import Figure, as_executed, lab_page
from press.live import export_models
from press.numbers import seconds
from press.own_book import is_alone, stage_alone
from press.prose import render, templates
from press.run import NEEDED, SYNTHESIS, ExecutedLab, Run
from press.sphinx_build import digest, sphinx
from press.trim import trim
from press.unchanged import state_of


def build_book(
    runs: Path,
    out: Path,
    root: Path = ROOT,
    tasks: list[str] | None = None,
    seeds: list[int] | None = None,
    tracks: list[str] | tuple[str, ...] = ("scratch",),
) -> Path:
    """Build the book of the run in `runs` into `out/html`; returns its first page.

    Raises `ArtifactError` for an `out` with files that a book would overwrite and no book of ours,
    :class:`BookError` for a missing artifact, an unknown number or a warning of Sphinx,
    other `StudyError`s for a model, an exercise or a slide that cannot be made.
    """
    started = time.monotonic()
    source, html, stamp = out / "source", out / "html", out / STAMP
    first, state = html / "index.html", state_of(runs, out, root, (tasks, seeds, list(tracks)))
    if first.is_file() and (out / STATE).is_file() and (out / STATE).read_text() == state:
        say(f"nothing changed: {first} is up to date")
        return first
    run = Run(runs, tasks, seeds, tracks)
    n_labs = len(run.all_pages)
    say(f"staging {n_labs} labs ({len(run.tasks)} tasks, preset {run.preset})")
    claim_book(out)
    stage(run, root, source)
    inputs = digest(source)
    if stamp.is_file() and stamp.read_text() == inputs:
        write_crate(run, root, html)  # the same book may be that of another commit
        (out / STATE).write_text(state)
        say(f"nothing changed: {first} is up to date")
        return first
    say(f"building {n_labs} labs and the prose with Sphinx")
    fresh = out / "html.unfinished"
    for leftover in (fresh, out / "jupyter_execute", out / ".doctrees"):
        shutil.rmtree(leftover, ignore_errors=True)
    sphinx(source, fresh, doctrees=out / ".doctrees")
    trim(fresh)
    write_crate(run, root, fresh)
    (fresh / stamp.name).write_text(inputs)
    (fresh / Path(STATE).name).write_text(state)
    shutil.rmtree(html, ignore_errors=True)
    fresh.rename(html)
    for leftover in (out / "jupyter_execute", out / ".doctrees"):
        shutil.rmtree(leftover, ignore_errors=True)
    say(f"ready after {seconds(time.monotonic() - started)}: {html / 'index.html'}")
    return html / "index.html"


def say(line: str) -> None:
    print(f"book: {line}", flush=True)


def stage(run: Run, root: Path, source: Path) -> None:
    """Write everything that Sphinx shall read to `source`, and nothing else."""
    for needed in (root / "book", root / "_config.yml", root / "_toc.yml"):
        if not needed.exists():
            raise BookError(f"{needed} is missing: run this from the root of the repository")
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(root / "book", source, ignore=strays)
    pages = stage_labs(run, source)
    if is_alone(run):  # no chapter is about it
        stage_alone(run, root, source, templates(source))
        return
    stage_figure(run, source)
    stage_live(run, source)
    judged = [lab for one in run.every for lab in one.of(SYNTHESIS)]
    claims = [claim for lab in judged for claim in lab.result["claims"]]
    (source / "claims.json").write_text(json.dumps(claims, indent=1), encoding="utf8")
    render(run, pages, root, source)
    stage_teaching(run, root, source)
    (source / "_toc.yml").write_text(contents(run, root / "_toc.yml"), encoding="utf8")
    (source / "_config.yml").write_text(settings(run, root / "_config.yml"), encoding="utf8")


def stage_labs(run: Run, source: Path) -> dict[ExecutedLab, list[Figure]]:
    """Executed labs as pages, figures, notebooks and numbers beside them; returns the figures."""
    light = Figures(source.parent / ".figures")

    def write(lab: ExecutedLab) -> list[Figure]:
        target = source / f"{lab.page}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        page, found = lab_page(lab, run)
        target.write_text(json.dumps(page), encoding="utf8")
        for figure in found:
            (source / figure.file).write_bytes(light.small(figure.data))
        files = downloads(lab)
        executed = json.dumps(as_executed(lab))
        target.with_name(files["notebook"]).write_text(executed, encoding="utf8")
        for name in NEEDED:
            shutil.copyfile(lab.folder / name, target.with_name(files[name]))
        return found

    (source / "figures").mkdir()
    labs = run.all_pages
    # threads, because Pillow lets go of the interpreter while it codes
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        pages = dict(zip(labs, threads.map(write, labs)))
    light.forget_unused()
    return pages


def stage_figure(run: Run, source: Path) -> None:
    """The figure of the home page, from the synthesis."""
    (lab,) = run.of(SYNTHESIS)
    figure = lab.need(lab.folder / "main_finding.png")
    (source / "figures" / "main_finding.webp").write_bytes(to_webp(figure.read_bytes()))


def stage_live(run: Run, source: Path) -> None:
    """The models of the live page: that of every task's first seed on the track scratch."""
    own = next((one for one in run.every if one.track == "scratch"), run)
    export_models(
        [own.root / task / f"seed{own.seeds[task][0]}" for task in own.tasks],
        source / "_static" / "live",
    )


def stage_teaching(run: Run, root: Path, source: Path) -> None:
    """A page for the exercises of every chapter that has some, both notebooks beside it.

    Runs after `render`: what stands in a notebook is no template.
    """
    shutil.rmtree(source / "quizzes", ignore_errors=True)
    task = PARAMETERS["task"] if PARAMETERS["task"] in run.tasks else run.tasks[0]
    folder = source / "exercises"
    folder.mkdir()
    for path in sources(root):
        stage = path.stem
        solved = read_notebook(path)
        text = page(solved, stage, task, run.seeds[task][0], run.preset)
        (folder / f"{stage}.md").write_text(text, encoding="utf8")
        for name, notebook in (("student", student(solved)), ("solution", solved)):
            nbformat.write(notebook, folder / exercise_files(stage)[name])
