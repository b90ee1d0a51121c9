"""Kill a small study at random moments, and see that nothing is lost and nothing stays (`make torture`).

The study runs once undisturbed. Then it runs again, and as often as asked a process of its tree, a
signal and a moment are drawn, from a seed. After each kill: within ten seconds no process of it is
left, no temporary folder and no lock, and every stage that was finished is there, unchanged. The same
command goes on; each time it gets to the end, every number equals the undisturbed run's to the last
bit, and the next study begins in a folder of its own. What was found: `outcome.json` beside this file;
what the studies said: `_build/torture/kill.log`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import TextIO

from memgen.errors import ArtifactError
from memgen.pipeline.keeper import below, told_to_end
from memgen.store.artifacts import result_digest, verify
from memgen.store.files import lock_file

ROOT = Path(__file__).resolve().parents[2]
OUTCOME = Path(__file__).with_name("outcome.json")
#: a data set, a base, a training and its answers, in seconds: as little as has every kind of process and file
TINY = (
    "--preset smoke --tasks inference --seeds 0 --tracks scratch --labs 03_pairs --set n_embd=32 n_free=400"
    " base_steps=60 base_enough=0 max_steps=40 evaluate_every=10 gate_memory=0 gate_rule=0 enough=2"
)
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL")
#: seconds in which nothing of a killed study may be left
PATIENCE = 10.0
#: in the environment of every process of the study
MARK = "MEMGEN_TORTURE"


#: disturbs a study once, at a moment that is drawn within so many seconds
Disturb = Callable[[random.Random, float], "dict | None"]


class Study:
    """One study in `<home>/runs`, whose temporary files go to `<home>/tmp`; what it says, to `log`."""

    def __init__(self, home: Path, arguments: str, log: TextIO):
        self.runs, self.temporary = home / "runs", home / "tmp"
        self.arguments, self.log = arguments.split(), log
        self.temporary.mkdir(parents=True, exist_ok=True)

    def start(self, errors: TextIO | None = None) -> subprocess.Popen:
        """`memgen labs`, as a user's shell starts it. `errors`: where standard error goes instead."""
        environment = {**os.environ, "TMPDIR": str(self.temporary), MARK: str(self.runs)}
        environment["PYTHONPATH"] = str(ROOT / "src")
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "memgen.pipeline.cli", "labs"),
                *("--runs", str(self.runs), *self.arguments),
            ],
            env=environment,
            stdout=self.log,
            stderr=errors or self.log,
            start_new_session=True,
            # a shell's background job ignores it
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def processes(self) -> list[int]:
        """Every process that was started by one of the study's, wherever it hangs now."""
        return marked(str(self.runs))

    def finished(self) -> dict[str, str]:
        """`{stage: its manifest}` of all stages that are in place."""
        manifests = sorted(self.runs.rglob("manifest.json"))
        return {
            str(path.parent.relative_to(self.runs)): path.read_text()
            for path in manifests
            if not path.parent.name.endswith((".partial", ".old"))
        }

    def numbers(self) -> dict[str, str]:
        """`{stage: digest of all that it left}`, timings apart."""
        return {stage: result_digest(self.runs / stage) for stage in self.finished()}

    def lost(self, before: dict[str, str]) -> list[str]:
        """Stages that were finished `before` and are not, or not the same, now."""
        now, gone = self.finished(), []
        for stage, manifest in before.items():
            try:
                verify(self.runs / stage)
            except ArtifactError:
                gone.append(stage)
            else:
                gone += [stage] if now[stage] != manifest else []
        return gone

    def left(self) -> list[str]:
        """What a run alone needed and is still there: temporary files, locks that are held."""
        found = [str(path) for path in self.temporary.iterdir()]
        found += [str(path) for path in self.runs.glob("*/.snakemake/locks/*")]
        for path in self.runs.rglob("*.lock"):
            if path.is_file() and ".snakemake" not in path.parts:
                lock = lock_file(path)
                found += [] if lock else [str(path)]
                if lock:
                    lock.close()
        return found


