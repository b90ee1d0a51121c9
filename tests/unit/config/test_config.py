"""Parameters: every wrong one is refused before anything runs, by name; the stronger source of a
value wins.
"""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest

from memgen import presets, terms
from memgen.config import base
from memgen.errors import ParameterError
from memgen.presets import load_preset, split_overrides, stage_parameters
from memgen.stages import LABS, PARAMETER_CLASSES
from memgen.tasks import TASK_NAMES, TASKS

DATASET, TRAINING, STEERING = "01_dataset_design", "02_training", "06_intervention"
PRESETS = sorted(path.stem for path in (base.ROOT / "notebooks" / "presets").glob("*.yaml"))


def refused(stage: str, **given) -> str:
    with pytest.raises(ParameterError) as error:
        stage_parameters(stage, {"task": "inference", "preset": "smoke"} | given)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "stage, given, said",
    [
        (DATASET, {"task": "inferense"}, ["task='inferense'", *TASK_NAMES]),
        (DATASET, {"task": 3}, ["task"]),
        (DATASET, {"task": "study"}, ["task='study'"]),
        (DATASET, {"preset": "lapdog"}, ["preset='lapdog'", "laptop", "smoke"]),
        (DATASET, {"seed": -1}, ["seed=-1"]),
        (DATASET, {"n_keys": 2}, ["n_keys=2"]),
        (DATASET, {"n_keys": 4000}, ["n_keys=4000"]),
        (DATASET, {"n_keys": "many"}, ["n_keys='many'", "integer"]),
        (DATASET, {"n_keys": 12.0}, ["n_keys=12.0", "integer"]),
        (DATASET, {"n_keys": True}, ["n_keys=True"]),
        (DATASET, {"key_shares": [0.5, 0.5]}, ["key_shares"]),
        (DATASET, {"key_shares": [0.5, 0.5, 0.5]}, ["key_shares"]),
        (TRAINING, {"n_layer": 0}, ["n_layer=0"]),
        (TRAINING, {"n_embd": 32, "n_head": 3}, ["n_embd=32", "n_head=3"]),
        (TRAINING, {"lr": float("nan")}, ["lr=nan"]),
        (TRAINING, {"lr": "fast"}, ["lr='fast'"]),
        (TRAINING, {"enough": float("inf")}, ["enough=inf", "finite"]),
        (TRAINING, {"gate_memory": 1.5}, ["gate_memory=1.5"]),
        (TRAINING, {"loss_on": "prompt"}, ["loss_on='prompt'", "answer", "instance"]),
        (TRAINING, {"widht": 3}, ["'widht'", "n_embd"]),
        (TRAINING, {"site": "ln_2"}, ["'site'", TRAINING]),
        (STEERING, {"site": "ln_3"}, ["site='ln_3'", *terms.SITES]),
        (STEERING, {"top_ns": [0.1, 1.5]}, ["top_ns", "1.5"]),
        (STEERING, {"top_ns": [0.0]}, ["top_ns"]),
        (STEERING, {"top_ns": 0.1}, ["top_ns", "list"]),
        (STEERING, {"top_ns": []}, ["top_ns"]),
        (STEERING, {"top_ns": [0.3, 0.1]}, ["top_ns"]),
        (STEERING, {"alphas": [1.0, float("nan")]}, ["alphas", "nan"]),
        (STEERING, {"alphas": [1.0, float("inf")]}, ["alphas", "inf"]),
        (STEERING, {"alphas": [1.0, 1.0]}, ["alphas"]),
        (STEERING, {"alphas": ["1"]}, ["alphas", "'1'"]),
        ("05_prediction", {"sites": ["resid_post", "embedding"]}, ["sites", "embedding"]),
        ("05_prediction", {"sites": []}, ["sites"]),
        ("07_transfer", {"tasks": ["inference", "chess"]}, ["tasks='chess'"]),
        ("07_transfer", {"seeds": []}, ["seeds"]),
        ("08_synthesis", {"task": "inference"}, ["task='inference'", "study"]),
    ],
)
def test_bad_values_are_refused_by_name(stage, given, said):
    message = refused(stage, **given)
    assert all(word in message for word in said), message


