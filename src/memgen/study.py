"""The whole study as one command: check the parameters, run the labs that need it, build the book.

    python -m memgen.study book --preset laptop --tasks inference --seeds 0 1 --set n_embd=64
    python -m memgen.study labs ...    the labs without the book

Snakemake decides what has to run; this module tells it what there is, shows how far it is, and
repeats a failing lab's own message instead of a traceback. `lab` and `base` run one job of the plan
in the environment variable MEMGEN_PLAN; Snakemake calls them.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args, get_origin

import yaml

from . import warm
from .artifacts import _result_digest, guard_disk, source_files
from .config import (
    ROOT,
    SEEDS,
    STAGES,
    TASK_NAMES,
    TRACKS,
    preset_path,
    split_overrides,
    stage_parameters,
)
from .errors import ArtifactError, ParameterError, StudyError
from .paths import base_folder, base_name, run_folder, study_folder
from .progress import duration

PER_RUN = (
    "01_dataset_design",
    "02_training",
    "03_pairs",
    "04_differentiation",
    "05_prediction",
    "06_intervention",
)
#: a lab's own figures, beside those that all labs share
OWN_FIGURES = {
    "08_synthesis": "figures_ledger",
    "09_confounds": "figures_confounds",
    "10_ablations": "figures_ablations",
    "11_open_points": "figures_open_points",
}
#: parameters that say which run a lab belongs to: the plan gives them
RESERVED = {"preset", "runs", "task", "tasks", "seed", "seeds", "retrain", "track"}
#: rough seconds a lab takes, used for the time left until labs of that kind have been timed in this
#: very run
EXPECTED_SECONDS = {
    "00_base": 60,
    "01_dataset_design": 10,
    "02_training": 60,
    "03_pairs": 10,
    "04_differentiation": 12,
    "05_prediction": 20,
    "06_intervention": 30,
    "07_transfer": 25,
    "08_synthesis": 10,
    "09_confounds": 20,
    "10_ablations": 20,
    "11_open_points": 30,
}


#: `python -m`, as a fork of the server that `warm_server` starts, where there is one
FORK = (sys.executable, "-I", "-S", str(Path(warm.__file__)))


def per_run(track: str) -> tuple[str, ...]:
    """The labs that run for every task and seed of a track; the evidence labs question the models
    from scratch.
    """
    from .claims import EVIDENCE

    return PER_RUN + (EVIDENCE if track == "scratch" else ())


def _fixed(stage: str, name: str) -> bool:
    """Does this stage know only one value of the parameter (the confounds read the residual stream,
    whatever `site` the others use)?
    """
    annotation = STAGES[stage].model_fields[name].annotation
    return get_origin(annotation) is Literal and len(get_args(annotation)) == 1


@dataclass(frozen=True)
class Job:
    """One lab of one run: `run` is 'seed0', 'seed0-retrain1' or 'all'. A base that several tracks
    share counts as the first's.
    """

    stage: str
    task: str
    run: str
    track: str = "scratch"

    @property
    def seed(self) -> int | None:
        return None if self.run == "all" else int(self.run.removeprefix("seed").split("-")[0])

    @property
    def retrain(self) -> int:
        return int(self.run.split("-retrain")[1]) if "-retrain" in self.run else 0


@dataclass
class Plan:
    """Which labs the study consists of, and what each needs. Built from the command line; handed to
    Snakemake as JSON.
    """

    preset: str = "laptop"
    tasks: list[str] = field(default_factory=lambda: list(TASK_NAMES))
    seeds: list[int] = field(default_factory=lambda: list(SEEDS))
    runs: str = "data/runs"
    settings: dict = field(default_factory=dict)
    tracks: list[str] = field(default_factory=lambda: ["scratch"])
    stages: list[str] = field(default_factory=lambda: ["00_base", *STAGES])  # those that are run

    def __post_init__(self):
        """Validate everything that any lab will be given, before anything runs."""
        from .tasks import TASKS

        for task in self.tasks:
            if task not in TASKS:
                raise ParameterError(f"task={task!r} is unknown; choose one of {', '.join(TASKS)}")
        for track in self.tracks:
            if track not in TRACKS:
                raise ParameterError(
                    f"track={track!r} is unknown; choose one of {', '.join(TRACKS)}"
                )
        for name in ("tasks", "seeds", "tracks"):
            named = getattr(self, name)
            if not named:
                raise ParameterError(f"{name} must name at least one")
            if len(set(named)) < len(named):
                raise ParameterError(f"{name} must not repeat")
        if min(self.seeds) < 0:
            raise ParameterError(f"seeds={self.seeds}: a seed is 0 or larger")
        for name in RESERVED & set(self.settings):
            raise ParameterError(
                f"{name!r} cannot be a setting of the whole study; use the options --preset,"
                " --tracks, --tasks, --seeds, --runs"
            )
        preset_path(self.preset)
        split_overrides(self.settings)
        for job in self.jobs():
            if job.stage != "00_base":
                parameters = stage_parameters(job.stage, self.parameters(job))
                if getattr(parameters, "base_model", ""):
                    from .models import find_base

                    find_base(parameters.base_model)

    # -- what there is ----------------------------------------------------------------------------
    def jobs(self) -> list[Job]:
        jobs, bases = [], {}
        for track in self.tracks:
            for task in self.tasks:
                for seed in self.seeds:
                    jobs += [Job(stage, task, f"seed{seed}", track) for stage in per_run(track)]
                    base = self.base(task, seed, track)
                    bases |= {base: None} if base else {}
                jobs += [
                    Job("02_training", task, f"seed{self.seeds[0]}-retrain{r}", track)
                    for r in range(1, self.n_retrains(task, track) + 1)
                ]
                jobs.append(Job("07_transfer", task, "all", track))
            jobs.append(Job("08_synthesis", "study", "all", track))
        return [
            job
            for job in [*sorted(bases, key=lambda j: (j.task, j.run)), *jobs]
            if job.stage in self.stages
        ]

    def base(self, task: str, seed: int, track: str) -> Job | None:
        """The job that trains what this run starts from, if the study trains it."""
        p = self._training(task, track)
        if p.base_model or not p.base_steps:
            return None
        return Job(
            "00_base",
            base_name(task, track, p.architecture),
            f"seed{seed if track == 'scratch' else p.base_seed}",
        )

    def _variant(self, base: Job) -> tuple[str, str]:
        """The first task, and the track, of the study that start from this base; all give the same
        one.
        """
        return next(
            (task, track)
            for track in self.tracks
            for task in self.tasks
            for seed in self.seeds
            if self.base(task, seed, track) == base
        )

    def _settings(self, stage: str) -> dict:
        """The settings that this stage takes and lets vary."""
        return {
            k: v for k, v in split_overrides(self.settings)[stage].items() if not _fixed(stage, k)
        }

    def _of(self, stage: str, task: str, track: str):
        """The stage's parameters that do not depend on the seed."""
        key = (stage, task, track)
        if key not in self._known:
            self._known[key] = stage_parameters(
                stage,
                {"preset": self.preset, "task": task, "track": track, **self._settings(stage)},
            )
        return self._known[key]

    @cached_property
    def _known(self) -> dict:
        return {}

    def _training(self, task: str, track: str):
        return self._of("02_training", task, track)

    def n_retrains(self, task: str, track: str = "scratch") -> int:
        """Retrains of the first seed; on a shared base the other seeds are that."""
        return self._of("07_transfer", task, track).n_retrains if track == "scratch" else 0

    def parameters(self, job: Job) -> dict:
        """What is passed to a lab: who it is, and the settings that this stage takes."""
        if job.stage == "00_base":  # the settings of training, without a name of its own
            task, track = self._variant(job)
            return self.parameters(Job("02_training", task, job.run, track))
        given: dict = {"task": job.task, "preset": self.preset, "runs": self.runs}
        given |= {"track": job.track} if job.track != "scratch" else {}
        given |= {"seeds": self.seeds} if job.run == "all" else {"seed": job.seed}
        if job.run == "all":
            given["tasks"] = self.tasks
        if job.retrain:
            given["retrain"] = job.retrain
        return given | self._settings(job.stage)

    def stamp(self, job: Job) -> Path:
        """The small file that says a lab is done: the digest of its outputs. What Snakemake
        compares.
        """
        return (
            run_folder(self.runs, self.preset, job.task, job.run, track=job.track)
            / f"{job.stage}.stamp"
        )

    def notebook(self, job: Job) -> Path:
        return self.stamp(job).with_suffix(".ipynb")

    def needs(self, job: Job) -> list[Path]:
        """Stamps of the labs that must be done before this one."""
        from .lab import STAGE_INPUTS

        def of(task, run, *stages):
            return [self.stamp(Job(stage, task, run, job.track)) for stage in stages]

        if job.stage == "00_base":
            task, track = self._variant(job)
            return of(task, job.run, "01_dataset_design") if track == "scratch" else []
        if job.stage == "08_synthesis":
            bases = {
                self.base(task, seed, job.track) for task in self.tasks for seed in self.seeds
            } - {None}
            others = [
                other
                for other in self.jobs()
                if other.track == job.track and other.stage not in ("00_base", "08_synthesis")
            ]
            return [self.stamp(other) for other in [*sorted(bases, key=str), *others]]
        if job.stage == "07_transfer":
            found = [
                p
                for task in self.tasks
                for seed in self.seeds
                for p in of(task, f"seed{seed}", "04_differentiation", "06_intervention")
            ]
            return found + [
                p
                for r in range(1, self.n_retrains(job.task, job.track) + 1)
                for p in of(job.task, f"seed{self.seeds[0]}-retrain{r}", "02_training")
            ]
        found = of(
            job.task, f"seed{job.seed}" if job.retrain else job.run, *STAGE_INPUTS[job.stage]
        )
        base = self.base(job.task, job.seed, job.track) if job.stage == "02_training" else None
        return found + ([self.stamp(base)] if base else [])

    def sources(self, job: Job) -> list[Path]:
        """Files whose change makes a lab stale: its notebook, its preset, and the modules behind
        it.
        """
        from . import lab

        # lab.py itself, but not what it imports for two stages only, or a change to the ledger
        # would wake every lab
        files = [
            preset_path(self.preset),
            Path(lab.__file__),
            *source_files(*lab.STAGE_MODULES[job.stage], "artifacts", "config", "paths"),
        ]
        if job.stage != "00_base":
            files += [
                ROOT / "notebooks" / f"{job.stage}.ipynb",
                *source_files("figures", *filter(None, [OWN_FIGURES.get(job.stage)])),
            ]
        return files

    def command(self, job: Job) -> list[str]:
        """The command line that runs this job alone."""
        if job.stage == "00_base":
            task, track = self._variant(job)
            head = ["base", "--task", task, "--run", job.run, "--track", track]
        else:
            head = ["lab", job.stage, "--task", job.task, "--run", job.run, "--track", job.track]
        return [*FORK, "memgen.study", *head]

    def to_json(self) -> str:
        return json.dumps({name: getattr(self, name) for name in self.__dataclass_fields__})

    @classmethod
    def from_json(cls, text: str) -> Plan:
        return cls(**json.loads(text))


