"""The notebooks as sources: no outputs, one line per parameter, a computing cell that shows its keys."""

from __future__ import annotations

import json

import pytest
from parameter_cells import NOTEBOOKS, parameters_cell, tagged

from memgen.stages import LABS

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
