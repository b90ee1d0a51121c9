"""What the benchmark of the race keeps when it is killed, and how it counts."""

from __future__ import annotations

from benchmarks.bench_race import Outcome, summary

ABOUT = {"date": "2026-01-02", "commit": "abc", "command": "c", "versions": {"torch": "2"}}
ROW = {"task": "cipher-tagged", "seed": "26", "direction": "m2g", "same": True}
ROW |= {"same_limited": True, "alone": 8, "run": 30, "grid": 100, "free_run": 20, "free_grid": 100}
ROW |= {"chance": 0.02, "chance_limited": 0.01, "race_seconds": 1.0, "full_seconds": 6.0}


def test_a_killed_measurement_goes_on_with_what_is_left(tmp_path):
    first = Outcome(tmp_path, ABOUT)
    assert first.left("cipher-tagged", "26") == ["m2g", "g2m"]
    first.add(ROW)
    again = Outcome(tmp_path, ABOUT | {"date": "2026-01-03"})
    assert again.left("cipher-tagged", "26") == ["g2m"]
    assert again.left("cipher-tagged", "27") == ["m2g", "g2m"]
    again.add(ROW | {"direction": "g2m", "same": False})
    assert "same cell: success alone 1 of 2, limited 2 of 2" in summary(again.rows)


def test_other_code_or_code_with_changes_starts_again(tmp_path):
    for commit in ("def", "abc+", "abc+"):
        outcome = Outcome(tmp_path, ABOUT | {"commit": commit})
        assert outcome.left("cipher-tagged", "26") == ["m2g", "g2m"]
        outcome.add(ROW)


def test_folds_are_over_all_directions_of_a_task():
    """16 of 200 rows: 12.5-fold; ten are wanted of a tagged task, five of another."""
    said = summary([ROW, ROW | {"direction": "g2m"}])
    assert "12.5-fold fewer rows (wanted 10: yes), both choices 4.0-fold" in said
    few = summary([ROW | {"task": "inference", "alone": 25, "chance_limited": 0.03}])
    assert "4.0-fold fewer rows (wanted 5: NO)" in few and "lost cell 0.030" in few
