"""Real papermill runs of every lab, through the command that users run."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from memgen.phases import FIGURES, START
from memgen.pipeline.plan import Plan
from memgen.stages import BASE, LABS, TRAINING
from memgen.store.artifacts import result_digest, verify
from memgen.store.reader import finished_stages
from running import ROOT, python, smoke_book, smoke_labs, study

TASKS = ("arithmetic-tagged", "arithmetic-matched", "inference", "cipher-tagged", "cipher-matched")
KEYS = {  # what other tools rely on
    "01_dataset_design": {"n_free", "n_keyed", "n_conflict", "n_keys", "sha256"},
    "02_training": {
        "memory_rate",
        "rule_rate",
        "other_rate",
        "free_accuracy",
        "keyed_accuracy",
        "step",
        "n_parameters",
    },
    "03_pairs": {"n_prompts", "n_pairs", "flip_rate"},
    "04_differentiation": {"site", "max_abs_rho", "significant_share", "null_significant_share"},
    "05_prediction": {
        "site",
        "accuracy",
        "auc",
        "auc_interval",
        "prompt_only_auc",
        "shuffled_auc",
        "majority",
    },
    "06_intervention": {"site", "m2g", "g2m"},
    "07_transfer": {"retrain", "task"},
    "08_synthesis": {"claims", "headline", "headline_number"},
    "09_confounds": {"context", "lens", "prompt_only_auc", "guessing", "split"},
    "10_ablations": {"site", "counts", "m2g", "g2m"},
    "11_open_points": {
        "clusters",
        "synergy",
        "binary",
        "commitment",
        "asymmetry",
        "instruction",
        "performance",
        "hybrid",
    },
    "12_patching": {"n_layer", "n_head", "unpatched_holds", "identity_holds", "m2g", "g2m"},
    "13_scoreboard": {"methods", "lacking", "n_candidates", "collateral_limit", "m2g", "g2m"},
    "14_detection": {"detectors", "price", "best", "changes", "n_other", "n_test_keys"},
    "15_correlates": {"layers", "cosines", "size", "transfer", "doses", "m2g", "g2m"},
    "16_multiverse": {"curves", "stability", "slopes", "isolation", "forecast"},
}
DIRECTION = {
    "alpha",
    "top_n",
    "success",
    "interval",
    "other",
    "n",
    "controls",
    "rephrase_floor",
    "free_accuracy_after",
    "keyed_accuracy_after",
    "kl_free",
    "kl_keyed",
    "max",
    "kept",
    "output_controls",
    "rephrase_order",
    "rephrase_content",
}
CONTROLS = {
    "random_neurons",
    "random_direction",
    "best_of_random",
    "other_neurons",
    "low_rho",
    "permuted",
    "random_sign",
    "shuffled_labels",
}


def results(folder: Path) -> dict[str, dict]:
    """Every `result.json` below a folder, without its timings."""
    found = {}
    for path in sorted(folder.rglob("result.json")):
        found[str(path.relative_to(folder))] = {
            k: v for k, v in json.loads(path.read_text()).items() if k != "timings"
        }
    return found


def test_every_lab_ran_and_left_what_others_rely_on(smoke):
    plan = Plan("smoke", list(TASKS), [0], str(smoke), tracks=["scratch", "lora"])
    bases = [path.relative_to(plan.home) for path in plan.home.glob("*/seed*/00_base.stamp")]
    assert {path.parts[0] for path in bases} == {
        "arithmetic-base",
        "cipher-base",
        "inference-base",
        "shared-base-llama",
    }
    retrains = plan.home.glob("*/seed0-retrain*/02_training.stamp")
    retrains = [str(path.relative_to(plan.home)) for path in retrains]
    assert len(retrains) == len(TASKS)
    for stamp in [*plan.studied, *retrains, *map(str, bases)]:
        path = plan.home / stamp
        folder, stage = path.with_suffix(""), path.stem
        verify(folder)
        assert path.read_text().strip() == result_digest(folder)
        if stage == "00_base":
            continue
        assert folder.with_suffix(".ipynb").is_file()
        result = json.loads((folder / "result.json").read_text())
        assert set(result) >= KEYS[stage], stamp
        if stage == "06_intervention":
            for direction in ("m2g", "g2m"):
                assert set(result[direction]) >= DIRECTION, stamp
                assert set(result[direction]["controls"]) == CONTROLS, stamp


def test_every_manifest_says_what_its_seconds_went_to(smoke):
    """Phases of the computing add up to its seconds; start and figures come on top."""
    phases = {stage: stage.manifest["cpu_by_phase"] for stage in finished_stages(smoke / "smoke")}
    for stage, spent in phases.items():
        computing = sum(seconds for name, seconds in spent.items() if name not in (START, FIGURES))
        assert computing <= stage.manifest["cpu_seconds"] + 0.01 * len(spent), stage.folder
        assert spent[START] > 0 and (stage.name == BASE or spent[FIGURES] > 0), stage.folder
    every = {(stage.name, name) for stage, spent in phases.items() for name in spent}
    assert {
        *((name, phase) for name in (BASE, TRAINING) for phase in ("training", "evaluation")),
        ("03_pairs", "answers"),
        ("04_differentiation", "capture"),
        ("05_prediction", "probes"),
        ("06_intervention", "sweep"),
    } <= every


def test_every_claim_has_a_verdict_in_both_tracks(smoke):
    """The ledger of a finished study: every claim, and the same list beside the result.

    `silent`: what a track cannot test: the base carries nothing from scratch, where no task shares
    one with another family, and the evidence labs question the models from scratch alone.
    """
    from memgen.claims.catalogue import CLAIMS
    from memgen.claims.catalogue.multiverse import MULTIVERSE
    from memgen.claims.catalogue.rivals import RIVALS
    from memgen.terms import VERDICTS

    scarce = {"retrain", "stranger", "instruction", "before_answer", "emerges", "taught"}
    scarce |= {"beyond_setting", "beyond_base", "differ_base"}  # as the preset's models have it
    # of labs that run on models from scratch
    rivals = {claim.id for claim in (*RIVALS, *MULTIVERSE)}
    for home, silent in (
        (smoke / "smoke", {"base", "across_tasks", "addition_travels"}),
        (smoke / "smoke" / "lora", {"before_answer", "instruction", "across_formats"} | rivals),
    ):
        folder = home / "study" / "all" / "08_synthesis"
        claims = json.loads((folder / "result.json").read_text())["claims"]
        assert [claim["id"] for claim in claims] == [claim.id for claim in CLAIMS]
        assert claims == json.loads((folder / "claims.json").read_text())
        untested = {claim["id"] for claim in claims if not claim["cases"]}
        assert silent <= untested <= silent | scarce, untested
        assert {claim["verdict"] for claim in claims} <= set(VERDICTS)


def test_alpha_zero_changed_nothing(smoke):
    for path in smoke.rglob("06_intervention/result.json"):
        assert json.loads(path.read_text())["identity_holds"]


def test_kept_model_is_an_ordinary_hugging_face_folder(smoke):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = smoke / "smoke" / "inference" / "seed0" / "02_training" / "model"
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    assert model.config.vocab_size == len(tokenizer)


def test_three_lines_of_peft_load_an_adapter_of_the_study(smoke):
    """On the base that its lab trained, and with the answers that the pairs lab wrote down."""
    import pandas as pd
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from memgen.models.generate import answer

    run = smoke / "smoke" / "lora" / "inference" / "seed0"
    (base,) = (smoke / "smoke" / "shared-base-llama").glob("seed*/00_base/model")
    model = AutoModelForCausalLM.from_pretrained(base)
    model = PeftModel.from_pretrained(model, str(run / "02_training" / "model")).eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "02_training" / "model")
    answered = pd.read_parquet(run / "03_pairs" / "answered.parquet").head(40)
    assert answer(model, tokenizer, list(answered.prompt), 2) == list(answered.answer)


def test_all_adapters_share_one_base_and_from_scratch_only_the_variants_do(smoke):
    bases = {
        track: {
            task: json.loads((home / task / "seed0" / "02_training" / "result.json").read_text())[
                "base"
            ]
            for task in TASKS
        }
        for track, home in (("scratch", smoke / "smoke"), ("lora", smoke / "smoke" / "lora"))
    }
    assert len(set(bases["lora"].values())) == 1
    assert (
        len(set(bases["scratch"].values())) == 3
        and bases["scratch"]["cipher-tagged"] == bases["scratch"]["cipher-matched"]
    )
    for task in TASKS:
        found = json.loads(
            (
                smoke / "smoke" / "lora" / task / "seed0" / "04_differentiation" / "result.json"
            ).read_text()
        )["base"]
        assert (
            len(found["correlation"]) == len(found["mean_abs_nmd"]["off"])
            and 0 <= found["top_in_common"] <= 1
        )


def test_transfer_of_a_model_to_itself_is_its_own_steering(smoke):
    """The diagonal of the matrix uses the same shift as the intervention stage: same prompts, same
    success.
    """
    for home, task in (
        (home, task) for home in (smoke / "smoke", smoke / "smoke" / "lora") for task in TASKS
    ):
        transfer = json.loads((home / task / "all" / "07_transfer" / "result.json").read_text())[
            "retrain"
        ]
        own = json.loads((home / task / "seed0" / "06_intervention" / "result.json").read_text())
        assert transfer["sources"][0] == "seed 0"
        for direction in ("m2g", "g2m"):
            assert np.isclose(transfer[direction][0][0], own[direction]["success"]), (
                task,
                direction,
            )


def test_second_run_executes_nothing(smoke):
    done = smoke_labs(smoke)
    assert "nothing to run" in done.stdout
    before = (smoke / "_build" / "html" / "index.html").stat().st_mtime_ns
    smoke_book(smoke)
    assert (smoke / "_build" / "html" / "index.html").stat().st_mtime_ns == before


def would_run(runs: Path, *arguments: str, **settings) -> dict[str, str]:
    """Which labs Snakemake would run in the finished smoke study, and its reason for each."""
    plan = Plan("smoke", list(TASKS), [0], str(runs), settings, ["scratch", "lora"])
    asked = runs / "asked.json"
    asked.write_text(plan.to_json())
    text = python(
        "snakemake",
        "--configfile",
        str(asked),
        "--directory",
        str(plan.home),
        "--dry-run",
        *arguments,
    ).stdout
    blocks = re.findall(
        r"^rule (?!all)\w+:.*?^    output: (\S+).*?^    reason: ([^\n]*)", text, re.M | re.S
    )
    return dict(blocks)


def test_only_what_a_parameter_reaches_runs_again(smoke):
    """The labs that take it, for that reason; after them those that read these; nothing else."""
    found = would_run(smoke, alphas=[0.5, 3.0])
    changed = {Path(stamp).stem for stamp, why in found.items() if "Params have changed" in why}
    takers = {n for n, row in LABS.items() if "alphas" in row.parameters.model_fields}
    # a taker that reads another one is said to run because of that one
    assert changed == {n for n in takers if not takers & set(LABS[n].reads)}
    after = {n for n, row in LABS.items() if takers & set(row.reads)}
    after |= {n for n, row in LABS.items() if after & set(row.reads)}
    assert {Path(stamp).stem for stamp in found} == takers | after
    assert any(stamp.startswith("lora/") for stamp in found)


def test_a_rule_can_be_run_by_its_name(smoke):
    found = would_run(smoke, "--forcerun", "training")
    forced = [stamp for stamp, why in found.items() if "Forced execution" in why]
    assert len(forced) == 2 * len(TASKS)
    assert {Path(stamp).stem for stamp in forced} == {"02_training"}
    assert not [stamp for stamp in found if "retrain" in stamp or "01_" in stamp]


def test_a_study_may_be_moved(smoke, tmp_path):
    """Neither parameters nor records say where it lies."""
    shutil.copytree(smoke / "smoke", tmp_path / "smoke")
    assert would_run(tmp_path) == {}


def test_a_lab_with_an_unchanged_outcome_wakes_no_other(smoke, tmp_path):
    """Its stamp is written anew, with the same digest; a stamp with another digest wakes the next labs."""
    shutil.copytree(smoke / "smoke", tmp_path / "smoke")
    stamp = tmp_path / "smoke" / "inference" / "seed0" / "04_differentiation.stamp"
    text = stamp.read_text()
    stamp.write_text(text)
    assert would_run(tmp_path) == {}
    stamp.write_text(text[::-1])
    assert "inference/seed0/06_intervention.stamp" in would_run(tmp_path)


def test_same_parameters_twice_give_equal_results(smoke, tmp_path):
    study(
        "labs",
        "--preset",
        "smoke",
        "--tasks",
        "cipher-tagged",
        "--seeds",
        "0",
        "--runs",
        str(tmp_path),
        "--set",
        "n_retrains=0",
    )
    again = {
        name: r
        for name, r in results(tmp_path / "smoke" / "cipher-tagged").items()
        if "all" not in name
    }
    before = results(smoke / "smoke" / "cipher-tagged")
    assert len(again) == 14
    for name, result in again.items():
        one, other = dict(result), dict(before[name])
        if "15_correlates" in name:  # without retrains nothing is tried on one
            assert one.pop("transfer") != other.pop("transfer")
        assert one == other, name


def papermill(lab: str, out: Path, *parameters: str) -> subprocess.CompletedProcess:
    """The one-line command that every lab's page shows."""
    pairs = [
        word
        for name, value in (p.split("=", 1) for p in parameters)
        for word in ("-p", name, value)
    ]
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "papermill",
            f"notebooks/{lab}.ipynb",
            str(out),
            "--cwd",
            ".",
            "--no-progress-bar",
            *pairs,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def copy(smoke, tmp_path) -> Path:
    """One task of the smoke run with its base, to damage or to run again."""
    for name in ("inference", "inference-base"):
        shutil.copytree(smoke / "smoke" / name, tmp_path / "smoke" / name)
    return tmp_path


