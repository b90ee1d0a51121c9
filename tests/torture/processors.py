"""The same bits on another processor: a run's labs here, and again under an emulated processor.

    python tests/torture/processors.py [--processors masked Haswell EPYC-Rome] [--tasks ...] [--labs ...]

Every lab of a run of preset smoke computes with numerics=portable, once as it is, once for each named
processor: `masked` is this one without its AVX-512, hidden from the C library and from MKL; the others
run under QEMU's user mode (Debian: qemu-user), which is 10 to 50 times slower. All that a stage
leaves, its timings apart, has to be equal to the last bit. Ends with 1 if a stage differs. An
emulated processor has neither AVX-512 nor this machine's maker, so a kernel that chooses by either
shows; and with --native, which leaves out the pins (and masks torch, oneDNN, OpenBLAS and numpy as
well), it has to show. The last outcome: `outcome.json` beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from memgen.errors import InapplicableError  # noqa: E402
from memgen.stages import LABS, labs_of  # noqa: E402
from memgen.store.artifacts import MANIFEST, result_digest  # noqa: E402
from memgen.store.numerics import environment  # noqa: E402
from memgen.tasks import TASK_NAMES  # noqa: E402
from torture.kill import OUTCOME, commit, record  # noqa: E402

HERE, MASKED = "this one", "masked"
#: what hides AVX-512 from the C library and from MKL, which the pins leave to find it
HIDDEN = {
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,-AVX512CD,-AVX512ER",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}


def run_here(runs: str, tasks: list[str], labs: list[str], numerics: str) -> None:
    """The computing cells of the tasks' labs, in this process; a line each."""
    from computing import run_cell
    from memgen.pipeline.notebook import Lab
    from memgen.presets import stage_parameters

    given = {"preset": "smoke", "seed": 0, "runs": runs, "numerics": numerics}
    for task in tasks:
        for name in labs:
            began = time.monotonic()
            try:
                run_cell(Lab(name, stage_parameters(name, {**given, "task": task})))
            except InapplicableError as error:  # as a study does
                print(f"{task} {name} and later: left out, {error}", flush=True)
                break
            print(f"{task} {name}: {time.monotonic() - began:.0f} s", flush=True)


def run_on(processor: str, runs: Path, options: list[str], numerics: str) -> float:
    """The same in a process on this processor, or an emulated one; seconds."""
    plain = processor in (HERE, MASKED)
    emulated = [] if plain else [shutil.which("qemu-x86_64"), "-cpu", processor]
    own = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR")}
    command = [*emulated, sys.executable, "-W", "ignore", __file__, "--runs", str(runs), *options]
    print(f"on {processor}", flush=True)
    pins, hidden = environment(numerics), {}
    if processor == MASKED:  # without the pins, too, torch and its libraries have to see no AVX-512
        masks = {k: v for k, v in environment("portable").items() if k != "MKL_CBWR"}
        hidden = HIDDEN | masks
    began = time.monotonic()
    subprocess.run(
        command,
        env=own | pins | hidden | {"PYTHONPATH": str(ROOT / "src")},
        check=True,
        stderr=subprocess.DEVNULL if emulated else None,  # it tells of every feature that it lacks
    )
    return time.monotonic() - began


def numbers(runs: Path) -> dict[str, str]:
    """By stage the digest of all that it left."""
    return {
        path.parent.relative_to(runs).as_posix(): result_digest(path.parent)
        for path in sorted(runs.glob(f"**/{MANIFEST}"))
    }


def main() -> int:
    """Compare; prints a line of JSON for each processor."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--processors", nargs="+", default=[MASKED, "Haswell", "EPYC-Rome"])
    parser.add_argument("--tasks", nargs="+", default=["inference"], choices=TASK_NAMES)
    parser.add_argument("--labs", nargs="+", default=list(labs_of("run")), choices=LABS)
    parser.add_argument("--native", action="store_true", help="without the pins: has to differ")
    parser.add_argument("--runs", help=argparse.SUPPRESS)  # a process of this script's
    o = parser.parse_args()
    numerics = "native" if o.native else "portable"
    if o.runs:
        run_here(o.runs, o.tasks, o.labs, numerics)
        return 0
    if {*o.processors} - {MASKED} and not shutil.which("qemu-x86_64"):
        print("QEMU's user mode is missing: on Debian, apt-get install qemu-user", file=sys.stderr)
        return 1
    options = ["--tasks", *o.tasks, "--labs", *o.labs, *(["--native"] if o.native else [])]
    found, seconds = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for place, processor in enumerate((HERE, *o.processors)):
            runs = Path(folder) / str(place)
            seconds[processor] = round(run_on(processor, runs, options, numerics))
            found[processor] = numbers(runs)
    ours = found.pop(HERE)
    differ = {
        name: [stage for stage in ours if ours[stage] != other.get(stage)]
        for name, other in found.items()
    }
    about = {"labs": o.labs, "tasks": o.tasks, "numerics": numerics, "stages": len(ours)}
    for name, stages in differ.items():
        outcome = about | {
            "differ": stages,
            "seconds": seconds[name],
            "seconds_here": seconds[HERE],
        }
        outcome |= {"date": date.today().isoformat(), "commit": commit()}
        print(json.dumps({name: outcome}))
        if not o.native:
            record(OUTCOME, f"processor {name}", outcome)
    return int(any(differ.values()) or not ours)


if __name__ == "__main__":
    sys.exit(main())
