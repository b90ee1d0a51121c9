"""Where a run lies."""

from __future__ import annotations

from pathlib import Path

from .config import ROOT


def run_folder(runs: str | Path, preset: str, task: str, seed: int | str, retrain: int = 0) -> Path:
    """`<runs>/<preset>/<task>/seed<k>`; retrains beside it as `seed<k>-retrain<r>`, what spans the seeds in `all`."""
    runs = Path(runs)
    name = seed if isinstance(seed, str) else f"seed{seed}" + (f"-retrain{retrain}" if retrain else "")
    return (runs if runs.is_absolute() else ROOT / runs) / preset / task / name


def base_folder(runs: str | Path, preset: str, task: str, seed: int) -> Path:
    """The base that the variants of a task share: `<runs>/<preset>/<family>/seed<k>/00_base`."""
    return run_folder(runs, preset, task.split("-")[0] + "-base", seed) / "00_base"
