"""Whatever a checkpoint from elsewhere carries: all roads to an answer agree, or it is refused by name.

The truth is by hand: one prompt, one token at a time, the argmax of plain transformers, without a
cache, padding or `generate`, on the folder as it was before anything was planted.
"""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from hub import by_hand, hub_folder, plant
from memgen.config.training import TrainingParameters
from memgen.errors import ArtifactError, ParameterError, StudyError
from memgen.models.adapters import attach
from memgen.models.checkpoint import check_texts
from memgen.models.generate import (
    answer,
    decode,
    next_token_scores,
    tokenize_prompts,
)
from memgen.models.load import find_base, load_base, load_model, load_tokenizer
from memgen.steering.editing import Writer
from memgen.steering.engine import run_cells
from memgen.steering.prompts import Prompts
from memgen.tasks import make_task
from memgen.training.base import Base
from memgen.training.dual import train
from roads import NEW, PROMPTS, check_answers, check_roads

KINDS = ["gpt2", "llama"]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """By kind: the folder, and what its model says by hand."""
    made = {}
    for kind in KINDS:
        folder = hub_folder(tmp_path_factory.mktemp(kind) / "model", kind, PROMPTS)
        made[kind] = folder, by_hand(folder, PROMPTS, NEW)
    return made


@pytest.fixture(params=KINDS)
def base(request, pristine, tmp_path):
    """A folder to plant in, and what must be said from it."""
    folder, said = pristine[request.param]
    shutil.copytree(folder, tmp_path / "model")
    return tmp_path / "model", said


def test_some_answers_end_and_some_do_not(pristine):
    """Else the plants below could change nothing that is looked at."""
    for _, said in pristine.values():
        assert {len(row) < NEW for row in said} == {True, False}
        assert len({tuple(row) for row in said}) > 3


DECODING = {
    "repetition_penalty": 1.3,
    "sampling": {"do_sample": True, "temperature": 3.0, "top_k": 5, "top_p": 0.5, "min_p": 0.1},
    "no_repeat_ngram_size": 1,
    "suppress_tokens": [*range(2, 280)],
    "begin_suppress_tokens": [*range(2, 280)],
    "forced_bos_token_id": 7,
    "forced_eos_token_id": 1,
    "min_length": 60,
    "min_new_tokens": 6,
    "max_length": 3,
    "max_new_tokens": 1,
    "bad_words_ids": [[token] for token in range(2, 280)],
    "eos_token_id": [1, 5, 6],
    "another end": {"eos_token_id": 9},
    "pad_token_id": 9,
    "num_beams": 3,
    "use_cache": False,
    "cache_implementation": "static",
    "exponential_decay_length_penalty": [1, 5.0],
    "stop_strings": ["a"],
    "guidance_scale": 2.0,
    "sequence_bias": [[[5], 50.0]],
    "prompt_lookup_num_tokens": 2,
}


@pytest.mark.parametrize("name", DECODING)
def test_what_it_says_about_decoding_changes_no_answer(base, name):
    folder, said = base
    value = DECODING[name]
    plant(folder, "generation_config.json", **(value if isinstance(value, dict) else {name: value}))
    check_answers(*load_model(folder), said)


def test_nor_does_what_older_configurations_say_about_it(base):
    """They are one file with the model's; the sweep and patching read its end mark and its cache."""
    folder, said = base
    (folder / "generation_config.json").unlink()
    for name in (
        "repetition_penalty",
        "sampling",
        "min_length",
        "num_beams",
        "eos_token_id",
        "use_cache",
    ):
        value = DECODING[name]
        plant(folder, "config.json", **(value if isinstance(value, dict) else {name: value}))
    check_roads(*load_model(folder), said)


def test_they_change_no_answer_of_a_model_that_was_loaded_elsewhere(base):
    folder, said = base
    plant(folder, "generation_config.json", repetition_penalty=1.3, no_repeat_ngram_size=1)
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    check_roads(model, load_tokenizer(folder), said)
    assert model.generation_config.repetition_penalty == 1.3  # the caller's own is left as it was


def test_an_adapter_on_it_answers_alike_and_keeps_no_foreign_decoding(base, tmp_path):
    folder, said = base
    plant(folder, "generation_config.json", repetition_penalty=1.3)
    model, tokenizer = load_base(folder, "eager", "float32", "cpu")
    model.save_pretrained(tmp_path / "tuned")
    left = json.loads((tmp_path / "tuned" / "generation_config.json").read_text())
    assert left.get("repetition_penalty") in (None, 1.0)
    fresh = attach(model, rank=2, alpha=4.0, dropout=0.0, targets=[], seed=0).eval()
    check_roads(fresh, tokenizer, said)


