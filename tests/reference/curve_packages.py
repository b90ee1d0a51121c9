"""What two public packages say of planted answers: writes `curve_packages.json` beside this file.

`specification_curve` measures each specification as the coefficient of a regression (success on "was
steered"), `rliable` the interval of a mean over keys by its own bootstrap. Neither can be a requirement of
the tests: rliable 1.2.0 asks for arch below 8, and arch 7 cannot be imported beside the project's pandas 3.1;
specification-curve asks for widgets, stubs of types and pingouin with its xarray, for one class. So this
was made once, in an environment of its own (versions and hashes: `curve_packages.txt`), beside the project's
numpy, pandas and statsmodels:

    pip install --require-hashes --no-deps --target site -r tests/reference/curve_packages.txt
    PYTHONPATH=site python tests/reference/curve_packages.py
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import arch.bootstrap
import numpy as np
import pandas as pd
from rliable.library import get_interval_estimates
from specification_curve import SpecificationCurve

N_KEYS, EACH, CHOOSE = 16, 5, 6
METRICS = ("exact", "margin")
RATES = {"steered": (0.8, 0.9), "random": (0.3, 0.4), "rephrasing": (0.2, 0.5)}  # by metric
REPS = 20000

_begin = arch.bootstrap.IIDBootstrap.__init__


def begin(self, *args, random_state=None, **named) -> None:
    """rliable 1.2.0 passes `random_state`, which arch 8 calls `seed`."""
    _begin(self, *args, seed=random_state, **named)


arch.bootstrap.IIDBootstrap.__init__ = begin


def planted() -> dict[str, dict[str, list[int]]]:
    """Successes by kind and metric: `EACH` prompts of each of `N_KEYS` keys, one key after the other."""
    rng = np.random.default_rng(16)
    easy = rng.normal(0, 0.15, N_KEYS).repeat(EACH)
    return {
        kind: {
            metric: (rng.random(N_KEYS * EACH) < np.clip(rate + easy, 0, 1)).astype(int).tolist()
            for metric, rate in zip(METRICS, rates)
        }
        for kind, rates in RATES.items()
    }


def deals() -> dict[str, list[int]]:
    """Keys that report: all after the first `CHOOSE`, and as many others."""
    other = np.random.default_rng(17).permutation(N_KEYS)[CHOOSE:]
    return {"as the book": list(range(CHOOSE, N_KEYS)), "deal 2": sorted(other.tolist())}


def main() -> None:
    answers, keys = planted(), np.arange(N_KEYS).repeat(EACH)
    effects, intervals = [], []
    for deal, reporting in deals().items():
        told = np.isin(keys, reporting)
        for against in ("random", "rephrasing"):
            rows = [
                pd.DataFrame({m: np.array(answers[kind][m])[told] for m in METRICS}).assign(
                    steered=x
                )
                for kind, x in (("steered", 1), (against, 0))
            ]
            table = pd.concat(rows, ignore_index=True).assign(none=0.0)
            table["none"] = np.random.default_rng(0).normal(size=len(table))
            curve = SpecificationCurve(table, list(METRICS), ["steered"], ["none"])
            curve.fit()
            for row in curve.df_r.itertuples():
                if "none" not in row.Specification:  # the specification without a control variable
                    about = {"deal": deal, "against": against, "metric": row.y_endog}
                    effects.append(about | {"effect": float(row.Coefficient)})
        for metric in METRICS:
            by_key = np.array(answers["steered"][metric]).reshape(N_KEYS, EACH).mean(1)[reporting]
            np.random.seed(0)
            point, ends = get_interval_estimates(
                {"steered": by_key[:, None]}, lambda x: np.array([x.mean()]), reps=REPS
            )
            low, high = ends["steered"].ravel().tolist()
            about = {"deal": deal, "metric": metric, "mean": float(point["steered"][0])}
            intervals.append(about | {"low": low, "high": high})
    found = {
        "packages": {name: version(name) for name in ("specification-curve", "rliable", "arch")},
        "n_keys": N_KEYS,
        "each": EACH,
        "answers": answers,
        "deals": deals(),
        "effects": effects,
        "intervals": intervals,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
