"""Adapters: the base stays as it is, a saved adapter is a plain peft folder, and only its own base
takes it.
"""

from __future__ import annotations

import shutil

import pytest
import torch
from peft import PeftModel
from peft.helpers import rescale_adapter_scale
from transformers import AutoModelForCausalLM, AutoTokenizer

from memgen.config.training import TrainingParameters
from memgen.errors import ArtifactError, ParameterError
from memgen.models.adapters import attach, base_of, save_adapter, trainable_share
from memgen.models.build import build_model, save_model
from memgen.models.generate import answer, tokenize_prompts
from memgen.models.hooks import capture
from memgen.models.load import load_model
from memgen.models.tokenizer import build_tokenizer
from memgen.terms import SITES
from memgen.training import gate
from memgen.training.base import Base
from memgen.training.dual import final_result, train
from memgen.training.state import STATE
from small_training import OPEN_GATE

TASK = "cipher-tagged"
SMALL = {
    "task": TASK,
    "track": "lora",
    "batch_size": 16,
    "max_steps": 8,
    "evaluate_every": 2,
    "warmup_steps": 2,
    "lr": 0.01,
    "matrix_lr": 0.02,
    "precision": "float32",
    "lora_rank": 4,
    **OPEN_GATE,
}


@pytest.fixture(scope="module")
def data(datasets):
    task, frame = datasets[TASK]
    return task, build_tokenizer(task.vocabulary()), frame


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def base(request, data, tmp_path_factory) -> Base:
    """A random base of each architecture, saved."""
    folder = tmp_path_factory.mktemp(request.param) / "model"
    tokenizer = data[1]
    save_model(
        folder,
        build_model(
            tokenizer,
            architecture=request.param,
            n_layer=2,
            n_embd=16,
            n_head=2,
            n_positions=32,
            initializer_range=0.2,
            seed=0,
        ),
        tokenizer,
    )
    return Base(folder)


@pytest.fixture(scope="module")
def trained(base, data, tmp_path_factory):
    """`(outcome, folder)` of a short adapter training on that base."""
    folder = tmp_path_factory.mktemp("run")
    return train(*data, TrainingParameters(**SMALL), folder, base), folder


def greedy(model, tokenizer, frame) -> list[str]:
    return answer(model, tokenizer, list(frame[frame.kind == "conflict"].prompt[:20]), 5)


def test_three_lines_of_peft_load_it_and_answer_the_same(trained, base, data):
    _, folder = trained
    model = AutoModelForCausalLM.from_pretrained(base.model)
    model = PeftModel.from_pretrained(model, str(folder / "model")).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    ours, own = load_model(folder / "model")
    assert (
        greedy(model, tokenizer, data[2])
        == greedy(ours, own, data[2])
        != greedy(AutoModelForCausalLM.from_pretrained(base.model).eval(), own, data[2])
    )


def test_training_an_adapter_leaves_the_base_alone(trained, base, data):
    outcome, folder = trained
    assert base.digest == Base(base.model).digest
    assert {path.name for path in (folder / "model").glob("*.safetensors")} == {
        "adapter_model.safetensors"
    }
    assert outcome.history.loss.iloc[-1] < outcome.history.loss.iloc[0]
    result, _ = final_result(data[0], data[2], outcome, folder, base)
    assert result["base"] == base.digest and 0 < result["trainable_share"] < 1


def test_full_training_from_the_same_base_changes_all_weights_and_leaves_an_ordinary_folder(
    base, data, tmp_path
):
    outcome = train(*data, TrainingParameters(**{**SMALL, "track": "full"}), tmp_path, base)
    result, _ = final_result(data[0], data[2], outcome, tmp_path, base)
    assert result["base"] == base.digest and result["trainable_share"] == 1.0
    before, after = (
        AutoModelForCausalLM.from_pretrained(base.model),
        AutoModelForCausalLM.from_pretrained(tmp_path / "model"),
    )
    assert type(before) is type(after)
    assert all((one != other).any() for one, other in zip(before.parameters(), after.parameters()))


