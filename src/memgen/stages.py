"""The one table of the labs: who they are, what they read, what they are made of.

Snakefile, notebooks, book, ledger, live page and tests read it. To add a lab, add a row here, a
notebook `notebooks/NN_name.ipynb`, its science in `labs/name.py`, its figures in `figures/name.py`,
and a chapter `book/chapters/NN_name.md`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from memgen.config.analyses import (
    AblationsParameters,
    ConfoundsParameters,
    DifferentiationParameters,
    InterventionParameters,
    OpenPointsParameters,
    PairsParameters,
    PredictionParameters,
    SynthesisParameters,
    TransferParameters,
)
from memgen.config.base import StageParameters
from memgen.config.causal import PatchingParameters
from memgen.config.correlates import CorrelatesParameters
from memgen.config.detection import DetectionParameters
from memgen.config.multiverse import MultiverseParameters
from memgen.config.rivals import ScoreboardParameters
from memgen.config.training import DatasetParameters, TrainingParameters
from memgen.terms import TRACKS

TRAINING = "02_training"  # where a run may miss the gate
BASE = "00_base"  # what training starts from: a stage without a notebook
BASE_CODE = ("training.base",)
BASE_SECONDS = 60


@dataclass(frozen=True)
class LabRow:
    """One lab.

    `parameters`: the class that validates its parameters. `reads`: the stages whose outputs it
    uses. `level`: it runs for every task and seed ("run"), for every task over all seeds ("task"),
    or once ("study"). `tracks`: those it runs on; `named`: those it runs on, too, where a plan names it
    among the labs that it wants. `gated`: it asks a model that shows both
    behaviours, and is left out where training did not lead to one. `seconds`: a guess, until labs of
    its kind have been timed. `beside`: modules that the notebook imports and its own module does not.
    """

    name: str
    title: str
    parameters: type[StageParameters]
    reads: tuple[str, ...] = ()
    level: Literal["run", "task", "study"] = "run"
    tracks: tuple[str, ...] = TRACKS
    named: tuple[str, ...] = ()
    gated: bool = True
    seconds: float = 20
    beside: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        """Its name without the number: `intervention`. Files and rules are called so."""
        return self.name.partition("_")[2]

    @property
    def number(self) -> int:
        return int(self.name.partition("_")[0])

    @property
    def code(self) -> tuple[str, ...]:
        """The modules of this package that its numbers depend on; what they import counts as well."""
        return (f"labs.{self.short}", *self.beside)


_DATA, _MODEL, _ANSWERS = "01_dataset_design", TRAINING, "03_pairs"
_MAPS, _CELLS = "04_differentiation", "06_intervention"
_RUN = (_DATA, _MODEL, _ANSWERS, _MAPS, "05_prediction", _CELLS)
_EVIDENCE = ("09_confounds", "10_ablations", "11_open_points", "12_patching")
_RIVALS = ("13_scoreboard", "14_detection", "15_correlates")
_CHOICES = ("16_multiverse",)
#: labs that came later: what spans the runs of a study from before goes on without them
LATER = (*_RIVALS, *_CHOICES)
# the evidence labs question the models from scratch; on a model that was given none of them has been tried
_SCRATCH = ("scratch",)
# what costs too much to be part of every study
_ASKED = ("lora", "given")
# on track given all seeds and tasks ask one model: there is no other that its neurons could be tried on
_TRAINED = ("scratch", "lora", "full")
_ROWS = (
    LabRow(_DATA, "Dataset design", DatasetParameters, gated=False, seconds=10),
    LabRow(
        _MODEL,
        "Training to dual behaviour",
        TrainingParameters,
        (_DATA,),
        gated=False,
        seconds=60,
    ),
    LabRow(_ANSWERS, "Pairs", PairsParameters, _RUN[:2], gated=False, seconds=10),
    LabRow(_MAPS, "Spatial differentiation", DifferentiationParameters, _RUN[:3], seconds=12),
    LabRow("05_prediction", "Prediction", PredictionParameters, _RUN[:3]),
    LabRow(_CELLS, "Intervention", InterventionParameters, _RUN[:4], seconds=30),
    LabRow(
        "07_transfer",
        "Transfer",
        TransferParameters,
        (*_RUN[:4], _CELLS),
        "task",
        tracks=_TRAINED,
        seconds=25,
    ),
    LabRow(
        "08_synthesis",
        "Synthesis",
        SynthesisParameters,
        (*_RUN, "07_transfer", *_EVIDENCE, *LATER),
        "study",
        seconds=10,
        beside=("labs.across_runs",),
    ),
    LabRow(
        "09_confounds",
        "Confounds",
        ConfoundsParameters,
        _RUN[:3],
        tracks=_SCRATCH,
        beside=("neurons.movement", "neurons.splits"),
    ),
    LabRow("10_ablations", "Ablations", AblationsParameters, (*_RUN[:4], _CELLS), tracks=_SCRATCH),
    LabRow(
        "11_open_points",
        "Open points",
        OpenPointsParameters,
        (*_RUN[:4], _CELLS),
        tracks=_SCRATCH,
        seconds=30,
        beside=("labs.hybrid",),
    ),
    LabRow(
        "12_patching",
        "Patching",
        PatchingParameters,
        (*_RUN[:4], _CELLS),
        tracks=_SCRATCH,
        seconds=40,
    ),
    LabRow(
        "13_scoreboard",
        "The scoreboard",
        ScoreboardParameters,
        (*_RUN[:4], _CELLS),
        tracks=_SCRATCH,
        named=_ASKED,
        seconds=40,
    ),
    LabRow(
        "14_detection",
        "Detection",
        DetectionParameters,
        (*_RUN[:3], "05_prediction"),
        tracks=_SCRATCH,
        named=_ASKED,
        seconds=12,
    ),
    LabRow(
        "15_correlates",
        "Correlates and control",
        CorrelatesParameters,
        (*_RUN[:4], _CELLS, "12_patching"),
        tracks=_SCRATCH,
        seconds=25,
    ),
    LabRow(
        "16_multiverse",
        "The compass of evidence",
        MultiverseParameters,
        (*_RUN[:4], _CELLS),
        tracks=_SCRATCH,
        seconds=60,
    ),
)
LABS: dict[str, LabRow] = {row.name: row for row in _ROWS}
PARAMETER_CLASSES = {name: row.parameters for name, row in LABS.items()}
TITLES = {name: row.title for name, row in LABS.items()}


def with_their_inputs(names: Iterable[str]) -> list[str]:
    """These labs and all that they read, and what those read, in the order of their numbers."""
    wanted: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += LABS[name].reads
    return [name for name in LABS if name in wanted]


def labs_of(level: str, track: str = "scratch") -> tuple[str, ...]:
    """The labs of a level that run on a track, in the order of their numbers."""
    return tuple(n for n, row in LABS.items() if row.level == level and track in row.tracks)
