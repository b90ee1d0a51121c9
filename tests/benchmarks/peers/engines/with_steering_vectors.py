"""steering-vectors: `record_activations`, and a vector applied around `generate`, cell by cell."""

from __future__ import annotations

import torch
from steering_vectors import SteeringVector, record_activations

from benchmarks.peers.engines.with_hooks import continued, load, padded
from benchmarks.peers.scenario import Scenario

PACKAGES = ("steering-vectors", "transformers")
NOTES: dict[str, str] = {}
COMPARED = None


class Engine:
    def __init__(self, scenario: Scenario):
        self.scenario, self.model = scenario, load(scenario)

    @torch.inference_mode()
    def capture(self) -> torch.Tensor:
        found = []
        for ids in self.scenario.ids.split(self.scenario.batch):
            with record_activations(self.model) as recorded:
                self.model(ids, use_cache=False)
            layers = [recorded[layer][0][:, -1] for layer in sorted(recorded)]
            found.append(torch.stack(layers, dim=1))
        return torch.cat(found)

    @torch.inference_mode()
    def sweep(self, positions: str) -> torch.Tensor:
        s, found = self.scenario, []
        where = {} if positions == "all" else {"token_indices": slice(-1, None)}
        for delta in s.deltas:
            vector = SteeringVector({i: step for i, step in enumerate(delta) if step.any()})
            # `apply` gives two ways to choose tokens at once, which its own check refuses
            handle = vector.patch_activations(self.model, **where)
            try:
                rows = [
                    padded(continued(self.model, ids, s.new), s.new)
                    for ids in s.swept.split(s.batch)
                ]
            finally:
                handle.remove()
            found.append(torch.cat(rows))
        return s.codes(torch.stack(found))