def test_a_lab_runs_alone_with_other_parameters(copy, tmp_path):
    done = papermill(
        "04_differentiation",
        tmp_path / "out.ipynb",
        "task=inference",
        "seed=0",
        "preset=smoke",
        f"runs={copy}",
        "site=ln_2",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (
        json.loads((copy / "smoke/inference/seed0/04_differentiation/result.json").read_text())[
            "site"
        ]
        == "ln_2"
    )


@pytest.mark.parametrize(
    "lab, wrong, message",
    [
        ("01_dataset_design", "n_kyes=5", "n_kyes"),
        ("04_differentiation", "site=attention", "site"),
        ("06_intervention", "alphas=1.0", "alphas"),
    ],
)
def test_wrong_parameter_ends_a_lab_at_once(tmp_path, lab, wrong, message):
    done = papermill(
        lab,
        tmp_path / "out.ipynb",
        "task=inference",
        "seed=0",
        "preset=smoke",
        f"runs={tmp_path}",
        wrong,
    )
    assert done.returncode != 0
    assert "ParameterError" in done.stderr and message in done.stderr
    assert (
        "Traceback"
        not in done.stderr.split("Exception encountered")[-1].split("papermill.exceptions")[0]
    )


def test_damaged_input_is_named(copy, tmp_path):
    model = copy / "smoke/inference/seed0/02_training/model/model.safetensors"
    model.write_bytes(model.read_bytes()[:-100])
    done = papermill(
        "03_pairs",
        tmp_path / "out.ipynb",
        "task=inference",
        "seed=0",
        "preset=smoke",
        f"runs={copy}",
    )
    assert (
        done.returncode != 0
        and "model.safetensors" in done.stderr
        and "altered or truncated" in done.stderr
    )


def test_ctrl_c_ends_the_study_with_a_message_and_keeps_what_is_finished(tmp_path):
    """A real interrupt of the whole process group, as a terminal sends it, while a lab is running."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "memgen.pipeline.cli",
            "labs",
            "--preset",
            "smoke",
            "--tasks",
            "inference",
            "--seeds",
            "0",
            "--runs",
            str(tmp_path),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # a shell's background job ignores it
    first = tmp_path / "smoke/inference/seed0/01_dataset_design.stamp"
    for _ in range(1200):
        if first.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=90)
    assert (
        process.returncode != 0
        and "interrupted; finished labs are kept" in error
        and "Traceback" not in error
    )
    verify(first.with_suffix(""))
    assert not (tmp_path / "smoke/study/all/08_synthesis").exists()


def test_a_study_without_a_run_that_passes_the_gate_says_how_close_they_came(tmp_path):
    done = study(
        "labs",
        "--preset",
        "smoke",
        "--tasks",
        "inference",
        "--seeds",
        "0",
        "--runs",
        str(tmp_path),
        "--set",
        "gate_memory=0.9",
        "max_steps=20",
        "base_steps=20",
        check=False,
    )
    assert done.returncode != 0
    said = "no checkpoint in 20 steps showed both behaviours. The best, at step 20, had memory"
    assert done.stdout.count(said) == 1 and done.stdout.count("left out, too") == 10
    assert "no run of this study shows both behaviours" in done.stderr
    run = tmp_path / "smoke/inference/seed0"
    for stage in ("01_dataset_design", "02_training", "03_pairs"):
        assert (run / stage / "result.json").is_file()
    assert said in json.loads((run / "02_training" / "result.json").read_text())["miss"]
    assert said in (run / "06_intervention.stamp").read_text()
    assert not (run / "06_intervention").exists()
