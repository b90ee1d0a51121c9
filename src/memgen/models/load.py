"""Load a run's model, or a pretrained one: ordinary Hugging Face folders, adapters on top of them.

Nothing is fetched and nothing in a folder is executed.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from huggingface_hub import constants, snapshot_download
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from memgen.config.base import ROOT
from memgen.errors import ArchitectureError, ArtifactError, ParameterError, StudyError
from memgen.models.adapters import attach, base_of, is_adapter, load_adapter
from memgen.models.checkpoint import (
    check_attention,
    check_config,
    check_numbers,
    check_weights,
    context_of,
    settle,
    settle_tokenizer,
)
from memgen.models.packaged import hint
from memgen.models.pointer import followed
from memgen.models.sites import ARCHITECTURES, bare
from memgen.store.numerics import settled
from memgen.store.ours import expanded
from memgen.store.reader import FinishedStage

#: what transformers, its checks of configurations and its tokenizers raise for files that they cannot make
#: sense of: any kind, `Exception` itself included
UNREADABLE = Exception


def load_model(folder: Path, attention: str = "eager", dtype: str = "float32", device: str = "cpu"):
    """`(model, tokenizer)` from a local folder, in evaluation mode; no network, no code from it.

    The folder of an adapter gives its base, which must be that it was trained on, with the adapter; one
    with a pointer the model that it points to.
    What a folder says about decoding plays no part: answers are the model's plain argmax.
    """
    folder = followed(folder)
    if is_adapter(folder):
        model = load_adapter(_load(base_of(folder), attention, dtype), folder)
    elif (folder / "config.json").is_file():
        model = _load(folder, attention, dtype)
    else:
        raise ArtifactError(
            f"{folder} holds no model (no config.json); run lab 02_training of this task and seed"
            " first"
        )
    tokenizer = load_tokenizer(folder, len(model.get_input_embeddings().weight))
    settle(bare(model), tokenizer)
    model.to(device)
    model.eval()
    return model, tokenizer


def load_trained(stage: FinishedStage):
    """`(model, tokenizer)` of a training stage, on its parameters' device and in their format."""
    p = settled(stage.parameters)
    return load_model(stage.path("model"), p.loaded_attention, p.loaded_dtype, p.device)


def _load(folder: Path, attention: str, dtype: str) -> PreTrainedModel:
    try:
        check_attention(_config(folder), attention, str(folder))
        model, found = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation=attention,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
        )
    except StudyError:
        raise
    except UNREADABLE as error:
        raise ArtifactError(
            f"{folder} holds no loadable model ({_first_line(error)}); if a run made it, delete it"
            " and run lab 02_training again, else put the model's own files there"
        ) from None
    check_weights(folder, found["missing_keys"], found["unexpected_keys"])
    check_numbers(folder, model)
    return model


def _config(folder: Path):
    return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def load_tokenizer(folder: Path, rows: int | None = None):
    """A model folder's tokenizer; without a usable padding token (GPT-2, LLaMA) its end token pads.

    `rows`: of the model's embedding (None: as the folder's config.json says).
    """
    folder = Path(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except UNREADABLE as error:
        raise ArtifactError(
            f"{folder} holds no loadable tokenizer ({_first_line(error)}); restore it beside the"
            " model"
        ) from None
    if rows is None and (folder / "config.json").is_file():
        rows = _config(folder).vocab_size
    settle_tokenizer(tokenizer, rows, folder)
    return tokenizer


def find_base(base_model: str) -> Path:
    """The local folder of `base_model`: one here, in the repository, or the hub's cache; no network.

    Errors: `ParameterError` if there is none (saying how to get it) or it is of a kind that cannot
    be read, `ArchitectureError` if its architecture has no known sites, `ArtifactError` if its
    tokenizer does not fit.
    """
    folder = expanded(base_model)
    if not os.path.isdir(folder) and not folder.is_absolute():
        folder = ROOT / folder  # also where a job runs elsewhere
    if not os.path.isdir(folder):  # also where a system takes no name as long as this
        folder = _cached(base_model)
    if not (folder / "config.json").is_file():
        raise ParameterError(f"base_model={base_model!r}: {folder} holds no model (no config.json)")
    try:
        config = _config(folder)
    except UNREADABLE as error:
        raise ParameterError(
            f"base_model={base_model!r}: its config.json cannot be read ({_first_line(error)})"
        ) from None
    name = (config.architectures or [type(config).__name__])[0]
    if name not in ARCHITECTURES:
        raise ArchitectureError(
            f"base_model={base_model!r} is a {name}; known architectures are"
            f" {', '.join(ARCHITECTURES)} (a new one is a line in memgen.models.sites.ARCHITECTURES)"
        )
    check_config(config, f"base_model={base_model!r}")
    load_tokenizer(folder, config.vocab_size)
    return folder


def _cached(name: str) -> Path:
    """The newest snapshot of a hub model in the local cache."""
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError):
        get = hint(name) or (
            f"Download it once with `hf download {name}` where there is a network, or give the folder of"
            " a model"
        )
        raise ParameterError(
            f"base_model={name!r} is neither a folder nor in the hub's cache"
            f" ({constants.HF_HUB_CACHE}). {get}"
        ) from None


def base_context(folder: Path) -> int | None:
    """How many tokens the model in `folder` takes; None where its config.json does not say."""
    return context_of(_config(folder))


def refuse_attention(base_model: str, attention: str) -> None:
    """Raise `ParameterError` if a base (`find_base` takes it) does not run with this kernel."""
    config = _config(find_base(base_model))
    check_attention(config, attention, f"base_model={base_model!r}")


def load_base(folder: Path, attention: str, dtype: str, device: str):
    """`(model, tokenizer)` of a base to train from, on its device."""
    model, tokenizer = load_model(folder, attention, dtype)
    try:
        return model.to(device), tokenizer
    except (RuntimeError, AssertionError) as error:
        raise ParameterError(
            f"device={device!r} cannot be used here ({str(error).splitlines()[0]})"
        ) from None


def memory_estimate(
    folder: Path, *, lora: dict | None, dtype: str, rows: int, length: int, checkpointing: bool
) -> dict[str, float]:
    """Rough GiB that training a base needs, by part, before any weight is loaded.

    `rows`, `length`: of what is in memory at once. `lora`: what `adapters.attach` takes, or None
    where all weights are trained. Weights in their format; for each trained parameter 16 bytes
    (itself, its gradient and AdamW's two moments in float32); activations about 34 d_model bytes a
    token and block in two-byte formats plus the attention maps (Korthikanti et al. 2023), or with
    checkpointing one block's of these and the block inputs; logits in float32 with their gradient.
    """
    config = _config(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        n = sum(p.numel() for p in model.parameters())
        if lora is not None:
            model = attach(model, **lora)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    tokens, width, layers = rows * length, config.hidden_size, config.num_hidden_layers
    size = 2 if dtype == "bfloat16" else 4
    block = tokens * (17 * size * width + 2.5 * size * config.num_attention_heads * length)
    parts = {
        "weights": n * size if lora is not None else 0,
        "training": trained * 16,
        "activations": block + layers * tokens * size * width if checkpointing else layers * block,
        "logits": 8 * tokens * config.vocab_size,
    }
    return (
        {"parameters": n, "trained": trained}
        | {name: value / 2**30 for name, value in parts.items()}
        | {"total": sum(parts.values()) / 2**30}
    )
