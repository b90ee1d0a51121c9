"""The plan: Snakemake orders every lab after what it reads, and its picture of the study is the one in the
book.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from memgen.config.base import ROOT, SEEDS
from memgen.errors import ParameterError
from memgen.pipeline.notebook import Lab
from memgen.pipeline.plan import Plan, urgency
from memgen.pipeline.report import EXPECTED_SECONDS, time_left
from memgen.presets import stage_parameters
from memgen.stages import BASE, LABS, labs_of
from memgen.store.folders import lab_folder, stamp_of, stamp_pattern

SYNTHESIS = "08_synthesis"


def snakemake(*arguments: str) -> str:
    """What `snakemake ...` prints."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- the plan --------------------------------------------------------------------------------------
PLANS = {
    "smoke": Plan(preset="smoke"),
    "laptop": Plan(preset="laptop"),
    "one task, one seed": Plan(preset="smoke", tasks=["inference"], seeds=[4]),
    "adapters as well": Plan(
        preset="smoke",
        tasks=["inference", "cipher-tagged"],
        seeds=[4, 6],
        tracks=["scratch", "lora"],
    ),
    "no base, two retrains": Plan(
        preset="smoke",
        tasks=["cipher-matched", "inference"],
        seeds=[1, 0],
        settings={"base_steps": 0, "n_retrains": 2},
    ),
}
each_plan = pytest.mark.parametrize("name", PLANS)


@dataclass(frozen=True)
class Job:
    """What Snakemake would run, as it says in a dry run."""

    rule: str
    needs: list[str]  # stamps
    sources: list[str]
    command: list[str]

    @property
    def given(self) -> dict:
        """The parameters in its command."""
        words = self.command[self.command.index("memgen.pipeline.cli") + 1 :]
        return json.loads(words[2 if words[0] == "lab" else 1]) | {"runs": words[-1]}


def planned(plan: Plan) -> dict[str, Job]:
    """Every job of a study that has not begun, by its stamp."""
    plan.home.mkdir(parents=True, exist_ok=True)
    settings = plan.home / "study.json"
    settings.write_text(plan.to_json())
    text = snakemake("--configfile", str(settings), "--dry-run", "--printshellcmds")
    found = {}
    for block in re.findall(r"^rule (?!all)(.*?)Shell command: (.*?) > ", text, re.M | re.S):
        said = dict(re.findall(r"^    (\w+): (.*)$", block[0], re.M))
        inputs = said.get("input", "").split(", ")
        found[said["output"]] = Job(
            block[0].partition(":")[0],
            [path for path in inputs if path.endswith(".stamp")],
            [path for path in inputs if not path.endswith(".stamp")],
            shlex.split(block[1]),
        )
    return found


@pytest.fixture(scope="module")
def studies(tmp_path_factory) -> dict[str, tuple[Plan, dict[str, Job]]]:
    """The plans with what Snakemake makes of them, each in a folder of its own."""
    plans = {
        name: replace(plan, runs=str(tmp_path_factory.mktemp("plan") / "a {b} 'c'"))
        for name, plan in PLANS.items()
    }
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(plans, zip(plans.values(), pool.map(planned, plans.values()))))


@pytest.mark.slow
@each_plan
def test_the_plan_has_an_order_that_covers_every_job(studies, name):
    plan, jobs = studies[name]
    assert set(plan.studied) <= set(jobs)
    needs = {stamp: set(job.needs) for stamp, job in jobs.items()}
    assert all(wanted <= set(jobs) for wanted in needs.values())  # nobody needs what nobody makes
    order = list(TopologicalSorter(needs).static_order())  # raises if there is a circle
    assert set(order) == set(jobs)
    last = {stamp for stamp in jobs if SYNTHESIS in stamp}
    assert len(last) == len(plan.tracks) and set(plan.targets()) == last
    for stamp in last:  # after everything of its track, and the bases that this starts from
        track = "lora/" if stamp.startswith("lora/") else ""
        own = {one for one in jobs if BASE not in one and one.startswith("lora/") == bool(track)}
        assert own - {stamp} <= before(stamp, jobs)
    assert set().union(*(before(stamp, jobs) for stamp in last)) == set(order) - last


def before(stamp: str, jobs: dict[str, Job]) -> set[str]:
    """Every stamp that must be there before this one."""
    found, waiting = set(), list(jobs[stamp].needs)
    while waiting:
        need = waiting.pop()
        if need not in found:
            found.add(need)
            waiting += jobs[need].needs
    return found


