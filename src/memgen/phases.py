"""What a process spends its CPU seconds on: whatever takes long says which phase it is.

    @phase("capture")
    def capture(...): ...

    with phase("probes"):
        model.fit(x, labels)

A phase inside another is counted apart, so the phases of a process add up to at most what it used.
They are counted in the thread that runs the lab; what it starts (torch's threads, a process that it
waits for) counts with it. Nothing that is computed depends on this: entering and leaving a phase
reads a clock, a few microseconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: phases, in the order of a lab, and what each is
PHASES = {
    "process start": "before the computing: Python, imports, kernel, checks",
    "training": "optimisation steps, their batches, saving",
    "evaluation": "looks at the model while it is trained",
    "answers": "what the unsteered model answers, elsewhere",
    "capture": "reading hidden states",
    "sweep": "answers under shifts and patches",
    "probes": "fits of probes, permutation tests, resampling",
    "other": "the rest of the computing",
    "figures": "the cells after the computing: figures and tables",
}
START, FIGURES, REST = "process start", "figures", "other"
#: what stands for the phases of stages that were made before they were counted
NOT_RECORDED = "not recorded"


def cpu_seconds() -> float:
    """That this process, all its threads and the processes that it has waited for have used."""
    waited_for = os.times()
    return time.process_time() + waited_for.children_user + waited_for.children_system


class Ledger:
    """Seconds by phase since it was made. `clock`: what is counted, never going back."""

    def __init__(self, clock: Callable[[], float] = cpu_seconds):
        self._clock = clock
        self._spent: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0
        self._began = False

    def _charge(self) -> None:
        """Put what was used since the last look to the innermost phase."""
        now = self._clock()
        if self._open:
            innermost = self._open[-1]
            self._spent[innermost] = self._spent.get(innermost, 0.0) + now - self._since
        self._since = now

    @contextmanager
    def phase(self, name: str, unless_inside: bool = False) -> Iterator[None]:
        """Count what is inside to a phase; a decorator, too. `ValueError`: there is no such phase.

        `unless_inside`: whatever phase is open already keeps the count: what answers a prompt does
        so for whoever asks.
        """
        if name not in PHASES:
            raise ValueError(f"phase {name!r} is unknown; choose one of {', '.join(PHASES)}")
        if unless_inside and self._open:
            yield
            return
        self._charge()
        self._open.append(name)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def so_far(self) -> dict[str, float]:
        """Seconds by phase, open ones included."""
        self._charge()
        return dict(self._spent)

    def start(self) -> float:
        """What the process had used when this was first asked; 0 ever after."""
        first, self._began = not self._began, True
        return self._clock() if first else 0.0


_LEDGER = Ledger()
phase, so_far, start = _LEDGER.phase, _LEDGER.so_far, _LEDGER.start


def by_phase(before: dict[str, float], started: float, used: float) -> dict[str, float]:
    """A stage's seconds by phase: `started` before it, and `used` from then on.

    `before`: `so_far()` when it began. What no phase claims is `other`; figures follow later.
    """
    spent = {name: now - before.get(name, 0.0) for name, now in so_far().items()}
    spent = {name: round(seconds, 2) for name, seconds in spent.items()}
    rest = used - sum(spent.values())
    spent |= {START: round(started, 2), REST: round(max(0.0, rest), 2)}
    return {name: spent[name] for name in PHASES if spent.get(name)}
