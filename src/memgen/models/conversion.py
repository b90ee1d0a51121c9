"""A GGUF file becomes an ordinary Hugging Face folder, once: float32 weights, configuration, tokenizer.

transformers reads the file (with the package `gguf`, which dequantizes) and refuses to save what it read,
because the model counts as quantized. Its weights are plain floats by then: they go into a fresh model of
the same configuration, without the mark of quantization, and that is saved. Before the folder is taken for
good, it is read back and asked the same as the GGUF file was.
"""

from __future__ import annotations

from importlib import metadata, util
from pathlib import Path
from typing import Any

from memgen.errors import ArtifactError
from memgen.models.packaged import Packaged
from memgen.store.files import guard_disk

#: what both are asked; nothing is special about these texts
PROMPTS = (
    "The capital of France is",
    "The chemical symbol of gold is",
    "The opposite of hot is",
    "Romeo and Juliet was written by",
    "Water boils at a temperature of",
    "The largest planet of the solar system is",
    "In 1969, Neil Armstrong walked on the",
    "The plural of mouse is",
    "A triangle has three",
    "The official language of Brazil is",
    "Once upon a time there was a",
    "def add(a, b):\n    return",
    "1, 2, 3, 4,",
    "The days of the week are Monday, Tuesday,",
    "To be, or not to be, that is the",
    "The sun rises in the",
    "Photosynthesis takes place in the",
    "Question: What is the capital of Italy? Answer: The capital of Italy is",
    "My favourite colour is blue. The sky on a clear day is",
    "DNA stands for",
)
#: by how much a logit may differ between the GGUF file and the folder
TOLERANCE = 1e-3
_PACKAGES = ("gguf", "transformers", "torch", "tokenizers", "safetensors")


def versions() -> dict[str, str]:
    """Versions of what converts. `ArtifactError`: the package that reads GGUF files is not there."""
    if util.find_spec("gguf") is None:
        raise ArtifactError(
            "the package gguf, which reads the packaged model, is not installed; run make setup first"
        )
    return {name: metadata.version(name) for name in _PACKAGES}


def convert(gguf: Path, model: Packaged, folder: Path) -> None:
    """Write the model of a GGUF file to `folder`: config.json, model.safetensors, the tokenizer.

    Errors: `ArtifactError` if the file cannot be read, holds another kind of model than `model` says, or
    is not told again by what was written; or the disk is full.
    """
    import torch  # with transformers some seconds of loading, which no other command waits for

    try:
        whole, tokenizer = _read(gguf)
    except Exception as error:  # transformers and gguf raise any kind for what they cannot read
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ArtifactError(
            f"the GGUF file of {model.name} cannot be read ({reason}); run make setup, which brings the"
            " pinned versions of transformers and gguf, and then the same command again"
        ) from None
    if type(whole).__name__ != model.architecture:
        raise ArtifactError(
            f"the GGUF file of {model.name} holds a {type(whole).__name__} and no {model.architecture};"
            " run make setup, and then the same command again"
        )
    before = _logits(whole, tokenizer)
    plain = _unmarked(whole)
    with guard_disk(folder):
        folder.mkdir()
        plain.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)
    del whole, plain
    again = type(tokenizer).from_pretrained(folder, local_files_only=True)
    after = _logits(_loaded(folder), again)
    gap = max(float((one - other).abs().max()) for one, other in zip(before, after, strict=True))
    if not gap <= TOLERANCE or not all(torch.isfinite(one).all() for one in after):
        raise ArtifactError(
            f"the converted {model.name} does not say what its GGUF file says (logits differ by"
            f" {gap:.2g}); run make setup, and then the same command again"
        )


def _read(gguf: Path) -> tuple[Any, Any]:
    """The model, its weights dequantized to float32, and the tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # four bars for less than a minute
    where = {"gguf_file": gguf.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **where)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **where)
    return model.eval(), tokenizer


def _unmarked(model: Any) -> Any:
    """A model with the same weights (not copied), whose configuration says nothing of quantization."""
    import torch

    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        plain = type(model)(config)
    plain.load_state_dict(model.state_dict(), strict=True, assign=True)
    plain.tie_weights()
    return plain


def _loaded(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
    )
    return model.eval()


def _logits(model: Any, tokenizer: Any) -> list[Any]:
    """After each of `PROMPTS`, of every token: `[vocabulary]`."""
    import torch

    with torch.inference_mode():
        return [
            model(torch.tensor([tokenizer(text)["input_ids"]]), use_cache=False).logits[0, -1]
            for text in PROMPTS
        ]
