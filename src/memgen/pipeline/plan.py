"""What a study asks for: checked before anything runs, then handed to Snakemake rule by rule.

The plan knows who takes which parameter, Snakemake what has to run and in which order. A rule asks
the plan what it waits for, and what its lab is given.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from memgen.config.base import LARGEST_SEED, ROOT, SEEDS, StageParameters
from memgen.config.training import TrainingParameters, sealed
from memgen.config.values import read_yaml
from memgen.errors import ParameterError
from memgen.presets import preset_files, split_overrides, stage_parameters
from memgen.stages import BASE, BASE_CODE, LABS, TRAINING, LabRow
from memgen.store.fingerprint import source_files
from memgen.store.folders import base_folder, input_folders, lab_folder, stamp_of, study_folder
from memgen.tasks import GIVEN, TASK_NAMES, TASKS, is_given
from memgen.terms import STUDY, TRACKS

#: the file in a study's folder that says what was asked for
PLANNED = "study.json"
#: parameters that say which run a lab belongs to: the plan gives them
RESERVED = {"preset", "runs", "task", "tasks", "seed", "seeds", "retrain", "track"}


def _fixed(stage: str, name: str) -> bool:
    """Does the stage know one value only (confounds read the residual stream, whatever `site`)?"""
    annotation = LABS[stage].parameters.model_fields[name].annotation
    return get_origin(annotation) is Literal and len(get_args(annotation)) == 1


def _names(stage: str) -> Iterable[str]:
    return LABS[stage].parameters.model_fields


def base_of(p: TrainingParameters) -> Path | None:
    """The folder of the base that a run starts from, if the study trains it."""
    if p.base_model or not p.base_steps:
        return None
    return base_folder(p.runs, p.preset, p.task, p.data_seed, p.track, p.architecture)


def read_folders(stage: str, p: StageParameters) -> list[Path]:
    """Every stage that a lab with these parameters waits for, the base of a training too."""
    base = base_of(p) if isinstance(p, TrainingParameters) else None
    return input_folders(stage, p) + ([base] if base else [])


def lab_files(stage: str) -> list[Path]:
    """What a lab is made of in the repository: its notebook, and the modules behind it and its figures."""
    # how a notebook opens its run, but not all that this imports, or much would wake every lab
    files = [Path(__file__).with_name(name) for name in ("notebook.py", "parameters_cell.py")]
    files += source_files(*_code(stage), "store.reader", "presets")
    if stage != BASE:
        files.append(ROOT / "notebooks" / f"{stage}.ipynb")
        files += source_files(f"figures.{LABS[stage].short}")
    return list(dict.fromkeys(files))


def _code(stage: str) -> tuple[str, ...]:
    return BASE_CODE if stage == BASE else LABS[stage].code


def refuse_unusable(p: StageParameters) -> None:
    """Raise `ParameterError` if what a lab would load or write to is not there."""
    there = _deepest(study_folder(p.runs, p.preset))
    if not there.is_dir():
        what = "a link that leads nowhere" if there.is_symlink() else "a file"
        raise ParameterError(f"runs={p.runs!r}: {there} is {what}; choose a folder with RUNS=...")
    if not isinstance(p, TrainingParameters):
        return
    targets = p.lora_targets if p.track == "lora" and not p.base_model else []
    if not (p.base_model or targets):
        return
    from memgen.models import load, sites  # they load torch, which few plans need

    if p.base_model:
        load.refuse_attention(p.base_model, p.attention)
        return
    known = sites.linear_maps(p.architecture)
    for name in targets:
        if name not in known:
            raise ParameterError(
                f"lora_targets={name!r} is no linear map of architecture={p.architecture};"
                f" choose from {', '.join(known)}"
            )


def _deepest(folder: Path) -> Path:
    """Of a folder and those above it, the first that is there, if only as a link."""
    return next(path for path in [folder, *folder.parents] if os.path.lexists(path))


def refuse_unwritable(p: StageParameters) -> None:
    """Raise `ParameterError` unless this machine lets the study be written where it is to lie."""
    there = _deepest(study_folder(p.runs, p.preset))
    if not os.access(there, os.W_OK | os.X_OK):
        raise ParameterError(
            f"runs={p.runs!r}: {there} cannot be written to; choose another folder with RUNS=... or"
            " make this one writable"
        )


def refuse_device(p: StageParameters) -> None:
    """Raise `ParameterError` unless this machine has the device that a training asks for."""
    device = getattr(p, "device", "cpu")
    if device == "cpu":
        return
    import torch  # few plans need it

    kind, _, index = device.partition(":")
    count = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }[kind]
    if int(index or 0) >= count:
        raise ParameterError(
            f"device={device!r} cannot be used here: this machine has {count} of kind {kind};"
            " device=cpu is there always, and `make check ELSEWHERE=yes` checks a study that another"
            " machine will run"
        )


def urgency(stage: str) -> float:
    """Expected seconds of the longest chain of labs that waits for this one: the higher, the sooner."""
    return max(
        (urgency(n) + row.seconds for n, row in LABS.items() if stage in row.reads), default=0
    )


@dataclass
class Plan:
    """The study that is asked for. Errors: `ParameterError`, one sentence, for whatever no lab would take."""

    preset: str = "laptop"
    tasks: list[str] = field(default_factory=lambda: list(TASK_NAMES))
    seeds: list[int] = field(default_factory=lambda: list(SEEDS))
    runs: str = "data/runs"
    settings: dict[str, Any] = field(default_factory=dict)
    tracks: list[str] = field(default_factory=lambda: ["scratch"])
    labs: list[str] = field(default_factory=lambda: list(LABS))  # those that are run

    def __post_init__(self):
        """Validate everything that any lab will be given, before anything runs."""
        for task in self.tasks:
            if task not in TASKS and not is_given(task):
                known = ", ".join([*TASKS, *GIVEN])
                raise ParameterError(f"task={task!r} is unknown; choose one of {known}")
        for track in self.tracks:
            if track not in TRACKS:
                raise ParameterError(
                    f"track={track!r} is unknown; choose one of {', '.join(TRACKS)}"
                )
        for name in ("tasks", "seeds", "tracks"):
            named = getattr(self, name)
            if not named:
                raise ParameterError(f"{name} must name at least one")
            if len(set(named)) < len(named):
                raise ParameterError(f"{name} must not repeat")
        for seed in self.seeds:
            if not 0 <= seed <= LARGEST_SEED:
                raise ParameterError(
                    f"seeds={self.seeds}: a seed is a whole number from 0 to {LARGEST_SEED}"
                )
        for name in RESERVED & set(self.settings):
            raise ParameterError(
                f"{name!r} cannot be a setting of the whole study; use the options --preset,"
                " --tracks, --tasks, --seeds, --runs"
            )
        preset_files(self.preset)
        split_overrides(self.settings)
        self.settings = sealed(self.settings)
        asked = ("preset", "base_model", "track", "architecture", "lora_targets")
        for p in {
            str([getattr(p, n, "") for n in asked]): p for p in self.studied.values()
        }.values():
            refuse_unusable(p)  # once for all runs that load the same

    @classmethod
    def of(cls, config: dict[str, Any], files: Sequence[Path] = ()) -> Plan:
        """The plan of Snakemake's `--configfile` or `--config`, which takes every value for a text.

        `files`: the configuration's; a `study.json` in its study's folder means the study there, also
        where the folder is a copy of another.
        """
        known = [one.name for one in fields(cls)]
        for name in config:
            if name not in known:
                raise ParameterError(f"{name!r} is not part of a plan; it has {', '.join(known)}")
        words = dict(config)
        for file in files:
            if (file.name, file.parent.name) == (PLANNED, words.get("preset", "laptop")):
                words["runs"] = str(file.absolute().parents[1])
        if "seeds" in words:
            try:
                words["seeds"] = [int(str(seed)) for seed in words["seeds"]]
            except (TypeError, ValueError):
                raise ParameterError(
                    f"seeds={words['seeds']!r} is not a list of whole numbers"
                ) from None
        if "settings" in words:
            words["settings"] = {
                name: read_yaml(value) if isinstance(value, str) else value
                for name, value in words["settings"].items()
            }
        return cls(**words)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    # -- what there is ----------------------------------------------------------------------------
    @property
    def home(self) -> Path:
        """The folder of this study."""
        return study_folder(self.runs, self.preset)

    @property
    def rows(self) -> list[LabRow]:
        return [LABS[name] for name in self.labs]

    @cached_property
    def studied(self) -> dict[str, StageParameters]:
        """Every lab of the study but the retrains: its stamp, and its parameters, validated."""
        found = {}
        for row in self.rows:
            for given in self._runs(row):
                p = stage_parameters(row.name, given)
                found[stamp_of(lab_folder(row.name, p), self.home)] = p
        return found

    def _runs(self, row: LabRow) -> Iterator[dict[str, Any]]:
        """What is given to a lab, for every run of it."""
        # a lab that was named runs on tracks and for seeds, too, that a whole study leaves it out of
        whole = len(self.labs) == len(LABS)
        there = row.tracks if whole else (*row.tracks, *row.named)
        seeds = row.of_seeds(self.seeds) if whole else self.seeds
        for track in (track for track in self.tracks if track in there):
            for task in [STUDY] if row.level == "study" else self.tasks:
                for seed in seeds if row.level == "run" else [None]:
                    yield self.parameters(row.name, task, track, seed)

    def targets(self) -> list[str]:
        """Stamps of the labs that no other lab reads: the whole study hangs on them."""
        read = {name for row in self.rows for name in row.reads}
        return [stamp for stamp in self.studied if Path(stamp).stem not in read]

    def parameters(
        self, stage: str, task: str, track: str, seed: int | None = None, retrain: int = 0
    ) -> dict[str, Any]:
        """What is passed to a lab: who it is, and the settings that this stage takes and lets vary."""
        given: dict[str, Any] = {"task": task, "preset": self.preset, "runs": self.runs}
        given |= {"track": track} if track != "scratch" else {}
        if LABS[stage].level == "run":
            given["seed"] = seed
        else:
            given |= {"seeds": self.seeds, "tasks": self.tasks}
        given |= {"retrain": retrain} if retrain else {}
        settings = split_overrides(self.settings)[stage]
        given |= {k: v for k, v in settings.items() if not _fixed(stage, k)}
        if "seed" in given and seed != self.seeds[0] and "n_retrains" in _names(stage):
            given["n_retrains"] = 0  # those of the first seed are all that a study trains
        return given

    # -- what a rule asks: functions of Snakemake's wildcards -----------------------------------------
    def given(self, stage: str) -> Callable[[Any], str]:
        """The parameters of the job, as JSON; without `runs`, so that a study may be moved."""

        def function(wildcards) -> str:
            return _as_text(self._asked(stage, wildcards))

        return function

    def reads(self, stage: str) -> Callable[[Any], list[str]]:
        """What the job waits for: stamps of the labs that it reads, and the files it is made of."""

        def function(wildcards) -> list[str]:
            p = stage_parameters(stage, self._asked(stage, wildcards))
            stamps = [stamp_of(folder, self.home) for folder in read_folders(stage, p)]
            return stamps + self.sources(stage)

        return function

    def _asked(self, stage: str, wildcards) -> dict[str, Any]:
        found = dict(wildcards.items())
        return self.parameters(
            stage,
            found.get("task", STUDY),
            found["track"].rstrip("/") or "scratch",
            int(found["seed"]) if "seed" in found else None,
            int(found.get("retrain", 0)),
        )

    def base_given(self, wildcards) -> str:
        """The parameters of training of the first run in the plan that starts from this base."""
        return _as_text(self._starting(wildcards))

    def base_reads(self, wildcards) -> list[str]:
        """A base from scratch waits for the data set it learns; a shared one draws its own."""
        p = stage_parameters(TRAINING, self._starting(wildcards))
        folders = input_folders(TRAINING, p) if p.track == "scratch" else []
        return [stamp_of(folder, self.home) for folder in folders] + self.sources(BASE)

    def _starting(self, wildcards) -> dict[str, Any]:
        found = dict(wildcards.items())
        named = f"{found['base']}/seed{found['seed']}/{BASE}.stamp"
        for track in self.tracks:
            for task in self.tasks:
                given = self.parameters(TRAINING, task, track, int(found["seed"]))
                base = base_of(stage_parameters(TRAINING, given))
                if base and stamp_of(base, self.home) == named:
                    return given
        raise ParameterError(f"no run of this study starts from {named}")

    def sources(self, stage: str) -> list[str]:
        """Files whose change makes a lab stale: its notebook, its preset, and the modules behind it."""
        if stage not in self._sources:
            files = [*preset_files(self.preset), *lab_files(stage)]
            # for Snakemake a brace begins a wildcard
            self._sources[stage] = [
                str(file).replace("{", "{{").replace("}", "}}") for file in dict.fromkeys(files)
            ]
        return self._sources[stage]

    @cached_property
    def _sources(self) -> dict[str, list[str]]:
        return {}


def _as_text(given: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in given.items() if name != "runs"})
