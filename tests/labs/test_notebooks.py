"""The notebooks as sources: no outputs, one line per parameter, a computing cell that shows its keys."""

from __future__ import annotations

import ast
import json

import pytest
from parameter_cells import NOTEBOOKS, parameters_cell, tagged

from memgen.config.base import ROOT
from memgen.stages import LABS
from memgen.store.fingerprint import source_files

WIDTH = 110
each_lab = pytest.mark.parametrize("name", LABS)


def notebook(name: str) -> dict:
    return json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf8"))


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.rglob("*.ipynb")), ids=lambda path: path.stem)
def test_no_notebook_holds_outputs_or_long_lines(path):
    for cell in json.loads(path.read_text(encoding="utf8"))["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None
        for line in "".join(cell["source"]).splitlines():
            assert len(line) <= WIDTH, line


@each_lab
def test_the_parameters_cell_lists_every_field_with_its_meaning(name):
    """`python tests/labs/parameter_cells.py` writes the cells anew."""
    assert "".join(tagged(notebook(name), "parameters")["source"]) == parameters_cell(name)


@each_lab
def test_the_computing_cell_says_on_which_keys(name):
    source = "".join(tagged(notebook(name), "compute")["source"])
    assert "def compute(" in source and "lab.keep(compute)" in source
    words = {"train", "validation", "test"} & set(
        source.replace('"', " ").replace(",", " ").split()
    )
    assert words or LABS[name].level == "study"
    assert "study(" not in source


def imported(name: str) -> set[str]:
    """The modules of this package that a notebook's cells import, by their files below `src/memgen`."""
    cells = [cell for cell in notebook(name)["cells"] if cell["cell_type"] == "code"]
    found = set()
    for node in ast.walk(ast.parse("\n\n".join("".join(cell["source"]) for cell in cells))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("memgen."):
            place = node.module.removeprefix("memgen.").replace(".", "/")
            inner = [f"{place}/{one.name}.py" for one in node.names]
            found |= {f for f in inner if (ROOT / "src" / "memgen" / f).is_file()} or {
                f"{place}.py"
            }
    return found


@each_lab
def test_a_lab_runs_again_when_anything_that_its_notebook_imports_has_changed(name):
    """`code` is what its numbers depend on; drawing is watched apart, how a lab is opened and its result
    written on purpose not.
    """
    package = ROOT / "src" / "memgen"
    computing = {f.relative_to(package).as_posix() for f in source_files(*LABS[name].code)}
    drawing = {
        f.relative_to(package).as_posix() for f in source_files(f"figures.{LABS[name].short}")
    }
    asked = imported(name) - {"pipeline/notebook.py", "store/artifacts.py"}
    assert {f for f in asked if f.startswith("figures/")} <= drawing
    assert {f for f in asked if not f.startswith("figures/")} <= computing


@each_lab
def test_a_figure_is_drawn_again_by_its_own_lab_alone(name):
    """Of what draws, other labs have only the common style; and no number depends on any of it."""

    def drawing(lab: str) -> set[str]:
        files = source_files(f"figures.{LABS[lab].short}")
        return {f.name for f in files if f.parent.name == "figures"}

    others = set().union(*(drawing(lab) for lab in LABS if lab != name))
    assert f"{LABS[name].short}.py" in drawing(name)
    assert drawing(name) & others <= {"__init__.py", "style.py"}
    assert not [f for f in source_files(*LABS[name].code) if f.parent.name == "figures"]
