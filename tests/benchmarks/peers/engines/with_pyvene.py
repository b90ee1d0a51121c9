"""pyvene: collecting interventions, and additions under its `generate`, cell by cell."""

from __future__ import annotations

import pyvene
import torch

from benchmarks.peers.engines.with_hooks import continued, load, padded
from benchmarks.peers.scenario import Scenario

PACKAGES = ("pyvene", "transformers")
NOTES = {"sweep": "the last position alone needs an intervention of one's own"}
COMPARED = None


class LastAddition(pyvene.ConstantSourceIntervention):
    """Adds a vector at the last position of every pass."""

    def __init__(self, step: torch.Tensor):
        super().__init__(keep_last_dim=True)  # the states come as [rows, positions, d_model]
        self.step = step

    def forward(self, base, source=None, subspaces=None):
        return torch.cat([base[:, :-1], base[:, -1:] + self.step], dim=1)


def addition(step: torch.Tensor, positions: str):
    """The intervention that adds `step`."""
    if positions == "all":
        return pyvene.AdditionIntervention(source_representation=step)
    return LastAddition(step)


class Intervened:
    """Something with the `generate` that `continued` expects."""

    def __init__(self, model: pyvene.IntervenableModel):
        self.model = model

    def generate(self, input_ids, attention_mask, **how):
        base = {"input_ids": input_ids, "attention_mask": attention_mask}
        return self.model.generate(base, unit_locations=None, intervene_on_prompt=True, **how)[1]


class Engine:
    def __init__(self, scenario: Scenario):
        self.scenario, self.model = scenario, load(scenario)
        self.layers = range(scenario.deltas.shape[1])
        self.collecting = pyvene.IntervenableModel(
            [
                {
                    "layer": layer,
                    "component": "block_output",
                    "intervention_type": pyvene.CollectIntervention,
                }
                for layer in self.layers
            ],
            model=self.model,
        )

    @torch.no_grad()
    def capture(self) -> torch.Tensor:
        found = []
        for ids in self.scenario.ids.split(self.scenario.batch):
            base = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            (_, states), _ = self.collecting(
                base, unit_locations={"base": ids.shape[1] - 1}, use_cache=False
            )
            found.append(torch.stack([one.reshape(len(ids), -1) for one in states], dim=1))
        return torch.cat(found)

    @torch.no_grad()
    def sweep(self, positions: str) -> torch.Tensor:
        s, found = self.scenario, []
        for delta in s.deltas:
            steps = [
                {
                    "layer": layer,
                    "component": "block_output",
                    "intervention": addition(delta[layer], positions),
                }
                for layer in self.layers
                if delta[layer].any()
            ]
            model = Intervened(pyvene.IntervenableModel(steps, model=self.model))
            rows = [padded(continued(model, ids, s.new), s.new) for ids in s.swept.split(s.batch)]
            found.append(torch.cat(rows))
        return s.codes(torch.stack(found))
