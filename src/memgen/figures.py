"""Figures: a table or arrays in, a matplotlib figure out. One style, one colour a behaviour,
everywhere.

The colours are Okabe and Ito's, which the colour-blind can tell apart; no figure relies on colour
alone.
"""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg", force=False)
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

COLOR = {
    "memorization": "#D55E00",
    "generalization": "#0072B2",
    "other": "#999999",
    "control": "#777777",
    "null": "#BBBBBB",
}
DIRECTION_COLOR = {"m2g": COLOR["generalization"], "g2m": COLOR["memorization"]}
DIRECTION_NAME = {"m2g": "memorization → generalization", "g2m": "generalization → memorization"}
PANEL_NAME = {
    direction: name.replace(" → ", "\n→ ") for direction, name in DIRECTION_NAME.items()
}  # fits half a figure
CONTROL_NAME = {
    "steered": "top neurons",
    "random_neurons": "random neurons",
    "other_neurons": "other neurons",
    "low_rho": "uncorrelated neurons",
    "permuted": "permuted values",
    "random_sign": "random signs",
    "shuffled_labels": "shuffled labels",
    "rephrasing": "rephrasing alone",
}
WIDTH = 6.2  # inches; the figures are read on phones too, so type is large in proportion

plt.rcParams.update(
    {
        "figure.dpi": 110,
        "savefig.dpi": 150,
        "savefig.bbox": "tight",
        "font.size": 12,
        "axes.titlesize": 12,
        "axes.labelsize": 12,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "legend.frameon": False,
        "legend.fontsize": 10,
        "figure.constrained_layout.use": True,
        "axes.prop_cycle": plt.cycler(
            color=["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
        ),
    }
)


def _share_axis(ax, axis: str = "y") -> None:
    getattr(ax, f"{axis}axis").set_major_formatter(
        matplotlib.ticker.PercentFormatter(1.0, decimals=0)
    )
    getattr(ax, f"set_{axis}lim")(-0.02, 1.02)


def trajectory(
    history: pd.DataFrame, kept_step: int | None, gate: dict[str, float], base: list[dict] = ()
):
    """Behaviour on the validation conflict prompts, and free and keyed accuracy, against the
    training step; the kept checkpoint marked.
    """
    panels = 2 if base else 1
    fig, axes = plt.subplots(
        1, panels, figsize=(WIDTH, 3.6), sharey=True, width_ratios=[1, 2][-panels:], squeeze=False
    )
    if base:
        axes[0, 0].plot(
            [h["step"] for h in base],
            [h["free_accuracy"] for h in base],
            color=COLOR["generalization"],
            marker=".",
        )
        axes[0, 0].set(title="base: rule only", xlabel="step", ylabel="share of prompts")
    ax = axes[0, -1]
    for column, name in (
        ("memory_rate", "memorization"),
        ("rule_rate", "generalization"),
        ("other_rate", "other"),
    ):
        ax.plot(
            history.step, history[column], color=COLOR[name], marker=".", label=f"{name} (conflict)"
        )
    ax.plot(history.step, history.free_accuracy, color="black", ls=":", label="free prompts right")
    ax.plot(
        history.step, history.keyed_accuracy, color="black", ls="--", label="keyed prompts right"
    )
    if kept_step:
        ax.axvline(kept_step, color="black", lw=1)
        ax.annotate(" kept", (kept_step, 0.99), va="top")
    ax.axhspan(0, gate["other"], color=COLOR["other"], alpha=0.12, lw=0)
    ax.axhline(gate["memory"], color=COLOR["other"], lw=0.8, ls="-.")
    ax.set(
        title="training to dual behaviour", xlabel="step", ylabel="" if base else "share of prompts"
    )
    _share_axis(ax)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def composition(counts: pd.DataFrame):
    """Instances by kind (rows) and split (columns), as stacked bars on a log-free scale with the
    counts written out.
    """
    fig, ax = plt.subplots(figsize=(WIDTH, 0.6 + 0.55 * len(counts)))
    left = np.zeros(len(counts))
    shades = ["#0072B2", "#56B4E9", "#B8DDF2"]
    shares = counts.div(counts.sum(axis=1), axis=0)
    for split, shade in zip(counts.columns, shades):
        bars = ax.barh(counts.index, shares[split], left=left, color=shade, label=split)
        ax.bar_label(
            bars,
            [f"{n:,}" if s > 0.07 else "" for n, s in zip(counts[split], shares[split])],
            label_type="center",
            color="white" if shade == shades[0] else "black",
            fontsize=10,
        )
        left += shares[split].to_numpy()
    ax.invert_yaxis()
    ax.set_xlabel("share of the instances of that kind (numbers: instances)")
    _share_axis(ax, "x")
    fig.legend(loc="outside upper right", ncols=3)
    return fig


def flip_bars(table: pd.DataFrame):
    """How often rephrasing alone flips the behaviour, by split and direction, with n."""
    fig, ax = plt.subplots(figsize=(WIDTH, 3))
    splits = list(dict.fromkeys(table.split))
    for offset, direction in ((-0.2, "m2g"), (0.2, "g2m")):
        rows = table[table.direction == direction].set_index("split").loc[splits]
        x = np.arange(len(splits)) + offset
        error = np.clip([rows.rate - rows.low, rows.high - rows.rate], 0, None)
        ax.bar(
            x,
            rows.rate,
            0.38,
            yerr=error,
            color=DIRECTION_COLOR[direction],
            label=DIRECTION_NAME[direction],
            error_kw={"lw": 1},
        )
        for xi, top, n in zip(x, rows.high, rows.n):
            ax.text(xi, top + 0.02, f"n={n}", ha="center", fontsize=9)
    ax.set_xticks(range(len(splits)), splits)
    ax.set(ylabel="rephrasings that flip", xlabel="split (by key)")
    _share_axis(ax)
    ax.set_ylim(0, min(1.1, table.high.max() + 0.15))
    fig.legend(loc="outside upper center", ncols=2)
    return fig


def neuron_heatmaps(maps: dict[str, np.ndarray]):
    """Layer x neuron maps, one panel each, neurons sorted by the last map's last layer so that
    structure shows; symmetric colour scale.
    """
    order = np.argsort(list(maps.values())[0][-1])
    fig, axes = plt.subplots(len(maps), 1, figsize=(WIDTH, 1.75 * len(maps) + 0.4), squeeze=False)
    for ax, (name, values) in zip(axes[:, 0], maps.items()):
        limit = float(np.abs(values).max()) or 1.0
        image = ax.imshow(
            values[:, order],
            aspect="auto",
            cmap="PuOr",
            vmin=-limit,
            vmax=limit,
            interpolation="nearest",
        )
        ax.set(
            title=name,
            ylabel="layer",
            yticks=range(len(values)),
            yticklabels=range(1, len(values) + 1),
        )
        fig.colorbar(image, ax=ax, pad=0.01)
    axes[-1, 0].set_xlabel(
        "neuron (coordinate of the hidden state), sorted by its NMD in the last layer"
    )
    return fig


def layer_distributions(
    nmd: np.ndarray, null: np.ndarray | None, share: np.ndarray, null_share: np.ndarray
):
    """Left: |NMD| of each layer's neurons, behaviour pairs beside same-behaviour pairs; right:
    share of significant neurons.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.2))
    layers = np.arange(1, len(nmd) + 1)
    width = 0.36 if null is not None else 0.6
    sets = [(np.abs(nmd), -0.2 if null is not None else 0, COLOR["generalization"])]
    if null is not None:
        sets.append((np.abs(null), 0.2, COLOR["null"]))
    for values, offset, color in sets:
        box = left.boxplot(
            list(values),
            positions=layers + offset,
            widths=width,
            showfliers=False,
            patch_artist=True,
            manage_ticks=False,
        )
        for patch in box["boxes"]:
            patch.set(facecolor=color, alpha=0.8)
        for line in box["medians"]:
            line.set_color("black")
    left.set(
        title="size of the difference", xlabel="layer", ylabel="|NMD| of its neurons", xticks=layers
    )
    right.plot(layers, share, marker="o", color=COLOR["generalization"], label="behaviour differs")
    right.plot(
        layers,
        null_share,
        marker="s",
        ls="--",
        color=COLOR["other"],
        label="behaviour stays (null)",
    )
    right.set(title="significant neurons", xlabel="layer", xticks=layers)
    _share_axis(right)
    fig.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def top_neuron_map(rho: np.ndarray, mask: np.ndarray):
    """Where the top neurons lie: how many in each layer, and |rho| of all neurons in decreasing
    order by layer.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.1))
    layers = np.arange(1, len(rho) + 1)
    bars = left.bar(layers, mask.sum(axis=1), color=COLOR["generalization"])
    left.bar_label(bars)
    left.set(
        title=f"top {mask.mean():.0%} of all neurons",
        xlabel="layer",
        ylabel="top neurons",
        xticks=layers,
    )
    shades = plt.get_cmap("viridis")(np.linspace(0.9, 0.1, len(rho)))
    for layer, values in enumerate(np.sort(np.abs(rho), axis=1)[:, ::-1]):
        right.plot(values, color=shades[layer], label=f"layer {layer + 1}")
    right.set(
        title="correlation with the behaviour",
        xlabel="rank within the layer",
        ylabel="|rho|",
        ylim=(0, 1),
    )
    right.legend(ncols=2)
    return fig


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