# -- one job ---------------------------------------------------------------------------------------
def run_lab(plan: Plan, job: Job) -> None:
    """Execute one lab with papermill: the notebook and its stamp appear only if it succeeded; its
    text goes to a log.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    target, log = plan.notebook(job), plan.stamp(job).with_suffix(".log")
    target.parent.mkdir(parents=True, exist_ok=True)
    running = target.with_name(f".{job.stage}.running.ipynb")
    with guard_disk(target), open(log, "w") as text:
        try:
            papermill.execute_notebook(
                str(ROOT / "notebooks" / f"{job.stage}.ipynb"),
                str(running),
                parameters=plan.parameters(job),
                cwd=str(ROOT),
                kernel_name="python3",
                progress_bar=False,
                log_output=False,
                stdout_file=text,
                stderr_file=text,
                autosave_cell_every=0,
            )
        except PapermillExecutionError as error:
            text.write(f"\n{error.ename}: {error.evalue}\n")
            running.replace(log.with_suffix(".failed.ipynb"))
            raise StudyError(
                f"{job.stage}, {job.task},"
                f" {job.run}{', ' + job.track if job.track != 'scratch' else ''}: {_message(error)}"
                f" (log: {_relative(log)})"
            ) from None
    running.replace(target)
    write_stamp(plan, job)


def _message(error) -> str:
    """The user's message where there is one, else the exception."""
    if error.ename in {cls.__name__ for cls in (StudyError, *StudyError.__subclasses__())}:
        return error.evalue
    return f"{error.ename}: {error.evalue}"


