"""The first two lines of every lab: parameters from the notebook's names, the run folder, clear
refusals.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

from memgen.config.base import ROOT
from memgen.errors import ArtifactError, InapplicableError, ParameterError, StudyError
from memgen.phases import FIGURES
from memgen.pipeline.notebook import Lab, open_lab
from memgen.pipeline.parameters_cell import assigned
from memgen.presets import stage_parameters
from memgen.stages import LABS, PARAMETER_CLASSES
from memgen.store.artifacts import RESULT, Result, read_manifest
from memgen.store.folders import base_folder, run_folder

STAGE = "01_dataset_design"


@pytest.fixture
def namespace(tmp_path) -> dict:
    """What a notebook's globals hold after its parameters cell."""
    return {
        "__name__": "__main__",
        "json": json,
        "open_lab": open_lab,
        "task": "inference",
        "seed": 0,
        "preset": "smoke",
        "runs": str(tmp_path),
        "n_keys": None,
    }


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    """IPython's real shell, as a notebook has it."""
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def run_all(shell: InteractiveShell, *cells: str) -> Any:
    """Run cells one after the other, and then the one that opens lab 01; the lab, or what it raised."""
    opening = f"from memgen.pipeline.notebook import open_lab\nlab = open_lab({STAGE!r}, globals())"
    for cell in [*cells, opening]:
        done = shell.run_cell(cell, store_history=True)
    return shell.user_ns["lab"] if done.success else done.error_in_exec


def own_cell(tmp_path, **given) -> str:
    """A parameters cell: every parameter of lab 01, most of them None."""
    values = dict.fromkeys(LABS[STAGE].parameters.model_fields)
    values |= {"task": "inference", "seed": 0, "preset": "smoke", "runs": str(tmp_path)} | given
    return "\n".join(f"{name} = {value!r}  # a meaning" for name, value in values.items())


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
def test_a_name_that_the_stage_does_not_take_is_named(shell, tmp_path, name, value):
    wrong = f"^{name!r} is not a parameter of {STAGE}.*n_keys"
    for cells in (
        [own_cell(tmp_path, **{name: value})],
        [own_cell(tmp_path), f"# Parameters\n{name} = {value!r}\n"],  # as papermill adds it
        [f"{name} = 0", own_cell(tmp_path, **{name: value})],  # the name was there before
    ):
        refused = run_all(shell, *cells)
        assert isinstance(refused, ParameterError) and re.match(wrong, str(refused))
    assert run_all(shell, own_cell(tmp_path)).parameters.n_keys == 16  # mended, and run again


def test_figures_are_counted_for_the_lab_that_was_run_last(shell, tmp_path):
    """*Run All* with another seed: what is drawn from then on is not the first seed's."""
    labs = []
    for seed in (0, 1):
        labs.append(run_all(shell, own_cell(tmp_path, seed=seed)))
        labs[-1].keep(computing(labs[-1]))
    before = [read_manifest(lab.stage.folder)["cpu_by_phase"] for lab in labs]
    shell.run_cell("sum(i * i for i in range(1_000_000))")
    after = [read_manifest(lab.stage.folder)["cpu_by_phase"] for lab in labs]
    assert after[0] == before[0] and after[1].get(FIGURES, 0) > before[1].get(FIGURES, 0)


PLANTED = "seed = 42; n_keys = 5; n_kyes = 6; task = 'cipher-tagged'; lab = numerics = 'x'"


def test_only_the_cells_with_parameters_count(shell, tmp_path):
    """Neither what a startup file left, nor other cells; the later of two cells wins."""
    shell.ex(PLANTED)
    assert run_all(shell, own_cell(tmp_path, seed=6)).parameters.seed == 6
    injected = "# Parameters\nseed = 7\nn_keys = 9\n"
    found = run_all(shell, own_cell(tmp_path), "n_kyes = 3", injected, "other = [1]").parameters
    assert (found.task, found.seed, found.n_keys) == ("inference", 7, 9)


def test_a_planted_name_whose_line_was_removed_is_not_taken(shell, tmp_path):
    shell.ex(PLANTED)
    cell = own_cell(tmp_path).replace("n_keys = None", "").replace("seed = 0", "_aside = 3")
    found = run_all(shell, cell).parameters
    assert (found.seed, found.n_keys) == (0, 16)


def test_run_all_twice_and_an_edited_cell(shell, tmp_path):
    cells = ["import numpy as np", own_cell(tmp_path, seed=3)]
    for _ in range(2):
        assert run_all(shell, *cells).parameters.seed == 3
    edited = own_cell(tmp_path, seed=4, n_keys=12)
    assert run_all(shell, cells[0], edited).parameters.n_keys == 12
    assert run_all(shell).parameters.seed == 4  # only the cell that opens the lab
    assert run_all(shell, "seed = 2 + 3").parameters.seed == 5  # a cell of the user's
    assert run_all(shell, edited).parameters.seed == 4
    assert run_all(shell, "broken = (").parameters.n_keys == 12


def test_without_a_cell_with_parameters_the_lab_does_not_open(shell):
    shell.ex(PLANTED)
    refused = run_all(shell, "import json")
    assert isinstance(refused, ParameterError) and "run the cell with the parameters" in str(
        refused
    )


@pytest.mark.parametrize("lab", LABS)
def test_no_other_cell_of_a_lab_assigns_a_parameter(lab):
    """It would count as one when the lab is opened again."""
    cells = json.loads((ROOT / "notebooks" / f"{lab}.ipynb").read_text("utf8"))["cells"]
    known = LABS[lab].parameters.model_fields
    for cell in cells:
        if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", []):
            assert not assigned(["".join(cell["source"])], known)


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


@pytest.mark.parametrize("cls", [StudyError, ParameterError, ArtifactError, InapplicableError])
def test_errors_print_one_line_in_a_notebook(cls):
    lines = cls("n_layer=0 is too small")._render_traceback_()
    assert lines == [f"{cls.__name__}: n_layer=0 is too small"]


def test_a_notebook_shows_the_message_without_a_traceback(capsys):
    """With the real shell of IPython."""
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
        page = html.unescape(lab.show_parameters()._repr_html_())
        for parameter, field in PARAMETER_CLASSES[name].model_fields.items():
            assert parameter == "runs" or (
                f">{parameter}<" in page and f">{field.description}<" in page
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
