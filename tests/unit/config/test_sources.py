"""Stray files beside the sources change nothing: no plan, no preset, no fingerprint, no package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from memgen.config.sources import own_files, strays
from memgen.pipeline.sweep import ended_runs
from running import ROOT
from strays import plant_strays

ASKED = """
from memgen.errors import ParameterError
from memgen.pipeline.plan import Plan
from memgen.presets import preset_path
from memgen.store.fingerprint import code_fingerprint
plan = Plan(preset="smoke", tasks=["inference"], seeds=[0])
print(code_fingerprint("labs.training", "training.dual", "store.reader"))
print(plan.targets(), plan.sources("06_intervention"))
try:
    preset_path("nonsense")
except ParameterError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """What a plan needs of the repository."""
    house = tmp_path_factory.mktemp("strays")
    for name in ("src", "notebooks"):
        shutil.copytree(ROOT / name, house / name, ignore=shutil.ignore_patterns("__pycache__"))
    return house


def asked(house: Path, code: str = ASKED) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(house / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_strays_change_neither_plan_nor_fingerprint_nor_package(house):
    found = "from setuptools import find_packages; print(sorted(find_packages('{}')))"
    package = found.format(house / "src")
    before = asked(house), asked(house, package)
    for folder in ("src/memgen", "src/memgen/labs", "src/memgen/training", "src"):
        plant_strays(house / folder, "training.py")
    for folder in ("notebooks", "notebooks/presets", "notebooks/exercises"):
        plant_strays(house / folder, "laptop.yaml")
        plant_strays(house / folder, "06_intervention.ipynb")
    assert asked(house, package) == before[1]
    (house / "src/memgen/labs/round").symlink_to(house / "src/memgen")  # a link in a circle
    assert asked(house) == before[0]


def test_own_files_are_files_of_somebodys_work(tmp_path):
    kept = tmp_path / ".hidden" / "book"  # where the folder itself lies does not matter
    kept.mkdir(parents=True)
    (kept / "page.md").touch()
    (kept / "linked.md").symlink_to(kept / "page.md")
    plant_strays(kept, "page.md")
    assert [path.name for path in own_files(kept, "**/*")] == ["linked.md", "page.md"]
    names = sorted(path.name for path in kept.iterdir())
    assert set(names) - set(strays(str(kept), names)) == {"linked.md", "page.md"}


def test_copies_of_a_run_are_no_runs_of_their_own(tmp_path):
    for name in ("seed3", "seed3 copy", "seed3-retrain1", "seed.old", "seed"):
        stage = tmp_path / "inference" / name / "02_training"
        stage.mkdir(parents=True)
        (stage / "result.json").write_text("{}")
    assert [seed for seed, _ in ended_runs(tmp_path, "inference", "02_training")] == [3]