def write_stamp(plan: Plan, job: Job) -> None:
    folder = plan.stamp(job).with_suffix("")
    plan.stamp(job).write_text(_result_digest(folder) + "\n")


def run_base(plan: Plan, task: str, seed: int, track: str) -> None:
    """Train the base that runs of this task start from."""
    from .bases import ensure_base, ensure_shared_base
    from .lab import Lab
    from .tokenizers import build_tokenizer

    base = plan.base(task, seed, track)
    p = stage_parameters(
        "02_training", plan.parameters(Job("02_training", task, f"seed{seed}", track))
    )
    if track == "scratch":
        lab = Lab("02_training", p)
        ensure_base(
            build_tokenizer(lab.task().vocabulary()),
            lab.dataset(),
            p,
            base_folder(plan.runs, plan.preset, task, seed),
        )
    else:
        ensure_shared_base(p)
    write_stamp(plan, base)


# -- all of them -----------------------------------------------------------------------------------
def run_labs(plan: Plan, jobs: int) -> None:
    """Run what has to run, `jobs` labs side by side. Raises `StudyError` with the failing lab's
    message.
    """
    home = study_folder(plan.runs, plan.preset)
    with guard_disk(home):
        home.mkdir(parents=True, exist_ok=True)
    lock = open(home / ".study.lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ArtifactError(
            f"another run is working in {home}; wait for it, stop it, or choose another folder with"
            " RUNS=..."
        ) from None
    base = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--directory",
        str(ROOT),
        "--cores",
        str(jobs),
        "--rerun-incomplete",
        "--keep-going",
        "--nocolor",
        # every finished job leaves a timer that asks again what can run, once in this time span
        # (default 1 s): 200 jobs would keep a sixth of a core busy
        "--max-jobs-per-timespan",
        "1000/3s",
    ]
    # the plan travels in the environment, not in the commands: a lab's command must not change with
    # what else is planned
    os.environ["MEMGEN_PLAN"] = plan.to_json()
    if any((ROOT / ".snakemake" / "locks").glob("*")):
        subprocess.run(
            [*base, "--unlock"], capture_output=True
        )  # ours is the only run (see the lock above), so a lock left behind is stale
    total = _pending(base)
    if not total:
        print("labs: nothing to run, all are up to date", flush=True)
        return
    print(
        f"labs: {total} to run, {jobs} side by side; text of each in"
        f" {_relative(home)}/<task>/<run>/<lab>.log",
        flush=True,
    )
    events = home / "events.jsonl"
    events.unlink(missing_ok=True)
    with open(home / "snakemake.log", "w") as log, warm_server(home / "warm.log") as server:
        process = subprocess.Popen(
            base,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **server, "MEMGEN_EVENTS": str(events)},
            pass_fds=(lock.fileno(),),
        )  # if this process is killed, the lock lives on with Snakemake
        watcher = threading.Thread(target=_report, args=(process, events, total, jobs), daemon=True)
        watcher.start()
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.send_signal(
                signal.SIGINT
            )  # a terminal has told it already; another sender has not
            try:
                process.wait(timeout=30)
            except (KeyboardInterrupt, subprocess.TimeoutExpired):
                process.kill()
            raise ArtifactError(
                "interrupted; finished labs are kept, and the same command goes on"
            ) from None
        watcher.join(timeout=5)
    if code:
        raise StudyError(
            _failures(events) or f"Snakemake failed; see {_relative(home / 'snakemake.log')}"
        )