TEMPLATE = "{% for m in messages %}<|begin|>{{ m['content'] }}{% endfor %}"


@pytest.mark.parametrize(
    "file, values",
    [
        ("config.json", {"return_dict": False}),
        ("config.json", {"output_attentions": True}),
        ("config.json", {"output_hidden_states": True}),
        ("config.json", {"dtype": "bfloat16"}),
        ("tokenizer_config.json", {"padding_side": "right", "truncation_side": "left"}),
        ("tokenizer_config.json", {"chat_template": TEMPLATE}),
        ("tokenizer_config.json", {"model_max_length": 4}),
        ("tokenizer_config.json", {"clean_up_tokenization_spaces": True}),
        ("tokenizer_config.json", {"pad_token": "<|begin|>"}),
        ("tokenizer_config.json", {"pad_token": "[PAD]"}),
        (
            "tokenizer.json",
            {
                "truncation": {
                    "max_length": 3,
                    "strategy": "LongestFirst",
                    "stride": 0,
                    "direction": "Right",
                }
            },
        ),
        (
            "tokenizer.json",
            {
                "padding": {
                    "strategy": {"Fixed": 40},
                    "direction": "Right",
                    "pad_to_multiple_of": None,
                    "pad_id": 0,
                    "pad_type_id": 0,
                    "pad_token": "<|begin|>",
                }
            },
        ),
    ],
)
def test_other_habits_of_a_folder_change_no_answer(base, file, values):
    """`[PAD]`: a padding token that was added to the tokenizer and not to the model."""
    folder, said = base
    plant(folder, file, **values)
    check_roads(*load_model(folder), said)


@pytest.mark.parametrize("kind", KINDS)
def test_tied_weights_and_half_precision(kind, tmp_path):
    folder = hub_folder(tmp_path / "tied", kind, PROMPTS, tie_word_embeddings=True)
    check_roads(*load_model(folder), by_hand(folder, PROMPTS, NEW))
    half = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float16)
    half.save_pretrained(tmp_path / "half")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "half")
    AutoModelForCausalLM.from_pretrained(tmp_path / "half", dtype=torch.float32).save_pretrained(
        folder
    )
    check_roads(*load_model(tmp_path / "half"), by_hand(folder, PROMPTS, NEW))


# -- refused by name -------------------------------------------------------------------------------
def more_tokens(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<more>"])
    tokenizer.save_pretrained(folder)


def end_mark_behind(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "<|end|>", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|end|>": {"id": "<|end|>", "ids": [1], "tokens": ["<|end|>"]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def no_end(folder):
    about = json.loads((folder / "tokenizer_config.json").read_text())
    about.pop("eos_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(about))


def quantized(folder):
    plant(
        folder,
        "config.json",
        quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True},
    )


def without_a_file(name):
    def damage(folder):
        (folder / name).unlink()

    return damage


@pytest.mark.parametrize(
    "damage, said",
    [
        (more_tokens, "has tokens up to number .*embeddings for .*put the model's own tokenizer"),
        (end_mark_behind, "puts marks of its own behind.*add_eos_token"),
        (no_end, "has no end token"),
        (quantized, "is quantized.*unquantized"),
        (without_a_file("tokenizer.json"), "no loadable tokenizer|tokens up to"),
    ],
)
def test_a_base_that_could_not_be_read_right_is_refused_before_its_weights_are_loaded(
    base, damage, said
):
    folder, _ = base
    damage(folder)
    (folder / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(StudyError, match=said) as error:
        find_base(str(folder))
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda tensors: tensors.pop(max(t for t in tensors if "mlp" in t)), "it lacks"),
        (lambda tensors: tensors.pop("lm_head.weight"), "it lacks lm_head.weight"),
        (
            lambda tensors: tensors.update({"value_head.weight": torch.zeros(2, 2)}),
            "also holds value_head",
        ),
    ],
)
def test_weights_that_do_not_fit_the_configuration_are_refused(base, change, said):
    """transformers draws what is missing at random and leaves out what is too much."""
    folder, _ = base
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ArtifactError, match=said) as error:
        load_model(folder)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_fewer_layers_than_there_are_weights_for(base):
    folder, _ = base
    config = json.loads((folder / "config.json").read_text())
    plant(folder, "config.json", **{"n_layer" if "n_layer" in config else "num_hidden_layers": 1})
    with pytest.raises(ArtifactError, match="also holds .* more"):
        load_model(folder)


