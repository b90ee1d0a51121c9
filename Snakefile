# The study as Snakemake sees it: one rule per row of the table of labs (src/memgen/stages.py), and one for
# the bases that training starts from. `memgen labs` checks the parameters and runs it; so does Snakemake:
#
#   snakemake --cores 2 --configfile data/runs/laptop/study.json --forcerun training
#   snakemake --rulegraph --config preset=smoke tasks='[inference]' seeds='[0]' tracks='[scratch, lora]'
#
# A lab's stamp holds the digest of its outputs: a lab that ran again with the same outcome wakes no other.
# Every job carries its own parameters, so the commands that Snakemake prints can be run by hand.
from snakemake.logging import logger

from memgen.pipeline.engine import Demands
from memgen.pipeline.plan import TRAINING, Plan, urgency
from memgen.pipeline.report import EndAtOnce, Report
from memgen.pipeline.warm import RUN
from memgen.stages import BASE
from memgen.store.folders import stamp_pattern

plan = Plan.of(config, workflow.overwrite_configfiles)
demands = Demands.of(plan)
# on the machines of a cluster each job is a Snakemake as well
logger.addHandler(Report(plan.home) if workflow.is_main_process else EndAtOnce())


workdir: str(plan.home)


onstart:
    # Snakemake limits how many jobs it starts a second, and to that end every finished job leaves a timer that
    # asks again what can run, again and again until the study ends: after 150 jobs they kept half of a core busy
    workflow.scheduler.job_rate_limiter = None


wildcard_constraints:
    track="lora/|full/|given/|",
    task="[^/]+",
    seed=r"\d+",
    retrain=r"\d+",


rule all:
    input:
        plan.targets(),


rule base:
    """What the variants of a task start from, for every seed."""
    input:
        plan.base_reads,
    output:
        "{base}/seed{seed}/00_base.stamp",
    wildcard_constraints:
        base=r"\w+-base",
    log:
        "{base}/seed{seed}/00_base.log",
    params:
        given=plan.base_given,
    resources:
        **demands.resources(BASE),
    priority: urgency(TRAINING)
    shell:
        "exec {RUN} base {params.given:q} --runs {plan.runs:q} > {log:q} 2>&1"


use rule base as shared_base with:
    """What the runs of all tasks and seeds start from, on the tracks with a shared base."""
    wildcard_constraints:
        base=r"shared-base-\w+",


for row in plan.rows:
    retrains = [False, True] if "retrain" in row.parameters.model_fields else [False]
    for retrain in retrains:
        rule:
            name: ("re" if retrain else "") + row.short
            input: plan.reads(row.name)
            output: stamp_pattern(row.name, retrain)
            log: stamp_pattern(row.name, retrain).replace(".stamp", ".log")
            params:
                stage=row.name,
                given=plan.given(row.name),
            resources: **demands.resources(row.name)
            priority: urgency(row.name)
            shell: "exec {RUN} lab {params.stage} {params.given:q} --runs {plan.runs:q} > {log:q} 2>&1"
