"""A pretrained model's committed numbers, planted: three data sets, four layers, every kind of bar."""

from __future__ import annotations

from typing import Any

from memgen.steering.controls import CONTROLS
from memgen.terms import BEST_OF_RANDOM, DIRECTIONS, OUTPUT_CONTROLS, REPHRASINGS

PEAK = 3  # the layer that stands out, from 1
STEERED = {"m2g": 0.70, "g2m": 0.40}
ONE_LAYER = {"m2g": 0.60, "g2m": 0.90}
TOLD = {"m2g": 0.98, "g2m": 0.30}


def about(n_seeds: int = 3, **card: Any) -> dict[str, Any]:
    """`data/reference/real/<model>.json`; `card`: what its model's card says otherwise."""
    model = {
        "name": "a-model",
        "title": "A Model 135M",
        "weights": "ab" * 32,
        "n_parameters": 135_000_000,
        "n_layers": 4,
        "architecture": "LlamaForCausalLM",
        "quantization": "Q4_1",
        "source": "https://example.org/a-model",
        "licence": "Apache-2.0",
    }
    side = {"prompt": "They moved\nKolkata to Ghana. Kolkata is a city in", "answer": " India. It"}
    return {
        "model": model | card,
        "task": "knowledge",
        "tried": {"alphas": [0.5, 1.0], "top_ns": [0.1, 1.0], "layer_alphas": [3.0]},
        "example": {
            "key": "city/Kolkata",
            "memory_answer": " India",
            "rule_answer": " Ghana",
            "memorization": side,
            "generalization": side | {"answer": " Ghana. It"},
        },
        "seeds": [of_seed(seed) for seed in range(n_seeds)],
        "relations": [
            *(unseen(seed) for seed in range(n_seeds - 1)),
            {"seed": n_seeds - 1, "left_out": "no key is in split 'validation'"},
        ],
        "command": 'make real SEEDS="26 27 28"',
        "collected": "2026-11-26",
        "commit": "abc",
        "versions": {"torch": "2", "transformers": "5"},
        "machine": {"cores": 2, "processor": "x"},
        "numerics": "native",
    }


def of_seed(seed: int) -> dict[str, Any]:
    """Seeds differ by a hundredth each."""
    more = 0.01 * seed

    def rate(value: float) -> dict[str, float]:
        return {"rate": value, "low": value - 0.1, "high": value + 0.1}

    forecast = {"auc": 0.75, "interval": [0.7, 0.8], "gain": 0.05, "gain_interval": [0.01, 0.1]}
    return {
        "seed": seed,
        "n_known": 160 + seed,
        "n_asked": 745,
        "n_keys": {"train": 48, "validation": 19, "test": 29},
        "behaviours": {
            "n": 116,
            "n_keys": 29,
            "memorization": rate(0.4 + more),
            "generalization": rate(0.35),
            "other": rate(0.25 - more),
        },
        "contexts": {
            name: {
                "right": right - more,
                "interval": [0.3, 1.0],
                "n": n,
                "n_keys": 29,
                "stated": stated,
            }
            for name, right, n, stated in (
                ("none", 1.0 + more, 58, None),
                ("gold", 0.9, 116, 0.9),
                ("irrelevant", 0.7, 110, 0.2),
            )
        },
        "keys_with_both": 0.5 + more,
        "n_test_keys": 29,
        "free_accuracy": 0.64,
        "keyed_accuracy": 0.95,
        "pairs": {
            "n_pairs": {"train": 107, "validation": 40, "test": 60},
            "flip_rate": 0.25,
            "low": 0.2,
            "high": 0.3,
            "n_rephrasings": 200,
        },
        "layers": [layer(number, more) for number in range(1, 5)],
        "differences": {"site": "resid_post", "n_pairs": 107, "n_keys": 43, "n_null_pairs": 90},
        "same_wording": same_wording(more),
        "prediction": {
            "best_layer": PEAK,
            "best_auc": 0.84 + more,
            "best_auc_interval": [0.79, 0.9],
            "n_test": 400,
            "n_test_keys": 29,
            "auc_within_key": 0.88,
            "auc_within_key_interval": [0.77, 0.95],
            "margin_auc": 0.5,
            "entropy_auc": 0.6,
            "chosen_baseline": "role_features",
            "chosen_baseline_auc": 0.78,
            "chosen_baseline_interval": [0.7, 0.8],
            "gain": 0.06,
            "gain_interval": [0.01 - more, 0.1],  # above 0 in the first data set alone
            "prompt_only": forecast,
            "role_features": forecast,
        },
        "steering": {direction: steering(direction, more) for direction in DIRECTIONS},
        "spent": {
            "01_dataset_design": {
                "cpu_seconds": 50.0,
                "wall_seconds": 100.0,
                "peak_memory_bytes": 2**31,
            }
        },
    }


