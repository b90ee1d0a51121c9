"""repeng: its reader of hidden states, and a `ControlModel` around `generate`, cell by cell."""

from __future__ import annotations

import torch
from repeng import ControlModel
from repeng.extract import batched_get_hiddens
from transformers import PreTrainedTokenizerFast

from benchmarks.peers.engines.with_hooks import continued, load, padded
from benchmarks.peers.scenario import Scenario

PACKAGES = ("repeng", "transformers")
NOTES = {
    "capture": "reads text; the last layer's states come after the final norm, and are not compared",
    "sweep": "the last position alone needs an operator of one's own",
}
COMPARED = -1


def at_last(state: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """repeng's operator for the last position of a pass."""
    return torch.cat([state[:, :-1], state[:, -1:] + step[:, -1:]], dim=1)


class Engine:
    def __init__(self, scenario: Scenario):
        self.scenario, self.model = scenario, load(scenario)
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(scenario.model)
        self.texts = [" ".join(f"w{token}" for token in row) for row in scenario.ids.tolist()]
        assert torch.equal(self.tokenizer(self.texts, return_tensors="pt").input_ids, scenario.ids)
        self.layers = list(range(scenario.deltas.shape[1]))

    def capture(self) -> torch.Tensor:
        found = batched_get_hiddens(
            self.model, self.tokenizer, self.texts, self.layers, self.scenario.batch
        )
        return torch.stack([torch.from_numpy(found[layer]) for layer in self.layers], dim=1)

    @torch.inference_mode()
    def sweep(self, positions: str) -> torch.Tensor:
        s, found = self.scenario, []
        how = {} if positions == "all" else {"operator": at_last}
        for delta in s.deltas:
            touched = [layer for layer in self.layers if delta[layer].any()]
            model = ControlModel(self.model, touched)
            try:
                model.set_raw_control({layer: delta[layer] for layer in touched}, **how)
                rows = [
                    padded(continued(model, ids, s.new), s.new) for ids in s.swept.split(s.batch)
                ]
            finally:
                model.unwrap()
            found.append(torch.cat(rows))
        return s.codes(torch.stack(found))
