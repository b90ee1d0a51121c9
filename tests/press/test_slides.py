"""Figures for slides are drawn from the stored numbers of a run, with the texts of its labs, in
files that are small and legible.
"""

from __future__ import annotations

import io
import json
import re

import pandas as pd
import pytest
from PIL import Image

from memgen.figures import intervention
from memgen.store.files import sha256
from press import errors, slides
from press.images import FINER, to_webp
from press.lab_page import Figure
from press.run import ExecutedLab, Run


class OneTask(Run):
    """A run of which only the intervention lab is there."""

    def __init__(self, root):
        self.track, self.preset, self.tasks = "scratch", "laptop", ["inference"]
        self.labs = [ExecutedLab("06_intervention", "inference", "6", root / "06_intervention")]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished lab 06 whose top neurons changed 73 of 100 prompts, and only its controls among
    the figures to draw.
    """
    folder = tmp_path / "run" / "06_intervention"
    folder.mkdir(parents=True)
    rows = [
        {
            "direction": d,
            "name": name,
            "success": rate,
            "low": rate - 0.05,
            "high": rate + 0.05,
            "other": 0.1,
            "n": 100,
        }
        for d in ("m2g", "g2m")
        for name, rate in (("steered", 0.73), ("random_neurons", 0.21))
    ]
    table = folder / "controls.parquet"
    pd.DataFrame(rows).to_parquet(table)
    (folder / "manifest.json").write_text(
        json.dumps({"parameters": {}, "outputs": {table.name: sha256(table)}})
    )
    (folder / "result.json").write_text("{}")
    monkeypatch.setattr(
        slides, "FIGURES", [key for key in slides.FIGURES if key.name == "controls"]
    )
    return OneTask(tmp_path / "run")


@pytest.fixture
def shown(run):
    return {
        run.labs[0]: [
            Figure(
                "controls",
                'Bars: the "top" neurons: 73 %',
                "Top neurons *beside* controls.",
                b"",
                "figures/x.webp",
            )
        ]
    }


def test_a_slide_holds_the_numbers_of_the_run_as_text(run, shown, tmp_path):
    (slide,) = slides.write(run, shown, tmp_path / "slides", tmp_path / "kept")
    svg = (tmp_path / "slides" / "06_intervention-controls.svg").read_text()
    assert re.search(r"<text[^>]*>73% \(100\)</text>", svg) and "random neurons" in svg
    assert (
        slide.drawn
        and slide.alt == 'Bars: the "top" neurons: 73 %'
        and slide.source == "inference, seed 6, preset laptop"
    )


def test_a_slide_fills_a_screen_and_stays_small(run, shown, tmp_path):
    slides.write(run, shown, tmp_path / "slides", tmp_path / "kept")
    files = {
        suffix: tmp_path / "slides" / f"06_intervention-controls.{suffix}"
        for suffix in ("svg", "png", "webp")
    }
    image = Image.open(files["png"])
    assert 0.85 < max(image.width / slides.PIXELS[0], image.height / slides.PIXELS[1]) < 1.1
    assert image.text["Description"] == 'Bars: the "top" neurons: 73 %'
    assert Image.open(files["webp"]).width == slides.THUMBNAIL
    assert (
        files["svg"].stat().st_size < 100_000
        and files["png"].stat().st_size < 250_000
        and files["webp"].stat().st_size < 60_000
    )


def test_a_slide_is_drawn_once_and_again_when_its_lab_changed(run, shown, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        intervention,
        "control_bars",
        lambda tables, real=intervention.control_bars: drawn.append(1) or real(tables),
    )
    for _ in range(2):
        slides.write(run, shown, tmp_path / "slides", tmp_path / "kept")
    assert len(drawn) == 1
    run.labs[0].manifest["outputs"]["more.parquet"] = "b"
    slides.write(run, shown, tmp_path / "slides", tmp_path / "kept")
    assert len(drawn) == 2 and len(list((tmp_path / "kept").iterdir())) == 1


def test_the_cards_lead_to_both_files_and_the_lab(run, shown, tmp_path):
    text = slides.listing(slides.write(run, shown, tmp_path / "slides", tmp_path / "kept"), "../")
    assert (
        r':alt: "Bars: the \"top\" neurons: 73 %"' in text
        and "Top neurons *beside* controls." in text
    )
    assert (
        "{download}`SVG <../slides/06_intervention-controls.svg>` {download}`PNG"
        " <../slides/06_intervention-controls.png>`" in text
    )
    assert (
        "[inference, seed 6, preset laptop](../labs/06_intervention/inference-seed6.ipynb)" in text
    )
    assert (
        "Source: inference, seed 6, preset laptop"
        in (tmp_path / "slides" / slides.TEXTS).read_text()
    )


def test_what_the_lab_does_not_show_is_no_slide(run, shown, tmp_path):
    assert slides.write(run, {run.labs[0]: []}, tmp_path / "slides", tmp_path / "kept") == []


def test_a_missing_table_is_said_and_a_damaged_one_refused(run, shown, tmp_path):
    table = run.labs[0].folder / "controls.parquet"
    table.write_bytes(b"damaged")
    with pytest.raises(errors.SlideError, match="06_intervention-controls"):
        slides.write(run, shown, tmp_path / "slides", tmp_path / "kept")
    table.unlink()
    (slide,) = slides.write(run, shown, tmp_path / "slides", tmp_path / "kept")
    assert (
        not slide.drawn
        and "Not drawn, because the run folder lacks their tables: Steering beside its controls."
        in slides.listing([slide], "")
    )


def test_small_figures_look_the_same():
    image = Image.effect_noise((64, 64), 90).convert("RGBA")
    image.putpixel((0, 0), (213, 94, 0, 0))  # transparent: white on the page
    out = io.BytesIO()
    image.save(out, "png")
    small = Image.open(io.BytesIO(to_webp(out.getvalue()))).convert("RGB")
    moved = [
        abs(a - b)
        for before, after in zip(image.convert("RGB").getdata(), small.getdata())
        for a, b in zip(before, after)
    ]
    assert small.getpixel((0, 0)) == (255, 255, 255) and max(moved[3:]) <= 2
    assert FINER[0] == 0 and FINER[255] == 255
