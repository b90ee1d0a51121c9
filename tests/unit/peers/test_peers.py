"""Ours beside other libraries: a scenario whose answers differ, engines that agree, a driver that says what
is lacking, environments that are pinned.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from benchmarks.peers import run
from benchmarks.peers.engines import bare, ours, ours_to_the_end, with_hooks
from benchmarks.peers.growth import Growth, measure
from benchmarks.peers.roster import (
    AGAIN,
    BARE,
    CONTENDERS,
    ENVIRONMENTS,
    HOOKS,
    OURS,
    WORKS,
)
from benchmarks.peers.scenario import END, POSITIONS, SIZES, Scenario, make
from running import ROOT

PEERS = ROOT / "tests" / "benchmarks" / "peers"


@pytest.fixture(scope="module")
def scenario(tmp_path_factory) -> Scenario:
    return make(SIZES["smoke"], tmp_path_factory.mktemp("scenario"))


def test_the_planted_answers_are_found_and_depend_on_the_cell(scenario):
    codes = with_hooks.Engine(scenario).sweep("all")
    assert codes.shape == (len(scenario.deltas), len(scenario.swept))
    assert set(codes.unique().tolist()) >= {0, 1} and (codes != codes[0]).any()
    unsteered = replace(scenario, deltas=torch.zeros_like(scenario.deltas[:1]))
    assert (with_hooks.Engine(unsteered).sweep("all") == 0).all()


@pytest.mark.parametrize("positions", POSITIONS)
def test_ours_and_plain_hooks_give_the_same_codes(scenario, positions):
    reference = with_hooks.Engine(scenario).sweep(positions)
    assert torch.equal(ours.Engine(scenario).sweep(positions), reference)
    assert torch.equal(ours_to_the_end.Engine(scenario).sweep(positions), reference)


def test_ours_and_plain_hooks_read_the_same_states(scenario):
    reference = with_hooks.Engine(scenario).capture()
    assert reference.shape == (len(scenario.ids), *scenario.deltas.shape[1:])
    torch.testing.assert_close(ours.Engine(scenario).capture(), reference)


def test_bare_passes_are_those_of_the_rows(scenario):
    """Counted in tokens: the prompt's and the cached ones of every cell and prompt, none for a peer."""
    engine, tokens = bare.Engine(scenario), []
    engine.model.register_forward_pre_hook(
        lambda _, args, kwargs: tokens.append((args or kwargs.values())[0].shape), with_kwargs=True
    )
    assert engine.capture() is None
    assert sum(shape.numel() for shape in tokens) == scenario.ids.numel()
    tokens.clear()
    assert engine.sweep("all") is None
    rows = len(scenario.deltas) * len(scenario.swept)
    assert sum(shape.numel() for shape in tokens) == rows * (
        scenario.swept.shape[1] + scenario.new - 1
    )
    assert max(shape[0] for shape in tokens) == scenario.batch


def test_an_answer_is_judged_up_to_its_end_token(scenario):
    new = scenario.new
    first = torch.tensor([[5] + [END] + [-1] * (new - 2), [6] * new]).clone()
    one = replace(scenario, candidates=first[None].expand(1, 2, new))
    answers = torch.full((3, 1, new), 7)
    answers[0, 0, :2] = torch.tensor([5, END])  # what follows is padding of any kind
    answers[1] = 6
    assert one.codes(answers)[:, 0].tolist() == [0, 1, 2]
    assert one.codes(answers[:1, :, :2])[:, 0].tolist() == [0]  # all rows had ended


def test_differences_from_plain_hooks_are_counted(tmp_path):
    states = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))
    codes = torch.tensor([[0, 1], [2, 2]], dtype=torch.int8)
    other = states.clone()
    other[:, -1] += 9.0  # a last layer that is something else, and one small error
    other[0, 0, 0] += 0.5 * states[:, :-1].std()
    for name, found in (
        ("plain hooks", (states, codes)),
        ("peer", (other, 1 - codes.clamp(max=1))),
    ):
        (tmp_path / name).mkdir()
        for work, value in zip(("capture", "sweep all"), found):
            save_file({"found": value}, tmp_path / name / f"{work}.safetensors")
    kept = {name: tmp_path / name for name in ("plain hooks", "peer")}
    found = run.compared(kept, WORKS, {"plain hooks": None, "peer": -1})
    assert found["plain hooks"]["capture"] == {"largest_difference": 0.0, "layers": 3}
    assert found["peer"]["capture"] == {"largest_difference": pytest.approx(0.5), "layers": 2}
    assert found["peer"]["sweep all"] == {"differ": 4, "n": 4, "codes": [1, 1, 2]}
    assert "sweep decision" not in found["peer"]  # it could not do it
    assert run.compared({"peer": kept["peer"]}, WORKS, {"peer": None}) == {}  # with nothing


def test_the_table_has_medians_and_ratios_within_rounds():
    rows = [
        {"size": "s", "work": "capture", "engine": name, "round": number, "cpu_seconds": seconds}
        | {"wall_seconds": seconds, "peak_bytes": 2**20}
        for number, pair in enumerate([(1.0, 2.0), (2.0, 8.0), (4.0, 12.0)])
        for name, seconds in zip((OURS, "peer"), pair)
    ]
    mine, peer = run.table(rows).splitlines()
    assert "1.00 x ours (1.00 to 1.00)" in mine
    assert "8.000 s CPU" in peer and "3.00 x ours (2.00 to 4.00)" in peer


