"""Matrix products by oneDNN: right for every shape, stride and format. In a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

from memgen.config.base import ROOT
from memgen.store.numerics import PORTABLE

WORK = """
import itertools, warnings
import memgen, torch
from memgen.store.products import use_onednn
warnings.simplefilter("error")
torch.manual_seed(0)

def turned(x):
    return x.T.contiguous().T

sizes = ((1, 1, 1), (3, 5, 7), (200, 64, 96), (48, 600, 30))
parts = [(torch.randn(m, k), torch.randn(k, n)) for m, k, n in sizes]
cases = [(f(a), g(b)) for a, b in parts for f, g in itertools.product((lambda x: x, turned), repeat=2)]
cases += [(torch.randn(6, 16)[:, ::2], torch.randn(16, 4)[::2])]
cases += [(torch.zeros(0, 4), torch.zeros(4, 2)), (torch.zeros(3, 0), torch.zeros(0, 2))]
cases += [(torch.ones(3, 4).to(kind), torch.ones(4, 2).to(kind)) for kind in (torch.float64, torch.int64)]
bias = torch.randn(7)
x, w = torch.randn(3, 5), torch.randn(5, 7)
start = torch.randn(3, 7)
layer = torch.nn.Linear(5, 7)

def results():
    layer.zero_grad()
    batch = torch.ones(2, 3, 5, requires_grad=True)
    layer(batch).square().sum().backward()
    found = [a @ b for a, b in cases]
    found += [torch.addmm(bias, x, w), torch.addmm(start, x, w, beta=0.5, alpha=2)]
    found += [torch.addmm(bias.double(), x.double(), w.double(), beta=2), layer(x).detach()]
    with torch.inference_mode():
        found.append(layer(x))
    return [*found, batch.grad, layer.weight.grad.clone(), layer.bias.grad.clone()]

before = results()
use_onednn()
use_onednn()
after = results()
for one, other in zip(before, after, strict=True):
    assert one.dtype == other.dtype and one.shape == other.shape
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
with torch.profiler.profile() as profile:
    results()
used = {event.key: event.count for event in profile.key_averages()}
assert used["mkldnn::_linear_pointwise"] > len(parts) * 4
print("right")
"""


def test_products_are_right_and_onednns():
    done = subprocess.run(
        [sys.executable, "-c", WORK],
        env={**os.environ, **PORTABLE, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip().endswith("right"), done.stderr