@pytest.mark.slow
def test_an_interrupted_adapter_training_ends_the_same(base, data, tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    train(*data, TrainingParameters(**SMALL), whole, base)

    class Stop(Exception):
        pass

    real, calls = gate.Look.__call__, []

    def stop(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise Stop
        return real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(gate.Look, "__call__", stop)
        with pytest.raises(Stop):
            train(*data, TrainingParameters(**SMALL), parts, base)
    assert (parts / STATE).is_file()
    train(*data, TrainingParameters(**SMALL), parts, base)
    assert _weights(parts) == _weights(whole)


def _weights(folder) -> bytes:
    return (folder / "model" / "adapter_model.safetensors").read_bytes()


def test_a_fresh_adapter_and_a_scale_of_zero_are_the_base(base, trained, data):
    tokenizer, prompts = data[1], list(data[2].prompt[:8])
    ids, mask = tokenize_prompts(tokenizer, prompts)
    plain, _ = load_model(base.model)
    fresh = attach(
        load_model(base.model)[0], rank=4, alpha=8.0, dropout=0.0, targets=[], seed=0
    ).eval()
    adapted, _ = load_model(trained[1] / "model")
    with torch.no_grad():
        before, changed = (
            plain(ids, attention_mask=mask).logits,
            adapted(ids, attention_mask=mask).logits,
        )
        torch.testing.assert_close(fresh(ids, attention_mask=mask).logits, before)
        assert (changed - before).abs().max() > 1e-3
        with rescale_adapter_scale(adapted, 0.0):
            torch.testing.assert_close(adapted(ids, attention_mask=mask).logits, before)
        with rescale_adapter_scale(adapted, 1.0):
            torch.testing.assert_close(adapted(ids, attention_mask=mask).logits, changed)
        torch.testing.assert_close(adapted(ids, attention_mask=mask).logits, changed)  # and back


def test_sites_are_transformers_own_outputs_with_the_adapter_on(trained, data):
    """`resid_post` of every layer but the last is transformers' next hidden state; merged into the
    weights, the adapter gives the same states.
    """
    model, tokenizer = load_model(trained[1] / "model")
    ids, mask = tokenize_prompts(tokenizer, list(data[2].prompt[:6]))
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        hidden = model(
            ids, attention_mask=mask, position_ids=positions, output_hidden_states=True
        ).hidden_states
    torch.testing.assert_close(capture(model, ids, mask)[:, 0], hidden[1][:, -1])
    states = {site: capture(model, ids, mask, site=site) for site in SITES}
    merged = load_model(trained[1] / "model")[0].merge_and_unload()
    for site in SITES:
        torch.testing.assert_close(
            states[site], capture(merged, ids, mask, site=site), rtol=1e-4, atol=1e-5
        )


def test_the_trainable_share_is_counted(base):
    model = attach(load_model(base.model)[0], rank=2, alpha=4.0, dropout=0.0, targets=[], seed=0)
    adapter = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    assert trainable_share(model) == pytest.approx(
        adapter / sum(p.numel() for p in model.parameters())
    )


def test_an_unknown_target_is_named(base):
    with pytest.raises(ParameterError, match="lora_targets='w_q'.*it has"):
        attach(load_model(base.model)[0], rank=2, alpha=4.0, dropout=0.0, targets=["w_q"], seed=0)


# -- copied, linked ------------------------------------------------------------------------------------
def study_with(base, home):
    """A study's folder with this base and an adapter saved on it, as labs leave them."""
    folder, own = (
        home / "lora/task/seed0/02_training/model",
        home / "shared-base/seed0/00_base/model",
    )
    shutil.copytree(base.model, own)
    model = attach(load_model(own)[0], rank=2, alpha=4.0, dropout=0.0, targets=[], seed=0)
    save_adapter(folder, model, load_model(own)[1], own, base.digest)
    return folder, own


def test_a_copied_study_has_its_own_base(base, tmp_path):
    folder, own = study_with(base, tmp_path / "original")
    assert base_of(folder) == own.resolve()
    for path in folder.iterdir():
        assert str(tmp_path) not in path.read_text("utf8", errors="ignore"), path.name
    shutil.copytree(tmp_path / "original", tmp_path / "some" / "copy")
    copied = tmp_path / "some" / "copy" / folder.relative_to(tmp_path / "original")
    assert base_of(copied).is_relative_to(tmp_path / "some" / "copy")
    shutil.move(tmp_path / "original", tmp_path / "gone")
    load_model(copied)


def test_a_base_from_elsewhere_is_found_from_a_copy(base, tmp_path):
    home = tmp_path / "a/b/c/study"
    folder = home / "lora/task/seed0/02_training/model"
    model, tokenizer = load_model(base.model)
    adapter = attach(model, rank=2, alpha=4.0, dropout=0.0, targets=[], seed=0)
    (tmp_path / "link").symlink_to(base.model)
    save_adapter(folder, adapter, tokenizer, tmp_path / "link", base.digest)
    shutil.copytree(home, tmp_path / "copy")
    copied = tmp_path / "copy" / folder.relative_to(home)
    assert base_of(copied) == base_of(folder) == base.model.resolve()


def test_links_in_the_path_of_runs_and_base_are_followed(base, tmp_path):
    (tmp_path / "disk/deep/deeper").mkdir(parents=True)
    (tmp_path / "runs").symlink_to(tmp_path / "disk/deep/deeper")
    (tmp_path / "runs/laptop/lora").mkdir(parents=True)
    shutil.rmtree(tmp_path / "runs/laptop/lora")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs/laptop/lora").symlink_to(tmp_path / "elsewhere")
    folder, own = study_with(base, tmp_path / "runs/laptop")
    assert base_of(folder) == own.resolve()
    load_model(folder)


# -- the wrong base, the damaged folder ------------------------------------------------------------
@pytest.fixture
def pair(trained, base, tmp_path):
    """A copy of the adapter beside a copy of its base, to damage."""
    import json
    import os

    adapter, own = tmp_path / "adapter", tmp_path / "base"
    shutil.copytree(trained[1] / "model", adapter)
    shutil.copytree(base.model, own)
    about = json.loads((adapter / "base.json").read_text())
    (adapter / "base.json").write_text(
        json.dumps({**about, "folder": os.path.relpath(own, adapter)})
    )
    return adapter, own


def test_the_base_is_found_and_checked(pair):
    adapter, own = pair
    assert base_of(adapter) == own.resolve()
    load_model(adapter)


def test_another_base_is_refused(pair, data):
    adapter, own = pair
    other = build_model(
        data[1], n_layer=2, n_embd=16, n_head=2, n_positions=32, initializer_range=0.2, seed=1
    )
    save_model(own, other, data[1])
    with pytest.raises(ArtifactError, match="was trained on another base"):
        load_model(adapter)


def test_a_missing_base_is_named(pair):
    adapter, own = pair
    shutil.rmtree(own)
    with pytest.raises(ArtifactError, match=f"{own}, which is not there"):
        load_model(adapter)


def test_a_damaged_adapter_is_named(pair):
    adapter, _ = pair
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:50])
    with pytest.raises(ArtifactError, match=f"{adapter} holds no loadable adapter"):
        load_model(adapter)
