"""Portable numerics: the same bits whatever instruction set the environment forces, or no run at all."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from memgen.config.base import ROOT
from memgen.config.training import TrainingParameters
from memgen.errors import StudyError
from memgen.pipeline.cli import main
from memgen.pipeline.notebook import Lab
from memgen.presets import stage_parameters
from memgen.store import numerics
from memgen.store.numerics import PORTABLE, bfloat16_units, environment, require, settled
from memgen.terms import GIVEN_TRACK, TRACKS

#: a few steps of training, a sweep's products, and what the statistics use
WORK = """
import hashlib
import memgen
import numpy as np, os, scipy.linalg, torch
from transformers import GPT2Config, GPT2LMHeadModel
from memgen.store.products import use_onednn
from memgen.training.muon import Muon

if os.environ["PRODUCTS"] == "portable":
    use_onednn()

torch.manual_seed(0)
sizes = dict(n_layer=1, n_embd=128, n_head=4, vocab_size=40, n_positions=16)
model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).eval()
inner = [p for p in model.transformer.h.parameters() if p.ndim == 2]
outer = [p for p in model.parameters() if not any(p is one for one in inner)]
optimizers = [torch.optim.AdamW(outer, 1e-3), Muon(inner, 1e-3)]
ids = torch.randint(40, (24, 11))
for _ in range(3):
    model(input_ids=ids, labels=ids).loss.backward()
    for optimizer in optimizers:
        optimizer.step()
x = torch.randn(60, 128).numpy().astype(float)
found = [p.detach().numpy() for p in model.parameters()]
found += [np.exp(x), np.log(abs(x)), x.std(0), x.T @ x, scipy.linalg.solve(x.T @ x + np.eye(128), x.T)]
print(hashlib.sha256(b"".join(map(np.ndarray.tobytes, map(np.ascontiguousarray, found)))).hexdigest())
"""
FORCED = (
    {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "SSE4_2", "OPENBLAS_CORETYPE": "Nehalem"},
    {"ATEN_CPU_CAPABILITY": "avx512", "NPY_DISABLE_CPU_FEATURES": ""},
)


def bits(numerics: str, forced: dict[str, str]) -> str:
    inherited = {k: v for k, v in os.environ.items() if k not in PORTABLE}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WORK],
        env=inherited | forced | environment(numerics) | {"PRODUCTS": numerics},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.slow
def test_portable_kernels_give_the_same_bits_whatever_is_forced():
    first, second = (bits("portable", forced) for forced in FORCED)
    assert first == second
    # so that the test can fail: with native kernels the two differ
    assert bits("native", FORCED[0]) != first


def test_a_process_without_the_pins_is_refused_with_what_it_lacks():
    require("native", {})
    require("portable", PORTABLE)
    with pytest.raises(StudyError, match="MKL_CBWR=COMPATIBLE") as error:
        require("portable", PORTABLE | {"MKL_CBWR": "AVX2"})
    assert "ATEN" not in str(error.value)


def test_the_command_says_what_a_process_needs(capsys):
    assert main(["numerics", "portable"]) == 0
    said = dict(word.split("=", 1) for word in capsys.readouterr().out.split())
    assert said == PORTABLE
    assert main(["numerics", "native"]) == 0 and not capsys.readouterr().out.strip()


# -- left to the machine ---------------------------------------------------------------------------
def training(**given) -> TrainingParameters:
    return TrainingParameters(**{"task": "inference", "track": "lora", "dtype": "auto"} | given)


#: what one processor or another has, as torch names it
MACHINES = [
    ({"architecture": "x86_64", "avx2": True, "avx512_f": True, "avx512_bf16": False}, False),
    ({"architecture": "x86_64", "avx2": True, "avx_ne_convert": True}, False),
    ({"architecture": "x86_64", "avx2": True, "avx512_bf16": True}, True),
    ({"architecture": "x86_64", "amx_tile": True, "amx_bf16": True}, True),
    ({"architecture": "aarch64", "neon": True, "bf16": False}, False),
    ({"architecture": "aarch64", "neon": True, "bf16": True}, True),
    ({}, False),
]


@pytest.mark.parametrize("found, has_units", MACHINES)
def test_auto_is_bfloat16_where_the_processor_has_units_for_it(monkeypatch, found, has_units):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    chosen = "bfloat16" if has_units else "float32"
    p = settled(training())
    assert (p.precision, p.dtype, p.autocast, p.loaded_dtype) == (chosen, chosen, has_units, chosen)
    assert settled(p) is p
    assert settled(training(precision="float32", dtype="bfloat16")).precision == "float32"
    portable = settled(training(numerics="portable"))
    assert (portable.precision, portable.dtype) == ("float32", "float32")


def test_this_process_is_asked_and_not_only_its_processor():
    """Kernels that are not allowed to use the units are slow in bfloat16 whatever is built in."""
    code = (
        "from memgen.config.training import TrainingParameters as T;"
        "from memgen.store.numerics import settled; print(settled(T(task='inference')).precision)"
    )
    limited = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=limited, capture_output=True, text=True, check=True
    )
    assert done.stdout == "float32\n"


def test_a_graphics_card_that_is_not_there_has_no_units():
    assert not bfloat16_units("mps")
    assert bfloat16_units("cuda") in (True, False)


def test_what_is_not_settled_is_not_silently_float32():
    for name in ("autocast", "loaded_dtype"):
        with pytest.raises(ValueError, match="auto is not settled"):
            getattr(training(), name)


def test_a_lab_records_the_choice_and_stays_up_to_date_where_there_are_such_units(
    tmp_path, monkeypatch
):
    """On another kind of processor it is another stage: its numbers would be others."""

    def lab(units: bool, **given) -> Lab:
        monkeypatch.setattr(numerics, "bfloat16_units", lambda device: units)
        asked = {"task": "inference", "preset": "smoke", "runs": str(tmp_path), **given}
        made = Lab("02_training", stage_parameters("02_training", asked))
        made.stage.input_folders = []
        return made

    first = lab(units=True)
    assert first.parameters.precision == "bfloat16"
    first.stage.begin()
    first.stage.finish({})
    assert first.kept.manifest["parameters"]["precision"] == "bfloat16"
    assert first.kept.parameters.autocast
    assert lab(units=True).stage.finished()
    assert lab(units=False, precision="bfloat16").stage.finished()
    assert not lab(units=False).stage.finished()


def test_presets_leave_it_to_the_machine():
    for path in sorted((ROOT / "notebooks" / "presets").glob("*.yaml")):
        for track in TRACKS:
            given = {"task": "knowledge", "base_model": "any"} if track == GIVEN_TRACK else {}
            asked = {"task": "inference", "preset": path.stem, "track": track} | given
            # adapters of a pretrained model are trained in float32, as its file says
            own = path.stem.startswith("real") and track == "lora"
            precision = stage_parameters("02_training", asked).precision
            assert precision == ("float32" if own else "auto")
