"""Prose pages of a made-up run: their numbers, their references, one track or two."""

from __future__ import annotations

import itertools
import json
import re
import shutil

import pandas as pd
import pytest
from fake_run import make_run, stage

from memgen.claims.catalogue import CLAIMS
from memgen.config.base import ROOT
from memgen.pipeline.rivals import CARRIED, RESULTS, by_path, table_of
from memgen.stages import LABS
from memgen.tasks import TASK_NAMES
from memgen.terms import TRACKS
from planted_board import correlates, multiverse
from press import build, parameters
from press.errors import BookError
from press.numbers import Numbers, decimal
from press.origin import bare
from press.run import Run

#: what the scoreboard's rows say beside their rates
BEHIND = {"n": 30, "n_keys": 10, "candidates": 50, "free_lost": 0.01, "number": 1, "seconds": 7.0}


def test_numbers_come_from_the_results(run, root, tmp_path):
    template = (
        "{{ mean('inference', '06_intervention', 'm2g.success') }} {{ mean('inference',"
        " '05_prediction', 'auc.max') }}"
    )
    (root / "book" / "intro.md").write_text(template)
    first, second = bare((stage(run, root, tmp_path / "out") / "intro.md").read_text()).split()
    result = json.loads((run / "inference/seed0/06_intervention/result.json").read_text())
    assert float(first) == result["m2g"]["success"]
    assert float(second) == max(
        json.loads((run / "inference/seed0/05_prediction/result.json").read_text())["auc"][1:]
    )


def test_citations_are_those_of_the_repository(run, root, tmp_path):
    text = (stage(run, root, tmp_path / "out") / "cite.md").read_text()
    assert (
        "author = {{the contributors of Think or Remember}}" in text
        and "note   = {Version 0.1.0}" in text
        and "year   = {2026}" in text
    )
    assert text.count("arXiv:2412.18497") == 2 and "keywords" not in text
    (root / "book" / "cite.md").write_text("{{ bibtex('nobody2020') }}")
    with pytest.raises(BookError, match="no entry 'nobody2020'"):
        stage(run, root, tmp_path / "out")


def test_the_page_of_parameters_names_tasks_tracks_and_presets(run, root, tmp_path):
    text = (stage(run, root, tmp_path / "out") / "parameters.md").read_text()
    assert "| `lora_rank` | rank of the adapters | whole number, at least 1 | `16` |" in text
    for name in (*TASK_NAMES, *TRACKS, "smoke", "laptop", "paper", "scale"):
        assert f"| `{name}` |" in text, name
    assert all(task["meaning"].endswith(".") for task in parameters.choices_reference()["tasks"])
    assert "`matrix_lr=0.004`" in text


def test_the_page_of_the_cluster_says_what_was_seen_there_and_nothing_where_nothing_was(
    run, root, tmp_path
):
    text = (stage(run, root, tmp_path / "without") / "cluster.md").read_text()
    assert "PROFILE=slurm" in text and "This was tried" not in text
    step = {"step": "a node vanishes", "status": 1, "jobs_left": 2, "holds": False}
    seen = {"slurm": "22.5", "nodes": ["a", "b"], "date": "2026-11-26", "results": 9}
    (root / "tests" / "cluster").mkdir(parents=True)
    outcome = root / "tests" / "cluster" / "outcome.json"
    outcome.write_text(json.dumps(seen | {"different": ["smoke/one"], "steps": [step]}))
    text = (stage(run, root, tmp_path / "with") / "cluster.md").read_text()
    assert "Slurm 22.5 of 2 nodes" in text and "1 of 9 results differed" in text
    assert "| a node vanishes | 1 | 2 | no |" in text
    outcome.write_text(json.dumps(seen | {"different": [], "steps": []}))
    text = (stage(run, root, tmp_path / "equal") / "cluster.md").read_text()
    assert "all 9 results equal" in text


@pytest.fixture
def two_tracks(run, tmp_path, notebook):
    make_run(tmp_path / "runs", ["inference"], [0], notebook, track="lora")
    return Run(run, tracks=["scratch", "lora"])


