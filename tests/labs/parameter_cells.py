"""The parameters cell of every lab, as its class of parameters gives it.

python tests/labs/parameter_cells.py        write the cells into the notebooks
"""

from __future__ import annotations

import json
from pathlib import Path

from memgen.stages import LABS

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
GIVEN = {
    "task": "arithmetic-tagged",
    "seed": 0,
    "preset": "laptop",
    "runs": "data/runs",
    "track": "scratch",
}


def parameters_cell(name: str) -> str:
    """One line per parameter: its name, its value (None: the preset's) and its meaning."""
    row = LABS[name]
    given = GIVEN | ({"task": "study"} if row.level == "study" else {})
    fields = row.parameters.model_fields
    lines = {n: f"{n} = {json.dumps(given[n]) if n in given else None}" for n in fields}
    rest = [f"{line}  # {fields[n].description}" for n, line in lines.items()]
    return "\n".join(["# None: the preset's value", *rest])


def tagged(notebook: dict, tag: str) -> dict:
    """The one cell of a notebook that carries this tag."""
    (cell,) = [cell for cell in notebook["cells"] if tag in cell["metadata"].get("tags", [])]
    return cell


if __name__ == "__main__":
    for name in LABS:
        path = NOTEBOOKS / f"{name}.ipynb"
        notebook = json.loads(path.read_text(encoding="utf8"))
        tagged(notebook, "parameters")["source"] = parameters_cell(name).splitlines(True)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf8")
