"""Lab 01: its checks see what they are for, its figure says what it shows."""

from __future__ import annotations

import pytest

from computing import planted_lab, run_cell
from memgen.figures import dataset_design as figures
from memgen.labs.dataset_design import checks, composition

TASK = "cipher-tagged"


def test_the_computing_cell_leaves_the_data_set_that_the_task_generates(planted, tmp_path):
    lab = planted_lab("01_dataset_design", tmp_path, planted(), {"n_keys": 8, "n_free": 40})
    left = run_cell(lab)
    assert left["n"] == lab.result and left["frame"].equals(lab.table("instances"))
    assert sum(left["n"]["n_keys"].values()) == left["frame"].key.nunique() - 1 == 8
    assert run_cell(lab)["n"] == left["n"]  # read, not computed


def test_a_sound_data_set_passes(datasets):
    held = checks(datasets[TASK][1])
    assert len(held) == 4 and all(held.values())


@pytest.mark.parametrize("broken", range(4))
def test_each_check_catches_its_own_fault(datasets, broken):
    frame = datasets[TASK][1].copy()
    conflict = frame.index[frame.kind == "conflict"]
    keyed = frame.index[frame.kind == "keyed"]
    if broken == 0:
        frame.loc[conflict[0], "prompt"] = frame.prompt[keyed[0]]
    elif broken == 1:
        frame.loc[conflict[0], "prompt"] = frame.prompt[conflict[1]]
    elif broken == 2:
        frame.loc[conflict[0], "split"] = "train" if frame.split[conflict[0]] == "test" else "test"
    else:
        frame.loc[conflict[0], "memory_answer"] = frame.rule_answer[conflict[0]]
    held = list(checks(frame).values())
    assert not held[broken] and held[3] == (broken != 3)


def test_the_figure_tells_every_count(datasets):
    counts = composition(datasets[TASK][1])
    drawing = figures.composition(counts)
    assert list(counts.index) == ["free", "keyed", "contrast", "conflict"]
    for kind, row in counts.iterrows():
        assert (
            f"{kind}: {row.train} train, {row.validation} validation, {row.test} test"
            in drawing.alt
        )
    assert drawing.name == "composition" and "by key" in drawing.caption
