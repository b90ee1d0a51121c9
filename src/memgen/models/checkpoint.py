"""What a checkpoint from elsewhere carries beside its weights: made harmless here, or refused by name.

A folder as a hub holds it says how its makers decode (penalties, forced and forbidden tokens,
sampling), how much text it has room for, and how text becomes tokens. An answer of this study is the
plain argmax of the model, on every road to it; what would change that, or break it, ends here, before
anything is computed.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import GenerationConfig, PretrainedConfig

from memgen.errors import ArtifactError, ParameterError, StudyError
from memgen.models.sites import ARCHITECTURES, bare

#: buffers that older versions of transformers saved beside the weights; they hold nothing learned
BUFFERS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")


def plain_decoding(tokenizer: Any, **how: Any) -> GenerationConfig:
    """Greedy decoding (unless `how` says otherwise) with nothing but the tokenizer's own marks."""
    return GenerationConfig(
        **{"do_sample": False, "use_cache": True} | how,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def settle(model: Any, tokenizer: Any) -> None:
    """Replace what the checkpoint says about decoding and about what a forward pass returns."""
    model.generation_config = plain_decoding(tokenizer, bos_token_id=tokenizer.bos_token_id)
    for name, value in (
        ("use_cache", True),
        ("return_dict", True),
        ("output_attentions", False),
        ("output_hidden_states", False),
    ):
        if getattr(model.config, name, value) != value:
            setattr(model.config, name, value)


def check_weights(folder: Path, missing: Collection[str], unexpected: Collection[str]) -> None:
    """Errors: `ArtifactError` where weights would be drawn at random, or would be left out."""
    extra = sorted(name for name in unexpected if not name.endswith(BUFFERS))
    for names, what in ((sorted(missing), "lacks"), (extra, "also holds")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ArtifactError(
                f"{folder} holds no loadable model (beside what its config.json describes it {what}"
                f" {names[0]}{more}); put the right config.json and weights there, or, if a run"
                " made it, delete it and run lab 02_training again"
            )


def check_numbers(folder: Path, model: torch.nn.Module) -> None:
    """Errors: `ArtifactError` naming the first weight with a value that is infinite or no number."""
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise ArtifactError(
                f"{folder} holds no usable model ({name} holds values that are infinite or no numbers);"
                " put the right weights there, or, if a run made it, delete it and run lab"
                " 02_training again"
            )


def check_config(config: PretrainedConfig, named: str) -> None:
    """Errors: `ParameterError` for what no road to an answer knows. `named`: how to call it."""
    if getattr(config, "quantization_config", None) is not None:
        raise ParameterError(
            f"{named} is quantized (quantization_config), and its hidden states cannot be read and"
            " shifted as they are; give the folder of its unquantized weights"
        )
    if getattr(config, "use_bidirectional_attention", None):
        raise ParameterError(
            f"{named} reads texts in both directions (use_bidirectional_attention), and an answer is"
            " written in one; give a model that looks back only"
        )
    if getattr(config, "is_encoder_decoder", False) or getattr(
        config, "add_cross_attention", False
    ):
        raise ParameterError(
            f"{named} reads a second text (add_cross_attention); give a model that only continues"
            " one"
        )


def check_attention(config: PretrainedConfig, attention: str, named: str) -> None:
    """Errors: `ParameterError` for an attention kernel that this architecture does not run with."""
    name = (config.architectures or [""])[0]
    known = ARCHITECTURES.get(name)
    if known and attention not in known.kernels:
        raise ParameterError(
            f"attention={attention!r} cannot do what {named}, a {name}, does to its attention scores;"
            f" choose attention={' or '.join(known.kernels)}"
        )


def settle_tokenizer(tokenizer: Any, rows: int | None, folder: Path) -> None:
    """Pad on the left, with the end mark where there is no usable padding mark; decode as encoded.

    `rows`: of the model's embedding, None where the folder does not say. Errors: `ArtifactError` if
    the tokenizer has no end mark, tokens that the model has no embedding for, or marks of its own
    behind or inside a text.
    """
    if tokenizer.eos_token_id is None:
        raise ArtifactError(
            f"the tokenizer in {folder} has no end token (eos_token), so an answer could not end"
        )
    padding = tokenizer.pad_token_id
    known = set(tokenizer.get_vocab().values()) - {padding}
    if rows is not None and max(known | {tokenizer.eos_token_id}) >= rows:
        raise ArtifactError(
            f"the tokenizer in {folder} has tokens up to number {max(known)}, and the model beside it"
            f" has embeddings for {rows} (vocab_size); put the model's own tokenizer there"
        )
    if padding is None or (rows is not None and padding >= rows):
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    tokenizer.truncation_side = "left"
    tokenizer.clean_up_tokenization_spaces = False
    _check_marks(tokenizer, folder)


def _check_marks(tokenizer: Any, folder: Path) -> None:
    """A mark before a text is read on every road; one behind it would stand where answers begin."""
    text = "1 a"
    plain = tokenizer(text, add_special_tokens=False)["input_ids"]
    marked = tokenizer(text)["input_ids"]
    if marked[len(marked) - len(plain) :] != plain:
        raise ArtifactError(
            f"the tokenizer in {folder} puts marks of its own behind or inside every text"
            f" ({tokenizer.decode(marked)!r} for {text!r}), so that an answer would begin after them;"
            " switch them off there (add_eos_token: false in tokenizer_config.json, or the"
            " post_processor in tokenizer.json)"
        )


def check_texts(tokenizer: Any, frame: pd.DataFrame, named: str) -> None:
    """Can every prompt of a data set be told from every other, and every answer be given back?

    Errors: `ParameterError` naming the first text for which that fails.
    """
    prompts = sorted(set(frame.prompt))
    answers = sorted(({*frame.rule_answer, *frame.memory_answer}) - {""})
    encoded = tokenizer([*prompts, *answers], add_special_tokens=False)["input_ids"]
    unknown = tokenizer.unk_token_id
    seen: dict[tuple[int, ...], str] = {}
    for text, ids in zip([*prompts, *answers], encoded):
        if not ids or (unknown is not None and unknown in ids):
            raise ParameterError(
                f"the tokenizer of {named} has no tokens for {text!r}; choose another base"
            )
    for text, ids in zip(prompts, encoded):
        other = seen.setdefault(tuple(ids), text)
        if other != text:
            raise ParameterError(
                f"the tokenizer of {named} reads {other!r} and {text!r} as the same tokens; choose"
                " another base"
            )
    for text, ids in zip(answers, encoded[len(prompts) :]):
        if tokenizer.decode(ids).strip() != text.strip():
            raise ParameterError(
                f"the tokenizer of {named} does not give back the answer {text!r}: its tokens read"
                f" {tokenizer.decode(ids)!r}; choose another base"
            )


def context_of(config: PretrainedConfig) -> int | None:
    """How many tokens a model takes; None where its configuration does not say."""
    return getattr(config, "max_position_embeddings", None)


def check_context(there: int | None, needed: int, named: str) -> None:
    """Errors: `ParameterError` if `needed` tokens, a prompt with its answer, exceed the context."""
    if there is not None and needed > there:
        raise ParameterError(
            f"{named} has room for {there} tokens (its context), and the longest prompt with its"
            f" answer needs {needed}; choose a base with a longer context, or another task"
        )


def check_room(model: torch.nn.Module, mask: torch.Tensor, new: int) -> None:
    """Errors: `StudyError` if `new` tokens after the prompts of `mask` `[n, positions]` do not fit."""
    there = context_of(bare(model).config)
    longest = int(mask.sum(-1).max()) if len(mask) else 0
    if there is not None and longest + new > there + 1:  # the last new token is not read again
        raise StudyError(
            f"a prompt of {longest} tokens and {new} tokens of answer do not fit into the model's"
            f" context of {there}; ask something shorter, or choose a model with a longer context"
        )
