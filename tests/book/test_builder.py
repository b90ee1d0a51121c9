"""`python -m memgen.book`: what it stages, what it refuses, and when it has nothing to do."""

import json
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from fake_run import make_run

from memgen import book, config, page


def stage(run, root, out):
    book.stage(page.Run(run), root, out)
    return out


def test_titles_are_those_of_the_stages():
    assert list(page.TITLES) == list(config.STAGES)


# -- a second time ----------------------------------------------------------------------------------------------------
def test_unchanged_book_is_not_built_again(run, root, tmp_path, monkeypatch):
    calls = []

    def sphinx(source, html, doctrees):
        calls.append(source)
        html.mkdir()
        (html / "index.html").write_text("book")

    monkeypatch.setattr(book, "sphinx", sphinx)
    for _ in range(2):
        book.build_book(run, tmp_path / "out", root)
    assert len(calls) == 1
    path = run / "inference" / "seed0" / "06_intervention" / "result.json"
    path.write_text(path.read_text().replace('"alpha": 2.0', '"alpha": 3.0'))
    book.build_book(run, tmp_path / "out", root)
    assert len(calls) == 2


def test_a_failed_build_leaves_the_former_book(run, root, tmp_path, monkeypatch):
    html = tmp_path / "out" / "html"
    html.mkdir(parents=True)
    (html / "index.html").write_text("the former book")
    monkeypatch.setattr(book, "sphinx", lambda *_, **__: (_ for _ in ()).throw(page.BookError("no")))
    with pytest.raises(page.BookError):
        book.build_book(run, tmp_path / "out", root)
    assert (html / "index.html").read_text() == "the former book"


# -- what it refuses --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [
    "inference/seed0/05_prediction/result.json", "inference/seed0/05_prediction/manifest.json", "inference/seed0/05_prediction.ipynb",
    "inference/all/07_transfer.ipynb", "study/all/08_synthesis/result.json", "study/all/08_synthesis/main_finding.png",
])
def test_missing_artifact_is_named(run, root, tmp_path, name, capsys):
    (run / name).unlink()
    status = book.main(["--runs", str(run), "--out", str(tmp_path / "out"), "--root", str(root)])
    message = capsys.readouterr().err
    assert status == 1 and str(run / name) in message and "make book" in message and "Traceback" not in message


def test_damaged_result_is_named(run, root, tmp_path):
    path = run / "inference" / "seed0" / "05_prediction" / "result.json"
    path.write_text(path.read_text()[:20])
    with pytest.raises(page.BookError, match=r"05_prediction/result.json cannot be read"):
        stage(run, root, tmp_path / "out")


def test_empty_run_folder_says_what_to_do(tmp_path):
    with pytest.raises(page.BookError, match="make book"):
        page.Run(tmp_path / "laptop")


def test_unknown_task_and_seed_are_named(run):
    with pytest.raises(page.BookError, match="cipher-tagged"):
        page.Run(run, tasks=["cipher-tagged"])
    with pytest.raises(page.BookError, match="seed7"):
        page.Run(run, seeds=[7])


@pytest.mark.parametrize("template, expected", [
    ("{{ mean('inference', '06_intervention', 'm2g.sucess') }}", "no key 'm2g.sucess'"),
    ("{{ mean('inference', '06_steering', 'm2g') }}", "stage '06_steering' is unknown"),
    ("{{ rate('cipher-tagged', '06_intervention', 'm2g') }}", "'cipher-tagged' is not part of this run"),
    ("{{ nonsense }}", "'nonsense' is undefined"),
    ("{{ lab_figure('06_intervention', name='mist') }}", "no figure 'mist'; it has grid, controls, dose"),
    ("{% if %}", "line 1"),
])
def test_template_errors_name_the_page(run, root, tmp_path, template, expected):
    (root / "book" / "intro.md").write_text(template)
    with pytest.raises(page.BookError, match="book/intro.md") as error:
        stage(run, root, tmp_path / "out")
    assert expected in str(error.value)


def test_figure_without_a_text_is_refused(run, root, tmp_path):
    path = run / "inference" / "seed0" / "04_differentiation.ipynb"
    lab = json.loads(path.read_text())
    for cell in lab["cells"]:
        for output in cell.get("outputs", []):
            output.get("metadata", {}).pop("alt", None)
    path.write_text(json.dumps(lab))
    with pytest.raises(page.BookError, match="04_differentiation.ipynb, cell 5: the figure has no alternative text"):
        stage(run, root, tmp_path / "out")


def test_a_warning_of_sphinx_fails_the_command(run, root, tmp_path):
    (root / "book" / "intro.md").write_text("# The question\n\n[nowhere](nowhere.md) and {term}`no such term`\n")
    command = [sys.executable, "-m", "memgen.book", "--runs", run, "--out", tmp_path / "out", "--root", root]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert "nowhere.md" in done.stderr and "no such term" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "html").exists()