@contextlib.contextmanager
def warm_server(log: Path):
    """Start the server that labs and their kernels are forked from; yields the environment that
    leads them to it.

    Only on Linux, where forking a process that has loaded numerical libraries is safe; elsewhere,
    and if it does not start, every process imports for itself.
    """
    if sys.platform != "linux":
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="memgen-") as folder, open(log, "w") as text:
        path = Path(folder) / "socket"
        kernel = Path(folder) / "kernels" / "python3" / "kernel.json"
        kernel.parent.mkdir(parents=True)
        kernel.write_text(
            json.dumps(
                {
                    "argv": [*FORK, "ipykernel_launcher", "-f", "{connection_file}"],
                    "display_name": "Python 3",
                    "language": "python",
                }
            )
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "memgen.warm", "serve", str(path)],
            stdin=subprocess.PIPE,
            stdout=text,
            stderr=text,
        )
        try:
            found = [folder, os.environ.get("JUPYTER_PATH", "")]
            yield {warm.SOCKET: str(path), "JUPYTER_PATH": os.pathsep.join(filter(None, found))}
        finally:
            process.stdin.close()
            process.wait()


def _pending(base: list[str]) -> int:
    """How many jobs Snakemake would run."""
    dry = subprocess.run([*base, "--dry-run", "--quiet", "rules"], capture_output=True, text=True)
    if dry.returncode:
        raise StudyError(
            f"Snakemake could not plan the labs:\n{dry.stdout[-2000:]}{dry.stderr[-2000:]}"
        )
    for line in (dry.stdout + dry.stderr).splitlines():
        if line.split()[:1] == ["total"]:
            return int(line.split()[1]) - 1  # without the rule that only gathers them
    return 0


