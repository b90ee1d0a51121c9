"""The page Performance, from a planted outcome: ratios, noise, what is lacking, growth, the limit."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pandas as pd
import pytest
from fake_run import stage

from press.errors import BookError
from press.origin import bare
from press.performance import Performance, estimates, performance

#: CPU seconds of three rounds
SECONDS = {
    "ours": (1.0, 2.0, 4.0),
    "ours again": (1.1, 1.9, 4.0),
    "bare passes": (2.0, 4.0, 8.0),
    "plain hooks": (3.0, 6.0, 12.0),
    "quick": (0.5, 1.0, 2.0),
    "alike": (1.05, 2.1, 4.0),
}
ENGINE = {"lacks": "", "cannot": {}, "versions": {"torch": "2"}, "notes": {}, "agreement": {}}
SHAPE = {"captured": 8, "swept": 6, "tokens": 4, "new": 3, "alphas": [1, 2], "top_ns": [0.5]}


def planted(folder):
    """Write an outcome of one size and two works into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rounds = [
        {"size": "study", "work": work, "engine": name, "round": number, "cpu_seconds": one}
        | {"wall_seconds": one, "peak_bytes": 2**30 * (number + 1)}
        for work in ("capture", "sweep all")
        for name, seconds in SECONDS.items()
        for number, one in enumerate(seconds)
    ]
    pd.DataFrame(rounds).to_csv(folder / "results.csv", index=False)
    kinds = [("capture", "ours", 1), ("sweep", "ours", 2), ("forward", "bare", 1)]
    kinds += [("capture", "plain hooks", 1), ("sweep", "plain hooks", 1)]
    growth = [
        {"axis": axis, "value": value, "work": work, "engine": engine, "round": number}
        | {"cpu_seconds": value**power * (number + 1), "operations": 100 * value**power}
        for axis in ("prompts", "width")
        for value in (10, 20, 40)
        for work, engine, power in kinds
        for number in range(3)
    ]
    pd.DataFrame(growth).to_csv(folder / "growth.csv", index=False)
    agreement = {"capture": {"largest_difference": 3e-7, "layers": 4}}
    agreement["sweep all"] = {"differ": 1, "n": 24, "codes": [8, 8, 8]}
    engines = {name: ENGINE | {"agreement": agreement} for name in SECONDS}
    engines["quick"] = engines["quick"] | {
        "cannot": {"sweep decision": "ValueError: only | all\npositions"},
        "notes": {"sweep": "a note"},
    }
    engines["bare passes"] = ENGINE | {"notes": {"sweep": "passes alone"}}
    engines["absent"] = ENGINE | {"lacks": "not installed: there is no x", "versions": {}}
    about = {
        "date": "2026-11-26",
        "commit": "abc",
        "command": "make bench-peers",
        "machine": {"cores": 2, "processor": "a laptop"},
        "rounds": 5,
        "sizes": {"study": {"engines": engines, "shape": SHAPE}},
        "limit": {"side": 64, "operations": 1000, "seconds": [2.0, 5.0, 9.0]},
    }
    (folder / "about.json").write_text(json.dumps(about))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A repository that holds an outcome, and the sources of a book."""
    folder = tmp_path_factory.mktemp("performance")
    planted(folder / "data" / "reference" / "performance")
    (folder / "figures").mkdir()
    return folder


@pytest.fixture(scope="module")
def found(folder) -> Performance:
    return performance(folder, folder)


def test_a_ratio_is_taken_within_a_round(found):
    one = found.ratios.set_index(["work", "engine"]).loc["capture", "plain hooks"]
    assert (one.ratio, one.low, one.high) == (3.0, 3.0, 3.0)
    assert (one.cpu, one.wall, one.gib) == (6.0, 6.0, 3.0)
    noise = found.ratios.set_index(["work", "engine"]).loc["capture", "ours again"]
    assert (noise.ratio, noise.low, noise.high) == (1.0, 0.95, pytest.approx(1.1))


def test_peers_stand_beyond_the_noise_or_within_it(found):
    standing = found.standing
    assert [one.partition(",")[0] for one in standing.slower] == ["plain hooks"] * 2
    assert [one.partition(",")[0] for one in standing.faster] == ["quick"] * 2
    assert [one.partition(",")[0] for one in standing.within] == ["alike"] * 2
    assert found.n_compared == 6


def test_ours_stands_beside_the_bare_passes_of_its_rows(found):
    assert [(one["work"], one["share"], one["times"]) for one in found.beside_bare] == [
        ("capture", 0.5, 3.0),
        ("sweep, every position", 0.5, 3.0),
    ]
    without = found.rounds[found.rounds.engine != "bare passes"]
    assert replace(found, rounds=without).beside_bare == []


def test_an_outcome_of_few_rounds_a_busy_machine_or_changed_code_is_called_a_trial(found):
    assert found.waiting == 1.0 and found.trial == ""
    few = replace(found, about=found.about | {"rounds": 4})
    assert few.trial == "there were few rounds"
    rounds = found.rounds.assign(wall_seconds=1.5 * found.rounds.cpu_seconds)
    busy = replace(found, rounds=rounds, about=found.about | {"commit": "abc+"})
    assert busy.waiting == 1.5
    assert busy.trial.startswith("other programs kept the machine busy, and the code had changes")


def test_what_could_not_be_done_is_said_once_and_fits_into_a_table(found):
    assert [(one["engine"], one["work"], one["why"]) for one in found.lacking] == [
        ("quick", "sweep, last position", "ValueError: only / all positions"),
        ("absent", "all", "not installed: there is no x"),
    ]
    assert "absent" not in found.versions and found.versions["quick"] == {"torch": "2"}


def test_growth_and_limit_are_recovered(found):
    assert found.limit == 200.0  # 1000 operations in the median of 2, 5 and 9 seconds
    powers = {one["axis"]: (one["capture"], one["sweep"]) for one in found.axes}
    assert powers == {
        "prompts": (pytest.approx(1), pytest.approx(2)),
        "width": (pytest.approx(1), pytest.approx(2)),
    }
    assert [one["width"] for one in found.shares] == [10, 20, 40]
    assert all(one["forward"] == one["capture"] == 0.25 for one in found.shares)  # 50 of 200
    assert found.power("layers", "capture") is None


def test_the_figures_say_their_numbers(found, folder):
    assert {path.name for path in (folder / "figures").iterdir()} == {
        "performance.png",
        "growth.png",
    }
    said = found.drawings["performance"].alt
    assert "capture: noise 1.00, plain hooks 3.00, quick 0.50, alike 1.05" in said
    words = "sweep, ours, prompts from 10 to 40: 200 to 3.2e+03 s"
    assert words in found.drawings["growth"].alt


def test_the_page_shows_the_outcome_or_how_to_get_it(run, root, tmp_path):
    folder = root / "data" / "reference" / "performance"
    (folder / "results.csv").unlink(missing_ok=True)
    text = (stage(run, root, tmp_path / "without") / "performance.md").read_text()
    assert "Not run yet. `make bench-peers`" in text
    assert "**Answer.**" not in text and "| 8B | 8.03 |" in bare(text)  # computed from shapes alone
    planted(folder)
    (folder / "tricks.csv").write_text(
        "trick,where,ratio,verdict,how measured\nstacking,training,1.3,slower,three runs\n"
    )
    text = bare((stage(run, root, tmp_path / "with") / "performance.md").read_text())
    assert re.search(r"\| plain hooks \| 3.00 \| 3.00 to 3.00 \| 6.000 \| 6.000 \| 3.00 GiB", text)
    assert "answers of at most 3. With plain hooks 8 answers are the unsteered ones, 8 the" in text
    assert "Noise, ours against itself: 1.00 (0.95 to 1.10)." in text
    assert "a trial" not in text and "not compared; passes alone" in text
    assert "| the study's model | sweep, every position | 0.50 | 3.00 |" in text
    assert "1 of 24 answers differ; a note" in text and "at most 3e-07 standard dev" in text
    assert "4 cells on 6 prompts of 4 tokens, answers of at most 3." in text
    assert "| absent | the study's model | all | not installed: there is no x |" in text
    assert "| stacking | training | 1.3 | slower | three runs |" in text
    assert "| 10 | 25\u00a0% | 25\u00a0% |" in text
    assert "Of 6 comparisons" in text and "2 are slower and 2 are faster (quick, capture" in text
    assert (tmp_path / "with" / "figures" / "growth.png").is_file()


def test_the_page_shows_the_race_beside_the_full_grid(run, root, tmp_path):
    """Two directions of one task: one fifth and one tenth of the rows, one limited choice lost."""
    folder = root / "data" / "reference" / "performance"
    for name in ("race.csv", "race.json"):
        (folder / name).unlink(missing_ok=True)
    assert (
        "Not run yet: `python tests/benchmarks/bench_race.py"
        in (stage(run, root, tmp_path / "before") / "performance.md").read_text()
    )
    one = {"task": "cipher-tagged", "seed": "26", "direction": "m2g", "same": True}
    one |= {"same_limited": True, "alone": 20, "run": 30, "grid": 100, "free_run": 20}
    one |= {"free_grid": 100, "chance": 0.02, "chance_limited": 0.01}
    one |= {"race_seconds": 1.0, "full_seconds": 6.0}
    other = one | {"direction": "g2m", "same_limited": False, "alone": 5, "chance_limited": 0.04}
    pd.DataFrame([one, other]).to_csv(folder / "race.csv", index=False)
    about = {"date": "2026-01-02", "commit": "abc", "command": "python race"}
    about |= {"machine": {"cores": 2, "processor": "a chip"}, "versions": {"torch": "2"}}
    (folder / "race.json").write_text(json.dumps(about))
    text = bare((stage(run, root, tmp_path / "after") / "performance.md").read_text())
    assert "| cipher-tagged | 2 | 2 | 1 | 8.0 | 4.0 | 0.040 | 2.0 | 12.0 |" in text
    assert "2026-01-02 with `python race`, at commit `abc`, on a chip, with torch 2." in text
    assert "in 2 of 2 by success alone, and in 1 of 2 within" in text


def test_a_table_of_tricks_has_its_five_columns(tmp_path):
    folder = tmp_path / "data" / "reference" / "performance"
    folder.mkdir(parents=True)
    assert performance(tmp_path, tmp_path).tricks == []
    (folder / "tricks.csv").write_text("trick,ratio\nstacking,1.3\n")
    with pytest.raises(BookError, match=r"tricks.csv: its columns are \['trick', 'ratio'\]"):
        performance(tmp_path, tmp_path)


def test_the_estimate_is_operations_over_the_assumed_speed():
    plan = estimates()
    small, large = plan["models"]
    assert (small.name, large.name) == ("1B", "8B") and small.cells == 100
    # 2 operations a weight and token, attention and scores aside
    weights = large.shape.layers * large.shape.block
    least = 300 * 64 * 2 * weights / (plan["share"] * plan["peak"] * 1e12)
    assert least < large.capture_seconds < 1.1 * least
    assert large.sweep_seconds > 100 * large.capture_seconds
    assert 16 < large.gib < 80 and small.gib < large.gib
