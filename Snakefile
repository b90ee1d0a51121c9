# Which lab runs for which task and seed, and what it needs. The plan is made and checked by memgen.study, which also calls this.
import os
import shlex
import sys

sys.path.insert(0, "src")
from memgen.study import Job, Plan

plan = Plan.from_json(os.environ["MEMGEN_PLAN"])
jobs = {str(plan.stamp(job)): job for job in plan.jobs()}


rule all:
    input: list(jobs)


for stamp, job in jobs.items():
    # a lab's stamp holds the digest of its outputs: a lab that ran again with the same outcome wakes no other
    rule:
        name: "_".join([job.stage, job.task, job.run, job.track]).replace("-", "_")
        input: [str(path) for path in [*plan.needs(job), *plan.sources(job)]]
        output: stamp
        params:
            parameters=plan.parameters(job),
            command=shlex.join(plan.command(job)),
        shell: "{params.command}"
