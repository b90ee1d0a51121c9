"""Committed runs of a lab: means with ranges, verdicts, and nothing before there are any."""

from __future__ import annotations

import json

import pandas as pd

from memgen.pipeline.rivals import by_path, table_of
from planted_board import correlates
from press.committed_runs import committed_runs

LAB = "15_correlates"


def test_cells_and_verdicts_are_of_models_from_scratch(tmp_path):
    folder = tmp_path / "data" / "reference" / "rivals"
    folder.mkdir(parents=True)
    rows = [
        {"track": track, "task": "inference", "seed": seed} | dict(by_path(correlates(refit)))
        for track, refits in (("scratch", (0.8, 0.9)), ("lora", (0.1, 0.2)))
        for seed, refit in enumerate(refits)
    ]
    pd.DataFrame(rows).to_csv(folder / table_of(LAB), index=False)
    about = {"command": "make rivals", "machine": {"cores": 2, "processor": "a processor"}}
    (folder / "about.json").write_text(json.dumps(about))
    found = committed_runs(tmp_path, LAB)
    assert (found.tasks, found.n_tasks, found.n_seeds) == (["inference"], 1, 2)
    cell = found.cell("inference", "m2g.held_refit", 2).replace("\u2060", "").replace("\u00a0", " ")
    assert cell == "0.85 (0.80–0.90)"
    assert found.cell("inference", "m2g.methods.held.beyond").replace("\u00a0", " ") == "90 %"
    assert found.cell("inference", "nonesuch") == "n/a"
    assert found.verdict("control_far_out", "inference") == "supported"
    assert found.verdict("control_far_out", "cipher-tagged") == "not tested"
    assert found.machine == "2 cores of a processor"
    assert not committed_runs(tmp_path, "16_multiverse").tasks


def test_nothing_before_the_runs(tmp_path):
    assert committed_runs(tmp_path, LAB).tasks == []
