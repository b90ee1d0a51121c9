"""LoRA adapters: put on a base, saved, loaded on that very base, turned down and up.

An adapter adds a product of two thin matrices to a frozen linear map: W x + (lora_alpha / rank) B A
x. Only A and B are trained, so all adapters of one base share its neurons. Source: Hu et al.
(2022), LoRA; the implementation is peft's.

A saved adapter is an ordinary peft folder that names the folder of its base and, in `base.json`,
the SHA-256 of its weights and of its configuration: on another base it would add noise, so it is
refused there.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from torch import nn

from memgen.errors import ArtifactError, ParameterError
from memgen.models.sites import architecture_of
from memgen.store.files import guard_disk, read_json, sha256, write_json

BASE, CONFIG = "base.json", "adapter_config.json"
#: a study's folder above a model's: <study>/<track>/<task>/<run>/<stage>/model
_DEPTH = 5


def attach(
    model, *, rank: int, alpha: float, dropout: float, targets: list[str], seed: int
) -> PeftModel:
    """`model` with a fresh adapter on `targets` (none named: every linear map); the base is frozen.

    The initial A is drawn from `seed`, B is zero: an untrained adapter changes nothing. Errors:
    `ParameterError` for a target that the model does not have.
    """
    wanted = list(targets) or list(architecture_of(model).linear)
    there = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    for name in wanted:
        if name not in there:
            raise ParameterError(
                f"lora_targets={name!r} is no module of {type(model).__name__}; it has"
                f" {', '.join(sorted(architecture_of(model).linear))}"
            )
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=wanted,
        task_type="CAUSAL_LM",
        fan_in_fan_out=architecture_of(model).transposed,
    )
    torch.manual_seed(seed)
    return get_peft_model(model, config)


def trainable_share(model: nn.Module) -> float:
    """Trainable parameters over all parameters, adapter included."""
    counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, trained in counts if trained) / sum(n for n, _ in counts)


def weights_digest(folder: Path) -> str:
    """SHA-256 over a model folder's weight files, sharded or not; of one file its own digest."""
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise ArtifactError(
            f"{folder} holds no weights (*.safetensors); weights in other formats are not read,"
            " because loading them can execute code"
        )
    if len(files) == 1:
        return sha256(files[0])
    return hashlib.sha256(
        "".join(f"{path.name} {sha256(path)}\n" for path in files).encode()
    ).hexdigest()


def save_adapter(folder: Path, model: PeftModel, tokenizer, base: Path, digest: str) -> None:
    """Write adapter, tokenizer, and its base: where it lies, and the weights' `digest`.

    A base of the same study is named by the path from `folder`, so that a copy of the runs has its
    own; one from elsewhere by its whole path.
    """
    folder = Path(folder)
    with guard_disk(folder):
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)
    # both with links followed: `..` leaves the folder that a link leads to, not that of the link
    here, there = Path(folder).resolve(), Path(base).resolve()
    near = there.is_relative_to([*here.parents][:_DEPTH][-1])
    where = os.path.relpath(there, here) if near else str(there)
    origin = {"folder": where, "sha256": digest, "config": sha256(there / "config.json")}
    write_json(folder / BASE, origin)
    about = read_json(folder / CONFIG)
    write_json(folder / CONFIG, about | {"base_model_name_or_path": where})
    (folder / "README.md").unlink(missing_ok=True)  # peft's card names the folder of this machine


def is_adapter(folder: Path) -> bool:
    return (Path(folder) / CONFIG).is_file()


def base_of(folder: Path) -> Path:
    """The base of the adapter in `folder`; `ArtifactError` if it is gone or its weights changed."""
    folder = Path(folder)
    about = read_json(folder / BASE)
    base = (folder.resolve() / about["folder"]).resolve()
    if not (base / "config.json").is_file():
        raise ArtifactError(
            f"the adapter in {folder} belongs to the base in {base}, which is not there; train that"
            " base again, or put it back"
        )
    if weights_digest(base) != about["sha256"]:
        raise ArtifactError(
            f"the adapter in {folder} was trained on another base: the weights in {base} have"
            " another SHA-256. Put the right base back, or delete the adapter and run lab"
            " 02_training again"
        )
    if about.get("config", config := sha256(base / "config.json")) != config:
        raise ArtifactError(
            f"the adapter in {folder} was trained on another base: {base / 'config.json'} has another"
            " SHA-256. Put the right file back, or delete the adapter and run lab 02_training again"
        )
    return base


def load_adapter(model, folder: Path) -> PeftModel:
    """`model` (the adapter's own base) with the saved adapter on it, in evaluation mode."""
    try:
        model = PeftModel.from_pretrained(model, str(folder), is_trainable=False)
        model.eval()
        return model
    except (
        OSError,
        ValueError,
        RuntimeError,
        KeyError,
        TypeError,
        json.JSONDecodeError,
        SafetensorError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(
            f"{folder} holds no loadable adapter ({reason}); delete it and run lab 02_training"
            " again"
        ) from None
