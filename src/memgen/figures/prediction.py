"""Lab 05: how well the behaviour is predicted, layer by layer."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.figures.style import COLOR, WIDTH, Drawing
from memgen.stats.reported import shown


def probe_curves(r: dict, probes: pd.DataFrame, baselines: pd.DataFrame) -> Drawing:
    """AUC by layer, one line per site, key-bootstrap intervals; baselines as horizontal lines."""
    fig, ax = plt.subplots(figsize=(WIDTH, 4.4))
    n_sites = probes.site.nunique()
    for i, ((site, rows), marker) in enumerate(zip(probes.groupby("site", sort=False), "osD^")):
        x = rows.layer + 1 + (i - (n_sites - 1) / 2) * 0.08
        error = np.clip([rows.auc - rows.auc_low, rows.auc_high - rows.auc], 0, None)
        ax.errorbar(x, rows.auc, yerr=error, marker=marker, capsize=2, label=site)
    others = baselines[baselines.name != "majority"].set_index("name").auc  # it ranks nothing
    styles = ["--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3))]
    for (name, auc), style in zip(others.items(), styles):
        if np.isfinite(auc):
            ax.axhline(auc, color=COLOR["control"], ls=style, lw=1.2, label=name.replace("_", " "))
    ax.set(
        xlabel="layer",
        ylabel="AUC on test keys",
        xticks=sorted(probes.layer.unique() + 1),
        ylim=(min(0.4, ax.get_ylim()[0]), 1.02),
    )
    fig.legend(loc="outside lower center", ncols=3, fontsize=10)
    by_layer = ", ".join(shown(auc, none="none") for auc in r["auc"])
    beside = ", ".join(f"{name} {auc:.2f}" for name, auc in others.items())
    return Drawing(
        fig,
        alt=(
            f"AUC of the probes on test keys by layer and site; at {r['site']}: {by_layer};"
            f" baselines: {beside}"
        ),
        caption=(
            "How well the behaviour is predicted before the answer, on keys the probe never saw; intervals"
            " by bootstrap over keys. Grey lines: what needs no probe of the hidden state, or has shuffled"
            " labels."
        ),
        name="probes",
    )
