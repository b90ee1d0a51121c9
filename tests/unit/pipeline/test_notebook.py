"""The first two lines of every lab: parameters from the notebook's names, the run folder, clear
refusals.
"""

from __future__ import annotations

import html
import json

import numpy as np
import pandas as pd
import pytest

from memgen.errors import ArtifactError, GateError, ParameterError, StudyError
from memgen.pipeline import notebook
from memgen.pipeline.notebook import Lab, begin, open_lab
from memgen.presets import stage_parameters
from memgen.stages import PARAMETER_CLASSES
from memgen.store.artifacts import RESULT, Result
from memgen.store.folders import base_folder, run_folder

STAGE = "01_dataset_design"


@pytest.fixture
def namespace(tmp_path) -> dict:
    """What a notebook's globals hold after its parameters cell."""
    names = {"__name__": "__main__", "json": json, "open_lab": open_lab}
    begin(names)
    return names | {
        "task": "inference",
        "seed": 0,
        "preset": "smoke",
        "runs": str(tmp_path),
        "n_keys": None,
        "In": [],
        "Out": {},
        "_i1": "x",
    }


def dataset(names: dict) -> Lab:
    """Lab 01, run."""
    lab = open_lab(STAGE, names)
    lab.keep(computing(lab))
    return lab


def computed(lab: Lab) -> Result:
    task = lab.task()
    frame = task.generate(n_free=20, n_keyed=24, n_conflict_per_key=4, n_free_eval=5)
    tables = {"instances": frame, "numbers": pd.DataFrame({"a": [1, 2]})}
    return Result(task.count(frame), tables, {"arrays": {"x": np.arange(4.0)[::2]}})


def computing(lab: Lab):
    def compute():
        return computed(lab)

    return compute


def finished(names: dict) -> bool:
    """Would lab 01 with these names be read instead of computed?"""
    lab = open_lab(STAGE, names)
    lab.stage.compute = computing(lab)
    return lab.finished


def test_a_lab_takes_the_notebooks_names_and_the_presets_values(namespace, tmp_path):
    lab = open_lab(STAGE, namespace)
    assert (lab.parameters.task, lab.parameters.n_keys, lab.parameters.n_free) == (
        "inference",
        16,
        6000,
    )
    assert lab.stage.folder == tmp_path / "smoke" / "inference" / "seed0" / STAGE
    assert open_lab(STAGE, namespace | {"n_free": 30}).parameters.n_free == 30


@pytest.mark.parametrize("name, value", [("n_keyss", 3), ("site", "ln_2"), ("n_layer", 2)])
def test_a_name_that_the_stage_does_not_take_is_named(namespace, name, value):
    with pytest.raises(ParameterError, match=f"'{name}' is not a parameter of {STAGE}.*n_keys"):
        open_lab(STAGE, namespace | {name: value})


def test_begin_must_come_first(namespace, monkeypatch):
    monkeypatch.setattr(notebook, "_names_before", set())
    with pytest.raises(ParameterError, match="begin"):
        open_lab(STAGE, namespace)


def test_a_missing_earlier_stage_is_named(namespace):
    del namespace["n_keys"]
    with pytest.raises(
        ArtifactError, match="01_dataset_design is missing or unfinished; run lab 01_dataset_design"
    ):
        open_lab("02_training", namespace)


def test_what_a_lab_writes_it_reads_and_the_next_one_too(namespace, capsys):
    lab = dataset(namespace)
    assert lab.finished and "already computed" in capsys.readouterr().out
    assert lab.result["n_keys"] == {"train": 8, "validation": 3, "test": 5}
    assert list(lab.table("numbers").a) == [1, 2]
    assert list(lab.arrays("arrays")["x"]) == [0.0, 2.0]
    del namespace["n_keys"]
    later = open_lab("02_training", namespace)
    assert not later.finished
    assert list(later.input(STAGE).table("numbers").a) == [1, 2]
    assert set(later.task().keys) == set(lab.dataset().key) - {""}
    with pytest.raises(ArtifactError, match="does not read stage 03_pairs"):
        later.input("03_pairs")


def test_the_same_parameters_again_are_not_computed_again_others_are(namespace):
    dataset(namespace)
    assert finished(namespace)
    assert not finished(namespace | {"n_free": 21})


