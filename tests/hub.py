"""Checkpoints as a hub holds them: small random models in folders, with what real ones carry beside."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)


def byte_level_bpe(texts: list[str], begin: bool) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer as GPT-2's, or, with a begin mark before every text, as LLaMA 3's.
    Neither has a padding token.
    """
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<|begin|>", "<|end|>"]
    backend.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=330,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    if begin:
        backend.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A", special_tokens=[("<|begin|>", backend.token_to_id("<|begin|>"))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|begin|>", eos_token="<|end|>"
    )


#: by kind: class, class of its configuration, and what is its own; windows shorter than the prompts of tests
DECODERS = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": 3}),
    "qwen2": (
        Qwen2ForCausalLM,
        Qwen2Config,
        {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1},
    ),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 8}),
    "gemma": (GemmaForCausalLM, GemmaConfig, {"head_dim": 8}),
    "gemma2": (
        Gemma2ForCausalLM,
        Gemma2Config,
        {
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
            "sliding_window": 3,
            "attn_logit_softcapping": 1.0,
            "final_logit_softcapping": 20.0,
        },
    ),
    "gemma3": (
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        {
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
            "sliding_window": 3,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
}


def decoder(kind: str, attention: str = "eager", **changes):
    """A model of `DECODERS` with two layers and random weights, its norms among them; in evaluation mode."""
    cls, config, own = DECODERS[kind]
    shape = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "initializer_range": 0.5,
    }
    torch.manual_seed(0)
    model = cls(config(**shape | own | changes, attn_implementation=attention)).eval()
    for name, weight in model.named_parameters():
        if "norm" in name:  # all alike at first, so that one could stand for another
            torch.nn.init.normal_(weight, 0.7, 0.2)
    return model


def hub_folder(folder: Path, kind: str, texts: list[str], **changes) -> Path:
    """A `gpt2` or one of `DECODERS`, large enough that its answers differ; its tokenizer.

    `changes`: of its configuration. The output row of the end mark is one that is often the largest,
    so that some answers end.
    """
    tokenizer = byte_level_bpe(texts, begin=kind != "gpt2")
    common = {
        "vocab_size": len(tokenizer),
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "initializer_range": 0.5,
        "tie_word_embeddings": False,
    }
    torch.manual_seed(0)
    if kind == "gpt2":
        shape = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
        model = GPT2LMHeadModel(GPT2Config(**shape | common | changes))
    else:
        model = decoder(kind, **{"pad_token_id": None} | common | changes)
    if not model.config.tie_word_embeddings:
        _let_it_end(model.eval(), tokenizer, texts)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _let_it_end(model, tokenizer, texts: list[str]) -> None:
    room = model.config.max_position_embeddings
    with torch.no_grad():
        said = torch.cat(
            [model(torch.tensor([tokenizer(t)["input_ids"][:room]])).logits[0] for t in texts]
        )
        often = int(said.argmax(-1).mode().values)
        rows, end = model.get_output_embeddings().weight, tokenizer.eos_token_id
        rows[[often, end], :] = rows[[end, often], :]


def by_hand(folder: Path, prompts: list[str], new: int) -> list[list[int]]:
    """The answers' tokens with the end mark: one prompt, one token at a time, the argmax of plain
    transformers, without a cache, padding or `generate`.
    """
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    tokenizer, said = AutoTokenizer.from_pretrained(folder), []
    for prompt in prompts:
        ids, answer = tokenizer(prompt)["input_ids"], []
        while len(answer) < new and tokenizer.eos_token_id not in answer:
            with torch.no_grad():
                logits = model(torch.tensor([ids + answer]), use_cache=False).logits
            answer.append(int(logits[0, -1].argmax()))
        said.append(answer)
    return said


def plant(folder: Path, file: str, **values) -> None:
    """Write values into a JSON file of a folder, which need not be there."""
    path = folder / file
    there = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**there, **values}))