def test_both_tracks_have_their_labs_side_by_side(two_tracks, root, tmp_path):
    out = tmp_path / "source"
    build.stage(two_tracks, root, out)
    for name in ("inference-seed0", "lora-inference-seed0"):
        assert (out / "labs" / "06_intervention" / f"{name}.ipynb").is_file()
    toc = (out / "_toc.yml").read_text()
    assert "Lab: inference" in toc and "Lab, lora: inference" in toc
    bar = json.loads((out / "labs" / "06_intervention" / "lora-inference-seed0.ipynb").read_text())[
        "cells"
    ][1]["source"]
    assert (
        "**The same lab**, track [scratch](inference-seed0.ipynb) · **lora**" in bar
        and "--track lora" in bar
    )


def test_the_page_of_the_adapters_shows_the_track_or_says_how_to_get_it(
    two_tracks, run, root, tmp_path
):
    build.stage(two_tracks, root, tmp_path / "with")
    text = (tmp_path / "with" / "adapters.md").read_text()
    assert (
        "One llama model with 0.82 million parameters" in text
        and "97.0\u00a0%" in text
        and "| inference | m2g |" in text
    )
    stage(run, root, tmp_path / "without")
    assert 'TRACKS="scratch lora"' in (tmp_path / "without" / "adapters.md").read_text()


def test_a_book_of_adapters_alone_can_be_staged(two_tracks, run, root, tmp_path):
    """The evidence labs question the models from scratch: their chapters say so where there are
    none.
    """
    build.stage(Run(run, tracks=["lora"]), root, tmp_path / "out")
    for name in (
        "09_confounds",
        "10_ablations",
        "11_open_points",
        "12_patching",
        "13_scoreboard",
        "14_detection",
        "15_correlates",
        "16_multiverse",
    ):
        text = (tmp_path / "out" / "chapters" / f"{name}.md").read_text()
        assert "TRACKS=scratch" in text and not (tmp_path / "out" / "labs" / name).exists()


def test_the_ledger_shows_every_claim_of_every_track(two_tracks, root, tmp_path):
    build.stage(two_tracks, root, tmp_path / "out")
    text = bare((tmp_path / "out" / "ledger.md").read_text())
    said = {claim.id: claim for claim in CLAIMS}
    supported, untested = (said[name].text for name in ("steer_m2g.random", "retrain"))
    for track in ("scratch", "lora"):
        way = f"claim-{track}-steer-m2g-random"
        line = f"| [{said['steer_m2g.random'].name}](#{way}) | {{bdg-success}}`supported` | ✓\u00a0for |"
        assert text.count(line) == 1 and text.count(f":name: {way}\n") == 1
    assert untested not in text and text.count(f"{{dropdown}} {supported}\n:name: ") == 2
    assert "1 · 0 · 0. On the task that is hardest on it: 0.30 (0.10 to" in text
    assert "| inference | 0.30 | 0.10 to 0.50 | 0.25 | 200 | 40 | 3 | {bdg-success}" in text
    assert "This run has none of them" in text and "\\*" not in text  # no seed that was seen
    assert "| rate | 0.50 | 0.4 | 0.8 | 94.6\u00a0% |" in text
    n = len(CLAIMS) - 1
    limits = int(re.search(r"Its (\d+) tests of a limit", text)[1])
    assert 0 < limits < n and f"This ledger makes {n - limits} tests of a difference" in text
    assert len(json.loads((tmp_path / "out" / "claims.json").read_text())) == 2 * len(CLAIMS)
    home = " ".join(bare((tmp_path / "out" / "index.md").read_text()).split())
    assert (
        f"Of {n} claims that this run can test, 1 is supported on every task, {n - 1} are"
        " contradicted on every task, 0 are reversed, and 0 are open or differ between tasks."
        in home
    )


