"""Figures: a table or arrays in, a matplotlib figure out. One style, one colour a behaviour,
everywhere.

The colours are Okabe and Ito's, which the colour-blind can tell apart; no figure relies on colour
alone.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.figures.style import COLOR, WIDTH


def probe_curves(table: pd.DataFrame, baselines: pd.DataFrame):
    """AUC by layer, one line a site, with key-bootstrap intervals; baselines as horizontal lines
    with their names.
    """
    fig, ax = plt.subplots(figsize=(WIDTH, 4.4))
    n_sites = table.site.nunique()
    for i, ((site, rows), marker) in enumerate(zip(table.groupby("site", sort=False), "osD^")):
        x = rows.layer + 1 + (i - (n_sites - 1) / 2) * 0.08
        error = np.clip([rows.auc - rows.auc_low, rows.auc_high - rows.auc], 0, None)
        ax.errorbar(x, rows.auc, yerr=error, marker=marker, capsize=2, label=site)
    styles = ["--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3))]
    for (name, auc), style in zip(baselines.set_index("name").auc.items(), styles):
        if np.isfinite(auc):
            ax.axhline(auc, color=COLOR["control"], ls=style, lw=1.2, label=name.replace("_", " "))
    ax.set(
        xlabel="layer",
        ylabel="AUC on test keys",
        xticks=sorted(table.layer.unique() + 1),
        ylim=(min(0.4, ax.get_ylim()[0]), 1.02),
    )
    fig.legend(loc="outside lower center", ncols=3, fontsize=10)
    return fig