def test_several_problems_are_all_named():
    message = refused(TRAINING, n_layer=0, batch_size=0)
    assert "n_layer=0" in message and "batch_size=0" in message


def test_an_unknown_stage_lists_the_known():
    with pytest.raises(ParameterError, match="09_more.*01_dataset_design"):
        stage_parameters("09_more", {})


@pytest.mark.parametrize("stage", PARAMETER_CLASSES)
@pytest.mark.parametrize("preset", PRESETS)
def test_the_presets_are_valid_for_every_stage_and_task(preset, stage):
    for task in ["study"] if stage == "08_synthesis" else TASKS:
        stage_parameters(stage, {"task": task, "preset": preset})


def test_every_field_is_described():
    for stage, cls in PARAMETER_CLASSES.items():
        for name, field in cls.model_fields.items():
            assert field.description, f"{stage}: {name} has no description"


def test_site_and_task_names_are_those_of_the_code():
    sites = LABS[STEERING].parameters.model_fields["site"].annotation
    assert set(get_args(sites)) == set(terms.SITES) and set(TASK_NAMES) <= set(TASKS)


@pytest.fixture
def preset(tmp_path, monkeypatch):
    """Write a preset called `mine` with the given text."""
    folder = tmp_path / "notebooks" / "presets"
    folder.mkdir(parents=True)
    monkeypatch.setattr(presets, "ROOT", tmp_path)
    return lambda text: (folder / "mine.yaml").write_bytes(
        text if isinstance(text, bytes) else text.encode()
    )


def test_precedence(preset):
    preset(
        "all: {lr: 0.1, n_layer: 1, batch_size: 11, n_head: 1}\n"
        "arithmetic: {n_layer: 2, batch_size: 22, n_head: 1}\n"
        "arithmetic-tagged: {batch_size: 33, n_head: 1}\n"
        "inference: {lr: 0.2, n_layer: 5}\n"
    )
    found = stage_parameters(TRAINING, {"task": "arithmetic-tagged", "preset": "mine", "n_head": 2})
    assert (found.weight_decay, found.lr, found.n_layer, found.batch_size, found.n_head) == (
        0.01,
        0.1,
        2,
        33,
        2,
    )
    assert (
        stage_parameters(TRAINING, {"task": "arithmetic-matched", "preset": "mine"}).batch_size
        == 22
    )


def test_numbers_are_numbers_however_they_are_written(preset):
    preset("all: {lr: 1e-3, matrix_lr: 2E-3, n_layer: 03, top_ns: [1e-1, 3e-1]}")
    found = stage_parameters(TRAINING, {"task": "inference", "preset": "mine"})
    assert (found.lr, found.matrix_lr, found.n_layer) == (0.001, 0.002, 3)
    steering = stage_parameters(STEERING, {"task": "inference", "preset": "mine"})
    assert steering.top_ns == [0.1, 0.3]


def test_a_text_for_a_number_is_read_as_everywhere(preset):
    """As papermill leaves what it does not read itself."""
    preset("")
    given = {"task": "inference", "preset": "mine", "alphas": "[1.0,4.0]", "top_ns": "[0.1, 0.3]"}
    assert stage_parameters(STEERING, given).alphas == [1.0, 4.0]
    given = {"task": "inference", "preset": "mine", "balance": "true", "lr": "1e-3"}
    found = stage_parameters(TRAINING, given)
    assert found.balance is True and found.lr == 0.001


def test_none_means_the_presets_value(preset):
    preset("all: {lr: 0.1}")
    found = stage_parameters(
        TRAINING, {"task": "inference", "preset": "mine", "lr": None, "n_layer": None}
    )
    assert (found.lr, found.n_layer) == (0.1, 4)


