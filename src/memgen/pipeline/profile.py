"""Where the CPU seconds of a study went: by lab and track, by phase within a lab, from its manifests.

    memgen profile --preset laptop --runs data/runs

Stages that were made before phases were counted have `NOT_RECORDED` for all their seconds. What runs
the labs (Snakemake, the server that they are forked from, papermill) is in none of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from memgen.errors import ArtifactError
from memgen.figures.profile import by_phase
from memgen.phases import NOT_RECORDED, PHASES
from memgen.stages import BASE, LABS, TRAINING
from memgen.store.files import guard_disk
from memgen.store.folders import study_folder
from memgen.store.ours import expanded
from memgen.store.reader import FinishedStage, finished_stages
from memgen.terms import TRACKS

#: what stands for the track of a base that the tracks lora and full share
SHARED = "shared base"
#: the figure in a study's folder
PLOT = "profile.png"
_TRACKS = (*TRACKS, SHARED)


def profile_of(stages: Iterable[FinishedStage]) -> pd.DataFrame:
    """One row a stage and phase: lab, track, stage (its number), phase, seconds of processors.

    The rows are in the order of tracks and labs.
    """
    rows = [
        {"lab": one.name, "track": _track(one), "stage": number, "phase": phase, "seconds": seconds}
        for number, one in enumerate(stages)
        for phase, seconds in _spent(one.manifest).items()
    ]
    rows.sort(key=lambda row: (_TRACKS.index(row["track"]), row["lab"]))
    return pd.DataFrame(rows, columns=["lab", "track", "stage", "phase", "seconds"])


def _track(stage: FinishedStage) -> str:
    if stage.folder.parent.parent.name.startswith("shared-base"):
        return SHARED
    manifest = stage.manifest
    track: str = manifest.get("track") or manifest["parameters"].get("track", TRACKS[0])
    return track


def _spent(manifest: dict) -> dict[str, float]:
    return manifest.get("cpu_by_phase") or {NOT_RECORDED: manifest.get("cpu_seconds") or 0.0}


def by_lab(table: pd.DataFrame) -> pd.DataFrame:
    """Seconds `[labs, tracks]` in the order of the study; without stages of a kind, 0."""
    return _pivoted(table, "track", _TRACKS)


def by_lab_and_phase(table: pd.DataFrame) -> pd.DataFrame:
    """Seconds `[labs, phases]`, the phases in their order, those that occur."""
    return _pivoted(table, "phase", (*PHASES, NOT_RECORDED))


def _pivoted(table: pd.DataFrame, name: str, order: tuple[str, ...]) -> pd.DataFrame:
    sums = table.pivot_table(
        index="lab", columns=name, values="seconds", aggfunc="sum", fill_value=0.0
    )
    labs = [lab for lab in (BASE, *LABS) if lab in sums.index]
    return sums.loc[labs, [one for one in order if one in sums.columns]]


def evaluation_share(table: pd.DataFrame) -> float | None:
    """Looks at the model, as a share of what training took with them; None: not recorded."""
    rows = table[table.lab.isin((BASE, TRAINING))]
    training, looks = (
        rows.seconds[rows.phase == name].sum() for name in ("training", "evaluation")
    )
    return float(looks / (training + looks)) if training + looks else None


def text_of(table: pd.DataFrame) -> str:
    """Two tables and a sentence, as plain text."""
    tracks, phases = by_lab(table), by_lab_and_phase(table)
    total, stages = tracks.to_numpy().sum(), table.groupby("lab").stage.nunique()
    lines = [["CPU seconds", "stages", *tracks.columns, "together", "share"]]
    for lab, row in tracks.iterrows():
        found = [_seconds(x) for x in (*row, row.sum())]
        lines.append([lab, str(stages[lab]), *found, _share(row.sum(), total)])
    sums = [_seconds(x) for x in (*tracks.sum(), total)]
    lines.append(["all", str(stages.sum()), *sums, _share(total, total)])

    shares = [["by phase", *phases.columns]]
    for lab, row in phases.iterrows():
        shares.append([lab, *(_share(x, row.sum()) for x in row)])
    shares.append(["all", *(_share(x, total) for x in phases.sum())])
    shares.append(["all, CPU seconds", *(_seconds(x) for x in phases.sum())])
    looks = evaluation_share(table)
    said = "not recorded" if looks is None else f"{100 * looks:.1f} %"
    return "\n".join(
        (*_aligned(lines), "", *_aligned(shares), "", f"looks at the model in training: {said}")
    )


def _seconds(x: float) -> str:
    return f"{x:,.1f}" if x else "-"


def _share(x: float, of: float) -> str:
    return f"{100 * x / of:.0f} %" if x and of else "-"


def _aligned(lines: list[list[str]]) -> list[str]:
    """Columns of equal width, the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    ]


def show(preset: str, runs: str, plot: Path | None = None) -> None:
    """Print where the seconds of a study went, and draw it: `plot`, or `profile.png` in its folder.

    Errors: `ArtifactError` if there is no finished stage, or a manifest is damaged.
    """
    home = study_folder(runs, preset)
    table = profile_of(finished_stages(home))
    if table.empty:
        raise ArtifactError(f"{home} holds no finished stage; run the study first")
    print(text_of(table))
    target, drawing = expanded(plot) if plot else home / PLOT, by_phase(table)
    with guard_disk(target):
        drawing.save(target)
    print(f"drawn: {target}")
