"""The page of an executed lab: its bar, its figures, what it offers for download."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from fake_run import bar_of, stage

from memgen.config.values import settings
from memgen.stages import LABS
from press import images, lab_bar, parameters
from press.run import Run


def test_command_names_what_differs_from_the_preset(run):
    lab = Run(run).of("06_intervention")[0]
    notebook = {"metadata": {}}
    lab.manifest["parameters"] |= {"alphas": [1.0, 2.0], "runs": "elsewhere"}
    line = lab_bar.command(lab, notebook)
    assert line.startswith(
        "memgen lab 06_intervention --task inference --seed 0 --preset laptop --set "
    )
    assert "'alphas=[1.0, 2.0]'" in line and " n_embd=64" in line and "elsewhere" not in line
    assert line.endswith(" --out OUT.ipynb")


@pytest.mark.parametrize(
    "value", [3, 0.001, True, "ln_2", "3", "true", "1e-3", "a b", "it's", ["ln_2", "1"], [0.1, 0.3]]
)
def test_the_command_line_reads_a_setting_with_its_type(value):
    (word,) = shlex.split(lab_bar.setting("name", value))
    assert settings([word, "other=1"]) == {"name": value, "other": 1}


def test_the_bar_says_what_every_parameter_is_and_was(run, root, tmp_path):
    path = run / "inference" / "seed0" / "06_intervention" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["overrides"] = {}
    manifest["parameters"] |= {
        "site": "ln_2",
        "n_prompts": 300,
    }  # the first is not the preset's, the second is
    path.write_text(json.dumps(manifest))
    bar = bar_of(stage(run, root, tmp_path / "out"))
    rows = dict(re.findall(r'<tr[^>]*><th scope="row"><code>(\w+)</code></th>(.*?)</tr>', bar))
    assert list(rows) == [
        name for name in LABS["06_intervention"].parameters.model_fields if name != "runs"
    ]
    assert rows["site"].startswith(
        "<td>ln_2 <strong>(changed)</strong></td><td>resid_post</td><td>where hidden states are"
        " shifted; <code>resid_post</code>"
    )
    assert (
        rows["n_prompts"].startswith("<td>300</td><td>300</td>")
        and "whole number, at least 1" in rows["n_prompts"]
    )
    assert bar.count("(changed)") == 1 and "(1 changed: site)" in bar
    assert (
        "This run: 12 s · seed 0 · Python 3.11.7 · torch 2.13.0 · transformers 5.23.0 · 2 cores of"
        " a laptop." in bar
    )


def test_a_value_of_the_command_line_is_marked(run):
    lab = Run(run).of("02_training")[0]
    marked = {
        row["name"]: (row["used"], row["preset"])
        for row in parameters.lab_parameters(lab)
        if row["changed"]
    }
    assert (
        marked["n_embd"] == ("64", "128")
        and marked["gate_rule"] == ("0.25", "0.3")
        and "n_layer" not in marked
    )


def test_a_preset_that_is_gone_is_not_compared_with(run):
    lab = Run(run).of("06_intervention")[0]
    lab.manifest["parameters"]["preset"] = "gone"
    assert {row["preset"] for row in parameters.lab_parameters(lab)} == {
        "",
        "not known",
    } and not any(row["changed"] for row in parameters.lab_parameters(lab))


def test_pages_show_no_table_twice(run, root, tmp_path):
    """What `lab.show_parameters()` prints is in the bar."""
    path = run / "inference" / "seed0" / "06_intervention.ipynb"
    lab = json.loads(path.read_text())
    table = [
        {
            "output_type": "execute_result",
            "execution_count": 1,
            "metadata": {},
            "data": {"text/html": "<table>TWICE</table>"},
        }
    ]
    lab["cells"].append(
        {
            "cell_type": "code",
            "id": "x",
            "metadata": {},
            "execution_count": 1,
            "source": "lab.show_parameters()",
            "outputs": table,
        }
    )
    path.write_text(json.dumps(lab))
    shown = (
        stage(run, root, tmp_path / "out") / "labs" / "06_intervention" / "inference-seed0.ipynb"
    ).read_text()
    assert "TWICE" not in shown and "folded into the box" in shown


def test_downloads_carry_no_image_but_its_words(run, root, tmp_path):
    out = stage(run, root, tmp_path / "out")
    for path in out.glob("labs/*/*.ipynb"):
        assert "image/png" not in path.read_text(), path
    executed = json.loads(
        (out / "labs" / "06_intervention" / "06_intervention-inference-seed0.ipynb").read_text()
    )
    outputs = [output for cell in executed["cells"] for output in cell.get("outputs", [])]
    plain = ["".join(output.get("data", {}).get("text/plain", "")) for output in outputs]
    words = [text for text in plain if text.startswith("Figure: ")]
    assert len(words) == 9 and "Bars: behaviour of t" in words[0]
    assert "step 100 of 1300" in str(outputs) and "papermill" not in executed["metadata"]


def test_every_figure_lies_in_one_file_in_its_place(run, root, tmp_path):
    out = stage(run, root, tmp_path / "out")
    cells = json.loads((out / "labs" / "06_intervention" / "inference-seed0.ipynb").read_text())[
        "cells"
    ]
    shown = [
        re.search(r"{figure} \.\./\.\./(\S+)", cell["source"])[1]
        for cell in cells
        if "{figure}" in cell["source"]
    ]
    assert shown == [f"figures/06_intervention-inference-seed0-{k}.webp" for k in range(9)] and all(
        (out / name).is_file() for name in shown
    )
    kinds = [
        (
            "figure"
            if "{figure}" in cell["source"]
            else "table"
            if "step 100" in str(cell.get("outputs"))
            else ""
        )
        for cell in cells
    ]
    assert (
        "".join(kind[:1] for kind in kinds) == "ftffffffff"
    )  # the table was printed between the first and the second figure
    chapter = (out / "chapters" / "06_intervention.md").read_text()
    assert "../figures/06_intervention-inference-seed0-" in chapter


def test_a_figure_is_converted_once(run, root, tmp_path, monkeypatch):
    out, calls = tmp_path / "build" / "source", []
    monkeypatch.setattr(
        images,
        "to_webp",
        lambda png, width=None, real=images.to_webp: calls.append(1) or real(png, width),
    )
    stage(run, root, out)
    first = len(calls)
    (out.parent / ".figures" / "stale.webp").write_bytes(b"")
    stage(run, root, out)
    assert first and len(calls) == first and not (out.parent / ".figures" / "stale.webp").exists()