@pytest.mark.slow
@each_plan
def test_every_lab_runs_after_all_that_it_reads(studies, name):
    plan, jobs = studies[name]
    for stamp, job in jobs.items():
        stage = Path(stamp).stem
        if stage == BASE:
            continue
        lab = Lab(stage, stage_parameters(stage, job.given))
        assert stamp_of(lab.stage.folder, plan.home) == stamp
        earlier = before(stamp, jobs)
        assert {stamp_of(folder, plan.home) for folder in lab.stage.input_folders} <= earlier
        if stage == "02_training" and lab.parameters.base_steps:
            assert any(Path(one).stem == BASE for one in earlier)


@pytest.mark.slow
def test_every_row_of_the_table_is_a_rule_and_its_stamps_follow_the_grammar(studies):
    plan, jobs = studies["adapters as well"]
    rules = {job.rule for job in jobs.values()}
    bases = {"base", "shared_base", "retraining"}
    assert rules == {row.short for row in LABS.values()} | bases == set(EXPECTED_SECONDS)
    for stamp, job in jobs.items():
        stage = Path(stamp).stem
        if stage != BASE:
            p = stage_parameters(stage, job.given)
            words = p.model_dump() | {"track": "" if p.track == "scratch" else f"{p.track}/"}
            pattern = stamp_pattern(stage, bool(words.get("retrain")))
            assert pattern.format(**words) == stamp == stamp_of(lab_folder(stage, p), plan.home)


@pytest.mark.slow
def test_what_is_planned(studies):
    plan, jobs = studies["no base, two retrains"]
    stages = [Path(stamp).stem for stamp in jobs]
    assert BASE not in stages and stages.count("07_transfer") == 2 and stages.count(SYNTHESIS) == 1
    retrains = {stamp: job for stamp, job in jobs.items() if job.rule == "retraining"}
    assert sorted(Path(stamp).parts[1] for stamp in retrains) == sorted(
        ["seed1-retrain1", "seed1-retrain2"] * 2
    )
    given = retrains["inference/seed1-retrain2/02_training.stamp"].given
    assert (given["seed"], given["retrain"]) == (1, 2)
    families = [job for job in studies["smoke"][1].values() if job.rule == "base"]
    assert len(families) == 3 * len(SEEDS)  # three families, each with every default seed


@pytest.mark.slow
def test_adapters_share_one_base_and_have_no_retrains_but_each_other(studies):
    plan, jobs = studies["adapters as well"]
    shared = [stamp for stamp in jobs if stamp.startswith("shared-base-llama/")]
    assert shared == [f"shared-base-llama/seed{SEEDS[0]}/{BASE}.stamp"]
    assert jobs[shared[0]].rule == "shared_base" and jobs[shared[0]].given["track"] == "lora"
    assert not [s for s, job in jobs.items() if job.rule == "retraining" and s.startswith("lora")]
    # tasks, seeds and labs, transfer, synthesis
    assert sum(stamp.startswith("lora/") for stamp in jobs) == 2 * (2 * 6 + 1) + 1
    given = Plan("smoke", ["inference"], [6], tracks=["lora"], settings={"architecture": "gpt2"})
    wildcards = {"track": "lora/", "task": "inference", "seed": "6"}
    needs = given.reads("02_training")(wildcards)
    assert f"shared-base-gpt2/seed{SEEDS[0]}/{BASE}.stamp" in needs


def test_settings_reach_the_labs_that_take_them():
    plan = Plan(
        preset="smoke", tasks=["inference"], seeds=[0], settings={"site": "ln_2", "n_layer": 3}
    )
    given = {stage: plan.parameters(stage, "inference", "scratch", 0) for stage in labs_of("run")}
    base = json.loads(plan.base_given({"base": "inference-base", "seed": "0"}))
    assert (
        given["06_intervention"]["site"] == given["04_differentiation"]["site"] == "ln_2"
        and "site" not in given["02_training"]
    )
    assert (
        "site" not in given["09_confounds"]
    )  # it reads the residual stream, whatever the others do
    assert (
        given["02_training"]["n_layer"] == base["n_layer"] == 3
        and "n_layer" not in given["01_dataset_design"]
    )


@each_plan
def test_a_plan_survives_json_and_the_words_of_a_command_line(name):
    plan = PLANS[name]
    again = Plan.of(json.loads(plan.to_json()))
    assert again == plan and list(again.studied.values()) == list(plan.studied.values())
    # `--config` takes every value for a text
    words = {"seeds": [str(seed) for seed in plan.seeds]}
    words["settings"] = {name: str(value) for name, value in plan.settings.items()}
    assert Plan.of(json.loads(plan.to_json()) | words) == plan
    with pytest.raises(ParameterError, match="'seed' is not part of a plan; it has preset"):
        Plan.of({"seed": 1})


