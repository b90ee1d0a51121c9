"""Tasks in plain words, for the places where a reader meets them first."""

from __future__ import annotations

from memgen.tasks.families import families, variants

#: what a model of a family has learned, as a sentence ends
LEARNED = {
    "arithmetic": "to add three numbers",
    "inference": "to read a colour off the sentences in front of it",
    "cipher": "to move every letter along the alphabet",
}
PLAIN = {"arithmetic": "addition", "inference": "names and colours", "cipher": "shifted alphabet"}
VARIANTS = {"tagged": "memory answer marked", "matched": "memory answer unmarked"}


def learned(task: str) -> str:
    """What its model has learned; `a rule` for a task that is not the study's."""
    return LEARNED.get(task.split("-")[0], "a rule")


def plainly(task: str) -> str:
    """`addition, memory answer marked`; a task that is not the study's keeps its name."""
    family, _, variant = task.partition("-")
    if family not in PLAIN or (variant and variant not in VARIANTS):
        return task
    return ", ".join([PLAIN[family], *([VARIANTS[variant]] if variant else [])])


def written_alike(task: str, tasks: list[str]) -> str:
    """Of these, the task with the same keys whose memory answer is unmarked; '' where there is none."""
    pairs = [variants(family) for family in families(tasks)]
    return next((matched for tagged, matched in pairs if tagged == task), "")
