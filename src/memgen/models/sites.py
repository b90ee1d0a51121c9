"""Where in a model a hidden state is read and shifted: the *sites* of each architecture.

| site         | vector, per layer and position                                                          |
|--------------|-----------------------------------------------------------------------------------------|
| `resid_post` | residual stream after the block, before any final norm (the default)                    |
| `mlp_out`    | what the feed-forward part adds to the residual stream                                  |
| `ln_2`       | the normalized vector that the feed-forward part reads (the paper's "LayerNorm-2 outputs") |

transformers' own `hidden_states[-1]` is *after* the final norm; `resid_post` of the last layer is
before it. Blocks of Gemma 2 and 3 have four norms: there `ln_2` is `pre_feedforward_layernorm`, and
`mlp_out` is what `post_feedforward_layernorm` makes of the feed-forward part's output, for that is added.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from memgen.errors import ArchitectureError
from memgen.terms import SITES


@dataclass(frozen=True)
class Architecture:
    """Paths of one architecture: the list of blocks in the model, and modules inside a block.

    `attention_map`, `mlp_map`: the last linear map of attention, which reads the heads' outputs
    side by side, and that of the feed-forward part, which reads its hidden units. `attn_out`,
    `mlp_out`: the modules whose outputs are added to the residual stream, by default the attention's
    map and the feed-forward part. `linear`: the linear maps of a block by their last name, where
    LoRA goes; `transposed`: are their weights stored `[in, out]`, as GPT-2's are? `final_norm`: what
    is applied to the last block's output, in the model. `softcaps`: may its configuration bound its
    logits (`final_logit_softcapping`)? `kernels`: those of transformers' attention that it runs with.
    """

    blocks: str
    ln_2: str
    attention_map: str
    mlp_map: str
    linear: tuple[str, ...]
    final_norm: str
    attn_out: str = ""
    mlp_out: str = "mlp"
    transposed: bool = False
    softcaps: bool = False
    kernels: tuple[str, ...] = ("eager", "sdpa")
    resid_post: str = ""  # the empty path is the block itself


_GPT2 = Architecture(
    blocks="transformer.h",
    ln_2="ln_2",
    attention_map="attn.c_proj",
    mlp_map="mlp.c_proj",
    linear=("c_attn", "c_proj", "c_fc"),
    final_norm="transformer.ln_f",
    transposed=True,
)
#: most of today's decoders name their parts alike
_LLAMA = Architecture(
    blocks="model.layers",
    ln_2="post_attention_layernorm",
    attention_map="self_attn.o_proj",
    mlp_map="mlp.down_proj",
    linear=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    final_norm="model.norm",
)
#: four norms a block: before and behind attention, before and behind the feed-forward part. What the
#: feed-forward part reads is the third one's output, what it adds is the fourth one's; and behind the
#: attention is the second, which has the name of LLaMA's norm before the feed-forward part
_FOUR_NORMS = replace(
    _LLAMA,
    ln_2="pre_feedforward_layernorm",
    attn_out="post_attention_layernorm",
    mlp_out="post_feedforward_layernorm",
    softcaps=True,
)
# A new architecture is one line here: the paths are those that `print(model)` shows.
ARCHITECTURES = {
    "GPT2LMHeadModel": _GPT2,
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": _LLAMA,
    "Qwen2ForCausalLM": _LLAMA,
    "Qwen3ForCausalLM": _LLAMA,
    "GemmaForCausalLM": _LLAMA,
    # it bounds attention scores, which sdpa cannot
    "Gemma2ForCausalLM": replace(_FOUR_NORMS, kernels=("eager",)),
    "Gemma3ForCausalLM": _FOUR_NORMS,
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


def capped(model: nn.Module, logits: torch.Tensor) -> torch.Tensor:
    """What the model makes of its output embedding's products: Gemma 2 and 3 may bound them, smoothly.

    Source: Gemma Team (2024), Gemma 2, section 2: cap * tanh(logit / cap).
    """
    core = bare(model)
    known = ARCHITECTURES.get(type(core).__name__)
    cap = (
        getattr(core.config, "final_logit_softcapping", None) if known and known.softcaps else None
    )
    return logits if cap is None else torch.tanh(logits / cap) * cap
