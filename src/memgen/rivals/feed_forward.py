"""The linear maps of the feed-forward parts, as weight edits see them: `[out, in]`, adapters included."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from memgen.models.sites import architecture_of, bare


@dataclass(frozen=True)
class LinearMap:
    """One map: its `layer` from 0, last `name`, `module`, and the `parameter` that stores its weight."""

    layer: int
    name: str
    module: nn.Module
    parameter: str
    transposed: bool

    @property
    def base(self) -> nn.Module:
        """The map itself, without peft's wrapper."""
        return getattr(self.module, "base_layer", self.module)

    @property
    def stored(self) -> torch.Tensor:
        """The weight as the model stores it, without an adapter."""
        return self.base.get_parameter("weight").detach()

    @property
    def adapter(self) -> torch.Tensor:
        """What an adapter adds to it, as the model stores it; zeros without one."""
        found = torch.zeros_like(self.stored)
        for name in getattr(self.module, "active_adapters", []):
            found = found + self.module.get_delta_weight(name).detach()
        return found

    @property
    def weight(self) -> torch.Tensor:
        """What the map multiplies with, `[out, in]`."""
        found = self.stored + self.adapter
        return found.T if self.transposed else found

    def storing(self, weight: torch.Tensor) -> torch.Tensor:
        """What the parameter has to hold so that the map multiplies with `weight` `[out, in]`."""
        return (weight.T if self.transposed else weight) - self.adapter


def linear_maps(model: nn.Module) -> list[LinearMap]:
    """All of them, layer by layer, the last of a layer being the one that reads the hidden units."""
    architecture, core = architecture_of(model), bare(model)
    room, _, last = architecture.mlp_map.rpartition(".")
    found = []
    for layer, block in enumerate(core.get_submodule(architecture.blocks)):
        part = block.get_submodule(room)
        names = [name for name in architecture.linear if hasattr(part, name)]
        for name in sorted(names, key=lambda one: one == last):
            module = part.get_submodule(name)
            path = f"{architecture.blocks}.{layer}.{room}.{name}"
            inner = ".base_layer" if hasattr(module, "base_layer") else ""
            parameter = f"{path}{inner}.weight"
            found.append(LinearMap(layer, name, module, parameter, architecture.transposed))
    return found
