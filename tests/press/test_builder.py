"""`press book`: what it stages, what it refuses, and when it has nothing to do."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys

import pytest
import yaml
from fake_run import bar_of, leave_out, make_run, stage

from memgen.config.base import ROOT
from memgen.errors import StudyError
from memgen.stages import LABS
from memgen.store.ours import STAMP
from press import build, cli, parameters
from press.contents import contents, settings
from press.errors import BookError
from press.run import Run
from strays import plant_strays


def pages_of_nothing(html, doctrees):
    """In Sphinx's place."""
    html.mkdir()
    (html / "index.html").write_text("book")
    doctrees.mkdir()
    return []


def test_unchanged_book_is_not_built_again(run, root, tmp_path, monkeypatch):
    calls = []

    def sphinx(source, html, doctrees, kept):
        calls.append(source)
        return pages_of_nothing(html, doctrees)

    monkeypatch.setattr(build, "sphinx", sphinx)
    monkeypatch.setattr(build, "write_crate", lambda *_: None)
    for _ in range(2):
        build.build_book(run, tmp_path / "out", root)
    assert len(calls) == 1
    path = run / "inference" / "seed0" / "06_intervention" / "result.json"
    path.write_text(path.read_text().replace('"alpha": 2.0', '"alpha": 3.0'))
    build.build_book(run, tmp_path / "out", root)
    assert len(calls) == 2


def test_a_book_whose_files_nobody_touched_is_not_even_staged(run, root, tmp_path, monkeypatch):
    """And whatever is touched, or asked otherwise, leads to a staging, which sees whether it matters."""
    staged = []

    def sphinx(source, html, doctrees, kept):
        return pages_of_nothing(html, doctrees)

    def stage_all(run, root, source):
        staged.append(source)
        source.mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(build, "sphinx", sphinx)
    monkeypatch.setattr(build, "stage", stage_all)
    monkeypatch.setattr(build, "write_crate", lambda *_: None)
    out = tmp_path / "out"
    for _ in range(2):
        build.build_book(run, out, root)
    assert len(staged) == 1
    (run / "study.json").write_text("written by every make book")
    (run / "snakemake.log").write_text("so is this")
    (root / "book" / ".intro.md.swp").write_text("an editor's")
    build.build_book(run, out, root)
    assert len(staged) == 1
    touched = [
        run / "inference" / "seed0" / "05_prediction.ipynb",
        run / "inference" / "seed0" / "05_prediction" / "result.json",
        root / "book" / "intro.md",
        root / "_toc.yml",
    ]
    for n, path in enumerate(touched, 2):
        text = path.read_text(encoding="utf8")
        path.write_text(text, encoding="utf8")  # the same size, another time
        build.build_book(run, out, root)
        assert len(staged) == n, path
        build.build_book(run, out, root)
        assert len(staged) == n, path
    build.build_book(run, out, root, seeds=[0])
    assert len(staged) == len(touched) + 2
    (out / "html" / "index.html").unlink()
    build.build_book(run, out, root, seeds=[0])
    assert len(staged) == len(touched) + 3