def test_the_scale_sweep_is_shown_or_said_to_be_missing(run, root, tmp_path):
    folder = root / "data" / "reference" / "scale"
    if folder.exists():
        shutil.rmtree(folder)
    stage(run, root, tmp_path / "without")
    assert "Not run yet. `make scale`" in (tmp_path / "without" / "scale.md").read_text()
    folder.mkdir()
    committed = ROOT / "data" / "reference" / "scale"
    table = pd.read_csv(committed / "results.csv").query("width == 64 and depth == 4")
    rates = dict.fromkeys(table.columns.difference(["width", "depth", "task", "seed"]))
    table = table.assign(**rates | {"passed": False})
    tagged = {"passed": True, "n_parameters": 200000, "max_abs_rho": 0.5, "auc": 0.9}
    tagged |= {"memory": 0.4, "rule": 0.3, "forecast_auc": 0.7, "cpu_seconds": 120}
    tagged |= {"m2g": 0.8, "m2g_n": 100, "m2g_control": 0.2, "m2g_most": 0.85, "m2g_kept": True}
    tagged |= {"g2m": 0.0, "g2m_n": 90, "g2m_control": 0.1, "g2m_most": 0.6, "g2m_kept": False}
    tagged |= {"m2g_forbidden": 0.75, "m2g_free": 0.95, "m2g_free_within": 0.94}
    tagged |= {"m2g_free_most": 0.5, "g2m_forbidden": 0.65, "g2m_free": 0.95, "g2m_free_most": 0.3}
    first = table.index[table.task == "arithmetic-tagged"][0]
    table = table.astype(object)
    table.loc[first, list(tagged)] = list(tagged.values())
    table.to_csv(folder / "results.csv", index=False)
    shutil.copy(committed / "about.json", folder)
    stage(run, root, tmp_path / "with")
    text = (tmp_path / "with" / "scale.md").read_text().replace("\u00a0", " ")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if "| 64 × 4 |" in line
    ]
    assert rows == [
        ["tagged", "64 × 4", "0.20", "1 of 2", "40 %", "30 %", "0.50", "0.90", "0.70", "2"],
        ["matched", "64 × 4", "", "0 of 2", *["n/a"] * 5, ""],
        [
            *("tagged", "64 × 4", "m2g", "1 of 1", "80 %", "85 %"),
            "95 %, 94 %, 50 %",
            "20 %",
            "75 %",
            "100",
        ],
        [
            *("tagged", "64 × 4", "g2m", "0 of 1", "0 %", "60 %"),
            "95 %, n/a, 30 %",
            "10 %",
            "65 %",
            "90",
        ],
    ]
    assert "no run passed the gate" in text
    assert (tmp_path / "with" / "figures" / "scale.png").is_file()
    assert "have not been run yet (width × depth): 128 × 2, 128 × 4" in text


def test_negative_numbers_are_written_to_be_read(run):
    assert (
        decimal(-0.123) == "−0.12"
        and decimal(-0.001) == "0.00"
        and decimal(1234.5, 1) == "1\u00a0234.5"
    )
    numbers = Numbers(Run(run))
    numbers.values = lambda *_: [-0.02, 0.04]
    assert numbers.cell("inference", "04_differentiation", "any", 2) == "0.01 (−0.02 to 0.04)"
    numbers.values = lambda *_: [0.02, 0.04]
    assert (
        numbers.cell("inference", "04_differentiation", "any", 2) == "0.03 (0.02\u2060–\u20600.04)"
    )


def test_the_parameter_reference_is_what_the_classes_check():
    found = parameters.parameter_reference()
    assert {stage: [p["name"] for p in rows] for stage, rows in found.items()} == {
        stage: list(row.parameters.model_fields) for stage, row in LABS.items()
    }
    of = {p["name"]: p for p in found["06_intervention"]}
    assert (
        of["site"]["values"] == "`resid_post`, `mlp_out`, `ln_2`"
        and of["site"]["default"] == '"resid_post"'
    )
    assert (
        of["top_ns"]["values"] == "list, not empty; each: number, above 0, at most 1"
        and of["seed"]["values"] == "whole number, at least 0, at most 4,294,967,295"
    )
    assert of["task"]["default"] == "" and all(
        p["meaning"] for rows in found.values() for p in rows
    )


