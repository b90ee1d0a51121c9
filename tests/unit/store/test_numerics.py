"""Portable numerics: the same bits whatever instruction set the environment forces, or no run at all."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from memgen.errors import StudyError
from memgen.pipeline.cli import main
from memgen.store.numerics import PORTABLE, environment, require

#: a few steps of training, a sweep's products, and what the statistics use
WORK = """
import hashlib
import memgen
import numpy as np, scipy.linalg, torch
from transformers import GPT2Config, GPT2LMHeadModel

torch.manual_seed(0)
sizes = dict(n_layer=1, n_embd=48, n_head=4, vocab_size=40, n_positions=16)
model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).eval()
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
ids = torch.randint(40, (24, 11))
for _ in range(3):
    model(input_ids=ids, labels=ids).loss.backward()
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
        env=inherited | forced | environment(numerics),
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
