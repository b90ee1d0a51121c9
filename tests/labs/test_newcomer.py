"""A newcomer adds a lab with the steps of CONTRIBUTING.md and nothing else, and finds it in the book."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from running import ROOT

COPIED = tuple(
    "src book notebooks data/reference _config.yml _toc.yml Snakefile CHANGELOG.md CITATION.cff".split()
)


def steps(text: str) -> dict[str, str]:
    """`{file: content}` of the fenced blocks that name a file."""
    blocks = re.findall(r"^```\w+ (\S[^\n]*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return dict(blocks)


def as_notebook(cells: str) -> nbformat.NotebookNode:
    """Cells in the percent format, in a copy of the notebook that the steps tell to copy."""
    notebook = nbformat.read(ROOT / "notebooks" / "03_pairs.ipynb", 4)
    notebook.cells = []
    for head, source in re.findall(r"^# %%(.*)\n((?:(?!# %%).*\n)*)", cells, flags=re.MULTILINE):
        tags = re.findall(r'"(\w+)"', head)
        if "[markdown]" in head:
            cell = nbformat.v4.new_markdown_cell(re.sub(r"^# ?", "", source, flags=re.MULTILINE))
        else:
            cell = nbformat.v4.new_code_cell(source, metadata={"tags": tags} if tags else {})
        cell.source = cell.source.strip()
        notebook.cells.append(cell)
    return notebook


def follow(house: Path) -> set[str]:
    """Do what CONTRIBUTING.md says to a copy of the repository; returns the files that were touched."""
    touched = set()
    for place, content in steps((ROOT / "CONTRIBUTING.md").read_text("utf8")).items():
        name, _, where = place.partition(", ")
        file = house / name
        assert file.exists() == bool(where), name
        if where == "last in _ROWS":
            text = file.read_text("utf8")
            assert text.count("\n)\nLABS") == 1
            file.write_text(text.replace("\n)\nLABS", f"\n{content})\nLABS"), "utf8")
        elif file.suffix == ".ipynb":
            nbformat.write(as_notebook(content), file)
        else:
            file.write_text(content, "utf8")
        touched.add(name)
    return touched


@pytest.fixture
def house(tmp_path) -> Path:
    """A copy of the repository."""
    for name in COPIED:
        target = tmp_path / "house" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, target)
    return tmp_path / "house"


def run(house: Path, module: str, *arguments: str) -> str:
    own = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=house,
        env=own | {"PYTHONPATH": str(house / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_steps_are_five_files_that_the_tools_accept(house):
    touched = follow(house)
    assert len(touched) == 5
    tool = [sys.executable, "-m", "ruff", "check", "--config", str(ROOT / "pyproject.toml")]
    done = subprocess.run([*tool, *sorted(touched - {"book/chapters/17_example.md"})], cwd=house)
    assert done.returncode == 0


def test_a_newcomers_lab_stands_in_the_book(house, smoke, tmp_path):
    assert len(follow(house)) <= 5
    study = tmp_path / "runs" / "smoke"
    for task in ("inference", "inference-base"):
        shutil.copytree(smoke / "smoke" / task, study / task)
    before = (study / "inference/seed0/02_training/manifest.json").stat().st_mtime_ns
    asked = ("--tasks", "inference", "--seeds", "0", "--tracks", "scratch")
    run(
        house,
        "memgen.pipeline.cli",
        "labs",
        "--preset",
        "smoke",
        "--runs",
        str(study.parent),
        *asked,
    )
    assert (study / "inference/seed0/17_example/result.json").is_file()
    assert (study / "inference/seed0/02_training/manifest.json").stat().st_mtime_ns == before
    run(house, "press.cli", "book", "--runs", str(study), "--out", str(tmp_path / "out"), *asked)
    html = tmp_path / "out" / "html"
    chapter = (html / "chapters" / "17_example.html").read_text("utf8")
    assert "Bars: mean length of the answers to test prompts by behaviour: " in chapter
    assert "17_example" in (html / "index.html").read_text("utf8")
    page = (html / "labs" / "17_example" / "inference-seed0.html").read_text("utf8")
    assert "characters" in page
