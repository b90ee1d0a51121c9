"""Prose pages: Jinja2 templates, filled in with the numbers and verdicts of a run.

A template writes values and lists rows. What counts, compares or chooses is a helper with a test,
from `press.numbers`, `press.sentences` or here; a test reads the templates for it.
"""

from __future__ import annotations

import csv
import re
from functools import cache
from pathlib import Path

import jinja2
import yaml

from memgen.config.base import ROOT, SEEDS, SEEN_SEEDS
from memgen.config.sources import own_files
from memgen.errors import StudyError
from memgen.rivals.detectors.detector import Detector
from memgen.stages import TITLES, TRAINING
from press import slides
from press.arms import arms
from press.at_a_glance import MARKS, at_a_glance, place
from press.beside_paper import beside_paper
from press.carried_vectors import carried_vectors
from press.cluster import cluster_trial
from press.committed_runs import committed_runs
from press.coverage import BAND, Coverage
from press.errors import BookError
from press.exercises import Source, downloads, find, has_lab, numbered, read_notebook
from press.lab_page import Figure
from press.lessons import turn
from press.live_links import live_link
from press.machine import Made, of_seed, profile
from press.method_forecasts import method_forecasts
from press.numbers import Numbers, agree, decimal, listed, percent, plural, seconds, span
from press.origin import only_in_prose
from press.own_book import guide
from press.parameters import choices_reference, parameter_reference
from press.performance import estimates, performance
from press.price import numerics_price
from press.quizzes import quiz
from press.real import real
from press.run import SYNTHESIS, ExecutedLab, Run
from press.scale import sweep
from press.sentences import Counts, Ledger, between, effect, most_first, sees, thresholds
from press.suspects import tried
from press.task_names import plainly
from press.taught_model import taught_models
from press.told_key import told_key
from press.whole_board import of_kind, whole_board
from press.words import AWAITED, timed

#: what a template may ask of a run's numbers and counts by their own names
ASKED = [
    "has",
    "result",
    "values",
    "mean",
    "means",
    "total",
    "overall",
    "first_seeds",
    "rate",
    "score",
    "cell",
    "by_layer",
    "by_setting",
    "success",
    "within",
    "taught",
    "controls",
    "successes",
    "transfer",
    "overlap",
    "families",
    "twin",
]
COUNTED = ["beyond", "against", "as_good", "halved", "in_gate", "marked"]


def render(
    run: Run,
    pages: dict[ExecutedLab, list[Figure]],
    root: Path,
    source: Path,
    chosen: set[str] | None = None,
) -> None:
    """Fill in the prose pages, or those that are chosen, in place.

    An unknown name or number is an error that names the page.
    """
    environment = templates(source)
    environment.globals.update(helpers(run.sourced(), root, source))
    drawn = cache(lambda: slides.write(run, pages, source / "slides", source.parent / ".slides"))
    for path in own_files(source, "**/*.md"):
        page = path.relative_to(source).as_posix()
        if chosen is not None and page not in chosen:
            continue
        up = "../" * page.count("/")
        environment.globals.update(links(run, pages, root, source, up))
        environment.globals["slides"] = lambda up=up: slides.listing(drawn(), up)
        try:
            text = only_in_prose(timed(environment.get_template(page).render()))
            path.write_text(text, encoding="utf8")
        except (StudyError, jinja2.UndefinedError) as error:
            raise BookError(f"book/{page}: {error}") from None
        except jinja2.TemplateSyntaxError as error:
            raise BookError(f"book/{page}, line {error.lineno}: {error.message}") from None
        except (TypeError, KeyError, IndexError, ValueError) as error:
            raise BookError(f"book/{page}: a number could not be written: {error!r}") from error


def templates(folder: Path) -> jinja2.Environment:
    """The environment in which the pages in `folder` are templates; an unknown name is an error."""
    return jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        loader=jinja2.FileSystemLoader(folder),
    )


