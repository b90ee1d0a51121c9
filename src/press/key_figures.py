"""The figures of a talk: which, in which order, and how each is drawn from what its lab left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from memgen.config.training import TrainingParameters
from memgen.figures import (
    differentiation,
    intervention,
    pairs,
    prediction,
    synthesis,
    training,
    transfer,
)
from memgen.figures.style import Drawing
from memgen.labs.synthesis import mean_auc
from memgen.neurons.nmd import NeuronMaps
from memgen.store.reader import FinishedStage
from memgen.tasks.families import families


@dataclass(frozen=True)
class KeyFigure:
    """Figure `name` of lab `stage`: `draw` makes it from the finished stage's files `needs`."""

    stage: str
    name: str
    title: str
    needs: tuple[str, ...]
    draw: Callable[[FinishedStage], Drawing]


FIGURES: list[KeyFigure] = []  # in the order of a talk


def key_figure(stage: str, name: str, title: str, *needs: str) -> Callable:
    """The function below draws this key figure."""

    def keep(draw: Callable[[FinishedStage], Drawing]):
        FIGURES.append(KeyFigure(stage, name, title, needs, draw))
        return draw

    return keep


@key_figure(
    "08_synthesis",
    "main-finding",
    "The study in one figure",
    "steering.parquet",
    "overview.parquet",
)
def main_finding(lab: FinishedStage) -> Drawing:
    return synthesis.main_finding(lab.table("steering"), mean_auc(lab.table("overview")))


@key_figure("02_training", "trajectory", "Training to dual behaviour", "history.parquet")
def trajectory(lab: FinishedStage) -> Drawing:
    gates = TrainingParameters.model_construct(**lab.manifest["parameters"]).gates()
    base = lab.result["base_history"]
    step, passed = lab.result["step"], lab.result["passed"]
    return training.trajectory(lab.table("history"), step, gates, base, passed)


@key_figure("03_pairs", "flips", "Rephrasing alone flips the behaviour")
def flips(lab: FinishedStage) -> Drawing:
    return pairs.flip_bars(lab.result["flips"])


@key_figure("04_differentiation", "nmd-heatmap", "A map of the neurons", "arrays.safetensors")
def heatmaps(lab: FinishedStage) -> Drawing:
    maps = NeuronMaps.of(lab.arrays("arrays"), lab.result["site"])
    return differentiation.neuron_heatmaps(maps)


@key_figure("04_differentiation", "layers", "Where the behaviours differ", "arrays.safetensors")
def layers(lab: FinishedStage) -> Drawing:
    return differentiation.layer_distributions(lab.result, lab.arrays("arrays"))


@key_figure(
    "05_prediction",
    "probes",
    "Told before the answer: by layer",
    "probes.parquet",
    "baselines.parquet",
)
def probes(lab: FinishedStage) -> Drawing:
    return prediction.probe_curves(lab.result, lab.table("probes"), lab.table("baselines"))


@key_figure("08_synthesis", "every-task", "Told before the answer: every task", "overview.parquet")
def forecasts(lab: FinishedStage) -> Drawing:
    numbers, claims = lab.result["over_seeds"], lab.result["claims"]
    return synthesis.forecasts(lab.table("overview"), numbers, claims)


@key_figure("06_intervention", "controls", "Steering beside its controls", "controls.parquet")
def controls(lab: FinishedStage) -> Drawing:
    return intervention.control_bars(lab.table("controls"))


@key_figure("06_intervention", "dose", "Dose and response", "doses.parquet")
def doses(lab: FinishedStage) -> Drawing:
    return intervention.dose_response(lab.table("doses"), lab.result)


@key_figure("07_transfer", "retrains", "Transfer between models", "cells.parquet")
def retrains(lab: FinishedStage) -> Drawing:
    track = lab.manifest["parameters"]["track"]
    return transfer.retrains(lab.result["retrain"], track, lab.table("cells"))


@key_figure("08_synthesis", "format", "The format of the answer")
def formats(lab: FinishedStage) -> Drawing:
    numbers = lab.result["over_seeds"]
    return synthesis.formats(numbers, families(numbers))


@key_figure("08_synthesis", "ledger", "The ledger of claims")
def ledger(lab: FinishedStage) -> Drawing:
    return synthesis.verdicts(lab.result["claims"])
