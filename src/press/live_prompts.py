"""Which test prompts the live page shows: those that lab 06 reported on, and examples of them by a rule.

Nothing here is computed by a model: what was answered, how firmly, and what the study's shift did to it
stand in the tables of labs 03 and 06.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from memgen.errors import ArtifactError
from memgen.store.reader import FinishedRun, FinishedStage
from memgen.tasks.dataset import spread
from memgen.terms import DIRECTIONS, START

N_EXAMPLES, N_FREE_EXAMPLES = 24, 6
#: lab 06's rows of the cell that its headline, and the page, take; by what `cell` says
STEERED_ROWS = {"kept": "steered", "max": "steered_max"}


def reported(run: FinishedRun) -> dict[str, pd.DataFrame]:
    """By direction the prompts that lab 06 turned on test keys, in its order.

    Added to lab 03's columns: `firm`, `turned`. The prompts are those of `steering_prompts`, which
    belongs to the labs that need torch; a test holds the two together.
    """
    answered, stage = run.answered(), run["06_intervention"]
    answered = answered.assign(firm=firmness(answered))
    limit, outcomes = stage.manifest["parameters"]["n_prompts"], stage.table("outcomes")
    found = {}
    for direction in DIRECTIONS:
        rows = answered[(answered.split == "test") & (answered.behavior == START[direction])]
        ordered = rows.sort_values(["key", "group", "rephrasing"], kind="stable")
        chosen = spread(ordered.drop_duplicates("prompt"), limit)
        turned = _turned(stage, outcomes, chosen, direction)
        found[direction] = chosen.assign(turned=turned)
    return found


def firmness(answered: pd.DataFrame) -> pd.Series:
    """The share of a prompt's rewordings (lab 03 asked them) that are answered in the same way; 0 of none."""
    others = answered.groupby(["key", "group"]).prompt.transform("size") - 1
    alike = answered.groupby(["key", "group", "behavior"]).prompt.transform("size") - 1
    firm: pd.Series = (alike / others.where(others > 0)).fillna(0.0)
    return firm


def _turned(
    stage: FinishedStage, outcomes: pd.DataFrame, chosen: pd.DataFrame, direction: str
) -> np.ndarray:
    """What the study's shift did to each of these prompts, `[n]`, bool. Errors: `ArtifactError`."""
    kind = STEERED_ROWS[stage.result[direction]["cell"]]
    rows = outcomes[(outcomes.direction == direction) & (outcomes.kind == kind)]
    if list(rows.key) != list(chosen.key):
        raise ArtifactError(
            f"{stage.folder} reports on other prompts than lab 03 left; run lab 06_intervention of this"
            " task and seed again"
        )
    return rows.success.to_numpy(bool)


def examples(rows: dict[str, pd.DataFrame]) -> list[dict]:
    """An even sample of the reported prompts, half for each direction, firmest first.

    Even over those that the study's shift turned and those that it did not, and within each over how
    firm they are: of the examples as large a share turns as of all, give or take one prompt.
    """
    found = []
    for direction in DIRECTIONS:
        ordered = rows[direction].sort_values(["turned", "firm"], ascending=False, kind="stable")
        sample = _in_the_middle(ordered, N_EXAMPLES // 2)
        found.append(sample.sort_values("firm", ascending=False, kind="stable"))
    return pd.concat(found)[["prompt", "behavior"]].to_dict("records")


def first_shown(rows: dict[str, pd.DataFrame], shown: list[dict]) -> dict[str, str]:
    """By direction the example to begin with: the firmest of those that do what most prompts do."""
    found = {}
    for direction, of in rows.items():
        often = of.turned.mean() >= 0.5
        like_most = set(of.prompt[of.turned == often])
        prompts = [one["prompt"] for one in shown if one["behavior"] == START[direction]]
        if prompts:
            found[direction] = next(prompt for prompt in prompts if prompt in like_most)
    return found


def drawn(rows: dict[str, pd.DataFrame], seed: int) -> dict[str, list[str]]:
    """By direction all reported prompts, in an order drawn once: the first 24 are as good as any 24."""
    rng = np.random.default_rng(seed)
    return {d: list(of.prompt.to_numpy()[rng.permutation(len(of))]) for d, of in rows.items()}


def free_examples(frame: pd.DataFrame) -> list[dict]:
    """A few prompts of test keys without a memory, evenly over the table."""
    rows = frame[(frame.kind == "free") & (frame.split == "test")]
    return spread(rows, N_FREE_EXAMPLES)[["prompt", "rule_answer", "split"]].to_dict("records")


def percentiles(scores: np.ndarray) -> list[float]:
    """The 99 scores between which a hundredth each of the test prompts lies."""
    return [round(float(x), 4) for x in np.percentile(scores, range(1, 100))]


def _in_the_middle(rows: pd.DataFrame, n: int) -> pd.DataFrame:
    """The middle row of each of `n` equal parts; all rows if there are no more."""
    if len(rows) <= n:
        return rows
    return rows.iloc[((np.arange(n) + 0.5) * len(rows) / n).astype(int)]
