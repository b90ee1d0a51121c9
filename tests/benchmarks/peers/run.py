"""Capture and steering sweep, this study's own and its peers': `make bench-peers`.

    python -m benchmarks.peers.run                     all sizes, all engines, seven rounds
    python -m benchmarks.peers.run --sizes study --rounds 5 --out /tmp/outcome

Every engine is a process in the environment of its library (`roster.py`), with one thread, and keeps
its model. All get the same folder: model, prompts, shifts (`scenario.py`). A first round warms up, and
its results are compared: hidden states with those of plain hooks, codes of answers likewise. Then
come the rounds: in each, every engine does every work once, in an order that moves on by one from
round to round. Ours runs twice; how far the second is from the first is the noise. Bare forward passes
of the same rows run along: they find nothing, and say what the rows cost at least.

Written to data/reference/performance/: `results.csv`, a row a round, and `about.json`: where, when, of
which commit and versions, and what was compared. Then `growth.py` measures how cost grows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file

from benchmarks.peers.growth import Growth, measure
from benchmarks.peers.roster import BARE, CONTENDERS, HOOKS, OURS, WORKS, Contender
from benchmarks.peers.scenario import SIZES, make
from memgen.store.files import write_json
from memgen.store.fingerprint import processor, versions

ROOT = Path(__file__).resolve().parents[3]
TARGET = ROOT / "data" / "reference" / "performance"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
QUIET = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", "TQDM_DISABLE": "1", "MPLBACKEND": "Agg"}


class Process:
    """A contender at work. `lacks`: why it is not, '' if it is."""

    def __init__(self, contender: Contender, python: Path, folder: Path):
        self.name, self.ready, self.lacks = contender.name, {}, ""
        self.works = contender.works
        self.cannot: dict[str, str] = {}
        if not python.is_file():
            self.lacks = f"not installed: there is no {python}"
            return
        paths = [ROOT / "tests"] + ([] if contender.environment else [ROOT / "src"])
        kept = {k: os.environ[k] for k in ("PATH", "HOME", "LANG", "TMPDIR") if k in os.environ}
        environment = kept | QUIET | dict.fromkeys(THREADS, "1")
        environment["PYTHONPATH"] = os.pathsep.join(map(str, paths))
        self.log = open(folder / f"{contender.name}.log", "w+")  # noqa: SIM115 (closed in `close`)
        self.process = subprocess.Popen(
            [python, "-m", "benchmarks.peers.worker", contender.module, str(folder)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self.ready = self._read()
        self.lacks = self.ready.get("error", "")

    def _read(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.log.seek(0)
        said = self.log.read().strip().splitlines() or ["it said nothing"]
        return {"error": f"the process ended: {said[-1]}"}

    def does(self, work: str, keep: Path | None = None) -> dict[str, Any]:
        """Let it do a work once; what that took, or `error`."""
        line = json.dumps({"work": work, "keep": str(keep) if keep else None})
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except OSError:
            pass  # it has ended: reading says why
        return self._read()

    def close(self) -> None:
        if self.ready:
            self.process.stdin.close()
            self.process.wait()
            self.log.close()


def compared(kept: dict[str, Path], works: Iterable[str], layers: dict[str, int | None]) -> dict:
    """By engine and work, how what it found differs from plain hooks: `{name: {work: {...}}}`.

    `kept`: folders with a file a work. States: the largest difference, in units of the reference's
    standard deviation; sweeps: how many codes differ, and how many there are.
    """
    if HOOKS not in kept:
        return {}
    found: dict[str, dict] = {name: {} for name in kept}
    for name, folder in kept.items():
        for work in works:
            path, other = folder / f"{work}.safetensors", kept[HOOKS] / f"{work}.safetensors"
            if not path.is_file():
                continue
            one, reference = load_file(path)["found"], load_file(other)["found"]
            if work == "capture":
                one, reference = (states[:, : layers[name]] for states in (one, reference))
                gap = ((one - reference).abs().max() / reference.std()).item()
                found[name][work] = {"largest_difference": gap, "layers": one.shape[1]}
            else:
                counts = torch.bincount(reference.flatten().long(), minlength=3).tolist()
                differ = int((one != reference).sum())
                found[name][work] = {"differ": differ, "n": one.numel(), "codes": counts}
    return found


def raced(size: str, folder: Path, pythons: dict[str, Path], contenders, rounds: int):
    """`(rows, said)`: a row per round, engine and work; what was compared, said and lacking."""
    make(SIZES[size], folder)
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        processes = []
        for contender in contenders:
            process = Process(contender, pythons[contender.environment], folder)
            stack.callback(process.close)
            processes.append(process)
            print(f"{size}: {contender.name}: {process.lacks or 'ready'}", flush=True)
        able = [one for one in processes if not one.lacks]
        kept = {}
        for one in able:  # warms up
            kept[one.name] = folder / one.name
            kept[one.name].mkdir()
            for work in one.works:
                took = one.does(work, kept[one.name] / f"{work}.safetensors")
                if "error" in took:
                    one.cannot[work] = took["error"]
        for number in range(rounds):
            print(f"{size}: round {number + 1} of {rounds}", flush=True)
            turned = able[number % len(able) :] + able[: number % len(able)]
            for work in WORKS:
                for one in turned:
                    if work in one.works and work not in one.cannot:
                        about = {"size": size, "work": work, "engine": one.name, "round": number}
                        rows.append(about | one.does(work))
        layers = {one.name: one.ready["compared"] for one in able}
        agreement = compared(kept, WORKS, layers)
    return rows, {
        "engines": {
            one.name: {
                "lacks": one.lacks,
                "cannot": one.cannot,
                "versions": one.ready.get("versions", {}),
                "notes": one.ready.get("notes", {}),
                "agreement": agreement.get(one.name, {}),
            }
            for one in processes
        },
        "shape": asdict(SIZES[size]),
    }


def commit() -> str:
    """The commit that is measured; `+` if the tree had changes."""
    git = ("git", "-C", str(ROOT))
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    paths = ("src", "tests/benchmarks")
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *paths]).returncode
    return head.strip() + ("+" if changed else "")


def command(arguments: list[str]) -> str:
    """What to type for the same: make's target unless something was changed."""
    changed = [one for one in arguments if not one.startswith("--environments")]
    if not changed:
        return "make bench-peers"
    return " ".join(["python -m benchmarks.peers.run", *arguments])


