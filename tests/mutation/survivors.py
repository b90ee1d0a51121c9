"""What a mutation run found (`make mutation`): the share of breaks that the tests notice, by room and module,
and every break that they do not notice, as the line before and the line after.

`explained.txt` beside this file lists survivors that no test could notice, one a line:
`module.function | line after, stripped | why`; where a line is only taken away, `(removed)` and that
line. They are left out of the list, and stay in the share.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code

MUTANTS = Path("mutants")
EXPLAINED = Path(__file__).with_name("explained.txt")
NOTICED = {"killed", "timeout", "segfault"}
ENOUGH = 0.8


def outcomes() -> dict[str, tuple[str, Path]]:
    """`{mutant: (status, file)}` of the last run."""
    found = {}
    for meta in sorted(MUTANTS.rglob("*.py.meta")):
        codes = json.loads(meta.read_text("utf8"))["exit_code_by_key"]
        path = meta.relative_to(MUTANTS).with_suffix("")
        found |= {mutant: (status_by_exit_code[code], path) for mutant, code in codes.items()}
    return {mutant: one for mutant, one in found.items() if one[0] != "not checked"}


def changed(mutant: str, path: Path) -> tuple[str, str]:
    """The lines that the mutant took away and put in their place."""
    lines = get_diff_for_mutant(mutant, path=path).splitlines()[2:]
    before, after = (" ".join(x[1:].strip() for x in lines if x[0] == sign) for sign in "-+")
    return before, after or f"(removed) {before}"


def explained() -> set[tuple[str, str]]:
    if not EXPLAINED.is_file():
        return set()
    found = set()
    for line in filter(str.strip, EXPLAINED.read_text("utf8").splitlines()):
        where, _, rest = line.partition(" | ")
        found.add((where, rest.rpartition(" | ")[0]))  # the line itself may hold the sign
    return found


def main() -> int:
    found, known = outcomes(), explained()
    counts: dict[str, Counter] = {}
    for status, path in found.values():
        module = ".".join(path.with_suffix("").parts[1:])
        for name in ("all", ".".join(module.split(".")[:2]), module):
            counts.setdefault(name, Counter())[status in NOTICED] += 1
    for mutant, (status, path) in found.items():
        if status in NOTICED:
            continue
        before, after = changed(mutant, path)
        where = (
            mutant.rpartition("__mutmut_")[0]
            .replace(".x_", ".")
            .replace("ǁ", ".")
            .replace("..", ".")
            .replace(".x.", ".")  # of a class
        )
        if (where, after) not in known:
            print(f"{status:9} {mutant.rpartition('.')[2]}\n  {where}\n  - {before}\n  + {after}")
    for name in sorted(counts, key=lambda name: (name.count("."), name)):
        n, noticed = counts[name].total(), counts[name][True]
        print(f"{name:36} {noticed:5} of {n:5} noticed: {noticed / n:.0%}")
    share = counts["all"][True] / counts["all"].total() if counts else 0.0
    return 0 if share >= ENOUGH else 1


if __name__ == "__main__":
    sys.exit(main())