def unseen(seed: int) -> dict[str, Any]:
    """Half of what the neurons turn otherwise is turned on relations that were never seen."""
    found = of_seed(seed) | {"left_out": None, "held_back": ["language", "symbol"]}
    for direction, of in found["steering"].items():
        of["bars"][0] = bar("steered", "steered", STEERED[direction] / 2)
    return found


def same_wording(more: float) -> dict[str, Any]:
    """Layer 2 stands out: there 8, 9, 10 % of the neurons differ."""
    return {
        "n_pairs": 60,
        "n_keys": 36,
        "n_clusters": 18,
        "cluster": "couple of keys",
        "significant_share": [0.0, 0.08 + more, 0.02, 0.0],
        "null_significant_share": [0.0, 0.004, 0.0, 0.0],
        "nmd_relative": [0.1, 0.2, 0.2, 0.1],
        "correlation": [None, 0.6 + more, 0.5, 0.4],
    }


def layer(number: int, more: float) -> dict[str, float | None]:
    top = number == PEAK
    return {
        "layer": number,
        "significant": (0.15 if top else 0.01) + more,
        "null": 0.002,
        "oriented_null": 0.05,
        "nmd_relative": None if number == 1 else 0.1 * number,
        "max_abs_rho": 0.3,
        "auc": 0.84 if top else 0.7,
        "auc_low": 0.6,
        "auc_high": 0.9,
    }


def steering(direction: str, more: float) -> dict[str, Any]:
    named = {"steered": STEERED, "steered_max": STEERED}
    bars = [bar(name, "steered", at[direction] + more) for name, at in named.items()]
    bars += [bar(name, "output", 0.05) for name in OUTPUT_CONTROLS]
    bars += [bar(name, "shift", 0.1) for name in (*CONTROLS, BEST_OF_RANDOM)]
    bars += [bar(name, "floor", 0.2) for name in REPHRASINGS]
    bars += [bar("instruction_1", "rival", 0.1), bar("instruction_2", "rival", TOLD[direction])]
    bars += [bar("one_layer", "rival", ONE_LAYER[direction])]
    bars[2] |= {"success": None, "low": None, "high": None, "other": None, "n": 0}  # was not run
    costs = {"free_accuracy_before": 0.64, "keyed_accuracy_before": 0.95, "n_free": 100}
    costs |= {"n_keyed": 100, "perplexity_before": 20.0, "success": STEERED[direction]}
    dear = {"free_accuracy_after": 0.54, "keyed_accuracy_after": 0.65, "perplexity_after": 50.0}
    cheap = {"free_accuracy_after": 0.64, "keyed_accuracy_after": 0.945, "perplexity_after": 21.0}
    return {
        "cell": "kept",
        "kept_exists": True,
        "n_keys": 29,
        "bars": bars,
        "shifts": {
            "steered": costs | dear | {"alpha": 1.0, "top_n": 0.3},
            "steered_max": costs | dear | {"alpha": 1.0, "top_n": 0.3},
            "one_layer": costs | cheap | {"alpha": 4.0, "layer": PEAK},
        },
    }


def bar(name: str, family: str, success: float) -> dict[str, Any]:
    ends = {"low": max(0.0, success - 0.1), "high": min(1.0, success + 0.1)}
    return {"name": name, "family": family, "success": success, **ends, "other": 0.02, "n": 150}
