"""Plain hooks of PyTorch on a model of transformers, and its `generate`, cell by cell."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

import torch
from transformers import AutoModelForCausalLM

from benchmarks.peers.scenario import END, PAD, Scenario

PACKAGES = ("transformers",)
NOTES: dict[str, str] = {}
COMPARED = None


def load(scenario: Scenario):
    """The model with the attention that the study uses: the same kernels for every engine."""
    return AutoModelForCausalLM.from_pretrained(
        scenario.model, attn_implementation="eager", local_files_only=True
    ).eval()


def continued(model, ids: torch.Tensor, new: int, **more) -> torch.Tensor:
    """The new tokens of greedy decoding, `[P, at most new]`."""
    found = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=new,
        eos_token_id=END,
        pad_token_id=PAD,
        **more,
    )
    return found[:, ids.shape[1] :]


def padded(found: torch.Tensor, new: int) -> torch.Tensor:
    """As many columns as the longest answer; what is missing had ended."""
    return torch.nn.functional.pad(found, (0, new - found.shape[1]), value=END)


def state_of(output):
    """A block's hidden state: transformers 5 gives it bare, 4 first in a tuple."""
    return output[0] if isinstance(output, tuple) else output


@contextmanager
def added(blocks, delta: torch.Tensor, positions: str):
    """Inside, `delta[layer]` is added after every block where it is not zero."""

    def add(step: torch.Tensor):
        def hook(module, args, output):
            state = state_of(output)
            if positions == "all":
                state = state + step
            else:
                state = torch.cat([state[:, :-1], state[:, -1:] + step], dim=1)
            return (state, *output[1:]) if isinstance(output, tuple) else state

        return hook

    with ExitStack() as stack:
        for block, step in zip(blocks, delta):
            if step.any():
                stack.callback(block.register_forward_hook(add(step)).remove)
        yield


class Engine:
    def __init__(self, scenario: Scenario):
        self.scenario, self.model = scenario, load(scenario)
        self.blocks = self.model.transformer.h

    @torch.inference_mode()
    def capture(self) -> torch.Tensor:
        found, states = [], []

        def keep(module, args, output):
            states.append(state_of(output)[:, -1].clone())

        with ExitStack() as stack:
            for block in self.blocks:
                stack.callback(block.register_forward_hook(keep).remove)
            for ids in self.scenario.ids.split(self.scenario.batch):
                states.clear()
                self.model(ids, use_cache=False)
                found.append(torch.stack(states, dim=1))
        return torch.cat(found)

    @torch.inference_mode()
    def sweep(self, positions: str) -> torch.Tensor:
        s, found = self.scenario, []
        for delta in s.deltas:
            with added(self.blocks, delta, positions):
                rows = [
                    padded(continued(self.model, ids, s.new), s.new)
                    for ids in s.swept.split(s.batch)
                ]
            found.append(torch.cat(rows))
        return s.codes(torch.stack(found))
