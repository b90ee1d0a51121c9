"""Figures: a table or arrays in, a matplotlib figure out; one style, one colour a behaviour.

Blue is the rule and vermillion is memory, in every figure; whatever else needs a colour takes one of
`PALETTE`. The colours are Okabe and Ito's, distinct to the colour-blind; no figure relies on them alone.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
from IPython.display import Image, display
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

matplotlib.use("Agg", force=False)

#: of what is no behaviour: a method, a track, a verdict, a part of a model
GREEN, ORANGE, PURPLE, PINK = "#009E73", "#E69F00", "#6A3D9A", "#CC79A7"
PALETTE = (GREEN, ORANGE, PURPLE, PINK)
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
    "steered_max": "top neurons, no limit",
    "forbid_source": "forbid one token",
    "force_target": "force one token",
    "unembedding_last": "output direction, last",
    "unembedding_all": "output direction, all",
    "random_neurons": "random neurons",
    "random_direction": "random direction",
    "best_of_random": "best random direction",
    "other_neurons": "other neurons",
    "low_rho": "uncorrelated neurons",
    "permuted": "permuted values",
    "random_sign": "random signs",
    "shuffled_labels": "shuffled labels",
    "rephrasing": "rephrasing alone",
    "rephrasing_order": "words reordered",
    "rephrasing_content": "another question",
    "instruction_1": "told in words (1)",
    "instruction_2": "told in words (2)",
    "one_layer": "one layer, difference",
    "one_layer_kept": "one layer, in limit",
    "optimised": "optimised vector",
    "optimised_kept": "optimised, in limit",
}
#: of maps: from memory to rule (symmetric about zero); shares from 0 to 1; signs of anything else
BEHAVIOR_MAP = LinearSegmentedColormap.from_list(
    "behaviors", [COLOR["memorization"], "white", COLOR["generalization"]]
)
SHARE_MAP, SIGN_MAP = "Greens", "PRGn"
WIDTH = 6.2  # inches, and no figure is wider: a phone shows it in its own width
SMALL = 11.5  # points, and no type is smaller: 9 pixels where 358 are left for the figure


matplotlib.rcdefaults()  # a user's matplotlibrc or style sheet does not reach the figures
plt.rcParams.update(
    {
        "figure.dpi": 110,
        "savefig.dpi": 150,
        "savefig.bbox": "tight",
        "savefig.pad_inches": 0.03,
        "font.size": 12,
        "axes.titlesize": 12,
        "axes.labelsize": 12,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "legend.frameon": False,
        "legend.fontsize": SMALL,
        "legend.handlelength": 1.6,
        "legend.columnspacing": 1.2,
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "figure.constrained_layout.use": True,
        "axes.prop_cycle": plt.cycler(color=PALETTE),
    }
)


def share_axis(ax, axis: str = "y") -> None:
    getattr(ax, f"{axis}axis").set_major_formatter(
        matplotlib.ticker.PercentFormatter(1.0, decimals=0)
    )
    getattr(ax, f"set_{axis}lim")(-0.02, 1.02)


def say_ends(fig, image, axes, low: str, high: str, **bar) -> None:
    """A colour bar below `axes` whose two ends are named in words; `bar`: further looks of it."""
    looks = {"location": "bottom", "aspect": 45, "pad": 0.02, "shrink": 0.9} | bar
    drawn = fig.colorbar(image, ax=axes, **looks)
    drawn.outline.set_linewidth(0.5)
    drawn.set_label(f"← {low}        {high} →", fontsize=SMALL)


def on_share(value: float) -> str:
    """The colour of a number on a cell of `SHARE_MAP`."""
    return "white" if value > 0.6 else "black"


@dataclass(frozen=True)
class Drawing:
    """A figure with its texts; `alt`: for readers who cannot see it, `name`: for links to it."""

    figure: Figure
    alt: str
    caption: str = ""
    name: str = ""

    def save(self, path: Path) -> None:
        """Write it to a file, of the kind that its ending says, then close it."""
        self.figure.savefig(path)
        plt.close(self.figure)

    def show(self) -> None:
        """Display it in a lab with its texts, then close it."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png")
        plt.close(self.figure)
        texts = {"alt": self.alt, "caption": self.caption, "name": self.name}
        metadata = {key: text for key, text in texts.items() if text}
        display(Image(buffer.getvalue(), format="png"), metadata=metadata)


def layer_ticks(n_layer: int) -> list[int]:
    """Layers that a small figure has room to name: all, or every so many."""
    return list(range(1, n_layer + 1, -(-n_layer // 9)))
