"""What an interrupted training goes on from: its state and its kept checkpoint, whole and unaltered.

A state carries the SHA-256 of all that is in it, and that of the checkpoint that belongs to it. One
that was altered is said and is no state: a training that went on from it would end with other weights
and nobody would know.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from memgen.store.files import guard_disk, sha256

STATE = "state.safetensors"
MODEL = "model"
NEXT = "model.next"  # a checkpoint whose state is not written yet


def _digest(tensors: dict[str, torch.Tensor], about: str) -> str:
    digest = hashlib.sha256(about.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_state(folder: Path, tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
    """Write the state whole, then rename it: a kill leaves the old one or the new one."""
    packed = {name: value.cpu().contiguous().clone() for name, value in tensors.items()}
    text = json.dumps(about)
    aside = folder / (STATE + ".tmp")
    with guard_disk(aside):
        save_file(packed, aside, {"about": text, "sha256": _digest(packed, text)})
        aside.replace(folder / STATE)


def read_state(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """`(tensors, about)` as they were written; None without a state, or, said so, for an altered one.

    `about["checkpoint"]` is the digest of the checkpoint that has to be there, too.
    """
    path = folder / STATE
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata["sha256"] != _digest(tensors, metadata["about"]):
            raise ValueError("its SHA-256 differs")
        about = json.loads(metadata["about"])
    except Exception:  # whatever a library says of bytes that make no sense
        _start_again(folder, path)
        return None
    if not _in_place(folder, about.get("checkpoint", {})):
        _start_again(folder, folder / MODEL)
        return None
    return tensors, about


def _start_again(folder: Path, damaged: Path) -> None:
    print(f"{damaged} was altered or truncated; this training starts again", flush=True)
    (folder / STATE).unlink()
    for name in (MODEL, NEXT):
        shutil.rmtree(folder / name, ignore_errors=True)


def write_checkpoint(folder: Path, save: Callable[[Path], None]) -> dict[str, str]:
    """Write a checkpoint beside the one that is there; its digests, for the state that goes with it."""
    shutil.rmtree(folder / NEXT, ignore_errors=True)
    save(folder / NEXT)
    return _digests(folder / NEXT)


def put_in_place(folder: Path) -> None:
    """The checkpoint written last takes the place of the one before, once its state is written."""
    if (folder / NEXT).is_dir():
        shutil.rmtree(folder / MODEL, ignore_errors=True)
        (folder / NEXT).replace(folder / MODEL)


def _in_place(folder: Path, wanted: dict[str, str]) -> bool:
    """Is the checkpoint of a state there, or could it be put there?"""
    if _digests(folder / NEXT) == wanted:
        put_in_place(folder)
    shutil.rmtree(folder / NEXT, ignore_errors=True)  # of a state that was never written
    if not wanted:
        shutil.rmtree(folder / MODEL, ignore_errors=True)
    return _digests(folder / MODEL) == wanted


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 by file; {} without a folder."""
    return {
        str(path.relative_to(folder)): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