def grid_heatmaps(races: dict[str, pd.DataFrame], chosen: dict[str, tuple[float, float]]):
    """Success of every cell on validation keys, one panel a direction; cells that left the race
    early are hatched, the chosen one boxed.
    """
    fig, axes = plt.subplots(1, len(races), figsize=(WIDTH, 3.6), squeeze=False, sharey=True)
    for ax, (direction, table) in zip(axes[0], races.items()):
        rate = table.successes / table.evaluated.clip(lower=1)
        values = table.assign(rate=rate).pivot(index="top_n", columns="alpha", values="rate")
        early = (
            table.pivot(index="top_n", columns="alpha", values="evaluated") < table.evaluated.max()
        )
        image = ax.imshow(values, aspect="auto", cmap="viridis", vmin=0, vmax=1, origin="lower")
        for i, j in np.argwhere(early.to_numpy()):
            ax.text(j, i, "·", ha="center", va="center", color="white", fontsize=12)
        top_n, alpha = chosen[direction]
        spot = (list(values.columns).index(alpha), list(values.index).index(top_n))
        ax.add_patch(
            plt.Rectangle((spot[0] - 0.5, spot[1] - 0.5), 1, 1, fill=False, ec="#D55E00", lw=2.5)
        )
        ax.set(
            title=PANEL_NAME[direction],
            xlabel="alpha",
            xticks=range(values.shape[1]),
            xticklabels=[f"{a:g}" for a in values.columns],
            yticks=range(values.shape[0]),
            yticklabels=[f"{t:.0%}" for t in values.index],
        )
    axes[0, 0].set_ylabel("top-N neurons")
    fig.colorbar(image, ax=axes, label="success", pad=0.01)
    return fig