def detectors() -> dict[str, Detector]:
    """The detectors of lab 14 by name, in the order of their table."""
    from memgen.rivals.detectors.roster import DETECTORS  # loads torch: for one page alone

    return DETECTORS


def helpers(run: Run, root: Path, source: Path) -> dict:
    """What a page may ask, by name; of `run`'s first track where none is named."""
    tracks = {one.track: Numbers(one) for one in run.every}
    ledgers = {name: Ledger(one.result(SYNTHESIS)["claims"]) for name, one in tracks.items()}
    numbers = tracks[run.track]
    counts = Counts(numbers)
    return (
        {name: getattr(numbers, name) for name in ASKED}
        | {name: getattr(counts, name) for name in COUNTED}
        | {
            "run": run,
            "made": Made(run),
            "took": lambda task, seed: of_seed(run, task, seed),
            "tracks": tracks,
            "tasks": run.tasks,
            "seeds": run.seeds,
            "n_tasks": len(run.tasks),
            "all_seeds": sorted({seed for seeds in run.seeds.values() for seed in seeds}),
            "default_seeds": SEEDS,
            "seen_seeds": sorted({s for of in run.seeds.values() for s in of if s in SEEN_SEEDS}),
            "several_tracks": len(tracks) > 1,
            "preset": run.preset,
            "stages": TITLES,
            "detectors": detectors,
            "is_finding": run.is_finding,
            "asked_anew": asked_anew(numbers, run.tasks),
            "synthesis": run.of(SYNTHESIS)[0].result,
            "ledger": lambda track=run.track: ledgers[track],
            "coverage": lambda track=run.track: Coverage(
                tracks[track].result(SYNTHESIS)["coverage"]
            ),
            "coverage_band": BAND,
            "at_a_glance": lambda track=run.track: at_a_glance(
                ledgers[track], tracks[track].tasks, track
            ),
            "claim_place": place,
            "marks": MARKS,
            "claim": lambda name, track=run.track: ledgers[track][name],
            "has_paper_runs": (root / "data" / "reference" / "paper").is_dir(),
        }
        | {one.__name__: one for one in (percent, decimal, seconds, agree, plural, listed, span)}
        | {one.__name__: one for one in (between, effect, most_first, sees, thresholds)}
        | {one.__name__: one for one in (tried, plainly)}
        | {
            "parameters": parameter_reference,
            "choices": choices_reference,
            "changelog": lambda: changelog(root),
            "citation": lambda: citation(root),
            "bibtex": lambda key: bibtex(source, key),
            "paper": lambda: paper_results(root),
            "beside_paper": lambda: beside_paper(numbers, paper_results(root)),
            "scale": lambda: sweep(root, source),
            "arms": lambda: arms(root, source),
            "of_kind": of_kind,
            "whole_board": lambda: whole_board(root, source),
            "carried_vectors": lambda: carried_vectors(root),
            "method_forecasts": lambda: method_forecasts(root),
            "committed_runs": cache(lambda stage: committed_runs(root, stage)),
            "profile": lambda: profile(run, source),
            "numerics_price": lambda: numerics_price(root),
            "cluster_trial": lambda: cluster_trial(root),
            "performance": lambda: performance(root, source),
            "real": cache(lambda: real(root, source)),
            "taught_models": cache(lambda: taught_models(root, source)),
            "told_key": cache(lambda: told_key(run)),
            "estimates": estimates,
            "turn": lambda: turn(numbers),
            "reading_time": lambda: AWAITED,
        }
        | guide(False, [])
    )


def asked_anew(numbers: Numbers, tasks: list[str]) -> list[str]:
    """The tasks whose maps and shifts are made of pairs that differ by content, not by order."""
    chosen = {task: numbers.values(task, "04_differentiation", "pairs") for task in tasks}
    return [task for task in tasks if "content" in chosen[task]]


