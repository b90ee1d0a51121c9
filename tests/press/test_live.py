"""The payload of the live page holds the run's own numbers, to the bit; what the page cannot show
is refused with a reason.
"""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file, save_file

from memgen.errors import ArtifactError
from memgen.models.build import build_model, save_model
from memgen.models.tokenizer import build_tokenizer
from memgen.steering.steering import steering_prompts
from memgen.store.files import sha256, write_json
from memgen.store.reader import FinishedRun
from memgen.tasks import make_task
from memgen.terms import DIRECTIONS, START
from press import build, live, live_prompts
from press.live import export_models

LAYERS, WIDTH, N_PROMPTS = 2, 12, 60
FAMILIES = {"arithmetic-tagged": "placement", "cipher-matched": "setting"}


def steered(seed: int) -> dict:
    return {
        "alpha": 2.0 + seed,
        "top_n": 0.1,
        "success": 0.7,
        "interval": [0.6, 0.8],
        "n": 100,
        "other": 0.1,
        "n_keys": 3,
        "cell": ("kept", "max")[seed],
        "free_accuracy_before": 0.9,
        "free_accuracy_after": 0.9 - seed / 2,
        "controls": {"random_neurons": 0.2, "best_of_random": 0.25, "low_rho": 0.6},
        "output_controls": {"forbid_source": {"success": 0.9 - seed / 10, "n": 100}},
        "rephrase_floor": 0.3,
    }


def make_run(folder, datasets, task="inference", tied=True):
    """A run folder with the artifacts that the page is made from: a random model, made-up
    statistics, answers dealt out by turns.
    """
    found, frame = datasets[task]
    tokenizer, rng = build_tokenizer(found.vocabulary()), np.random.default_rng(0)
    model = build_model(
        tokenizer,
        n_layer=LAYERS,
        n_embd=WIDTH,
        n_head=2,
        n_positions=32,
        initializer_range=0.02,
        seed=0,
    )
    if not tied:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(
            torch.randn(len(tokenizer), WIDTH, generator=torch.Generator().manual_seed(0))
        )
    parts = {name: folder / name for name in live.STAGES}
    for part in parts.values():
        part.mkdir(parents=True)
    frame.to_parquet(parts["01_dataset_design"] / "instances.parquet", index=False)
    save_model(parts["02_training"] / "model", model, tokenizer)
    answered = frame[frame.kind == "conflict"].reset_index(drop=True)
    behavior = [("memorization", "generalization", "other")[i % 3] for i in range(len(answered))]
    answered = answered.assign(behavior=behavior, answer="", group=0, rephrasing=0)
    answered.to_parquet(parts["03_pairs"] / "answered.parquet", index=False)
    directions = {
        f"{name}.{site}": rng.normal(size=(LAYERS, WIDTH)).astype(np.float32)
        for name in ("nmd", "rho")
        for site in ("resid_post", "ln_2")
    }
    save_file(directions, parts["04_differentiation"] / "arrays.safetensors")
    save_file(
        {"weight": rng.normal(size=(LAYERS, WIDTH)), "bias": rng.normal(size=LAYERS)},
        parts["05_prediction"] / "probe.safetensors",
    )
    scores = pd.DataFrame({"key": "k", "probe": np.arange(200) / 10})
    scores.to_parquet(parts["05_prediction"] / "scores.parquet", index=False)
    reported = parts["06_intervention"] / "outcomes.parquet"
    outcomes(answered).to_parquet(reported, index=False)
    results = {
        "05_prediction": {"site": "resid_post", "best_layer": 2, "auc": [None, 0.9]},
        "06_intervention": {
            "site": "resid_post",
            "positions": "all",
            "m2g": steered(0),
            "g2m": steered(1),
        },
    }
    for name in live.STAGES:
        write_json(parts[name] / "result.json", results.get(name, {}))
        seal(parts[name], task)
    return folder


def outcomes(answered) -> pd.DataFrame:
    """Lab 06's rows: of memory's answers every fourth turns, of the rule's all but every fourth."""
    found = []
    for direction, kind in zip(DIRECTIONS, ("steered", "steered_max")):
        rows = steering_prompts(answered, "test", direction, N_PROMPTS)
        fourth = np.arange(len(rows)) % 4 == 0
        success = fourth if direction == "m2g" else ~fourth
        found.append(rows[["key"]].assign(direction=direction, kind=kind, success=success))
    # other rows of the table are no business of the page
    return pd.concat([*found, found[0].assign(kind="random_neurons", success=True)])


