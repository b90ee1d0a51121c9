"""The models of the live page: a task's first model as a script that the page's JavaScript reads.

Everything comes from the artifacts of a run, nothing is computed anew; the same artifacts give the
same bytes. One file a model, `model-<task>.js`, calls `Memgen.receive(task, meta, weights)`, and one,
`more-<task>.js`, brings what the first answer can do without: `Memgen.extend(task, more, vectors)`.
`models.js` says which there are. Weights are float32 in base64: compression would save a tenth.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from tokenizers import Tokenizer

from memgen.claims.success import FORBID
from memgen.errors import ArtifactError
from memgen.stages import LABS
from memgen.store.files import read_json
from memgen.store.reader import FinishedRun, FinishedStage
from memgen.tasks import TASKS
from memgen.tasks.arithmetic import PLACEMENTS
from memgen.terms import BEST_OF_RANDOM, DIRECTIONS
from press.live_more import vectors
from press.live_prompts import drawn, examples, first_shown, free_examples, percentiles, reported

SITE = "resid_post"
MAX_PARAMETERS = 4_000_000  # about 21 MB of script, 40 ms a token in a browser
INDEX = "models.js"
CONTROLS = ("random_neurons", BEST_OF_RANDOM)  # shown beside the shift; chapter 6 has them all
#: what the JavaScript can compute; every other value of these settings of GPT-2 is refused
SETTINGS = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}
STAGES = (*LABS["06_intervention"].reads, "05_prediction", "06_intervention")


class NotShown(Exception):
    """A model that the page cannot show; the message says why and what to change."""


def export_models(folders: Iterable[Path], target: Path) -> list[dict]:
    """Write the scripts of run folders `<runs>/<preset>/<task>/seed<k>`; returns the models listed.

    `models.js` says why a model is left out that the page cannot show. Raises `ArtifactError` for
    stages that are unfinished, damaged or too old.
    """
    target.mkdir(parents=True, exist_ok=True)
    available, refused = [], {}
    for folder in folders:
        run = FinishedRun(folder)
        try:
            meta, tensors = payload(run)
        except NotShown as reason:
            refused.setdefault(str(reason), []).append(Path(folder).parent.name)
            continue
        written = {
            "bytes": _write(target, "model", "receive", meta["task"], (meta, tensors)),
            "more_bytes": _write(target, "more", "extend", meta["task"], more(run)),
        }
        names = ("task", "family", "parameters", "preset", "seed")
        available.append({name: meta[name] for name in names} | written)
    reasons = " ".join(
        f"Not shown: {', '.join(tasks)}; {reason}." for reason, tasks in refused.items()
    )
    (target / INDEX).write_text(
        f"Memgen.available = {_js(available)};\nMemgen.unavailable = {_js(reasons)};\n",
        encoding="ascii",
    )
    return available


def _write(
    target: Path, kind: str, call: str, task: str, sent: tuple[dict, dict[str, np.ndarray]]
) -> int:
    """Write a script that calls `Memgen.<call>` with this; its size in bytes."""
    about, tensors = sent
    script = f'Memgen.{call}({_js(task)}, {_js(about)}, "{_base64(tensors)}");\n'
    (target / f"{kind}-{task}.js").write_text(script, encoding="ascii")
    return len(script)


def more(run: FinishedRun) -> tuple[dict, dict[str, np.ndarray]]:
    """`(about, tensors)` of what is fetched after the first answer; float32 as in `payload`."""
    methods, tensors = vectors(run, SITE)
    seed = run["02_training"].manifest["parameters"]["seed"]
    return {
        "prompts": drawn(reported(run), seed),
        "methods": methods,
        "tensors": [[name, list(tensor.shape)] for name, tensor in tensors.items()],
    }, tensors


def payload(run: FinishedRun) -> tuple[dict, dict[str, np.ndarray]]:
    """`(meta, tensors)` of one run: the page's JSON; float32 in the order of `meta["tensors"]`.

    Raises `NotShown` or `ArtifactError`, see `export_models`.
    """
    config, weights = _weights(run["02_training"])
    for name in STAGES:
        run[name].verify()
    parameters, steered = run["02_training"].manifest["parameters"], run["06_intervention"].result
    if steered["site"] != SITE:
        raise NotShown(
            f"the neurons are those of site {steered['site']}, and the page shifts {SITE} (set"
            f" site={SITE})"
        )
    task, frame = parameters["task"], run.dataset()
    maps, swept = run["04_differentiation"].arrays("arrays"), run["06_intervention"].manifest
    tensors = {name: maps[f"{name}.{SITE}"] for name in ("nmd", "rho")} | weights
    keyed = frame[frame.key != ""].drop_duplicates("key").sort_values("key", kind="stable")
    family = task.split("-")[0]
    rows = reported(run)
    shown = examples(rows)

    def of_directions(*names: str) -> dict:
        return {d: {name: steered[d][name] for name in names} for d in DIRECTIONS}

    meta = {
        "task": task,
        "family": family,
        "preset": parameters["preset"],
        "seed": parameters["seed"],
        **_vocabulary(run["02_training"]),
        "pad": config["pad_token_id"],
        "end": config["eos_token_id"],
        "n_layer": config["n_layer"],
        "n_head": config["n_head"],
        "d_model": config["n_embd"],
        "layer_norm_epsilon": config["layer_norm_epsilon"],
        "max_positions": config["n_positions"],
        "parameters": sum(w.size for w in weights.values()),
        "max_answer_tokens": _longest_answer(task, frame, run["02_training"]),
        "site": SITE,
        "positions": steered["positions"],
        "probe": _probe(run["05_prediction"], parameters),
        "cells": of_directions("alpha", "top_n"),
        "alphas": swept["parameters"]["alphas"],
        "top_ns": swept["parameters"]["top_ns"],
        "results": {d: _rates(steered[d]) for d in DIRECTIONS},
        "keys": dict(zip(keyed.key, keyed.memory_answer)),
        "key_splits": dict(zip(keyed.key, keyed.split)),
        "task_detail": DETAILS[family](frame) if family in DETAILS else {},
        "examples": shown,
        "first": first_shown(rows, shown),
        "free_examples": free_examples(frame),
        "tensors": [[name, list(tensor.shape)] for name, tensor in tensors.items()],
    }
    return meta, tensors


def _rates(found: dict) -> dict:
    """A direction's success and price, beside two controls of its size that were named beforehand,
    and beside one token forbidden and nothing shifted.

    `cell`: `kept`, or `max` where no strength stays within the limit on lost free prompts.
    """
    names = ("cell", "success", "interval", "n", "other", "rephrase_floor")
    names += ("free_accuracy_before", "free_accuracy_after")
    controls = {name: found["controls"][name] for name in CONTROLS}
    forbidden = found["output_controls"][FORBID]["success"]
    return {name: found[name] for name in names} | {"controls": controls, "forbidden": forbidden}


def _weights(stage: FinishedStage) -> tuple[dict, dict[str, np.ndarray]]:
    """GPT-2's settings and its tensors by name; refuses what the JavaScript cannot compute."""
    model = stage.folder / "model"
    if not (model / "config.json").is_file():
        raise NotShown(
            "the run holds no model of its own (`make book` trains one on the track scratch)"
        )
    config = read_json(model / "config.json")
    name = (config.get("architectures") or ["unknown"])[0]
    if name != "GPT2LMHeadModel":
        raise NotShown(
            f"the model is a {name}, and the page computes GPT-2 only (set architecture=gpt2)"
        )
    for setting, allowed in SETTINGS.items():
        if config.get(setting, allowed[0]) not in allowed:
            raise NotShown(
                f"the model has {setting}={config[setting]}, and the page computes"
                f" {' or '.join(map(str, allowed))}"
            )
    if config.get("dtype", "float32") != "float32":
        raise NotShown(
            f"the weights are {config['dtype']}, and the page reads float32 (set dtype=float32)"
        )
    tensors = {
        name.removeprefix("transformer."): array
        for name, array in sorted(stage.arrays("model/model").items())
    }
    if config.get("tie_word_embeddings", True):
        tensors.pop("lm_head.weight", None)
    size = sum(array.size for array in tensors.values())
    if size > MAX_PARAMETERS:
        raise NotShown(
            f"the model has {size:,} parameters, and the page shows at most {MAX_PARAMETERS:,} (set"
            " a smaller n_embd or n_layer)"
        )
    return config, tensors


