"""`python -m press.cli book`: what it stages, what it refuses, and when it has nothing to do."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from urllib.parse import urlsplit

import checks
import pytest
import yaml
from fake_run import make_run

from conftest import ROOT
from memgen.claims.ledger import CLAIMS
from memgen.errors import StudyError
from memgen.stages import LABS
from memgen.tasks import TASK_NAMES
from memgen.terms import TRACKS
from press import build, cli, images, lab_bar, parameters, trim
from press.contents import contents, settings
from press.errors import BookError
from press.numbers import Numbers, decimal
from press.run import Run


@pytest.fixture
def root(root):
    """With the exercises that the chapters ask for; without what takes long to draw and is tested
    elsewhere (slides, scale sweep).
    """
    shutil.copytree(
        ROOT / "notebooks" / "exercises", root / "notebooks" / "exercises", dirs_exist_ok=True
    )
    shutil.rmtree(root / "data" / "reference" / "scale", ignore_errors=True)
    teach = root / "book" / "teach.md"
    teach.write_text(teach.read_text().replace("{{ slides() }}", ""))
    return root


def stage(run, root, out):
    build.stage(Run(run), root, out)
    return out


# -- a second time ---------------------------------------------------------------------------------
def test_unchanged_book_is_not_built_again(run, root, tmp_path, monkeypatch):
    calls = []

    def sphinx(source, html, doctrees):
        calls.append(source)
        html.mkdir()
        (html / "index.html").write_text("book")

    monkeypatch.setattr(build, "sphinx", sphinx)
    for _ in range(2):
        build.build_book(run, tmp_path / "out", root)
    assert len(calls) == 1
    path = run / "inference" / "seed0" / "06_intervention" / "result.json"
    path.write_text(path.read_text().replace('"alpha": 2.0', '"alpha": 3.0'))
    build.build_book(run, tmp_path / "out", root)
    assert len(calls) == 2


def test_a_failed_build_leaves_the_former_book(run, root, tmp_path, monkeypatch):
    html = tmp_path / "out" / "html"
    html.mkdir(parents=True)
    (html / "index.html").write_text("the former book")
    monkeypatch.setattr(build, "sphinx", lambda *_, **__: (_ for _ in ()).throw(BookError("no")))
    with pytest.raises(BookError):
        build.build_book(run, tmp_path / "out", root)
    assert (html / "index.html").read_text() == "the former book"


# -- what it refuses -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name",
    [
        "inference/seed0/05_prediction/result.json",
        "inference/seed0/05_prediction/manifest.json",
        "inference/seed0/05_prediction.ipynb",
        "inference/all/07_transfer.ipynb",
        "study/all/08_synthesis/result.json",
        "study/all/08_synthesis/main_finding.png",
    ],
)
def test_missing_artifact_is_named(run, root, tmp_path, name, capsys):
    (run / name).unlink()
    status = cli.main(
        ["book", "--runs", str(run), "--out", str(tmp_path / "out"), "--root", str(root)]
    )
    message = capsys.readouterr().err
    assert (
        status == 1
        and str(run / name) in message
        and "make book" in message
        and "Traceback" not in message
    )


def test_damaged_result_is_named(run, root, tmp_path):
    path = run / "inference" / "seed0" / "05_prediction" / "result.json"
    path.write_text(path.read_text()[:20])
    with pytest.raises(StudyError, match=r"05_prediction/result.json is damaged"):
        stage(run, root, tmp_path / "out")


def test_empty_run_folder_says_what_to_do(tmp_path):
    with pytest.raises(BookError, match="make book"):
        Run(tmp_path / "laptop")


def test_unknown_task_and_seed_are_named(run):
    with pytest.raises(BookError, match="cipher-tagged"):
        Run(run, tasks=["cipher-tagged"])
    with pytest.raises(BookError, match="seed7"):
        Run(run, seeds=[7])


@pytest.mark.parametrize(
    "template, expected",
    [
        ("{{ mean('inference', '06_intervention', 'm2g.sucess') }}", "no key 'm2g.sucess'"),
        ("{{ mean('inference', '06_steering', 'm2g') }}", "stage '06_steering' is unknown"),
        (
            "{{ rate('cipher-tagged', '06_intervention', 'm2g') }}",
            "'cipher-tagged' is not part of this run",
        ),
        ("{{ nonsense }}", "'nonsense' is undefined"),
        (
            "{{ lab_figure('06_intervention', name='mist') }}",
            "no figure 'mist'; it has grid, controls, dose",
        ),
        ("{% if %}", "line 1"),
    ],
)
def test_template_errors_name_the_page(run, root, tmp_path, template, expected):
    (root / "book" / "intro.md").write_text(template)
    with pytest.raises(BookError, match="book/intro.md") as error:
        stage(run, root, tmp_path / "out")
    assert expected in str(error.value)


def test_figure_without_a_text_is_refused(run, root, tmp_path):
    path = run / "inference" / "seed0" / "04_differentiation.ipynb"
    lab = json.loads(path.read_text())
    for cell in lab["cells"]:
        for output in cell.get("outputs", []):
            output.get("metadata", {}).pop("alt", None)
    path.write_text(json.dumps(lab))
    with pytest.raises(
        BookError,
        match="04_differentiation.ipynb, cell 5: the figure has no alternative text",
    ):
        stage(run, root, tmp_path / "out")


def test_a_warning_of_sphinx_fails_the_command(run, root, tmp_path):
    (root / "book" / "intro.md").write_text(
        "# The question\n\n[nowhere](nowhere.md) and {term}`no such term`\n"
    )
    command = [
        sys.executable,
        "-m",
        "press.cli",
        "book",
        "--runs",
        run,
        "--out",
        tmp_path / "out",
        "--root",
        root,
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert (
        "nowhere.md" in done.stderr
        and "no such term" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert not (tmp_path / "out" / "html").exists()


# -- what it stages --------------------------------------------------------------------------------
def test_numbers_come_from_the_results(run, root, tmp_path):
    template = (
        "{{ mean('inference', '06_intervention', 'm2g.success') }} {{ mean('inference',"
        " '05_prediction', 'auc.max') }}"
    )
    (root / "book" / "intro.md").write_text(template)
    first, second = (stage(run, root, tmp_path / "out") / "intro.md").read_text().split()
    result = json.loads((run / "inference/seed0/06_intervention/result.json").read_text())
    assert float(first) == result["m2g"]["success"]
    assert float(second) == max(
        json.loads((run / "inference/seed0/05_prediction/result.json").read_text())["auc"][1:]
    )


def test_pooled_rate_weighs_by_prompts(tmp_path, notebook):
    run = make_run(tmp_path, ["inference"], [0, 1], notebook)
    for seed, (rate, n) in enumerate([(1.0, 30), (0.0, 10)]):
        path = run / "inference" / f"seed{seed}" / "06_intervention" / "result.json"
        result = json.loads(path.read_text())
        result["m2g"] |= {"success": rate, "n": n}
        path.write_text(json.dumps(result))
    pooled = Numbers(Run(run)).pooled("inference", "m2g")
    assert pooled["success"] == 0.75 and pooled["n"] == 40
    assert pooled["low"] < 0.75 < pooled["high"]


def test_contents_hold_the_labs_of_this_run_only(tmp_path, root, notebook):
    run = make_run(tmp_path / "runs", ["arithmetic-tagged", "inference"], [0, 1], notebook)
    toc = contents(Run(run, tasks=["inference"]), root / "_toc.yml")
    assert (
        "labs/06_intervention/inference-seed0" in toc
        and "labs/06_intervention/inference-seed1" in toc
    )
    assert (
        "labs/07_transfer/inference" in toc
        and "labs/08_synthesis/study" in toc
        and "arithmetic-tagged" not in toc
    )


@pytest.fixture
def example(monkeypatch):
    """A lab that the table names and the committed contents do not."""
    row = dataclasses.replace(LABS["09_confounds"], name="12_example", title="Example")
    monkeypatch.setitem(LABS, row.name, row)
    parameters.parameter_reference.cache_clear()
    yield row.name
    parameters.parameter_reference.cache_clear()


def test_a_new_lab_needs_a_chapter_and_nothing_else(example, tmp_path, root, notebook):
    """Neither a line in `_toc.yml` nor exercises nor a quiz."""
    run = Run(make_run(tmp_path / "runs", ["inference"], [0], notebook))
    with pytest.raises(BookError, match="book/chapters/12_example.md is missing"):
        contents(run, root / "_toc.yml")
    (root / "book" / "chapters" / f"{example}.md").write_text(
        "# Example\n\n{{ labs('12_example') }}\n"
    )
    parts = {
        part["caption"]: part["chapters"]
        for part in yaml.safe_load(contents(run, root / "_toc.yml"))["parts"]
    }
    *_, before, new, last = parts["The evidence"]
    assert (before["file"], last["file"]) == ("chapters/11_open_points", "scale")
    lab = {"file": "labs/12_example/inference-seed0", "title": "Lab: inference"}
    assert new == {"file": "chapters/12_example", "sections": [lab]}
    build.stage(run, root, tmp_path / "out")
    assert (
        f"../{lab['file']}.ipynb" in (tmp_path / "out" / "chapters" / f"{example}.md").read_text()
    )
    assert "[Example](../../chapters/12_example.md)" in bar_of(
        tmp_path / "out", f"{example}/inference-seed0"
    )


def test_a_base_and_a_retrain_are_no_tasks_and_seeds(run):
    (run / "inference-base" / "seed0" / "00_base").mkdir(parents=True)
    (run / "inference" / "seed0-retrain1" / "02_training").mkdir(parents=True)
    found = Run(run)
    assert found.tasks == ["inference"] and found.seeds == {"inference": [0]}


def test_a_run_without_the_gate_says_so(tmp_path, root, notebook):
    run = Run(make_run(tmp_path / "runs", ["inference"], [0], notebook, findings=False))
    assert not run.is_finding and "mean nothing" in settings(run, root / "_config.yml")
    build.stage(run, root, tmp_path / "out")
    assert "headline-number" not in (tmp_path / "out" / "index.md").read_text()


def test_command_names_what_differs_from_the_preset(run):
    lab = Run(run).of("06_intervention")[0]
    notebook = {"metadata": {}}
    lab.manifest["parameters"] |= {"alphas": [1.0, 2.0], "runs": "elsewhere"}
    line = lab_bar.command(lab, notebook)
    assert line.startswith(
        "papermill notebooks/06_intervention.ipynb OUT.ipynb -p task inference -p seed 0 -p preset"
        " laptop"
    )
    assert (
        """-y '{"alphas": [1.0, 2.0]}'""" in line
        and "-p n_embd 64" in line
        and "elsewhere" not in line
    )
    assert line.endswith("--cwd .")


def test_papermill_keeps_the_type_of_a_parameter():
    assert lab_bar.parameter("n", 3) == ["-p", "n", "3"]
    assert lab_bar.parameter("name", "3") == ["-r", "name", "3"]
    assert lab_bar.parameter("sites", ["ln_2"]) == ["-y", """'{"sites": ["ln_2"]}'"""]
    assert lab_bar.parameter("retrain", None) == []


# -- the bar on top of a lab -----------------------------------------------------------------------
def bar_of(out, lab="06_intervention/inference-seed0"):
    return json.loads((out / "labs" / f"{lab}.ipynb").read_text())["cells"][1]["source"]


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


# -- weight ----------------------------------------------------------------------------------------
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
    assert len(words) == 6 and "Bars: behaviour of t" in words[0]
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
    assert shown == [f"figures/06_intervention-inference-seed0-{k}.webp" for k in range(6)] and all(
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
        "".join(kind[:1] for kind in kinds) == "ftfffff"
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


def test_a_built_book_is_trimmed(tmp_path):
    static = tmp_path / "_static" / "scripts"
    static.mkdir(parents=True)
    (static / "a.js").write_text("run();\n//# sourceMappingURL=a.js.map")
    (static / "a.js.map").write_text("{}")
    (tmp_path / "_static" / "locales" / "de" / "LC_MESSAGES").mkdir(parents=True)
    (tmp_path / "_static" / "locales" / "de" / "LC_MESSAGES" / "theme.po").write_text("")
    page_text = (
        '<div>\n\n   <p>a  b</p>\n<pre><span class="n">x</span>\n   <span'
        ' class="o">=</span></pre>\n<script>f("\n   <b>")</script></div>'
    )
    for name in ("index", "search"):
        (tmp_path / f"{name}.html").write_text(
            page_text + '<script src="../searchindex.js"></script>'
        )
    trim.trim(tmp_path)
    assert "searchindex.js" in (tmp_path / "search.html").read_text()
    assert not list(tmp_path.rglob("*.map")) and not (tmp_path / "_static" / "locales").exists()
    assert (static / "a.js").read_text() == "run();\n"
    assert (tmp_path / "index.html").read_text() == (
        '<div>\n<p>a  b</p>\n<pre>x\n   <span class="o">=</span></pre>\n<script>f("\n   <b>")'
        "</script></div>"
    )


# -- how to cite -----------------------------------------------------------------------------------
def test_citations_are_those_of_the_repository(run, root, tmp_path):
    text = (stage(run, root, tmp_path / "out") / "cite.md").read_text()
    assert (
        "author = {{the contributors of Think or Remember}}" in text
        and "note   = {Version 0.1.0}" in text
        and "year   = {2026}" in text
    )
    assert text.count("arXiv:2412.18497") == 2 and "keywords" not in text
    (root / "book" / "cite.md").write_text("{{ bibtex('nobody2020') }}")
    with pytest.raises(BookError, match="no entry 'nobody2020'"):
        stage(run, root, tmp_path / "out")


def test_the_page_of_parameters_names_tasks_tracks_and_presets(run, root, tmp_path):
    text = (stage(run, root, tmp_path / "out") / "parameters.md").read_text()
    assert "| `lora_rank` | rank of the adapters | whole number, at least 1 | `16` |" in text
    for name in (*TASK_NAMES, *TRACKS, "smoke", "laptop", "paper", "scale"):
        assert f"| `{name}` |" in text, name
    assert "`matrix_lr=0.004`" in text


# -- two tracks ------------------------------------------------------------------------------------
@pytest.fixture
def two_tracks(run, tmp_path, notebook):
    make_run(tmp_path / "runs", ["inference"], [0], notebook, track="lora")
    return Run(run, tracks=["scratch", "lora"])


def test_both_tracks_have_their_labs_side_by_side(two_tracks, root, tmp_path):
    out = tmp_path / "source"
    build.stage(two_tracks, root, out)
    for name in ("inference-seed0", "lora-inference-seed0"):
        assert (out / "labs" / "06_intervention" / f"{name}.ipynb").is_file()
    toc = (out / "_toc.yml").read_text()
    assert "Lab: inference" in toc and "Lab, lora: inference" in toc
    bar = json.loads((out / "labs" / "06_intervention" / "lora-inference-seed0.ipynb").read_text())[
        "cells"
    ][1]["source"]
    assert (
        "**The same lab**, track [scratch](inference-seed0.ipynb) · **lora**" in bar
        and "-p track lora" in bar
    )


def test_the_page_of_the_adapters_shows_the_track_or_says_how_to_get_it(
    two_tracks, run, root, tmp_path
):
    build.stage(two_tracks, root, tmp_path / "with")
    text = (tmp_path / "with" / "adapters.md").read_text()
    assert (
        "One llama model with 0.82 million parameters" in text
        and "97.0\u00a0%" in text
        and "| inference | m2g |" in text
    )
    stage(run, root, tmp_path / "without")
    assert 'TRACKS="scratch lora"' in (tmp_path / "without" / "adapters.md").read_text()


def test_a_book_of_adapters_alone_can_be_staged(two_tracks, run, root, tmp_path):
    """The evidence labs question the models from scratch: their chapters say so where there are
    none.
    """
    build.stage(Run(run, tracks=["lora"]), root, tmp_path / "out")
    for name in ("09_confounds", "10_ablations", "11_open_points"):
        text = (tmp_path / "out" / "chapters" / f"{name}.md").read_text()
        assert "TRACKS=scratch" in text and not (tmp_path / "out" / "labs" / name).exists()


def test_the_ledger_shows_every_claim_of_every_track(two_tracks, root, tmp_path):
    build.stage(two_tracks, root, tmp_path / "out")
    text = (tmp_path / "out" / "ledger.md").read_text()
    supported, untested = (
        next(claim.text for claim in CLAIMS if claim.id == name)
        for name in ("steer_m2g", "retrain")
    )
    assert (
        text.count(
            f"| {{bdg-primary}}`supported` | {supported} | paper, v1 and v2 | 0.30 (0.10 to 0.50) |"
            " 200 |"
        )
        == 2
    )
    assert (
        text.count(
            f"| {{bdg-secondary-line}}`inconclusive` | {untested} | paper, v2 | not tested |"
        )
        == 2
    )
    assert len(json.loads((tmp_path / "out" / "claims.json").read_text())) == 2 * len(CLAIMS)
    home = " ".join((tmp_path / "out" / "index.md").read_text().split())
    assert (
        f"Of {len(CLAIMS) - 1} claims in the [ledger](ledger.md) that this run can test, 1 holds on"
        f" every task, {len(CLAIMS) - 2} are contradicted on at least one, and 0 are open." in home
    )


def test_the_scale_sweep_is_shown_or_said_to_be_missing(run, root, tmp_path):
    folder = root / "data" / "reference" / "scale"
    if folder.exists():
        shutil.rmtree(folder)
    stage(run, root, tmp_path / "without")
    assert "Not run yet. `make scale`" in (tmp_path / "without" / "scale.md").read_text()
    folder.mkdir()
    columns = (
        "width,depth,task,seed,passed,n_parameters,max_abs_rho,auc,"
        "m2g,m2g_n,m2g_control,g2m,g2m_n,g2m_control"
    )
    rows = [
        "64,4,arithmetic-tagged,6,True,200000,0.5,0.9,0.8,100,0.2,0.6,90,0.1",
        "64,4,arithmetic-tagged,7,False,,,,,,,,,",
        "64,4,arithmetic-matched,6,False,,,,,,,,,",
    ]
    (folder / "results.csv").write_text("\n".join([columns, *rows]) + "\n")
    (folder / "about.json").write_text(
        json.dumps({"command": "make scale", "machine": {"cores": 2, "processor": "a laptop"}})
    )
    stage(run, root, tmp_path / "with")
    text = (tmp_path / "with" / "scale.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if re.search(r"64.×.4\s*\|", line)
    ]
    assert (
        rows[0][-6:-1]
        == ["1 of 2", "0.50", "0.90", "80\u00a0% (20\u00a0%)", "60\u00a0% (10\u00a0%)"]
        and rows[0][-1] == "100, 90"
    )
    assert (
        rows[1][-6:-1] == ["0 of 1", "n/a", "n/a", "n/a (n/a)", "n/a (n/a)"]
        and "no run passed the gate" in text
    )
    assert (tmp_path / "with" / "figures" / "scale.png").is_file()
    assert "have not been run yet (width × depth): 128 × 2, 128 × 4" in text


def test_a_missing_track_is_named(run, root, tmp_path, capsys):
    assert (
        cli.main(
            [
                "book",
                "--runs",
                str(run),
                "--tracks",
                "scratch",
                "lora",
                "--out",
                str(tmp_path / "out"),
                "--root",
                str(root),
            ]
        )
        == 1
    )
    assert "lora" in capsys.readouterr().err


def test_negative_numbers_are_written_to_be_read(run):
    assert (
        decimal(-0.123) == "−0.12"
        and decimal(-0.001) == "0.00"
        and decimal(1234.5, 1) == "1\u00a0234.5"
    )
    numbers = Numbers(Run(run))
    numbers.values = lambda *_: [-0.02, 0.04]
    assert numbers.cell("inference", "04_differentiation", "any", 2) == "0.01\u00a0(−0.02 to 0.04)"
    numbers.values = lambda *_: [0.02, 0.04]
    assert (
        numbers.cell("inference", "04_differentiation", "any", 2)
        == "0.03\u00a0(0.02\u2060–\u20600.04)"
    )


def test_the_parameter_reference_is_what_the_classes_check():
    found = parameters.parameter_reference()
    assert {stage: [p["name"] for p in rows] for stage, rows in found.items()} == {
        stage: list(row.parameters.model_fields) for stage, row in LABS.items()
    }
    of = {p["name"]: p for p in found["06_intervention"]}
    assert (
        of["site"]["values"] == "`resid_post`, `mlp_out`, `ln_2`"
        and of["site"]["default"] == '"resid_post"'
    )
    assert (
        of["top_ns"]["values"] == "list; each: number, above 0, at most 1"
        and of["seed"]["values"] == "whole number, at least 0"
    )
    assert of["task"]["default"] == "" and all(
        p["meaning"] for rows in found.values() for p in rows
    )


# -- the built book (that of the smoke study, or the one that MEMGEN_BOOK names) -------------------
def test_home_page_is_light(built_book):
    """Besides what Sphinx and the theme load on every page: the page itself, its figure, and what
    comes from book/_static.
    """
    home = checks.page(built_book / "index.html")
    asked = {
        tag.get("src") or tag.get("href")
        for tag in home.select("script[src], link[rel=stylesheet], link[rel=icon], img[src]")
    }
    files = {built_book / urlsplit(url).path for url in asked if not urlsplit(url).scheme}
    own = [
        f
        for f in files
        if "_static" not in f.parts
        or (ROOT / "book" / "_static" / f.relative_to(built_book / "_static")).is_file()
    ]
    assert any(f.suffix == ".webp" for f in own) and any(f.name == "book.css" for f in own)
    assert not any({"live", "mathjax"} & set(f.parts) or f.name == "searchindex.js" for f in files)
    assert sum(f.stat().st_size for f in [built_book / "index.html", *own]) < 500_000


def test_whole_book_is_light(built_book):
    assert sum(f.stat().st_size for f in built_book.rglob("*") if f.is_file()) < 60_000_000
    assert not list(built_book.rglob("*.map")) and not list(built_book.rglob("*.po"))
    assert not [
        f for f in built_book.glob("_downloads/*/*.ipynb") if b"image/png" in f.read_bytes()
    ]


def test_every_lab_page_has_its_parameters_and_files(built_book):
    for path in built_book.glob("labs/*/*.html"):
        bar = checks.page(path).select_one(".lab-bar")
        named = [row.th.get_text() for row in bar.select("details table.parameters tbody tr")]
        assert named == [
            name for name in LABS[path.parent.name].parameters.model_fields if name != "runs"
        ], path
        assert (
            "seed" in bar.get_text()
            and "Python 3" in bar.get_text()
            and len(bar.select("a.download")) == 3
        ), path


def test_slides_come_in_both_forms(built_book):
    cards = checks.page(built_book / "teach.html").select(".slides .sd-card")
    assert cards
    for card in cards:
        assert [link["href"].rsplit(".")[-1] for link in card.select("a.download")] == [
            "svg",
            "png",
        ] and card.img["alt"].strip()