def seal(stage, task="inference"):
    """Write the manifest of a stage as it is now."""
    outputs = {
        str(path.relative_to(stage)): sha256(path)
        for path in stage.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    parameters = {"task": task, "seed": 3, "preset": "tiny", "alphas": [1.0, 2.0], "top_ns": [0.1]}
    parameters["n_prompts"] = N_PROMPTS
    write_json(stage / "manifest.json", {"parameters": parameters, "outputs": outputs})


@pytest.fixture
def run(tmp_path, datasets):
    return make_run(tmp_path / "inference" / "seed3", datasets)


def read_payload(path, call="receive"):
    """`(task, meta, tensors)` as a browser would take them from the script."""
    decoder, text = json.JSONDecoder(), path.read_text(encoding="ascii")
    assert text.startswith(f"Memgen.{call}(") and text.endswith(");\n")
    task, at = decoder.raw_decode(text, len(f"Memgen.{call}("))
    meta, at = decoder.raw_decode(text, at + 2)
    blob, at = decoder.raw_decode(text, at + 2)
    floats, tensors, start = np.frombuffer(base64.b64decode(blob), "<f4"), {}, 0
    for name, shape in meta["tensors"]:
        tensors[name] = floats[start : start + np.prod(shape, dtype=int)].reshape(shape)
        start += tensors[name].size
    assert text[at:] == ");\n" and start == len(floats)
    return task, meta, tensors


def read_index(target):
    available, unavailable = (target / "models.js").read_text().splitlines()
    return (
        json.loads(line.split(" = ", 1)[1].removesuffix(";")) for line in (available, unavailable)
    )


@pytest.mark.parametrize("tied", [True, False])
def test_weights_and_directions_arrive_to_the_bit(tmp_path, datasets, tied):
    run = make_run(tmp_path / "inference" / "seed3", datasets, tied=tied)
    (listed,) = export_models([run], tmp_path / "live")
    task, meta, tensors = read_payload(tmp_path / "live" / "model-inference.js")
    saved = load_file(run / "02_training" / "model" / "model.safetensors")
    statistics = load_file(run / "04_differentiation" / "arrays.safetensors")
    expected = {name.removeprefix("transformer."): array for name, array in saved.items()}
    expected |= {name: statistics[f"{name}.resid_post"] for name in ("nmd", "rho")}
    assert tensors.keys() == expected.keys() and ("lm_head.weight" in tensors) is not tied
    assert all(np.array_equal(tensors[name], expected[name]) for name in expected)
    probe = load_file(run / "05_prediction" / "probe.safetensors")
    assert [layer["weight"] for layer in meta["probe"]["layers"]] == probe["weight"].tolist()
    assert [layer["bias"] for layer in meta["probe"]["layers"]] == probe["bias"].tolist()
    assert (meta["probe"]["best"], meta["probe"]["auc"]) == (2, [None, 0.9])
    size = sum(array.size for name, array in expected.items() if name not in ("nmd", "rho"))
    assert listed == {
        "task": task,
        "family": "inference",
        "parameters": size,
        "preset": "tiny",
        "seed": 3,
        "bytes": (tmp_path / "live" / "model-inference.js").stat().st_size,
        "more_bytes": (tmp_path / "live" / "more-inference.js").stat().st_size,
    }
    assert list(read_index(tmp_path / "live")) == [[listed], ""]


def test_what_the_page_says_about_a_model_is_what_the_run_says(tmp_path, run, datasets):
    export_models([run], tmp_path / "live")
    _, meta, _ = read_payload(tmp_path / "live" / "model-inference.js")
    task, frame = datasets["inference"]
    tokenizer = build_tokenizer(task.vocabulary())
    assert meta["vocabulary"] == tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert (meta["pad"], meta["end"], meta["unknown"]) == (
        tokenizer.pad_token_id,
        tokenizer.eos_token_id,
        tokenizer.unk_token_id,
    )
    assert sorted(meta["special"]) == sorted(tokenizer.all_special_ids)
    assert meta["max_answer_tokens"] == task.fit(tokenizer, frame).max_answer_tokens
    assert (meta["n_layer"], meta["d_model"], meta["n_head"], meta["max_positions"]) == (
        LAYERS,
        WIDTH,
        2,
        32,
    )
    assert meta["cells"] == {
        "m2g": {"alpha": 2.0, "top_n": 0.1},
        "g2m": {"alpha": 3.0, "top_n": 0.1},
    }
    assert (meta["alphas"], meta["top_ns"]) == ([1.0, 2.0], [0.1])
    assert [meta["results"][d]["forbidden"] for d in ("m2g", "g2m")] == [0.9, 0.8]
    results = meta["results"]
    # two controls that were named beforehand, not the one that happens to be the strongest
    assert results["g2m"]["controls"] == {"random_neurons": 0.2, "best_of_random": 0.25}
    assert results["m2g"]["interval"] == [0.6, 0.8]
    assert [results[d]["cell"] for d in ("m2g", "g2m")] == ["kept", "max"]
    assert [results[d]["free_accuracy_before"] for d in ("m2g", "g2m")] == [0.9, 0.9]
    assert [results[d]["free_accuracy_after"] for d in ("m2g", "g2m")] == [0.9, 0.4]
    assert meta["keys"] == {name: key.memory_answer for name, key in task.keys.items()}
    assert meta["key_splits"] == task.split_keys((0.5, 0.2, 0.3))
    assert meta["task_detail"]["gates"] == {}  # here every key has contrast prompts itself


@pytest.mark.parametrize("name, n_settings", [("arithmetic-tagged", 6), ("cipher-matched", 24)])
def test_gate_keys_are_known_with_their_settings(tmp_path, name, n_settings):
    task = make_task(name, 8, 0, "gate", 3)
    frame = task.generate(n_free=40, n_keyed=1600, n_conflict_per_key=4, n_free_eval=20)
    run = make_run(tmp_path / name / "seed3", {name: (task, frame)}, name)
    export_models([run], tmp_path / "live")
    _, meta, _ = read_payload(tmp_path / "live" / f"model-{name}.js")
    gates = meta["task_detail"]["gates"]
    memories = {name: key.memory_answer for name, key in task.gate_keys.items()}
    assert {name: gate["memory"] for name, gate in gates.items()} == memories
    for gate in gates.values():  # trained in every setting, in half of them from memory
        assert not set(gate["keyed"]) & set(gate["contrast"])
        assert len(gate["keyed"]) == n_settings / 2 == len(gate["contrast"])


def test_names_that_are_gate_keys_are_known_to_the_page(tmp_path):
    task = make_task("inference", 8, 0, "gate", 3)
    frame = task.generate(n_free=40, n_keyed=40, n_conflict_per_key=4, n_free_eval=20)
    made = {"inference": (task, frame)}
    export_models([make_run(tmp_path / "inference" / "seed3", made)], tmp_path / "live")
    _, meta, _ = read_payload(tmp_path / "live" / "model-inference.js")
    known = {name: key.memory_answer for name, key in task.gate_keys.items()}
    assert meta["task_detail"]["gates"] == known and len(known) == 3
    assert not set(known) & set(meta["keys"])


def asked_by_lab_06(run, direction):
    """The prompts that lab 06 reports on, as the lab itself takes them, with what it says of each."""
    answered = pd.read_parquet(run / "03_pairs" / "answered.parquet")
    rows = steering_prompts(answered, "test", direction, N_PROMPTS)
    table = pd.read_parquet(run / "06_intervention" / "outcomes.parquet")
    kind = {"m2g": "steered", "g2m": "steered_max"}[direction]
    said = table[(table.direction == direction) & (table.kind == kind)]
    return rows.assign(turned=said.success.to_numpy()).set_index("prompt")


def test_reported_prompts_and_what_became_of_them_are_lab_06_s(run):
    found = live_prompts.reported(FinishedRun(run))
    for direction in DIRECTIONS:
        asked = asked_by_lab_06(run, direction)
        rows = found[direction].set_index("prompt")
        assert list(rows.index) == list(asked.index) and len(rows) > 3
        assert (rows.turned == asked.turned).all() and 0 < rows.turned.sum() < len(rows)
    shown = live_prompts.examples(found)
    of = {direction: set(found[direction].prompt) for direction in DIRECTIONS}
    for direction in DIRECTIONS:
        own = {one["prompt"] for one in shown if one["behavior"] == START[direction]}
        assert own and own <= of[direction]


@pytest.mark.parametrize("n", [8, 37, 300])
def test_examples_turn_as_often_as_all_the_prompts(monkeypatch, n):
    monkeypatch.setattr(live_prompts, "N_EXAMPLES", 16)
    rng = np.random.default_rng(n)
    rows = {
        direction: pd.DataFrame(
            {
                "prompt": [f"{direction} {i}" for i in range(n)],
                "behavior": START[direction],
                "firm": rng.random(n),
                "turned": rng.permutation(np.arange(n) < rate * n),
            }
        )
        for direction, rate in zip(DIRECTIONS, (0.2, 0.9))
    }
    shown = live_prompts.examples(rows)
    first = live_prompts.first_shown(rows, shown)
    assert len({one["prompt"] for one in shown}) == len(shown) == 16
    for direction, mostly in zip(DIRECTIONS, (False, True)):
        table = rows[direction].set_index("prompt")
        own = [one["prompt"] for one in shown if one["behavior"] == START[direction]]
        assert abs(table.turned[own].sum() - 8 * table.turned.mean()) < 1
        assert table.firm[own].is_monotonic_decreasing
        # the one that is shown first does what most of them do, and is the firmest of these
        alike = [prompt for prompt in own if table.turned[prompt] == mostly]
        assert first[direction] == alike[0]


def test_firm_answers_come_first_and_are_spread():
    """Of ten questions, asked five times each, the k-th is answered in one way k times."""
    rows = [(k // 5, k % 5, reword) for k in range(10) for reword in range(5)]
    answered = pd.DataFrame(rows, columns=["key", "group", "rephrasing"])
    alike = answered.rephrasing <= answered.group
    answered["prompt"] = [f"{n}" for n in range(len(answered))]
    answered["behavior"] = np.where(alike, "memorization", "generalization")
    firm = live_prompts.firmness(answered)
    first = answered.rephrasing == 0
    assert firm[first].tolist() == [0, 0.25, 0.5, 0.75, 1] * 2
    table = answered[first].assign(firm=firm[first], turned=[True] * 5 + [False] * 5)
    shown = live_prompts.examples({"m2g": table, "g2m": table})
    prompts = [one["prompt"] for one in shown[: len(table)]]
    order = table.set_index("prompt").firm[prompts]
    assert order.is_monotonic_decreasing and set(prompts) == set(table.prompt)
    alone = answered.drop_duplicates(["key", "group"])
    assert live_prompts.firmness(alone).tolist() == [0.0] * 10  # nothing was reworded


def test_free_examples_are_test_prompts_without_a_key(tmp_path, run, datasets):
    export_models([run], tmp_path / "live")
    _, meta, _ = read_payload(tmp_path / "live" / "model-inference.js")
    frame = datasets["inference"][1]
    found = [one["prompt"] for one in meta["free_examples"]]
    assert set(found) <= set(frame[(frame.kind == "free") & (frame.split == "test")].prompt)
    assert len(set(found)) == 6 and found == sorted(found, key=list(frame.prompt).index)


def test_all_prompts_of_lab_06_can_be_run_in_an_order_drawn_once(tmp_path, run):
    export_models([run], tmp_path / "live")
    _, more, tensors = read_payload(tmp_path / "live" / "more-inference.js", "extend")
    for direction in DIRECTIONS:
        asked = list(asked_by_lab_06(run, direction).index)
        assert sorted(more["prompts"][direction]) == sorted(asked) and more["prompts"] != asked
    assert more["methods"] == {} and more["tensors"] == [] and tensors == {}


def test_a_report_on_other_prompts_is_refused(tmp_path, run):
    table = pd.read_parquet(run / "06_intervention" / "outcomes.parquet")
    table.iloc[1:].to_parquet(run / "06_intervention" / "outcomes.parquet", index=False)
    seal(run / "06_intervention")
    with pytest.raises(ArtifactError, match="other prompts .* run lab 06_intervention"):
        export_models([run], tmp_path / "live")


def test_the_probe_is_told_as_a_rank_among_the_test_prompts(tmp_path, run):
    export_models([run], tmp_path / "live")
    _, meta, _ = read_payload(tmp_path / "live" / "model-inference.js")
    ranks, scores = meta["probe"]["ranks"], np.arange(200) / 10
    assert meta["probe"]["n_ranked"] == 200 and len(ranks) == 99
    for percent, rank in enumerate(ranks, 1):
        assert (scores < rank).mean() == pytest.approx(percent / 100, abs=0.01)


# -- the rivals' vectors ---------------------------------------------------------------------------
def rival(success: float, kept: bool, positions: str = "all") -> dict:
    one = steered(0) | {"success": success, "label": "times 2", "setting": {"positions": positions}}
    return {"max": one | {"success": 1.0}, "kept": one if kept else None}


def compare(run, methods: dict[str, tuple[bool, bool]], site="resid_post") -> dict[str, np.ndarray]:
    """Let a made-up lab 13 have compared these; `methods`: is a candidate kept, by direction."""
    stage, rng = run / "13_scoreboard", np.random.default_rng(1)
    stage.mkdir()
    shifts = {
        f"{name}.{direction}.{choice}": rng.normal(size=(LAYERS, WIDTH)).astype(np.float32)
        for name in methods
        for direction in DIRECTIONS
        for choice in ("max", "kept")
    }
    save_file(shifts, stage / "shifts.safetensors")
    rows = [
        {name: rival(0.1 * n, kept[i]) for n, (name, kept) in enumerate(methods.items(), 1)}
        for i in range(2)
    ]
    titles = {name: {"title": name.upper()} for name in methods}
    result = {"site": site, "methods": titles, "m2g": {"rows": rows[0]}, "g2m": {"rows": rows[1]}}
    write_json(stage / "result.json", result)
    seal(stage)
    return shifts


def test_chosen_vectors_arrive_to_the_bit_with_what_lab_13_says_of_them(tmp_path, run):
    both = (True, True)
    shifts = compare(
        run,
        {"nmd": both, "caa": (True, False), "optimised_retained": both, "random_directions": both},
    )
    (listed,) = export_models([run], tmp_path / "live")
    _, more, tensors = read_payload(tmp_path / "live" / "more-inference.js", "extend")
    assert list(more["methods"]) == ["optimised_retained", "caa"]
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        "optimised_retained.m2g": shifts["optimised_retained.m2g.kept"].tolist(),
        "optimised_retained.g2m": shifts["optimised_retained.g2m.kept"].tolist(),
        "caa.m2g": shifts["caa.m2g.kept"].tolist(),
        "caa.g2m": shifts["caa.g2m.max"].tolist(),
    }
    caa = more["methods"]["caa"]
    assert caa["title"] == "CAA" and [caa[d]["cell"] for d in DIRECTIONS] == ["kept", "max"]
    assert [caa[d]["success"] for d in DIRECTIONS] == [0.2, 1.0]
    assert [caa[d]["paper"] for d in DIRECTIONS] == [0.1, 1.0]  # the same choice of the paper's row
    assert [caa[d]["chance"] for d in DIRECTIONS] == [0.4, 1.0]
    assert caa["m2g"]["positions"] == "all" and caa["m2g"]["label"] == "times 2"
    assert listed["more_bytes"] == (tmp_path / "live" / "more-inference.js").stat().st_size


@pytest.mark.parametrize("why", ["no lab 13", "another site", "nothing kept", "not compared"])
def test_a_book_without_vectors_offers_the_neurons_alone(tmp_path, run, why):
    if why != "no lab 13":
        names = ["iti"] if why == "not compared" else ["caa"]
        compare(
            run, dict.fromkeys(names, (True, True)), "ln_2" if why == "another site" else live.SITE
        )
    if why == "nothing kept":  # a result from before the vectors were kept
        (run / "13_scoreboard" / "shifts.safetensors").unlink()
        seal(run / "13_scoreboard")
    export_models([run], tmp_path / "live")
    _, more, tensors = read_payload(tmp_path / "live" / "more-inference.js", "extend")
    assert more["methods"] == {} and tensors == {}


def test_altered_vectors_are_not_shown(tmp_path, run):
    compare(run, {"caa": (True, True)})
    with (run / "13_scoreboard" / "shifts.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArtifactError, match="shifts.safetensors was altered"):
        export_models([run], tmp_path / "live")


@pytest.mark.parametrize("task", FAMILIES)
def test_trained_settings_of_a_key_are_those_of_the_task(tmp_path, datasets, task):
    run = make_run(tmp_path / task / "seed3", datasets, task)
    export_models([run], tmp_path / "live")
    _, meta, _ = read_payload(tmp_path / "live" / f"model-{task}.js")
    keys = datasets[task][0].keys
    bounds = {"arithmetic-tagged": (3, 4), "cipher-matched": (12, 16)}[task]
    assert meta["task_detail"]["settings"].keys() == keys.keys()
    for name, trained in meta["task_detail"]["settings"].items():
        order = keys[name].detail if task.startswith("cipher") else keys[name].detail[2]
        memory, rule, conflict = (set(part.tolist()) for part in np.split(order, bounds))
        assert (
            set(trained["keyed"]) <= memory
            and set(trained["contrast"]) <= rule
            and trained["keyed"]
        )
        assert not conflict & {*trained["keyed"], *trained["contrast"]}


def test_same_artifacts_same_bytes(tmp_path, run):
    for name in ("one", "two"):
        export_models([run], tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def change(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "stage, name, changes, said",
    [
        (
            "02_training",
            "model/config.json",
            {"architectures": ["LlamaForCausalLM"]},
            ("LlamaForCausalLM", "set architecture=gpt2"),
        ),
        (
            "02_training",
            "model/config.json",
            {"activation_function": "relu"},
            ("activation_function=relu", "gelu_new"),
        ),
        (
            "02_training",
            "model/config.json",
            {"dtype": "bfloat16"},
            ("bfloat16", "set dtype=float32"),
        ),
        (
            "02_training",
            "model/tokenizer.json",
            {"model": {"type": "BPE"}},
            ("tokenizer", "base_model"),
        ),
        ("05_prediction", "result.json", {"site": "ln_2"}, ("site ln_2", "sites")),
        (
            "06_intervention",
            "result.json",
            {"site": "mlp_out"},
            ("site mlp_out", "set site=resid_post"),
        ),
    ],
)
def test_what_cannot_be_shown_is_refused_with_what_to_change(
    tmp_path, run, stage, name, changes, said
):
    change(run / stage / name, **changes)
    seal(run / stage)
    assert export_models([run], tmp_path / "live") == []
    available, unavailable = read_index(tmp_path / "live")
    assert available == [] and unavailable.startswith("Not shown: inference; ")
    assert all(part in unavailable for part in said), unavailable
    assert [path.name for path in (tmp_path / "live").iterdir()] == ["models.js"]


def test_a_model_that_is_too_large_is_refused(tmp_path, run, monkeypatch):
    monkeypatch.setattr(live, "MAX_PARAMETERS", 1000)
    assert export_models([run], tmp_path / "live") == []
    assert (
        "at most 1,000 (set a smaller n_embd or n_layer)" in list(read_index(tmp_path / "live"))[1]
    )


def test_probes_that_saw_one_behaviour_are_no_prediction(tmp_path, run):
    stage = run / "05_prediction"
    save_file(
        {"weight": np.zeros((LAYERS, WIDTH)), "bias": np.full(LAYERS, np.inf)},
        stage / "probe.safetensors",
    )
    seal(stage)
    assert export_models([run], tmp_path / "live") == []
    assert "one behaviour only" in list(read_index(tmp_path / "live"))[1]


def test_runs_without_models_are_named_in_one_sentence(tmp_path, run):
    empty = [tmp_path / task / "seed3" for task in ("cipher-tagged", "cipher-matched")]
    assert [found["task"] for found in export_models([*empty, run], tmp_path / "live")] == [
        "inference"
    ]
    _, unavailable = read_index(tmp_path / "live")
    assert (
        unavailable.startswith("Not shown: cipher-tagged, cipher-matched; the run holds no model")
        and unavailable.count(".") == 1
    )


def test_a_run_from_before_the_probes_were_kept_names_the_lab_to_run_again(tmp_path, run):
    (run / "05_prediction" / "probe.safetensors").unlink()
    seal(run / "05_prediction")
    with pytest.raises(
        ArtifactError, match=r"run lab 05_prediction again .*TASK=inference SEED=3 PRESET=tiny"
    ):
        export_models([run], tmp_path / "live")


def test_the_book_of_such_a_run_is_not_built(tmp_path, run):
    """Of several seeds the first is shown, and it is the track scratch that is asked for it."""
    other = SimpleNamespace(
        track="lora", tasks=["inference"], root=tmp_path / "lora", seeds={"inference": [3]}
    )
    own = SimpleNamespace(
        track="scratch", tasks=["inference"], root=tmp_path, seeds={"inference": [3, 4]}
    )
    for tracks in ([own, other], [other, own]):
        build.stage_live(SimpleNamespace(every=tracks), tmp_path / "source")
        assert [
            found["seed"] for found in next(read_index(tmp_path / "source" / "_static" / "live"))
        ] == [3]
    (run / "05_prediction" / "probe.safetensors").unlink()
    seal(run / "05_prediction")
    with pytest.raises(ArtifactError, match="run lab 05_prediction again"):
        build.stage_live(SimpleNamespace(every=[own]), tmp_path / "source")


def test_an_altered_artifact_is_not_shown(tmp_path, run):
    with (run / "04_differentiation" / "arrays.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArtifactError, match="arrays.safetensors was altered"):
        export_models([run], tmp_path / "live")
