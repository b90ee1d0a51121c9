"""Phases: what is planted is recovered, a phase inside another is counted apart, stages keep them."""

from __future__ import annotations

import time

import pytest

from memgen import phases
from memgen.phases import FIGURES, PHASES, REST, START, Ledger, by_phase, cpu_seconds, phase, so_far
from memgen.store import artifacts
from memgen.store.artifacts import MANIFEST, Stage, read_manifest, result_digest


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self, now: float = 0.0):
        self.now = now

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """The clock of this process's ledger and of its stages; the process has used 5 seconds."""
    clock = Clock(5.0)
    monkeypatch.setattr(phases, "so_far", (ledger := Ledger(clock)).so_far)
    for name, value in (("cpu_seconds", clock), ("so_far", ledger.so_far), ("start", ledger.start)):
        monkeypatch.setattr(artifacts, name, value)
    clock.phase = ledger.phase
    return clock


def test_a_phase_inside_another_is_counted_apart():
    clock = Clock(100.0)
    ledger = Ledger(clock)
    clock.work(7)  # in no phase
    with ledger.phase("training"):
        clock.work(3)
        with ledger.phase("evaluation"):
            clock.work(2)
            with ledger.phase("evaluation"):
                clock.work(0.25)
        clock.work(4)
        assert ledger.so_far() == {"training": 7, "evaluation": 2.25}  # of an open phase as well
        clock.work(1)
    clock.work(9)
    assert ledger.so_far() == {"training": 8, "evaluation": 2.25}


def test_what_answers_counts_for_whoever_asks():
    clock = Clock()
    ledger = Ledger(clock)

    @ledger.phase("answers", unless_inside=True)
    def answer(seconds: float) -> str:
        """Twice that long."""
        clock.work(2 * seconds)
        return "4"

    assert answer(1) == "4" and (answer.__name__, answer.__doc__) == ("answer", "Twice that long.")
    with ledger.phase("sweep"):
        answer(10)
    answer(0.5)
    assert ledger.so_far() == {"answers": 3, "sweep": 20}


def test_an_error_ends_its_phase():
    clock = Clock()
    ledger = Ledger(clock)
    with ledger.phase("capture"):
        with pytest.raises(KeyError):
            with ledger.phase("sweep"):
                clock.work(1)
                raise KeyError
        clock.work(2)
    assert ledger.so_far() == {"sweep": 1, "capture": 2}
    with pytest.raises(ValueError, match="'swep' is unknown; choose one of process start"):
        with ledger.phase("swep"):
            pass


def test_the_seconds_are_those_that_were_burnt():
    """Bounds that hold on any machine: what is burnt is measured by the same kind of clock."""

    def burn(seconds: float) -> None:
        began = time.process_time()
        while time.process_time() - began < seconds:
            pass

    before, began = so_far(), cpu_seconds()
    with phase("probes"):
        burn(0.05)
        with phase("capture"):
            burn(0.1)
    used = cpu_seconds() - began
    spent = {name: value - before.get(name, 0.0) for name, value in so_far().items()}
    assert spent["probes"] >= 0.05 and spent["capture"] >= 0.1
    assert spent["probes"] + spent["capture"] <= used + 1e-9


# -- in the manifest of a stage ------------------------------------------------------------------------
def test_a_stage_keeps_its_own_phases_its_start_and_its_figures(tmp_path, clock):
    with clock.phase("capture"):
        clock.work(1)  # before the stage: a part of its start
    stage = Stage(tmp_path / "02_a", {"n": 1})
    stage.begin()
    with clock.phase("training"):
        clock.work(10)
        with clock.phase("evaluation"):
            clock.work(2)
    clock.work(0.5)
    stage.finish({"rate": 0.5})
    manifest, digest = read_manifest(stage.folder), result_digest(stage.folder)
    computing = {"training": 10, "evaluation": 2, REST: 0.5}
    assert manifest["cpu_seconds"] == 12.5 == sum(computing.values())
    assert manifest["cpu_by_phase"] == {START: 6, **computing}
    assert list(manifest["cpu_by_phase"]) == [n for n in PHASES if n in manifest["cpu_by_phase"]]

    for figures in (1.25, 3.0):  # after every cell anew, not on top
        clock.now = 18.5 + figures
        stage.count_figures()
        after = read_manifest(stage.folder)
        assert after["cpu_by_phase"] == {START: 6, **computing, FIGURES: figures}
    assert {k: v for k, v in after.items() if k != "cpu_by_phase"} == {
        k: v for k, v in manifest.items() if k != "cpu_by_phase"
    }
    assert result_digest(stage.folder) == digest and stage.finished()

    second = Stage(tmp_path / "03_b", {"n": 1}, inputs=[stage.folder])
    second.begin()
    clock.work(1)
    second.finish({})
    assert read_manifest(second.folder)["cpu_by_phase"] == {REST: 1}  # a process starts once


def test_no_digest_covers_what_a_stage_took(tmp_path, clock):
    """The same numbers in other seconds: the same digest, and what reads them need not run again."""
    digests = []
    for seconds in (1, 50):
        stage = Stage(tmp_path / str(seconds) / "02_a", {"n": 1})
        stage.begin()
        with clock.phase("sweep"):
            clock.work(seconds)
        stage.finish({"rate": 0.5})
        assert MANIFEST not in read_manifest(stage.folder)["outputs"]
        digests.append(result_digest(stage.folder))
    assert digests[0] == digests[1]


def test_rounding_never_makes_a_rest_negative():
    assert by_phase(so_far(), 0.0, -1e-9) == {}
