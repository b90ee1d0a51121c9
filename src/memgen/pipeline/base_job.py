"""One job of a study: the base that runs of training start from. It loads torch, a lab's job does not."""

from __future__ import annotations

from typing import Any

from memgen.errors import StudyError
from memgen.models.tokenizer import build_tokenizer
from memgen.pipeline.job import write_stamp
from memgen.pipeline.notebook import Lab
from memgen.pipeline.plan import base_of
from memgen.presets import stage_parameters
from memgen.stages import TRAINING
from memgen.training.base import ensure_base, ensure_shared_base


def run_base(given: dict[str, Any]) -> None:
    """Train the base that a run of training with these parameters starts from."""
    p = stage_parameters(TRAINING, given)
    folder = base_of(p)
    if folder is None:
        raise StudyError("a run with these parameters starts from no base of its own")
    if p.track == "scratch":
        lab = Lab(TRAINING, p)
        ensure_base(build_tokenizer(lab.task().vocabulary()), lab.dataset(), p, folder)
    else:
        ensure_shared_base(p)
    write_stamp(folder)
