"""The committed adapters on a pretrained model, for their section of the chapter *A model you know*."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memgen.figures import taught as figures
from memgen.figures.style import Drawing
from memgen.pipeline.real_lora import SUFFIX
from memgen.store.files import read_json
from memgen.terms import DIRECTIONS
from press.committed import shown
from press.numbers import decimal, percent, processors, span
from press.sentences import Share, between, tried

GIB = 2**30


@dataclass(frozen=True)
class TaughtModel:
    """One model with its adapters; `about`: `data/reference/real/<model>-lora.json`, `shown`: figures."""

    about: dict[str, Any]
    shown: list[str] = field(default_factory=list)

    @property
    def card(self) -> dict[str, Any]:
        return self.about["model"]

    @property
    def file(self) -> str:
        return f"data/reference/real/{self.card['name']}{SUFFIX}.json"

    @property
    def tasks(self) -> list[dict[str, Any]]:
        return self.about["tasks"]

    @property
    def adapters(self) -> list[dict[str, Any]]:
        """One per task and seed, with its `task`."""
        return [{"task": task["task"]} | one for task in self.tasks for one in task["seeds"]]

    @property
    def held(self) -> Share:
        """How many adapters pass the gate of the study on test keys."""
        return Share(sum(one["training"]["holds"] for one in self.adapters), len(self.adapters))

    @property
    def missed(self) -> list[dict[str, str]]:
        """What could not be asked of an adapter, and why, a sentence each."""
        return [
            {"task": one["task"], "seed": one["seed"], "why": one["left_out"]}
            for one in self.adapters
            if one["left_out"]
        ]

    @property
    def trained(self) -> list[dict[str, Any]]:
        """Rows of the table of training."""
        found = []
        for one in self.adapters:
            of, spent = one["training"], one["spent"]["02_training"]
            row = {name: of[name] for name in figures.SHOWN} | {
                "holds": "yes" if of["holds"] else "no"
            }
            row |= {"task": one["task"], "seed": one["seed"], "n": of["n_conflict"]}
            row |= {"n_keys": of["n_test_keys"], "step": of["step"], "last_step": of["last_step"]}
            row |= {"keyed_accuracy": of["keyed_accuracy"], "cpu": spent["cpu_seconds"]}
            found.append(row | {"gib": spent["peak_memory_bytes"] / GIB})
        return found

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The adapters that could be asked further."""
        return [one for one in self.adapters if not one["left_out"]]

    @property
    def foretold(self) -> list[dict[str, Any]]:
        """Rows of the table of prediction, and of what is there without the adapter."""
        return [_foretold(one) for one in self.asked]

    @property
    def turned(self) -> list[dict[str, Any]]:
        """Rows of the table of steering: by adapter and direction, success and what it costs."""
        return [
            {"task": one["task"], "seed": one["seed"], "direction": direction}
            | _turned(one["steering"][direction])
            for one in self.asked
            for direction in DIRECTIONS
        ]

    @property
    def carried(self) -> list[dict[str, str]]:
        """Rows of the table of transfer: by task and direction, itself, other adapters, other tasks."""
        found = []
        for task in self.tasks:
            if not task["transfer"]:
                continue
            between_them, tasks = task["transfer"]["retrain"], task["transfer"]["task"]
            for direction in DIRECTIONS:
                own, others = _split(between_them, direction)
                controls = [x for row in between_them["control"][direction] for x in row]
                other_tasks = [
                    row[0]
                    for source, row in zip(tasks["sources"], tasks[direction])
                    if source != task["task"]
                ]
                named = {"own": own, "others": others, "tasks": other_tasks, "control": controls}
                row = {name: span(values) for name, values in named.items()}
                found.append({"task": task["task"], "direction": direction} | row)
        return found

    @property
    def without_transfer(self) -> list[dict[str, str]]:
        return [
            {"task": task["task"], "why": task["without_transfer"]}
            for task in self.tasks
            if not task["transfer"]
        ]

    @property
    def tried(self) -> str:
        """Among which strengths and shares of neurons validation keys chose; "": no adapter was asked."""
        return tried(self.about["tried"]) if self.about["tried"] else ""

    @property
    def machine(self) -> str:
        return processors(self.about["machine"])

    @property
    def cpu(self) -> float:
        """CPU seconds of all labs and adapters."""
        labs = [stage for one in self.adapters for stage in one["spent"].values()]
        labs += [task["transfer"]["spent"] for task in self.tasks if task["transfer"]]
        return sum(stage["cpu_seconds"] for stage in labs)


def _foretold(one: dict[str, Any]) -> dict[str, Any]:
    found, base = one["prediction"], one["inheritance"]
    return {
        "task": one["task"],
        "seed": one["seed"],
        "auc": f"{decimal(found['best_auc'])} ({between(found['best_auc_interval'], decimal)})",
        "gain": f"{decimal(found['gain'])} ({between(found['gain_interval'], decimal)})",
        "in_common": base["top_in_common"],
        "correlation": decimal(base["correlation_all"]),
    }


def _turned(of: dict[str, Any]) -> dict[str, Any]:
    """Success within the limit and without, what the latter leaves right, and what stands beside them."""
    most, kept = of["most"], of["kept_exists"]
    within = f" ({between(of['interval'], percent)})" if kept else ""
    return {
        "within": percent(of["success"] if kept else 0.0) + within,
        "most": f"{percent(most['success'])} ({between(most['interval'], percent)})",
        "other": most["other"],
        "free": f"{percent(of['free_accuracy_before'])}, {percent(most['free_accuracy_after'])}",
        "keyed": f"{percent(of['keyed_accuracy_before'])}, {percent(most['keyed_accuracy_after'])}",
        "control": max((x for x in of["controls"].values() if x is not None), default=None),
        "forbidden": of["forbidden"]["success"],
        "reordered": of["rephrase_floor"],
        "n": of["n"],
    }


def _split(matrix: dict[str, Any], direction: str) -> tuple[list[float], list[float]]:
    """Success of each adapter's neurons on itself, and on the others."""
    own, others = [], []
    for source, row in zip(matrix["sources"], matrix[direction]):
        for target, value in zip(matrix["targets"], row):
            (own if source == target else others).append(value)
    return own, others


def taught_models(root: Path, source: Path) -> list[TaughtModel]:
    """The models in `data/reference/real` that adapters were trained on, figures staged in `source`."""
    folder = root / "data" / "reference" / "real"
    return [_staged(path, source) for path in sorted(folder.glob(f"*{SUFFIX}.json"))]


def _staged(path: Path, source: Path) -> TaughtModel:
    about = read_json(path)
    drawn: list[Drawing] = [figures.behaviours(about["tasks"], about["gate"])]
    if some := figures.asked(about["tasks"]):
        drawn.append(figures.along_depth(some))
    return TaughtModel(about, [shown(one, source, f"real-{path.stem}-{one.name}") for one in drawn])
