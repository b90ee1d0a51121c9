"""The whole study as one command: check the parameters, run the labs that need it, build the book.

    python -m memgen.study book --preset laptop --tasks inference --seeds 0 1 --set n_embd=64
    python -m memgen.study labs ...    the labs without the book

Snakemake decides what has to run; this module tells it what there is, shows how far it is, and
repeats a failing lab's own message instead of a traceback. `lab` and `base` run one job of the plan
in the environment variable MEMGEN_PLAN; Snakemake calls them.
"""

from __future__ import annotations

from memgen.config.base import ROOT
from memgen.errors import StudyError
from memgen.models.tokenizer import build_tokenizer
from memgen.pipeline.notebook import Lab
from memgen.pipeline.plan import Job, Plan
from memgen.pipeline.runner import relative_to_root
from memgen.presets import stage_parameters
from memgen.store.artifacts import result_digest
from memgen.store.files import guard_disk
from memgen.store.folders import base_folder
from memgen.training.base import ensure_base, ensure_shared_base


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
                f" (log: {relative_to_root(log)})"
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
    plan.stamp(job).write_text(result_digest(folder) + "\n")


def run_base(plan: Plan, task: str, seed: int, track: str) -> None:
    """Train the base that runs of this task start from."""

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