def test_another_computing_cell_computes_anew(namespace):
    lab, made = dataset(namespace), []

    def compute():
        made.append(1)
        return computed(lab)

    for times in (1, 1):
        lab.keep(compute)
        assert len(made) == times  # the second time it is read

    def compute():
        made.append(2)
        return computed(lab)

    lab.keep(compute)
    assert made == [1, 2]


def test_a_cell_that_takes_a_folder_goes_on_with_what_an_interrupt_left(namespace):
    lab = open_lab(STAGE, namespace)
    seen = []

    def compute(folder):
        seen.append((folder / "half").exists())
        (folder / "half").write_text("done so far")
        if len(seen) == 1:
            raise KeyboardInterrupt
        (folder / "half").unlink()
        return computed(lab)

    with pytest.raises(ArtifactError, match="interrupted"):
        lab.keep(compute)
    assert lab.keep(compute)["n_keys"] and seen == [False, True]


def test_an_altered_earlier_stage_is_named(namespace):
    lab = dataset(namespace)
    path = lab.stage.folder / RESULT
    path.write_text(path.read_text().replace("6", "7"))
    del namespace["n_keys"]
    with pytest.raises(ArtifactError, match="result.json was altered or truncated"):
        open_lab("02_training", namespace)


def test_an_interrupt_is_one_clear_message_and_keeps_what_is_finished(namespace):
    lab = dataset(namespace)
    changed = open_lab(STAGE, namespace | {"n_free": 21})
    with (
        pytest.raises(ArtifactError, match="interrupted.*the same command goes on"),
        changed.computing(),
    ):
        raise KeyboardInterrupt
    assert finished(namespace) and not changed.stage.finished()
    with changed.computing():  # the lock is free again
        pass
    assert lab.stage.finished()


def test_two_runs_in_one_folder(namespace):
    one, two = open_lab(STAGE, namespace), open_lab(STAGE, namespace)
    with (
        one.computing(),
        pytest.raises(ArtifactError, match="another run is working"),
        two.computing(),
    ):
        pass


@pytest.mark.parametrize("cls", [StudyError, ParameterError, ArtifactError, GateError])
def test_errors_print_one_line_in_a_notebook(cls):
    lines = cls("n_layer=0 is too small")._render_traceback_()
    assert lines == [f"{cls.__name__}: n_layer=0 is too small"]


def test_a_notebook_shows_the_message_without_a_traceback(capsys):
    """With the real shell of IPython."""
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    result = shell.run_cell(
        "from memgen.errors import ParameterError\nraise ParameterError('n_layer=0 is too small')"
    )
    assert isinstance(result.error_in_exec, ParameterError)
    shown = capsys.readouterr()
    assert [line for line in (shown.out + shown.err).splitlines() if line.strip()] == [
        "ParameterError: n_layer=0 is too small"
    ]


def test_every_lab_has_its_inputs_and_modules(tmp_path):
    for name in PARAMETER_CLASSES:
        task = "study" if name == "08_synthesis" else "inference"
        lab = Lab(
            name, stage_parameters(name, {"task": task, "preset": "smoke", "runs": str(tmp_path)})
        )
        assert name == STAGE or lab.stage.input_folders
        assert lab.stage.modules
        page = lab.show_parameters()._repr_html_()
        for parameter, field in PARAMETER_CLASSES[name].model_fields.items():
            assert parameter == "runs" or (
                f">{parameter}<" in page
                and f">{html.escape(field.description, quote=False)}<" in page
            )


def test_where_runs_lie(tmp_path):
    assert run_folder(tmp_path, "smoke", "inference", 2) == tmp_path / "smoke/inference/seed2"
    assert (
        run_folder(tmp_path, "smoke", "inference", 2, 1)
        == tmp_path / "smoke/inference/seed2-retrain1"
    )
    assert run_folder(tmp_path, "smoke", "inference", "all") == tmp_path / "smoke/inference/all"
    assert base_folder(tmp_path, "smoke", "cipher-tagged", 0) == base_folder(
        tmp_path, "smoke", "cipher-matched", 0
    )
    assert run_folder("data/runs", "smoke", "inference", 0).is_absolute()
    retrain = stage_parameters(
        "02_training", {"task": "inference", "preset": "smoke", "runs": str(tmp_path), "retrain": 1}
    )
    lab = Lab("02_training", retrain)
    assert lab.run.folder.name == "seed0-retrain1" and lab.stage.input_folders == [
        tmp_path / "smoke/inference/seed0" / STAGE
    ]
