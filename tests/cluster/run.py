"""The smoke study in a Slurm of two nodes on this machine, disturbed on the way (`make cluster`).

The study runs once here. Then it runs in Slurm, with the same command again and again: one of its jobs
is killed; a node is drained under a job; the run is interrupted; all jobs are cancelled; at last it is
left alone. After each, nothing of it may run any more, and what failed must have been named; in the end
every `result.json`, times apart, and every other file of a result must be the one of the run here.
What was found: `outcome.json` beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path

from memgen.pipeline.engine import job_name
from memgen.pipeline.keeper import below, told_to_end
from memgen.pipeline.report import FINISHED
from memgen.store.artifacts import MANIFEST, RESULT, result_digest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests")]  # make starts Python without the script's own folder

from cluster.slurm import NODES, Slurm, lacking, slurm  # noqa: E402

OUTCOME = Path(__file__).with_name("outcome.json")
PRESET = "smoke"
STUDY = ("--preset", PRESET, "--tasks", "inference", "--seeds", "0", "--tracks", "scratch")
LABS_OF_THE_RUN = "inference/seed0/0[3-9]_*.log"
#: seconds in which nothing of an interrupted study may be left; seconds that a step may take
PATIENCE, LONGEST = 10.0, 7200.0


class Study:
    """One study in the folder `runs`."""

    def __init__(self, runs: Path, environment: dict[str, str], arguments: tuple[str, ...] = ()):
        self.runs, self.environment = runs, environment
        self.command = [sys.executable, "-m", "memgen.pipeline.cli", "labs", *STUDY, *arguments]
        self.command += ["--runs", str(runs)]

    def start(self) -> subprocess.Popen:
        """`memgen labs`, as a user's shell starts it."""
        return subprocess.Popen(
            self.command,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def results(self) -> dict[str, str]:
        """`{stage: digest of all that it left}`, times apart."""
        found = sorted(self.runs.rglob(MANIFEST))
        return {
            str(path.parent.relative_to(self.runs)): result_digest(path.parent)
            for path in found
            if (path.parent / RESULT).is_file()
        }

    def finished(self) -> int:
        """Labs whose logs say so."""
        logs = self.runs.glob(f"{PRESET}/*/*/*.log")
        return sum(log.read_text().endswith(f"{FINISHED}\n") for log in logs)


class Campaign:
    """The steps, and what was seen in each."""

    def __init__(self, cluster: Slurm, study: Study):
        self.cluster, self.study, self.rows = cluster, study, []
        self.name = job_name(study.runs / PRESET)

    def jobs(self, *states: str) -> dict[str, tuple[str, str, str]]:
        """`{job: (state, node, what it does)}` of the study's."""
        return {k: v for k, v in self.cluster.jobs(*states).items() if v[2].startswith(self.name)}

    def step(self, title: str, disturb: Callable[[subprocess.Popen], dict], holds) -> dict:
        """Start the study, disturb it, wait for its end; `holds(row)`: was that the right end?"""
        print(title, flush=True)
        process, began = self.study.start(), time.monotonic()
        try:
            seen = disturb(process)
            disturbed = time.monotonic()
            said = process.communicate(timeout=LONGEST)[0]
        finally:
            process.kill()
        ended = time.monotonic()
        row = {
            "step": title,
            **seen,
            "status": process.returncode,
            "said": said.strip().rpartition("\n\n")[2],  # what it ends with
            "seconds": round(ended - began),
            "seconds_to_end": round(ended - disturbed, 1),
            "jobs_left": len(self.jobs()),
            "processes_left": len(self.processes()),
        }
        row["holds"] = bool(holds(row)) and not row["jobs_left"] and not row["processes_left"]
        self.rows.append(row)
        print(json.dumps(row, indent=1), said, sep="\n", flush=True)
        return row

    def processes(self) -> list[int]:
        """Processes in whose command the study's folder is: labs and Snakemakes, wherever they hang."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    said = (entry / "cmdline").read_text(errors="replace")
                    found += [int(entry.name)] if str(self.study.runs) in said else []
        return found

    # -- disturbances ------------------------------------------------------------------------------
    def running(self, process: subprocess.Popen, wanted: str, log: str) -> tuple[str, str]:
        """Wait until a job whose comment begins with `wanted` runs, and a lab of such a log has begun."""
        until, began = time.monotonic() + LONGEST, time.time()
        while time.monotonic() < until and process.poll() is None:
            lines = self.cluster.ask("squeue", "-h", "-t", "RUNNING", "-o", "%i %N %k").splitlines()
            for number, node, comment in (line.split(" ", 2) for line in lines):
                logs = (self.study.runs / PRESET).glob(log)
                if comment.startswith(wanted) and any(p.stat().st_mtime > began for p in logs):
                    return number, node
            time.sleep(0.5)
        raise TimeoutError(f"no job {wanted} ran")

    def kill_one(self, process: subprocess.Popen) -> dict:
        """`scancel` of the job that trains."""
        number, node = self.running(process, "rule_training", "inference/seed0/02_training.log")
        self.cluster.tell("scancel", number)
        return {"job": number, "node": node}

    def drain(self, process: subprocess.Popen) -> dict:
        """Drain the node on which the labs run; when one of them has ended there, interrupt the run."""
        number, node = self.running(process, "rule_labs", LABS_OF_THE_RUN)
        self.cluster.tell("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
        before, until = self.study.finished(), time.monotonic() + LONGEST
        while self.study.finished() == before and time.monotonic() < until:
            time.sleep(0.5)
        state = self.cluster.ask("sinfo", "-h", "-N", "-n", node, "-o", "%T")
        still = self.jobs("RUNNING").get(number, ("", "", ""))[0]
        process.send_signal(signal.SIGINT)
        return {"job": number, "node": node, "node_state": state, "job_on_it": still}

    def cancel_all(self, process: subprocess.Popen) -> dict:
        """`scancel` of all jobs of the user, when the labs run on the other node."""
        number, node = self.running(process, "rule_labs", LABS_OF_THE_RUN)
        self.cluster.tell("scancel", "--user", str(os.getuid()))
        return {"job": number, "node": node}

    def nothing(self, process: subprocess.Popen) -> dict:
        """Leave it alone; on which nodes its jobs ran."""
        nodes: set[str] = set()
        while process.poll() is None:
            nodes |= {node for _, node, _ in self.jobs("RUNNING").values()}
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
        return {"nodes": sorted(nodes)}

    def run(self) -> None:
        """All steps, with the same command."""
        named = "ended from outside: Slurm's job {job} is CANCELLED"
        self.step(
            "a job is killed",
            self.kill_one,
            lambda row: row["status"] == 1 and "02_training, inference, seed0: " in row["said"],
        )
        self.rows[-1]["holds"] &= named.format(**self.rows[-1]) in self.rows[-1]["said"]
        drained = self.step(
            "a node is drained under a job, and then the run is interrupted",
            self.drain,
            lambda row: (
                row["status"] == 128 + signal.SIGINT
                and row["node_state"].startswith("drain")
                and row["job_on_it"] == "RUNNING"
                and row["seconds_to_end"] <= PATIENCE
            ),
        )
        cancelled = self.step(
            "all jobs are cancelled", self.cancel_all, lambda row: row["status"] == 1
        )
        cancelled["holds"] &= named.format(**cancelled) in cancelled["said"]
        cancelled["holds"] &= cancelled["node"] != drained["node"]
        (other,) = set(NODES) - {drained["node"]}
        self.step(
            "nothing is disturbed, the node is still drained",
            self.nothing,
            lambda row: row["status"] == 0 and row["nodes"] == [other],
        )


def commit() -> str:
    """The commit that was tried; `+` if the tree had changes."""
    git = ("git", "-C", str(ROOT))
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "src", "profiles"]).returncode
    return head.strip() + ("+" if changed else "")


def campaign(work: Path, here: Path | None) -> dict:
    """Here, then in Slurm; what was seen."""
    tried = commit()  # the tree may change while it runs
    local = Study(here or work / "here", dict(os.environ))
    print("here", flush=True)
    assert here or subprocess.run(local.command).returncode == 0, "the run here failed"
    with slurm() as cluster:
        steps = Campaign(
            cluster, Study(work / "slurm", cluster.environment, ("--profile", "slurm"))
        )
        steps.run()
        said = cluster.ask("sinfo", "--version")  # without a configuration it says nothing
    results, expected = steps.study.results(), local.results()
    different = sorted(
        stage for stage in {*results, *expected} if results.get(stage) != expected.get(stage)
    )
    plugin = "snakemake-executor-plugin-slurm"
    return {
        "date": date.today().isoformat(),
        "commit": tried,
        "slurm": said.split()[-1],
        "versions": {name: version(name) for name in ("snakemake", plugin)},
        "study": " ".join(STUDY),
        "nodes": list(NODES),
        "results": len(expected),
        "different": different,
        "steps": steps.rows,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUTCOME)
    parser.add_argument("--here", type=Path, help="a finished run of the study to compare with")
    arguments = parser.parse_args()
    if missing := lacking():
        print(f"not tried: {', '.join(missing)} not here; install slurm-wlm and munge")
        return 0
    with told_to_end(), tempfile.TemporaryDirectory(prefix="cluster-") as work:
        try:
            outcome = campaign(Path(work), arguments.here)
        finally:
            for pid in below(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    arguments.out.write_text(json.dumps(outcome, indent=1) + "\n")
    good = outcome["results"] and not outcome["different"]
    good = good and all(row["holds"] for row in outcome["steps"])
    print(
        f"{outcome['results']} results, {len(outcome['steps'])} steps: "
        f"{'as they should be' if good else 'see'} {arguments.out}"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
