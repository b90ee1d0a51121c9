"""The base that a run started from, before it had seen any key."""

from __future__ import annotations

from memgen.config.base import StageParameters
from memgen.errors import ArtifactError
from memgen.models.adapters import base_of, is_adapter, weights_digest
from memgen.models.load import find_base, load_model
from memgen.store.folders import base_folder
from memgen.store.reader import FinishedStage


def load_origin(trained: FinishedStage, p: StageParameters):
    """The model that a training stage started from, in evaluation mode; None: random weights.

    p: parameters of the lab that asks, which name the study's folder as it is now. An adapter's
    base is the model with the adapter off. Errors: `ArtifactError` where the base there is another
    one by now.
    """
    digest, settings, folder = trained.result["base"], trained.parameters, trained.path("model")
    if digest is None:
        return None
    if is_adapter(folder):
        base = base_of(folder)
    elif settings.base_model:
        base = find_base(settings.base_model)
    else:
        place = (p.runs, p.preset, p.task, settings.data_seed, p.track, settings.architecture)
        base = base_folder(*place) / "model"
    if weights_digest(base) != digest:
        raise ArtifactError(
            f"{base} is not the base that {folder} started from (its weights have another SHA-256);"
            " run lab 02_training of this task and seed again"
        )
    return load_model(base, dtype=settings.loaded_dtype, device=settings.device)[0]
