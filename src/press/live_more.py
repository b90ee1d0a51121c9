"""What the live page fetches after its first answer: all test prompts, and the vectors of rival methods.

The vectors are those that lab 13 chose on validation keys and kept (`shifts.safetensors`). A run without
that lab, or from before it kept them, offers the paper's neurons alone.
"""

from __future__ import annotations

import numpy as np

from memgen.store.reader import FinishedRun
from memgen.terms import DIRECTIONS

SCOREBOARD = "13_scoreboard"
#: methods that can be chosen beside the paper's neurons, in this order
OFFERED = ("optimised_retained", "caa")
#: chosen as the method is, from as many candidates: by what the page calls them
CHOSEN_ALIKE = {"paper": "nmd", "chance": "random_directions"}


def vectors(run: FinishedRun, site: str) -> tuple[dict, dict[str, np.ndarray]]:
    """`(methods, tensors)`: what lab 13 says of each method; by `<method>.<direction>` its shift `[L, d]`.

    Of a method that has no candidate within the limit on lost free prompts in a direction the most
    successful one is taken, as of the neurons. Errors: `ArtifactError` if the lab is damaged.
    """
    stage = run[SCOREBOARD]
    if not stage.exists or not (stage.folder / "shifts.safetensors").is_file():
        return {}, {}
    result = stage.verify().result
    if result["site"] != site:
        return {}, {}
    kept, methods, tensors = stage.arrays("shifts"), {}, {}
    for name in OFFERED:
        found = {d: _of_direction(result[d]["rows"], name) for d in DIRECTIONS}
        if not all(found.values()):
            continue
        methods[name] = {"title": result["methods"][name]["title"], **found}
        tensors |= {f"{name}.{d}": kept[f"{name}.{d}.{found[d]['cell']}"] for d in DIRECTIONS}
    return methods, tensors


def _of_direction(rows: dict, name: str) -> dict | None:
    """A method's rates and price in a direction, as the page says them of the neurons."""
    row = rows.get(name)
    if not row or not row["max"]:
        return None
    cell = "kept" if row["kept"] else "max"
    chosen = row[cell]
    others = {name: (rows.get(other) or {}).get(cell) for name, other in CHOSEN_ALIKE.items()}
    names = ("label", "success", "interval", "n", "other")
    names += ("free_accuracy_before", "free_accuracy_after")
    return {name: chosen[name] for name in names} | {
        "cell": cell,
        "positions": chosen["setting"]["positions"],
        **{name: other["success"] if other else None for name, other in others.items()},
    }