def _vocabulary(stage: FinishedStage) -> dict:
    """Tokens by id and ids no text can give; refuses all but `tokenizers.build_tokenizer`'s."""
    tokenizer = read_json(stage.path("model/tokenizer.json"))
    kind, split = tokenizer["model"]["type"], tokenizer.get("pre_tokenizer") or {}
    if (
        kind != "WordLevel"
        or split.get("type") != "Split"
        or split.get("behavior") != "Isolated"
        or tokenizer.get("normalizer")
    ):
        raise NotShown("the tokenizer is not one of the study's own (leave base_model empty)")
    ids = tokenizer["model"]["vocab"]
    return {
        "vocabulary": sorted(ids, key=ids.get),
        "special": [token["id"] for token in tokenizer["added_tokens"]],
        "unknown": ids[tokenizer["model"]["unk_token"]],
    }


def _longest_answer(task: str, frame: pd.DataFrame, stage: FinishedStage) -> int:
    """Room of an answer in tokens, end mark included, as `Task.fit` gives it."""
    tokenizer = Tokenizer.from_file(str(stage.path("model/tokenizer.json")))
    tokenizer.no_padding()
    answers = sorted({*frame.rule_answer, *frame.memory_answer} - {""})
    longest = max(
        len(found.ids) for found in tokenizer.encode_batch(answers, add_special_tokens=False)
    )
    return max(TASKS[task].max_answer_tokens if task in TASKS else 0, longest + 1)


