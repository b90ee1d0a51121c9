"""Build, save and load the study's models: real transformers classes, ordinary Hugging Face folders."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from .artifacts import guard_disk
from .errors import ArtifactError


def build_model(tokenizer: PreTrainedTokenizerFast, *, n_layer: int, n_embd: int, n_head: int, n_positions: int,
                initializer_range: float, seed: int, attention: str = "eager") -> GPT2LMHeadModel:
    """A GPT-2 with random weights drawn from `seed`. No dropout: the data do not repeat often enough to need it.

    `gelu_pytorch_tanh` is the same function as GPT-2's `gelu_new`, in one fused kernel.
    """
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=n_positions, n_embd=n_embd, n_layer=n_layer, n_head=n_head,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, activation_function="gelu_pytorch_tanh",
        initializer_range=initializer_range,
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )
    config._attn_implementation = attention
    torch.manual_seed(seed)
    return GPT2LMHeadModel(config)


def save_model(folder: Path, model, tokenizer) -> None:
    """Write `config.json`, `model.safetensors` and the tokenizer, as `from_pretrained` expects them."""
    with guard_disk(folder):
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)


def load_model(folder: Path, attention: str = "eager"):
    """`(model, tokenizer)` from a local folder, float32, in evaluation mode; never from the network, never running code from it."""
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise ArtifactError(f"{folder} holds no model (no config.json); run lab 02_training of this task and seed first")
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True,
            attn_implementation=attention, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(f"{folder} holds no loadable model ({reason}); delete it and run lab 02_training again") from None
    return model.eval(), tokenizer
