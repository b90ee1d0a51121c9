"""This study's own capture and sweep (`memgen.models.hooks`, `memgen.steering.engine`)."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.peers.scenario import END, Scenario
from memgen.models.hooks import capture
from memgen.models.load import load_model
from memgen.steering.engine import Decoding, run_cells
from memgen.steering.prompts import Prompts

PACKAGES = ("transformers",)
NOTES: dict[str, str] = {}
COMPARED = None


class Engine:
    early_end = True

    def __init__(self, scenario: Scenario):
        self.scenario = scenario
        self.model, _ = load_model(Path(scenario.model))
        mask = torch.ones_like(scenario.swept)
        self.prompts = Prompts(scenario.swept, mask, scenario.candidates)

    def capture(self) -> torch.Tensor:
        return capture(self.model, self.scenario.ids, batch_size=self.scenario.batch)

    def sweep(self, positions: str) -> torch.Tensor:
        how = Decoding(
            positions=positions,
            max_new_tokens=self.scenario.new,
            eos_token_id=END,
            rows_per_batch=self.scenario.batch,
            early_end=self.early_end,
        )
        return run_cells(self.model, self.prompts, self.scenario.deltas, how)