# -- what it stages ---------------------------------------------------------------------------------------------------
def test_numbers_come_from_the_results(run, root, tmp_path):
    template = "{{ mean('inference', '06_intervention', 'm2g.success') }} {{ mean('inference', '05_prediction', 'auc.max') }}"
    (root / "book" / "intro.md").write_text(template)
    first, second = (stage(run, root, tmp_path / "out") / "intro.md").read_text().split()
    result = json.loads((run / "inference/seed0/06_intervention/result.json").read_text())
    assert float(first) == result["m2g"]["success"]
    assert float(second) == max(json.loads((run / "inference/seed0/05_prediction/result.json").read_text())["auc"][1:])


def test_pooled_rate_weighs_by_prompts(tmp_path, notebook):
    run = make_run(tmp_path, ["inference"], [0, 1], notebook)
    for seed, (rate, n) in enumerate([(1.0, 30), (0.0, 10)]):
        path = run / "inference" / f"seed{seed}" / "06_intervention" / "result.json"
        result = json.loads(path.read_text())
        result["m2g"] |= {"success": rate, "n": n}
        path.write_text(json.dumps(result))
    pooled = page.Numbers(page.Run(run)).pooled("inference", "m2g")
    assert pooled["success"] == 0.75 and pooled["n"] == 40
    assert pooled["low"] < 0.75 < pooled["high"]


def test_contents_hold_the_labs_of_this_run_only(tmp_path, root, notebook):
    run = make_run(tmp_path / "runs", ["arithmetic-tagged", "inference"], [0, 1], notebook)
    toc = book.contents(page.Run(run, tasks=["inference"]), root / "_toc.yml")
    assert "labs/06_intervention/inference-seed0" in toc and "labs/06_intervention/inference-seed1" in toc
    assert "labs/07_transfer/inference" in toc and "labs/08_synthesis/study" in toc and "arithmetic-tagged" not in toc


def test_a_base_and_a_retrain_are_no_tasks_and_seeds(run):
    (run / "inference-base" / "seed0" / "00_base").mkdir(parents=True)
    (run / "inference" / "seed0-retrain1" / "02_training").mkdir(parents=True)
    found = page.Run(run)
    assert found.tasks == ["inference"] and found.seeds == {"inference": [0]}


def test_a_run_without_the_gate_says_so(tmp_path, root, notebook):
    run = page.Run(make_run(tmp_path / "runs", ["inference"], [0], notebook, findings=False))
    assert not run.is_finding and "mean nothing" in book.settings(run, root / "_config.yml")
    book.stage(run, root, tmp_path / "out")
    assert "headline-number" not in (tmp_path / "out" / "index.md").read_text()


def test_command_names_what_differs_from_the_preset(run):
    lab = page.Run(run).of("06_intervention")[0]
    notebook = {"metadata": {}}
    lab.manifest["parameters"] |= {"alphas": [1.0, 2.0], "runs": "elsewhere"}
    line = page.command(lab, notebook)
    assert line.startswith("papermill notebooks/06_intervention.ipynb OUT.ipynb -p task inference -p seed 0 -p preset laptop")
    assert """-y '{"alphas": [1.0, 2.0]}'""" in line and "-p n_embd 64" in line and "elsewhere" not in line
    assert line.endswith("--cwd .")


def test_papermill_keeps_the_type_of_a_parameter():
    assert page._parameter("n", 3) == ["-p", "n", "3"]
    assert page._parameter("name", "3") == ["-r", "name", "3"]
    assert page._parameter("sites", ["ln_2"]) == ["-y", """'{"sites": ["ln_2"]}'"""]
    assert page._parameter("retrain", None) == []


# -- two tracks -------------------------------------------------------------------------------------------------------
@pytest.fixture
def two_tracks(run, tmp_path, notebook):
    make_run(tmp_path / "runs", ["inference"], [0], notebook, track="lora")
    return page.Run(run, tracks=["scratch", "lora"])


def test_both_tracks_have_their_labs_side_by_side(two_tracks, root, tmp_path):
    out = tmp_path / "source"
    book.stage(two_tracks, root, out)
    for name in ("inference-seed0", "lora-inference-seed0"):
        assert (out / "labs" / "06_intervention" / f"{name}.ipynb").is_file()
    contents = (out / "_toc.yml").read_text()
    assert "Lab: inference" in contents and "Lab, lora: inference" in contents
    bar = json.loads((out / "labs" / "06_intervention" / "lora-inference-seed0.ipynb").read_text())["cells"][1]["source"]
    assert "**The same lab (track scratch):** inference [seed 0](inference-seed0.ipynb)" in bar and "-p track lora" in bar


def test_the_page_of_the_adapters_shows_the_track_or_says_how_to_get_it(two_tracks, run, root, tmp_path):
    book.stage(two_tracks, root, tmp_path / "with")
    text = (tmp_path / "with" / "adapters.md").read_text()
    assert "One llama model with 0.82 million parameters" in text and "97.0\u00a0%" in text and "| inference | m2g |" in text
    stage(run, root, tmp_path / "without")
    assert 'TRACKS="scratch lora"' in (tmp_path / "without" / "adapters.md").read_text()


