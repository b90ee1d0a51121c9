"""What a pretrained model shows when it is asked otherwise: two facts in one wording, other texts,
relations that were held back.

Every function takes `seeds` as `data/reference/real/<model>.json` holds them, and says nothing ("", no
row) where these were collected before there was such a thing.
"""

from __future__ import annotations

from typing import Any

from press.numbers import decimal, percent, span

Seeds = list[dict[str, Any]]


def unseen(about: dict[str, Any]) -> Seeds:
    """Entries of data sets whose test facts are of relations that were never seen."""
    return [one for one in about.get("relations") or [] if not one["left_out"]]


def left_out(about: dict[str, Any]) -> list[str]:
    """A sentence per data set that could not be asked so."""
    return [
        f"Data set {one['seed']} could not be asked so: {one['left_out']}."
        for one in about.get("relations") or []
        if one["left_out"]
    ]


def contexts(seeds: Seeds) -> str:
    """What becomes of plain questions beside texts that are no conflict, as sentences."""
    found = [one.get("contexts") for one in seeds]
    if not found or not all(one and {"none", "gold", "irrelevant"} <= one.keys() for one in found):
        return ""

    def over(context: str, name: str = "right") -> str:
        return span([one[context][name] for one in found])

    n = span([one["gold"]["n"] for one in found], str)
    return (
        f"Beside a text that is no conflict, plain questions about the test facts ({n} in a data set) are"
        f" answered right in {over('gold')} where the text says what is true, and in {over('irrelevant')}"
        f" where it says something false of another entity; {over('irrelevant', 'stated')} of these are"
        f" answered with that. Without a text it is {over('none')}, which is how facts were chosen."
    )


def one_wording(seeds: Seeds) -> str:
    """What is left of the differences if both prompts of a pair are worded alike, as sentences."""
    found = [one.get("same_wording") for one in seeds]
    if not found or any(one is None or None in one["significant_share"] for one in found):
        return ""
    layers = list(zip(*(one["significant_share"] for one in found)))
    means = [sum(at) / len(at) for at in layers]
    peak = means.index(max(means))

    def over(name: str, form=percent) -> str:
        return span([one[name][peak] for one in found], form)

    counts = (span([one[name] for one in found], str) for name in ("n_pairs", "n_clusters"))
    n_pairs, n_couples = counts
    return (
        "To take the words out, the keys that select were also asked in the same wordings, and two facts of"
        " one relation compared that are answered differently in one wording"
        f" ({n_pairs} pairs of {n_couples} couples of facts in a data set). Most neurons differ in layer"
        f" {peak + 1}, {percent(means[peak])} (over data sets {over('significant_share')}), and"
        f" {over('null_significant_share')} there where both facts are answered alike. The mean difference"
        f" of these pairs is correlated with that of the rephrasings by"
        f" {over('correlation', decimal)} in that layer."
    )