def links(
    run: Run, pages: dict[ExecutedLab, list[Figure]], root: Path, source: Path, up: str
) -> dict:
    """What depends on where a page lies. `up`: the way from it to the folder of sources."""
    every = {one.track: one for one in run.every}

    def figure(stage: str, task: str | None = None, name: str | None = None, track=run.track):
        return lab_figure(every[track], pages, stage, task, name, up)

    return {
        "labs": lambda stage: "\n\n".join(
            lab_links(one, stage, up) for one in run.every if one.of(stage)
        ),
        "lab_figure": figure,
        "missed_runs": lambda: "\n\n".join(missed_runs(one, up) for one in run.every if one.missed),
        "chapter_of": lambda name: chapter_of(name, up),
        "live_link": lambda words, task=None, **state: live_link(run, up, words, task, **state),
        "quiz": lambda stage: quiz(source / "quizzes" / f"{stage}.yaml"),
        "exercises": lambda stage: exercises(root, stage, up),
    }


def exercises(root: Path, stage: str, up: str) -> str:
    """One sentence that leads to the exercises of a chapter."""
    path = find(stage, root)
    if not path.is_file():
        return "no exercises yet"
    source = Source(read_notebook(path), f"the exercises of {stage}")
    return (
        f"[{_numbers(source, stage)} with hints, self-checks and solutions]({up}exercises/{stage}.md),"
        f" about {source.minutes} minutes in all;"
        " {download}`the notebook with gaps"
        f" <{up}exercises/{downloads(stage)['student']}>` runs on the artifacts of this"
        " chapter in seconds."
    )


def _numbers(source: Source, stage: str) -> str:
    """Exercises by their numbers: `Exercises 4.1 to 4.4`; a chapter without a number counts them."""
    if not has_lab(stage):
        return f"{len(source.parts)} exercises"
    first, last = (numbered(stage, part.number) for part in (source.parts[0], source.parts[-1]))
    return f"Exercises {first} to {last}"


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


def missed_runs(run: Run, up: str) -> str:
    """Which runs the study went on without, why, and where their training is shown."""
    track = "" if run.track == "scratch" else f" on track {run.track}"
    lines = [
        f"Of {plural(run.n_runs, 'run')}{track}, {len(run.missed)} did not show both behaviours and"
        f" {agree(len(run.missed), 'is', 'are')} in no other table of this book:",
        "",
    ]
    for missed in run.missed:
        shown = [lab for lab in missed.labs if lab.stage == TRAINING]
        lines += [
            f"- {missed.why} " + "".join(f"[Its training]({up}{lab.page}.ipynb)." for lab in shown)
        ]
    return "\n".join(lines)


def lab_figure(run, pages, stage: str, task: str | None, name: str | None, up: str) -> str:
    """A figure of a lab for a prose page; without `name` the lab's first, '' if it has none."""
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
    """A link to the page that a claim names: a stage (`06_intervention`), a page or a lab."""
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
    """The paper's own numbers, from `data/reference/paper_results.csv`; `value`: number or range."""
    path = root / "data" / "reference" / "paper_results.csv"
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf8").splitlines()))
    except OSError:
        raise BookError(
            f"{path} is missing: it is part of the repository, restore it with git"
        ) from None
    for row in rows:
        row["value"] = row["low"] + (f" to {row['high']}" if row["high"] != row["low"] else "")
    return rows


def changelog(root: Path) -> str:
    """`CHANGELOG.md`, its links as the book's page needs them."""
    path = next(f for f in (root / "CHANGELOG.md", ROOT / "CHANGELOG.md") if f.is_file())
    return path.read_text(encoding="utf8").replace("](book/", "](").strip()


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
    """An entry as it stands in `references.bib`, without the keywords that only sort it here."""
    found = re.search(
        rf"^@\w+\{{{re.escape(key)},.*?^\}}",
        (source / "references.bib").read_text(encoding="utf8"),
        flags=re.DOTALL | re.MULTILINE,
    )
    if not found:
        raise BookError(f"references.bib has no entry {key!r}")
    return re.sub(r"\n\s*keywords\s*=.*", "", found[0])