def _report(process, events: Path, total: int, jobs: int) -> None:
    """One line a finished lab: how far, and how long is left by the labs timed so far."""
    seen, began, done, seconds = 0, time.monotonic(), 0, {}
    while True:
        alive = process.poll() is None
        lines = events.read_text().splitlines() if events.exists() else []
        for line in lines[seen:]:
            event = json.loads(line)
            done += 1
            seconds.setdefault(event["stage"], []).append(event["seconds"])
            left = _time_left(event["pending"], seconds, jobs) if event.get("pending") else None
            state = f"done in {duration(event['seconds'])}" if event["ok"] else "FAILED"
            tail = f", about {duration(left)} left" if left and done < total else ""
            print(
                f"[{done}/{total}] {event['stage']}  {event['task']} "
                f" {event['run']}{' ' + event['track'] if event['track'] != 'scratch' else ''} "
                f" {state}  ({duration(time.monotonic() - began)} so far{tail})",
                flush=True,
            )
        seen = len(lines)
        if not alive:
            return
        time.sleep(0.5)


def _time_left(pending: dict[str, int], seconds: dict[str, list[float]], jobs: int) -> float:
    mean = {stage: sum(s) / len(s) for stage, s in seconds.items()}
    scale = sum(mean.values()) / sum(EXPECTED_SECONDS[s] for s in mean)
    return (
        sum(n * mean.get(stage, EXPECTED_SECONDS[stage] * scale) for stage, n in pending.items())
        / jobs
    )


def _failures(events: Path) -> str:
    lines = (
        [json.loads(line) for line in events.read_text().splitlines()] if events.exists() else []
    )
    return "\n".join(event["message"] for event in lines if not event["ok"])


def _tell(plan: Plan, job: Job, began: float, message: str | None) -> None:
    """Append what happened to the file that the parent process reads, if there is one."""
    path = os.environ.get("MEMGEN_EVENTS")
    if not path:
        return
    pending: dict[str, int] = {}
    for other in plan.jobs():
        if not plan.stamp(other).exists():
            pending[other.stage] = pending.get(other.stage, 0) + 1
    line = {
        "stage": job.stage,
        "task": job.task,
        "track": job.track,
        "run": job.run,
        "seconds": round(time.monotonic() - began, 1),
        "ok": message is None,
        "message": message,
        "pending": pending,
    }
    with open(path, "a") as file:
        file.write(json.dumps(line) + "\n")