def marked(folder: str) -> list[int]:
    """The processes in whose environment, as they were started, `MARK` is this folder or one in it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                environment = dict(
                    line.partition("=")[::2]
                    for line in (entry / "environ").read_text(errors="replace").split("\0")
                )
                mark = Path(environment.get(MARK, "/"))
                found += [int(entry.name)] if mark.is_relative_to(folder) else []
    return found


def end(pids: list[int]) -> None:
    """Kill these processes, those of them that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kinds(top: int) -> dict[str, list[int]]:
    """The processes of a running study by what they are."""
    found: dict[str, list[int]] = {"memgen labs": [top]}
    for pid in below(top):
        try:
            said = (Path("/proc") / str(pid) / "cmdline").read_text().split("\0")
        except OSError:
            continue
        found.setdefault(kind_of(pid, said), []).append(pid)
    found.pop("", None)
    return found


def kind_of(pid: int, said: list[str]) -> str:
    """What a process is, from its command; '' if it is about to become one."""
    command = " ".join(said)
    if "keeper.py" in command:
        return "keeper"
    if "-m snakemake" in command:
        return "snakemake"
    if "warm.py ipykernel" in command:
        return "caller of a kernel"
    if "warm.py memgen" in command:
        return "caller of a lab"
    if "memgen.pipeline.warm serve" not in command:
        return ""
    if os.getsid(pid) != pid:  # the server is of its keeper's session, a fork has one of its own
        return "server"
    return "lab" if below(pid) else "kernel or base"


def gone(study: Study, top: subprocess.Popen) -> tuple[float, list[int]]:
    """Seconds until no process was left, and those that were after ten."""
    began = time.monotonic()
    # who has ended is a process until it is waited for
    while (top.poll() is None or study.processes()) and time.monotonic() - began < PATIENCE:
        time.sleep(0.1)
    left = study.processes()
    return round(time.monotonic() - began, 1), left


def kill(study: Study, draw: random.Random, within: float) -> dict | None:
    """Start the study, kill a process of it at some moment; what was seen. None: it had finished."""
    process, moment = study.start(), draw.uniform(0, within)
    try:
        process.wait(moment)
        return None
    except subprocess.TimeoutExpired:
        pass
    present = kinds(process.pid)
    kind = draw.choice(sorted(present))
    victim, name = draw.choice(sorted(present[kind])), draw.choice(SIGNALS)
    before = study.finished()
    try:
        os.kill(victim, getattr(signal, name))
    except ProcessLookupError:
        name = "none: it had just ended"
    seconds, orphans = gone(study, process)
    row = {
        "after_seconds": round(moment, 2),
        "process": kind,
        "signal": name,
        "status": process.poll(),
        "gone_after_seconds": seconds,
        "orphans": len(orphans),
        "left": study.left() if not orphans else [],
        "finished": len(before),
        "lost": study.lost(before),
    }
    end(orphans)  # so that the next run has the folder
    process.wait()
    return row


def campaign(
    arguments: argparse.Namespace,
    work: Path,
    log: TextIO,
    study_in: Callable[[Path], contextlib.AbstractContextManager[tuple[Study, Disturb]]],
    counted: Callable[[list[dict]], dict],
) -> dict:
    """All that disturbs, and the comparison of every study that got to its end.

    `study_in`: a study in a folder that is still to be made, and what disturbs it once: a row of what
    was seen, None if it had finished before. `counted`: what an outcome says of its rows besides.
    """
    began = time.monotonic()
    calm, expected, within = undisturbed(arguments, work, log)
    draw, rows, compared = random.Random(arguments.seed), [], []
    finished = True
    while finished and (len(rows) < arguments.times or not compared):
        with study_in(work / f"study{len(compared)}") as (study, disturb):
            while len(rows) < arguments.times and (row := disturb(draw, within)):
                rows.append(row)
                print(len(rows), json.dumps(row), flush=True)
            finished = study.start().wait() == 0
            compared.append({"finished": finished, "equal": study.numbers() == expected})
            print(f"study {len(compared)}", compared[-1], flush=True)
    return (
        about(arguments)
        | {
            "stages": len(expected),
            "undisturbed_seconds": calm,
            "seconds": round(time.monotonic() - began),
        }
        | counted(rows)
        | {
            "with_orphans": sum(bool(row["orphans"]) for row in rows),
            "with_something_left": sum(bool(row["left"]) for row in rows),
            "with_something_lost": sum(bool(row["lost"]) for row in rows),
            "studies": compared,
            "rows": rows,
        }
    )