@pytest.mark.slow
def test_sources_exist_and_name_the_notebook_and_the_modules(studies):
    plan, jobs = studies["one task, one seed"]

    def of(rule):
        (found,) = [job.sources for job in jobs.values() if job.rule == rule]
        return {Path(path).name for path in found} | {"/".join(Path(p).parts[-2:]) for p in found}

    for stamp, job in jobs.items():
        assert all(Path(path).is_file() for path in job.sources)
        assert "presets/smoke.yaml" in of(job.rule) and "pipeline/notebook.py" in of(job.rule)
        assert job.rule in ("base", "retraining") or f"{Path(stamp).stem}.ipynb" in of(job.rule)
    assert {"steering/engine.py", "figures/intervention.py"} <= of("intervention")
    assert [s for s in labs_of("run") if "ledger.py" in of(LABS[s].short)] == []
    assert {"claims/ledger.py", "catalogue/maps.py", "figures/synthesis.py"} <= of("synthesis")


def test_the_longest_chains_come_first():
    order = ["01_dataset_design", "02_training", "03_pairs", "04_differentiation", SYNTHESIS]
    waits = [urgency(stage) for stage in order]
    assert waits == sorted(waits, reverse=True) and waits[-1] == 0
    assert urgency("06_intervention") > urgency("05_prediction")


# -- Snakemake's own words ---------------------------------------------------------------------------
def edges(dot: str) -> set[tuple[str, str]]:
    """Pairs of rules of a graph in the dot language."""
    names = dict(re.findall(r'^\s*(\d+)\[label = "(\w+)"', dot, re.M))
    return {(names[a], names[b]) for a, b in re.findall(r"^\s*(\d+) -> (\d+)", dot, re.M)}


def reduced(graph: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Without the arrows that follow from others, as `tred` draws it."""

    def leads(start, end, without):
        return any(
            b == end or leads(b, end, without) for a, b in graph if a == start and (a, b) != without
        )

    return {edge for edge in graph if not leads(*edge, edge)}


@pytest.mark.slow
def test_the_picture_in_the_book_shows_the_rules_of_today(tmp_path):
    words = ["tasks=[inference]", "seeds=[6]", "tracks=[scratch, lora]", f"runs={tmp_path}"]
    graph = edges(snakemake("--rulegraph", "--config", *words))
    assert {("training", "pairs"), ("dataset_design", "intervention")} <= graph
    svg = (ROOT / "book" / "_static" / "figures" / "rulegraph.svg").read_text()
    group = r'<g id="\w+" class="node">\s*<title>(\d+)</title>.*?<text[^>]*>(\w+)</text>'
    names = dict(re.findall(group, svg, re.S))
    assert set(names.values()) == {rule for edge in graph for rule in edge}, "run `make rulegraph`"
    drawn = re.findall(r"<title>(\d+)&#45;&gt;(\d+)</title>", svg)
    assert {(names[a], names[b]) for a, b in drawn} == reduced(graph), "run `make rulegraph`"


@pytest.mark.parametrize(
    "given",
    [
        {"tasks": []},
        {"seeds": []},
        {"tasks": ["chess"]},
        {"settings": {"chess": 1}},
        {"seeds": [-1]},
    ],
)
def test_a_plan_checks_itself(given):
    with pytest.raises(ParameterError):
        Plan(**{"preset": "smoke"} | given)


def test_the_time_left_goes_by_what_was_timed():
    # one kind was timed and took twice what was expected: so will the others
    assert time_left({"training": 2}, {"training": [30.0, 50.0]}, cores=1) == pytest.approx(80)
    expected = EXPECTED_SECONDS
    left = time_left({"pairs": 3}, {"training": [2 * expected["training"]]}, cores=2)
    assert left == pytest.approx(3 * 2 * expected["pairs"] / 2)


def test_the_plan_in_a_copied_study_means_the_copy(tmp_path):
    """By its file, so that Snakemake, told to take it, never works in the folder of the original."""
    plan = Plan(preset="smoke", tasks=["inference"], seeds=[0], runs=str(tmp_path / "original"))
    config = json.loads(plan.to_json())
    copy = tmp_path / "copy" / "smoke" / "study.json"
    assert Plan.of(config, [copy]).home == tmp_path / "copy" / "smoke"
    assert Plan.of(config, [tmp_path / "settings.json"]).home == plan.home
    copy.parent.mkdir(parents=True)
    copy.write_text(plan.to_json())
    said = snakemake("--configfile", str(copy), "--dry-run", "--printshellcmds")
    assert str(copy.parents[1]) in said and str(tmp_path / "original") not in said
