"""Build and save the study's own models: real transformers classes, ordinary Hugging Face folders."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from memgen.errors import ParameterError
from memgen.store.files import guard_disk


def build_model(  # noqa: PLR0913 (the measures of a model, each by its name)
    tokenizer: PreTrainedTokenizerFast,
    *,
    architecture: str = "gpt2",
    n_layer: int,
    n_embd: int,
    n_head: int,
    n_positions: int,
    initializer_range: float,
    seed: int,
    attention: str = "eager",
) -> PreTrainedModel:
    """A model with random weights drawn from `seed`. No dropout: the data hardly repeat.

    `gpt2`: learned positions, LayerNorm, GELU (`gelu_pytorch_tanh`: GPT-2's `gelu_new` in one fused
    kernel). `llama`: rotary positions, RMSNorm, SwiGLU with LLaMA's ratio of 8/3 between the inner
    and the outer width; embeddings tied as in LLaMA-3.2.
    """
    common = {
        "vocab_size": len(tokenizer),
        "initializer_range": initializer_range,
        "bos_token_id": tokenizer.eos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if architecture == "gpt2":
        cls, config = (
            GPT2LMHeadModel,
            GPT2Config(
                n_positions=n_positions,
                n_embd=n_embd,
                n_layer=n_layer,
                n_head=n_head,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                activation_function="gelu_pytorch_tanh",
                **common,
            ),
        )
    elif architecture == "llama":
        cls, config = (
            LlamaForCausalLM,
            LlamaConfig(
                hidden_size=n_embd,
                intermediate_size=8 * n_embd // 3 // 8 * 8,
                num_hidden_layers=n_layer,
                num_attention_heads=n_head,
                num_key_value_heads=n_head,
                max_position_embeddings=n_positions,
                tie_word_embeddings=True,
                **common,
            ),
        )
    else:
        raise ParameterError(f"architecture={architecture!r} is unknown; choose gpt2 or llama")
    config._attn_implementation = attention
    torch.manual_seed(seed)
    return cls(config)


def save_model(folder: Path, model, tokenizer) -> None:
    """Write `config.json`, `model.safetensors` and the tokenizer, as `from_pretrained` expects."""
    with guard_disk(folder):
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)


N_POSITIONS = 32
