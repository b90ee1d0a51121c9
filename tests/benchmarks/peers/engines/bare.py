"""No library, no shift, no answer: bare forward passes over the rows that all others have.

A sweep is the prompt's pass of every row and one cached pass for each further token of the longest
answer, in batches of the same size: what `generate` has to do at least.
"""

from __future__ import annotations

import torch

from benchmarks.peers.engines.with_hooks import load
from benchmarks.peers.scenario import Scenario

PACKAGES = ("transformers",)
NOTES = {"capture": "passes alone, nothing is read", "sweep": "passes alone, nothing is shifted"}
COMPARED = None


class Engine:
    def __init__(self, scenario: Scenario):
        self.scenario, self.model = scenario, load(scenario)

    @torch.inference_mode()
    def capture(self) -> None:
        """The model's own pass, scores of every position included."""
        for ids in self.scenario.ids.split(self.scenario.batch):
            self.model(ids, use_cache=False)

    @torch.inference_mode()
    def sweep(self, positions: str) -> None:
        s = self.scenario
        for ids in s.swept.repeat(len(s.deltas), 1).split(s.batch):
            out = self.model(ids, use_cache=True, logits_to_keep=1)
            for _ in range(s.new - 1):
                ids = out.logits[:, -1:].argmax(-1)
                out = self.model(ids, past_key_values=out.past_key_values, use_cache=True)
