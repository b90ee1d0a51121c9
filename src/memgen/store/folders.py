"""The grammar of paths: where the runs of a study lie, where a lab writes, and what it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from memgen.config.base import ROOT, StageParameters
from memgen.stages import LABS, TRAINING
from memgen.store.ours import expanded
from memgen.terms import STUDY, WHOLE

RETRAIN = "-retrain"  # in the name of a run's folder, before its number


def is_retrain(stage: Path) -> bool:
    """Does a stage's folder lie in the run of a retrain?"""
    return RETRAIN in stage.parent.name


def study_folder(runs: str | Path, preset: str, track: str = "scratch") -> Path:
    """`<runs>/<preset>` from scratch; another track has a folder inside: `<runs>/<preset>/lora`."""
    runs = expanded(runs)
    folder = (runs if runs.is_absolute() else ROOT / runs) / preset
    return folder if track == "scratch" else folder / track


def run_folder(
    runs: str | Path,
    preset: str,
    task: str,
    seed: int | str,
    retrain: int = 0,
    track: str = "scratch",
) -> Path:
    """`<study folder>/<task>/seed<k>`; a retrain: `seed<k>-retrain<r>`; over the seeds: `all`."""
    name = seed if isinstance(seed, str) else f"seed{seed}"
    name += f"{RETRAIN}{retrain}" if retrain else ""
    return study_folder(runs, preset, track) / task / name


def base_name(task: str, track: str = "scratch", architecture: str = "gpt2") -> str:
    """From scratch a task's variants share one (`cipher-base`), else all (`shared-base-llama`)."""
    return f"{task.split('-')[0]}-base" if track == "scratch" else f"shared-base-{architecture}"


def base_folder(
    runs: str | Path,
    preset: str,
    task: str,
    seed: int,
    track: str = "scratch",
    architecture: str = "gpt2",
) -> Path:
    """The folder of that base: the tracks lora and full use one, so it lies in neither's own."""
    return run_folder(runs, preset, base_name(task, track, architecture), seed) / "00_base"


def stamp_beside(folder: Path) -> Path:
    """A stage's stamp: its outputs' digest, for Snakemake, or why the stage was left out."""
    return folder.with_name(f"{folder.name}.stamp")


def stamp_of(folder: Path, home: Path) -> str:
    """A stage's stamp, relative to the study's `home`."""
    return stamp_beside(folder.relative_to(home)).as_posix()


def stamp_pattern(name: str, retrain: bool = False) -> str:
    """A lab's stamps as Snakemake's wildcards; `{track}` is empty (scratch) or such as `lora/`."""
    level = LABS[name].level
    task = STUDY if level == "study" else "{task}"
    span = "seed{seed}" + (f"{RETRAIN}{{retrain}}" if retrain else "") if level == "run" else WHOLE
    return f"{{track}}{task}/{span}/{name}.stamp"


def lab_folder(name: str, p: StageParameters) -> Path:
    """Where a lab with these parameters writes."""
    span = p.seed if LABS[name].level == "run" else WHOLE
    retrain = getattr(p, "retrain", 0)
    return run_folder(p.runs, p.preset, p.task, span, retrain, p.track) / name


def input_folders(name: str, p: StageParameters) -> list[Path]:
    """Every finished stage that a lab with these parameters reads, each once.

    A lab of a run reads that run's, and its retrains where it asks for some; a retrain shares the data set
    of the run that it repeats. A lab over the seeds reads the runs of all its tasks and seeds (of a
    lab that a study runs for its first seed alone, that one's), and the retrains of its first seed.
    """
    row = LABS[name]

    def run(task: str, seed: int | str, retrain: int = 0) -> Path:
        return run_folder(p.runs, p.preset, task, seed, retrain, p.track)

    # on a shared base there are no retrains: its seeds are those of each other
    n_retrains = getattr(p, "n_retrains", 0) if p.track == "scratch" else 0
    numbers = range(1, n_retrains + 1)
    if row.level == "run":
        own = row.reads[: 1 if getattr(p, "retrain", 0) else None]
        again = [run(p.task, p.seed, r) / TRAINING for r in numbers]
        return [run(p.task, p.seed) / stage for stage in own] + again
    read = [LABS[stage] for stage in row.reads if p.track in LABS[stage].tracks]
    spanning: Any = p  # its class names tasks and seeds
    seeds, named = spanning.seeds, spanning.tasks
    tasks = list(dict.fromkeys([p.task, *named] if row.level == "task" else named))
    folders = [
        run(t, s) / one.name
        for t in tasks
        for s in seeds
        for one in read
        if one.level == "run" and s in one.of_seeds(seeds)
    ]
    folders += [run(t, WHOLE) / one.name for t in tasks for one in read if one.level == "task"]
    return folders + [run(p.task, seeds[0], r) / TRAINING for r in numbers]
