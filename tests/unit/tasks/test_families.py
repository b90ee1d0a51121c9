"""Families: which tasks differ in nothing but the format of the memory answer."""

from memgen.tasks import TASK_NAMES
from memgen.tasks.families import families, one_format, variants


def test_a_family_needs_both_variants():
    assert families(TASK_NAMES) == ["arithmetic", "cipher"]
    assert families(["cipher-tagged", "inference"]) == [] == families(["cipher-matched"])
    assert variants("cipher") == ("cipher-tagged", "cipher-matched")


def test_tagged_answers_are_told_by_their_format():
    assert [task for task in TASK_NAMES if one_format(task)] == [
        "arithmetic-matched",
        "inference",
        "cipher-matched",
    ]
