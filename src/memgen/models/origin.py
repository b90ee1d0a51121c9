"""The base that a run started from, before it had seen any key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peft.helpers import rescale_adapter_scale

from memgen.errors import ArtifactError
from memgen.models.adapters import base_of, is_adapter, weights_digest
from memgen.models.load import find_base, load_model
from memgen.store.folders import base_folder
from memgen.store.numerics import settled
from memgen.store.reader import FinishedStage
from memgen.terms import GIVEN_TRACK


def load_origin(training: FinishedStage):
    """The model that a training stage started from, in evaluation mode; None: random weights, or nothing
    was trained.

    An adapter's base is the model with the adapter off. Errors: `ArtifactError` where the base
    there is another one by now.
    """
    digest, settings = training.result["base"], settled(training.parameters)
    if digest is None or settings.track == GIVEN_TRACK:
        return None
    folder = training.path("model")
    if is_adapter(folder):
        base = base_of(folder)
    else:
        base = find_base(settings.base_model) if settings.base_model else _trained_base(training)
    if weights_digest(base) != digest:
        raise ArtifactError(
            f"{base} is not the base that {folder} started from (its weights have another SHA-256);"
            " run lab 02_training of this task and seed again"
        )
    return load_model(base, dtype=settings.loaded_dtype, device=settings.device)[0]


@contextmanager
def base_alone(model, training: FinishedStage) -> Iterator:
    """The base that this training of `model` started from, to read states of; None as above.

    On track lora it is the model itself with its adapter off: nothing is loaded twice.
    """
    if training.parameters.track == "lora":
        with rescale_adapter_scale(model, 0.0):
            yield model
    else:
        yield load_origin(training)


def _trained_base(training: FinishedStage) -> Path:
    """Where the study keeps the base that this training started from, whatever folder it lies in."""
    p = training.parameters
    # by the names in the path: a link in it may lead to a folder that lies elsewhere
    study = training.folder.absolute().parents[2 if p.track == "scratch" else 3]
    names = (p.task, p.data_seed, p.track, p.architecture)
    return FinishedStage(base_folder(study.parent, study.name, *names)).path("model")