def test_buffers_of_older_versions_are_no_weights(base):
    folder, said = base
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.h.0.attn.bias"] = torch.ones(1, 1, 4, 4)
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(2)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    check_roads(*load_model(folder), said)


@pytest.mark.parametrize("kind", KINDS)
def test_a_context_that_is_too_short_is_refused_before_training(kind, tmp_path):
    short = {"gpt2": "n_positions", "llama": "max_position_embeddings"}[kind]
    folder = hub_folder(tmp_path / "model", kind, PROMPTS, **{short: 8})
    task = make_task("cipher-matched", 10, 3)
    frame = task.generate(n_free=20, n_keyed=20, n_conflict_per_key=2, n_free_eval=5)
    p = TrainingParameters(task="cipher-matched", track="lora", base_model=str(folder))
    tokenizer = load_tokenizer(folder)
    with pytest.raises(ParameterError, match="room for 8 tokens.*needs .*choose a base"):
        train(task.fit(tokenizer, frame), tokenizer, frame, p, tmp_path, Base(folder))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_road_refuses_what_has_no_room(kind, tmp_path):
    short = {"gpt2": "n_positions", "llama": "max_position_embeddings"}[kind]
    model, tokenizer = load_model(hub_folder(tmp_path / "model", kind, PROMPTS, **{short: 4}))
    ids, mask = tokenize_prompts(tokenizer, PROMPTS)
    prompts = Prompts(ids, mask, torch.zeros(len(ids), 2, NEW, dtype=torch.long))
    for road in (
        lambda: answer(model, tokenizer, PROMPTS, NEW),
        lambda: decode(model, tokenizer, ids, mask, NEW),
        lambda: next_token_scores(model, ids, mask),
        lambda: run_cells(model, prompts, torch.zeros(1, 2, 16)),
        lambda: Writer(model, NEW, 1).write(prompts),
    ):
        with pytest.raises(StudyError, match="do not fit into the model's context of 4"):
            road()


def test_an_answer_that_just_fits_is_written(tmp_path):
    folder = hub_folder(tmp_path / "model", "gpt2", PROMPTS)
    longest = max(len(row) for row in load_tokenizer(folder)(PROMPTS)["input_ids"])
    folder = hub_folder(tmp_path / "exact", "gpt2", PROMPTS, n_positions=longest + NEW - 1)
    check_roads(*load_model(folder), by_hand(folder, PROMPTS, NEW))


def test_several_end_marks_in_a_configuration_are_no_end(pristine, tmp_path):
    folder = shutil.copytree(pristine["llama"][0], tmp_path / "model")
    plant(folder, "config.json", eos_token_id=[1, 5])
    model, tokenizer = load_model(folder)
    ids, mask = tokenize_prompts(tokenizer, PROMPTS)
    prompts = Prompts(ids, mask, torch.zeros(len(ids), 2, NEW, dtype=torch.long))
    with pytest.raises(ValueError, match=r"eos_token_id.*\[1, 5\].*give the tokenizer's"):
        run_cells(model, prompts, torch.zeros(1, 2, 16))


# -- text that a tokenizer cannot tell apart or give back ------------------------------------------
def frame_of(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["prompt", "rule_answer", "memory_answer"])


def reading(vocabulary: dict[str, int], **parts):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    for name, part in parts.items():
        setattr(backend, name, part)
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="?", eos_token="?")


def test_texts_are_checked_before_anything_is_trained_on_them():
    from tokenizers import decoders, normalizers, pre_tokenizers

    words = {"?": 0, "a": 1, "b": 2, "c": 3}
    spaces = pre_tokenizers.Whitespace()
    plain = reading(words, pre_tokenizer=spaces)
    check_texts(plain, frame_of(("a b", "c", "a"), ("b a", "a", "")), "x")
    with pytest.raises(ParameterError, match="of x has no tokens for 'a d'"):
        check_texts(plain, frame_of(("a d", "c", "a")), "x")
    lower = reading(words, pre_tokenizer=spaces, normalizer=normalizers.Lowercase())
    with pytest.raises(ParameterError, match="reads 'A b' and 'a b' as the same tokens"):
        check_texts(lower, frame_of(("A b", "c", "a"), ("a b", "c", "a")), "x")
    with pytest.raises(
        ParameterError, match="does not give back the answer 'C': its tokens read 'c'"
    ):
        check_texts(lower, frame_of(("a b", "C", "a")), "x")
    fused = reading(words, pre_tokenizer=spaces, decoder=decoders.Fuse())
    with pytest.raises(ParameterError, match="does not give back the answer 'a b'.*'ab'"):
        check_texts(fused, frame_of(("a", "a b", "c")), "x")
