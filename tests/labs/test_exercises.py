"""Every exercise on the smoke run: the solution passes its checks in time, and the notebook with
gaps does not pass one.

The code cells run in one namespace, in a process of their own that is forked from one that has
imported torch; one notebook goes through papermill and a kernel, as a student runs it.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import nbformat
import pytest

from exercise_form import Outcome, execute
from press import exercises
from press.exercises import student
from running import ROOT

TASK = "arithmetic-tagged"
PRELOADED = [
    "exercise_form",
    "memgen.pipeline.exercise",
    "matplotlib.pyplot",
    "scipy.stats",
    "sklearn",
]
STAGES = [path.stem for path in exercises.sources()]
#: another task than the notebooks name, on other chapters than the first
OTHERS = {
    "inference": ("03_pairs", "05_prediction", "06_intervention"),
    "cipher-matched": ("04_differentiation", "09_confounds"),
}
LIMIT = 30  # seconds


def attempt(stage: str, gaps: bool, task: str, runs: str) -> list[Outcome]:
    """Run one notebook to its end; in a process of its own."""
    source = exercises.read_notebook(exercises.find(stage))
    return execute(
        student(source) if gaps else source,
        {"task": task, "seed": 0, "preset": "smoke", "runs": runs},
        keep_going=True,
    )


@pytest.fixture(scope="module")
def outcomes(smoke) -> dict:
    """`(stage, with gaps, task) -> outcomes` of every notebook, two at a time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    wanted = [(stage, gaps, TASK) for stage in STAGES for gaps in (False, True)] + [
        (stage, False, task) for task, stages in OTHERS.items() for stage in stages
    ]
    with ProcessPoolExecutor(2, mp_context=context, max_tasks_per_child=1) as pool:
        running = {one: pool.submit(attempt, *one, str(smoke)) for one in wanted}
        return {one: future.result() for one, future in running.items()}


@pytest.mark.parametrize("stage", STAGES)
def test_solutions_pass_their_checks_in_time(outcomes, stage):
    for (name, gaps, task), cells in outcomes.items():
        if name == stage and not gaps:
            assert [(cell.cell, cell.kind, cell.message) for cell in cells if cell.kind] == [], task
            assert sum(cell.seconds for cell in cells) < LIMIT, task


@pytest.mark.parametrize("stage", STAGES)
def test_no_check_passes_on_a_gap(outcomes, stage):
    """Every check says why, and nothing else stops a student before the first of them."""
    cells = outcomes[stage, True, TASK]
    checks = [cell for cell in cells if cell.tag == "check"]
    assert (
        checks
        and [
            cell.cell
            for cell in checks
            if cell.kind not in ("AssertionError", "NameError") or not cell.message
        ]
        == []
    ), checks
    first = next(cell for cell in cells if cell.kind)
    assert first.tag == "check", first


def test_the_processes_see_an_error(tmp_path):
    """What the tests above rely on: a run that is not there ends every notebook with a sentence."""
    cell = next(
        cell for cell in attempt("01_dataset_design", False, TASK, str(tmp_path)) if cell.kind
    )
    assert cell.kind == "ArtifactError" and "make labs" in cell.message


def test_a_student_runs_it_with_papermill(smoke, tmp_path):
    """The command on the page: the solutions run through, the notebook with gaps ends at its first
    check with the check's own words.
    """
    source = exercises.read_notebook(exercises.find("04_differentiation"))
    running = {}
    for name, notebook in (("solved", source), ("gaps", student(source))):
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(notebook, path)
        command = [
            sys.executable,
            "-m",
            "papermill",
            str(path),
            str(tmp_path / f"{name}-out.ipynb"),
            "--cwd",
            ".",
            "--no-progress-bar",
            "-p",
            "task",
            TASK,
            "-p",
            "seed",
            "0",
            "-p",
            "preset",
            "smoke",
            "-p",
            "runs",
            str(smoke),
        ]
        running[name] = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
    said = {name: process.communicate(timeout=300)[1] for name, process in running.items()}
    assert running["solved"].returncode == 0, said["solved"][-2000:]
    assert running["gaps"].returncode != 0 and (
        "AssertionError: " in said["gaps"] or "NameError: " in said["gaps"]
    )
