"""Where a run lies."""

from __future__ import annotations

from pathlib import Path

from .config import ROOT


def study_folder(runs: str | Path, preset: str, track: str = "scratch") -> Path:
    """`<runs>/<preset>` holds the track from scratch; any other track has a folder of its own
    inside: `<runs>/<preset>/lora`.
    """
    runs = Path(runs)
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
    """`<study folder>/<task>/seed<k>`; retrains beside it as `seed<k>-retrain<r>`, what spans the
    seeds in `all`.
    """
    name = (
        seed if isinstance(seed, str) else f"seed{seed}" + (f"-retrain{retrain}" if retrain else "")
    )
    return study_folder(runs, preset, track) / task / name


def base_name(task: str, track: str = "scratch", architecture: str = "gpt2") -> str:
    """From scratch the variants of a task share a base (`cipher-base`); on the other tracks all
    tasks share one (`shared-base-llama`).
    """
    return f"{task.split('-')[0]}-base" if track == "scratch" else f"shared-base-{architecture}"


def base_folder(
    runs: str | Path,
    preset: str,
    task: str,
    seed: int,
    track: str = "scratch",
    architecture: str = "gpt2",
) -> Path:
    """The folder of that base. The tracks lora and full use the same one, so it lies in neither's
    own folder.
    """
    return run_folder(runs, preset, base_name(task, track, architecture), seed) / "00_base"
