"""The section *Taught both behaviours*: what it says of planted adapters, and nothing without any."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from memgen.config.base import ROOT
from memgen.figures import taught as figures
from memgen.pipeline.real_lora import gate
from memgen.terms import DIRECTIONS
from press import prose
from press.numbers import decimal, percent, seconds
from press.taught_model import TaughtModel, taught_models

MISS = "task arithmetic-tagged, seed 1: no checkpoint in 9 steps showed both behaviours."
SPENT = {"cpu_seconds": 60.0, "wall_seconds": 70.0, "peak_memory_bytes": 3 * 2**30}


def adapter(seed: int, memory: float, miss: str | None = None) -> dict:
    training = {"memory_rate": memory, "rule_rate": 0.95 - memory, "other_rate": 0.05}
    training |= {"free_accuracy": 0.93, "keyed_accuracy": 1.0, "keys_with_both": 0.9}
    training |= {"n_conflict": 200, "n_test_keys": 11, "step": 90, "last_step": 120}
    found = {"seed": seed, "training": training | {"holds": memory >= 0.25}, "left_out": miss}
    found["spent"] = {"02_training": SPENT, "03_pairs": SPENT}
    if miss:
        return found
    found["layers"] = [
        {"layer": n, "significant": 0.1 * n, "in_base": 0.01 * n, "null": 0.0} for n in (1, 2, 3)
    ]
    found["inheritance"] = {"correlation_all": 0.4, "top_in_common": 0.2}
    found["prediction"] = {"best_auc": 0.9, "best_auc_interval": [0.8, 0.95]}
    found["prediction"] |= {"gain": 0.05, "gain_interval": [-0.01, 0.1]}
    direction = {"success": 0.7, "interval": [0.6, 0.8], "rephrase_floor": 0.3, "n": 80}
    direction |= {"controls": {"random_neurons": 0.1, "low_rho": 0.25, "permuted": None}}
    direction |= {"free_accuracy_before": 0.93, "keyed_accuracy_before": 1.0, "kept_exists": True}
    most = {"success": 0.9, "interval": [0.8, 0.95], "other": 0.04}
    most |= {"free_accuracy_after": 0.6, "keyed_accuracy_after": 0.1}
    direction |= {"most": most, "forbidden": {"success": 0.2, "other": 0.8}}
    return found | {"steering": {"m2g": direction, "g2m": direction | {"kept_exists": False}}}


def about() -> dict:
    """One task with two adapters, of which the second misses the gate on test keys; one with a miss."""
    square = {"sources": ["seed 0", "seed 1"], "targets": ["seed 0", "seed 1"]}
    square |= {d: [[0.7, 0.5], [0.4, 0.8]] for d in DIRECTIONS}
    square["control"] = {d: [[0.1, 0.0], [0.05, 0.1]] for d in DIRECTIONS}
    column = {"sources": ["inference", "arithmetic-tagged"], "targets": ["inference"]}
    column |= {d: [[0.75], [0.02]] for d in DIRECTIONS}
    transfer = {"retrain": square, "task": column, "spent": SPENT}
    first = {"task": "inference", "seeds": [adapter(0, 0.3), adapter(1, 0.2)], "transfer": transfer}
    second = {"task": "arithmetic-tagged", "seeds": [adapter(1, 0.0, MISS)], "transfer": None}
    return {
        "model": {"name": "a-model", "title": "A Model 135M", "weights": "ab" * 32},
        "gate": gate(),
        "tried": {"alphas": [4.0, 0.5], "top_ns": [0.02, 1.0], "layer_alphas": [3.0]},
        "tasks": [first, second | {"without_transfer": "it has no run whose model could be asked"}],
        "command": "make real-lora",
        "collected": "2026-11-27",
        "commit": "abc",
        "machine": {"cores": 2, "processor": "x"},
    }


def test_what_is_said_is_what_was_planted():
    model = TaughtModel(about())
    assert model.tried == "alpha 0.5, 4 on 2\u00a0% to 100\u00a0% of the neurons"
    assert str(model.held) == "1 of 3" and model.cpu == 7 * 60
    assert [row["holds"] for row in model.trained] == ["yes", "no", "no"]
    assert model.trained[0]["gib"] == 3 and model.trained[0]["cpu"] == 60
    assert [one["why"] for one in model.missed] == [MISS]
    # who missed the gate was neither asked nor steered
    assert len(model.foretold) == 2 and len(model.turned) == 4
    assert model.foretold[0]["auc"] == "0.90 (0.80 to 0.95)"
    within, beyond = model.turned[:2]
    assert within["within"] == "70\u00a0% (60\u00a0% to 80\u00a0%)"
    assert beyond["within"] == "0\u00a0%"  # no cell keeps the limit: its success is that of another
    for row in (within, beyond):
        assert row["most"] == "90\u00a0% (80\u00a0% to 95\u00a0%)"
        assert row["free"] == "93\u00a0%, 60\u00a0%" and row["keyed"] == "100\u00a0%, 10\u00a0%"
        assert (row["control"], row["forbidden"], row["reordered"]) == (0.25, 0.2, 0.3)
    carried = {row["direction"]: row for row in model.carried}
    assert set(carried) == set(DIRECTIONS) and {row["task"] for row in model.carried} == {
        "inference"
    }
    assert carried["m2g"]["own"] == "70\u00a0% to 80\u00a0%"
    assert carried["m2g"]["others"] == "40\u00a0% to 50\u00a0%"
    assert (
        carried["m2g"]["tasks"] == "2\u00a0%"
        and carried["m2g"]["control"] == "0\u00a0% to 10\u00a0%"
    )


def test_figures_say_in_words_what_they_show():
    tasks = about()["tasks"]
    drawn = figures.behaviours(tasks, gate())
    assert "inference: memory 30% 20%, rule 65% 75%" in drawn.alt
    some = figures.asked(tasks)
    assert [task["task"] for task in some] == ["inference"]
    depth = figures.along_depth(some)
    assert "with the adapter: at most 30%, in layer 3" in depth.alt
    assert "base alone: at most 3%, in layer 3" in depth.alt
    figures.plt.close("all")


@pytest.mark.parametrize("there", [True, False])
def test_the_section_is_there_where_adapters_were_trained(tmp_path, there):
    root, source = tmp_path / "root", tmp_path / "source"
    (root / "data" / "reference" / "real").mkdir(parents=True)
    shutil.copytree(ROOT / "book", source)
    (source / "figures").mkdir()
    if there:
        (root / "data" / "reference" / "real" / "a-model-lora.json").write_text(json.dumps(about()))
    environment = prose.templates(source)
    helpers = {"percent": percent, "decimal": decimal, "seconds": seconds}
    environment.globals |= helpers | {"taught_models": lambda: taught_models(root, source)}
    text = environment.get_template("real_model/taught.jinja").render()
    if not there:
        assert not text.strip()
        return
    assert text.index("a-model-lora-taught-depth.png") < text.index("| inference | 0 |")
    assert "Of the adapters, 1 of 3 hold" in text and MISS in text and "make real-lora" in text
    assert (source / "figures" / "real-a-model-lora-taught-behaviours.png").is_file()
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({row.count("|") for row in table.splitlines()}) == 1, table
