"""A pointer to a model: followed, and refused where the model is gone or another one."""

import pytest
import torch

from capitals import asked_model
from memgen.errors import ArtifactError
from memgen.models.adapters import weights_digest
from memgen.models.build import save_model
from memgen.models.load import load_model
from memgen.models.pointer import write_pointer


@pytest.fixture
def pointed(tmp_path):
    """A model's folder, and a stage's folder that points to it."""
    model, tokenizer = asked_model()
    save_model(tmp_path / "there", model, tokenizer)
    write_pointer(tmp_path / "stage", tmp_path / "there", weights_digest(tmp_path / "there"))
    return model, tmp_path / "there", tmp_path / "stage"


def test_a_pointer_gives_the_model_and_copies_nothing(pointed):
    model, _, stage = pointed
    found, tokenizer = load_model(stage)
    ids = torch.tensor([tokenizer("The capital of place1 is")["input_ids"]])
    torch.testing.assert_close(found(ids).logits, model(ids).logits, rtol=1e-3, atol=1e-3)
    assert [path.name for path in stage.iterdir()] == ["pointer.json"]


def test_altered_weights_are_refused_by_name(pointed):
    _, there, stage = pointed
    other, tokenizer = asked_model(seed=1)
    save_model(there, other, tokenizer)
    with pytest.raises(ArtifactError, match=f"weights in {there} were altered"):
        load_model(stage)


def test_a_model_that_is_gone_is_named(pointed):
    _, there, stage = pointed
    (there / "config.json").unlink()
    with pytest.raises(ArtifactError, match=f"points to the model in {there}, which is not there"):
        load_model(stage)
