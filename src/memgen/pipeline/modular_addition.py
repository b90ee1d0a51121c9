"""IPR pruning on the task that it was made for: its table in `data/reference/rivals/`.

python -m memgen.pipeline.modular_addition [folder]      a minute on one core; `make rivals` ends with it
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from memgen.pipeline.rivals import HOME, TARGET
from memgen.rivals.modular_addition import Recipe, pruned

SEEDS = (0, 1, 2)


def write(out: Path, recipes: list[Recipe]) -> None:
    """Train a small adder for each recipe, cut its units, write what is left."""
    found = []
    for recipe in recipes:
        found.append(pruned(recipe))
        print(f"modular addition, seed {recipe.seed}: trained and cut", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    pd.concat(found).to_csv(out / HOME, index=False, float_format="%.4g")
    print(f"wrote {out / HOME}")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if sys.argv[1:] else TARGET, [Recipe(seed=seed) for seed in SEEDS])
