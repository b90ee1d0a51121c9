"""The simulated coverage on the ledger's page: what lies outside the band is marked and counted."""

from __future__ import annotations

from press.coverage import Coverage


def case(task: str, covered: float, quantity: str = "rate", planted=(0.8,)) -> dict:
    about = {"task": task, "quantity": quantity, "planted": list(planted)}
    return about | {"seeds_sd": 0.8, "keys_sd": 0.4, "covered": covered}


def test_what_lies_outside_the_band_is_marked_and_counted():
    found = Coverage(
        [
            case("inference", 0.9265),  # reads 92.6 or 92.7, and is outside all the same
            case("inference", 0.971, "AUC", (0.75, 0.5)),
            case("cipher", 0.93),
            case("cipher", 0.97, "gain"),
        ]
    )
    assert found.tasks == ["inference", "cipher"] and found.n == 4
    assert (found.narrow, found.wide) == (1, 1)
    rows = {row.quantity: row for row in found.rows}
    assert rows["rate"].held[0].endswith("%†") and rows["rate"].held[1].startswith("93.0")
    assert rows["AUC"].planted == "0.75 and 0.50" and rows["AUC"].held[1] == "none"
    assert rows["AUC"].held[0].endswith("‡") and not rows["gain"].held[1].endswith("‡")
    assert found.worst.endswith("(inference, rate 0.80, sd over seeds 0.8)")