def control_bars(tables: dict[str, pd.DataFrame]):
    """Success of the chosen cell beside its controls and the rephrasing floor, with Wilson
    intervals, one panel a direction.

    Each table: columns name, success, low, high, n.
    """
    fig, axes = plt.subplots(1, len(tables), figsize=(WIDTH, 3.5), sharey=True, squeeze=False)
    for ax, (direction, table) in zip(axes[0], tables.items()):
        y = np.arange(len(table))[::-1]
        colors = [
            DIRECTION_COLOR[direction] if n == "steered" else COLOR["null"] for n in table.name
        ]
        error = np.clip([table.success - table.low, table.high - table.success], 0, None)
        ax.barh(y, table.success, color=colors, xerr=error, error_kw={"lw": 1})
        for yi, high, value, n in zip(y, table.high, table.success, table.n):
            ax.text(
                min(high + 0.02, 0.8),
                yi,
                f"{value:.0%} (n={n})",
                va="center",
                fontsize=8.5,
                bbox={"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 0.5},
            )
        ax.set_yticks(y, [CONTROL_NAME.get(n, n) for n in table.name])
        ax.set(title=PANEL_NAME[direction], xlabel="change sides")
        _share_axis(ax, "x")
    return fig


def dose_response(table: pd.DataFrame):
    """Behaviour against alpha: steered (solid) and random neurons of the same norm (dashed), one
    panel a direction.

    Columns: direction, kind ('steered' or 'random'), alpha, memorization, generalization, other.
    """
    directions = list(dict.fromkeys(table.direction))
    fig, axes = plt.subplots(1, len(directions), figsize=(WIDTH, 3.6), sharey=True, squeeze=False)
    for ax, direction in zip(axes[0], directions):
        for kind, style in (("steered", "-"), ("random", ":")):
            rows = table[(table.direction == direction) & (table.kind == kind)]
            for behavior in ("memorization", "generalization", "other"):
                ax.plot(
                    rows.alpha,
                    rows[behavior],
                    style,
                    color=COLOR[behavior],
                    marker="." if kind == "steered" else "",
                    label=f"{behavior}{'' if kind == 'steered' else ', random neurons'}",
                )
        ax.set(title=PANEL_NAME[direction], xlabel="alpha (multiples of NMD)")
        _share_axis(ax)
    axes[0, 0].set_ylabel("share of answers")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def ablation_bars(table: pd.DataFrame):
    """Success of each ablation (rows) by direction. Columns: ablation, direction, success, low,
    high.
    """
    names = list(dict.fromkeys(table.ablation))
    fig, ax = plt.subplots(figsize=(WIDTH, 0.9 + 0.5 * len(names)))
    y = np.arange(len(names))[::-1]
    for offset, direction in ((0.2, "m2g"), (-0.2, "g2m")):
        rows = table[table.direction == direction].set_index("ablation").reindex(names)
        error = np.clip([rows.success - rows.low, rows.high - rows.success], 0, None)
        ax.barh(
            y + offset,
            rows.success.fillna(0),
            0.38,
            xerr=np.nan_to_num(error),
            color=DIRECTION_COLOR[direction],
            label=DIRECTION_NAME[direction],
            error_kw={"lw": 1},
        )
    ax.set_yticks(y, names)
    ax.set_xlabel("prompts that change sides")
    _share_axis(ax, "x")
    fig.legend(loc="outside upper center", ncols=2)
    return fig


def transfer_heatmaps(
    matrices: dict[str, list[list[float | None]]],
    sources: list[str],
    targets: list[str],
    controls: dict[str, list],
):
    """Source x target success, one panel a direction, the random control in brackets in each cell."""
    fig, axes = plt.subplots(
        1, len(matrices), figsize=(WIDTH, 1.5 + 0.55 * len(sources)), sharey=True, squeeze=False
    )
    for ax, (direction, values) in zip(axes[0], matrices.items()):
        grid = np.array([[np.nan if v is None else v for v in row] for row in values], dtype=float)
        image = ax.imshow(grid, cmap="viridis", vmin=0, vmax=1, aspect="auto")
        for i, j in np.ndindex(grid.shape):
            if np.isfinite(grid[i, j]):
                control = controls[direction][i][j]
                text = f"{grid[i, j]:.0%}" + ("" if control is None else f"\n({control:.0%})")
                ax.text(
                    j,
                    i,
                    text,
                    ha="center",
                    va="center",
                    fontsize=8.5,
                    color="white" if grid[i, j] < 0.6 else "black",
                )
        ax.set(title=PANEL_NAME[direction], xlabel="applied to")
        ax.set_xticks(
            range(len(targets)),
            [t.replace(", ", "\n").replace("-", "-\n") for t in targets],
            fontsize=9,
        )
        ax.set_yticks(range(len(sources)), sources)
    axes[0, 0].set_ylabel("neurons from")
    fig.colorbar(image, ax=axes, pad=0.01, label="success")
    return fig


def main_finding(steering: pd.DataFrame, auc: pd.Series):
    """The study in one figure: success of steering beside its strongest control, per task and
    direction; the AUC of the best probe with the task.
    """
    tasks = list(dict.fromkeys(steering.task))
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH + 0.6, 1.5 + 0.66 * len(tasks)), sharey=True)
    y = np.arange(len(tasks))[::-1]
    for ax, direction in zip(axes, DIRECTION_NAME):
        rows = steering[steering.direction == direction]
        steered = rows[rows.kind == "steered"].set_index("task").loc[tasks]
        controls = rows[~rows.kind.isin(["steered", "rephrasing"])]
        strongest = (
            controls.loc[controls.groupby("task").rate.idxmax()].set_index("task").loc[tasks]
        )
        for part, offset, color in (
            (steered, 0.19, DIRECTION_COLOR[direction]),
            (strongest, -0.19, COLOR["null"]),
        ):
            error = np.clip([part.rate - part.low, part.high - part.rate], 0, None)
            ax.barh(y + offset, part.rate, 0.36, xerr=error, color=color, error_kw={"lw": 1})
            for yi, high, rate in zip(y + offset, part.high, part.rate):
                inside = high > 0.84  # no room beside the bar
                ax.text(
                    rate - 0.08 if inside else high + 0.02,
                    yi,
                    f"{rate:.0%}",
                    va="center",
                    fontsize=10.5,
                    ha="right" if inside else "left",
                    color="white" if inside and offset > 0 else "black",
                )
        ax.set(title=PANEL_NAME[direction], xlabel="change sides")
        _share_axis(ax, "x")
    axes[0].set_yticks(y, [f"{task.replace('-', ' ')}\nAUC {auc[task]:.2f}" for task in tasks])
    handles = [plt.Rectangle((0, 0), 1, 1, color=c) for c in ("#555555", COLOR["null"])]
    fig.legend(
        handles,
        ["top neurons (coloured)", "strongest control (grey)"],
        loc="outside lower center",
        ncols=2,
    )
    return fig