def table(rows: list[dict[str, Any]]) -> str:
    """Medians, and ratios to ours within rounds, as text."""
    frame, lines = pd.DataFrame(rows), []
    for (size, work), part in frame.groupby(["size", "work"], sort=False):
        seconds = part.pivot(index="round", columns="engine", values="cpu_seconds")
        for name in part.engine.unique():
            of = part[part.engine == name]
            ratios = seconds[name] / seconds[OURS]
            lines.append(
                f"{size:6s} {work:15s} {name:17s} {of.cpu_seconds.median():8.3f} s CPU"
                f" {of.wall_seconds.median():8.3f} s {of.peak_bytes.max() / 2**20:7.0f} MiB"
                f"  {statistics.median(ratios):5.2f} x ours"
                f" ({ratios.min():.2f} to {ratios.max():.2f})"
            )
        if {BARE, HOOKS} <= set(seconds):
            share = statistics.median(seconds[OURS] / seconds[BARE])
            times = statistics.median(seconds[HOOKS] / seconds[OURS])
            lines.append(
                f"{size:6s} {work:15s} ours takes {share:.2f} of the bare passes of its rows, and is"
                f" {times:.2f} times as fast as {HOOKS}"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["study", "gpt2"], choices=SIZES)
    parser.add_argument("--engines", nargs="+", default=[one.name for one in CONTENDERS])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--environments", default=".venv-peers-", help="their folders begin so")
    parser.add_argument("--growth", default="full", choices=Growth.NAMES)
    parser.add_argument("--out", type=Path, default=TARGET)
    options = parser.parse_args()
    contenders = [one for one in CONTENDERS if one.name in options.engines]
    pythons = {
        one.environment: Path(f"{options.environments}{one.environment}") / "bin" / "python"
        for one in contenders
    } | {"": Path(sys.executable)}
    about: dict[str, Any] = {
        "date": date.today().isoformat(),
        "commit": commit(),  # before it runs: the tree may change meanwhile
        "command": command(sys.argv[1:]),
        "machine": {"cores": os.cpu_count(), "processor": processor()},
        "versions": versions(),
        "rounds": options.rounds,
        "load": os.getloadavg()[0],
        "sizes": {},
    }
    rows = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory(prefix="peers-") as folder:
            more, about["sizes"][size] = raced(
                size, Path(folder), pythons, contenders, options.rounds
            )
            rows += more
    print(table(rows), flush=True)
    growth, about["limit"] = measure(Growth.named(options.growth))
    options.out.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(options.out / "results.csv", index=False, float_format="%.6g")
    growth.to_csv(options.out / "growth.csv", index=False, float_format="%.6g")
    write_json(options.out / "about.json", about)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
