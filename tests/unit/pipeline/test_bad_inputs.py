"""What can be known to be wrong before the first computation is refused before it, by name.

A table of cases that `memgen check` refuses, and values made from every parameter's own range.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from memgen.config.base import LARGEST_SEED
from memgen.errors import ParameterError
from memgen.pipeline.cli import main
from memgen.presets import stage_parameters
from memgen.stages import LABS, PARAMETER_CLASSES

#: what is asked for, and a word that the sentence must hold
OPTIONS = [
    ("--seeds 4294967296", "4294967296"),
    ("--seeds 0 99999999999999999999", "99999999999999999999"),
    ("--seeds -1", "seeds=[-1]"),
    ("--seeds 3 3", "seeds must not repeat"),
    ("--seeds 1.5", "--seeds"),
    ("--seeds one", "'one'"),
    ("--tasks chess", "task='chess'"),
    ("--tasks inference inference", "tasks must not repeat"),
    ("--tasks study", "task='study'"),
    ("--tracks loras", "track='loras'"),
    ("--tracks lora lora", "tracks must not repeat"),
    ("--preset lapdog", "preset='lapdog'"),
    ("--preset ../presets/smoke", "preset='../presets/smoke'"),
    ("--preset smoke.yaml", "preset='smoke.yaml'"),
    ("--runs README.md", "runs='README.md'"),
    ("--runs README.md/below", "README.md"),
    ("--jobs 0", "--jobs"),
    ("--jobs many", "--jobs"),
]
SETTINGS = [
    ("n_embd", "'n_embd' is not a setting"),
    ("n_embed=64", "'n_embed'"),
    ("seed=3", "'seed'"),
    ("retrain=1", "'retrain'"),
    ("base_seed=4294967296", "base_seed=4294967296"),
    ("base_seed=-1", "base_seed=-1"),
    ("n_keys=2", "n_keys=2"),
    ("n_keys=6000", "n_keys=6000"),
    ("n_keys=10 key_shares=[0.0001,0.4999,0.5]", "n_keys=10"),
    ("n_keyed=5", "n_keyed=5"),
    ("n_gate_keys=0", "n_gate_keys=0"),
    ("contrast_on=none", "n_gate_keys=16"),
    ("key_shares=[0.5,0.5]", "key_shares"),
    ("key_shares=[0.5,0.5,0.5]", "key_shares"),
    ("key_shares=[1.5,-0.3,-0.2]", "key_shares"),
    ("n_embd=30 n_head=4", "n_embd=30"),
    ("n_embd=64 n_head=128", "n_head=128"),
    ("architecture=llama n_embd=12 n_head=4", "odd width"),
    ("n_embd=2", "n_embd=2"),
    ("n_embd=100000000", "n_embd=100000000"),
    ("n_layer=0", "n_layer=0"),
    ("n_layer=100000", "n_layer=100000"),
    ("batch_size=10000000000", "batch_size=10000000000"),
    ("batch_size=64 accumulate=3", "accumulate=3"),
    ("lr=0", "lr=0"),
    ("lr=1e3", "lr=1000.0"),
    ("lr=.nan", "lr=nan"),
    ("enough=inf", "enough=inf"),
    ("keep_from=301", "keep_from=301"),
    ("max_steps=10 keep_from=11", "keep_from=11"),
    ("rule_first_steps=301", "rule_first_steps=301"),
    ("gate_memory=0.6 gate_rule=0.5", "gate_memory=0.6"),
    ("gate_free=1.1", "gate_free=1.1"),
    ("keyed_share=-0.1", "keyed_share=-0.1"),
    ("base_repeat_share=1", "base_repeat_share=1"),
    ("base_first=[chess]", "'chess'"),
    ("base_first=[arithmetic,arithmetic]", "'arithmetic'"),
    ("balance=maybe", "balance='maybe'"),
    ("base_model=gpt2", "base_model='gpt2'"),
    ("device=gpu", "device='gpu'"),
    ("device=cuda:77", "device='cuda:77'"),
    ("precision=float16", "precision='float16'"),
    ("numerics=fast", "numerics='fast'"),
    ("site=ln_3", "site='ln_3'"),
    ("sites=[]", "sites"),
    ("sites=[ln_2,ln_2]", "'ln_2'"),
    ("pairs=words", "pairs='words'"),
    ("max_pairs=1", "max_pairs=1"),
    ("max_prompts=1", "max_prompts=1"),
    ("fdr=1", "fdr=1"),
    ("alphas=[]", "alphas"),
    ("alphas=3", "alphas=3"),
    ("alphas=[1.0,1.0]", "alphas"),
    ("alphas=[4.0,1.0]", "alphas"),
    ("alphas=[-1.0]", "alphas"),
    ("alphas=[1e300]", "alphas"),
    ("top_ns=[0.1,1.5]", "top_ns"),
    ("top_ns=[0.0]", "top_ns"),
    ("top_ns=[0.3, 0.1]", "top_ns"),
    ("unit_alphas=[2.0,1.0]", "unit_alphas"),
    ("unit_top_ns=[0.1,0.1]", "unit_top_ns"),
    ("counts=[16,1]", "counts"),
    ("counts=[0]", "counts"),
    ("n_clusters=17", "n_clusters=17"),
    ("n_pairwise=17", "n_pairwise=17"),
    ("n_top=3", "n_top=3"),
    ("temperature=1e-300", "temperature=1e-300"),
    ("readable=0.5", "readable=0.5"),
    ("collateral_limit=1", "collateral_limit=1"),
    ("n_retrains=-1", "n_retrains=-1"),
    ("instruction_lr=2", "instruction_lr=2"),
    ("n_studies=0", "n_studies=0"),
]
LORA = [
    ("lora_rank=0", "lora_rank=0"),
    ("lora_alpha=inf", "lora_alpha=inf"),
    ("lora_dropout=1", "lora_dropout=1"),
    ("lora_targets=[c_attn]", "lora_targets='c_attn'"),  # the preset's architecture is llama
    ("lora_targets=[q_proj,q_proj]", "'q_proj'"),
]
#: your own prompts (TASK_FILE)
_OWN = "data/examples/own_prompts.csv"
TABLES = [
    (["--task-file", "nowhere.csv"], "nowhere.csv"),
    (["--task-file", "README.md"], "README.md"),
    (["--task-file", _OWN, "--tasks", "inference"], "--tasks"),
    (["--task-file", _OWN, "--tracks", "scratch"], "track=scratch"),
    (["--task-file", _OWN, "--set", "n_gate_keys=3 contrast_on=gate"], "n_gate_keys=3"),
    (["--task-file", _OWN, "--set", "base_model=/nowhere"], "base_model='/nowhere'"),
    (["--tasks", "table-own_prompts"], "task='table-own_prompts'"),
    (["--tasks", "table"], "task='table'"),
    (["--tasks", "table-x", "--set", f"task_file={_OWN}"], "table-own_prompts"),
]
CASES = [
    *((words.split(" "), said) for words, said in OPTIONS),
    *((["--set", words], said) for words, said in SETTINGS),
    *((["--tracks", "lora", "--set", words], said) for words, said in LORA),
]


@pytest.mark.parametrize("arguments, said", CASES, ids=[" ".join(words) for words, _ in CASES])
def test_the_check_refuses_it_in_one_sentence(capsys, arguments, said):
    given = ["--preset", "smoke", "--tasks", "inference", "--seeds", "0", *arguments]
    assert main(["check", *given]) == 1
    shown = capsys.readouterr()
    (line,) = shown.err.strip().splitlines()
    assert said in line and not shown.out


@pytest.mark.parametrize("arguments, said", TABLES, ids=[" ".join(words) for words, _ in TABLES])
def test_a_table_that_cannot_be_asked_is_refused_in_one_sentence(capsys, arguments, said):
    given = ["--preset", "smoke", "--seeds", "0", "--tracks", "given", "--set", "base_model=here"]
    assert main(["check", *given, *arguments]) == 1
    shown = capsys.readouterr()
    (line,) = shown.err.strip().splitlines()
    assert said in line and not shown.out


def test_one_lab_alone_is_refused_alike(capsys):
    """The same parser and the same ranges, before anything is computed."""
    for words, said in [*SETTINGS[:2], ("base_seed=4294967296", "4294967296"), ("n_keys=2", "=2")]:
        given = ["--task", "inference", "--preset", "smoke", "--set", words]
        assert main(["lab", "01_dataset_design", *given]) == 1
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert said in line
    assert main(["lab", "02_training", '{"task": "inference"}', "--seed", "3"]) == 1
    assert "JSON or as options" in capsys.readouterr().err


def wrong(schema: dict[str, Any]) -> Iterator[Any]:
    """Values outside what a parameter's schema allows: of another type, beyond its ends, repeated."""
    if "const" in schema or "enum" in schema:
        yield from ("nonesuch", 3)
        return
    kind = schema["type"]
    if kind == "array":
        yield from (3, [None], *([bad] for bad in wrong(schema["items"])))
        if schema.get("minItems"):
            yield []
        return
    yield from {"boolean": ("maybe", 3), "string": (3, ["a"])}.get(kind, ("much", [1], True))
    if kind in ("integer", "number"):
        yield from (float("nan"), float("inf"))
        step = 1 if kind == "integer" else 1e-9
        for end, far in (("minimum", -step), ("maximum", step)):
            if end in schema:
                yield schema[end] + far
        for end in ("exclusiveMinimum", "exclusiveMaximum"):
            if end in schema:
                yield schema[end]
    if kind == "integer":
        yield 1.5


def test_every_parameter_refuses_what_lies_outside_its_range_by_name():
    tried = 0
    for stage, cls in PARAMETER_CLASSES.items():
        task = "study" if LABS[stage].level == "study" else "inference"
        for name, schema in cls.model_json_schema()["properties"].items():
            for value in [] if name in ("preset", "runs") else wrong(schema):
                with pytest.raises(ParameterError) as error:
                    stage_parameters(stage, {"task": task, "preset": "smoke"} | {name: value})
                    pytest.fail(f"{stage}: {name}={value!r} is taken")
                assert name in str(error.value) and "\n" not in str(error.value)
                tried += 1
    assert tried > 400


def test_the_ends_of_a_range_are_taken():
    for seed in (0, LARGEST_SEED):
        assert stage_parameters("05_prediction", {"task": "inference", "seed": seed}).seed == seed
    given = {"task": "inference", "preset": "smoke", "keep_from": 300, "gate_memory": 0.9}
    assert stage_parameters("02_training", given | {"architecture": "llama", "n_head": 32})
