"""What a reader sees of a figure: the size of its type on a phone, and what its colours stand for."""

from __future__ import annotations

import re
from collections.abc import Iterator

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

from memgen.figures.style import COLOR, plt

CONTENT = 358  # pixels that a phone of 390 leaves for a figure
LEAST = 9.0  # pixels
#: words that say that a colour is meant as a behaviour, or as the direction towards it
NAMED = {
    COLOR["memorization"].lower(): re.compile(r"memor|knows|top neurons|max|kept|median|text says"),
    COLOR["generalization"].lower(): re.compile(
        r"rule|generaliz|text|top neurons|max|kept|median|knows"
    ),
}


def small_type(figure: Figure) -> list[str]:
    """Every text of the saved figure that is smaller than `LEAST` where `CONTENT` pixels show it."""
    FigureCanvasAgg(figure)  # a test may have closed the figure, which takes its own away
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    inches = box.width + 2 * plt.rcParams["savefig.pad_inches"]
    found = []
    for text in figure.findobj(Text):
        seen = text.get_visible() and text.get_text().strip() and text.get_window_extent().width
        pixels = text.get_fontsize() / 72 * CONTENT / inches
        if seen and pixels < LEAST:
            found.append(f"{text.get_text()!r}: {pixels:.1f} pixels")
    return found


def misused(figure: Figure) -> list[str]:
    """Every line of a legend in a behaviour's colour that does not name a behaviour."""
    return [
        f"{label!r} in {color}"
        for label, color in _keys(figure)
        if color in NAMED and not NAMED[color].search(label)
    ]


def _keys(figure: Figure) -> Iterator[tuple[str, str]]:
    """Label and colour of every line of every legend."""
    for legend in figure.findobj(Legend):
        for handle, text in zip(legend.legend_handles, legend.get_texts()):
            get = getattr(handle, "get_color", None) or getattr(handle, "get_facecolor", None)
            if get is not None:
                color = get()
                first = color if isinstance(color, str) or len(color) in (3, 4) else color[0]
                yield text.get_text(), to_hex(first)
