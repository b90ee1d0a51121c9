"""Several studies one after the other: what the scale sweep and the arms have in common."""

from __future__ import annotations

import sys
import time

from memgen.errors import ArtifactError, StudyError
from memgen.pipeline.plan import Plan
from memgen.pipeline.runner import run_labs
from memgen.progress import duration


def run_plans(plans: dict[str, Plan], jobs: int) -> list[str]:
    """Run every plan, its name said first; returns the messages of those that failed in part."""
    failed, began = [], time.monotonic()
    for number, (name, plan) in enumerate(plans.items(), start=1):
        so_far = duration(time.monotonic() - began)
        print(f"{name} ({number} of {len(plans)}, {so_far} so far)", flush=True)
        try:
            run_labs(plan, jobs)
        except ArtifactError:
            raise
        except StudyError as error:
            failed.append(f"{name}: {error}")
            print(error, file=sys.stderr, flush=True)
    return failed
