"""Bytes that change on a disk: flip one, and see that what reads the file finds it and names it.

    python tests/torture/flip.py [--times 100] [--seed 0]

A small run is made in a temporary folder: a data set, a trained model and its interrupted training,
an adapter and its base, tables and arrays. In every draw one random byte of one random file gets
another random value; the file's reader must refuse before anything of it is used, or, for a training
state, start again and say so. Ends with 1 if a draw was not found; the outcome: `outcome.json` beside this
file.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from memgen.config.training import TrainingParameters  # noqa: E402
from memgen.errors import StudyError  # noqa: E402
from memgen.models.adapters import base_of  # noqa: E402
from memgen.models.build import build_model, save_model  # noqa: E402
from memgen.models.tokenizer import build_tokenizer  # noqa: E402
from memgen.store.artifacts import MANIFEST, RESULT, Result, Stage  # noqa: E402
from memgen.store.reader import FinishedStage  # noqa: E402
from memgen.tasks import make_task  # noqa: E402
from memgen.training.base import Base  # noqa: E402
from memgen.training.dual import train  # noqa: E402
from memgen.training.state import MODEL, STATE, read_state  # noqa: E402
from small_training import OPEN_GATE, SMALL  # noqa: E402
from torture.kill import OUTCOME, commit, record  # noqa: E402

TASK = "cipher-tagged"
KINDS = ("data set", "artifact", "manifest", "checkpoint", "training", "base of an adapter")


@dataclass(frozen=True)
class Target:
    """A file, of which kind, and what is said on reading it: '' if nothing."""

    kind: str
    path: Path
    read: Callable[[], str]


def small_run(home: Path) -> list[Target]:
    """Make the run in `home`; every file of it."""
    task = make_task(TASK, 8, 0)
    frame = task.generate(n_free=60, n_keyed=40, n_conflict_per_key=3, n_free_eval=10)
    tokenizer = build_tokenizer(task.vocabulary())
    shape = {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 32, "initializer_range": 0.2}
    base = home / "base" / "model"
    save_model(base, build_model(tokenizer, seed=0, **shape), tokenizer)
    training, adapter = home / "training", home / "adapter"
    for folder, track in ((training, "full"), (adapter, "lora")):
        folder.mkdir()
        p = TrainingParameters(
            task=TASK, track=track, **{**SMALL, **OPEN_GATE, "max_steps": 2, "lora_rank": 2}
        )
        train(task, tokenizer, frame, p, folder, Base(base))
    numbers = np.random.default_rng(0).normal(size=(4, 16))
    stages = [
        _stage(home / "01_dataset_design", Result({"n": len(frame)}, {"instances": frame})),
        _stage(
            home / "04_differentiation", Result({"best": 0.5}, arrays={"arrays": {"x": numbers}})
        ),
        _stage(
            home / "02_training",
            Result(
                {"step": 2}, files={MODEL: lambda path: shutil.copytree(training / MODEL, path)}
            ),
        ),
    ]
    targets = [target for stage in stages for target in _of_stage(stage)]
    targets += [
        Target("training", path, lambda folder=folder: _resumed(folder))
        for folder in (training, adapter)
        for path in [folder / STATE, *_files(folder / MODEL)]
    ]
    weights = [base / "config.json", base / "model.safetensors"]
    found = lambda: _refused(lambda: base_of(adapter / MODEL))  # noqa: E731
    return targets + [Target("base of an adapter", path, found) for path in weights]


def _stage(folder: Path, result: Result) -> FinishedStage:
    stage = Stage(folder, {"task": TASK, "seed": 0})
    result.write(stage.begin())
    stage.finish(result.numbers)
    return FinishedStage(folder)


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def _of_stage(stage: FinishedStage) -> list[Target]:
    """Every file of a stage, read as a later lab reads it."""
    folder, found = stage.folder, []
    for path in _files(folder):
        name = path.relative_to(folder)
        kind = "data set" if folder.name.startswith("01") else "artifact"
        if name.name == MANIFEST:
            kind, read = "manifest", lambda new: new.manifest
        elif name.name == RESULT:
            read = lambda new: new.result  # noqa: E731
        elif name.parts[0] == MODEL:
            kind, read = "checkpoint", lambda new: new.path(MODEL)
        elif name.suffix == ".parquet":
            read = lambda new, name=name: new.table(name.stem)  # noqa: E731
        else:
            read = lambda new, name=name: new.arrays(name.stem)  # noqa: E731

        def said(read=read) -> str:
            """By the one reader, and by the check of all inputs before a lab computes."""
            one, all_ = (
                _refused(lambda: read(FinishedStage(folder))),
                _refused(lambda: FinishedStage(folder).verify()),
            )
            return one if one and all_ else ""

        found.append(Target(kind, path, said))
    return found


def _refused(read: Callable[[], object]) -> str:
    try:
        read()
    except StudyError as error:
        return str(error)
    return ""


def _resumed(folder: Path) -> str:
    """What is said where a training goes on; the folder is as before afterwards."""
    kept = folder.with_name(folder.name + ".kept")
    shutil.copytree(folder, kept)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        found = read_state(folder)
    shutil.rmtree(folder)
    kept.rename(folder)
    return "" if found else said.getvalue()


def flip(target: Target, rng: np.random.Generator) -> str:
    """Flip one byte of the file, read it, put the byte back; what was said."""
    before = target.path.read_bytes()
    changed, place = bytearray(before), int(rng.integers(len(before)))
    changed[place] ^= int(rng.integers(1, 256))
    target.path.write_bytes(changed)
    try:
        return target.read()
    finally:
        target.path.write_bytes(before)


def campaign(targets: list[Target], draws: int, seed: int) -> dict:
    """`draws` flips, kinds in turn: how many were found and named by kind, and those that were not."""
    rng = np.random.default_rng(seed)
    drawn, found, missed = Counter(), Counter(), []
    for draw in range(draws):
        kind = KINDS[draw % len(KINDS)]
        there = [target for target in targets if target.kind == kind]
        target = there[rng.integers(len(there))]
        said = flip(target, rng)
        named = any(str(part) in said for part in (target.path, target.path.parent))
        drawn[kind] += 1
        found[kind] += bool(said and named)
        if not (said and named):
            missed.append(
                f"draw {draw}: {target.kind}, {target.path.name}: {said or 'nothing said'}"
            )
    return {"draws": draws, "seed": seed, "drawn": drawn, "found": found, "missed": missed}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUTCOME)
    given = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as home, contextlib.redirect_stderr(io.StringIO()):
        with contextlib.redirect_stdout(io.StringIO()):
            targets = small_run(Path(home))
        if already := [target.path for target in targets if target.read()]:
            raise SystemExit(f"{already[0]} is refused before anything was flipped")
        outcome = campaign(targets, given.times, given.seed)
    outcome |= {"date": date.today().isoformat(), "commit": commit()}
    record(given.out, "flip", outcome | {"seconds": round(time.monotonic() - began)})
    found = sum(outcome["found"].values())
    print(f"{found} of {outcome['draws']} flipped bytes found and named; see {given.out}")
    return 1 if outcome["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
