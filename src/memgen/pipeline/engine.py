"""Where the jobs of a study run: here, or on a cluster, as a profile of Snakemake's says.

`profiles/slurm/config.yaml` is such a profile. What a job asks a cluster for comes from what jobs of its
kind have used: `profiles/demands.json`, made from the manifests of a finished study.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from memgen.config.base import ROOT
from memgen.config.training import DatasetParameters
from memgen.config.values import read_yaml
from memgen.errors import ArtifactError, ParameterError
from memgen.pipeline import slurm_jobs
from memgen.pipeline.plan import TRAINING, Plan
from memgen.stages import BASE, BASE_SECONDS, LABS
from memgen.store.folders import study_folder
from memgen.store.reader import finished_stages
from memgen.terms import GIVEN_TRACK

#: the profile that stands for this machine
HERE = "none"
PROFILES = ROOT / "profiles"
DEMANDS = PROFILES / "demands.json"
#: what was used is asked for this often: a slower node, a fuller one
_SPARE_TIME, _SPARE_MEMORY = 4.0, 1.5
#: minutes to start Python and Snakemake on a node, often from a slow disk; MiB of the processes around a lab
_MINUTES_TO_START, _MEMORY_AROUND = 5, 1000
#: MiB of a lab that was never measured
_MEMORY = 1500


@dataclass(frozen=True)
class Engine:
    """What runs the jobs. `profile`: Snakemake's, None for this machine."""

    profile: Path | None = None
    executor: str = "local"

    @classmethod
    def of(cls, name: str) -> Engine:
        """The engine of a profile's name. `ParameterError`: it is not there, or cannot be used here."""
        if name == HERE:
            return cls()
        known = [HERE, *sorted(path.parent.name for path in PROFILES.glob("*/config.yaml"))]
        if name not in known:
            raise ParameterError(
                f"profile={name!r} is unknown; choose one of {', '.join(known)}, or copy"
                " profiles/slurm to a folder of that name beside it"
            )
        profile = PROFILES / name / "config.yaml"
        settings = read_yaml(profile.read_text())
        executor = settings.get("executor") if isinstance(settings, dict) else None
        if not isinstance(executor, str):
            raise ParameterError(
                f"{profile} names no executor; add a line such as `executor: slurm`"
            )
        engine = cls(profile, executor)
        engine._refuse(name)
        return engine

    def _refuse(self, name: str) -> None:
        """Raise `ParameterError` for what the engine lacks on this machine."""
        plugin = f"snakemake_executor_plugin_{self.executor.replace('-', '_')}"
        if self.executor != "local" and not find_spec(plugin):
            raise ParameterError(
                f"profile={name!r} needs the package {plugin.replace('_', '-')}, which is not"
                " installed; `make book PROFILE=slurm` installs Slurm's, others come with pip"
            )
        if not self.slurm:
            return
        lacking = [command for command in slurm_jobs.COMMANDS if not shutil.which(command)]
        if lacking:
            raise ParameterError(
                f"profile={name!r} needs Slurm's commands, and {lacking[0]} is not on this machine;"
                " start the study on a machine from which jobs are submitted, or without PROFILE"
            )
        if slurm_jobs.ask("sinfo", "-h", "-o", "%P") is None:
            raise ParameterError(
                f"profile={name!r}: Slurm does not answer on this machine (try `sinfo`); start the"
                " study when it does, or without PROFILE"
            )

    @property
    def elsewhere(self) -> bool:
        """Do jobs run on other machines?"""
        return self.executor != "local"

    @property
    def slurm(self) -> bool:
        return self.executor == "slurm"

    def arguments(self, home: Path) -> list[str]:
        """What Snakemake is told; nobody's profile but this one reaches it."""
        chosen = ["--profile", str(self.profile or HERE), "--workflow-profile", HERE]
        if self.slurm:
            chosen += ["--slurm-jobname-prefix", job_name(home)]
        return chosen


def job_name(home: Path) -> str:
    """How the names of all jobs of the study in this folder begin, in whichever run."""
    return "memgen-" + hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:12]


# -- what a job asks for -------------------------------------------------------------------------------
@dataclass(frozen=True)
class Demands:
    """What the jobs of a plan ask a cluster for. `used`: (seconds, MiB) by stage, as recorded."""

    used: dict[str, tuple[float, float]]
    on_gpu: frozenset[str]

    @classmethod
    def of(cls, plan: Plan) -> Demands:
        recorded = json.loads(DEMANDS.read_text()) if DEMANDS.is_file() else {}
        stages = recorded.get(plan.preset, {}).get("stages", {})
        used = {name: (one["seconds"], one["mebibytes"]) for name, one in stages.items()}
        # a data set is drawn without a model, unless a given one is asked what it knows
        devices = {
            Path(stamp).stem: str(getattr(p, "device", "cpu"))
            for stamp, p in plan.studied.items()
            if not isinstance(p, DatasetParameters) or p.track == GIVEN_TRACK
        }
        on_gpu = {stage for stage, device in devices.items() if device.startswith("cuda")}
        return cls(used, frozenset(on_gpu | ({BASE} if TRAINING in on_gpu else set())))

    def resources(self, stage: str) -> dict[str, int]:
        """Snakemake's words: minutes (`runtime`), MiB (`mem_mb`), and one `gpu` where it is wanted.

        A stage that was not recorded has the guess of the table of the labs.
        """
        guess = BASE_SECONDS if stage == BASE else LABS[stage].seconds
        seconds, memory = self.used.get(stage, (guess, _MEMORY))
        asked = {
            "runtime": _MINUTES_TO_START + math.ceil(_SPARE_TIME * seconds / 60),
            "mem_mb": 100 * math.ceil((_SPARE_MEMORY * memory + _MEMORY_AROUND) / 100),
        }
        return asked | ({"gpu": 1} if stage in self.on_gpu else {})


def record_demands(preset: str, runs: str) -> Path:
    """Write what the stages of a finished study used, the largest of each kind; returns the file.

    `ArtifactError`: there is no finished stage.
    """
    home = study_folder(runs, preset)
    manifests = [(stage.name, stage.manifest) for stage in finished_stages(home)]
    if not manifests:
        raise ArtifactError(f"{home} holds no finished stage; run the study first")
    recorded = json.loads(DEMANDS.read_text()) if DEMANDS.is_file() else {}
    recorded[preset] = {
        "processors": sorted({one["machine"]["processor"] for _, one in manifests}),
        "stages": {
            stage: _largest([one for name, one in manifests if name == stage])
            for stage in sorted({name for name, _ in manifests})
        },
    }
    DEMANDS.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
    return DEMANDS


def _largest(manifests: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Of stages of one kind: how many, and the most seconds and MiB (a system may not count memory)."""
    peak = max(one["peak_memory_bytes"] or 0 for one in manifests)
    return {
        "n": len(manifests),
        "seconds": math.ceil(max(one["wall_seconds"] for one in manifests)),
        "mebibytes": math.ceil(peak / 2**20) or _MEMORY,
    }
