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
import os
import sys
import time

import yaml

from memgen.config.base import ROOT, SEEDS
from memgen.errors import ParameterError, StudyError
from memgen.pipeline.job import run_base, run_lab
from memgen.pipeline.plan import Job, Plan
from memgen.pipeline.runner import run_labs, tell
from memgen.progress import duration
from memgen.store.folders import study_folder
from memgen.tasks import TASK_NAMES
from press.build import build_book


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
        tell(
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
