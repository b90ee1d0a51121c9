"""The page Environment: where the seconds of a run went, also of a run that did not count phases."""

from __future__ import annotations

import json

import pytest
from fake_run import make_run

from memgen.store.artifacts import MANIFEST
from memgen.store.files import write_sealed
from press.machine import profile
from press.run import Run

PAGE = "environment.md"
SPENT = {"process start": 5.0, "training": 60.0, "evaluation": 20.0, "figures": 15.0}


def plant(folder, spent: dict) -> None:
    """Write into a stage's manifest what its seconds went to; one is made where there is none."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text()) if path.is_file() else {"parameters": {}, "outputs": {}}
    folder.mkdir(parents=True, exist_ok=True)
    write_sealed(path, manifest | {"cpu_by_phase": spent})


@pytest.fixture
def home(tmp_path, notebook):
    """Two tracks; one training counted its phases, and so did a retrain and the base of the adapters."""
    for track in ("scratch", "lora"):
        folder = make_run(tmp_path / "runs", ["inference"], [0], notebook, track=track)
    plant(folder / "inference" / "seed0" / "02_training", SPENT)
    adapted = folder / "lora" / "inference" / "seed0" / "02_training" / MANIFEST
    manifest = json.loads(adapted.read_text())
    manifest["parameters"] |= {"base_steps": 500}
    adapted.write_text(json.dumps(manifest))
    plant(folder / "inference" / "seed0-retrain1" / "02_training", {"training": 7.0})
    plant(folder / "shared-base-llama" / "seed0" / "00_base", {"training": 300.0})
    plant(folder / "shared-base-llama" / "seed9" / "00_base", {"training": 10_000.0})  # nobody's
    return folder


def test_the_page_shows_seconds_by_phase(home, rendered, tmp_path):
    page = rendered(home, "scratch", "lora", only={PAGE})[PAGE].replace("\u00a0", " ")
    heads = "process start | training | evaluation | figures | not recorded"
    assert f"| lab | processor | {heads} |\n|---|---|---|---|---|---|---|\n| 00_base |" in page
    rows = {line.split(" | ")[0]: line for line in page.split("## Time by phase")[1].splitlines()}
    assert rows["| 00_base"] == "| 00_base | 5 min 00 s |  | 100 % |  |  |  |"
    # 100 and 7 seconds that were counted, 11.2 of the adapter's training that were not
    assert rows["| 02_training"] == "| 02_training | 118 s | 4 % | 57 % | 17 % | 13 % | 9 % |"
    assert rows["| 03_pairs"] == "| 03_pairs | 22 s |  |  |  |  | 100 % |"
    assert "took 5 % of what training took with them" in page  # 20 of 387
    assert ":alt: Bars of CPU seconds by lab and phase. scratch, 01_dataset_design" in page
    assert (tmp_path / "source" / "figures" / "profile.png").stat().st_size > 10_000


def test_a_run_of_before_has_its_page_and_no_table(run, rendered, tmp_path):
    page = rendered(run, only={PAGE})[PAGE]
    assert "Not recorded: these labs were run before" in page
    assert "figures/profile.png" not in page and "process start" not in page
    (tmp_path / "figures").mkdir()
    assert not profile(Run(run), tmp_path).recorded
