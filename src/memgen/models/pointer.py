"""A model that is used as it is: a run keeps where it lies and a digest of its weights, no copy."""

from __future__ import annotations

from pathlib import Path

from memgen.errors import ArtifactError
from memgen.models.adapters import weights_digest
from memgen.store.files import guard_disk, read_json, write_json

POINTER = "pointer.json"


def write_pointer(folder: Path, model: Path, digest: str) -> None:
    """Say in `folder` that the model is the one in the folder `model`; `digest`: of its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    with guard_disk(folder):
        write_json(folder / POINTER, {"folder": str(Path(model).resolve()), "sha256": digest})


def followed(folder: Path) -> Path:
    """The folder of the model that is meant; without a pointer the folder itself.

    Errors: `ArtifactError` if it is gone, or its weights are others by now.
    """
    folder = Path(folder)
    if not (folder / POINTER).is_file():
        return folder
    about = read_json(folder / POINTER)
    model = Path(about["folder"])
    if not (model / "config.json").is_file():
        raise ArtifactError(
            f"{folder} points to the model in {model}, which is not there; put it back, or run lab"
            " 01_dataset_design again with the base_model that is to be asked"
        )
    if weights_digest(model) != about["sha256"]:
        raise ArtifactError(
            f"the weights in {model} were altered since {folder} pointed to them (they have another"
            " SHA-256); put the right weights back, or run labs 01 and 02 again"
        )
    return model
