"""Where the CPU seconds of a study went: tables and figure from planted manifests, old ones as well."""

from __future__ import annotations

import pytest

from memgen.errors import ArtifactError
from memgen.figures.profile import LOOKS, by_phase
from memgen.phases import NOT_RECORDED, PHASES
from memgen.pipeline import profile
from memgen.pipeline.cli import main
from memgen.store.artifacts import MANIFEST
from memgen.store.files import write_json, write_sealed
from memgen.store.reader import finished_stages

TRAINING = {"process start": 10.0, "training": 60.0, "evaluation": 20.0, "other": 5.0}


@pytest.fixture
def runs(tmp_path):
    """Two trainings, a base of each kind, one lab of the time before phases, one of before seconds."""
    home = tmp_path / "runs" / "smoke"
    for folder, manifest in {
        "inference/seed0/02_training": {"track": "scratch", "cpu_by_phase": TRAINING},
        "lora/inference/seed0/02_training": {"track": "lora", "cpu_by_phase": TRAINING},
        "inference-base/seed0/00_base": {
            "track": "scratch",
            "cpu_by_phase": {"training": 900.0, "evaluation": 100.0},
        },
        "shared-base-llama/seed23/00_base": {
            "track": "scratch",  # a shared base is made on none
            "cpu_by_phase": {"training": 40.0},
        },
    }.items():
        (home / folder).mkdir(parents=True)
        write_sealed(home / folder / MANIFEST, {"parameters": {}, "outputs": {}, **manifest})
    for folder, manifest in {
        "inference/seed0/06_intervention": {"cpu_seconds": 30.0},
        "inference/seed1/06_intervention": {},
    }.items():
        (home / folder).mkdir(parents=True)
        write_json(home / folder / MANIFEST, {"parameters": {}, "outputs": {}, **manifest})
    (home / "inference" / "seed0" / "06_intervention.partial").mkdir()
    return tmp_path / "runs"


def test_seconds_are_added_up_by_lab_track_and_phase(runs):
    table = profile.profile_of(finished_stages(runs / "smoke"))
    tracks = profile.by_lab(table)
    assert list(tracks.index) == ["00_base", "02_training", "06_intervention"]
    assert tracks.to_dict("index") == {
        "00_base": {"scratch": 1000.0, "lora": 0.0, "shared base": 40.0},
        "02_training": {"scratch": 95.0, "lora": 95.0, "shared base": 0.0},
        "06_intervention": {"scratch": 30.0, "lora": 0.0, "shared base": 0.0},
    }
    phases = profile.by_lab_and_phase(table)
    assert list(phases.columns) == [*TRAINING, NOT_RECORDED]
    assert phases.loc["02_training"].to_list() == [20.0, 120.0, 40.0, 10.0, 0.0]
    assert phases.loc["06_intervention"].to_list() == [0.0, 0.0, 0.0, 0.0, 30.0]
    # 40 of 160 in labs 02 and 100 of 1040 in bases
    assert profile.evaluation_share(table) == pytest.approx(140 / 1200)


def test_the_command_prints_two_tables_and_draws(runs, capsys):
    assert main(["profile", "--preset", "smoke", "--runs", str(runs)]) == 0
    said = capsys.readouterr().out.splitlines()
    cells = [line.replace(" %", "%").split() for line in said]
    assert ["02_training", "2", "95.0", "95.0", "-", "190.0", "15%"] in cells
    assert ["06_intervention", "2", "30.0", "-", "-", "30.0", "2%"] in cells
    assert ["all", "6", "1,125.0", "95.0", "40.0", "1,260.0", "100%"] in cells
    assert ["02_training", "11%", "63%", "21%", "5%", "-"] in cells
    assert ["06_intervention", "-", "-", "-", "-", "100%"] in cells
    assert "looks at the model in training: 11.7 %" in said
    assert (runs / "smoke" / "profile.png").stat().st_size > 10_000
    assert len({len(line) for line in said[:5]}) == 1  # columns stand below each other


def test_a_run_of_before_is_not_recorded_and_no_failure(runs, capsys, tmp_path):
    for folder in ("lora", "inference-base", "shared-base-llama", "inference/seed0/02_training"):
        for path in (runs / "smoke" / folder).rglob(MANIFEST):
            path.unlink()
    plot = tmp_path / "drawn.png"
    command = ["profile", "--preset", "smoke", "--runs", str(runs), "--plot", str(plot)]
    assert main(command) == 0 and plot.is_file()
    said = capsys.readouterr().out
    assert "looks at the model in training: not recorded" in said
    assert ["by", "phase", "not", "recorded"] in [line.split() for line in said.splitlines()]


def test_an_empty_folder_and_a_damaged_manifest_are_named(runs, capsys):
    assert main(["profile", "--preset", "nowhere", "--runs", str(runs)]) == 1
    assert "nowhere holds no finished stage; run the study first" in capsys.readouterr().err
    path = runs / "smoke" / "inference" / "seed0" / "02_training" / MANIFEST
    path.write_text(path.read_text().replace("60.0", "6.0"))
    with pytest.raises(ArtifactError, match="02_training.*was altered"):
        profile.show("smoke", str(runs))


def test_the_figure_says_what_it_shows_and_tells_every_phase_apart(runs):
    assert set(LOOKS) == {*PHASES, NOT_RECORDED} and len(set(LOOKS.values())) == len(LOOKS)
    table = profile.profile_of(finished_stages(runs / "smoke"))
    drawing = by_phase(table)
    assert [ax.get_title(loc="left") for ax in drawing.figure.axes] == [
        "scratch",
        "lora",
        "shared base",
    ]
    assert "lora, 02_training: 95 (training 60, evaluation 20, process start 10)" in drawing.alt
    assert "scratch, 06_intervention: 30 (not recorded 30)" in drawing.alt
    assert "before phases were counted" in drawing.caption
    assert "looks at the model while it is trained" in drawing.caption
    scratch = drawing.figure.axes[0]
    ends = {round(bar.get_x() + bar.get_width(), 6) for bar in scratch.patches}
    assert {1000.0, 95.0, 30.0} <= ends  # the bars end where the sums are