def test_the_outcomes_of_all_seeds_stand_at_the_end_of_both_chapters(run, root, tmp_path):
    """Of labs that a study runs for its first seed alone; verdicts are made of the committed numbers."""
    folder = root / "data" / "reference" / "rivals"
    shutil.rmtree(folder, ignore_errors=True)
    names = ("15_correlates", "16_multiverse")
    pages = [f"chapters/{name}.md" for name in names]
    before = stage(run, root, tmp_path / "without")
    for page in pages:
        text = bare((before / page).read_text())
        assert "stay open where one seed was asked" in text
    folder.mkdir()
    about = {"command": "make rivals", "machine": {"cores": 2, "processor": "a laptop"}}
    (folder / "about.json").write_text(json.dumps(about))
    of = {
        names[0]: lambda k: correlates(difference=0.1 + k / 100),
        names[1]: lambda k: multiverse(),
    }
    for name, made in of.items():
        rows = [
            {"track": "scratch", "task": "inference", "seed": k} | dict(by_path(made(k)))
            for k in range(3)
        ]
        pd.DataFrame(rows).to_csv(folder / table_of(name), index=False)
    variants = ["cipher-tagged", "cipher-matched", "inference"]
    methods = ["difference", "probe", "held", "optimised", "random"]
    carried = [
        {"source": one, "target": other, "direction": d, "method": method, "n": 9, "seed": 0}
        | {"success": 0.61 if one == other else 0.37, "shared_base": one[:3] == other[:3]}
        for one, other in itertools.product(variants, variants)
        for d in ("m2g", "g2m")
        for method in methods
    ]
    pd.DataFrame(carried).to_csv(folder / CARRIED, index=False)
    steers = {"track": "scratch", "task": "inference", "method": "dms", "kind": "steering"}
    board = [
        steers | {"title": "DMS", "seed": 0, "choice": "kept", "direction": d, "success": 0.5}
        for d in ("m2g", "g2m")
    ]
    pd.DataFrame(board).assign(**BEHIND).to_csv(folder / RESULTS, index=False)
    after = stage(run, root, tmp_path / "with")
    first, second = (
        bare((after / page).read_text()).partition("## Over all seeds")[2] for page in pages
    )
    assert "3 seeds of 1 task with `make rivals` on 2 cores of a laptop" in first
    assert "| inference | m2g | 0.11 (0.10\u2060–\u20600.12) | 0.90 |" in first.replace(
        "\u00a0", " "
    )
    assert first.count("{bdg-primary}`yes`") == 2  # of both claims
    whole = bare((after / pages[0]).read_text()).replace("\u00a0", " ")
    assert whole.count("| 61 % / 37 % " * 5) == 4  # two variants, both directions
    assert "## On a model of another task" in whole and "| DMS | n/a |" in second
    assert second.count("{bdg-primary}`yes`") == 2 and "point one way: not tested" in second


def test_the_whole_scoreboard_stands_beside_that_of_the_labs_once_it_was_run(run, root, tmp_path):
    folder = root / "data" / "reference" / "rivals"
    shutil.rmtree(folder, ignore_errors=True)
    page = "chapters/13_scoreboard.md"
    before = (stage(run, root, tmp_path / "without") / page).read_text()
    assert "## All methods" not in before and "at home" not in before
    assert before.count(":::{dropdown}") >= 2  # what it costs, folded, by direction and kind
    folder.mkdir()
    rows = [
        {"track": "scratch", "task": "inference", "seed": 26, "method": name, "title": title}
        | {"kind": kind, "direction": d, "choice": "kept", "success": success}
        for name, title, kind, d, success in (
            ("nmd", "NMD", "steering", "m2g", 0.321),
            ("nmd", "NMD", "steering", "g2m", 0.654),
            ("svd", "SVD truncation", "editing", "m2g", 0.987),
        )
    ]
    pd.DataFrame(rows).assign(**BEHIND).to_csv(folder / "results.csv", index=False)
    about = {"command": "make rivals", "machine": {"cores": 2, "processor": "a laptop"}}
    (folder / "about.json").write_text(json.dumps(about))
    home = [
        {"seed": 0, "order": order, "cut": 0.5, "unseen_right": 0.77, "wrong_as_taught": 0.11}
        | {"wrong_put_right": 0.5}
        for order in ("lowest first", "highest first", "random")
    ]
    pd.DataFrame(home).to_csv(folder / "modular_addition.csv", index=False)
    after = bare((stage(run, root, tmp_path / "with") / page).read_text())
    (both, edits) = (
        [line for line in after.splitlines() if line.startswith(f"| {title} |")]
        for title in ("NMD", "SVD truncation")
    )
    assert [one.split("|")[2].split("(")[0].split() for one in both] == [["32", "%"], ["65", "%"]]
    assert len(edits) == 1 and "99" in edits[0]
    assert after.index("all methods: what edits") < after.index(edits[0])
    assert "2 cores of a laptop" in after and after.count("77") >= 3