def test_a_failed_build_leaves_the_former_book(run, root, tmp_path, monkeypatch):
    html = tmp_path / "out" / "html"
    html.mkdir(parents=True)
    (html / "index.html").write_text("the former book")
    (tmp_path / "out" / STAMP).touch()
    monkeypatch.setattr(build, "sphinx", lambda *_, **__: (_ for _ in ()).throw(BookError("no")))
    with pytest.raises(BookError):
        build.build_book(run, tmp_path / "out", root)
    assert (html / "index.html").read_text() == "the former book"


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
            "no figure 'mist'; it has grid, controls, dose, cells",
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
    """On a machine without a home, whose user has set up docutils and figures for other work."""
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
    (tmp_path / "docutils.conf").write_text("[general]\nreport_level: nonsense\n")
    homes = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR")
    hard = dict.fromkeys(homes, "/proc/nonexistent") | {
        "MPLBACKEND": "nonsense",
        "DOCUTILSCONFIG": str(tmp_path / "docutils.conf"),
    }
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | hard)
    assert done.returncode == 1
    assert (
        "nowhere.md" in done.stderr
        and "no such term" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert not (tmp_path / "out" / "html").exists()


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
    row = dataclasses.replace(LABS["09_confounds"], name="17_example", title="Example")
    monkeypatch.setitem(LABS, row.name, row)
    parameters.parameter_reference.cache_clear()
    yield row.name
    parameters.parameter_reference.cache_clear()


def test_a_new_lab_needs_a_chapter_and_nothing_else(example, tmp_path, root, notebook):
    """Neither a line in `_toc.yml` nor exercises nor a quiz."""
    run = Run(make_run(tmp_path / "runs", ["inference"], [0], notebook))
    with pytest.raises(BookError, match="book/chapters/17_example.md is missing"):
        contents(run, root / "_toc.yml")
    (root / "book" / "chapters" / f"{example}.md").write_text(
        "# Example\n\n{{ labs('17_example') }}\n"
    )
    parts = {
        part["caption"]: part["chapters"]
        for part in yaml.safe_load(contents(run, root / "_toc.yml"))["parts"]
    }
    *_, before, new, last = parts["The evidence"]
    assert (before["file"], last["file"]) == ("chapters/16_multiverse", "scale")
    lab = {"file": "labs/17_example/inference-seed0", "title": "Lab: inference"}
    assert new == {"file": "chapters/17_example", "sections": [lab]}
    build.stage(run, root, tmp_path / "out")
    assert (
        f"../{lab['file']}.ipynb" in (tmp_path / "out" / "chapters" / f"{example}.md").read_text()
    )
    assert "[Example](../../chapters/17_example.md)" in bar_of(
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


def test_stray_files_beside_the_sources_change_no_book(run, root, tmp_path):
    for folder in ("book", "book/chapters", "book/_static", "book/quizzes", "notebooks/exercises"):
        for suffix in ("md", "ipynb", "yaml", "css"):
            plant_strays(root / folder, f"06_intervention.{suffix}")
    stage(run, root, tmp_path / "out")
    staged = [
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")
    ]
    assert "chapters/06_intervention.md" in staged and "exercises/06_intervention.md" in staged
    assert [name for name in staged if re.search(r"[~#]|/\.|checkpoint|dangling", f"/{name}")] == []


def test_a_book_over_files_of_somebody_else_is_one_sentence(run, root, tmp_path, capsys):
    (tmp_path / "out" / "source").mkdir(parents=True)
    (tmp_path / "out" / "source" / "thesis.tex").write_text("years of work")
    asked = ["book", "--runs", str(run), "--out", str(tmp_path / "out"), "--root", str(root)]
    assert cli.main(asked) == 1
    assert "did not make and a book would overwrite" in capsys.readouterr().err
    assert (tmp_path / "out" / "source" / "thesis.tex").read_text() == "years of work"
    (tmp_path / "file").touch()
    assert cli.main([*asked[:4], str(tmp_path / "file"), *asked[5:]]) == 1
    said = capsys.readouterr().err.strip()
    assert str(tmp_path / "file") in said and len(said.splitlines()) == 1


def test_a_run_that_missed_the_gate_is_named_and_in_no_table(tmp_path, root, notebook):
    run = make_run(tmp_path / "runs", ["inference"], [0, 1], notebook)
    why = "task inference, seed 1: no checkpoint in 400 steps showed both behaviours."
    leave_out(run, 1, why)
    found = Run(run)
    assert found.seeds == {"inference": [0]} and [m.seed for m in found.missed] == [1]
    assert found.n_runs == 2
    out = stage(run, root, tmp_path / "out")
    text = (out / "chapters" / "02_training.md").read_text()
    assert "Of 2 runs, 1 did not show both behaviours and is in" in text and why in text
    assert "(../labs/02_training/inference-seed1.ipynb)" in text
    contents = (out / "_toc.yml").read_text()
    assert "labs/02_training/inference-seed1" in contents
    assert "labs/06_intervention/inference-seed1" not in contents
    assert "seed 1" not in (out / "chapters" / "06_intervention.md").read_text()
    leave_out(run, 0, why)
    with pytest.raises(BookError, match="no run that shows both behaviours.*400 steps"):
        Run(run)
