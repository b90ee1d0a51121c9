"""Figures for slides: a run's key figures drawn anew from its stored numbers, as SVG and PNG.

Each is made by the function that the lab calls, from what the lab left, with the alternative text
and caption of the executed lab: a slide says what the lab says.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from memgen.errors import ArtifactError
from memgen.stages import LABS
from memgen.store.fingerprint import code_fingerprint
from press import images, key_figures
from press.errors import SlideError
from press.images import FINER, to_webp
from press.key_figures import FIGURES, KeyFigure
from press.lab_page import Figure
from press.run import ExecutedLab, Run

PIXELS = (1920, 1080)  # a slide; a figure keeps its proportions inside
THUMBNAIL = 640  # pixels, width
TEXTS = "captions.txt"


@dataclass(frozen=True)
class Slide:
    """A figure: its texts, and `<file>.svg`, `.png`, `.webp` (thumbnail) in the slides' folder."""

    file: str
    title: str
    alt: str
    caption: str
    source: str  # task and seed, in words
    page: str  # the executed lab it comes from
    drawn: bool = True


def write(
    run: Run, shown: dict[ExecutedLab, list[Figure]], folder: Path, kept: Path
) -> list[Slide]:
    """Draw the key figures of the first task and seed and the synthesis into `folder`, in order.

    `shown`: the labs' figures, for their texts; one that the lab does not show (a study of one task
    has no two formats to compare) is left out. `kept`: where the drawn files stay between builds. A
    slide whose lab has left no tables has no files. Raises :class:`SlideError` for a damaged table.
    """
    chosen: list[tuple[ExecutedLab, KeyFigure, Slide]] = []
    for key in FIGURES:
        whole = LABS[key.stage].level == "study"
        lab = run.of(key.stage, None if whole else run.tasks[0])[0]
        text = next((figure for figure in shown[lab] if figure.name == key.name), None)
        if text is not None:
            source = f"{lab.label}, preset {run.preset}"
            file = f"{key.stage}-{key.name}"
            slide = Slide(file, key.title, text.alt, text.caption, source, lab.page)
            chosen.append((lab, key, slide))
    folder.mkdir(parents=True, exist_ok=True)
    kept.mkdir(parents=True, exist_ok=True)
    places = [kept / _digest(*one) for one in chosen]
    for one, place in zip(chosen, places):
        if not place.is_dir():
            aside = kept / "unfinished"
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            _save(*one, aside)
            aside.rename(place)
        shutil.copytree(place, folder, dirs_exist_ok=True)
    for former in set(kept.iterdir()) - set(places):
        shutil.rmtree(former)
    slides = [
        replace(slide, drawn=(folder / f"{slide.file}.svg").is_file()) for _, _, slide in chosen
    ]
    (folder / TEXTS).write_text(texts([one for one in slides if one.drawn]), encoding="utf8")
    return slides


def _digest(lab: ExecutedLab, key: KeyFigure, slide: Slide) -> str:
    """Changes with what is drawn on a slide, said, or how."""
    own = [inspect.getsource(module) for module in (sys.modules[__name__], key_figures, images)]
    drawing = code_fingerprint(f"figures.{LABS[key.stage].short}")
    parts = [drawing, *own, f"{slide} {lab.manifest}"]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _save(lab: ExecutedLab, key: KeyFigure, slide: Slide, folder: Path) -> None:
    """Write the files of a slide, or nothing if the lab has not left what it needs."""
    if not all((lab.folder / name).is_file() for name in key.needs):
        return
    try:
        figure = key.draw(lab.kept).figure
    except (ArtifactError, OSError, KeyError, ValueError, AttributeError) as error:
        raise SlideError(
            f"figure {slide.file!r} for slides cannot be drawn from {lab.folder}: {error}"
        ) from None
    about = {"Title": slide.title, "Description": slide.alt}
    # text stays text; the same file each time
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": slide.file}):
        figure.savefig(folder / f"{slide.file}.svg", metadata={**about, "Date": None})
    png = _png(figure)
    plt.close(figure)
    (folder / f"{slide.file}.png").write_bytes(small_png(png, about))
    (folder / f"{slide.file}.webp").write_bytes(to_webp(png, width=THUMBNAIL))


def _png(figure) -> bytes:
    """The figure as PNG that fills a slide in width or height."""
    width, height = figure.get_size_inches()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=min(PIXELS[0] / width, PIXELS[1] / height))
    return out.getvalue()


def small_png(png: bytes, about: dict[str, str]) -> bytes:
    """The same PNG with 64 levels a channel and its texts inside."""
    info = PngInfo()
    for name, text in about.items():
        info.add_itxt(name, text)
    out = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").point(FINER * 3).save(
        out, "png", pnginfo=info, compress_level=9
    )
    return out.getvalue()


def texts(slides: list[Slide]) -> str:
    """Titles, captions and alternative texts, to paste below a slide."""
    return (
        "\n\n".join(
            f"{slide.file}\n{slide.title}\nCaption: {slide.caption}\nSource:"
            f" {slide.source}\nAlternative text: {slide.alt}"
            for slide in slides
        )
        + "\n"
    )


def listing(slides: list[Slide], up: str) -> str:
    """MyST cards: thumbnail, caption, links to both files; `up`: the way to the sources' folder."""
    missing = [slide.title for slide in slides if not slide.drawn]
    lacking = f"Not drawn, because the run folder lacks their tables: {', '.join(missing)}."
    note = [lacking, ""] if missing else []
    slides = [slide for slide in slides if slide.drawn]
    if not slides:
        return "\n".join([*note, "This run holds no figure for slides."])
    lines = [*note, ":::::{grid} 1 1 2 2", ":gutter: 3", ":class-container: slides", ""]
    for slide in slides:
        at = f"{up}slides/{slide.file}"
        lines += [
            f"::::{{grid-item-card}} {slide.title}",
            f"```{{image}} {at}.webp",
            f":alt: {_quoted(slide.alt)}",
            "```",
            "",
            f"{slide.caption} From the executed lab: [{slide.source}]({up}{slide.page}.ipynb).",
            "",
            ":::{card-footer}",
            f"{{download}}`SVG <{at}.svg>` {{download}}`PNG <{at}.png>`",
            ":::",
            "::::",
        ]
    all_texts = f"{{download}}`All captions and alternative texts <{up}slides/{TEXTS}>`"
    return "\n".join([*lines, ":::::", "", all_texts])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
