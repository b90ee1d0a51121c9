"""The crate beside the book leads from a printed number to the run that made it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fake_run import leave_out, make_run

from memgen.config.base import ROOT
from press import crate
from press.crate import NAME, commit, write_crate
from press.errors import BookError
from press.lab_bar import downloads
from press.run import NEEDED, Run

REDERIVE = Path(__file__).with_name("rederive.py")


def rederived(html: Path) -> subprocess.CompletedProcess:
    """The script that imports nothing of ours, on a book."""
    command = [sys.executable, "-I", str(REDERIVE), str(html)]
    return subprocess.run(command, capture_output=True, text=True)


def put_downloads(run: Run, html: Path) -> None:
    """Every lab's files, where Sphinx puts them."""
    for lab in run.all_pages:
        for name in NEEDED:
            path = crate.download(html, f"labs/{lab.stage}/{downloads(lab)[name]}")
            path.parent.mkdir(parents=True)
            path.write_bytes((lab.folder / name).read_bytes())


@pytest.fixture
def book(tmp_path, root, notebook, rendered) -> tuple[Run, Path]:
    """A made-up run and its book, as far as numbers go: pages, downloads, crate."""
    folder = make_run(tmp_path / "runs", ["arithmetic-tagged", "inference"], [0, 1], notebook)
    run, html = Run(folder), tmp_path / "html"
    for page, text in rendered(folder, write=str, root=root).items():
        path = html / page.replace(".md", ".html")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf8")
    put_downloads(run, html)
    write_crate(run, ROOT, html)
    return run, html


def test_numbers_are_made_again_from_the_crate(book):
    _, html = book
    done = rederived(html)
    assert done.returncode == 0 and "100 of 100 numbers agree" in done.stdout, done
    for page in html.rglob("*.html"):  # one more per cent everywhere
        text = page.read_text(encoding="utf8")
        page.write_text(re.sub(r"(\d)(\u00a0%</span>)", r"\g<1>1\2", text), encoding="utf8")
    done = rederived(html)
    assert done.returncode == 1 and "is printed" in done.stdout


def test_the_crate_names_what_was_run_of_a_run_that_missed_the_gate(tmp_path, root, notebook):
    runs = make_run(tmp_path / "runs", ["inference"], [0, 1], notebook)
    leave_out(runs, 1, "task inference, seed 1: no checkpoint showed both behaviours.")
    run, html = Run(runs), tmp_path / "html"
    put_downloads(run, html)
    write_crate(run, ROOT, html)
    graph = json.loads((html / NAME).read_text())["@graph"]
    ran = {one["@id"] for one in graph if one["@type"] == "CreateAction"}
    assert {f"#run/{str(lab.at('')).rstrip('/')}" for lab in run.missed[0].labs} <= ran
    assert not [name for name in ran if "inference/seed1/06" in name]


def test_an_altered_result_is_noticed(book):
    _, html = book
    for path in html.rglob("*.result.json"):
        path.write_text(path.read_text() + " ")
    assert "was altered" in rederived(html).stderr


def test_every_lab_is_a_run_with_what_it_used_and_left(book):
    run, html = book
    graph = {one["@id"]: one for one in json.loads((html / NAME).read_text())["@graph"]}
    assert graph["./"]["mainEntity"] == {"@id": "workflow/Snakefile"}
    for lab in run.labs:
        ran = graph[f"#run/{str(lab.at('')).rstrip('/')}"]
        assert ran["@type"] == "CreateAction"
        assert graph[ran["instrument"]["@id"]]["@id"] == f"workflow/{lab.stage}.ipynb"
        given = {graph[one["@id"]].get("name"): graph[one["@id"]] for one in ran["object"]}
        assert given["seed"]["value"] == (json.dumps(lab.manifest["parameters"]["seed"]).strip('"'))
        left = [graph[one["@id"]] for one in ran["result"]]
        assert [one["identifier"] for one in left[:2]] == [lab.at(name) for name in NEEDED]
        assert {"torch", "cores"} <= {graph[one["@id"]]["name"] for one in ran["environment"]}
        assert ran["startTime"] < ran["endTime"]
    files = [one for one in graph.values() if "File" in one["@type"]]
    assert all((html / one["@id"]).is_file() for one in files) and graph["index.html"] in files
    referred = {one["@id"] for entity in graph.values() for one in references(entity)}
    assert {name for name in referred if not name.startswith("http")} <= set(graph)


def references(entity: dict) -> list[dict]:
    values = [
        v for value in entity.values() for v in (value if isinstance(value, list) else [value])
    ]
    return [one for one in values if isinstance(one, dict)]


def test_equal_runs_have_equal_crates(book):
    run, html = book
    before = (html / NAME).read_bytes()
    write_crate(run, ROOT, html)
    assert (html / NAME).read_bytes() == before


def test_a_file_that_the_book_lacks_is_named(book):
    run, html = book
    lost = next(html.rglob("*.result.json"))
    lost.unlink()
    with pytest.raises(BookError, match=re.escape(str(lost))):
        write_crate(run, ROOT, html)


def test_a_folder_without_git_has_no_commit(tmp_path, monkeypatch):
    assert commit(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit(ROOT) is None


def test_numbers_of_the_built_book_are_made_again(built_book):
    done = rederived(built_book)
    assert "100 of 100 numbers agree" in done.stdout, done.stdout + done.stderr