def seed_dots(table: pd.DataFrame, columns: dict[str, str]):
    """One panel a column of `table` (task, seed, ...): every seed a dot, the mean a bar."""
    tasks = list(dict.fromkeys(table.task))
    fig, axes = plt.subplots(
        1, len(columns), figsize=(WIDTH + 0.6, 0.9 + 0.5 * len(tasks)), sharey=True, squeeze=False
    )
    y = {task: i for i, task in enumerate(reversed(tasks))}
    for ax, (column, title) in zip(axes[0], columns.items()):
        ax.plot(
            table[column], [y[t] for t in table.task], "o", color=COLOR["generalization"], alpha=0.7
        )
        for task, rows in table.groupby("task"):
            ax.plot(
                [rows[column].mean()] * 2, [y[task] - 0.25, y[task] + 0.25], color="black", lw=2
            )
        ax.set(title=title)
        ax.set_xlim(-0.02, 1.02)
    axes[0, 0].set_yticks(list(y.values()), list(y))
    return fig


def show(fig, alt: str, caption: str = "", name: str = "") -> None:
    """Display a figure in a lab with its alternative text (for readers who cannot see it), caption
    and label, then close it.
    """
    import io

    from IPython.display import Image, display

    buffer = io.BytesIO()
    fig.savefig(buffer, format="png")
    plt.close(fig)
    texts = (
        {"alt": alt} | ({"caption": caption} if caption else {}) | ({"name": name} if name else {})
    )
    display(Image(buffer.getvalue(), format="png"), metadata=texts)