def _relative(path: Path) -> str:
    try:
        return str(path.relative_to(ROOT))
    except ValueError:
        return str(path)


# -- command line ----------------------------------------------------------------------------------
def _setting(text: str) -> tuple[str, object]:
    name, _, value = text.partition("=")
    if not name or not value:
        raise ParameterError(f"{text!r} is not a setting; write name=value, such as n_embd=64")
    try:
        value = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ParameterError(
            f"{text!r} is not a setting: the value is not readable; write a number, a word or a"
            " list such as [0.1, 0.3]"
        ) from None
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)  # YAML reads 1e-3 as text
    return name, value


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return int(text)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):  # one sentence, as for every other bad input
        raise ParameterError(f"{message} (see `{self.prog} --help`)")


def _arguments(argv: list[str] | None):
    parser = _Parser(prog="memgen", description="Run the study of memorization and generalization.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("book", "run the labs and build the book"),
        ("labs", "run the labs"),
        ("check", "check the parameters only"),
    ):
        sub = commands.add_parser(name, help=text)
        sub.add_argument("--preset", default="laptop")
        sub.add_argument("--tasks", nargs="+", default=list(TASK_NAMES))
        sub.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
        sub.add_argument("--tracks", nargs="+", default=["scratch"])
        sub.add_argument("--runs", default="data/runs")
        sub.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", dest="settings")
        sub.add_argument(
            "--jobs", type=_count, default=2, help="labs side by side; each uses one thread"
        )
        sub.add_argument("--out", default="_build", help="where the book is built")
    lab = commands.add_parser("lab", help="run one lab")
    lab.add_argument("stage")
    base = commands.add_parser("base", help="train one base")
    for sub in (lab, base):
        sub.add_argument("--task", required=True)
        sub.add_argument("--run", required=True)
        sub.add_argument("--track", default="scratch")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    began = time.monotonic()
    try:
        arguments = _arguments(argv)
        if arguments.command in ("lab", "base"):
            return _one(arguments)
        plan = Plan(
            arguments.preset,
            arguments.tasks,
            arguments.seeds,
            arguments.runs,
            dict(map(_setting, arguments.settings)),
            arguments.tracks,
        )
        if arguments.command == "check":
            return 0
        run_labs(plan, arguments.jobs)
        if arguments.command == "book":
            from .book import build_book

            build_book(
                study_folder(plan.runs, plan.preset),
                ROOT / arguments.out,
                tasks=plan.tasks,
                seeds=plan.seeds,
                tracks=plan.tracks,
            )
        print(f"finished in {duration(time.monotonic() - began)}", flush=True)
        return 0
    except StudyError as error:
        print(f"\n{error}", file=sys.stderr, flush=True)
        return 1
    except OSError as error:
        print(
            f"\n{error.filename or 'a file'}: {error.strerror}; choose another folder with RUNS=..."
            " or mend its permissions",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(
            "\ninterrupted; finished labs are kept, and the same command goes on", file=sys.stderr
        )
        return 130


def _one(arguments) -> int:
    if not os.environ.get("MEMGEN_PLAN"):
        raise ParameterError(
            f"`{arguments.command}` is what Snakemake calls, with its plan in MEMGEN_PLAN; run one"
            " lab alone with `make lab`"
        )
    plan, began = Plan.from_json(os.environ["MEMGEN_PLAN"]), time.monotonic()
    if arguments.command == "lab":
        job = Job(arguments.stage, arguments.task, arguments.run, arguments.track)
    else:
        job = plan.base(arguments.task, int(arguments.run.removeprefix("seed")), arguments.track)
    message = None
    try:
        if arguments.command == "lab":
            run_lab(plan, job)
        else:
            run_base(plan, arguments.task, job.seed, arguments.track)
        return 0
    except Exception as error:
        message = str(error)
        raise
    finally:
        _tell(
            plan,
            job,
            began,
            (
                message
                if message is not None
                else (None if sys.exc_info()[0] is None else "interrupted")
            ),
        )


if __name__ == "__main__":
    sys.exit(main())
