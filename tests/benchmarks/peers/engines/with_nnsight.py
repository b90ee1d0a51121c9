"""nnsight: a trace that saves every block's output, and a traced `generate`, cell by cell."""

from __future__ import annotations

import nnsight
import torch
from transformers import PreTrainedTokenizerFast

from benchmarks.peers.engines.with_hooks import load
from benchmarks.peers.scenario import PAD, Scenario

PACKAGES = ("nnsight", "transformers")
NOTES = {"sweep": "decodes to the longest answer: a trace over steps cannot end before"}
COMPARED = None


class Engine:
    def __init__(self, scenario: Scenario):
        self.scenario = scenario
        tokenizer = PreTrainedTokenizerFast.from_pretrained(scenario.model)
        module = load(scenario)
        module.generation_config.eos_token_id = None  # a loop over steps must not be cut short
        self.model = nnsight.TransformersModel(module, task="text-generation", tokenizer=tokenizer)
        self.layers = range(scenario.deltas.shape[1])

    @torch.no_grad()
    def capture(self) -> torch.Tensor:
        model, layers, found = self.model, self.layers, []
        for ids in self.scenario.ids.split(self.scenario.batch):
            with model.trace(ids, use_cache=False):
                states = nnsight.save([])
                for layer in layers:
                    states.append(model.transformer.h[layer].output[:, -1])
            found.append(torch.stack(list(states), dim=1))
        return torch.cat(found)

    @torch.no_grad()
    def sweep(self, positions: str) -> torch.Tensor:
        s, found = self.scenario, []
        for delta in s.deltas:
            steps = [(layer, delta[layer]) for layer in self.layers if delta[layer].any()]
            rows = [self._continued(ids, steps, positions) for ids in s.swept.split(s.batch)]
            found.append(torch.cat(rows))
        return s.codes(torch.stack(found))

    def _continued(self, ids: torch.Tensor, steps: list, positions: str) -> torch.Tensor:
        model, new = self.model, self.scenario.new
        mask, where = torch.ones_like(ids), slice(None) if positions == "all" else slice(-1, None)
        with model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=new,
            pad_token_id=PAD,
        ) as tracer:
            for _ in tracer.iter[:new]:
                for layer, step in steps:
                    model.transformer.h[layer].output[:, where] += step
            result = tracer.result.save()
        return result[:, ids.shape[1] :]
