"""The parts of a block: what they compute is read, or replaced, while a model runs.

| component  | vector, per layer and position                                                           |
|------------|------------------------------------------------------------------------------------------|
| the sites  | as in `memgen.models.sites`: `resid_post`, `mlp_out`, `ln_2`                             |
| `block_in` | the residual stream before the block                                                     |
| `attn_out` | what attention adds to the residual stream                                               |
| `heads`    | the outputs of all heads side by side, before one linear map mixes them                  |
| `units`    | the hidden units of the feed-forward part, after the activation                          |

`heads` and `units` are what the last linear map of attention and of the feed-forward part reads, so
they are edited at the input of that map, `block_in` at that of the block; all others at the output of
their module. In Gemma 2 and 3 a norm
follows either map, and what it makes of the map's output is added: `attn_out` and `mlp_out` are behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from memgen.models.hooks import (
    check_left_padded,
    evaluating,
    position_ids,
    vector_of,
    with_vector,
)
from memgen.models.sites import architecture_of, bare, site_modules
from memgen.phases import phase
from memgen.terms import SITES

#: component: the field of `Architecture` that names its module, and is it that module's input?
_PARTS = {
    "block_in": ("resid_post", True),
    "attn_out": ("attn_out", False),
    "heads": ("attention_map", True),
    "units": ("mlp_map", True),
}
COMPONENTS = (*SITES, *_PARTS)
Place = tuple[str, int]  # component, layer from 0
Edit = Callable[[torch.Tensor], torch.Tensor]  # [rows, positions, width] to the same shape


def component_modules(model: nn.Module, component: str) -> tuple[list[nn.Module], bool]:
    """The modules, one per layer, and whether the vector is their input. `ValueError`: unknown."""
    if component not in COMPONENTS:
        raise ValueError(f"component {component!r} is unknown; choose one of {COMPONENTS}")
    if component in SITES:
        return site_modules(model, component), False
    architecture = architecture_of(model)
    name, is_input = _PARTS[component]
    blocks = bare(model).get_submodule(architecture.blocks)
    path = getattr(architecture, name)  # the empty path is the block itself
    if component == "attn_out":
        path = path or architecture.attention_map
    return [block.get_submodule(path) for block in blocks], is_input


def head_width(model: nn.Module) -> int:
    """Coordinates of one head's output: head h is `heads[..., h * width : (h + 1) * width]`."""
    (first, *_), _ = component_modules(model, "heads")
    return _weight(model, first).shape[0] // bare(model).config.num_attention_heads


def unit_maps(model: nn.Module) -> torch.Tensor:
    """What one unit of activation adds to the residual stream: `[n_layer, n_units, d_model]`.

    In Gemma 2 and 3 a norm follows the map, which scales the sum over all units; this is before it.
    """
    modules, _ = component_modules(model, "units")
    return torch.stack([_weight(model, module) for module in modules]).detach().float().cpu()


def _weight(model: nn.Module, module: nn.Module) -> torch.Tensor:
    weight = module.get_parameter("weight")
    return weight if architecture_of(model).transposed else weight.T


@contextmanager
def edited(model: nn.Module, edits: Mapping[Place, Edit]) -> Iterator[None]:
    """Inside, every pass computes `edits[component, layer](vector)` in place of the vector.

    An edit gets `[rows, positions, width]` and returns as much; with a key-value cache the pass
    over a prompt has all its positions, each later pass has one. Errors: `ValueError` for an
    unknown component, `IndexError` for a layer that the model does not have.
    """
    with ExitStack() as stack:
        for (component, layer), edit in edits.items():
            modules, is_input = component_modules(model, component)
            module = modules[layer]
            hook = (
                module.register_forward_pre_hook(_on_input(edit))
                if is_input
                else module.register_forward_hook(_on_output(edit))
            )
            stack.callback(hook.remove)
        yield


def _on_input(edit: Edit):
    return lambda module, args: (edit(args[0]), *args[1:])


def _on_output(edit: Edit):
    return lambda module, args, output: with_vector(output, edit(vector_of(output)))


@phase("capture")
@torch.inference_mode()
def read(
    model: nn.Module,
    ids: torch.Tensor,
    mask: torch.Tensor,
    component: str,
    last: bool = False,
    batch_size: int = 512,
) -> torch.Tensor:
    """A component's vectors in all layers, float32 on the CPU, `[n, n_layer, positions, width]`.

    `last`: at the last position only, `[n, n_layer, width]`. `ids`, `mask`: `[n, positions]`,
    padded on the left; vectors at padding mean nothing.
    """
    found = [of[component] for of in _reading(model, (ids, mask), [component], last, batch_size)]
    return torch.cat(found)


@phase("capture")
@torch.inference_mode()
def read_several(
    model: nn.Module, ids: torch.Tensor, mask: torch.Tensor, components: Sequence[str]
) -> dict[str, torch.Tensor]:
    """What `read` gives of each of these components, in one pass."""
    parts = [*_reading(model, (ids, mask), components, last=False, batch_size=512)]
    return {name: torch.cat([part[name] for part in parts]) for name in components}


def _reading(
    model: nn.Module,
    prompts: tuple[torch.Tensor, torch.Tensor],
    components: Sequence[str],
    last: bool,
    batch_size: int,
) -> Iterator[dict[str, torch.Tensor]]:
    """By component the vectors of one batch after the other."""
    ids, mask = prompts
    check_left_padded(ids, mask)
    core = bare(model)
    layers = {name: len(component_modules(model, name)[0]) for name in components}
    seen: dict[Place, torch.Tensor] = {}

    def keep(place: Place) -> Edit:
        def look(vector: torch.Tensor) -> torch.Tensor:
            seen[place] = (vector[:, -1] if last else vector).float().cpu().clone()
            return vector

        return look

    edits = {
        (name, layer): keep((name, layer)) for name in components for layer in range(layers[name])
    }
    with edited(model, edits), evaluating(model):
        for some, own in zip(ids.split(batch_size), mask.to(core.device).split(batch_size)):
            core.base_model(
                input_ids=some.to(core.device),
                attention_mask=own,
                position_ids=position_ids(own),
                use_cache=False,
            )
            yield {
                name: torch.stack([seen[name, layer] for layer in range(layers[name])], dim=1)
                for name in components
            }