def inheritance(comparison: dict, curve: pd.DataFrame):
    """Left: mean |NMD| by layer with the adapter on, off, and of the difference. Right: behaviour
    along the adapter's scale.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 4.2))
    styles = {
        "on": ("adapter on", "#009E73", "-"),
        "off": ("adapter off (base)", "black", "--"),
        "difference": ("difference", COLOR["control"], ":"),
    }
    layers = np.arange(1, len(comparison["correlation"]) + 1)
    for name, (label, color, style) in styles.items():
        left.plot(
            layers, comparison["mean_abs_nmd"][name], color=color, ls=style, marker="o", label=label
        )
    left.set(title="same pairs", xlabel="layer", ylabel="mean |NMD|", xticks=layers)
    left.set_ylim(bottom=0)
    for column, name in (
        ("memory_rate", "memorization"),
        ("rule_rate", "generalization"),
        ("other_rate", "other"),
    ):
        right.plot(curve.scale, curve[column], color=COLOR[name], marker="o", label=name)
        right.fill_between(
            curve.scale,
            curve[f"{column}_low"],
            curve[f"{column}_high"],
            color=COLOR[name],
            alpha=0.15,
            lw=0,
        )
    right.axvline(1, color="black", lw=0.8, ls=":")
    right.set(
        title="adapter turned down and up",
        xlabel="scale of the adapter",
        ylabel="share of conflict prompts",
    )
    _share_axis(right)
    for ax in (left, right):
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.1))
        ax.set_title(ax.get_title(loc="left"), loc="left")
    return fig


def overlap_heatmaps(
    overlaps: dict[str, tuple[list[list[float]], list[str], list[str]]], chance: float
):
    """Share of the top neurons in common, one panel a matrix `(values, rows, columns)`; chance is
    named in the title.
    """
    shapes = [np.array(values).shape for values, _, _ in overlaps.values()]
    fig, axes = plt.subplots(
        1,
        len(overlaps),
        figsize=(WIDTH, 1.4 + 0.45 * max(rows for rows, _ in shapes)),
        squeeze=False,
        width_ratios=[1 + columns for _, columns in shapes],
    )
    for ax, (title, (values, rows, columns)) in zip(axes[0], overlaps.items()):
        values = np.array(values, dtype=float)
        ax.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            ax.text(
                j,
                i,
                f"{value:.0%}",
                ha="center",
                va="center",
                color="white" if value > 0.6 else "black",
            )
        ax.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
        ax.set_yticks(range(len(rows)), rows)
        ax.set_title(title)
        ax.spines[:].set_visible(False)
    fig.suptitle(f"top neurons in common (by chance {chance:.0%})", fontsize=12)
    return fig
