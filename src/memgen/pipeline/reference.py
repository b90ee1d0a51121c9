"""Does a run here say what the committed run said? Key numbers and verdicts, recorded and compared.

    memgen verify record --preset laptop    write data/reference/<preset>/ from the finished run
    memgen verify check --preset laptop     compare the run with it; exit status 1 if it differs

With `numerics=portable` on both sides the numbers are equal on every x86-64 processor with AVX2, and
are asked to be. Otherwise the last bits of a sum depend on the processor, training amplifies them,
and another checkpoint may be kept: the processor is a further source of variance. Then means over
seeds, within `TOLERANCE`, and the verdicts of the claims have to agree, and both processors are
named.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from memgen.config.base import ROOT
from memgen.errors import ArtifactError
from memgen.store.files import read_json, write_json
from memgen.store.folders import study_folder
from memgen.store.reader import FinishedRun, FinishedStage
from memgen.terms import STUDY, TRACKS, WHOLE

#: key number -> (stage, dotted key, tolerance of the mean over seeds)
TOLERANCE = {
    "memory": ("02_training", "memory_rate", 0.15),
    "rule": ("02_training", "rule_rate", 0.15),
    "other": ("02_training", "other_rate", 0.10),
    "free": ("02_training", "free_accuracy", 0.05),
    "auc": ("05_prediction", "best_auc", 0.08),
    "prompt_only_auc": ("05_prediction", "prompt_only_auc", 0.10),
    "m2g": ("06_intervention", "m2g.success", 0.20),
    "g2m": ("06_intervention", "g2m.success", 0.20),
    "m2g_random": ("06_intervention", "m2g.controls.random_neurons", 0.20),
    "g2m_random": ("06_intervention", "g2m.controls.random_neurons", 0.20),
}


def reference_file(preset: str, root: Path = ROOT) -> Path:
    return root / "data" / "reference" / preset / "key_numbers.json"


def key_numbers(home: Path) -> dict:
    """By track of `<runs>/<preset>`: `numbers[task][seed][name]` and verdicts, `claims[id]`."""
    found = {}
    for track in TRACKS:
        folder = home if track == "scratch" else home / track
        synthesis = FinishedRun(folder / STUDY / WHOLE)["08_synthesis"]
        if synthesis.exists:
            about = synthesis.result
            numbers = {
                task: {str(seed): _of_run(folder / task / f"seed{seed}") for seed in about["seeds"]}
                for task in about["tasks"]
            }
            found[track] = {
                "numbers": numbers,
                "claims": {claim["id"]: claim["verdict"] for claim in about["claims"]},
            }
    if not found:
        raise ArtifactError(f"{home} holds no finished study; `make labs` runs it")
    return found


def _of_run(folder: Path) -> dict[str, float | None]:
    run, numbers = FinishedRun(folder), {}
    for name, (stage, key, _) in TOLERANCE.items():
        value = run[stage].result if run[stage].exists else None
        for part in key.split("."):
            value = value.get(part) if value is not None else None
        numbers[name] = value
    return numbers


def machine(home: Path, stage: str = "08_synthesis") -> dict:
    """Versions, machine and numerics of the runs in `home`, from the first manifest of a stage."""
    first = min(path for path in home.glob(f"**/{stage}") if FinishedStage(path).exists)
    manifest = FinishedStage(first).manifest
    found = {name: manifest[name] for name in ("versions", "machine") if name in manifest}
    return found | {"numerics": manifest["parameters"].get("numerics", "native")}


def record(home: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        target,
        {
            "tolerance": {name: tolerance for name, (*_, tolerance) in TOLERANCE.items()},
            **machine(home),
            "tracks": key_numbers(home),
        },
    )


def compare(reference: dict, found: dict, exact: bool = False) -> tuple[list[str], list[str]]:
    """`(numbers, verdicts)` that differ, a sentence each, over tracks, tasks and seeds of both.

    `exact`: the numbers have to be equal, seed by seed.
    """
    numbers, verdicts = [], []
    for track in reference["tracks"].keys() & found.keys():
        before, now = reference["tracks"][track], found[track]
        for task in [task for task in before["numbers"] if task in now["numbers"]]:
            seeds = sorted(before["numbers"][task].keys() & now["numbers"][task].keys())
            for name, tolerance in reference["tolerance"].items():
                if exact:
                    numbers += _unequal(
                        track, task, name, before["numbers"][task], now["numbers"][task]
                    )
                    continue
                old, new = (
                    _mean([side["numbers"][task][seed].get(name) for seed in seeds])
                    for side in (before, now)
                )
                if (
                    seeds
                    and not (np.isnan(old) and np.isnan(new))
                    and not abs(old - new) <= tolerance
                ):
                    numbers.append(
                        f"{track}, {task}: {name} is {new:.2f}, the reference {old:.2f} (tolerance"
                        f" {tolerance:.2f}, mean of {len(seeds)} seeds)"
                    )
        for claim in [claim for claim in before["claims"] if claim in now["claims"]]:
            if before["claims"][claim] != now["claims"][claim]:
                verdicts.append(
                    f"{track}: the verdict on {claim!r} is {now['claims'][claim]}, in the reference"
                    f" {before['claims'][claim]}"
                )
    return sorted(numbers), sorted(verdicts)


def _common(before: dict, now: dict) -> list[tuple[str, str]]:
    """Tasks and seeds that both hold."""
    return [
        (task, seed)
        for task in before["numbers"].keys() & now["numbers"].keys()
        for seed in before["numbers"][task].keys() & now["numbers"][task].keys()
    ]


def _unequal(track: str, task: str, name: str, before: dict, now: dict) -> list[str]:
    """A sentence for every seed of both whose number is not the same."""
    return [
        f"{track}, {task}, seed {seed}: {name} is {now[seed].get(name)}, the reference"
        f" {before[seed].get(name)}"
        for seed in sorted(before.keys() & now.keys())
        if before[seed].get(name) != now[seed].get(name)
    ]


def _mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")


def write(preset: str, runs: str) -> int:
    """Record the finished study as the reference of its preset."""
    file = reference_file(preset)
    record(study_folder(runs, preset), file)
    print(f"wrote {file}")
    return 0


def check(preset: str, runs: str) -> int:
    """Print what differs from the reference; returns 1 if something does, else 0."""
    home, file = study_folder(runs, preset), reference_file(preset)
    found = key_numbers(home)
    if not file.is_file():
        raise ArtifactError(
            f"{file} is missing: nobody has recorded a run of preset {preset} with this recipe;"
            f" `memgen verify record --preset {preset}` records the one in {home}"
        )
    reference = read_json(file)
    shared = reference["tracks"].keys() & found.keys()
    if not shared:
        raise ArtifactError(f"{home} and {file} have no track in common")
    if not any(_common(reference["tracks"][track], found[track]) for track in shared):
        raise ArtifactError(
            f"{home} and {file} have no task and seed in common: nothing to compare"
        )
    here = machine(home)
    both = {reference.get("numerics", "native"), here["numerics"]}
    exact = both == {"portable"}
    numbers, verdicts = compare(reference, found, exact)
    print(f"compared with {file}: tracks {', '.join(sorted(shared))}")
    print(
        "both computed with portable kernels: the numbers have to be equal"
        if exact
        else f"computed here on {here['machine']['processor']} ({here['numerics']}), the reference on"
        f" {reference['machine']['processor']} ({reference.get('numerics', 'native')}): another"
        " processor is another draw, so means over seeds are compared"
    )
    for title, lines in (
        ("numbers that differ" if exact else "numbers outside the tolerance", numbers),
        ("verdicts that changed", verdicts),
    ):
        print(f"{title}: {len(lines)}" + "".join(f"\n  {line}" for line in lines))
    return 1 if numbers or verdicts else 0