#: what a preset's file holds, and a word that the sentence must hold
BAD_PRESETS = [
    ("all: {learning_rate: 0.1}", "'learning_rate'"),
    ("inference: {n_layers: 3}", "'n_layers'"),
    ("inferense: {n_layer: 3}", "'inferense'"),
    ("all: {n_layer: 0}", "n_layer=0"),
    ("all: {lr: 1e-3, lr: 0.1}", "'lr' stands there twice"),
    ("all: 3", "'mine'"),
    ("all: [1,", "'mine'"),
    ("just text", "'mine'"),
    ("all:\n\tn_layer: 3", "'mine'"),
    ("all: {n_layer: 3", "'mine'"),
    ("all: &a {n_layer: *b}", "'mine'"),
    ("all: !!python/object/apply:os.getcwd []", "'mine'"),
    ("all: {n_layer: 3}\n---\nall: {n_layer: 4}", "'mine'"),
    ("- all", "'mine'"),
    ("all: {3: 4}", "3"),
    ("all: {n_layer: three}", "n_layer='three'"),
    ("all: {n_layer: [3]}", "n_layer=[3]"),
    ("all: {n_layer: {a: 3}}", "n_layer={'a': 3}"),
    ("all: {device: gpu}", "device='gpu'"),
    ("lora/chess: {n_layer: 3}", "'lora/chess'"),
    ("inherits: [smoke]", "smoke"),
    ("inherits: ../smoke", "'../smoke'"),
    (b"all: {n_layer: \xff\xfe}", "'mine'"),
    (b"\x00\x00", "'mine'"),
]


@pytest.mark.parametrize("text, said", BAD_PRESETS)
def test_a_bad_preset_is_refused_by_name(preset, text, said):
    preset(text)
    with pytest.raises(ParameterError) as error:
        stage_parameters(TRAINING, {"task": "inference", "preset": "mine"})
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_preset_may_inherit_block_by_block(preset, tmp_path):
    (tmp_path / "notebooks" / "presets" / "other.yaml").write_text(
        "all: {lr: 0.1, n_head: 1}\narithmetic: {n_layer: 2, batch_size: 22}\n"
    )
    preset("inherits: other\nall: {lr: 0.2}\narithmetic: {batch_size: 33}\n")
    found = stage_parameters(TRAINING, {"task": "arithmetic-tagged", "preset": "mine"})
    assert (found.lr, found.n_head, found.n_layer, found.batch_size) == (0.2, 1, 2, 33)
    assert [path.stem for path in presets.preset_files("mine")] == ["mine", "other"]
    for parent, said in (("nobody", "'nobody' is unknown"), ("mine", "inherits from itself")):
        preset(f"inherits: {parent}\n")
        with pytest.raises(ParameterError, match=said):
            load_preset("mine", "inference")


def test_an_empty_preset_is_the_defaults(preset):
    preset("")
    assert load_preset("mine", "inference") == {}
    preset("all:\ninference:\n")
    assert load_preset("mine", "inference") == {}


def test_overrides_go_to_the_stages_that_take_them():
    found = split_overrides({"site": "ln_2", "n_embd": 64})
    assert found[TRAINING] == {"n_embd": 64} and found[DATASET] == {}
    assert found["04_differentiation"] == found[STEERING] == {"site": "ln_2"}
    with pytest.raises(ParameterError, match="'n_embed'.*n_embd"):
        split_overrides({"n_embed": 64})


def test_parameters_cannot_be_changed_afterwards():
    parameters = stage_parameters(TRAINING, {"task": "inference", "preset": "smoke"})
    with pytest.raises(ValueError, match="frozen"):
        parameters.lr = 1.0


@pytest.mark.slow
def test_light_modules_start_without_torch():
    """Every notebook waits for what these import."""
    modules = [
        "presets",
        "store.reader",
        "claims.ledger",
        "neurons.nmd",
        "pipeline.notebook",
        "pipeline.plan",
        "pipeline.cli",
    ]
    code = (
        f"import importlib, sys\nfor name in {modules}:\n"
        "    importlib.import_module(f'memgen.{name}')\n"
        "    if 'torch' in sys.modules: sys.exit(name)\n"
        "importlib.import_module('press.build')\n"
        "if 'torch' in sys.modules: sys.exit('press.build')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=base.ROOT / "src"
    )
    assert done.returncode == 0, f"{done.stderr.strip()} imports torch"
