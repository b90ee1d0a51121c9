"""Lab 02 on track given: nothing is trained, the pretrained model is held against the gate as it is."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd

from memgen.config.training import TrainingParameters
from memgen.models.checkpoint import check_context, check_texts
from memgen.models.load import base_context, find_base, load_model, load_tokenizer
from memgen.models.pointer import write_pointer
from memgen.phases import phase
from memgen.store.artifacts import Result
from memgen.store.numerics import settled
from memgen.store.reader import FinishedRun
from memgen.training.base import Base
from memgen.training.contexts import in_contexts
from memgen.training.dual import Outcome, final_result, longest_asked
from memgen.training.gate import passes_gate, score, watch


class AsItIs(Outcome):
    """What a model shows that nobody trained."""

    @property
    def miss(self) -> str | None:
        """What it lacks, one sentence; None if it passes the gate."""
        if self.kept["passes"]:
            return None
        p = self.parameters
        return (
            f"task {p.task}, seed {p.seed}: base_model={p.base_model} does not show both behaviours as it"
            f" is: {self._beside_the_gate}; choose another base_model, or another gate."
        )


@phase("evaluation")
def as_it_is(run: FinishedRun, p: TrainingParameters, folder: Path) -> Result:
    """Score the model on validation keys (the gate) and on test keys; leave a pointer, no weights.

    Errors: `ParameterError` if the model's tokenizer cannot say the data set, or has no room for it.
    """
    p, began = settled(p), time.monotonic()
    base = Base(find_base(p.base_model))
    tokenizer, frame = load_tokenizer(base.model), run.dataset()
    task, named = run.task(tokenizer), f"base_model={p.base_model!r}"
    check_texts(tokenizer, frame, named)
    needed = longest_asked(tokenizer, frame) + task.max_answer_tokens
    check_context(base_context(base.model), needed, named)
    write_pointer(folder / "model", base.model, base.digest)
    model, tokenizer = load_model(folder / "model", p.attention, p.loaded_dtype, p.device)
    found = watch(model, tokenizer, task, frame, "validation", p.confirm_prompts)
    found |= {"step": 0, "score": score(found), "passes": passes_gate(found, p)}
    outcome = AsItIs(found, pd.DataFrame([found]), time.monotonic() - began, 0, p)
    numbers, seconds = final_result(task, frame, outcome, folder, base)
    tested = frame.key[(frame.kind == "conflict") & (frame.split == "test")].unique()
    if beside := in_contexts(model, tokenizer, task, tested, p.seed):
        numbers["contexts"] = beside
    return Result(numbers, {"history": outcome.history}, seconds=seconds)
