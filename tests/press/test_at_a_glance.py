"""The ledger at a glance: which claims stand in it, with which mark, and where their names lead."""

from __future__ import annotations

from memgen.terms import CONTRADICTED, OPEN, REVERSED, SUPPORTED
from press.at_a_glance import MARKS, UNTESTED, at_a_glance
from press.sentences import Ledger

TASKS = ["arithmetic-tagged", "inference"]


def claim(name: str, group: str, cases: dict[str, str]) -> dict:
    words = dict.fromkeys(("text", "source", "test", "corrected", "page", "evidence"), "")
    numbers = {"threshold": 0.0, "margin": 0.0, "above": True, "n": 4}
    given = {"id": name, "name": name, "group": group, "track": "scratch", "verdict": OPEN}
    judged = {case: {"verdict": verdict} for case, verdict in cases.items()}
    return words | numbers | given | {"effect": None, "interval": None, "cases": judged}


def test_a_mark_per_task_and_a_line_per_claim_under_what_it_is_about():
    ledger = Ledger(
        [
            claim("steer_m2g.forbid", "steering", dict.fromkeys(TASKS, REVERSED)),
            claim("probe", "prediction", {"inference": SUPPORTED}),
            claim("random", "steering", {TASKS[0]: CONTRADICTED, TASKS[1]: OPEN}),
            claim("formats", "formats", {"arithmetic": SUPPORTED, "cipher": OPEN}),
            claim("nothing", "untested", {}),
        ]
    )
    found = at_a_glance(ledger, TASKS, "lora")
    assert found.columns == TASKS
    assert {group: [line.claim.id for line in lines] for group, lines in found.groups.items()} == {
        "steering": ["steer_m2g.forbid", "random"],
        "prediction": ["probe"],
    }
    forbid, random = found.groups["steering"]
    assert forbid.marks == [MARKS[REVERSED]] * 2
    assert random.marks == [MARKS[CONTRADICTED], MARKS[OPEN]]
    assert found.groups["prediction"][0].marks == [UNTESTED, MARKS[SUPPORTED]]
    assert forbid.link == "[steer_m2g.forbid](#claim-lora-steer-m2g-forbid)"
    (compared,) = found.compared  # judged on families of tasks: its cases are named
    assert compared.marks == [f"arithmetic: {MARKS[SUPPORTED]}; cipher: {MARKS[OPEN]}"]


def test_no_two_verdicts_have_one_mark():
    assert len({UNTESTED, *MARKS.values()}) == 5
