"""Links from a page of prose to a state of the live page: the address says model, prompt and shift."""

from __future__ import annotations

import html
from urllib.parse import urlencode

from memgen.terms import DIRECTIONS
from press.errors import BookError
from press.live_more import OFFERED, SCOREBOARD
from press.run import Run

NEURONS = "nmd"  # the paper's neurons, which every live page has
#: what an address may say besides the task; what it leaves out is as the study chose it
STATE = (
    *("direction", "method", "prompt", "alpha", "share", "dose"),
    *("layers", "positions", "random", "then"),
)
#: what the page does by itself once it shows the state: forbid one token, run the test prompts
THEN = ("forbid", "all")


def live_link(run: Run, up: str, words: str, task: str | None = None, **state: str | float) -> str:
    """`words` as a link to the live page in this state; `task`: None for the book's first.

    Where this run has no such model, or has not compared this method, the words alone. `up`: the way to
    the folder of pages. Errors: `BookError` for a state that no live page has.
    """
    own = next((one for one in run.every if one.track == "scratch"), run)
    task = task or own.tasks[0]
    unknown = [name for name in state if name not in STATE]
    if unknown:
        raise BookError(
            f"a link to the live page names {unknown[0]!r}; it knows {', '.join(STATE)}"
        )
    method, direction = state.get("method", NEURONS), state.get("direction", DIRECTIONS[0])
    if method not in (NEURONS, *OFFERED) or direction not in DIRECTIONS:
        raise BookError(
            f"a link to the live page names method {method!r} and direction {direction!r}; it offers"
            f" {', '.join((NEURONS, *OFFERED))} and {', '.join(DIRECTIONS)}"
        )
    compared = method == NEURONS or bool(own.of(SCOREBOARD, task))
    if state.get("then", THEN[0]) not in THEN:
        raise BookError(
            f"a link to the live page says then={state['then']!r}; it knows {', '.join(THEN)}"
        )
    if task not in own.tasks or not compared:
        return words
    address = f"{up}live.html#{urlencode({'task': task} | state)}"
    return f'<a class="live-link" href="{html.escape(address)}">{words}</a>'
