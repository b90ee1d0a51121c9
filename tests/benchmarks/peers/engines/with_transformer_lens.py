"""TransformerLens: `run_with_cache`, and `generate` under hooks, cell by cell."""

from __future__ import annotations

import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import PreTrainedTokenizerFast

from benchmarks.peers.engines.with_hooks import load, padded
from benchmarks.peers.scenario import END, Scenario

PACKAGES = ("transformer-lens", "transformers")
NOTES: dict[str, str] = {}
COMPARED = None


class Engine:
    def __init__(self, scenario: Scenario):
        self.scenario = scenario
        tokenizer = PreTrainedTokenizerFast.from_pretrained(scenario.model)
        self.model = TransformerBridge.boot_transformers(
            scenario.model, hf_model=load(scenario), tokenizer=tokenizer, device="cpu"
        )
        self.names = [f"blocks.{i}.hook_out" for i in range(scenario.deltas.shape[1])]

    @torch.no_grad()
    def capture(self) -> torch.Tensor:
        found = []
        for ids in self.scenario.ids.split(self.scenario.batch):
            _, cache = self.model.run_with_cache(
                ids,
                names_filter=self.names,
                pos_slice=-1,
                return_cache_object=False,
                return_type=None,
            )
            found.append(
                torch.stack([cache[name].reshape(len(ids), -1) for name in self.names], dim=1)
            )
        return torch.cat(found)

    @torch.no_grad()
    def sweep(self, positions: str) -> torch.Tensor:
        s, found = self.scenario, []

        def add(step: torch.Tensor):
            def hook(state, hook):
                if positions == "all":
                    return state + step
                return torch.cat([state[:, :-1], state[:, -1:] + step], dim=1)

            return hook

        for delta in s.deltas:
            steps = [(name, add(step)) for name, step in zip(self.names, delta) if step.any()]
            with self.model.hooks(fwd_hooks=steps):
                rows = [self._continued(ids) for ids in s.swept.split(s.batch)]
            found.append(torch.cat(rows))
        return s.codes(torch.stack(found))

    def _continued(self, ids: torch.Tensor) -> torch.Tensor:
        found = self.model.generate(
            ids,
            max_new_tokens=self.scenario.new,
            eos_token_id=END,
            do_sample=False,
            return_type="tokens",
            verbose=False,
        )
        return padded(found[:, ids.shape[1] :], self.scenario.new)
