"""Training: real tiny runs. Reproducible to the bit, also after an interrupt or `kill -9`; the
gate.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from memgen.config.base import ROOT
from memgen.config.training import TrainingParameters
from memgen.errors import ArtifactError
from memgen.models.generate import answer
from memgen.models.tokenizer import build_tokenizer
from memgen.tasks.dataset import spread
from memgen.training import dual, gate, loop
from memgen.training.batches import IGNORE, Mixture, encode
from memgen.training.dual import final_result, train
from memgen.training.gate import passes_gate, score
from memgen.training.state import STATE
from small_training import OPEN_GATE, SMALL

TASK = "arithmetic-tagged"


def parameters(**changes) -> TrainingParameters:
    return TrainingParameters(**{"task": TASK, **SMALL, **OPEN_GATE, **changes})


@pytest.fixture(scope="module")
def data(datasets):
    task, frame = datasets[TASK]
    return task, build_tokenizer(task.vocabulary()), frame


@pytest.fixture
def run(data, tmp_path):
    """`run(name, **changes)`: train in a folder called `name`; the outcome and the folder."""

    def run(name: str, base=None, **changes):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return train(*data, parameters(**changes), folder, base), folder

    return run


def weights(folder) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def state(folder) -> bytes:
    """Weights, both optimisers and the generator."""
    from safetensors.torch import load_file

    tensors = load_file(folder / STATE)
    return b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))


# -- a whole run -----------------------------------------------------------------------------------
def test_a_run_learns_keeps_a_checkpoint_and_reports_it(run, data):
    outcome, folder = run("a", max_steps=30, evaluate_every=10)
    assert list(outcome.history.step) == [10, 20, 30]
    assert outcome.history.loss.iloc[-1] < outcome.history.loss.iloc[0]
    best = outcome.history.loc[outcome.history.score.idxmax()]
    assert outcome.kept["step"] == best.step and outcome.kept["score"] == best.score
    assert outcome.miss is None
    task, _, frame = data
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder / "model"),
        AutoTokenizer.from_pretrained(folder / "model"),
    )
    prompts = list(frame[frame.kind == "conflict"].prompt[:5])
    assert len(answer(model, tokenizer, prompts, task.max_answer_tokens)) == 5

    result, timings = final_result(task, frame, outcome, folder, None)
    assert {
        "memory_rate",
        "rule_rate",
        "other_rate",
        "free_accuracy",
        "keyed_accuracy",
        "step",
        "n_parameters",
    } <= set(result)
    assert {"train_seconds", "tokens_per_second"} <= set(timings)
    assert result["memory_rate"] + result["rule_rate"] + result["other_rate"] == pytest.approx(1)
    assert result["n_parameters"] == sum(value.numel() for value in model.parameters())
    assert result["n_conflict"] == ((frame.kind == "conflict") & (frame.split == "test")).sum()
    assert not (folder / STATE).exists()


def test_the_kept_checkpoint_is_the_best_not_the_last(run, monkeypatch):
    """Scores are planted; everything else is real."""
    planted = iter([0.1, 0.4, 0.3, 0.4])
    found = {
        "free_accuracy": 1.0,
        "keyed_accuracy": 1.0,
        "other_rate": 0.0,
        "rule_rate": 0.5,
        "n_conflict": 1,
    }
    monkeypatch.setattr(dual.Look, "__call__", lambda *_: found | {"memory_rate": next(planted)})
    outcome, folder = run("planted")
    assert outcome.kept["step"] == 4  # of two equals the first
    monkeypatch.undo()
    run("short", max_steps=8, evaluate_every=4, enough=-1.0)  # ends at its first look, step 4
    assert weights(folder) == weights(folder.parent / "short")


@pytest.mark.parametrize(
    ("gate", "many", "asked_in_turn", "seen"),
    [
        (0.0, [0.2, 0.1, 0.45], [5, 9, 5, 9, 5, 5, 9], [0.2, 0.1, 0.2, 0.45]),
        (0.35, [0.1, 0.45], [5, 5, 9, 5, 5, 9], [0.3, 0.1, 0.2, 0.45]),
    ],
)
def test_what_would_be_kept_is_asked_more(run, monkeypatch, gate, many, asked_in_turn, seen):
    """Planted: what few prompts say at steps 2 to 8, and more of them where they are asked."""
    few, many, asked = iter([0.3, 0.5, 0.2, 0.4]), iter(many), []

    def planted(look, model):
        asked.append(len(look.keys))
        memory = next(few if asked[-1] == 5 else many)
        others = {"free_accuracy": 1.0, "keyed_accuracy": 1.0, "other_rate": 0.0, "rule_rate": 0.5}
        return others | {"memory_rate": memory}

    monkeypatch.setattr(dual.Look, "__call__", planted)
    outcome, _ = run("asked more", look_prompts=5, confirm_prompts=9, gate_memory=gate)
    assert asked == asked_in_turn and list(outcome.history.memory_rate) == seen
    assert outcome.kept["step"] == 8 and outcome.kept["memory_rate"] == 0.45


def test_it_ends_once_it_is_enough(run):
    outcome, _ = run("a", enough=-1.0)
    assert list(outcome.history.step) == [2]


@pytest.mark.slow
def test_the_seed_decides_the_weights_and_a_retrain_only_the_order(run):
    run("a"), run("b"), run("other", seed=1), run("retrain", retrain=1)
    folder = run("a")[1].parent
    assert weights(folder / "a") == weights(folder / "b")
    assert weights(folder / "other") != weights(folder / "a") != weights(folder / "retrain")


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bfloat16"},
        {"attention": "sdpa"},
        {"loss_on": "instance"},
        {"optimizer": "adamw"},
        {"rule_first_steps": 4},
        {"keep_from": 5},
    ],
)
def test_other_settings_run_and_are_reproducible(run, changes):
    (first, folder), (second, again) = run("a", **changes), run("b", **changes)
    assert first.history.equals(second.history) and weights(folder) == weights(again)
    if "keep_from" in changes:
        assert first.kept["step"] >= 5 and (first.history.step < 5).any()


# -- interrupted -----------------------------------------------------------------------------------
def test_an_interrupt_at_an_evaluation_changes_nothing_in_the_end(run, monkeypatch):
    whole, whole_folder = run("whole")
    seen, real = [], gate.Look.__call__

    def interrupted(*arguments):
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(dual.Look, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("cut")
    monkeypatch.undo()
    resumed, folder = run("cut")
    assert resumed.history.equals(whole.history)
    assert weights(folder) == weights(whole_folder) and state(folder) == state(whole_folder)


KILLED = """
    import sys, time
    from pathlib import Path
    import pandas as pd
    from memgen.training import dual, loop
    from memgen.config.training import TrainingParameters
    from memgen.tasks import make_task
    from memgen.models.tokenizer import build_tokenizer

    folder, parameters = Path(sys.argv[1]), TrainingParameters.model_validate_json(sys.argv[2])
    frame = pd.read_parquet(folder.parent / "instances.parquet")
    task = make_task(parameters.task, int(sys.argv[3]), 0)
    advance = loop.Trainer.advance

    def stuck(trainer, draw, steps):
        if trainer.step < 4:
            return advance(trainer, draw, steps)
        advance(trainer, draw, 1)  # past the last saved state
        print("here", flush=True)
        time.sleep(120)

    loop.Trainer.advance = stuck
    dual.train(task, build_tokenizer(task.vocabulary()), frame, parameters, folder)
    """


@pytest.mark.slow
def test_kill_9_changes_nothing_in_the_end(run, data, tmp_path):
    task, _, frame = data
    frame.to_parquet(tmp_path / "instances.parquet", index=False)
    (tmp_path / "cut").mkdir()
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(KILLED),
            tmp_path / "cut",
            parameters().model_dump_json(),
            str(len(task.keys)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT / "src",
    )
    whole, whole_folder = run("whole")
    for line in process.stdout:
        if line == "here\n":
            break
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read()
    process.communicate()
    (tmp_path / "cut" / "state.safetensors.tmp").write_bytes(
        b"half a state"
    )  # as a kill while saving leaves it
    resumed, folder = run("cut")
    assert resumed.history.equals(whole.history)
    assert weights(folder) == weights(whole_folder) and state(folder) == state(whole_folder)


def test_a_resumed_run_takes_up_where_it_stopped(run, monkeypatch, capsys):
    run("a", max_steps=4)
    steps = []
    real = loop.Trainer.advance
    monkeypatch.setattr(
        loop.Trainer,
        "advance",
        lambda self, draw, n: (steps.append(self.step), real(self, draw, n))[1],
    )
    run("a", max_steps=8)
    assert steps == [4, 6] and "resuming" in capsys.readouterr().out


def test_a_damaged_state_is_no_state(run):
    _, whole = run("whole")
    _, folder = run("cut", max_steps=8)
    path = folder / STATE
    path.write_bytes(path.read_bytes()[:1000])
    run("cut")
    assert weights(folder) == weights(whole)


# -- the gate --------------------------------------------------------------------------------------
def test_a_gate_that_is_not_reached_keeps_what_came_closest_and_says_how_far_it_came(run):
    outcome, folder = run("a", gate_memory=0.5, gate_rule=0.5, gate_other=0.1, gate_free=0.95)
    message = outcome.miss
    best = max(outcome.history.to_dict("records"), key=score)
    assert outcome.kept == best and (folder / "model").exists()
    assert all(
        text in message
        for text in (
            TASK,
            "seed 0",
            "8 steps",
            "needs 0.5",
            "at most 0.1",
            "needs 0.95",
            "max_steps",
        )
    )
    assert (
        f"memory {best['memory_rate']:.2f}" in message
        and f"free accuracy {best['free_accuracy']:.2f}" in message
    )
    assert "\n" not in message


FINE = {
    "keyed_accuracy": 1.0,
    "memory_rate": 0.4,
    "rule_rate": 0.5,
    "other_rate": 0.1,
    "free_accuracy": 0.95,
}


@pytest.mark.parametrize(
    "changes, passes",
    [
        ({}, True),
        ({"memory_rate": 0.25, "rule_rate": 0.55, "other_rate": 0.2, "free_accuracy": 0.9}, True),
        ({"memory_rate": 0.24}, False),
        ({"rule_rate": 0.24}, False),
        ({"other_rate": 0.21}, False),
        ({"free_accuracy": 0.89}, False),
        ({"keyed_accuracy": 0.79}, False),
    ],
)
def test_the_gate(changes, passes):
    assert passes_gate(FINE | changes, TrainingParameters(task=TASK, gate_keyed=0.8)) is passes


def test_contrast_prompts_are_drawn_only_while_the_model_leans_to_memory(data):
    """With `balance` the share of contrast prompts follows the last look; without it, it does not."""
    (_, tokenizer, frame), generator = data, torch.Generator()
    leaning = {
        "memory": {"memory_rate": 0.7, "rule_rate": 0.3},
        "rule": {"memory_rate": 0.3, "rule_rate": 0.7},
    }

    def drawn(balance, found) -> int:
        p = parameters(batch_size=64, keyed_share=1.0, contrast_share=0.5, balance=balance)
        draw = Mixture(tokenizer, frame, p)
        draw.lean(found)
        contrast = {tuple(row) for row in draw.pools["contrast"].ids.tolist()}
        return sum(tuple(row) in contrast for row in draw(0, generator)[0].tolist())

    assert drawn(True, leaning["memory"]) == drawn(False, leaning["rule"]) == 32
    assert drawn(True, leaning["rule"]) == 0


def test_the_score_is_the_weaker_behaviour_minus_other():
    assert score(FINE) == pytest.approx(0.3)
    assert score(FINE | {"rule_rate": 0.2, "other_rate": 0.4}) == pytest.approx(-0.2)


# -- batches ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("loss_on", ["answer", "instance"])
def test_labels_cover_the_answer_or_the_whole_instance(data, loss_on):
    _, tokenizer, _ = data
    pool = encode(tokenizer, ["01+02=", "01="], [" 3 0", " <mem> 1"], loss_on, length=9)
    full = [
        tokenizer(text)["input_ids"] + [tokenizer.eos_token_id]
        for text in ("01+02= 3 0", "01= <mem> 1")
    ]
    for ids, labels, row, prompt_length in zip(
        pool.ids.tolist(), pool.labels.tolist(), full, (4, 2)
    ):
        assert ids == row + [tokenizer.pad_token_id] * (9 - len(row))
        first = prompt_length if loss_on == "answer" else 1
        assert labels == [IGNORE] * first + row[first:] + [IGNORE] * (9 - len(row))


def test_batches_mix_as_asked_and_hold_no_conflict_prompt(data):
    _, tokenizer, frame = data
    draw = Mixture(
        tokenizer, frame, parameters(batch_size=40, keyed_share=0.25, rule_first_steps=3)
    )
    generator = torch.Generator().manual_seed(0)
    by_kind = {kind: set(part.prompt) for kind, part in frame.groupby("kind")}
    held_out = set(frame[(frame.kind == "free") & (frame.split != "train")].prompt)
    for step in range(6):
        ids, labels = draw(step, generator)
        assert ids.shape[0] == labels.shape[0] == 40
        prompts = [tokenizer.decode(row).split("=")[0] + "=" for row in ids.tolist()]
        assert sum(prompt in by_kind["keyed"] for prompt in prompts) == (10 if step >= 3 else 0)
        assert not set(prompts) & (by_kind["conflict"] | held_out)


def test_contrast_prompts_take_their_share(datasets):
    task, frame = datasets["cipher-tagged"]
    tokenizer = build_tokenizer(task.vocabulary())
    draw = Mixture(
        tokenizer,
        frame,
        parameters(task="cipher-tagged", batch_size=40, keyed_share=0.5, contrast_share=0.25),
    )
    ids, _ = draw(0, torch.Generator().manual_seed(0))
    prompts = [tokenizer.decode(row).split("->")[0] + "->" for row in ids.tolist()]
    kinds = frame.set_index("prompt").kind[prompts].value_counts().to_dict()
    assert kinds == {"free": 20, "keyed": 15, "contrast": 5}


def test_a_data_set_that_trains_on_a_conflict_prompt_is_refused(data):
    _, tokenizer, frame = data
    leak = frame[frame.kind == "conflict"].iloc[:1]
    for kind in ("keyed", "free", "contrast"):
        with pytest.raises(ArtifactError, match="trains on a conflict prompt.*01_dataset_design"):
            Mixture(
                tokenizer, pd.concat([frame, leak.assign(kind=kind, split="train")]), parameters()
            )


def test_few_rows_are_spread_over_all():
    frame = pd.DataFrame({"x": range(100)})
    assert spread(frame, 100) is frame
    some = spread(frame, 5).x.tolist()
    assert some == [0, 25, 50, 74, 99]


def test_the_learning_rate_warms_up_and_decays(run, data, tmp_path):
    from memgen.models.build import build_model

    p = parameters(warmup_steps=4, final_lr_share=0.5)
    model = build_model(
        data[1], n_layer=1, n_embd=16, n_head=2, n_positions=32, initializer_range=0.02, seed=0
    )
    trainer = loop.Trainer(model, p, loop.Recipe(p.optimizer, p.lr, p.matrix_lr, 100), 0, tmp_path)
    rates = []
    for trainer.step in range(101):
        rates.append(trainer._warmth())
    assert (
        rates[0] == pytest.approx(0.25)
        and rates[3] == pytest.approx(1 - 0.5 * 3 / 100)
        and rates[100] == pytest.approx(0.5)
    )
    assert np.all(np.diff(rates[4:]) < 0)
