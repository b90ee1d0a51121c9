"""Build the book of a run: stage its sources, fill in the numbers, hand them to Jupyter Book.

`<out>/source` holds what Sphinx reads, `<out>/html` the book. A hash of all that the pages depend
on lies beside it: an unchanged book is not built again, and where no file was touched since it was
built (`press.unchanged`), nothing is staged either. Of a changed one, what is still right is kept: staged
files (`press.staged`), pages as Sphinx read them (`press.kept_build`), finished pages (`press.kept_pages`).
The outcome is that of a build from nothing, byte by byte. A book that fails to build, or builds with a
warning, never replaces a good one.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat

from memgen.config.base import ROOT
from memgen.config.sources import strays
from memgen.store.ours import STAMP, STATE, claim_book
from memgen.terms import WHOLE
from press.contents import contents, settings
from press.crate import write_crate
from press.errors import BookError
from press.exercises import PARAMETERS, page, read_notebook, sources, student
from press.exercises import downloads as exercise_files
from press.images import Figures, to_webp
from press.kept_build import DOCTREES, digests, find, keep
from press.lab_bar import downloads
from press.lab_page import Figure, as_executed, lab_page
from press.live import export_models
from press.numbers import plural, seconds
from press.own_book import is_alone, stage_alone
from press.prose import render, templates
from press.run import NEEDED, SYNTHESIS, ExecutedLab, Run
from press.sphinx_build import digest, sphinx, tools
from press.staged import (
    Staged,
    figures_of,
    made_of,
    rest_of,
    settle,
    showing,
    templates_of,
    texts_of,
)
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
    staged = digests(source)
    inputs = digest(staged)
    if stamp.is_file() and stamp.read_text() == inputs:
        write_crate(run, root, html)  # the same book may be that of another commit
        (out / STATE).write_text(state)
        say(f"nothing changed: {first} is up to date")
        return first

    def finish(html: Path) -> None:
        write_crate(run, root, html)
        (html / stamp.name).write_text(inputs)
        (html / Path(STATE).name).write_text(state)

    build_pages(source, out, staged, finish)
    say(f"ready after {seconds(time.monotonic() - started)}: {first}")
    return first


def build_pages(
    source: Path, out: Path, staged: dict[str, str], finish: Callable[[Path], None]
) -> list[str]:
    """Build the sources, whose digests are `staged`, into `out/html`; returns the pages that were written.

    The others are those of the book before. `finish` is called with the new book's folder, before that
    takes the place of the former one's.
    """
    fresh, doctrees = out / "html.unfinished", out / f"{DOCTREES}.unfinished"
    for leftover in (fresh, out / "jupyter_execute"):
        shutil.rmtree(leftover, ignore_errors=True)
    built_by = tools(source)
    kept = find(out, staged, built_by)
    if kept:
        say(f"building with Sphinx what has changed ({plural(len(kept.changed), 'staged file')})")
    else:
        say("building all pages with Sphinx")
    written = sphinx(source, fresh, doctrees, kept)
    finish(fresh)
    keep(doctrees, fresh, staged, built_by)
    for former in (out / "html", out / DOCTREES, out / "jupyter_execute"):
        shutil.rmtree(former, ignore_errors=True)
    fresh.rename(out / "html")
    doctrees.rename(out / DOCTREES)
    if kept:
        say(f"{plural(len(written), 'page')} written, the others are those of the book before")
    return written


def say(line: str) -> None:
    print(f"book: {line}", flush=True)


def stage(run: Run, root: Path, source: Path) -> None:
    """Write everything that Sphinx shall read to `source`, and nothing else; what is right there stays."""
    for needed in (root / "book", root / "_config.yml", root / "_toc.yml"):
        if not needed.exists():
            raise BookError(f"{needed} is missing: run this from the root of the repository")
    before, fresh = Staged.of(source), source.with_name(f"{source.name}.unfinished")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(root / "book", fresh, ignore=strays)
    now = Staged(rest_of(run, root, source.parent), templates_of(templates(fresh), fresh))
    pages, kept = stage_labs(run, fresh, before, now)
    changed = before.pages_to_write(now)
    if is_alone(run):  # no chapter is about it
        stage_alone(run, root, fresh, templates(fresh))
    elif changed is None:
        stage_whole(run, root, fresh, pages)
    else:
        render(run, pages, root, fresh, changed)
        shutil.rmtree(fresh / "quizzes", ignore_errors=True)  # which the pages hold by now
        kept = (
            set(before.files) - changed - {name for name in before.files if name.endswith(".jinja")}
        )
    settle(fresh, source, kept)
    now.write(source)


def stage_whole(run: Run, root: Path, source: Path, pages: dict[ExecutedLab, list[Figure]]) -> None:
    """All that is no lab."""
    stage_figure(run, source)
    stage_live(run, source)
    judged = [lab for one in run.every for lab in one.of(SYNTHESIS)]
    claims = [claim for lab in judged for claim in lab.result["claims"]]
    (source / "claims.json").write_text(json.dumps(claims, indent=1), encoding="utf8")
    render(run, pages, root, source)
    stage_teaching(run, root, source)
    (source / "_toc.yml").write_text(contents(run, root / "_toc.yml"), encoding="utf8")
    (source / "_config.yml").write_text(settings(run, root / "_config.yml"), encoding="utf8")


def stage_labs(
    run: Run, source: Path, before: Staged, now: Staged
) -> tuple[dict[ExecutedLab, list[Figure]], set[str]]:
    """Executed labs as pages, figures, notebooks and numbers beside them; those that `before` has, stay.

    Returns the figures, and the places of what stays. `now` gets the record of all labs.
    """
    light, shown_by = Figures(source.parent / ".figures"), showing(run)

    def write(lab: ExecutedLab) -> list[Figure]:
        key = made_of(lab, shown_by)
        if found := before.lab(lab.page, key):
            now.labs[lab.page] = found
            light.used |= {light.folder / name for name in found["images"]}
            return figures_of(found["figures"])
        target = source / f"{lab.page}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        page, figures = lab_page(lab, run)
        target.write_text(json.dumps(page), encoding="utf8")
        images = []
        for figure in figures:
            kept = light.small(figure.data)
            shutil.copyfile(kept, source / figure.file)
            images.append(kept.name)
        files = downloads(lab)
        executed = json.dumps(as_executed(lab))
        target.with_name(files["notebook"]).write_text(executed, encoding="utf8")
        for name in NEEDED:
            shutil.copyfile(lab.folder / name, target.with_name(files[name]))
        beside = [target, *(target.with_name(name) for name in files.values())]
        places = [path.relative_to(source).as_posix() for path in beside]
        now.labs[lab.page] = {
            "made_of": key,
            "figures": texts_of(figures),
            "images": images,
            "files": [*places, *(figure.file for figure in figures)],
        }
        return figures

    (source / "figures").mkdir()
    labs = run.all_pages
    # threads, because Pillow lets go of the interpreter while it codes
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        pages = dict(zip(labs, threads.map(write, labs)))
    light.forget_unused()
    same = [page for page, lab in now.labs.items() if before.labs.get(page) is lab]
    return pages, {place for page in same for place in now.labs[page]["files"]}


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
        of_runs = [int(lab.seed) for lab in run.of(stage, task) if lab.seed != WHOLE]
        text = page(solved, stage, task, (of_runs or run.seeds[task])[0], run.preset)
        (folder / f"{stage}.md").write_text(text, encoding="utf8")
        for name, notebook in (("student", student(solved)), ("solution", solved)):
            nbformat.write(notebook, folder / exercise_files(stage)[name])
