"""Where in a model a hidden state is read and shifted: the *sites* of each architecture.

| site         | vector, per layer and position                                                          |
|--------------|-----------------------------------------------------------------------------------------|
| `resid_post` | residual stream after the block, before any final norm (the default)                    |
| `mlp_out`    | what the feed-forward part adds to the residual stream                                  |
| `ln_2`       | the normalized vector that the feed-forward part reads (the paper's "LayerNorm-2 outputs") |

transformers' own `hidden_states[-1]` is *after* the final norm; `resid_post` of the last layer is
before it.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from memgen.errors import ArchitectureError
from memgen.terms import SITES


@dataclass(frozen=True)
class Architecture:
    """Paths of one architecture: the list of blocks in the model, and modules inside a block.

    `attention_map`, `mlp_map`: the last linear map of attention, which reads the heads' outputs
    side by side, and that of the feed-forward part, which reads its hidden units.
    `linear`: the linear maps of a block by their last name, where LoRA goes; `transposed`: are
    their weights stored `[in, out]`, as GPT-2's are?
    """

    blocks: str
    mlp_out: str
    ln_2: str
    attention_map: str
    mlp_map: str
    linear: tuple[str, ...]
    transposed: bool = False
    resid_post: str = ""  # the empty path is the block itself


# A new architecture is one line here: the paths are those that `print(model)` shows.
ARCHITECTURES = {
    "GPT2LMHeadModel": Architecture(
        blocks="transformer.h",
        mlp_out="mlp",
        ln_2="ln_2",
        attention_map="attn.c_proj",
        mlp_map="mlp.c_proj",
        linear=("c_attn", "c_proj", "c_fc"),
        transposed=True,
    ),
    "LlamaForCausalLM": Architecture(
        blocks="model.layers",
        mlp_out="mlp",
        ln_2="post_attention_layernorm",
        attention_map="self_attn.o_proj",
        mlp_map="mlp.down_proj",
        linear=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    ),
}


def linear_maps(architecture: str) -> tuple[str, ...]:
    """The linear maps of a block of the study's own models: `gpt2` or `llama`."""
    names = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM"}
    return ARCHITECTURES[names[architecture]].linear


def bare(model: nn.Module) -> nn.Module:
    """The transformers model itself, without PEFT's wrapper (its adapters stay active)."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def architecture_of(model: nn.Module) -> Architecture:
    """Errors: `ArchitectureError` naming those known, if this one is not in `ARCHITECTURES`."""
    name = type(bare(model)).__name__
    if name not in ARCHITECTURES:
        raise ArchitectureError(
            f"architecture {name} is unknown; known are {', '.join(ARCHITECTURES)} (a new one is a"
            " line in memgen.models.sites.ARCHITECTURES)"
        )
    return ARCHITECTURES[name]


def site_modules(model: nn.Module, site: str) -> list[nn.Module]:
    """The modules, one per layer in order, whose output is the site's vector; or `ValueError`."""
    if site not in SITES:
        raise ValueError(f"site {site!r} is unknown; choose one of {', '.join(SITES)}")
    architecture = architecture_of(model)
    return [
        block.get_submodule(getattr(architecture, site))
        for block in bare(model).get_submodule(architecture.blocks)
    ]
