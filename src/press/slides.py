"""Figures for slides: the key figures of a run drawn anew from its stored numbers, as SVG and as
PNG of slide size.

Nothing is copied from a page: each figure is made by the function that the lab itself calls, from
the tables and arrays that the lab left. Its alternative text and caption are those of the executed
lab, so a slide says what the lab says.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from memgen.claims.quantities import families
from memgen.config.training import TrainingParameters
from memgen.figures.differentiation import layer_distributions, neuron_heatmaps
from memgen.figures.intervention import control_bars, dose_response
from memgen.figures.pairs import flip_bars
from memgen.figures.prediction import probe_curves
from memgen.figures.synthesis import forest, formats, main_finding
from memgen.figures.training import trajectory
from memgen.figures.transfer import transfer_heatmaps
from memgen.stats.intervals import wilson
from press.errors import SlideError
from press.images import FINER, to_webp
from press.lab_page import Figure
from press.run import PER_STUDY, Lab, Run

PIXELS = (1920, 1080)  # a slide; a figure keeps its proportions inside
THUMBNAIL = 640  # pixels, width
TEXTS = "captions.txt"


@dataclass(frozen=True)
class Slide:
    """One figure: the files `<file>.svg`, `.png` and `.webp` (thumbnail) below the folder of the
    slides, and its texts.
    """

    file: str
    title: str
    alt: str
    caption: str
    source: str  # task and seed, in words
    page: str  # the executed lab it comes from
    drawn: bool = True


def _table(lab: Lab, name: str):
    import pandas as pd

    return pd.read_parquet(lab.folder / f"{name}.parquet")


def _two_directions(table) -> dict:
    return {direction: table[table.direction == direction] for direction in ("m2g", "g2m")}


def _arrays(lab: Lab) -> tuple:
    """`(arrays, NMD, rho)` of the site that the lab read; maps of shape [layer, neuron]."""
    from safetensors.numpy import load_file

    arrays, site = load_file(lab.folder / "arrays.safetensors"), lab.result["site"]
    return arrays, arrays[f"nmd.{site}"], arrays[f"rho.{site}"]


def _main_finding(lab: Lab):
    return main_finding(
        _table(lab, "steering"), _table(lab, "overview").groupby("task", sort=False).auc.mean()
    )


def _trajectory(lab: Lab):
    gates = TrainingParameters.model_construct(**lab.manifest["parameters"]).gates()
    return trajectory(_table(lab, "history"), lab.result["step"], gates, lab.result["base_history"])


def _flips(lab: Lab):
    import pandas as pd

    rates = pd.DataFrame(lab.result["flips"])
    rates[["low", "high"]] = [wilson(k, n) for k, n in zip(rates.flipped, rates.n)]
    return flip_bars(rates)


def _heatmaps(lab: Lab):
    _, nmd, rho = _arrays(lab)
    return neuron_heatmaps({"NMD (rule − memory)": nmd, "rho": rho})


def _layers(lab: Lab):
    import numpy as np

    arrays, nmd, _ = _arrays(lab)
    return layer_distributions(
        nmd,
        arrays["null_nmd"],
        np.array(lab.result["significant_share"]),
        np.array(lab.result["null_significant_share"]),
    )


def _probes(lab: Lab):
    others = _table(lab, "baselines")
    return probe_curves(_table(lab, "probes"), others[others.name != "majority"])


def _controls(lab: Lab):
    return control_bars(_two_directions(_table(lab, "controls")))


def _doses(lab: Lab):
    return dose_response(_table(lab, "doses"))


def _transfer(lab: Lab):
    found = lab.result["retrain"]
    return transfer_heatmaps(_pick(found), found["sources"], found["targets"], found["control"])


def _pick(found: dict) -> dict:
    return {direction: found[direction] for direction in ("m2g", "g2m")}


def _formats(lab: Lab):
    numbers = lab.result["over_keys"]
    return formats(numbers, families(list(numbers)))


def _ledger(lab: Lab):
    return forest(lab.result["claims"])


#: stage, name of the figure in the executed lab, title, how it is drawn; in the order of a talk
FIGURES: tuple[tuple[str, str, str, Callable], ...] = (
    ("08_synthesis", "main-finding", "The study in one figure", _main_finding),
    ("02_training", "trajectory", "Training to dual behaviour", _trajectory),
    ("03_pairs", "flips", "Rephrasing alone flips the behaviour", _flips),
    ("04_differentiation", "nmd-heatmap", "A map of the neurons", _heatmaps),
    ("04_differentiation", "layers", "Where the behaviours differ", _layers),
    ("05_prediction", "probes", "Told before the answer", _probes),
    ("06_intervention", "controls", "Steering beside its controls", _controls),
    ("06_intervention", "dose", "Dose and response", _doses),
    ("07_transfer", "retrains", "Transfer between models", _transfer),
    ("08_synthesis", "format", "The format of the answer", _formats),
    ("08_synthesis", "ledger", "The ledger of claims", _ledger),
)


def write(run: Run, shown: dict[Lab, list[Figure]], folder: Path, kept: Path) -> list[Slide]:
    """Draw the key figures of the run's first task and seed, and of its synthesis, into `folder`;
    returns them in order.

    `shown`: the figures of the executed labs, for their texts. A figure that the lab does not show
    (a study of one task has no two formats to compare) is left out. `kept`: where the drawn files
    stay between builds. A slide whose lab has left no tables (a run folder with results and
    notebooks only) has no files. Raises :class:`SlideError` for a damaged table.
    """
    task = run.tasks[0]
    chosen = []
    for stage, name, title, draw in FIGURES:
        lab = run.of(stage, None if stage == PER_STUDY else task)[0]
        text = next((figure for figure in shown[lab] if figure.name == name), None)
        if text is not None:
            chosen.append(
                (
                    lab,
                    draw,
                    Slide(
                        f"{stage}-{name}",
                        title,
                        text.alt,
                        text.caption,
                        f"{lab.label}, preset {run.preset}",
                        lab.page,
                    ),
                )
            )
    folder.mkdir(parents=True, exist_ok=True)
    key = _key([(lab, slide) for lab, _, slide in chosen])
    if not (kept / key).is_dir():
        shutil.rmtree(kept, ignore_errors=True)
        aside = kept / "unfinished"
        aside.mkdir(parents=True)
        for lab, draw, slide in chosen:
            with contextlib.suppress(FileNotFoundError):
                _save(lab, draw, slide, aside)
        (aside / TEXTS).write_text(
            texts([slide for _, _, slide in chosen if (aside / f"{slide.file}.svg").is_file()]),
            encoding="utf8",
        )
        aside.rename(kept / key)
    shutil.copytree(kept / key, folder, dirs_exist_ok=True)
    return [
        replace(slide, drawn=(folder / f"{slide.file}.svg").is_file()) for _, _, slide in chosen
    ]


def _key(chosen: Iterable[tuple[Lab, Slide]]) -> str:
    """Changes with what is drawn, said, or how."""

    code = [
        inspect.getsource(module)
        for module in map(inspect.getmodule, (_key, wilson, to_webp, *(f[0] for f in FIGURES)))
    ]
    parts = [*code, *(f"{slide} {lab.manifest}" for lab, slide in chosen)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _save(lab: Lab, draw: Callable, slide: Slide, folder: Path) -> None:
    import matplotlib.pyplot as plt

    try:
        figure = draw(lab)
    except FileNotFoundError:
        raise
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise SlideError(
            f"figure {slide.file!r} for slides cannot be drawn from {lab.folder}: {error}"
        ) from None
    about = {"Title": slide.title, "Description": slide.alt}
    with plt.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": slide.file}
    ):  # text stays text; the same file each time
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
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

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
    """The MyST cards of a page: thumbnail, caption, links to both files. `up`: the way from the
    page to the folder of sources.
    """
    missing = [slide.title for slide in slides if not slide.drawn]
    note = (
        [f"Not drawn, because the run folder lacks their tables: {', '.join(missing)}.", ""]
        if missing
        else []
    )
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
    return "\n".join(
        [
            *lines,
            ":::::",
            "",
            f"{{download}}`All captions and alternative texts <{up}slides/{TEXTS}>`",
        ]
    )


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