def _probe(stage: FinishedStage, parameters: dict) -> dict:
    """Lab 05's probe and test AUC per layer; `layer` (from 1), `best`: as chosen on train keys.

    `ranks`: percentiles of its scores on the `n_ranked` test prompts that lab 05 reported on.
    """
    found = stage.result
    if not (stage.folder / "probe.safetensors").is_file():
        again = "make lab LAB=05_prediction TASK={task} SEED={seed} PRESET={preset}"
        raise ArtifactError(
            f"{stage.folder} holds no probe.safetensors, because an older version of the lab made it;"
            f" run lab 05_prediction again (`make book` does, or `{again.format(**parameters)}`)"
        )
    if found["site"] != SITE:
        raise NotShown(
            f"the probes read site {found['site']}, and the page shows {SITE} (put {SITE} first in"
            " sites)"
        )
    kept = stage.arrays("probe")
    if not np.isfinite(kept["bias"]).all():
        raise NotShown("the probes saw one behaviour only (raise max_prompts)")
    layers = [
        {"weight": weight.tolist(), "bias": float(bias)}
        for weight, bias in zip(kept["weight"], kept["bias"])
    ]
    best, scores = found["best_layer"], stage.table("scores").probe.to_numpy()
    of_test = {"ranks": percentiles(scores), "n_ranked": len(scores)}
    return {"layer": best, "best": best, "auc": found["auc"], "layers": layers} | of_test


def _settings(name: str, key_of: Callable[[str, int], str]):
    """Settings per key trained `keyed` (memory's answer) or `contrast` (rule's); else conflict.

    `gates`: the same of gate keys, whose prompts name no key (`key_of` reads it), with the memory.
    """

    def detail(frame: pd.DataFrame) -> dict:
        rows = frame[frame.kind.isin(["keyed", "contrast"])]
        found: dict[str, dict] = {key: _untrained() for key in sorted({*rows.key} - {""})}
        gates: dict[str, dict] = {}
        for row in rows.itertuples():
            setting = json.loads(row.setting)[name]
            of = found.get(row.key)
            if of is None:
                of = gates.setdefault(key_of(row.prompt, setting), _untrained())
                of["memory"] = row.memory_answer
            of[row.kind].add(setting)
        return {"settings": _sorted(found), "gates": _sorted(gates)}

    return detail


def _untrained() -> dict:
    return {"keyed": set(), "contrast": set()}


def _sorted(settings: dict[str, dict]) -> dict[str, dict]:
    return {
        key: {what: sorted(x) if isinstance(x, set) else x for what, x in of.items()}
        for key, of in settings.items()
    }


def _pair(prompt: str, placement: int) -> str:
    """The key of an arithmetic prompt whose operands stand so."""
    operands, (first, second) = prompt.rstrip("=").split("+"), PLACEMENTS[placement]
    return f"{operands[first]}|{operands[second]}"


def _word(prompt: str, setting: int) -> str:
    """The key of a cipher prompt: its word."""
    parts = prompt.removesuffix(" ->").split(": ")
    return next(part for part in parts if not part.startswith("shift "))


def _names(frame: pd.DataFrame) -> dict:
    """Inference: names that have a colour but are no key (`gates`), or have no colour (`free`)."""
    names = frame.prompt.str.split(". ", regex=False).str[-1].str.split(" the ").str[0]
    gates = frame[(frame.key == "") & (frame.memory_answer != "")]
    return {
        "gates": dict(sorted(zip(names[gates.index], gates.memory_answer))),
        "free": sorted(names[frame.kind == "free"].unique()),
    }


DETAILS = {
    "arithmetic": _settings("placement", _pair),
    "cipher": _settings("setting", _word),
    "inference": _names,
}


def _base64(tensors: dict[str, np.ndarray]) -> str:
    return base64.b64encode(
        b"".join(np.ascontiguousarray(t, dtype="<f4").tobytes() for t in tensors.values())
    ).decode()


def _js(value) -> str:
    """JSON in ASCII, which is JavaScript, too."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