def test_a_book_of_adapters_alone_can_be_staged(two_tracks, run, root, tmp_path):
    """The evidence labs question the models from scratch: their chapters say so where there are none."""
    book.stage(page.Run(run, tracks=["lora"]), root, tmp_path / "out")
    for name in ("09_confounds", "10_ablations", "11_open_points"):
        text = (tmp_path / "out" / "chapters" / f"{name}.md").read_text()
        assert "TRACKS=scratch" in text and not (tmp_path / "out" / "labs" / name).exists()


def test_the_ledger_shows_every_claim_of_every_track(two_tracks, root, tmp_path):
    book.stage(two_tracks, root, tmp_path / "out")
    text = (tmp_path / "out" / "ledger.md").read_text()
    assert text.count("| {bdg-primary}`supported` | It can be steered. | paper | 0.30 (0.10 to 0.50) | 200 |") == 2
    assert text.count("| {bdg-secondary-line}`inconclusive` | It transfers. | paper | not tested |") == 2
    assert len(json.loads((tmp_path / "out" / "claims.json").read_text())) == 6
    home = " ".join((tmp_path / "out" / "index.md").read_text().split())
    assert "Of 3 claims in the [ledger](ledger.md), 1 holds on every task, 1 is contradicted on at least one, and 1 is open." in home
    assert "Task by task, 1 of 2 tests support their claim." in home


def test_the_scale_sweep_is_shown_or_said_to_be_missing(run, root, tmp_path):
    folder = root / "data" / "reference" / "scale"
    if folder.exists():
        shutil.rmtree(folder)
    stage(run, root, tmp_path / "without")
    assert "Not run yet. `make scale`" in (tmp_path / "without" / "scale.md").read_text()
    folder.mkdir()
    columns = "width,depth,task,seed,passed,n_parameters,max_abs_rho,auc,m2g,m2g_n,m2g_control,g2m,g2m_n,g2m_control"
    rows = ["64,4,arithmetic-tagged,6,True,200000,0.5,0.9,0.8,100,0.2,0.6,90,0.1", "64,4,arithmetic-tagged,7,False,,,,,,,,,", "64,4,arithmetic-matched,6,False,,,,,,,,,"]
    (folder / "results.csv").write_text("\n".join([columns, *rows]) + "\n")
    (folder / "about.json").write_text(json.dumps({"command": "make scale", "machine": {"cores": 2, "processor": "a laptop"}}))
    stage(run, root, tmp_path / "with")
    text = (tmp_path / "with" / "scale.md").read_text()
    assert "| arithmetic-tagged | 64 × 4 | 0.20 million | 1 of 2 | 0.50 | 0.90 | 80\u00a0% | 20\u00a0% | 60\u00a0% | 10\u00a0% | 100, 90 |" in text
    assert "| arithmetic-matched | 64 × 4 |  | 0 of 1 | n/a |" in text and "no run passed the gate" in text
    assert (tmp_path / "with" / "figures" / "scale.png").is_file()
    assert "have not been run yet (width × depth): 128 × 2, 128 × 4" in text


def test_a_missing_track_is_named(run, root, tmp_path, capsys):
    assert book.main(["--runs", str(run), "--tracks", "scratch", "lora", "--out", str(tmp_path / "out"), "--root", str(root)]) == 1
    assert "lora" in capsys.readouterr().err


def test_negative_numbers_are_written_to_be_read(run):
    assert page.decimal(-0.123) == "−0.12" and page.decimal(-0.001) == "0.00" and page.decimal(1234.5, 1) == "1\u00a0234.5"
    numbers = page.Numbers(page.Run(run))
    numbers.values = lambda *_: [-0.02, 0.04]
    assert numbers.cell("inference", "04_differentiation", "any", 2) == "0.01\u00a0(−0.02 to 0.04)"
    numbers.values = lambda *_: [0.02, 0.04]
    assert numbers.cell("inference", "04_differentiation", "any", 2) == "0.03\u00a0(0.02\u2060–\u20600.04)"


def test_the_parameter_reference_is_what_the_classes_check(run, root, tmp_path):
    found = page.parameter_reference()
    assert {stage: [p["name"] for p in rows] for stage, rows in found.items()} == {stage: list(cls.model_fields) for stage, cls in config.STAGES.items()}
    of = {p["name"]: p for p in found["06_intervention"]}
    assert of["site"]["values"] == "`resid_post`, `mlp_out`, `ln_2`" and of["site"]["default"] == '"resid_post"'
    assert of["top_ns"]["values"] == "list; each: number, above 0, at most 1" and of["seed"]["values"] == "whole number, at least 0"
    assert of["task"]["default"] == "" and all(p["meaning"] for rows in found.values() for p in rows)
    text = (stage(run, root, tmp_path / "out") / "parameters.md").read_text()
    assert "| `lora_rank` | rank of the adapters | whole number, at least 1 | `16` |" in text