def holds(outcome: dict) -> bool:
    """Was nothing lost, nothing left, and did every study end with the undisturbed one's numbers?"""
    bad = [outcome[f"with_{what}"] for what in ("orphans", "something_left", "something_lost")]
    return not any(bad) and all(one["finished"] and one["equal"] for one in outcome["studies"])


def undisturbed(
    arguments: argparse.Namespace, work: Path, log: TextIO
) -> tuple[float, dict[str, str], float]:
    """Seconds of an undisturbed run, its numbers, and the seconds within which another is disturbed."""
    calm, began = Study(work / "calm", arguments.study, log), time.monotonic()
    print("undisturbed run", flush=True)
    if calm.start().wait():
        raise SystemExit(f"the undisturbed run failed; see {log.name}")
    seconds = round(time.monotonic() - began, 1)
    print(f"took {seconds} s", flush=True)
    return seconds, calm.numbers(), arguments.within or seconds


def commit() -> str:
    """The commit that was tried; `+` if the tree had changes."""
    git = ("git", "-C", str(ROOT))
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "src"]).returncode
    return head.strip() + ("+" if changed else "")


def about(arguments: argparse.Namespace) -> dict:
    """When a campaign was made, of which code, from which seed, on which study."""
    today = date.today().isoformat()
    return {
        "date": today,
        "commit": commit(),
        "seed": arguments.seed,
        "study": arguments.study,
    }


def record(out: Path, campaign: str, outcome: dict) -> None:
    """Put the outcome of a campaign beside those of the others in a file."""
    found = json.loads(out.read_text()) if out.is_file() else {}
    out.write_text(json.dumps({**found, campaign: outcome}, indent=1) + "\n")


def given(what: str, times: int) -> argparse.Namespace:
    """The options of a campaign that disturbs a study `times` times if nothing else is said."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--times", type=int, default=times, help="how often it is disturbed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--within", type=float, help="seconds in which it is (default: those of an undisturbed run)"
    )
    parser.add_argument("--out", type=Path, default=OUTCOME)
    parser.add_argument("--study", default=TINY, help="arguments of `memgen labs`")
    return parser.parse_args()


@contextlib.contextmanager
def workplace(campaign: str) -> Iterator[tuple[Path, TextIO]]:
    """A folder for the studies, and the log; in the end no process of theirs is left."""
    logs = ROOT / "_build" / "torture"
    logs.mkdir(parents=True, exist_ok=True)
    with (
        told_to_end(),
        tempfile.TemporaryDirectory(prefix="torture-") as work,
        open(logs / f"{campaign}.log", "w") as log,
    ):
        try:
            yield Path(work), log
        finally:
            end(marked(work))


def counted(rows: list[dict]) -> dict:
    """What the outcome of the kills says of them besides."""
    return {
        "kills": len(rows),
        "by_process": Counter(row["process"] for row in rows),
        "by_signal": Counter(row["signal"] for row in rows),
        "slowest_end_seconds": max((row["gone_after_seconds"] for row in rows), default=None),
    }


def main() -> int:
    arguments = given(__doc__.splitlines()[0], 50)

    @contextlib.contextmanager
    def study_in(folder: Path) -> Iterator[tuple[Study, Disturb]]:
        study = Study(folder, arguments.study, log)
        yield study, lambda draw, within: kill(study, draw, within)

    with workplace("kill") as (work, log):
        outcome = campaign(arguments, work, log, study_in, counted)
    record(arguments.out, "kill", outcome)
    good = holds(outcome)
    print(
        f"{outcome['kills']} kills: {'nothing lost, nothing left' if good else 'see'} {arguments.out}"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