def test_the_table_sets_ours_beside_bare_passes_and_plain_hooks():
    rows = [
        {"size": "s", "work": "sweep all", "engine": name, "round": number}
        | {"cpu_seconds": seconds, "wall_seconds": seconds, "peak_bytes": 2**20}
        for number in range(3)
        for name, seconds in (
            (OURS, 1.0 + number),
            (BARE, 2.0 + 2 * number),
            (HOOKS, 3.0 + 3 * number),
        )
    ]
    said = (
        "ours takes 0.50 of the bare passes of its rows, and is 3.00 times as fast as plain hooks"
    )
    assert run.table(rows).splitlines()[-1].endswith(said)


def test_the_command_is_that_of_make_unless_something_was_changed():
    assert run.command(["--environments=.venv-peers-"]) == "make bench-peers"
    assert run.command(["--rounds", "5"]) == "python -m benchmarks.peers.run --rounds 5"


@pytest.mark.slow
def test_the_driver_measures_who_is_there_and_says_who_is_not(tmp_path, monkeypatch):
    """Processes of ours and of plain hooks, and a library whose environment was never made."""
    names = [OURS, AGAIN, BARE, HOOKS, "nnsight"]
    words = ["run", "--sizes", "smoke", "--rounds", "2", "--growth", "smoke", "--engines", *names]
    words += ["--environments", str(tmp_path / "none-"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    run.main()
    rows = pd.read_csv(tmp_path / "out" / "results.csv")
    assert len(rows) == 4 * len(WORKS) * 2 and (rows.cpu_seconds > 0).all()
    assert set(rows.engine) == set(names) - {"nnsight"}
    assert set(pd.read_csv(tmp_path / "out" / "growth.csv").axis) == {"prompts", "width"}
    about = json.loads((tmp_path / "out" / "about.json").read_text())
    engines = about["sizes"]["smoke"]["engines"]
    assert engines["nnsight"]["lacks"].startswith("not installed")
    assert engines[BARE]["agreement"] == {} and not engines[BARE]["cannot"]
    for work in WORKS[1:]:
        assert engines[OURS]["agreement"][work]["differ"] == 0
    assert engines[OURS]["agreement"]["capture"]["largest_difference"] < 1e-4
    assert about["limit"]["operations"] == 2 * 64**3 and about["command"].startswith("python -m")


@pytest.mark.slow
def test_a_process_that_fails_says_why(tmp_path, scenario):
    ours_here = CONTENDERS[0]
    lost = run.Process(ours_here._replace(module="nobody"), Path(sys.executable), tmp_path)
    assert "ModuleNotFoundError" in lost.lacks
    lost.close()
    there = run.Process(ours_here, Path(sys.executable), scenario.folder)
    try:
        assert not there.lacks and "ValueError" in there.does("sweep nowhere")["error"]
        assert there.does("sweep all")["cpu_seconds"] > 0  # and it is still at work
    finally:
        there.close()


def test_growth_changes_one_number_of_the_base():
    full = Growth.named("full")
    for axis, values in full.axes.items():
        for value in values:
            size = full.at(axis, value)
            found = {
                "prompts": size.captured,
                "cells": 2 * len(size.alphas) * len(size.top_ns),
                "layers": size.layers,
                "width": size.width,
            }
            assert found[axis] == value
            base = full.at("width", full.base.width)
            assert base == full.base and size.width // size.heads == base.width // base.heads


def test_growth_is_measured_along_every_axis():
    table, limit = measure(Growth.named("smoke"))
    assert set(zip(table.axis, table.value)) == {
        ("prompts", 4),
        ("prompts", 8),
        ("width", 16),
        ("width", 32),
    }
    assert (table.groupby(["axis", "value", "work", "engine"]).size() == 2).all()
    twice = table.groupby(["axis", "work", "engine", "value"]).operations.first().unstack()
    assert (twice[8] / twice[4]).dropna().unique().tolist() == [2.0]  # operations follow prompts
    assert len(limit["seconds"]) == 8


def test_every_environment_is_pinned_with_hashes_and_holds_what_it_asks_for():
    assert {path.stem for path in PEERS.glob("requirements-*.in")} == {
        f"requirements-{name}" for name in ENVIRONMENTS
    }
    makefile = (ROOT / "Makefile").read_text("utf8")
    assert f"PEERS   := {' '.join(ENVIRONMENTS)}\n" in makefile
    for name in ENVIRONMENTS:
        wanted = (PEERS / f"requirements-{name}.in").read_text("utf8").splitlines()
        text = (PEERS / f"requirements-{name}.txt").read_text("utf8")
        entries = re.findall(r"^\w.*\n(?:\s.*\n)*", text, re.M)
        assert all("--hash=sha256:" in entry for entry in entries)
        pinned = {entry.split()[0] for entry in entries}
        assert {line for line in wanted if line[0] != "#"} <= pinned
