"""A book of a pretrained model alone, and the page that leads through it."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml
from fake_run import make_run

from memgen.stages import LABS, labs_of
from memgen.store.left_out import MARK
from memgen.tasks.table_file import COLUMNS
from press import build, own_book
from press.origin import bare
from press.run import Run

TASK, FILE = "table-own", "my/own.csv"


@pytest.fixture
def own(tmp_path, notebook):
    """A made-up run of a table on track given."""
    home = make_run(tmp_path / "runs", [TASK], [0], notebook, track="given")
    for path in (home / "given" / TASK / "seed0").glob("*/manifest.json"):
        said = json.loads(path.read_text())
        said["parameters"] |= {"base_model": "data/models/small"}
        if path.parent.name == "01_dataset_design":
            said["parameters"] |= {"task_file": FILE, "task_digest": "5" * 64}
        path.write_text(json.dumps(said))
    change(home, "01_dataset_design", n_known=9, n_asked=12)
    change(home, "02_training", n_conflict=48)
    told = {"instruction_1": {"success": 0.77}, "instruction_2": {"success": 0.31}}
    path = home / "given" / TASK / "seed0" / "06_intervention" / "result.json"
    found = json.loads(path.read_text())
    for direction in ("m2g", "g2m"):
        found[direction]["rivals"] = told
    path.write_text(json.dumps(found))
    return home


def change(home, lab: str, **values) -> None:
    path = home / "given" / TASK / "seed0" / lab / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def staged(home, root, out):
    build.stage(Run(home, tracks=["given"]), root, out)
    return out


def test_the_first_page_says_what_was_asked_and_what_every_lab_found(own, root, tmp_path):
    out = staged(own, root, tmp_path / "source")
    text = bare((out / "index.md").read_text())
    assert "`data/models/small`" in text and f"`{FILE}`" in text and "5" * 64 in text
    assert "9 of 12 keys" in text and "of 48 conflict prompts of test keys" in text
    assert text.count("rivals at most 77") == 2
    for lab in labs_of("run", "given"):
        assert f"(labs/{lab}/given-{TASK}-seed0.ipynb)" in text
    assert [path.name for path in out.rglob("*.md")] == ["index.md"]


def test_its_contents_are_the_labs_and_none_of_them_leads_to_a_chapter(own, root, tmp_path):
    out = staged(own, root, tmp_path / "source")
    toc = yaml.safe_load((out / "_toc.yml").read_text())
    files = [chapter["file"] for chapter in toc["chapters"]]
    assert toc["root"] == "index" and files == sorted(files)
    assert {file.split("/")[1] for file in files} == {n for n in LABS if "given" in LABS[n].tracks}
    for file in files:
        page = (out / f"{file}.ipynb").read_text()
        assert "../../index.md" in page and "chapters/" not in page


FIRST, LATER = labs_of("run", "given")[:3], labs_of("run", "given")[3:]


@pytest.mark.parametrize("left_out, shown", [(LATER, True), (FIRST + LATER, False)])
def test_a_run_that_a_lab_was_left_out_of_is_shown_with_the_reason(
    own, root, tmp_path, left_out, shown
):
    for lab in left_out:
        folder = own / "given" / TASK / "seed0" / lab
        shutil.rmtree(folder)
        folder.with_suffix(".ipynb").unlink()
        folder.with_suffix(".stamp").write_text(f"{MARK}the model never goes by the text")
    out = staged(own, root, tmp_path / "source")
    text = bare((out / "index.md").read_text())
    assert "Labs were left out: the model never goes by the text" in text
    assert ("9 of 12 keys" in text) == shown and "rivals at most" not in text
    assert ("chapters" in (out / "_toc.yml").read_text()) == shown


def test_in_the_whole_book_the_page_is_a_guide_without_a_run(rendered, own, run):
    text = rendered(run, only={"your_model.md"})["your_model.md"]
    assert "**Question.**" in text and "What was found" not in text
    for column in COLUMNS:
        assert f"| `{column}` |" in text
    assert "| `rule_answer` | needed | empty | needed |" in text
    assert "(chapters/06_intervention.md)" in text


def test_every_lab_of_a_pretrained_model_has_its_question():
    asked = [name for name, row in LABS.items() if own_book.asked(row)]
    assert asked == list(labs_of("run", "given"))
    assert all(one["question"].endswith("?") for one in own_book.questions())


@pytest.mark.slow
def test_the_book_is_built(own, root, tmp_path):
    first = build.build_book(own, tmp_path / "out", root, tracks=["given"])
    text = first.read_text()
    assert "Your model, your prompts" in text and "9 of 12 keys" in bare(text)
